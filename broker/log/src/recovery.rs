//! What a segment holds after whatever happened to it: a pure judgement over a scan, and the repair it asks for.
//!
//! A group is written after everything before it was synced, and says where it starts. So behind the start of the newest
//! group nothing can be torn: a bad spot there was acknowledged once, and is *damage*, kept, counted and reported. Within
//! the newest group of the newest segment a bad spot may be a write that a crash cut short, which nobody was promised.
//! Such an entry is dropped whole, the whole entries around it are kept: if the spot was damage after all, no more is lost.

use std::io;
use std::ops::Range;
use std::sync::Arc;

use crate::contents::{Contents, Hole, Mark};
use crate::fs::File;
use crate::record::{self, FIRST, GAP, HEADER_BYTES, Header, LAST, MAX_PAYLOAD, Place, in_memory};
use crate::scan::{Bad, Found, Scanner};
use crate::segment::{FIRST_RECORD, Head};

/// Bytes read at a time: bounds the memory of opening a log, whatever its size.
pub(crate) const SCAN_CHUNK: usize = 1 << 20;

/// How much of a segment is known to have been durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Trust {
    /// All: there is a newer segment, which begins at `next_base` if that is known.
    Everything { next_base: Option<u64> },
    /// All but its newest group.
    AllButNewestGroup,
}

/// What a scan found.
#[derive(Debug)]
pub(crate) struct Scanned {
    pub(crate) contents: Contents,
    pub(crate) marks: Vec<Mark>,
    pub(crate) repair: Repair,
    /// Zeros at the end that no record is missing from.
    pub(crate) spare: bool,
}

/// What has to be done to a segment before it takes records again.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Repair {
    /// Stretches to be overwritten by gap records.
    pub(crate) gaps: Vec<Gap>,
    /// Where the file ends, and the offsets from here on that might have been used.
    pub(crate) cut: Option<Cut>,
}

/// Dropped entries between kept ones.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Gap {
    pub(crate) bytes: Range<u64>,
    pub(crate) offsets: Range<u64>,
}

/// Dropped entries at the end.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Cut {
    pub(crate) position: u64,
    pub(crate) bytes: u64,
    pub(crate) offsets: Range<u64>,
}

/// Reads all of a segment of `size` bytes and judges it.
pub(crate) fn scan(
    file: &Arc<dyn File>,
    head: Head,
    size: u64,
    trust: Trust,
) -> io::Result<Scanned> {
    let mut scanner = Scanner::new(Arc::clone(file), head.tag, FIRST_RECORD..size, SCAN_CHUNK);
    let mut judge = Judge::new(head, trust);
    while let Some(found) = scanner.next()? {
        judge.see(found);
    }
    Ok(judge.finish())
}

/// Carries out a repair and makes it durable. Nothing may be acknowledged before this returned.
pub(crate) fn mend(file: &dyn File, tag: u64, repair: &Repair) -> io::Result<()> {
    if *repair != Repair::default() {
        // A gap record says that everything before it is durable.
        file.sync_data()?;
    }
    let gap = |bytes: Range<u64>, offsets: &Range<u64>| {
        let length = in_memory(bytes.end.saturating_sub(bytes.start).saturating_sub(HEADER_BYTES));
        let mut out = Vec::new();
        let place = Place { tag, position: bytes.start };
        record::encode(&mut out, place, gap_header(offsets, length), &vec![0; length]);
        file.write_at(&out, bytes.start)
    };
    for dropped in &repair.gaps {
        gap(dropped.bytes.clone(), &dropped.offsets)?;
    }
    if let Some(cut) = &repair.cut {
        file.set_len(cut.position)?;
        gap(cut.position..cut.position.saturating_add(HEADER_BYTES), &cut.offsets)?;
    }
    // Also without a repair: what a killed process wrote may still be in memory only, and is about to be built upon.
    file.sync_all()
}

fn gap_header(offsets: &Range<u64>, length: usize) -> Header {
    let length = u32::try_from(length).unwrap_or(u32::MAX);
    Header { length, flags: GAP, offset: offsets.start, time_ms: offsets.end, stream: 0, group: 0 }
}

/// At most this many records fit: bounds which offsets unreadable bytes may have had.
pub(crate) fn most_records(bytes: u64) -> u64 {
    bytes.div_ceil(HEADER_BYTES)
}

#[derive(Clone, Copy, Debug)]
struct Item {
    /// The offset it begins with: for bad bytes the one expected there.
    offset: u64,
    found: Found,
}

impl Item {
    fn bytes(&self) -> Range<u64> {
        match self.found {
            Found::Record { position, header } => position..position.saturating_add(header.size()),
            Found::Bad(bad) => bad.from..bad.to,
        }
    }

    fn header(&self) -> Option<&Header> {
        match &self.found {
            Found::Record { header, .. } => Some(header),
            Found::Bad(_) => None,
        }
    }
}

struct Judge {
    head: Head,
    trust: Trust,
    contents: Contents,
    marks: Vec<Mark>,
    repair: Repair,
    /// What may still turn out to be torn, in order of position.
    open: Vec<Item>,
    /// Every offset below was durable.
    durable: u64,
    /// The offset that comes next.
    expected: u64,
}

impl Judge {
    fn new(head: Head, trust: Trust) -> Self {
        Self {
            head,
            trust,
            contents: Contents::new(head.base, FIRST_RECORD),
            marks: Vec::new(),
            repair: Repair::default(),
            open: Vec::new(),
            durable: head.base,
            expected: head.base,
        }
    }

