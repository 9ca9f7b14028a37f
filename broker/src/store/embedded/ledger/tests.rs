use std::collections::BTreeMap;
use std::time::Duration;

use proptest::prelude::*;
use proptest::{prop_assert, prop_assert_eq, proptest};

use super::super::sync::time;
use super::*;

const NOW: u64 = 1_000_000;

fn ready(position: Position) -> Ready<Position> {
    Ready { position, time_ms: NOW, bytes: 10, item: position }
}

fn held(options: &SubscribeOptions) -> Ledger<Position> {
    let mut ledger = Ledger::new(Book::default());
    ledger.hold(options, NOW);
    ledger
}

fn ordered() -> SubscribeOptions {
    SubscribeOptions { ordered: true, ..SubscribeOptions::default() }
}

fn failure(reason: &str) -> Option<Outcome> {
    Some(Outcome { status: 500, reason: reason.to_owned(), ..Outcome::default() })
}

/// Routes without handing over.
fn route(ledger: &mut Ledger<Position>, positions: impl IntoIterator<Item = Position>) {
    for position in positions {
        assert!(ledger.route(position, NOW));
    }
}

/// Takes what can be had at `now`, loading what is asked for.
fn take_at(ledger: &mut Ledger<Position>, max: usize, now: u64) -> Vec<Handed<Position>> {
    loop {
        let next = ledger.next(max, now);
        ledger.check_invariants();
        match next {
            Next::Deliver(handed) => return handed,
            Next::Load(positions) => {
                ledger.loaded(
                    positions
                        .into_iter()
                        .map(|position| (position, Some(ready(position))))
                        .collect(),
                    now,
                );
            }
            Next::Wait(_) => return Vec::new(),
        }
    }
}

fn take(ledger: &mut Ledger<Position>, max: usize) -> Vec<Position> {
    take_at(ledger, max, NOW).into_iter().map(|handed| handed.position).collect()
}

#[test]
fn what_keeps_up_is_handed_over_from_memory() {
    let mut ledger = held(&SubscribeOptions::default());
    for position in 0..3 {
        route(&mut ledger, [position]);
        assert!(ledger.takes_live(10));
        ledger.lay_ready(ready(position));
    }
    assert!(matches!(ledger.next(2, NOW), Next::Deliver(handed) if handed.len() == 2));
    assert!(matches!(ledger.next(2, NOW), Next::Deliver(handed) if handed.len() == 1));
    assert!(matches!(ledger.next(2, NOW), Next::Wait(None)));
}

#[test]
fn what_does_not_keep_up_costs_bits_and_is_loaded_in_order() {
    let mut ledger = held(&SubscribeOptions::default());
    for position in 0..1000 {
        route(&mut ledger, [position]);
        if ledger.takes_live(10) {
            ledger.lay_ready(ready(position));
        }
    }
    assert_eq!(ledger.line.len(), READY_EVENTS);
    let mut seen = Vec::new();
    loop {
        let positions = take(&mut ledger, 100);
        if positions.is_empty() {
            break;
        }
        for position in &positions {
            assert_eq!(ledger.settle(*position, Settlement::Ack, None), Settled::Acked);
        }
        seen.extend(positions);
    }
    assert_eq!(seen, (0..1000).collect::<Vec<_>>());
    assert_eq!(ledger.book().pending_len(), 0);
}

#[test]
fn nothing_is_handed_over_past_an_older_event() {
    let mut ledger = held(&SubscribeOptions::default());
    route(&mut ledger, [1, 2]);
    assert!(!ledger.takes_live(10));
    drop(take(&mut ledger, 2));
    route(&mut ledger, [3]);
    assert!(ledger.takes_live(10));
}

#[test]
fn large_events_do_not_pile_up() {
    let mut ledger = held(&SubscribeOptions::default());
    route(&mut ledger, [1]);
    assert!(ledger.takes_live(READY_BYTES));
    ledger.lay_ready(Ready { bytes: READY_BYTES, ..ready(1) });
    route(&mut ledger, [2]);
    assert!(!ledger.takes_live(1));
}

