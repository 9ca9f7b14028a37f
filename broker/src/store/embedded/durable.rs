//! A durable subscription as the threads of the store share it: its ledger behind a lock held briefly, and a bell.

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock};

use broker_event::Event;
use roaring::RoaringTreemap;
use tokio::sync::Notify;

use super::book::{Book, Note};
use super::ledger::{Ledger, Next, Ready, Settled};
use super::metrics::EmbeddedMetrics;
use super::sync::{Signal, lock, now_ms};
use crate::store::{
    Outcome, Position, Settle, Settlement, Slot, StoreError, SubscribeOptions, Topic,
};

/// Bytes of events that may lie ready for all subscriptions together. Events are shared between subscriptions and
/// counted for each, so this bounds what is held from above.
const READY_BYTES_TOTAL: usize = 64 << 20;

/// What all subscriptions of a store share.
#[derive(Debug, Default)]
pub(super) struct Desk {
    /// Numbers of the subscriptions whose notes wait for the journal.
    dirty: Mutex<Vec<u32>>,
    ready_bytes: AtomicUsize,
    snapshot_wanted: AtomicBool,
    /// Asked when the first subscription gets dirty.
    pub(super) writer: Signal,
    pub(super) metrics: EmbeddedMetrics,
}

/// An event on its way from the log to the subscriptions.
#[derive(Debug)]
pub(super) struct Staged {
    pub(super) stream: u32,
    pub(super) position: Position,
    pub(super) time_ms: u64,
    pub(super) bytes: usize,
    pub(super) event: Event,
}

/// A durable subscription.
pub(super) struct Durable {
    /// Its number in the journal, never used again.
    pub(super) id: u32,
    pub(super) stream: u32,
    pub(super) topic: Topic,
    pub(super) name: Arc<str>,
    /// Its number for selectors; none until somebody held it since the store was opened.
    pub(super) slot: OnceLock<Slot>,
    /// Whether a selector was installed since it got its slot.
    pub(super) known: AtomicBool,
    /// Rung when there may be something to hand out.
    pub(super) bell: Notify,
    inner: Mutex<Inner>,
    desk: Arc<Desk>,
}

#[derive(Debug)]
struct Inner {
    ledger: Ledger<Event>,
    gone: Option<StoreError>,
    dirty: bool,
}

impl Desk {
    /// Whether events may be laid ready.
    pub(super) fn has_room(&self) -> bool {
        self.ready_bytes.load(Ordering::Relaxed) < READY_BYTES_TOTAL
    }

    /// The subscriptions whose notes wait for the journal; each once.
    pub(super) fn take_dirty(&self) -> Vec<u32> {
        std::mem::take(&mut *lock(&self.dirty))
    }

    fn add_dirty(&self, id: u32) {
        let mut dirty = lock(&self.dirty);
        dirty.push(id);
        if dirty.len() == 1 {
            drop(dirty);
            self.writer.ask();
        }
    }

    /// Asks for a snapshot.
    pub(super) fn want_snapshot(&self) {
        self.snapshot_wanted.store(true, Ordering::Release);
    }

    /// Whether a snapshot was asked for since the last call.
    pub(super) fn take_snapshot_wanted(&self) -> bool {
        self.snapshot_wanted.swap(false, Ordering::AcqRel)
    }

    fn moved(&self, before: usize, after: usize) {
        if after > before {
            self.ready_bytes.fetch_add(after - before, Ordering::Relaxed);
        } else if before > after {
            self.ready_bytes.fetch_sub(before - after, Ordering::Relaxed);
        }
    }

    /// Shows the gauges what they measure.
    pub(super) fn show(&self) {
        let bytes = self.ready_bytes.load(Ordering::Relaxed);
        self.metrics.ready_bytes.set(i64::try_from(bytes).unwrap_or(i64::MAX));
    }
}

impl Durable {
    /// The subscription `name` of `topic` in the state of `book`.
    pub(super) fn new(
        id: u32,
        place: (u32, Topic),
        name: &str,
        book: Book,
        desk: Arc<Desk>,
    ) -> Self {
        let (stream, topic) = place;
        Self {
            id,
            stream,
            topic,
            name: name.into(),
            slot: OnceLock::new(),
            known: AtomicBool::new(false),
            bell: Notify::new(),
            inner: Mutex::new(Inner { ledger: Ledger::new(book), gone: None, dirty: false }),
            desk,
        }
    }

