//! The contract of all sinks. Each clause is one function; [`kept`] walks them on one instance of the system.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use http::header::{ALLOW, RETRY_AFTER};
use serde_json::{Value, json};

use super::downstream::{Downstream, start};
use super::{RECOVERY, address, post, ready};
use crate::harness::eventually::eventually_within;
use crate::harness::mesh::{BROKER, Mesh};
use crate::harness::request;
use crate::harness::services::Services;
use crate::harness::subscriber::{Got, Subscriber};

/// What no system lets in.
const WRONG: &str = "this-is-not-the-password";

/// Events that are posted before the system is killed, and after it is back.
const SOME: usize = 50;

/// Walks all clauses.
pub(crate) async fn kept<D: Downstream>() {
    let (services, published, downstream) = start::<D>(&format!("{}-sink", D::SERVICE)).await;
    says_that_credentials_are_refused_and_recovers(&downstream).await;
    takes_events_and_batches_and_refuses_the_rest(&downstream).await;
    hands_back_the_same_event_to_the_source(&downstream).await;
    loses_no_accepted_event_when_the_system_is_killed(&downstream, &services, &published).await;
}

fn keeps_secrets<D: Downstream>(downstream: &D, mesh: &Mesh, resource: &Value) {
    for shown in [mesh.log(), resource["status"].to_string()] {
        for secret in [downstream.password(), WRONG] {
            assert!(!shown.contains(secret), "{} shows a secret", D::PLURAL);
        }
    }
}

async fn says_that_credentials_are_refused_and_recovers<D: Downstream>(downstream: &D) {
    let mesh = Mesh::start(&downstream.manifest_with(WRONG)).await;
    let refused = ready(&mesh, D::PLURAL, "False", "CredentialsRefused").await;
    keeps_secrets(downstream, &mesh, &refused);
    let answer = post(&address(&refused), "refused", &[], "{}").await;
    assert_eq!(answer.status, 503, "{}", answer.body);
    mesh.rewrite(&downstream.manifest());
    let good = ready(&mesh, D::PLURAL, "True", "").await;
    assert_eq!(post(&address(&good), "good", &[], "{}").await.status, 202);
    assert_eq!(downstream.ids().await, ["good"]);
    keeps_secrets(downstream, &mesh, &good);
}

