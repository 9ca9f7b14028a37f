//! The files of a journal: which there are, what is in them, which may go.

use std::collections::BTreeSet;
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::error::OpenError;
use crate::fs::{Access, File, Fs};
use crate::open::{guess_head, read_head};
use crate::record::{self, FIRST, GAP, HEADER, Header, LAST, Place};
use crate::recovery::{self, SCAN_CHUNK, Scanned, Trust};
use crate::scan::{Found, Scanner};
use crate::segment::{self, FIRST_RECORD, Head, HeadRead, VERSION};

const JOURNAL: &str = ".jnl";
const SNAPSHOT: &str = ".snap";
/// What a file is called until it is whole.
const UNFINISHED: &str = ".tmp";

/// Payload of a snapshot's records: bounds what is in memory beside the state.
const PIECE: usize = 1 << 20;

/// The files in a journal's directory, by number.
#[derive(Debug, Default)]
pub(crate) struct Files {
    journals: BTreeSet<u64>,
    snapshots: BTreeSet<u64>,
    unfinished: Vec<String>,
    /// All of them, in bytes.
    bytes: u64,
}

impl Files {
    pub(crate) fn list(dir: &Path, fs: &dyn Fs) -> Result<Self, OpenError> {
        let mut files = Self::default();
        for entry in fs.list(dir).map_err(OpenError::io("list", dir))? {
            if let Some(number) = segment::parse_name(&entry.name, JOURNAL) {
                files.journals.insert(number);
            } else if let Some(number) = segment::parse_name(&entry.name, SNAPSHOT) {
                files.snapshots.insert(number);
            } else {
                if entry.name.ends_with(UNFINISHED) {
                    files.unfinished.push(entry.name);
                }
                continue;
            }
            files.bytes = files.bytes.saturating_add(entry.size);
        }
        Ok(files)
    }

    /// Removes files that were still being made: nothing refers to them.
    pub(crate) fn remove_unfinished(&self, dir: &Path, fs: &dyn Fs) -> Result<(), OpenError> {
        for name in &self.unfinished {
            let path = dir.join(name);
            fs.remove(&path).map_err(OpenError::io("remove", &path))?;
        }
        Ok(())
    }

    /// The state to begin with: its number, the snapshot if there is one, and whether a newer one is unreadable.
    pub(crate) fn newest_state(
        &self,
        dir: &Path,
        fs: &dyn Fs,
    ) -> Result<(u64, Option<Vec<u8>>, bool), OpenError> {
        let mut fell_back = false;
        for number in self.snapshots.iter().rev() {
            if let Some(state) = read_snapshot(dir, fs, *number)? {
                return Ok((*number, Some(state), fell_back));
            }
            tracing::error!(path = %path(dir, *number, SNAPSHOT).display(), "the snapshot is unreadable");
            fell_back = true;
        }
        // Without a snapshot the records tell the state only if they begin at the beginning.
        if self.journals.first().is_none_or(|first| *first == 0)
            && (!fell_back || !self.journals.is_empty())
        {
            return Ok((0, None, fell_back));
        }
        let what = match self.snapshots.last() {
            Some(number) => {
                format!("no snapshot can be read, the newest is {}", name(*number, SNAPSHOT))
            }
            None => "the snapshot is missing".to_owned(),
        };
        Err(OpenError::Damaged { path: dir.to_owned(), what })
    }

    /// The journals that lead on from state `base`: each one's number and that of the one after it.
    pub(crate) fn journals_from(&self, base: u64) -> impl Iterator<Item = (u64, Option<u64>)> + '_ {
        let from = self.journals.range(base..).copied();
        let until = from.clone().skip(1).map(Some).chain([None]);
        from.zip(until)
    }

    /// The least number from `next` on that a new journal can have.
    pub(crate) fn free_number(&self, next: u64) -> u64 {
        let newest = self.journals.last().map_or(0, |newest| newest.saturating_add(1));
        next.max(newest).max(self.snapshots.last().copied().unwrap_or(0))
    }
}

