//! What the dispatcher is told: brokers and triggers as plain structs, with every default already applied.

use std::num::NonZeroU32;
use std::time::Duration;

use broker::store::{Start, SubscribeOptions, Topic, TopicOptions};
use http::Uri;

use crate::filter::Filter;

/// Time an attempt may take when the trigger names none. Knative's default broker waits forever and its Kafka broker
/// ten minutes; five minutes lets a slow function finish and still gives a hung one's place to the next event.
pub const DEFAULT_TIMEOUT: Duration = Duration::from_secs(300);

/// Attempts a trigger makes at once when it does not say. Enough to fill a 100 ms function to 640 events a second, and
/// with events of 1 MiB at most 64 MiB that a hung subscriber can hold.
pub const DEFAULT_PARALLELISM: NonZeroU32 = NonZeroU32::new(64).expect("64 is not zero");

/// Everything that should be in force. Whatever is missing from it is gone.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Snapshot {
    /// All brokers.
    pub brokers: Vec<Broker>,
    /// All triggers, also those whose broker does not exist (yet): they wait for it.
    pub triggers: Vec<Trigger>,
}

/// A broker.
#[derive(Clone, Debug, PartialEq)]
pub struct Broker {
    /// Its topic in the store.
    pub topic: Topic,
    /// Its limits.
    pub options: TopicOptions,
}

/// A trigger, resolved: addresses instead of references, policies merged with the broker's.
#[derive(Clone, Debug, PartialEq)]
pub struct Trigger {
    /// Namespace of the Trigger, sent to the subscriber as `Kn-Namespace`.
    pub namespace: String,
    /// Name of the Trigger.
    pub name: String,
    /// The broker it listens to.
    pub broker: Topic,
    /// Which events it wants.
    pub filter: Filter,
    /// Who gets them.
    pub subscriber: Target,
    /// What happens when the subscriber fails.
    pub delivery: DeliveryPolicy,
    /// Events of one key (extension `partitionkey`, else `subject`) are delivered one after the other.
    pub order_by_key: bool,
    /// Attempts under way at once, at most.
    pub parallelism: NonZeroU32,
    /// Attempts a second, at most.
    pub rate: Option<NonZeroU32>,
    /// Where a new trigger starts.
    pub start: Start,
    /// Older events are expired by the store.
    pub max_age: Option<Duration>,
    /// With more than this many waiting events the store expires the oldest.
    pub max_backlog: Option<u64>,
    /// Nothing is sent; events wait in the store.
    pub paused: bool,
}

impl Trigger {
    /// The name of its subscription, `namespace/name`.
    #[must_use]
    pub fn subscription(&self) -> String {
        format!("{}/{}", self.namespace, self.name)
    }

    /// What the store is asked for.
    pub(crate) fn subscribe_options(&self) -> SubscribeOptions {
        SubscribeOptions {
            start: self.start,
            ordered: self.order_by_key,
            max_age: self.max_age,
            max_backlog: self.max_backlog,
        }
    }
}

/// An address that takes events by HTTP POST.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Target {
    /// Absolute `http` or `https` URL.
    pub url: Uri,
    /// Certificate authorities trusted beside the public ones, PEM.
    pub ca_certs: Option<String>,
}

impl Target {
    /// The target at `url`, trusting the public certificate authorities.
    #[must_use]
    pub fn new(url: Uri) -> Self {
        Self { url, ca_certs: None }
    }
}

/// What happens when a delivery fails.
#[derive(Clone, Debug, PartialEq)]
pub struct DeliveryPolicy {
    /// Further attempts after the first failed one; the dead letter sink gets as many.
    pub retry: u32,
    /// How waits grow.
    pub backoff: Backoff,
    /// The unit of the waits.
    pub backoff_delay: Duration,
    /// How long one attempt may take, from connecting to the last byte of the answer.
    pub timeout: Duration,
    /// The longest `Retry-After` that is honoured; zero ignores the header, `None` stands for [`crate::MAX_BACKOFF`].
    pub retry_after_max: Option<Duration>,
    /// How events are encoded; `None` is binary, which is what Knative's default broker sends.
    pub format: Option<Format>,
    /// Who gets the event when nothing helped; without one it is parked.
    pub dead_letter: Option<Target>,
}

impl Default for DeliveryPolicy {
    /// One attempt, then parked; what Knative does without a delivery specification, but for keeping the event.
    fn default() -> Self {
        Self {
            retry: 0,
            backoff: Backoff::Exponential,
            backoff_delay: Duration::from_secs(1),
            timeout: DEFAULT_TIMEOUT,
            retry_after_max: None,
            format: None,
            dead_letter: None,
        }
    }
}

/// How waits between attempts grow.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Backoff {
    /// delay, 2·delay, 3·delay, …
    Linear,
    /// delay, 2·delay, 4·delay, …
    #[default]
    Exponential,
}

/// How an event is put into an HTTP request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// Structured mode: one JSON document.
    Json,
    /// Binary mode: attributes in headers, the payload as it came.
    Binary,
}
