//! What a user may write, and the ids of messages.

use broker_event::EventBuilder;
use crds::broker_defaults::BrokerDefaults;
use crds::object::Rules;
use crds::ping_defaults::PingDefaults;
use crds::resource::Catalog;
use crds::sink::SinkObject;
use serde_json::{Value, json};

use super::{NatsSink, message_id};
use crate::sinks::EventSink;
use crate::source::fake::about;

#[expect(clippy::needless_pass_by_value, reason = "json! makes values")]
fn sink(spec: Value) -> SinkObject<NatsSink> {
    let mut object: SinkObject<NatsSink> =
        serde_json::from_value(json!({"metadata": {"name": "s"}, "spec": spec})).unwrap();
    object.defaults();
    object
}

fn refused(spec: Value) -> String {
    let defaults = BrokerDefaults::builtin();
    let rules = Rules {
        catalog: Catalog::BUILTIN,
        cesql: &|_| Ok(()),
        broker_defaults: &defaults,
        ping_defaults: PingDefaults::default(),
    };
    sink(spec).validate(&rules).to_string()
}

#[test]
fn refusals_name_the_field_and_no_credentials() {
    assert_eq!(refused(json!({"servers": ["nats://n"], "subject": "a.b", "stream": "S"})), "");
    assert_eq!(refused(json!({})), "missing field(s): spec.servers, spec.subject");
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
        let text = refused(spec);
        assert!(text.starts_with(said) && !text.contains("hunter2"), "{text}");
    }
}

#[test]
fn credentials_are_keys_of_secrets() {
    let value = json!({"secretKeyRef": {"name": "nats", "key": "password"}});
    let auth = json!({"user": value, "password": value});
    let spec = sink(json!({"servers": ["n"], "subject": "a", "auth": auth})).spec;
    let needs = spec.needs(&about());
    let fields: Vec<_> = needs.iter().map(|need| need.field).collect();
    assert_eq!(fields, ["auth.user", "auth.password"]);
}

#[test]
fn a_message_id_tells_events_apart_by_source_and_id() {
    let of = |id: &str, source: &str, ty: &str| {
        message_id(&EventBuilder::new(id, source, ty).build().unwrap())
    };
    assert_eq!(of("1", "/s", "t"), of("1", "/s", "other"));
    assert_ne!(of("1", "/s", "t"), of("2", "/s", "t"));
    assert_ne!(of("11", "/s", "t"), of("1", "/s1", "t"));
    assert_eq!(of("1", "/s", "t").len(), 64);
}
