//! One subscriber that hangs: what the others and the memory feel of it.

use std::sync::Arc;

use super::{bare, drained, everything, load, megabytes, milliseconds, with_oracle};
use crate::Bench;
use crate::bare::Role;
use crate::load::{Pace, Until};
use crate::mesh::{Mesh, yaml};
use crate::oracle::{Oracle, Verdict};
use crate::report::Figure;

/// Requests a second while it is looked at: well under the maximum, so that latency is the mesh's and not a queue's.
const RATE: f64 = 4000.0;

/// How much worse the healthy trigger's p99 may be before it is not noise.
const NOISE: f64 = 1.5;

/// Below this, differences are the machine's: two cores run the load, the mesh and the subscribers.
const FLOOR_MS: f64 = 2.0;

/// Turns of each kind, in alternation; the best of each counts, since what else the machine does only ever adds.
const TURNS: usize = 3;

/// How much the mesh may grow while a subscriber hangs, once its window is full: the allocator's play.
const GROWTH_MB: f64 = 8.0;

/// What one turn saw.
struct Turn {
    /// Milliseconds from sent to delivered to the healthy subscriber.
    p99: f64,
    verdict: Verdict,
    /// Resident megabytes halfway and at the end.
    memory: (f64, f64),
}

pub(super) async fn isolation(bench: &Bench) -> anyhow::Result<Vec<Figure>> {
    let (mut calm, mut hung) = (Vec::new(), Vec::new());
    for _ in 0..TURNS {
        calm.push(measure(bench, false).await?);
        hung.push(measure(bench, true).await?);
    }
    let best = |turns: &[Turn]| turns.iter().map(|turn| turn.p99).fold(f64::INFINITY, f64::min);
    let (calm_p99, hung_p99) = (best(&calm), best(&hung));
    let verdict = hung.iter().fold(Verdict::default(), |sum, turn| sum + turn.verdict);
    let (halfway, end) = hung.last().map_or((0.0, 0.0), |turn| turn.memory);
    let calm_end = calm.last().map_or(0.0, |turn| turn.memory.1);
    let detail = format!(
        "delivery p99 of the other trigger {hung_p99:.2} ms beside a hung one, {calm_p99:.2} ms without"
    );
    let memory =
        format!("{halfway:.1} MB halfway, {end:.1} MB at the end; {calm_end:.1} MB without");
    Ok(vec![
        Figure::at_most(
            "p99 beside a hung subscriber",
            hung_p99.max(FLOOR_MS) / calm_p99.max(FLOOR_MS),
            NOISE,
            "x calm",
            detail,
        )
        .with(verdict),
        Figure::at_most("growth beside a hung subscriber", end - halfway, GROWTH_MB, "MB", memory),
    ])
}

async fn measure(bench: &Bench, hang: bool) -> anyhow::Result<Turn> {
    let (ids, oracle) = (Arc::default(), Arc::new(Oracle::timing()));
    let mut triggers = vec![everything("healthy", &with_oracle(&ids, &oracle).await?)];
    if hang {
        triggers.push(everything("hung", &bare::serve(Role::Hang).await?));
    }
    let mesh = Mesh::start(&bench.weft, &yaml(&triggers)).await?;
    let half = load(&mesh.events, Pace::Open(RATE), Until::Elapsed(bench.span() / 2));
    half.run(&ids, &oracle).await?;
    let halfway = megabytes(mesh.resident()?);
    half.run(&ids, &oracle).await?;
    drained(&oracle).await;
    Ok(Turn {
        p99: milliseconds(oracle.quantile(0.99)),
        verdict: oracle.verdict(|_| true),
        memory: (halfway, megabytes(mesh.resident()?)),
    })
}
