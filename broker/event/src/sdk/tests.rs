//! Conversions and what has no equal on the other side.

use cloudevents::event::Data;
use serde_json::json;

use super::*;

type SdkEvent = cloudevents::Event;

#[test]
fn an_event_survives_the_way_there_and_back() {
    for version in [SpecVersion::V10, SpecVersion::V03] {
        let event = crate::EventBuilder::new("1", "/s", "t")
            .spec_version(version)
            .subject("sub")
            .time("2026-11-23T10:00:00.25Z")
            .data_content_type("text/plain")
            .data_schema("http://example.org/schema")
            .extension("text", "v")
            .extension("count", -3)
            .extension("flag", true)
            .data(&b"\xff\x00"[..])
            .build()
            .unwrap();
        let theirs = SdkEvent::try_from(&event).unwrap();
        let back = Event::try_from(theirs).unwrap();
        let time = back.time().map(str::to_owned);
        assert_eq!(time.as_deref(), Some("2026-11-23T10:00:00.250Z"));
        let back = crate::EventBuilder::from(back).time("2026-11-23T10:00:00.25Z").build();
        assert_eq!(back, Ok(event));
    }
}

#[test]
fn each_kind_of_payload_becomes_bytes() {
    for (data, bytes) in [
        (Data::Binary(vec![1, 2]), &[1, 2][..]),
        (Data::String("text".to_owned()), b"text"),
        (Data::Json(json!({"a": 1})), b"{\"a\":1}"),
    ] {
        let builder = EventBuilderV10::new().id("1").source("/s").ty("t");
        let event = builder.data("application/json", data).build().unwrap();
        assert_eq!(Event::try_from(event).unwrap().data().unwrap(), bytes);
    }
}

#[test]
fn what_the_sdk_does_not_check_is_checked() {
    let builder = || EventBuilderV10::new().id("1").source("/s").ty("t");
    let refused = |builder: EventBuilderV10| {
        Event::try_from(builder.build().unwrap()).unwrap_err().to_string()
    };
    assert_eq!(refused(builder().id("")), "attribute id must not be empty");
    assert_eq!(
        refused(builder().extension("n", i64::from(i32::MAX) + 1)),
        "extension n must be an integer from -2147483648 to 2147483647, not 2147483648"
    );
    assert_eq!(
        refused(builder().extension("id", "x")),
        "id is the name of a context attribute and cannot be an extension here"
    );
    assert_eq!(
        refused(builder().extension("n", "a\nb")),
        "attribute n contains the control character U+000A"
    );
}

#[test]
fn a_relative_schema_has_no_equal() {
    let event = crate::EventBuilder::new("1", "/s", "t")
        .spec_version(SpecVersion::V03)
        .data_schema("/relative")
        .build()
        .unwrap();
    assert!(matches!(SdkEvent::try_from(&event), Err(ToSdkError::Schema { .. })));
}
