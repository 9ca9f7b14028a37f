//! What is on disk: a redb database, `NAME.redb`, and beside it the journal of what the database does not have yet,
//! `NAME.journal`.
//!
//! ```text
//! batch ─▶ journal: one write, one sync ─▶ acknowledged
//!             │
//!             └─ nearly full, many changes, idle, or closing: all of it in one transaction ─▶ database
//! ```
//!
//! A transaction of the database writes pages all over its file, some for every object; a batch of the journal is one write
//! behind the last. So acknowledging waits for the journal alone, and of ten changes of one object the database sees the last.
//!
//! The transaction also gives the journal a new [epoch](Epoch), which makes void what the journal holds: the database has it.
//! Both happen or none, wherever a crash comes, and the journal is not written to for it. Opening reads what the journal holds of the
//! database's epoch, and takes it over before anything else.
//!
//! A clean close leaves everything in the database; then the journal may go, and comes back with the next start. Until then
//! the two belong together.

use std::borrow::Cow;
use std::fmt;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use crds::resource::Catalog;
use redb::StorageBackend;
use redb::backends::FileBackend;
use uuid::Uuid;

use super::journal::{Entry, Epoch, Fit, Journal, Link};
use super::{Event, EventKind, Key, OpenError, Record};

mod create;
mod database;

pub(super) use self::database::Contents;

use self::database::Database;

/// 8 MiB are 2,000 single writes between two transactions, which then cost each write little; making such a journal takes some
/// 10 ms. Nothing waits for an idle database but the memory and the start after a crash, which a second spares as well as
/// a moment would, and of an object that changes every now and then not every change costs a transaction.
const PACE: Pace = Pace { journal_bytes: 8 << 20, idle: Duration::from_secs(1) };

/// Changes after which a transaction is due, however small they are: writes wait for it, some 20 ms for so many.
const MOST_PENDING: usize = 4_096;

/// Free bytes of the disk that a write asks for beside what its transaction needs: other files grow meanwhile.
const SPARE_BYTES: u64 = 8 << 20;

/// Bytes of pages that a transaction copies for a change, at worst: two of 4 KiB.
const CHANGE_BYTES: u64 = 8 << 10;

/// How many bytes the disk has room for; none when that is unknown.
pub(super) type Room = Box<dyn Fn() -> Option<u64> + Send>;

/// How far the database may be behind.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pace {
    /// Length of a new journal, in bytes; whole blocks, two at least.
    pub(super) journal_bytes: u64,
    /// How long nothing must come until the database is brought up to date unasked.
    pub(super) idle: Duration,
}

/// Makes what the journal is kept in, or finds it; told whether it must be there already.
type Medium<'a> = Box<dyn FnOnce(bool) -> Result<Box<dyn StorageBackend>, OpenError> + 'a>;

/// The two files, open.
pub(super) struct Disk {
    database: Database,
    journal: Journal,
    /// Name of the journal in the database.
    id: u64,
    room: Room,
    idle: Duration,
    /// What the journal holds and the database does not, in order of version.
    pending: Vec<Pending>,
    /// Bytes of disk that a transaction of it needs.
    pending_bytes: u64,
}

/// A change that the database does not have yet. Of a deleted object it holds the key alone: the rest is in no file.
enum Pending {
    Put(Arc<Record>),
    Delete(Key, u64),
}

/// A change that was read from the journal. Its kind may be one that this program does not know.
struct Replayed {
    kind: String,
    namespace: String,
    name: String,
    version: u64,
    json: Option<Box<[u8]>>,
}

/// Why a write was not done.
#[derive(Debug)]
pub(super) enum CommitError {
    /// Nothing was tried, for lack of room.
    Full,
    /// It is unknown what reached the disk.
    Failed(String),
}

impl Disk {
    /// Opens the files, which only their user can read, or creates them.
    pub(super) fn open(path: &Path) -> Result<Self, OpenError> {
        let (database, room) = match create::existing(path)? {
            Some(file) => Database::of_file(path, file)?,
            None => create::new(path)?,
        };
        let journal = create::journal_path(path);
        let medium = |in_use| -> Result<Box<dyn StorageBackend>, OpenError> {
            let file = create::journal(&journal, in_use)?;
            let backend = FileBackend::new(file);
            Ok(Box::new(backend.map_err(|error| OpenError::of_redb(&journal, error.into()))?))
        };
        Self::assemble(database, Box::new(medium), room, PACE)
    }

