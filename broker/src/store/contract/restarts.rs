//! What outlives the process. Orderly ends repeat nothing; sudden ones may repeat what was settled a moment before.

use std::collections::BTreeSet;

use super::Durable;
use super::mesh::{
    Mesh, NAME, Reader, drain, drain_sorted, event, events, failure, id, ids, much_later, next,
    nothing, one, other_topic, soon, success, take, topic,
};
use crate::inspect::ParkedSelection;
use crate::store::{Delivery, Start, SubscribeOptions, TopicOptions};

async fn restarted(backend: &mut dyn Durable, mesh: Mesh) -> Mesh {
    Mesh::of(backend.restart(mesh.store).await)
}

async fn killed(backend: &mut dyn Durable, mesh: Mesh) -> Mesh {
    Mesh::of(backend.kill(mesh.store).await)
}

/// Round after round: what was acked is gone, what was not comes, in order.
pub async fn a_restart_delivers_what_was_not_acked_and_nothing_else(backend: &mut dyn Durable) {
    let mut mesh = Mesh::open(backend).await;
    for round in 0..3 {
        let mut reader = mesh.all();
        mesh.append(events(round * 10..round * 10 + 10, "a")).await;
        let from = round * 8;
        assert_eq!(drain(&mut reader, 8).await, (from..from + 8).collect::<Vec<_>>());
        drop(reader);
        mesh = restarted(backend, mesh).await;
    }
    let mut reader = mesh.all();
    assert_eq!(drain(&mut reader, 6).await, (24..30).collect::<Vec<_>>());
    nothing(&mut reader).await;
    mesh.backlog(NAME, 0).await;
}

/// A subscriber that is down is not asked all over again because the mesh was restarted.
pub async fn attempts_outcomes_and_due_times_survive_a_restart(backend: &mut dyn Durable) {
    let (mesh, mut reader) = Mesh::open_all(backend).await;
    mesh.append(events(0..2, "a")).await;
    let outcome = failure("once more");
    one(&mut reader).await.retry(much_later(), failure("much later"));
    one(&mut reader).await.retry(soon(1), failure("first"));
    one(&mut reader).await.retry(soon(1), outcome.clone());
    drop(reader);
    let mesh = restarted(backend, mesh).await;
    let mut reader = mesh.all();
    let delivery = one(&mut reader).await;
    assert_eq!((id(&delivery), delivery.attempts), (1, 2));
    assert_eq!(delivery.last.as_ref(), Some(&outcome));
    delivery.ack(Some(success()));
    nothing(&mut reader).await;
    mesh.backlog(NAME, 1).await;
}

/// The head of a key waits for its time, also in the next process.
pub async fn an_ordered_hold_survives_a_restart(backend: &mut dyn Durable) {
    let ordered = SubscribeOptions { ordered: true, ..SubscribeOptions::default() };
    let mesh = Mesh::open(backend).await;
    let mut reader = mesh.all_with(ordered.clone());
    mesh.append(events(0..2, "a")).await;
    let (mut delivery, due) = (one(&mut reader).await, much_later());
    delivery.hold(due, failure("held"));
    drop((delivery, reader));
    let mesh = restarted(backend, mesh).await;
    let mut reader = mesh.all_with(ordered);
    let came = take(&mut reader, 2).await;
    assert_eq!(ids(&came), [0, 1]);
    assert_eq!((came[0].attempts, came[0].not_before), (1, Some(due)));
    assert_eq!((came[1].attempts, came[1].not_before), (0, None));
}

