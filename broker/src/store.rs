//! The store port: what the ingress and the dispatcher ask of a backend.
//!
//! A backend keeps the events of each broker ([`Topic`]) and a durable subscription for each trigger.
//! Filtering, retry policy and dead letters are the dispatcher's: a backend is handed a [`Selector`]
//! that says which subscriptions want an event, and is told how each [`Delivery`] ended.
//!
//! Promises, checked by the contract suite every backend runs:
//! - [`Store::append`] returns `Ok` only when every event of the batch is durable; a batch is kept whole or not at all.
//! - An event that the selector gives to a subscription is delivered to it until it is acked or parked;
//!   what was in flight when the process died is delivered again.
//! - Attempts, the last outcome and the time of the next attempt survive a restart.
//! - A subscription keeps its place while the selector, its options or its holder change.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use broker_event::Event;
use futures_util::future::BoxFuture;

#[cfg(any(test, feature = "test-util"))]
pub mod contract;
pub mod embedded;
pub mod memory;

/// The broker an event belongs to.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Topic {
    /// Namespace of the Broker.
    pub namespace: Arc<str>,
    /// Name of the Broker.
    pub name: Arc<str>,
}

impl Topic {
    /// The topic of `namespace/name`.
    #[must_use]
    pub fn new(namespace: &str, name: &str) -> Self {
        Self { namespace: namespace.into(), name: name.into() }
    }
}

impl fmt::Display for Topic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

/// Where an event stands in its backend's order: grows, may have gaps. One number space a store.
pub type Position = u64;

/// A subscription's number within one open store: dense, assigned by [`Store::subscribe`], not kept across restarts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Slot(pub u32);

/// Decides which subscriptions of a topic want an event. Implemented by the dispatcher's trigger index.
pub trait Selector: fmt::Debug + Send + Sync + 'static {
    /// Appends to `matched` the slots that want `event`, each at most once.
    fn select(&self, event: &Event, matched: &mut Vec<Slot>);
    /// Whether one slot wants `event`; for replay and for backends that read once a subscription.
    fn wants(&self, slot: Slot, event: &Event) -> bool;
}

/// Where a new subscription starts. It matters only the first time a name is seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Start {
    /// With events accepted from now on.
    #[default]
    Now,
    /// With the oldest event still kept.
    Earliest,
    /// With events accepted at or after this time.
    Time(SystemTime),
    /// With this position.
    Position(Position),
}

/// Limits of a topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TopicOptions {
    /// Bytes of kept events after which [`Store::append`] answers [`AppendError::Full`].
    pub budget: u64,
}

/// The part of a topic's budget that [`Store::append_replies`] may use beyond it: enough for the replies to what is being
/// delivered at the moment, too little for subscribers that answer one event with many to fill a disk.
const REPLY_PART: u64 = 8;

/// How a subscription reads.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SubscribeOptions {
    /// Where it starts when it is new.
    pub start: Start,
    /// Hand out strictly by position, also what is not due yet ([`Delivery::not_before`] then says when); for order by key.
    pub ordered: bool,
    /// Older events are expired instead of delivered; counted and recorded.
    pub max_age: Option<Duration>,
    /// More than this many waiting events: the oldest are expired.
    pub max_backlog: Option<u64>,
}

/// How one attempt to deliver ended.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// HTTP status; 0 when no response came (see `reason`).
    pub status: u16,
    /// When the attempt ended, milliseconds since the Unix epoch.
    pub at_ms: u64,
    /// How long it took, milliseconds.
    pub took_ms: u32,
    /// Which target failed or answered, empty for the subscriber itself ("dead letter sink", "reply").
    pub stage: Stage,
    /// Why it failed, in words, bounded to [`Outcome::MAX_REASON`] bytes.
    pub reason: String,
    /// First bytes of the failed response's body, at most [`Outcome::MAX_BODY`].
    pub body: Vec<u8>,
}

impl Outcome {
    /// Bytes of the response kept: Knative cuts `knativeerrordata` at 1,024.
    pub const MAX_BODY: usize = 1024;
    /// Bytes of the sentence kept: fits any error chain worth reading.
    pub const MAX_REASON: usize = 512;
}

