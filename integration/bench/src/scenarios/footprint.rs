//! Memory, start, recovery.

use super::{account, everything, load, megabytes, milliseconds, with_oracle};
use crate::Bench;
use crate::load::{Load, Pace, Until};
use crate::mesh::{Mesh, yaml};
use crate::report::Figure;

/// Resident memory idle, and with a million events waiting for a paused trigger.
pub(super) async fn memory(bench: &Bench) -> anyhow::Result<Vec<Figure>> {
    let (ids, oracle) = account();
    let mut paused = everything("paused", &with_oracle(&ids, &oracle).await?);
    paused.annotations = vec!["weft.dev/paused: \"true\"".to_owned()];
    let mesh = Mesh::start(&bench.weft, &yaml(&[paused])).await?;
    let idle = megabytes(mesh.settled().await?);
    let backlog = bench.count(1_000_000);
    load(&mesh.events, Pace::Closed, Until::Count(backlog)).run(&ids, &oracle).await?;
    let loaded = megabytes(mesh.resident()?);
    Ok(vec![
        Figure::at_most("resident memory, idle", idle, 25.0, "MB", String::new()),
        Figure::at_most(
            "resident memory, backlog",
            loaded,
            120.0,
            "MB",
            format!("{backlog} events of 256 bytes wait"),
        ),
    ])
}

/// From start to ready on an empty directory: the median of several.
pub(super) async fn start(bench: &Bench) -> anyhow::Result<Vec<Figure>> {
    let mut spans = Vec::new();
    for _ in 0..9 {
        spans.push(Mesh::start(&bench.weft, &yaml(&[])).await?.ready_after);
    }
    spans.sort();
    let median = spans.get(spans.len() / 2).copied().unwrap_or_default();
    let detail = format!(
        "median of {}; worst {:.1} ms",
        spans.len(),
        milliseconds(spans.last().copied().unwrap_or_default())
    );
    Ok(vec![Figure::at_most(
        "start to ready, empty directory",
        milliseconds(median),
        100.0,
        "ms",
        detail,
    )])
}

/// From start to ready on a gigabyte that a paused trigger waits for, after kill -9.
pub(super) async fn recovery(bench: &Bench) -> anyhow::Result<Vec<Figure>> {
    let (ids, oracle) = account();
    let mut paused = everything("paused", &with_oracle(&ids, &oracle).await?);
    paused.annotations = vec!["weft.dev/paused: \"true\"".to_owned()];
    let mut mesh = Mesh::start(&bench.weft, &yaml(&[paused])).await?;
    let size = 8 << 10;
    let count = bench.count((1 << 30) / u64::try_from(size)?);
    let shape = load(&mesh.events, Pace::Closed, Until::Count(count));
    Load { size, ..shape }.run(&ids, &oracle).await?;
    mesh.kill().await?;
    mesh.restart().await?;
    let detail = format!("{:.0} MB on disk", megabytes(mesh.disk()?));
    Ok(vec![Figure::at_most(
        "recovery of a 1 GiB log",
        milliseconds(mesh.ready_after),
        2000.0,
        "ms",
        detail,
    )])
}
