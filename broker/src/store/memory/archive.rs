//! The events a memory store keeps: those somebody needs, and the newest of the rest.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::ops::RangeBounds;
use std::sync::Arc;

use broker_event::{Event, ValueRef};

use super::line::Recorded;
use crate::store::{Outcome, Position, Settlement};

/// Bytes of events nobody needs any more that are kept for replays and for people.
const HISTORY_BYTES: u64 = 8 << 20;

/// Bytes of settlements kept, so that an event's course can be explained.
const TRAIL_BYTES: usize = 8 << 20;

/// Added to an event's bytes for what holding it costs beside them.
const OVERHEAD: u64 = 256;

/// The same for a settlement.
const STEP_OVERHEAD: usize = 192;

/// A topic's number, never used again.
pub(super) type Stream = u64;

/// An event with its place and time.
#[derive(Debug)]
pub(super) struct Stored {
    pub(super) stream: Stream,
    pub(super) time_ms: u64,
    pub(super) event: Event,
    bytes: u64,
    /// How many need it: subscriptions, parked letters, whoever works on it at the moment.
    needs: u32,
}

/// All events of a store.
#[derive(Debug, Default)]
pub(super) struct Archive {
    events: BTreeMap<Position, Stored>,
    head: Position,
    last_ms: u64,
    /// Bytes needed, by topic.
    needed: HashMap<Stream, u64>,
    /// Those nobody needs.
    history: BTreeSet<Position>,
    history_bytes: u64,
    trail: VecDeque<Recorded>,
    trail_bytes: usize,
}

impl Archive {
    /// Keeps `event`, which the caller needs until it calls [`Self::release`].
    pub(super) fn push(&mut self, stream: Stream, event: Event, now_ms: u64) -> Position {
        let position = self.head;
        self.head = self.head.saturating_add(1);
        // Times never go back, so that a time names one place.
        self.last_ms = self.last_ms.max(now_ms);
        let bytes = weigh(&event);
        *self.needed.entry(stream).or_default() += bytes;
        let stored = Stored { stream, time_ms: self.last_ms, event, bytes, needs: 1 };
        self.events.insert(position, stored);
        position
    }

    /// One more needs the event.
    pub(super) fn need(&mut self, position: Position) {
        let Some(stored) = self.events.get_mut(&position) else { return };
        stored.needs += 1;
        if stored.needs == 1 {
            let (stream, bytes) = (stored.stream, stored.bytes);
            self.history.remove(&position);
            self.history_bytes -= bytes;
            *self.needed.entry(stream).or_default() += bytes;
        }
    }

    /// One less needs the event. What nobody needs may be gone at once.
    pub(super) fn release(&mut self, position: Position) {
        let Some(stored) = self.events.get_mut(&position) else { return };
        stored.needs -= 1;
        if stored.needs > 0 {
            return;
        }
        if let Some(needed) = self.needed.get_mut(&stored.stream) {
            *needed -= stored.bytes;
        }
        self.history_bytes += stored.bytes;
        self.history.insert(position);
        while self.history_bytes > HISTORY_BYTES {
            let Some(oldest) = self.history.pop_first() else { break };
            self.history_bytes -= self.events.remove(&oldest).map_or(0, |stored| stored.bytes);
        }
    }

    /// Forgets all events of a topic.
    pub(super) fn forget(&mut self, stream: Stream) {
        self.needed.remove(&stream);
        for (position, stored) in self.events.extract_if(.., |_, stored| stored.stream == stream) {
            if self.history.remove(&position) {
                self.history_bytes -= stored.bytes;
            }
        }
    }

    /// The position of the next event.
    pub(super) fn head(&self) -> Position {
        self.head
    }

    /// Bytes somebody needs of a topic's events.
    pub(super) fn needed(&self, stream: Stream) -> u64 {
        self.needed.get(&stream).copied().unwrap_or(0)
    }

    pub(super) fn get(&self, position: Position) -> Option<&Stored> {
        self.events.get(&position)
    }

    /// Kept events, in order.
    pub(super) fn range(
        &self,
        positions: impl RangeBounds<Position>,
    ) -> impl Iterator<Item = (Position, &Stored)> {
        self.events.range(positions).map(|(position, stored)| (*position, stored))
    }

    /// Puts down what became of a delivery.
    pub(super) fn record(
        &mut self,
        position: Position,
        subscription: &Arc<str>,
        settlement: Settlement,
        outcome: Option<Outcome>,
    ) {
        let recorded =
            Recorded { position, subscription: Arc::clone(subscription), settlement, outcome };
        self.trail_bytes += weigh_step(&recorded);
        self.trail.push_back(recorded);
        while self.trail_bytes > TRAIL_BYTES {
            let Some(oldest) = self.trail.pop_front() else { break };
            self.trail_bytes -= weigh_step(&oldest);
        }
    }

    /// What became of the event at `position`, as far as it is still known, oldest first.
    pub(super) fn trail(&self, position: Position) -> impl Iterator<Item = &Recorded> {
        self.trail.iter().filter(move |recorded| recorded.position == position)
    }

    /// Panics when the parts contradict each other.
    #[cfg(test)]
    pub(super) fn check(&self) {
        let idle = |(position, stored): (&Position, &Stored)| {
            (stored.needs == 0).then_some((*position, stored.bytes))
        };
        let idle: BTreeMap<Position, u64> = self.events.iter().filter_map(idle).collect();
        assert!(idle.keys().eq(self.history.iter()), "the history is what nobody needs");
        assert_eq!(idle.values().sum::<u64>(), self.history_bytes);
        assert!(self.history_bytes <= HISTORY_BYTES && self.trail_bytes <= TRAIL_BYTES);
        let kept: u64 = self.events.values().map(|stored| stored.bytes).sum();
        assert_eq!(kept - self.history_bytes, self.needed.values().sum::<u64>());
        assert_eq!(self.trail.iter().map(weigh_step).sum::<usize>(), self.trail_bytes);
    }

    /// What the event at `position` counts for.
    #[cfg(test)]
    pub(super) fn weight(&self, position: Position) -> u64 {
        self.events.get(&position).map_or(0, |stored| stored.bytes)
    }
}

/// About what an event takes in memory.
fn weigh(event: &Event) -> u64 {
    let optional = [event.subject(), event.time(), event.data_content_type(), event.data_schema()];
    let text: usize = event.id().len()
        + event.source().len()
        + event.ty().len()
        + optional.into_iter().flatten().map(str::len).sum::<usize>();
    let extensions: usize = event
        .extensions()
        .map(|(name, value)| {
            let value = match value.as_ref() {
                ValueRef::String(text) => text.len(),
                ValueRef::Integer(_) | ValueRef::Boolean(_) => 4,
            };
            name.len() + value
        })
        .sum();
    let data = event.data().map_or(0, bytes::Bytes::len);
    OVERHEAD + (text + extensions + data) as u64
}

fn weigh_step(recorded: &Recorded) -> usize {
    let outcome = recorded.outcome.as_ref();
    STEP_OVERHEAD + outcome.map_or(0, |outcome| outcome.reason.len() + outcome.body.len())
}