/// A journal file whose contents are known.
#[derive(Debug)]
pub(crate) struct Opened {
    pub(crate) number: u64,
    pub(crate) file: Arc<dyn File>,
    pub(crate) tag: u64,
    /// Where its last record ends.
    pub(crate) position: u64,
    /// The number after its last record's.
    pub(crate) next: u64,
    /// Records that were durable and are unreadable.
    pub(crate) damaged: u64,
    /// Whether records may be appended to it.
    pub(crate) takes_more: bool,
    path: PathBuf,
}

/// Opens journal `number`, which ends where journal `until` begins. The newest one is repaired and made durable.
pub(crate) fn open(
    dir: &Path,
    fs: &dyn Fs,
    number: u64,
    until: Option<u64>,
) -> Result<Opened, OpenError> {
    let path = path(dir, number, JOURNAL);
    let (head, sound) = head(fs, &path, number)?;
    let newest = until.is_none() && sound;
    let access = if newest { Access::Write } else { Access::Read };
    let file = fs.open(&path, access).map_err(OpenError::io("open", &path))?;
    let scanned = scan(&file, head, until, newest).map_err(OpenError::io("read", &path))?;
    if newest {
        recovery::mend(file.as_ref(), head.tag, &scanned.repair)
            .map_err(OpenError::io("repair", &path))?;
    }
    let holes = holes(&scanned);
    let damaged = holes.iter().fold(0_u64, |sum, hole| sum.saturating_add(count(hole)));
    if damaged > 0 {
        tracing::error!(path = %path.display(), records = damaged, "records of the journal are unreadable");
    }
    let next = holes.last().map_or(0, |hole| hole.end).max(scanned.contents.next);
    let position = scanned.contents.position;
    Ok(Opened { number, file, tag: head.tag, position, next, damaged, takes_more: newest, path })
}

impl Opened {
    /// Calls `visit` with each record's payload.
    pub(crate) fn visit(&self, visit: &mut dyn FnMut(&[u8])) -> Result<(), OpenError> {
        walk(&self.file, self.tag, self.position, visit).map_err(OpenError::io("read", &self.path))
    }
}

/// Makes the journal that `head` says, durable and whole before it has its name, which is left to be synced.
pub(crate) fn create(dir: &Path, fs: &dyn Fs, head: Head) -> io::Result<Arc<dyn File>> {
    finish(dir, fs, head.base, JOURNAL, |file| file.write_at(&head.encode(), 0))
}

/// Makes snapshot `number`, durable and whole before it has its name, which is left to be synced.
pub(crate) fn write_snapshot(dir: &Path, fs: &dyn Fs, number: u64, state: &[u8]) -> io::Result<()> {
    let head = Head::new(number);
    let write = |file: &Arc<dyn File>| {
        file.write_at(&head.encode(), 0)?;
        let mut position = FIRST_RECORD;
        let mut pieces = state.chunks(PIECE).peekable();
        let mut group = 0_u32;
        let mut buffer = Vec::with_capacity(HEADER.saturating_add(state.len().min(PIECE)));
        loop {
            let piece = pieces.next().unwrap_or_default();
            let is_last = pieces.peek().is_none();
            let flags = if group == 0 { FIRST } else { 0 } | if is_last { LAST } else { 0 };
            let offset = number.saturating_add(u64::from(group));
            let header = Header { length: 0, flags, offset, time_ms: 0, stream: 0, group };
            buffer.clear();
            record::encode(&mut buffer, Place { tag: head.tag, position }, header, piece);
            file.write_at(&buffer, position)?;
            position = position.saturating_add(buffer.len() as u64);
            group = group.saturating_add(1);
            if is_last {
                return Ok(());
            }
        }
    };
    finish(dir, fs, number, SNAPSHOT, write).map(drop)
}

