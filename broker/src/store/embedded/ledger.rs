//! One subscription as a pure state machine: which events wait, which are in somebody's hands, which come next.
//!
//! A pending event is *fresh* (only a bit), *ready* (its bytes are in memory), *in flight* (handed out) or *waiting*
//! (to be tried again at a given time). Everything but fresh has a [`Place`]; a backlog therefore costs bits.
//! Ordered subscriptions know no waiting: what comes back is fresh again and goes out in its turn, due or not.
//! Time is an argument; bytes of events are the type parameter.

use std::collections::{BTreeSet, HashMap, VecDeque};

use roaring::RoaringTreemap;

pub(super) use self::dropping::Dropped;
use super::book::{Book, Brief, Ended, Note, Scan, StepNote};
use super::sync::millis;
use crate::store::{Outcome, Position, Settlement, SubscribeOptions};

mod dropping;

/// Events that may lie ready for one subscription: enough to keep the largest sensible parallelism busy while the
/// next ones are read.
pub(super) const READY_EVENTS: usize = 256;

/// Bytes that may lie ready for one subscription.
pub(super) const READY_BYTES: usize = 1 << 20;

/// Retries read from the disk at once; they are few and scattered.
const LOAD_RETRIES: usize = 64;

/// Notes that may wait for the journal. Beyond, the disk hangs: they are dropped, a snapshot is asked for, and a crash
/// before it costs a second delivery.
const NOTES: usize = 1 << 16;

/// An event whose bytes are in memory.
#[derive(Clone, Debug)]
pub(super) struct Ready<T> {
    pub(super) position: Position,
    /// When it was accepted, milliseconds since the epoch.
    pub(super) time_ms: u64,
    /// What it costs to hold it.
    pub(super) bytes: usize,
    pub(super) item: T,
}

/// An event that goes to the holder.
#[derive(Debug)]
pub(super) struct Handed<T> {
    pub(super) position: Position,
    /// When it was accepted, milliseconds since the epoch.
    pub(super) time_ms: u64,
    pub(super) item: T,
    pub(super) attempts: u32,
    pub(super) last: Option<Outcome>,
    /// Ordered subscriptions only.
    pub(super) not_before_ms: Option<u64>,
}

/// What the holder has to do to get deliveries.
#[derive(Debug)]
pub(super) enum Next<T> {
    /// Take these.
    Deliver(Vec<Handed<T>>),
    /// Read these first, from the front as many as is convenient, and pass them to [`Ledger::loaded`].
    Load(Vec<Position>),
    /// Nothing until something changes or, if told, this time (milliseconds since the epoch) has come.
    Wait(Option<u64>),
}

/// What a settlement did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Settled {
    Acked,
    Retried,
    Held,
    Parked,
    Released,
    /// The event was no longer in flight.
    Ignored,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Ready,
    InFlight,
    Waiting { due_ms: u64 },
}

#[derive(Debug)]
struct Line<T> {
    ready: Ready<T>,
    /// It came here because it was due, not because it was next.
    again: bool,
}

/// The state of one subscription.
#[derive(Debug)]
pub(super) struct Ledger<T> {
    book: Book,
    ordered: bool,
    max_age_ms: Option<u64>,
    max_backlog: Option<u64>,
    held: bool,
    places: HashMap<Position, Place, foldhash::fast::RandomState>,
    in_flight: u64,
    /// May hold stale entries; only those whose place is [`Place::Ready`] count.
    line: VecDeque<Line<T>>,
    line_bytes: usize,
    waiting: BTreeSet<(u64, Position)>,
    /// No fresh event stands before.
    fresh_from: Position,
    notes: Vec<Note>,
    overflowed: bool,
    dropped: Dropped,
}

impl<T> Ledger<T> {
    /// A subscription in the state of `book` that nobody holds.
    pub(super) fn new(book: Book) -> Self {
        let mut ledger = Self {
            book,
            ordered: false,
            max_age_ms: None,
            max_backlog: None,
            held: false,
            places: HashMap::default(),
            in_flight: 0,
            line: VecDeque::new(),
            line_bytes: 0,
            waiting: BTreeSet::new(),
            fresh_from: 0,
            notes: Vec::new(),
            overflowed: false,
            dropped: Dropped::default(),
        };
        ledger.rebuild();
        ledger
    }

