//! All of a memory store, behind its one lock. Time is an argument.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use broker_event::Event;
use tokio::sync::Notify;

use super::archive::{Archive, Stream};
use super::line::{Begin, Line, LineId, Next, Place};
use crate::store::{
    AppendError, Outcome, Position, Selector, Settlement, Slot, Start, StoreError,
    SubscribeOptions, Topic, TopicOptions,
};

/// When a sender may try again after a budget was used up: subscribers work it off in the meantime.
const RETRY_FULL: Duration = Duration::from_secs(2);

/// A declared topic.
#[derive(Debug)]
pub(super) struct OpenTopic {
    pub(super) stream: Stream,
    pub(super) budget: u64,
    pub(super) selector: Option<Arc<dyn Selector>>,
    /// Its subscriptions by name.
    pub(super) lines: BTreeMap<Arc<str>, LineId>,
    /// Those no selector knows yet.
    newcomers: BTreeSet<LineId>,
}

/// What a holder gets with a subscription.
#[derive(Debug)]
pub(super) struct Seat {
    pub(super) line: LineId,
    pub(super) stream: Stream,
    pub(super) slot: Slot,
    pub(super) bell: Arc<Notify>,
}

/// The state.
#[derive(Debug, Default)]
pub(super) struct State {
    pub(super) topics: BTreeMap<Topic, OpenTopic>,
    pub(super) lines: HashMap<LineId, Line>,
    pub(super) archive: Archive,
    slots: Slots,
    next_stream: Stream,
    next_line: LineId,
}

/// Who has which slot.
#[derive(Debug, Default)]
struct Slots {
    taken: Vec<Option<LineId>>,
    free: Vec<Slot>,
    /// Slots of forgotten subscriptions that the selector of their topic may still name.
    retired: Vec<(Stream, Slot)>,
}

impl State {
    pub(super) fn declare(&mut self, topic: &Topic, options: TopicOptions) {
        let budget = options.budget;
        if let Some(open) = self.topics.get_mut(topic) {
            open.budget = budget;
            return;
        }
        let stream = self.next_stream;
        self.next_stream += 1;
        let (lines, newcomers) = (BTreeMap::new(), BTreeSet::new());
        let open = OpenTopic { stream, budget, selector: None, lines, newcomers };
        self.topics.insert(topic.clone(), open);
    }

    pub(super) fn remove(&mut self, topic: &Topic) {
        let Some(open) = self.topics.remove(topic) else { return };
        for line in open.lines.into_values() {
            self.forget(line);
        }
        self.slots.free(open.stream);
        self.archive.forget(open.stream);
    }

    pub(super) fn append(
        &mut self,
        topic: &Topic,
        events: Vec<Event>,
        limit: fn(u64) -> u64,
        now_ms: u64,
    ) -> Result<(), AppendError> {
        let Some(open) = self.topics.get(topic) else {
            return Err(AppendError::UnknownTopic(topic.clone()));
        };
        if events.is_empty() {
            return Ok(());
        }
        if self.archive.needed(open.stream) >= limit(open.budget) {
            for line in open.lines.values() {
                if let Some(line) = self.lines.get_mut(line) {
                    line.expire(&mut self.archive, now_ms);
                }
            }
            if self.archive.needed(open.stream) >= limit(open.budget) {
                let reason = self.full(topic, open);
                return Err(AppendError::Full { reason, retry_after: RETRY_FULL });
            }
        }
        // All answers first: should the selector panic, nothing of the batch is kept.
        let select = |event: Event| {
            let mut slots = Vec::new();
            if let Some(selector) = &open.selector {
                selector.select(&event, &mut slots);
            }
            (event, slots)
        };
        let selected: Vec<(Event, Vec<Slot>)> = events.into_iter().map(select).collect();
        let stream = open.stream;
        for (event, slots) in selected {
            let position = self.archive.push(stream, event, now_ms);
            for line in &open.newcomers {
                if let Some(line) = self.lines.get_mut(line) {
                    line.consider(position, &mut self.archive);
                }
            }
            for slot in slots {
                let line = self.slots.holder(slot).and_then(|line| self.lines.get_mut(&line));
                if let Some(line) = line.filter(|line| line.stream == stream && line.is_known()) {
                    line.route(position, &mut self.archive, now_ms);
                }
            }
            self.archive.release(position);
        }
        Ok(())
    }

    pub(super) fn route(
        &mut self,
        topic: &Topic,
        selector: Arc<dyn Selector>,
        now_ms: u64,
    ) -> Result<(), StoreError> {
        let open =
            self.topics.get_mut(topic).ok_or_else(|| StoreError::UnknownTopic(topic.clone()))?;
        let mut wanted: Vec<(LineId, Vec<Position>)> = Vec::with_capacity(open.newcomers.len());
        for id in &open.newcomers {
            let Some(line) = self.lines.get(id) else { continue };
            let wants = |position: &Position| {
                let stored = self.archive.get(*position);
                stored.is_some_and(|stored| selector.wants(line.slot, &stored.event))
            };
            wanted.push((*id, line.candidates().iter().copied().filter(wants).collect()));
        }
        for (id, positions) in wanted {
            if let Some(line) = self.lines.get_mut(&id) {
                line.become_known(&positions, &mut self.archive, now_ms);
            }
        }
        open.newcomers.clear();
        open.selector = Some(selector);
        self.slots.free(open.stream);
        Ok(())
    }

