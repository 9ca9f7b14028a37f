//! Topics, and what is appended to them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use broker_event::EventBuilder;
use futures_util::FutureExt;
use tokio::task::JoinSet;

use super::Backend;
use super::mesh::{
    Mesh, NAME, Types, drain, event, events, id, next, nothing, other_topic, take, topic,
};
use crate::store::{
    AppendError, Position, Start, StoreError, SubscribeOptions, Topic, TopicOptions,
};

/// Every attribute and every byte of an event is what was sent.
pub async fn accepted_events_arrive_as_they_were_sent(backend: &mut dyn Backend) {
    let (mesh, mut reader) = Mesh::open_all(backend).await;
    let rich = EventBuilder::new("0", "/contract", "a")
        .subject("a subject")
        .time("2026-01-02T03:04:05.678Z")
        .data_content_type("application/octet-stream")
        .data_schema("http://example.com/schema")
        .extension("partitionkey", "key")
        .extension("number", 7)
        .extension("flag", true)
        .data((0..=255).collect::<Vec<u8>>())
        .build()
        .expect("a valid event");
    let bare = EventBuilder::new("1", "/contract", "a").build().expect("a valid event");
    let sent = vec![rich, bare, event(2, "a")];
    mesh.append(sent.clone()).await;
    let deliveries = take(&mut reader, 3).await;
    assert!(deliveries.iter().map(|delivery| &delivery.event).eq(sent.iter()), "{deliveries:?}");
    let kept = mesh.kept(Start::Earliest);
    let times = deliveries.iter().map(|delivery| delivery.accepted);
    assert!(times.eq(kept.iter().map(|kept| kept.accepted)), "{deliveries:?}");
    for delivery in deliveries {
        assert_eq!((delivery.attempts, delivery.not_before), (0, None));
        assert_eq!(delivery.last, None);
        delivery.ack(None);
    }
}

/// There is nothing to refuse in a batch without events.
pub async fn an_empty_batch_is_taken(backend: &mut dyn Backend) {
    let (mesh, mut reader) = Mesh::open_all(backend).await;
    mesh.append(Vec::new()).await;
    nothing(&mut reader).await;
}

/// Nothing creates a topic by the way.
pub async fn an_undeclared_topic_is_refused_by_every_call(backend: &mut dyn Backend) {
    let mesh = Mesh::open(backend).await;
    let (store, missing) = (&mesh.store, Topic::new("default", "missing"));
    let unknown = StoreError::UnknownTopic(missing.clone());
    for batch in [events(0..1, "a"), Vec::new()] {
        let refused = store.append(&missing, batch).await;
        assert_eq!(refused, Err(AppendError::UnknownTopic(missing.clone())));
    }
    assert_eq!(store.route(&missing, Arc::new(Types(Vec::new()))), Err(unknown.clone()));
    let refused = store.subscribe(&missing, NAME, SubscribeOptions::default());
    assert_eq!(refused.err(), Some(unknown.clone()));
    assert_eq!(store.unsubscribe(&missing, NAME), Err(unknown.clone()));
    assert_eq!(store.replay(&missing, NAME, Start::Earliest), Err(unknown));
    assert_eq!(store.remove(&missing), Ok(()), "what is not there is already forgotten");
    assert!(store.topics().iter().all(|status| status.topic != missing));
}

/// Nor does anything create a subscription by the way.
pub async fn an_unknown_subscription_is_refused(backend: &mut dyn Backend) {
    let mesh = Mesh::open(backend).await;
    let unknown = StoreError::UnknownSubscription(NAME.to_owned());
    assert_eq!(mesh.store.unsubscribe(&topic(), NAME), Err(unknown.clone()));
    assert_eq!(mesh.store.replay(&topic(), NAME, Start::Earliest), Err(unknown));
    assert!(mesh.status(NAME).is_none());
}

/// Same names, same slots: still no event crosses from one topic to another.
pub async fn topics_are_apart(backend: &mut dyn Backend) {
    let mesh = Mesh::open(backend).await;
    let store = &mesh.store;
    store.declare(&other_topic(), TopicOptions { budget: u64::MAX }).expect("can be declared");
    let mut here = mesh.subscribe(NAME);
    let mut there =
        store.subscribe(&other_topic(), NAME, SubscribeOptions::default()).expect("another topic");
    assert_ne!(here.slot(), there.slot(), "slots are numbers within the store");
    let both = || Arc::new(Types(vec![(here.slot(), "*"), (there.slot(), "*")]));
    store.route(&topic(), both()).expect("declared");
    store.route(&other_topic(), both()).expect("declared");
    mesh.append(events(0..3, "a")).await;
    store.append(&other_topic(), events(3..6, "a")).await.expect("takes events");
    assert_eq!(drain(&mut here, 3).await, [0, 1, 2]);
    assert_eq!(drain(&mut there, 3).await, [3, 4, 5]);
    nothing(&mut here).await;
    nothing(&mut there).await;
}

