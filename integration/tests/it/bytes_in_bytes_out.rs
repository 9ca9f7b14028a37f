//! Promise 5: payloads arrive byte for byte, attributes as they were said.

use crate::harness::mesh::{BROKER, Mesh, trigger};
use crate::harness::request;
use crate::harness::subscriber::Subscriber;

async fn through(headers: &[(&str, &str)], body: &[u8]) -> crate::harness::subscriber::Got {
    let subscriber = Subscriber::start().await;
    let mesh = Mesh::start(&format!("{BROKER}{}", trigger("t", &subscriber.url, "", &[]))).await;
    let headers: Vec<_> =
        headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    let answer = request::post(&mesh.broker(), &headers, body.to_vec()).await;
    assert_eq!(answer.status, 202, "{}", answer.body);
    subscriber.wait(1).await.remove(0)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_binary_event_arrives_with_its_bytes_and_the_brokers_marks() {
    let body = b"\x00\xff{ \"a\" :1.0 }";
    let headers = [
        ("ce-specversion", "1.0"),
        ("ce-type", "t"),
        ("ce-source", "/s"),
        ("ce-id", "1"),
        ("ce-myext", "caf%C3%A9"),
        ("content-type", "application/x-thing"),
    ];
    let got = through(&headers, body).await;
    assert_eq!(got.body.as_ref(), body);
    assert_eq!(got.header("content-type"), "application/x-thing");
    assert_eq!(got.header("ce-myext"), "caf%C3%A9");
    assert_eq!(got.header("prefer"), "reply");
    assert_eq!(got.header("kn-namespace"), "default");
    assert_ne!(got.header("ce-knativearrivaltime"), "");
    assert!(!got.headers.contains_key("ce-knativebrokerttl"));
}

#[tokio::test(flavor = "multi_thread")]
async fn structured_json_data_is_not_re_encoded() {
    let data = r#"{"b":1.0, "a":  12345678901234567890123, "é":"é"}"#;
    let event =
        format!(r#"{{"specversion":"1.0","type":"t","source":"/s","id":"1","data":{data}}}"#);
    let headers = [("content-type", "application/cloudevents+json")];
    let got = through(&headers, event.as_bytes()).await;
    assert_eq!(std::str::from_utf8(&got.body).unwrap(), data);
}

#[tokio::test(flavor = "multi_thread")]
async fn trace_context_reaches_the_subscriber() {
    let parent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    let headers = [
        ("ce-specversion", "1.0"),
        ("ce-type", "t"),
        ("ce-source", "/s"),
        ("ce-id", "1"),
        ("traceparent", parent),
    ];
    let got = through(&headers, b"").await;
    assert!(got.header("traceparent").contains("4bf92f3577b34da6a3ce929d0e0e4736"));
}
