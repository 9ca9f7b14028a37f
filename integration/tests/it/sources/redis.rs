//! `RedisStreamSource` against Redis: entries of a stream are messages.

use std::collections::BTreeSet;
use std::net::TcpListener;
use std::ops::Range;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use ::redis::{AsyncConnectionConfig, Client, FromRedisValue, cmd, pipe};
use rcgen::{CertifiedKey, KeyPair, generate_simple_self_signed};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::process::{Child, Command};

use super::contract;
use super::upstream::{Upstream, condition, resource};
use crate::harness::eventually::{eventually, throughout};
use crate::harness::mesh::{BROKER, Mesh, trigger};
use crate::harness::services::Services;
use crate::harness::subscriber::{A_WHILE, Got, Reply, Subscriber};

const TO_BROKER: &str = "{ref: {apiVersion: eventing.knative.dev/v1, kind: Broker, name: default}}";

/// The group of the stories that look into it.
const GROUP: &str = "mesh";

/// A server, and a stream in it.
struct Redis {
    services: Services,
    service: Value,
    stream: &'static str,
}

impl Redis {
    /// A server of that name's own, with a stream that nobody knows yet.
    async fn with_stream(stream: &'static str) -> Self {
        let services = Services::of(&format!("redis-{stream}"));
        let service = services.up("redis").await;
        let redis = Self { services, service, stream };
        // An earlier run may have left it.
        redis.tell(&["DEL", stream]).await;
        redis
    }

    fn published(&self, key: &str) -> &str {
        self.service[key].as_str().expect("a published text")
    }

    async fn ask<T: FromRedisValue>(&self, words: &[&str]) -> T {
        ask(self.published("url"), words).await
    }

    async fn tell(&self, words: &[&str]) {
        self.ask::<()>(words).await;
    }

    async fn add(&self, numbers: Range<u64>) {
        let mut commands = pipe();
        for number in numbers {
            commands.cmd("XADD").arg(self.stream).arg("*").arg("number").arg(number).ignore();
        }
        let mut connection = connection(self.published("url")).await;
        let () = commands.query_async(&mut connection).await.expect("entries are added");
    }

    /// A source of the stream; `more` are lines of its spec.
    fn source(&self, sink: &str, more: &str) -> String {
        self.source_as(self.published("user_password"), sink, more)
    }

    fn source_as(&self, password: &str, sink: &str, more: &str) -> String {
        let (user, address, stream) =
            (self.published("user"), self.published("address"), self.stream);
        format!(
            "---\napiVersion: v1\nkind: Secret\nmetadata:\n  name: redis\nstringData:\n  password: {password}\n---\n\
             apiVersion: sources.knative.dev/v1alpha1\nkind: RedisStreamSource\nmetadata:\n  name: source\nspec:\n  \
             address: redis://{user}@{address}\n  dialOptions: {{password: {{secretKeyRef: {{name: redis, key: password}}}}}}\n  \
             stream: {stream}\n  sink: {sink}\n{more}"
        )
    }

    /// The groups of the stream: their names, and how many entries are pending in each.
    async fn groups(&self) -> Vec<(String, u64)> {
        let groups: Vec<Vec<::redis::Value>> = self.ask(&["XINFO", "GROUPS", self.stream]).await;
        groups.iter().map(|group| (value(group, "name"), value(group, "pending"))).collect()
    }
}

async fn connection(url: &str) -> ::redis::aio::MultiplexedConnection {
    // Every write is on a disk first that others use too.
    let config = AsyncConnectionConfig::new().set_response_timeout(None);
    let client = Client::open(url).expect("a URL");
    client.get_multiplexed_async_connection_with_config(&config).await.expect("a connection")
}

async fn ask<T: FromRedisValue>(url: &str, words: &[&str]) -> T {
    let mut command = cmd(words[0]);
    command.arg(&words[1..]);
    command.query_async(&mut connection(url).await).await.expect("an answer")
}

