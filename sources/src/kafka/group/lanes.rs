//! In which order records are delivered: the records of a lane one batch after the other, several lanes at once. Pure.

use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher};

use broker_event::Event;

use super::progress::Tenure;

/// How many batches of a consumer are stored at once. A broker of this mesh joins what arrives together into one write to
/// disk, so more gain nothing there; to another sink each is a connection.
pub(super) const PARALLEL: usize = 8;

/// Records of one batch: so many are delivered again if the mesh dies before they are acknowledged, and one write to disk
/// is shared by so many.
pub(super) const BATCH_RECORDS: usize = 1024;

/// Bytes of one batch, unless a single record has more: a write of that size takes a disk some milliseconds.
pub(super) const BATCH_BYTES: usize = 1 << 20;

/// A record on its way.
#[derive(Debug)]
pub(super) struct Pending {
    pub(super) tenure: Tenure,
    pub(super) offset: i64,
    /// Bytes it counts for.
    pub(super) size: usize,
    /// The hash of its key, if it has one.
    pub(super) key: Option<u64>,
    pub(super) event: Event,
}

/// Records that are delivered together.
#[derive(Debug)]
pub(super) struct Batch {
    pub(super) lane: Lane,
    pub(super) records: Vec<Pending>,
}

/// What keeps an order of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Lane {
    /// The records of a partition.
    Partition(Tenure),
    /// The records whose keys, or offsets if they have none, share a remainder.
    Share(u64),
}

/// The records of a consumer that wait, by lanes.
#[derive(Debug)]
pub(super) struct Lanes {
    ordered: bool,
    /// Records of a batch.
    most: usize,
    lanes: HashMap<Lane, Queue>,
    /// Lanes with something to deliver and nothing under way, the longest waiting first.
    ready: VecDeque<Lane>,
    under_way: usize,
}

#[derive(Debug, Default)]
struct Queue {
    waiting: VecDeque<Pending>,
    busy: bool,
}

impl Lanes {
    /// `ordered`: a lane is a partition; otherwise it is a share of the keys. A batch has `most` records.
    pub(super) fn new(ordered: bool, most: usize) -> Self {
        Self { ordered, most, lanes: HashMap::new(), ready: VecDeque::new(), under_way: 0 }
    }

    /// Takes a record in, after all others of its lane.
    pub(super) fn push(&mut self, record: Pending) {
        let lane = self.lane(&record);
        let queue = self.lanes.entry(lane).or_default();
        if !queue.busy && queue.waiting.is_empty() {
            self.ready.push_back(lane);
        }
        queue.waiting.push_back(record);
    }

    /// The next batch to deliver, unless enough are under way.
    pub(super) fn next(&mut self) -> Option<Batch> {
        if self.under_way >= PARALLEL {
            return None;
        }
        let lane = self.ready.pop_front()?;
        let queue = self.lanes.get_mut(&lane)?;
        let mut bytes = 0;
        let fits = |record: &&Pending| {
            bytes += record.size;
            bytes <= BATCH_BYTES
        };
        let count = queue.waiting.iter().take(self.most).take_while(fits).count();
        let records = queue.waiting.drain(..count.max(1).min(queue.waiting.len())).collect();
        queue.busy = true;
        self.under_way += 1;
        Some(Batch { lane, records })
    }

    /// The batch of that lane is no longer under way.
    pub(super) fn finish(&mut self, lane: Lane) {
        let Some(queue) = self.lanes.get_mut(&lane).filter(|queue| queue.busy) else {
            debug_assert!(false, "a batch is finished that was not under way");
            return;
        };
        self.under_way -= 1;
        queue.busy = false;
        if queue.waiting.is_empty() {
            self.lanes.remove(&lane);
        } else {
            self.ready.push_back(lane);
        }
    }

    fn lane(&self, record: &Pending) -> Lane {
        if self.ordered {
            return Lane::Partition(record.tenure);
        }
        let number = record.key.unwrap_or_else(|| record.offset.unsigned_abs());
        Lane::Share(number % PARALLEL as u64)
    }
}

/// The hash that tells keys apart; the same for the same key for as long as the process lives.
pub(super) fn hash(key: &[u8]) -> u64 {
    BuildHasherDefault::<DefaultHasher>::default().hash_one(key)
}

