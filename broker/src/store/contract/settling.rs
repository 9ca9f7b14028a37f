//! What becomes of deliveries.

use super::Backend;
use super::mesh::{
    Mesh, NAME, Reader, drain, drain_sorted, events, failure, id, much_later, nothing, now_ms, one,
    soon, success, take,
};
use crate::store::{Outcome, Stage, SubscribeOptions};

/// Not before its time, counted, with the whole of the last outcome.
pub async fn a_retry_comes_when_it_is_due_with_its_history(backend: &mut dyn Backend) {
    let (mesh, mut reader) = Mesh::open_all(backend).await;
    mesh.append(events(0..1, "a")).await;
    let due_ms = now_ms() + 300;
    let outcome = Outcome { stage: Stage::Reply, ..failure("not now") };
    one(&mut reader).await.retry(soon(300), outcome.clone());
    nothing(&mut reader).await;
    mesh.backlog(NAME, 1).await;
    let delivery = one(&mut reader).await;
    assert!(now_ms() >= due_ms, "it came {} ms early", due_ms - now_ms());
    assert_eq!((delivery.attempts, delivery.last.as_ref()), (1, Some(&outcome)));
    assert_eq!(delivery.not_before, None, "only ordered subscriptions are told to wait");
    delivery.ack(Some(success()));
    mesh.backlog(NAME, 0).await;
    nothing(&mut reader).await;
}

/// One event that fails is no reason to keep others waiting.
pub async fn a_retry_does_not_stop_what_comes_after_it(backend: &mut dyn Backend) {
    let (mesh, mut reader) = Mesh::open_all(backend).await;
    mesh.append(events(0..10, "a")).await;
    one(&mut reader).await.retry(much_later(), failure("first"));
    let second = one(&mut reader).await;
    assert_eq!(id(&second), 1);
    second.retry(soon(1), failure("second"));
    assert_eq!(drain_sorted(&mut reader, 9).await, (1..10).collect::<Vec<_>>());
    nothing(&mut reader).await;
    mesh.backlog(NAME, 1).await;
}

/// Each retry counts one, and the last outcome is the last.
pub async fn attempts_add_up(backend: &mut dyn Backend) {
    let (mesh, mut reader) = Mesh::open_all(backend).await;
    mesh.append(events(0..1, "a")).await;
    for attempts in 0..10 {
        let delivery = one(&mut reader).await;
        assert_eq!(delivery.attempts, attempts);
        let reason = delivery.last.as_ref().map(|last| last.reason.clone());
        assert_eq!(reason, attempts.checked_sub(1).map(|before| format!("attempt {before}")));
        delivery.retry(soon(1), failure(&format!("attempt {attempts}")));
    }
}

/// Giving back neither counts nor forgets.
pub async fn a_released_retry_keeps_its_count(backend: &mut dyn Backend) {
    let (mesh, mut reader) = Mesh::open_all(backend).await;
    mesh.append(events(0..1, "a")).await;
    one(&mut reader).await.retry(soon(1), failure("once"));
    for _ in 0..3 {
        let delivery = one(&mut reader).await;
        assert_eq!(delivery.attempts, 1);
        assert_eq!(delivery.last.as_ref().map(|last| last.reason.as_str()), Some("once"));
        drop(delivery);
    }
}

async fn hold_twice(reader: &mut Reader) {
    let mut delivery = one(reader).await;
    for attempts in 1..3 {
        let due = soon(1);
        delivery.hold(due, failure("held"));
        assert_eq!((delivery.attempts, delivery.not_before), (attempts, Some(due)));
        nothing(reader).await;
    }
    delivery.retry(soon(1), failure("given back"));
    let delivery = one(reader).await;
    assert_eq!(delivery.attempts, 3);
    assert_eq!(delivery.last.as_ref().map(|last| last.reason.as_str()), Some("given back"));
    delivery.ack(Some(success()));
}

/// The holder goes on with the delivery in its hands; nobody else gets it meanwhile.
pub async fn a_hold_counts_and_keeps_the_delivery(backend: &mut dyn Backend) {
    let (mesh, mut reader) = Mesh::open_all(backend).await;
    mesh.append(events(0..1, "a")).await;
    hold_twice(&mut reader).await;
    drop(reader);
    let mut reader =
        mesh.all_with(SubscribeOptions { ordered: true, ..SubscribeOptions::default() });
    mesh.append(events(1..2, "a")).await;
    hold_twice(&mut reader).await;
    mesh.backlog(NAME, 0).await;
}

/// A holder that goes away leaves the attempt counted and its time to be waited for.
pub async fn a_held_delivery_that_is_released_waits_for_its_time(backend: &mut dyn Backend) {
    let (mesh, mut reader) = Mesh::open_all(backend).await;
    mesh.append(events(0..2, "a")).await;
    let mut deliveries = take(&mut reader, 2).await;
    let due_ms = now_ms() + 300;
    deliveries[0].hold(soon(300), failure("held"));
    deliveries[1].hold(much_later(), failure("held for long"));
    drop(deliveries);
    drop(reader);
    let mut reader = mesh.subscribe(NAME);
    nothing(&mut reader).await;
    let delivery = one(&mut reader).await;
    assert!(now_ms() >= due_ms, "it came {} ms early", due_ms - now_ms());
    assert_eq!((id(&delivery), delivery.attempts), (0, 1));
    assert_eq!(delivery.last.as_ref().map(|last| last.reason.as_str()), Some("held"));
    delivery.ack(Some(success()));
    nothing(&mut reader).await;
    mesh.backlog(NAME, 1).await;
}

/// With an outcome or without, after failures or at once.
pub async fn an_ack_is_final(backend: &mut dyn Backend) {
    let (mesh, mut reader) = Mesh::open_all(backend).await;
    mesh.append(events(0..3, "a")).await;
    one(&mut reader).await.ack(None);
    one(&mut reader).await.ack(Some(failure("refused, and that is that")));
    one(&mut reader).await.retry(soon(1), failure("once"));
    one(&mut reader).await.ack(Some(success()));
    mesh.backlog(NAME, 0).await;
    nothing(&mut reader).await;
    drop(reader);
    let mut reader = mesh.all();
    mesh.append(events(3..4, "a")).await;
    assert_eq!(drain(&mut reader, 1).await, [3]);
    nothing(&mut reader).await;
}

/// A subscriber that answers with megabytes does not fill the store.
pub async fn outcomes_are_cut_to_their_bounds(backend: &mut dyn Backend) {
    let (mesh, mut reader) = Mesh::open_all(backend).await;
    mesh.append(events(0..1, "a")).await;
    // The bound falls into the middle of a character.
    let reason = "é".repeat(Outcome::MAX_REASON).split_off(2) + "x";
    let reason = format!("x{reason}");
    let body = vec![7; Outcome::MAX_BODY * 2];
    let outcome = Outcome { reason: reason.clone(), body, ..failure("") };
    one(&mut reader).await.retry(soon(1), outcome);
    let delivery = one(&mut reader).await;
    let last = delivery.last.clone().expect("it was tried");
    assert_eq!(last.body, [7; Outcome::MAX_BODY]);
    assert!(reason.starts_with(&last.reason) && last.reason.len() == Outcome::MAX_REASON - 1);
    delivery.park(last.clone());
    assert_eq!(mesh.parked()[0].last, last);
}
