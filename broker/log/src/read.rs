//! Reading what is durable, beside the writer and the cleaner.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;

use crate::catalog::Catalog;
use crate::contents::{Hole, MARK_BYTES};
use crate::error::ReadError;
use crate::log::Record;
use crate::record::{GAP, Header, in_memory};
use crate::scan::{Bad, Found, Scanner};
use crate::volume::{Span, Volume};

/// Bytes read at a time.
const MOST_CHUNK: u64 = 256 << 10;
/// Wanted records closer than this are read together with what is between them: as quick as a second read.
const NEAR: u64 = 32 << 10;

impl Catalog {
    /// Records from offset `from` on, at least one if there is one, until their payloads reach `max_bytes`.
    pub(crate) fn read(&self, from: u64, max_bytes: usize) -> Result<Vec<Record>, ReadError> {
        self.on_current(|volumes| {
            let mut records = Vec::new();
            let mut left = max_bytes;
            let first =
                volumes.partition_point(|volume| volume.head.base <= from).saturating_sub(1);
            for volume in volumes.iter().skip(first) {
                if volume.with_contents(|contents| contents.next) <= from {
                    continue;
                }
                self.read_volume(volume, from, &mut left, &mut records)
                    .map_err(|error| (volume.path(), error))?;
                if left == 0 && !records.is_empty() {
                    break;
                }
            }
            Ok(records)
        })
    }

    fn read_volume(
        &self,
        volume: &Arc<Volume>,
        from: u64,
        left: &mut usize,
        records: &mut Vec<Record>,
    ) -> io::Result<()> {
        self.shelf.take_out(volume);
        let span = volume.span_from_offset(self.fs.as_ref(), from)?;
        let chunk = (*left as u64).saturating_add(MARK_BYTES).min(MOST_CHUNK);
        let mut scanner = Scanner::new(span.file, volume.head.tag, span.range, in_memory(chunk));
        let mut next = from;
        while *left > 0 || records.is_empty() {
            match scanner.next()? {
                Some(Found::Record { header, .. }) if header.is(GAP) || header.offset < next => {}
                Some(Found::Record { header, .. }) => {
                    next = header.next();
                    *left = left.saturating_sub(scanner.payload().len());
                    records.push(record(&header, scanner.payload()));
                }
                Some(Found::Bad(bad)) => note_bad(volume, next, bad),
                None => break,
            }
        }
        Ok(())
    }

    /// The records with these offsets.
    pub(crate) fn get(&self, offsets: &[u64]) -> Result<Vec<Option<Record>>, ReadError> {
        if !offsets.is_sorted() {
            // Slower, and still right.
            return offsets
                .iter()
                .map(|offset| Ok(self.get(&[*offset])?.pop().flatten()))
                .collect();
        }
        self.on_current(|volumes| {
            let mut found = Vec::with_capacity(offsets.len());
            let mut rest = offsets;
            while let Some(offset) = rest.first() {
                let place =
                    volumes.partition_point(|volume| volume.head.base <= *offset).checked_sub(1);
                let Some(volume) = place.and_then(|place| volumes.get(place)) else {
                    found.push(None);
                    rest = rest.get(1..).unwrap_or_default();
                    continue;
                };
                let (next, first) =
                    volume.with_contents(|contents| (contents.next, contents.first));
                let here = rest.partition_point(|offset| *offset < next);
                if here == 0 || first.is_none() {
                    found.push(None);
                    rest = rest.get(1..).unwrap_or_default();
                    continue;
                }
                let wanted = rest.get(..here).unwrap_or_default();
                let taken = self
                    .get_cluster(volume, wanted, &mut found)
                    .map_err(|error| (volume.path(), error))?
                    .max(1);
                rest = rest.get(taken..).unwrap_or_default();
            }
            Ok(found)
        })
    }

