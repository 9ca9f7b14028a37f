//! The database: what is in it, and how it is opened, read and written. Format 2:
//!
//! | table | key | value |
//! |---|---|---|
//! | `weft.meta` | `format` | 2 |
//! | `weft.meta` | `version` | the highest version that was given to what is in it |
//! | `weft.meta` | `journal` | the number by which it calls its journal |
//! | `weft.meta` | `epoch`, `tag` | the [epoch](Epoch) of what the journal holds beyond it |
//! | `weft.meta` | `open` | 1 if the journal may hold something, 0 after a clean close |
//! | `weft.objects` | (`plural.group`, namespace, name) | (version, JSON) |
//!
//! The version is kept beside the objects because the object that had it may be gone. Kinds that this program does not know
//! are left as they are: a newer one wrote them, and may come back. Format 1 had no journal; it becomes 2 when it is opened.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::fs::File;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use crds::resource::{Catalog, Resource};
use redb::backends::FileBackend;
use redb::{
    Durability, ReadableDatabase, ReadableTable, StorageBackend, TableDefinition, TableHandle,
};

use super::Room;
use crate::store::journal::{Entry, Epoch, Link};
use crate::store::memory::Objects;
use crate::store::{Key, OpenError, Record};

/// The newest format that this program reads, and the one that it writes.
const FORMAT: u64 = 2;
/// The one before the journal.
const WITHOUT_JOURNAL: u64 = 1;
/// Version of a store nothing was written to yet.
const FIRST_VERSION: u64 = 1;

const META: TableDefinition<'_, &str, u64> = TableDefinition::new("weft.meta");
const META_FORMAT: &str = "format";
const META_VERSION: &str = "version";
const META_JOURNAL: &str = "journal";
const META_EPOCH: &str = "epoch";
const META_TAG: &str = "tag";
const META_OPEN: &str = "open";
const OBJECTS: TableDefinition<'_, (&str, &str, &str), (u64, &[u8])> =
    TableDefinition::new("weft.objects");

/// Pages that redb may keep: reads come from memory, so the file's pages serve transactions alone, and nobody waits for most of
/// those. The paths from the root to some hundred leaves fit.
const CACHE_BYTES: usize = 1 << 20;

/// The open database.
pub(super) struct Database {
    path: PathBuf,
    redb: redb::Database,
}

/// What was in the database.
#[derive(Debug)]
pub(in crate::store) struct Contents {
    /// The highest version that was given.
    pub(in crate::store) version: u64,
    /// The objects of each kind, in the order of the list of kinds.
    pub(in crate::store) kinds: Vec<Objects>,
    /// How many objects there are of kinds that are not in the list.
    pub(in crate::store) unknown: BTreeMap<String, usize>,
}

impl Database {
    /// What is in `file`, and how much room its disk has.
    pub(super) fn of_file(path: &Path, file: File) -> Result<(Self, Room), OpenError> {
        let failed = |source| OpenError::io("open", path, source);
        let handle = file.try_clone().map_err(failed)?;
        let room = Box::new(move || {
            let stat = rustix::fs::fstatvfs(&handle).ok()?;
            Some(stat.f_bavail.saturating_mul(stat.f_frsize))
        });
        let backend =
            FileBackend::new(file).map_err(|error| OpenError::of_redb(path, error.into()))?;
        Ok((Self::open(path, backend)?, room))
    }

