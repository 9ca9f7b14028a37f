//! What a user may write.

use serde_json::json;

use super::RedisStreamSink;
use crate::sinks::EventSink;
use crate::sinks::sink::fake::{refused, sink};
use crate::source::fake::about;

#[test]
fn it_is_as_the_source_is() {
    assert_eq!(refused::<RedisStreamSink>(json!({"address": "redis://r:6379", "stream": "s"})), "");
    assert_eq!(
        refused::<RedisStreamSink>(json!({})),
        "missing field(s): spec.address, spec.stream"
    );
    let text =
        refused::<RedisStreamSink>(json!({"address": "http://user:hunter2@r", "stream": "s"}));
    assert!(text.starts_with("invalid value: http://r: spec.address"), "{text}");
    let dial = json!({"password": {"secretKeyRef": {"name": "redis", "key": "password"}}});
    let spec = sink::<RedisStreamSink>(
        json!({"address": "redis://r", "stream": "s", "dialOptions": dial}),
    )
    .spec;
    let needs = spec.needs(&about());
    assert_eq!(needs.len(), 1);
    assert_eq!((needs[0].name.as_str(), needs[0].key.as_deref()), ("redis", Some("password")));
}