    /// Opens or creates a store whose database and journal are kept in `files`.
    #[cfg(test)]
    pub(super) fn open_with(
        files: (impl StorageBackend, impl StorageBackend),
        room: Room,
        pace: Pace,
    ) -> Result<Self, OpenError> {
        let database = Database::open(Path::new("test.redb"), files.0)?;
        Self::assemble(database, Box::new(|_| Ok(Box::new(files.1))), room, pace)
    }

    /// Takes over what the journal holds, and starts it over.
    fn assemble(
        database: Database,
        medium: Medium<'_>,
        room: Room,
        pace: Pace,
    ) -> Result<Self, OpenError> {
        let link = database.link()?.unwrap_or_else(|| Link {
            id: random(),
            epoch: Epoch { number: 0, tag: random() },
            in_use: false,
        });
        let path = create::journal_path(database.path());
        let journal = Journal::open(&path, medium(link.in_use)?, link, pace.journal_bytes)?;
        let mut replayed = Vec::new();
        if link.in_use {
            journal.replay(database.version()?, |entry| replayed.push(Replayed::from(entry)))?;
        }
        let mut disk = Self {
            database,
            journal,
            id: link.id,
            room,
            idle: pace.idle,
            pending: Vec::new(),
            pending_bytes: 0,
        };
        let bytes = cost(replayed.iter().map(Replayed::entry));
        if !replayed.is_empty() && !disk.has_room(bytes) {
            let source = io::ErrorKind::StorageFull.into();
            return Err(OpenError::io("write", disk.path(), source));
        }
        let link = disk.next_link(true);
        disk.database
            .write(replayed.iter().map(Replayed::entry).collect(), link)
            .map_err(|error| OpenError::of_redb(disk.path(), error))?;
        disk.journal.restart(link.epoch);
        Ok(disk)
    }

    pub(super) fn path(&self) -> &Path {
        self.database.path()
    }

    /// Reads everything.
    pub(super) fn load(&self, catalog: Catalog) -> Result<Contents, OpenError> {
        self.database.load(catalog)
    }

    /// Writes all changes or none. `Ok` means that they are on disk. After [`CommitError::Failed`] nothing more may be tried.
    pub(super) fn commit<'a>(
        &mut self,
        events: impl Iterator<Item = &'a Event> + Clone,
    ) -> Result<(), CommitError> {
        let bytes = cost(events.clone().map(entry));
        // A write that the disk refuses is final, and whether there is room can be known before. The journal has its room;
        // what it is given must fit the database later.
        if !self.has_room(bytes) {
            return Err(CommitError::Full);
        }
        let mut fit = self.journal.prepare(events.clone().map(entry));
        if fit == Fit::Later {
            self.checkpoint()?;
            fit = self.journal.prepare(events.clone().map(entry));
        }
        let before = (self.pending.len(), self.pending_bytes);
        if fit == Fit::Now {
            self.journal.append().map_err(|error| self.journal.failed(&error))?;
        }
        self.pending.extend(events.map(Pending::from));
        self.pending_bytes = self.pending_bytes.saturating_add(bytes);
        if fit == Fit::Now {
            return Ok(());
        }
        // Larger than the whole journal: it goes where everything goes in the end.
        let done = self.checkpoint();
        if matches!(done, Err(CommitError::Full)) {
            self.pending.truncate(before.0);
            self.pending_bytes = before.1;
        }
        done
    }

    /// How long to wait for more before [`Self::checkpoint`]; none if the database lacks nothing.
    pub(super) fn patience(&self) -> Option<Duration> {
        (!self.pending.is_empty()).then_some(self.idle)
    }

    /// Whether it is time for [`Self::checkpoint`], which the next write may have to wait for otherwise.
    pub(super) fn is_checkpoint_due(&self) -> bool {
        self.journal.is_nearly_full() || self.pending.len() >= MOST_PENDING
    }

    /// Brings the database up to date and starts the journal over.
    pub(super) fn checkpoint(&mut self) -> Result<(), CommitError> {
        self.settle(true)
    }

    /// Leaves everything in the database. Without room for that, the journal keeps it.
    pub(super) fn close(mut self) -> Result<(), CommitError> {
        self.settle(false)?;
        if let Err(error) = self.journal.blank() {
            tracing::warn!(path = %self.path().display(), %error, "the journal of the closed store cannot be blanked");
        }
        Ok(())
    }

    fn settle(&mut self, in_use: bool) -> Result<(), CommitError> {
        if !self.has_room(0) {
            return Err(CommitError::Full);
        }
        let link = self.next_link(in_use);
        let entries = self.pending.iter().map(Pending::entry).collect();
        self.database.write(entries, link).map_err(|error| {
            CommitError::Failed(format!("cannot write {}: {error}", self.path().display()))
        })?;
        self.journal.restart(link.epoch);
        // It grows with the next burst and is not needed until then.
        self.pending = Vec::new();
        self.pending_bytes = 0;
        Ok(())
    }

    fn next_link(&self, in_use: bool) -> Link {
        let number = self.journal.epoch().number.saturating_add(1);
        Link { id: self.id, epoch: Epoch { number, tag: random() }, in_use }
    }

    /// Whether the next transaction finds room, with `more` bytes in it.
    fn has_room(&self, more: u64) -> bool {
        let needed = self.pending_bytes.saturating_add(more).saturating_add(SPARE_BYTES);
        (self.room)().is_none_or(|room| room >= needed)
    }
}

