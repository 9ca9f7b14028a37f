//! The one place that reads the wall clock.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Now, by the wall clock: due times survive a restart, so they cannot be told by a monotonic clock.
#[expect(clippy::disallowed_methods, reason = "the edge: pure code takes the time as an argument")]
pub(crate) fn now() -> SystemTime {
    SystemTime::now()
}

/// Milliseconds since the Unix epoch; 0 before it.
pub(crate) fn millis(time: SystemTime) -> u64 {
    whole_millis(time.duration_since(UNIX_EPOCH).unwrap_or_default())
}

/// A duration in whole milliseconds, saturating.
pub(crate) fn whole_millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
