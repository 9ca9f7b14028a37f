//! One subscription of a memory store: what waits, what is in somebody's hands, what is parked.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use broker_event::Event;
use tokio::sync::Notify;

use super::archive::{Archive, Stored, Stream};
use super::millis;
use crate::store::{Outcome, Position, Settlement, Slot, Stage, Start, SubscribeOptions};

/// A subscription's number, never used again: what settles late for a forgotten one hits nobody.
pub(super) type LineId = u64;

/// One recorded settlement.
#[derive(Debug)]
pub(super) struct Recorded {
    pub(super) position: Position,
    pub(super) subscription: Arc<str>,
    pub(super) settlement: Settlement,
    pub(super) outcome: Option<Outcome>,
}

/// An event that goes to the holder.
#[derive(Debug)]
pub(super) struct Handed {
    pub(super) position: Position,
    /// When it was accepted, milliseconds since the epoch.
    pub(super) time_ms: u64,
    pub(super) event: Event,
    pub(super) attempts: u32,
    pub(super) last: Option<Outcome>,
    /// Ordered subscriptions only.
    pub(super) not_before_ms: Option<u64>,
}

/// What the holder gets.
#[derive(Debug)]
pub(super) enum Next {
    /// These, at least one.
    Deliver(Vec<Handed>),
    /// Nothing until the bell rings or, if told, this time (milliseconds since the epoch) has come.
    Wait(Option<u64>),
}

/// Which events a new subscription starts with.
#[derive(Clone, Copy, Debug)]
pub(super) struct Begin {
    from: Position,
    from_ms: u64,
}

/// The numbers of a subscription.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place {
    pub(super) id: LineId,
    pub(super) stream: Stream,
    pub(super) slot: Slot,
}

/// A parked letter.
#[derive(Debug)]
pub(super) struct Letter {
    pub(super) attempts: u32,
    pub(super) last: Outcome,
}

/// An event to be delivered.
#[derive(Debug, Default)]
struct Pending {
    in_flight: bool,
    /// Boxed: most are never tried twice.
    tried: Option<Box<Tried>>,
}

#[derive(Clone, Debug)]
struct Tried {
    attempts: u32,
    due_ms: u64,
    last: Outcome,
}

/// One subscription. Of every event in `candidates`, `pending` and `parked` it holds one need in the archive.
#[derive(Debug)]
pub(super) struct Line {
    pub(super) id: LineId,
    pub(super) name: Arc<str>,
    pub(super) stream: Stream,
    pub(super) slot: Slot,
    pub(super) bell: Arc<Notify>,
    begin: Begin,
    /// Whether a selector knows its slot. Until one does, every event might be for it.
    known: bool,
    candidates: BTreeSet<Position>,
    pending: BTreeMap<Position, Pending>,
    /// Pending events that may be handed out now, and
    free: BTreeSet<Position>,
    /// those that may be later. Ordered subscriptions have none of these.
    due: BTreeSet<(u64, Position)>,
    in_flight: u64,
    parked: BTreeMap<Position, Letter>,
    held: bool,
    ordered: bool,
    max_age_ms: Option<u64>,
    max_backlog: Option<u64>,
}

impl Begin {
    /// What `start` means while the next event gets `head`.
    pub(super) fn new(start: Start, head: Position) -> Self {
        match start {
            Start::Now => Self { from: head, from_ms: 0 },
            Start::Earliest => Self { from: 0, from_ms: 0 },
            Start::Time(time) => Self { from: 0, from_ms: millis(time) },
            Start::Position(from) => Self { from, from_ms: 0 },
        }
    }

    /// The first position that may belong to it.
    pub(super) fn from(self) -> Position {
        self.from
    }

    pub(super) fn includes(self, position: Position, stored: &Stored) -> bool {
        position >= self.from && stored.time_ms >= self.from_ms
    }
}