    /// The durable half.
    pub(super) fn book(&self) -> &Book {
        &self.book
    }

    /// Whether somebody holds the subscription.
    pub(super) fn is_held(&self) -> bool {
        self.held
    }

    /// Bytes of the events that lie ready.
    pub(super) fn ready_bytes(&self) -> usize {
        self.line_bytes
    }

    /// Somebody holds the subscription from now on and wants it read this way.
    pub(super) fn hold(&mut self, options: &SubscribeOptions, now_ms: u64) {
        self.held = true;
        self.max_age_ms =
            options.max_age.map(|age| u64::try_from(age.as_millis()).unwrap_or(u64::MAX));
        self.max_backlog = options.max_backlog;
        if self.ordered != options.ordered {
            self.ordered = options.ordered;
            self.rebuild();
        }
        self.trim(now_ms);
        self.check_counts();
    }

    /// Nobody holds the subscription any more: what lay ready is only bits again. What is in flight stays so until
    /// its delivery is settled or dropped.
    pub(super) fn let_go(&mut self) {
        self.held = false;
        self.rebuild();
        self.check_counts();
    }

    /// The selector gave the event at `position` to the subscription. Answers whether it is new to it.
    pub(super) fn route(&mut self, position: Position, now_ms: u64) -> bool {
        if !self.book.route(position) {
            return false;
        }
        self.fresh_from = self.fresh_from.min(position);
        self.trim(now_ms);
        true
    }

    /// Whether an event just routed could be handed over without a disk: somebody is there, has room, and nothing
    /// older comes before it.
    pub(super) fn takes_live(&self, bytes: usize) -> bool {
        self.held
            && self.book.scan.is_none()
            && self.fresh_len() == 1
            && self.line.len() < READY_EVENTS
            && self.line_bytes.saturating_add(bytes) <= READY_BYTES
    }

    /// Lays the event that was just routed ready; asked for by [`Self::takes_live`].
    pub(super) fn lay_ready(&mut self, ready: Ready<T>) {
        if !self.book.pending().contains(ready.position)
            || self.places.contains_key(&ready.position)
        {
            return; // expired at once by a backlog limit of zero
        }
        self.fresh_from = ready.position.saturating_add(1);
        self.push(ready, false);
        self.check_counts();
    }

    /// What the holder has to do to get at most `max` deliveries.
    pub(super) fn next(&mut self, max: usize, now_ms: u64) -> Next<T> {
        self.drop_stale();
        let mut before = Position::MAX;
        if self.ordered {
            before = self.fresh(1).first().copied().unwrap_or(before);
            if self.line.front().is_some_and(|line| before < line.ready.position) {
                return Next::Load(self.fresh(READY_EVENTS));
            }
        } else if !self.line.front().is_some_and(|line| line.again) {
            let due = self.due(now_ms);
            if !due.is_empty() {
                return Next::Load(due);
            }
        }
        let handed = self.hand_out(before, max, now_ms);
        self.check_counts();
        if !handed.is_empty() {
            return Next::Deliver(handed);
        }
        let fresh = self.fresh(READY_EVENTS);
        if !fresh.is_empty() {
            return Next::Load(fresh);
        }
        Next::Wait(self.waiting.first().map(|(due_ms, _)| *due_ms))
    }

    /// The bytes of what [`Next::Load`] asked for; `None` for events that are damaged or gone.
    pub(super) fn loaded(&mut self, found: Vec<(Position, Option<Ready<T>>)>, now_ms: u64) {
        let mut again = Vec::new();
        for (position, ready) in found {
            if !self.book.pending().contains(position) {
                continue; // expired or settled meanwhile
            }
            let place = self.places.get(&position).copied();
            match (place, ready) {
                (Some(Place::Ready | Place::InFlight), _) => {}
                (_, None) => self.lose(position, now_ms),
                (Some(Place::Waiting { due_ms }), Some(ready)) => {
                    self.waiting.remove(&(due_ms, position));
                    again.push(ready);
                }
                (None, Some(ready)) if self.ordered => self.insert_in_order(ready),
                (None, Some(ready)) => self.push(ready, false),
            }
        }
        for ready in again.into_iter().rev() {
            self.places.insert(ready.position, Place::Ready);
            self.line_bytes += ready.bytes;
            self.line.push_front(Line { ready, again: true });
        }
        self.check_counts();
    }

