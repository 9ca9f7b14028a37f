//! How long to wait after a failure: exponential, jittered, capped. Pure.

use std::time::Duration;

/// A schedule of waits.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Backoff {
    /// The middle of the first wait.
    pub(crate) first: Duration,
    /// No wait is longer.
    pub(crate) most: Duration,
}

impl Backoff {
    /// The wait after `failures` failures in a row (the first is number 1). `dice` is between 0 and 1.
    ///
    /// A wait is between a half and three halves of its nominal length, so that sources which failed together, say
    /// because a server went away, do not come back together.
    pub(crate) fn wait(self, failures: u32, dice: f64) -> Duration {
        // 2^20 times the first wait is past any cap that is sane; it keeps the shift within bounds.
        let doublings = failures.saturating_sub(1).min(20);
        let nominal = self.first.saturating_mul(1 << doublings).min(self.most);
        nominal.mul_f64(0.5 + dice.clamp(0.0, 1.0)).min(self.most)
    }
}

/// The thin edge: a fresh `dice` for [`Backoff::wait`].
pub(crate) fn roll() -> f64 {
    fastrand::f64()
}

#[cfg(test)]
mod tests {
    use super::Backoff;
    use std::time::Duration;

    const BACKOFF: Backoff =
        Backoff { first: Duration::from_secs(1), most: Duration::from_secs(60) };

    #[test]
    fn doubles_up_to_the_cap() {
        let waits: Vec<u64> = (1..=8).map(|n| BACKOFF.wait(n, 0.5).as_secs()).collect();
        assert_eq!(waits, [1, 2, 4, 8, 16, 32, 60, 60]);
        assert_eq!(BACKOFF.wait(u32::MAX, 1.0), Duration::from_secs(60));
    }

    #[test]
    fn jitter_spreads_around_the_nominal_wait() {
        assert_eq!(BACKOFF.wait(1, 0.0), Duration::from_millis(500));
        assert_eq!(BACKOFF.wait(1, 1.0), Duration::from_millis(1500));
        assert_eq!(BACKOFF.wait(0, 7.0), Duration::from_millis(1500));
    }
}