impl Line {
    /// A subscription that nobody holds and no selector knows, to which every kept event that `begin` includes may belong.
    pub(super) fn new(name: &str, place: Place, begin: Begin, archive: &mut Archive) -> Self {
        let Place { id, stream, slot } = place;
        let candidates: BTreeSet<Position> = archive
            .range(begin.from()..)
            .filter(|(position, stored)| {
                stored.stream == stream && begin.includes(*position, stored)
            })
            .map(|(position, _)| position)
            .collect();
        candidates.iter().for_each(|position| archive.need(*position));
        Self {
            id,
            name: name.into(),
            stream,
            slot,
            bell: Arc::new(Notify::new()),
            begin,
            known: false,
            candidates,
            pending: BTreeMap::new(),
            free: BTreeSet::new(),
            due: BTreeSet::new(),
            in_flight: 0,
            parked: BTreeMap::new(),
            held: false,
            ordered: false,
            max_age_ms: None,
            max_backlog: None,
        }
    }

    /// Makes somebody the holder, who wants it read this way. Answers whether there was none.
    pub(super) fn hold(
        &mut self,
        options: &SubscribeOptions,
        archive: &mut Archive,
        now_ms: u64,
    ) -> bool {
        if self.held {
            return false;
        }
        self.held = true;
        self.max_age_ms =
            options.max_age.map(|age| u64::try_from(age.as_millis()).unwrap_or(u64::MAX));
        self.max_backlog = options.max_backlog;
        if self.ordered != options.ordered {
            self.ordered = options.ordered;
            self.place_all();
        }
        self.expire(archive, now_ms);
        true
    }

    /// The holder is gone. What is in flight stays so until its delivery is settled or dropped.
    pub(super) fn let_go(&mut self) {
        self.held = false;
    }

    /// Whether a selector knows it.
    pub(super) fn is_known(&self) -> bool {
        self.known
    }

    /// An event that was just accepted; it may be for this subscription once a selector says so.
    pub(super) fn consider(&mut self, position: Position, archive: &mut Archive) {
        let included =
            archive.get(position).is_some_and(|stored| self.begin.includes(position, stored));
        if included && self.candidates.insert(position) {
            archive.need(position);
        }
    }

    /// Events that wait for a selector.
    pub(super) fn candidates(&self) -> &BTreeSet<Position> {
        &self.candidates
    }

    /// A selector knows it now, and wants these of the candidates for it.
    pub(super) fn become_known(&mut self, wanted: &[Position], archive: &mut Archive, now_ms: u64) {
        self.known = true;
        for position in wanted {
            self.add(*position, archive);
        }
        for position in std::mem::take(&mut self.candidates) {
            archive.release(position);
        }
        self.expire(archive, now_ms);
    }

    /// The selector gave it the event at `position`.
    pub(super) fn route(&mut self, position: Position, archive: &mut Archive, now_ms: u64) {
        let included =
            archive.get(position).is_some_and(|stored| self.begin.includes(position, stored));
        if included && !self.parked.contains_key(&position) {
            self.add(position, archive);
            self.expire(archive, now_ms);
        }
    }

    /// Hands out at most `max` events.
    pub(super) fn next(&mut self, max: usize, archive: &mut Archive, now_ms: u64) -> Next {
        self.expire(archive, now_ms);
        let mut handed = Vec::new();
        while handed.len() < max {
            let Some(position) = self.take(now_ms) else { break };
            let (Some(pending), Some(stored)) =
                (self.pending.get_mut(&position), archive.get(position))
            else {
                continue; // cannot be: what is pending is needed
            };
            pending.in_flight = true;
            self.in_flight += 1;
            let tried = pending.tried.as_deref();
            handed.push(Handed {
                position,
                time_ms: stored.time_ms,
                event: stored.event.clone(),
                attempts: tried.map_or(0, |tried| tried.attempts),
                last: tried.map(|tried| tried.last.clone()),
                not_before_ms: tried.filter(|_| self.ordered).map(|tried| tried.due_ms),
            });
        }
        if handed.is_empty() {
            return Next::Wait(self.due.first().map(|(due_ms, _)| *due_ms));
        }
        Next::Deliver(handed)
    }

