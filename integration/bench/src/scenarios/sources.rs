//! Sources against bare clients of the same systems, web hooks against plain ingest, and kills in the middle.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::time::Instant;

use super::control::ready;
use super::{Baseline, Ratio, account, drained, everything, load, megabytes, with_oracle};
use crate::Bench;
use crate::api::Api;
use crate::bare::{self, Role};
use crate::load::{Ids, Load, Pace, Until, What};
use crate::mesh::{Mesh, until, yaml};
use crate::oracle::{Oracle, Verdict};
use crate::peers::kafka::Kafka;
use crate::peers::nats::Nats;
use crate::peers::rabbitmq::RabbitMq;
use crate::peers::redis::Redis;
use crate::peers::{Peer, Services, text};
use crate::report::Figure;

/// Bytes of a message.
const SIZE: usize = 1024;

/// Of a web hook's payload.
const HOOK_SIZE: usize = 10 << 10;

/// How long a source may take from its manifest to its first message: some systems let nobody into a group before a while.
const PATIENCE: Duration = Duration::from_secs(120);

/// Turns, of which the middle one counts.
const TURNS: usize = 3;

/// From the first message to the last, once read by a bare client and once delivered by the mesh, which is held to no more
/// than to accepting messages of that size over HTTP: some clients read faster than anybody can post.
pub(super) async fn queue<P: Peer>(bench: &Bench, full: u64) -> anyhow::Result<Vec<Figure>> {
    let (span, count) = (bench.span() / 4, bench.count(full));
    let posted = async || -> anyhow::Result<f64> {
        Ok(Baseline::start().await?.seen(SIZE, Pace::Closed, span).await?.rate)
    };
    let peer = P::start(Services::new()?).await?;
    let (mut turns, mut clients, mut verdict) = (Vec::new(), Vec::new(), Verdict::default());
    let mut before = posted().await?;
    for turn in 0..TURNS {
        let client = read(&peer, &format!("bare{turn}"), count).await?;
        let (delivered, found) = delivered(bench, &peer, &format!("mesh{turn}"), count).await?;
        let after = posted().await?;
        turns.push((delivered, client.min(f64::midpoint(before, after))));
        clients.push(format!("{client:.0}"));
        (before, verdict) = (after, verdict + found);
    }
    let Ratio { middle, detail, .. } = Ratio::of(turns);
    let detail = format!("{detail}; a bare client reads {}", clients.join(", "));
    let name = format!("{} to subscriber", P::NAME);
    let figure = Figure::at_least(&name, middle, 0.5, "x bare client", detail);
    Ok(vec![figure.with(verdict)])
}

/// Messages a second that a bare client reads.
async fn read<P: Peer>(peer: &P, place: &str, count: u64) -> anyhow::Result<f64> {
    peer.place(place).await?;
    peer.fill(place, 0..count, SIZE).await?;
    let first = Mutex::new(None);
    peer.drain(place, count, || *first.lock().expect("one thread") = Some(Instant::now())).await?;
    let began = first.into_inner().expect("one thread").unwrap_or_else(Instant::now);
    Ok(rate(count, began.elapsed()))
}

/// Messages a second that the mesh delivers.
async fn delivered<P: Peer>(
    bench: &Bench,
    peer: &P,
    place: &str,
    count: u64,
) -> anyhow::Result<(f64, Verdict)> {
    let (ids, oracle) = accepted(count);
    peer.place(place).await?;
    peer.fill(place, 0..count, SIZE).await?;
    let (_mesh, _subscriber) = reading(bench, peer, place, (&ids, &oracle)).await?;
    until("the first message", PATIENCE, || oracle.arrived() > 0).await?;
    let (began, before) = (Instant::now(), oracle.arrived());
    drained(&oracle).await;
    Ok((rate(count - before, began.elapsed()), oracle.verdict(|_| true)))
}

