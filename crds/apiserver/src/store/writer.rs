//! The one thread that writes. What came while the last commit ran shares the next one. What the database lacks it gets when the
//! writes have been answered: when it must, and when nothing else is to be done.

use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::disk::{CommitError, Disk};
use super::memory::{Memory, Woken};
use super::queue::{Next, Queue};
use super::{Change, Event, EventKind, Expected, Key, Record, WriteError};

/// Writes that share a commit: this bounds how long the first of them waits for the last.
const COMMIT_WRITES: usize = 1_024;

/// Bytes of JSON after which a commit takes no more writes: a tenth of a second of a slow disk, and half of the journal.
const COMMIT_BYTES: usize = 4 << 20;

/// Watches are woken for a change at once if they were not for so long, and for several together if they were: those who watch
/// would otherwise take the processors from those who write, a change at a time.
const WAKE_EVERY: Duration = Duration::from_millis(10);

/// After so long without a write, nobody is kept waiting for the next one.
const WAKE_AFTER: Duration = Duration::from_millis(1);

/// A write that waits.
pub(super) struct Request {
    pub(super) key: Key,
    pub(super) expected: Expected,
    pub(super) change: Change,
    pub(super) answer: Answer,
}

type Answer = oneshot::Sender<Result<Arc<Record>, WriteError>>;

/// Owns the files.
pub(super) struct Writer {
    disk: Disk,
    memory: Arc<Memory>,
    /// Set once, by the first commit that failed.
    failure: Arc<OnceLock<String>>,
    /// Whose watches are to be woken.
    woken: Woken,
    /// When watches were last woken.
    last_wake: Instant,
}

/// What the next commit will do.
#[derive(Default)]
struct Batch {
    /// In order of version, and where the kind of each is in memory.
    events: Vec<(usize, Arc<Event>)>,
    /// What the commit makes of the keys it touches: what later writes of the same batch are compared with.
    pending: HashMap<Key, Option<Arc<Record>>>,
    /// What to say once it is done. A conflict with a change of the same batch is one only if that change gets to the disk.
    answers: Vec<(Answer, Result<Arc<Record>, WriteError>)>,
    /// Writes looked at, done or not.
    looked_at: usize,
    bytes: usize,
}

impl Writer {
    pub(super) fn new(disk: Disk, memory: Arc<Memory>, failure: Arc<OnceLock<String>>) -> Self {
        let woken = Woken::default();
        Self { disk, memory, failure, woken, last_wake: Instant::now() }
    }

    /// Runs until the queue is closed and empty, then closes the files.
    pub(super) fn run(mut self, queue: &Queue) {
        // Also when this thread panics: nobody may wait for it then.
        let abandoned = Abandon(queue);
        loop {
            match queue.pop(self.patience()) {
                Next::Request(first) => self.write(first, queue),
                Next::Idle if !self.woken.is_empty() => self.wake(),
                Next::Idle => self.checkpoint(),
                Next::Closed => break,
            }
        }
        self.wake();
        if self.failure.get().is_none()
            && let Err(error) = self.disk.close()
        {
            tracing::warn!(
                ?error,
                "the journal could not be emptied; the next start takes over what it holds"
            );
        }
        drop(abandoned);
    }

    /// Writes what is queued, as much as fits one commit.
    fn write(&mut self, first: Request, queue: &Queue) {
        let mut batch = Batch::default();
        self.add(&mut batch, first);
        while batch.has_room() {
            let Some(next) = queue.try_pop() else { break };
            self.add(&mut batch, next);
        }
        self.finish(batch);
        if self.disk.is_checkpoint_due() {
            self.checkpoint();
        }
    }

    /// How long to wait for a write until watches are woken, or else the database is brought up to date.
    fn patience(&self) -> Option<Duration> {
        if !self.woken.is_empty() {
            return Some(WAKE_AFTER);
        }
        if self.failure.get().is_some() { None } else { self.disk.patience() }
    }

    /// Brings the database up to date. Without room for it the journal keeps what it holds, and writes that need more are told.
    fn checkpoint(&mut self) {
        if self.failure.get().is_none()
            && let Err(CommitError::Failed(what)) = self.disk.checkpoint()
        {
            self.fail(what);
        }
    }

