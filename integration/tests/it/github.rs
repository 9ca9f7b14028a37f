//! Real GitHub payloads, signed as GitHub signs them, through the whole mesh.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::process::Command;

use hmac::{Hmac, Mac};
use serde_json::Value;
use sha1::Sha1;
use sha2::Sha256;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::harness::eventually::{eventually, throughout};
use crate::harness::mesh::{Mesh, trigger};
use crate::harness::request::{self, Answer};
use crate::harness::subscriber::{A_WHILE, Got, Subscriber};

use expected::{expected, is_newer};

mod expected;

const SECRET: &str = "it-is-a-secret-to-everybody";

const PUSH: &[u8] = br#"{"ref":"refs/heads/main", "compare":"https://github.com/acme/shop/compare/a...b","repository":{"name":"shop","owner":{"login":"acme"}},"sender":{"login":"octocat"}}"#;

/// A delivery in the making.
struct Delivery<'a> {
    event: &'a str,
    id: &'a str,
    /// Name and value of the header with the signature.
    signature: (&'a str, String),
    content_type: &'a str,
    body: Vec<u8>,
}

impl<'a> Delivery<'a> {
    /// As GitHub makes it: JSON, signed with SHA-256.
    fn of(event: &'a str, id: &'a str, body: &[u8]) -> Self {
        let signature = ("x-hub-signature-256", sha_256(SECRET, body));
        Self { event, id, signature, content_type: "application/json", body: body.to_vec() }
    }

    /// As old GitHub Enterprise servers sign it.
    fn sha_1(self) -> Self {
        let mut mac = Hmac::<Sha1>::new_from_slice(SECRET.as_bytes()).expect("any key");
        mac.update(&self.body);
        let signature = format!("sha1={}", hex(&mac.finalize().into_bytes()));
        Self { signature: ("x-hub-signature", signature), ..self }
    }

    /// As GitHub sends it where the hook's content type is left alone.
    fn form(self) -> Self {
        let payload: String = url::form_urlencoded::byte_serialize(&self.body).collect();
        let body = format!("payload={payload}").into_bytes();
        let signature = ("x-hub-signature-256", sha_256(SECRET, &body));
        Self { content_type: "application/x-www-form-urlencoded", signature, body, ..self }
    }

    fn signed(self, signature: impl Into<String>) -> Self {
        Self { signature: ("x-hub-signature-256", signature.into()), ..self }
    }

    async fn send(self, mesh: &Mesh) -> Answer {
        let headers = [
            ("x-github-event", self.event),
            ("x-github-delivery", self.id),
            (self.signature.0, self.signature.1.as_str()),
            ("content-type", self.content_type),
        ];
        let headers = headers.map(|(name, value)| (name.to_owned(), value.to_owned()));
        request::post(&hook(mesh), &headers, self.body).await
    }
}

fn hook(mesh: &Mesh) -> String {
    format!("{}/sources/default/shop", mesh.events)
}

fn example(subscriber: &str) -> String {
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/../examples/github/mesh.yaml");
    let text = std::fs::read_to_string(file).expect("the example");
    text.replace("http://127.0.0.1:9090/", subscriber)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn sha_256(secret: &str, body: &[u8]) -> String {
    let mut mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).expect("any key");
    mac.update(body);
    format!("sha256={}", hex(&mac.finalize().into_bytes()))
}

