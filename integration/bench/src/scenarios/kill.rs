//! kill -9 at random moments under load.

use std::sync::Arc;
use std::time::Duration;

use super::{account, delivering, drained, load};
use crate::Bench;
use crate::load::{Pace, Until};
use crate::report::Figure;

pub(super) async fn kill(bench: &Bench) -> anyhow::Result<Vec<Figure>> {
    let (ids, oracle) = account();
    let mut mesh = delivering(bench, &ids, &oracle).await?;
    let kills = if bench.quick { 3 } else { 50 };
    let mut state = u64::from(std::process::id()) | 1;
    for _ in 0..kills {
        let shape = load(&mesh.events, Pace::Closed, Until::Elapsed(Duration::from_millis(1500)));
        let (ids, oracle) = (Arc::clone(&ids), Arc::clone(&oracle));
        let running = tokio::task::spawn(async move { shape.run(&ids, &oracle).await });
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        tokio::time::sleep(Duration::from_millis(50 + state % 1000)).await;
        mesh.kill().await?;
        running.await??;
        mesh.restart().await?;
    }
    drained(&oracle).await;
    let verdict = oracle.verdict(|_| true);
    #[expect(clippy::cast_precision_loss, reason = "a count for people")]
    let bad = (verdict.lost + verdict.invented) as f64;
    let detail = format!(
        "{kills} kills; {} accepted, {} delivered again",
        verdict.accepted, verdict.duplicates
    );
    Ok(vec![
        Figure::at_most("lost or invented over kill -9", bad, 0.0, "events", detail).with(verdict),
    ])
}
