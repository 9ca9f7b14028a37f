//! The thread that writes: everything that arrived during one sync goes to disk with the next.

use std::io;
use std::iter::Peekable;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread::{self, JoinHandle};
use std::time::Duration;
use std::vec;

use crate::catalog::Catalog;
use crate::contents::Contents;
use crate::error::{AppendError, is_full, is_passing, lacks_descriptor};
use crate::fs::{File, Fs};
use crate::log::{Commit, Entry};
use crate::open::Active;
use crate::queue::{self, Queue};
use crate::record::{self, FIRST, Header, LAST, Place, in_memory};
use crate::segment::{self, FIRST_RECORD, Head};
use crate::volume::{Open, Volume};

/// Zeros are written ahead of the records, because syncing blocks that exist takes half the time of growing a file. The
/// first stretch is small, so that starting is quick and an idle log is small; each further one is twice as long.
const FIRST_AHEAD: u64 = 64 << 10;
/// Longest stretch of zeros written ahead within a commit: about a millisecond of writing.
const MOST_AHEAD: u64 = 1 << 20;
/// A group this large is bound by the disk's throughput: writing its place twice would halve it, so room is only reserved.
const LARGE_GROUP: usize = 256 << 10;
/// Segments at least this large are prepared in the background when the one before is three quarters full.
const SPARE_SEGMENT: u64 = 8 << 20;
/// Such a segment is zeroed in stretches of this size, each synced, with a pause after each: a commit meanwhile waits for
/// half a millisecond of the disk's work at most, and seldom. Eight megabytes take some 80 ms.
const SPARE_STRETCH: u64 = 256 << 10;
/// Four times as long as a stretch takes.
const SPARE_PAUSE: Duration = Duration::from_millis(2);
/// A buffer that grew larger than this is given back after its group.
const KEPT_BUFFER: usize = 1 << 20;

/// What the log's thread works on.
pub(crate) struct Writer<T, F> {
    catalog: Arc<Catalog>,
    on_commit: F,
    active: Option<Active>,
    /// How much is zeroed at the next growth.
    ahead: u64,
    next: u64,
    spare: Option<Spare>,
    buffer: Vec<u8>,
    records: Vec<(u64, Header)>,
    commits: Vec<Commit<T>>,
}

type Rest<T> = Peekable<vec::IntoIter<Entry<T>>>;

impl<T, F: FnMut(&mut Vec<Commit<T>>)> Writer<T, F> {
    pub(crate) fn new(
        catalog: Arc<Catalog>,
        active: Option<Active>,
        next: u64,
        on_commit: F,
    ) -> Self {
        Self {
            catalog,
            on_commit,
            active,
            ahead: FIRST_AHEAD,
            next,
            spare: None,
            buffer: Vec::new(),
            records: Vec::new(),
            commits: Vec::new(),
        }
    }

    /// Works until the queue is closed and drained.
    pub(crate) fn run(mut self, queue: &Queue<T>) {
        let _last_words = LastWords { catalog: &self.catalog.clone(), queue };
        if self.active.is_none() {
            // So that the first append finds its segment. What passes may have passed by then.
            match self.create(self.next) {
                Ok(active) => self.active = Some(active),
                Err(trouble) => drop(self.judge(trouble)),
            }
        }
        let mut entries = Vec::new();
        while queue.take(&mut entries) {
            let mut rest = std::mem::take(&mut entries).into_iter().peekable();
            while rest.peek().is_some() {
                self.commit_group(&mut rest);
            }
        }
        self.finish();
    }

    /// Writes as much of `rest` as goes into one segment, and says what became of it.
    fn commit_group(&mut self, rest: &mut Rest<T>) {
        let size = rest.peek().map_or(0, queue::size);
        match self.make_room(size as u64) {
            Ok(()) => self.write_group(rest),
            Err(error) => {
                let refused = |entry: Entry<T>| Commit {
                    count: count(&entry),
                    tag: entry.tag,
                    first_offset: self.next,
                    result: Err(error.clone()),
                };
                self.commits.extend(rest.map(refused));
            }
        }
        (self.on_commit)(&mut self.commits);
        self.commits.clear();
    }

