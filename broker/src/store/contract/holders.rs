//! One holder at a time, and what passes from one to the next.

use super::Backend;
use super::mesh::{
    Mesh, NAME, drain, drain_sorted, events, failure, id, ids, much_later, nothing, one, soon,
    success, take, topic,
};
use crate::store::{Start, StoreError, SubscribeOptions};

/// Two workers on one subscription would deliver everything in half the order and twice the pace.
pub async fn a_second_holder_is_refused(backend: &mut dyn Backend) {
    let (mesh, first) = Mesh::open_all(backend).await;
    let again = || mesh.store.subscribe(&topic(), NAME, SubscribeOptions::default());
    let refused = again().expect_err("somebody holds it");
    assert_eq!(refused, StoreError::Held(NAME.to_owned()));
    assert!(refused.is_retryable());
    let slot = first.slot();
    drop(first);
    let mut second = again().expect("nobody holds it");
    mesh.route(&[(&second, "*")]);
    assert_eq!(second.slot(), slot, "the selector need not be told");
    mesh.append(events(0..1, "a")).await;
    assert_eq!(drain(&mut second, 1).await, [0]);
}

/// Once the old holder's deliveries are dropped, they are there for the new one.
pub async fn the_next_holder_takes_over_what_was_in_flight(backend: &mut dyn Backend) {
    let (mesh, mut first) = Mesh::open_all(backend).await;
    mesh.append(events(0..5, "a")).await;
    let taken = take(&mut first, 2).await;
    drop(first);
    let mut second = mesh.subscribe(NAME);
    assert_eq!(drain(&mut second, 3).await, [2, 3, 4]);
    nothing(&mut second).await;
    drop(taken);
    assert_eq!(drain_sorted(&mut second, 2).await, [0, 1]);
    nothing(&mut second).await;
    mesh.backlog(NAME, 0).await;
}

/// Attempts under way outlive their holder: a trigger that is changed lets them end.
pub async fn what_is_settled_after_its_holder_went_counts_once(backend: &mut dyn Backend) {
    let (mesh, mut first) = Mesh::open_all(backend).await;
    mesh.append(events(0..5, "a")).await;
    let mut taken = take(&mut first, 5).await.into_iter();
    drop(first);
    let mut second = mesh.subscribe(NAME);
    nothing(&mut second).await;
    let mut settle = |what: &str| {
        let delivery = taken.next().expect("five were taken");
        match what {
            "ack" => delivery.ack(Some(success())),
            "retry" => delivery.retry(soon(1), failure("late")),
            "park" => delivery.park(failure("dead")),
            _ => drop(delivery),
        }
    };
    settle("ack");
    settle("retry");
    settle("park");
    settle("drop");
    let mut came = take(&mut second, 2).await;
    came.sort_by_key(id);
    assert_eq!(ids(&came), [1, 3]);
    assert_eq!((came[0].attempts, came[1].attempts), (1, 0));
    nothing(&mut second).await;
    mesh.backlog(NAME, 3).await;
    came.into_iter().for_each(|delivery| delivery.ack(Some(success())));
    mesh.backlog(NAME, 1).await;
    assert_eq!(mesh.parked().len(), 1);
    // And with nobody there at all.
    drop(second);
    settle("ack");
    mesh.backlog(NAME, 0).await;
}

/// What comes while nobody reads waits.
pub async fn a_subscription_keeps_its_place_without_a_holder(backend: &mut dyn Backend) {
    let (mesh, mut reader) = Mesh::open_all(backend).await;
    mesh.append(events(0..10, "a")).await;
    assert_eq!(drain(&mut reader, 4).await, [0, 1, 2, 3]);
    drop(reader);
    mesh.append(events(10..20, "a")).await;
    mesh.backlog(NAME, 16).await;
    let mut reader = mesh.subscribe(NAME);
    mesh.route(&[(&reader, "*")]);
    assert_eq!(drain(&mut reader, 16).await, (4..20).collect::<Vec<_>>());
    nothing(&mut reader).await;
}