#[test]
fn a_retry_waits_for_its_time_and_remembers_why() {
    let mut ledger = held(&SubscribeOptions::default());
    route(&mut ledger, [7]);
    drop(take(&mut ledger, 1));
    let at = time(NOW + 500);
    assert_eq!(ledger.settle(7, Settlement::Retry { at }, failure("no")), Settled::Retried);
    assert!(matches!(ledger.next(1, NOW + 499), Next::Wait(Some(due)) if due == NOW + 500));
    let handed = take_at(&mut ledger, 1, NOW + 500);
    assert_eq!(handed[0].attempts, 1);
    assert_eq!(handed[0].last.as_ref().unwrap().reason, "no");
    assert_eq!(handed[0].not_before_ms, None);
}

#[test]
fn due_retries_are_not_starved_by_new_events() {
    let mut ledger = held(&SubscribeOptions::default());
    route(&mut ledger, [1]);
    drop(take(&mut ledger, 1));
    ledger.settle(1, Settlement::Retry { at: time(NOW) }, failure("no"));
    for position in 2..50 {
        route(&mut ledger, [position]);
        if ledger.takes_live(10) {
            ledger.lay_ready(ready(position));
        }
    }
    assert_eq!(take(&mut ledger, 2), [1, 2]);
}

#[test]
fn an_ordered_subscription_hands_out_by_position_whatever_is_due() {
    let mut ledger = held(&ordered());
    route(&mut ledger, [1, 2, 3]);
    assert_eq!(take(&mut ledger, 1), [1]);
    ledger.settle(1, Settlement::Retry { at: time(NOW + 900) }, failure("no"));
    let handed = take_at(&mut ledger, 2, NOW);
    assert_eq!(handed.iter().map(|handed| handed.position).collect::<Vec<_>>(), [1, 2]);
    assert_eq!(handed[0].not_before_ms, Some(NOW + 900));
    assert_eq!(handed[1].not_before_ms, None);
}

#[test]
fn a_hold_counts_and_keeps_the_delivery() {
    let mut ledger = held(&ordered());
    route(&mut ledger, [1]);
    drop(take(&mut ledger, 1));
    assert_eq!(
        ledger.settle(1, Settlement::Hold { at: time(NOW + 5) }, failure("no")),
        Settled::Held
    );
    assert!(take(&mut ledger, 1).is_empty());
    assert_eq!(ledger.settle(1, Settlement::Release, None), Settled::Released);
    let handed = take_at(&mut ledger, 1, NOW);
    assert_eq!((handed[0].attempts, handed[0].not_before_ms), (1, Some(NOW + 5)));
}

#[test]
fn a_released_delivery_is_as_if_never_handed_out() {
    let mut ledger = held(&SubscribeOptions::default());
    route(&mut ledger, [1, 2]);
    assert_eq!(take(&mut ledger, 1), [1]);
    ledger.settle(1, Settlement::Release, None);
    assert_eq!(take(&mut ledger, 2), [2], "what lies ready goes first");
    let handed = take_at(&mut ledger, 2, NOW);
    assert_eq!((handed[0].position, handed[0].attempts, &handed[0].last), (1, 0, &None));
    assert!(!ledger.has_notes());
}

#[test]
fn a_delivery_is_settled_once() {
    let mut ledger = held(&SubscribeOptions::default());
    route(&mut ledger, [1]);
    drop(take(&mut ledger, 1));
    assert_eq!(ledger.settle(1, Settlement::Ack, None), Settled::Acked);
    assert_eq!(ledger.settle(1, Settlement::Park, None), Settled::Ignored);
    assert_eq!(ledger.settle(99, Settlement::Ack, None), Settled::Ignored);
}

#[test]
fn parked_letters_stay_until_redriven_or_purged() {
    let mut ledger = held(&SubscribeOptions::default());
    route(&mut ledger, [1, 2]);
    drop(take(&mut ledger, 2));
    ledger.settle(1, Settlement::Park, failure("a"));
    ledger.settle(2, Settlement::Park, failure("b"));
    assert!(take(&mut ledger, 2).is_empty());
    assert_eq!(ledger.book().parked()[&1].attempts, 1);
    assert_eq!(ledger.book().parked()[&2].last.outcome().reason, "b");
    assert_eq!(ledger.redrive(&[1, 50].into_iter().collect()), 1);
    assert_eq!(ledger.purge(&[1, 2].into_iter().collect()), 1);
    let handed = take_at(&mut ledger, 2, NOW);
    assert_eq!((handed.len(), handed[0].position, handed[0].attempts), (1, 1, 0));
}

