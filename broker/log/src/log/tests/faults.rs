use super::*;
use crate::dir::DataDir;
use crate::error::CleanError;
use crate::fs::faulty::{Call, Crash, Effect, Fault};

const ENOSPC: i32 = 28;
const EIO: i32 = 5;
const EMFILE: i32 = 24;

/// The kinds of fault that every call is tried with.
const KINDS: [(i32, Effect); 6] = [
    (EIO, Effect::None),
    (EIO, Effect::Half),
    (EIO, Effect::Whole),
    (ENOSPC, Effect::None),
    (ENOSPC, Effect::Half),
    (EMFILE, Effect::None),
];

/// What needs a descriptor of its own.
const DESCRIPTORS: [Call; 5] = [Call::Create, Call::Open, Call::List, Call::Lock, Call::SyncDir];

/// What may be refused for want of room.
const ROOM: [Call; 7] = [
    Call::CreateDir,
    Call::Create,
    Call::Rename,
    Call::Remove,
    Call::Write,
    Call::SetLen,
    Call::Allocate,
];

const SYNCS: [Call; 2] = [Call::Sync, Call::SyncDir];

/// Whether a system may answer `call` with this number.
fn is_sensible(number: i32, call: Call) -> bool {
    match number {
        ENOSPC => ROOM.contains(&call) || SYNCS.contains(&call),
        EMFILE => DESCRIPTORS.contains(&call),
        _ => true,
    }
}

/// What a log was given and what it promised.
#[derive(Default)]
struct Ledger {
    promised: BTreeMap<u64, Record>,
    /// Nobody was promised these: each may be there whole, or not at all.
    refused: Vec<Entry<u64>>,
    /// Promised ones that cleaning may have taken.
    dead: Vec<u64>,
    /// Why the log failed, as it said with an entry.
    failure: Option<String>,
}

impl Ledger {
    fn told(&mut self, entry: Entry<u64>, told: Result<Told, AppendError>) {
        match told {
            Ok(told) => {
                assert_eq!(self.failure, None, "nothing is promised after a failure");
                for record in records_of(&entry, told.commit.first_offset) {
                    let head = self.promised.last_key_value().map_or(0, |(last, _)| last + 1);
                    assert!(record.offset >= head, "{} was given out before", record.offset);
                    self.promised.insert(record.offset, record);
                }
            }
            Err(error) => {
                if let AppendError::Failed(reason) = &error {
                    assert_eq!(self.failure.get_or_insert(reason.clone()), reason);
                }
                assert_eq!(error.is_retryable(), self.failure.is_none(), "{error}");
                self.refused.push(entry);
            }
        }
    }

    /// Appends entries that are written together, after one that is not.
    fn group(&mut self, rig: &Rig, seed: u64, entries: &[&[usize]]) {
        let first = Entry { tag: HOLD, ..entry(seed, &[20]) };
        let taken = rig.log.append(first.clone());
        let is_held = taken.is_ok();
        self.told(first, outcome(rig, taken));
        let entries: Vec<_> =
            (seed + 1..).zip(entries).map(|(seed, sizes)| entry(seed, sizes)).collect();
        let taken: Vec<_> = entries.iter().map(|entry| rig.log.append(entry.clone())).collect();
        if is_held {
            rig.release.send(()).expect("the log is open");
        }
        for (entry, taken) in entries.into_iter().zip(taken) {
            self.told(entry, outcome(rig, taken));
        }
    }

    fn clean(&mut self, rig: &Rig, wanted: &[u64]) -> Result<(), CleanError> {
        self.dead.extend(self.promised.keys().filter(|offset| !wanted.contains(offset)));
        rig.log.clean(0, &live(wanted.iter().copied())).map(drop)
    }

    /// What is promised is there, and nothing else but whole entries.
    fn check(&self, found: &BTreeMap<u64, Record>, case: &str) {
        let mut rest = found.clone();
        for (offset, record) in &self.promised {
            match rest.remove(offset) {
                Some(found) => assert_eq!(found, *record, "{case}"),
                None => assert!(self.dead.contains(offset), "{case}: {offset} is lost"),
            }
        }
        let mut refused = self.refused.clone();
        while let Some((offset, record)) = rest.first_key_value() {
            let of = |entry: &Entry<u64>| entry.payloads.first().is_some_and(|first| *first == record.payload);
            let place = refused.iter().position(of);
            let place = place.unwrap_or_else(|| panic!("{case}: {record:?} is invented"));
            for record in records_of(&refused.remove(place), *offset) {
                assert_eq!(rest.remove(&record.offset), Some(record), "{case}: half an entry");
            }
        }
    }