/// With everything that is known of them; and they can still be sent again.
pub async fn parked_letters_survive_a_restart(backend: &mut dyn Durable) {
    let (mesh, mut reader) = Mesh::open_all(backend).await;
    mesh.append(events(0..4, "a")).await;
    for delivery in take(&mut reader, 4).await {
        delivery.park(failure("dead"));
    }
    let of =
        |id: &str| ParkedSelection { event_id: Some(id.to_owned()), ..ParkedSelection::default() };
    let before = mesh.parked();
    assert_eq!(mesh.store.purge(&of("1")), Ok(1));
    assert_eq!(mesh.store.redrive(&of("2")), Ok(1));
    drop(reader);
    let mesh = restarted(backend, mesh).await;
    let mut reader = mesh.all();
    let delivery = one(&mut reader).await;
    assert_eq!((id(&delivery), delivery.attempts), (2, 0));
    delivery.ack(None);
    nothing(&mut reader).await;
    let letters = mesh.parked();
    assert_eq!(letters.len(), 2);
    assert_eq!((letters[0].position, letters[0].attempts), (before[0].position, 1));
    assert_eq!((&letters[0].event, &letters[0].last), (&event(0, "a"), &before[0].last));
    assert_eq!(mesh.store.redrive(&ParkedSelection::default()), Ok(2));
    assert_eq!(drain_sorted(&mut reader, 2).await, [0, 3]);
}

/// Whoever had it when the process ended did not settle it.
pub async fn what_was_in_flight_is_delivered_again(backend: &mut dyn Durable) {
    let (mesh, mut reader) = Mesh::open_all(backend).await;
    mesh.append(events(0..4, "a")).await;
    one(&mut reader).await.retry(soon(1), failure("once"));
    let taken = take(&mut reader, 4).await;
    let mesh = restarted(backend, mesh).await;
    // Too late for the store that is closed, and nothing to the one that is open.
    drop((taken, reader));
    let mut reader = mesh.all();
    let mut came = take(&mut reader, 4).await;
    came.sort_by_key(id);
    assert_eq!(ids(&came), [0, 1, 2, 3]);
    let attempts: Vec<u32> = came.iter().map(|delivery| delivery.attempts).collect();
    assert_eq!(attempts, [1, 0, 0, 0]);
}

/// Events come in before the triggers are read: they wait for the first selector.
pub async fn what_comes_before_the_first_selector_is_decided_by_it(backend: &mut dyn Durable) {
    let mesh = Mesh::open(backend).await;
    let mut reader = mesh.subscribe(NAME);
    mesh.route(&[(&reader, "a")]);
    mesh.append(events(0..3, "a")).await;
    assert_eq!(drain(&mut reader, 1).await, [0]);
    drop(reader);
    let mut mesh = restarted(backend, mesh).await;
    for round in 1..3 {
        mesh.append(events(round * 10..round * 10 + 3, "a")).await;
        mesh.append(events(round * 10 + 3..round * 10 + 6, "b")).await;
        mesh = restarted(backend, mesh).await;
    }
    let mut reader = mesh.subscribe(NAME);
    mesh.append(events(30..31, "a")).await;
    mesh.route(&[(&reader, "a")]);
    mesh.append(events(31..32, "a")).await;
    let expected = [1, 2, 10, 11, 12, 20, 21, 22, 30, 31];
    assert_eq!(drain(&mut reader, expected.len()).await, expected);
    nothing(&mut reader).await;
}

/// A trigger that is read again at every start does not start again at every start.
pub async fn a_start_matters_only_once_across_restarts(backend: &mut dyn Durable) {
    let mesh = Mesh::open(backend).await;
    mesh.append(events(0..5, "a")).await;
    let mut reader = mesh.subscribe_from(NAME, Start::Earliest);
    mesh.route(&[(&reader, "*")]);
    assert_eq!(drain(&mut reader, 3).await, [0, 1, 2]);
    drop(reader);
    let mesh = restarted(backend, mesh).await;
    let mut reader = mesh.subscribe_from(NAME, Start::Earliest);
    mesh.route(&[(&reader, "*")]);
    mesh.append(events(5..6, "a")).await;
    assert_eq!(drain(&mut reader, 3).await, [3, 4, 5]);
    nothing(&mut reader).await;
}

