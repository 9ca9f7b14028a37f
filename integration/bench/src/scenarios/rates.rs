//! Requests a second: durable ingest, end to end, and with many triggers.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::control::until_ready;
use super::{Baseline, Ratio, SIZE, account, delivering, drained, load, with_oracle};
use crate::Bench;
use crate::load::{Ids, Pace, Until};
use crate::mesh::{Mesh, Trigger, yaml};
use crate::oracle::{Oracle, Verdict};
use crate::report::Figure;

/// Turns; of the ratios the middle one counts. Each is to the baseline just before and just after, because the speed of a
/// shared machine changes from minute to minute.
const TURNS: usize = 5;

/// Rates of one turn, in requests a second.
struct Turn {
    bare: [f64; 3],
    ingest: f64,
    end_to_end: f64,
}

/// Durable ingest and end to end, as ratios to the baseline.
pub(super) async fn rates(bench: &Bench) -> anyhow::Result<Vec<Figure>> {
    let span = bench.span() / 2;
    let bare = async || -> anyhow::Result<f64> {
        Ok(Baseline::start().await?.seen(SIZE, Pace::Closed, span).await?.rate)
    };
    let (mut turns, mut verdict, mut last) = (Vec::new(), Verdict::default(), bare().await?);
    for _ in 0..TURNS {
        let ingest = ingest(bench, span).await?;
        let middle = bare().await?;
        let (end_to_end, found) = end_to_end(bench).await?;
        let after = bare().await?;
        turns.push(Turn { bare: [last, middle, after], ingest, end_to_end });
        (verdict, last) = (verdict + found, after);
    }
    let ingest = turns.iter().map(|turn| (turn.ingest, f64::midpoint(turn.bare[0], turn.bare[1])));
    let ingest = Ratio::of(ingest.collect());
    let whole =
        turns.iter().map(|turn| (turn.end_to_end, f64::midpoint(turn.bare[1], turn.bare[2])));
    let whole = Ratio::of(whole.collect());
    Ok(vec![
        Figure::context("bare baseline", ingest.bare, "requests/s", String::new()),
        Figure::at_least("durable ingest", ingest.middle, 0.5, "x bare", ingest.detail),
        Figure::at_least("end to end", whole.middle, 0.25, "x bare", whole.detail).with(verdict),
    ])
}

async fn ingest(bench: &Bench, span: Duration) -> anyhow::Result<f64> {
    let (ids, oracle) = account();
    let mesh = Mesh::start(&bench.weft, &yaml(&[])).await?;
    Ok(load(&mesh.events, Pace::Closed, Until::Elapsed(span)).run(&ids, &oracle).await?.rate)
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
    load(&mesh.events, Pace::Closed, Until::Elapsed(bench.span() / 2)).run(ids, oracle).await?;
    drained(oracle).await;
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
    // They are in force already; what is said about them is still being written.
    until_ready(&mesh, usize::try_from(count)?).await?;
    delivered(bench, &mesh, &ids, &oracle).await
}
