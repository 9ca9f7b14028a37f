//! How long a sender waits at half the maximal rate, against the device's own sync.

use std::time::Duration;

use anyhow::Context;
use tokio::time::Instant;

use super::{Baseline, account, load, milliseconds};
use crate::Bench;
use crate::load::{Pace, Until};
use crate::mesh::{Mesh, yaml};
use crate::report::Figure;

/// What the mesh may add to the device's p99.
const ALLOWANCE_MS: f64 = 3.0;

/// Syncs measured.
const SYNCS: usize = 2000;

pub(super) async fn latency(bench: &Bench) -> anyhow::Result<Vec<Figure>> {
    let (ids, oracle) = account();
    let mesh = Mesh::start(&bench.weft, &yaml(&[])).await?;
    let most =
        load(&mesh.events, Pace::Closed, Until::Elapsed(bench.span())).run(&ids, &oracle).await?;
    let half = Pace::Open(most.rate / 2.0);
    let seen = load(&mesh.events, half, Until::Elapsed(bench.span())).run(&ids, &oracle).await?;
    let sync = milliseconds(device(&mesh)?);
    drop(mesh);
    let bare = Baseline::start().await?.seen(half, bench.span()).await?;
    let bar = sync + ALLOWANCE_MS;
    let p99 = milliseconds(seen.quantile(0.99));
    let detail = format!(
        "{:.0} requests/s; p50 {:.2} ms; fdatasync p99 {sync:.2} ms; {} refused; the bare server's p99 {:.2} ms",
        seen.rate,
        milliseconds(seen.quantile(0.5)),
        seen.refused,
        milliseconds(bare.quantile(0.99)),
    );
    Ok(vec![Figure::at_most("accept latency p99 at half rate", p99, bar, "ms", detail)])
}

/// The p99 of write + fdatasync on the mesh's device: 16 KiB, about one commit, into blocks that exist.
fn device(mesh: &Mesh) -> anyhow::Result<Duration> {
    use std::os::unix::fs::FileExt;
    let path = mesh.data().join("probe");
    let file = std::fs::File::create(&path).context("create a probe file")?;
    let block = [1_u8; 16 << 10];
    file.write_all_at(&vec![0; block.len() * 512], 0)?;
    file.sync_all()?;
    let mut spans = Vec::with_capacity(SYNCS);
    for turn in 0..SYNCS {
        let start = Instant::now();
        file.write_all_at(&block, u64::try_from(turn % 512 * block.len())?)?;
        file.sync_data()?;
        spans.push(start.elapsed());
    }
    std::fs::remove_file(path)?;
    spans.sort();
    spans.get(SYNCS * 99 / 100).copied().context("there are spans")
}