    /// Records what became of a delivery; what is not in flight is nobody's to settle.
    pub(super) fn settle(
        &mut self,
        position: Position,
        settlement: Settlement,
        outcome: Option<Outcome>,
        archive: &mut Archive,
    ) {
        let Some(pending) = self.pending.get_mut(&position).filter(|pending| pending.in_flight)
        else {
            return;
        };
        let outcome = outcome.map(cut);
        match settlement {
            Settlement::Ack => {
                self.end(position);
                archive.record(position, &self.name, settlement, outcome);
                archive.release(position);
            }
            Settlement::Retry { at } => {
                pending.fail(millis(at), outcome.clone());
                archive.record(position, &self.name, settlement, outcome);
                self.come_back(position);
            }
            Settlement::Hold { at } => {
                pending.fail(millis(at), outcome.clone());
                archive.record(position, &self.name, settlement, outcome);
            }
            Settlement::Park => {
                pending.fail(0, outcome.clone());
                let tried = pending.tried.take();
                self.end(position);
                archive.record(position, &self.name, settlement, outcome);
                if let Some(Tried { attempts, last, .. }) = tried.map(|tried| *tried) {
                    self.parked.insert(position, Letter { attempts, last });
                }
            }
            Settlement::Release => self.come_back(position),
        }
    }

    /// Parked letters.
    pub(super) fn parked(&self) -> &BTreeMap<Position, Letter> {
        &self.parked
    }

    /// Hands a parked letter out again with a fresh count. Answers whether there was one.
    pub(super) fn redrive(&mut self, position: Position) -> bool {
        if self.parked.remove(&position).is_none() {
            return false;
        }
        self.pending.insert(position, Pending::default());
        self.place(position);
        true
    }

    /// Forgets a parked letter. Answers whether there was one.
    pub(super) fn purge(&mut self, position: Position, archive: &mut Archive) -> bool {
        let there = self.parked.remove(&position).is_some();
        if there {
            archive.release(position);
        }
        there
    }

    /// Makes kept events pending again, parked letters included; answers how many were not pending already.
    pub(super) fn replay(
        &mut self,
        positions: &[Position],
        archive: &mut Archive,
        now_ms: u64,
    ) -> u64 {
        let mut count = 0;
        for position in positions {
            if self.pending.contains_key(position) {
                continue;
            }
            count += 1;
            if !self.redrive(*position) {
                self.add(*position, archive);
            }
        }
        self.expire(archive, now_ms);
        count
    }

    /// Lets nothing go out that is too old, or too much. What is in flight is left alone.
    pub(super) fn expire(&mut self, archive: &mut Archive, now_ms: u64) {
        if let Some(limit) = self.max_age_ms.map(|age| now_ms.saturating_sub(age)) {
            let is_old = |position: &Position| {
                archive.get(*position).is_some_and(|stored| stored.time_ms < limit)
            };
            let pending = self.pending.iter();
            let old = pending.take_while(|(position, _)| is_old(position));
            let old: Vec<Position> = at_rest(old).collect();
            old.into_iter().for_each(|position| self.drop_unread(position, archive, now_ms));
        }
        let waiting = self.pending.len() as u64 - self.in_flight;
        let excess = self.max_backlog.map_or(0, |max| waiting.saturating_sub(max));
        if excess > 0 {
            let excess = usize::try_from(excess).unwrap_or(usize::MAX);
            let oldest: Vec<Position> = at_rest(self.pending.iter()).take(excess).collect();
            oldest.into_iter().for_each(|position| self.drop_unread(position, archive, now_ms));
        }
    }

    /// Gives up everything: the subscription is to be forgotten.
    pub(super) fn close(self, archive: &mut Archive) {
        let pending = self.pending.into_keys().chain(self.parked.into_keys());
        pending.chain(self.candidates).for_each(|position| archive.release(position));
        self.bell.notify_one();
    }

    /// Events to be delivered, those in flight included.
    pub(super) fn backlog(&self) -> u64 {
        self.pending.len() as u64
    }

