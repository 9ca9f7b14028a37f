//! Objects with versions: compare-and-set writes that are on disk before they are answered, lists, and watches that miss
//! nothing.
//!
//! ```text
//! write ─▶ bounded queue ─▶ writer thread: check against memory ─▶ one sync for all that waited ─▶ memory, history
//!                                                                             │                      │        │
//!                                             database ◀─ now and then ─ journal         get, list ◀─┘        └─▶ watch
//! ```
//!
//! What holds always:
//!
//! - Nobody sees a state that is not on disk: memory changes after the commit, and only the writer thread changes it.
//! - A reader waits for no commit: it reads memory, which is locked for the time of copying pointers.
//! - A version is given once. The highest is kept on disk, so that also after a restart none comes twice.
//! - A failed commit is the last: what a disk holds after it is unknown until the files are opened anew.
//!
//! What objects mean is not known here: their JSON is bytes.

mod disk;
mod journal;
mod memory;
mod queue;
mod watch;
mod writer;

#[cfg(test)]
mod tests;

use std::fmt;
use std::hash::{Hash, Hasher};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::thread::JoinHandle;

use bytes::Bytes;
use crds::resource::{Catalog, Resource};
use parking_lot::Mutex;
use tokio::sync::oneshot;

pub use self::watch::Watch;

use self::disk::Disk;
use self::memory::Memory;
use self::queue::Queue;
use self::writer::{Request, Writer};

/// What identifies an object. Two keys are equal when group, plural, namespace and name are.
#[derive(Clone)]
pub struct Key {
    /// Its kind; one of the store's [catalog](Store::catalog).
    pub resource: &'static Resource,
    /// Its namespace; empty for objects in none.
    pub namespace: String,
    /// Its name.
    pub name: String,
}

/// An object as it is kept. Its `Debug` shows no content: that may be a secret.
#[derive(Clone)]
pub struct Record {
    /// What identifies it.
    pub key: Key,
    /// Its version: that of the write that made it. Versions only grow, over all objects.
    pub version: u64,
    /// The object as JSON, in its stored version, `metadata.resourceVersion` included.
    pub json: Bytes,
}

/// Limits of a store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// Changes that are remembered for watches, over all kinds; at least one. 16,384 by default: a watch that is away for a
    /// minute misses nothing while 250 objects change a second, and the bookkeeping of all takes about 3 MB.
    pub history_events: usize,
    /// Bytes of JSON that are remembered for watches, before and after each change. 32 MiB by default: the default number
    /// of changes of objects of 1 KiB. What is remembered is mostly what is in memory anyway.
    pub history_bytes: usize,
    /// Writes that may wait for the disk; at least one. 1,024 by default: a disk that syncs in a millisecond answers all of
    /// them within two syncs. Whoever waits holds the object it sends anyway, so this bounds waiting, not memory.
    pub queue: usize,
}

/// Why a store cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process has it open.
    #[error("{} is in use by another process: stop that first, or use another data directory", path.display())]
    Locked {
        /// The file.
        path: PathBuf,
    },
    /// It is a file of something else.
    #[error("{} is not a store of this program ({what}): move it away, or use another data directory", path.display())]
    Foreign {
        /// The file.
        path: PathBuf,
        /// What was found or missed.
        what: String,
    },
    /// A newer program wrote it.
    #[error("{} has format {found}, this program reads up to {supported}: use a newer program", path.display())]
    Newer {
        /// The file.
        path: PathBuf,
        /// Its format.
        found: u64,
        /// The newest format that this program knows.
        supported: u64,
    },
    /// It cannot be written to.
    #[error("{} cannot be written to: give this user the right to, or use another data directory", path.display())]
    ReadOnly {
        /// The file.
        path: PathBuf,
        /// What the system answered.
        #[source]
        source: io::Error,
    },
    /// The disk is full.
    #[error("the disk that holds {} is full: make room and start again", path.display())]
    Full {
        /// The file.
        path: PathBuf,
        /// What the system answered.
        #[source]
        source: io::Error,
    },
    /// It is unreadable.
    #[error("{} is damaged ({what}): restore it from a copy, or move it away to start without it", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        what: String,
    },
    /// What the journal holds cannot be brought into the database beside it: it is damaged, missing, or not of that database.
    /// To go on without it would lose writes that were acknowledged.
    #[error("{} does not go with the store beside it ({what}): restore both files from one copy, or move both away to start without them", path.display())]
    Journal {
        /// The journal.
        path: PathBuf,
        /// What is wrong.
        what: String,
    },
    /// The system refused something else.
    #[error("cannot {action} {}", path.display())]
    Io {
        /// What was tried, as a verb.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// What the system answered.
        #[source]
        source: io::Error,
    },
}

