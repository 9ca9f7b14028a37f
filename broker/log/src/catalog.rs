//! What the writer, the readers and the cleaner of an open log share.

use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, RwLock};

use crate::fs::Fs;
use crate::volume::{Shelf, Volume};

/// A list of segments in order. Holding one keeps its segments readable, whatever cleaning does meanwhile.
pub(crate) type Volumes = Arc<Vec<Arc<Volume>>>;

#[derive(Debug)]
pub(crate) struct Catalog {
    pub(crate) dir: PathBuf,
    pub(crate) fs: Arc<dyn Fs>,
    pub(crate) segment_bytes: u64,
    pub(crate) shelf: Shelf,
    /// One cleaning at a time.
    pub(crate) cleaning: Mutex<()>,
    volumes: RwLock<Volumes>,
    head: AtomicU64,
    failed: OnceLock<String>,
}

impl Catalog {
    pub(crate) fn new(
        dir: PathBuf,
        fs: Arc<dyn Fs>,
        segment_bytes: u64,
        volumes: Vec<Arc<Volume>>,
        head: u64,
    ) -> Self {
        Self {
            dir,
            fs,
            segment_bytes,
            shelf: Shelf::default(),
            cleaning: Mutex::new(()),
            volumes: RwLock::new(Arc::new(volumes)),
            head: AtomicU64::new(head),
            failed: OnceLock::new(),
        }
    }

    pub(crate) fn volumes(&self) -> Volumes {
        Arc::clone(&self.volumes.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Adds the newest segment.
    pub(crate) fn push(&self, volume: Arc<Volume>) {
        let mut volumes = self.volumes.write().unwrap_or_else(PoisonError::into_inner);
        Arc::make_mut(&mut *volumes).push(volume);
    }

    /// Puts `new` in the place of `old`, which stand side by side, if `on_disk` did so in the directory. Meanwhile nobody
    /// gets the list: a reader who finds another file than the list says can count on a newer list.
    pub(crate) fn replace(
        &self,
        old: &[Arc<Volume>],
        new: Option<Arc<Volume>>,
        on_disk: impl FnOnce() -> io::Result<()>,
    ) -> io::Result<()> {
        let is_old = |volume: &Arc<Volume>| old.iter().any(|old| Arc::ptr_eq(old, volume));
        let mut volumes = self.volumes.write().unwrap_or_else(PoisonError::into_inner);
        on_disk()?;
        let list = Arc::make_mut(&mut *volumes);
        let place = list.iter().position(is_old);
        list.retain(|volume| !is_old(volume));
        if let (Some(place), Some(new)) = (place, new) {
            list.insert(place, new);
        }
        drop(volumes);
        self.shelf.forget(old);
        Ok(())
    }

    /// The next durable offset.
    pub(crate) fn head(&self) -> u64 {
        self.head.load(Ordering::Acquire)
    }

    pub(crate) fn set_head(&self, head: u64) {
        self.head.store(head, Ordering::Release);
    }

    /// Remembers the first reason; there is no way back.
    pub(crate) fn fail(&self, reason: String) {
        tracing::error!(reason, "the log failed and takes nothing more until it is opened anew");
        self.failed.get_or_init(|| reason);
    }

    pub(crate) fn failed(&self) -> Option<&str> {
        self.failed.get().map(String::as_str)
    }
}
