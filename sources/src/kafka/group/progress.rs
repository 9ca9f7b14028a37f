//! How far the partitions of a consumer have come: which records are under way, and up to where an offset may be committed.
//! Pure.

use std::collections::VecDeque;
use std::sync::Arc;

/// A partition for the time it is assigned, or until its offsets begin anew; afterwards the same partition is another
/// tenure. What was begun under one says nothing about another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Tenure(u64);

/// The partitions of a consumer.
#[derive(Debug, Default)]
pub(super) struct Progress {
    held: Vec<Held>,
    tenures: u64,
}

/// An offset that may be committed: that of the record to go on with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Position {
    pub(super) topic: Arc<str>,
    pub(super) partition: i32,
    pub(super) offset: i64,
}

#[derive(Debug)]
struct Held {
    tenure: Tenure,
    topic: Arc<str>,
    partition: i32,
    /// The records under way by their offsets, in order, and whether each is safe. The first is not.
    under_way: VecDeque<(i64, bool)>,
    /// The deliveries have the records before this offset.
    handed: i64,
    /// The offset after the last record of which all before are safe too.
    safe: Option<i64>,
    /// What of it was handed to Kafka.
    committed: Option<i64>,
}

impl Progress {
    /// The partition was assigned.
    pub(super) fn assign(&mut self, topic: &str, partition: i32) {
        self.revoke(topic, partition);
        let tenure = self.tenure();
        self.held.push(Held {
            tenure,
            topic: topic.into(),
            partition,
            under_way: VecDeque::new(),
            handed: 0,
            safe: None,
            committed: None,
        });
    }

    /// The partition is somebody else's.
    pub(super) fn revoke(&mut self, topic: &str, partition: i32) {
        self.held.retain(|held| !held.is(topic, partition));
    }

    /// A record is under way. Nothing if its partition is not assigned: it is not this consumer's to deliver.
    pub(super) fn begin(&mut self, topic: &str, partition: i32, offset: i64) -> Option<Tenure> {
        let fresh = Tenure(self.tenures);
        let held = self.held.iter_mut().find(|held| held.is(topic, partition))?;
        let last = held.under_way.back().map(|(last, _)| last + 1).or(held.safe);
        if last.is_some_and(|last| offset < last) {
            // The topic was made anew, or cut: these are other records than those before.
            held.tenure = fresh;
            held.under_way.clear();
            (held.handed, held.safe, held.committed) = (0, None, None);
            self.tenures += 1;
        }
        held.under_way.push_back((offset, false));
        Some(held.tenure)
    }

    /// A record is safe.
    pub(super) fn finish(&mut self, tenure: Tenure, offset: i64) {
        let Some(held) = self.held.iter_mut().find(|held| held.tenure == tenure) else { return };
        let at = held.under_way.partition_point(|(have, _)| *have < offset);
        match held.under_way.get_mut(at) {
            Some((have, safe)) if *have == offset => *safe = true,
            _ => debug_assert!(false, "a record is finished that was not begun"),
        }
        while let Some((offset, true)) = held.under_way.front() {
            held.safe = Some(offset + 1);
            held.under_way.pop_front();
        }
    }

    /// Whether it goes on.
    pub(super) fn holds(&self, tenure: Tenure) -> bool {
        self.held.iter().any(|held| held.tenure == tenure)
    }

    /// The deliveries have all that was begun.
    pub(super) fn handed(&mut self) {
        for held in &mut self.held {
            if let Some((last, _)) = held.under_way.back() {
                held.handed = last + 1;
            }
        }
    }

    /// Whether the deliveries have records of these partitions. What they have not got yet does not end by waiting.
    pub(super) fn is_busy(&self, partitions: &[(String, i32)]) -> bool {
        partitions.iter().any(|(topic, partition)| {
            self.held.iter().any(|held| held.is(topic, *partition) && held.is_busy())
        })
    }

    /// How many records are under way, or safe behind one that is.
    pub(super) fn under_way(&self) -> usize {
        self.held.iter().map(|held| held.under_way.len()).sum()
    }

    /// Whether there is something to commit.
    pub(super) fn is_due(&self) -> bool {
        self.held.iter().any(Held::is_due)
    }

    /// What is to be committed; from then on it counts as committed.
    pub(super) fn due(&mut self) -> Vec<Position> {
        let due = self.held.iter_mut().filter(|held| held.is_due());
        due.filter_map(|held| {
            held.committed = held.safe;
            let (topic, partition) = (Arc::clone(&held.topic), held.partition);
            held.safe.map(|offset| Position { topic, partition, offset })
        })
        .collect()
    }