/// Neither options nor a new selector move it.
pub async fn a_subscription_keeps_its_place_when_its_options_change(backend: &mut dyn Backend) {
    let (mesh, mut reader) = Mesh::open_all(backend).await;
    mesh.append(events(0..10, "a")).await;
    assert_eq!(drain(&mut reader, 2).await, [0, 1]);
    one(&mut reader).await.retry(much_later(), failure("later"));
    let changes = [
        SubscribeOptions { ordered: true, ..SubscribeOptions::default() },
        SubscribeOptions { max_backlog: Some(100), ..SubscribeOptions::default() },
        SubscribeOptions { start: Start::Earliest, ..SubscribeOptions::default() },
    ];
    for options in changes {
        drop(reader);
        reader = mesh.subscribe_with(NAME, options);
        mesh.route(&[(&reader, "other")]);
        mesh.backlog(NAME, 8).await;
    }
    assert_eq!(drain(&mut reader, 7).await, (3..10).collect::<Vec<_>>());
    nothing(&mut reader).await;
    mesh.backlog(NAME, 1).await;
}

/// A subscription of the same name is another one.
pub async fn unsubscribing_forgets(backend: &mut dyn Backend) {
    let (mesh, mut reader) = Mesh::open_all(backend).await;
    mesh.append(events(0..5, "a")).await;
    one(&mut reader).await.retry(soon(1), failure("once"));
    drop(reader);
    mesh.store.unsubscribe(&topic(), NAME).expect("there is one");
    assert!(mesh.status(NAME).is_none());
    let again = mesh.store.unsubscribe(&topic(), NAME);
    assert_eq!(again, Err(StoreError::UnknownSubscription(NAME.to_owned())));
    assert_eq!(mesh.topic_status().kept_bytes, 0);
    let mut reader = mesh.all();
    nothing(&mut reader).await;
    mesh.append(events(5..6, "a")).await;
    assert_eq!(drain(&mut reader, 1).await, [5]);
}

/// Whoever waits for the next delivery hears that none will come, also when it waits already.
pub async fn a_forgotten_subscription_tells_its_holder(backend: &mut dyn Backend) {
    let (mesh, mut reader) = Mesh::open_all(backend).await;
    let unsubscribe = async {
        tokio::task::yield_now().await;
        mesh.store.unsubscribe(&topic(), NAME).expect("there is one");
    };
    let (answer, ()) = tokio::join!(super::mesh::refused(&mut reader), unsubscribe);
    assert_eq!(answer, StoreError::UnknownSubscription(NAME.to_owned()));
    let answer = super::mesh::refused(&mut reader).await;
    assert_eq!(answer, StoreError::UnknownSubscription(NAME.to_owned()));
    // It is no more, so nobody holds it.
    let mut other = mesh.all();
    let remove = async {
        tokio::task::yield_now().await;
        mesh.store.remove(&topic()).expect("can be removed");
    };
    let (answer, ()) = tokio::join!(super::mesh::refused(&mut other), remove);
    assert_eq!(answer, StoreError::UnknownTopic(topic()));
}

/// A trigger that is deleted and made again must not lose events to attempts of its former self.
pub async fn what_is_settled_for_a_forgotten_subscription_does_not_touch_the_new_one(
    backend: &mut dyn Backend,
) {
    let (mesh, mut old) = Mesh::open_all(backend).await;
    mesh.append(events(0..3, "a")).await;
    let mut taken = take(&mut old, 3).await.into_iter();
    mesh.store.unsubscribe(&topic(), NAME).expect("there is one");
    let mut new = mesh.subscribe_from(NAME, Start::Earliest);
    mesh.route(&[(&new, "*")]);
    mesh.backlog(NAME, 3).await;
    let mut settled = || taken.next().expect("three were taken");
    settled().ack(Some(success()));
    settled().park(failure("dead"));
    drop(settled());
    drop(old);
    mesh.backlog(NAME, 3).await;
    assert!(mesh.parked().is_empty());
    assert!(mesh.store.subscribe(&topic(), NAME, SubscribeOptions::default()).is_err());
    assert_eq!(drain(&mut new, 3).await, [0, 1, 2]);
    nothing(&mut new).await;
}
