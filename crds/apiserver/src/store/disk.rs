//! The file: what is in it, and how it is opened, read and written. Format 1, a redb database:
//!
//! | table | key | value |
//! |---|---|---|
//! | `weft.meta` | `format` | 1 |
//! | `weft.meta` | `version` | the highest version that was given |
//! | `weft.objects` | (`plural.group`, namespace, name) | (version, JSON) |
//!
//! The version is kept beside the objects because the object that had it may be gone. Kinds that this program does not know
//! are left as they are: a newer one wrote them, and may come back.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::fs::File;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use bytes::Bytes;
use crds::resource::Resource;
use redb::backends::FileBackend;
use redb::{
    Database, Durability, ReadableDatabase, ReadableTable, StorageBackend, TableDefinition,
    TableHandle,
};

use super::{Event, EventKind, Key, OpenError, Record};

mod create;

/// The newest format that this program reads, and the one that it writes.
const FORMAT: u64 = 1;
/// Version of a store nothing was written to yet.
const FIRST_VERSION: u64 = 1;

const META: TableDefinition<'_, &str, u64> = TableDefinition::new("weft.meta");
const META_FORMAT: &str = "format";
const META_VERSION: &str = "version";
const OBJECTS: TableDefinition<'_, (&str, &str, &str), (u64, &[u8])> =
    TableDefinition::new("weft.objects");

/// Pages that redb may keep: reads come from memory, so the file's pages serve commits alone. The paths from the root to some
/// hundred leaves fit.
const CACHE_BYTES: usize = 2 << 20;

/// Free bytes of the disk that a commit asks for beside thrice its own. A commit copies the pages it changes, of 4 KiB
/// mostly: two of each of the 1,024 writes that fit one are half of this.
const SPARE_BYTES: u64 = 16 << 20;

/// How many bytes the disk has room for; none when that is unknown.
pub(super) type Room = Box<dyn Fn() -> Option<u64> + Send>;

/// An open file.
pub(super) struct Disk {
    path: PathBuf,
    database: Database,
    room: Room,
}

/// What was in the file.
#[derive(Debug)]
pub(super) struct Contents {
    /// The highest version that was given.
    pub(super) version: u64,
    /// Where the kind of each is in the list of kinds, and the object.
    pub(super) objects: Vec<(usize, Record)>,
    /// How many objects there are of kinds that are not in the list.
    pub(super) unknown: BTreeMap<String, usize>,
}

/// Why a commit was not done.
#[derive(Debug)]
pub(super) enum CommitError {
    /// Nothing was tried, for lack of room.
    Full,
    /// It is unknown what reached the disk.
    Failed(String),
}

impl Disk {
    /// Opens the file, which only its user can read, or creates it.
    pub(super) fn open(path: &Path) -> Result<Self, OpenError> {
        match create::existing(path)? {
            Some(file) => Self::of_file(path, file),
            None => create::new(path),
        }
    }

    fn of_file(path: &Path, file: File) -> Result<Self, OpenError> {
        let failed = |source| OpenError::io("open", path, source);
        let handle = file.try_clone().map_err(failed)?;
        let room = Box::new(move || {
            let stat = rustix::fs::fstatvfs(&handle).ok()?;
            Some(stat.f_bavail.saturating_mul(stat.f_frsize))
        });
        let backend =
            FileBackend::new(file).map_err(|error| OpenError::of_redb(path, error.into()))?;
        Self::open_with(path, backend, room)
    }