    /// Opens or creates a database in `backend`. `path` is what errors call it.
    pub(super) fn open(path: &Path, backend: impl StorageBackend) -> Result<Self, OpenError> {
        guarded(path, || {
            let redb = redb::Database::builder()
                .set_cache_size(CACHE_BYTES)
                // Damage is found now, not served later: 40 ms for 10,000 objects of 1 KiB.
                .set_check_integrity_on_open(true)
                .create_with_backend(backend)
                .map_err(redb::Error::from)?;
            let database = Self { path: path.to_owned(), redb };
            Ok(database.check_format()?.map(|()| database))
        })?
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Looks before anything is written whether it is a store, and one that this program understands.
    fn check_format(&self) -> Result<Result<(), OpenError>, redb::Error> {
        let read = self.redb.begin_read()?;
        let names: Vec<String> = read.list_tables()?.map(|table| table.name().to_owned()).collect();
        if names.is_empty() {
            drop(read);
            return self.initialize().map(Ok);
        }
        let foreign =
            |what: &str| OpenError::Foreign { path: self.path.clone(), what: what.to_owned() };
        if !names.iter().any(|name| name == META.name()) {
            return Ok(Err(foreign("it is another program's redb database")));
        }
        let format = read.open_table(META)?.get(META_FORMAT)?.map(|format| format.value());
        Ok(match format {
            Some(WITHOUT_JOURNAL..=FORMAT) => Ok(()),
            Some(found) if found > FORMAT => {
                Err(OpenError::Newer { path: self.path.clone(), found, supported: FORMAT })
            }
            Some(_) | None => Err(foreign("it does not say its format")),
        })
    }

    fn initialize(&self) -> Result<(), redb::Error> {
        let mut write = self.redb.begin_write()?;
        write.set_durability(Durability::Immediate)?;
        let mut meta = write.open_table(META)?;
        meta.insert(META_FORMAT, FORMAT)?;
        meta.insert(META_VERSION, FIRST_VERSION)?;
        drop(meta);
        drop(write.open_table(OBJECTS)?);
        write.commit()?;
        Ok(())
    }

    /// How it belongs to its journal; none if it never had one.
    pub(super) fn link(&self) -> Result<Option<Link>, OpenError> {
        guarded(&self.path, || {
            let meta = self.redb.begin_read()?.open_table(META)?;
            let get = |key| Ok::<_, redb::Error>(meta.get(key)?.map(|value| value.value()));
            let said = (get(META_JOURNAL)?, get(META_EPOCH)?, get(META_TAG)?, get(META_OPEN)?);
            Ok(match said {
                (Some(id), Some(number), Some(tag), Some(open)) => {
                    Some(Link { id, epoch: Epoch { number, tag }, in_use: open != 0 })
                }
                _ => None,
            })
        })
    }

    /// The highest version that was given to what is in it.
    pub(super) fn version(&self) -> Result<u64, OpenError> {
        guarded(&self.path, || {
            let meta = self.redb.begin_read()?.open_table(META)?;
            let version = meta.get(META_VERSION)?.map(|version| version.value());
            Ok(version.unwrap_or(FIRST_VERSION))
        })
    }

    /// Reads everything.
    pub(super) fn load(&self, catalog: Catalog) -> Result<Contents, OpenError> {
        let version = self.version()?;
        guarded(&self.path, || self.load_unguarded(catalog, version))
    }

    fn load_unguarded(&self, catalog: Catalog, version: u64) -> Result<Contents, redb::Error> {
        let known: HashMap<String, (usize, &'static Resource)> = catalog
            .iter()
            .enumerate()
            .map(|(index, resource)| (resource.full_name(), (index, resource)))
            .collect();
        let kinds = catalog.iter().map(|_| Objects::default()).collect();
        let mut contents = Contents { version, kinds, unknown: BTreeMap::new() };
        for entry in self.redb.begin_read()?.open_table(OBJECTS)?.iter()? {
            let (key, value) = entry?;
            let ((kind, namespace, name), (version, json)) = (key.value(), value.value());
            // The two are written together. Should they differ, no version may come twice all the same.
            contents.version = contents.version.max(version);
            let found = known.get(kind);
            let found =
                found.and_then(|(at, resource)| Some((contents.kinds.get_mut(*at)?, *resource)));
            let Some((objects, resource)) = found else {
                let count = contents.unknown.entry(kind.to_owned()).or_default();
                *count = count.saturating_add(1);
                continue;
            };
            let (namespace, name) = (namespace.to_owned(), name.to_owned());
            let key = Key { resource, namespace, name };
            objects.put(Arc::new(Record { key, version, json: Bytes::copy_from_slice(json) }));
        }
        Ok(contents)
    }

    /// Writes changes, which come in order of version, and how it belongs to its journal from now on: all or nothing. `Ok`
    /// means that it is on disk.
    pub(super) fn write(&self, changes: Vec<Entry<'_>>, link: Link) -> Result<(), redb::Error> {
        // A panic is redb's way to tell of some kinds of damage.
        catch_unwind(AssertUnwindSafe(|| self.write_unguarded(changes, link)))
            .unwrap_or_else(|_| Err(redb::Error::Corrupted(CONTRADICTION.to_owned())))
    }

    fn write_unguarded(&self, mut changes: Vec<Entry<'_>>, link: Link) -> Result<(), redb::Error> {
        let version = changes.last().map(|last| last.version);
        // In the order of the tree, which is then walked once; of several changes of an object the last stays last.
        changes.sort_by(|a, b| place(a).cmp(&place(b)));
        let mut write = self.redb.begin_write()?;
        write.set_durability(Durability::Immediate)?;
        let mut objects = write.open_table(OBJECTS)?;
        let mut changes = changes.iter().peekable();
        while let Some(change) = changes.next() {
            if changes.peek().is_some_and(|next| place(next) == place(change)) {
                continue;
            }
            match change.json {
                Some(json) => drop(objects.insert(place(change), (change.version, json))?),
                None => drop(objects.remove(place(change))?),
            }
        }
        drop(objects);
        let mut meta = write.open_table(META)?;
        if let Some(version) = version {
            meta.insert(META_VERSION, version)?;
        }
        for (key, value) in [
            (META_FORMAT, FORMAT),
            (META_JOURNAL, link.id),
            (META_EPOCH, link.epoch.number),
            (META_TAG, link.epoch.tag),
            (META_OPEN, u64::from(link.in_use)),
        ] {
            meta.insert(key, value)?;
        }
        drop(meta);
        write.commit()?;
        Ok(())
    }
}

impl fmt::Debug for Database {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Database").field("path", &self.path).finish_non_exhaustive()
    }
}

/// Where an object is in its table.
fn place<'a>(entry: &'a Entry<'_>) -> (&'a str, &'a str, &'a str) {
    (&entry.kind, entry.namespace, entry.name)
}

