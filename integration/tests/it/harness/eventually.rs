//! Waiting on a predicate with a deadline: the only place in the tests that sleeps.

use std::time::Duration;

use tokio::time::Instant;

/// How long a test waits for something that takes milliseconds on an idle machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

const PAUSE: Duration = Duration::from_millis(10);

/// Polls `probe` until it answers; fails the test naming `what` after [`PATIENCE`].
pub(crate) async fn eventually<T>(what: &str, probe: impl AsyncFnMut() -> Option<T>) -> T {
    eventually_within(PATIENCE, what, probe).await
}

/// The same, for what other systems take their time for.
pub(crate) async fn eventually_within<T>(
    patience: Duration,
    what: &str,
    mut probe: impl AsyncFnMut() -> Option<T>,
) -> T {
    let deadline = Instant::now() + patience;
    loop {
        if let Some(found) = probe().await {
            return found;
        }
        assert!(Instant::now() < deadline, "waited {patience:?} for {what}");
        tokio::time::sleep(PAUSE).await;
    }
}

/// Checks that `probe` stays true for `span`.
pub(crate) async fn throughout(what: &str, span: Duration, mut probe: impl FnMut() -> bool) {
    let end = Instant::now() + span;
    while Instant::now() < end {
        assert!(probe(), "{what} did not hold");
        tokio::time::sleep(PAUSE).await;
    }
}
