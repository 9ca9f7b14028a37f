//! From the files of a directory to the segments of an open log.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::sync::Arc;

use crate::contents::{Contents, Hole};
use crate::error::OpenError;
use crate::fs::{Access, Entry, File, Fs};
use crate::index::{self, Subject};
use crate::log::{Damage, Recovery};
use crate::record::in_memory;
use crate::recovery::{self, Repair, Scanned, Trust, most_records};
use crate::scan::guess_tag;
use crate::segment::{self, FIRST_RECORD, Head, HeadRead, VERSION};
use crate::volume::{Open, Volume};

/// The segments of a log.
#[derive(Debug)]
pub(crate) struct Opened {
    /// In order; the last is the active one if there is one.
    pub(crate) volumes: Vec<Arc<Volume>>,
    pub(crate) active: Option<Active>,
    /// The next offset.
    pub(crate) next: u64,
    pub(crate) recovery: Recovery,
}

/// The segment that takes records.
#[derive(Debug)]
pub(crate) struct Active {
    pub(crate) volume: Arc<Volume>,
    pub(crate) file: Arc<dyn File>,
    /// Where the next record goes.
    pub(crate) position: u64,
    /// Behind it the file has zeros up to here.
    pub(crate) zeroed: u64,
}

/// A segment file before it is judged.
struct Candidate {
    base: u64,
    size: u64,
    head: HeadRead,
}

/// Bytes searched for the first record of a segment whose header is lost: any record of a usual size lies within.
const GUESS_BYTES: u64 = 8 << 20;

/// Opens what is in `dir`, repairs the end and makes durable what later acknowledgements build upon.
pub(crate) fn open(dir: &Path, fs: &dyn Fs) -> Result<Opened, OpenError> {
    fs.create_dir(dir).map_err(OpenError::io("create", dir))?;
    let entries = fs.list(dir).map_err(OpenError::io("list", dir))?;
    let mut recovery = Recovery::default();
    let (kept, superseded) = judge(dir, fs, &entries)?;
    // Nothing was changed so far: a newer program's directory is left as it is.
    for entry in entries.iter().filter(|entry| entry.name.ends_with(".tmp")) {
        // A file that was still being made: nothing refers to it.
        let path = dir.join(&entry.name);
        fs.remove(&path).map_err(OpenError::io("remove", &path))?;
    }
    remove_superseded(dir, fs, &superseded)?;
    recovery.superseded = superseded.len();
    let mut opened = Opened { volumes: Vec::new(), active: None, next: 0, recovery };
    for (place, candidate) in kept.iter().enumerate() {
        match kept.get(place.saturating_add(1)) {
            Some(next) => opened.add_sealed(dir, fs, candidate, Some(next.base))?,
            None => opened.add_newest(dir, fs, candidate)?,
        }
    }
    for base in entries.iter().filter_map(|entry| segment::parse_name(&entry.name, ".idx")) {
        if !kept.iter().any(|candidate| candidate.base == base) {
            let path = segment::index_path(dir, base);
            fs.remove(&path).map_err(OpenError::io("remove", &path))?;
        }
    }
    fs.sync_dir(dir).map_err(OpenError::io("sync", dir))?;
    opened.recovery.segments = opened.volumes.len();
    opened.recovery.head = opened.next;
    Ok(opened)
}

/// The segments to open, and the bases of those that a rewritten one stands for.
fn judge(
    dir: &Path,
    fs: &dyn Fs,
    entries: &[Entry],
) -> Result<(Vec<Candidate>, Vec<u64>), OpenError> {
    let base = |entry: &Entry| Some((segment::parse_name(&entry.name, ".seg")?, entry.size));
    let candidates: BTreeMap<u64, u64> = entries.iter().filter_map(base).collect();
    let (mut kept, mut superseded) = (Vec::new(), Vec::new());
    let mut covered = 0;
    for (base, size) in candidates {
        if base < covered {
            superseded.push(base);
            continue;
        }
        let path = segment::path(dir, base);
        let head = read_head(fs, &path, size, base).map_err(OpenError::io("read", &path))?;
        match head {
            HeadRead::Newer(found) => {
                return Err(OpenError::Newer { path, found, supported: VERSION });
            }
            HeadRead::Good(Head { end: Some(end), .. }) => covered = end,
            HeadRead::Good(_) | HeadRead::Lost => {}
        }
        kept.push(Candidate { base, size, head });
    }
    Ok((kept, superseded))
}

