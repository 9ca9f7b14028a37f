//! The file before redb sees it: that only its user can read it, and that it is there whole or not at all.

use std::fs::{self, File, OpenOptions, Permissions, TryLockError};
use std::io;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use super::{Disk, OpenError};

/// It holds secrets.
const MODE: u32 = 0o600;

/// The file if there is one; an empty one counts as none.
pub(super) fn existing(path: &Path) -> Result<Option<File>, OpenError> {
    let file = match OpenOptions::new().read(true).write(true).open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(OpenError::io("open", path, error)),
    };
    let metadata = file.metadata().map_err(|error| OpenError::io("open", path, error))?;
    if !metadata.is_file() {
        let what = "it is no regular file".to_owned();
        return Err(OpenError::Foreign { path: path.to_owned(), what });
    }
    if metadata.len() == 0 {
        return Ok(None);
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
    Ok(Some(file))
}

/// Makes a store under another name first, so that a crash leaves none rather than a part of one.
pub(super) fn new(path: &Path) -> Result<Disk, OpenError> {
    let draft = draft_path(path);
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(MODE)
        .open(&draft)
        .map_err(|error| OpenError::io("create", &draft, error))?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => return Err(OpenError::Locked { path: path.to_owned() }),
        Err(TryLockError::Error(error)) => return Err(OpenError::io("lock", &draft, error)),
    }
    // Another process may have finished it since this one looked; then this file is that store, not a draft.
    if let Some(found) = existing(path)? {
        drop(file);
        return Disk::of_file(path, found);
    }
    let failed = |action| move |error| OpenError::io(action, path, error);
    // What a crash left of an earlier attempt, maybe with other rights.
    file.set_len(0).map_err(failed("create"))?;
    file.set_permissions(Permissions::from_mode(MODE)).map_err(failed("create"))?;
    let disk = Disk::of_file(path, file)?;
    // The lock goes with the file, not with its name: nobody else opens it in between.
    fs::rename(&draft, path).map_err(failed("create"))?;
    let directory = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        Some(_) | None => Path::new("."),
    };
    // Without it a crash could take the name, and with it every write acknowledged later.
    File::open(directory).and_then(|directory| directory.sync_all()).map_err(failed("create"))?;
    Ok(disk)
}

fn draft_path(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".new");
    PathBuf::from(name)
}
