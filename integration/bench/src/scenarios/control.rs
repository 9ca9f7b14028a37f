//! The control plane: how fast objects are kept, how many may be watched, how soon what is applied is in force.

use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, ensure};
use futures_util::future::try_join_all;
use hyper::Method;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::{account, everything, load, megabytes, milliseconds, with_oracle};
use crate::Bench;
use crate::api::{Api, MAPS, TRIGGERS, map, trigger};
use crate::load::{Pace, Until};
use crate::mesh::{Mesh, yaml};
use crate::report::Figure;

/// Clients that write at the same time, where it is not one.
const WRITERS: usize = 16;

/// Events a second that flow while triggers are applied: enough to notice a disturbance.
const FLOW: f64 = 2000.0;

/// How long triggers may take to become Ready before the bench gives up.
const PATIENCE: Duration = Duration::from_secs(120);

/// Watchers of the named figure.
const WATCHERS: usize = 200;

/// Objects a second, one after the other, against what the device syncs; and many clients at once.
pub(super) async fn writes(bench: &Bench) -> anyhow::Result<Vec<Figure>> {
    let mesh = Mesh::start(&bench.weft, &yaml(&[])).await?;
    let count = usize::try_from(bench.count(2000))?;
    let device = syncs(&mesh, count)?;
    let single = tokio::task::block_in_place(|| alone(&mesh, count))?;
    let start = Instant::now();
    create(&mesh, MAPS, count, |number| map(&format!("many-{number}"), 0)).await?;
    let many = rate(count, start.elapsed());
    let detail = format!(
        "{single:.0} of {device:.0} syncs/s, one commit each; {many:.0} objects/s with {WRITERS} clients"
    );
    Ok(vec![Figure::at_least("object writes", single / device, 0.5, "x fdatasync", detail)])
}

/// Objects a second of one client. It has a runtime of one thread to itself, so that no hand-over of its own is measured.
fn alone(mesh: &Mesh, count: usize) -> anyhow::Result<f64> {
    let objects: Vec<_> = (0..count).map(|number| map(&format!("one-{number}"), 0)).collect();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut api = Api::connect(mesh).await?;
        let start = Instant::now();
        for object in &objects {
            api.tell(Method::POST, MAPS, object).await?;
        }
        Ok(rate(count, start.elapsed()))
    })
}

#[expect(clippy::cast_precision_loss, reason = "a rate for people")]
fn rate(count: usize, span: Duration) -> f64 {
    count as f64 / span.as_secs_f64()
}

/// Creates objects with several clients.
async fn create(
    mesh: &Mesh,
    path: &str,
    count: usize,
    object: impl Fn(usize) -> Value,
) -> anyhow::Result<()> {
    let writers = (0..WRITERS).map(|writer| {
        let numbers: Vec<usize> = (writer..count).step_by(WRITERS).collect();
        let object = &object;
        async move {
            let mut api = Api::connect(mesh).await?;
            for number in numbers {
                api.tell(Method::POST, path, &object(number)).await?;
            }
            anyhow::Ok(())
        }
    });
    try_join_all(writers).await.map(drop)
}

/// Write and sync of a page on the mesh's device, one after the other, a second.
fn syncs(mesh: &Mesh, count: usize) -> anyhow::Result<f64> {
    use std::os::unix::fs::FileExt;
    let path = mesh.data().join("probe");
    let file = std::fs::File::create(&path).context("create a probe file")?;
    let page = [1_u8; 4096];
    file.write_all_at(&vec![0; page.len() * 256], 0)?;
    file.sync_all()?;
    let start = Instant::now();
    for turn in 0..count {
        file.write_all_at(&page, u64::try_from(turn % 256 * page.len())?)?;
        file.sync_data()?;
    }
    let rate = rate(count, start.elapsed());
    std::fs::remove_file(path)?;
    Ok(rate)
}

/// From start to ready with ten thousand objects.
pub(super) async fn objects(bench: &Bench) -> anyhow::Result<Vec<Figure>> {
    let mut mesh = Mesh::start(&bench.weft, &yaml(&[])).await?;
    let count = usize::try_from(bench.count(10_000))?;
    create(&mesh, MAPS, count, |number| map(&format!("map-{number}"), 0)).await?;
    mesh.stop().await?;
    mesh.restart().await?;
    let detail = format!("{:.1} MB resident", megabytes(mesh.resident()?));
    let name = "start to ready, 10,000 objects";
    Ok(vec![Figure::at_most(name, milliseconds(mesh.ready_after), 1000.0, "ms", detail)])
}

/// A thousand triggers from the first request until all are Ready, while events flow.
pub(super) async fn triggers(bench: &Bench) -> anyhow::Result<Vec<Figure>> {
    let (ids, oracle) = account();
    let subscriber = with_oracle(&ids, &oracle).await?;
    let mesh = Mesh::start(&bench.weft, &yaml(&[everything("all", &subscriber)])).await?;
    let count = usize::try_from(bench.count(1000))?;
    let span = bench.span();
    let calm =
        load(&mesh.events, Pace::Open(FLOW), Until::Elapsed(span)).run(&ids, &oracle).await?;
    let flow = load(&mesh.events, Pace::Open(FLOW), Until::Elapsed(span));
    let applying = async {
        let start = Instant::now();
        create(&mesh, TRIGGERS, count, |number| trigger(&format!("t{number}"), &subscriber))
            .await?;
        until_ready(&mesh, count + 1).await?;
        anyhow::Ok(start.elapsed())
    };
    let (busy, took) = tokio::try_join!(flow.run(&ids, &oracle), applying)?;
    super::drained(&oracle).await;
    let detail = format!(
        "accept p99 {:.2} ms meanwhile, {:.2} ms before; {} refused",
        milliseconds(busy.quantile(0.99)),
        milliseconds(calm.quantile(0.99)),
        busy.refused,
    );
    Ok(vec![
        Figure::at_most("1,000 triggers until Ready", took.as_secs_f64(), 5.0, "s", detail)
            .with(oracle.verdict(|_| true)),
    ])
}

