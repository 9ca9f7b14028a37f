//! Which topics and subscriptions there are.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use super::durable::Durable;
use super::topic::OpenTopic;
use crate::store::{Slot, Topic};

/// The topics of a store; replaced as a whole when one comes or goes, so that senders read it without a lock.
#[derive(Clone, Debug, Default)]
pub(super) struct Topics {
    pub(super) by_name: HashMap<Topic, Arc<OpenTopic>>,
    pub(super) by_stream: HashMap<u32, Arc<OpenTopic>>,
}

impl Topics {
    pub(super) fn with(&self, topic: Arc<OpenTopic>) -> Self {
        let mut topics = self.clone();
        topics.by_stream.insert(topic.stream, Arc::clone(&topic));
        topics.by_name.insert(topic.topic.clone(), topic);
        topics
    }

    pub(super) fn without(&self, topic: &OpenTopic) -> Self {
        let mut topics = self.clone();
        topics.by_stream.remove(&topic.stream);
        topics.by_name.remove(&topic.topic);
        topics
    }
}

/// The subscriptions of a store.
#[derive(Debug, Default)]
pub(super) struct Registry {
    pub(super) next_stream: u32,
    pub(super) next_id: u32,
    by_id: BTreeMap<u32, Arc<Durable>>,
    by_name: BTreeMap<(u32, Arc<str>), Arc<Durable>>,
    slots: Vec<Option<Arc<Durable>>>,
    free: Vec<Slot>,
    /// Slots of removed subscriptions that the selector of their topic may still name.
    retired: Vec<(u32, Slot)>,
}

impl Registry {
    /// A registry without subscriptions that goes on counting from these numbers.
    pub(super) fn new(next_stream: u32, next_id: u32) -> Self {
        Self { next_stream, next_id, ..Self::default() }
    }

    pub(super) fn insert(&mut self, durable: &Arc<Durable>) {
        self.next_id = self.next_id.max(durable.id.saturating_add(1));
        self.by_id.insert(durable.id, Arc::clone(durable));
        self.by_name.insert((durable.stream, Arc::clone(&durable.name)), Arc::clone(durable));
    }

    pub(super) fn remove(&mut self, durable: &Durable) {
        self.by_id.remove(&durable.id);
        self.by_name.remove(&(durable.stream, Arc::clone(&durable.name)));
        if let Some(slot) = durable.slot.get() {
            if let Some(entry) = self.slots.get_mut(index(*slot)) {
                *entry = None;
            }
            self.retired.push((durable.stream, *slot));
        }
    }

    /// The slot of `durable`, given to it now if it has none.
    pub(super) fn seat(&mut self, durable: &Arc<Durable>) -> Slot {
        *durable.slot.get_or_init(|| {
            let slot = self.free.pop().unwrap_or_else(|| {
                self.slots.push(None);
                let last = u32::try_from(self.slots.len() - 1)
                    .expect("fewer than 2^32 subscriptions fit in memory");
                Slot(last)
            });
            if let Some(entry) = self.slots.get_mut(index(slot)) {
                *entry = Some(Arc::clone(durable));
            }
            slot
        })
    }

    /// A new selector decides for the topic with the number `stream`, or it is gone: no slot of a removed subscription
    /// will be named again.
    pub(super) fn free_slots(&mut self, stream: u32) {
        let free = &mut self.free;
        self.retired.retain(|(of, slot)| {
            let keep = *of != stream;
            if !keep {
                free.push(*slot);
            }
            keep
        });
    }

    pub(super) fn at(&self, slot: Slot) -> Option<&Arc<Durable>> {
        self.slots.get(index(slot))?.as_ref()
    }

    pub(super) fn find(&self, stream: u32, name: &str) -> Option<&Arc<Durable>> {
        self.by_name.get(&(stream, Arc::from(name)))
    }

    pub(super) fn by_id(&self, id: u32) -> Option<&Arc<Durable>> {
        self.by_id.get(&id)
    }

    /// All subscriptions, oldest first.
    pub(super) fn all(&self) -> impl Iterator<Item = &Arc<Durable>> {
        self.by_id.values()
    }

    /// All subscriptions of a topic.
    pub(super) fn of(&self, stream: u32) -> impl Iterator<Item = &Arc<Durable>> {
        let from = (stream, Arc::from(""));
        self.by_name
            .range(from..)
            .take_while(move |((of, _), _)| *of == stream)
            .map(|(_, durable)| durable)
    }
}

fn index(slot: Slot) -> usize {
    usize::try_from(slot.0).unwrap_or(usize::MAX)
}
