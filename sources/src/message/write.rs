//! The other half: what of an event is written where.

use std::borrow::Cow;

use broker_event::{Event, SpecVersion, Value};
use sha2::{Digest, Sha256};

/// All context attributes and extensions of an event, but `datacontenttype`, for which each protocol has a place of its own.
/// Values are canonical text (`CloudEvents` 1.0, 3, "Type System").
pub(crate) fn attributes(event: &Event) -> impl Iterator<Item = (&str, Cow<'_, str>)> {
    let schema = match event.spec_version() {
        SpecVersion::V03 => "schemaurl",
        SpecVersion::V10 => "dataschema",
    };
    let required = [
        ("specversion", event.spec_version().as_str()),
        ("id", event.id()),
        ("source", event.source()),
        ("type", event.ty()),
    ];
    let optional =
        [("subject", event.subject()), ("time", event.time()), (schema, event.data_schema())];
    let optional = optional.into_iter().filter_map(|(name, value)| Some((name, value?)));
    let context = required.into_iter().chain(optional);
    let extensions = event.extensions().map(|(name, value)| (name, text(value)));
    context.map(|(name, value)| (name, Cow::Borrowed(value))).chain(extensions)
}

/// The value of an extension as text.
pub(crate) fn text(value: &Value) -> Cow<'_, str> {
    match value {
        Value::String(text) => Cow::Borrowed(text),
        Value::Boolean(true) => Cow::Borrowed("true"),
        Value::Boolean(false) => Cow::Borrowed("false"),
        Value::Integer(number) => Cow::Owned(number.to_string()),
    }
}

/// Whether the event can be written with its attributes in headers. One whose payload is itself an event in an envelope cannot:
/// its reader would take the inner event for the outer.
pub(crate) fn has_binary_mode(event: &Event) -> bool {
    const PREFIX: &[u8] = b"application/cloudevents";
    let content_type = event.data_content_type().unwrap_or_default().trim_start().as_bytes();
    !content_type.get(..PREFIX.len()).is_some_and(|start| start.eq_ignore_ascii_case(PREFIX))
}

/// An id for the message of an event: the same for the same event, and for no other. An event is told by its `source` and `id`
/// together.
pub(crate) fn fingerprint(event: &Event) -> String {
    let mut hash = Sha256::new();
    hash.update(event.source());
    // Attributes have no character with the code 0.
    hash.update([0]);
    hash.update(event.id());
    hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use broker_event::{Event, EventBuilder, SpecVersion, Value};

    use super::super::Message;
    use super::{attributes, fingerprint, has_binary_mode};

    fn builder() -> EventBuilder {
        EventBuilder::new("1", "/s", "t").subject("ü").time("2026-01-02T03:04:05Z")
    }

    fn event(builder: EventBuilder) -> Event {
        builder.build().unwrap()
    }

    #[test]
    fn attributes_are_text_and_the_content_type_is_not_among_them() {
        let event = event(
            builder()
                .data_content_type("text/plain")
                .extension("number", Value::Integer(-7))
                .extension("truth", Value::Boolean(true)),
        );
        let found: Vec<_> =
            attributes(&event).map(|(name, value)| format!("{name}={value}")).collect();
        let expected = [
            "specversion=1.0",
            "id=1",
            "source=/s",
            "type=t",
            "subject=ü",
            "time=2026-01-02T03:04:05Z",
            "number=-7",
            "truth=true",
        ];
        assert_eq!(found, expected);
    }

    #[test]
    fn what_is_written_is_read_back() {
        let whole = builder()
            .data_content_type("text/plain")
            .data_schema("https://schema.example/7")
            .extension("partitionkey", "k 1")
            .data("hello");
        for version in [SpecVersion::V10, SpecVersion::V03] {
            let event = event(whole.clone().spec_version(version));
            let written: Vec<_> = attributes(&event).collect();
            let message = Message {
                content_type: event.data_content_type(),
                attributes: written.iter().map(|(name, value)| (*name, &**value)).collect(),
                source: None,
                body: event.data().cloned(),
            };
            assert_eq!(message.event().unwrap().unwrap(), event);
        }
    }

    #[test]
    fn an_event_in_an_event_is_told() {
        let of =
            |content_type: &str| has_binary_mode(&event(builder().data_content_type(content_type)));
        assert!(!of("Application/CloudEvents+json"));
        assert!(of("application/json"));
        assert!(has_binary_mode(&event(builder())));
    }

    #[test]
    fn fingerprints_tell_events_apart_by_source_and_id() {
        let of = |id: &str, source: &str, ty: &str| {
            fingerprint(&event(EventBuilder::new(id, source, ty)))
        };
        assert_eq!(of("1", "/s", "t"), of("1", "/s", "other"));
        assert_ne!(of("1", "/s", "t"), of("2", "/s", "t"));
        assert_ne!(of("11", "/s", "t"), of("1", "/s1", "t"));
        assert_eq!(of("1", "/s", "t").len(), 64);
    }
}