/// The same with `kubectl apply` of one file.
pub(super) async fn kubectl(bench: &Bench) -> anyhow::Result<Vec<Figure>> {
    let (ids, oracle) = account();
    let subscriber = with_oracle(&ids, &oracle).await?;
    let mesh = Mesh::start(&bench.weft, &yaml(&[])).await?;
    let program = installed_kubectl()?;
    let count = usize::try_from(bench.count(1000))?;
    let file = mesh.data().join("triggers.json");
    let items: Vec<Value> =
        (0..count).map(|number| trigger(&format!("t{number}"), &subscriber)).collect();
    let list = json!({"apiVersion": "v1", "kind": "List", "items": items});
    std::fs::write(&file, serde_json::to_vec(&list)?)?;
    let start = Instant::now();
    let status = tokio::process::Command::new(program)
        .args(["apply".as_ref(), "-f".as_ref(), file.as_os_str()])
        .env("KUBECONFIG", mesh.data().join("kubeconfig"))
        .env("KUBECACHEDIR", mesh.data().join("kube-cache"))
        .stdout(Stdio::null())
        .status()
        .await?;
    ensure!(status.success(), "kubectl apply: {status}");
    let applied = start.elapsed();
    until_ready(&mesh, count).await?;
    let detail = format!("of which kubectl {:.1} s", applied.as_secs_f64());
    let took = start.elapsed().as_secs_f64();
    Ok(vec![Figure::at_most("kubectl apply of 1,000 triggers", took, 30.0, "s", detail)])
}

/// The `kubectl` of `integration/services`, which installs it the first time.
fn installed_kubectl() -> anyhow::Result<String> {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../services/up");
    let output = std::process::Command::new(script)
        .arg("kubectl")
        .stderr(Stdio::inherit())
        .output()
        .with_context(|| format!("run {script}"))?;
    let told: Value = serde_json::from_slice(&output.stdout).context("kubectl is not installed")?;
    told.get("path").and_then(Value::as_str).map(str::to_owned).context("a path")
}

/// Waits until so many triggers are Ready.
pub(super) async fn until_ready(mesh: &Mesh, count: usize) -> anyhow::Result<()> {
    let (mut api, start) = (Api::connect(mesh).await?, Instant::now());
    while ready(&mut api, TRIGGERS).await? < count {
        ensure!(start.elapsed() < PATIENCE, "the triggers do not become Ready");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    Ok(())
}

/// How many triggers are Ready.
/// How many objects of a list are Ready.
pub(super) async fn ready(api: &mut Api, path: &str) -> anyhow::Result<usize> {
    let list = api.ask(Method::GET, path, &Value::Null).await?;
    let items = list.get("items").and_then(Value::as_array).context("a list")?;
    let is_ready = |item: &&Value| {
        let conditions = item.pointer("/status/conditions").and_then(Value::as_array);
        conditions.into_iter().flatten().any(|condition| {
            condition.get("type") == Some(&"Ready".into())
                && condition.get("status") == Some(&"True".into())
        })
    };
    Ok(items.iter().filter(is_ready).count())
}

/// Two hundred watchers, ten thousand changes: what each saw, and what it cost.
pub(super) async fn watchers(bench: &Bench) -> anyhow::Result<Vec<Figure>> {
    let mesh = Mesh::start(&bench.weft, &yaml(&[])).await?;
    let count = usize::try_from(bench.count(10_000))?;
    let mut api = Api::connect(&mesh).await?;
    let list = api.ask(Method::GET, &format!("{MAPS}?limit=1"), &Value::Null).await?;
    let version = list.pointer("/metadata/resourceVersion").and_then(Value::as_str);
    let version = version.context("a version")?.to_owned();
    let mut watches = Vec::new();
    for _ in 0..WATCHERS {
        watches.push(Api::connect(&mesh).await?.watch(MAPS, &version).await?);
    }
    let readers = watches.into_iter().map(|mut watch| {
        tokio::task::spawn(async move {
            let mut seen = Vec::with_capacity(count);
            for _ in 0..count {
                let (version, kind) = watch.next().await?;
                ensure!(kind == "ADDED", "{kind} at {version}");
                ensure!(seen.last().is_none_or(|last| *last < version), "{version} out of order");
                seen.push(version);
            }
            Ok(seen)
        })
    });
    let readers: Vec<_> = readers.collect();
    let start = Instant::now();
    create(&mesh, MAPS, count, |number| map(&format!("watched-{number}"), 0)).await?;
    let mut peak = mesh.resident()?;
    let mut wrong = 0;
    let mut first: Option<Vec<u64>> = None;
    for reader in readers {
        let seen: Vec<u64> = reader.await??;
        peak = peak.max(mesh.resident()?);
        wrong += usize::from(first.get_or_insert_with(|| seen.clone()) != &seen);
    }
    let detail = format!(
        "{WATCHERS} watchers saw {count} new objects within {:.1} s; {wrong} saw something else",
        start.elapsed().as_secs_f64()
    );
    ensure!(wrong == 0, "{detail}");
    Ok(vec![Figure::at_most("resident memory, 200 watchers", megabytes(peak), 100.0, "MB", detail)])
}
