//! What Knative's broker answered to each request, and what its subscriber then received.

use std::collections::BTreeMap;

use broker_event::ReadError;
use broker_event::http as binding;
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue};
use serde::Deserialize;

#[derive(Deserialize)]
struct Case {
    name: String,
    method: String,
    path: String,
    headers: BTreeMap<String, Text>,
    body: Text,
    status: u16,
    #[serde(default)]
    delivered: Vec<Delivered>,
}

#[derive(Deserialize)]
struct Delivered {
    headers: BTreeMap<String, Text>,
    body: Text,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Text {
    Plain(String),
    Repeat { repeat: String, times: usize },
    Json { json_string_of: usize },
    Length { bytes: usize },
}

impl Text {
    fn bytes(&self) -> Vec<u8> {
        match self {
            Self::Plain(text) => text.clone().into_bytes(),
            Self::Repeat { repeat, times } => repeat.repeat(*times).into_bytes(),
            Self::Json { json_string_of: length } | Self::Length { bytes: length } => {
                let filling = "x".repeat(length - r#"{"a":""}"#.len());
                format!(r#"{{"a":"{filling}"}}"#).into_bytes()
            }
        }
    }
}

/// Decided by the server or by the broker's rules, not by what an event is.
const ELSEWHERE: [&str; 3] = ["2 MiB header", "ttl negative", "ttl not a number"];

/// Where the HTTP binding's percent-encoding is followed and Knative's is not.
const ENCODED_OTHERWISE: [(&str, &str); 2] =
    [("raw utf-8 header value", "caf%C3%A9"), ("bad percent encoding", "100%25")];

fn cases() -> Vec<Case> {
    let all: Vec<Case> = serde_json::from_str(include_str!("../ingress.json")).unwrap();
    let is_ours = |case: &Case| {
        let about_the_event = case.path == "/bench/b" || case.name == "bad event to unknown broker";
        case.method == "POST" && about_the_event && !ELSEWHERE.contains(&case.name.as_str())
    };
    all.into_iter().filter(is_ours).collect()
}

fn read(case: &Case) -> Result<binding::Received, ReadError> {
    let mut headers = HeaderMap::new();
    for (name, value) in &case.headers {
        headers.insert(
            HeaderName::try_from(name).unwrap(),
            HeaderValue::from_maybe_shared(Bytes::from(value.bytes())).unwrap(),
        );
    }
    binding::read(&headers, Bytes::from(case.body.bytes()))
}

#[test]
fn each_request_is_accepted_or_refused_as_measured() {
    let cases = cases();
    assert!(cases.len() >= 40, "only {} cases", cases.len());
    for case in &cases {
        let read = read(case);
        assert_eq!(read.is_ok(), case.status == 202, "{}: {read:?}", case.name);
        let unsupported = case.name.starts_with("cloudevents+");
        assert_eq!(
            unsupported,
            matches!(read, Err(ReadError::UnsupportedMediaType { .. })),
            "{}",
            case.name
        );
    }
}

#[test]
fn each_event_is_delivered_as_measured() {
    for case in cases().iter().filter(|case| case.status == 202) {
        let received = read(case).unwrap();
        let [delivered] = &case.delivered[..] else { panic!("{}: one delivery", case.name) };
        let mut headers = HeaderMap::new();
        let body = binding::write_binary(&received.events[0], &mut headers);
        // Go's reader keeps the space between the colon and the value.
        assert_eq!(body, delivered.body.bytes().trim_ascii_start(), "{}", case.name);
        let is_the_events = |name: &str| {
            (name.starts_with("ce-") && name != "ce-knativearrivaltime") || name == "content-type"
        };
        let mut expected: BTreeMap<_, _> = delivered
            .headers
            .iter()
            .filter(|(name, _)| is_the_events(name))
            .map(|(name, value)| (name.clone(), value.bytes()))
            .collect();
        if let Some((_, subject)) = ENCODED_OTHERWISE.iter().find(|(name, _)| *name == case.name) {
            expected.insert("ce-subject".to_owned(), subject.as_bytes().to_vec());
        }
        let written: BTreeMap<_, _> = headers
            .iter()
            .map(|(name, value)| (name.as_str().to_owned(), value.as_bytes().to_vec()))
            .collect();
        assert_eq!(written, expected, "{}", case.name);
    }
}