/// Some objects of a kind, and the version of the store that they are a picture of.
#[derive(Clone, Debug)]
pub struct Listing {
    /// In order of namespace and name.
    pub records: Vec<Arc<Record>>,
    /// The version of the store that this is a picture of. A watch since this version continues the list.
    pub version: u64,
    /// How many there are after the last one returned.
    pub remaining: usize,
}

/// What the caller believes to be there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expected {
    /// No object. Nothing can be deleted from it: that is a conflict.
    Absent,
    /// The object in that version.
    Version(u64),
}

/// What to do with an object. The functions run on the writer's thread, which everybody waits for: they format what was made
/// before, no more.
pub enum Change {
    /// Puts it: makes the JSON for the version that the write gets.
    Put(Box<dyn FnOnce(u64) -> Bytes + Send>),
    /// Removes it: makes the JSON of the last state, with the version that the write gets.
    Delete(Box<dyn FnOnce(u64) -> Bytes + Send>),
}

/// Why a write was not done.
#[derive(Clone, Debug, thiserror::Error)]
pub enum WriteError {
    /// What is there is not what was expected.
    #[error("the object is not in the version that was expected")]
    Conflict {
        /// What is there.
        current: Option<Arc<Record>>,
    },
    /// Too many writes wait, or the disk has no room. Nothing was written; later it may work.
    #[error("too many writes wait or the disk is full")]
    Full,
    /// The write could not be done. When a commit failed, it is unknown what of it reached the disk, and every later write
    /// ends like this too until the store is opened anew; a change that panicked or a kind that is not served fails alone.
    #[error("the store failed: {0}")]
    Failed(String),
    /// The store was closed. Nothing was written.
    #[error("the store is closed")]
    Closed,
}

/// The changes asked for are no longer remembered: list again and watch from there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("changes before version {oldest} are no longer remembered")]
pub struct Expired {
    /// The oldest version that a watch of this kind can start from.
    pub oldest: u64,
}

/// What happened to an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventKind {
    /// It was not there before.
    Added,
    /// It was there before and still is.
    Modified,
    /// It is gone.
    Deleted,
}

/// A change of an object.
#[derive(Clone, Debug)]
pub struct Event {
    /// What happened.
    pub kind: EventKind,
    /// The object after it, in the version of the change; of a deleted one the last state.
    pub record: Arc<Record>,
    /// The object before it; none if it was not there.
    pub previous: Option<Arc<Record>>,
}

/// Objects on disk and in memory.
#[derive(Debug)]
pub struct Store {
    catalog: Catalog,
    memory: Arc<Memory>,
    queue: Arc<Queue>,
    /// Why nothing can be written any more.
    failure: Arc<OnceLock<String>>,
    writer: Mutex<Option<JoinHandle<()>>>,
}

impl Store {
    /// Opens or creates the file at `path`, a redb database, and its journal beside it, which is called the same but for its
    /// extension, `journal`. Loads every object into memory. The directory must be there. Its writer runs on a thread of its
    /// own; this call blocks for the time of reading the files. It serves the kinds of `catalog`.
    ///
    /// # Errors
    ///
    /// See [`OpenError`]; its text says what can be done.
    pub fn open(path: &Path, catalog: Catalog, options: Options) -> Result<Arc<Self>, OpenError> {
        Self::start(Disk::open(path)?, catalog, options)
    }

    /// The store in `disk`, of which it serves the kinds of `catalog`.
    fn start(disk: Disk, catalog: Catalog, options: Options) -> Result<Arc<Self>, OpenError> {
        let contents = disk.load(catalog)?;
        if !contents.unknown.is_empty() {
            tracing::warn!(
                kinds = ?contents.unknown,
                "the store holds objects of kinds that this program does not know; they are kept as they are"
            );
        }
        let memory = Arc::new(Memory::new(catalog, contents, options));
        let failure = Arc::new(OnceLock::new());
        let queue = Arc::new(Queue::new(options.queue));
        let path = disk.path().to_owned();
        let writer = Writer::new(disk, Arc::clone(&memory), Arc::clone(&failure));
        let taken = Arc::clone(&queue);
        let thread = std::thread::Builder::new()
            .name("store".to_owned())
            .spawn(move || writer.run(&taken))
            .map_err(|source| OpenError::Io { action: "start the writer of", path, source })?;
        Ok(Arc::new(Self { catalog, memory, queue, failure, writer: Mutex::new(Some(thread)) }))
    }

