//! The wall clock, read in one place.

use std::time::SystemTime;

/// Now.
#[must_use]
pub fn now() -> SystemTime {
    #[expect(clippy::disallowed_methods, reason = "the edge that hands the time to everybody else")]
    SystemTime::now()
}
