//! What passes and what does not.

use super::*;

#[test]
fn timestamps_are_rfc_3339() {
    for good in [
        "2026-11-23T10:00:00Z",
        "2026-11-23t10:00:00z",
        "2026-11-23T10:00:00.123456789012+14:00",
        "2024-02-29T23:59:60-00:00",
        "2000-02-29T00:00:00Z",
        "0000-01-01T00:00:00Z",
    ] {
        assert!(is_timestamp(good), "{good}");
    }
    for bad in [
        "",
        "yesterday",
        "2026-11-23",
        "2026-11-23 10:00:00Z",
        "2026-11-23T10:00:00",
        "2026-11-23T10:00Z",
        "2026-11-23T10:00:00.Z",
        "2026-11-23T10:00:00,5Z",
        "2026-11-23T24:00:00Z",
        "2026-11-23T10:60:00Z",
        "2026-11-23T10:00:61Z",
        "2026-13-01T00:00:00Z",
        "2026-00-01T00:00:00Z",
        "2026-01-00T00:00:00Z",
        "2026-02-29T00:00:00Z",
        "1900-02-29T00:00:00Z",
        "2026-11-23T10:00:00+24:00",
        "2026-11-23T10:00:00+1:00",
        "2026-11-23T10:00:00Z ",
        "+2026-11-23T10:00:00Z",
        "２０２６-11-23T10:00:00Z",
    ] {
        assert!(!is_timestamp(bad), "{bad}");
    }
}

#[test]
fn sources_are_uri_references() {
    for good in [
        "/s",
        "a b",
        "s",
        "?query",
        "#fragment",
        "./a:b",
        "urn:uuid:6e8bc430-9c3a-11d9-9669-0800200c9a66",
        "https://user:secret@host:8080/x",
        "https://[::1]:80/x",
        "https://[::1]",
        "//host/path",
        "mailto:who@example.org",
        "/über/100%",
        "http:",
    ] {
        assert!(is_uri_reference(good), "{good}");
    }
    for bad in [
        ":",
        "::bad",
        ":80",
        "1:2",
        "a b:c",
        "http://[::1",
        "http://a b/",
        "http://host:port/",
        "http://a:1:2/",
    ] {
        assert!(!is_uri_reference(bad), "{bad}");
    }
}

#[test]
fn schemas_are_absolute() {
    assert!(is_absolute_uri("http://example.org/schema"));
    assert!(is_absolute_uri("urn:schema:1"));
    for bad in ["schema", "/schema", "::bad", "http:", ""] {
        assert!(!is_absolute_uri(bad), "{bad}");
    }
}

#[test]
fn control_characters_are_found_wherever_they_are() {
    assert!(no_control("id", "plain, café 😀 ~").is_ok());
    for (bad, code) in
        [("a\nb", 0x0a), ("a\tb", 0x09), ("\u{7f}", 0x7f), ("é\u{85}", 0x85), ("\0", 0)]
    {
        let expected = EventError::ControlCharacter { attribute: "id".to_owned(), code };
        assert_eq!(no_control("id", bad), Err(expected));
    }
}
