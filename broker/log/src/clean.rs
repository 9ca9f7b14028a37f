//! Giving space back: segments nobody needs are deleted, thin ones are rewritten to what is live in them.
//!
//! A rewritten segment takes the name of the first it replaces and says which offsets it covers. Until its name is
//! durable, nothing is removed; from then on a file within its range is superseded, and if a crash leaves one behind, the
//! next open removes it.

use std::io;
use std::ops::Range;
use std::path::Path;
use std::sync::{Arc, PoisonError};

use roaring::RoaringTreemap;

use crate::catalog::Catalog;
use crate::contents::{Contents, Mark};
use crate::error::CleanError;
use crate::fs::File;
use crate::index::{self, Subject};
use crate::log::Cleaned;
use crate::record::{self, FIRST, GAP, Header, LAST, Place};
use crate::recovery::SCAN_CHUNK;
use crate::scan::{Found, Scanner};
use crate::segment::{FIRST_RECORD, Head};
use crate::volume::Volume;

/// Bytes gathered before they are written to a rewritten segment.
const WRITE_CHUNK: usize = 1 << 20;

/// A segment and what is live in it.
struct Candidate {
    volume: Arc<Volume>,
    live: RoaringTreemap,
    live_bytes: u64,
    bytes: u64,
}

impl Candidate {
    fn is_dead(&self) -> bool {
        self.live_bytes == 0
    }

    fn is_thin(&self) -> bool {
        self.live_bytes < self.bytes / 2
    }
}

impl Catalog {
    pub(crate) fn clean(
        &self,
        history_bytes: u64,
        live: &dyn Fn(Range<u64>) -> RoaringTreemap,
    ) -> Result<Cleaned, CleanError> {
        let _one_at_a_time = self.cleaning.lock().unwrap_or_else(PoisonError::into_inner);
        let mut cleaned = Cleaned::default();
        let mut run: Vec<Candidate> = Vec::new();
        for volume in self.old_volumes(history_bytes) {
            let candidate = self.weigh(volume, live)?;
            let small = candidate.live_bytes < self.segment_bytes / 2;
            if !candidate.is_thin() && !small {
                self.rewrite(&mut run, &mut cleaned)?;
                continue;
            }
            let sum = run
                .iter()
                .fold(candidate.live_bytes, |sum, other| sum.saturating_add(other.live_bytes));
            if sum > self.segment_bytes {
                self.rewrite(&mut run, &mut cleaned)?;
            }
            run.push(candidate);
        }
        self.rewrite(&mut run, &mut cleaned)?;
        Ok(cleaned)
    }

    /// The segments older than the history, oldest first. The newest segment is never among them: its name is what keeps
    /// the next offset.
    fn old_volumes(&self, history_bytes: u64) -> Vec<Arc<Volume>> {
        let volumes = self.volumes();
        let mut history = 0_u64;
        let mut old: Vec<Arc<Volume>> = volumes
            .iter()
            .rev()
            .skip(1)
            .filter(|volume| volume.is_sealed())
            .skip_while(|volume| {
                history = history.saturating_add(volume.size());
                history <= history_bytes
            })
            .cloned()
            .collect();
        old.reverse();
        old
    }

    fn weigh(
        &self,
        volume: Arc<Volume>,
        live: &dyn Fn(Range<u64>) -> RoaringTreemap,
    ) -> Result<Candidate, CleanError> {
        let range = volume.head.base..volume.end();
        let bytes = volume.size().saturating_sub(FIRST_RECORD);
        let (records, next, position) =
            volume.with_contents(|contents| (contents.records, contents.next, contents.position));
        let mut live = live(range.clone());
        live.remove_range(..range.start);
        live.remove_range(range.end..);
        let live_bytes = if live.is_empty() || records == 0 {
            0
        } else if live.len() >= records {
            bytes
        } else {
            self.shelf.take_out(&volume);
            let path = volume.path();
            let (_, marks) =
                volume.whole(self.fs.as_ref()).map_err(CleanError::io("read", &path))?;
            let end = Mark {
                offset: next,
                time_before: 0,
                position,
                ordinal: u32::try_from(records).unwrap_or(u32::MAX),
            };
            // Live records whose place cannot be told are counted as if they were there.
            estimate(&marks, end, &live).max(1)
        };
        Ok(Candidate { volume, live, live_bytes, bytes })
    }

    /// Empties `run`, segments side by side: deletes them, rewrites them as one, or leaves them as they are.
    fn rewrite(&self, run: &mut Vec<Candidate>, cleaned: &mut Cleaned) -> Result<(), CleanError> {
        let mut run = std::mem::take(run);
        // Dead ones at either end need no rewriting.
        while let Some(dead) = run.pop_if(|candidate| candidate.is_dead()) {
            self.delete(&dead.volume, cleaned)?;
        }
        let dead = run.iter().take_while(|candidate| candidate.is_dead()).count();
        for dead in run.drain(..dead) {
            self.delete(&dead.volume, cleaned)?;
        }
        // Alone, a small segment that is mostly live gains nothing.
        if run.is_empty() || (run.len() == 1 && !run.iter().all(Candidate::is_thin)) {
            return Ok(());
        }
        let tmp = self.dir.join("clean.tmp");
        let old: Vec<_> = run.iter().map(|candidate| Arc::clone(&candidate.volume)).collect();
        let made = self.write_live(&run, &tmp).and_then(|(made, marks)| {
            let (path, made) = (made.path(), Arc::new(made));
            self.replace(&old, Some(Arc::clone(&made)), || self.fs.rename(&tmp, &path))
                .map_err(CleanError::io("replace", &path))?;
            Ok((made, marks))
        });
        if made.is_err() {
            drop(self.fs.remove(&tmp));
        }
        let (made, marks) = made?;
        self.write_index(&made, &marks);
        self.fs.sync_dir(&self.dir).map_err(CleanError::io("sync", &self.dir))?;
        cleaned.rewritten = cleaned.rewritten.saturating_add(old.len());
        let before = old.iter().fold(0_u64, |sum, volume| sum.saturating_add(volume.size()));
        cleaned.freed_bytes =
            cleaned.freed_bytes.saturating_add(before.saturating_sub(made.size()));
        for superseded in old.iter().skip(1) {
            self.remove(superseded)?;
        }
        Ok(())
    }

