//! One subscriber that hangs: what the others and the memory feel of it.

use super::{account, bare, drained, everything, load, megabytes, milliseconds, with_oracle};
use crate::Bench;
use crate::bare::Role;
use crate::load::{Pace, Until};
use crate::mesh::{Mesh, yaml};
use crate::report::Figure;

/// Requests a second while it is looked at: well under the maximum, so that latency is the mesh's and not a queue's.
const RATE: f64 = 4000.0;

/// How much worse the healthy trigger's p99 may be before it is not noise.
const NOISE: f64 = 2.0;

/// How much the mesh may grow with a hung subscriber: its window of events and the connections they are stuck on.
const GROWTH_MB: f64 = 24.0;

pub(super) async fn isolation(bench: &Bench) -> anyhow::Result<Vec<Figure>> {
    let (calm, _, calm_memory) = measure(bench, false).await?;
    let (hung, verdict, hung_memory) = measure(bench, true).await?;
    let detail = format!("accept p99 {hung:.2} ms with a hung subscriber, {calm:.2} ms without");
    let memory = format!("{hung_memory:.1} MB with, {calm_memory:.1} MB without");
    let floor = calm.max(1.0);
    Ok(vec![
        Figure::at_most("p99 beside a hung subscriber", hung / floor, NOISE, "x calm", detail)
            .with(verdict),
        Figure::at_most(
            "memory for a hung subscriber",
            hung_memory - calm_memory,
            GROWTH_MB,
            "MB",
            memory,
        ),
    ])
}

async fn measure(bench: &Bench, hang: bool) -> anyhow::Result<(f64, crate::oracle::Verdict, f64)> {
    let (ids, oracle) = account();
    let mut triggers = vec![everything("healthy", &with_oracle(&ids, &oracle).await?)];
    if hang {
        triggers.push(everything("hung", &bare::serve(Role::Hang).await?));
    }
    let mesh = Mesh::start(&bench.weft, &yaml(&triggers)).await?;
    let seen = load(&mesh.events, Pace::Open(RATE), Until::Elapsed(bench.span()))
        .run(&ids, &oracle)
        .await?;
    drained(&oracle, |_| true).await?;
    let memory = megabytes(mesh.resident()?);
    Ok((milliseconds(seen.quantile(0.99)), oracle.verdict(|_| true), memory))
}
