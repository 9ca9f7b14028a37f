//! Writes the journal: what must be on record before a call returns, and, gathered, what may follow.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, RwLock};
use std::time::Duration;

use broker_log::Journal;

use super::durable::Desk;
use super::journal_record::Record;
use super::registry::Registry;
use super::sync::{Woken, lock, read};
use crate::store::StoreError;

/// How long notes are gathered: a crash repeats at most what was settled in this time.
pub(super) const GATHER: Duration = Duration::from_millis(50);

/// A writer that nobody asks looks at its signal this often; any long time will do.
const IDLE: Duration = Duration::from_secs(3600);

/// The journal and what is known about it.
pub(super) struct Scribe {
    journal: Mutex<Option<Journal>>,
    /// Records were written that a caller is to be told about only once they are synced.
    unsynced: AtomicBool,
    trouble: Mutex<Option<String>>,
}

/// The right to write. Records are in the journal in the order in which pens were held.
pub(super) type Pen<'a> = MutexGuard<'a, Option<Journal>>;

impl Scribe {
    pub(super) fn new(journal: Journal) -> Self {
        Self {
            journal: Mutex::new(Some(journal)),
            unsynced: AtomicBool::new(false),
            trouble: Mutex::new(None),
        }
    }

    /// Waits for the right to write.
    pub(super) fn pen(&self) -> Pen<'_> {
        lock(&self.journal)
    }

    /// Why the journal cannot be written, if the last attempt failed.
    pub(super) fn trouble(&self) -> Option<String> {
        lock(&self.trouble).clone()
    }

    /// Writes `record`; it is synced by the next [`Self::sync`] at the latest.
    pub(super) fn write(&self, pen: &mut Pen<'_>, record: &Record) -> Result<(), StoreError> {
        let journal = pen.as_mut().ok_or(StoreError::Closed)?;
        self.unsynced.store(true, Ordering::Release);
        self.watch(journal.append(&record.encode()).and_then(|()| journal.flush()))
    }

    /// Makes everything written so far durable, if that is not known to be the case.
    pub(super) fn sync(&self, pen: &mut Pen<'_>) -> Result<(), StoreError> {
        if !self.unsynced.load(Ordering::Acquire) {
            return Ok(());
        }
        self.force(pen)
    }

    /// Makes everything written so far durable, notes included.
    pub(super) fn force(&self, pen: &mut Pen<'_>) -> Result<(), StoreError> {
        let journal = pen.as_mut().ok_or(StoreError::Closed)?;
        self.watch(journal.sync())?;
        self.unsynced.store(false, Ordering::Release);
        Ok(())
    }

    /// Writes the notes that wait.
    pub(super) fn write_notes(
        &self,
        pen: &mut Pen<'_>,
        desk: &Desk,
        registry: &RwLock<Registry>,
    ) -> Result<(), StoreError> {
        let journal = pen.as_mut().ok_or(StoreError::Closed)?;
        let dirty = desk.take_dirty();
        if dirty.is_empty() {
            return Ok(());
        }
        let durables: Vec<_> = {
            let registry = read(registry);
            dirty.iter().filter_map(|id| registry.by_id(*id).map(Arc::clone)).collect()
        };
        for durable in durables {
            let notes = durable.take_notes();
            if !notes.is_empty() {
                let record = Record::Notes { id: durable.id, notes };
                if let Err(error) = journal.append(&record.encode()) {
                    // What the notes told is in memory still: a snapshot will tell it.
                    desk.want_snapshot();
                    return self.watch(Err(error));
                }
            }
        }
        self.watch(journal.flush())
    }

    /// Replaces the journal by `state`, which contains everything written so far.
    pub(super) fn snapshot(&self, pen: &mut Pen<'_>, state: &[u8]) -> Result<(), StoreError> {
        let journal = pen.as_mut().ok_or(StoreError::Closed)?;
        self.watch(journal.snapshot(state))?;
        self.unsynced.store(false, Ordering::Release);
        Ok(())
    }

    /// Bytes of the journal since the last snapshot.
    pub(super) fn grown(&self) -> u64 {
        self.pen().as_ref().map_or(0, Journal::bytes_since_snapshot)
    }

    /// Lets go of the journal.
    pub(super) fn close(&self) {
        *self.pen() = None;
    }

    fn watch<E: std::fmt::Display>(&self, result: Result<(), E>) -> Result<(), StoreError> {
        match result {
            Ok(()) => {
                *lock(&self.trouble) = None;
                Ok(())
            }
            Err(error) => {
                let message = format!("the journal cannot be written: {error}");
                *lock(&self.trouble) = Some(message.clone());
                Err(StoreError::Failed(message))
            }
        }
    }
}

/// Writes notes as they come until it is told to stop.
pub(super) fn run(scribe: &Scribe, desk: &Desk, registry: &RwLock<Registry>) {
    loop {
        if desk.writer.wait(IDLE) == Woken::Stop || desk.writer.pause(GATHER) {
            return; // the last notes are written by whoever closes the store
        }
        if let Err(error) = scribe.write_notes(&mut scribe.pen(), desk, registry) {
            tracing::error!(%error, "what became of deliveries is not on record; a crash now would repeat them");
        }
        desk.show();
    }
}