#[test]
fn a_new_holder_gets_what_lay_ready_but_not_what_is_in_flight() {
    let mut ledger = held(&SubscribeOptions::default());
    route(&mut ledger, 0..4);
    assert_eq!(take(&mut ledger, 1), [0]);
    ledger.let_go();
    assert_eq!(ledger.ready_bytes(), 0);
    ledger.hold(&SubscribeOptions::default(), NOW);
    assert_eq!(take(&mut ledger, 9), [1, 2, 3]);
    ledger.settle(0, Settlement::Release, None);
    assert_eq!(take(&mut ledger, 9), [0]);
}

#[test]
fn old_events_expire_instead_of_going_out() {
    let options =
        SubscribeOptions { max_age: Some(Duration::from_secs(1)), ..SubscribeOptions::default() };
    let mut ledger = held(&options);
    route(&mut ledger, [1, 2, 3]);
    assert!(take_at(&mut ledger, 9, NOW + 1001).is_empty());
    assert_eq!(ledger.take_dropped(), Dropped { expired: 3, lost: 0 });
    assert!(matches!(ledger.take_notes()[..], [Note::Expired { position: 1, .. }, ..]));
}

#[test]
fn a_backlog_limit_expires_the_oldest_that_are_not_in_flight() {
    let options = SubscribeOptions { max_backlog: Some(2), ..SubscribeOptions::default() };
    let mut ledger = held(&options);
    route(&mut ledger, [1]);
    drop(take(&mut ledger, 1));
    route(&mut ledger, [2, 3, 4, 5]);
    assert_eq!(ledger.book().pending().iter().collect::<Vec<_>>(), [1, 4, 5]);
    assert_eq!(ledger.take_dropped().expired, 2);
    assert_eq!(take(&mut ledger, 9), [4, 5]);
}

#[test]
fn a_backlog_limit_of_zero_keeps_nothing() {
    let mut ledger =
        held(&SubscribeOptions { max_backlog: Some(0), ..SubscribeOptions::default() });
    route(&mut ledger, [1]);
    ledger.lay_ready(ready(1));
    assert!(take(&mut ledger, 1).is_empty());
    ledger.check_invariants();
}

#[test]
fn events_before_an_age_expire_without_being_read() {
    let mut ledger = held(&SubscribeOptions::default());
    route(&mut ledger, 0..10);
    assert_eq!(take(&mut ledger, 1), [0]);
    ledger.expire_before(5, NOW);
    assert_eq!(ledger.take_dropped().expired, 4);
    ledger.check_invariants();
    assert_eq!(take(&mut ledger, 9), [5, 6, 7, 8, 9]);
}

#[test]
fn an_event_that_cannot_be_read_is_recorded_and_passed() {
    let mut ledger = held(&SubscribeOptions::default());
    route(&mut ledger, [1, 2]);
    let Next::Load(positions) = ledger.next(2, NOW) else { panic!("nothing is in memory") };
    assert_eq!(positions, [1, 2]);
    ledger.loaded(vec![(1, None), (2, Some(ready(2)))], NOW);
    assert_eq!(ledger.take_dropped(), Dropped { expired: 0, lost: 1 });
    assert_eq!(take(&mut ledger, 9), [2]);
    assert!(matches!(&ledger.take_notes()[..], [Note::Step(step)] if step.position == 1));
}

#[test]
fn a_search_keeps_order_and_does_not_decide_twice() {
    let book = Book::new(0, Some(Scan { next: 0, end: None }));
    let mut ledger: Ledger<Position> = Ledger::new(book);
    ledger.hold(&SubscribeOptions::default(), NOW);
    ledger.bound_scan(10);
    assert!(!ledger.route(5, NOW), "the search decides before its end");
    route(&mut ledger, [12]);
    assert!(!ledger.takes_live(1));
    assert!(take(&mut ledger, 9).is_empty(), "what is newer waits for the search");
    ledger.scanned(6, [2, 4].into_iter().collect(), NOW);
    assert_eq!(take(&mut ledger, 9), [2, 4]);
    ledger.scanned(10, [8].into_iter().collect(), NOW);
    assert_eq!(take(&mut ledger, 9), [8, 12]);
    assert_eq!(ledger.book().scan, None);
}

