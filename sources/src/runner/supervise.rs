//! Keeps one source or sink running: starts it again after failures, ever more slowly, and contains its panics.

use std::any::Any;
use std::time::Duration;

use futures_util::future::BoxFuture;
use prometheus_client::metrics::counter::Counter;
use tokio::task::{JoinError, JoinHandle};
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::Instrument;

use crate::backoff::{Backoff, roll};
use crate::source::{SourceError, chain};
use crate::status::{Key, Reporter, State};

/// A source that ran this long has recovered; its next failure counts as the first. Longer than the longest wait, or
/// a source that fails after a while would be started at an ever higher pace.
const RECOVERED: Duration = Duration::from_secs(120);

/// How long a source may take to end after it was asked to; then it is cut off. "Within a second" is promised.
const GRACE: Duration = Duration::from_millis(800);

/// How long to wait for a task that was cut off. Only one that blocks its thread takes longer, and nothing can end it.
const ABORT: Duration = Duration::from_millis(200);

/// A source or sink in motion.
pub(crate) type Run = BoxFuture<'static, Result<(), SourceError>>;

/// Whom to supervise.
#[derive(Debug)]
pub(crate) struct Supervised {
    pub(crate) key: Key,
    /// Ends it.
    pub(crate) stop: CancellationToken,
    /// Where its failures are told.
    pub(crate) report: Reporter,
    /// Counts its restarts.
    pub(crate) restarts: Counter,
    /// Waits between starts.
    pub(crate) restart: Backoff,
    /// The end of whatever ran under this key before.
    pub(crate) previous: Option<CancellationToken>,
    /// Cancelled at the end.
    pub(crate) done: CancellationToken,
}

/// Runs `run` until its stop.
pub(crate) async fn supervise(
    supervised: Supervised,
    tasks: TaskTracker,
    run: impl Fn() -> Run + Send,
) {
    let Supervised { key, stop, report, restarts, restart, previous, done } = supervised;
    let _done = done.drop_guard();
    if let Some(previous) = previous {
        previous.cancelled().await;
    }
    let mut failures = 0;
    while !stop.is_cancelled() {
        let started = Instant::now();
        let span = tracing::info_span!("run", kind = key.kind, namespace = %key.namespace, name = %key.name);
        let mut task = tasks.spawn(run().instrument(span));
        let ended = tokio::select! {
            biased;
            ended = &mut task => ended,
            () = stop.cancelled() => return end(&key, task).await,
        };
        let failure = Failure::of(ended);
        if stop.is_cancelled() {
            return;
        }
        failures = if started.elapsed() >= RECOVERED { 1 } else { failures + 1 };
        if !failure.is_retryable {
            tracing::error!(run = %key, "cannot run: {}", failure.message);
            report.update(|status| {
                status.state = State::Failed;
                status.reason = failure.reason;
                status.message = failure.message;
            });
            return stop.cancelled().await;
        }
        let wait = restart.wait(failures, roll());
        tracing::warn!(run = %key, ?wait, "failed and will be restarted: {}", failure.message);
        report.update(|status| {
            status.state = State::Waiting;
            status.reason = failure.reason;
            status.message = failure.message;
        });
        tokio::select! {
            biased;
            () = stop.cancelled() => return,
            () = sleep(wait) => {}
        }
        restarts.inc();
        report.update(|status| {
            status.state = State::Starting;
            status.restarts += 1;
        });
    }
}

/// Waits for a source that was asked to stop; cuts it off if it does not.
async fn end(key: &Key, mut task: JoinHandle<Result<(), SourceError>>) {
    if let Ok(ended) = timeout(GRACE, &mut task).await {
        match ended {
            Ok(Ok(()) | Err(SourceError::Stopped)) => {}
            Ok(Err(error)) => tracing::debug!(run = %key, %error, "failed while stopping"),
            Err(error) => tracing::error!(run = %key, %error, "panicked while stopping"),
        }
        return;
    }
    tracing::warn!(run = %key, "did not stop when asked to and was cut off");
    task.abort();
    if timeout(ABORT, task).await.is_err() {
        tracing::error!(run = %key, "blocks its thread and goes on");
    }
}

/// How a source ended that should not have.
struct Failure {
    reason: &'static str,
    message: String,
    is_retryable: bool,
}

impl Failure {
    fn of(ended: Result<Result<(), SourceError>, JoinError>) -> Self {
        match ended {
            Ok(Ok(())) => Self::bug("it ended without being asked to".to_owned()),
            Ok(Err(error)) => Self {
                reason: error.reason(),
                message: chain(&error),
                is_retryable: error.is_retryable(),
            },
            Err(error) => Self::bug(match error.try_into_panic() {
                Ok(panic) => format!("it panicked: {}", panic_text(&*panic)),
                Err(error) => error.to_string(),
            }),
        }
    }

    /// A mistake of ours. The next start may not run into it, so it is retryable.
    fn bug(message: String) -> Self {
        Self { reason: "InternalError", message, is_retryable: true }
    }
}

fn panic_text(panic: &(dyn Any + Send)) -> &str {
    let owned = || panic.downcast_ref::<String>().map(String::as_str);
    panic.downcast_ref::<&str>().copied().or_else(owned).unwrap_or("without a message")
}

#[cfg(test)]
mod tests;
