//! The log: the handle its users hold.

use std::fmt;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};

use bytes::Bytes;
use roaring::RoaringTreemap;

use crate::catalog::Catalog;
use crate::error::{AppendError, CleanError, OpenError, ReadError};
use crate::fs::Fs;
use crate::open::{self, Opened};
use crate::queue::Queue;
use crate::record::MAX_PAYLOAD;
use crate::volume::Volume;
use crate::writer::Writer;

/// Limits of a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// Where a segment ends and the next begins, within [`Options::LEAST_SEGMENT`] and [`Options::MOST_SEGMENT`]. Smaller
    /// ones free space sooner, larger ones mean fewer files. A single entry may be larger.
    pub segment_bytes: u64,
    /// Bytes that may wait for the writer; more are refused as [`AppendError::Busy`]. What the writer has taken is no
    /// longer counted, so up to twice as much is in memory.
    pub max_queued_bytes: usize,
}

impl Options {
    /// Smaller segments would be all header.
    pub const LEAST_SEGMENT: u64 = 1 << 10;
    /// The newest segment is read whole when the log is opened: a gigabyte takes about a second.
    pub const MOST_SEGMENT: u64 = 1 << 30;

    /// The largest entry taken: its payloads and 40 bytes for each. It has to fit into the queue, and a record's length into
    /// 28 bits.
    #[must_use]
    pub fn max_entry_bytes(&self) -> usize {
        self.max_queued_bytes.min(MAX_PAYLOAD)
    }
}

impl Default for Options {
    fn default() -> Self {
        Self { segment_bytes: 32 << 20, max_queued_bytes: 16 << 20 }
    }
}

/// A record as it is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Where it stands: offsets grow by one a record, and have gaps where records were cleaned or damaged.
    pub offset: u64,
    /// The stream it was appended to.
    pub stream: u32,
    /// When it was accepted, as its entry says.
    pub time_ms: u64,
    /// Its bytes, in an allocation of their own.
    pub payload: Bytes,
}

/// Payloads that are kept whole or not at all.
#[derive(Clone, Debug)]
pub struct Entry<T> {
    /// The stream they belong to.
    pub stream: u32,
    /// When they were accepted, milliseconds since the Unix epoch.
    pub time_ms: u64,
    /// One record each.
    pub payloads: Vec<Bytes>,
    /// Comes back in the [`Commit`].
    pub tag: T,
}

/// What became of an entry.
#[derive(Clone, Debug)]
pub struct Commit<T> {
    /// The entry's tag.
    pub tag: T,
    /// Offset of its first record (if `result` is `Ok`).
    pub first_offset: u64,
    /// How many records it has.
    pub count: u32,
    /// `Ok`: durable.
    pub result: Result<(), AppendError>,
}

/// What opening a log found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Recovery {
    /// Segments the log has.
    pub segments: usize,
    /// Next offset.
    pub head: u64,
    /// Bytes that had to be read record by record.
    pub scanned_bytes: u64,
    /// Bytes of unacknowledged, half-written entries that were dropped.
    pub torn_bytes: u64,
    /// Offsets within the kept ones that those entries had.
    pub torn: Vec<Range<u64>>,
    /// Records that had been acknowledged and are unreadable. Those around them are kept.
    pub damaged: Vec<Damage>,
    /// Segments removed because a rewritten one holds what was live in them.
    pub superseded: usize,
}

/// Unreadable bytes in a segment. They are left as they are until the segment is cleaned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Damage {
    /// The segment.
    pub file: PathBuf,
    /// Where in it.
    pub position: u64,
    /// How many.
    pub bytes: u64,
    /// The offsets that are lost, empty if none.
    pub offsets: Range<u64>,
}

/// A segment, for inspection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Segment {
    /// First offset it may hold.
    pub base: u64,
    /// Offset after the last one it may hold.
    pub end: u64,
    /// Its size on disk.
    pub bytes: u64,
    /// Whether it takes no more records.
    pub sealed: bool,
    /// Earliest time of its records.
    pub first_time_ms: u64,
    /// Latest time of its records.
    pub last_time_ms: u64,
    /// What each stream has in it, by stream.
    pub streams: Vec<StreamUse>,
}

