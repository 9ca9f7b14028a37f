//! The data directory: its lock and its format number.

use std::io;
use std::path::{Path, PathBuf};

use crate::error::OpenError;
use crate::fs::{Fs, Lock};

/// The version of the data directory this program writes, and the newest it reads.
pub(crate) const FORMAT: u32 = 1;

/// The word before the version in the `format` file.
const NAME: &str = "weft";
/// A `format` file is one short line; more is not ours.
const MAX_FORMAT_BYTES: u64 = 64;

/// An open data directory, locked against other processes until it is dropped.
#[derive(Debug)]
pub struct DataDir {
    path: PathBuf,
    _lock: Lock,
}

impl DataDir {
    /// Opens `path`, creating it (mode 0700) if needed, takes its lock and checks its format.
    ///
    /// # Errors
    /// [`OpenError::Locked`] when another process has it, [`OpenError::Newer`] when a newer program wrote it,
    /// [`OpenError::Foreign`] when something else did, [`OpenError::ReadOnly`] and [`OpenError::Io`] with the path.
    pub fn open(path: &Path, fs: &dyn Fs) -> Result<Self, OpenError> {
        fs.create_dir(path).map_err(OpenError::io("create", path))?;
        let lock_path = path.join("lock");
        let lock = fs.try_lock(&lock_path).map_err(OpenError::io("lock", &lock_path))?;
        let lock = lock.ok_or_else(|| OpenError::Locked { path: path.to_owned() })?;
        let dir = Self { path: path.to_owned(), _lock: lock };
        if read_format(path, fs)?.is_none() {
            sync_way_to(path, fs).map_err(OpenError::io("sync the way to", path))?;
            write_format(path, fs)?;
        }
        for sub in [dir.log(), dir.state()] {
            fs.create_dir(&sub).map_err(OpenError::io("create", &sub))?;
        }
        fs.sync_dir(path).map_err(OpenError::io("sync", path))?;
        Ok(dir)
    }

    /// The directory itself.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Where the log is.
    #[must_use]
    pub fn log(&self) -> PathBuf {
        log_dir(&self.path)
    }

    /// Where the journal is.
    #[must_use]
    pub fn state(&self) -> PathBuf {
        state_dir(&self.path)
    }
}

/// Makes the name of a new directory durable: a power failure must not take away the directory in which something was
/// acknowledged. Which of those above it are new as well is not known; syncing one that is not takes no time.
fn sync_way_to(path: &Path, fs: &dyn Fs) -> io::Result<()> {
    for parent in path.ancestors().skip(1) {
        let parent = if parent.as_os_str().is_empty() { Path::new(".") } else { parent };
        match fs.sync_dir(parent) {
            // One may make names in a directory that one may not read; then there is nothing to do.
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {}
            synced => synced?,
        }
    }
    Ok(())
}

pub(crate) fn log_dir(path: &Path) -> PathBuf {
    path.join("log")
}

pub(crate) fn state_dir(path: &Path) -> PathBuf {
    path.join("state")
}

/// The version `path` has, `None` if none is written there yet.
pub(crate) fn read_format(path: &Path, fs: &dyn Fs) -> Result<Option<u32>, OpenError> {
    let file_path = path.join("format");
    let file = match fs.open(&file_path, crate::fs::Access::Read) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(OpenError::io("open", &file_path)(error)),
    };
    let size = file.size().map_err(OpenError::io("read", &file_path))?.min(MAX_FORMAT_BYTES);
    let mut text = vec![0; usize::try_from(size).expect("at most MAX_FORMAT_BYTES")];
    file.read_at(&mut text, 0).map_err(OpenError::io("read", &file_path))?;
    let text = String::from_utf8_lossy(&text);
    let mut words = text.split_ascii_whitespace();
    let (Some(NAME), Some(Ok(version)), None) =
        (words.next(), words.next().map(str::parse::<u32>), words.next())
    else {
        let what = format!("expected \"{NAME} {FORMAT}\", found {text:?}");
        return Err(OpenError::Foreign { path: file_path, what });
    };
    if version > FORMAT {
        return Err(OpenError::Newer { path: file_path, found: version, supported: FORMAT });
    }
    Ok(Some(version))
}

fn write_format(path: &Path, fs: &dyn Fs) -> Result<(), OpenError> {
    let (tmp, file_path) = (path.join("format.tmp"), path.join("format"));
    let write = || {
        let file = fs.create(&tmp)?;
        file.write_at(format!("{NAME} {FORMAT}\n").as_bytes(), 0)?;
        file.sync_all()?;
        fs.rename(&tmp, &file_path)
    };
    write().map_err(OpenError::io("write", &file_path))
}
