//! An embedded append-only log of bytes (in progress).
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
