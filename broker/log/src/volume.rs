//! A segment as the readers and the writer of an open log share it.
//!
//! Totals stay in memory. The descriptor and the marks of a sealed segment come and go (see [`Shelf`]), so that a
//! backlog of thousands of segments needs neither thousands of descriptors nor the marks of all of them.

use std::collections::VecDeque;
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::contents::{Contents, Hole, Mark};
use crate::fs::{Access, File, Fs};
use crate::index::{self, Subject};
use crate::record::{Header, in_memory};
use crate::recovery;
use crate::segment::{self, FIRST_RECORD, Head, HeadRead};

/// Sealed segments kept open. Readers are few and each stays in one place for long; 64 descriptors are a sixteenth of the
/// usual limit of 1,024, and the marks of 64 segments of 32 MiB take about 8 MiB.
const OPEN_SEGMENTS: usize = 64;

/// One segment of an open log.
#[derive(Debug)]
pub(crate) struct Volume {
    dir: PathBuf,
    pub(crate) head: Head,
    body: Mutex<Body>,
}

#[derive(Debug)]
struct Body {
    contents: Contents,
    sealed: bool,
    size: u64,
    open: Option<Open>,
}

#[derive(Debug)]
pub(crate) struct Open {
    pub(crate) file: Arc<dyn File>,
    pub(crate) marks: Vec<Mark>,
}

/// Where to read.
#[derive(Debug)]
pub(crate) struct Span {
    pub(crate) file: Arc<dyn File>,
    pub(crate) range: Range<u64>,
}

impl Volume {
    /// A segment that takes no more records.
    pub(crate) fn sealed(dir: &Path, head: Head, contents: Contents, size: u64) -> Self {
        Self {
            dir: dir.to_owned(),
            head,
            body: Mutex::new(Body { contents, sealed: true, size, open: None }),
        }
    }

    /// The segment that the writer extends.
    pub(crate) fn active(dir: &Path, head: Head, contents: Contents, open: Open) -> Self {
        let size = contents.position;
        let body = Body { contents, sealed: false, size, open: Some(open) };
        Self { dir: dir.to_owned(), head, body: Mutex::new(body) }
    }

    pub(crate) fn path(&self) -> PathBuf {
        segment::path(&self.dir, self.head.base)
    }

    pub(crate) fn index_path(&self) -> PathBuf {
        segment::index_path(&self.dir, self.head.base)
    }

    fn body(&self) -> MutexGuard<'_, Body> {
        self.body.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The offset after the last one it can hold.
    pub(crate) fn end(&self) -> u64 {
        self.head.end.unwrap_or_else(|| self.body().contents.next)
    }

    pub(crate) fn with_contents<R>(&self, read: impl FnOnce(&Contents) -> R) -> R {
        read(&self.body().contents)
    }

    /// Bytes on disk; of the active segment those in use.
    pub(crate) fn size(&self) -> u64 {
        let body = self.body();
        if body.sealed { body.size } else { body.contents.position }
    }

    pub(crate) fn is_sealed(&self) -> bool {
        self.body().sealed
    }

    /// Makes records that are durable now visible to readers.
    pub(crate) fn extend(&self, records: &[(u64, Header)]) {
        let mut body = self.body();
        let Body { contents, open, .. } = &mut *body;
        let Some(open) = open else { return };
        for (position, header) in records {
            contents.note(&mut open.marks, *position, header);
        }
    }

    /// Marks it as complete. Its file was cut behind the last record.
    pub(crate) fn seal(&self) -> io::Result<()> {
        let mut body = self.body();
        body.sealed = true;
        body.size = body.contents.position;
        let file = body.open.as_ref().map(|open| Arc::clone(&open.file));
        drop(body);
        // Later steps of cleaning rely on sealed files having no zeros at their end.
        file.map_or(Ok(()), |file| file.sync_all())
    }

    /// Writes the index of a sealed segment. A failure costs a scan at the next open.
    pub(crate) fn write_index(&self, fs: &dyn Fs) {
        let body = self.body();
        let Some(open) = &body.open else { return };
        let (contents, marks) = (body.contents.clone(), open.marks.clone());
        let subject = Subject { tag: self.head.tag, size: body.size };
        drop(body);
        let path = self.index_path();
        if let Err(error) = index::write(fs, &path, subject, &contents, &marks) {
            tracing::warn!(path = %path.display(), %error, "cannot write the index; the next start scans");
        }
    }

    /// Records damage met while reading; whether it is news.
    pub(crate) fn add_hole(&self, hole: Hole) -> bool {
        self.body().contents.add_hole(hole)
    }

    /// From the place to look for `offset`, to the end of what is durable.
    pub(crate) fn span_from_offset(&self, fs: &dyn Fs, offset: u64) -> io::Result<Span> {
        self.with_open(fs, |open, contents| {
            let mark = open.marks.partition_point(|mark| mark.offset <= offset).saturating_sub(1);
            let start = open.marks.get(mark).map_or(FIRST_RECORD, |mark| mark.position);
            Span { file: Arc::clone(&open.file), range: start..contents.position.max(start) }
        })
    }