    fn write_group(&mut self, rest: &mut Rest<T>) {
        let Some(active) = &mut self.active else { return };
        self.buffer.clear();
        self.records.clear();
        let start = self.next;
        let mut next = start;
        while let Some(entry) = rest.next_if(|entry| {
            let size = self.buffer.len().saturating_add(queue::size(entry)) as u64;
            self.buffer.is_empty()
                || active.position.saturating_add(size) <= self.catalog.segment_bytes
        }) {
            let count = count(&entry);
            let last = entry.payloads.len().saturating_sub(1);
            let first_offset = next;
            for (index, payload) in entry.payloads.iter().enumerate() {
                let position = active.position.saturating_add(self.buffer.len() as u64);
                let header = Header {
                    length: u32::try_from(payload.len()).expect("bounded by append"),
                    flags: if index == 0 { FIRST } else { 0 }
                        | if index == last { LAST } else { 0 },
                    offset: next,
                    time_ms: entry.time_ms,
                    stream: entry.stream,
                    group: u32::try_from(next.saturating_sub(start))
                        .expect("a group is bounded by the queue"),
                };
                record::encode(
                    &mut self.buffer,
                    Place { tag: active.volume.head.tag, position },
                    header,
                    payload,
                );
                self.records.push((position, header));
                next = next.saturating_add(1);
            }
            self.commits.push(Commit { tag: entry.tag, first_offset, count, result: Ok(()) });
        }
        let written = persist(active, &self.buffer, &mut self.ahead, self.catalog.segment_bytes);
        match written {
            Ok(()) => {
                active.volume.extend(&self.records);
                self.next = next;
                self.catalog.set_head(next);
                self.prepare_spare();
            }
            Err(error) => {
                let error = self.judge(error);
                for commit in &mut self.commits {
                    commit.result = Err(error.clone());
                }
            }
        }
        if self.buffer.capacity() > KEPT_BUFFER {
            self.buffer = Vec::new();
            self.records = Vec::new();
        }
    }

    /// Sees to it that the active segment takes `size` bytes more.
    fn make_room(&mut self, size: u64) -> Result<(), AppendError> {
        if let Some(reason) = self.catalog.failed() {
            return Err(AppendError::Failed(reason.to_owned()));
        }
        if let Some(active) = &mut self.active {
            let fits = active.position.saturating_add(size) <= self.catalog.segment_bytes;
            // A segment holds at least one entry, however large.
            if fits || active.position == FIRST_RECORD {
                return Ok(());
            }
            // The next segment may need the room behind the records.
            let cut = active.file.set_len(active.position);
            active.zeroed = active.position;
            cut.map_err(|error| self.judge(Trouble::passing(error)))?;
        }
        // From here on the full segment takes no more, even if there is no next one for now: that one is called after its
        // first offset, and its name may be on disk already.
        if let Some(full) = self.active.take() {
            full.volume.seal().map_err(|error| self.judge(Trouble::Final(error)))?;
            full.volume.write_index(self.catalog.fs.as_ref());
            self.catalog.shelf.keep(&full.volume);
        }
        self.active = Some(self.create(self.next).map_err(|error| self.judge(error))?);
        Ok(())
    }