async fn takes_events_and_batches_and_refuses_the_rest<D: Downstream>(downstream: &D) {
    let before = downstream.ids().await.len();
    let mesh = Mesh::start(&downstream.manifest()).await;
    let url = address(&ready(&mesh, D::PLURAL, "True", "").await);
    assert_eq!(url, format!("{}/sinks/default/sink", mesh.events));
    let answer = post(&url, "one", &[], r#"{"a":1}"#).await;
    assert_eq!((answer.status, answer.body.as_str()), (202, ""));
    let batch = [("content-type".to_owned(), "application/cloudevents-batch+json".to_owned())];
    let event = |id: &str| json!({"specversion": "1.0", "id": id, "source": "/s", "type": "t"});
    let events = json!([event("b1"), event("b2"), event("b3")]).to_string();
    assert_eq!(request::post(&url, &batch, events).await.status, 202);
    let wrong = json!([event("b4"), {"specversion": "1.0"}]).to_string();
    assert_eq!(request::post(&url, &batch, wrong).await.status, 400);
    assert_eq!(request::post(&url, &[], "data").await.status, 400);
    let avro = [("content-type".to_owned(), "application/cloudevents+avro".to_owned())];
    assert_eq!(request::post(&url, &avro, "data").await.status, 415);
    assert_eq!(post(&url, "huge", &[], &"x".repeat(2 << 20)).await.status, 413);
    let answer = request::get(&url).await;
    let allowed = answer.headers[ALLOW].to_str().expect("text");
    assert_eq!((answer.status, allowed), (405, "POST, OPTIONS"));
    let unknown = format!("{}/sinks/default/other", mesh.events);
    assert_eq!(post(&unknown, "e", &[], "{}").await.status, 404);
    assert_eq!(downstream.ids().await[before..], ["one", "b1", "b2", "b3"]);
}

/// Through the system and out of it by the source of the same system, an event stays what it is to the byte.
async fn hands_back_the_same_event_to_the_source<D: Downstream>(downstream: &D) {
    let subscriber = Subscriber::start().await;
    let yaml = format!("{}{}", downstream.manifest(), downstream.source(&subscriber.url));
    let mesh = Mesh::start(&yaml).await;
    let url = address(&ready(&mesh, D::PLURAL, "True", "").await);
    ready(&mesh, D::SOURCES, "True", "").await;
    let headers = [
        ("ce-specversion", "1.0"),
        ("ce-id", "a%20b"),
        ("ce-source", "/round/trip"),
        ("ce-type", "dev.weft.round"),
        ("ce-subject", "gr%C3%B6%C3%9Fe"),
        ("ce-time", "2026-01-02T03:04:05.678Z"),
        ("ce-dataschema", "https://schema.example/7"),
        ("ce-partitionkey", "k%201"),
        ("ce-number", "7"),
        ("content-type", "application/octet-stream; v=\"1\""),
    ];
    let headers = headers.map(|(name, value)| (name.to_owned(), value.to_owned()));
    let body = b"\x00\xff[\"not a list\"]\r\n";
    assert_eq!(request::post(&url, &headers, &body[..]).await.status, 202);
    let got = eventually_within(RECOVERY, "the event to come back", async || {
        subscriber.got().into_iter().find(|got: &Got| got.id() == "a%20b")
    })
    .await;
    let kept = got.headers.iter().map(|(name, value)| (name.as_str(), value.to_str()));
    let kept = kept.filter(|(name, _)| name.starts_with("ce-") || *name == "content-type");
    let kept: BTreeMap<_, _> = kept.map(|(name, value)| (name, value.expect("text"))).collect();
    let sent: BTreeMap<_, _> = headers.iter().map(|(name, value)| (&**name, &**value)).collect();
    assert_eq!((kept, &got.body[..]), (sent, &body[..]));
}

/// Whatever was answered with 202, before the system was killed, while, and after, is there; whatever else was told when to
/// come again. A trigger does.
async fn loses_no_accepted_event_when_the_system_is_killed<D: Downstream>(
    downstream: &D,
    services: &Services,
    published: &Value,
) {
    let (version, kind) = D::KIND;
    let trigger = format!(
        "---\napiVersion: eventing.knative.dev/v1\nkind: Trigger\nmetadata:\n  name: to-sink\nspec:\n  broker: default\n  \
         subscriber: {{ref: {{apiVersion: {version}, kind: {kind}, name: sink}}}}\n"
    );
    let mut mesh = Mesh::start(&format!("{BROKER}{trigger}{}", downstream.manifest())).await;
    let url = address(&ready(&mesh, D::PLURAL, "True", "").await);
    let (accepted, refused, over) =
        (AtomicUsize::new(0), AtomicUsize::new(0), AtomicBool::new(false));
    let traffic = async {
        let mut ids = BTreeSet::new();
        while !over.load(Ordering::SeqCst) {
            let id = format!("direct-{}", ids.len() + refused.load(Ordering::SeqCst));
            let answer = post(&url, &id, &[], "{}").await;
            if answer.status == 202 {
                ids.insert(id);
                accepted.store(ids.len(), Ordering::SeqCst);
            } else {
                assert_eq!(answer.status, 503, "{}", answer.body);
                assert!(answer.headers.contains_key(RETRY_AFTER), "{:?}", answer.headers);
                refused.fetch_add(1, Ordering::SeqCst);
            }
        }
        ids
    };
    let more = async |count: &AtomicUsize, more: usize| {
        let wanted = count.load(Ordering::SeqCst) + more;
        eventually_within(RECOVERY, &format!("{wanted} answers"), async || {
            (count.load(Ordering::SeqCst) >= wanted).then_some(())
        })
        .await;
    };
    let story = async {
        more(&accepted, SOME).await;
        services.kill(published).await;
        ready(&mesh, D::PLURAL, "False", "UpstreamUnavailable").await;
        more(&refused, 1).await;
        for number in 0..20 {
            mesh.send("dev.weft.test", &format!("trigger-{number}")).await;
        }
        let again = services.up(D::SERVICE).await;
        assert_eq!(without_pid(&again), without_pid(published), "it comes back where it was");
        ready(&mesh, D::PLURAL, "True", "").await;
        more(&accepted, SOME).await;
        over.store(true, Ordering::SeqCst);
    };
    let (mut ids, ()) = tokio::join!(traffic, story);
    ids.extend((0..20).map(|number| format!("trigger-{number}")));
    eventually_within(RECOVERY, "everything that was accepted", async || {
        let there: BTreeSet<String> = downstream.ids().await.into_iter().collect();
        ids.is_subset(&there).then_some(())
    })
    .await;
    keeps_secrets(downstream, &mesh, &super::resource(&mesh, D::PLURAL).await);
    mesh.terminate();
    assert!(mesh.exit().await.success());
    let log = mesh.log();
    assert!(!log.contains("was cut off") && !log.contains("goes on"), "{log}");
}

fn without_pid(published: &Value) -> Value {
    let mut published = published.clone();
    published["pid"] = Value::Null;
    published
}
