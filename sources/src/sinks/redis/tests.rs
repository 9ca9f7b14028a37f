//! What a user may write.

use crds::broker_defaults::BrokerDefaults;
use crds::object::Rules;
use crds::ping_defaults::PingDefaults;
use crds::resource::Catalog;
use crds::sink::SinkObject;
use serde_json::{Value, json};

use super::RedisStreamSink;
use crate::sinks::EventSink;
use crate::source::fake::about;

#[expect(clippy::needless_pass_by_value, reason = "json! makes values")]
fn sink(spec: Value) -> SinkObject<RedisStreamSink> {
    let mut object: SinkObject<RedisStreamSink> =
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
fn it_is_as_the_source_is() {
    assert_eq!(refused(json!({"address": "redis://r:6379", "stream": "s"})), "");
    assert_eq!(refused(json!({})), "missing field(s): spec.address, spec.stream");
    let text = refused(json!({"address": "http://user:hunter2@r", "stream": "s"}));
    assert!(text.starts_with("invalid value: http://r: spec.address"), "{text}");
    let dial = json!({"password": {"secretKeyRef": {"name": "redis", "key": "password"}}});
    let spec = sink(json!({"address": "redis://r", "stream": "s", "dialOptions": dial})).spec;
    let needs = spec.needs(&about());
    assert_eq!(needs.len(), 1);
    assert_eq!((needs[0].name.as_str(), needs[0].key.as_str()), ("redis", "password"));
}
