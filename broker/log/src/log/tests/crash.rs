use super::*;
use crate::fs::faulty::{Crash, Image};

/// What a log had promised by which call.
#[derive(Default)]
struct Ledger {
    entries: Vec<Kept>,
    /// From which call on only these offsets are needed.
    cleanings: Vec<(u64, Vec<u64>)>,
}

/// An entry that was acknowledged when so many calls had been made.
struct Kept {
    records: Vec<Record>,
    calls: u64,
}

impl Ledger {
    fn append(&mut self, rig: &Rig, seed: u64, sizes: &[usize]) {
        let told = rig.try_append(entry(seed, sizes)).unwrap();
        let records = records_of(&entry(seed, sizes), told.commit.first_offset);
        self.entries.push(Kept { records, calls: told.calls });
    }

    fn clean(&mut self, rig: &Rig, live_offsets: Vec<u64>) {
        self.cleanings.push((rig.fs.calls(), live_offsets.clone()));
        rig.log.clean(0, &live(live_offsets)).unwrap();
    }

    /// Whether a record may be missing in an image taken after `call`.
    fn may_be_gone(&self, call: u64, offset: u64) -> bool {
        self.cleanings.iter().any(|(from, live)| *from < call && !live.contains(&offset))
    }

    fn check(&self, image: &Image, crash: Crash) {
        let case = format!("{crash:?} at call {}", image.call());
        let fs = image.crash(crash);
        let rig = Rig::open(&fs, SMALL);
        let found = by_offset(rig.records());
        let mut known = 0;
        for Kept { records, calls } in &self.entries {
            let here = records.iter().filter(|record| found.get(&record.offset) == Some(record));
            let here: Vec<u64> = here.map(|record| record.offset).collect();
            known += here.len();
            if *calls <= image.call() {
                for record in records {
                    let there = here.contains(&record.offset);
                    let gone = self.may_be_gone(image.call(), record.offset);
                    assert!(there || gone, "{case}: {} is lost", record.offset);
                }
            } else {
                assert!(here.is_empty() || here.len() == records.len(), "{case}: half of {here:?}");
            }
        }
        assert_eq!(known, found.len(), "{case}: nothing is invented");
        assert_eq!(rig.recovery.damaged, [], "{case}");
        let promised = self.entries.iter().filter(|entry| entry.calls <= image.call());
        let last = promised.flat_map(|entry| &entry.records).map(|record| record.offset).max();
        assert!(last.is_none_or(|last| rig.recovery.head > last), "{case}: an offset again");
        // It takes more, and finds all of it again.
        let next = rig.append(500, 50);
        drop(rig);
        let mut expected = found;
        expected.insert(next, records_of(&entry(500, &[50]), next).remove(0));
        let rig = Rig::open(&fs, SMALL);
        assert_eq!(check_agrees(&rig), expected, "{case}, and once more");
        assert_eq!(rig.recovery.damaged, [], "{case}, and once more");
    }

    fn check_all(&self, images: &[Image], seeds: u64) {
        for image in images {
            self.check(image, Crash::Nothing);
            self.check(image, Crash::Everything);
            for seed in 0..seeds {
                self.check(image, Crash::Random(seed * 1000 + image.call()));
            }
            if image.last_write() > 0 {
                self.check(image, Crash::LastWrite(image.last_write() / 3));
            }
            for page in 0..image.unsynced_pages() {
                self.check(image, Crash::AllButPage(page));
                self.check(image, Crash::OnlyPage(page));
            }
        }
    }
}

#[test]
fn a_crash_at_any_step_of_appending_keeps_what_was_acknowledged() {
    let fs = disk();
    fs.record_crashes();
    let mut ledger = Ledger::default();
    let rig = Rig::open(&fs, SMALL);
    for (seed, sizes) in [
        (0, &[100][..]),
        (1, &[200, 150, 100]),
        (2, &[700]),
        (3, &[50, 50]),
        (4, &[3000]),
        (5, &[9]),
    ] {
        ledger.append(&rig, seed, sizes);
    }
    drop(rig);
    let images = fs.take_images();
    assert!(images.len() > 40, "{} steps", images.len());
    ledger.check_all(&images, 6);
}

#[test]
fn a_crash_at_any_step_of_cleaning_keeps_what_is_live() {
    let fs = disk();
    let mut ledger = Ledger::default();
    let rig = Rig::open(&fs, SMALL);
    (0..24).for_each(|seed| ledger.append(&rig, seed, &[100, 60][..1 + seed as usize % 2]));
    fs.record_crashes();
    // The first are dead, the next become one, and so on once more, when what was rewritten is thin itself.
    ledger.clean(&rig, vec![8, 9, 14, 20, 21, 33]);
    (24..34).for_each(|seed| ledger.append(&rig, seed, &[120]));
    ledger.clean(&rig, vec![9, 14, 33, 36, 40]);
    ledger.clean(&rig, vec![40]);
    ledger.append(&rig, 35, &[700]);
    drop(rig);
    let images = fs.take_images();
    assert!(images.len() > 60, "{} steps", images.len());
    ledger.check_all(&images, 3);
}

#[test]
fn a_crash_at_any_step_of_opening_after_a_crash_keeps_what_was_acknowledged() {
    let fs = disk();
    let mut ledger = Ledger::default();
    let rig = Rig::open(&fs, SMALL);
    (0..12).for_each(|seed| ledger.append(&rig, seed, &[100]));
    fs.record_crashes();
    ledger.append(&rig, 12, &[300, 200]);
    ledger.append(&rig, 13, &[500, 200]);
    ledger.clean(&rig, vec![1, 2, 9]);
    ledger.append(&rig, 14, &[300]);
    drop(rig);
    let images = fs.take_images();
    for (number, image) in images.iter().enumerate() {
        // The process is killed, or the machine; then the machine, while the next start repairs.
        let crash = [Crash::Everything, Crash::Random(number as u64)][number % 2];
        let after = image.crash(crash);
        after.record_crashes();
        drop(Rig::open(&after, SMALL));
        for again in after.take_images() {
            for crash in [Crash::Nothing, Crash::Random(again.call())] {
                ledger.check_again(image, &again, crash);
            }
        }
    }
}

impl Ledger {
    /// What was acknowledged at `first` is there after the crash of a start that followed the crash there.
    fn check_again(&self, first: &Image, again: &Image, crash: Crash) {
        let case = format!("call {}, then {crash:?} at call {}", first.call(), again.call());
        let rig = Rig::open(&again.crash(crash), SMALL);
        let found = check_agrees(&rig);
        for Kept { records, calls } in &self.entries {
            let here =
                records.iter().filter(|record| found.get(&record.offset) == Some(record)).count();
            if *calls > first.call() {
                assert!(here == 0 || here == records.len(), "{case}: half of an entry");
                continue;
            }
            for record in records {
                let there = found.get(&record.offset) == Some(record);
                let gone = self.may_be_gone(first.call(), record.offset);
                assert!(there || gone, "{case}: {} is lost", record.offset);
            }
        }
        assert_eq!(rig.recovery.damaged, [], "{case}");
    }
}
