//! What the behaviours are written with.

use std::fmt::Display;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use broker_event::{Event, EventBuilder};
use tokio::time::{interval, timeout};

use super::{Backend, Inspected};
use crate::inspect::{Kept, Parked, ParkedSelection, SubscriptionStatus, TopicStatus};
use crate::store::{
    Delivery, Outcome, Position, Selector, Slot, Stage, Start, StoreError, SubscribeOptions,
    Subscription, Topic, TopicOptions,
};

/// Longer than anything here takes, shorter than a person waits.
const PATIENCE: Duration = Duration::from_secs(20);

/// Long enough for a backend to do what it should not; only used to see that nothing happens.
const MOMENT: Duration = Duration::from_millis(150);

/// What a subscription gives.
pub(super) type Reader = Box<dyn Subscription>;

/// The name of the subscription that most behaviours are about.
pub(super) const NAME: &str = "default/t";

/// The topic that most behaviours are about.
pub(super) fn topic() -> Topic {
    Topic::new("default", "main")
}

/// A topic beside it.
pub(super) fn other_topic() -> Topic {
    Topic::new("default", "other")
}

/// Gives each slot the events of one type, or all.
#[derive(Debug)]
pub(super) struct Types(pub(super) Vec<(Slot, &'static str)>);

impl Selector for Types {
    fn select(&self, event: &Event, matched: &mut Vec<Slot>) {
        matched.extend(self.0.iter().filter(|(_, ty)| wants(ty, event)).map(|(slot, _)| *slot));
    }

    fn wants(&self, slot: Slot, event: &Event) -> bool {
        self.0.iter().any(|(of, ty)| *of == slot && wants(ty, event))
    }
}

fn wants(ty: &str, event: &Event) -> bool {
    ty == "*" || ty == event.ty()
}

/// An open store with the topic [`topic`].
pub(super) struct Mesh {
    pub(super) store: Arc<dyn Inspected>,
}

impl Mesh {
    /// A fresh one whose topic keeps what it is given.
    pub(super) async fn open(backend: &mut (impl Backend + ?Sized)) -> Self {
        Self::of(backend.open().await)
    }

    /// A fresh one with a reader of everything.
    pub(super) async fn open_all(backend: &mut (impl Backend + ?Sized)) -> (Self, Reader) {
        let mesh = Self::open(backend).await;
        let reader = mesh.all();
        (mesh, reader)
    }

    /// The store, with its topic declared.
    pub(super) fn of(store: Arc<dyn Inspected>) -> Self {
        let mesh = Self { store };
        mesh.budget(u64::MAX);
        mesh
    }

    /// Declares the topic with this budget.
    pub(super) fn budget(&self, budget: u64) {
        self.store.declare(&topic(), TopicOptions { budget }).expect("a topic can be declared");
    }

    pub(super) fn subscribe(&self, name: &str) -> Reader {
        self.subscribe_with(name, SubscribeOptions::default())
    }

    pub(super) fn subscribe_with(&self, name: &str, options: SubscribeOptions) -> Reader {
        self.store.subscribe(&topic(), name, options).expect("nobody else holds the subscription")
    }

    pub(super) fn subscribe_from(&self, name: &str, start: Start) -> Reader {
        self.subscribe_with(name, SubscribeOptions { start, ..SubscribeOptions::default() })
    }

    /// The subscription [`NAME`], routed everything, held by the caller.
    pub(super) fn all(&self) -> Reader {
        self.all_with(SubscribeOptions::default())
    }

    pub(super) fn all_with(&self, options: SubscribeOptions) -> Reader {
        let reader = self.subscribe_with(NAME, options);
        self.route(&[(&reader, "*")]);
        reader
    }

    /// Gives each reader the events of one type; `*` is all.
    pub(super) fn route(&self, types: &[(&Reader, &'static str)]) {
        let types = types.iter().map(|(reader, ty)| (reader.slot(), *ty)).collect();
        self.store.route(&topic(), Arc::new(Types(types))).expect("the topic is declared");
    }

    pub(super) async fn append(&self, events: Vec<Event>) {
        self.store.append(&topic(), events).await.expect("the store takes events");
    }

    /// Waits until the backlog of a subscription is `count`.
    pub(super) async fn backlog(&self, name: &str, count: u64) {
        let mut last = None;
        let reached = || {
            last = self.status(name).map(|status| status.backlog);
            last == Some(count)
        };
        let what = format!("the backlog of {name} becomes {count}");
        eventually(&what, reached).await;
    }

    pub(super) fn status(&self, name: &str) -> Option<SubscriptionStatus> {
        self.store.subscriptions().into_iter().find(|status| status.name == name)
    }

    pub(super) fn topic_status(&self) -> TopicStatus {
        let found = self.store.topics().into_iter().find(|status| status.topic == topic());
        found.expect("the topic is declared")
    }

    /// Every parked letter.
    pub(super) fn parked(&self) -> Vec<Parked> {
        let all = self.store.parked(&ParkedSelection::default(), None, usize::MAX);
        all.expect("letters can be read")
    }

    /// Every kept event from `start` on.
    pub(super) fn kept(&self, start: Start) -> Vec<Kept> {
        let mut kept = Vec::new();
        let mut visit = |event| {
            kept.push(event);
            true
        };
        self.store.scan(start, &mut visit).expect("kept events can be read");
        kept
    }

    /// Where the event with this id stands.
    pub(super) fn position(&self, id: impl Display) -> Position {
        let id = id.to_string();
        let found = self.kept(Start::Earliest).into_iter().find(|kept| kept.event.id() == id);
        found.map(|kept| kept.position).expect("the event is kept")
    }

    /// Waits until the event at `position` is on record as expired.
    pub(super) async fn expired(&self, position: Position) {
        let is_expired = || self.stages(position).contains(&Stage::Expired);
        eventually("the event expires", is_expired).await;
    }

    /// At which stage each recorded step of the event at `position` ended.
    pub(super) fn stages(&self, position: Position) -> Vec<Stage> {
        let steps = self.store.steps(position).expect("steps can be read");
        steps.into_iter().filter_map(|step| Some(step.outcome?.stage)).collect()
    }
}

/// An event with a little data.
pub(super) fn event(id: impl Display, ty: &str) -> Event {
    weighing(id, ty, 8)
}

/// An event with this many bytes of data.
pub(super) fn weighing(id: impl Display, ty: &str, bytes: usize) -> Event {
    let event = EventBuilder::new(id.to_string(), "/contract", ty).data(vec![b'x'; bytes]).build();
    event.expect("a valid event")
}

/// Events with these ids.
pub(super) fn events(ids: std::ops::Range<usize>, ty: &str) -> Vec<Event> {
    ids.map(|id| event(id, ty)).collect()
}

/// Waits until `reached` answers yes.
pub(super) async fn eventually(what: &str, mut reached: impl FnMut() -> bool) {
    let wait = async {
        let mut ticks = interval(Duration::from_millis(2));
        while !reached() {
            ticks.tick().await;
        }
    };
    assert!(timeout(PATIENCE, wait).await.is_ok(), "{what}: did not happen");
}

/// At least one delivery, at most `max`.
pub(super) async fn next(reader: &mut Reader, max: usize) -> Vec<Delivery> {
    let answer = timeout(PATIENCE, reader.next(max)).await.expect("a delivery comes in time");
    let deliveries = answer.expect("the subscription can be read");
    assert!((1..=max).contains(&deliveries.len()), "{max} asked for, {} came", deliveries.len());
    deliveries
}

/// The next delivery.
pub(super) async fn one(reader: &mut Reader) -> Delivery {
    next(reader, 1).await.remove(0)
}

/// Exactly `count` deliveries, none of them settled.
pub(super) async fn take(reader: &mut Reader, count: usize) -> Vec<Delivery> {
    let mut deliveries = Vec::with_capacity(count);
    while deliveries.len() < count {
        deliveries.extend(next(reader, count - deliveries.len()).await);
    }
    deliveries
}

/// Takes `count` deliveries and acks them; their ids in the order they came.
pub(super) async fn drain(reader: &mut Reader, count: usize) -> Vec<usize> {
    let mut ids = Vec::with_capacity(count);
    while ids.len() < count {
        for delivery in next(reader, 64.min(count - ids.len())).await {
            ids.push(id(&delivery));
            delivery.ack(Some(success()));
        }
    }
    ids
}

/// As [`drain`], where the order is nobody's business.
pub(super) async fn drain_sorted(reader: &mut Reader, count: usize) -> Vec<usize> {
    let mut ids = drain(reader, count).await;
    ids.sort_unstable();
    ids
}

/// Sees that nothing comes.
pub(super) async fn nothing(reader: &mut Reader) {
    let answer = timeout(MOMENT, reader.next(1)).await;
    assert!(answer.is_err(), "{answer:?} should not have come");
}

/// Why the subscription can be read no more.
pub(super) async fn refused(reader: &mut Reader) -> StoreError {
    let answer = timeout(PATIENCE, reader.next(1)).await.expect("an answer comes in time");
    answer.expect_err("there is nothing to read")
}

/// The numeric id of a delivery's event.
pub(super) fn id(delivery: &Delivery) -> usize {
    delivery.event.id().parse().expect("ids are numbers here")
}

/// The ids of deliveries.
pub(super) fn ids(deliveries: &[Delivery]) -> Vec<usize> {
    deliveries.iter().map(id).collect()
}

/// A call that went well.
pub(super) fn success() -> Outcome {
    Outcome { status: 202, at_ms: now_ms(), took_ms: 3, ..Outcome::default() }
}

/// A call that did not.
pub(super) fn failure(reason: &str) -> Outcome {
    Outcome {
        status: 503,
        at_ms: now_ms(),
        took_ms: 7,
        stage: Stage::Subscriber,
        reason: reason.to_owned(),
        body: b"busy".to_vec(),
    }
}

/// Milliseconds since the Unix epoch.
pub(super) fn now_ms() -> u64 {
    #[expect(clippy::disallowed_methods, reason = "due times are told by the wall clock")]
    let now = SystemTime::now();
    let since = now.duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// The time `ms` milliseconds from now, in whole milliseconds.
pub(super) fn soon(ms: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_millis(now_ms() + ms)
}

/// A time that does not come while the test runs.
pub(super) fn much_later() -> SystemTime {
    soon(3_600_000)
}

/// Waits until the wall clock shows a later millisecond.
pub(super) async fn next_millisecond() {
    let before = now_ms();
    eventually("time goes by", || now_ms() > before + 1).await;
}