    /// Makes the caller the holder of a subscription, which is created if need be.
    pub(super) fn subscribe(
        &mut self,
        topic: &Topic,
        name: &str,
        options: &SubscribeOptions,
        now_ms: u64,
    ) -> Result<Seat, StoreError> {
        let open =
            self.topics.get_mut(topic).ok_or_else(|| StoreError::UnknownTopic(topic.clone()))?;
        let id = match open.lines.get(name) {
            Some(id) => *id,
            None => {
                let id = self.next_line;
                self.next_line += 1;
                let begin = Begin::new(options.start, self.archive.head());
                let slot = self.slots.seat(id);
                let place = Place { id, stream: open.stream, slot };
                let line = Line::new(name, place, begin, &mut self.archive);
                open.lines.insert(Arc::clone(&line.name), id);
                open.newcomers.insert(id);
                self.lines.insert(id, line);
                id
            }
        };
        let unknown = || StoreError::UnknownSubscription(name.to_owned());
        let line = self.lines.get_mut(&id).ok_or_else(unknown)?;
        if !line.hold(options, &mut self.archive, now_ms) {
            return Err(StoreError::Held(name.to_owned()));
        }
        Ok(Seat { line: id, stream: line.stream, slot: line.slot, bell: Arc::clone(&line.bell) })
    }

    pub(super) fn unsubscribe(&mut self, topic: &Topic, name: &str) -> Result<(), StoreError> {
        let open =
            self.topics.get_mut(topic).ok_or_else(|| StoreError::UnknownTopic(topic.clone()))?;
        let unknown = || StoreError::UnknownSubscription(name.to_owned());
        let id = open.lines.remove(name).ok_or_else(unknown)?;
        open.newcomers.remove(&id);
        self.forget(id);
        Ok(())
    }

    /// Whether `topic` is still the one with this number.
    pub(super) fn is_declared(&self, topic: &Topic, stream: Stream) -> bool {
        self.topics.get(topic).is_some_and(|open| open.stream == stream)
    }

    /// What the holder of `line` gets; `None` when it is forgotten.
    pub(super) fn next(&mut self, line: LineId, max: usize, now_ms: u64) -> Option<Next> {
        Some(self.lines.get_mut(&line)?.next(max, &mut self.archive, now_ms))
    }

    pub(super) fn let_go(&mut self, line: LineId) {
        if let Some(line) = self.lines.get_mut(&line) {
            line.let_go();
        }
    }

    pub(super) fn settle(
        &mut self,
        line: LineId,
        position: Position,
        settlement: Settlement,
        outcome: Option<Outcome>,
    ) {
        if let Some(line) = self.lines.get_mut(&line) {
            line.settle(position, settlement, outcome, &mut self.archive);
        }
    }

    /// Delivers kept events again to one subscription, as far as its filter wants them.
    pub(super) fn replay(
        &mut self,
        topic: &Topic,
        name: &str,
        from: Start,
        now_ms: u64,
    ) -> Result<u64, StoreError> {
        let open = self.topics.get(topic).ok_or_else(|| StoreError::UnknownTopic(topic.clone()))?;
        let line = open.lines.get(name).and_then(|line| self.lines.get_mut(line));
        let line = line.ok_or_else(|| StoreError::UnknownSubscription(name.to_owned()))?;
        let Some(selector) = open.selector.as_ref().filter(|_| line.is_known()) else {
            return Err(StoreError::Failed(format!(
                "trigger {name} is not in force yet, so its filter is not known"
            )));
        };
        let begin = Begin::new(from, self.archive.head());
        let wanted: Vec<Position> = self
            .archive
            .range(begin.from()..)
            .filter(|(position, stored)| {
                stored.stream == open.stream
                    && begin.includes(*position, stored)
                    && selector.wants(line.slot, &stored.event)
            })
            .map(|(position, _)| position)
            .collect();
        Ok(line.replay(&wanted, &mut self.archive, now_ms))
    }

    fn forget(&mut self, id: LineId) {
        if let Some(line) = self.lines.remove(&id) {
            self.slots.retire(line.stream, line.slot);
            line.close(&mut self.archive);
        }
    }

    /// Why a topic takes no more, and who makes it so.
    fn full(&self, topic: &Topic, open: &OpenTopic) -> String {
        let waiting = |line: &Line| line.backlog() + line.candidates().len() as u64;
        let parked = |line: &Line| line.parked().len() as u64;
        let start =
            format!("broker {topic} has used up its storage budget of {} bytes", open.budget);
        let lines = open.lines.values().filter_map(|line| self.lines.get(line));
        match lines.max_by_key(|line| waiting(line) + parked(line)) {
            Some(line) => format!(
                "{start}; trigger {} holds most of it: {} events wait and {} are parked",
                line.name,
                waiting(line),
                parked(line)
            ),
            None => start,
        }
    }
}

impl Slots {
    fn seat(&mut self, line: LineId) -> Slot {
        let slot = self.free.pop().unwrap_or_else(|| {
            self.taken.push(None);
            let last = u32::try_from(self.taken.len() - 1)
                .expect("fewer than 2^32 subscriptions fit in memory");
            Slot(last)
        });
        if let Some(entry) = self.taken.get_mut(index(slot)) {
            *entry = Some(line);
        }
        slot
    }

    fn holder(&self, slot: Slot) -> Option<LineId> {
        *self.taken.get(index(slot))?
    }

    fn retire(&mut self, stream: Stream, slot: Slot) {
        if let Some(entry) = self.taken.get_mut(index(slot)) {
            *entry = None;
        }
        self.retired.push((stream, slot));
    }

    /// A new selector decides for the topic, or the topic is gone: no slot of a forgotten subscription will be named again.
    fn free(&mut self, stream: Stream) {
        let free = self.retired.extract_if(.., |(of, _)| *of == stream).map(|(_, slot)| slot);
        self.free.extend(free);
    }
}

fn index(slot: Slot) -> usize {
    usize::try_from(slot.0).unwrap_or(usize::MAX)
}