#[test]
fn a_search_ends_where_the_router_starts_again_after_a_crash() {
    let book = Book::new(0, Some(Scan { next: 0, end: Some(10) }));
    let mut ledger: Ledger<Position> = Ledger::new(book);
    ledger.hold(&SubscribeOptions::default(), NOW);
    ledger.bound_scan(4);
    ledger.scanned(10, [3, 4, 9].into_iter().collect(), NOW);
    assert_eq!(take(&mut ledger, 9), [3]);
    assert_eq!(ledger.book().scan, None);
    assert!(ledger.route(4, NOW), "the router comes to it");
}

#[test]
fn a_subscription_that_starts_now_needs_no_search() {
    let mut ledger: Ledger<Position> =
        Ledger::new(Book::new(10, Some(Scan { next: 10, end: None })));
    ledger.hold(&SubscribeOptions::default(), NOW);
    ledger.bound_scan(10);
    assert_eq!(ledger.book().scan, None);
    assert!(!ledger.route(9, NOW));
    assert!(ledger.route(10, NOW));
}

#[test]
fn replay_hands_out_settled_and_parked_events_again() {
    let mut ledger = held(&SubscribeOptions::default());
    route(&mut ledger, 0..4);
    drop(take(&mut ledger, 3));
    ledger.settle(0, Settlement::Ack, None);
    ledger.settle(1, Settlement::Park, failure("no"));
    assert_eq!(ledger.replay((0..4).collect(), NOW), 2);
    ledger.check_invariants();
    assert_eq!(take(&mut ledger, 9), [3]);
    assert_eq!(take(&mut ledger, 9), [0, 1]);
}

#[test]
fn a_hanging_journal_costs_a_snapshot_not_memory() {
    let mut ledger = held(&SubscribeOptions::default());
    for position in 0..NOTES as u64 + 5 {
        route(&mut ledger, [position]);
        ledger.lay_ready(ready(position));
        drop(ledger.next(1, NOW));
        ledger.settle(position, Settlement::Ack, None);
    }
    assert!(ledger.take_overflowed());
    assert!(!ledger.take_overflowed());
    assert_eq!(ledger.take_notes().len(), 5);
}

#[test]
fn a_million_waiting_events_cost_little() {
    let mut ledger: Ledger<Position> = Ledger::new(Book::default());
    // Every third event, the worst case for runs.
    for position in 0..1_000_000 {
        ledger.route(position * 3, NOW);
    }
    assert!(ledger.book().pending().serialized_size() < 1 << 20);
    assert!(ledger.places.is_empty());
}

/// What the model knows about an event.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Known {
    Pending { due_ms: u64 },
    Flying,
    Parked,
    Done,
}

#[derive(Clone, Debug)]
enum Action {
    Route { skip: u64, live: bool },
    Take { max: usize },
    Ack(usize),
    Retry(usize, u64),
    Hold(usize, u64),
    Park(usize),
    Release(usize),
    Pass(u64),
    Redrive,
    Purge,
    Replay(u64, u64),
    Expire(u64),
    Change { ordered: bool },
    Crash,
}

fn action() -> impl Strategy<Value = Action> {
    prop_oneof![
        6 => (0..3_u64, any::<bool>()).prop_map(|(skip, live)| Action::Route { skip, live }),
        6 => (1..4_usize).prop_map(|max| Action::Take { max }),
        4 => (0..8_usize).prop_map(Action::Ack),
        2 => (0..8_usize, 0..100_u64).prop_map(|(pick, wait)| Action::Retry(pick, wait)),
        1 => (0..8_usize, 0..100_u64).prop_map(|(pick, wait)| Action::Hold(pick, wait)),
        1 => (0..8_usize).prop_map(Action::Park),
        1 => (0..8_usize).prop_map(Action::Release),
        2 => (0..60_u64).prop_map(Action::Pass),
        1 => Just(Action::Redrive),
        1 => Just(Action::Purge),
        1 => (0..40_u64, 0..20_u64).prop_map(|(from, count)| Action::Replay(from, count)),
        1 => (0..10_u64).prop_map(Action::Expire),
        1 => any::<bool>().prop_map(|ordered| Action::Change { ordered }),
        1 => Just(Action::Crash),
    ]
}