/// What came at a path.
fn at(subscriber: &Subscriber, path: &str) -> Vec<Got> {
    subscriber.got().into_iter().filter(|got| got.path == path).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_example_takes_a_signed_push_and_routes_it() {
    let subscriber = Subscriber::start().await;
    let mesh = Mesh::start(&example(&subscriber.url)).await;
    let answer = Delivery::of("push", "d-1", PUSH).send(&mesh).await;
    assert_eq!(answer.status, 202, "{}", answer.body);
    let got = subscriber.wait(2).await;
    let mut paths: Vec<_> = got.iter().map(|got| got.path.as_str()).collect();
    paths.sort_unstable();
    assert_eq!(paths, ["/everything", "/main-branch"]);
    assert_eq!(got[0].header("ce-type"), "dev.knative.source.github.push");
    assert_eq!(got[0].header("ce-source"), "https://github.com/acme/shop");
    assert_eq!(got[0].header("ce-subject"), "a...b");
    assert_eq!(got[0].id(), "d-1");
    assert_eq!(got[0].body.as_ref(), PUSH, "the payload is GitHub's, byte for byte");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_github_did_not_sign_or_was_not_asked_for_is_refused_and_nothing_is_kept() {
    let subscriber = Subscriber::start().await;
    let mesh = Mesh::start(&example(&subscriber.url)).await;
    let push = || Delivery::of("push", "d-1", PUSH);
    let wrong = "does not match";
    let cases = [
        (push().signed(sha_256("another secret", PUSH)), 400, wrong),
        (push().signed(sha_256(SECRET, b"{}")), 400, wrong),
        (push().signed("sha256=00"), 400, "cannot be read"),
        (push().signed(""), 400, "cannot be read"),
        (Delivery { signature: ("x-other", String::new()), ..push() }, 400, "is not signed"),
        (Delivery { body: b"{}".to_vec(), ..push().sha_1() }, 400, wrong),
        (Delivery { event: "", ..push() }, 400, "X-GitHub-Event"),
        (Delivery { id: "", ..push() }, 400, "X-GitHub-Delivery"),
        (Delivery::of("fork", "d-1", PUSH), 404, "Event not found"),
        (Delivery::of("push", "d-1", b"[]"), 400, "not a JSON object"),
    ];
    for (delivery, status, reason) in cases {
        let answer = delivery.send(&mesh).await;
        assert_eq!(answer.status, status, "{}", answer.body);
        assert!(answer.body.contains(reason) && !answer.body.contains(SECRET), "{}", answer.body);
    }
    let answer = request::get(&hook(&mesh)).await;
    assert_eq!(answer.status, 405);
    assert_eq!(answer.headers["allow"], "POST");
    let ping = Delivery::of("ping", "d-2", br#"{"zen":"Keep it logically awesome.","hook_id":1}"#);
    assert_eq!(ping.send(&mesh).await.status, 202, "GitHub is told that the hook works");
    assert!(!mesh.log().contains(SECRET));
    let kept = mesh.weft_ok(&["parked", "list"]).await;
    assert_eq!(kept.trim(), "nothing is parked");
    throughout("nothing arrives", A_WHILE, || subscriber.got().is_empty()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_past_githubs_limit_is_refused_before_it_is_sent() {
    let subscriber = Subscriber::start().await;
    let mesh = Mesh::start(&example(&subscriber.url)).await;
    let address = mesh.events.strip_prefix("http://").expect("a URL");
    let mut connection = TcpStream::connect(address).await.expect("it listens");
    let head = format!(
        "POST /sources/default/shop HTTP/1.1\r\nhost: weft\r\nx-github-event: push\r\nx-github-delivery: d-1\r\n\
         x-hub-signature-256: sha256=00\r\ncontent-length: {}\r\n\r\n",
        25 * 1024 * 1024 + 1
    );
    connection.write_all(head.as_bytes()).await.expect("it reads");
    let mut answer = [0; 12];
    connection.read_exact(&mut answer).await.expect("it answers");
    assert_eq!(&answer, b"HTTP/1.1 413");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_payload_is_taken_up_to_what_the_store_takes_and_parked_beyond() {
    let subscriber = Subscriber::start().await;
    let mesh = Mesh::start(&example(&subscriber.url)).await;
    let payload = |size: usize| format!("{{\"a\":\"{}\"}}", "x".repeat(size)).into_bytes();
    let large = payload(15 << 20);
    assert_eq!(Delivery::of("issues", "d-1", &large).send(&mesh).await.status, 202);
    let answer = Delivery::of("issues", "d-2", &payload(16 << 20)).send(&mesh).await;
    assert_eq!(answer.status, 202, "{}", answer.body);
    let parked = mesh.data().join("parked/GitHubSource,default,shop");
    assert_eq!(std::fs::read_dir(parked).expect("it is parked").count(), 1);
    let listed = mesh.weft_ok(&["parked", "list", "--sources"]).await;
    assert!(listed.contains("GitHubSource/default/shop") && listed.contains("d-2"), "{listed}");
    assert_eq!(subscriber.wait(1).await[0].body.as_ref(), large);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redelivery_is_the_same_event_again() {
    let subscriber = Subscriber::start().await;
    let mesh = Mesh::start(&example(&subscriber.url)).await;
    for _ in 0..2 {
        assert_eq!(Delivery::of("issues", "d-1", PUSH).send(&mesh).await.status, 202);
    }
    let got = subscriber.wait(2).await;
    assert_eq!((got[0].id(), got[1].id()), ("d-1", "d-1"));
    assert_eq!(got[0].header("ce-source"), got[1].header("ce-source"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_secret_that_changes_in_the_file_is_the_one_that_counts() {
    let subscriber = Subscriber::start().await;
    let yaml = example(&subscriber.url);
    let mesh = Mesh::start(&yaml).await;
    mesh.rewrite(&yaml.replace(SECRET, "the-new-one"));
    eventually("the new secret", async || {
        let delivery = Delivery::of("push", "d-1", PUSH).signed(sha_256("the-new-one", PUSH));
        (delivery.send(&mesh).await.status == 202).then_some(())
    })
    .await;
    assert_eq!(Delivery::of("push", "d-2", PUSH).send(&mesh).await.status, 400);
}

#[tokio::test(flavor = "multi_thread")]
async fn every_published_example_payload_becomes_the_event_that_knative_makes() {
    let subscriber = Subscriber::start().await;
    let examples = published_examples();
    let names: BTreeSet<&str> = examples.iter().map(|(name, _)| name.as_str()).collect();
    let names: Vec<&str> = names.into_iter().collect();
    let structured = trigger(
        "structured",
        &format!("{}structured", subscriber.url),
        "  delivery: {format: json}\n",
        &[],
    );
    let yaml = example(&subscriber.url)
        .replace("[push, issues, pull_request, release]", &format!("[{}]", names.join(", ")));
    let mesh = Mesh::start(&format!("{yaml}{structured}")).await;
    for (number, (name, body)) in examples.iter().enumerate() {
        let id = format!("{name}-{number}");
        let delivery = Delivery::of(name, &id, body);
        let delivery = match number % 3 {
            0 => delivery,
            1 => delivery.sha_1(),
            _ => delivery.form(),
        };
        let answer = delivery.send(&mesh).await;
        assert_eq!(answer.status, 202, "{id}: {}", answer.body);
    }
    for path in ["/everything", "/structured"] {
        eventually("every example", async || {
            (at(&subscriber, path).len() >= examples.len()).then_some(())
        })
        .await;
    }
    let number = |id: &str| id.rsplit('-').next().unwrap().parse::<usize>().unwrap();
    for got in at(&subscriber, "/everything") {
        let (name, body) = &examples[number(got.id())];
        assert_eq!(got.header("ce-type"), format!("dev.knative.source.github.{name}"));
        assert_eq!(got.header("content-type"), "application/json");
        assert_eq!(got.body.as_ref(), body, "{name}: the payload is GitHub's, byte for byte");
    }
    for got in at(&subscriber, "/structured") {
        let event: BTreeMap<String, Value> = serde_json::from_slice(&got.body).expect("an event");
        let (name, body) = &examples[number(event["id"].as_str().expect("an id"))];
        check(name, &event, &serde_json::from_slice(body).expect("JSON"));
    }
}

/// Compares the attributes of an event with what the table says about its payload.
fn check(name: &str, event: &BTreeMap<String, Value>, payload: &Value) {
    const CONTEXT: [&str; 7] =
        ["specversion", "id", "type", "source", "subject", "datacontenttype", "data"];
    assert_eq!(event["source"], "https://github.com/acme/shop");
    assert!(!event.contains_key("time"), "GitHub does not say when");
    let wanted = expected(name, payload);
    let subject = event.get("subject").and_then(Value::as_str).map(str::to_owned);
    if is_newer(name) {
        assert!(subject.is_some_and(|subject| !subject.is_empty()), "{name}: {event:?}");
    } else {
        assert_eq!(subject, wanted.subject, "subject of {name}");
    }
    let mut extensions = event.clone();
    // What the broker adds to every event is not the source's.
    extensions.retain(|name, _| !CONTEXT.contains(&name.as_str()) && !name.starts_with("knative"));
    assert_eq!(extensions, wanted.extensions, "extensions of {name}");
}

/// The payloads GitHub's SDK publishes, by event name; the script fetches them once into the target directory.
fn published_examples() -> Vec<(String, Vec<u8>)> {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/services/github-payloads");
    let into = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("github-payloads");
    let output = Command::new(script).arg(&into).output().expect("the script runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let index = std::fs::read(into.join("index.json")).expect("the payloads");
    let index: Vec<Value> = serde_json::from_slice(&index).expect("JSON");
    let mut all = Vec::new();
    for event in &index {
        let name = event["name"].as_str().expect("a name").to_owned();
        for example in event["examples"].as_array().expect("examples") {
            all.push((name.clone(), serde_json::to_vec_pretty(example).expect("JSON")));
        }
    }
    assert!(all.len() > 200, "only {} examples", all.len());
    all.sort_by(|a, b| a.0.cmp(&b.0));
    all
}
