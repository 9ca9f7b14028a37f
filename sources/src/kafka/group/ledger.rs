//! What a consumer's thread and its deliveries share: the progress, how much is held, and what the group learns of both.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

use super::lanes::Pending;
use super::progress::{Position, Progress, Tenure};

/// Records that a consumer holds: a few batches, of which some are stored and the others wait for their turn.
pub(super) const MAX_RECORDS: usize = 4096;

/// Records that wait to be committed, safe ones behind one that is not included: without an order the others go on while the
/// sink does not take one, and all of them are delivered again after a crash.
const MAX_UNCOMMITTED: usize = 16 * MAX_RECORDS;

/// How often offsets are committed at most. What was delivered in between is delivered again after a crash; a commit is a
/// write to the disks of Kafka.
const COMMIT_EVERY: Duration = Duration::from_millis(10);

/// After so long, offsets that none followed are committed once more: the first time they may have met a server that was
/// not yet, or no longer, there for the group.
const COMMIT_AGAIN: Duration = Duration::from_secs(5);

/// Shared by a consumer's thread, its callbacks (which run on that thread) and its deliveries.
#[derive(Debug)]
pub(super) struct Ledger {
    state: Mutex<State>,
    /// Something was finished.
    finished: Condvar,
    seen: watch::Sender<Seen>,
    /// Bytes that may be held.
    most_bytes: usize,
}

/// What a consumer shows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Seen {
    /// Whether it is a member of the group.
    pub(super) joined: bool,
    /// What it reads.
    pub(super) partitions: BTreeMap<Arc<str>, BTreeSet<i32>>,
    /// How many records wait in Kafka, once that is known.
    pub(super) lag: Option<u64>,
}

#[derive(Debug, Default)]
struct State {
    progress: Progress,
    records: usize,
    bytes: usize,
    /// When offsets were committed last.
    committed: Option<Instant>,
    /// Whether they are to be committed once more.
    again: bool,
    /// What the client last complained of.
    complaint: String,
    /// When a server failed, if nothing has come since.
    away: Option<Instant>,
    /// Whether nothing more will be finished.
    ended: bool,
}

impl Ledger {
    /// Of a consumer that may hold `most_bytes`.
    pub(super) fn new(most_bytes: usize) -> Arc<Self> {
        Arc::new(Self {
            state: Mutex::default(),
            finished: Condvar::new(),
            seen: watch::Sender::default(),
            most_bytes,
        })
    }

    /// What it shows, now and later.
    pub(super) fn watch(&self) -> watch::Receiver<Seen> {
        self.seen.subscribe()
    }

    // --- Of the thread ---

    /// The partitions were assigned.
    pub(super) fn assign(&self, partitions: &[(String, i32)]) {
        let mut state = self.state();
        for (topic, partition) in partitions {
            state.progress.assign(topic, *partition);
        }
        self.show(&state.progress);
    }

    /// The partitions are somebody else's.
    pub(super) fn revoke(&self, partitions: &[(String, i32)]) {
        let mut state = self.state();
        for (topic, partition) in partitions {
            state.progress.revoke(topic, *partition);
        }
        self.show(&state.progress);
    }

    /// How many records wait in Kafka.
    pub(super) fn lag(&self, lag: u64) {
        self.seen.send_if_modified(|seen| seen.lag.replace(lag) != Some(lag));
    }

    /// A record is under way, of so many bytes. Nothing if it is not this consumer's.
    pub(super) fn begin(
        &self,
        topic: &str,
        partition: i32,
        offset: i64,
        size: usize,
    ) -> Option<Tenure> {
        let mut state = self.state();
        state.away = None;
        let tenure = state.progress.begin(topic, partition, offset)?;
        state.records += 1;
        state.bytes += size;
        Some(tenure)
    }

    /// The deliveries have all that was begun.
    pub(super) fn handed(&self) {
        self.state().progress.handed();
    }

    /// Whether anything is under way or waits to be committed.
    pub(super) fn is_busy(&self) -> bool {
        let state = self.state();
        state.records > 0 || state.progress.is_due()
    }

    /// Whether more may be taken in.
    pub(super) fn has_room(&self) -> bool {
        self.state().has_room(MAX_RECORDS, self.most_bytes)
    }

    /// Whether so much is gone that it pays to go on.
    pub(super) fn is_half_empty(&self) -> bool {
        self.state().has_room(MAX_RECORDS / 2, self.most_bytes / 2)
    }

