//! What a user may write.

use serde_json::{Value, json};

use super::RabbitmqSink;
use crate::given::Necessity;
use crate::sinks::EventSink;
use crate::sinks::sink::fake::{refused, sink};
use crate::source::fake::about;

fn with(more: &Value) -> Value {
    let mut spec = json!({"rabbitmqClusterReference": {"connectionSecret": {"name": "rabbit"}}});
    spec.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    spec
}

#[test]
fn refusals_name_the_field() {
    for good in [
        json!({"exchange": "e"}),
        json!({"exchange": "e", "exchangeType": "topic", "vhost": "v"}),
        json!({"predeclared": true, "routingKey": "queue"}),
    ] {
        assert_eq!(refused::<RabbitmqSink>(with(&good)), "");
    }
    let text = refused::<RabbitmqSink>(json!({}));
    assert_eq!(text, "missing field(s): spec.exchange, spec.rabbitmqClusterReference");
    let long = "x".repeat(256);
    for (more, said) in [
        (json!({}), "missing field(s): spec.exchange"),
        (json!({"predeclared": true}), "missing field(s): spec.routingKey"),
        (
            json!({"exchange": "e", "exchangeType": "x"}),
            "invalid value: x: spec.exchangeType\nexpected one of: headers, direct, fanout, topic",
        ),
        (json!({"exchange": "e", "routingKey": "\n"}), "invalid value: \"\\n\": spec.routingKey"),
        (json!({"exchange": long}), "invalid value: \"xxx"),
    ] {
        let text = refused::<RabbitmqSink>(with(&more));
        assert!(text.starts_with(said), "{text}");
    }
}

#[test]
fn credentials_are_keys_of_a_secret() {
    let spec = sink::<RabbitmqSink>(with(&json!({"exchange": "e"}))).spec;
    let needs = spec.needs(&about());
    assert!(needs.iter().all(|need| need.name == "rabbit"));
    let required = needs.iter().filter(|need| need.necessity == Necessity::Required);
    let keys: Vec<_> = required.filter_map(|need| need.key.as_deref()).collect();
    assert_eq!(keys, ["uri", "username", "password"]);
}
