//! A journal on a file system that fails and crashes, and what it promised.

use super::*;
use crate::fs::faulty::{Call, FaultyFs};

pub(super) const DIR: &str = "/data/state";

pub(super) fn disk() -> FaultyFs {
    let fs = FaultyFs::new();
    fs.make_dir(Path::new(DIR));
    fs
}

pub(super) fn try_open(fs: &FaultyFs) -> Result<(Journal, Restored), OpenError> {
    Journal::open(Path::new(DIR), Arc::new(fs.clone()), 600)
}

/// Records are numbers, each with a length of its own; a state is the numbers that led to it.
pub(super) fn record(number: u32) -> Vec<u8> {
    number.to_le_bytes().repeat(1 + number as usize * 7 % 20)
}

fn state(numbers: &[u32]) -> Vec<u8> {
    numbers.iter().flat_map(|number| number.to_le_bytes()).collect()
}

/// All that a start knows: the numbers of its snapshot and those since.
pub(super) fn numbers(restored: &Restored) -> Vec<u32> {
    let number = |bytes: &[u8]| u32::from_le_bytes(*bytes.first_chunk().unwrap());
    let snapshot = restored.snapshot.iter().flat_map(|state| state.chunks(4)).map(number);
    let since = restored.records.iter().map(|bytes| {
        assert_eq!(*bytes, record(number(bytes)));
        number(bytes)
    });
    snapshot.chain(since).collect()
}

/// What a journal took, and what it said of it.
#[derive(Clone, Default)]
pub(super) struct Ledger {
    /// The next number.
    pub(super) next: u32,
    /// What is in the journal's state.
    pub(super) taken: Vec<u32>,
    /// Of those, the ones that outlive the process, and the machine.
    pub(super) flushed: usize,
    pub(super) synced: usize,
    pub(super) failure: Option<String>,
    /// What `synced` was after so many calls.
    pub(super) history: Vec<(u64, usize)>,
}

impl Ledger {
    fn said(&mut self, answer: &Result<(), JournalError>) -> bool {
        match answer {
            Ok(()) => assert_eq!(self.failure, None, "nothing is promised after a failure"),
            Err(JournalError::Failed(reason)) => {
                assert_eq!(self.failure.get_or_insert(reason.clone()), reason);
            }
            Err(error) => {
                assert_eq!(self.failure, None, "{error}");
                assert!(error.is_retryable(), "{error}");
            }
        }
        answer.is_ok()
    }

    pub(super) fn append(&mut self, journal: &mut Journal) {
        let answer = journal.append(&record(self.next));
        if self.said(&answer) {
            self.taken.push(self.next);
        }
        self.next += 1;
    }

    pub(super) fn flush(&mut self, journal: &mut Journal) -> bool {
        let answer = journal.flush();
        let done = self.said(&answer);
        if done {
            self.flushed = self.taken.len();
        }
        done
    }

    pub(super) fn sync(&mut self, fs: &FaultyFs, journal: &mut Journal) -> bool {
        let answer = journal.sync();
        let done = self.said(&answer);
        if done {
            self.all_is_durable(fs);
        }
        done
    }

    pub(super) fn snapshot(&mut self, fs: &FaultyFs, journal: &mut Journal) -> bool {
        let answer = journal.snapshot(&state(&self.taken));
        let done = self.said(&answer);
        if done {
            self.all_is_durable(fs);
        }
        done
    }

    fn all_is_durable(&mut self, fs: &FaultyFs) {
        (self.flushed, self.synced) = (self.taken.len(), self.taken.len());
        self.history.push((fs.calls(), self.synced));
    }

    /// Whether `found` is all of the first `least` and of the rest, in order, as many as there may be.
    pub(super) fn check(&self, found: &[u32], least: usize, case: &str) {
        assert!(found.is_sorted_by(|a, b| a < b), "{case}: {found:?}");
        let lost: Vec<_> =
            self.taken.iter().take(least).filter(|number| !found.contains(number)).collect();
        assert!(lost.is_empty(), "{case}: {lost:?} are lost of {:?}", self.taken);
        assert!(found.iter().all(|number| self.taken.contains(number)), "{case}: {found:?}");
    }

    /// Opens what is on the disk, goes on, loses the power, and opens it again.
    pub(super) fn check_disk(&self, fs: &FaultyFs, least: usize, may_lose: bool, case: &str) {
        let mut fs = fs.clone();
        let mut ledger = Self { failure: None, ..self.clone() };
        let mut least = least;
        for _ in 0..3 {
            let (mut journal, restored) = try_open(&fs).expect("it opens");
            let found = numbers(&restored);
            ledger.check(&found, least, case);
            assert!(!restored.fell_back, "{case}");
            assert!(may_lose || restored.damaged == 0, "{case}: {} damaged", restored.damaged);
            ledger.taken = found;
            ledger.append(&mut journal);
            assert!(ledger.sync(&fs, &mut journal), "{case}");
            if ledger.taken.len().is_multiple_of(2) {
                assert!(ledger.snapshot(&fs, &mut journal), "{case}");
            }
            least = if may_lose { 0 } else { ledger.taken.len() };
            let last = ledger.next - 1;
            fs = fs.crash(crate::fs::faulty::Crash::Nothing);
            let (_, restored) = try_open(&fs).expect("it opens");
            assert_eq!(numbers(&restored).last(), Some(&last), "{case}: synced");
        }
    }
}

/// Opens, appends, takes snapshots, opens again and goes on. Ends early if the journal cannot be opened.
pub(super) fn work(fs: &FaultyFs, ledger: &mut Ledger) -> Option<Journal> {
    let (mut journal, _) = try_open(fs).ok()?;
    for _ in 0..3 {
        ledger.append(&mut journal);
        ledger.append(&mut journal);
        ledger.flush(&mut journal);
    }
    ledger.sync(fs, &mut journal);
    ledger.snapshot(fs, &mut journal);
    for _ in 0..3 {
        (0..4).for_each(|_| ledger.append(&mut journal));
        ledger.sync(fs, &mut journal);
    }
    ledger.snapshot(fs, &mut journal);
    ledger.append(&mut journal);
    ledger.flush(&mut journal);
    drop(journal);
    // What was only buffered is gone with it.
    ledger.failure = None;
    let (mut journal, restored) = try_open(fs).ok()?;
    let found = numbers(&restored);
    ledger.check(&found, ledger.flushed, "opened again");
    (ledger.taken, ledger.flushed) = (found.clone(), found.len());
    for _ in 0..4 {
        ledger.append(&mut journal);
        ledger.snapshot(fs, &mut journal);
    }
    ledger.append(&mut journal);
    ledger.sync(fs, &mut journal);
    (0..3).for_each(|_| ledger.append(&mut journal));
    ledger.flush(&mut journal);
    Some(journal)
}

/// Calls that change something.
pub(super) fn changes(fs: &FaultyFs) -> u64 {
    Call::CHANGES.iter().chain(&[Call::Sync, Call::SyncDir]).map(|call| fs.calls_of(*call)).sum()
}
