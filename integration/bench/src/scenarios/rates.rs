//! Requests a second: durable ingest, end to end, and with many triggers.

use std::sync::Arc;

use tokio::time::Instant;

use super::{Baseline, account, delivering, drained, load, with_oracle};
use crate::Bench;
use crate::load::{Ids, Pace, Until};
use crate::mesh::{Mesh, Trigger, yaml};
use crate::oracle::{Oracle, Verdict};
use crate::report::Figure;

/// Durable ingest and end to end, as ratios to the baseline.
pub(super) async fn rates(bench: &Bench) -> anyhow::Result<Vec<Figure>> {
    let before = Baseline::start().await?.seen(Pace::Closed, bench.span()).await?;
    let (ids, oracle) = account();
    let mesh = Mesh::start(&bench.weft, &yaml(&[])).await?;
    let ingest =
        load(&mesh.events, Pace::Closed, Until::Elapsed(bench.span())).run(&ids, &oracle).await?;
    drop(mesh);
    let (end_to_end, verdict) = end_to_end(bench).await?;
    let after = Baseline::start().await?.seen(Pace::Closed, bench.span()).await?;
    let bare = f64::midpoint(before.rate, after.rate);
    let detail = |rate: f64| format!("{rate:.0} of {bare:.0} requests/s");
    Ok(vec![
        Figure::context(
            "bare baseline",
            bare,
            "requests/s",
            format!("p99 {:?}", before.quantile(0.99)),
        ),
        Figure::at_least("durable ingest", ingest.rate / bare, 0.5, "x bare", detail(ingest.rate)),
        Figure::at_least("end to end", end_to_end / bare, 0.25, "x bare", detail(end_to_end))
            .with(verdict),
    ])
}

async fn end_to_end(bench: &Bench) -> anyhow::Result<(f64, Verdict)> {
    let (ids, oracle) = account();
    let mesh = delivering(bench, &ids, &oracle).await?;
    delivered(bench, &mesh, &ids, &oracle).await
}

/// Events a second from sent to acknowledged by the subscriber, counting the time until the last one arrived.
async fn delivered(
    bench: &Bench,
    mesh: &Mesh,
    ids: &Arc<Ids>,
    oracle: &Arc<Oracle>,
) -> anyhow::Result<(f64, Verdict)> {
    let start = Instant::now();
    load(&mesh.events, Pace::Closed, Until::Elapsed(bench.span())).run(ids, oracle).await?;
    drained(oracle, |_| true).await?;
    let elapsed = start.elapsed().as_secs_f64();
    let verdict = oracle.verdict(|_| true);
    #[expect(clippy::cast_precision_loss, reason = "a rate for people")]
    Ok((verdict.delivered as f64 / elapsed, verdict))
}

/// Ten triggers against ten thousand, of which one matches.
pub(super) async fn triggers(bench: &Bench) -> anyhow::Result<Vec<Figure>> {
    let (few, _) = with_triggers(bench, 10).await?;
    let (many, verdict) = with_triggers(bench, 10_000).await?;
    let detail = format!("{many:.0} events/s with 10,000 triggers, {few:.0} with 10");
    Ok(vec![
        Figure::at_least("10,000 triggers, one matches", many / few, 0.7, "x ten triggers", detail)
            .with(verdict),
    ])
}

async fn with_triggers(bench: &Bench, count: u32) -> anyhow::Result<(f64, Verdict)> {
    let (ids, oracle) = account();
    let subscriber = with_oracle(&ids, &oracle).await?;
    let trigger = |n: u32| Trigger {
        name: format!("t{n}"),
        ty: Some(if n == 0 { "bench".to_owned() } else { format!("other-{n}") }),
        subscriber: subscriber.clone(),
        annotations: Vec::new(),
    };
    let mesh =
        Mesh::start(&bench.weft, &yaml(&(0..count).map(trigger).collect::<Vec<_>>())).await?;
    delivered(bench, &mesh, &ids, &oracle).await
}
