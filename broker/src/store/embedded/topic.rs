//! A declared topic as the threads of the store share it, and what it may keep.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use crate::store::{REPLY_PART, Selector, Topic};

use super::sync::lock;

/// A budget is measured again after this many times what the last measurement took, so that measuring takes a twentieth of one
/// core.
const MEASURE_SHARE: u32 = 20;

/// And at the latest after this long, so that a sender does not wait much longer than it has to.
const MEASURE_AT_LEAST: Duration = Duration::from_secs(1);

/// And at once when so large a part of the budget came since, however long measuring takes: half of what replies may use beyond
/// it, so that senders who came while nobody measured have not used that up.
const MEASURE_PART: u64 = 2 * REPLY_PART;

/// A declared topic.
#[derive(Debug)]
pub(super) struct OpenTopic {
    /// Its number in the log.
    pub(super) stream: u32,
    pub(super) topic: Topic,
    budget: AtomicU64,
    removed: AtomicBool,
    selector: Mutex<Option<Arc<dyn Selector>>>,
    /// Bytes kept when last measured, and appended since.
    kept: AtomicU64,
    since: AtomicU64,
    usage: Mutex<Usage>,
}

/// Result of measuring what a topic keeps.
#[derive(Clone, Debug, Default)]
pub(super) struct Usage {
    /// Bytes that subscriptions still need.
    pub(super) kept: u64,
    /// The subscription that needs most.
    pub(super) largest: Option<Holding>,
    next: Option<Instant>,
}

/// What one subscription holds.
#[derive(Clone, Debug)]
pub(super) struct Holding {
    pub(super) name: Arc<str>,
    pub(super) waiting: u64,
    pub(super) parked: u64,
}

impl OpenTopic {
    /// A topic nobody routes yet.
    pub(super) fn new(stream: u32, topic: Topic, budget: u64) -> Self {
        Self {
            stream,
            topic,
            budget: AtomicU64::new(budget),
            removed: AtomicBool::new(false),
            selector: Mutex::new(None),
            kept: AtomicU64::new(0),
            since: AtomicU64::new(0),
            usage: Mutex::new(Usage::default()),
        }
    }

    pub(super) fn budget(&self) -> u64 {
        self.budget.load(Ordering::Relaxed)
    }

    /// Changes the budget. What was measured stays true.
    pub(super) fn set_budget(&self, budget: u64) {
        self.budget.store(budget, Ordering::Relaxed);
    }

    pub(super) fn is_removed(&self) -> bool {
        self.removed.load(Ordering::Acquire)
    }

    pub(super) fn set_removed(&self) {
        self.removed.store(true, Ordering::Release);
        *lock(&self.selector) = None;
    }

    pub(super) fn selector(&self) -> Option<Arc<dyn Selector>> {
        lock(&self.selector).clone()
    }

    pub(super) fn set_selector(&self, selector: Arc<dyn Selector>) {
        *lock(&self.selector) = Some(selector);
    }

    /// Asks to keep `bytes` more within `limit`; `measure` counts what is kept, and is called only when the answer is in doubt.
    ///
    /// # Errors
    /// The usage, when the budget is used up.
    pub(super) fn admit(
        &self,
        bytes: u64,
        limit: u64,
        now: Instant,
        measure: impl FnOnce() -> Usage,
    ) -> Result<(), Usage> {
        let since = self.since.fetch_add(bytes, Ordering::Relaxed).saturating_add(bytes);
        if self.kept.load(Ordering::Relaxed).saturating_add(since) <= limit {
            return Ok(());
        }
        // One sender measures; the others take the last result meanwhile.
        let Ok(mut usage) = self.usage.try_lock() else {
            return if self.kept.load(Ordering::Relaxed) < limit {
                Ok(())
            } else {
                Err(self.full())
            };
        };
        if usage.next.is_none_or(|next| now >= next) || since > limit / MEASURE_PART {
            self.since.store(0, Ordering::Relaxed);
            *usage = measure();
            let took = super::sync::steady().saturating_duration_since(now);
            usage.next = Some(now + took.saturating_mul(MEASURE_SHARE).min(MEASURE_AT_LEAST));
            self.kept.store(usage.kept, Ordering::Relaxed);
        }
        if usage.kept < limit {
            return Ok(());
        }
        self.since.fetch_sub(bytes.min(since), Ordering::Relaxed);
        Err(usage.clone())
    }

    /// What is known about a full topic while somebody else measures it.
    fn full(&self) -> Usage {
        Usage { kept: self.kept.load(Ordering::Relaxed), ..Usage::default() }
    }
}

impl Usage {
    pub(super) fn new(kept: u64, largest: Option<Holding>) -> Self {
        Self { kept, largest, next: None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::embedded::sync::steady;

    fn topic(budget: u64) -> OpenTopic {
        OpenTopic::new(0, Topic::new("default", "b"), budget)
    }

    #[test]
    fn nothing_is_measured_while_the_answer_is_clear() {
        let topic = topic(100);
        for _ in 0..10 {
            assert!(topic.admit(10, 100, steady(), || unreachable!("far from the budget")).is_ok());
        }
    }

    #[test]
    fn a_full_topic_refuses_and_resumes_when_measured_lower() {
        let topic = topic(100);
        let usage = topic.admit(200, 100, steady(), || Usage::new(150, None)).unwrap_err();
        assert_eq!(usage.kept, 150);
        let later = steady() + MEASURE_AT_LEAST;
        assert!(topic.admit(1, 100, later, || Usage::new(10, None)).is_ok());
        assert!(topic.admit(1, 100, later, || unreachable!("measured low a moment ago")).is_ok());
    }

    #[test]
    fn what_comes_while_nobody_measures_is_a_part_of_the_budget() {
        let topic = topic(160);
        // Measuring took half a second, so the next time would be in half a second.
        let now = steady().checked_sub(Duration::from_millis(500)).unwrap();
        assert!(topic.admit(200, 160, now, || Usage::new(150, None)).is_ok());
        assert!(topic.admit(10, 160, now, || unreachable!("there is room")).is_ok());
        let usage = topic.admit(10, 160, now, || Usage::new(170, None)).unwrap_err();
        assert_eq!(usage.kept, 170);
    }
}