/// Which step of a delivery an outcome tells about.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Stage {
    /// The subscriber was called.
    #[default]
    Subscriber,
    /// The subscriber answered with an event that could not be stored.
    Reply,
    /// The dead letter sink was called.
    DeadLetter,
    /// Nothing was called: it passed `max-age` or `max-backlog`.
    Expired,
}

/// What becomes of a delivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Settlement {
    /// Done: the subscription needs the event no more.
    Ack,
    /// Hand it out again once `at` has passed; the attempt counts.
    Retry {
        /// When it is due.
        at: SystemTime,
    },
    /// The attempt counts and is recorded, but the holder keeps the delivery (order by key waits in place).
    Hold {
        /// When the holder will try again; the next holder waits for it too.
        at: SystemTime,
    },
    /// Kept aside, out of the way of others, until it is redriven or purged.
    Park,
    /// Given back untried (shutdown, pause, lost interest): no attempt is counted.
    Release,
}

/// Takes settlements; implemented by backends. Never blocks on a disk.
pub trait Settle: fmt::Debug + Send + Sync + 'static {
    /// Records what became of the event at `position`.
    fn settle(&self, position: Position, settlement: Settlement, outcome: Option<Outcome>);
}

/// An event in the hands of a subscription's holder. Dropped unsettled, it is released.
#[derive(Debug)]
pub struct Delivery {
    /// Where the event stands.
    pub position: Position,
    /// When it was accepted.
    pub accepted: SystemTime,
    /// The event, as stored.
    pub event: Event,
    /// Attempts made so far (0 the first time).
    pub attempts: u32,
    /// How the last attempt ended, if there was one.
    pub last: Option<Outcome>,
    /// Ordered subscriptions only: do not try before this.
    pub not_before: Option<SystemTime>,
    settle: Option<Arc<dyn Settle>>,
}

impl Delivery {
    /// A first delivery of `event`, settled through `settle`.
    #[must_use]
    pub fn new(
        position: Position,
        accepted: SystemTime,
        event: Event,
        settle: Arc<dyn Settle>,
    ) -> Self {
        let (last, not_before, settle) = (None, None, Some(settle));
        Self { position, accepted, event, attempts: 0, last, not_before, settle }
    }

    /// Done; `outcome` is `None` when nothing was sent (the filter no longer matches).
    pub fn ack(mut self, outcome: Option<Outcome>) {
        self.finish(Settlement::Ack, outcome);
    }

    /// To be handed out again at `at`.
    pub fn retry(mut self, at: SystemTime, outcome: Outcome) {
        self.finish(Settlement::Retry { at }, Some(outcome));
    }

    /// Counts a failed attempt and keeps the delivery.
    pub fn hold(&mut self, at: SystemTime, outcome: Outcome) {
        self.attempts = self.attempts.saturating_add(1);
        self.not_before = Some(at);
        self.last = Some(outcome.clone());
        if let Some(settle) = &self.settle {
            settle.settle(self.position, Settlement::Hold { at }, Some(outcome));
        }
    }

    /// Kept aside.
    pub fn park(mut self, outcome: Outcome) {
        self.finish(Settlement::Park, Some(outcome));
    }

    fn finish(&mut self, settlement: Settlement, outcome: Option<Outcome>) {
        if let Some(settle) = self.settle.take() {
            settle.settle(self.position, settlement, outcome);
        }
    }
}

impl Drop for Delivery {
    fn drop(&mut self) {
        self.finish(Settlement::Release, None);
    }
}

/// A durable subscription, held by one holder at a time.
pub trait Subscription: fmt::Debug + Send {
    /// Its number for the selector.
    fn slot(&self) -> Slot;
    /// Waits for at least one due delivery and returns up to `max`. Cancel-safe: nothing is lost if the future is dropped.
    fn next(&mut self, max: usize) -> BoxFuture<'_, Result<Vec<Delivery>, StoreError>>;
}

