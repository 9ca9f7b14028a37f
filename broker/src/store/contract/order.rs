//! Ordered subscriptions: the holder keeps the order, the store keeps the sequence.

use super::Backend;
use super::mesh::{
    Mesh, NAME, drain, events, failure, id, ids, much_later, nothing, one, soon, take,
};
use crate::store::SubscribeOptions;

fn ordered() -> SubscribeOptions {
    SubscribeOptions { ordered: true, ..SubscribeOptions::default() }
}

/// What is not due is handed out in its turn, with the time to wait for.
pub async fn ordered_events_come_by_position_due_or_not(backend: &mut dyn Backend) {
    let mesh = Mesh::open(backend).await;
    let mut reader = mesh.all_with(ordered());
    mesh.append(events(0..6, "a")).await;
    let mut taken = take(&mut reader, 4).await;
    assert_eq!(ids(&taken), [0, 1, 2, 3]);
    assert!(taken.iter().all(|delivery| delivery.not_before.is_none()));
    let (later, past) = (much_later(), soon(0));
    taken.remove(3).ack(None);
    taken.remove(1).retry(later, failure("one"));
    taken.remove(0).retry(past, failure("zero"));
    let again = take(&mut reader, 4).await;
    assert_eq!(ids(&again), [0, 1, 4, 5], "2 is still in flight");
    let told: Vec<_> =
        again.iter().map(|delivery| (delivery.attempts, delivery.not_before)).collect();
    assert_eq!(told, [(1, Some(past)), (1, Some(later)), (0, None), (0, None)]);
    let reason = again[1].last.as_ref().map(|last| last.reason.as_str());
    assert_eq!(reason, Some("one"));
    drop(again);
    drop(taken);
    assert_eq!(drain(&mut reader, 5).await, [0, 1, 2, 4, 5]);
    nothing(&mut reader).await;
    mesh.backlog(NAME, 0).await;
}

/// The time to wait for outlives a holder that goes away in the middle.
pub async fn an_ordered_hold_is_told_to_the_next_holder(backend: &mut dyn Backend) {
    let mesh = Mesh::open(backend).await;
    let mut reader = mesh.all_with(ordered());
    mesh.append(events(0..2, "a")).await;
    let mut delivery = one(&mut reader).await;
    let due = much_later();
    delivery.hold(soon(1), failure("first"));
    delivery.hold(due, failure("second"));
    drop(delivery);
    drop(reader);
    let mut reader = mesh.subscribe_with(NAME, ordered());
    let again = take(&mut reader, 2).await;
    assert_eq!(ids(&again), [0, 1]);
    assert_eq!((again[0].attempts, again[0].not_before), (2, Some(due)));
    assert_eq!(again[0].last.as_ref().map(|last| last.reason.as_str()), Some("second"));
    assert_eq!((again[1].attempts, again[1].not_before), (0, None));
}

/// However things are given back, the next to come is the first that is not in flight.
pub async fn what_is_given_back_takes_its_place_again(backend: &mut dyn Backend) {
    let mesh = Mesh::open(backend).await;
    let mut reader = mesh.all_with(ordered());
    mesh.append(events(0..600, "a")).await;
    let mut taken = take(&mut reader, 300).await;
    // Out of order, in several steps, with reads in between.
    for give_back in [250, 17, 180, 3] {
        let delivery = taken.remove(give_back);
        let expected = id(&delivery);
        drop(delivery);
        let again = one(&mut reader).await;
        assert_eq!(id(&again), expected);
        taken.insert(give_back, again);
    }
    taken.reverse();
    drop(taken);
    assert_eq!(drain(&mut reader, 600).await, (0..600).collect::<Vec<_>>());
    nothing(&mut reader).await;
}

/// A trigger may ask for order later, or no longer.
pub async fn order_can_be_switched_on_and_off(backend: &mut dyn Backend) {
    let (mesh, mut reader) = Mesh::open_all(backend).await;
    mesh.append(events(0..4, "a")).await;
    let due = much_later();
    one(&mut reader).await.retry(due, failure("later"));
    assert_eq!(drain(&mut reader, 1).await, [1]);
    drop(reader);
    let mut reader = mesh.subscribe_with(NAME, ordered());
    let taken = take(&mut reader, 2).await;
    assert_eq!(ids(&taken), [0, 2]);
    assert_eq!((taken[0].attempts, taken[0].not_before), (1, Some(due)));
    // What is in flight while order is switched off is given back afterwards.
    drop(reader);
    let mut reader = mesh.subscribe(NAME);
    drop(taken);
    let mut came = drain(&mut reader, 2).await;
    came.sort_unstable();
    assert_eq!(came, [2, 3]);
    nothing(&mut reader).await;
    mesh.backlog(NAME, 1).await;
}
