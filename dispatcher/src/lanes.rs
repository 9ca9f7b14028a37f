//! The deliveries a worker holds but is not making: ready to start, waiting for their time, or behind another of
//! their key. No clock and no socket here.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::hash::BuildHasher;

use broker::store::{Delivery, Position};
use broker_event::Event;
use broker_event::ValueRef;
use foldhash::fast::RandomState;
use tokio::time::Instant;

/// Bytes counted for a delivery besides its payload: attributes and bookkeeping of a usual event.
const OVERHEAD: usize = 512;

/// A key's lane. Only a hash of the key: two keys that share one wait for each other, which is harmless.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Lane(u64);

/// A delivery and the lane it heads.
#[derive(Debug)]
pub(crate) struct Held {
    /// The delivery.
    pub(crate) delivery: Delivery,
    /// Its lane, if it has a key and order matters.
    pub(crate) lane: Option<Lane>,
}

/// Deliveries in a worker's hands.
///
/// Of each lane one delivery, its head, is under way, ready or waiting; the others follow it in the store's order.
#[derive(Debug, Default)]
pub(crate) struct Lanes {
    hasher: RandomState,
    ready: VecDeque<Held>,
    waiting: BTreeMap<(Instant, Position), Held>,
    followers: HashMap<Lane, VecDeque<Delivery>, RandomState>,
    held: usize,
    bytes: usize,
}

impl Lanes {
    /// The lane of an event: its `partitionkey`, else its `subject`. Without either the event follows nobody.
    pub(crate) fn lane_of(&self, event: &Event) -> Option<Lane> {
        let hash = match event.attribute("partitionkey") {
            Some(ValueRef::String(key)) => self.hasher.hash_one(key),
            Some(ValueRef::Integer(key)) => self.hasher.hash_one(key.to_string()),
            Some(ValueRef::Boolean(key)) => self.hasher.hash_one(key.to_string()),
            None => self.hasher.hash_one(event.subject()?),
        };
        Some(Lane(hash))
    }

    /// Takes a delivery in. With a lane it starts once those before it in the lane have ended; not before `due`.
    pub(crate) fn take(&mut self, delivery: Delivery, lane: Option<Lane>, due: Option<Instant>) {
        self.count(&delivery);
        if let Some(lane) = lane {
            if let Some(followers) = self.followers.get_mut(&lane) {
                followers.push_back(delivery);
                return;
            }
            self.followers.insert(lane, VecDeque::new());
        }
        self.place(Held { delivery, lane }, due);
    }

    /// Takes a head back that was under way, to be started again at `due`.
    pub(crate) fn wait(&mut self, held: Held, due: Instant) {
        self.count(&held.delivery);
        self.place(held, Some(due));
    }

    /// The head of `lane` has ended. `due` tells when the next may start.
    pub(crate) fn ended(&mut self, lane: Lane, due: impl FnOnce(&Delivery) -> Option<Instant>) {
        let Some(followers) = self.followers.get_mut(&lane) else { return };
        match followers.pop_front() {
            Some(delivery) => {
                let due = due(&delivery);
                self.place(Held { delivery, lane: Some(lane) }, due);
            }
            None => {
                self.followers.remove(&lane);
            }
        }
    }

    /// Makes ready what waited until `now`.
    pub(crate) fn wake(&mut self, now: Instant) {
        while let Some(first) = self.waiting.first_entry()
            && first.key().0 <= now
        {
            self.ready.push_back(first.remove());
        }
    }

    /// When the next delivery stops waiting.
    pub(crate) fn next_due(&self) -> Option<Instant> {
        self.waiting.first_key_value().map(|((due, _), _)| *due)
    }

    /// Whether something could start now.
    pub(crate) fn is_ready(&self) -> bool {
        !self.ready.is_empty()
    }

    /// The next delivery to start.
    pub(crate) fn start(&mut self) -> Option<Held> {
        let held = self.ready.pop_front()?;
        self.held -= 1;
        self.bytes -= size(&held.delivery);
        Some(held)
    }

    /// Gives back everything held. Lanes whose head is under way stay, so that order outlasts the interruption.
    pub(crate) fn release(&mut self) {
        let waiting = std::mem::take(&mut self.waiting);
        for held in std::mem::take(&mut self.ready).into_iter().chain(waiting.into_values()) {
            if let Some(lane) = held.lane {
                self.followers.remove(&lane);
            }
        }
        self.followers.values_mut().for_each(VecDeque::clear);
        self.held = 0;
        self.bytes = 0;
    }

    /// Deliveries held.
    pub(crate) fn held(&self) -> usize {
        self.held
    }

    /// Bytes held.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    fn count(&mut self, delivery: &Delivery) {
        self.held += 1;
        self.bytes += size(delivery);
    }

    fn place(&mut self, held: Held, due: Option<Instant>) {
        match due {
            Some(due) => {
                self.waiting.insert((due, held.delivery.position), held);
            }
            None => self.ready.push_back(held),
        }
    }
}

fn size(delivery: &Delivery) -> usize {
    OVERHEAD + delivery.event.data().map_or(0, bytes::Bytes::len)
}

#[cfg(test)]
mod tests;
