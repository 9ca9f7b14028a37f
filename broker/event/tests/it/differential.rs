//! The official SDK reads what we write and writes what we read.

use broker_event::{Event, EventBuilder, SpecVersion, json};
use bytes::Bytes;
use cloudevents::event::{Data, ExtensionValue};
use cloudevents::{
    AttributesReader, AttributesWriter, EventBuilder as _, EventBuilderV03, EventBuilderV10,
};
use proptest::collection::vec;
use proptest::prelude::{Just, Strategy, any, prop_oneof};
use proptest::{prop_assert_eq, prop_assume, proptest};

use crate::events::{event, json_text};

type SdkEvent = cloudevents::Event;

/// Payload as a value where it can be read as JSON, so that spelling does not count.
fn payload(data: Option<&Data>) -> Option<Result<serde_json::Value, Vec<u8>>> {
    data.map(|data| {
        let bytes = match data {
            Data::Json(value) => return Ok(value.clone()),
            Data::String(text) => text.as_bytes(),
            Data::Binary(bytes) => bytes,
        };
        serde_json::from_slice(bytes).map_err(|_| bytes.to_vec())
    })
}

/// The time as the SDK reads it.
fn instant(event: &Event) -> Option<impl PartialEq + std::fmt::Debug> {
    SdkEvent::try_from(event).unwrap().time().copied()
}

/// In 0.3 it cannot hold base64 that is said to be JSON and is not.
fn is_beyond_the_sdk(event: &Event) -> bool {
    let is_json =
        event.data_content_type().is_none_or(|content_type| content_type.ends_with("json"));
    let is_bad = |data: &Bytes| serde_json::from_slice::<serde::de::IgnoredAny>(data).is_err();
    event.spec_version() == SpecVersion::V03 && is_json && event.data().is_some_and(is_bad)
}

/// What the SDK makes with its own builders; the data are what their content type says.
fn sdk_event() -> impl Strategy<Value = SdkEvent> {
    let data = prop_oneof![
        Just(None),
        "[ -~é]{0,12}".prop_map(|text| Some(("text/plain", Data::String(text)))),
        json_text().prop_map(|text| Some((
            "application/json",
            Data::Json(serde_json::from_str(&text).unwrap())
        ))),
        vec(any::<u8>(), 0..32).prop_map(|bytes| Some(("image/png", Data::Binary(bytes)))),
    ];
    (any::<bool>(), "[!-~]{1,8}", "/[a-z]{0,8}", any::<i32>(), "[ -~é]{0,8}", data).prop_map(
        |(v03, id, source, number, text, data)| {
            let mut event = if v03 {
                EventBuilderV03::new()
                    .id(id)
                    .source(source)
                    .ty("t")
                    .time("2026-11-23T10:00:00+02:00")
                    .build()
            } else {
                EventBuilderV10::new()
                    .id(id)
                    .source(source)
                    .ty("t")
                    .time("2026-11-23T10:00:00.5Z")
                    .build()
            }
            .unwrap();
            event.set_extension("number", i64::from(number));
            event.set_extension("flag", number > 0);
            event.set_extension("text", text.as_str());
            event.set_subject((!text.trim().is_empty()).then_some(text));
            if let Some((content_type, data)) = data {
                event.set_data(content_type, data);
            }
            event
        },
    )
}

