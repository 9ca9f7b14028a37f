use super::ledger::{DIR, Ledger, disk, numbers, try_open, work};
use super::*;
use crate::fs::faulty::{Crash, FaultyFs};

/// A journal whose last records, this many, were written at once and not synced.
fn unsynced(count: usize) -> (FaultyFs, Ledger) {
    let fs = disk();
    let mut ledger = Ledger::default();
    let (mut journal, _) = try_open(&fs).unwrap();
    (0..3).for_each(|_| ledger.append(&mut journal));
    ledger.sync(&fs, &mut journal);
    (0..count).for_each(|_| ledger.append(&mut journal));
    ledger.flush(&mut journal);
    (fs, ledger)
}

#[test]
fn a_crash_at_any_step_keeps_what_was_synced() {
    let fs = disk();
    fs.record_crashes();
    let mut ledger = Ledger::default();
    drop(work(&fs, &mut ledger));
    let images = fs.take_images();
    assert!(images.len() > 60, "{} steps", images.len());
    for image in &images {
        let mut promised = ledger.history.iter().filter(|(calls, _)| *calls <= image.call());
        let least = promised.next_back().map_or(0, |(_, synced)| *synced);
        let seeds = (0..6).map(|seed| Crash::Random(seed * 1000 + image.call()));
        let third = Crash::LastWrite(image.last_write() / 3);
        for crash in [Crash::Nothing, Crash::Everything, third].into_iter().chain(seeds) {
            let case = format!("{crash:?} at call {}", image.call());
            ledger.check_disk(&image.crash(crash), least, false, &case);
        }
    }
}

#[test]
fn a_write_torn_at_any_byte_loses_only_the_records_behind() {
    let (fs, ledger) = unsynced(12);
    let image = fs.image();
    let mut ends = Vec::new();
    let mut end = 0;
    for number in &ledger.taken[ledger.synced..] {
        end += HEADER + ledger::record(*number).len();
        ends.push(end);
    }
    assert_eq!(image.last_write(), end);
    for kept in 0..=end {
        let torn = image.crash(Crash::LastWrite(kept));
        let (_, restored) = try_open(&torn.crash(Crash::Everything)).unwrap();
        let whole = ends.iter().filter(|end| **end <= kept).count();
        assert_eq!(numbers(&restored), ledger.taken[..ledger.synced + whole], "{kept} bytes kept");
        ledger.check_disk(&torn, ledger.synced + whole, false, &format!("{kept} bytes kept"));
    }
}

#[test]
fn pages_that_were_not_synced_may_be_lost_one_by_one() {
    let (fs, ledger) = unsynced(40);
    let pages = fs.unsynced_pages();
    assert!(pages > 4, "{pages} pages");
    for page in 0..pages {
        for crash in [Crash::AllButPage(page), Crash::OnlyPage(page)] {
            ledger.check_disk(&fs.crash(crash), ledger.synced, false, &format!("{crash:?}"));
        }
    }
    for seed in 0..200 {
        let crash = Crash::Random(seed);
        ledger.check_disk(&fs.crash(crash), ledger.synced, false, &format!("{crash:?}"));
    }
}

#[test]
fn a_flipped_bit_in_the_newest_records_costs_one_record() {
    let (fs, ledger) = unsynced(12);
    let path = Path::new(DIR).join("00000000000000000000.jnl");
    let size = fs.read_raw(&path).unwrap().len() as u64;
    for bit in FIRST_RECORD * 8..size * 8 {
        let bad = fs.crash(Crash::Everything);
        bad.corrupt(&path, bit);
        let (_, restored) = try_open(&bad).unwrap();
        let found = numbers(&restored);
        assert_eq!(found.len(), ledger.taken.len() - 1, "bit {bit}");
        ledger.check(&found, 0, &format!("bit {bit}"));
        // Those that had been synced are counted; of the others nobody knows whether they were written.
        let lost = ledger.taken.iter().position(|number| !found.contains(number)).unwrap();
        assert_eq!(restored.damaged, u64::from(lost < ledger.synced), "bit {bit}");
    }
}
