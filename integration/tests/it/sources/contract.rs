//! The contract of all sources. Each clause is one function; [`kept`] walks them on one instance of the system.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::Value;

use super::upstream::{Upstream, condition, resource};
use crate::harness::eventually::{eventually, eventually_within};
use crate::harness::mesh::{BROKER, Mesh, trigger};
use crate::harness::services::Services;
use crate::harness::subscriber::{Got, Reply, Subscriber};

/// To the default broker.
const TO_BROKER: &str = "{ref: {apiVersion: eventing.knative.dev/v1, kind: Broker, name: default}}";

/// How long a system may take to stop, start and be found again: sources come back after a minute at most.
const RECOVERY: Duration = Duration::from_secs(120);

/// How many messages flow when the mesh is killed.
const MANY: u64 = 10_000;

/// The most messages that may come again after a kill: what a source may have read and not acknowledged, and what a trigger
/// may have delivered without the log knowing.
const IN_FLIGHT: usize = 2_500;

/// Walks all clauses.
pub(crate) async fn kept<U: Upstream>() {
    let services = Services::of(U::MODULE);
    let mut upstream = U::start(services).await;
    hands_over_every_message_once_and_stops(&upstream).await;
    says_that_credentials_are_refused_and_recovers(&upstream).await;
    gives_again_what_the_sink_did_not_acknowledge(&upstream).await;
    parks_what_the_sink_refuses_for_good(&upstream).await;
    loses_nothing_to_kill_9(&upstream).await;
    waits_for_a_system_that_is_away(&mut upstream).await;
}

async fn mesh_with<U: Upstream>(upstream: &U, source: &str, subscriber: &Subscriber) -> Mesh {
    let yaml = format!("{BROKER}{}{source}", trigger("t", &subscriber.url, "", &[]));
    let arguments = upstream.arguments();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    Mesh::start_with(&yaml, &arguments).await
}

async fn ready<U: Upstream>(mesh: &Mesh) {
    until::<U>(mesh, "ready", |resource| {
        condition(resource, "Ready").is_some_and(|(status, _)| status == "True")
    })
    .await;
}

async fn until<U: Upstream>(mesh: &Mesh, what: &str, holds: impl Fn(&Value) -> bool) -> Value {
    eventually_within(RECOVERY, &format!("{} to be {what}", U::MODULE), async || {
        let resource = resource(mesh, U::MODULE).await;
        holds(&resource).then_some(resource)
    })
    .await
}

/// How often each number arrived, and under which ids.
fn arrived<U: Upstream>(upstream: &U, got: &[Got]) -> BTreeMap<u64, Vec<String>> {
    let mut arrived: BTreeMap<u64, Vec<String>> = BTreeMap::new();
    for event in got {
        if let Some(number) = upstream.number(event) {
            arrived.entry(number).or_default().push(event.id().to_owned());
        }
    }
    arrived
}

async fn all<U: Upstream>(
    upstream: &U,
    subscriber: &Subscriber,
    numbers: std::ops::Range<u64>,
) -> BTreeMap<u64, Vec<String>> {
    eventually_within(
        RECOVERY,
        &format!("every message of {}: {numbers:?}", U::MODULE),
        async || {
            let mut arrived = arrived(upstream, &subscriber.got());
            arrived.retain(|number, _| numbers.contains(number));
            (arrived.len() as u64 == numbers.end - numbers.start).then_some(arrived)
        },
    )
    .await
}

fn keeps_secrets<U: Upstream>(upstream: &U, mesh: &Mesh, resource: &Value, got: &[Got]) {
    let (log, status) = (mesh.log(), resource["status"].to_string());
    for secret in upstream.secrets() {
        assert!(!log.contains(&secret), "a secret is in the log of {}", U::MODULE);
        assert!(!status.contains(&secret), "a secret is in the status of {}", U::MODULE);
        for event in got {
            let shown = format!("{:?} {}", event.headers, String::from_utf8_lossy(&event.body));
            assert!(!shown.contains(&secret), "a secret is in an event of {}", U::MODULE);
        }
    }
}

async fn hands_over_every_message_once_and_stops<U: Upstream>(upstream: &U) {
    let subscriber = Subscriber::start().await;
    let mut mesh = mesh_with(upstream, &upstream.manifest(TO_BROKER), &subscriber).await;
    ready::<U>(&mesh).await;
    upstream.produce(&mesh, 0..200).await;
    let arrived = all(upstream, &subscriber, 0..200).await;
    let twice: Vec<_> = arrived.iter().filter(|(_, ids)| ids.len() > 1).collect();
    assert!(twice.is_empty(), "{}: {twice:?}", U::MODULE);
    let got = subscriber.got();
    upstream.check(got.iter().find(|event| upstream.number(event) == Some(7)).expect("number 7"));
    keeps_secrets(upstream, &mesh, &resource(&mesh, U::MODULE).await, &got);
    mesh.terminate();
    assert!(mesh.exit().await.success());
    let log = mesh.log();
    assert!(!log.contains("was cut off") && !log.contains("goes on"), "{log}");
}

