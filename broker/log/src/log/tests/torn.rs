use super::*;
use crate::fs::Fs;
use crate::fs::faulty::{Crash, Image};

/// A log with acknowledged records, and a group that was being written when the power went.
struct Torn {
    fs: FaultyFs,
    /// Right after the group's write, before its sync.
    image: Image,
    acknowledged: Vec<Record>,
    /// The group's entries.
    entries: Vec<Vec<Record>>,
    /// Where the group begins in its segment.
    position: u64,
}

impl Torn {
    fn new(options: Options, entries: &[Entry<u64>]) -> Self {
        let fs = disk();
        let rig = Rig::open(&fs, options);
        let mut acknowledged: Vec<Record> =
            (0..3).flat_map(|seed| records_of(&entry(seed, &[40]), rig.append(seed, 40))).collect();
        fs.record_crashes();
        let told = rig.group(entries.to_vec());
        let held = Entry { tag: HOLD, ..entry(HOLD, &[1]) };
        acknowledged.extend(records_of(&held, told[0].commit.first_offset));
        let size: usize = entries
            .iter()
            .flat_map(|entry| &entry.payloads)
            .map(|payload| payload.len() + 40)
            .sum();
        let images = fs.take_images();
        let image = images.into_iter().rev().find(|image| image.last_write() == size);
        let image = image.expect("the group was written at once");
        let entries = entries
            .iter()
            .zip(&told[1..])
            .map(|(entry, told)| records_of(entry, told.commit.first_offset))
            .collect();
        rig.log.close();
        let whole = fs.read_raw(&segment(0)).unwrap().len() as u64;
        Self { fs, image, acknowledged, entries, position: whole - size as u64 }
    }

    fn size(&self) -> usize {
        self.image.last_write()
    }

    /// Opens what a crash left, twice, and appends.
    fn check(&self, crashed: &FaultyFs, case: &str) {
        let rig = Rig::open(crashed, SMALL);
        let found = check_agrees(&rig);
        for record in &self.acknowledged {
            assert_eq!(found.get(&record.offset), Some(record), "{case}");
        }
        let mut kept = self.acknowledged.len();
        for entry in &self.entries {
            let here: Vec<_> =
                entry.iter().filter_map(|record| found.get(&record.offset)).collect();
            assert!(
                here.is_empty() || here == entry.iter().collect::<Vec<_>>(),
                "{case}: {here:?}"
            );
            kept += here.len();
        }
        assert_eq!(found.len(), kept, "{case}: nothing else");
        assert_eq!(rig.recovery.damaged, [], "{case}");
        let used = self.used(crashed);
        let next = rig.append(77, 10);
        assert!(next >= rig.recovery.head && next > *found.last_key_value().unwrap().0, "{case}");
        assert!(used.is_none_or(|used| next > used), "{case}: {next} was on the disk before");
        let mut expected = found;
        expected.extend(by_offset(records_of(&entry(77, &[10]), next)));
        drop(rig);
        let rig = Rig::open(crashed, SMALL);
        assert_eq!(check_agrees(&rig), expected, "{case}");
        assert_eq!((rig.recovery.torn_bytes, rig.recovery.damaged.len()), (0, 0), "{case}");
    }

    /// The last offset of which a byte was on the disk.
    fn used(&self, crashed: &FaultyFs) -> Option<u64> {
        let images = self.image.crash(Crash::LastWrite(0));
        let before = images.read_raw(&segment(0)).unwrap();
        let after = crashed.read_raw(&segment(0)).unwrap();
        let written = |(before, after): (&u8, &u8)| before != after;
        let last = before.iter().zip(&after).rposition(written)?;
        let mut at = self.position as usize;
        let records = self.entries.iter().flatten();
        let begun = records.take_while(|record| {
            let begun = at <= last;
            at += record.payload.len() + 40;
            begun
        });
        begun.last().map(|record| record.offset)
    }
}

fn mixed() -> Vec<Entry<u64>> {
    vec![entry(10, &[60]), entry(11, &[30, 0, 50]), entry(12, &[45]), entry(13, &[20, 20])]
}

#[test]
fn a_write_torn_at_any_byte_loses_only_what_was_not_acknowledged() {
    let torn = Torn::new(ONE, &mixed());
    for kept in 0..=torn.size() {
        torn.check(&torn.image.crash(Crash::LastWrite(kept)), &format!("{kept} bytes kept"));
    }
}

