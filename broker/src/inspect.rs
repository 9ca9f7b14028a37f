//! What a person may ask of a store: parked letters, replay, history, how far behind everyone is.
//!
//! Apart from the [`Store`](crate::store::Store) port because the data plane needs none of it.

use std::time::SystemTime;

use broker_event::Event;

use crate::store::{Outcome, Position, Settlement, Start, StoreError, Topic};

/// A letter kept aside for a person.
#[derive(Clone, Debug)]
pub struct Parked {
    /// Topic of the event.
    pub topic: Topic,
    /// Subscription (trigger `namespace/name`) that could not deliver it.
    pub subscription: String,
    /// Where the event stands.
    pub position: Position,
    /// The event.
    pub event: Event,
    /// Attempts made.
    pub attempts: u32,
    /// Why it was parked.
    pub last: Outcome,
}

/// Which parked letters are meant. An empty selection means all.
#[derive(Clone, Debug, Default)]
pub struct ParkedSelection {
    /// Only of this trigger (`namespace/name`).
    pub subscription: Option<String>,
    /// Only this position.
    pub position: Option<Position>,
    /// Only this event id.
    pub event_id: Option<String>,
}

/// How a subscription stands.
#[derive(Clone, Debug)]
pub struct SubscriptionStatus {
    /// Its topic.
    pub topic: Topic,
    /// Its name.
    pub name: String,
    /// Events it still has to deliver, in flight and waiting for a retry included, parked excluded.
    pub backlog: u64,
    /// Parked letters.
    pub parked: u64,
    /// Position of the oldest undelivered event.
    pub oldest: Option<Position>,
    /// When that event was accepted.
    pub oldest_at: Option<SystemTime>,
}

/// How a topic stands.
#[derive(Clone, Debug)]
pub struct TopicStatus {
    /// The topic.
    pub topic: Topic,
    /// Bytes that subscriptions and parked letters still need (an estimate, by segment averages).
    pub kept_bytes: u64,
    /// Its budget in bytes.
    pub budget: u64,
    /// Position the next event will have at least.
    pub head: Position,
}

/// A kept event with its place and time.
#[derive(Clone, Debug)]
pub struct Kept {
    /// Its topic.
    pub topic: Topic,
    /// Where it stands.
    pub position: Position,
    /// When it was accepted.
    pub accepted: SystemTime,
    /// The event.
    pub event: Event,
}

/// One recorded step in the life of a delivery.
#[derive(Clone, Debug)]
pub struct Step {
    /// Trigger `namespace/name`.
    pub subscription: String,
    /// What became of it.
    pub settlement: Settlement,
    /// How the attempt ended, if one was made.
    pub outcome: Option<Outcome>,
}

/// Whether a scan goes on.
pub type Continue = bool;

/// Questions and interventions. Calls may read the disk: run them off the async threads.
pub trait Inspect: std::fmt::Debug + Send + Sync + 'static {
    /// All topics, sorted.
    fn topics(&self) -> Vec<TopicStatus>;
    /// All subscriptions, sorted by name.
    fn subscriptions(&self) -> Vec<SubscriptionStatus>;
    /// Parked letters, oldest first, at most `limit`, from position `after` (exclusive) on.
    ///
    /// # Errors
    /// When the disk cannot be read.
    fn parked(
        &self,
        which: &ParkedSelection,
        after: Option<Position>,
        limit: usize,
    ) -> Result<Vec<Parked>, StoreError>;
    /// Hands parked letters out again with a fresh count of attempts; answers how many.
    ///
    /// # Errors
    /// When it cannot be recorded.
    fn redrive(&self, which: &ParkedSelection) -> Result<u64, StoreError>;
    /// Forgets parked letters; answers how many.
    ///
    /// # Errors
    /// When it cannot be recorded.
    fn purge(&self, which: &ParkedSelection) -> Result<u64, StoreError>;
    /// Delivers again, to one subscription, what is still kept from `from` on and its filter wants; answers how many.
    ///
    /// # Errors
    /// [`StoreError::UnknownSubscription`], or when the disk fails.
    fn replay(&self, topic: &Topic, subscription: &str, from: Start) -> Result<u64, StoreError>;
    /// Walks kept events from `from` on, in order, until `visit` says stop.
    ///
    /// # Errors
    /// When the disk cannot be read.
    fn scan(&self, from: Start, visit: &mut dyn FnMut(Kept) -> Continue) -> Result<(), StoreError>;
    /// Every step recorded for the event at `position` that is still on record, oldest first.
    ///
    /// # Errors
    /// When the disk cannot be read.
    fn steps(&self, position: Position) -> Result<Vec<Step>, StoreError>;
    /// `None` while the store takes events; else why not.
    fn unhealthy(&self) -> Option<String>;
}