/// What a backend does for the mesh.
pub trait Store: fmt::Debug + Send + Sync + 'static {
    /// Declares a topic or changes its options. Its events and subscriptions are kept until [`Store::remove`].
    ///
    /// # Errors
    /// [`StoreError`] when it cannot be recorded.
    fn declare(&self, topic: &Topic, options: TopicOptions) -> Result<(), StoreError>;

    /// Forgets a topic, its events and its subscriptions.
    ///
    /// # Errors
    /// [`StoreError`] when it cannot be recorded.
    fn remove(&self, topic: &Topic) -> Result<(), StoreError>;

    /// `Ok` means durable by this backend's guarantee, all of `events`. Duplicates are possible, loss is not.
    fn append<'a>(
        &'a self,
        topic: &'a Topic,
        events: Vec<Event>,
    ) -> BoxFuture<'a, Result<(), AppendError>>;

    /// [`Store::append`] for what a subscriber answered, which may exceed the budget a little: the event it answers is done
    /// with afterwards, and a full topic that took no replies could never be emptied by subscribers that answer.
    fn append_replies<'a>(
        &'a self,
        topic: &'a Topic,
        events: Vec<Event>,
    ) -> BoxFuture<'a, Result<(), AppendError>> {
        self.append(topic, events)
    }

    /// From now on `selector` decides for `topic`. Events accepted after this returns are decided by it.
    ///
    /// # Errors
    /// [`StoreError::UnknownTopic`].
    fn route(&self, topic: &Topic, selector: Arc<dyn Selector>) -> Result<(), StoreError>;

    /// Opens the durable subscription `name` (a trigger's `namespace/name`), creating it at `options.start` the first time.
    /// A `start` other than `Now` takes effect once a selector knows the slot.
    ///
    /// # Errors
    /// [`StoreError::UnknownTopic`]; [`StoreError::Held`] when another holder has it.
    fn subscribe(
        &self,
        topic: &Topic,
        name: &str,
        options: SubscribeOptions,
    ) -> Result<Box<dyn Subscription>, StoreError>;

    /// Forgets the subscription and what it has not consumed, parked letters included.
    ///
    /// # Errors
    /// [`StoreError`] when it cannot be recorded.
    fn unsubscribe(&self, topic: &Topic, name: &str) -> Result<(), StoreError>;
}

/// What replies may fill of a topic that senders may fill to `budget`.
fn with_replies(budget: u64) -> u64 {
    budget.saturating_add(budget / REPLY_PART)
}

/// Why an append was refused. Nothing of the batch was kept.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AppendError {
    /// The topic is not declared.
    #[error("broker {0} does not exist")]
    UnknownTopic(Topic),
    /// The storage budget of the topic, or the disk, is used up. Retry later.
    #[error("{reason}")]
    Full {
        /// What is full and which trigger holds it.
        reason: String,
        /// When to try again.
        retry_after: Duration,
    },
    /// The backend can take nothing for now (queue full, shutting down). Retry later.
    #[error("{reason}")]
    Unavailable {
        /// Why.
        reason: String,
        /// When to try again.
        retry_after: Duration,
    },
    /// More than the backend ever takes at once. Final.
    #[error("the events are larger than this broker ever takes at once")]
    TooLarge,
    /// A sync failed: durability can no longer be promised until a restart. Final.
    #[error("the log failed and takes no more events: {0}")]
    Failed(String),
}

impl AppendError {
    /// Whether the same append may succeed later without anyone acting.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        matches!(self, Self::Full { .. } | Self::Unavailable { .. })
    }
}

/// Why a store could not do something other than append.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// The topic is not declared.
    #[error("broker {0} does not exist")]
    UnknownTopic(Topic),
    /// No subscription of that name.
    #[error("trigger {0} does not exist")]
    UnknownSubscription(String),
    /// Another holder has the subscription.
    #[error("subscription {0} is already held")]
    Held(String),
    /// The store is closed.
    #[error("the store is closed")]
    Closed,
    /// The disk failed.
    #[error("{0}")]
    Failed(String),
}

impl StoreError {
    /// Whether the same call may succeed later without anyone acting.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        matches!(self, Self::Held(_))
    }
}
