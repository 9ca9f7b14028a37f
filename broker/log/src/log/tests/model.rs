use std::ops::Range;

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;
use crate::fs::faulty::{Crash, Image};

/// Something done to a log.
#[derive(Clone, Debug)]
enum Step {
    /// Entries of records of these sizes, written together.
    Append(Vec<Vec<usize>>),
    /// Keeps one offset in so many, and the newest bytes.
    Clean {
        one_in: u64,
        history: u64,
    },
    Read {
        from: u64,
        bytes: usize,
    },
    Get(Vec<u64>),
    OffsetAt(u64),
    Reopen,
    /// The power goes during the step: at which of its calls, and what is left.
    Crash {
        during: Box<Step>,
        at: usize,
        seed: u64,
    },
}

fn change() -> impl Strategy<Value = Step> {
    let size = prop_oneof![6 => 0..200_usize, 1 => 200..3000_usize];
    prop_oneof![
        4 => vec(vec(size, 0..4), 1..5).prop_map(Step::Append),
        1 => (1..8_u64, 0..4000_u64).prop_map(|(one_in, history)| Step::Clean { one_in, history }),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => change(),
        2 => (change(), any::<usize>(), any::<u64>()).prop_map(|(during, at, seed)| Step::Crash {
            during: Box::new(during),
            at,
            seed,
        }),
        1 => Just(Step::Reopen),
        1 => (0..100_u64, 0..2000_usize).prop_map(|(from, bytes)| Step::Read { from, bytes }),
        1 => vec(0..120_u64, 0..8).prop_map(Step::Get),
        1 => (900..2100_u64).prop_map(Step::OffsetAt),
    ]
}

/// What a log must hold: records in a map.
#[derive(Clone, Default)]
struct Model {
    kept: BTreeMap<u64, Record>,
    /// Cleaned away: a crash may bring them back.
    gone: BTreeMap<u64, Record>,
    /// No offset below is ever given again.
    used: u64,
    seed: u64,
}

/// The call by which an entry was acknowledged, and its records.
type Acknowledged = Vec<(u64, Vec<Record>)>;

impl Model {
    fn apply(&mut self, fs: &mut FaultyFs, rig: &mut Option<Rig>, step: &Step) {
        let open = rig.as_ref().expect("it is open");
        match step {
            Step::Append(entries) => drop(self.append(open, entries)),
            Step::Clean { one_in, history } => self.clean(open, *one_in, *history),
            Step::Read { from, bytes } => self.read(open, *from, *bytes),
            Step::Get(offsets) => {
                let expected: Vec<_> =
                    offsets.iter().map(|offset| self.kept.get(offset).cloned()).collect();
                assert_eq!(open.log.get(offsets).unwrap(), expected);
            }
            Step::OffsetAt(time) => {
                let since = self.kept.values().find(|record| record.time_ms >= *time);
                let expected = since.map_or(open.log.head(), |record| record.offset);
                assert_eq!(open.log.offset_at(*time), expected);
            }
            Step::Reopen => {
                *rig = None;
                *rig = Some(self.reopen(fs));
            }
            Step::Crash { during, at, seed } => {
                let before = self.clone();
                fs.record_crashes();
                let acknowledged = match during.as_ref() {
                    Step::Append(entries) => self.append(open, entries),
                    step => {
                        self.apply(fs, rig, step);
                        Acknowledged::new()
                    }
                };
                let images = fs.take_images();
                let image = &images[at % images.len()];
                *rig = None;
                *fs = image.crash(Crash::Random(*seed));
                *rig = Some(self.after_crash(fs, image, before, &acknowledged));
            }
        }
    }

    fn append(&mut self, rig: &Rig, sizes: &[Vec<usize>]) -> Acknowledged {
        let entries: Vec<_> =
            (self.seed + 1..).zip(sizes).map(|(seed, sizes)| entry(seed, sizes)).collect();
        self.seed += entries.len() as u64;
        let held = Entry { tag: HOLD, ..entry(HOLD, &[1]) };
        let told = rig.group(entries.clone());
        let mut acknowledged = Acknowledged::new();
        for (entry, told) in [held].into_iter().chain(entries).zip(told) {
            assert_eq!(told.commit.result, Ok(()));
            assert!(told.commit.first_offset >= self.used, "an offset again");
            let records = records_of(&entry, told.commit.first_offset);
            self.used = told.commit.first_offset + records.len() as u64;
            self.kept.extend(by_offset(records.clone()));
            acknowledged.push((told.calls, records));
        }
        acknowledged
    }