    /// Makes a segment. Its header and its name are durable before it takes records. After a failure that passes it is made
    /// anew, in place of what was left.
    fn create(&mut self, base: u64) -> Result<Active, Trouble> {
        let fs = Arc::clone(&self.catalog.fs);
        let head = Head::new(base);
        let spare = self.spare.take_if(|spare| spare.thread.is_finished()).and_then(Spare::take);
        let (file, tmp, zeroed) = match spare {
            Some(file) => (file, spare_path(&self.catalog), self.catalog.segment_bytes),
            None => {
                let tmp = self.catalog.dir.join("new.tmp");
                let file = fs.create(&tmp).map_err(Trouble::passing)?;
                (file, tmp, FIRST_AHEAD.min(self.catalog.segment_bytes).max(FIRST_RECORD))
            }
        };
        let write = || {
            let mut bytes = head.encode();
            if file.size()? < zeroed {
                bytes.resize(in_memory(zeroed), 0);
            }
            file.write_at(&bytes, 0)?;
            file.sync_all()?;
            fs.rename(&tmp, &segment::path(&self.catalog.dir, base))
        };
        if let Err(error) = write() {
            // Nothing refers to the file yet; an open removes it if this does not.
            drop(fs.remove(&tmp));
            return Err(Trouble::passing(error));
        }
        fs.sync_dir(&self.catalog.dir).map_err(Trouble::of_sync_dir)?;
        self.ahead = FIRST_AHEAD;
        let open = Open { file: Arc::clone(&file), marks: Vec::new() };
        let contents = Contents::new(base, FIRST_RECORD);
        let volume = Arc::new(Volume::active(&self.catalog.dir, head, contents, open));
        self.catalog.push(Arc::clone(&volume));
        Ok(Active { volume, file, position: FIRST_RECORD, zeroed })
    }

    fn judge(&self, trouble: Trouble) -> AppendError {
        match trouble {
            Trouble::Passing => AppendError::Full,
            Trouble::Final(error) => {
                self.catalog.fail(error.to_string());
                AppendError::Failed(self.catalog.failed().unwrap_or_default().to_owned())
            }
        }
    }

    fn prepare_spare(&mut self) {
        let limit = self.catalog.segment_bytes;
        let position = self.active.as_ref().map_or(0, |active| active.position);
        if self.spare.is_none()
            && limit >= SPARE_SEGMENT
            && position > limit.saturating_sub(limit / 4)
        {
            self.spare = Spare::start(&self.catalog);
        }
    }

    /// Leaves the directory as small as it can be.
    fn finish(mut self) {
        if let Some(spare) = self.spare.take() {
            drop(spare.take());
            drop(self.catalog.fs.remove(&spare_path(&self.catalog)));
        }
        if let Some(active) = self.active.take().filter(|_| self.catalog.failed().is_none())
            && let Err(error) = active.file.set_len(active.position)
        {
            tracing::debug!(%error, "cannot give back unused room");
        }
    }
}

fn count<T>(entry: &Entry<T>) -> u32 {
    u32::try_from(entry.payloads.len()).expect("an entry is bounded by the queue")
}

/// Why a write did not happen.
enum Trouble {
    /// No room; nothing of it is on disk, and the same place takes the next try.
    Passing,
    /// What is on disk is not known.
    Final(io::Error),
}

impl Trouble {
    /// Of a step that left nothing behind.
    fn passing(error: io::Error) -> Self {
        if is_passing(&error) { Self::Passing } else { Self::Final(error) }
    }

    /// Of a directory's sync, which may lack the descriptor it begins with.
    fn of_sync_dir(error: io::Error) -> Self {
        if lacks_descriptor(&error) { Self::Passing } else { Self::Final(error) }
    }
}

/// Writes `bytes` behind the last record and syncs.
fn persist(active: &mut Active, bytes: &[u8], ahead: &mut u64, limit: u64) -> Result<(), Trouble> {
    let end = active.position.saturating_add(bytes.len() as u64);
    if end > active.zeroed {
        grow(active, end, bytes.len(), ahead, limit).map_err(Trouble::passing)?;
    }
    if let Err(error) = active.file.write_at(bytes, active.position) {
        if !is_full(&error) {
            return Err(Trouble::Final(error));
        }
        // A part may be there. It must not be found behind a later, shorter group.
        active.file.set_len(active.position).map_err(Trouble::Final)?;
        active.zeroed = active.position;
        return Err(Trouble::Passing);
    }
    active.file.sync_data().map_err(Trouble::Final)?;
    active.position = end;
    Ok(())
}

