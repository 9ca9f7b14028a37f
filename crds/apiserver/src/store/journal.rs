//! The journal: the writes that the database does not have yet, one batch after the other. What it is for and how the two
//! files belong together is told [where they are used](super::disk).
//!
//! The file is written with zeros when it is made, and its length never changes: a sync of a batch then writes the batch alone,
//! no block map and no length. Its first block says whose it is:
//!
//! | bytes | of the first block |
//! |---|---|
//! | 0..8 | [`MAGIC`] |
//! | 8..16 | format: 1 |
//! | 16..24 | the number that the database calls its journal by |
//! | 24..32 | length of the file |
//! | 32..36 | CRC-32C of the bytes before it |
//!
//! Batches follow from the second block on. To start over is to draw a new [`Epoch`], which the database keeps, and to write
//! from the second block on again: what lies there of older epochs is not read.
//!
//! One batch at a time is written and synced. So whatever follows a whole batch proves that it was acknowledged, and of what
//! does not check the last alone can be what a crash tore.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use redb::StorageBackend;

use super::OpenError;
use super::disk::CommitError;

mod record;

pub(super) use self::record::{Entry, Epoch};

use self::record::{BLOCK, Header, Rest};

const MAGIC: [u8; 8] = [0xff, b'w', b'e', b'f', b't', b'j', 0, 0xfe];
const FORMAT: u64 = 1;
/// Where the first batch begins.
const START: u64 = BLOCK as u64;
/// Bytes of zeros that are written at once.
const ZEROS: usize = 64 << 10;
/// Bytes of the buffer that are kept between batches: that of some hundred writes at once.
const KEPT_BUFFER: usize = 256 << 10;

/// An open journal.
pub(super) struct Journal {
    path: PathBuf,
    medium: Box<dyn StorageBackend>,
    epoch: Epoch,
    /// Where the next batch goes.
    position: u64,
    /// Length of the file.
    size: u64,
    /// The batch that is made.
    buffer: Vec<u8>,
}

/// How the database and its journal belong together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Link {
    /// What the journal is called by.
    pub(super) id: u64,
    /// What it holds beyond the database is of this epoch.
    pub(super) epoch: Epoch,
    /// Whether it may hold something: from opening until a clean close.
    pub(super) in_use: bool,
}

/// Whether a batch has a place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fit {
    /// Right now.
    Now,
    /// In a journal that starts over.
    Later,
    /// In none of this size.
    Never,
}

/// What the first block says.
#[derive(Clone, Copy, Debug)]
enum Head {
    /// Nothing: the file is new, or a crash came while it was made.
    Blank,
    Of {
        id: u64,
        size: u64,
    },
}

impl Journal {
    /// The journal of `link` in `medium`. One that is not in use is made anew if need be, with `size` bytes.
    ///
    /// Nothing that may still be needed is overwritten: a journal of another database, or one newer than its own, is refused.
    pub(super) fn open(
        path: &Path,
        medium: Box<dyn StorageBackend>,
        link: Link,
        size: u64,
    ) -> Result<Self, OpenError> {
        let length = medium.len().map_err(|error| OpenError::io("read", path, error))?;
        let mut journal = Self {
            path: path.to_owned(),
            medium,
            epoch: link.epoch,
            position: START,
            size: length,
            buffer: Vec::new(),
        };
        let (usable, whose, found) = match journal.head(link.in_use)? {
            Head::Blank => (false, true, 0),
            Head::Of { id, size } => (length >= size, id == link.id, size),
        };
        if link.in_use {
            if !whose {
                return Err(journal.unfit("it is another store's"));
            }
            if !usable {
                return Err(journal.unfit("its start or its end is missing"));
            }
            journal.size = found;
            return Ok(journal);
        }
        if let Some((first, _)) = journal.whole(START)? {
            if !whose {
                return Err(journal.unfit("it is another store's and holds writes of that"));
            }
            if first.epoch.number > link.epoch.number {
                return Err(journal.unfit("it holds writes that came after what the store holds"));
            }
        }
        journal.size = size;
        if !(usable && whose && found == size) {
            journal.make(link.id).map_err(|error| OpenError::io("create", path, error))?;
        }
        Ok(journal)
    }