/// The real ledger beside a map of what should be.
struct World {
    ledger: Ledger<Position>,
    known: BTreeMap<Position, Known>,
    attempts: BTreeMap<Position, u32>,
    next: Position,
    now: u64,
    ordered: bool,
    /// The book as a crash would find it: an old state plus notes, with events routed again.
    saved: Book,
}

impl World {
    fn new() -> Self {
        Self {
            ledger: held(&SubscribeOptions::default()),
            known: BTreeMap::new(),
            attempts: BTreeMap::new(),
            next: 0,
            now: NOW,
            ordered: false,
            saved: Book::default(),
        }
    }

    fn flying(&self, pick: usize) -> Option<Position> {
        let flying: Vec<Position> = self
            .known
            .iter()
            .filter(|(_, known)| **known == Known::Flying)
            .map(|(position, _)| *position)
            .collect();
        flying.get(pick % flying.len().max(1)).copied()
    }

    fn all(&self) -> RoaringTreemap {
        self.known.keys().copied().collect()
    }

    fn settle(&mut self, pick: usize, settlement: Settlement, known: impl Fn(Known) -> Known) {
        let Some(position) = self.flying(pick) else { return };
        let outcome = if settlement == Settlement::Release { None } else { failure("no") };
        assert_ne!(self.ledger.settle(position, settlement, outcome), Settled::Ignored);
        match settlement {
            Settlement::Retry { .. } | Settlement::Hold { .. } => {
                *self.attempts.entry(position).or_default() += 1
            }
            Settlement::Ack | Settlement::Park => drop(self.attempts.remove(&position)),
            Settlement::Release => {}
        }
        let entry = self.known.get_mut(&position).unwrap();
        *entry = known(*entry);
    }

    fn take(&mut self, max: usize) {
        let handed = take_at(&mut self.ledger, max, self.now);
        let due = |known: &Known| matches!(known, Known::Pending { due_ms } if *due_ms <= self.now || self.ordered);
        if handed.is_empty() {
            assert!(!self.known.values().any(due), "something could have been handed out");
        }
        for handed in handed {
            assert!(due(&self.known[&handed.position]), "{handed:?} was not to be handed out");
            if self.ordered {
                let first =
                    self.known.iter().find(|(_, known)| due(known)).map(|(position, _)| *position);
                assert_eq!(Some(handed.position), first, "handed out by position");
            }
            assert_eq!(handed.attempts, self.attempts.get(&handed.position).copied().unwrap_or(0));
            self.known.insert(handed.position, Known::Flying);
        }
    }

    fn due_of(&self, position: Position) -> u64 {
        self.ledger.book().attempted().get(&position).map_or(0, |attempted| attempted.due_ms)
    }

    fn act(&mut self, action: &Action) {
        match *action {
            Action::Route { skip, live } => {
                let position = self.next + skip;
                self.next = position + 1;
                route(&mut self.ledger, [position]);
                if live && self.ledger.takes_live(10) {
                    self.ledger.lay_ready(ready(position));
                }
                self.known.insert(position, Known::Pending { due_ms: 0 });
            }
            Action::Take { max } => self.take(max),
            Action::Ack(pick) => self.settle(pick, Settlement::Ack, |_| Known::Done),
            Action::Retry(pick, wait) => {
                let due_ms = self.now + wait;
                self.settle(pick, Settlement::Retry { at: time(due_ms) }, |_| Known::Pending {
                    due_ms,
                });
            }
            Action::Hold(pick, wait) => {
                self.settle(pick, Settlement::Hold { at: time(self.now + wait) }, |known| known);
            }
            Action::Park(pick) => self.settle(pick, Settlement::Park, |_| Known::Parked),
            Action::Release(pick) => {
                let due_ms = self.flying(pick).map_or(0, |position| self.due_of(position));
                self.settle(pick, Settlement::Release, |_| Known::Pending { due_ms });
            }
            Action::Pass(time) => self.now += time,
            Action::Redrive => {
                self.ledger.redrive(&self.all());
                self.change(Known::Parked, Known::Pending { due_ms: 0 });
            }
            Action::Purge => {
                self.ledger.purge(&self.all());
                self.change(Known::Parked, Known::Done);
            }
            Action::Replay(from, count) => self.replay(from, count),
            Action::Expire(count) => self.expire(count),
            Action::Change { ordered } => {
                self.ordered = ordered;
                self.ledger.let_go();
                self.ledger
                    .hold(&SubscribeOptions { ordered, ..SubscribeOptions::default() }, self.now);
            }
            Action::Crash => self.crash(),
        }
    }

