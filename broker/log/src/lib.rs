//! An embedded append-only log of bytes, and a journal of small records beside it.
//!
//! A [`Log`] takes entries from any number of threads, gives their records offsets, and says of each entry when it is
//! durable; one sync commits everything that arrived during the sync before. A [`Journal`] keeps a state that changes in
//! small steps. Both live in a [`DataDir`]; [`fsck()`] verifies one offline.
//!
//! It knows no events, only bytes with a stream number and a time. It has no async and no network: a log has one thread
//! that writes, and callers block or are called back on it. It does not replicate, compress or encrypt. What of a log is
//! still needed, its user says when [cleaning](Log::clean).
//!
//! # Guarantees
//!
//! - **Acknowledged is durable.** What a [`Commit`] says is kept was synced, and so was every name that leads to it. It
//!   survives `kill -9` and a power failure at any moment, also during recovery or cleaning.
//! - **An entry is whole or not there**, however a crash tears its write. After a crash, whole entries that nobody was
//!   promised may be there too.
//! - **Offsets grow by one and are given once.** Where a write was cut short or records were cleaned, some are missing.
//! - **Damage costs what it hits.** An unreadable record is skipped, counted and reported as [`Damage`]; those around it
//!   stay. Within the newest group nothing tells damage from a torn write: there it costs an entry, reported as torn.
//! - **A failed sync is final.** The log takes nothing more and [says why](Log::failed); the same sync is never tried
//!   again, because the kernel may have dropped the pages it was for. Reading goes on.
//! - **A full disk passes.** Entries are refused as [`AppendError::Full`], leave nothing behind, and service resumes by
//!   itself once there is room; so it does when descriptors ran out. If a sync says so, see above.
//! - **A newer program's directory is refused** and not changed.
//!
//! The same holds for what [`Journal::sync`] and [`Journal::snapshot`] made durable.
//!
//! # Limits
//!
//! - One process at a time; the lock is the kernel's and ends with the process.
//! - A record takes 40 bytes beside its payload. An entry is smaller than 256 MiB and has to fit into
//!   [`Options::max_queued_bytes`].
//! - The newest segment is read when a log is opened, and so is every segment whose index is missing.
//! - Checksums are CRC-32C: against broken disks and torn writes, not against somebody who means harm.
//! - Files are the owner's alone (mode 0600, directories 0700). The file system has to be a local one with working
//!   `fsync`, `rename` and `flock`.
//!
//! # The data directory
//!
//! ```text
//! format                    "weft 1": what the directory is, and its version
//! lock                      empty; whoever holds its lock has the directory open
//! log/{base}.seg            a segment: records from offset {base} on
//! log/{base}.idx            its index, beside every segment but the newest
//! state/{number}.jnl        journal records from {number} on
//! state/{number}.snap       the state that the journal records before {number} led to
//! *.tmp                     being made; the next start removes it
//! ```
//!
//! `{base}` and `{number}` have 20 decimal digits. Other files are left alone. All numbers in files are little-endian.
//!
//! ## Segments
//!
//! ```text
//!  0  magic     8 bytes   "WEFTSEG\n"
//!  8  version   u32       1
//! 12  kind      u32       0: as appended, 1: rewritten by cleaning
//! 16  tag       u64       random; every record repeats it
//! 24  base      u64       first offset; the file's name says it too
//! 32  end       u64       rewritten: offset after the last one covered; else 0
//! 40  zeros
//! 60  checksum  u32       of bytes 0..60
//! 64  the same again
//! 128 records
//! ```
//!
//! A rewritten segment has what was live in `base .. end`; older files within that range are superseded, and the next
//! start removes them. The newest segment may have zeros behind its records while it is open. A header of which both copies
//! are lost is replaced by the tag of the first record found.
//!
//! ## Records
//!
//! ```text
//!  0  tag          u64   the segment's: finds records again behind a bad spot
//!  8  checksum     u32   of tag, file position (u64), bytes 12..40 and payload
//! 12  length       u32   low 28 bits: payload length; high 4 bits: flags
//! 16  offset       u64
//! 24  time         u64   milliseconds since the Unix epoch
//! 32  stream       u32
//! 36  group        u32   offset minus the first offset of the group it was written with
//! 40  payload
//! ```
//!
//! Flags: 1, first record of its entry; 2, last of its entry; 4, a gap: nobody's record, it says that the offsets from
//! `offset` to `time` hold nothing. The checksum covers the place, so a copy of a record elsewhere (a misdirected write, a
//! swapped page, a reused block) never passes for one. The tag is random, so a payload made to look like records does not
//! either.
//!
//! A group is written after everything before it was synced. So only records of the newest group can be torn, and
//! recovery cuts or gaps those; a bad spot anywhere else is damage.
//!
//! ## Indexes
//!
//! What a scan of the segment would find, so that opening need not scan. It is written without a sync and never trusted
//! without its checksums; lost or damaged, it is made again.
//!
//! ```text
//!  0  magic      8 bytes   "WEFTIDX\n"
//!  8  version    u32       1
//! 12  totals     u32       bytes of totals
//! 16  marks      u32       bytes of marks
//! 20  checksum   u32       of marks
//! 24  tag        u64       of the segment: an index of a file that was replaced does not fit
//! 32  size       u64       of the segment
//! 40  checksum   u32       of bytes 0..40 and totals
//! 44  totals     u64 each  first offset (2^64-1: none), next offset, end of the records, number of records, first time,
//!                          last time, number of streams, number of holes;
//!                          of each stream: its number, records, bytes;
//!                          of each hole: position, bytes, first offset lost, offset after the last one lost
//!     marks      28 each   every 8 KiB: offset u64, latest time before it u64, position u64, records before it u32
//! ```
//!
//! ## Journals and snapshots
//!
//! Both are laid out as segments of kind 0, with records that have no time and no stream: `base` is the number in the
//! file's name, and offsets are record numbers, which count through all journals. A journal's records are entries of one
//! record. A snapshot is one entry of as many records of at most 1 MiB as the state takes.
//!
//! The file that follows a snapshot is made first, then the snapshot: written under another name, synced, renamed. The
//! snapshot before it stays, with the records since, in case the newest cannot be read; so do older journals, as a trail,
//! up to a number of bytes.
#![warn(clippy::indexing_slicing)]
#![cfg_attr(not(test), warn(clippy::arithmetic_side_effects))]

mod catalog;
mod clean;
mod contents;
mod dir;
mod error;
pub mod fs;
mod fsck;
mod index;
mod journal;
mod log;
mod open;
mod queue;
mod read;
mod record;
mod recovery;
mod scan;
mod segment;
mod volume;
mod writer;

pub use dir::DataDir;
pub use error::{AppendError, CleanError, JournalError, OpenError, ReadError};
pub use fsck::{Problem, Report, fsck};
pub use journal::{Journal, Restored};
pub use log::{Cleaned, Commit, Damage, Entry, Log, Options, Record, Recovery, Segment, StreamUse};