const CONTRADICTION: &str = "its pages contradict each other";

/// Runs what reads a file that may be anything. A panic is redb's way to tell of some kinds of damage.
fn guarded<T>(path: &Path, read: impl FnOnce() -> Result<T, redb::Error>) -> Result<T, OpenError> {
    match catch_unwind(AssertUnwindSafe(read)) {
        Ok(result) => result.map_err(|error| OpenError::of_redb(path, error)),
        Err(_) => Err(OpenError::Damaged { path: path.to_owned(), what: CONTRADICTION.to_owned() }),
    }
}

impl OpenError {
    /// What a refusal of the system means.
    pub(in crate::store) fn io(action: &'static str, path: &Path, source: io::Error) -> Self {
        let path = path.to_owned();
        match source.kind() {
            io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
                Self::ReadOnly { path, source }
            }
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                Self::Full { path, source }
            }
            _ => Self::Io { action, path, source },
        }
    }

    /// What a refusal of redb means.
    pub(super) fn of_redb(path: &Path, error: redb::Error) -> Self {
        let damaged = |what: String| Self::Damaged { path: path.to_owned(), what };
        match error {
            redb::Error::DatabaseAlreadyOpen | redb::Error::LockProtocolMismatch => {
                Self::Locked { path: path.to_owned() }
            }
            redb::Error::UpgradeRequired(found) => Self::Foreign {
                path: path.to_owned(),
                what: format!("it is a redb database of format {found}"),
            },
            // So it says that the file is not one of its own.
            redb::Error::Io(source) if source.kind() == io::ErrorKind::InvalidData => {
                Self::Foreign { path: path.to_owned(), what: source.to_string() }
            }
            // The file ends before it should.
            redb::Error::Io(source) if source.kind() == io::ErrorKind::UnexpectedEof => {
                damaged("its end is missing".to_owned())
            }
            redb::Error::Io(source) => Self::io("open", path, source),
            redb::Error::TableTypeMismatch { table, .. } => Self::Foreign {
                path: path.to_owned(),
                what: format!("its table {table} has other columns"),
            },
            other => damaged(other.to_string()),
        }
    }
}
