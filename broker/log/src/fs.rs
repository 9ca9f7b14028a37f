//! The port to the file system, so that tests can crash it, tear it and fill it up.
//!
//! [`RealFs`] is the one programs use. Paths are whole paths; nothing is relative to a directory handle.

use std::fmt;
use std::fs::{self, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt};
use std::path::Path;
use std::sync::Arc;

#[cfg(any(test, feature = "test-util"))]
pub mod faulty;

/// What the log and the journal ask of a file system.
pub trait Fs: fmt::Debug + Send + Sync + 'static {
    /// Makes a directory and its parents, readable by the owner alone. Existing ones are left as they are.
    ///
    /// # Errors
    /// What the system answers.
    fn create_dir(&self, path: &Path) -> io::Result<()>;

    /// Makes an empty file, emptying one that exists, for reading and writing by the owner alone.
    ///
    /// # Errors
    /// What the system answers.
    fn create(&self, path: &Path) -> io::Result<Arc<dyn File>>;

    /// Opens a file that exists.
    ///
    /// # Errors
    /// What the system answers.
    fn open(&self, path: &Path, access: Access) -> io::Result<Arc<dyn File>>;

    /// Gives a file a new name in place of whatever had it.
    ///
    /// # Errors
    /// What the system answers.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// Removes a file.
    ///
    /// # Errors
    /// What the system answers.
    fn remove(&self, path: &Path) -> io::Result<()>;

    /// The files in a directory (not its sub-directories), in order of name.
    ///
    /// # Errors
    /// What the system answers.
    fn list(&self, dir: &Path) -> io::Result<Vec<Entry>>;

    /// Makes durable which names a directory holds.
    ///
    /// # Errors
    /// What the system answers. Not to be repeated in the hope of a better answer.
    fn sync_dir(&self, dir: &Path) -> io::Result<()>;

    /// Takes an exclusive lock, creating the file if needed; `None` when another holder has it.
    ///
    /// # Errors
    /// What the system answers.
    fn try_lock(&self, path: &Path) -> io::Result<Option<Lock>>;
}

/// An open file. Reads and writes name their position, so one handle serves many threads.
pub trait File: fmt::Debug + Send + Sync {
    /// Its length in bytes.
    ///
    /// # Errors
    /// What the system answers.
    fn size(&self) -> io::Result<u64>;

    /// Fills `buffer` from `position`.
    ///
    /// # Errors
    /// [`io::ErrorKind::UnexpectedEof`] when the file ends before; else what the system answers.
    fn read_at(&self, buffer: &mut [u8], position: u64) -> io::Result<()>;

    /// Writes all of `bytes` at `position`, growing the file if needed.
    ///
    /// # Errors
    /// What the system answers; a part may have been written.
    fn write_at(&self, bytes: &[u8], position: u64) -> io::Result<()>;

    /// Makes the contents durable, and of the metadata what reading them back needs.
    ///
    /// # Errors
    /// What the system answers. Not to be repeated in the hope of a better answer.
    fn sync_data(&self) -> io::Result<()>;

    /// Makes contents and metadata durable.
    ///
    /// # Errors
    /// What the system answers. Not to be repeated in the hope of a better answer.
    fn sync_all(&self) -> io::Result<()>;

    /// Cuts the file or grows it with zeros.
    ///
    /// # Errors
    /// What the system answers.
    fn set_len(&self, size: u64) -> io::Result<()>;

    /// Reserves room for `from .. from + size` (zeros until written), so that writing there cannot run out of space.
    /// Where the file system cannot do that, nothing happens.
    ///
    /// # Errors
    /// What the system answers.
    fn allocate(&self, from: u64, size: u64) -> io::Result<()>;
}

/// What a file is opened for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Reading.
    Read,
    /// Reading and writing.
    Write,
}

/// A file in a directory.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Entry {
    /// Its name. Names that are not UTF-8 are not ours and are left out.
    pub name: String,
    /// Its length in bytes.
    pub size: u64,
}

/// A held lock; dropping it gives it back. The kernel does the same when the process dies, however it dies.
#[must_use = "dropping a lock gives it back"]
pub struct Lock(#[expect(dead_code, reason = "held for its drop")] Box<dyn Send + Sync>);

impl Lock {
    /// Wraps what holds the lock until it is dropped.
    pub fn new(holder: impl Send + Sync + 'static) -> Self {
        Self(Box::new(holder))
    }
}

impl fmt::Debug for Lock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Lock")
    }
}

/// The operating system's file system.
#[derive(Clone, Copy, Debug, Default)]
pub struct RealFs;

/// Records may hold secrets of the senders, so nobody but the owner reads them.
const FILE_MODE: u32 = 0o600;
const DIR_MODE: u32 = 0o700;

impl Fs for RealFs {
    fn create_dir(&self, path: &Path) -> io::Result<()> {
        fs::DirBuilder::new().recursive(true).mode(DIR_MODE).create(path)
    }

    fn create(&self, path: &Path) -> io::Result<Arc<dyn File>> {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(true)
            .mode(FILE_MODE)
            .open(path)?;
        Ok(Arc::new(RealFile(file)))
    }

    fn open(&self, path: &Path, access: Access) -> io::Result<Arc<dyn File>> {
        let file = OpenOptions::new().read(true).write(access == Access::Write).open(path)?;
        Ok(Arc::new(RealFile(file)))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<Entry>> {
        let mut entries = Vec::new();
        for entry in fs::read_dir(dir)? {
            let entry = entry?;
            let Ok(name) = entry.file_name().into_string() else { continue };
            match entry.metadata() {
                Ok(metadata) if metadata.is_file() => {
                    entries.push(Entry { name, size: metadata.len() })
                }
                Ok(_) => {}
                // Removed since the directory was read.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        entries.sort_unstable();
        Ok(entries)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        fs::File::open(dir)?.sync_all()
    }

    fn try_lock(&self, path: &Path) -> io::Result<Option<Lock>> {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(FILE_MODE)
            .open(path)?;
        match file.try_lock() {
            Ok(()) => Ok(Some(Lock::new(file))),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(error)) => Err(error),
        }
    }
}

#[derive(Debug)]
struct RealFile(fs::File);

impl File for RealFile {
    fn size(&self) -> io::Result<u64> {
        Ok(self.0.metadata()?.len())
    }

    fn read_at(&self, buffer: &mut [u8], position: u64) -> io::Result<()> {
        self.0.read_exact_at(buffer, position)
    }

    fn write_at(&self, bytes: &[u8], position: u64) -> io::Result<()> {
        self.0.write_all_at(bytes, position)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.0.sync_data()
    }

    fn sync_all(&self) -> io::Result<()> {
        self.0.sync_all()
    }

    fn set_len(&self, size: u64) -> io::Result<()> {
        self.0.set_len(size)
    }

    fn allocate(&self, from: u64, size: u64) -> io::Result<()> {
        match rustix::fs::fallocate(&self.0, rustix::fs::FallocateFlags::empty(), from, size) {
            Err(rustix::io::Errno::OPNOTSUPP | rustix::io::Errno::NOSYS) => Ok(()),
            answer => Ok(answer?),
        }
    }
}
