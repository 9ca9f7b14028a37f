use proptest::prelude::*;
use proptest::{prop_assert_eq, proptest};
use roaring::RoaringTreemap;

use super::*;
use crate::store::{Outcome, Stage};

fn back(record: &Record) -> Record {
    Record::decode(&record.encode()).unwrap()
}

fn brief(position: Position, status: u16, at_ms: u64) -> Note {
    let end = Brief { attempts: 1, status, stage: Stage::Subscriber, at_ms, took_ms: 3 };
    Note::Acked { position, end: Some(end) }
}

fn outcome() -> Outcome {
    Outcome {
        status: 503,
        at_ms: 1_700_000_000_123,
        took_ms: 41,
        stage: Stage::DeadLetter,
        reason: "überlastet".to_owned(),
        body: vec![0, 255, 7],
    }
}

#[test]
fn every_kind_of_record_comes_back() {
    let scan = Some(Scan { next: 5, end: Some(9) });
    let notes = vec![
        Note::Step(Box::new(StepNote {
            position: 8,
            ended: Ended::Ack,
            attempts: 1,
            outcome: outcome(),
        })),
        Note::Step(Box::new(StepNote {
            position: 8,
            ended: Ended::Retry { due_ms: 77 },
            attempts: 2,
            outcome: outcome(),
        })),
        Note::Step(Box::new(StepNote {
            position: 8,
            ended: Ended::Hold { due_ms: 78 },
            attempts: 3,
            outcome: outcome(),
        })),
        Note::Step(Box::new(StepNote {
            position: 8,
            ended: Ended::Park,
            attempts: 4,
            outcome: outcome(),
        })),
        Note::Redriven([1, 2, 3].into_iter().collect()),
        Note::Purged([4, 1 << 33].into_iter().collect()),
        Note::Replayed(RoaringTreemap::new()),
        Note::Scanned { scan, matched: [6].into_iter().collect() },
        Note::Scanned { scan: None, matched: RoaringTreemap::new() },
        Note::Expired { position: 12, at_ms: 3 },
        Note::Acked { position: 13, end: None },
        brief(14, 202, 5),
    ];
    for record in [
        Record::Declared { stream: 3, topic: Topic::new("default", "main"), budget: u64::MAX },
        Record::Removed { stream: 3 },
        Record::Subscribed { id: 9, stream: 3, name: "default/t".to_owned(), from: 11, scan },
        Record::Unsubscribed { id: u32::MAX },
        Record::Notes { id: 9, notes },
    ] {
        assert_eq!(back(&record), record);
    }
}

#[test]
fn acks_of_one_flush_cost_a_few_bytes_each() {
    let plain = (0..10_000).map(|position| Note::Acked { position, end: None }).collect();
    assert!(Record::Notes { id: 1, notes: plain }.encode().len() < 20);
    let briefs = (0..10_000)
        .map(|position| brief(position, 202, 1_700_000_000_000 + position / 50))
        .collect();
    assert!(Record::Notes { id: 1, notes: briefs }.encode().len() < 32_000);
}

#[test]
fn notes_about_one_event_stay_in_order() {
    let park = Note::Step(Box::new(StepNote {
        position: 2,
        ended: Ended::Park,
        attempts: 1,
        outcome: outcome(),
    }));
    let notes = vec![
        brief(3, 200, 1),
        brief(1, 200, 2),
        park,
        Note::Redriven([2].into_iter().collect()),
        brief(2, 200, 3),
    ];
    let Record::Notes { notes: read, .. } = back(&Record::Notes { id: 0, notes: notes.clone() })
    else {
        unreachable!()
    };
    assert_eq!(read[..2], [brief(1, 200, 2), brief(3, 200, 1)], "grouped acks are sorted");
    assert_eq!(read[2..], notes[2..]);
}

#[test]
fn newer_and_unknown_records_are_refused() {
    assert_eq!(Record::decode(&[]), Err(DecodeError::Short));
    assert_eq!(Record::decode(&[2, 1]), Err(DecodeError::Version(2)));
    assert_eq!(Record::decode(&[VERSION, 99]), Err(DecodeError::Kind(99)));
    assert_eq!(Record::decode(&[VERSION, NOTES, 1, 99]), Err(DecodeError::Kind(99)));
}

#[test]
fn a_record_written_by_the_first_version_is_read() {
    // Kept as bytes: what is on somebody's disk must stay readable.
    let bytes = [1, 5, 9, 1, 2, 3, 2, 4, 1, 2, 1, 202, 1, 0, 2, 10, 246, 1, 5, 1, 4, 6];
    let expected = Record::Notes {
        id: 9,
        notes: vec![
            Note::Acked { position: 3, end: None },
            Note::Acked { position: 4, end: None },
            Note::Acked { position: 9, end: None },
            brief_of(10, 123, 5),
            brief_of(11, 125, 6),
        ],
    };
    assert_eq!(Record::decode(&bytes), Ok(expected.clone()));
    assert_eq!(expected.encode(), bytes);
}

fn brief_of(position: Position, at_ms: u64, took_ms: u32) -> Note {
    let end = Brief { attempts: 1, status: 202, stage: Stage::Subscriber, at_ms, took_ms };
    Note::Acked { position, end: Some(end) }
}

proptest! {
    #[test]
    fn any_bytes_are_an_error_or_a_record_never_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..60)) {
        let mut bytes = bytes;
        bytes.insert(0, VERSION);
        if let Ok(record) = Record::decode(&bytes) {
            prop_assert_eq!(Record::decode(&record.encode()), Ok(record));
        }
    }

    #[test]
    fn acks_come_back_sorted(positions in prop::collection::btree_set(0..u64::MAX, 0..50), at in any::<u64>()) {
        let notes: Vec<Note> = positions.iter().map(|position| brief(*position, 200, at)).collect();
        let record = Record::Notes { id: 1, notes };
        prop_assert_eq!(back(&record), record);
    }
}
