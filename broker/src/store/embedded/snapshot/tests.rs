use super::super::book::{Ended, Note, Scan, StepNote};
use super::*;
use crate::store::Outcome;

fn step(position: Position, ended: Ended, reason: &str) -> Note {
    let outcome = Outcome {
        status: 500,
        reason: reason.to_owned(),
        body: b"busy".to_vec(),
        ..Outcome::default()
    };
    Note::Step(Box::new(StepNote { position, ended, attempts: 2, outcome }))
}

fn state() -> State {
    let mut state = State { routed: 100, ..State::default() };
    state.apply(Record::Declared { stream: 4, topic: Topic::new("default", "main"), budget: 10 });
    let scan = Some(Scan { next: 3, end: None });
    state.apply(Record::Subscribed {
        id: 7,
        stream: 4,
        name: "default/t".to_owned(),
        from: 3,
        scan,
    });
    let notes = vec![
        Note::Scanned { scan: None, matched: (3..50).collect() },
        step(4, Ended::Retry { due_ms: 99 }, "slow"),
        step(5, Ended::Park, "dead"),
        Note::Acked { position: 6, end: None },
        Note::Acked { position: 120, end: None },
    ];
    state.apply(Record::Notes { id: 7, notes });
    state.topics.get_mut(&4).unwrap().unrouted = [60, 61].into_iter().collect();
    state
}

#[test]
fn everything_comes_back() {
    let state = state();
    let read = State::decode(&state.encode()).unwrap();
    assert_eq!(read, state);
    assert_eq!((read.next_stream, read.next_id), (5, 8));
    let book = &read.subscriptions[&7].book;
    book.check();
    assert_eq!(book.parked()[&5].last.outcome().body, b"busy");
    assert!(book.settled().contains(120) && !book.pending().contains(6));
}

#[test]
fn cut_and_newer_snapshots_are_refused() {
    let bytes = state().encode();
    for length in 0..bytes.len() {
        // A cut between two parts is a smaller state; the journal's checksum is what guards against it.
        if let Ok(read) = State::decode(&bytes[..length]) {
            assert!(read.topics.len() + read.subscriptions.len() < 2);
        }
    }
    let mut newer = bytes;
    newer[0] = 2;
    assert_eq!(State::decode(&newer), Err(DecodeError::Version(2)));
}

#[test]
fn settled_events_are_not_routed_again() {
    let mut state = state();
    let book = &mut state.subscriptions.get_mut(&7).unwrap().book;
    assert!(!book.route(120), "settled by the journal");
    assert!(!book.route(5), "parked");
    assert!(!book.route(2), "before its start");
    assert!(book.route(121));
}

#[test]
fn removal_forgets_and_late_notes_do_no_harm() {
    let mut state = state();
    state.apply(Record::Unsubscribed { id: 7 });
    state.apply(Record::Notes { id: 7, notes: vec![step(1, Ended::Park, "late")] });
    assert!(state.subscriptions.is_empty());
    state.apply(Record::Removed { stream: 4 });
    assert!(state.topics.is_empty());
    assert_eq!((state.next_stream, state.next_id), (5, 8), "numbers are not used again");
}

#[test]
fn a_budget_change_keeps_the_topic() {
    let mut state = state();
    state.apply(Record::Declared { stream: 4, topic: Topic::new("default", "main"), budget: 77 });
    assert_eq!(state.topics[&4].budget, 77);
    assert_eq!(state.topics[&4].unrouted.len(), 2);
}