    /// Records what became of a delivery.
    pub(super) fn settle(
        &mut self,
        position: Position,
        settlement: Settlement,
        outcome: Option<Outcome>,
    ) -> Settled {
        if self.places.get(&position) != Some(&Place::InFlight) {
            return Settled::Ignored;
        }
        let settled = match settlement {
            Settlement::Ack => {
                self.leave_flight(position);
                self.ack(position, outcome);
                Settled::Acked
            }
            Settlement::Retry { at } => {
                self.leave_flight(position);
                self.step(position, Ended::Retry { due_ms: millis(at) }, outcome);
                self.come_back(position);
                Settled::Retried
            }
            Settlement::Hold { at } => {
                self.step(position, Ended::Hold { due_ms: millis(at) }, outcome);
                Settled::Held
            }
            Settlement::Park => {
                self.leave_flight(position);
                self.step(position, Ended::Park, outcome);
                Settled::Parked
            }
            Settlement::Release => {
                self.leave_flight(position);
                self.come_back(position);
                Settled::Released
            }
        };
        self.check_counts();
        settled
    }

    /// Hands those of `positions` that are parked out again with a fresh count of attempts; answers how many.
    pub(super) fn redrive(&mut self, positions: &RoaringTreemap) -> u64 {
        let parked = self.parked_of(positions);
        let count = parked.len();
        if let Some(first) = parked.min() {
            self.fresh_from = self.fresh_from.min(first);
            self.record(Note::Redriven(parked));
        }
        self.check_counts();
        count
    }

    /// Forgets those of `positions` that are parked; answers how many.
    pub(super) fn purge(&mut self, positions: &RoaringTreemap) -> u64 {
        let parked = self.parked_of(positions);
        let count = parked.len();
        if count > 0 {
            self.record(Note::Purged(parked));
        }
        count
    }

    /// Makes kept events pending again, parked letters included; answers how many were not pending already.
    pub(super) fn replay(&mut self, positions: RoaringTreemap, now_ms: u64) -> u64 {
        let new = positions - self.book.pending();
        let count = new.len();
        if let Some(first) = new.min() {
            self.fresh_from = self.fresh_from.min(first);
            self.record(Note::Replayed(new));
            self.trim(now_ms);
        }
        self.check_counts();
        count
    }

    /// A selector knows the subscription: the router decides from `decided` on, the search what is before. After a crash
    /// the router may start before where the search was to end.
    pub(super) fn bound_scan(&mut self, decided: Position) {
        let Some(Scan { next, end }) = self.book.scan else { return };
        let end = end.map_or(decided, |end| end.min(decided));
        let scan = (next < end).then_some(Scan { next, end: Some(end) });
        self.record(Note::Scanned { scan, matched: RoaringTreemap::new() });
    }

    /// The search came to `next` and found `matched` on the way.
    pub(super) fn scanned(&mut self, next: Position, mut matched: RoaringTreemap, now_ms: u64) {
        let Some(Scan { end: Some(end), .. }) = self.book.scan else { return };
        matched.remove_range(end..); // the router's, should the end have moved meanwhile
        if let Some(first) = matched.min() {
            self.fresh_from = self.fresh_from.min(first);
        }
        let scan = (next < end).then_some(Scan { next, end: Some(end) });
        self.record(Note::Scanned { scan, matched });
        self.trim(now_ms);
        self.check_counts();
    }

    /// The router has passed everything the journal settled before the restart.
    pub(super) fn forget_settled(&mut self) {
        self.book.forget_settled();
    }

