//! `RedisStreamSink` against Redis.

use std::collections::BTreeMap;

use ::redis::{Client, FromRedisValue, cmd};
use http::header::RETRY_AFTER;
use serde_json::Value;

use super::{address, post, ready};
use crate::harness::eventually::eventually;
use crate::harness::mesh::{BROKER, Mesh};
use crate::harness::services::Services;

const PLURAL: &str = "redisstreamsinks";

/// A trigger that sends all events of the default broker to the sink.
const TRIGGER: &str = "---\napiVersion: eventing.knative.dev/v1\nkind: Trigger\nmetadata:\n  name: to-redis\nspec:\n  \
     broker: default\n  subscriber: {ref: {apiVersion: sinks.knative.dev/v1alpha1, kind: RedisStreamSink, name: sink}}\n";

struct Redis {
    services: Services,
    published: Value,
}

impl Redis {
    async fn start(name: &str) -> Self {
        let services = Services::of(name);
        let published = services.up("redis").await;
        Self { services, published }
    }

    fn text(&self, key: &str) -> &str {
        self.published[key].as_str().expect("a published text")
    }

    fn sink(&self, stream: &str, password: &str) -> String {
        let (user, address) = (self.text("user"), self.text("address"));
        format!(
            "---\napiVersion: v1\nkind: Secret\nmetadata:\n  name: redis\nstringData:\n  password: {password}\n---\n\
             apiVersion: sinks.knative.dev/v1alpha1\nkind: RedisStreamSink\nmetadata:\n  name: sink\nspec:\n  \
             address: redis://{user}@{address}\n  dialOptions: {{password: {{secretKeyRef: {{name: redis, key: password}}}}}}\n  \
             stream: {stream}\n"
        )
    }

    async fn ask<T: FromRedisValue>(&self, words: &[&str]) -> T {
        let client = Client::open(self.text("url")).expect("a URL");
        let mut connection = client.get_multiplexed_async_connection().await.expect("a connection");
        let mut command = cmd(words[0]);
        command.arg(&words[1..]).query_async(&mut connection).await.expect("an answer")
    }

    /// The entries of a stream, as fields and values.
    async fn entries(&self, stream: &str) -> Vec<BTreeMap<String, String>> {
        let entries: Vec<(String, BTreeMap<String, String>)> =
            self.ask(&["XRANGE", stream, "-", "+"]).await;
        entries.into_iter().map(|(_, fields)| fields).collect()
    }
}

#[tokio::test]
async fn events_become_entries_as_arrays_say_or_with_their_attributes() {
    let redis = Redis::start("redis-sink").await;
    let () = redis.ask(&["DEL", "entries"]).await;
    let password = redis.text("user_password");
    let yaml = format!("{BROKER}{}{TRIGGER}", redis.sink("entries", password));
    let mesh = Mesh::start(&yaml).await;
    let url = address(&ready(&mesh, PLURAL, "True", "").await);
    mesh.send("dev.weft.test", "e1").await;
    let entries = eventually("an entry", async || {
        let entries = redis.entries("entries").await;
        (!entries.is_empty()).then_some(entries)
    })
    .await;
    for (field, value) in [
        ("id", "e1"),
        ("source", "/test"),
        ("type", "dev.weft.test"),
        ("specversion", "1.0"),
        ("datacontenttype", "application/json"),
        ("data", r#"{"a":1}"#),
    ] {
        assert_eq!(entries[0].get(field).map(String::as_str), Some(value), "{field}");
    }
    let answer = post(&url, "e2", &[], r#"["fruit","banana","color","yellow"]"#).await;
    assert_eq!((answer.status, answer.body.as_str()), (202, ""));
    let expected = [("fruit", "banana"), ("color", "yellow")];
    let expected = expected.map(|(field, value)| (field.to_owned(), value.to_owned()));
    assert_eq!(redis.entries("entries").await[1], BTreeMap::from(expected));
    let answer = post(&url, "e3", &[], r#"["fruit"]"#).await;
    assert_eq!(answer.status, 422, "{}", answer.body);
    assert_eq!(redis.entries("entries").await.len(), 2);
    assert!(!mesh.log().contains(password), "a secret is shown");
}

#[tokio::test]
async fn what_is_no_stream_and_wrong_credentials_are_told() {
    let redis = Redis::start("redis-sink").await;
    let () = redis.ask(&["SET", "text", "x"]).await;
    let wrong = "this-is-not-the-password";
    let mesh = Mesh::start(&redis.sink("text", wrong)).await;
    let resource = ready(&mesh, PLURAL, "False", "CredentialsRefused").await;
    assert_eq!(post(&address(&resource), "e1", &[], "{}").await.status, 503);
    mesh.rewrite(&redis.sink("text", redis.text("user_password")));
    ready(&mesh, PLURAL, "False", "UpstreamNotFound").await;
    let () = redis.ask(&["DEL", "text"]).await;
    ready(&mesh, PLURAL, "True", "").await;
    assert_eq!(post(&address(&resource), "e1", &[], "{}").await.status, 202);
    assert_eq!(redis.entries("text").await.len(), 1);
    assert!(!mesh.log().contains(wrong), "a secret is shown");
}

#[tokio::test]
async fn while_redis_is_away_senders_are_told_to_come_again_and_nothing_is_lost() {
    let redis = Redis::start("redis-sink-away").await;
    let () = redis.ask(&["DEL", "away"]).await;
    let yaml = format!("{BROKER}{}{TRIGGER}", redis.sink("away", redis.text("user_password")));
    let mesh = Mesh::start(&yaml).await;
    let url = address(&ready(&mesh, PLURAL, "True", "").await);
    redis.services.down("redis").await;
    for number in 0..20 {
        mesh.send("dev.weft.test", &format!("e{number}")).await;
    }
    ready(&mesh, PLURAL, "False", "UpstreamUnavailable").await;
    let answer = post(&url, "direct", &[], "{}").await;
    assert_eq!(answer.status, 503, "{}", answer.body);
    assert!(answer.headers.contains_key(RETRY_AFTER));
    let published = redis.services.up("redis").await;
    assert_eq!(published["address"], redis.published["address"], "it comes back where it was");
    ready(&mesh, PLURAL, "True", "").await;
    eventually("all entries", async || {
        let entries = redis.entries("away").await;
        let there = |number: u32| entries.iter().any(|entry| entry["id"] == format!("e{number}"));
        (0..20).all(there).then_some(())
    })
    .await;
}
