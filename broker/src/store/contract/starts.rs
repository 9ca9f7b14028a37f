//! Where a new subscription starts, and what a new selector decides.

use std::sync::Arc;

use super::Backend;
use super::mesh::{
    Mesh, NAME, Types, drain, drain_sorted, events, next_millisecond, nothing, topic,
};
use crate::store::{Start, SubscribeOptions, Topic, TopicOptions};

/// What was accepted before is not for it; what is accepted before a selector knows it is.
pub async fn now_means_from_the_subscription_on(backend: &mut dyn Backend) {
    let mesh = Mesh::open(backend).await;
    let mut old = mesh.subscribe("default/old");
    mesh.route(&[(&old, "*")]);
    mesh.append(events(0..3, "a")).await;
    let mut new = mesh.subscribe(NAME);
    mesh.append(events(3..5, "a")).await;
    mesh.append(events(5..6, "b")).await;
    mesh.route(&[(&old, "*"), (&new, "a")]);
    mesh.append(events(6..7, "a")).await;
    assert_eq!(drain(&mut new, 3).await, [3, 4, 6]);
    assert_eq!(drain(&mut old, 7).await, [0, 1, 2, 3, 4, 5, 6]);
    nothing(&mut new).await;
    nothing(&mut old).await;
}

/// Also what nobody needs any more, as long as it is there; what it wants comes before what is new.
pub async fn earliest_means_all_that_is_kept(backend: &mut dyn Backend) {
    let mesh = Mesh::open(backend).await;
    mesh.append(events(0..10, "a")).await;
    let mut old = mesh.subscribe_from("default/old", Start::Earliest);
    mesh.route(&[(&old, "*")]);
    assert_eq!(drain(&mut old, 10).await, (0..10).collect::<Vec<_>>());
    for start in (10..100).step_by(10) {
        mesh.append(events(start..start + 5, "a")).await;
        mesh.append(events(start + 5..start + 10, "b")).await;
    }
    assert_eq!(drain(&mut old, 90).await, (10..100).collect::<Vec<_>>());
    let mut new = mesh.subscribe_from(NAME, Start::Earliest);
    mesh.route(&[(&old, "*"), (&new, "b")]);
    mesh.append(events(100..105, "b")).await;
    let of_b = (0..105).filter(|id| *id >= 10 && id % 10 >= 5 || *id >= 100);
    assert_eq!(drain(&mut new, 50).await, of_b.collect::<Vec<_>>());
    nothing(&mut new).await;
    assert_eq!(drain(&mut old, 5).await, (100..105).collect::<Vec<_>>());
    nothing(&mut old).await;
}

/// To the millisecond.
pub async fn a_time_means_what_was_accepted_since(backend: &mut dyn Backend) {
    let mesh = Mesh::open(backend).await;
    for id in 0..5 {
        mesh.append(events(id..id + 1, "a")).await;
        next_millisecond().await;
    }
    let kept = mesh.kept(Start::Earliest);
    assert_eq!(kept.len(), 5);
    let mut reader = mesh.subscribe_from(NAME, Start::Time(kept[2].accepted));
    mesh.route(&[(&reader, "*")]);
    mesh.append(events(5..6, "a")).await;
    assert_eq!(drain(&mut reader, 4).await, [2, 3, 4, 5]);
    nothing(&mut reader).await;
}

/// Positions are those of [`Kept`](crate::inspect::Kept) and [`Delivery`](crate::store::Delivery).
pub async fn a_position_means_that_and_what_follows(backend: &mut dyn Backend) {
    let mesh = Mesh::open(backend).await;
    mesh.append(events(0..5, "a")).await;
    let mut reader = mesh.subscribe_from(NAME, Start::Position(mesh.position(3)));
    mesh.route(&[(&reader, "*")]);
    mesh.append(events(5..6, "a")).await;
    assert_eq!(drain(&mut reader, 3).await, [3, 4, 5]);
    nothing(&mut reader).await;
}