fn remove_superseded(dir: &Path, fs: &dyn Fs, bases: &[u64]) -> Result<(), OpenError> {
    if !bases.is_empty() {
        // The name of the one that stands for them may not be durable yet.
        fs.sync_dir(dir).map_err(OpenError::io("sync", dir))?;
    }
    for base in bases {
        let path = segment::path(dir, *base);
        fs.remove(&path).map_err(OpenError::io("remove", &path))?;
    }
    Ok(())
}

/// Reads a segment's header. One that says another base than the file's name is of another file.
pub(crate) fn read_head(fs: &dyn Fs, path: &Path, size: u64, base: u64) -> io::Result<HeadRead> {
    let mut bytes = vec![0; in_memory(size.min(FIRST_RECORD))];
    fs.open(path, Access::Read)?.read_at(&mut bytes, 0)?;
    Ok(match Head::decode(&bytes) {
        HeadRead::Good(head) if head.base != base => HeadRead::Lost,
        read => read,
    })
}

/// Stands in for a header that is lost, if a record tells the tag.
pub(crate) fn guess_head(file: &dyn File, size: u64, base: u64) -> io::Result<Option<Head>> {
    let mut bytes = vec![0; in_memory(size.min(GUESS_BYTES))];
    file.read_at(&mut bytes, 0)?;
    Ok(guess_tag(&bytes, 0, base).map(|tag| Head { tag, base, end: None }))
}

impl Opened {
    /// Adds a segment that takes no more records.
    fn add_sealed(
        &mut self,
        dir: &Path,
        fs: &dyn Fs,
        candidate: &Candidate,
        next_base: Option<u64>,
    ) -> Result<(), OpenError> {
        let (base, size) = (candidate.base, candidate.size);
        let path = segment::path(dir, base);
        let index_path = segment::index_path(dir, base);
        if let HeadRead::Good(head) = candidate.head {
            let subject = Subject { tag: head.tag, size };
            if let Some(contents) = index::read_contents(fs, &index_path, subject) {
                self.push_sealed(dir, head, contents, size);
                return Ok(());
            }
        }
        let file = fs.open(&path, Access::Read).map_err(OpenError::io("open", &path))?;
        let (head, mut scanned) =
            scan_any(&file, candidate, next_base).map_err(OpenError::io("read", &path))?;
        self.recovery.scanned_bytes = self.recovery.scanned_bytes.saturating_add(size);
        let mut size = size;
        if scanned.spare {
            // Its sealing was cut short.
            let writable = fs.open(&path, Access::Write).map_err(OpenError::io("open", &path))?;
            writable.set_len(scanned.contents.position).map_err(OpenError::io("cut", &path))?;
            size = scanned.contents.position;
        }
        if next_base.is_none() {
            // Nothing tells how many offsets the unreadable end had; none of them may be given out again.
            let unread = size.saturating_sub(scanned.contents.position);
            // Nor may its name: the new segment must not take its place.
            let next = head
                .end
                .unwrap_or_else(|| base.saturating_add(1))
                .max(scanned.contents.next.saturating_add(most_records(unread)));
            scanned.contents.next = next;
            if let Some(hole) = scanned
                .contents
                .holes
                .last_mut()
                .filter(|hole| hole.position >= scanned.contents.position)
            {
                hole.offsets.end = next;
            }
        }
        if candidate.head != HeadRead::Lost {
            let subject = Subject { tag: head.tag, size };
            if let Err(error) =
                index::write(fs, &index_path, subject, &scanned.contents, &scanned.marks)
            {
                tracing::warn!(path = %index_path.display(), %error, "cannot write the index; the next start scans again");
            }
        }
        self.push_sealed(dir, head, scanned.contents, size);
        Ok(())
    }