impl fmt::Debug for Disk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Disk")
            .field("path", &self.path())
            .field("journal", &self.journal)
            .field("pending", &self.pending.len())
            .finish_non_exhaustive()
    }
}

impl Pending {
    fn entry(&self) -> Entry<'_> {
        match self {
            Self::Put(record) => of(&record.key, record.version, Some(&record.json)),
            Self::Delete(key, version) => of(key, *version, None),
        }
    }
}

impl From<&Event> for Pending {
    fn from(event: &Event) -> Self {
        match event.kind {
            EventKind::Added | EventKind::Modified => Self::Put(Arc::clone(&event.record)),
            EventKind::Deleted => Self::Delete(event.record.key.clone(), event.record.version),
        }
    }
}

impl Replayed {
    fn entry(&self) -> Entry<'_> {
        let Self { kind, namespace, name, version, json } = self;
        let kind = Cow::Borrowed(kind.as_str());
        Entry { kind, namespace, name, version: *version, json: json.as_deref() }
    }
}

impl From<&Entry<'_>> for Replayed {
    fn from(entry: &Entry<'_>) -> Self {
        Self {
            kind: entry.kind.to_string(),
            namespace: entry.namespace.to_owned(),
            name: entry.name.to_owned(),
            version: entry.version,
            json: entry.json.map(Into::into),
        }
    }
}

fn entry(event: &Event) -> Entry<'_> {
    let Record { key, version, json } = &*event.record;
    let deleted = event.kind == EventKind::Deleted;
    of(key, *version, (!deleted).then_some(json))
}

fn of<'a>(key: &'a Key, version: u64, json: Option<&'a Bytes>) -> Entry<'a> {
    Entry {
        kind: Cow::Owned(key.resource.full_name()),
        namespace: &key.namespace,
        name: &key.name,
        version,
        json: json.map(AsRef::as_ref),
    }
}

/// Bytes of disk that a transaction with these needs: thrice the content, since a tree is filled by half at worst and the
/// pages that it replaces go later, and the pages around it.
fn cost<'a>(entries: impl Iterator<Item = Entry<'a>>) -> u64 {
    entries.fold(0, |sum: u64, entry| {
        let bytes = entry.json.map_or(0, <[u8]>::len) as u64;
        sum.saturating_add(bytes.saturating_mul(3)).saturating_add(CHANGE_BYTES)
    })
}

/// A number that no other store and no other epoch has.
fn random() -> u64 {
    Uuid::new_v4().as_u64_pair().1
}
