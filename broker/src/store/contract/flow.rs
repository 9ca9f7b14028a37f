//! From the selector to the holder.

use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use tokio::time::timeout;

use super::Backend;
use super::mesh::{
    Mesh, NAME, Types, drain, drain_sorted, event, events, id, ids, next, nothing, one, take, topic,
};
use crate::store::Slot;

/// What the selector gives is delivered, once, and only to whom it was given.
pub async fn each_subscription_gets_what_its_selector_gives_it_once(backend: &mut dyn Backend) {
    let mesh = Mesh::open(backend).await;
    let mut odd = mesh.subscribe("default/odd");
    let mut all = mesh.subscribe("default/all");
    let mut none = mesh.subscribe("default/none");
    mesh.route(&[(&odd, "odd"), (&all, "*"), (&none, "none")]);
    for id in 0..10 {
        mesh.append(vec![event(id, if id % 2 == 1 { "odd" } else { "even" })]).await;
    }
    assert_eq!(drain(&mut odd, 5).await, [1, 3, 5, 7, 9]);
    assert_eq!(drain(&mut all, 10).await, (0..10).collect::<Vec<_>>());
    for reader in [&mut odd, &mut all, &mut none] {
        nothing(reader).await;
    }
    for name in ["default/odd", "default/all", "default/none"] {
        mesh.backlog(name, 0).await;
    }
}

/// First attempts are made in the order in which events were accepted.
pub async fn events_come_in_the_order_of_their_positions(backend: &mut dyn Backend) {
    let (mesh, mut reader) = Mesh::open_all(backend).await;
    for start in (0..1000).step_by(100) {
        mesh.append(events(start..start + 100, "a")).await;
    }
    let mut last = None;
    for expected in 0..1000 {
        let delivery = one(&mut reader).await;
        assert_eq!(id(&delivery), expected);
        assert!(last < Some(delivery.position), "positions grow");
        last = Some(delivery.position);
        delivery.ack(None);
    }
    nothing(&mut reader).await;
}

/// Who waits before anything is there gets it when it comes.
pub async fn whoever_waits_is_woken(backend: &mut dyn Backend) {
    let (mesh, mut reader) = Mesh::open_all(backend).await;
    for round in 0..50 {
        let append = async {
            tokio::task::yield_now().await;
            mesh.append(events(round..round + 1, "a")).await;
        };
        let (came, ()) = tokio::join!(drain(&mut reader, 1), append);
        assert_eq!(came, [round]);
    }
}

/// The holder says how much it can take; a holder that can take nothing would not ask.
pub async fn no_more_is_handed_out_than_was_asked_for(backend: &mut dyn Backend) {
    let (mesh, mut reader) = Mesh::open_all(backend).await;
    mesh.append(events(0..20, "a")).await;
    mesh.backlog(NAME, 20).await;
    let mut taken = Vec::new();
    for max in [1, 2, 3] {
        taken.extend(next(&mut reader, max).await);
    }
    mesh.backlog(NAME, 20).await;
    let count = taken.len();
    taken.into_iter().for_each(|delivery| delivery.ack(None));
    mesh.backlog(NAME, 20 - count as u64).await;
    assert_eq!(drain(&mut reader, 20 - count).await, (count..20).collect::<Vec<_>>());
}

/// Giving back is not an attempt.
pub async fn what_is_dropped_unsettled_comes_again_uncounted(backend: &mut dyn Backend) {
    let (mesh, mut reader) = Mesh::open_all(backend).await;
    mesh.append(events(0..4, "a")).await;
    for _ in 0..3 {
        let mut deliveries = take(&mut reader, 4).await;
        deliveries.sort_by_key(id);
        assert_eq!(ids(&deliveries), [0, 1, 2, 3]);
        for delivery in &deliveries {
            assert_eq!((delivery.attempts, &delivery.last), (0, &None));
        }
        nothing(&mut reader).await;
    }
    mesh.backlog(NAME, 4).await;
    assert_eq!(drain_sorted(&mut reader, 4).await, [0, 1, 2, 3]);
    nothing(&mut reader).await;
}