/// Makes room up to `end`, with zeros for small groups, so that a full disk shows before a record is written.
fn grow(
    active: &mut Active,
    end: u64,
    group: usize,
    ahead: &mut u64,
    limit: u64,
) -> io::Result<()> {
    if group < LARGE_GROUP {
        let target = end.saturating_add(*ahead).min(limit).max(end);
        match write_zeros(active.file.as_ref(), active.zeroed, target) {
            Ok(()) => {
                active.zeroed = target;
                *ahead = ahead.saturating_mul(2).min(MOST_AHEAD);
                return Ok(());
            }
            // There may still be room for the group alone.
            Err(error) if is_full(&error) => {}
            Err(error) => return Err(error),
        }
    }
    active.file.allocate(active.zeroed, end.saturating_sub(active.zeroed))?;
    active.zeroed = end;
    Ok(())
}

fn write_zeros(file: &dyn File, from: u64, to: u64) -> io::Result<()> {
    let zeros = vec![0; in_memory(to.saturating_sub(from).min(MOST_AHEAD))];
    let mut at = from;
    while at < to {
        let size = in_memory(to.saturating_sub(at)).min(zeros.len());
        file.write_at(zeros.get(..size).unwrap_or_default(), at)?;
        at = at.saturating_add(size as u64);
    }
    Ok(())
}

/// The next segment, being filled with zeros in the background.
struct Spare {
    thread: JoinHandle<()>,
    file: Arc<OnceLock<Arc<dyn File>>>,
    stop: Arc<AtomicBool>,
}

impl Spare {
    /// `None` if no thread can be had: segments are then made when they are needed.
    fn start(catalog: &Catalog) -> Option<Self> {
        let (file, stop) = (Arc::new(OnceLock::new()), Arc::new(AtomicBool::new(false)));
        let (done, stopped) = (Arc::clone(&file), Arc::clone(&stop));
        let (fs, path, size) =
            (Arc::clone(&catalog.fs), spare_path(catalog), catalog.segment_bytes);
        let work = move || match prepare(fs.as_ref(), &path, size, &stopped) {
            Ok(file) => drop(done.set(file)),
            Err(error) => {
                tracing::debug!(%error, "cannot prepare the next segment");
                drop(fs.remove(&path));
            }
        };
        let thread = thread::Builder::new().name("log-spare".to_owned()).spawn(work).ok()?;
        Some(Self { thread, file, stop })
    }

    /// Ends the work; the file if it was done.
    fn take(self) -> Option<Arc<dyn File>> {
        self.stop.store(true, Ordering::Relaxed);
        // A panic there leaves no file, which is all there is to know.
        drop(self.thread.join());
        self.file.get().cloned()
    }
}

fn spare_path(catalog: &Catalog) -> PathBuf {
    catalog.dir.join("spare.tmp")
}

fn prepare(
    fs: &dyn Fs,
    path: &std::path::Path,
    size: u64,
    stop: &AtomicBool,
) -> io::Result<Arc<dyn File>> {
    let file = fs.create(path)?;
    let mut at = 0_u64;
    while at < size {
        if stop.load(Ordering::Relaxed) {
            return Err(io::ErrorKind::Interrupted.into());
        }
        let to = at.saturating_add(SPARE_STRETCH).min(size);
        write_zeros(file.as_ref(), at, to)?;
        file.sync_data()?;
        at = to;
        thread::sleep(SPARE_PAUSE);
    }
    file.sync_all()?;
    Ok(file)
}

/// Says so if the thread panics: appends must not wait for a writer that is gone.
struct LastWords<'a, T> {
    catalog: &'a Catalog,
    queue: &'a Queue<T>,
}

impl<T> Drop for LastWords<'_, T> {
    fn drop(&mut self) {
        if thread::panicking() {
            self.catalog.fail("its thread panicked".to_owned());
        }
        self.queue.close();
    }
}