#[cfg(test)]
mod tests {
    use broker_event::EventBuilder;

    use super::super::progress::Progress;
    use super::*;

    /// Tenures of so many partitions.
    fn tenures(count: i32) -> Vec<Tenure> {
        let mut progress = Progress::default();
        (0..count)
            .map(|partition| {
                progress.assign("t", partition);
                progress.begin("t", partition, 0).unwrap()
            })
            .collect()
    }

    fn pending(tenure: Tenure, offset: i64, size: usize, key: Option<u64>) -> Pending {
        let event = EventBuilder::new("1", "/s", "t").build().unwrap();
        Pending { tenure, offset, size, key, event }
    }

    fn offsets(batch: &Batch) -> Vec<i64> {
        batch.records.iter().map(|record| record.offset).collect()
    }

    #[test]
    fn a_partition_is_delivered_in_order_one_batch_after_the_other() {
        let mut lanes = Lanes::new(true, BATCH_RECORDS);
        let [one, other] = tenures(2)[..] else { panic!("two") };
        for offset in 0..3 {
            lanes.push(pending(one, offset, 1, None));
        }
        let first = lanes.next().unwrap();
        assert_eq!(offsets(&first), [0, 1, 2]);
        lanes.push(pending(one, 3, 1, None));
        lanes.push(pending(other, 9, 1, None));
        let second = lanes.next().unwrap();
        assert_eq!(offsets(&second), [9]);
        assert!(lanes.next().is_none());
        lanes.finish(first.lane);
        assert_eq!(offsets(&lanes.next().unwrap()), [3]);
        lanes.finish(second.lane);
        assert!(lanes.next().is_none());
    }

    #[test]
    fn batches_are_bounded_but_for_a_single_record() {
        let mut lanes = Lanes::new(true, BATCH_RECORDS);
        let tenure = tenures(1)[0];
        for size in [BATCH_BYTES + 1, BATCH_BYTES / 2, BATCH_BYTES / 2, 1] {
            lanes.push(pending(tenure, 0, size, None));
        }
        for expected in [1, 2, 1] {
            let batch = lanes.next().unwrap();
            assert_eq!(batch.records.len(), expected);
            lanes.finish(batch.lane);
        }
        for _ in 0..=BATCH_RECORDS {
            lanes.push(pending(tenure, 0, 1, None));
        }
        assert_eq!(lanes.next().unwrap().records.len(), BATCH_RECORDS);
        let mut singly = Lanes::new(true, 1);
        for offset in 0..2 {
            singly.push(pending(tenure, offset, 1, None));
        }
        assert_eq!(offsets(&singly.next().unwrap()), [0]);
    }

    #[test]
    fn without_order_only_a_key_waits_for_itself() {
        let mut lanes = Lanes::new(false, BATCH_RECORDS);
        let tenure = tenures(1)[0];
        lanes.push(pending(tenure, 0, 1, Some(7)));
        let first = lanes.next().unwrap();
        lanes.push(pending(tenure, 1, 1, Some(7)));
        lanes.push(pending(tenure, 2, 1, Some(8)));
        lanes.push(pending(tenure, 3, 1, None));
        assert_eq!(offsets(&lanes.next().unwrap()), [2]);
        assert_eq!(offsets(&lanes.next().unwrap()), [3]);
        assert!(lanes.next().is_none());
        lanes.finish(first.lane);
        assert_eq!(offsets(&lanes.next().unwrap()), [1]);
        assert_eq!(hash(b"k"), hash(b"k"));
    }

    #[test]
    fn so_many_batches_are_under_way_and_no_more() {
        let mut lanes = Lanes::new(true, BATCH_RECORDS);
        let tenures = tenures(i32::try_from(PARALLEL).unwrap() + 1);
        for tenure in &tenures {
            lanes.push(pending(*tenure, 0, 1, None));
        }
        let batches: Vec<_> = std::iter::from_fn(|| lanes.next()).collect();
        assert_eq!(batches.len(), PARALLEL);
        lanes.finish(batches[0].lane);
        assert_eq!(lanes.next().unwrap().lane, Lane::Partition(tenures[PARALLEL]));
    }
}