/// The value of a name in a list of both in turn.
fn value<T: FromRedisValue>(pairs: &[::redis::Value], name: &str) -> T {
    let is_meant = |pair: &&[::redis::Value]| matches!(&pair[0], ::redis::Value::BulkString(bytes) if bytes == name.as_bytes());
    let pair = pairs.chunks_exact(2).find(is_meant).expect("a known name");
    T::from_redis_value(pair[1].clone()).expect("the value is of that type")
}

fn number(event: &Got) -> Option<u64> {
    let fields: Vec<String> = serde_json::from_slice(&event.body).ok()?;
    let [name, value] = fields.as_slice() else { return None };
    (name == "number").then(|| value.parse().ok())?
}

fn numbers(got: &[Got]) -> Vec<u64> {
    got.iter().filter_map(number).collect()
}

/// Waits until all these came, in whatever order, however often.
async fn all(subscriber: &Subscriber, wanted: impl IntoIterator<Item = u64>) {
    let wanted: BTreeSet<u64> = wanted.into_iter().collect();
    eventually(&format!("{wanted:?}"), async || {
        wanted.is_subset(&numbers(&subscriber.got()).into_iter().collect()).then_some(())
    })
    .await;
}

async fn until(mesh: &Mesh, what: &str, holds: impl Fn(&Value) -> bool) -> Value {
    eventually(&format!("the source to be {what}"), async || {
        Some(resource(mesh, "redis").await).filter(|resource| holds(resource))
    })
    .await
}

async fn ready(mesh: &Mesh) {
    until(mesh, "ready", |it| condition(it, "Ready") == Some(("True", ""))).await;
}

/// What a condition says in words.
fn message(resource: &Value, kind: &str) -> String {
    let conditions = resource["status"]["conditions"].as_array().expect("conditions");
    let found = conditions.iter().find(|condition| condition["type"] == kind);
    found.and_then(|found| found["message"].as_str()).unwrap_or_default().to_owned()
}

async fn stop(mesh: &mut Mesh) {
    mesh.terminate();
    assert!(mesh.exit().await.success());
}

/// A sink that takes nothing before it is told to, and how it is told.
async fn closed_sink() -> (Subscriber, Arc<AtomicBool>) {
    let open = Arc::new(AtomicBool::new(false));
    let is_open = Arc::clone(&open);
    let sink = Subscriber::scripted(move |_| {
        Reply::status(if is_open.load(Ordering::Relaxed) { 202 } else { 503 })
    });
    (sink.await, open)
}

impl Upstream for Redis {
    const MODULE: &'static str = "redis";

    async fn start(services: Services) -> Self {
        let service = services.up("redis").await;
        Self { services, service, stream: "contract" }
    }

    fn manifest(&self, sink: &str) -> String {
        self.source(sink, "")
    }

    fn refused(&self, sink: &str) -> Option<(String, &'static str)> {
        Some((self.source_as("wrong", sink, ""), "CredentialsRefused"))
    }

    async fn produce(&self, _: &Mesh, numbers: Range<u64>) {
        self.add(numbers).await;
    }

    fn number(&self, event: &Got) -> Option<u64> {
        number(event)
    }

    async fn stop(&self) -> bool {
        self.services.down("redis").await;
        true
    }

    async fn start_again(&mut self) {
        self.service = self.services.up("redis").await;
    }

    fn secrets(&self) -> Vec<String> {
        ["password", "user_password"].map(|key| self.published(key).to_owned()).to_vec()
    }

