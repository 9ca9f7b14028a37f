use std::collections::BTreeSet;
use std::time::SystemTime;

use broker_event::EventBuilder;
use tempfile::TempDir;
use tokio::time::{interval, timeout};

use super::*;
use crate::store::{Delivery, Outcome, Slot};

mod contract;
mod crash;
mod inspect;
mod trouble;
mod upkeep;

/// Longer than anything here takes, shorter than a person waits.
const PATIENCE: Duration = Duration::from_secs(20);

/// Long enough for the threads to do something they should not; only used to see that nothing happens.
const MOMENT: Duration = Duration::from_millis(120);

fn topic() -> Topic {
    Topic::new("default", "main")
}

fn event(id: impl std::fmt::Display, ty: &str) -> Event {
    EventBuilder::new(id.to_string(), "/test", ty)
        .data(bytes::Bytes::from_static(b"{\"n\":1}"))
        .build()
        .unwrap()
}

fn events(ids: std::ops::Range<usize>, ty: &str) -> Vec<Event> {
    ids.map(|id| event(id, ty)).collect()
}

/// Options under which segments are small and upkeep is only done when a test asks.
fn quiet() -> EmbeddedOptions {
    EmbeddedOptions {
        segment_bytes: 64 << 10,
        history_bytes: 0,
        upkeep: Duration::from_secs(3600),
        ..EmbeddedOptions::default()
    }
}

/// Options under which upkeep goes on all the time.
fn busy() -> EmbeddedOptions {
    EmbeddedOptions { upkeep: Duration::from_millis(10), ..quiet() }
}

