//! What every story needs: a store, a dispatcher and a snapshot to change.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use broker::store::{Start, Store, Topic, TopicOptions};
use broker_event::{Event, EventBuilder, Value};
use bytes::Bytes;
use http::Uri;
use prometheus_client::encoding::text::encode;
use prometheus_client::registry::Registry;

use super::fake_store::FakeStore;
use super::subscriber::Subscriber;
use crate::filter::Filter;
use crate::trigger::{
    Backoff, Broker, DEFAULT_PARALLELISM, DeliveryPolicy, Snapshot, Target, Trigger,
};
use crate::{Dispatcher, DispatcherConfig};

/// Longer than anything here takes, also on a busy machine.
const DEADLINE: Duration = Duration::from_secs(20);

/// A dispatcher at work.
pub(super) struct World {
    pub(super) store: Arc<FakeStore>,
    pub(super) dispatcher: Dispatcher,
    pub(super) snapshot: Snapshot,
    registry: Registry,
}

/// The broker all triggers listen to.
pub(super) fn topic() -> Topic {
    Topic::new("default", "mesh")
}

/// An event with an id.
pub(super) fn event(id: &str) -> Event {
    builder(id).build().unwrap()
}

/// An event with an id and a subject.
pub(super) fn event_about(id: &str, subject: &str) -> Event {
    builder(id).subject(subject).build().unwrap()
}

fn builder(id: &str) -> EventBuilder {
    EventBuilder::new(id, "/test", "made")
        .data_content_type("text/plain")
        .data(Bytes::from_static(b"payload"))
        .extension("knativebrokerttl", Value::Integer(255))
}

/// A trigger in `default` that wants everything and retries fast but never.
pub(super) fn trigger(name: &str, url: Uri) -> Trigger {
    Trigger {
        namespace: "default".to_owned(),
        name: name.to_owned(),
        broker: topic(),
        filter: everything(),
        subscriber: Target::new(url),
        delivery: DeliveryPolicy {
            backoff: Backoff::Linear,
            backoff_delay: Duration::from_millis(5),
            timeout: DEADLINE,
            ..DeliveryPolicy::default()
        },
        order_by_key: false,
        parallelism: DEFAULT_PARALLELISM,
        rate: None,
        start: Start::Now,
        max_age: None,
        max_backlog: None,
        paused: false,
    }
}

/// A filter that every event passes.
pub(super) fn everything() -> Filter {
    Filter::All(Vec::new())
}

/// A parallelism.
pub(super) fn at_once(most: u32) -> NonZeroU32 {
    NonZeroU32::new(most).unwrap()
}

impl World {
    /// A world with these triggers in force.
    pub(super) async fn with(triggers: Vec<Trigger>) -> Self {
        let broker = Broker { topic: topic(), options: TopicOptions { budget: 1 << 30 } };
        let mut world = Self::empty();
        world.snapshot = Snapshot { brokers: vec![broker], triggers };
        world.apply().await;
        world
    }

    /// A world without brokers.
    pub(super) fn empty() -> Self {
        let store = Arc::new(FakeStore::default());
        let mut registry = Registry::default();
        let config = DispatcherConfig {
            events_url: Uri::from_static("http://mesh.test/"),
            grace: Duration::from_millis(200),
            ..DispatcherConfig::default()
        };
        let dispatcher = Dispatcher::new(Arc::clone(&store) as _, config, &mut registry);
        Self { store, dispatcher, snapshot: Snapshot::default(), registry }
    }

    /// Puts the snapshot in force.
    pub(super) async fn apply(&self) {
        self.dispatcher.apply(self.snapshot.clone()).await.unwrap();
    }

    /// Changes the first trigger and puts the snapshot in force.
    pub(super) async fn change(&mut self, change: impl FnOnce(&mut Trigger)) {
        change(&mut self.snapshot.triggers[0]);
        self.apply().await;
    }

    /// Has the broker take an event.
    pub(super) async fn send(&self, event: Event) {
        self.store.append(&topic(), vec![event]).await.unwrap();
    }

    /// Waits until every event of the trigger was delivered, dead-lettered or parked.
    pub(super) async fn drained(&self, trigger: &str) {
        let name = format!("default/{trigger}");
        eventually(&format!("{name} is drained"), || self.store.backlog(&name) == 0).await;
    }

    /// A counter's value; 0 when it is not exposed.
    pub(super) fn metric(&self, series: &str) -> f64 {
        let mut text = String::new();
        encode(&mut text, &self.registry).unwrap();
        let line = text.lines().find(|line| {
            line.starts_with(series) && line.as_bytes().get(series.len()) == Some(&b' ')
        });
        line.and_then(|line| line.rsplit_once(' ')).map_or(0.0, |(_, value)| value.parse().unwrap())
    }
}

/// A world with one trigger `t`, changed as wanted, for one subscriber.
pub(super) async fn one(subscriber: &Subscriber, change: impl FnOnce(&mut Trigger)) -> World {
    let mut only = trigger("t", subscriber.url());
    change(&mut only);
    World::with(vec![only]).await
}

/// Waits for `reached`, and fails by name if it is not in time.
pub(super) async fn eventually(what: &str, mut reached: impl FnMut() -> bool) {
    let mut tick = tokio::time::interval(Duration::from_millis(2));
    let waited = tokio::time::timeout(DEADLINE, async {
        while !reached() {
            tick.tick().await;
        }
    });
    assert!(waited.await.is_ok(), "not in time: {what}");
}
