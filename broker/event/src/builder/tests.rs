//! What the builder takes and what it refuses.

use super::*;

fn minimal() -> EventBuilder {
    EventBuilder::new("1", "/s", "t")
}

#[test]
fn a_whole_event_keeps_what_it_is_given() {
    let event = minimal()
        .subject("café")
        .time("2026-11-23T10:00:00.5+01:00")
        .data_content_type("application/json; charset=utf-8")
        .data_schema("http://example.org/schema")
        .extension("zz", true)
        .extension("Count", -7)
        .extension("aa", "old")
        .extension("AA", "new")
        .data(&b"{}"[..])
        .build()
        .unwrap();
    assert_eq!((event.id(), event.source(), event.ty()), ("1", "/s", "t"));
    assert_eq!(event.time(), Some("2026-11-23T10:00:00.5+01:00"));
    let extensions: Vec<_> =
        event.extensions().map(|(name, value)| (name, value.clone())).collect();
    assert_eq!(
        extensions,
        [("aa", Value::from("new")), ("count", Value::from(-7)), ("zz", Value::from(true))]
    );
    assert_eq!(EventBuilder::from(event.clone()).build(), Ok(event));
}

#[test]
fn empty_optional_attributes_are_absent() {
    let event = minimal().subject("").data_schema("").data_content_type(" ").build().unwrap();
    assert_eq!(
        (event.subject(), event.data_schema(), event.data_content_type()),
        (None, None, None)
    );
}

#[test]
fn an_empty_extension_stays() {
    let event = minimal().extension("empty", "").build().unwrap();
    assert_eq!(event.extension("empty"), Some(&Value::from("")));
}

#[test]
fn each_refusal_names_the_attribute() {
    let refused = [
        (EventBuilder::new("", "/s", "t"), "attribute id must not be empty"),
        (EventBuilder::new("1", " ", "t"), "attribute source must not be empty"),
        (EventBuilder::new("1", "/s", ""), "attribute type must not be empty"),
        (EventBuilder::new("1", ":x", "t"), "attribute source must be a URI reference, not \":x\""),
        (minimal().subject("a\nb"), "attribute subject contains the control character U+000A"),
        (
            minimal().time("yesterday"),
            "attribute time must be an RFC 3339 timestamp such as 2026-01-31T12:00:00Z, not \"yesterday\"",
        ),
        (
            minimal().data_content_type("a b"),
            "attribute datacontenttype must be a media type such as application/json, not \"a b\"",
        ),
        (
            minimal().data_schema("::bad"),
            "attribute dataschema must be an absolute URI, not \"::bad\"",
        ),
        (
            minimal().spec_version(SpecVersion::V03).data_schema("::bad"),
            "attribute schemaurl must be a URI reference, not \"::bad\"",
        ),
        (
            minimal().extension("a-b", "x"),
            "extension name \"a-b\" must be 1 to 255 ASCII letters and digits",
        ),
        (
            minimal().extension("", "x"),
            "extension name \"\" must be 1 to 255 ASCII letters and digits",
        ),
        (
            minimal().extension("Source", "x"),
            "source is the name of a context attribute and cannot be an extension here",
        ),
        (
            minimal().extension("bad", "\u{0}"),
            "attribute bad contains the control character U+0000",
        ),
    ];
    for (builder, sentence) in refused {
        assert_eq!(builder.build().unwrap_err().to_string(), sentence);
    }
}

#[test]
fn names_of_the_other_version_are_free() {
    let event = minimal().extension("schemaurl", "x").build().unwrap();
    assert!(event.extension("schemaurl").is_some());
    assert!(EventBuilder::from(event).spec_version(SpecVersion::V03).build().is_err());
    let relative = minimal().spec_version(SpecVersion::V03).data_schema("relative");
    assert_eq!(relative.build().unwrap().data_schema(), Some("relative"));
}

#[test]
fn extensions_have_a_limit() {
    let many = |count: usize| {
        (0..count).fold(minimal(), |builder, n| builder.extension(format!("e{n}"), 1))
    };
    assert!(many(MAX_EXTENSIONS).build().is_ok());
    let refused = many(MAX_EXTENSIONS + 1).build();
    assert_eq!(refused, Err(EventError::TooManyExtensions { found: MAX_EXTENSIONS + 1 }));
}

#[test]
fn long_wrong_values_are_quoted_short() {
    let error = minimal().time("é".repeat(100_000)).build().unwrap_err();
    assert!(error.to_string().len() < 400);
}