/// What comes before it is not for the subscription, known to a selector or not.
pub async fn a_position_to_come_is_waited_for(backend: &mut dyn Backend) {
    let mesh = Mesh::open(backend).await;
    mesh.append(events(0..1, "a")).await;
    let from = mesh.topic_status().head + 4;
    let mut reader = mesh.subscribe_from(NAME, Start::Position(from));
    mesh.append(events(1..3, "a")).await;
    mesh.route(&[(&reader, "*")]);
    for id in 3..10 {
        mesh.append(events(id..id + 1, "a")).await;
    }
    let kept = mesh.kept(Start::Position(from));
    let expected: Vec<usize> =
        kept.iter().map(|kept| kept.event.id().parse().expect("ids are numbers here")).collect();
    assert!(!expected.is_empty() && expected.len() < 10, "{expected:?}");
    assert_eq!(drain(&mut reader, expected.len()).await, expected);
    nothing(&mut reader).await;
}

/// Who comes back goes on where it was.
pub async fn a_start_matters_only_the_first_time(backend: &mut dyn Backend) {
    let mesh = Mesh::open(backend).await;
    mesh.append(events(0..5, "a")).await;
    let mut reader = mesh.subscribe_from(NAME, Start::Position(mesh.position(2)));
    mesh.route(&[(&reader, "*")]);
    assert_eq!(drain(&mut reader, 2).await, [2, 3]);
    for start in [Start::Earliest, Start::Now, Start::Position(0)] {
        drop(reader);
        reader = mesh.subscribe_from(NAME, start);
        mesh.route(&[(&reader, "*")]);
        mesh.backlog(NAME, 1).await;
    }
    assert_eq!(drain(&mut reader, 1).await, [4]);
    nothing(&mut reader).await;
    // Gone, it is new again.
    drop(reader);
    mesh.store.unsubscribe(&topic(), NAME).expect("there is one");
    let mut reader = mesh.subscribe_from(NAME, Start::Earliest);
    mesh.route(&[(&reader, "*")]);
    assert_eq!(drain(&mut reader, 5).await, [0, 1, 2, 3, 4]);
}

/// Events that waited for the first selector are searched for a start in the past and routed by that selector: once.
pub async fn what_waited_for_the_first_selector_comes_once(backend: &mut dyn Backend) {
    let mesh = Mesh::open(backend).await;
    let mut held = Vec::new();
    for number in 0..10 {
        let topic = Topic::new("default", &format!("t{number}"));
        let append = |ids| mesh.store.append(&topic, events(ids, "a"));
        mesh.store.declare(&topic, TopicOptions { budget: u64::MAX }).expect("can be declared");
        append(0..600).await.expect("the store takes events");
        let options = SubscribeOptions { start: Start::Earliest, ..SubscribeOptions::default() };
        let mut reader = mesh.store.subscribe(&topic, NAME, options).expect("nobody holds it");
        let selector = Arc::new(Types(vec![(reader.slot(), "*")]));
        mesh.store.route(&topic, selector).expect("the topic is declared");
        assert!(drain_sorted(&mut reader, 600).await.into_iter().eq(0..600));
        held.push((topic, reader));
    }
    for (topic, reader) in &mut held {
        mesh.store.append(topic, events(600..601, "a")).await.expect("the store takes events");
        assert_eq!(drain(reader, 1).await, [600], "{topic}");
    }
}

/// What is decided stays decided.
pub async fn a_changed_selector_decides_only_what_comes_later(backend: &mut dyn Backend) {
    let mesh = Mesh::open(backend).await;
    let mut reader = mesh.subscribe(NAME);
    mesh.route(&[(&reader, "a")]);
    mesh.append(events(0..3, "a")).await;
    mesh.append(events(3..6, "b")).await;
    mesh.append(events(6..7, "a")).await;
    mesh.backlog(NAME, 4).await;
    mesh.route(&[(&reader, "b")]);
    mesh.append(events(7..8, "a")).await;
    mesh.append(events(8..9, "b")).await;
    assert_eq!(drain(&mut reader, 5).await, [0, 1, 2, 6, 8]);
    nothing(&mut reader).await;
}
