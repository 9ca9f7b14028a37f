//! One trigger's trouble is not another's; order, parallelism and stopping.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use broker::store::{Settlement, Stage};
use tokio::sync::Semaphore;

use super::subscriber::{Subscriber, answer};
use super::world::{World, at_once, event, event_about, eventually, one, trigger};
use crate::trigger::Target;

/// A subscriber that answers one call for each permit.
async fn gated() -> (Subscriber, Arc<Semaphore>) {
    let gate = Arc::new(Semaphore::new(0));
    let permits = Arc::clone(&gate);
    let subscriber = Subscriber::working(move |_| {
        let permits = Arc::clone(&permits);
        Box::pin(async move {
            permits.acquire().await.unwrap().forget();
            answer(200, "")
        })
    })
    .await;
    (subscriber, gate)
}

#[tokio::test]
async fn a_hung_subscriber_holds_only_its_own_window() {
    let hung = Subscriber::hung().await;
    let well = Subscriber::content().await;
    let mut slow = trigger("hung", hung.url());
    slow.parallelism = at_once(4);
    let world = World::with(vec![slow, trigger("well", well.url())]).await;
    for id in 0..200 {
        world.send(event(&id.to_string())).await;
    }
    world.drained("well").await;
    assert_eq!(well.calls().len(), 200);
    eventually("the window is full", || hung.calls().len() == 4).await;
    assert_eq!(world.store.backlog("default/hung"), 200);
    assert!(
        (world.metric(r#"dispatch_in_flight{namespace="default",trigger="hung"}"#) - 4.0).abs()
            < 0.1
    );
}

#[tokio::test]
async fn no_more_attempts_at_once_than_allowed() {
    let (subscriber, gate) = gated().await;
    let mut world = one(&subscriber, |trigger| trigger.parallelism = at_once(3)).await;
    for id in 0..100 {
        world.send(event(&id.to_string())).await;
    }
    eventually("three are under way", || subscriber.calls().len() == 3).await;
    gate.add_permits(5);
    eventually("five ended", || subscriber.ended().len() == 5).await;
    eventually("three are under way", || subscriber.calls().len() == 8).await;
    assert_eq!(subscriber.most_at_once(), 3);
    world.change(|trigger| trigger.parallelism = at_once(50)).await;
    eventually("fifty are under way", || subscriber.calls().len() == 55).await;
    gate.add_permits(100);
    world.drained("t").await;
    assert_eq!(subscriber.most_at_once(), 50);
    assert_eq!(subscriber.calls().len(), 100);
}

#[tokio::test]
async fn a_failing_event_holds_up_its_own_key_only() {
    let failures = AtomicUsize::new(0);
    let subscriber = Subscriber::answering(move |call| {
        let fail = call.id() == "a1" && failures.fetch_add(1, Ordering::SeqCst) < 3;
        answer(if fail { 503 } else { 200 }, "")
    })
    .await;
    let world = one(&subscriber, |trigger| {
        trigger.order_by_key = true;
        trigger.delivery.retry = 5;
        trigger.delivery.backoff_delay = Duration::from_millis(40);
    })
    .await;
    for (id, key) in [("a1", "a"), ("a2", "a"), ("b1", "b"), ("b2", "b"), ("a3", "a"), ("b3", "b")]
    {
        world.send(event_about(id, key)).await;
    }
    world.drained("t").await;
    let ids = subscriber.ids();
    let of = |key: char| ids.iter().filter(|id| id.starts_with(key)).cloned().collect::<Vec<_>>();
    assert_eq!(of('a'), ["a1", "a1", "a1", "a1", "a2", "a3"]);
    assert_eq!(of('b'), ["b1", "b2", "b3"]);
    let last_b = ids.iter().position(|id| id == "b3").unwrap();
    let second_a = ids.iter().position(|id| id == "a2").unwrap();
    assert!(last_b < second_a, "the other key did not wait: {ids:?}");
}

#[tokio::test]
async fn what_grows_too_old_behind_a_failing_event_expires() {
    let subscriber =
        Subscriber::answering(|call| answer(if call.id() == "a1" { 503 } else { 200 }, "")).await;
    let world = one(&subscriber, |trigger| {
        trigger.order_by_key = true;
        trigger.max_age = Some(Duration::from_millis(150));
        trigger.delivery.retry = 1000;
        trigger.delivery.backoff_delay = Duration::from_secs(3600);
    })
    .await;
    for (id, key) in [("a1", "a"), ("a2", "a"), ("b1", "b")] {
        world.send(event_about(id, key)).await;
    }
    world.drained("t").await;
    let mut ids = subscriber.ids();
    ids.sort();
    assert_eq!(ids, ["a1", "b1"], "a2 waited too long");
    let settled = world.store.settled();
    let expired = settled.iter().filter(|settled| {
        settled.outcome.as_ref().is_some_and(|outcome| outcome.stage == Stage::Expired)
    });
    assert_eq!(expired.count(), 2, "and the record says so of both");
    let expired = r#"dispatch_attempts_total{namespace="default",trigger="t",result="expired"}"#;
    assert!((world.metric(expired) - 2.0).abs() < f64::EPSILON);
}

#[tokio::test]
async fn a_poison_event_ends_in_the_sink_and_its_lane_goes_on() {
    let subscriber =
        Subscriber::answering(|call| answer(if call.id() == "2" { 500 } else { 200 }, "")).await;
    let sink = Subscriber::content().await;
    let dead_letter = Some(Target::new(sink.url()));
    let world = one(&subscriber, |trigger| {
        trigger.order_by_key = true;
        trigger.delivery.retry = 2;
        trigger.delivery.dead_letter = dead_letter;
    })
    .await;
    for id in 1..=4 {
        world.send(event_about(&id.to_string(), "k")).await;
    }
    world.drained("t").await;
    assert_eq!(subscriber.ids(), ["1", "2", "2", "2", "3", "4"]);
    assert_eq!(sink.ids(), ["2"]);
}

#[tokio::test]
async fn ordered_events_without_a_key_do_not_wait_for_each_other() {
    let (subscriber, gate) = gated().await;
    let world = one(&subscriber, |trigger| trigger.order_by_key = true).await;
    for id in 0..10 {
        world.send(event(&id.to_string())).await;
    }
    eventually("all are under way", || subscriber.calls().len() == 10).await;
    gate.add_permits(10);
    world.drained("t").await;
}

#[tokio::test]
async fn order_survives_new_options_under_way() {
    let (subscriber, gate) = gated().await;
    let mut world = one(&subscriber, |trigger| trigger.order_by_key = true).await;
    for id in 1..=5 {
        world.send(event_about(&id.to_string(), "k")).await;
    }
    eventually("the first is under way", || subscriber.calls().len() == 1).await;
    world.change(|trigger| trigger.max_backlog = Some(1000)).await;
    gate.add_permits(100);
    world.drained("t").await;
    assert_eq!(subscriber.ids(), ["1", "2", "3", "4", "5"]);
}

#[tokio::test]
async fn a_blocked_key_fills_at_most_the_window() {
    let subscriber =
        Subscriber::answering(|call| answer(if call.id() == "0" { 503 } else { 200 }, "")).await;
    let world = one(&subscriber, |trigger| {
        trigger.order_by_key = true;
        trigger.delivery.retry = 1;
        trigger.delivery.backoff_delay = Duration::from_secs(3600);
    })
    .await;
    for id in 0..1500 {
        world.send(event_about(&id.to_string(), "k")).await;
    }
    world.send(event_about("other", "o")).await;
    eventually("the head failed", || world.store.attempts("default/t") == Some(1)).await;
    world.dispatcher.stop().await;
    let released = world
        .store
        .settled()
        .iter()
        .filter(|settled| settled.settlement == Settlement::Release)
        .count();
    assert!(released <= 1024, "{released} deliveries were held");
    assert_eq!(subscriber.ids(), ["0"]);
}

#[tokio::test]
async fn a_paused_trigger_holds_nothing_and_loses_nothing() {
    let subscriber = Subscriber::content().await;
    let mut world = one(&subscriber, |trigger| trigger.paused = true).await;
    for id in 0..10 {
        world.send(event(&id.to_string())).await;
    }
    assert_eq!(world.store.backlog("default/t"), 10);
    assert!(world.store.settled().is_empty() && subscriber.calls().is_empty());
    world.change(|trigger| trigger.paused = false).await;
    world.drained("t").await;
    assert_eq!(subscriber.calls().len(), 10);
}

#[tokio::test]
async fn pausing_lets_attempts_under_way_end() {
    let (subscriber, gate) = gated().await;
    let mut world = one(&subscriber, |trigger| {
        trigger.parallelism = at_once(2);
        trigger.order_by_key = true;
    })
    .await;
    for id in 0..6 {
        world.send(event_about(&id.to_string(), if id % 2 == 0 { "a" } else { "b" })).await;
    }
    eventually("two are under way", || subscriber.calls().len() == 2).await;
    world.change(|trigger| trigger.paused = true).await;
    gate.add_permits(100);
    eventually("the two ended", || world.store.backlog("default/t") == 4).await;
    assert_eq!(subscriber.calls().len(), 2);
    world.change(|trigger| trigger.paused = false).await;
    world.drained("t").await;
    let ids = subscriber.ids();
    let evens: Vec<&String> = ids.iter().filter(|id| id.parse::<u32>().unwrap() % 2 == 0).collect();
    assert_eq!(evens, ["0", "2", "4"]);
}

#[tokio::test]
async fn resuming_does_not_wait_for_attempts_from_before() {
    let hung = Subscriber::hung().await;
    let well = Subscriber::content().await;
    let mut world = one(&hung, |_| {}).await;
    world.send(event("1")).await;
    eventually("it is under way", || hung.calls().len() == 1).await;
    world.change(|trigger| trigger.paused = true).await;
    world
        .change(|trigger| {
            trigger.paused = false;
            trigger.subscriber = Target::new(well.url());
        })
        .await;
    world.send(event("2")).await;
    eventually("the next one arrives", || well.ids() == ["2"]).await;
}

#[tokio::test]
async fn stopping_gives_back_what_is_under_way_and_makes_no_dead_letters() {
    let hung = Subscriber::hung().await;
    let sink = Subscriber::content().await;
    let dead_letter = Some(Target::new(sink.url()));
    let world = one(&hung, |trigger| {
        trigger.parallelism = at_once(50);
        trigger.delivery.dead_letter = dead_letter;
    })
    .await;
    for id in 0..100 {
        world.send(event(&id.to_string())).await;
    }
    eventually("the window is full", || hung.calls().len() == 50).await;
    world.dispatcher.stop().await;
    assert!(sink.calls().is_empty());
    assert!(world.store.settled().iter().all(|settled| settled.settlement == Settlement::Release));
    assert_eq!(world.store.backlog("default/t"), 100);
    assert_eq!(world.store.attempts("default/t"), Some(0), "no attempt is counted");
    assert!(world.store.parked("default/t").is_empty());
}

#[tokio::test]
async fn stopping_waits_for_answers_that_come_in_time() {
    let (subscriber, gate) = gated().await;
    let world = one(&subscriber, |_| {}).await;
    for id in 0..40 {
        world.send(event(&id.to_string())).await;
    }
    eventually("all are under way", || subscriber.calls().len() == 40).await;
    tokio::join!(world.dispatcher.stop(), async { gate.add_permits(40) });
    assert_eq!(world.store.backlog("default/t"), 0);
}
