//! Walks the records of a segment file, and finds the next one behind a bad spot.

use std::io;
use std::ops::Range;
use std::sync::Arc;

use memchr::memmem;

use crate::fs::File;
use crate::record::{self, HEADER, Header, Place, in_memory, is_blank};

/// What stands at a place in a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Found {
    /// A record; [`Scanner::payload`] has its bytes.
    Record { position: u64, header: Header },
    /// Bytes that are no record.
    Bad(Bad),
}

/// A stretch without a valid record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Bad {
    pub(crate) from: u64,
    /// Where the next record begins, or the scan ends.
    pub(crate) to: u64,
    /// Behind the last byte that is not zero; `from` if there is none.
    pub(crate) dirty_to: u64,
}

impl Bad {
    /// Nothing but zeros: nothing was written here, or it was wiped.
    pub(crate) fn is_blank(&self) -> bool {
        self.dirty_to == self.from
    }
}

/// Reads a range of a segment in chunks.
#[derive(Debug)]
pub(crate) struct Scanner {
    file: Arc<dyn File>,
    tag: u64,
    at: u64,
    end: u64,
    chunk: usize,
    buffer: Vec<u8>,
    /// File position of the buffer's first byte.
    start: u64,
    payload: Range<u64>,
    finder: memmem::Finder<'static>,
}

impl Scanner {
    /// Over `range` of `file`, which must begin at a record, reading `chunk` bytes at a time.
    pub(crate) fn new(file: Arc<dyn File>, tag: u64, range: Range<u64>, chunk: usize) -> Self {
        let finder = memmem::Finder::new(&tag.to_le_bytes()).into_owned();
        let (at, end) = (range.start, range.end);
        Self { file, tag, at, end, chunk, buffer: Vec::new(), start: at, payload: at..at, finder }
    }

    /// The next record or bad stretch, `None` at the end.
    pub(crate) fn next(&mut self) -> io::Result<Option<Found>> {
        let position = self.at;
        if position >= self.end {
            return Ok(None);
        }
        if let Some(header) = self.check(position)? {
            self.at = position.saturating_add(header.size());
            self.payload = position.saturating_add(record::HEADER_BYTES)..self.at;
            return Ok(Some(Found::Record { position, header }));
        }
        let bad = self.resync(position)?;
        self.at = bad.to;
        Ok(Some(Found::Bad(bad)))
    }

    /// The payload of the record that [`Scanner::next`] returned last.
    pub(crate) fn payload(&self) -> &[u8] {
        let from = in_memory(self.payload.start.saturating_sub(self.start));
        let to = in_memory(self.payload.end.saturating_sub(self.start));
        self.buffer.get(from..to).unwrap_or_default()
    }

    /// The header at `position` if a valid record stands there.
    fn check(&mut self, position: u64) -> io::Result<Option<Header>> {
        let tag = self.tag;
        let Some(header) = record::peek(self.view(position, HEADER)?, tag) else { return Ok(None) };
        if header.size() > self.end.saturating_sub(position) {
            return Ok(None);
        }
        let size = in_memory(header.size());
        let bytes = self.view(position, size)?;
        let valid =
            bytes.get(..size).is_some_and(|bytes| record::verify(bytes, Place { tag, position }));
        Ok(valid.then_some(header))
    }

    /// Looks for the next valid record behind `from`, where there is none.
    fn resync(&mut self, from: u64) -> io::Result<Bad> {
        let mut dirty_to = from;
        let mut at = from;
        loop {
            let skip = usize::from(at == from);
            let chunk = self.chunk;
            self.view(at, chunk)?;
            let window =
                self.buffer.get(in_memory(at.saturating_sub(self.start))..).unwrap_or_default();
            let hit = window
                .get(skip..)
                .and_then(|rest| self.finder.find(rest))
                .map(|hit| hit.saturating_add(skip));
            let looked = hit.map_or(window, |hit| window.get(..hit).unwrap_or_default());
            if !is_blank(looked)
                && let Some(last) = looked.iter().rposition(|byte| *byte != 0)
            {
                dirty_to = at.saturating_add(last as u64).saturating_add(1);
            }
            let Some(hit) = hit else {
                let reached = at.saturating_add(window.len() as u64);
                if reached >= self.end {
                    return Ok(Bad { from, to: self.end, dirty_to });
                }
                // A tag may straddle the edge.
                at = reached.saturating_sub(7).max(at.saturating_add(1));
                continue;
            };
            let candidate = at.saturating_add(hit as u64);
            if self.check(candidate)?.is_some() {
                return Ok(Bad { from, to: candidate, dirty_to });
            }
            dirty_to = candidate.saturating_add(8);
            at = candidate.saturating_add(1);
        }
    }

    /// The buffer from `position`: at least `want` bytes, fewer only where the range ends.
    fn view(&mut self, position: u64, want: usize) -> io::Result<&[u8]> {
        let left = self.end.saturating_sub(position);
        let want = want.min(in_memory(left));
        let held = self.start.saturating_add(self.buffer.len() as u64);
        let there = position >= self.start && position.saturating_add(want as u64) <= held;
        if !there {
            let size = want.max(self.chunk).min(in_memory(left));
            self.buffer.clear();
            self.start = position;
            self.buffer.resize(size, 0);
            if let Err(error) = self.file.read_at(&mut self.buffer, position) {
                self.buffer.clear();
                return Err(error);
            }
        }
        Ok(self.buffer.get(in_memory(position.saturating_sub(self.start))..).unwrap_or_default())
    }
}

/// Finds the tag of a segment whose header is lost, by the first record that fits it. `bytes` begin at file position `from`.
pub(crate) fn guess_tag(bytes: &[u8], from: u64, base: u64) -> Option<u64> {
    (0..bytes.len()).find_map(|at| {
        let candidate = bytes.get(at..)?;
        let tag = record::le64(candidate, 0).filter(|tag| *tag != 0)?;
        let header = record::peek(candidate, tag)?;
        // The offset's high bytes must fit the file's name: almost nothing else gets as far as the checksum.
        if header.offset < base || header.offset.saturating_sub(base) > u64::from(u32::MAX) {
            return None;
        }
        let position = from.saturating_add(at as u64);
        let record = candidate.get(..in_memory(header.size()))?;
        record::verify(record, Place { tag, position }).then_some(tag)
    })
}