    /// Checks a write and makes its event.
    fn add(&self, batch: &mut Batch, request: Request) {
        batch.looked_at = batch.looked_at.saturating_add(1);
        let Request { key, expected, change, answer } = request;
        // Nobody waits for it any more: the client went away while it was queued.
        if answer.is_closed() {
            return;
        }
        let Some(kind) = self.memory.index(key.resource) else {
            let what = format!("it does not serve {}", key.resource.full_name());
            return respond(answer, Err(WriteError::Failed(what)));
        };
        let pending = batch.pending.get(&key);
        let current = pending.cloned().unwrap_or_else(|| self.memory.get(&key));
        if !holds(expected, &change, current.as_deref()) {
            let conflict = Err(WriteError::Conflict { current });
            if pending.is_some() {
                batch.answers.push((answer, conflict));
            } else {
                respond(answer, conflict);
            }
            return;
        }
        match self.make(batch, key, change, current) {
            Some(event) => {
                let record = Arc::clone(&event.record);
                batch.push(kind, event);
                batch.answers.push((answer, Ok(record)));
            }
            None => respond(answer, Err(WriteError::Failed("the change panicked".to_owned()))),
        }
    }

    /// The event of a change; none if its function panicked, which harms no other write.
    fn make(
        &self,
        batch: &Batch,
        key: Key,
        change: Change,
        previous: Option<Arc<Record>>,
    ) -> Option<Event> {
        let last = batch.events.last().map_or_else(
            // Nobody else changes it.
            || self.memory.version(),
            |(_, event)| event.record.version,
        );
        let version = last.saturating_add(1);
        let (make, deletes) = match change {
            Change::Put(make) => (make, false),
            Change::Delete(make) => (make, true),
        };
        let json: Bytes = catch_unwind(AssertUnwindSafe(|| make(version))).ok()?;
        let kind = match (&previous, deletes) {
            (_, true) => EventKind::Deleted,
            (Some(_), false) => EventKind::Modified,
            (None, false) => EventKind::Added,
        };
        Some(Event { kind, record: Arc::new(Record { key, version, json }), previous })
    }

    /// Commits, publishes and answers, in this order.
    fn finish(&mut self, batch: Batch) {
        let Batch { events, answers, .. } = batch;
        let error = if events.is_empty() { None } else { self.commit(&events) };
        if error.is_none() {
            self.memory.publish(events, &mut self.woken);
        }
        for (answer, result) in answers {
            respond(answer, error.clone().map_or(result, Err));
        }
        // After the answers: those who wrote wait longer.
        if self.last_wake.elapsed() >= WAKE_EVERY {
            self.wake();
        }
    }

    fn wake(&mut self) {
        self.memory.wake(&mut self.woken);
        self.last_wake = Instant::now();
    }

    fn commit(&mut self, events: &[(usize, Arc<Event>)]) -> Option<WriteError> {
        if let Some(failure) = self.failure.get() {
            return Some(WriteError::Failed(failure.clone()));
        }
        match self.disk.commit(events.iter().map(|(_, event)| &**event)) {
            Ok(()) => None,
            Err(CommitError::Full) => Some(WriteError::Full),
            Err(CommitError::Failed(what)) => Some(WriteError::Failed(self.fail(what))),
        }
    }

    fn fail(&self, what: String) -> String {
        tracing::error!(error = what, "the store takes no more writes until a restart");
        self.failure.get_or_init(|| what).clone()
    }
}

/// Abandons the queue when it goes.
struct Abandon<'a>(&'a Queue);

impl Drop for Abandon<'_> {
    fn drop(&mut self) {
        self.0.abandon();
    }
}

impl Batch {
    fn has_room(&self) -> bool {
        self.looked_at < COMMIT_WRITES && self.bytes < COMMIT_BYTES
    }

    fn push(&mut self, kind: usize, event: Event) {
        let record = &event.record;
        self.bytes = self.bytes.saturating_add(record.json.len());
        let left = (event.kind != EventKind::Deleted).then(|| Arc::clone(record));
        self.pending.insert(record.key.clone(), left);
        self.events.push((kind, Arc::new(event)));
    }
}

/// Whether what is there is what the writer believes to be there.
fn holds(expected: Expected, change: &Change, current: Option<&Record>) -> bool {
    match (expected, change, current) {
        (Expected::Absent, Change::Put(_), None) => true,
        (Expected::Version(version), _, Some(current)) => current.version == version,
        _ => false,
    }
}

fn respond(answer: Answer, result: Result<Arc<Record>, WriteError>) {
    // An error means that nobody waits any more.
    drop(answer.send(result));
}