    /// As [`Ledger::check`] of a log that nothing happened to since: what is not promised is not seen.
    fn check_open(&self, rig: &Rig, case: &str) {
        let found = check_agrees(rig);
        for (offset, record) in &found {
            assert_eq!(self.promised.get(offset), Some(record), "{case}: it was not promised");
        }
        self.check(&found, case);
    }

    /// Opens what is on the disk, appends, and opens it again.
    fn check_disk(&mut self, fs: &FaultyFs, seed: u64, case: &str) {
        for round in [0, 1] {
            let rig = Rig::open(fs, SMALL);
            self.check(&check_agrees(&rig), case);
            let last = self.promised.last_key_value().map(|(last, _)| *last);
            assert!(last.is_none_or(|last| rig.log.head() > last), "{case}: an offset again");
            let entry = entry(seed + round, &[25, 35]);
            let told = rig.try_append(entry.clone());
            assert!(told.is_ok(), "{case}: {told:?}");
            self.failure = None;
            self.told(entry, told);
        }
    }
}

/// What becomes of an entry that was, or was not, taken.
fn outcome(rig: &Rig, taken: Result<(), (AppendError, u64)>) -> Result<Told, AppendError> {
    taken.map_err(|(error, _)| error)?;
    let told = rig.told();
    told.commit.result.clone().map(|()| told)
}

/// Opens, appends over several segments, cleans, appends again. Ends early if the log cannot be opened.
fn work(fs: &FaultyFs, ledger: &mut Ledger) -> Option<Rig> {
    let _dir = DataDir::open(Path::new("/data"), fs).ok()?;
    let rig = Rig::try_open(fs, SMALL).ok()?;
    ledger.group(&rig, 100, &[&[60], &[30, 10, 50]]);
    for seed in (200..1000).step_by(100) {
        ledger.group(&rig, seed, &[&[200, 50], &[90]]);
    }
    ledger.clean(&rig, &[1, 8, 9, 20]).ok();
    ledger.group(&rig, 1000, &[&[300], &[700], &[200]]);
    ledger.group(&rig, 1100, &[&[30, 30, 30], &[30]]);
    Some(rig)
}

/// Calls that change something. A failed log makes none.
fn changes(fs: &FaultyFs) -> u64 {
    let changing = Call::CHANGES.iter().filter(|call| **call != Call::SetLen);
    changing.chain(&SYNCS).map(|call| fs.calls_of(*call)).sum()
}

/// A log that was told to fail stays failed, and touches nothing.
fn check_failed(rig: &Rig, ledger: &mut Ledger, case: &str) {
    let before = changes(&rig.fs);
    ledger.group(rig, 2000, &[&[10], &[2000]]);
    assert_eq!(rig.log.failed(), ledger.failure, "{case}");
    let refused = rig.log.clean(0, &live([]));
    assert!(matches!(refused, Err(CleanError::Failed(_))), "{case}: {refused:?}");
    rig.log.close();
    assert_eq!(changes(&rig.fs), before, "{case}");
}

/// One call fails; the machine and the program go on.
fn check_fault(number: i32, effect: Effect, call: u64) -> bool {
    let fs = disk();
    fs.fail(Fault::os(number).from(call).with(effect));
    let mut ledger = Ledger::default();
    let rig = work(&fs, &mut ledger);
    let Some(struck) = fs.struck().first().copied() else { return false };
    if !is_sensible(number, struck) {
        return true;
    }
    let case = format!("error {number} ({effect:?}) of {struck:?}, call {call}");
    fs.heal();
    if let Some(rig) = &rig {
        ledger.check_open(rig, &case);
        if let Some(reason) = rig.log.failed() {
            assert!(number == EIO || SYNCS.contains(&struck), "{case}: {reason}");
            assert!(!reason.is_empty(), "{case}");
            check_failed(rig, &mut ledger, &case);
        } else {
            let refused = ledger.refused.len();
            ledger.group(rig, 2000, &[&[10], &[2000]]);
            assert_eq!(ledger.refused.len(), refused, "{case}: it serves by itself again");
            ledger.check_open(rig, &case);
        }
    }
    let killed = fs.crash(Crash::Everything);
    let rest = [Crash::Nothing, Crash::Random(call)].map(|crash| fs.crash(crash));
    drop(rig);
    for (place, fs) in [killed, fs].into_iter().chain(rest).enumerate() {
        let mut ledger = Ledger {
            promised: ledger.promised.clone(),
            refused: ledger.refused.clone(),
            dead: ledger.dead.clone(),
            failure: None,
        };
        ledger.check_disk(&fs, 3000, &format!("{case}, disk {place}"));
    }
    true
}

#[test]
fn a_failure_of_any_call_costs_no_promise_and_keeps_no_half_entry() {
    for (number, effect) in KINDS {
        let calls = (1..).take_while(|call| check_fault(number, effect, *call)).count();
        assert!(calls > 150, "{calls} calls");
    }
}