    /// What is to be written to the journal, in order.
    pub(super) fn take_notes(&mut self) -> Vec<Note> {
        self.shrink();
        std::mem::take(&mut self.notes)
    }

    /// Whether notes wait for the journal.
    pub(super) fn has_notes(&self) -> bool {
        !self.notes.is_empty()
    }

    /// Whether notes were dropped, so that only a snapshot can record what they told; asks once.
    pub(super) fn take_overflowed(&mut self) -> bool {
        std::mem::take(&mut self.overflowed)
    }

    /// Panics when the parts contradict each other. Walks everything, unlike the cheap check after every step.
    #[cfg(test)]
    pub(super) fn check_invariants(&self) {
        self.check_counts();
        self.book.check();
        assert!(self.places.keys().all(|position| self.book.pending().contains(*position)));
        let count =
            |wanted: fn(&Place) -> bool| self.places.values().filter(|place| wanted(place)).count();
        assert_eq!(count(|place| *place == Place::InFlight) as u64, self.in_flight);
        assert_eq!(count(|place| matches!(place, Place::Waiting { .. })), self.waiting.len());
        assert!(count(|place| *place == Place::Ready) <= self.line.len());
        assert_eq!(self.line.iter().map(|line| line.ready.bytes).sum::<usize>(), self.line_bytes);
        let lost = |position: &Position| {
            *position < self.fresh_from && !self.places.contains_key(position)
        };
        assert_eq!(
            self.book.pending().iter().find(lost),
            None,
            "no fresh event stands before the pointer"
        );
        assert!(!self.ordered || self.waiting.is_empty());
    }

    fn check_counts(&self) {
        debug_assert!(
            self.places.len() as u64 <= self.book.pending_len(),
            "only pending events have a place"
        );
        debug_assert!(self.waiting.len() as u64 + self.in_flight <= self.places.len() as u64);
        debug_assert!(self.held || self.line.is_empty(), "nothing lies ready for nobody");
    }

    fn fresh_len(&self) -> u64 {
        self.book.pending_len() - self.places.len() as u64
    }

    /// The first fresh positions, at most `max`, none beyond the search for earlier events.
    fn fresh(&mut self, max: usize) -> Vec<Position> {
        if self.fresh_len() == 0 {
            return Vec::new();
        }
        let horizon = self.book.scan.map_or(Position::MAX, |scan| scan.next);
        let mut pending = self.book.pending().iter();
        pending.advance_to(self.fresh_from);
        let found: Vec<Position> = pending
            .take_while(|position| *position < horizon)
            .filter(|position| !self.places.contains_key(position))
            .take(max)
            .collect();
        if let Some(first) = found.first() {
            self.fresh_from = *first;
        }
        found
    }

    fn due(&self, now_ms: u64) -> Vec<Position> {
        let due = self.waiting.iter().take_while(|(due_ms, _)| *due_ms <= now_ms);
        let mut due: Vec<Position> =
            due.take(LOAD_RETRIES).map(|(_, position)| *position).collect();
        due.sort_unstable();
        due
    }

    /// Hands out what lies ready, as far as it stands before `before`.
    fn hand_out(&mut self, before: Position, max: usize, now_ms: u64) -> Vec<Handed<T>> {
        let mut handed = Vec::new();
        let limit = self.max_age_ms.map(|age| now_ms.saturating_sub(age));
        while handed.len() < max {
            let Some(Line { ready, .. }) =
                self.line.pop_front_if(|line| line.ready.position <= before)
            else {
                break;
            };
            self.line_bytes -= ready.bytes;
            if self.places.get(&ready.position) != Some(&Place::Ready) {
                continue;
            }
            if limit.is_some_and(|limit| ready.time_ms < limit) {
                self.expire(ready.position, now_ms);
                continue;
            }
            self.places.insert(ready.position, Place::InFlight);
            self.in_flight += 1;
            let attempted = self.book.attempted().get(&ready.position);
            handed.push(Handed {
                position: ready.position,
                time_ms: ready.time_ms,
                item: ready.item,
                attempts: attempted.map_or(0, |attempted| attempted.attempts),
                last: attempted.map(|attempted| attempted.last.outcome()),
                not_before_ms: attempted.filter(|_| self.ordered).map(|attempted| attempted.due_ms),
            });
        }
        handed
    }

