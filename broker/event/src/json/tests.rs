//! What the JSON format reads, refuses and writes.

use bytes::Bytes;

use super::*;
use crate::error::ReadError;
use crate::event::{Event, SpecVersion, Value};
use crate::{EventBuilder, EventError, MAX_EXTENSIONS};

const HEAD: &str = r#""specversion":"1.0","id":"1","source":"/s","type":"t""#;

fn with(members: &str) -> Bytes {
    Bytes::from(format!("{{{HEAD}{members}}}"))
}

fn event(members: &str) -> Event {
    read(&with(members)).unwrap()
}

fn sentence(document: impl Into<Bytes>) -> String {
    read(&document.into()).unwrap_err().to_string()
}

fn data(members: &str) -> Option<Vec<u8>> {
    event(members).data().map(|data| data.to_vec())
}

fn written(event: &Event) -> serde_json::Value {
    serde_json::from_slice(&write(event)).unwrap()
}

#[test]
fn payload_is_the_slice_of_the_document() {
    let document = with(r#","data": {"a" : 1.50, "b":[ ]} , "datacontenttype":"application/json""#);
    let event = read(&document).unwrap();
    let data = event.data().unwrap();
    assert_eq!(&data[..], br#"{"a" : 1.50, "b":[ ]}"#);
    assert!(document.as_ptr_range().contains(&data.as_ptr()));
}

#[test]
fn payload_that_a_parser_would_change_is_kept_and_written_as_it_is() {
    for data in [
        "1e400",
        "-0.0",
        "123456789012345678901234567890.10",
        "1E+2",
        r#"{"b":1,"a":2,"b":3}"#,
        "{ \"a\" :\n\t[ ] }",
        r#""\u00e9\/\ud800""#,
        "null",
    ] {
        let event = event(&format!(r#","data":{data}"#));
        assert_eq!(event.data().unwrap(), data);
        let written = write(&event);
        assert_eq!(read(&Bytes::from(written)).unwrap().data().unwrap(), data);
    }
}

#[test]
fn attributes_share_the_document_unless_escaped() {
    let document = with(r#","subject":"plain","ext":"\u00e9\n""#);
    // A line feed is refused later on; here it only proves that escapes are read.
    assert_eq!(
        read(&document),
        Err(EventError::ControlCharacter { attribute: "ext".to_owned(), code: 10 }.into())
    );
    let document = with(r#","subject":"plain","\u0065xt":"caf\u00e9 \ud83d\ude00 \/""#);
    let event = read(&document).unwrap();
    assert!(document.as_ptr_range().contains(&event.subject().unwrap().as_ptr()));
    assert_eq!(event.extension("ext"), Some(&Value::from("café 😀 /")));
}

#[test]
fn data_depends_on_the_content_type() {
    assert_eq!(
        data(r#","datacontenttype":"text/plain","data":"a\n\"b""#),
        Some(b"a\n\"b".to_vec())
    );
    assert_eq!(
        data(r#","datacontenttype":"application/json","data":"str""#),
        Some(b"\"str\"".to_vec())
    );
    assert_eq!(data(r#","data":"str""#), Some(b"\"str\"".to_vec()));
    assert_eq!(
        data(r#","datacontenttype":"application/json","data":null"#),
        Some(b"null".to_vec())
    );
    assert_eq!(data(r#","datacontenttype":"text/plain","data":null"#), None);
    assert_eq!(data(r#","datacontenttype":"text/plain","data":"""#), Some(Vec::new()));
    assert_eq!(data(r#","data":1,"data_base64":"aGk=""#), Some(b"hi".to_vec()));
    assert_eq!(data(r#","data_base64":"aGk\u003d""#), Some(b"hi".to_vec()));
    assert_eq!(data(r#","data":1,"data_base64":null"#), Some(b"1".to_vec()));
    assert_eq!(data(""), None);
}

#[test]
fn json_without_a_content_type_is_said_to_be_json() {
    assert_eq!(event(r#","data":{}"#).data_content_type(), Some("application/json"));
    assert_eq!(
        event(r#","data":{},"datacontenttype":"""#).data_content_type(),
        Some("application/json")
    );
    assert_eq!(event(r#","data_base64":"aGk=""#).data_content_type(), None);
    assert_eq!(event("").data_content_type(), None);
}

#[test]
fn null_attributes_are_absent() {
    let event =
        event(r#","subject":null,"time":null,"dataschema":null,"datacontenttype":null,"ext":null"#);
    assert_eq!(event.attribute("subject"), None);
    assert_eq!(event.extensions().len(), 0);
}

#[test]
fn extensions_keep_their_types_and_lose_their_case() {
    let event = event(r#","Ab":"x","cd":true,"ef":false,"gh":-2147483648,"ij":2147483647"#);
    let all: Vec<_> =
        event.extensions().map(|(name, value)| (name.to_owned(), value.clone())).collect();
    let expected: [(&str, Value); 5] = [
        ("ab", "x".into()),
        ("cd", true.into()),
        ("ef", false.into()),
        ("gh", i32::MIN.into()),
        ("ij", i32::MAX.into()),
    ];
    assert_eq!(all, expected.map(|(name, value)| (name.to_owned(), value)));
}

#[test]
fn each_refusal_names_what_is_wrong() {
    let no_id = r#"{"specversion":"1.0","source":"/s","type":"t"}"#;
    let cases: &[(Bytes, &str)] = &[
        (Bytes::from(no_id), "attribute id is missing"),
        (Bytes::from(r#"{"id":"1"}"#), "attribute specversion is missing"),
        (with(r#","id":"2""#), "attribute id is given more than once"),
        (with(r#","data":1,"data":2"#), "attribute data is given more than once"),
        (with(r#","ext":"1","ext":"2""#), "attribute ext is given more than once"),
        (with(r#","ext":"1","EXT":"2""#), "attribute ext is given more than once"),
        (
            with(r#","Id":"1""#),
            "id is the name of a context attribute and cannot be an extension here",
        ),
        (with(r#","subject":7"#), "attribute subject must be a string, not a number"),
        (with(r#","subject":["a"]"#), "attribute subject must be a string, not an array"),
        (with(r#","data_base64":{}"#), "attribute data_base64 must be a string, not an object"),
        (
            with(r#","ext":{"x":1}"#),
            "attribute ext must be a string, a boolean or an integer, not an object",
        ),
        (
            with(r#","ext":1.5"#),
            "extension ext must be an integer from -2147483648 to 2147483647, not 1.5",
        ),
        (
            with(r#","ext":2147483648"#),
            "extension ext must be an integer from -2147483648 to 2147483647, not 2147483648",
        ),
        (
            with(r#","datacontenttype":"text/plain","data":{}"#),
            "attribute data must be a string, since datacontenttype is not JSON, not an object",
        ),
        (
            with(r#","ext":"\ud800""#),
            "attribute ext must be Unicode text, not half a surrogate pair",
        ),
        (with(r#","a_b":"x""#), "extension name \"a_b\" must be 1 to 255 ASCII letters and digits"),
    ];
    for (document, expected) in cases {
        assert_eq!(sentence(document.clone()), *expected);
    }
    let version = HEAD.replace("1.0", "1.1");
    assert_eq!(
        sentence(format!("{{{version}}}")),
        "attribute specversion must be 1.0 or 0.3, not \"1.1\""
    );
    assert!(
        sentence(with(r#","data_base64":"%%%""#)).starts_with("data_base64 is not valid base64: ")
    );
}

#[test]
fn documents_that_are_no_event_are_refused() {
    for bad in
        ["", "{", "[]", "1", "null", "\"text\"", "{}{}", "{\"a\":}", "\u{feff}{}", "{\"a\":01}"]
    {
        let error = read(&Bytes::from(bad.to_owned())).unwrap_err();
        let is_about_json = matches!(error, ReadError::Json { .. });
        assert!(is_about_json, "{bad}: {error}");
    }
    assert_eq!(sentence(&b"{\"id\":\"\xff\"}"[..]), "the body is not valid UTF-8");
}

#[test]
fn a_document_nested_deep_costs_its_length() {
    let deep = format!("{}{}", "[".repeat(1_000_000), "]".repeat(1_000_000));
    let event = event(&format!(r#","data":{deep}"#));
    assert_eq!(event.data().unwrap().len(), deep.len());
    assert!(write(&event).len() > deep.len());
    assert!(read(&with(&format!(r#","ext":{deep}"#))).is_err());
    assert!(read(&Bytes::from(deep)).is_err());
}

#[test]
fn too_many_members_are_refused_before_they_are_kept() {
    let many: String = (0..=MAX_EXTENSIONS).map(|n| format!(r#","e{n}":null"#)).collect();
    assert!(sentence(with(&many)).contains(&format!("more than {MAX_EXTENSIONS} extensions")));
}

#[test]
fn version_0_3_has_its_own_names() {
    let v03 = |members: &str| {
        read(&Bytes::from(format!(
            r#"{{"specversion":"0.3","id":"1","source":"/s","type":"t"{members}}}"#
        )))
    };
    let event = v03(r#","schemaurl":"/x","datacontentencoding":"Base64","data":"aGk=""#).unwrap();
    assert_eq!(event.spec_version(), SpecVersion::V03);
    assert_eq!(event.data_schema(), Some("/x"));
    assert_eq!(event.data().unwrap(), "hi");
    assert_eq!(v03(r#","data":{"a":1}"#).unwrap().data().unwrap(), "{\"a\":1}");
    assert_eq!(
        v03(r#","datacontentencoding":"gzip","data":"x""#).unwrap_err().to_string(),
        "attribute datacontentencoding must be base64, not another encoding"
    );
    assert!(v03(r#","dataschema":"http://x/""#).is_err());
    assert!(v03(r#","data_base64":"aGk=""#).is_err());
    let document = written(&event);
    assert_eq!(document["schemaurl"], "/x");
    assert_eq!(
        (&document["datacontentencoding"], &document["data"]),
        (&"base64".into(), &"aGk=".into())
    );
}

#[test]
fn names_of_version_0_3_are_extensions_in_1_0() {
    let event = event(r#","schemaurl":"x","datacontentencoding":"gzip""#);
    assert_eq!(event.extension("schemaurl"), Some(&Value::from("x")));
    assert_eq!(event.extension("datacontentencoding"), Some(&Value::from("gzip")));
}

#[test]
fn payload_is_embedded_only_as_what_it_is() {
    let write = |content_type: &str, data: &'static [u8]| {
        let builder = EventBuilder::new("1", "/s", "t").data_content_type(content_type);
        written(&builder.data(Bytes::from_static(data)).build().unwrap())
    };
    assert_eq!(write("application/json", b"{\"a\":[1]}")["data"], serde_json::json!({"a": [1]}));
    assert_eq!(write("application/json", b"{")["data_base64"], "ew==");
    assert_eq!(write("application/json", b"1} , \"id\":\"2\"")["id"], "1");
    assert_eq!(write("application/json", b"\"\xff\"")["data_base64"], "Iv8i");
    assert_eq!(write("a/b+json", b" 7 ")["data"], 7);
    assert_eq!(write("", b"7")["data"], 7);
    assert_eq!(write("", b"hello")["data_base64"], "aGVsbG8=");
    assert_eq!(write("text/plain", "\"é\n\u{0}".as_bytes())["data"], "\"é\n\u{0}");
    assert_eq!(write("text/plain", b"\xff")["data_base64"], "/w==");
    assert_eq!(write("text/plain; charset=latin1", b"x")["data_base64"], "eA==");
    assert_eq!(write("application/xml", b"<a/>")["data_base64"], "PGEvPg==");
    assert_eq!(write("text/plain", b"")["data"], "");
}

#[test]
fn a_batch_is_all_or_nothing_and_says_which() {
    let one = format!("{{{HEAD}}}");
    let batch = |inner: &str| read_batch(&Bytes::from(format!("[{inner}]")));
    assert_eq!(batch("").unwrap(), []);
    assert_eq!(batch(&format!("{one}, {one}")).unwrap().len(), 2);
    let error = batch(&format!("{one},{{\"specversion\":\"1.0\"}}")).unwrap_err();
    assert_eq!(error.to_string(), "event 2 of the batch: attribute id is missing");
    assert!(matches!(read_batch(&Bytes::from(one)), Err(ReadError::Json { .. })));
    assert!(read_batch(&Bytes::from_static(b"[\xff]")).is_err());
}

#[test]
fn a_written_batch_is_read_back() {
    let events: Vec<_> = (0..3)
        .map(|n| {
            let builder =
                EventBuilder::new(n.to_string(), "/s", "t").data_content_type("text/plain");
            builder.data(&b"x"[..]).build().unwrap()
        })
        .collect();
    for count in 0..=3 {
        let some = &events[..count];
        assert_eq!(read_batch(&Bytes::from(write_batch(some))).unwrap(), some);
    }
}