    /// Makes the caller the holder.
    ///
    /// # Errors
    /// [`StoreError::Held`] when there is one; why the subscription is no more.
    pub(super) fn hold(&self, options: &SubscribeOptions) -> Result<(), StoreError> {
        let now = now_ms();
        self.act(|inner| {
            if let Some(gone) = &inner.gone {
                return Err(gone.clone());
            }
            if inner.ledger.is_held() {
                return Err(StoreError::Held(self.name.to_string()));
            }
            inner.ledger.hold(options, now);
            Ok(())
        })
    }

    /// The holder is gone.
    pub(super) fn let_go(&self) {
        self.act(|inner| inner.ledger.let_go());
    }

    /// The subscription or the store is no more; whoever waits hears `why`.
    pub(super) fn close(&self, why: StoreError) {
        self.act(|inner| inner.gone = Some(why));
        self.bell.notify_one();
    }

    /// Takes those of `staged` that the selector picked for it.
    pub(super) fn route(&self, staged: &[Staged], picks: &[usize], now_ms: u64) {
        let room = self.desk.has_room();
        let (mut new, mut live) = (0, 0);
        let held = self.act(|inner| {
            let ledger = &mut inner.ledger;
            for event in picks.iter().filter_map(|pick| staged.get(*pick)) {
                if event.stream != self.stream || !ledger.route(event.position, now_ms) {
                    continue;
                }
                new += 1;
                if room && ledger.takes_live(event.bytes) {
                    live += 1;
                    let Staged { position, time_ms, bytes, .. } = *event;
                    ledger.lay_ready(Ready { position, time_ms, bytes, item: event.event.clone() });
                }
            }
            ledger.is_held()
        });
        if new > 0 {
            self.desk.metrics.matched.inc_by(new);
            self.desk.metrics.handed_live.inc_by(live);
            if held {
                self.bell.notify_one();
            }
        }
    }

    /// What the holder has to do to get at most `max` deliveries.
    ///
    /// # Errors
    /// Why the subscription is no more.
    pub(super) fn next(&self, max: usize, now_ms: u64) -> Result<Next<Event>, StoreError> {
        self.act(|inner| match &inner.gone {
            Some(gone) => Err(gone.clone()),
            None => Ok(inner.ledger.next(max, now_ms)),
        })
    }

    /// Looks at or changes the ledger, and sees to the consequences.
    pub(super) fn with<R>(&self, act: impl FnOnce(&mut Ledger<Event>) -> R) -> R {
        self.act(|inner| act(&mut inner.ledger))
    }

    /// Adds every position whose event must stay on disk, and what is still to be searched: from the first position
    /// of the search up to `routed` at most.
    pub(super) fn add_live(&self, live: &mut RoaringTreemap, routed: Position) {
        let inner = lock(&self.inner);
        inner.ledger.book().add_live(live);
        if let Some(scan) = inner.ledger.book().scan {
            live.insert_range(scan.next..scan.end.unwrap_or(routed).max(scan.next));
        }
    }

    /// What is to be written to the journal, in order. The caller holds the journal, so that order is kept.
    pub(super) fn take_notes(&self) -> Vec<Note> {
        let mut inner = lock(&self.inner);
        inner.dirty = false;
        if inner.ledger.take_overflowed() {
            self.desk.want_snapshot();
        }
        inner.ledger.take_notes()
    }

    fn act<R>(&self, act: impl FnOnce(&mut Inner) -> R) -> R {
        let mut inner = lock(&self.inner);
        let before = inner.ledger.ready_bytes();
        let result = act(&mut inner);
        self.desk.moved(before, inner.ledger.ready_bytes());
        let dropped = inner.ledger.take_dropped();
        let newly_dirty = !inner.dirty && inner.ledger.has_notes();
        inner.dirty |= newly_dirty;
        drop(inner);
        if newly_dirty {
            self.desk.add_dirty(self.id);
        }
        if dropped.expired > 0 {
            self.desk.metrics.expired.inc_by(dropped.expired);
        }
        if dropped.lost > 0 {
            self.desk.metrics.lost.inc_by(dropped.lost);
            tracing::error!(subscription = %self.name, events = dropped.lost, "stored events could not be read back");
        }
        result
    }
}

impl fmt::Debug for Durable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Durable")
            .field("id", &self.id)
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

impl Settle for Durable {
    fn settle(&self, position: Position, settlement: Settlement, outcome: Option<Outcome>) {
        let settled = self.act(|inner| inner.ledger.settle(position, settlement, outcome));
        let metrics = &self.desk.metrics;
        match settled {
            Settled::Acked => metrics.acked.inc(),
            Settled::Parked => metrics.parked.inc(),
            Settled::Held => metrics.retried.inc(),
            Settled::Retried => {
                self.bell.notify_one();
                metrics.retried.inc()
            }
            Settled::Released => {
                self.bell.notify_one();
                0
            }
            Settled::Ignored => 0,
        };
    }
}