/// Resident memory with a source of each kind that waits for something to happen.
pub(super) async fn idle(bench: &Bench) -> anyhow::Result<Vec<Figure>> {
    let (kafka, nats) =
        (Kafka::start(Services::new()?).await?, Nats::start(Services::new()?).await?);
    let rabbitmq = RabbitMq::start(Services::new()?).await?;
    let redis = Redis::start(Services::new()?).await?;
    let others = Services::new()?;
    let couchdb = text(&others.up("couchdb").await?, "url")?;
    let prometheus = text(&others.up("prometheus").await?, "url")?;
    let places = tokio::try_join!(
        kafka.place("idle"),
        nats.place("idle"),
        rabbitmq.place("idle"),
        redis.place("idle")
    );
    places?;
    let manifests = [
        kafka.manifest("idle"),
        nats.manifest("idle"),
        rabbitmq.manifest("idle"),
        redis.manifest("idle"),
        HOOK.to_owned(),
        OTHERS.replace("COUCHDB", &couchdb).replace("PROMETHEUS", &prometheus),
    ];
    let mesh = Mesh::start(&bench.weft, &(yaml(&[]) + &manifests.concat())).await?;
    let mut api = Api::connect(&mesh).await?;
    let start = Instant::now();
    for (version, plural) in NINE {
        let path = format!("/apis/sources.knative.dev/{version}/{plural}");
        while ready(&mut api, &path).await? == 0 {
            anyhow::ensure!(start.elapsed() < PATIENCE, "no {plural} becomes Ready");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
    let resident = megabytes(mesh.settled().await?);
    let detail = "Kafka, NATS, RabbitMQ, Redis, CouchDB, Prometheus are connected to; GitHub, GitLab, Ceph wait for hooks";
    Ok(vec![Figure::at_most(
        "resident memory, nine sources",
        resident,
        45.0,
        "MB",
        detail.to_owned(),
    )])
}

/// The kinds of [`idle`].
const NINE: [(&str, &str); 9] = [
    ("v1", "kafkasources"),
    ("v1alpha1", "natssources"),
    ("v1alpha1", "rabbitmqsources"),
    ("v1alpha1", "redisstreamsources"),
    ("v1alpha1", "couchdbsources"),
    ("v1alpha1", "prometheussources"),
    ("v1alpha1", "githubsources"),
    ("v1alpha1", "gitlabsources"),
    ("v1alpha1", "cephsources"),
];

/// Those of them that are filled nowhere in this bench.
const OTHERS: &str = "---
apiVersion: v1
kind: Secret
metadata: {name: others}
stringData: {url: 'COUCHDB', token: it-is-a-secret-to-everybody}
---
apiVersion: sources.knative.dev/v1alpha1
kind: CouchDbSource
metadata: {name: idle}
spec:
  credentials: {name: others}
  database: _users
  sink: {ref: {apiVersion: eventing.knative.dev/v1, kind: Broker, name: default}}
---
apiVersion: sources.knative.dev/v1alpha1
kind: PrometheusSource
metadata: {name: idle}
spec:
  serverURL: PROMETHEUS
  promQL: up
  schedule: '*/10 * * * * *'
  sink: {ref: {apiVersion: eventing.knative.dev/v1, kind: Broker, name: default}}
---
apiVersion: sources.knative.dev/v1alpha1
kind: GitLabSource
metadata: {name: gitlab, annotations: {weft.dev/register: 'false'}}
spec:
  projectUrl: https://gitlab.example/acme/shop
  eventTypes: [push_events]
  secretToken: {secretKeyRef: {name: others, key: token}}
  sink: {ref: {apiVersion: eventing.knative.dev/v1, kind: Broker, name: default}}
---
apiVersion: sources.knative.dev/v1alpha1
kind: CephSource
metadata: {name: idle}
spec:
  port: '8888'
  secretToken: {secretKeyRef: {name: others, key: token}}
  sink: {ref: {apiVersion: eventing.knative.dev/v1, kind: Broker, name: default}}
";

/// Ten thousand messages each, and kill -9 in the middle.
pub(super) async fn kills(bench: &Bench) -> anyhow::Result<Vec<Figure>> {
    Ok(vec![
        killed::<Kafka>(bench).await?,
        killed::<Nats>(bench).await?,
        killed::<RabbitMq>(bench).await?,
        killed::<Redis>(bench).await?,
    ])
}

async fn killed<P: Peer>(bench: &Bench) -> anyhow::Result<Figure> {
    let peer = P::start(Services::new()?).await?;
    let count = bench.count(10_000);
    let (ids, oracle) = accepted(count);
    peer.place("mesh").await?;
    peer.fill("mesh", 0..count, SIZE).await?;
    let (mut mesh, _subscriber) = reading(bench, &peer, "mesh", (&ids, &oracle)).await?;
    until("some messages", PATIENCE, || oracle.arrived() > count / 10).await?;
    mesh.kill().await?;
    let before = oracle.arrived();
    mesh.restart().await?;
    drained(&oracle).await;
    let verdict = oracle.verdict(|_| true);
    #[expect(clippy::cast_precision_loss, reason = "a count for people")]
    let lost = verdict.lost as f64;
    let detail =
        format!("killed when {before} of {count} had come; {} came twice", verdict.duplicates);
    let name = format!("{} lost over kill -9", P::NAME);
    Ok(Figure::at_most(&name, lost, 0.0, "messages", detail).with(verdict))
}

/// An account in which so many messages were accepted, by the system.
fn accepted(count: u64) -> (Arc<Ids>, Arc<Oracle>) {
    let (ids, oracle) = account();
    ids.skip(count);
    (0..count).for_each(|id| oracle.accepted(id));
    (ids, oracle)
}

/// A mesh whose source reads a place, and delivers it to the oracle.
async fn reading<P: Peer>(
    bench: &Bench,
    peer: &P,
    place: &str,
    (ids, oracle): (&Arc<Ids>, &Arc<Oracle>),
) -> anyhow::Result<(Mesh, String)> {
    let subscriber = bare::serve(Role::Oracle(oracle.clone(), ids.clone())).await?;
    let resources = yaml(&[everything("all", &subscriber)]) + &peer.manifest(place);
    Ok((Mesh::start(&bench.weft, &resources).await?, subscriber))
}

/// A signed web hook of GitHub's against plain ingest of the same bytes.
pub(super) async fn webhook(bench: &Bench) -> anyhow::Result<Vec<Figure>> {
    let (ids, oracle) = account();
    let subscriber = with_oracle(&ids, &oracle).await?;
    let mut paused = everything("paused", &subscriber);
    paused.annotations = vec!["weft.dev/paused: \"true\"".to_owned()];
    let mesh = Mesh::start(&bench.weft, &(yaml(&[paused]) + HOOK)).await?;
    let shape = load(&mesh.events, Pace::Closed, Until::Elapsed(bench.span() / 2));
    let plain = Load { size: HOOK_SIZE, what: What::SignedEvents(SECRET), ..shape };
    let path = "/sources/default/hook".to_owned();
    let signed = Load { path, what: What::Hooks(SECRET), ..plain.clone() };
    let mut turns = Vec::new();
    for _ in 0..TURNS {
        let before = plain.run(&ids, &oracle).await?.rate;
        let hook = signed.run(&ids, &oracle).await?.rate;
        let after = plain.run(&ids, &oracle).await?.rate;
        turns.push((hook, f64::midpoint(before, after)));
    }
    let Ratio { middle, detail, .. } = Ratio::of(turns);
    Ok(vec![Figure::at_least("GitHub web hook, signed", middle, 0.8, "x plain ingest", detail)])
}

const SECRET: &str = "it-is-a-secret-to-everybody";

const HOOK: &str = "---
apiVersion: v1
kind: Secret
metadata: {name: github}
stringData: {secretToken: it-is-a-secret-to-everybody}
---
apiVersion: sources.knative.dev/v1alpha1
kind: GitHubSource
metadata: {name: hook, annotations: {weft.dev/register: 'false'}}
spec:
  ownerAndRepository: acme/shop
  eventTypes: ['*']
  secretToken: {secretKeyRef: {name: github, key: secretToken}}
  sink: {ref: {apiVersion: eventing.knative.dev/v1, kind: Broker, name: default}}
";

#[expect(clippy::cast_precision_loss, reason = "a rate for people")]
fn rate(count: u64, span: Duration) -> f64 {
    count as f64 / span.as_secs_f64()
}
