//! 10 GiB through a broker with one trigger stopped on a hundredth of it: what stays on disk.

use std::time::Duration;

use super::{account, everything, load, megabytes, settled, with_oracle};
use crate::Bench;
use crate::load::{Load, Pace, Until};
use crate::mesh::{Mesh, Trigger, yaml};
use crate::report::Figure;

/// Payload: large, so that 10 GiB are a matter of minutes.
const SIZE: usize = 64 << 10;

/// Every so many events the stopped trigger wants one.
const ONE_IN: u64 = 100;

/// Disk that is not the trigger's fault: history, the current segment, state.
const ALLOWANCE: u64 = 256 << 20;

pub(super) async fn thin(bench: &Bench) -> anyhow::Result<Vec<Figure>> {
    let (ids, oracle) = account();
    let subscriber = with_oracle(&ids, &oracle).await?;
    let stopped = |paused: bool| Trigger {
        name: "stopped".to_owned(),
        ty: Some("wanted".to_owned()),
        subscriber: subscriber.clone(),
        annotations: vec![format!("weft.dev/paused: \"{paused}\"")],
    };
    let all = Trigger { ty: Some("bench".to_owned()), ..everything("all", &subscriber) };
    let mut mesh = Mesh::start(&bench.weft, &yaml(&[all.clone(), stopped(true)])).await?;
    let count = bench.count((10 << 30) / u64::try_from(SIZE)?);
    let shape = load(&mesh.events, Pace::Closed, Until::Count(count));
    Load { size: SIZE, ty: kind, ..shape }.run(&ids, &oracle).await?;
    settled("the running trigger to finish", || {
        oracle.missing(|id| !id.is_multiple_of(ONE_IN)) == 0
    })
    .await?;
    let need = count / ONE_IN * u64::try_from(SIZE + 512)?;
    let bar = 3 * need + ALLOWANCE;
    // The rewriting runs in the background; it is done when the disk stays under the bar, at the latest after a minute.
    drop(
        tokio::time::timeout(
            Duration::from_secs(60),
            settled("the rewriting", || mesh.disk().is_ok_and(|used| used <= bar)),
        )
        .await,
    );
    let used = mesh.disk()?;
    mesh.stop().await?;
    mesh.rewrite(&yaml(&[all, stopped(false)]))?;
    mesh.restart().await?;
    settled("the stopped trigger's events", || oracle.missing(|_| true) == 0).await?;
    let detail = format!(
        "{:.0} MB went through, the stopped trigger needs {:.0} MB",
        megabytes(count * u64::try_from(SIZE)?),
        megabytes(need)
    );
    Ok(vec![
        Figure::at_most(
            "disk beside a stopped trigger",
            megabytes(used),
            megabytes(bar),
            "MB",
            detail,
        )
        .with(oracle.verdict(|_| true)),
    ])
}

fn kind(id: u64) -> String {
    if id.is_multiple_of(ONE_IN) { "wanted".to_owned() } else { "bench".to_owned() }
}