    fn change(&mut self, from: Known, to: Known) {
        self.known.values_mut().filter(|known| **known == from).for_each(|known| *known = to);
    }

    fn replay(&mut self, from: Position, count: u64) {
        let range: Vec<Position> =
            self.known.range(from..from + count).map(|(position, _)| *position).collect();
        self.ledger.replay(range.iter().copied().collect(), self.now);
        for position in range {
            let known = self.known.get_mut(&position).unwrap();
            if matches!(known, Known::Parked | Known::Done) {
                *known = Known::Pending { due_ms: 0 };
            }
        }
    }

    fn expire(&mut self, count: u64) {
        self.ledger.expire_before(count, self.now);
        for (position, known) in self.known.range_mut(..count) {
            if matches!(known, Known::Pending { .. }) {
                *known = Known::Done;
                self.attempts.remove(position);
            }
        }
    }

    /// Opens what the journal holds and routes everything again.
    fn crash(&mut self) {
        let notes = self.ledger.take_notes();
        notes.iter().for_each(|note| self.saved.recover(note));
        let mut book = self.saved.clone();
        for position in self.known.keys() {
            book.route(*position);
        }
        book.check();
        assert_eq!(book.pending(), self.ledger.book().pending());
        assert_eq!(book.attempted(), self.ledger.book().attempted());
        assert_eq!(book.parked(), self.ledger.book().parked());
        self.ledger = Ledger::new(book);
        self.ledger.hold(
            &SubscribeOptions { ordered: self.ordered, ..SubscribeOptions::default() },
            self.now,
        );
        let due: Vec<(Position, u64)> =
            self.known.keys().map(|position| (*position, self.due_of(*position))).collect();
        for (position, due_ms) in due {
            let known = self.known.get_mut(&position).unwrap();
            if *known == Known::Flying {
                *known = Known::Pending { due_ms };
            }
        }
    }
}

proptest! {
    #[test]
    fn nothing_is_lost_doubled_or_handed_out_early(actions in prop::collection::vec(action(), 1..120)) {
        let mut world = World::new();
        for action in &actions {
            world.act(action);
            world.ledger.check_invariants();
            let pending = world.known.iter().filter(|(_, known)| matches!(known, Known::Pending { .. } | Known::Flying));
            let pending: RoaringTreemap = pending.map(|(position, _)| *position).collect();
            prop_assert_eq!(world.ledger.book().pending(), &pending);
        }
        world.ledger.let_go();
        world.ledger.hold(&SubscribeOptions { ordered: world.ordered, ..SubscribeOptions::default() }, world.now);
        world.now += 1_000;
        for _ in 0..world.known.len() + 1 {
            world.take(3);
        }
        prop_assert!(!world.known.values().any(|known| matches!(known, Known::Pending { .. })), "all go out in the end");
    }

    #[test]
    fn applying_notes_twice_changes_nothing(actions in prop::collection::vec(action(), 1..80)) {
        let mut world = World::new();
        for action in actions.iter().filter(|action| !matches!(action, Action::Crash)) {
            world.act(action);
        }
        let notes = world.ledger.take_notes();
        let mut once = world.ledger.book().clone();
        notes.iter().for_each(|note| once.recover(note));
        prop_assert_eq!(once.pending(), world.ledger.book().pending());
        prop_assert_eq!(once.parked(), world.ledger.book().parked());
        prop_assert_eq!(once.attempted(), world.ledger.book().attempted());
    }
}