/// Gives each slot the events of one type, or all.
#[derive(Debug)]
struct Types(Vec<(Slot, &'static str)>);

impl Selector for Types {
    fn select(&self, event: &Event, matched: &mut Vec<Slot>) {
        matched.extend(
            self.0.iter().filter(|(_, ty)| ["*", event.ty()].contains(ty)).map(|(slot, _)| *slot),
        );
    }

    fn wants(&self, slot: Slot, event: &Event) -> bool {
        self.0.iter().any(|(of, ty)| *of == slot && ["*", event.ty()].contains(ty))
    }
}

/// A store in a directory of its own.
struct Bench {
    dir: TempDir,
    store: Arc<EmbeddedStore>,
}

impl Bench {
    fn new(options: EmbeddedOptions) -> Self {
        let dir = TempDir::new().unwrap();
        let store = EmbeddedStore::open(dir.path(), options).unwrap();
        store.declare(&topic(), TopicOptions { budget: u64::MAX }).unwrap();
        Self { dir, store }
    }

    fn subscribe(&self, name: &str) -> Box<dyn Subscription> {
        self.subscribe_with(name, SubscribeOptions::default())
    }

    fn subscribe_with(&self, name: &str, options: SubscribeOptions) -> Box<dyn Subscription> {
        self.store.subscribe(&topic(), name, options).unwrap()
    }

    fn route(&self, types: &[(&dyn Subscription, &'static str)]) {
        let types = types.iter().map(|(subscription, ty)| (subscription.slot(), *ty)).collect();
        self.store.route(&topic(), Arc::new(Types(types))).unwrap();
    }

    /// One subscription that wants everything.
    fn all(&self, name: &str) -> Box<dyn Subscription> {
        let subscription = self.subscribe(name);
        self.route(&[(&*subscription, "*")]);
        subscription
    }

    async fn append(&self, events: Vec<Event>) {
        self.store.append(&topic(), events).await.unwrap();
    }

    /// A store as it would be found had the process been killed now.
    fn killed(&self, options: EmbeddedOptions) -> Self {
        let dir = TempDir::new().unwrap();
        copy(self.dir.path(), dir.path());
        let store = EmbeddedStore::open(dir.path(), options).unwrap();
        Self { dir, store }
    }

    /// The same store, closed and opened again.
    fn reopened(self, options: EmbeddedOptions) -> Self {
        let Self { dir, store } = self;
        store.close();
        drop(store);
        let store = EmbeddedStore::open(dir.path(), options).unwrap();
        Self { dir, store }
    }

    /// Waits until what was settled is written.
    fn flush(&self) {
        self.store.engine.settle_journal().unwrap();
    }

    async fn routed(&self) {
        eventually("the router is at the head", || {
            lock(&self.store.engine.routing).next >= self.store.engine.log.head()
        })
        .await;
    }

    fn backlog(&self, name: &str) -> u64 {
        self.status(name).backlog
    }

    fn status(&self, name: &str) -> SubscriptionStatus {
        self.store.subscriptions().into_iter().find(|status| status.name == name).unwrap()
    }
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).unwrap();
        }
    }
}

async fn eventually(what: &str, mut reached: impl FnMut() -> bool) {
    let wait = async {
        let mut ticks = interval(Duration::from_millis(2));
        while !reached() {
            ticks.tick().await;
        }
    };
    timeout(PATIENCE, wait).await.unwrap_or_else(|_| panic!("{what}: did not happen"));
}

async fn next(subscription: &mut Box<dyn Subscription>, max: usize) -> Vec<Delivery> {
    timeout(PATIENCE, subscription.next(max)).await.expect("a delivery comes").unwrap()
}

async fn nothing(subscription: &mut Box<dyn Subscription>) {
    let answer = timeout(MOMENT, subscription.next(1)).await;
    assert!(answer.is_err(), "{answer:?} should not have come");
}

/// Takes `count` deliveries and acks them; the ids in the order they came.
async fn drain(subscription: &mut Box<dyn Subscription>, count: usize) -> Vec<usize> {
    let mut ids = Vec::with_capacity(count);
    while ids.len() < count {
        for delivery in next(subscription, 64.min(count - ids.len())).await {
            ids.push(id(&delivery));
            delivery.ack(Some(success()));
        }
    }
    ids
}

fn id(delivery: &Delivery) -> usize {
    delivery.event.id().parse().unwrap()
}

fn success() -> Outcome {
    Outcome { status: 202, at_ms: sync::now_ms(), took_ms: 3, ..Outcome::default() }
}

fn failure(reason: &str) -> Outcome {
    Outcome {
        status: 503,
        at_ms: sync::now_ms(),
        reason: reason.to_owned(),
        body: b"busy".to_vec(),
        ..Outcome::default()
    }
}

fn soon(ms: u64) -> SystemTime {
    sync::time(sync::now_ms() + ms)
}

#[tokio::test]
async fn events_arrive_whole_and_in_order() {
    let bench = Bench::new(quiet());
    let mut subscription = bench.all("default/t");
    bench.append(events(0..5, "a")).await;
    let deliveries = next(&mut subscription, 10).await;
    assert_eq!(deliveries[0].event, event(0, "a"));
    let mut ids: Vec<usize> = deliveries.iter().map(id).collect();
    deliveries.into_iter().for_each(|delivery| delivery.ack(None));
    ids.extend(drain(&mut subscription, 5 - ids.len()).await);
    assert_eq!(ids, [0, 1, 2, 3, 4]);
    eventually("all are settled", || bench.backlog("default/t") == 0).await;
}

#[tokio::test]
async fn an_event_that_waits_keeps_nothing_of_its_senders_request() {
    let bench = Bench::new(quiet());
    let mut subscription = bench.all("t");
    let mut request = bytes::Bytes::from(vec![b'7'; 8 << 10]);
    let sent = EventBuilder::new("1", "/test", "a").data(request.split_off(1000)).build().unwrap();
    bench.append(vec![sent.clone()]).await;
    let delivery = next(&mut subscription, 1).await.remove(0);
    assert_eq!(delivery.event, sent);
    drop(sent);
    assert!(request.is_unique(), "the request is still in use");
}

#[tokio::test]
async fn each_subscription_gets_what_its_filter_wants() {
    let bench = Bench::new(quiet());
    let mut odd = bench.subscribe("default/odd");
    let mut all = bench.subscribe("default/all");
    bench.route(&[(&*odd, "odd"), (&*all, "*")]);
    for id in 0..10 {
        bench.append(vec![event(id, if id % 2 == 1 { "odd" } else { "even" })]).await;
    }
    assert_eq!(drain(&mut odd, 5).await, [1, 3, 5, 7, 9]);
    assert_eq!(drain(&mut all, 10).await, (0..10).collect::<Vec<_>>());
}

#[tokio::test]
async fn what_is_not_read_waits_on_disk_and_comes_in_order() {
    let bench = Bench::new(quiet());
    let mut subscription = bench.all("default/t");
    for start in (0..4000).step_by(500) {
        bench.append(events(start..start + 500, "a")).await;
    }
    assert_eq!(drain(&mut subscription, 4000).await, (0..4000).collect::<Vec<_>>());
    assert!(bench.store.metrics().loaded.get() >= 3000);
}

#[tokio::test]
async fn a_dropped_next_loses_nothing() {
    let bench = Bench::new(quiet());
    let mut subscription = bench.all("default/t");
    bench.append(events(0..2000, "a")).await;
    let mut ids = Vec::new();
    while ids.len() < 2000 {
        // Polled once and dropped: reading goes on behind it.
        let polled = futures_util::FutureExt::now_or_never(subscription.next(7));
        match polled {
            Some(deliveries) => {
                for delivery in deliveries.unwrap() {
                    ids.push(id(&delivery));
                    delivery.ack(None);
                }
            }
            None => tokio::task::yield_now().await,
        }
    }
    assert_eq!(ids, (0..2000).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_retry_comes_back_when_it_is_due_with_its_history() {
    let bench = Bench::new(quiet());
    let mut subscription = bench.all("default/t");
    bench.append(events(0..1, "a")).await;
    let delivery = next(&mut subscription, 1).await.remove(0);
    let due = soon(60);
    delivery.retry(due, failure("not now"));
    let delivery = next(&mut subscription, 1).await.remove(0);
    assert!(SystemTime::UNIX_EPOCH + Duration::from_millis(sync::now_ms()) >= due);
    assert_eq!(
        (delivery.attempts, delivery.last.as_ref().unwrap().reason.as_str()),
        (1, "not now")
    );
}

#[tokio::test]
async fn the_next_holder_takes_over() {
    let bench = Bench::new(quiet());
    let mut first = bench.all("default/t");
    bench.append(events(0..3, "a")).await;
    bench.routed().await;
    let taken = next(&mut first, 1).await;
    let again = bench.store.subscribe(&topic(), "default/t", SubscribeOptions::default());
    assert_eq!(again.err(), Some(StoreError::Held("default/t".to_owned())));
    drop(first);
    let mut second = bench.subscribe("default/t");
    assert_eq!(drain(&mut second, 2).await, [1, 2]);
    drop(taken);
    assert_eq!(drain(&mut second, 1).await, [0]);
}

#[tokio::test]
async fn a_new_subscription_gets_what_came_before_its_selector() {
    let bench = Bench::new(quiet());
    let mut old = bench.all("default/old");
    bench.append(events(0..3, "a")).await;
    let mut new = bench.subscribe("default/new");
    bench.append(events(3..5, "a")).await;
    bench.routed().await;
    bench.route(&[(&*old, "*"), (&*new, "a")]);
    bench.append(events(5..6, "a")).await;
    assert_eq!(drain(&mut new, 3).await, [3, 4, 5]);
    assert_eq!(drain(&mut old, 6).await, [0, 1, 2, 3, 4, 5]);
    nothing(&mut new).await;
}

#[tokio::test]
async fn earlier_events_come_first_to_a_subscription_that_asks_for_them() {
    let bench = Bench::new(EmbeddedOptions { history_bytes: 1 << 30, ..quiet() });
    let old = bench.all("default/old");
    for start in (0..300).step_by(100) {
        bench.append(events(start..start + 100, "a")).await;
        bench.append(events(start..start + 100, "b")).await;
    }
    let options = SubscribeOptions { start: Start::Earliest, ..SubscribeOptions::default() };
    let mut new = bench.subscribe_with("default/new", options);
    bench.route(&[(&*old, "*"), (&*new, "b")]);
    bench.append(events(300..310, "b")).await;
    assert_eq!(drain(&mut new, 310).await, (0..310).collect::<Vec<_>>());
}

#[tokio::test]
async fn many_subscriptions_search_together() {
    let bench = Bench::new(EmbeddedOptions { history_bytes: 1 << 30, ..quiet() });
    bench.append(events(0..50, "a")).await;
    let options = SubscribeOptions { start: Start::Earliest, ..SubscribeOptions::default() };
    let mut all: Vec<_> = (0..20)
        .map(|number| bench.subscribe_with(&format!("default/t{number}"), options.clone()))
        .collect();
    let routes: Vec<(&dyn Subscription, &str)> =
        all.iter().map(|subscription| (&**subscription, "*")).collect();
    bench.route(&routes);
    for subscription in &mut all {
        assert_eq!(drain(subscription, 50).await, (0..50).collect::<Vec<_>>());
    }
}

#[tokio::test]
async fn what_the_router_missed_is_read_from_the_log() {
    let bench = Bench::new(quiet());
    let mut subscription = bench.all("default/t");
    for id in 0..200 {
        bench.append(vec![event(id, "a")]).await;
        // Steals what is meant for the router, as a full queue would drop it.
        drop(bench.store.engine.queue.take(Duration::ZERO));
    }
    bench.store.engine.queue.fall_behind();
    assert_eq!(drain(&mut subscription, 200).await, (0..200).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_full_queue_makes_the_router_read_the_log() {
    let queue = Queue::default();
    let open = Arc::new(OpenTopic::new(0, topic(), 0));
    let batch = |first| Batch {
        topic: Arc::clone(&open),
        first,
        time_ms: 0,
        bytes: 20 << 20,
        events: Vec::new(),
    };
    queue.push(vec![batch(0), batch(1), batch(2)]);
    queue.push(vec![batch(3)]);
    let taken = queue.take(Duration::ZERO);
    assert_eq!((taken.batches.len(), taken.lagging, taken.stop), (1, true, false));
    queue.push(vec![batch(4)]);
    let taken = queue.take(Duration::ZERO);
    assert_eq!((taken.batches.len(), taken.lagging), (1, false));
}

#[tokio::test]
async fn a_selector_that_panics_stops_nothing_for_long() {
    #[derive(Debug)]
    struct Once(AtomicBool, Slot);
    impl Selector for Once {
        fn select(&self, _: &Event, matched: &mut Vec<Slot>) {
            assert!(self.0.swap(true, Ordering::AcqRel), "a bug in a filter");
            matched.push(self.1);
        }
        fn wants(&self, _: Slot, _: &Event) -> bool {
            true
        }
    }
    let bench = Bench::new(quiet());
    let mut subscription = bench.subscribe("default/t");
    let selector = Once(AtomicBool::new(false), subscription.slot());
    bench.store.route(&topic(), Arc::new(selector)).unwrap();
    bench.append(events(0..3, "a")).await;
    assert_eq!(drain(&mut subscription, 3).await, [0, 1, 2]);
    eventually("all is well again", || bench.store.unhealthy().is_none()).await;
}

#[tokio::test]
async fn slots_are_used_again_only_when_no_selector_names_them() {
    let bench = Bench::new(quiet());
    let (first, second) = (bench.subscribe("default/a"), bench.subscribe("default/b"));
    bench.route(&[(&*first, "*"), (&*second, "*")]);
    let slot = second.slot();
    bench.store.unsubscribe(&topic(), "default/b").unwrap();
    let third = bench.subscribe("default/c");
    assert_ne!(third.slot(), slot);
    bench.route(&[(&*first, "*"), (&*third, "*")]);
    assert_eq!(bench.subscribe("default/d").slot(), slot);
}

#[tokio::test]
async fn removal_ends_waiting_and_forgets() {
    let bench = Bench::new(quiet());
    let mut subscription = bench.all("default/t");
    bench.store.unsubscribe(&topic(), "default/t").unwrap();
    let answer = timeout(PATIENCE, subscription.next(1)).await.unwrap();
    assert_eq!(answer.err(), Some(StoreError::UnknownSubscription("default/t".to_owned())));
    let mut subscription = bench.all("default/t");
    bench.append(events(0..3, "a")).await;
    bench.store.remove(&topic()).unwrap();
    let answer = loop {
        match timeout(PATIENCE, subscription.next(1)).await.unwrap() {
            Ok(deliveries) => drop(deliveries),
            Err(error) => break error,
        }
    };
    assert_eq!(answer, StoreError::UnknownTopic(topic()));
    assert_eq!(
        bench.store.append(&topic(), events(0..1, "a")).await,
        Err(AppendError::UnknownTopic(topic()))
    );
    bench.store.declare(&topic(), TopicOptions { budget: u64::MAX }).unwrap();
    assert!(bench.store.subscriptions().is_empty());
    let mut kept = 0;
    bench
        .store
        .scan(Start::Earliest, &mut |_| {
            kept += 1;
            true
        })
        .unwrap();
    assert_eq!(kept, 0, "events of the old topic do not show up in the new one");
}

#[tokio::test]
async fn closing_tells_holders_and_refuses_senders() {
    let bench = Bench::new(quiet());
    let mut subscription = bench.all("default/t");
    let store = Arc::clone(&bench.store);
    let closing = Arc::clone(&store);
    let close = tokio::task::spawn_blocking(move || closing.close());
    let (told, closed) = tokio::join!(subscription.next(1), close);
    closed.unwrap();
    assert_eq!(told.err(), Some(StoreError::Closed));
    let refused = store.append(&topic(), events(0..1, "a")).await.unwrap_err();
    assert!(refused.is_retryable(), "{refused}");
    assert!(store.unhealthy().is_some());
    store.close();
}

#[tokio::test]
async fn a_directory_is_opened_once() {
    let bench = Bench::new(quiet());
    let error = EmbeddedStore::open(bench.dir.path(), quiet()).unwrap_err();
    assert!(matches!(error, OpenError::Data(broker_log::OpenError::Locked { .. })), "{error}");
    assert!(error.is_retryable());
    bench.store.close();
    EmbeddedStore::open(bench.dir.path(), quiet()).unwrap();
}

#[tokio::test]
async fn ten_thousand_subscriptions_of_which_one_matches() {
    let bench = Bench::new(quiet());
    let mut all: Vec<_> =
        (0..10_000).map(|number| bench.subscribe(&format!("default/t{number}"))).collect();
    let types = all.iter().map(|subscription| (subscription.slot(), "none")).collect::<Vec<_>>();
    let mut types = Types(types);
    types.0[7777].1 = "*";
    types.0.swap(0, 7777);
    bench.store.route(&topic(), Arc::new(types)).unwrap();
    bench.append(events(0..100, "a")).await;
    assert_eq!(drain(&mut all[7777], 100).await, (0..100).collect::<Vec<_>>());
    let backlog: u64 = bench.store.subscriptions().iter().map(|status| status.backlog).sum();
    assert!(backlog <= 100);
}
