//! What a user may write.

use serde_json::json;

use super::NatsSink;
use crate::sinks::EventSink;
use crate::sinks::sink::fake::{refused, sink};
use crate::source::fake::about;

#[test]
fn refusals_name_the_field_and_no_credentials() {
    assert_eq!(
        refused::<NatsSink>(json!({"servers": ["nats://n"], "subject": "a.b", "stream": "S"})),
        ""
    );
    assert_eq!(refused::<NatsSink>(json!({})), "missing field(s): spec.servers, spec.subject");
    for (spec, said) in [
        (json!({"servers": ["n"], "subject": "a.*"}), "invalid value: \"a.*\": spec.subject"),
        (json!({"servers": ["n"], "subject": "a b"}), "invalid value: \"a b\": spec.subject"),
        (
            json!({"servers": ["n"], "subject": "a", "stream": "a.b"}),
            "invalid value: \"a.b\": spec.stream",
        ),
        (
            json!({"servers": ["n"], "subject": "a", "contentMode": "x"}),
            "invalid value: x: spec.contentMode",
        ),
        (
            json!({"servers": ["nats://u:hunter2@n"], "subject": "a"}),
            "invalid value: an address with credentials: spec.servers[0]",
        ),
    ] {
        let text = refused::<NatsSink>(spec);
        assert!(text.starts_with(said) && !text.contains("hunter2"), "{text}");
    }
}

#[test]
fn credentials_are_keys_of_secrets() {
    let value = json!({"secretKeyRef": {"name": "nats", "key": "password"}});
    let auth = json!({"user": value, "password": value});
    let spec = sink::<NatsSink>(json!({"servers": ["n"], "subject": "a", "auth": auth})).spec;
    let needs = spec.needs(&about());
    let fields: Vec<_> = needs.iter().map(|need| &*need.field).collect();
    assert_eq!(fields, ["auth.user", "auth.password"]);
}
