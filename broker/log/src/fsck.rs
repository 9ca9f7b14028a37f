//! An offline check of a data directory, which changes nothing.
//!
//! A problem is what was durable once and cannot be read. A write that a crash cut short is none: nobody was promised it,
//! and the next start removes it. An index that cannot be read is none either: it is made again from its segment.

use std::path::{Path, PathBuf};

use crate::contents::Contents;
use crate::dir::{FORMAT, log_dir, read_format, state_dir};
use crate::error::OpenError;
use crate::fs::{Access, Fs};
use crate::index::{self, Subject};
use crate::journal;
use crate::open::{guess_head, read_head};
use crate::recovery::{self, Trust};
use crate::segment::{self, Head, HeadRead, VERSION};

/// What a check found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Segments of the log.
    pub segments: u64,
    /// Readable records of the log.
    pub records: u64,
    /// Bytes read, of the log and of the journal.
    pub bytes: u64,
    /// What is wrong, by file; empty when nothing is.
    pub problems: Vec<Problem>,
}

/// Something that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// In which file.
    pub file: PathBuf,
    /// Where in it, in bytes.
    pub position: u64,
    /// What, in words.
    pub what: String,
}

/// Reads everything in the data directory `dir` and tells what is damaged. `progress` hears how many bytes of how many
/// are read. The directory is locked meanwhile, if it can be.
///
/// # Errors
/// [`OpenError::Foreign`] when it is no data directory, [`OpenError::Locked`] when a process has it open (what it is
/// writing would look damaged), [`OpenError::Newer`], [`OpenError::Io`].
pub fn fsck(
    dir: &Path,
    fs: &dyn Fs,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<Report, OpenError> {
    if read_format(dir, fs)?.is_none() {
        let what = format!("there is no file \"format\" that says \"weft {FORMAT}\"");
        return Err(OpenError::Foreign { path: dir.to_owned(), what });
    }
    let lock_path = dir.join("lock");
    let _lock = match fs.try_lock(&lock_path).map_err(OpenError::io("lock", &lock_path)) {
        Ok(Some(lock)) => Some(lock),
        Ok(None) => return Err(OpenError::Locked { path: dir.to_owned() }),
        // A copy on a read-only medium: nobody writes to it.
        Err(OpenError::ReadOnly { .. }) => None,
        Err(error) => return Err(error),
    };
    let (log, state) = (log_dir(dir), state_dir(dir));
    let segments = segments(&log, fs)?;
    let log_bytes = segments.iter().fold(0_u64, |sum, (_, size)| sum.saturating_add(*size));
    let total = log_bytes.saturating_add(journal::size(&state, fs)?);
    let mut check = Check { report: Report::default(), total, progress };
    check.advance(0);
    for (place, (base, size)) in segments.iter().enumerate() {
        let next_base = segments.get(place.saturating_add(1)).map(|(base, _)| *base);
        check.segment(&log, fs, Candidate { base: *base, size: *size, next_base })?;
    }
    let Check { report, .. } = &mut check;
    let mut problems = std::mem::take(&mut report.problems);
    let mut problem = |file, position, what| problems.push(Problem { file, position, what });
    journal::check(&state, fs, &mut problem, &mut |bytes| check.advance(bytes))?;
    Ok(Report { problems, ..check.report })
}

/// Base and size of the segments, without those that a rewritten one stands for.
fn segments(dir: &Path, fs: &dyn Fs) -> Result<Vec<(u64, u64)>, OpenError> {
    let mut covered = 0;
    let mut kept = Vec::new();
    for entry in fs.list(dir).map_err(OpenError::io("list", dir))? {
        let Some(base) = segment::parse_name(&entry.name, ".seg").filter(|base| *base >= covered)
        else {
            continue;
        };
        let path = segment::path(dir, base);
        match read_head(fs, &path, entry.size, base).map_err(OpenError::io("read", &path))? {
            HeadRead::Newer(found) => {
                return Err(OpenError::Newer { path, found, supported: VERSION });
            }
            HeadRead::Good(Head { end: Some(end), .. }) => covered = end,
            HeadRead::Good(_) | HeadRead::Lost => {}
        }
        kept.push((base, entry.size));
    }
    Ok(kept)
}

#[derive(Clone, Copy)]
struct Candidate {
    base: u64,
    size: u64,
    next_base: Option<u64>,
}

struct Check<'a> {
    report: Report,
    total: u64,
    progress: &'a mut dyn FnMut(u64, u64),
}

impl Check<'_> {
    fn advance(&mut self, bytes: u64) {
        self.report.bytes = self.report.bytes.saturating_add(bytes);
        (self.progress)(self.report.bytes, self.total);
    }

    fn problem(&mut self, file: &Path, position: u64, what: String) {
        self.report.problems.push(Problem { file: file.to_owned(), position, what });
    }

    fn segment(&mut self, dir: &Path, fs: &dyn Fs, of: Candidate) -> Result<(), OpenError> {
        let path = segment::path(dir, of.base);
        let read = read_head(fs, &path, of.size, of.base).map_err(OpenError::io("read", &path))?;
        let file = fs.open(&path, Access::Read).map_err(OpenError::io("open", &path))?;
        let head = if let HeadRead::Good(head) = read {
            head
        } else {
            self.problem(&path, 0, "the header is unreadable".to_owned());
            let guess = guess_head(file.as_ref(), of.size, of.base)
                .map_err(OpenError::io("read", &path))?;
            // Without any readable record any tag will do to find none.
            guess.unwrap_or_else(|| Head::new(of.base))
        };
        let takes_more =
            of.next_base.is_none() && head.end.is_none() && matches!(read, HeadRead::Good(_));
        let trust = if takes_more {
            Trust::AllButNewestGroup
        } else {
            Trust::Everything { next_base: of.next_base }
        };
        let scanned =
            recovery::scan(&file, head, of.size, trust).map_err(OpenError::io("read", &path))?;
        for hole in &scanned.contents.holes {
            let offsets = &hole.offsets;
            let what = match offsets.end.saturating_sub(offsets.start) {
                0 => format!("{} unreadable bytes", hole.bytes),
                1 => format!("{} unreadable bytes: the record {}", hole.bytes, offsets.start),
                _ => format!(
                    "{} unreadable bytes: up to the records {} to {}",
                    hole.bytes,
                    offsets.start,
                    offsets.end.saturating_sub(1)
                ),
            };
            self.problem(&path, hole.position, what);
        }
        let index_path = segment::index_path(dir, of.base);
        let subject = Subject { tag: head.tag, size: of.size };
        if let Some(contents) = index::read_contents(fs, &index_path, subject)
            && !agree(&contents, &scanned.contents)
        {
            let what = "it does not say what its segment holds; remove it, a start makes it anew";
            self.problem(&index_path, 0, what.to_owned());
        }
        self.report.segments = self.report.segments.saturating_add(1);
        self.report.records = self.report.records.saturating_add(scanned.contents.records);
        self.advance(of.size);
        Ok(())
    }
}

/// Whether an index tells what a scan found. Records that became unreadable since it was written are told by the scan.
fn agree(index: &Contents, scan: &Contents) -> bool {
    let readable =
        |contents: &Contents| (contents.first, contents.records, contents.streams.clone());
    !scan.holes.is_empty() || readable(index) == readable(scan)
}
