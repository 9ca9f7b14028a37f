//! The files before anything reads them: that only their user can, and that a database is there whole or not at all.

use std::fs::{self, File, OpenOptions, Permissions, TryLockError};
use std::io;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use super::database::Database;
use super::{OpenError, Room};

/// They hold secrets.
const MODE: u32 = 0o600;

/// The database if there is one; an empty file counts as none.
pub(super) fn existing(path: &Path) -> Result<Option<File>, OpenError> {
    let file = match OpenOptions::new().read(true).write(true).open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(OpenError::io("open", path, error)),
    };
    if check(path, &file)? == 0 {
        return Ok(None);
    }
    Ok(Some(file))
}

/// Makes a database under another name first, so that a crash leaves none rather than a part of one.
pub(super) fn new(path: &Path) -> Result<(Database, Room), OpenError> {
    let draft = with_suffix(path, ".new");
    let file = open_or_make(&draft).map_err(|error| OpenError::io("create", &draft, error))?;
    lock(path, &file)?;
    // Another process may have finished it since this one looked; then this file is that store, not a draft.
    if let Some(found) = existing(path)? {
        drop(file);
        return Database::of_file(path, found);
    }
    let failed = |action| move |error| OpenError::io(action, path, error);
    // What a crash left of an earlier attempt, maybe with other rights.
    file.set_len(0).map_err(failed("create"))?;
    file.set_permissions(Permissions::from_mode(MODE)).map_err(failed("create"))?;
    let opened = Database::of_file(path, file)?;
    // The lock goes with the file, not with its name: nobody else opens it in between.
    fs::rename(&draft, path).map_err(failed("create"))?;
    // Without it a crash could take the name, and with it every write acknowledged later.
    sync_directory(path).map_err(failed("create"))?;
    Ok(opened)
}

/// The file of the journal. One that holds nothing needed need not be there.
pub(super) fn journal(path: &Path, needed: bool) -> Result<File, OpenError> {
    let opened = if needed {
        OpenOptions::new().read(true).write(true).open(path)
    } else {
        open_or_make(path)
    };
    let file = match opened {
        Ok(file) => file,
        Err(error) if needed && error.kind() == io::ErrorKind::NotFound => {
            let what = "it is missing".to_owned();
            return Err(OpenError::Journal { path: path.to_owned(), what });
        }
        Err(error) => return Err(OpenError::io("open", path, error)),
    };
    let length = check(path, &file)?;
    lock(path, &file)?;
    if length == 0 {
        // Maybe new: its name must be on disk before anything in it is acknowledged.
        sync_directory(path).map_err(|error| OpenError::io("create", path, error))?;
    }
    Ok(file)
}

/// Where the journal of a database is.
pub(super) fn journal_path(database: &Path) -> PathBuf {
    let path = database.with_extension("journal");
    if path == database { with_suffix(database, ".journal") } else { path }
}

fn open_or_make(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(MODE).open(path)
}

fn lock(path: &Path, file: &File) -> Result<(), OpenError> {
    match file.try_lock() {
        Ok(()) => Ok(()),
        Err(TryLockError::WouldBlock) => Err(OpenError::Locked { path: path.to_owned() }),
        Err(TryLockError::Error(error)) => Err(OpenError::io("lock", path, error)),
    }
}

/// Looks whether it is a file, takes everybody else's rights to it, and answers with its length in bytes.
fn check(path: &Path, file: &File) -> Result<u64, OpenError> {
    let metadata = file.metadata().map_err(|error| OpenError::io("open", path, error))?;
    if !metadata.is_file() {
        let what = "it is no regular file".to_owned();
        return Err(OpenError::Foreign { path: path.to_owned(), what });
    }
    if metadata.permissions().mode() & 0o077 != 0 {
        match file.set_permissions(Permissions::from_mode(MODE)) {
            Ok(()) => {
                tracing::warn!(path = %path.display(), "the store holds secrets and others could read it; now only its user can");
            }
            Err(error) => {
                tracing::warn!(path = %path.display(), %error, "the store holds secrets and others can read it");
            }
        }
    }
    Ok(metadata.len())
}

fn sync_directory(path: &Path) -> io::Result<()> {
    let directory = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        Some(_) | None => Path::new("."),
    };
    File::open(directory)?.sync_all()
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}
