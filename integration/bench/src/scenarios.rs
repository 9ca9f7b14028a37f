//! The scenarios, each a file; what they share.

use std::io::Write;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};

use crate::Bench;
use crate::bare::{self, Role};
use crate::load::{Ids, Load, Pace, Seen, Until, What};
use crate::mesh::{Mesh, Trigger, until, yaml};
use crate::oracle::Oracle;
use crate::peers::kafka::Kafka;
use crate::peers::nats::Nats;
use crate::peers::rabbitmq::RabbitMq;
use crate::peers::redis::Redis;
use crate::report::Figure;

mod control;
mod footprint;
mod isolation;
mod kill;
mod latency;
mod rates;
mod sources;
mod thin;

/// Their names, in the order they run.
pub(crate) const NAMES: &[&str] = &[
    "rates",
    "triggers",
    "latency",
    "isolation",
    "thin",
    "memory",
    "start",
    "recovery",
    "writes",
    "objects",
    "apply",
    "kubectl",
    "watchers",
    "kill",
    "kafka",
    "nats",
    "rabbitmq",
    "redis",
    "webhook",
    "source-kills",
    "sources",
];

/// Those that start real systems, which takes longer than anything else of a quick run; that the sources lose nothing, the
/// stories show.
const WITH_PEERS: &[&str] = &["kafka", "nats", "rabbitmq", "redis", "source-kills", "sources"];

/// Payload of the named figures.
const SIZE: usize = 256;

/// Connections of the named figures.
const CONNECTIONS: usize = 64;

/// How long the mesh may take to deliver what it accepted once the load is over.
const DRAIN: Duration = Duration::from_secs(300);

/// Runs the scenarios that were asked for, or all.
pub(crate) async fn run(bench: &Bench, only: &[String]) -> anyhow::Result<Vec<Figure>> {
    let mut figures = Vec::new();
    let wanted = |name: &&&str| {
        let unasked = only.is_empty() && !(bench.quick && WITH_PEERS.contains(name));
        unasked || only.iter().any(|asked| asked == **name)
    };
    for name in NAMES.iter().filter(wanted) {
        writeln!(std::io::stderr(), "bench: {name} …")?;
        let found = match *name {
            "rates" => rates::rates(bench).await,
            "triggers" => rates::triggers(bench).await,
            "latency" => latency::latency(bench).await,
            "isolation" => isolation::isolation(bench).await,
            "thin" => thin::thin(bench).await,
            "memory" => footprint::memory(bench).await,
            "start" => footprint::start(bench).await,
            "recovery" => footprint::recovery(bench).await,
            "writes" => control::writes(bench).await,
            "objects" => control::objects(bench).await,
            "apply" => control::triggers(bench).await,
            "kubectl" => control::kubectl(bench).await,
            "watchers" => control::watchers(bench).await,
            "kafka" => sources::queue::<Kafka>(bench, 200_000).await,
            "nats" => sources::queue::<Nats>(bench, 100_000).await,
            "rabbitmq" => sources::queue::<RabbitMq>(bench, 50_000).await,
            "redis" => sources::queue::<Redis>(bench, 150_000).await,
            "webhook" => sources::webhook(bench).await,
            "source-kills" => sources::kills(bench).await,
            "sources" => sources::idle(bench).await,
            _ => kill::kill(bench).await,
        };
        figures.extend(found.with_context(|| format!("scenario {name}"))?);
    }
    Ok(figures)
}

/// The middle ratio of several turns, because the speed of a shared machine changes from minute to minute.
struct Ratio {
    middle: f64,
    bare: f64,
    detail: String,
}

impl Ratio {
    /// Of rates and the baselines beside them, in requests a second.
    fn of(mut turns: Vec<(f64, f64)>) -> Self {
        turns.sort_by(|a, b| (a.0 / a.1).total_cmp(&(b.0 / b.1)));
        let (rate, bare) = turns.get(turns.len() / 2).copied().unwrap_or_default();
        let ratios: Vec<String> =
            turns.iter().map(|(rate, bare)| format!("{:.2}", rate / bare)).collect();
        let detail = format!("{rate:.0} of {bare:.0} requests/s; all turns {}", ratios.join(", "));
        Self { middle: rate / bare, bare, detail }
    }
}

/// A load of the named shape on `address`.
fn load(address: &str, pace: Pace, until: Until) -> Load {
    let path = "/default/default".to_owned();
    let (address, ty) = (address.to_owned(), one_type as fn(u64) -> String);
    Load {
        address,
        path,
        connections: CONNECTIONS,
        size: SIZE,
        pace,
        until,
        ty,
        what: What::Events,
    }
}

fn one_type(_: u64) -> String {
    "bench".to_owned()
}

/// A trigger that takes everything.
fn everything(name: &str, subscriber: &str) -> Trigger {
    let (name, subscriber) = (name.to_owned(), subscriber.to_owned());
    Trigger { name, ty: None, subscriber, annotations: Vec::new() }
}

/// The ids and the oracle of one scenario.
fn account() -> (Arc<Ids>, Arc<Oracle>) {
    (Arc::default(), Arc::default())
}

/// The bare baseline in a process of its own, as the mesh is.
struct Baseline {
    address: String,
    // Killed when dropped.
    _child: Child,
}

impl Baseline {
    async fn start() -> anyhow::Result<Self> {
        let mut child = Command::new(std::env::current_exe()?)
            .arg("--serve-baseline")
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()?;
        let out = child.stdout.take().context("its standard output")?;
        let line = BufReader::new(out).lines().next_line().await?;
        Ok(Self { address: line.context("its address")?, _child: child })
    }

    /// What a load of the named shape, but for the size of its events, sees of it.
    async fn seen(&self, size: usize, pace: Pace, span: Duration) -> anyhow::Result<Seen> {
        let (ids, oracle) = account();
        let shape = load(&self.address, pace, Until::Elapsed(span));
        Load { size, ..shape }.run(&ids, &oracle).await
    }
}

/// A mesh with one trigger per entry, and the oracle behind `oracle` subscribers.
async fn with_oracle(ids: &Arc<Ids>, oracle: &Arc<Oracle>) -> anyhow::Result<String> {
    bare::serve(Role::Oracle(oracle.clone(), ids.clone())).await
}

/// Waits until everything accepted has arrived. It is looked at often, since rates count the time until then; each event by
/// itself only when there are enough.
async fn drained(oracle: &Arc<Oracle>) {
    let mut probe = tokio::time::interval(Duration::from_millis(5));
    let start = tokio::time::Instant::now();
    while (oracle.is_behind() || oracle.missing(|_| true) > 0) && start.elapsed() < DRAIN {
        probe.tick().await;
    }
}

/// Starts a mesh that delivers everything to the oracle.
async fn delivering(bench: &Bench, ids: &Arc<Ids>, oracle: &Arc<Oracle>) -> anyhow::Result<Mesh> {
    let subscriber = with_oracle(ids, oracle).await?;
    Mesh::start(&bench.weft, &yaml(&[everything("all", &subscriber)])).await
}

/// Waits for a condition of the mesh itself.
async fn settled(what: &str, probe: impl FnMut() -> bool) -> anyhow::Result<()> {
    until(what, DRAIN, probe).await
}

/// Bytes as MB for people.
#[expect(clippy::cast_precision_loss, reason = "a figure for people")]
fn megabytes(bytes: u64) -> f64 {
    bytes as f64 / 1e6
}

/// Milliseconds for people.
fn milliseconds(span: Duration) -> f64 {
    span.as_secs_f64() * 1e3
}
