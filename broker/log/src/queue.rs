//! What waits for the writer.

use parking_lot::{Condvar, Mutex};

use crate::error::AppendError;
use crate::log::Entry;
use crate::record::HEADER;

/// Entries in order of arrival, bounded by their bytes.
#[derive(Debug)]
pub(crate) struct Queue<T> {
    waiting: Mutex<Waiting<T>>,
    // Unlike the standard library's, it makes no system call while the writer is at work and nobody waits.
    arrived: Condvar,
    max_bytes: usize,
}

#[derive(Debug)]
struct Waiting<T> {
    entries: Vec<Entry<T>>,
    bytes: usize,
    closed: bool,
}

impl<T> Queue<T> {
    pub(crate) fn new(max_bytes: usize) -> Self {
        let waiting = Waiting { entries: Vec::new(), bytes: 0, closed: false };
        Self { waiting: Mutex::new(waiting), arrived: Condvar::new(), max_bytes }
    }

    pub(crate) fn push(&self, entry: Entry<T>) -> Result<(), (AppendError, T)> {
        let size = size(&entry);
        let mut waiting = self.waiting.lock();
        if waiting.closed {
            return Err((AppendError::Closed, entry.tag));
        }
        if size > self.max_bytes {
            return Err((AppendError::TooLarge, entry.tag));
        }
        let bytes = waiting.bytes.saturating_add(size);
        if bytes > self.max_bytes {
            return Err((AppendError::Busy, entry.tag));
        }
        waiting.bytes = bytes;
        waiting.entries.push(entry);
        drop(waiting);
        self.arrived.notify_one();
        Ok(())
    }

    /// Waits for entries and swaps all of them into `taken`, which is empty. False when closed and drained.
    pub(crate) fn take(&self, taken: &mut Vec<Entry<T>>) -> bool {
        let mut waiting = self.waiting.lock();
        self.arrived
            .wait_while(&mut waiting, |waiting| waiting.entries.is_empty() && !waiting.closed);
        std::mem::swap(&mut waiting.entries, taken);
        waiting.bytes = 0;
        !taken.is_empty()
    }

    pub(crate) fn close(&self) {
        self.waiting.lock().closed = true;
        self.arrived.notify_all();
    }
}

/// Bytes an entry takes on disk.
pub(crate) fn size<T>(entry: &Entry<T>) -> usize {
    entry
        .payloads
        .iter()
        .fold(0, |sum, payload| sum.saturating_add(HEADER).saturating_add(payload.len()))
}