proptest! {
    #[test]
    fn the_sdk_reads_our_json(event in event()) {
        prop_assume!(!is_beyond_the_sdk(&event));
        let theirs: SdkEvent = serde_json::from_slice(&json::write(&event)).unwrap();
        let expected = SdkEvent::try_from(&event).unwrap();
        prop_assert_eq!(payload(theirs.data()), payload(expected.data()));
        prop_assert_eq!(theirs.id(), expected.id());
        prop_assert_eq!(theirs.source(), expected.source());
        prop_assert_eq!(theirs.ty(), expected.ty());
        prop_assert_eq!(theirs.specversion(), expected.specversion());
        prop_assert_eq!(theirs.subject(), expected.subject());
        prop_assert_eq!(theirs.time(), expected.time());
        prop_assert_eq!(theirs.datacontenttype(), expected.datacontenttype());
        prop_assert_eq!(theirs.dataschema(), expected.dataschema());
        for (name, value) in expected.iter_extensions() {
            prop_assert_eq!(theirs.extension(name), Some(value));
        }
        prop_assert_eq!(theirs.iter_extensions().count(), expected.iter_extensions().count());
    }

    #[test]
    fn the_sdk_reads_our_batches(events in vec(event(), 0..4)) {
        prop_assume!(!events.iter().any(is_beyond_the_sdk));
        let theirs: Vec<SdkEvent> = serde_json::from_slice(&json::write_batch(&events)).unwrap();
        let ids = |event: &SdkEvent| (event.id().to_owned(), payload(event.data()));
        let expected: Vec<_> =
            events.iter().map(|event| ids(&SdkEvent::try_from(event).unwrap())).collect();
        prop_assert_eq!(theirs.iter().map(ids).collect::<Vec<_>>(), expected);
    }

    #[test]
    fn we_read_the_batches_of_the_sdk(theirs in vec(sdk_event(), 0..4)) {
        let document = Bytes::from(serde_json::to_vec(&theirs).unwrap());
        let ours = json::read_batch(&document).unwrap();
        let each: Vec<_> = theirs
            .iter()
            .map(|event| json::read(&Bytes::from(serde_json::to_vec(event).unwrap())).unwrap())
            .collect();
        prop_assert_eq!(ours, each);
    }

    #[test]
    fn our_events_survive_the_sdk(event in event()) {
        let back = Event::try_from(SdkEvent::try_from(&event).unwrap()).unwrap();
        prop_assert_eq!(instant(&back), instant(&event));
        // The SDK keeps the instant, not its spelling.
        let spelled = match event.time() {
            Some(time) => EventBuilder::from(back).time(time.to_owned()).build().unwrap(),
            None => back,
        };
        prop_assert_eq!(spelled, event);
    }

    #[test]
    fn we_read_the_json_of_the_sdk(theirs in sdk_event()) {
        let document = Bytes::from(serde_json::to_vec(&theirs).unwrap());
        let ours = json::read(&document).unwrap();
        let back = SdkEvent::try_from(&ours).unwrap();
        prop_assert_eq!(payload(back.data()), payload(theirs.data()));
        let converted = Event::try_from(theirs).unwrap();
        prop_assert_eq!(ours.data(), converted.data());
        prop_assert_eq!(
            ours.extensions().collect::<Vec<_>>(),
            converted.extensions().collect::<Vec<_>>()
        );
        for name in ["specversion", "id", "source", "type", "subject", "time", "datacontenttype", "dataschema"] {
            prop_assert_eq!(ours.attribute(name), converted.attribute(name));
        }
    }

    #[test]
    fn attributes_of_the_sdk_survive_ours(theirs in sdk_event()) {
        prop_assume!(theirs.data().is_none());
        let ours = Event::try_from(theirs.clone()).unwrap();
        prop_assert_eq!(SdkEvent::try_from(&ours).unwrap(), theirs);
    }
}

#[test]
fn both_refuse_what_is_no_event() {
    for document in [
        r#"{"id":"1","source":"/s","type":"t"}"#,
        r#"{"specversion":"1.0","source":"/s","type":"t"}"#,
        r#"{"specversion":"1.0","id":7,"source":"/s","type":"t"}"#,
        r#"{"specversion":"1.0","id":"1","source":"/s","type":"t","ext":{}}"#,
        r#"{"specversion":"1.0","id":"1","source":"/s","type":"t","time":"yesterday"}"#,
        r#"{"specversion":"1.0","id":"1","source":"/s","type":"t","dataschema":"::bad"}"#,
        r#"{"specversion":"1.0","id":"1","source":"/s","type":"t","data_base64":"%"}"#,
        r#"{"specversion":"1.0","id":"1","source":"/s","type":"t","datacontenttype":"text/plain","data":{}}"#,
        r#"{"specversion":"2.0","id":"1","source":"/s","type":"t"}"#,
    ] {
        assert!(serde_json::from_str::<SdkEvent>(document).is_err(), "SDK: {document}");
        assert!(json::read(&Bytes::from(document)).is_err(), "{document}");
    }
}

#[test]
fn an_integer_of_the_sdk_beyond_32_bits_is_refused_by_both_ways() {
    let event = EventBuilderV10::new()
        .id("1")
        .source("/s")
        .ty("t")
        .extension("n", 1_i64 << 40)
        .build()
        .unwrap();
    assert_eq!(event.extension("n"), Some(&ExtensionValue::Integer(1 << 40)));
    assert!(json::read(&Bytes::from(serde_json::to_vec(&event).unwrap())).is_err());
    assert!(Event::try_from(event).is_err());
}

#[test]
fn versions_are_kept() {
    let event = EventBuilderV03::new().id("1").source("/s").ty("t").build().unwrap();
    assert_eq!(Event::try_from(event).unwrap().spec_version(), SpecVersion::V03);
}