async fn says_that_credentials_are_refused_and_recovers<U: Upstream>(upstream: &U) {
    let Some((refused, reason)) = upstream.refused(TO_BROKER) else { return };
    let subscriber = Subscriber::start().await;
    let mesh = mesh_with(upstream, &refused, &subscriber).await;
    let said = until::<U>(&mesh, "refused", |resource| {
        condition(resource, "Ready") == Some(("False", reason))
    })
    .await;
    keeps_secrets(upstream, &mesh, &said, &[]);
    let good = upstream.manifest(TO_BROKER);
    mesh.rewrite(&format!("{BROKER}{}{good}", trigger("t", &subscriber.url, "", &[])));
    ready::<U>(&mesh).await;
    upstream.produce(&mesh, 1000..1010).await;
    all(upstream, &subscriber, 1000..1010).await;
}

/// The sink takes an event and dies before it answers; and again, at its second attempt.
async fn gives_again_what_the_sink_did_not_acknowledge<U: Upstream>(upstream: &U) {
    let seen = std::sync::Mutex::new(BTreeMap::<String, u32>::new());
    let sink = Subscriber::scripted(move |event| {
        let mut seen = seen.lock().expect("no panic under the lock");
        let times = seen.entry(event.id().to_owned()).or_default();
        *times += 1;
        Reply::status(if *times < 3 { 500 } else { 202 })
    })
    .await;
    let nobody = Subscriber::start().await;
    let mesh =
        mesh_with(upstream, &upstream.manifest(&format!("{{uri: \"{}\"}}", sink.url)), &nobody)
            .await;
    ready::<U>(&mesh).await;
    upstream.produce(&mesh, 2000..2010).await;
    eventually_within(RECOVERY, &format!("the third attempts of {}", U::MODULE), async || {
        let arrived = arrived(upstream, &sink.got());
        (2000..2010).all(|n| arrived.get(&n).is_some_and(|ids| ids.len() >= 3)).then_some(())
    })
    .await;
    for (number, ids) in arrived(upstream, &sink.got()) {
        assert!(ids.iter().all(|id| *id == ids[0]), "{}: {number}: {ids:?}", U::MODULE);
    }
}

/// A sink that says of the first event it gets that it never wants it.
async fn parks_what_the_sink_refuses_for_good<U: Upstream>(upstream: &U) {
    let first = std::sync::Mutex::new(None);
    let sink = Subscriber::scripted(move |event| {
        let mut first = first.lock().expect("no panic under the lock");
        let refused = first.get_or_insert_with(|| event.id().to_owned());
        Reply::status(if event.id() == refused { 400 } else { 202 })
    })
    .await;
    let nobody = Subscriber::start().await;
    let source = upstream.manifest(&format!("{{uri: \"{}\"}}", sink.url));
    let mesh = mesh_with(upstream, &source, &nobody).await;
    ready::<U>(&mesh).await;
    upstream.produce(&mesh, 3000..3010).await;
    all(upstream, &sink, 3000..3010).await;
    let parked = mesh.data().join("parked");
    eventually("the message to be parked", async || {
        let places = std::fs::read_dir(&parked).ok()?;
        let files = places.filter_map(|place| std::fs::read_dir(place.ok()?.path()).ok());
        (files.map(Iterator::count).sum::<usize>() == 1).then_some(())
    })
    .await;
    until::<U>(&mesh, "told of what is parked", |resource| {
        condition(resource, "NothingParked") == Some(("False", "EventParked"))
            && condition(resource, "Ready").is_some_and(|(status, _)| status == "True")
    })
    .await;
}

async fn loses_nothing_to_kill_9<U: Upstream>(upstream: &U) {
    let subscriber = Subscriber::start().await;
    let mut mesh = mesh_with(upstream, &upstream.manifest(TO_BROKER), &subscriber).await;
    ready::<U>(&mesh).await;
    let numbers = 10_000..10_000 + MANY;
    let half = numbers.start + MANY / 2;
    upstream.produce(&mesh, numbers.start..half).await;
    eventually("messages to flow", async || (subscriber.got().len() > 500).then_some(())).await;
    mesh.kill().await;
    mesh.restart().await;
    upstream.produce(&mesh, half..numbers.end).await;
    let arrived = all(upstream, &subscriber, numbers).await;
    for (number, ids) in &arrived {
        assert!(ids.iter().all(|id| *id == ids[0]), "{}: {number}: {ids:?}", U::MODULE);
    }
    let again: usize = arrived.values().map(|ids| ids.len() - 1).sum();
    assert!(again <= IN_FLIGHT, "{}: {again} came again", U::MODULE);
}

/// Away at the start, there, away again, and back.
async fn waits_for_a_system_that_is_away<U: Upstream>(upstream: &mut U) {
    if !upstream.stop().await {
        return;
    }
    let subscriber = Subscriber::start().await;
    let mesh = mesh_with(upstream, &upstream.manifest(TO_BROKER), &subscriber).await;
    let away = |resource: &Value| {
        condition(resource, "Ready")
            .is_some_and(|(status, reason)| status == "False" && reason == "UpstreamUnavailable")
    };
    until::<U>(&mesh, "told of a system that is away", away).await;
    upstream.start_again().await;
    ready::<U>(&mesh).await;
    upstream.produce(&mesh, 4000..4010).await;
    all(upstream, &subscriber, 4000..4010).await;
    assert!(upstream.stop().await);
    until::<U>(&mesh, "told of a system that went away", away).await;
    upstream.start_again().await;
    ready::<U>(&mesh).await;
    upstream.produce(&mesh, 4010..4020).await;
    all(upstream, &subscriber, 4000..4020).await;
}