    /// Waits until more may be taken in; whether it may.
    pub(super) fn wait_for_room(&self, longest: Duration) -> bool {
        self.wait(longest, |state| state.has_room(MAX_RECORDS, self.most_bytes))
    }

    /// Waits until nothing of these partitions is under way, or nothing will be finished any more.
    pub(super) fn wait_for(&self, partitions: &[(String, i32)], longest: Duration) {
        self.wait(longest, |state| state.ended || !state.progress.is_busy(partitions));
    }

    /// What to commit now. What was committed last is once more, after a while in which nothing followed.
    ///
    /// While a server is away that is nothing: offsets that the library could not send it does not let go of when it is
    /// closed, for as long as the server is away.
    pub(super) fn due(&self) -> Vec<Position> {
        let mut state = self.state();
        let since = state.committed.map(|last| last.elapsed());
        if state.away.is_some() || since.is_some_and(|since| since < COMMIT_EVERY) {
            return Vec::new();
        }
        let is_due = state.progress.is_due();
        let again = !is_due && state.again && since.is_some_and(|since| since >= COMMIT_AGAIN);
        if again {
            state.progress.uncommitted();
        }
        if again || is_due {
            state.committed = Some(Instant::now());
            state.again = is_due;
        }
        state.progress.due()
    }

    /// What to commit, whatever was committed before: the last chance.
    pub(super) fn rest(&self) -> Vec<Position> {
        let mut state = self.state();
        if state.away.is_some() {
            return Vec::new();
        }
        state.progress.uncommitted();
        state.progress.due()
    }

    /// A server failed.
    pub(super) fn is_missed(&self) {
        self.state().away.get_or_insert_with(Instant::now);
    }

    /// Kafka is there.
    pub(super) fn is_there(&self) {
        self.state().away = None;
    }

    /// Whether a server failed longer ago than this, and nothing has come from Kafka since.
    pub(super) fn is_away_for(&self, longest: Duration) -> bool {
        self.state().away.is_some_and(|since| since.elapsed() >= longest)
    }

    /// What the client complains of; the reason of the error that follows.
    pub(super) fn complain(&self, complaint: String) {
        self.state().complaint = complaint;
    }

    /// What it complained of last.
    pub(super) fn complaint(&self) -> String {
        self.state().complaint.clone()
    }

    // --- Of the deliveries ---

    /// Drops the records whose partitions went to somebody else, and keeps the others.
    pub(super) fn still_ours(&self, records: Vec<Pending>) -> Vec<Pending> {
        let mut state = self.state();
        let (ours, others): (Vec<_>, Vec<_>) =
            records.into_iter().partition(|record| state.progress.holds(record.tenure));
        state.release(others.len(), others.iter().map(|record| record.size).sum());
        self.finished.notify_all();
        ours
    }

    /// The records are safe.
    pub(super) fn finish(&self, records: &[(Tenure, i64)], bytes: usize) {
        let mut state = self.state();
        for (tenure, offset) in records {
            state.progress.finish(*tenure, *offset);
        }
        state.release(records.len(), bytes);
        self.finished.notify_all();
    }

    /// Nothing more will be finished.
    pub(super) fn end(&self) {
        self.state().ended = true;
        self.finished.notify_all();
    }

    fn show(&self, progress: &Progress) {
        let mut partitions: BTreeMap<Arc<str>, BTreeSet<i32>> = BTreeMap::new();
        for (topic, partition) in progress.partitions() {
            partitions.entry(Arc::clone(topic)).or_default().insert(partition);
        }
        self.seen.send_modify(|seen| {
            seen.joined = true;
            seen.partitions = partitions;
        });
    }

    fn wait(&self, longest: Duration, done: impl Fn(&State) -> bool) -> bool {
        let waited = self.finished.wait_timeout_while(self.state(), longest, |state| !done(state));
        let (state, _) = waited.unwrap_or_else(PoisonError::into_inner);
        done(&state)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Nothing panics while the lock is held but a debug assertion.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// A record larger than the bound is taken in alone.
    fn has_room(&self, most_records: usize, most_bytes: usize) -> bool {
        self.records < most_records
            && (self.bytes < most_bytes || self.records == 0)
            && self.progress.under_way() < MAX_UNCOMMITTED
    }

    fn release(&mut self, records: usize, bytes: usize) {
        self.records = self.records.saturating_sub(records);
        self.bytes = self.bytes.saturating_sub(bytes);
    }
}