/// The holder may stop waiting at any moment.
pub async fn a_dropped_next_loses_nothing(backend: &mut dyn Backend) {
    let (mesh, mut reader) = Mesh::open_all(backend).await;
    let mut came = Vec::new();
    for round in 0..20 {
        mesh.append(events(round * 50..round * 50 + 50, "a")).await;
        while came.len() < round * 50 + 25 {
            // Sometimes polled once, sometimes given up after a while.
            let answer = if came.len() % 3 == 0 {
                timeout(Duration::from_micros(200), reader.next(7)).await.ok()
            } else {
                reader.next(7).now_or_never()
            };
            let Some(answer) = answer else {
                tokio::task::yield_now().await;
                continue;
            };
            for delivery in answer.expect("the subscription can be read") {
                came.push(id(&delivery));
                delivery.ack(None);
            }
        }
    }
    let left = 1000 - came.len();
    came.extend(drain(&mut reader, left).await);
    assert_eq!(came, (0..1000).collect::<Vec<_>>());
    nothing(&mut reader).await;
}

/// One that is stuck, one that holds all it was given, one that nobody holds: the others go on.
pub async fn a_subscription_that_never_takes_blocks_nobody(backend: &mut dyn Backend) {
    let mesh = Mesh::open(backend).await;
    let stuck = mesh.subscribe("default/stuck");
    let mut greedy = mesh.subscribe("default/greedy");
    let unheld = mesh.subscribe("default/unheld");
    let mut reader = mesh.subscribe(NAME);
    mesh.route(&[(&stuck, "*"), (&greedy, "*"), (&unheld, "*"), (&reader, "*")]);
    drop(unheld);
    let mut hoard = Vec::new();
    for round in 0..20 {
        mesh.append(events(round * 100..round * 100 + 100, "a")).await;
        hoard.extend(next(&mut greedy, 10).await);
        let expected = round * 100..round * 100 + 100;
        assert_eq!(drain(&mut reader, 100).await, expected.collect::<Vec<_>>());
    }
    mesh.backlog(NAME, 0).await;
    for name in ["default/stuck", "default/greedy", "default/unheld"] {
        mesh.backlog(name, 2000).await;
    }
}

/// An event that no selector gives to anybody uses no budget.
pub async fn an_event_nobody_wants_is_kept_for_nobody(backend: &mut dyn Backend) {
    let mesh = Mesh::open(backend).await;
    let mut reader = mesh.subscribe(NAME);
    mesh.route(&[(&reader, "wanted")]);
    mesh.append(events(0..10, "unwanted")).await;
    mesh.append(events(10..11, "wanted")).await;
    assert_eq!(drain(&mut reader, 1).await, [10]);
    super::mesh::eventually("nothing is needed", || mesh.topic_status().kept_bytes == 0).await;
    nothing(&mut reader).await;
}

/// A selector may still name the slot of a subscription that is gone, or one that never was.
pub async fn a_slot_nobody_has_harms_nobody(backend: &mut dyn Backend) {
    let mesh = Mesh::open(backend).await;
    let gone = mesh.subscribe("default/gone");
    let mut reader = mesh.subscribe(NAME);
    let slots = [gone.slot(), reader.slot(), Slot(4711), Slot(u32::MAX)];
    let selector = Types(slots.into_iter().map(|slot| (slot, "*")).collect());
    mesh.store.route(&topic(), Arc::new(selector)).expect("the topic is declared");
    mesh.store.unsubscribe(&topic(), "default/gone").expect("there is one");
    mesh.append(events(0..2, "a")).await;
    assert_eq!(drain(&mut reader, 2).await, [0, 1]);
    // A new subscription must not get what the old selector says about the old one.
    let mut new = mesh.subscribe("default/new");
    mesh.append(events(2..3, "a")).await;
    assert_eq!(drain(&mut reader, 1).await, [2]);
    mesh.route(&[(&reader, "*"), (&new, "other")]);
    nothing(&mut new).await;
}
