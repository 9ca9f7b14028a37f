//! Upkeep: expires what is too old, gives space back, takes snapshots.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use broker_log::CleanError;
use roaring::RoaringTreemap;

use super::durable::Durable;
use super::engine::{Engine, with_causes};
use super::sync::{Woken, lock, now_ms};
use crate::store::Position;

/// A journal of this size is worth replacing by a snapshot: reading it back takes a fraction of a second.
const JOURNAL_BYTES: u64 = 8 << 20;

/// And so is a stretch of log that would have to be routed again after a crash.
const UNSNAPPED_BYTES: u64 = 128 << 20;

/// The thread's own memory.
#[derive(Debug)]
pub(super) struct Cleaner {
    /// Subscriptions for which the journal settled events that the router may come to again.
    recovering: Vec<Arc<Durable>>,
    /// The head of the log when the store was opened.
    recovered_head: Position,
    /// Size of the last snapshot, and how far the router was.
    snapshot_bytes: u64,
    snapshot_routed: Position,
}

impl Cleaner {
    pub(super) fn new(
        recovering: Vec<Arc<Durable>>,
        recovered_head: Position,
        snapshot_routed: Position,
    ) -> Self {
        Self { recovering, recovered_head, snapshot_bytes: 0, snapshot_routed }
    }

    /// Keeps up until told to stop.
    pub(super) fn run(&mut self, engine: &Engine, every: Duration) {
        while engine.keeper.wait(every) != Woken::Stop {
            self.pass(engine);
        }
    }

    fn pass(&mut self, engine: &Engine) {
        expire_old(engine);
        self.forget_settled(engine);
        if let Err(error) = clean(engine) {
            tracing::error!(error = with_causes(&error), "old segments cannot be cleaned");
        }
        if self.is_snapshot_due(engine) {
            let routed = lock(&engine.routing).next;
            match engine.snapshot() {
                Ok(bytes) => (self.snapshot_bytes, self.snapshot_routed) = (bytes, routed),
                Err(error) => {
                    engine.desk.want_snapshot();
                    tracing::error!(%error, "no snapshot could be taken");
                }
            }
        }
        engine.desk.show();
    }

    /// Once the router has passed everything that was there at the start, nothing is decided twice any more.
    fn forget_settled(&mut self, engine: &Engine) {
        if self.recovering.is_empty() {
            return;
        }
        let topics = engine.topics.load_full();
        let routing = lock(&engine.routing);
        if routing.next < self.recovered_head {
            return;
        }
        self.recovering.retain(|durable| {
            let Some(topic) = topics.by_stream.get(&durable.stream) else { return false };
            if topic.selector().is_none() || routing.unrouted.contains_key(&durable.stream) {
                return true;
            }
            durable.with(|ledger| {
                let searching = ledger.book().scan.is_some();
                if !searching {
                    ledger.forget_settled();
                }
                searching
            })
        });
    }

    fn is_snapshot_due(&self, engine: &Engine) -> bool {
        if engine.desk.take_snapshot_wanted() {
            return true;
        }
        if engine.scribe.grown() > JOURNAL_BYTES.max(self.snapshot_bytes.saturating_mul(2)) {
            return true;
        }
        let unsnapped = engine
            .log
            .segments()
            .into_iter()
            .filter(|segment| segment.base >= self.snapshot_routed);
        unsnapped.filter(|segment| segment.sealed).map(|segment| segment.bytes).sum::<u64>()
            > UNSNAPPED_BYTES
    }
}

/// Expires by age what nobody asks for; what is handed out is checked then.
fn expire_old(engine: &Engine) {
    let now = now_ms();
    let mut limits: BTreeMap<u64, Position> = BTreeMap::new();
    for durable in engine.durables() {
        let Some(age) =
            durable.with(|ledger| ledger.max_age_ms().filter(|_| ledger.book().pending_len() > 0))
        else {
            continue;
        };
        let limit =
            *limits.entry(age).or_insert_with(|| engine.log.offset_at(now.saturating_sub(age)));
        durable.with(|ledger| ledger.expire_before(limit, now));
    }
}

/// Gives back the space of what nobody needs, beyond the history that is kept whole.
fn clean(engine: &Engine) -> Result<(), CleanError> {
    let sealed = engine
        .log
        .segments()
        .iter()
        .filter(|segment| segment.sealed)
        .map(|segment| segment.bytes)
        .sum::<u64>();
    if sealed <= engine.history_bytes {
        return Ok(());
    }
    // Held throughout: nothing may become live that was not when the live events were counted.
    let _history = lock(&engine.history);
    let (live, routed) = engine.live();
    let cleaned = engine.log.clean(engine.history_bytes, &|range| within(&live, routed, range))?;
    if cleaned.deleted + cleaned.rewritten > 0 {
        let (deleted, rewritten, freed) = (cleaned.deleted, cleaned.rewritten, cleaned.freed_bytes);
        tracing::debug!(deleted, rewritten, freed, "cleaned the log");
    }
    Ok(())
}

/// The live positions within `range`; all are from `routed` on.
fn within(live: &RoaringTreemap, routed: Position, range: Range<Position>) -> RoaringTreemap {
    let mut positions = live.iter();
    positions.advance_to(range.start);
    let ascending = positions.take_while(|position| *position < range.end);
    let mut found =
        RoaringTreemap::from_sorted_iter(ascending).expect("bitmaps iterate in ascending order");
    let undecided = range.start.max(routed)..range.end;
    if !undecided.is_empty() {
        found.insert_range(undecided);
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_routed_yet_is_live() {
        let live: RoaringTreemap = [3, 5, 9].into_iter().collect();
        assert_eq!(within(&live, 100, 4..8).iter().collect::<Vec<_>>(), [5]);
        assert_eq!(within(&live, 7, 4..10).iter().collect::<Vec<_>>(), [5, 7, 8, 9]);
        assert_eq!(within(&live, 2, 0..3).iter().collect::<Vec<_>>(), [2]);
    }
}