    /// Answers the first of `offsets` and those close to it; how many.
    fn get_cluster(
        &self,
        volume: &Arc<Volume>,
        offsets: &[u64],
        found: &mut Vec<Option<Record>>,
    ) -> io::Result<usize> {
        self.shelf.take_out(volume);
        let (Span { file, range }, count) =
            volume.cluster(self.fs.as_ref(), offsets, NEAR, MOST_CHUNK)?;
        let mut wanted = offsets.iter().take(count).copied().peekable();
        let mut scanner = Scanner::new(file, volume.head.tag, range, in_memory(MOST_CHUNK));
        let mut expected = volume.head.base;
        while wanted.peek().is_some() {
            match scanner.next()? {
                Some(Found::Record { header, .. }) if header.is(GAP) => expected = header.next(),
                Some(Found::Record { header, .. }) => {
                    expected = header.next();
                    while let Some(offset) = wanted.next_if(|offset| *offset <= header.offset) {
                        found.push(
                            (offset == header.offset).then(|| record(&header, scanner.payload())),
                        );
                    }
                }
                Some(Found::Bad(bad)) => note_bad(volume, expected, bad),
                None => break,
            }
        }
        found.extend(wanted.map(|_| None));
        Ok(count)
    }

    /// The first kept offset accepted at or after `time_ms`. What cannot be read is passed on the early side.
    pub(crate) fn offset_at(&self, time_ms: u64) -> u64 {
        for volume in self.volumes().iter() {
            let (last_time, first) =
                volume.with_contents(|contents| (contents.last_time, contents.first));
            let Some(first) = first.filter(|_| last_time >= time_ms) else { continue };
            self.shelf.take_out(volume);
            return match self.first_since(volume, time_ms) {
                Ok(Some(offset)) => offset,
                Ok(None) => continue,
                Err(error) => {
                    tracing::warn!(path = %volume.path().display(), %error, "cannot look up a time");
                    first
                }
            };
        }
        self.head()
    }

    fn first_since(&self, volume: &Volume, time_ms: u64) -> io::Result<Option<u64>> {
        let span = volume.span_from_time(self.fs.as_ref(), time_ms)?;
        let mut scanner = Scanner::new(span.file, volume.head.tag, span.range, in_memory(NEAR));
        while let Some(found) = scanner.next()? {
            match found {
                Found::Record { header, .. } if !header.is(GAP) && header.time_ms >= time_ms => {
                    return Ok(Some(header.offset));
                }
                _ => {}
            }
        }
        Ok(None)
    }

    /// The first kept offset, the head if there is none.
    pub(crate) fn first(&self) -> u64 {
        let first = |volume: &Arc<Volume>| volume.with_contents(|contents| contents.first);
        self.volumes().iter().find_map(first).unwrap_or_else(|| self.head())
    }

    /// Reads from the current segments, again if cleaning replaced them before they were opened.
    fn on_current<R>(
        &self,
        read: impl Fn(&[Arc<Volume>]) -> Result<R, (PathBuf, io::Error)>,
    ) -> Result<R, ReadError> {
        loop {
            let volumes = self.volumes();
            match read(&volumes) {
                Ok(answer) => return Ok(answer),
                Err((path, source)) => {
                    if source.kind() == io::ErrorKind::NotFound
                        && !Arc::ptr_eq(&volumes, &self.volumes())
                    {
                        continue;
                    }
                    return Err(ReadError::Io { path, source });
                }
            }
        }
    }
}

fn record(header: &Header, payload: &[u8]) -> Record {
    Record {
        offset: header.offset,
        stream: header.stream,
        time_ms: header.time_ms,
        payload: Bytes::copy_from_slice(payload),
    }
}

/// Damage that was not there, or not looked at, when the log was opened.
fn note_bad(volume: &Volume, offset: u64, bad: Bad) {
    let bytes = bad.to.saturating_sub(bad.from);
    if volume.add_hole(Hole { position: bad.from, bytes, offsets: offset..offset }) {
        let path = volume.path();
        tracing::error!(path = %path.display(), position = bad.from, bytes, "unreadable records are skipped");
    }
}