/// Writes a file under another name, makes it durable, and gives it its own.
fn finish(
    dir: &Path,
    fs: &dyn Fs,
    number: u64,
    ending: &str,
    write: impl FnOnce(&Arc<dyn File>) -> io::Result<()>,
) -> io::Result<Arc<dyn File>> {
    let path = path(dir, number, ending);
    let unfinished = path.with_extension(UNFINISHED.trim_start_matches('.'));
    let make = || {
        let file = fs.create(&unfinished)?;
        write(&file)?;
        file.sync_all()?;
        fs.rename(&unfinished, &path)?;
        Ok(file)
    };
    make().inspect_err(|_: &io::Error| {
        // It takes room, perhaps the last there was; the next start removes it if this fails.
        if let Err(error) = fs.remove(&unfinished) {
            tracing::debug!(path = %unfinished.display(), %error, "cannot remove an unfinished file");
        }
    })
}

/// What snapshot `number` holds, `None` if it is unreadable.
fn read_snapshot(dir: &Path, fs: &dyn Fs, number: u64) -> Result<Option<Vec<u8>>, OpenError> {
    let path = path(dir, number, SNAPSHOT);
    let (head, _) = head(fs, &path, number)?;
    let read = || {
        let file = fs.open(&path, Access::Read)?;
        let size = file.size()?;
        let mut scanner = Scanner::new(file, head.tag, FIRST_RECORD..size, SCAN_CHUNK);
        let mut state = Vec::new();
        let mut expected = number;
        let mut complete = false;
        while let Some(found) = scanner.next()? {
            match found {
                Found::Record { header, .. }
                    if header.offset == expected
                        && header.is(FIRST) == (expected == number)
                        && !complete =>
                {
                    state.extend_from_slice(scanner.payload());
                    expected = header.next();
                    complete = header.is(LAST);
                }
                _ => return Ok(None),
            }
        }
        Ok(complete.then_some(state))
    };
    read().map_err(OpenError::io("read", &path))
}

/// Removes what snapshot `newest` replaces: all but the state before it, `previous`, the records since, and a trail. A file
/// that stays for want of permission costs room and nothing else.
pub(crate) fn prune(dir: &Path, fs: &dyn Fs, newest: u64, previous: u64, trail_bytes: u64) {
    let remove = |name: &str| {
        let path = dir.join(name);
        if let Err(error) = fs.remove(&path) {
            tracing::warn!(path = %path.display(), %error, "cannot remove what a snapshot replaced");
        }
    };
    let entries = match fs.list(dir) {
        Ok(entries) => entries,
        Err(error) => {
            tracing::warn!(path = %dir.display(), %error, "cannot list what a snapshot replaced");
            return;
        }
    };
    let mut trail = 0_u64;
    for entry in entries.iter().rev() {
        if let Some(number) = segment::parse_name(&entry.name, SNAPSHOT) {
            if number != newest && number != previous {
                remove(&entry.name);
            }
        } else if let Some(number) =
            segment::parse_name(&entry.name, JOURNAL).filter(|number| *number < newest)
        {
            trail = trail.saturating_add(entry.size);
            if number < previous && trail > trail_bytes {
                remove(&entry.name);
            }
        }
    }
}

