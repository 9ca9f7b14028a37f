//! Errors, one enum a decision the caller has to take.

use std::io;
use std::path::{Path, PathBuf};

/// Why an entry was not kept. Nothing of it was acknowledged.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AppendError {
    /// The disk (or the quota) is full. Service resumes by itself once there is room.
    #[error("the disk is full")]
    Full,
    /// More bytes wait to be written than [`Options::max_queued_bytes`](crate::Options::max_queued_bytes).
    #[error("the write queue is full")]
    Busy,
    /// The entry can never fit: see [`Options::max_entry_bytes`](crate::Options::max_entry_bytes).
    #[error("the entry is larger than the log takes")]
    TooLarge,
    /// A write or a sync failed: nothing more is acknowledged until the log is opened anew.
    #[error("the log failed: {0}")]
    Failed(String),
    /// The log was closed.
    #[error("the log is closed")]
    Closed,
}

impl AppendError {
    /// Whether the same entry may be taken later without anyone acting.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        matches!(self, Self::Full | Self::Busy)
    }
}

/// Why a data directory, log or journal could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process has it open.
    #[error("{} is in use by another process", path.display())]
    Locked {
        /// The data directory.
        path: PathBuf,
    },
    /// A newer program wrote it.
    #[error("{} has format {found}, this program reads up to {supported}: use a newer program", path.display())]
    Newer {
        /// The file that says so.
        path: PathBuf,
        /// What it says.
        found: u32,
        /// What this program can read.
        supported: u32,
    },
    /// The directory cannot be written to.
    #[error("{} cannot be written to", path.display())]
    ReadOnly {
        /// The directory or file.
        path: PathBuf,
        /// What the system answered.
        #[source]
        source: io::Error,
    },
    /// It is not a data directory of this program.
    #[error("{} is not a data directory: {what}", path.display())]
    Foreign {
        /// The directory or file.
        path: PathBuf,
        /// What was found or missed.
        what: String,
    },
    /// What it must hold to be opened is unreadable. Nothing was changed.
    #[error("{} is damaged: {what}; restore it from a copy, or move it away to start without it", path.display())]
    Damaged {
        /// The directory.
        path: PathBuf,
        /// What is unreadable.
        what: String,
    },
    /// The system refused something.
    #[error("cannot {action} {}", path.display())]
    Io {
        /// What was tried, as a verb.
        action: &'static str,
        /// On which file or directory.
        path: PathBuf,
        /// What the system answered.
        #[source]
        source: io::Error,
    },
}

impl OpenError {
    /// Whether opening may succeed later without anyone changing the directory.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Locked { .. } => true,
            Self::Newer { .. }
            | Self::ReadOnly { .. }
            | Self::Foreign { .. }
            | Self::Damaged { .. } => false,
            Self::Io { source, .. } => is_passing(source),
        }
    }

    pub(crate) fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| match source.kind() {
            io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
                Self::ReadOnly { path, source }
            }
            _ => Self::Io { action, path, source },
        }
    }
}

/// Why records could not be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The system refused to read a segment.
    #[error("cannot read {}", path.display())]
    Io {
        /// The segment.
        path: PathBuf,
        /// What the system answered.
        #[source]
        source: io::Error,
    },
}

impl ReadError {
    /// Whether the same read may succeed later: running out of descriptors passes, a broken device does not.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        let Self::Io { source, .. } = self;
        is_passing(source)
    }
}

/// Why cleaning stopped. What it had done stays done; every live record is still there.
#[derive(Debug, thiserror::Error)]
pub enum CleanError {
    /// No room for the rewritten segment.
    #[error("the disk is full")]
    Full,
    /// The log failed before; its files are left as they are.
    #[error("the log failed: {0}")]
    Failed(String),
    /// The system refused something.
    #[error("cannot {action} {}", path.display())]
    Io {
        /// What was tried, as a verb.
        action: &'static str,
        /// On which file.
        path: PathBuf,
        /// What the system answered.
        #[source]
        source: io::Error,
    },
}

impl CleanError {
    /// Whether cleaning again may get further.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Full => true,
            Self::Failed(_) => false,
            Self::Io { source, .. } => is_passing(source),
        }
    }

    pub(crate) fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| if is_full(&source) { Self::Full } else { Self::Io { action, path, source } }
    }
}

/// Why the journal could not write.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// The disk is full. What was appended is still buffered; flush again later.
    #[error("the disk is full")]
    Full,
    /// The system is out of descriptors or memory. Nothing changed; try again later.
    #[error("the journal cannot be written for now: {0}")]
    Busy(String),
    /// The record is larger than [`Journal::MAX_RECORD`](crate::Journal::MAX_RECORD).
    #[error("the record is larger than the journal takes")]
    TooLarge,
    /// A write or a sync failed: what the journal holds on disk is no longer known. Final.
    #[error("the journal failed: {0}")]
    Failed(String),
}

impl JournalError {
    /// Whether the same call may succeed later without anyone acting.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        matches!(self, Self::Full | Self::Busy(_))
    }
}

/// Disk or quota full.
pub(crate) fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

/// Full, or out of descriptors or memory: passes without anyone repairing anything.
pub(crate) fn is_passing(error: &io::Error) -> bool {
    is_full(error) || error.kind() == io::ErrorKind::OutOfMemory || lacks_descriptor(error)
}

/// The process or the system has too many files open: what needed one more was not even begun.
pub(crate) fn lacks_descriptor(error: &io::Error) -> bool {
    const ENFILE: i32 = 23;
    const EMFILE: i32 = 24;
    matches!(error.raw_os_error(), Some(ENFILE | EMFILE))
}
