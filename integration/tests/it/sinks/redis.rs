//! `RedisStreamSink` against Redis.

use std::collections::BTreeMap;

use ::redis::{Client, FromRedisValue, cmd};
use serde_json::Value;

use super::downstream::{Downstream, start};
use super::{address, contract, post, ready};
use crate::harness::mesh::Mesh;

/// What a Redis published.
struct Redis(Value);

/// Another Redis than that of the contract, which kills its own.
async fn more() -> Redis {
    start("redis-sink-more").await.2
}

impl Redis {
    fn text(&self, key: &str) -> &str {
        self.0[key].as_str().expect("a published text")
    }

    /// The lines of a spec that say where Redis is.
    fn place(&self, stream: &str) -> String {
        let (user, address) = (self.text("user"), self.text("address"));
        format!(
            "  address: redis://{user}@{address}\n  dialOptions: {{password: {{secretKeyRef: {{name: redis, key: password}}}}}}\n  \
             stream: {stream}\n"
        )
    }

    fn sink(&self, stream: &str, password: &str) -> String {
        let place = self.place(stream);
        format!(
            "---\napiVersion: v1\nkind: Secret\nmetadata:\n  name: redis\nstringData:\n  password: {password}\n---\n\
             apiVersion: sinks.knative.dev/v1alpha1\nkind: RedisStreamSink\nmetadata:\n  name: sink\nspec:\n{place}"
        )
    }

    async fn ask<T: FromRedisValue>(&self, words: &[&str]) -> T {
        let client = Client::open(self.text("url")).expect("a URL");
        let mut connection = client.get_multiplexed_async_connection().await.expect("a connection");
        let mut command = cmd(words[0]);
        command.arg(&words[1..]).query_async(&mut connection).await.expect("an answer")
    }

    /// The entries of a stream, as fields and values.
    async fn entries(&self, stream: &str) -> Vec<BTreeMap<String, Vec<u8>>> {
        let entries: Vec<(String, BTreeMap<String, Vec<u8>>)> =
            self.ask(&["XRANGE", stream, "-", "+"]).await;
        entries.into_iter().map(|(_, fields)| fields).collect()
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).expect("text")
}

impl Downstream for Redis {
    const SERVICE: &'static str = "redis";
    const KIND: (&'static str, &'static str) = ("sinks.knative.dev/v1alpha1", "RedisStreamSink");
    const PLURAL: &'static str = "redisstreamsinks";
    const SOURCES: &'static str = "redisstreamsources";

    async fn on(published: Value) -> Self {
        let redis = Self(published);
        // An earlier run may have left it.
        let () = redis.ask(&["DEL", "contract"]).await;
        redis
    }

    fn manifest_with(&self, password: &str) -> String {
        self.sink("contract", password)
    }

    fn password(&self) -> &str {
        self.text("user_password")
    }

    fn source(&self, uri: &str) -> String {
        let place = self.place("contract");
        format!(
            "---\napiVersion: sources.knative.dev/v1alpha1\nkind: RedisStreamSource\nmetadata:\n  name: sink\n  \
             annotations: {{weft.dev/payload: event}}\nspec:\n{place}  sink: {{uri: '{uri}'}}\n"
        )
    }

    async fn ids(&self) -> Vec<String> {
        self.entries("contract").await.iter().map(|entry| text(&entry["id"])).collect()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn keeps_the_contract() {
    contract::kept::<Redis>().await;
}

#[tokio::test]
async fn events_become_entries_as_arrays_say_or_with_their_attributes() {
    let redis = more().await;
    let () = redis.ask(&["DEL", "entries"]).await;
    let mesh = Mesh::start(&redis.sink("entries", redis.password())).await;
    let url = address(&ready(&mesh, Redis::PLURAL, "True", "").await);
    assert_eq!(post(&url, "e1", &[], r#"{"a":1}"#).await.status, 202);
    let answer = post(&url, "e2", &[], r#"["fruit","banana","color","yellow"]"#).await;
    assert_eq!((answer.status, answer.body.as_str()), (202, ""));
    let answer = post(&url, "e3", &[], r#"["fruit"]"#).await;
    assert_eq!(answer.status, 422, "{}", answer.body);
    let shown: Vec<BTreeMap<String, String>> = redis
        .entries("entries")
        .await
        .into_iter()
        .map(|entry| entry.iter().map(|(field, value)| (field.clone(), text(value))).collect())
        .collect();
    let entry = |fields: &[(&str, &str)]| -> BTreeMap<String, String> {
        fields.iter().map(|(field, value)| ((*field).to_owned(), (*value).to_owned())).collect()
    };
    let attributes = entry(&[
        ("id", "e1"),
        ("source", "/test"),
        ("type", "dev.weft.test"),
        ("specversion", "1.0"),
        ("datacontenttype", "application/json"),
        ("data", r#"{"a":1}"#),
    ]);
    assert_eq!(shown, [attributes, entry(&[("fruit", "banana"), ("color", "yellow")])]);
}

#[tokio::test]
async fn what_is_no_stream_is_told() {
    let redis = more().await;
    let () = redis.ask(&["SET", "text", "x"]).await;
    let mesh = Mesh::start(&redis.sink("text", redis.password())).await;
    let resource = ready(&mesh, Redis::PLURAL, "False", "UpstreamNotFound").await;
    assert_eq!(post(&address(&resource), "e1", &[], "{}").await.status, 503);
    let () = redis.ask(&["DEL", "text"]).await;
    ready(&mesh, Redis::PLURAL, "True", "").await;
    assert_eq!(post(&address(&resource), "e1", &[], "{}").await.status, 202);
    assert_eq!(redis.entries("text").await.len(), 1);
}
