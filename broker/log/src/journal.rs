//! The journal.
use std::path::Path;
use std::sync::Arc;

use crate::error::{JournalError, OpenError};
use crate::fs::Fs;

/// A journal.
#[derive(Debug)]
pub struct Journal {}

/// What opening a journal found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Restored {
    /// The newest readable snapshot.
    pub snapshot: Option<Vec<u8>>,
    /// Records since, oldest first.
    pub records: Vec<Vec<u8>>,
    /// Unreadable records that had readable ones after them.
    pub damaged: u64,
    /// The newest snapshot was unreadable and an older one, with the records since, stands in for it.
    pub fell_back: bool,
}

impl Journal {
    /// Longest record.
    pub const MAX_RECORD: usize = 64 << 20;
    /// Opens.
    ///
    /// # Errors
    /// [`OpenError`].
    pub fn open(
        _dir: &Path,
        _fs: Arc<dyn Fs>,
        _trail_bytes: u64,
    ) -> Result<(Self, Restored), OpenError> {
        todo!()
    }
    /// Buffers.
    ///
    /// # Errors
    /// [`JournalError`].
    pub fn append(&mut self, _record: &[u8]) -> Result<(), JournalError> {
        todo!()
    }
    /// Writes, no sync.
    ///
    /// # Errors
    /// [`JournalError`].
    pub fn flush(&mut self) -> Result<(), JournalError> {
        todo!()
    }
    /// Writes and syncs.
    ///
    /// # Errors
    /// [`JournalError`].
    pub fn sync(&mut self) -> Result<(), JournalError> {
        todo!()
    }
    /// Replaces history.
    ///
    /// # Errors
    /// [`JournalError`].
    pub fn snapshot(&mut self, _state: &[u8]) -> Result<(), JournalError> {
        todo!()
    }
    /// Bytes since.
    #[must_use]
    pub fn bytes_since_snapshot(&self) -> u64 {
        todo!()
    }
    /// All records still on disk, oldest first.
    ///
    /// # Errors
    /// [`OpenError`].
    pub fn trail(
        _dir: &Path,
        _fs: &dyn Fs,
        _visit: &mut dyn FnMut(&[u8]),
    ) -> Result<(), OpenError> {
        todo!()
    }
}
