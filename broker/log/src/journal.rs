//! The journal: small records that together tell a state, and now and then a snapshot that replaces them. Its files are
//! described on the [crate's page](crate#journals-and-snapshots).
//!
//! - [`Journal::flush`] writes and does not sync: after a power failure the end may be missing, or have holes in it.
//!   Whatever is whole is kept.
//! - [`Journal::sync`] makes everything appended so far durable. What is unreadable later is counted as damage.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::error::{JournalError, OpenError, is_full, is_passing, lacks_descriptor};
use crate::fs::{File, Fs};
use crate::journal::file::Files;
use crate::record::{self, FIRST, HEADER, Header, LAST, Place};
use crate::segment::{FIRST_RECORD, Head};

mod file;

pub(crate) use self::file::{check, size};

/// An open journal.
#[derive(Debug)]
pub struct Journal {
    dir: PathBuf,
    fs: Arc<dyn Fs>,
    trail_bytes: u64,
    /// The number of the snapshot that a start would begin with; 0 if there is none.
    base: u64,
    /// The one before it.
    previous: u64,
    /// The number of the file that takes records: that of its first.
    number: u64,
    file: Arc<dyn File>,
    /// Whether its name is durable. After opening that is not known: a process may have been killed before it was.
    named: bool,
    tag: u64,
    /// Where the buffer goes.
    position: u64,
    /// The number of the next record.
    next: u64,
    /// Every record below is durable.
    durable: u64,
    /// Bytes of records since the snapshot, in files and in the buffer.
    since: u64,
    buffer: Vec<u8>,
    failed: Option<String>,
}

/// What opening a journal found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Restored {
    /// The newest readable snapshot, if one was ever taken.
    pub snapshot: Option<Vec<u8>>,
    /// The records since, oldest first.
    pub records: Vec<Vec<u8>>,
    /// How many of them had been durable and are unreadable.
    pub damaged: u64,
    /// The newest snapshot was unreadable: the one before it, with the records since, stands in for it.
    pub fell_back: bool,
}

impl Journal {
    /// The longest record, in bytes. As much may also wait to be written while the disk is full.
    pub const MAX_RECORD: usize = 64 << 20;

    /// Opens the journal in `dir`, which is made if needed, and reads it. The caller holds the lock of the
    /// [data directory](crate::DataDir). Of the files that snapshots replaced, the newest `trail_bytes` are kept.
    ///
    /// # Errors
    /// [`OpenError`]; [`OpenError::Damaged`] when no snapshot can be read and the records alone do not tell the state.
    pub fn open(
        dir: &Path,
        fs: Arc<dyn Fs>,
        trail_bytes: u64,
    ) -> Result<(Self, Restored), OpenError> {
        fs.create_dir(dir).map_err(OpenError::io("create", dir))?;
        let files = Files::list(dir, fs.as_ref())?;
        let (base, snapshot, fell_back) = files.newest_state(dir, fs.as_ref())?;
        let mut restored = Restored { snapshot, records: Vec::new(), damaged: 0, fell_back };
        let mut since = 0_u64;
        let mut next = base;
        let mut end = None;
        for (number, until) in files.journals_from(base) {
            let file = file::open(dir, fs.as_ref(), number, until)?;
            file.visit(&mut |payload| restored.records.push(payload.to_vec()))?;
            let missing = number.saturating_sub(next);
            restored.damaged =
                restored.damaged.saturating_add(file.damaged).saturating_add(missing);
            since = since.saturating_add(file.position.saturating_sub(FIRST_RECORD));
            next = next.max(file.next);
            end = Some(file);
        }
        files.remove_unfinished(dir, fs.as_ref())?;
        let (number, file, tag, position) = match end {
            Some(end) if end.takes_more => (end.number, end.file, end.tag, end.position),
            _ => {
                let number = files.free_number(next);
                let head = Head::new(number);
                let file = file::create(dir, fs.as_ref(), head)
                    .map_err(OpenError::io("make a journal in", dir))?;
                next = number;
                (number, file, head.tag, FIRST_RECORD)
            }
        };
        let journal = Self {
            dir: dir.to_owned(),
            fs,
            trail_bytes,
            base,
            previous: base,
            number,
            file,
            named: false,
            tag,
            position,
            next,
            durable: next,
            since,
            buffer: Vec::new(),
            failed: None,
        };
        Ok((journal, restored))
    }

    /// Takes a record into the buffer, which [`Journal::flush`] writes.
    ///
    /// # Errors
    /// [`JournalError::TooLarge`]; [`JournalError::Full`] when as much as [`Journal::MAX_RECORD`] waits for a full disk.
    pub fn append(&mut self, payload: &[u8]) -> Result<(), JournalError> {
        self.usable()?;
        if payload.len() > Self::MAX_RECORD {
            return Err(JournalError::TooLarge);
        }
        let size = HEADER.saturating_add(payload.len());
        if self.buffer.len().saturating_add(size) > Self::MAX_RECORD.saturating_add(HEADER) {
            self.flush()?;
        }
        let position = self.position.saturating_add(self.buffer.len() as u64);
        // A file has far fewer records than that: its snapshot is due after megabytes.
        let group = u32::try_from(self.next.saturating_sub(self.durable)).unwrap_or(u32::MAX);
        let header = Header {
            length: 0,
            flags: FIRST | LAST,
            offset: self.next,
            time_ms: 0,
            stream: 0,
            group,
        };
        record::encode(&mut self.buffer, Place { tag: self.tag, position }, header, payload);
        self.next = self.next.saturating_add(1);
        self.since = self.since.saturating_add(size as u64);
        Ok(())
    }

