//! How long a sender waits at half the maximal rate, against the device's own sync.

use std::time::Duration;

use anyhow::Context;
use tokio::time::Instant;

use super::{Baseline, SIZE, account, load, milliseconds};
use crate::Bench;
use crate::load::{Pace, Seen, Until};
use crate::mesh::{Mesh, yaml};
use crate::report::Figure;

/// What the mesh may add to the device's p99.
const ALLOWANCE_MS: f64 = 3.0;

/// Syncs measured.
const SYNCS: usize = 2000;

/// Turns; the best counts, since what else a shared machine does only ever adds. All are told.
const TURNS: usize = 5;

pub(super) async fn latency(bench: &Bench) -> anyhow::Result<Vec<Figure>> {
    let (ids, oracle) = account();
    let mesh = Mesh::start(&bench.weft, &yaml(&[])).await?;
    let baseline = Baseline::start().await?;
    let span = bench.span() / 2;
    let most = load(&mesh.events, Pace::Closed, Until::Elapsed(span)).run(&ids, &oracle).await?;
    let half = Pace::Open(most.rate / 2.0);
    let (mut turns, mut bare) = (Vec::new(), Vec::new());
    for _ in 0..TURNS {
        // In turns, since a moment in which the bare server is late says nothing of the mesh.
        bare.push(baseline.seen(SIZE, half, span).await?);
        turns.push(load(&mesh.events, half, Until::Elapsed(span)).run(&ids, &oracle).await?);
    }
    let sync = milliseconds(device(&mesh)?);
    let best = turns.iter().min_by_key(|seen| seen.quantile(0.99)).context("there are turns")?;
    let detail = format!(
        "{:.0} requests/s; p50 {:.2} ms; fdatasync p99 {sync:.2} ms; {} refused; all turns {} ms; the bare server's p99 in its own {} ms",
        best.rate,
        milliseconds(best.quantile(0.5)),
        turns.iter().map(|seen| seen.refused).sum::<u64>(),
        p99s(&turns),
        p99s(&bare),
    );
    let p99 = milliseconds(best.quantile(0.99));
    let bar = sync + ALLOWANCE_MS;
    Ok(vec![Figure::at_most("accept latency p99 at half rate", p99, bar, "ms", detail)])
}

fn p99s(turns: &[Seen]) -> String {
    let p99s: Vec<String> =
        turns.iter().map(|seen| format!("{:.2}", milliseconds(seen.quantile(0.99)))).collect();
    p99s.join(", ")
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