    /// The oldest of [`Self::backlog`].
    pub(super) fn oldest(&self) -> Option<Position> {
        self.pending.first_key_value().map(|(position, _)| *position)
    }

    /// Panics when the parts contradict each other.
    #[cfg(test)]
    pub(super) fn check(&self) {
        let flying = self.pending.values().filter(|pending| pending.in_flight).count();
        assert_eq!(flying as u64, self.in_flight);
        assert_eq!(self.free.len() + self.due.len() + flying, self.pending.len());
        assert!(self.parked.keys().all(|position| !self.pending.contains_key(position)));
        assert!(!self.known || self.candidates.is_empty());
        assert!(!self.ordered || self.due.is_empty());
    }

    /// The next event to hand out: what is due again before what is new.
    fn take(&mut self, now_ms: u64) -> Option<Position> {
        if self.due.first().is_some_and(|(due_ms, _)| *due_ms <= now_ms) {
            return self.due.pop_first().map(|(_, position)| position);
        }
        self.free.pop_first()
    }

    /// Every position it needs.
    #[cfg(test)]
    pub(super) fn needs(&self) -> impl Iterator<Item = Position> {
        let others = self.parked.keys().chain(&self.candidates);
        self.pending.keys().chain(others).copied()
    }

    fn add(&mut self, position: Position, archive: &mut Archive) {
        if self.pending.contains_key(&position) {
            return;
        }
        archive.need(position);
        self.pending.insert(position, Pending::default());
        self.place(position);
    }

    /// Takes an event out of the hands of its holder for good.
    fn end(&mut self, position: Position) {
        self.pending.remove(&position);
        self.in_flight -= 1;
    }

    fn come_back(&mut self, position: Position) {
        if let Some(pending) = self.pending.get_mut(&position) {
            pending.in_flight = false;
            self.in_flight -= 1;
            self.place(position);
        }
    }

    /// Puts an event that is not in flight where its time says.
    fn place(&mut self, position: Position) {
        let tried = self.pending.get(&position).and_then(|pending| pending.tried.as_deref());
        match tried {
            Some(tried) if !self.ordered => self.due.insert((tried.due_ms, position)),
            _ => self.free.insert(position),
        };
        self.bell.notify_one();
    }

    fn place_all(&mut self) {
        self.free.clear();
        self.due.clear();
        let resting: Vec<Position> = at_rest(self.pending.iter()).collect();
        resting.into_iter().for_each(|position| self.place(position));
    }

    /// Ends an event that is not in flight without delivering it.
    fn drop_unread(&mut self, position: Position, archive: &mut Archive, now_ms: u64) {
        if let Some(tried) = self.pending.remove(&position).and_then(|pending| pending.tried) {
            self.due.remove(&(tried.due_ms, position));
        }
        self.free.remove(&position);
        let reason = "it passed the trigger's max-age or max-backlog".to_owned();
        let outcome =
            Outcome { at_ms: now_ms, stage: Stage::Expired, reason, ..Outcome::default() };
        archive.record(position, &self.name, Settlement::Ack, Some(outcome));
        archive.release(position);
    }
}

impl Pending {
    /// Counts an attempt.
    fn fail(&mut self, due_ms: u64, outcome: Option<Outcome>) {
        let attempts = self.tried.as_deref().map_or(0, |tried| tried.attempts).saturating_add(1);
        let last = outcome.unwrap_or_default();
        self.tried = Some(Box::new(Tried { attempts, due_ms, last }));
    }
}

fn at_rest<'a>(
    pending: impl Iterator<Item = (&'a Position, &'a Pending)>,
) -> impl Iterator<Item = Position> {
    pending.filter(|(_, pending)| !pending.in_flight).map(|(position, _)| *position)
}

/// Bounds what is kept of an outcome.
fn cut(mut outcome: Outcome) -> Outcome {
    outcome.body.truncate(Outcome::MAX_BODY);
    outcome.reason.truncate(outcome.reason.floor_char_boundary(Outcome::MAX_REASON));
    outcome
}