    fn clean(&mut self, rig: &Rig, one_in: u64, history: u64) {
        let wanted = |offset: &u64| offset.is_multiple_of(one_in);
        let live = |range: Range<u64>| range.filter(wanted).collect::<RoaringTreemap>();
        rig.log.clean(history, &live).unwrap();
        let left = by_offset(rig.records());
        for (offset, record) in std::mem::take(&mut self.kept) {
            match left.get(&offset) {
                Some(found) => {
                    assert_eq!(*found, record);
                    self.kept.insert(offset, record);
                }
                None => {
                    assert!(!wanted(&offset), "{offset} is live");
                    self.gone.insert(offset, record);
                }
            }
        }
    }

    fn read(&self, rig: &Rig, from: u64, bytes: usize) {
        let read = rig.log.read(from, bytes).unwrap();
        let expected: Vec<_> = self.kept.range(from..).map(|(_, record)| record.clone()).collect();
        assert_eq!(read, expected[..read.len()]);
        let taken =
            |records: &[Record]| records.iter().map(|record| record.payload.len()).sum::<usize>();
        let enough = read.len() == expected.len() || taken(&read) >= bytes;
        assert!(enough && (!read.is_empty() || expected.is_empty()), "{} records", read.len());
        assert!(
            read.split_last()
                .is_none_or(|(_, but_last)| but_last.is_empty() || taken(but_last) < bytes)
        );
    }

    fn reopen(&mut self, fs: &FaultyFs) -> Rig {
        let rig = Rig::open(fs, SMALL);
        assert_eq!((rig.recovery.damaged.len(), rig.recovery.torn.len()), (0, 0));
        // A segment whose records are all dead may have been deleted, and its file not.
        assert_eq!(by_offset(rig.records()), self.kept);
        rig
    }

    /// What a crash at `image` left: `before` the step, and what was acknowledged since.
    fn after_crash(
        &mut self,
        fs: &FaultyFs,
        image: &Image,
        before: Self,
        acknowledged: &Acknowledged,
    ) -> Rig {
        let rig = Rig::open(fs, SMALL);
        assert_eq!(rig.recovery.damaged, []);
        let found = by_offset(rig.records());
        let seed = self.seed;
        let after = std::mem::replace(self, Self { seed, ..before });
        for (calls, records) in acknowledged {
            let here = records.iter().filter(|record| found.contains_key(&record.offset)).count();
            assert!(here == records.len() || here == 0 && *calls > image.call(), "half or lost");
            if *calls <= image.call() {
                self.used = records.last().map_or(self.used, |last| last.offset + 1);
            }
        }
        let known = |offset: &u64| {
            self.kept.get(offset).or(self.gone.get(offset)).or(after.kept.get(offset))
        };
        for (offset, record) in &found {
            assert_eq!(known(offset), Some(record), "{offset} is invented");
        }
        let lost = self
            .kept
            .keys()
            .find(|offset| after.kept.contains_key(offset) && !found.contains_key(offset));
        assert_eq!(lost, None, "it was kept");
        let (kept, gone) = (std::mem::take(&mut self.kept), &mut self.gone);
        gone.extend(kept.into_iter().filter(|(offset, _)| !found.contains_key(offset)));
        gone.retain(|offset, _| !found.contains_key(offset));
        assert!(rig.log.head() >= self.used, "an offset again");
        self.used = rig.log.head();
        self.kept = found;
        rig
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_log_holds_what_a_map_would(steps in vec(step(), 1..40)) {
        let mut fs = disk();
        let mut rig = Some(Rig::open(&fs, SMALL));
        let mut model = Model::default();
        for step in &steps {
            model.apply(&mut fs, &mut rig, step);
            let rig = rig.as_ref().expect("it is open again");
            assert_eq!(check_agrees(rig), model.kept, "after {step:?}");
        }
    }
}