/// Neither a topic nor a subscription comes back from the dead.
pub async fn what_was_removed_stays_removed(backend: &mut dyn Durable) {
    let (mesh, mut reader) = Mesh::open_all(backend).await;
    mesh.append(events(0..5, "a")).await;
    one(&mut reader).await.park(failure("dead"));
    drop(reader);
    mesh.store.unsubscribe(&topic(), NAME).expect("there is one");
    let budget = TopicOptions { budget: u64::MAX };
    mesh.store.declare(&other_topic(), budget).expect("can be declared");
    mesh.store.append(&other_topic(), events(5..6, "a")).await.expect("takes events");
    mesh.store.remove(&other_topic()).expect("can be removed");
    let mesh = killed(backend, mesh).await;
    assert!(mesh.store.subscriptions().is_empty());
    assert_eq!(mesh.store.topics().len(), 1);
    assert!(mesh.parked().is_empty());
    mesh.store.declare(&other_topic(), budget).expect("can be declared");
    assert!(mesh.kept(Start::Earliest).iter().all(|kept| kept.topic == topic()));
    let mut reader = mesh.all();
    nothing(&mut reader).await;
    mesh.append(events(6..7, "a")).await;
    assert_eq!(drain(&mut reader, 1).await, [6]);
}

/// Reads until everything in `expected` came, and holds it; nothing but `allowed` may come.
async fn gather(
    reader: &mut Reader,
    expected: &BTreeSet<usize>,
    allowed: &BTreeSet<usize>,
) -> Vec<Delivery> {
    let mut missing = expected.clone();
    let mut came = Vec::new();
    while !missing.is_empty() {
        for delivery in next(reader, 16).await {
            missing.remove(&id(&delivery));
            assert!(allowed.contains(&id(&delivery)), "{} was never accepted", id(&delivery));
            came.push(delivery);
        }
    }
    came
}

/// Whatever was going on: what was accepted and not acked comes again, and nothing that never was.
pub async fn a_kill_loses_nothing_that_was_accepted(backend: &mut dyn Durable) {
    let (mut mesh, mut reader) = Mesh::open_all(backend).await;
    let (mut accepted, mut acked) = (BTreeSet::new(), BTreeSet::new());
    for round in 0..6 {
        let ids = round * 20..round * 20 + 20;
        mesh.append(events(ids.clone(), "a")).await;
        accepted.extend(ids);
        let mut in_flight = take(&mut reader, 10).await;
        for delivery in in_flight.drain(..7) {
            acked.insert(id(&delivery));
            delivery.ack(Some(success()));
        }
        in_flight.pop().expect("three are left").retry(soon(1), failure("once"));
        mesh = killed(backend, mesh).await;
        drop((in_flight, reader));
        reader = mesh.all();
        let left: BTreeSet<usize> = accepted.difference(&acked).copied().collect();
        let came = gather(&mut reader, &left, &accepted).await;
        mesh = killed(backend, mesh).await;
        drop((came, reader));
        reader = mesh.all();
    }
}

/// A letter whose parking did not reach the disk is delivered once more; it does not vanish.
pub async fn a_kill_loses_no_letter(backend: &mut dyn Durable) {
    let (mesh, mut reader) = Mesh::open_all(backend).await;
    mesh.append(events(0..20, "a")).await;
    for delivery in take(&mut reader, 20).await {
        delivery.park(failure("dead"));
    }
    let mesh = killed(backend, mesh).await;
    drop(reader);
    let mut reader = mesh.all();
    mesh.append(events(20..21, "a")).await;
    let mut seen = BTreeSet::new();
    while !seen.contains(&20) {
        seen.extend(drain(&mut reader, 1).await);
    }
    seen.extend(mesh.parked().iter().filter_map(|letter| letter.event.id().parse::<usize>().ok()));
    assert!(seen.into_iter().eq(0..21));
}
