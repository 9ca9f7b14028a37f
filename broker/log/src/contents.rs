//! What is known about a segment without reading it: totals, damage, and where to start looking for an offset.

use std::collections::BTreeMap;
use std::ops::Range;

use crate::record::{GAP, Header, le32, le64};

/// A mark stands every so many bytes: small enough that finding one record reads little, large enough that the marks of
/// a million records of 300 bytes take about a megabyte.
pub(crate) const MARK_BYTES: u64 = 8 << 10;

/// A place to start reading from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Mark {
    /// The record that begins here.
    pub(crate) offset: u64,
    /// Latest time of the records before.
    pub(crate) time_before: u64,
    pub(crate) position: u64,
    /// How many records are before.
    pub(crate) ordinal: u32,
}

/// Bytes of a segment that are no valid record and should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Hole {
    pub(crate) position: u64,
    pub(crate) bytes: u64,
    /// The offsets lost with them.
    pub(crate) offsets: Range<u64>,
}

/// Totals of a segment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Contents {
    /// Its first record, if it has one.
    pub(crate) first: Option<u64>,
    /// The offset after its last.
    pub(crate) next: u64,
    /// Where its last record ends.
    pub(crate) position: u64,
    pub(crate) records: u64,
    pub(crate) first_time: u64,
    pub(crate) last_time: u64,
    /// Records and their bytes, by stream.
    pub(crate) streams: BTreeMap<u32, (u64, u64)>,
    pub(crate) holes: Vec<Hole>,
}

impl Contents {
    /// Of a segment without records that begin at `position`.
    pub(crate) fn new(base: u64, position: u64) -> Self {
        Self {
            first: None,
            next: base,
            position,
            records: 0,
            first_time: u64::MAX,
            last_time: 0,
            streams: BTreeMap::new(),
            holes: Vec::new(),
        }
    }

    /// Adds the record at `position`, and a mark if it is time for one.
    pub(crate) fn note(&mut self, marks: &mut Vec<Mark>, position: u64, header: &Header) {
        if marks.last().is_none_or(|mark| position.saturating_sub(mark.position) >= MARK_BYTES) {
            let ordinal = u32::try_from(self.records).unwrap_or(u32::MAX);
            marks.push(Mark {
                offset: header.offset,
                time_before: self.last_time,
                position,
                ordinal,
            });
        }
        self.next = header.next();
        self.position = position.saturating_add(header.size());
        if header.is(GAP) {
            return;
        }
        self.first.get_or_insert(header.offset);
        self.records = self.records.saturating_add(1);
        self.first_time = self.first_time.min(header.time_ms);
        self.last_time = self.last_time.max(header.time_ms);
        let (count, bytes) = self.streams.entry(header.stream).or_default();
        *count = count.saturating_add(1);
        *bytes = bytes.saturating_add(header.size());
    }

    /// Adds a hole, unless it is known.
    pub(crate) fn add_hole(&mut self, hole: Hole) -> bool {
        let new = !self.holes.iter().any(|known| known.position == hole.position);
        if new {
            self.holes.push(hole);
        }
        new
    }

    /// As bytes, for the index file.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        let fixed = [
            self.first.unwrap_or(u64::MAX),
            self.next,
            self.position,
            self.records,
            self.first_time,
            self.last_time,
            self.streams.len() as u64,
            self.holes.len() as u64,
        ];
        let streams = self
            .streams
            .iter()
            .flat_map(|(stream, (count, bytes))| [u64::from(*stream), *count, *bytes]);
        let holes = self
            .holes
            .iter()
            .flat_map(|hole| [hole.position, hole.bytes, hole.offsets.start, hole.offsets.end]);
        for number in fixed.into_iter().chain(streams).chain(holes) {
            out.extend_from_slice(&number.to_le_bytes());
        }
        out
    }

    /// From bytes whose checksum was right.
    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        let mut numbers = bytes.chunks_exact(8).filter_map(|chunk| le64(chunk, 0));
        let mut next = || numbers.next();
        let first = Some(next()?).filter(|first| *first != u64::MAX);
        let mut contents = Self::new(next()?, next()?);
        contents.first = first;
        contents.records = next()?;
        contents.first_time = next()?;
        contents.last_time = next()?;
        let (streams, holes) = (next()?, next()?);
        for _ in 0..streams {
            contents.streams.insert(u32::try_from(next()?).ok()?, (next()?, next()?));
        }
        for _ in 0..holes {
            contents.holes.push(Hole {
                position: next()?,
                bytes: next()?,
                offsets: next()?..next()?,
            });
        }
        Some(contents)
    }
}

/// Bytes of a mark in the index file.
const MARK_SIZE: usize = 28;

pub(crate) fn encode_marks(marks: &[Mark]) -> Vec<u8> {
    let mut out = Vec::with_capacity(marks.len().saturating_mul(MARK_SIZE));
    for mark in marks {
        out.extend_from_slice(&mark.offset.to_le_bytes());
        out.extend_from_slice(&mark.time_before.to_le_bytes());
        out.extend_from_slice(&mark.position.to_le_bytes());
        out.extend_from_slice(&mark.ordinal.to_le_bytes());
    }
    out
}

pub(crate) fn decode_marks(bytes: &[u8]) -> Vec<Mark> {
    let mark = |bytes: &[u8]| {
        Some(Mark {
            offset: le64(bytes, 0)?,
            time_before: le64(bytes, 8)?,
            position: le64(bytes, 16)?,
            ordinal: le32(bytes, 24)?,
        })
    };
    bytes.chunks_exact(MARK_SIZE).filter_map(mark).collect()
}
