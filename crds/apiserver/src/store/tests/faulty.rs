//! Disks that lose what was not synced, tear writes, fail and hang, as a test asks.

use std::io;
use std::sync::Arc;

use fastrand::Rng;
use parking_lot::{Condvar, Mutex};
use redb::StorageBackend;

/// What a disk writes whole or not at all.
const SECTOR: usize = 512;

/// A disk that a test keeps a handle of.
#[derive(Clone, Debug)]
pub(super) struct Faulty(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    medium: Mutex<Medium>,
    changed: Condvar,
}

#[derive(Debug)]
struct Medium {
    /// What a crash leaves for sure.
    synced: Vec<u8>,
    /// What reads see.
    current: Vec<u8>,
    /// What was done since the last sync, in order.
    unsynced: Vec<Change>,
    /// How many writes and syncs still work; then every one fails.
    left: Option<usize>,
    syncs: usize,
    /// Whether syncs wait, and how many do.
    hangs: bool,
    hanging: usize,
    random: Rng,
}

#[derive(Debug)]
enum Change {
    Length(usize),
    Write(usize, Vec<u8>),
}

impl Faulty {
    pub(super) fn new(image: Vec<u8>, seed: u64) -> Self {
        let medium = Medium {
            synced: image.clone(),
            current: image,
            unsynced: Vec::new(),
            left: None,
            syncs: 0,
            hangs: false,
            hanging: 0,
            random: Rng::with_seed(seed),
        };
        Self(Arc::new(Inner { medium: Mutex::new(medium), changed: Condvar::new() }))
    }

    /// Lets so many more writes and syncs work; the next one and all after it fail.
    pub(super) fn fail_after(&self, left: usize) {
        self.0.medium.lock().left = Some(left);
    }

    pub(super) fn syncs(&self) -> usize {
        self.0.medium.lock().syncs
    }

    /// Whether syncs wait from now on.
    pub(super) fn hang(&self, hangs: bool) {
        self.0.medium.lock().hangs = hangs;
        self.0.changed.notify_all();
    }

    pub(super) fn hanging(&self) -> usize {
        self.0.medium.lock().hanging
    }

    /// What is on the medium after the power went: what was synced, and of what was not any sectors in any mixture.
    pub(super) fn crash(&self) -> Vec<u8> {
        let mut medium = self.0.medium.lock();
        let Medium { synced, unsynced, random, .. } = &mut *medium;
        let mut image = synced.clone();
        // Sometimes nothing got there, sometimes all.
        let share = [0.0, 0.1, 0.5, 0.9, 1.0][random.usize(..5)];
        for change in unsynced {
            match change {
                Change::Length(length) => {
                    if random.f64() < share {
                        image.resize(*length, 0);
                    }
                }
                Change::Write(offset, bytes) => {
                    // Sectors lie at multiples of their size on the disk, not in the write.
                    let mut done = 0;
                    while done < bytes.len() {
                        let start = *offset + done;
                        let length = (SECTOR - start % SECTOR).min(bytes.len() - done);
                        if random.f64() < share {
                            put(&mut image, start, &bytes[done..done + length]);
                        }
                        done += length;
                    }
                }
            }
        }
        image
    }
}

fn put(image: &mut Vec<u8>, offset: usize, bytes: &[u8]) {
    let end = offset + bytes.len();
    if image.len() < end {
        image.resize(end, 0);
    }
    image[offset..end].copy_from_slice(bytes);
}

impl Medium {
    /// Counts a write or a sync, and fails those after the last that works.
    fn step(&mut self) -> io::Result<()> {
        match &mut self.left {
            Some(0) => Err(io::Error::other("the disk is gone")),
            Some(left) => {
                *left -= 1;
                Ok(())
            }
            None => Ok(()),
        }
    }
}

impl StorageBackend for Faulty {
    fn len(&self) -> io::Result<u64> {
        Ok(u64::try_from(self.0.medium.lock().current.len()).unwrap())
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let offset = usize::try_from(offset).unwrap();
        let medium = self.0.medium.lock();
        let bytes = medium.current.get(offset..offset + out.len());
        out.copy_from_slice(bytes.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let mut medium = self.0.medium.lock();
        medium.step()?;
        let len = usize::try_from(len).unwrap();
        medium.current.resize(len, 0);
        medium.unsynced.push(Change::Length(len));
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        let mut medium = self.0.medium.lock();
        medium.hanging += 1;
        self.0.changed.wait_while(&mut medium, |medium| medium.hangs);
        medium.hanging -= 1;
        medium.step()?;
        medium.syncs += 1;
        medium.synced = medium.current.clone();
        medium.unsynced.clear();
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let offset = usize::try_from(offset).unwrap();
        let mut medium = self.0.medium.lock();
        let failed = medium.step();
        // The write that fails may have got anywhere.
        let length = if failed.is_ok() { data.len() } else { medium.random.usize(..=data.len()) };
        let done = &data[..length];
        put(&mut medium.current, offset, done);
        medium.unsynced.push(Change::Write(offset, done.to_vec()));
        failed
    }
}
