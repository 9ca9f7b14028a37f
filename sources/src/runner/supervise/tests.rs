//! Sources that fail, panic, end and hang are kept in check.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::{Run, Supervised, supervise};
use crate::runner::RESTART;
use crate::source::{self, Context, SourceError};
use crate::status::{Board, State, Status, fake};

/// A supervised source.
struct World {
    task: JoinHandle<()>,
    stop: CancellationToken,
    done: CancellationToken,
    board: Arc<Board>,
    starts: Arc<AtomicU32>,
}

/// Supervises a source that does `run` at its `n`th start, counting from 1.
fn start(run: impl Fn(u32, Context) -> Run + Send + 'static) -> World {
    start_after(None, run)
}

fn start_after(
    previous: Option<CancellationToken>,
    run: impl Fn(u32, Context) -> Run + Send + 'static,
) -> World {
    let (context, board) = source::fake::World::new().context("Test");
    let (stop, done) = (context.stop.clone(), CancellationToken::new());
    let supervised = Supervised {
        key: fake::key("Test"),
        stop: stop.clone(),
        report: context.report.clone(),
        restarts: context.metrics.restarts(),
        restart: RESTART,
        previous,
        done: done.clone(),
    };
    let starts = Arc::new(AtomicU32::new(0));
    let counter = Arc::clone(&starts);
    let counted = move || run(counter.fetch_add(1, Ordering::Relaxed) + 1, context.clone());
    let tasks = TaskTracker::new();
    let task = tasks.spawn(supervise(supervised, tasks.clone(), counted));
    World { task, stop, done, board, starts }
}

impl World {
    async fn until(&self, wanted: impl Fn(&Status) -> bool) -> Status {
        let waiting = async {
            loop {
                let seen = self.board.revision();
                let status = fake::only(&self.board);
                if wanted(&status) {
                    return status;
                }
                self.board.changed_since(seen).await;
            }
        };
        timeout(Duration::from_secs(7200), waiting).await.expect("the status comes")
    }

    fn starts(&self) -> u32 {
        self.starts.load(Ordering::Relaxed)
    }

    /// Stops, and tells how long that took.
    async fn stop(self) -> Duration {
        let before = Instant::now();
        self.stop.cancel();
        self.task.await.unwrap();
        assert!(self.done.is_cancelled());
        before.elapsed()
    }
}

fn unavailable() -> SourceError {
    let cause = std::io::Error::from(std::io::ErrorKind::ConnectionRefused);
    SourceError::Unavailable { what: "connect".to_owned(), source: Some(cause.into()) }
}

/// Runs until it is stopped.
async fn work(context: Context) -> Result<(), SourceError> {
    context.report.running();
    context.stop.cancelled().await;
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn a_failed_source_is_started_again_and_recovers() {
    let world = start(|n, context| {
        Box::pin(async move { if n < 4 { Err(unavailable()) } else { work(context).await } })
    });
    let status = world.until(|status| status.state == State::Waiting).await;
    assert_eq!(status.message, "connect: connection refused");
    let status = world.until(|status| status.state == State::Running).await;
    assert_eq!((status.restarts, status.message.as_str()), (3, ""));
    assert!(world.stop().await < Duration::from_millis(10));
}

#[tokio::test(start_paused = true)]
async fn a_source_that_keeps_failing_is_started_ever_less_often() {
    let world = start(|_, _| Box::pin(async { Err(unavailable()) }));
    pass(Duration::from_secs(3600)).await;
    // Six starts or so in the first minute, then one in 30 to 60 s.
    let starts = world.starts();
    assert!((60..150).contains(&starts), "{starts} starts in an hour");
    assert!(world.stop().await < Duration::from_millis(10));
}

#[tokio::test(start_paused = true)]
async fn a_panic_is_contained_and_reported() {
    let world = start(|n, context| {
        Box::pin(async move {
            assert!(n > 2, "start number {n} goes wrong");
            work(context).await
        })
    });
    let status = world.until(|status| status.state == State::Waiting).await;
    assert_eq!(status.message, "it panicked: start number 1 goes wrong");
    world.until(|status| status.state == State::Running).await;
    world.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_source_that_ends_by_itself_is_started_again() {
    let world = start(|n, context| {
        Box::pin(async move { if n == 1 { Ok(()) } else { work(context).await } })
    });
    let status = world.until(|status| status.state == State::Waiting).await;
    assert_eq!(status.message, "it ended without being asked to");
    world.until(|status| status.state == State::Running).await;
    world.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_final_error_is_final() {
    let world = start(|_, _| Box::pin(async { Err(SourceError::Config("field: no".to_owned())) }));
    let status = world.until(|status| status.state == State::Failed).await;
    assert_eq!(status.message, "field: no");
    pass(Duration::from_secs(3600)).await;
    assert_eq!(world.starts(), 1);
    assert!(world.stop().await < Duration::from_millis(10));
}

#[tokio::test(start_paused = true)]
async fn a_source_that_worked_for_long_is_started_again_at_once() {
    let world = start(|n, _| {
        Box::pin(async move {
            if n == 5 {
                pass(Duration::from_secs(3600)).await;
            }
            Err(unavailable())
        })
    });
    world.until(|status| status.restarts == 4).await;
    let before = Instant::now();
    world.until(|status| status.restarts == 5).await;
    assert!(before.elapsed() < Duration::from_secs(3602), "{:?}", before.elapsed());
    world.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_source_that_ignores_the_stop_is_cut_off_within_a_second() {
    let world = start(|_, context| {
        Box::pin(async move {
            context.report.running();
            std::future::pending().await
        })
    });
    world.until(|status| status.state == State::Running).await;
    assert!(world.stop().await <= Duration::from_secs(1));
}

#[tokio::test(start_paused = true)]
async fn a_successor_waits_for_its_predecessor() {
    let previous = CancellationToken::new();
    let world = start_after(Some(previous.clone()), |_, context| Box::pin(work(context)));
    pass(Duration::from_secs(10)).await;
    assert_eq!(world.starts(), 0);
    previous.cancel();
    world.until(|status| status.state == State::Running).await;
    world.stop().await;
}

/// Lets virtual time pass.
async fn pass(time: Duration) {
    timeout(time, std::future::pending::<()>()).await.unwrap_err();
}
