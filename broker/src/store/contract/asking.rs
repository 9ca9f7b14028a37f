//! What a person asks for.

use super::Backend;
use super::mesh::{
    Mesh, NAME, drain, drain_sorted, events, eventually, failure, id, next_millisecond, nothing,
    now_ms, one, soon, success, take, topic,
};
use crate::store::{Outcome, Settlement, Start, SubscribeOptions};

/// The filter of today decides, not the one of then; what is to be delivered anyway is not delivered twice.
pub async fn a_replay_asks_the_filter_and_leaves_pending_events_alone(backend: &mut dyn Backend) {
    let mesh = Mesh::open(backend).await;
    let mut reader = mesh.subscribe(NAME);
    mesh.route(&[(&reader, "a")]);
    mesh.append(events(0..4, "a")).await;
    mesh.append(events(4..8, "b")).await;
    assert_eq!(drain(&mut reader, 2).await, [0, 1]);
    one(&mut reader).await.retry(soon(1), failure("once"));
    let in_flight = take(&mut reader, 2).await;
    assert_eq!(mesh.store.replay(&topic(), NAME, Start::Earliest), Ok(2));
    assert_eq!(drain_sorted(&mut reader, 2).await, [0, 1]);
    nothing(&mut reader).await;
    assert!(in_flight.iter().any(|delivery| delivery.attempts == 1), "{in_flight:?}");
    in_flight.into_iter().for_each(|delivery| delivery.ack(None));
    mesh.backlog(NAME, 0).await;
    mesh.route(&[(&reader, "b")]);
    assert_eq!(mesh.store.replay(&topic(), NAME, Start::Position(mesh.position(6))), Ok(2));
    assert_eq!(drain_sorted(&mut reader, 2).await, [6, 7]);
    assert_eq!(mesh.store.replay(&topic(), NAME, Start::Now), Ok(0));
    nothing(&mut reader).await;
}

/// A letter is among what can be replayed, and starts afresh.
pub async fn a_replay_brings_parked_letters_back(backend: &mut dyn Backend) {
    let (mesh, mut reader) = Mesh::open_all(backend).await;
    mesh.append(events(0..2, "a")).await;
    one(&mut reader).await.park(failure("dead"));
    assert_eq!(drain(&mut reader, 1).await, [1]);
    assert_eq!(mesh.store.replay(&topic(), NAME, Start::Earliest), Ok(2));
    assert!(mesh.parked().is_empty());
    let mut came = take(&mut reader, 2).await;
    came.sort_by_key(id);
    for (expected, delivery) in came.into_iter().enumerate() {
        assert_eq!((id(&delivery), delivery.attempts), (expected, 0));
        delivery.ack(None);
    }
    nothing(&mut reader).await;
}

/// Where order is asked for, it is kept for the past as well.
pub async fn a_replay_in_order_comes_in_order(backend: &mut dyn Backend) {
    let mesh = Mesh::open(backend).await;
    let ordered = SubscribeOptions { ordered: true, ..SubscribeOptions::default() };
    let mut reader = mesh.all_with(ordered);
    mesh.append(events(0..20, "a")).await;
    assert_eq!(drain(&mut reader, 10).await, (0..10).collect::<Vec<_>>());
    mesh.backlog(NAME, 10).await;
    assert_eq!(mesh.store.replay(&topic(), NAME, Start::Position(mesh.position(5))), Ok(5));
    assert_eq!(drain(&mut reader, 15).await, (5..20).collect::<Vec<_>>());
    nothing(&mut reader).await;
}

/// In order, from where it is asked to, whether somebody needs it or not.
pub async fn a_scan_walks_what_is_kept_until_told_to_stop(backend: &mut dyn Backend) {
    let mesh = Mesh::open(backend).await;
    mesh.append(events(0..600, "a")).await;
    next_millisecond().await;
    mesh.append(events(600..700, "a")).await;
    let kept = mesh.kept(Start::Earliest);
    assert_eq!(kept.len(), 700);
    assert!(kept.is_sorted_by_key(|kept| kept.position));
    assert!(kept.is_sorted_by_key(|kept| kept.accepted));
    assert!(kept.iter().all(|kept| kept.topic == topic()));
    assert!(kept.iter().map(|kept| kept.event.id()).eq((0..700).map(|id| id.to_string())));
    let from = |start| mesh.kept(start).first().map(|kept| kept.event.id().to_owned());
    assert_eq!(from(Start::Position(kept[98].position)), Some("98".to_owned()));
    assert_eq!(from(Start::Time(kept[600].accepted)), Some("600".to_owned()));
    assert_eq!(from(Start::Now), None);
    let mut seen = 0;
    let mut three = |_| {
        seen += 1;
        seen < 3
    };
    mesh.store.scan(Start::Earliest, &mut three).expect("kept events can be read");
    assert_eq!(seen, 3);
}