    /// Opens or creates a store in `backend`. `path` is what errors call it.
    pub(super) fn open_with(
        path: &Path,
        backend: impl StorageBackend,
        room: Room,
    ) -> Result<Self, OpenError> {
        guarded(path, || {
            let database = Database::builder()
                .set_cache_size(CACHE_BYTES)
                // Damage is found now, not served later: 40 ms for 10,000 objects of 1 KiB.
                .set_check_integrity_on_open(true)
                .create_with_backend(backend)
                .map_err(redb::Error::from)?;
            let disk = Self { path: path.to_owned(), database, room };
            Ok(disk.check_format()?.map(|()| disk))
        })?
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Looks before anything is written whether it is a store, and one that this program understands.
    fn check_format(&self) -> Result<Result<(), OpenError>, redb::Error> {
        let read = self.database.begin_read()?;
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
            Some(FORMAT) => Ok(()),
            Some(found) if found > FORMAT => {
                Err(OpenError::Newer { path: self.path.clone(), found, supported: FORMAT })
            }
            Some(_) | None => Err(foreign("it does not say its format")),
        })
    }

    fn initialize(&self) -> Result<(), redb::Error> {
        let mut write = self.database.begin_write()?;
        write.set_durability(Durability::Immediate)?;
        let mut meta = write.open_table(META)?;
        meta.insert(META_FORMAT, FORMAT)?;
        meta.insert(META_VERSION, FIRST_VERSION)?;
        drop(meta);
        drop(write.open_table(OBJECTS)?);
        write.commit()?;
        Ok(())
    }

    /// Reads everything.
    pub(super) fn load(&self, resources: &'static [Resource]) -> Result<Contents, OpenError> {
        guarded(&self.path, || self.load_unguarded(resources))
    }

    fn load_unguarded(&self, resources: &'static [Resource]) -> Result<Contents, redb::Error> {
        let kinds: HashMap<String, (usize, &'static Resource)> = resources
            .iter()
            .enumerate()
            .map(|(index, resource)| (resource.full_name(), (index, resource)))
            .collect();
        let read = self.database.begin_read()?;
        let version = read.open_table(META)?.get(META_VERSION)?.map(|version| version.value());
        let mut contents = Contents {
            version: version.unwrap_or(FIRST_VERSION),
            objects: Vec::new(),
            unknown: BTreeMap::new(),
        };
        for entry in read.open_table(OBJECTS)?.iter()? {
            let (key, value) = entry?;
            let ((kind, namespace, name), (version, json)) = (key.value(), value.value());
            // The two are written together. Should they differ, no version may come twice all the same.
            contents.version = contents.version.max(version);
            let Some((index, resource)) = kinds.get(kind) else {
                let count = contents.unknown.entry(kind.to_owned()).or_default();
                *count = count.saturating_add(1);
                continue;
            };
            let (namespace, name) = (namespace.to_owned(), name.to_owned());
            let key = Key { resource, namespace, name };
            let record = Record { key, version, json: Bytes::copy_from_slice(json) };
            contents.objects.push((*index, record));
        }
        Ok(contents)
    }

    /// Writes all changes or none. `Ok` means that they are on disk.
    pub(super) fn commit<'a>(
        &self,
        events: impl Iterator<Item = &'a Event> + Clone,
    ) -> Result<(), CommitError> {
        let bytes = events.clone().fold(0_u64, |sum, event| {
            let bytes = u64::try_from(event.record.json.len()).unwrap_or(u64::MAX);
            sum.saturating_add(bytes.saturating_mul(3))
        });
        // A write that the disk refuses is final, and whether there is room can be known before.
        if (self.room)().is_some_and(|room| room < bytes.saturating_add(SPARE_BYTES)) {
            return Err(CommitError::Full);
        }
        // A panic is redb's way to tell of some kinds of damage.
        match catch_unwind(AssertUnwindSafe(|| self.commit_unguarded(events))) {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => {
                Err(CommitError::Failed(format!("cannot write {}: {error}", self.path.display())))
            }
            Err(_) => Err(CommitError::Failed(format!("{} is damaged", self.path.display()))),
        }
    }

    fn commit_unguarded<'a>(
        &self,
        events: impl Iterator<Item = &'a Event>,
    ) -> Result<(), redb::Error> {
        let mut write = self.database.begin_write()?;
        write.set_durability(Durability::Immediate)?;
        let mut objects = write.open_table(OBJECTS)?;
        let mut last = None;
        for event in events {
            let Record { key, version, json } = &*event.record;
            let kind = key.resource.full_name();
            let place = (kind.as_str(), key.namespace.as_str(), key.name.as_str());
            match event.kind {
                EventKind::Added | EventKind::Modified => {
                    objects.insert(place, (*version, json.as_ref()))?;
                }
                EventKind::Deleted => {
                    objects.remove(place)?;
                }
            }
            last = Some(*version);
        }
        drop(objects);
        if let Some(version) = last {
            write.open_table(META)?.insert(META_VERSION, version)?;
        }
        write.commit()?;
        Ok(())
    }
}

impl fmt::Debug for Disk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Disk").field("path", &self.path).finish_non_exhaustive()
    }
}

/// Runs what reads a file that may be anything. A panic is redb's way to tell of some kinds of damage.
fn guarded<T>(path: &Path, read: impl FnOnce() -> Result<T, redb::Error>) -> Result<T, OpenError> {
    match catch_unwind(AssertUnwindSafe(read)) {
        Ok(result) => result.map_err(|error| OpenError::of_redb(path, error)),
        Err(_) => Err(OpenError::Damaged {
            path: path.to_owned(),
            what: "its pages contradict each other".to_owned(),
        }),
    }
}

impl OpenError {
    /// What a refusal of the system means.
    pub(super) fn io(action: &'static str, path: &Path, source: io::Error) -> Self {
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
    fn of_redb(path: &Path, error: redb::Error) -> Self {
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