    fn push(&mut self, ready: Ready<T>, again: bool) {
        self.places.insert(ready.position, Place::Ready);
        self.line_bytes += ready.bytes;
        self.line.push_back(Line { ready, again });
    }

    fn insert_in_order(&mut self, ready: Ready<T>) {
        self.places.insert(ready.position, Place::Ready);
        self.line_bytes += ready.bytes;
        let at = self.line.partition_point(|line| line.ready.position < ready.position);
        self.line.insert(at, Line { ready, again: false });
    }

    fn drop_stale(&mut self) {
        while let Some(line) = self.line.front() {
            if self.places.get(&line.ready.position) == Some(&Place::Ready) {
                return;
            }
            self.line_bytes -= line.ready.bytes;
            self.line.pop_front();
        }
    }

    fn leave_flight(&mut self, position: Position) {
        self.places.remove(&position);
        self.in_flight -= 1;
    }

    /// A delivery came back: it waits for its time, or is fresh again.
    fn come_back(&mut self, position: Position) {
        let due_ms = self.book.attempted().get(&position).map(|attempted| attempted.due_ms);
        match due_ms {
            Some(due_ms) if !self.ordered => {
                self.places.insert(position, Place::Waiting { due_ms });
                self.waiting.insert((due_ms, position));
            }
            _ => self.fresh_from = self.fresh_from.min(position),
        }
    }

    fn attempts(&self, position: Position) -> u32 {
        self.book.attempted().get(&position).map_or(0, |attempted| attempted.attempts)
    }

    fn ack(&mut self, position: Position, outcome: Option<Outcome>) {
        let Some(outcome) = outcome else {
            self.record(Note::Acked { position, end: None });
            return;
        };
        let attempts = self.attempts(position).saturating_add(1);
        if outcome.reason.is_empty() && outcome.body.is_empty() {
            let Outcome { status, at_ms, took_ms, stage, .. } = outcome;
            self.record(Note::Acked {
                position,
                end: Some(Brief { attempts, status, stage, at_ms, took_ms }),
            });
        } else {
            self.record(Note::Step(Box::new(StepNote {
                position,
                ended: Ended::Ack,
                attempts,
                outcome,
            })));
        }
    }

    fn step(&mut self, position: Position, ended: Ended, outcome: Option<Outcome>) {
        let attempts = self.attempts(position).saturating_add(1);
        let mut outcome = outcome.unwrap_or_default();
        outcome.body.truncate(Outcome::MAX_BODY);
        outcome.reason.truncate(outcome.reason.floor_char_boundary(Outcome::MAX_REASON));
        self.record(Note::Step(Box::new(StepNote { position, ended, attempts, outcome })));
    }

    fn parked_of(&self, positions: &RoaringTreemap) -> RoaringTreemap {
        positions.iter().filter(|position| self.book.parked().contains_key(position)).collect()
    }

    /// Gives back what a busy time took: ten thousand idle subscriptions must stay small.
    fn shrink(&mut self) {
        if self.line.is_empty() {
            self.line = VecDeque::new();
        }
        if self.places.is_empty() {
            self.places = HashMap::default();
        }
    }

    fn record(&mut self, note: Note) {
        self.book.apply(&note);
        if self.notes.len() >= NOTES {
            self.notes.clear();
            self.overflowed = true;
        }
        self.notes.push(note);
    }

    /// Everything that is not in flight finds its place anew.
    fn rebuild(&mut self) {
        self.line = VecDeque::new();
        self.line_bytes = 0;
        self.waiting.clear();
        self.places.retain(|_, place| *place == Place::InFlight);
        self.fresh_from = 0;
        if !self.ordered {
            for (position, attempted) in self.book.attempted() {
                if !self.places.contains_key(position) {
                    self.places.insert(*position, Place::Waiting { due_ms: attempted.due_ms });
                    self.waiting.insert((attempted.due_ms, *position));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests;
