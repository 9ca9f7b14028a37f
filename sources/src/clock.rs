//! The wall clock, as a value, so that tests can hand in another.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use jiff::Timestamp;

/// The longest single sleep towards a wall-clock time. The timer runs on the monotonic clock, which stands still while
/// a machine is suspended and does not follow a corrected wall clock; looking again twice a minute bounds how late a
/// tick can come after either.
const LOOK_AGAIN: Duration = Duration::from_secs(30);

/// Tells the wall-clock time.
#[derive(Clone)]
pub struct Clock(Arc<dyn Fn() -> SystemTime + Send + Sync>);

impl Clock {
    /// The clock of this machine.
    #[must_use]
    pub fn system() -> Self {
        #[expect(
            clippy::disallowed_methods,
            reason = "the edge where wall-clock time enters this crate"
        )]
        Self(Arc::new(SystemTime::now))
    }

    /// A clock of the caller's making.
    #[must_use]
    pub fn from_fn(now: impl Fn() -> SystemTime + Send + Sync + 'static) -> Self {
        Self(Arc::new(now))
    }

    /// The time now. A clock outside of the years jiff can express (-9999 to 9999) reads as the nearest of them.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        let now = (self.0)();
        let limit = if now > SystemTime::UNIX_EPOCH { Timestamp::MAX } else { Timestamp::MIN };
        Timestamp::try_from(now).unwrap_or(limit)
    }

    /// Returns once the clock shows `at` or later.
    pub async fn sleep_until(&self, at: Timestamp) {
        loop {
            let left = at.duration_since(self.now());
            let Ok(left) = Duration::try_from(left) else { return };
            if left.is_zero() {
                return;
            }
            tokio::time::sleep(left.min(LOOK_AGAIN)).await;
        }
    }
}

impl fmt::Debug for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Clock({})", self.now())
    }
}

#[cfg(test)]
impl Clock {
    /// A clock that starts at `start` and moves with tokio's, which tests pause.
    pub(crate) fn following_tokio(start: Timestamp) -> Self {
        let origin = tokio::time::Instant::now();
        Self::from_fn(move || SystemTime::from(start) + origin.elapsed())
    }
}

#[cfg(test)]
mod tests {
    use super::Clock;
    use jiff::{SignedDuration, Timestamp};

    #[tokio::test(start_paused = true)]
    async fn sleeps_until_the_wall_clock_shows_the_time() {
        let clock = Clock::following_tokio(Timestamp::UNIX_EPOCH);
        let at = Timestamp::UNIX_EPOCH + SignedDuration::from_hours(30);
        clock.sleep_until(at).await;
        assert!(clock.now() >= at && clock.now() < at + SignedDuration::from_secs(1));
    }

    #[tokio::test(start_paused = true)]
    async fn a_time_gone_by_is_no_wait() {
        let clock = Clock::following_tokio(Timestamp::UNIX_EPOCH);
        let before = tokio::time::Instant::now();
        clock.sleep_until(Timestamp::MIN).await;
        assert!(before.elapsed().is_zero());
    }
}
