//! When what failed is tried again.

use std::collections::BTreeMap;
use std::time::Duration;

use crds::object::Key;
use tokio::time::Instant;

/// The first wait: a server that restarts is back by then, and a conflict is resolved by the watch long before.
const FIRST: Duration = Duration::from_secs(1);
/// The longest wait: what fails for hours (a missing permission) costs a request every five minutes, and works at most
/// five minutes after somebody mended it.
const MOST: Duration = Duration::from_secs(300);
/// Which part of a wait is random: objects that failed together must not come back together.
const JITTER: f64 = 0.5;

/// The wait after `failures` failures in a row, of which there is at least one. `random` is from 0 to below 1.
pub(crate) fn wait(failures: u32, random: f64) -> Duration {
    let doublings = failures.saturating_sub(1).min(16);
    let whole = FIRST.saturating_mul(1 << doublings).min(MOST);
    whole.mul_f64(1.0 - JITTER * random.clamp(0.0, 1.0))
}

/// Writes of one object in [`WINDOW`] that need no wait. Nobody changes a manifest that often; but another controller that
/// takes the same object for its own undoes each write at once, and two of these would keep an API server busy for ever.
const MOST_WRITES: u32 = 20;
const WINDOW: Duration = Duration::from_secs(60);

/// What failed, and when it may be tried again.
#[derive(Debug, Default)]
pub(crate) struct Retries {
    failed: BTreeMap<Key, Failed>,
    written: BTreeMap<Key, Written>,
}

/// Writes since a moment.
#[derive(Debug)]
struct Written {
    since: Instant,
    count: u32,
}

#[derive(Debug)]
struct Failed {
    failures: u32,
    due: Instant,
    /// Set by a conflict: another version of the object is another matter and need not wait.
    version: Option<String>,
}

impl Retries {
    /// Whether `version` of the object may be written now.
    pub(crate) fn allows(&self, key: &Key, version: &str, now: Instant) -> bool {
        self.failed.get(key).is_none_or(|failed| {
            failed.due <= now || failed.version.as_deref().is_some_and(|known| known != version)
        })
    }

    /// It was written. If that was so often that somebody must be undoing it, the next time has to wait.
    pub(crate) fn succeeded(&mut self, key: &Key, now: Instant, random: f64) {
        self.failed.remove(key);
        let written = self.written.entry(key.clone()).or_insert(Written { since: now, count: 0 });
        written.count = written.count.saturating_add(1);
        if written.count > MOST_WRITES {
            self.failed(key.clone(), None, now, random);
        }
    }

    /// It is no more.
    pub(crate) fn gone(&mut self, key: &Key) {
        self.failed.remove(key);
    }

    /// It was not. `conflict` says with which version of the object, when that is why.
    pub(crate) fn failed(&mut self, key: Key, conflict: Option<String>, now: Instant, random: f64) {
        let failures = self.failed.get(&key).map_or(0, |failed| failed.failures).saturating_add(1);
        let due = now + wait(failures, random);
        self.failed.insert(key, Failed { failures, due, version: conflict });
    }

    /// When the next one is due that is not due yet.
    pub(crate) fn next(&self, now: Instant) -> Option<Instant> {
        self.failed.values().map(|failed| failed.due).filter(|due| *due > now).min()
    }

    /// Forgets what nobody wants written any more, and what was written long ago.
    pub(crate) fn keep(&mut self, wanted: impl Fn(&Key) -> bool, now: Instant) {
        // A wait outlives the wish: what is undone is not wanted in the moment after it was written.
        self.failed.retain(|key, failed| wanted(key) || failed.due > now);
        let fresh = |written: &Written| now.saturating_duration_since(written.since) < WINDOW;
        self.written.retain(|_, written| fresh(written));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(name: &str) -> Key {
        Key { kind: "Trigger", namespace: "default".to_owned(), name: name.to_owned() }
    }

    #[test]
    fn waits_double_from_a_second_to_five_minutes_and_half_of_each_is_random() {
        let seconds = |failures| wait(failures, 0.0).as_secs();
        assert_eq!([1, 2, 3, 9, 10, u32::MAX].map(seconds), [1, 2, 4, 256, 300, 300]);
        assert_eq!(wait(1, 1.0), Duration::from_millis(500));
        assert_eq!(wait(30, 0.5), Duration::from_secs(225));
    }

    #[tokio::test(start_paused = true)]
    async fn what_failed_waits_and_a_conflict_waits_only_for_another_version() {
        let now = Instant::now();
        let mut retries = Retries::default();
        assert!(retries.allows(&key("a"), "1", now));
        retries.failed(key("a"), None, now, 0.0);
        retries.failed(key("b"), Some("1".to_owned()), now, 0.0);
        assert!(!retries.allows(&key("a"), "2", now));
        assert!(!retries.allows(&key("b"), "1", now));
        assert!(retries.allows(&key("b"), "2", now));
        let second = now + Duration::from_secs(1);
        assert_eq!(retries.next(now), Some(second));
        assert!(retries.allows(&key("a"), "2", second) && retries.allows(&key("b"), "1", second));
        retries.failed(key("a"), None, second, 0.0);
        assert_eq!(retries.next(second), Some(second + Duration::from_secs(2)));
        retries.succeeded(&key("a"), second, 0.0);
        retries.keep(|_| false, second);
        assert_eq!(retries.next(now), None);
    }

    #[tokio::test(start_paused = true)]
    async fn what_somebody_keeps_undoing_has_to_wait_until_they_stop() {
        let now = Instant::now();
        let mut retries = Retries::default();
        let mut count = 0;
        while retries.allows(&key("a"), "1", now) {
            retries.succeeded(&key("a"), now, 0.0);
            count += 1;
        }
        assert_eq!(count, 21);
        assert!(retries.allows(&key("b"), "1", now));
        let later = now + WINDOW;
        retries.keep(|_| true, later);
        retries.succeeded(&key("a"), later, 0.0);
        assert!(retries.allows(&key("a"), "1", later));
    }
}