    /// Reads what was written after `version`, batch by batch, in order of version.
    ///
    /// A batch at the end that does not check was being written when the program or the power went: nobody was told that it
    /// is kept. One before the end is damage.
    pub(super) fn replay(
        &self,
        version: u64,
        mut visit: impl FnMut(&Entry<'_>),
    ) -> Result<(), OpenError> {
        let first = self.whole(START)?;
        if first.is_some_and(|(first, _)| first.epoch.number > self.epoch.number) {
            return Err(self.unfit("it holds writes that came after what the store holds"));
        }
        let (mut position, mut next) = (START, None);
        while let Some((header, batch)) = self.batch(position)? {
            let in_order =
                next.map_or(header.first > version, |next: Option<u64>| next == Some(header.first));
            let entries = header.changes(&batch).and_then(|changes| header.decode(changes));
            let (true, Some(entries)) = (in_order, entries) else {
                return Err(self.unfit("its writes contradict each other"));
            };
            entries.iter().for_each(&mut visit);
            next = Some(header.next());
            position = position.saturating_add(batch.len() as u64);
        }
        self.check_tail(position)
    }

    /// Refuses a journal that has good batches after `end`: then what is there was good once as well.
    fn check_tail(&self, end: u64) -> Result<(), OpenError> {
        let mut position = end.saturating_add(START);
        while position < self.size {
            if self.batch(position)?.is_some() {
                return Err(self.unfit(&format!("what lies at byte {end} was overwritten")));
            }
            position = position.saturating_add(START);
        }
        if self.header(end)?.is_some_and(|header| header.epoch == self.epoch) {
            tracing::warn!(path = %self.path.display(), "the last write was cut off; nobody was told that it is kept");
        }
        Ok(())
    }

    /// The batch of this epoch at `position`, with all its bytes; none if there is none that checks.
    fn batch(&self, position: u64) -> Result<Option<(Header, Vec<u8>)>, OpenError> {
        let of_this = self.header(position)?.is_some_and(|header| header.epoch == self.epoch);
        if of_this { self.whole(position) } else { Ok(None) }
    }

    /// The same of whatever epoch.
    fn whole(&self, position: u64) -> Result<Option<(Header, Vec<u8>)>, OpenError> {
        let Some(header) = self.header(position)? else { return Ok(None) };
        let Some(size) = header.size() else { return Ok(None) };
        if size as u64 > self.size.saturating_sub(position) {
            return Ok(None);
        }
        let mut bytes = vec![0; size];
        self.read(position, &mut bytes)?;
        let checks = header.changes(&bytes).is_some();
        Ok(checks.then_some((header, bytes)))
    }

    /// What the batch at `position` says of itself, of whatever epoch it is.
    fn header(&self, position: u64) -> Result<Option<Header>, OpenError> {
        let mut bytes = [0; record::HEADER];
        if position.saturating_add(START) > self.size {
            return Ok(None);
        }
        self.read(position, &mut bytes)?;
        Ok(Header::parse(&bytes))
    }

    fn read(&self, position: u64, bytes: &mut [u8]) -> Result<(), OpenError> {
        self.medium.read(position, bytes).map_err(|error| OpenError::io("read", &self.path, error))
    }

    fn head(&self, in_use: bool) -> Result<Head, OpenError> {
        let length = usize::try_from(self.size).unwrap_or(BLOCK).min(BLOCK);
        let mut block = vec![0; length];
        self.read(0, &mut block)?;
        if block.iter().all(|byte| *byte == 0) {
            return Ok(Head::Blank);
        }
        match parse(&block) {
            Some((FORMAT, id, size)) => Ok(Head::Of { id, size }),
            Some((found, ..)) if found > FORMAT => {
                Err(OpenError::Newer { path: self.path.clone(), found, supported: FORMAT })
            }
            _ if in_use => Err(self.unfit("its start was overwritten")),
            // A crash came while it was made.
            _ if block.iter().zip(MAGIC).all(|(byte, magic)| *byte == magic || *byte == 0) => {
                Ok(Head::Blank)
            }
            _ => Err(OpenError::Foreign {
                path: self.path.clone(),
                what: "it is no journal".to_owned(),
            }),
        }
    }

    /// Writes a file without batches. A crash leaves one without a head, or a part of it: then it is made again.
    fn make(&self, id: u64) -> io::Result<()> {
        let zeros = vec![0; ZEROS];
        let mut position = START;
        if self.medium.len()? != self.size {
            self.medium.set_len(self.size)?;
        }
        while position < self.size {
            let length = self.size.saturating_sub(position).min(ZEROS as u64);
            let length = usize::try_from(length).unwrap_or(ZEROS);
            self.medium.write(position, zeros.get(..length).unwrap_or(&zeros))?;
            position = position.saturating_add(length as u64);
        }
        let mut head = Vec::with_capacity(BLOCK);
        head.extend_from_slice(&MAGIC);
        head.extend_from_slice(&FORMAT.to_le_bytes());
        head.extend_from_slice(&id.to_le_bytes());
        head.extend_from_slice(&self.size.to_le_bytes());
        head.extend_from_slice(&crc32c::crc32c(&head).to_le_bytes());
        head.resize(BLOCK, 0);
        self.medium.write(0, &head)?;
        self.medium.sync_data()
    }

    /// Makes the batch that [`Self::append`] writes, and answers whether it has a place.
    pub(super) fn prepare<'a>(&mut self, entries: impl Iterator<Item = Entry<'a>>) -> Fit {
        if record::encode(&mut self.buffer, self.epoch, entries).is_none() {
            return Fit::Never;
        }
        let length = self.buffer.len() as u64;
        if length <= self.size.saturating_sub(self.position) {
            Fit::Now
        } else if length <= self.size.saturating_sub(START) {
            Fit::Later
        } else {
            Fit::Never
        }
    }