/// Many send at once, one reads slowly: everything arrives once, and what one sender sent keeps its order.
pub async fn parallel_senders_lose_and_repeat_nothing(backend: &mut dyn Backend) {
    const SENDERS: usize = 8;
    const BATCHES: usize = 30;
    const BATCH: usize = 5;
    const EACH: usize = BATCHES * BATCH;
    let (mesh, mut reader) = Mesh::open_all(backend).await;
    let mut senders = JoinSet::new();
    for sender in 0..SENDERS {
        let store = Arc::clone(&mesh.store);
        senders.spawn(async move {
            for batch in 0..BATCHES {
                let first = sender * EACH + batch * BATCH;
                let sent = store.append(&topic(), events(first..first + BATCH, "a")).await;
                sent.expect("the store takes events");
            }
        });
    }
    let mut came: BTreeMap<Position, usize> = BTreeMap::new();
    while came.len() < SENDERS * EACH {
        for delivery in next(&mut reader, 7).await {
            let before = came.insert(delivery.position, id(&delivery));
            assert_eq!(before, None, "{} came twice", delivery.position);
            delivery.ack(None);
        }
        tokio::task::yield_now().await;
    }
    nothing(&mut reader).await;
    senders.join_all().await;
    for sender in 0..SENDERS {
        let own = came.values().copied().filter(|id| id / EACH == sender);
        assert!(own.eq(sender * EACH..(sender + 1) * EACH), "the order of sender {sender} is kept");
    }
}

/// An append that is given up in the middle may or may not take effect, but not by half.
pub async fn a_sender_that_goes_away_leaves_whole_batches(backend: &mut dyn Backend) {
    let (mesh, mut reader) = Mesh::open_all(backend).await;
    for batch in 0..20 {
        // Polled once and dropped.
        let polled =
            mesh.store.append(&topic(), events(batch * 5..batch * 5 + 5, "a")).now_or_never();
        assert!(polled.is_none_or(|answer| answer.is_ok()));
    }
    mesh.append(events(1000..1001, "a")).await;
    let mut came = BTreeSet::new();
    while !came.contains(&1000) {
        assert!(came.insert(drain(&mut reader, 1).await[0]), "nothing comes twice");
    }
    nothing(&mut reader).await;
    for batch in 0..20 {
        let part = came.range(batch * 5..batch * 5 + 5).count();
        assert!(part == 0 || part == 5, "{part} of batch {batch} came");
    }
}

/// A topic of the same name is another one.
pub async fn a_removed_topic_is_forgotten(backend: &mut dyn Backend) {
    let (mesh, mut reader) = Mesh::open_all(backend).await;
    mesh.append(events(0..5, "a")).await;
    let taken = take(&mut reader, 2).await;
    mesh.store.remove(&topic()).expect("can be removed");
    let answer = reader.next(1).await;
    assert_eq!(answer.err(), Some(StoreError::UnknownTopic(topic())));
    let refused = mesh.store.append(&topic(), events(5..6, "a")).await;
    assert_eq!(refused, Err(AppendError::UnknownTopic(topic())));
    mesh.budget(u64::MAX);
    assert!(mesh.store.subscriptions().is_empty());
    assert!(mesh.kept(Start::Earliest).is_empty());
    assert_eq!(mesh.topic_status().kept_bytes, 0);
    drop(reader);
    let mut reader = mesh.subscribe_from(NAME, Start::Earliest);
    mesh.route(&[(&reader, "*")]);
    nothing(&mut reader).await;
    // What is settled late belonged to the old one.
    drop(taken);
    mesh.append(events(10..12, "a")).await;
    assert_eq!(drain(&mut reader, 2).await, [10, 11]);
    nothing(&mut reader).await;
}

/// Triggers come and go around a broker that is declared again and again.
pub async fn declaring_again_changes_nothing_but_the_budget(backend: &mut dyn Backend) {
    let (mesh, mut reader) = Mesh::open_all(backend).await;
    mesh.append(events(0..3, "a")).await;
    mesh.budget(1 << 30);
    assert_eq!(mesh.topic_status().budget, 1 << 30);
    mesh.append(events(3..5, "a")).await;
    assert_eq!(drain(&mut reader, 5).await, [0, 1, 2, 3, 4]);
    nothing(&mut reader).await;
}