    /// From the place to look for the first record accepted at or after `time_ms`, to the end.
    pub(crate) fn span_from_time(&self, fs: &dyn Fs, time_ms: u64) -> io::Result<Span> {
        self.with_open(fs, |open, contents| {
            let mark =
                open.marks.partition_point(|mark| mark.time_before < time_ms).saturating_sub(1);
            let start = open.marks.get(mark).map_or(FIRST_RECORD, |mark| mark.position);
            Span { file: Arc::clone(&open.file), range: start..contents.position.max(start) }
        })
    }

    /// A stretch that holds the first of `offsets` (which are sorted) and as many of the next as lie close by, and how many.
    pub(crate) fn cluster(
        &self,
        fs: &dyn Fs,
        offsets: &[u64],
        near: u64,
        most: u64,
    ) -> io::Result<(Span, usize)> {
        self.with_open(fs, |open, contents| {
            let marks = &open.marks;
            let find =
                |offset: u64| marks.partition_point(|mark| mark.offset <= offset).saturating_sub(1);
            let position =
                |mark: usize| marks.get(mark).map_or(contents.position, |mark| mark.position);
            let first = offsets.first().map_or(0, |offset| find(*offset));
            let start = position(first);
            let (mut last, mut count) = (first, usize::from(!offsets.is_empty()));
            for offset in offsets.iter().skip(1).take_while(|offset| **offset < contents.next) {
                let mark = find(*offset);
                let end = position(mark.saturating_add(1));
                let gap = position(mark).saturating_sub(position(last.saturating_add(1)));
                if mark > last && (gap > near || end.saturating_sub(start) > most) {
                    break;
                }
                last = mark;
                count = count.saturating_add(1);
            }
            let range = start..position(last.saturating_add(1)).max(start);
            (Span { file: Arc::clone(&open.file), range }, count)
        })
    }

    /// All of it, for cleaning.
    pub(crate) fn whole(&self, fs: &dyn Fs) -> io::Result<(Span, Vec<Mark>)> {
        self.with_open(fs, |open, contents| {
            let range = FIRST_RECORD..contents.position.max(FIRST_RECORD);
            (Span { file: Arc::clone(&open.file), range }, open.marks.clone())
        })
    }

    fn with_open<R>(&self, fs: &dyn Fs, read: impl FnOnce(&Open, &Contents) -> R) -> io::Result<R> {
        let mut body = self.body();
        if body.open.is_none() {
            body.open = Some(self.open(fs, &body)?);
        }
        let Body { contents, open, .. } = &*body;
        let open = open.as_ref().expect("opened above");
        Ok(read(open, contents))
    }

    fn open(&self, fs: &dyn Fs, body: &Body) -> io::Result<Open> {
        let file = fs.open(&self.path(), Access::Read)?;
        let mut head = vec![0; in_memory(FIRST_RECORD.min(file.size()?))];
        file.read_at(&mut head, 0)?;
        // Cleaning may have put a rewritten segment in this one's place since the caller looked.
        if matches!(Head::decode(&head), HeadRead::Good(found) if found.tag != self.head.tag) {
            return Err(io::Error::from(io::ErrorKind::NotFound));
        }
        let subject = Subject { tag: self.head.tag, size: body.size };
        let marks = match index::read_marks(fs, &self.index_path(), subject) {
            Some(marks) => marks,
            None => {
                recovery::scan(
                    &file,
                    self.head,
                    body.size,
                    recovery::Trust::Everything { next_base: None },
                )?
                .marks
            }
        };
        Ok(Open { file, marks })
    }

    fn put_away(&self) {
        let mut body = self.body();
        if body.sealed {
            body.open = None;
        }
    }

    fn is_put_away(&self) -> bool {
        self.body().open.is_none()
    }
}

/// Which sealed segments are open; the one opened longest ago is put away first.
#[derive(Debug, Default)]
pub(crate) struct Shelf(Mutex<VecDeque<Arc<Volume>>>);

impl Shelf {
    /// To be called before reading from `volume`.
    pub(crate) fn take_out(&self, volume: &Arc<Volume>) {
        if !volume.is_put_away() {
            return;
        }
        self.keep(volume);
    }

    /// Counts a segment that is open already.
    pub(crate) fn keep(&self, volume: &Arc<Volume>) {
        let mut shelf = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        shelf.retain(|kept| !Arc::ptr_eq(kept, volume));
        shelf.push_back(Arc::clone(volume));
        if shelf.len() > OPEN_SEGMENTS
            && let Some(oldest) = shelf.pop_front()
        {
            oldest.put_away();
        }
    }

    /// Forgets segments that are no longer part of the log.
    pub(crate) fn forget(&self, gone: &[Arc<Volume>]) {
        let mut shelf = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        shelf.retain(|kept| !gone.iter().any(|gone| Arc::ptr_eq(kept, gone)));
    }
}
