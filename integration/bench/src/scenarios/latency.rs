//! How long a sender waits at half the maximal rate, against the device's own sync.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context, anyhow};
use tokio::time::Instant;

use super::{Baseline, SIZE, account, load, milliseconds};
use crate::Bench;
use crate::load::{Pace, Until};
use crate::mesh::{Mesh, yaml};
use crate::report::Figure;

/// What the mesh may add to the device's p99.
const ALLOWANCE_MS: f64 = 3.0;

/// Pause between two syncs of the probe: a disk that did nothing else would be another disk, and some two thousand syncs in
/// a turn are enough for a p99.
const BETWEEN: Duration = Duration::from_millis(2);

/// Turns; the best counts, of the mesh as of the device, since what else a shared machine does only ever adds. All are told.
const TURNS: usize = 5;

pub(super) async fn latency(bench: &Bench) -> anyhow::Result<Vec<Figure>> {
    let (ids, oracle) = account();
    let mesh = Mesh::start(&bench.weft, &yaml(&[])).await?;
    let baseline = Baseline::start().await?;
    let span = bench.span() / 2;
    let most = load(&mesh.events, Pace::Closed, Until::Elapsed(span)).run(&ids, &oracle).await?;
    let half = Pace::Open(most.rate / 2.0);
    let (mut syncs, mut bare, mut turns) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..TURNS {
        // Beside the bare server, so that the device is asked by a machine that answers as many requests.
        let probe = Probe::start(&mesh)?;
        bare.push(baseline.seen(SIZE, half, span).await?.quantile(0.99));
        syncs.push(probe.p99()?);
        turns.push(load(&mesh.events, half, Until::Elapsed(span)).run(&ids, &oracle).await?);
    }
    let p99s: Vec<Duration> = turns.iter().map(|seen| seen.quantile(0.99)).collect();
    let (best, p99) = turns.iter().zip(&p99s).min_by_key(|(_, p99)| **p99).context("no turns")?;
    let sync = syncs.iter().min().context("no turns")?;
    let detail = format!(
        "{:.0} requests/s; p50 {:.2} ms; {} refused; all turns {} ms; fdatasync p99 beside the bare server {} ms; its own p99 {} ms",
        best.rate,
        milliseconds(best.quantile(0.5)),
        turns.iter().map(|seen| seen.refused).sum::<u64>(),
        told(&p99s),
        told(&syncs),
        told(&bare),
    );
    let (p99, bar) = (milliseconds(*p99), milliseconds(*sync) + ALLOWANCE_MS);
    Ok(vec![Figure::at_most("accept latency p99 at half rate", p99, bar, "ms", detail)])
}

fn told(turns: &[Duration]) -> String {
    let turns: Vec<String> =
        turns.iter().map(|turn| format!("{:.2}", milliseconds(*turn))).collect();
    turns.join(", ")
}

/// Syncs on the mesh's device, on a thread of its own: 16 KiB each, about one commit, into blocks that exist.
struct Probe {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<io::Result<Vec<Duration>>>,
}

impl Probe {
    fn start(mesh: &Mesh) -> anyhow::Result<Self> {
        let path = mesh.data().join("probe");
        let file = File::create(&path).context("create a probe file")?;
        std::fs::remove_file(path)?;
        let block = [1_u8; 16 << 10];
        file.write_all_at(&vec![0; block.len() * 512], 0)?;
        file.sync_all()?;
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        let work = move || {
            let mut spans = Vec::new();
            while !stopped.load(Ordering::Relaxed) {
                let start = Instant::now();
                file.write_all_at(&block, (spans.len() % 512 * block.len()) as u64)?;
                file.sync_data()?;
                spans.push(start.elapsed());
                std::thread::sleep(BETWEEN);
            }
            Ok(spans)
        };
        Ok(Self { stop, thread: std::thread::spawn(work) })
    }

    fn p99(self) -> anyhow::Result<Duration> {
        self.stop.store(true, Ordering::Relaxed);
        let mut spans = self.thread.join().map_err(|_| anyhow!("the probe panicked"))??;
        spans.sort();
        spans.get(spans.len() * 99 / 100).copied().context("there are spans")
    }
}