#[test]
fn a_file_that_ends_at_any_byte_loses_only_what_was_not_acknowledged() {
    let torn = Torn::new(ONE, &mixed());
    let whole = torn.image.crash(Crash::Everything).read_raw(&segment(0)).unwrap();
    for size in torn.position..=torn.position + torn.size() as u64 {
        let crashed = torn.image.crash(Crash::Everything);
        crashed.write_raw(&segment(0), &whole[..size as usize]);
        torn.check(&crashed, &format!("{size} bytes in the file"));
    }
}

#[test]
fn any_stretch_of_a_group_may_be_missing() {
    let torn = Torn::new(ONE, &mixed());
    let whole = torn.image.crash(Crash::Everything).read_raw(&segment(0)).unwrap();
    let group = torn.position as usize..torn.position as usize + torn.size();
    for length in [1, 16, 40, 100, 200] {
        for from in group.clone().step_by(3) {
            let crashed = torn.image.crash(Crash::Everything);
            let mut bytes = whole.clone();
            bytes[from..(from + length).min(group.end)].fill(0);
            crashed.write_raw(&segment(0), &bytes);
            torn.check(&crashed, &format!("{length} bytes missing at {from}"));
        }
    }
}

#[test]
fn pages_of_a_group_may_come_in_any_order() {
    let entries = (20..40).map(|seed| entry(seed, &[100, 300, 200][..seed as usize % 3 + 1]));
    let torn = Torn::new(ONE, &entries.collect::<Vec<_>>());
    let pages = torn.image.unsynced_pages();
    assert!(pages > 8);
    for page in 0..pages {
        torn.check(&torn.image.crash(Crash::AllButPage(page)), &format!("all but page {page}"));
        torn.check(&torn.image.crash(Crash::OnlyPage(page)), &format!("only page {page}"));
    }
    for seed in 0..300 {
        torn.check(&torn.image.crash(Crash::Random(seed)), &format!("seed {seed}"));
    }
}

#[test]
fn a_group_that_grows_the_file_may_be_torn_too() {
    // Larger than what is zeroed ahead, so its place is only reserved.
    let entries = vec![entry(10, &[100 << 10, 100 << 10]), entry(11, &[200 << 10])];
    let torn = Torn::new(ONE, &entries);
    for seed in 0..20 {
        torn.check(&torn.image.crash(Crash::Random(seed)), &format!("seed {seed}"));
    }
    for kept in (0..=torn.size()).step_by(37 << 10) {
        torn.check(&torn.image.crash(Crash::LastWrite(kept)), &format!("{kept} bytes kept"));
    }
}

#[test]
fn a_crash_during_the_repair_is_repaired() {
    let torn = Torn::new(ONE, &mixed());
    for kept in (0..=torn.size()).step_by(7) {
        // Killed: what was written is in memory, and the next start builds upon it.
        let killed = torn.image.crash(Crash::LastWrite(kept));
        let unsynced = unsynced_copy(&torn, kept);
        for fs in [killed, unsynced] {
            fs.record_crashes();
            drop(Rig::open(&fs, ONE));
            for image in fs.take_images() {
                for crash in [Crash::Nothing, Crash::Everything, Crash::Random(kept as u64)] {
                    let case =
                        format!("{kept} bytes kept, then {crash:?} at call {}", image.call());
                    torn.check(&image.crash(crash), &case);
                }
            }
        }
    }
}

/// What a killed process leaves on a machine that runs on: the group's first bytes, in memory only.
fn unsynced_copy(torn: &Torn, kept: usize) -> FaultyFs {
    let group = torn.image.crash(Crash::Everything).read_raw(&segment(0)).unwrap();
    let fs = torn.image.crash(Crash::LastWrite(0));
    let file = fs.open(&segment(0), crate::fs::Access::Write).unwrap();
    let from = torn.position as usize;
    file.write_at(&group[from..from + kept], torn.position).unwrap();
    fs
}

#[test]
fn a_torn_end_is_reported_once() {
    let torn = Torn::new(ONE, &mixed());
    let crashed = torn.image.crash(Crash::LastWrite(torn.size() - 10));
    let rig = Rig::open(&crashed, ONE);
    let last = torn.entries.last().unwrap()[0].offset;
    assert_eq!(rig.recovery.torn_bytes, 110, "both records of the last entry");
    assert_eq!(rig.recovery.torn.len(), 1);
    assert_eq!(rig.recovery.torn[0].start, last);
    assert!(rig.recovery.head > last + 1);
    assert_eq!(rig.log.damage(), []);
    drop(rig);
    assert_eq!(Rig::open(&crashed, ONE).recovery.torn, []);
    assert!(torn.fs.files().contains(&segment(0)));
}