/// What a stream has in a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StreamUse {
    /// The stream.
    pub stream: u32,
    /// Its records.
    pub count: u64,
    /// Their bytes, headers included.
    pub bytes: u64,
}

/// What [`Log::clean`] did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cleaned {
    /// Segments deleted outright.
    pub deleted: usize,
    /// Segments replaced by rewritten ones.
    pub rewritten: usize,
    /// Bytes given back to the disk.
    pub freed_bytes: u64,
}

/// An open log. Clones share it; when the last one is dropped, it is closed.
pub struct Log<T: Send + 'static> {
    inner: Arc<Inner<T>>,
}

struct Inner<T: Send + 'static> {
    catalog: Arc<Catalog>,
    queue: Arc<Queue<T>>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl<T: Send + 'static> Clone for Log<T> {
    fn clone(&self) -> Self {
        Self { inner: Arc::clone(&self.inner) }
    }
}

impl<T: Send + 'static> fmt::Debug for Log<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Log")
            .field("dir", &self.inner.catalog.dir)
            .field("head", &self.head())
            .finish_non_exhaustive()
    }
}

impl<T: Send + 'static> Log<T> {
    /// Opens the log in `dir`, which is made if needed. The caller holds the lock of the [data directory](crate::DataDir).
    ///
    /// `on_commit` is called on the log's thread, once a group, with what became of its entries, in order of offset. It
    /// should be quick: the next group waits for it. It may empty the vector.
    ///
    /// # Errors
    /// [`OpenError`] when the directory cannot be read or repaired, or a newer program wrote it. Damaged records are no
    /// error: they are in [`Recovery`].
    pub fn open(
        dir: &Path,
        fs: Arc<dyn Fs>,
        options: Options,
        on_commit: impl FnMut(&mut Vec<Commit<T>>) + Send + 'static,
    ) -> Result<(Self, Recovery), OpenError> {
        let Opened { volumes, active, next, recovery } = open::open(dir, fs.as_ref())?;
        for damage in &recovery.damaged {
            tracing::error!(?damage, "unreadable records were skipped");
        }
        let segment_bytes =
            options.segment_bytes.clamp(Options::LEAST_SEGMENT, Options::MOST_SEGMENT);
        let catalog = Arc::new(Catalog::new(dir.to_owned(), fs, segment_bytes, volumes, next));
        let queue = Arc::new(Queue::new(options.max_entry_bytes()));
        let writer = Writer::new(Arc::clone(&catalog), active, next, on_commit);
        let writers_queue = Arc::clone(&queue);
        let thread = thread::Builder::new()
            .name("log-writer".to_owned())
            .spawn(move || writer.run(&writers_queue))
            .map_err(OpenError::io("start the writer of", dir))?;
        let thread = Mutex::new(Some(thread));
        Ok((Self { inner: Arc::new(Inner { catalog, queue, thread }) }, recovery))
    }

    /// Enqueues `entry` and returns at once; `on_commit` tells what became of it.
    ///
    /// # Errors
    /// [`AppendError`] and the entry's tag when it was not enqueued.
    pub fn append(&self, entry: Entry<T>) -> Result<(), (AppendError, T)> {
        if let Some(reason) = self.inner.catalog.failed() {
            return Err((AppendError::Failed(reason.to_owned()), entry.tag));
        }
        self.inner.queue.push(entry)
    }

    /// The next offset: everything below is durable.
    #[must_use]
    pub fn head(&self) -> u64 {
        self.inner.catalog.head()
    }

    /// Reads on: the records at or after `from` that are still kept, as many as it takes for their payloads to reach
    /// `max_bytes`, and at least one. Empty: there are no more. Unreadable ones are skipped.
    ///
    /// # Errors
    /// [`ReadError`] when the system refuses to read.
    pub fn read(&self, from: u64, max_bytes: usize) -> Result<Vec<Record>, ReadError> {
        self.inner.catalog.read(from, max_bytes)
    }

    /// The records with these offsets, which should be sorted. `None`: cleaned away, unreadable, or never there.
    ///
    /// # Errors
    /// [`ReadError`] when the system refuses to read.
    pub fn get(&self, offsets: &[u64]) -> Result<Vec<Option<Record>>, ReadError> {
        self.inner.catalog.get(offsets)
    }

    /// The first kept offset accepted at or after `time_ms`, the head if there is none. If a segment cannot be read, an
    /// earlier offset.
    #[must_use]
    pub fn offset_at(&self, time_ms: u64) -> u64 {
        self.inner.catalog.offset_at(time_ms)
    }

    /// The first kept offset, the head if there is none.
    #[must_use]
    pub fn first(&self) -> u64 {
        self.inner.catalog.first()
    }

    /// The segments, oldest first.
    #[must_use]
    pub fn segments(&self) -> Vec<Segment> {
        let segment = |volume: &Arc<Volume>| {
            let (bytes, sealed, end) = (volume.size(), volume.is_sealed(), volume.end());
            volume.with_contents(|contents| Segment {
                base: volume.head.base,
                end,
                bytes,
                sealed,
                first_time_ms: if contents.records == 0 { 0 } else { contents.first_time },
                last_time_ms: contents.last_time,
                streams: contents
                    .streams
                    .iter()
                    .map(|(stream, (count, bytes))| StreamUse {
                        stream: *stream,
                        count: *count,
                        bytes: *bytes,
                    })
                    .collect(),
            })
        };
        self.inner.catalog.volumes().iter().map(segment).collect()
    }

    /// All damage known: what opening found, and what reading has met since.
    #[must_use]
    pub fn damage(&self) -> Vec<Damage> {
        let damage = |volume: &Arc<Volume>| {
            let file = volume.path();
            volume.with_contents(|contents| open::damages(&file, &contents.holes))
        };
        self.inner.catalog.volumes().iter().flat_map(damage).collect()
    }

    /// Gives space back. The newest `history_bytes` of sealed segments stay whole. Of the older ones, those without a live
    /// record are deleted, and those less than half live are rewritten to what is live; neighbours become one.
    ///
    /// `live` says which offsets of a range are needed. It is called once a segment and may be slow; appends and reads go
    /// on meanwhile. Whatever interrupts this, a crash included, every live record stays.
    ///
    /// # Errors
    /// [`CleanError`]; what was done until then stays done.
    pub fn clean(
        &self,
        history_bytes: u64,
        live: &dyn Fn(Range<u64>) -> RoaringTreemap,
    ) -> Result<Cleaned, CleanError> {
        match self.inner.catalog.failed() {
            Some(reason) => Err(CleanError::Failed(reason.to_owned())),
            None => self.inner.catalog.clean(history_bytes, live),
        }
    }

    /// Why the log takes nothing more, if a write or a sync failed.
    #[must_use]
    pub fn failed(&self) -> Option<String> {
        self.inner.catalog.failed().map(str::to_owned)
    }

    /// Takes no more entries, writes and commits those that were taken, and ends the log's thread. Reading stays possible.
    pub fn close(&self) {
        self.inner.close();
    }
}

impl<T: Send + 'static> Inner<T> {
    fn close(&self) {
        self.queue.close();
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        // `on_commit` may hold the last clone, and the thread cannot wait for itself.
        if let Some(thread) = thread.filter(|handle| handle.thread().id() != thread::current().id())
        {
            // A panic there has been recorded as a failure of the log.
            drop(thread.join());
        }
    }
}

impl<T: Send + 'static> Drop for Inner<T> {
    fn drop(&mut self) {
        self.close();
    }
}

#[cfg(test)]
#[expect(clippy::cast_possible_truncation, reason = "sizes and seeds of tests are small")]
mod tests;
