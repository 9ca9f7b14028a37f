//! Offline check.
use std::path::{Path, PathBuf};

use crate::error::OpenError;
use crate::fs::Fs;

/// What a check found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Segments of the log.
    pub segments: u64,
    /// Readable records of the log.
    pub records: u64,
    /// Bytes read.
    pub bytes: u64,
    /// What is wrong, empty when nothing is.
    pub problems: Vec<Problem>,
}

/// Something that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// In which file.
    pub file: PathBuf,
    /// Where in it.
    pub position: u64,
    /// What, in words.
    pub what: String,
}

/// Checks a data directory.
///
/// # Errors
/// [`OpenError`].
pub fn fsck(
    _dir: &Path,
    _fs: &dyn Fs,
    _progress: &mut dyn FnMut(u64, u64),
) -> Result<Report, OpenError> {
    todo!()
}
