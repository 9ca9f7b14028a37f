//! The contract, and what is this backend's own.

use super::*;
use crate::store::contract::{Backend, Inspected};

struct Memory;

impl Backend for Memory {
    fn open(&mut self) -> BoxFuture<'_, Arc<dyn Inspected>> {
        Box::pin(async { MemoryStore::new() as Arc<dyn Inspected> })
    }
}

crate::store_contract!(Memory);

mod invariants;

use std::ops::Range;

use broker_event::EventBuilder;

fn topic() -> Topic {
    Topic::new("default", "main")
}

fn heavy(ids: Range<usize>, bytes: usize) -> Vec<Event> {
    let event = |id: usize| {
        EventBuilder::new(id.to_string(), "/memory", "a").data(vec![0; bytes]).build().unwrap()
    };
    ids.map(event).collect()
}

/// Gives everything to its slots.
#[derive(Debug)]
struct All(Vec<Slot>);

impl Selector for All {
    fn select(&self, _: &Event, matched: &mut Vec<Slot>) {
        matched.extend(&self.0);
    }

    fn wants(&self, slot: Slot, _: &Event) -> bool {
        self.0.contains(&slot)
    }
}

fn open() -> (Arc<MemoryStore>, Box<dyn Subscription>) {
    let store = MemoryStore::new();
    store.declare(&topic(), TopicOptions { budget: u64::MAX }).unwrap();
    let reader = store.subscribe(&topic(), "default/t", SubscribeOptions::default()).unwrap();
    store.route(&topic(), Arc::new(All(vec![reader.slot()]))).unwrap();
    (store, reader)
}

fn kept_ids(store: &MemoryStore) -> Vec<usize> {
    let mut ids = Vec::new();
    let mut visit = |kept: Kept| {
        ids.push(kept.event.id().parse().unwrap());
        true
    };
    store.scan(Start::Earliest, &mut visit).unwrap();
    ids
}

#[tokio::test]
async fn what_nobody_needs_is_forgotten_from_the_oldest_on() {
    let (store, mut reader) = open();
    let weight = 1 << 20;
    store.append(&topic(), heavy(0..12, weight)).await.unwrap();
    assert_eq!(kept_ids(&store), (0..12).collect::<Vec<_>>(), "what is needed is kept");
    let mut deliveries = reader.next(12).await.unwrap();
    let parked = deliveries.remove(0);
    parked.park(Outcome::default());
    let in_flight = deliveries.remove(0);
    deliveries.into_iter().for_each(|delivery| delivery.ack(None));
    store.state().archive.check();
    assert_eq!(kept_ids(&store), [0, 1, 5, 6, 7, 8, 9, 10, 11]);
    assert_eq!(store.purge(&ParkedSelection::default()).unwrap(), 1);
    in_flight.ack(None);
    store.state().archive.check();
    assert_eq!(kept_ids(&store), [5, 6, 7, 8, 9, 10, 11], "older ones go first");
}

#[tokio::test]
async fn the_record_of_what_happened_is_bounded() {
    let (store, mut reader) = open();
    store.append(&topic(), heavy(0..1, 8)).await.unwrap();
    let mut delivery = reader.next(1).await.unwrap().remove(0);
    let outcome = Outcome { body: vec![0; Outcome::MAX_BODY], ..Outcome::default() };
    for status in 0..20_000 {
        delivery.hold(time(0), Outcome { status, ..outcome.clone() });
    }
    store.state().archive.check();
    let steps = store.steps(delivery.position).unwrap();
    assert!((1000..20_000).contains(&steps.len()), "{}", steps.len());
    assert_eq!(steps.last().unwrap().outcome.as_ref().unwrap().status, 19_999);
}

#[tokio::test]
async fn a_selector_that_panics_leaves_the_store_as_it_was() {
    #[derive(Debug)]
    struct Broken(Slot);
    impl Selector for Broken {
        fn select(&self, event: &Event, matched: &mut Vec<Slot>) {
            assert_ne!(event.id(), "1", "a bug in a filter");
            matched.push(self.0);
        }
        fn wants(&self, _: Slot, _: &Event) -> bool {
            true
        }
    }
    let (store, mut reader) = open();
    store.route(&topic(), Arc::new(Broken(reader.slot()))).unwrap();
    let (appending, sent) = (Arc::clone(&store), heavy(0..3, 8));
    let mut sender = tokio::task::JoinSet::new();
    sender.spawn(async move { appending.append(&topic(), sent).await });
    assert!(sender.join_next().await.unwrap().unwrap_err().is_panic());
    assert!(kept_ids(&store).is_empty());
    store.append(&topic(), heavy(5..6, 8)).await.unwrap();
    assert_eq!(reader.next(9).await.unwrap()[0].event.id(), "5");
}

#[tokio::test]
async fn a_start_in_the_future_waits_for_its_time() {
    let (store, _reader) = open();
    let start = Start::Time(time(now_ms() + 3_600_000));
    let options = SubscribeOptions { start, ..SubscribeOptions::default() };
    let mut later = store.subscribe(&topic(), "default/later", options).unwrap();
    store.append(&topic(), heavy(0..1, 8)).await.unwrap();
    store.route(&topic(), Arc::new(All(vec![later.slot()]))).unwrap();
    store.append(&topic(), heavy(1..2, 8)).await.unwrap();
    assert!(timeout(Duration::from_millis(50), later.next(1)).await.is_err());
}

#[tokio::test]
async fn a_removed_topic_leaves_nothing_behind() {
    let (store, mut reader) = open();
    store.append(&topic(), heavy(0..9, 8)).await.unwrap();
    let mut deliveries = reader.next(4).await.unwrap();
    deliveries.remove(0).park(Outcome::default());
    deliveries.remove(0).ack(None);
    store.remove(&topic()).unwrap();
    drop((deliveries, reader));
    let state = store.state();
    state.archive.check();
    assert_eq!((state.archive.range(..).count(), state.lines.len()), (0, 0));
}