    fn check(&self, event: &Got) {
        assert_eq!(event.header("ce-type"), "dev.knative.sources.redisstream");
        let source = format!("redis://{}/contract", self.published("address"));
        assert_eq!(event.header("ce-source"), source);
        let (milliseconds, sequence) = event.id().split_once('-').expect("the id of an entry");
        assert!(milliseconds.parse::<u64>().is_ok() && sequence.parse::<u64>().is_ok());
        assert_eq!((event.header("ce-subject"), event.header("ce-time")), ("", ""));
        assert_eq!(event.header("content-type"), "application/json");
        assert_eq!(event.body, r#"["number","7"]"#);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn keeps_the_contract() {
    contract::kept::<Redis>().await;
}

/// Somebody removes the group, or the stream, or another server takes over: nothing is skipped.
#[tokio::test(flavor = "multi_thread")]
async fn goes_on_where_it_was_when_redis_forgets_it() {
    let redis = Redis::with_stream("forgotten").await;
    let subscriber = Subscriber::start().await;
    redis.add(0..10).await;
    let source = redis.source(TO_BROKER, &format!("  group: {GROUP}\n"));
    let source = source
        .replace("  name: source\n", "  name: source\n  annotations: {weft.dev/start: earliest}\n");
    let yaml = format!("{BROKER}{}{source}", trigger("t", &subscriber.url, "", &[]));
    let mut mesh = Mesh::start(&yaml).await;
    all(&subscriber, 0..10).await;
    stop(&mut mesh).await;
    redis.tell(&["XGROUP", "DESTROY", redis.stream, GROUP]).await;
    redis.add(10..20).await;
    mesh.restart().await;
    all(&subscriber, 0..20).await;
    // A trigger has many deliveries under way, so they do not arrive in the stream's order; but each arrives once.
    let mut arrived = numbers(&subscriber.got());
    arrived.sort_unstable();
    assert_eq!(arrived, (0..20).collect::<Vec<_>>());

    // While it runs.
    ready(&mesh).await;
    redis.tell(&["XGROUP", "DESTROY", redis.stream, GROUP]).await;
    redis.add(20..30).await;
    all(&subscriber, 0..30).await;
    ready(&mesh).await;
    redis.tell(&["DEL", redis.stream]).await;
    redis.add(30..40).await;
    all(&subscriber, 0..40).await;

    // As after a failover, on the server that is no longer the one that takes writes.
    ready(&mesh).await;
    redis.tell(&["REPLICAOF", "127.0.0.1", "1"]).await;
    until(&mesh, "told of a server that takes no writes", |resource| {
        condition(resource, "Ready") == Some(("False", "UpstreamUnavailable"))
            && message(resource, "Ready").contains("READONLY")
    })
    .await;
    redis.tell(&["REPLICAOF", "NO", "ONE"]).await;
    redis.add(40..50).await;
    all(&subscriber, 0..50).await;
    ready(&mesh).await;
}

/// What was trimmed before it was read, and what was trimmed after it was read and before the sink took it.
#[tokio::test(flavor = "multi_thread")]
async fn says_what_was_removed_before_it_was_delivered() {
    let redis = Redis::with_stream("trimmed").await;
    let (sink, open) = closed_sink().await;
    let sink_yaml = format!("{{uri: \"{}\"}}", sink.url);
    let source = redis.source(&sink_yaml, &format!("  group: {GROUP}\n"));
    let mut mesh = Mesh::start(&format!("{BROKER}{source}")).await;
    ready(&mesh).await;
    open.store(true, Ordering::Relaxed);
    redis.add(0..5).await;
    all(&sink, 0..5).await;
    // One consumer, and a sink that gets one event after the other: the stream's order.
    assert_eq!(numbers(&sink.got()), [0, 1, 2, 3, 4]);
    stop(&mut mesh).await;

    redis.add(5..10).await;
    redis.tell(&["XTRIM", redis.stream, "MAXLEN", "2"]).await;
    open.store(false, Ordering::Relaxed);
    mesh.restart().await;
    let what = "of what was trimmed unread";
    let removed = |resource: &Value, words: &str| {
        condition(resource, "NothingRemoved") == Some(("False", "EntriesRemoved"))
            && message(resource, "NothingRemoved").starts_with(words)
    };
    until(&mesh, what, |resource| removed(resource, "3 entries")).await;
    eventually("both to be pending", async || {
        (redis.groups().await == [(GROUP.to_owned(), 2)]).then_some(())
    })
    .await;
    mesh.kill().await;

    redis.tell(&["XTRIM", redis.stream, "MAXLEN", "1"]).await;
    open.store(true, Ordering::Relaxed);
    mesh.restart().await;
    all(&sink, [9]).await;
    // It does not keep the source from working.
    until(&mesh, "told of what was trimmed while it was pending", |resource| {
        removed(resource, "1 entries") && condition(resource, "Ready") == Some(("True", ""))
    })
    .await;
    assert_eq!(redis.groups().await, [(GROUP.to_owned(), 0)]);
}

/// Readers come and go with the scale; what they left is not lost, and the group goes with the source.
#[tokio::test(flavor = "multi_thread")]
async fn is_scaled_paused_and_removed_and_leaves_nothing() {
    let redis = Redis::with_stream("scaled").await;
    let (sink, open) = closed_sink().await;
    let sink_yaml = format!("{{uri: \"{}\"}}", sink.url);
    let with = |consumers: u32| {
        format!("{BROKER}{}", redis.source(&sink_yaml, &format!("  consumers: {consumers}\n")))
    };
    let scaled = async |mesh: &Mesh, consumers: u64| {
        until(mesh, "scaled", |it| {
            it["status"]["consumers"] == consumers && condition(it, "Ready") == Some(("True", ""))
        })
        .await
    };
    let mut mesh = Mesh::start(&with(3)).await;
    scaled(&mesh, 3).await;
    redis.add(0..300).await;
    let [(group, _)] = redis.groups().await.try_into().expect("the source's own group");
    eventually("each of the three readers to have entries", async || {
        let readers: Vec<Vec<::redis::Value>> =
            redis.ask(&["XINFO", "CONSUMERS", redis.stream, &group]).await;
        let busy = readers.iter().filter(|reader| value::<u64>(reader, "pending") > 0);
        (busy.count() == 3).then_some(())
    })
    .await;
    mesh.kill().await;
    mesh.rewrite(&with(1));
    open.store(true, Ordering::Relaxed);
    mesh.restart().await;
    all(&sink, 0..300).await;
    eventually("nothing to be pending", async || {
        (redis.groups().await == [(group.clone(), 0)]).then_some(())
    })
    .await;

    mesh.rewrite(&with(0));
    scaled(&mesh, 0).await;
    let before = sink.got().len();
    redis.add(300..310).await;
    throughout("the pause", A_WHILE, || sink.got().len() == before).await;
    mesh.rewrite(&with(2));
    all(&sink, 300..310).await;

    // Its Secret stays: without it nothing could be removed.
    let yaml = with(2);
    let (before, _) = yaml.rsplit_once("---\n").expect("the source is the last");
    mesh.rewrite(before);
    eventually("the group to be gone", async || redis.groups().await.is_empty().then_some(()))
        .await;
}

/// A server that lets in who shows a certificate, and one user do no more than the example's README says that it must.
struct Guarded {
    directory: TempDir,
    server: CertifiedKey<KeyPair>,
    client: CertifiedKey<KeyPair>,
    port: u16,
    child: Child,
}

const PASSWORD: &str = "it-is-a-secret-to-everybody";

impl Guarded {
    async fn start() -> Self {
        // It installs the program.
        Services::of("redis-guarded").up("redis").await;
        let certificate =
            || generate_simple_self_signed(["127.0.0.1".to_owned()]).expect("a certificate");
        let (server, client) = (certificate(), certificate());
        let directory = TempDir::new().expect("a directory");
        let write = |name: &str, text: String| {
            let path = directory.path().join(name);
            std::fs::write(&path, text).expect("a file");
            path.display().to_string()
        };
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = listener.local_addr().expect("bound").port();
        drop(listener);
        let configuration = format!(
            "port 0\nbind 127.0.0.1\ntls-port {port}\ntls-cert-file {}\ntls-key-file {}\ntls-ca-cert-file {}\n\
             unixsocket {}\nlogfile log\nsave \"\"\nuser default on nopass ~* +@all\n\
             user reader on >{PASSWORD} ~orders -@all +@connection +xinfo +xgroup +xreadgroup +xack +xpending +xclaim\n",
            write("server.crt", server.cert.pem()),
            write("server.key", server.signing_key.serialize_pem()),
            write("clients.crt", client.cert.pem()),
            directory.path().join("socket").display(),
        );
        let configuration = write("redis.conf", configuration);
        let mut command = Command::new("redis-server");
        command.arg(configuration).current_dir(directory.path()).kill_on_drop(true);
        command.stdin(Stdio::null()).stdout(Stdio::null());
        let child = command.spawn().expect("redis-server starts");
        let mut guarded = Self { directory, server, client, port, child };
        eventually("the server to listen", async || {
            let ended = guarded.child.try_wait().expect("it can be asked");
            let log = std::fs::read_to_string(guarded.directory.path().join("log"));
            assert_eq!(ended, None, "it ended: {}", log.unwrap_or_default());
            guarded.directory.path().join("socket").try_exists().ok()?.then_some(())
        })
        .await;
        guarded
    }

    async fn ask<T: FromRedisValue>(&self, words: &[&str]) -> T {
        let socket = self.directory.path().join("socket");
        ask(&format!("redis+unix://{}", socket.display()), words).await
    }

    /// A source that trusts a certificate of the Secret.
    fn source(&self, trusts: &str) -> String {
        let secret = json!({
            "pass": PASSWORD,
            "server": self.server.cert.pem(),
            "client": self.client.cert.pem(),
            "key": self.client.signing_key.serialize_pem(),
        });
        let of = |key: &str| json!({ "secretKeyRef": { "name": "redis", "key": key } });
        let options = json!({
            "useTLS": true,
            "caCert": of(trusts),
            "cert": of("client"),
            "key": of("key"),
            "password": { "kind": "Secret", "name": "redis", "fieldPath": "pass" },
        });
        let port = self.port;
        format!(
            "---\napiVersion: v1\nkind: Secret\nmetadata:\n  name: redis\nstringData: {secret}\n---\n\
             apiVersion: sources.knative.dev/v1alpha1\nkind: RedisStreamSource\nmetadata:\n  name: source\n  annotations: \
             {{weft.dev/payload: object}}\nspec:\n  address: redis://reader@127.0.0.1:{port}\n  dialOptions: {options}\n  \
             stream: orders\n  sink: {TO_BROKER}\n"
        )
    }
}

/// Knative's adapter sends no password without TLS, trusts anybody with it, and ignores `dialOptions`.
#[tokio::test(flavor = "multi_thread")]
async fn connects_as_the_dial_options_say_and_needs_no_more_than_it_is_allowed() {
    let redis = Guarded::start().await;
    let subscriber = Subscriber::start().await;
    let trigger = trigger("t", &subscriber.url, "", &[]);
    let mesh = Mesh::start(&format!("{BROKER}{trigger}{}", redis.source("client"))).await;
    until(&mesh, "told of a server that is not the one it trusts", |resource| {
        condition(resource, "Ready") == Some(("False", "UpstreamUnavailable"))
            && message(resource, "Ready").contains("certificate")
    })
    .await;
    mesh.rewrite(&format!("{BROKER}{trigger}{}", redis.source("server")));
    ready(&mesh).await;
    let text = ["XADD", "orders", "*", "fruit", "banana", "color", "yellow"];
    let id: String = redis.ask(&text).await;
    let got = subscriber.wait(1).await.remove(0);
    assert_eq!(
        (got.id(), &got.body[..]),
        (id.as_str(), &br#"{"fruit":"banana","color":"yellow"}"#[..])
    );
    assert_eq!(got.header("ce-source"), format!("redis://127.0.0.1:{}/orders", redis.port));
    assert_eq!(got.header("ce-redisencoding"), "");

    assert!(!mesh.log().contains(PASSWORD));
    let shown = resource(&mesh, "redis").await.to_string();
    assert!(!shown.contains(PASSWORD) && !shown.contains("PRIVATE KEY"), "{shown}");
    let source = redis.source("server");
    let (secret, _) = source.rsplit_once("---\n").expect("the source is the last");
    mesh.rewrite(&format!("{BROKER}{trigger}{secret}"));
    eventually("the group to be removed", async || {
        let groups: Vec<::redis::Value> = redis.ask(&["XINFO", "GROUPS", "orders"]).await;
        groups.is_empty().then_some(())
    })
    .await;
}
