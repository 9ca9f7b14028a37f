use super::ledger::{DIR, Ledger, changes, disk, try_open, work};
use super::*;
use crate::fs::faulty::kinds::{EIO, ENOSPC, KINDS, SYNCS, is_sensible};
use crate::fs::faulty::{Call, Crash, Effect, Fault, FaultyFs};

/// One call fails; the machine and the program go on.
fn check_fault(number: i32, effect: Effect, call: u64) -> bool {
    let fs = disk();
    fs.fail(Fault::os(number).from(call).with(effect));
    let mut ledger = Ledger::default();
    let journal = work(&fs, &mut ledger);
    let Some(struck) = fs.struck().first().copied() else { return false };
    if !is_sensible(number, struck) {
        return true;
    }
    let case = format!("error {number} ({effect:?}) of {struck:?}, call {call}");
    fs.heal();
    let is_sync = SYNCS.contains(&struck);
    if let Some(mut journal) = journal {
        go_on(&fs, &mut ledger, &mut journal, &case);
        assert!(ledger.failure.is_none() || number == EIO || is_sync, "{case}");
    }
    for crash in [Crash::Nothing, Crash::Random(call)] {
        let case = format!("{case}, then {crash:?}");
        ledger.check_disk(&fs.crash(crash), ledger.synced, is_sync, &case);
    }
    ledger.check_disk(&fs, ledger.flushed, is_sync, &case);
    true
}

/// It serves by itself again, or it failed for good and touches nothing.
fn go_on(fs: &FaultyFs, ledger: &mut Ledger, journal: &mut Journal, case: &str) {
    if ledger.failure.is_none() {
        ledger.append(journal);
        assert!(ledger.sync(fs, journal) && ledger.snapshot(fs, journal), "{case}");
        return;
    }
    let before = changes(fs);
    ledger.append(journal);
    let done = ledger.flush(journal) || ledger.sync(fs, journal) || ledger.snapshot(fs, journal);
    assert!(!done, "{case}");
    assert_eq!(changes(fs), before, "{case}");
}

#[test]
fn a_failure_of_any_call_costs_nothing_that_was_durable() {
    for (number, effect) in KINDS {
        let calls = (1..).take_while(|call| check_fault(number, effect, *call)).count();
        assert!(calls > 100, "{calls} calls");
    }
}

#[test]
fn a_disk_full_at_any_byte_is_told_and_passes() {
    let whole = disk();
    drop(work(&whole, &mut Ledger::default()));
    for bytes in (0..whole.used()).step_by(53) {
        let fs = disk();
        fs.set_capacity(Some(bytes));
        let mut ledger = Ledger::default();
        let Some(mut journal) = work(&fs, &mut ledger) else { continue };
        let case = format!("room for {bytes} bytes");
        assert_eq!(ledger.failure, None, "{case}");
        let tmp =
            fs.files().into_iter().find(|path| path.extension().is_some_and(|end| end == "tmp"));
        assert_eq!(tmp, None, "{case}: it takes room");
        fs.set_capacity(None);
        go_on(&fs, &mut ledger, &mut journal, &case);
        ledger.check_disk(&fs, ledger.flushed, false, &case);
    }
}

#[test]
fn a_failure_of_any_call_of_a_start_leaves_a_journal_that_can_be_opened() {
    let fs = disk();
    let mut ledger = Ledger::default();
    let journal = work(&fs, &mut ledger).unwrap();
    drop(journal);
    fs.write_raw(&Path::new(DIR).join("00000000000000000099.tmp"), b"half");
    let size = fs.image().last_write();
    let torn = fs.crash(Crash::LastWrite(size - 5));
    for (number, effect) in KINDS {
        for call in 1.. {
            let fs = torn.crash(Crash::Everything);
            fs.fail(Fault::os(number).from(call).with(effect));
            let opened = try_open(&fs);
            let Some(struck) = fs.struck().first().copied() else { break };
            if !is_sensible(number, struck) {
                continue;
            }
            let case = format!("error {number} ({effect:?}) of {struck:?}, call {call}");
            if let Err(error) = opened {
                assert!(matches!(&error, OpenError::Io { .. }), "{case}: {error:?}");
                assert_eq!(error.is_retryable(), number != EIO, "{case}: {error}");
            }
            fs.heal();
            let is_sync = SYNCS.contains(&struck);
            ledger.check_disk(&fs.crash(Crash::Nothing), ledger.synced, is_sync, &case);
            ledger.check_disk(&fs, ledger.synced, is_sync, &case);
        }
    }
}

#[test]
fn records_after_a_snapshot_that_found_no_room_are_durable_when_they_are_synced() {
    let fs = disk();
    let mut ledger = Ledger::default();
    let (mut journal, _) = try_open(&fs).unwrap();
    ledger.append(&mut journal);
    let full = fs.clone();
    fs.after(Call::Create, move || full.fail(Fault::os(ENOSPC).only(&[Call::Create])));
    assert!(!ledger.snapshot(&fs, &mut journal), "there is a new journal and no room beside it");
    for _ in 0..3 {
        ledger.append(&mut journal);
        assert!(ledger.sync(&fs, &mut journal));
        ledger.check_disk(&fs.crash(Crash::Nothing), ledger.synced, false, "after a power failure");
    }
}
