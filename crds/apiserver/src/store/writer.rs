//! The one thread that writes. What came while the last commit ran shares the next one.

use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use tokio::sync::{mpsc, oneshot};

use super::disk::{CommitError, Disk};
use super::memory::Memory;
use super::{Change, Event, EventKind, Expected, Key, Record, WriteError};

/// Writes that share a commit. A page is copied for each in the worst case, so this bounds the disk space that one commit
/// needs (see the room that is asked for before it) and how long the first of them waits for the last.
const COMMIT_WRITES: usize = 1_024;

/// Bytes of JSON after which a commit takes no more writes: a tenth of a second of a slow disk.
const COMMIT_BYTES: usize = 4 << 20;

/// A write that waits.
pub(super) struct Request {
    pub(super) key: Key,
    pub(super) expected: Expected,
    pub(super) change: Change,
    pub(super) answer: Answer,
}

type Answer = oneshot::Sender<Result<Arc<Record>, WriteError>>;

/// Owns the file.
pub(super) struct Writer {
    disk: Disk,
    memory: Arc<Memory>,
    /// Set once, by the first commit that failed.
    failure: Arc<OnceLock<String>>,
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
        Self { disk, memory, failure }
    }

    /// Runs until every sender is gone and the queue is empty, then closes the file.
    pub(super) fn run(self, mut queue: mpsc::Receiver<Request>) {
        while let Some(first) = queue.blocking_recv() {
            let mut batch = Batch::default();
            self.add(&mut batch, first);
            while batch.has_room() {
                let Ok(next) = queue.try_recv() else { break };
                self.add(&mut batch, next);
            }
            self.finish(batch);
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
    fn finish(&self, batch: Batch) {
        let Batch { events, answers, .. } = batch;
        let error = if events.is_empty() { None } else { self.commit(&events) };
        if error.is_none() {
            self.memory.publish(events);
        }
        for (answer, result) in answers {
            respond(answer, error.clone().map_or(result, Err));
        }
    }

    fn commit(&self, events: &[(usize, Arc<Event>)]) -> Option<WriteError> {
        if let Some(failure) = self.failure.get() {
            return Some(WriteError::Failed(failure.clone()));
        }
        match self.disk.commit(events.iter().map(|(_, event)| &**event)) {
            Ok(()) => None,
            Err(CommitError::Full) => Some(WriteError::Full),
            Err(CommitError::Failed(what)) => {
                tracing::error!(error = what, "the store takes no more writes until a restart");
                let failure = self.failure.get_or_init(|| what);
                Some(WriteError::Failed(failure.clone()))
            }
        }
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