    fn push_sealed(&mut self, dir: &Path, head: Head, contents: Contents, size: u64) {
        self.next = self.next.max(head.end.unwrap_or(contents.next));
        let volume = Volume::sealed(dir, head, contents, size);
        self.report_holes(&volume);
        self.volumes.push(Arc::new(volume));
    }

    /// Adds the newest segment: the only one whose end may be torn.
    fn add_newest(
        &mut self,
        dir: &Path,
        fs: &dyn Fs,
        candidate: &Candidate,
    ) -> Result<(), OpenError> {
        let path = segment::path(dir, candidate.base);
        let head = match candidate.head {
            HeadRead::Good(head) if head.end.is_none() => head,
            // It cannot take records. A new segment will, and everything in this one was durable before.
            _ => return self.add_sealed(dir, fs, candidate, None),
        };
        let file = fs.open(&path, Access::Write).map_err(OpenError::io("open", &path))?;
        let scanned = recovery::scan(&file, head, candidate.size, Trust::AllButNewestGroup)
            .map_err(OpenError::io("read", &path))?;
        recovery::mend(file.as_ref(), head.tag, &scanned.repair)
            .map_err(OpenError::io("repair", &path))?;
        self.report_torn(&path, &scanned.repair);
        self.recovery.scanned_bytes = self.recovery.scanned_bytes.saturating_add(candidate.size);
        let position = scanned.contents.position;
        let zeroed =
            if scanned.repair.cut.is_some() { position } else { candidate.size.max(position) };
        self.next = self.next.max(scanned.contents.next);
        let open = Open { file: Arc::clone(&file), marks: scanned.marks };
        let volume = Arc::new(Volume::active(dir, head, scanned.contents, open));
        self.report_holes(&volume);
        self.volumes.push(Arc::clone(&volume));
        self.active = Some(Active { volume, file, position, zeroed });
        Ok(())
    }

    fn report_holes(&mut self, volume: &Volume) {
        let file = volume.path();
        self.recovery
            .damaged
            .extend(volume.with_contents(|contents| damages(&file, &contents.holes)));
    }

    fn report_torn(&mut self, path: &Path, repair: &Repair) {
        let gaps = repair
            .gaps
            .iter()
            .map(|gap| (gap.bytes.end.saturating_sub(gap.bytes.start), &gap.offsets));
        let cut = repair.cut.iter().map(|cut| (cut.bytes, &cut.offsets));
        for (bytes, offsets) in gaps.chain(cut) {
            tracing::warn!(path = %path.display(), bytes, ?offsets, "dropped an unacknowledged write that was cut short");
            self.recovery.torn_bytes = self.recovery.torn_bytes.saturating_add(bytes);
            self.recovery.torn.push(offsets.clone());
        }
    }
}

/// Holes as they are told to users.
pub(crate) fn damages(file: &Path, holes: &[Hole]) -> Vec<Damage> {
    let damage = |hole: &Hole| Damage {
        file: file.to_owned(),
        position: hole.position,
        bytes: hole.bytes,
        offsets: hole.offsets.clone(),
    };
    holes.iter().map(damage).collect()
}

/// Scans a segment that takes no more records, with or without a header.
fn scan_any(
    file: &Arc<dyn File>,
    candidate: &Candidate,
    next_base: Option<u64>,
) -> io::Result<(Head, Scanned)> {
    let (base, size) = (candidate.base, candidate.size);
    let found = match candidate.head {
        HeadRead::Good(head) => Some(head),
        _ => guess_head(file.as_ref(), size, base)?,
    };
    // Without any readable record any tag will do to find none.
    let head = found.unwrap_or_else(|| Head::new(base));
    let mut scanned = recovery::scan(file, head, size, Trust::Everything { next_base })?;
    if candidate.head == HeadRead::Lost {
        let offsets = base..base;
        scanned
            .contents
            .holes
            .insert(0, Hole { position: 0, bytes: size.min(FIRST_RECORD), offsets });
    }
    Ok((head, scanned))
}
