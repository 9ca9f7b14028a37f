//! Age, backlog, budget: what a subscription and a topic may keep.

use std::time::Duration;

use super::Backend;
use super::mesh::{
    Mesh, NAME, drain, drain_sorted, events, failure, much_later, nothing, one, other_topic, soon,
    take, topic, weighing,
};
use crate::inspect::ParkedSelection;
use crate::store::{AppendError, Settlement, Stage, SubscribeOptions, TopicOptions};

/// Bytes of data of the events that fill budgets: what else an event costs hardly matters beside it.
const HEAVY: usize = 8 << 10;

/// A budget for a few dozen of them.
const BUDGET: u64 = 256 << 10;

fn aged(ms: u64) -> SubscribeOptions {
    SubscribeOptions { max_age: Some(Duration::from_millis(ms)), ..SubscribeOptions::default() }
}

fn bounded(max: u64) -> SubscribeOptions {
    SubscribeOptions { max_backlog: Some(max), ..SubscribeOptions::default() }
}

/// And it is on record why nobody got them.
pub async fn old_events_expire_though_nobody_reads(backend: &mut dyn Backend) {
    let mesh = Mesh::open(backend).await;
    let reader = mesh.all_with(aged(50));
    mesh.append(events(0..10, "a")).await;
    let position = mesh.position(9);
    mesh.expired(position).await;
    mesh.backlog(NAME, 0).await;
    assert_eq!(mesh.topic_status().kept_bytes, 0);
    let steps = mesh.store.steps(position).expect("steps can be read");
    assert_eq!((steps.len(), steps[0].subscription.as_str()), (1, NAME));
    assert_eq!(steps[0].settlement, Settlement::Ack);
    drop(reader);
    // The bound is lifted: what is new is delivered, what expired is not.
    let mut reader = mesh.subscribe(NAME);
    mesh.append(events(10..12, "a")).await;
    assert_eq!(drain(&mut reader, 2).await, [10, 11]);
    nothing(&mut reader).await;
}

/// What waits for a retry grows old, too; what is in flight is left to its holder.
pub async fn old_events_are_not_handed_out(backend: &mut dyn Backend) {
    let (mesh, mut reader) = Mesh::open_all(backend).await;
    mesh.append(events(0..5, "a")).await;
    one(&mut reader).await.retry(much_later(), failure("later"));
    let taken = one(&mut reader).await;
    drop(reader);
    let mut reader = mesh.subscribe_with(NAME, aged(50));
    for id in [0, 2, 3, 4] {
        mesh.expired(mesh.position(id)).await;
    }
    nothing(&mut reader).await;
    mesh.backlog(NAME, 1).await;
    let position = taken.position;
    taken.ack(None);
    mesh.backlog(NAME, 0).await;
    assert!(!mesh.stages(position).contains(&Stage::Expired));
}

/// The oldest make room.
pub async fn a_bounded_backlog_keeps_the_newest(backend: &mut dyn Backend) {
    let mesh = Mesh::open(backend).await;
    let mut reader = mesh.all_with(bounded(10));
    for start in (0..100).step_by(20) {
        mesh.append(events(start..start + 20, "a")).await;
    }
    mesh.expired(mesh.position(89)).await;
    mesh.backlog(NAME, 10).await;
    assert_eq!(drain(&mut reader, 10).await, (90..100).collect::<Vec<_>>());
    nothing(&mut reader).await;
    assert_eq!(mesh.stages(mesh.position(0)), [Stage::Expired]);
    assert_eq!(mesh.stages(mesh.position(95)), [Stage::Subscriber]);
}

/// A subscriber that is working on an event gets to finish it.
pub async fn a_bounded_backlog_does_not_touch_what_is_in_flight(backend: &mut dyn Backend) {
    let mesh = Mesh::open(backend).await;
    let mut reader = mesh.all_with(bounded(3));
    mesh.append(events(0..3, "a")).await;
    let mut taken = take(&mut reader, 3).await;
    mesh.append(events(3..30, "a")).await;
    mesh.expired(mesh.position(26)).await;
    mesh.backlog(NAME, 6).await;
    for delivery in &mut taken {
        delivery.hold(soon(1), failure("slow"));
    }
    assert_eq!(drain(&mut reader, 3).await, [27, 28, 29]);
    let positions: Vec<_> = taken.iter().map(|delivery| delivery.position).collect();
    taken.pop().expect("three were taken").retry(soon(1), failure("once more"));
    assert_eq!(one(&mut reader).await.attempts, 2);
    drop(taken);
    for position in positions {
        assert!(!mesh.stages(position).contains(&Stage::Expired));
    }
}

/// A bound that comes with a changed trigger counts at once.
pub async fn a_bound_set_later_counts_for_what_already_waits(backend: &mut dyn Backend) {
    let (mesh, reader) = Mesh::open_all(backend).await;
    mesh.append(events(0..20, "a")).await;
    mesh.backlog(NAME, 20).await;
    drop(reader);
    let mut reader = mesh.subscribe_with(NAME, bounded(4));
    mesh.backlog(NAME, 4).await;
    assert_eq!(drain(&mut reader, 4).await, [16, 17, 18, 19]);
    nothing(&mut reader).await;
}