    /// Writes the batch that was prepared and [fits now](Fit::Now). `Ok` means that it is on disk; an error is final.
    pub(super) fn append(&mut self) -> io::Result<()> {
        self.medium.write(self.position, &self.buffer)?;
        self.medium.sync_data()?;
        self.position = self.position.saturating_add(self.buffer.len() as u64);
        self.release();
        Ok(())
    }

    /// Whether a start over is due: less than an eighth is left.
    pub(super) fn is_nearly_full(&self) -> bool {
        self.size.saturating_sub(self.position) < self.size / 8
    }

    pub(super) fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// Starts over with an epoch that the database already has on disk, which makes all that was written before void.
    pub(super) fn restart(&mut self, epoch: Epoch) {
        debug_assert!(epoch.number > self.epoch.number, "epochs only grow");
        self.epoch = epoch;
        self.position = START;
        self.release();
    }

    /// Removes the first batch of a journal that is not in use any more, so that it is seen to hold nothing. Without it only the
    /// database can tell, which somebody may move away. Nothing depends on whether it gets to the disk.
    pub(super) fn blank(&self) -> io::Result<()> {
        self.medium.write(START, &[0; BLOCK])
    }

    fn release(&mut self) {
        self.buffer.clear();
        self.buffer.shrink_to(KEPT_BUFFER);
    }

    /// What a write that the disk refused is told as.
    pub(super) fn failed(&self, error: &io::Error) -> CommitError {
        CommitError::Failed(format!("cannot write {}: {error}", self.path.display()))
    }

    fn unfit(&self, what: &str) -> OpenError {
        OpenError::Journal { path: self.path.clone(), what: what.to_owned() }
    }
}

impl fmt::Debug for Journal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Journal")
            .field("path", &self.path)
            .field("epoch", &self.epoch.number)
            .field("position", &self.position)
            .finish_non_exhaustive()
    }
}

/// Format, name and size, as the first block says them.
fn parse(block: &[u8]) -> Option<(u64, u64, u64)> {
    let mut rest = Rest(block);
    if rest.bytes(MAGIC.len())? != MAGIC {
        return None;
    }
    let said = (rest.u64()?, rest.u64()?, rest.u64()?);
    let checked = block.len().checked_sub(rest.0.len())?;
    (rest.u32()? == crc32c::crc32c(block.get(..checked)?)).then_some(said)
}