    /// The kinds that it serves.
    #[must_use]
    pub fn catalog(&self) -> Catalog {
        self.catalog
    }

    /// The version of the last write; of a new store 1, since 0 means "any" to Kubernetes' clients.
    #[must_use]
    pub fn version(&self) -> u64 {
        self.memory.version()
    }

    /// The object of that key.
    #[must_use]
    pub fn get(&self, key: &Key) -> Option<Arc<Record>> {
        self.memory.get(key)
    }

    /// Objects of a kind, of one namespace or of all, in order of namespace and name. `after` is the (namespace, name) that
    /// they follow, exclusive; `limit` is how many at most, 0 for all.
    #[must_use]
    pub fn list(
        &self,
        resource: &'static Resource,
        namespace: Option<&str>,
        after: Option<(&str, &str)>,
        limit: usize,
    ) -> Listing {
        self.memory.list(resource, namespace, after, limit)
    }

    /// Compares and sets. Answers once the write is on disk and every reader sees it; concurrent writes share a commit.
    ///
    /// Who drops the future before it is done does not learn whether the write was.
    ///
    /// # Errors
    ///
    /// See [`WriteError`].
    pub async fn write(
        &self,
        key: Key,
        expected: Expected,
        change: Change,
    ) -> Result<Arc<Record>, WriteError> {
        if let Some(failure) = self.failure.get() {
            return Err(WriteError::Failed(failure.clone()));
        }
        let (answer, answered) = oneshot::channel();
        self.queue.push(Request { key, expected, change, answer })?;
        answered.await.unwrap_or(Err(WriteError::Closed))
    }

    /// Changes of a kind, in one namespace or in all, after version `since`: in order of version, none missing, none twice.
    /// A version that was not given yet is waited for.
    ///
    /// # Errors
    ///
    /// [`Expired`] when changes after `since` are no longer remembered; those before a restart never are.
    pub fn watch(
        &self,
        resource: &'static Resource,
        namespace: Option<&str>,
        since: u64,
    ) -> Result<Watch, Expired> {
        Watch::new(Arc::clone(&self.memory), resource, namespace, since)
    }

    /// Finishes the writes that wait, brings the database up to date and closes the files. Blocks until that is done; reads
    /// still work, watches see nothing more.
    pub fn close(&self) {
        self.queue.close();
        let writer = self.writer.lock().take();
        if let Some(writer) = writer
            // A change may hold the last handle of its own store; a thread cannot wait for itself.
            && writer.thread().id() != std::thread::current().id()
            && writer.join().is_err()
        {
            tracing::error!("the writer of the store ended early");
        }
    }

    /// Whether writes can still be done: no commit failed, and it was not closed.
    #[must_use]
    pub fn is_healthy(&self) -> bool {
        self.failure.get().is_none() && !self.queue.is_closed()
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        self.close();
    }
}

impl Key {
    fn parts(&self) -> (&str, &str, &str, &str) {
        (self.resource.group, self.resource.plural, &self.namespace, &self.name)
    }
}

impl PartialEq for Key {
    fn eq(&self, other: &Self) -> bool {
        self.parts() == other.parts()
    }
}

impl Eq for Key {}

impl Hash for Key {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.parts().hash(state);
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}/{}", self.resource.full_name(), self.namespace, self.name)
    }
}

impl fmt::Debug for Record {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Record")
            .field("key", &self.key)
            .field("version", &self.version)
            .field("bytes", &self.json.len())
            .finish()
    }
}

impl Default for Options {
    fn default() -> Self {
        Self { history_events: 16_384, history_bytes: 32 << 20, queue: 1_024 }
    }
}

impl WriteError {
    /// Whether the same write may succeed later without anyone acting on the store.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        matches!(self, Self::Full)
    }
}

impl fmt::Debug for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Put(_) => "Put",
            Self::Delete(_) => "Delete",
        })
    }
}
