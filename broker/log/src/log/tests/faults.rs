use super::*;
use crate::dir::DataDir;
use crate::error::{CleanError, ReadError};
use crate::fs::faulty::kinds::{EIO, EMFILE, ENOSPC, KINDS, SYNCS, is_sensible};
use crate::fs::faulty::{Call, Crash, Effect, Fault};

/// What a log was given and what it promised.
#[derive(Clone, Default)]
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
            let of = |entry: &Entry<u64>| {
                entry.payloads.first().is_some_and(|first| *first == record.payload)
            };
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
    Call::CHANGES.iter().chain(&SYNCS).map(|call| fs.calls_of(*call)).sum()
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
    // The power goes now, or the process ends and the machine runs on.
    let crashed = [Crash::Nothing, Crash::Random(call)].map(|crash| fs.crash(crash));
    drop(rig);
    for (place, fs) in [fs].into_iter().chain(crashed).enumerate() {
        ledger.clone().check_disk(&fs, 3000, &format!("{case}, disk {place}"));
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

#[test]
fn a_device_that_breaks_at_any_call_costs_no_promise() {
    for (only, step) in [(Call::Write, 1), (Call::Sync, 1), (Call::SyncDir, 1), (Call::Read, 7)] {
        for call in (1..250).step_by(step) {
            let fs = disk();
            fs.fail(Fault::os(EIO).only(&[only]).from(call).always());
            let mut ledger = Ledger::default();
            let rig = work(&fs, &mut ledger);
            let case = format!("no {only:?} from call {call} on");
            if let Some(rig) = rig.filter(|rig| rig.log.failed().is_some()) {
                assert_eq!(rig.log.failed(), ledger.failure, "{case}");
                check_failed(&rig, &mut ledger, &case);
            }
            fs.heal();
            ledger.check_disk(&fs.crash(Crash::Nothing), 3000, &case);
        }
    }
}

#[test]
fn a_disk_full_at_any_byte_is_told_and_service_resumes_by_itself_when_there_is_room() {
    let whole = disk();
    drop(work(&whole, &mut Ledger::default()));
    let mut resumed = 0;
    for bytes in (0..whole.used() + 2000).step_by(97) {
        let fs = disk();
        let mut ledger = Ledger::default();
        fs.set_capacity(Some(bytes));
        let Some(rig) = work(&fs, &mut ledger) else { continue };
        let case = format!("room for {bytes} bytes");
        assert_eq!(rig.log.failed(), None, "{case}");
        ledger.check_open(&rig, &case);
        let killed = fs.crash(Crash::Random(bytes));
        killed.set_capacity(None);
        ledger.clone().check_disk(&killed, 3000, &case);
        fs.set_capacity(None);
        let refused = ledger.refused.len();
        resumed += usize::from(refused > 0);
        ledger.group(&rig, 2000, &[&[10], &[2000], &[30]]);
        assert_eq!(ledger.refused.len(), refused, "{case}");
        ledger.check_open(&rig, &case);
        drop(rig);
        ledger.check_disk(&fs, 3000, &case);
    }
    assert!(resumed > 30, "{resumed} times it was full");
}

/// A directory as a crash leaves it that came while everything went on at once: half a group, a file being made, a segment
/// that a rewritten one stands for, an index that is missing.
fn wreck() -> (FaultyFs, Ledger) {
    let fs = disk();
    let mut ledger = Ledger::default();
    let rig = Rig::open(&fs, SMALL);
    for seed in (200..1400).step_by(100) {
        ledger.group(&rig, seed, &[&[200, 50], &[90]]);
    }
    fs.fail(Fault::os(EIO).only(&[Call::Remove]));
    let wanted: Vec<u64> = (0..48).step_by(6).collect();
    ledger.clean(&rig, &wanted).expect_err("what was replaced stays");
    let promised = ledger.promised.clone();
    fs.record_crashes();
    ledger.group(&rig, 2000, &[&[60, 60], &[70], &[50, 40]]);
    let images = fs.take_images();
    ledger.refused = (2001..)
        .zip([&[60, 60][..], &[70], &[50, 40]])
        .map(|(seed, sizes)| entry(seed, sizes))
        .collect();
    let held = ledger.promised.iter().find(|(offset, _)| !promised.contains_key(offset));
    let held = held.map(|(offset, record)| (*offset, record.clone()));
    ledger.promised = promised.into_iter().chain(held).collect();
    let size = 5 * 40 + 280;
    let image = images.into_iter().rev().find(|image| image.last_write() == size);
    let fs = image.expect("the group is written at once").crash(Crash::LastWrite(size - 30));
    fs.write_raw(&Path::new(DIR).join("new.tmp"), b"half");
    let sealed =
        fs.files().into_iter().rfind(|path| path.extension().is_some_and(|end| end == "idx"));
    fs.write_raw(&sealed.expect("there are sealed segments"), b"");
    (fs, ledger)
}

#[test]
fn a_failure_of_any_call_of_a_repair_leaves_a_directory_that_can_be_repaired() {
    let (wreck, ledger) = wreck();
    let whole = Rig::open(&wreck.crash(Crash::Everything), SMALL);
    let recovery = &whole.recovery;
    assert!(recovery.torn.len() == 1 && recovery.superseded > 0, "{recovery:?}");
    for (number, effect) in KINDS {
        for call in 1.. {
            let fs = wreck.crash(Crash::Everything);
            fs.fail(Fault::os(number).from(call).with(effect));
            let opened = Rig::try_open(&fs, SMALL);
            let Some(struck) = fs.struck().first().copied() else { break };
            if !is_sensible(number, struck) {
                continue;
            }
            let case = format!("error {number} ({effect:?}) of {struck:?}, call {call}");
            fs.heal();
            match opened {
                Ok(rig) => ledger.check(&check_agrees(&rig), &case),
                Err(error) => {
                    assert!(matches!(&error, OpenError::Io { .. }), "{case}: {error:?}");
                    assert!(error.to_string().contains(DIR), "{case}: {error}");
                    assert_eq!(error.is_retryable(), number != EIO, "{case}: {error}");
                }
            }
            for fs in [fs.crash(Crash::Nothing), fs.crash(Crash::Random(call)), fs] {
                ledger.clone().check_disk(&fs, 3000, &case);
            }
        }
    }
}

/// Lets each call of `read` fail, on a log that has no sealed segment open.
fn check_read<R: PartialEq + std::fmt::Debug>(read: impl Fn(&Log<u64>) -> Result<R, ReadError>) {
    let fs = disk();
    let rig = Rig::open(&fs, SMALL);
    (0..20).for_each(|seed| assert_eq!(rig.append(seed, 100), seed));
    drop(rig);
    let whole = read(&Rig::open(&fs, SMALL).log).expect("nothing fails");
    for number in [EIO, EMFILE] {
        for call in 1.. {
            let fs = fs.crash(Crash::Everything);
            let rig = Rig::open(&fs, SMALL);
            fs.fail(Fault::os(number).from(fs.calls() + call));
            let answer = read(&rig.log);
            let Some(struck) = fs.struck().first().copied() else { break };
            let case = format!("error {number} of {struck:?}, call {call}");
            match answer {
                // An index that cannot be read is made up for by a scan.
                Ok(answer) => assert_eq!(answer, whole, "{case}"),
                Err(error) => {
                    assert!(error.to_string().contains(DIR), "{case}: {error}");
                    assert_eq!(error.is_retryable(), number == EMFILE, "{case}: {error}");
                }
            }
            assert_eq!(read(&rig.log).expect("it is read again"), whole, "{case}");
            assert_eq!((rig.log.damage(), rig.log.failed()), (Vec::new(), None), "{case}");
        }
    }
}

#[test]
fn a_failure_of_any_call_of_a_read_is_told_and_is_no_damage() {
    check_read(|log| log.read(0, usize::MAX));
    check_read(|log| log.read(3, 1000));
    check_read(|log| log.get(&[0, 1, 7, 13, 19, 20]));
}

#[test]
fn a_time_that_cannot_be_looked_up_is_found_too_early() {
    let fs = disk();
    let rig = Rig::open(&fs, SMALL);
    (0..20).for_each(|seed| assert_eq!(rig.append(seed, 100), seed));
    let first_of_segments: Vec<u64> =
        rig.log.segments().iter().map(|segment| segment.base).collect();
    drop(rig);
    for call in 1.. {
        let fs = fs.crash(Crash::Everything);
        let rig = Rig::open(&fs, SMALL);
        fs.fail(Fault::os(EIO).from(fs.calls() + call));
        let offset = rig.log.offset_at(1009);
        if fs.struck().is_empty() {
            break;
        }
        assert!(offset == 9 || offset < 9 && first_of_segments.contains(&offset), "{offset}");
        assert_eq!(rig.log.offset_at(1009), 9, "call {call}");
    }
}

#[test]
fn what_a_full_disk_cut_short_is_not_found_again() {
    let fs = disk();
    let mut ledger = Ledger::default();
    let rig = Rig::open(&fs, ONE);
    ledger.group(&rig, 100, &[&[40]]);
    // The half of the group that is written has two whole entries in it; one that is shorter comes in its place.
    for seed in [200, 300] {
        let disk = fs.clone();
        fs.after(Call::Sync, move || {
            disk.fail(Fault::os(ENOSPC).only(&[Call::Write]).with(Effect::Half));
        });
        ledger.group(&rig, seed, &[&[30], &[35], &[400]]);
        assert_eq!(ledger.refused.len() % 3, 0, "the group was refused");
        ledger.group(&rig, seed + 50, &[]);
        let reopened = Rig::open(&fs.crash(Crash::Everything), ONE);
        ledger.check_open(&reopened, "after a shorter group");
        assert_eq!(reopened.recovery.torn, []);
    }
}

#[test]
fn a_directory_that_cannot_be_synced_fails_the_log_before_it_takes_anything() {
    let fs = disk();
    let disk = fs.clone();
    // The first segment is made on the log's thread, when the log is open.
    fs.after(Call::Rename, move || disk.fail(Fault::os(EIO).only(&[Call::SyncDir])));
    let mut ledger = Ledger::default();
    let rig = Rig::open(&fs, SMALL);
    ledger.group(&rig, 100, &[&[10]]);
    assert!(rig.log.failed().is_some(), "{:?}", ledger.promised);
    assert_eq!((ledger.promised.len(), fs.calls_of(Call::SyncDir)), (0, 2), "and not tried again");
}