    /// Writes what was appended, so that it outlives the process. A power failure may still take it.
    ///
    /// # Errors
    /// [`JournalError::Full`]: it is still buffered, flush again later. Other errors are final.
    pub fn flush(&mut self) -> Result<(), JournalError> {
        self.usable()?;
        if self.buffer.is_empty() {
            return Ok(());
        }
        let written = self.file.write_at(&self.buffer, self.position);
        self.settle("write", written)?;
        self.position = self.position.saturating_add(self.buffer.len() as u64);
        self.buffer.clear();
        self.buffer.shrink_to(KEPT_BUFFER);
        Ok(())
    }

    /// Makes everything appended so far durable.
    ///
    /// # Errors
    /// As [`Journal::flush`], and [`JournalError::Busy`]: try again later. A failed sync is final: what is on the disk is no
    /// longer known.
    pub fn sync(&mut self) -> Result<(), JournalError> {
        self.flush()?;
        if !self.named {
            self.sync_names()?;
        }
        if let Err(error) = self.file.sync_data() {
            return Err(self.fail("sync", &error));
        }
        self.durable = self.next;
        Ok(())
    }

    /// Makes `state` durable in place of everything appended so far: a later start begins with it.
    ///
    /// # Errors
    /// [`JournalError::Full`] and [`JournalError::Busy`]: nothing changed, try again later. Other errors are final.
    pub fn snapshot(&mut self, state: &[u8]) -> Result<(), JournalError> {
        // Should the snapshot be unreadable one day, these records stand in for it.
        self.sync()?;
        // The file that follows comes first: records must never go where a start that has the snapshot does not look.
        self.begin_file()?;
        let written = file::write_snapshot(&self.dir, self.fs.as_ref(), self.number, state);
        self.settle("write a snapshot beside", written)?;
        self.sync_names()?;
        self.since = 0;
        if self.base != self.number {
            self.previous = std::mem::replace(&mut self.base, self.number);
        }
        file::prune(&self.dir, self.fs.as_ref(), self.base, self.previous, self.trail_bytes);
        Ok(())
    }

    /// Goes on in a new file, unless the current one has no records yet.
    fn begin_file(&mut self) -> Result<(), JournalError> {
        if self.next == self.number {
            return Ok(());
        }
        let head = Head::new(self.next);
        let made = file::create(&self.dir, self.fs.as_ref(), head);
        self.file = self.settle("follow", made)?;
        self.number = self.next;
        self.tag = head.tag;
        self.position = FIRST_RECORD;
        // Records go there even if this fails: from now on they are not looked for in the file before.
        self.named = false;
        self.sync_names()
    }

    /// Makes durable which names the directory holds.
    fn sync_names(&mut self) -> Result<(), JournalError> {
        match self.fs.sync_dir(&self.dir) {
            Ok(()) => {
                self.named = true;
                Ok(())
            }
            Err(error) if lacks_descriptor(&error) => Err(JournalError::Busy(error.to_string())),
            Err(error) => Err(self.fail("sync the directory of", &error)),
        }
    }

    /// Bytes appended since the last snapshot: what a start has to read beside it.
    #[must_use]
    pub fn bytes_since_snapshot(&self) -> u64 {
        self.since
    }

    /// Every record still on disk, oldest first, also those that snapshots replaced. Unreadable ones are left out. An open
    /// journal may be looked at; what it has not flushed is not seen.
    ///
    /// # Errors
    /// [`OpenError`] when the system refuses to read.
    pub fn trail(dir: &Path, fs: &dyn Fs, visit: &mut dyn FnMut(&[u8])) -> Result<(), OpenError> {
        file::trail(dir, fs, visit)
    }

    fn usable(&self) -> Result<(), JournalError> {
        match &self.failed {
            Some(reason) => Err(JournalError::Failed(reason.clone())),
            None => Ok(()),
        }
    }

    /// Turns what the system answered into what the caller may do about it.
    fn settle<R>(&mut self, action: &str, answer: io::Result<R>) -> Result<R, JournalError> {
        match answer {
            Ok(value) => Ok(value),
            Err(error) if is_full(&error) => Err(JournalError::Full),
            Err(error) if is_passing(&error) => Err(JournalError::Busy(error.to_string())),
            Err(error) => Err(self.fail(action, &error)),
        }
    }

    fn fail(&mut self, action: &str, error: &io::Error) -> JournalError {
        let reason = format!("cannot {action} the journal: {error}");
        tracing::error!(reason, "the journal takes nothing more until it is opened anew");
        self.failed = Some(reason.clone());
        JournalError::Failed(reason)
    }
}

/// A buffer that grew larger than this is given back once it is written.
const KEPT_BUFFER: usize = 1 << 20;

#[cfg(test)]
#[expect(clippy::cast_possible_truncation, reason = "sizes and seeds of tests are small")]
mod tests;
