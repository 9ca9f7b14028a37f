//! The attributes of events as message protocols carry them: by name, as text.

use std::borrow::Cow;

use broker_event::{Event, SpecVersion, Value};

/// The media type of an event in JSON.
pub(super) const STRUCTURED: &str = "application/cloudevents+json";

/// All context attributes and extensions of an event, but `datacontenttype`, for which each protocol has a place of its own.
/// Values are canonical text (`CloudEvents` 1.0, 3, "Type System").
pub(super) fn attributes(event: &Event) -> impl Iterator<Item = (&str, Cow<'_, str>)> {
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
pub(super) fn text(value: &Value) -> Cow<'_, str> {
    match value {
        Value::String(text) => Cow::Borrowed(text),
        Value::Boolean(true) => Cow::Borrowed("true"),
        Value::Boolean(false) => Cow::Borrowed("false"),
        Value::Integer(number) => Cow::Owned(number.to_string()),
    }
}

/// Whether the payload is itself an event in an envelope. Such an event has no binary mode, since its reader would take the
/// inner event for the outer.
pub(super) fn is_enveloped(event: &Event) -> bool {
    const PREFIX: &[u8] = b"application/cloudevents";
    let content_type = event.data_content_type().unwrap_or_default().trim_start().as_bytes();
    content_type.get(..PREFIX.len()).is_some_and(|start| start.eq_ignore_ascii_case(PREFIX))
}

#[cfg(test)]
mod tests {
    use broker_event::{EventBuilder, Value};

    use super::{attributes, is_enveloped};

    #[test]
    fn attributes_are_text_and_the_content_type_is_not_among_them() {
        let event = EventBuilder::new("1", "/s", "t")
            .subject("ü")
            .data_content_type("text/plain")
            .extension("number", Value::Integer(-7))
            .extension("truth", Value::Boolean(true))
            .build()
            .unwrap();
        let found: Vec<_> =
            attributes(&event).map(|(name, value)| format!("{name}={value}")).collect();
        let expected = [
            "specversion=1.0",
            "id=1",
            "source=/s",
            "type=t",
            "subject=ü",
            "number=-7",
            "truth=true",
        ];
        assert_eq!(found, expected);
    }

    #[test]
    fn an_event_in_an_event_is_told() {
        let of = |content_type: &str| {
            is_enveloped(
                &EventBuilder::new("1", "/s", "t").data_content_type(content_type).build().unwrap(),
            )
        };
        assert!(of("Application/CloudEvents+json"));
        assert!(!of("application/json"));
        assert!(!is_enveloped(&EventBuilder::new("1", "/s", "t").build().unwrap()));
    }
}
