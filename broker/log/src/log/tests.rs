//! Tests of the log as a whole, on a file system that crashes, tears and fills up.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, Sender};
use std::time::Duration;

use bytes::Bytes;
use roaring::RoaringTreemap;

use crate::error::{AppendError, OpenError};
use crate::fs::faulty::FaultyFs;
use crate::log::{Commit, Entry, Log, Options, Record, Recovery};

mod appends;
mod bits;
mod cleaning;
mod crash;
mod dirs;
mod faults;
mod fixture;
mod model;
mod torn;

const DIR: &str = "/data/log";
/// Long after anything that is going to happen has happened, also where other programs have the machine for a while.
const DEADLINE: Duration = Duration::from_secs(120);
/// Segments are as small as they can be: a few records each.
const SMALL: Options = Options { segment_bytes: Options::LEAST_SEGMENT, max_queued_bytes: 1 << 20 };
/// Everything goes into one segment.
const ONE: Options = Options { segment_bytes: 1 << 20, max_queued_bytes: 1 << 20 };

fn disk() -> FaultyFs {
    let fs = FaultyFs::new();
    fs.make_dir(Path::new(DIR));
    fs
}

fn segment(base: u64) -> PathBuf {
    crate::segment::path(Path::new(DIR), base)
}

fn index(base: u64) -> PathBuf {
    crate::segment::index_path(Path::new(DIR), base)
}

/// Bytes that look like no other record's, without zeros at the end.
fn payload(seed: u64, size: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let byte = |_| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 32) as u8 | 1
    };
    (0..size).map(byte).collect()
}

/// A commit, and how many calls the file system had seen when it was told.
#[derive(Debug)]
struct Told {
    commit: Commit<u64>,
    calls: u64,
}

/// A log, and what it tells.
struct Rig {
    fs: FaultyFs,
    log: Log<u64>,
    recovery: Recovery,
    told: Receiver<Told>,
    release: Sender<()>,
}

/// The tag of an entry at whose commit the log's thread waits, so that the next entries come together.
const HOLD: u64 = u64::MAX;

impl Rig {
    fn open(fs: &FaultyFs, options: Options) -> Self {
        Self::try_open(fs, options).expect("it opens")
    }

    fn try_open(fs: &FaultyFs, options: Options) -> Result<Self, OpenError> {
        let (tell, told) = mpsc::channel();
        let (release, released) = mpsc::channel::<()>();
        let disk = fs.clone();
        let on_commit = move |commits: &mut Vec<Commit<u64>>| {
            let calls = disk.calls();
            for commit in commits.drain(..) {
                let hold = commit.tag == HOLD;
                // The test may be over.
                if tell.send(Told { commit, calls }).is_err() || !hold {
                    continue;
                }
                released.recv_timeout(DEADLINE).expect("a held log is released");
            }
        };
        let dir = Path::new(DIR);
        let (log, recovery) = Log::open(dir, Arc::new(fs.clone()), options, on_commit)?;
        Ok(Self { fs: fs.clone(), log, recovery, told, release })
    }

    fn told(&self) -> Told {
        self.told.recv_timeout(DEADLINE).expect("every entry taken is told of")
    }

    /// Appends an entry and waits for what becomes of it.
    fn try_append(&self, entry: Entry<u64>) -> Result<Told, AppendError> {
        self.log.append(entry).map_err(|(error, _)| error)?;
        let told = self.told();
        match told.commit.result.clone() {
            Ok(()) => Ok(told),
            Err(error) => Err(error),
        }
    }

    /// Appends an entry of one record, which must be kept; its offset.
    fn append(&self, seed: u64, size: usize) -> u64 {
        self.try_append(entry(seed, &[size])).expect("it is kept").commit.first_offset
    }

    /// Appends entries that are written together, after a record of its own that is not.
    fn group(&self, entries: Vec<Entry<u64>>) -> Vec<Told> {
        self.log.append(Entry { tag: HOLD, ..entry(HOLD, &[1]) }).expect("it is taken");
        let mut told = vec![self.told()];
        let count = entries.len();
        for entry in entries {
            self.log.append(entry).expect("it is taken");
        }
        self.release.send(()).expect("the log is open");
        told.extend((0..count).map(|_| self.told()));
        told
    }