/// Appends batches of four until the budget is used up; the refusal, and how many were accepted.
async fn fill(mesh: &Mesh) -> (AppendError, usize) {
    let mut accepted = 0;
    loop {
        let batch = (accepted..accepted + 4).map(|id| weighing(id, "a", HEAVY)).collect();
        match mesh.store.append(&topic(), batch).await {
            Ok(()) => accepted += 4,
            Err(refused) => return (refused, accepted),
        }
        assert!(accepted as u64 * (HEAVY as u64) < 4 * BUDGET, "the budget is never used up");
    }
}

/// Waits until the store takes an event again.
async fn resumes(mesh: &Mesh, id: usize) {
    let wait = async {
        let mut ticks = tokio::time::interval(Duration::from_millis(5));
        while mesh.store.append(&topic(), events(id..id + 1, "a")).await.is_err() {
            ticks.tick().await;
        }
    };
    let resumed = tokio::time::timeout(Duration::from_secs(20), wait).await;
    assert!(resumed.is_ok(), "service resumes by itself");
}

/// Nothing is lost, nothing of a refused batch is kept, and the culprit is named.
pub async fn a_used_up_budget_names_its_holder_and_service_resumes(backend: &mut dyn Backend) {
    let mesh = Mesh::open(backend).await;
    mesh.budget(BUDGET);
    let mut greedy = mesh.subscribe("default/greedy");
    let mut quick = mesh.subscribe("default/quick");
    mesh.route(&[(&greedy, "*"), (&quick, "rare")]);
    let (refused, accepted) = fill(&mesh).await;
    assert!(refused.is_retryable());
    let AppendError::Full { reason, retry_after } = refused else {
        unreachable!("{refused} is not about the budget")
    };
    assert!(reason.contains("default/greedy") && !reason.contains("default/quick"), "{reason}");
    assert!(!retry_after.is_zero());
    assert!(accepted >= 16, "only {accepted} events fit");
    let status = mesh.topic_status();
    assert!(status.kept_bytes >= BUDGET / 2, "{status:?}");
    // Another topic is not concerned.
    mesh.store.declare(&other_topic(), TopicOptions { budget: BUDGET }).expect("can be declared");
    mesh.store.append(&other_topic(), events(0..1, "a")).await.expect("it has room");
    assert_eq!(drain(&mut greedy, accepted).await, (0..accepted).collect::<Vec<_>>());
    resumes(&mesh, 1000).await;
    assert_eq!(drain(&mut greedy, 1).await, [1000]);
    nothing(&mut greedy).await;
    nothing(&mut quick).await;
}

/// What a full topic waits for is that its events are answered.
pub async fn replies_are_taken_a_little_beyond_a_used_up_budget(backend: &mut dyn Backend) {
    let (mesh, mut reader) = Mesh::open_all(backend).await;
    mesh.budget(BUDGET);
    let (_, accepted) = fill(&mesh).await;
    let reply = |id: usize| vec![weighing(id, "a", HEAVY)];
    let mut replies = 0;
    while mesh.store.append_replies(&topic(), reply(1000 + replies)).await.is_ok() {
        replies += 1;
        assert!(replies as u64 * (HEAVY as u64) < BUDGET, "replies have a limit, too");
    }
    assert!(replies > 0, "a full topic takes replies");
    let (refused, _) = fill(&mesh).await;
    assert!(refused.is_retryable(), "{refused}");
    let mut came = drain_sorted(&mut reader, accepted + replies).await;
    assert_eq!(came.split_off(accepted), (1000..1000 + replies).collect::<Vec<_>>());
    nothing(&mut reader).await;
}

/// Letters that nobody looks at are storage, too.
pub async fn parked_letters_use_budget_until_they_are_purged(backend: &mut dyn Backend) {
    let (mesh, mut reader) = Mesh::open_all(backend).await;
    mesh.budget(BUDGET);
    let (_, accepted) = fill(&mesh).await;
    for delivery in take(&mut reader, accepted).await {
        delivery.park(failure("dead"));
    }
    mesh.backlog(NAME, 0).await;
    assert!(mesh.topic_status().kept_bytes >= BUDGET / 2);
    let (refused, _) = fill(&mesh).await;
    assert!(refused.to_string().contains(NAME), "{refused}");
    let purged = mesh.store.purge(&ParkedSelection::default()).expect("letters can be purged");
    assert!(purged >= accepted as u64);
    resumes(&mesh, 1000).await;
}

/// A budget bounds what waits, not what passes.
pub async fn events_that_keep_moving_use_no_budget(backend: &mut dyn Backend) {
    let (mesh, mut reader) = Mesh::open_all(backend).await;
    mesh.budget(BUDGET);
    for round in 0..50 {
        let ids = round * 10..round * 10 + 10;
        mesh.append(ids.clone().map(|id| weighing(id, "a", HEAVY)).collect()).await;
        assert_eq!(drain(&mut reader, 10).await, ids.collect::<Vec<_>>());
    }
}
