//! Real GitHub payloads, signed as GitHub signs them, through the whole mesh.

use std::path::PathBuf;
use std::process::Command;

use hmac::{Hmac, Mac};
use sha2::Sha256;

use crate::harness::mesh::Mesh;
use crate::harness::request::{self, Answer};
use crate::harness::subscriber::Subscriber;

const SECRET: &str = "it-is-a-secret-to-everybody";

fn example(subscriber: &str) -> String {
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/../examples/github/mesh.yaml");
    let text = std::fs::read_to_string(file).expect("the example");
    text.replace("http://127.0.0.1:9090/", subscriber)
}

fn signature(body: &[u8]) -> String {
    let mut mac = Hmac::<Sha256>::new_from_slice(SECRET.as_bytes()).expect("any key");
    mac.update(body);
    let hex: String = mac.finalize().into_bytes().iter().map(|b| format!("{b:02x}")).collect();
    format!("sha256={hex}")
}

async fn deliver(mesh: &Mesh, event: &str, id: &str, body: &[u8], signature: &str) -> Answer {
    let headers = [
        ("x-github-event", event),
        ("x-github-delivery", id),
        ("x-hub-signature-256", signature),
        ("content-type", "application/json"),
    ];
    let headers = headers.map(|(name, value)| (name.to_owned(), value.to_owned()));
    request::post(&format!("{}/sources/default/shop", mesh.events), &headers, body.to_vec()).await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_example_takes_a_signed_push_and_routes_it() {
    let subscriber = Subscriber::start().await;
    let mesh = Mesh::start(&example(&subscriber.url)).await;
    let body = br#"{"ref":"refs/heads/main", "compare":"https://github.com/acme/shop/compare/a...b","repository":{"name":"shop","owner":{"login":"acme"}},"sender":{"login":"octocat"}}"#;
    let answer = deliver(&mesh, "push", "d-1", body, &signature(body)).await;
    assert_eq!(answer.status, 202, "{}", answer.body);
    let got = subscriber.wait(2).await;
    let mut paths: Vec<_> = got.iter().map(|got| got.path.as_str()).collect();
    paths.sort_unstable();
    assert_eq!(paths, ["/everything", "/main-branch"]);
    assert_eq!(got[0].header("ce-type"), "dev.knative.source.github.push");
    assert_eq!(got[0].header("ce-source"), "https://github.com/acme/shop");
    assert_eq!(got[0].header("ce-subject"), "a...b");
    assert_eq!(got[0].id(), "d-1");
    assert_eq!(got[0].body.as_ref(), body, "the payload is GitHub's, byte for byte");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_signature_is_refused_and_nothing_is_kept() {
    let subscriber = Subscriber::start().await;
    let mesh = Mesh::start(&example(&subscriber.url)).await;
    let answer = deliver(&mesh, "push", "d-1", b"{}", &signature(b"{ }")).await;
    assert!((400..404).contains(&answer.status), "{}", answer.status);
    assert!(!mesh.log().contains(SECRET));
    let kept = mesh.weft_ok(&["parked", "list"]).await;
    assert_eq!(kept.trim(), "nothing is parked");
    assert!(subscriber.got().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn every_published_example_payload_becomes_an_event() {
    let subscriber = Subscriber::start().await;
    let examples = published_examples();
    let mut names: Vec<&str> = examples.iter().map(|(name, _)| name.as_str()).collect();
    names.dedup();
    let yaml = example(&subscriber.url)
        .replace("[push, issues, pull_request, release]", &format!("[{}]", names.join(", ")));
    let mesh = Mesh::start(&yaml).await;
    for (number, (name, body)) in examples.iter().enumerate() {
        let id = format!("{name}-{number}");
        let answer = deliver(&mesh, name, &id, body, &signature(body)).await;
        assert_eq!(answer.status, 202, "{id}: {}", answer.body);
    }
    let everything = |subscriber: &Subscriber| {
        let got = subscriber.got();
        got.into_iter().filter(|got| got.path == "/everything").collect::<Vec<_>>()
    };
    crate::harness::eventually::eventually("every example", async || {
        (everything(&subscriber).len() >= examples.len()).then_some(())
    })
    .await;
    for got in everything(&subscriber) {
        let number: usize = got.id().rsplit('-').next().unwrap().parse().unwrap();
        let (name, body) = &examples[number];
        assert_eq!(got.header("ce-type"), format!("dev.knative.source.github.{name}"));
        assert_eq!(got.body.as_ref(), body, "{name}");
    }
}

/// The payloads GitHub's SDK publishes, by event name; the script fetches them once into the target directory.
fn published_examples() -> Vec<(String, Vec<u8>)> {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/services/github-payloads");
    let into = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("github-payloads");
    let output = Command::new(script).arg(&into).output().expect("the script runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let index = std::fs::read(into.join("index.json")).expect("the payloads");
    let index: Vec<serde_json::Value> = serde_json::from_slice(&index).expect("JSON");
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