/// Calls `visit` with every readable record of every journal, oldest first.
pub(crate) fn trail(
    dir: &Path,
    fs: &dyn Fs,
    visit: &mut dyn FnMut(&[u8]),
) -> Result<(), OpenError> {
    for number in Files::list(dir, fs)?.journals {
        let path = path(dir, number, JOURNAL);
        let read = head(fs, &path, number).and_then(|(head, _)| {
            let file = fs.open(&path, Access::Read).map_err(OpenError::io("open", &path))?;
            let size = file.size().map_err(OpenError::io("read", &path))?;
            walk(&file, head.tag, size, visit).map_err(OpenError::io("read", &path))
        });
        match read {
            // A snapshot has replaced it since the directory was listed.
            Err(OpenError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => {}
            read => read?,
        }
    }
    Ok(())
}

/// Bytes of the files of a journal.
pub(crate) fn size(dir: &Path, fs: &dyn Fs) -> Result<u64, OpenError> {
    Ok(Files::list(dir, fs)?.bytes)
}

/// Verifies the files of a journal: `problem` hears of each bad spot, `done` of each file's bytes when they are read.
pub(crate) fn check(
    dir: &Path,
    fs: &dyn Fs,
    problem: &mut dyn FnMut(PathBuf, u64, String),
    done: &mut dyn FnMut(u64),
) -> Result<(), OpenError> {
    let files = Files::list(dir, fs)?;
    for number in &files.snapshots {
        let path = path(dir, *number, SNAPSHOT);
        if read_snapshot(dir, fs, *number)?.is_none() {
            let what = "the snapshot is unreadable; a start falls back to the one before it";
            problem(path.clone(), 0, what.to_owned());
        }
        done(file_size(fs, &path)?);
    }
    let mut next = files.journals.first().copied().unwrap_or(0);
    for (number, until) in files.journals_from(0) {
        let path = path(dir, number, JOURNAL);
        let (head, sound) = head(fs, &path, number)?;
        if !sound {
            problem(path.clone(), 0, "the header is unreadable".to_owned());
        }
        let file = fs.open(&path, Access::Read).map_err(OpenError::io("open", &path))?;
        let newest = until.is_none() && sound;
        let scanned = scan(&file, head, until, newest).map_err(OpenError::io("read", &path))?;
        if number > next {
            let missing = number.saturating_sub(next);
            problem(path.clone(), 0, format!("{missing} records before it are missing"));
        }
        for hole in &scanned.contents.holes {
            let what = format!("{} unreadable bytes, {} records", hole.bytes, count(&hole.offsets));
            problem(path.clone(), hole.position, what);
        }
        next = holes(&scanned).last().map_or(0, |hole| hole.end).max(scanned.contents.next);
        done(file_size(fs, &path)?);
    }
    Ok(())
}

fn file_size(fs: &dyn Fs, path: &Path) -> Result<u64, OpenError> {
    let size = fs.open(path, Access::Read).and_then(|file| file.size());
    size.map_err(OpenError::io("read", path))
}

/// The header of a file and whether it was readable; one that was not is guessed from the records.
fn head(fs: &dyn Fs, path: &Path, number: u64) -> Result<(Head, bool), OpenError> {
    let size = file_size(fs, path)?;
    match read_head(fs, path, size, number).map_err(OpenError::io("read", path))? {
        HeadRead::Newer(found) => {
            Err(OpenError::Newer { path: path.to_owned(), found, supported: VERSION })
        }
        HeadRead::Good(head) => Ok((head, true)),
        HeadRead::Lost => {
            let guess = fs
                .open(path, Access::Read)
                .and_then(|file| guess_head(file.as_ref(), size, number));
            let guess = guess.map_err(OpenError::io("read", path))?;
            // Without any readable record any tag will do to find none.
            Ok((guess.unwrap_or_else(|| Head::new(number)), false))
        }
    }
}

fn scan(file: &Arc<dyn File>, head: Head, until: Option<u64>, newest: bool) -> io::Result<Scanned> {
    let trust =
        if newest { Trust::AllButNewestGroup } else { Trust::Everything { next_base: until } };
    recovery::scan(file, head, file.size()?, trust)
}

/// The numbers of the records that are unreadable.
fn holes(scanned: &Scanned) -> Vec<Range<u64>> {
    scanned.contents.holes.iter().map(|hole| hole.offsets.clone()).collect()
}

/// How many records a hole had: one at least, though its numbers may not be known.
fn count(hole: &Range<u64>) -> u64 {
    hole.end.saturating_sub(hole.start).max(1)
}

fn walk(file: &Arc<dyn File>, tag: u64, end: u64, visit: &mut dyn FnMut(&[u8])) -> io::Result<()> {
    let mut scanner = Scanner::new(Arc::clone(file), tag, FIRST_RECORD..end, SCAN_CHUNK);
    while let Some(found) = scanner.next()? {
        match found {
            Found::Record { header, .. } if !header.is(GAP) => visit(scanner.payload()),
            _ => {}
        }
    }
    Ok(())
}

fn name(number: u64, ending: &str) -> String {
    format!("{number:020}{ending}")
}

fn path(dir: &Path, number: u64, ending: &str) -> PathBuf {
    dir.join(name(number, ending))
}