    fn see(&mut self, found: Found) {
        let item = Item { offset: self.expected, found };
        let Found::Record { header, position } = found else {
            self.open.push(item);
            return;
        };
        if header.offset < self.expected {
            // Only a bug can write this; it is not believed.
            let to = position.saturating_add(header.size());
            self.open
                .push(Item { found: Found::Bad(Bad { from: position, to, dirty_to: to }), ..item });
            return;
        }
        let durable = match self.trust {
            Trust::Everything { .. } => header.offset,
            Trust::AllButNewestGroup => header.group_start(),
        };
        if durable > self.durable {
            self.durable = durable;
            let settled = self.open.iter().take_while(|item| item.offset < durable).count();
            for item in self.open.drain(..settled).collect::<Vec<_>>() {
                self.settle(item, header.offset);
            }
        }
        self.open.push(Item { offset: header.offset, found });
        self.expected = header.next();
    }

    /// Counts something that was durable. `next` is an offset behind it.
    fn settle(&mut self, item: Item, next: u64) {
        match item.found {
            Found::Record { position, header } => {
                self.fill(position, header.offset);
                self.contents.note(&mut self.marks, position, &header);
            }
            Found::Bad(bad) => {
                // Its end is set when the next record is counted.
                let offsets = item.offset..item.offset.max(next);
                self.contents.holes.push(Hole {
                    position: bad.from,
                    bytes: bad.to.saturating_sub(bad.from),
                    offsets,
                });
            }
        }
    }

    /// The record at `position` has `offset`: ends the hole before it there, or opens one if offsets are missing.
    fn fill(&mut self, position: u64, offset: u64) {
        let next = self.contents.next;
        if let Some(hole) =
            self.contents.holes.last_mut().filter(|hole| hole.position >= self.contents.position)
        {
            hole.offsets.end = offset.max(hole.offsets.start);
        } else if offset > next && self.head.end.is_none() {
            self.contents.holes.push(Hole { position, bytes: 0, offsets: next..offset });
        }
    }

    fn finish(mut self) -> Scanned {
        let tail = match self.open.last() {
            Some(Item { found: Found::Bad(bad), .. }) => Some(*bad),
            _ => None,
        };
        let mut spare = false;
        match self.trust {
            Trust::Everything { next_base } => {
                let next = next_base.unwrap_or(self.expected);
                if tail.is_some_and(|bad| bad.is_blank() && next <= self.expected) {
                    self.open.pop();
                    spare = true;
                }
                let next = if self.head.end.is_some() { self.expected } else { next };
                for item in std::mem::take(&mut self.open) {
                    self.settle(item, next);
                }
            }
            Trust::AllButNewestGroup => {
                if tail.is_some_and(|bad| bad.is_blank()) {
                    self.open.pop();
                    spare = true;
                }
                self.drop_torn(tail);
            }
        }
        Scanned { contents: self.contents, marks: self.marks, repair: self.repair, spare }
    }

    /// Keeps the whole entries of the newest group, and plans the repair of the rest.
    fn drop_torn(&mut self, tail: Option<Bad>) {
        let items = std::mem::take(&mut self.open);
        let mut rest = items.as_slice();
        // The bytes and the first offset of what was dropped since the last kept entry.
        let mut dropped: Option<(Range<u64>, u64)> = None;
        while let Some(first) = rest.first() {
            let (length, whole) = entry(rest);
            let (items, after) = rest.split_at(length);
            rest = after;
            if !whole {
                let bytes = first.bytes().start..items.last().map_or(0, |item| item.bytes().end);
                dropped = Some(match dropped {
                    Some((before, offset)) => (before.start..bytes.end, offset),
                    None => (bytes, first.offset),
                });
                continue;
            }
            if let Some((bytes, offset)) = dropped.take() {
                self.drop_between(bytes, offset..first.offset);
            }
            for item in items {
                self.settle(*item, self.expected);
            }
        }
        if let Some((bytes, offset)) = dropped {
            // Zeros behind the last written byte are only room.
            let dirty_to = tail.map_or(bytes.end, |bad| bad.dirty_to);
            let lost = dirty_to.saturating_sub(bytes.start);
            let offsets = offset..offset.saturating_add(most_records(lost));
            let header = gap_header(&offsets, 0);
            self.contents.note(&mut self.marks, bytes.start, &header);
            self.repair.cut = Some(Cut { position: bytes.start, bytes: lost, offsets });
        }
    }

    fn drop_between(&mut self, bytes: Range<u64>, offsets: Range<u64>) {
        let length = bytes.end.saturating_sub(bytes.start);
        let Some(payload) =
            length.checked_sub(HEADER_BYTES).filter(|payload| in_memory(*payload) <= MAX_PAYLOAD)
        else {
            // Cannot be told in a record; no write of ours leaves that.
            self.contents.holes.push(Hole { position: bytes.start, bytes: length, offsets });
            return;
        };
        let header = gap_header(&offsets, in_memory(payload));
        self.contents.note(&mut self.marks, bytes.start, &header);
        self.repair.gaps.push(Gap { bytes, offsets });
    }
}

/// How many of `items`, which are not empty, belong together, and whether they are a whole entry.
fn entry(items: &[Item]) -> (usize, bool) {
    let Some(first) = items.first().and_then(Item::header) else { return (1, false) };
    if first.is(GAP) {
        return (1, true);
    }
    if !first.is(FIRST) {
        return (1, false);
    }
    let mut length = 1_usize;
    let mut last = first;
    while !last.is(LAST) {
        match items.get(length).and_then(Item::header) {
            Some(next) if !next.is(FIRST) && !next.is(GAP) && next.offset == last.next() => {
                last = next
            }
            _ => return (length, false),
        }
        length = length.saturating_add(1);
    }
    (length, true)
}