    /// What was handed to Kafka may not have arrived.
    pub(super) fn uncommitted(&mut self) {
        for held in &mut self.held {
            held.committed = None;
        }
    }

    /// The assigned partitions.
    pub(super) fn partitions(&self) -> impl Iterator<Item = (&Arc<str>, i32)> {
        self.held.iter().map(|held| (&held.topic, held.partition))
    }

    fn tenure(&mut self) -> Tenure {
        self.tenures += 1;
        Tenure(self.tenures - 1)
    }
}

impl Held {
    fn is(&self, topic: &str, partition: i32) -> bool {
        self.partition == partition && *self.topic == *topic
    }

    fn is_busy(&self) -> bool {
        self.under_way.front().is_some_and(|(offset, _)| *offset < self.handed)
    }

    fn is_due(&self) -> bool {
        self.safe.is_some() && self.safe != self.committed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn due(progress: &mut Progress) -> Vec<(i32, i64)> {
        progress.due().into_iter().map(|it| (it.partition, it.offset)).collect()
    }

    #[test]
    fn what_is_committed_has_nothing_under_way_before_it() {
        let mut progress = Progress::default();
        progress.assign("t", 0);
        let tenure = progress.begin("t", 0, 5).unwrap();
        // Offsets have gaps: transactions and compaction leave them.
        for offset in [6, 9] {
            assert_eq!(progress.begin("t", 0, offset), Some(tenure));
        }
        progress.finish(tenure, 6);
        assert!(!progress.is_due());
        progress.finish(tenure, 5);
        assert_eq!(due(&mut progress), [(0, 7)]);
        assert_eq!(due(&mut progress), []);
        progress.finish(tenure, 9);
        assert_eq!(due(&mut progress), [(0, 10)]);
        progress.uncommitted();
        assert_eq!(due(&mut progress), [(0, 10)]);
    }

    #[test]
    fn a_partition_that_went_and_came_back_is_another() {
        let mut progress = Progress::default();
        progress.assign("t", 0);
        progress.assign("u", 0);
        let old = progress.begin("t", 0, 5).unwrap();
        progress.revoke("t", 0);
        assert_eq!(progress.begin("t", 0, 6), None);
        assert!(!progress.holds(old));
        progress.assign("t", 0);
        let new = progress.begin("t", 0, 5).unwrap();
        assert_ne!(new, old);
        progress.finish(old, 5);
        assert!(!progress.is_due());
        progress.finish(new, 5);
        assert_eq!(due(&mut progress), [(0, 6)]);
        let partitions: Vec<_> = progress.partitions().map(|(topic, _)| &**topic).collect();
        assert_eq!(partitions, ["u", "t"]);
    }

    #[test]
    fn a_topic_that_was_made_anew_begins_anew() {
        let mut progress = Progress::default();
        progress.assign("t", 0);
        let old = progress.begin("t", 0, 100).unwrap();
        let new = progress.begin("t", 0, 0).unwrap();
        assert_ne!(new, old);
        progress.finish(old, 100);
        progress.finish(new, 0);
        assert_eq!(due(&mut progress), [(0, 1)]);
    }

    #[test]
    fn it_is_known_whether_partitions_are_busy() {
        let mut progress = Progress::default();
        progress.assign("t", 0);
        progress.assign("t", 1);
        let both = [("t".to_owned(), 0), ("t".to_owned(), 1)];
        let tenure = progress.begin("t", 1, 0).unwrap();
        assert!(!progress.is_busy(&both), "nobody has it yet");
        progress.handed();
        assert!(!progress.is_busy(&[("t".to_owned(), 0)]));
        assert!(progress.is_busy(&both));
        progress.begin("t", 1, 1).unwrap();
        progress.finish(tenure, 0);
        assert!(!progress.is_busy(&both), "only what nobody has is left");
        progress.handed();
        assert!(progress.is_busy(&both));
    }

    #[test]
    fn what_is_safe_behind_a_record_that_is_not_still_counts() {
        let mut progress = Progress::default();
        progress.assign("t", 0);
        let tenure = progress.begin("t", 0, 0).unwrap();
        for offset in 1..=9 {
            progress.begin("t", 0, offset).unwrap();
            progress.finish(tenure, offset);
        }
        assert_eq!(progress.under_way(), 10);
        progress.finish(tenure, 0);
        assert_eq!(progress.under_way(), 0);
    }
}