/// Every attempt, of every trigger, in the order they were made.
pub async fn an_event_can_be_explained(backend: &mut dyn Backend) {
    let mesh = Mesh::open(backend).await;
    let (mut a, mut b) = (mesh.subscribe("default/a"), mesh.subscribe("default/b"));
    mesh.route(&[(&a, "*"), (&b, "*")]);
    mesh.append(events(0..1, "a")).await;
    let delivery = one(&mut a).await;
    let position = delivery.position;
    let due = soon(1);
    delivery.retry(due, failure("first"));
    let mut delivery = one(&mut a).await;
    delivery.hold(due, failure("second"));
    delivery.ack(Some(success()));
    drop(one(&mut b).await);
    one(&mut b).await.park(failure("dead"));
    let steps = mesh.store.steps(position).expect("steps can be read");
    let of = |name: &str| {
        let steps = steps.iter().filter(|step| step.subscription == name);
        let told = |outcome: &Outcome| (outcome.status, outcome.reason.clone());
        steps.map(|step| (step.settlement, step.outcome.as_ref().map(told))).collect::<Vec<_>>()
    };
    let failed = |reason: &str| Some((503, reason.to_owned()));
    assert_eq!(
        of("default/a"),
        [
            (Settlement::Retry { at: due }, failed("first")),
            (Settlement::Hold { at: due }, failed("second")),
            (Settlement::Ack, Some((202, String::new()))),
        ]
    );
    assert_eq!(of("default/b"), [(Settlement::Park, failed("dead"))]);
    assert_eq!(steps.len(), 4, "giving back is no step");
    assert!(mesh.store.steps(position + 1000).expect("steps can be read").is_empty());
}

/// What waits, what is parked, how old the oldest is.
pub async fn statuses_tell_how_far_behind_everyone_is(backend: &mut dyn Backend) {
    let (mesh, mut reader) = Mesh::open_all(backend).await;
    let idle = mesh.subscribe("default/idle");
    mesh.route(&[(&reader, "*"), (&idle, "none")]);
    let before = now_ms();
    let head = mesh.topic_status().head;
    mesh.append(events(0..10, "a")).await;
    assert_eq!(drain(&mut reader, 3).await, [0, 1, 2]);
    one(&mut reader).await.park(failure("dead"));
    one(&mut reader).await.retry(soon(3_600_000), failure("later"));
    let in_flight = one(&mut reader).await;
    mesh.backlog(NAME, 6).await;
    let statuses = mesh.store.subscriptions();
    let names: Vec<&str> = statuses.iter().map(|status| status.name.as_str()).collect();
    assert_eq!(names, ["default/idle", NAME], "sorted");
    assert_eq!((statuses[0].backlog, statuses[0].oldest, statuses[0].oldest_at), (0, None, None));
    let status = &statuses[1];
    assert_eq!((&status.topic, status.parked), (&topic(), 1));
    assert_eq!(status.oldest, Some(mesh.position(4)));
    let oldest_at = status.oldest_at.expect("there is an oldest");
    assert!(oldest_at >= std::time::UNIX_EPOCH + std::time::Duration::from_millis(before));
    let topic = mesh.topic_status();
    assert!(topic.kept_bytes > 0 && topic.head > head, "{topic:?}");
    in_flight.ack(None);
    assert_eq!(drain(&mut reader, 4).await, [6, 7, 8, 9]);
    drop((reader, idle));
    mesh.store.unsubscribe(&self::topic(), NAME).expect("there is one");
    eventually("nothing is needed", || mesh.topic_status().kept_bytes == 0).await;
    assert_eq!(mesh.store.unhealthy(), None);
}
