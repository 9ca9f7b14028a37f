//! Disks that lose what was not synced, tear writes, fail and hang, as a test asks. Each holds the two files of a store.

use std::io;
use std::sync::Arc;

use fastrand::Rng;
use parking_lot::{Condvar, Mutex};
use redb::StorageBackend;

/// What a disk writes whole or not at all.
const SECTOR: usize = 512;

/// The bytes of the database and of the journal.
pub(super) type Image = [Vec<u8>; 2];

/// Where they are in an image.
pub(super) const DATABASE: usize = 0;
pub(super) const JOURNAL: usize = 1;

/// A disk that a test keeps a handle of.
#[derive(Clone, Debug)]
pub(super) struct Faulty(Arc<Inner>);

/// A file on it.
#[derive(Clone, Debug)]
pub(super) struct Part {
    disk: Faulty,
    at: usize,
}

#[derive(Debug)]
struct Inner {
    medium: Mutex<Medium>,
    changed: Condvar,
}

#[derive(Debug)]
struct Content {
    /// What a crash leaves for sure.
    synced: Vec<u8>,
    /// What reads see.
    current: Vec<u8>,
    /// What was done since the last sync, in order.
    unsynced: Vec<Change>,
    writes: usize,
    syncs: usize,
}

#[derive(Debug)]
struct Medium {
    files: [Content; 2],
    /// How many writes and syncs still work; then every one fails.
    left: Option<usize>,
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
    pub(super) fn new(image: Image, seed: u64) -> Self {
        let files = image.map(|bytes| Content {
            synced: bytes.clone(),
            current: bytes,
            unsynced: Vec::new(),
            writes: 0,
            syncs: 0,
        });
        let random = Rng::with_seed(seed);
        let medium = Medium { files, left: None, hangs: false, hanging: 0, random };
        Self(Arc::new(Inner { medium: Mutex::new(medium), changed: Condvar::new() }))
    }

    /// The database and the journal.
    pub(super) fn parts(&self) -> (Part, Part) {
        let part = |at| Part { disk: self.clone(), at };
        (part(DATABASE), part(JOURNAL))
    }

    /// Lets so many more writes and syncs work; the next one and all after it fail.
    pub(super) fn fail_after(&self, left: usize) {
        self.0.medium.lock().left = Some(left);
    }

    /// Syncs of both files.
    pub(super) fn syncs(&self) -> usize {
        self.0.medium.lock().files.iter().map(|file| file.syncs).sum()
    }

    /// Writes and syncs of one of them.
    pub(super) fn work(&self, at: usize) -> (usize, usize) {
        let file = &self.0.medium.lock().files[at];
        (file.writes, file.syncs)
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
    pub(super) fn crash(&self) -> Image {
        let mut medium = self.0.medium.lock();
        let Medium { files, random, .. } = &mut *medium;
        files.each_ref().map(|file| file.crash(random))
    }

    /// What is left after the program was killed: everything that it wrote.
    pub(super) fn kill(&self) -> Image {
        self.0.medium.lock().files.each_ref().map(|file| file.current.clone())
    }
}

impl Content {
    fn crash(&self, random: &mut Rng) -> Vec<u8> {
        let mut image = self.synced.clone();
        // Sometimes nothing got there, sometimes all.
        let share = [0.0, 0.1, 0.5, 0.9, 1.0][random.usize(..5)];
        for change in &self.unsynced {
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

impl StorageBackend for Part {
    fn len(&self) -> io::Result<u64> {
        let medium = self.disk.0.medium.lock();
        Ok(u64::try_from(medium.files[self.at].current.len()).unwrap())
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let offset = usize::try_from(offset).unwrap();
        let medium = self.disk.0.medium.lock();
        let bytes = medium.files[self.at].current.get(offset..offset + out.len());
        out.copy_from_slice(bytes.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let mut medium = self.disk.0.medium.lock();
        medium.step()?;
        let len = usize::try_from(len).unwrap();
        let file = &mut medium.files[self.at];
        file.current.resize(len, 0);
        file.unsynced.push(Change::Length(len));
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        let mut medium = self.disk.0.medium.lock();
        medium.hanging += 1;
        self.disk.0.changed.wait_while(&mut medium, |medium| medium.hangs);
        medium.hanging -= 1;
        medium.step()?;
        let file = &mut medium.files[self.at];
        file.syncs += 1;
        file.synced = file.current.clone();
        file.unsynced.clear();
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let offset = usize::try_from(offset).unwrap();
        let mut medium = self.disk.0.medium.lock();
        let failed = medium.step();
        // The write that fails may have got anywhere.
        let length = if failed.is_ok() { data.len() } else { medium.random.usize(..=data.len()) };
        let done = &data[..length];
        let file = &mut medium.files[self.at];
        file.writes += 1;
        put(&mut file.current, offset, done);
        file.unsynced.push(Change::Write(offset, done.to_vec()));
        failed
    }
}