    fn delete(&self, volume: &Arc<Volume>, cleaned: &mut Cleaned) -> Result<(), CleanError> {
        self.replace(std::slice::from_ref(volume), None, || Ok(()))
            .map_err(CleanError::io("remove", &volume.path()))?;
        self.remove(volume)?;
        cleaned.deleted = cleaned.deleted.saturating_add(1);
        cleaned.freed_bytes = cleaned.freed_bytes.saturating_add(volume.size());
        Ok(())
    }

    fn remove(&self, volume: &Volume) -> Result<(), CleanError> {
        for path in [volume.path(), volume.index_path()] {
            match self.fs.remove(&path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(CleanError::io("remove", &path)(error));
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Writes what is live in `run` to `tmp`: the segment it becomes by taking the first one's name, and its marks.
    fn write_live(&self, run: &[Candidate], tmp: &Path) -> Result<(Volume, Vec<Mark>), CleanError> {
        let first = run.first().expect("a run to rewrite has segments");
        let end = run.last().map(|last| last.volume.end());
        let head = Head { tag: record::random_tag(), base: first.volume.head.base, end };
        let file = self.fs.create(tmp).map_err(CleanError::io("create", tmp))?;
        let mut copy = Copy::new(file, head);
        for candidate in run {
            self.copy_live(candidate, &mut copy)?;
        }
        copy.write().and_then(|()| copy.file.sync_all()).map_err(CleanError::io("write", tmp))?;
        let size = copy.contents.position;
        Ok((Volume::sealed(&self.dir, head, copy.contents, size), copy.marks))
    }

    fn write_index(&self, made: &Volume, marks: &[Mark]) {
        let (path, subject) =
            (made.index_path(), Subject { tag: made.head.tag, size: made.size() });
        let written = made.with_contents(|contents| {
            index::write(self.fs.as_ref(), &path, subject, contents, marks)
        });
        if let Err(error) = written {
            tracing::warn!(path = %path.display(), %error, "cannot write the index; the next start scans");
        }
    }

    fn copy_live(&self, candidate: &Candidate, copy: &mut Copy) -> Result<(), CleanError> {
        if candidate.is_dead() {
            return Ok(());
        }
        let (volume, path) = (&candidate.volume, candidate.volume.path());
        self.shelf.take_out(volume);
        let (span, _) = volume.whole(self.fs.as_ref()).map_err(CleanError::io("read", &path))?;
        let mut scanner = Scanner::new(span.file, volume.head.tag, span.range, SCAN_CHUNK);
        while let Some(found) = scanner.next().map_err(CleanError::io("read", &path))? {
            let Found::Record { header, .. } = found else { continue };
            if header.is(GAP) || !candidate.live.contains(header.offset) {
                continue;
            }
            copy.add(header, scanner.payload())
                .map_err(CleanError::io("write", &self.dir.join("clean.tmp")))?;
        }
        Ok(())
    }
}

/// How many bytes of `live` there are between each mark and the next.
fn estimate(marks: &[Mark], end: Mark, live: &RoaringTreemap) -> u64 {
    let ends = marks.iter().skip(1).chain(std::iter::once(&end));
    let mut sum = 0_u64;
    for (mark, next) in marks.iter().zip(ends) {
        let records = u64::from(next.ordinal.saturating_sub(mark.ordinal)).max(1);
        let count = live.range_cardinality(mark.offset..next.offset).min(records);
        let bytes = next.position.saturating_sub(mark.position);
        sum = sum.saturating_add(bytes.saturating_mul(count).checked_div(records).unwrap_or(bytes));
    }
    sum
}

/// A segment being rewritten.
struct Copy {
    file: Arc<dyn File>,
    head: Head,
    contents: Contents,
    marks: Vec<Mark>,
    buffer: Vec<u8>,
    written: u64,
}

impl Copy {
    fn new(file: Arc<dyn File>, head: Head) -> Self {
        let contents = Contents::new(head.base, FIRST_RECORD);
        Self { file, head, contents, marks: Vec::new(), buffer: head.encode(), written: 0 }
    }

    fn add(&mut self, header: Header, payload: &[u8]) -> io::Result<()> {
        let position = self.contents.position;
        // Its entry was acknowledged long ago: whether its neighbours are still here no longer matters.
        let header = Header { flags: FIRST | LAST, group: 0, ..header };
        record::encode(&mut self.buffer, Place { tag: self.head.tag, position }, header, payload);
        self.contents.note(&mut self.marks, position, &header);
        if self.buffer.len() >= WRITE_CHUNK { self.write() } else { Ok(()) }
    }

    fn write(&mut self) -> io::Result<()> {
        self.file.write_at(&self.buffer, self.written)?;
        self.written = self.written.saturating_add(self.buffer.len() as u64);
        self.buffer.clear();
        Ok(())
    }
}