    /// Every record, by reading on in small steps.
    fn records(&self) -> Vec<Record> {
        let mut records: Vec<Record> = Vec::new();
        loop {
            let from = records.last().map_or(0, |last| last.offset + 1);
            let more = self.log.read(from, 100).expect("it can be read");
            if more.is_empty() {
                return records;
            }
            records.extend(more);
        }
    }

    fn offsets(&self) -> Vec<u64> {
        self.records().iter().map(|record| record.offset).collect()
    }
}

/// An entry whose records can be told by its seed.
fn entry(seed: u64, sizes: &[usize]) -> Entry<u64> {
    let payload =
        |(index, size): (usize, &usize)| payload(seed ^ (index as u64) << 32, *size).into();
    Entry {
        stream: (seed % 3) as u32,
        time_ms: 1000 + seed % 1000,
        payloads: sizes.iter().enumerate().map(payload).collect(),
        tag: seed,
    }
}

/// The records an entry becomes.
fn records_of(entry: &Entry<u64>, first_offset: u64) -> Vec<Record> {
    let record = |(index, payload): (usize, &Bytes)| Record {
        offset: first_offset + index as u64,
        stream: entry.stream,
        time_ms: entry.time_ms,
        payload: payload.clone(),
    };
    entry.payloads.iter().enumerate().map(record).collect()
}

fn by_offset(records: Vec<Record>) -> BTreeMap<u64, Record> {
    let count = records.len();
    let map: BTreeMap<_, _> = records.into_iter().map(|record| (record.offset, record)).collect();
    assert_eq!(map.len(), count, "no offset twice");
    map
}

/// A `live` that wants these offsets.
fn live(offsets: impl IntoIterator<Item = u64>) -> impl Fn(std::ops::Range<u64>) -> RoaringTreemap {
    let all: RoaringTreemap = offsets.into_iter().collect();
    move |range| {
        let mut live = all.clone();
        live.remove_range(..range.start);
        live.remove_range(range.end..);
        live
    }
}

/// What can be read must agree with itself, whichever way it is asked for.
fn check_agrees(rig: &Rig) -> BTreeMap<u64, Record> {
    let records = rig.records();
    assert!(records.is_sorted_by_key(|record| record.offset));
    let (first, head) = (rig.log.first(), rig.log.head());
    assert_eq!(first, records.first().map_or(head, |record| record.offset));
    assert!(records.last().is_none_or(|record| record.offset < head));
    let all = by_offset(records);
    // Offsets are few, apart from what damage skips.
    let asked: Vec<u64> = (0..head.min(2000)).collect();
    let got = rig.log.get(&asked).expect("it can be read");
    for (offset, record) in asked.iter().zip(got) {
        assert_eq!(record.as_ref(), all.get(offset), "get({offset})");
    }
    for time in [0, u64::MAX].into_iter().chain(all.values().map(|record| record.time_ms)) {
        let since = all.values().find(|record| record.time_ms >= time);
        assert_eq!(rig.log.offset_at(time), since.map_or(head, |record| record.offset));
    }
    check_segments(rig, &all);
    all
}

fn check_segments(rig: &Rig, all: &BTreeMap<u64, Record>) {
    let mut end = 0;
    let mut count = 0;
    for segment in rig.log.segments() {
        assert!(segment.base >= end && segment.end >= segment.base, "{segment:?}");
        end = segment.end;
        let here: Vec<_> = all.range(segment.base..segment.end).map(|(_, record)| record).collect();
        for stream in &segment.streams {
            let of: Vec<_> = here.iter().filter(|record| record.stream == stream.stream).collect();
            let bytes: u64 = of.iter().map(|record| record.payload.len() as u64 + 40).sum();
            assert_eq!((stream.count, stream.bytes), (of.len() as u64, bytes), "{segment:?}");
            count += of.len();
        }
        let times = || here.iter().map(|record| record.time_ms);
        assert_eq!(segment.first_time_ms, times().min().unwrap_or(0), "{segment:?}");
        assert_eq!(segment.last_time_ms, times().max().unwrap_or(0), "{segment:?}");
    }
    assert_eq!(count, all.len(), "every record is in a segment");
}
