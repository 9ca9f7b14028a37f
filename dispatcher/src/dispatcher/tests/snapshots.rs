//! Snapshots: what changed is changed, the rest is left alone.

use std::sync::atomic::Ordering;
use std::time::Duration;

use broker::store::{Settlement, Start, Store, SubscribeOptions, Topic, TopicOptions};

use super::subscriber::{Subscriber, answer};
use super::world::{World, event, event_about, eventually, everything, one, topic, trigger};
use crate::filter::Filter;
use crate::{Problem, TargetError};

fn about(subject: &str) -> Filter {
    Filter::Exact(vec![("subject".into(), subject.into())])
}

#[tokio::test]
async fn the_same_snapshot_again_asks_nothing_of_the_store() {
    let subscriber = Subscriber::content().await;
    let world = one(&subscriber, |_| {}).await;
    assert_eq!(
        world.store.take_calls(),
        ["declare default/mesh", "subscribe default/t", "route default/mesh"]
    );
    world.apply().await;
    assert!(world.store.take_calls().is_empty());
}

#[tokio::test]
async fn a_changed_address_takes_effect_without_a_new_subscription() {
    let (before, after) = (Subscriber::content().await, Subscriber::content().await);
    let mut world = one(&before, |_| {}).await;
    world.send(event("1")).await;
    world.drained("t").await;
    world.store.take_calls();
    world.change(|trigger| trigger.subscriber.url = after.url()).await;
    world.send(event("2")).await;
    world.drained("t").await;
    assert_eq!((before.ids(), after.ids()), (vec!["1".to_owned()], vec!["2".to_owned()]));
    assert!(world.store.take_calls().is_empty());
}

#[tokio::test]
async fn a_changed_filter_keeps_the_place_and_is_asked_again_for_the_backlog() {
    let subscriber = Subscriber::content().await;
    let mut world = one(&subscriber, |trigger| trigger.paused = true).await;
    world.send(event_about("1", "old")).await;
    world.send(event_about("2", "new")).await;
    world.store.take_calls();
    world.change(|trigger| trigger.filter = about("new")).await;
    assert_eq!(world.store.take_calls(), ["route default/mesh"]);
    world.send(event_about("3", "old")).await;
    world.send(event_about("4", "new")).await;
    world.change(|trigger| trigger.paused = false).await;
    world.drained("t").await;
    let mut ids = subscriber.ids();
    ids.sort();
    assert_eq!(ids, ["2", "4"]);
    let dropped = world
        .store
        .settled()
        .into_iter()
        .filter(|settled| settled.outcome.is_none())
        .collect::<Vec<_>>();
    assert_eq!(dropped.len(), 1);
    assert_eq!(dropped[0].settlement, Settlement::Ack);
}

#[tokio::test]
async fn changed_reading_options_need_a_new_subscription_and_lose_nothing() {
    let subscriber = Subscriber::content().await;
    let mut world = one(&subscriber, |_| {}).await;
    world.send(event("1")).await;
    world.store.take_calls();
    world.change(|trigger| trigger.max_age = Some(Duration::from_secs(60))).await;
    assert_eq!(world.store.take_calls(), ["subscribe default/t"]);
    world.change(|trigger| trigger.order_by_key = true).await;
    assert_eq!(world.store.take_calls(), ["subscribe default/t"]);
    world.send(event("2")).await;
    world.drained("t").await;
    assert_eq!(subscriber.ids(), ["1", "2"]);
    world.change(|trigger| trigger.start = Start::Earliest).await;
    assert!(world.store.take_calls().is_empty(), "where it started no longer matters");
}

#[tokio::test]
async fn a_trigger_waits_for_its_broker() {
    let subscriber = Subscriber::content().await;
    let mut world = World::empty();
    world.snapshot.triggers.push(trigger("t", subscriber.url()));
    world.apply().await;
    assert!(world.store.take_calls().is_empty());
    let broker = World::with(Vec::new()).await.snapshot.brokers.remove(0);
    world.snapshot.brokers.push(broker);
    world.apply().await;
    world.send(event("1")).await;
    world.drained("t").await;
    assert_eq!(subscriber.ids(), ["1"]);
}

#[tokio::test]
async fn a_trigger_that_is_gone_is_unsubscribed_and_its_attempts_may_end() {
    let hung = Subscriber::hung().await;
    let well = Subscriber::content().await;
    let mut world =
        World::with(vec![trigger("gone", hung.url()), trigger("stays", well.url())]).await;
    world.send(event("1")).await;
    eventually("it is under way", || hung.calls().len() == 1).await;
    world.store.take_calls();
    world.snapshot.triggers.remove(0);
    world.apply().await;
    assert_eq!(world.store.take_calls(), ["route default/mesh", "unsubscribe default/gone"]);
    world.send(event("2")).await;
    world.drained("stays").await;
    assert_eq!(hung.calls().len(), 1);
}

#[tokio::test]
async fn a_broker_that_is_gone_is_removed_and_its_triggers_wait_again() {
    let subscriber = Subscriber::content().await;
    let mut world = one(&subscriber, |_| {}).await;
    world.store.take_calls();
    let broker = world.snapshot.brokers.remove(0);
    world.apply().await;
    assert_eq!(world.store.take_calls(), ["remove default/mesh"]);
    world.snapshot.brokers.push(broker);
    world.apply().await;
    world.send(event("1")).await;
    world.drained("t").await;
    assert_eq!(subscriber.ids(), ["1"]);
}

#[tokio::test]
async fn a_refused_subscription_is_reported_and_tried_again() {
    let subscriber = Subscriber::content().await;
    let world = World::with(Vec::new()).await;
    world.store.refuse_subscriptions.store(1, Ordering::SeqCst);
    let mut snapshot = world.snapshot.clone();
    snapshot.triggers.push(trigger("t", subscriber.url()));
    let error = world.dispatcher.apply(snapshot.clone()).await.unwrap_err();
    assert!(error.is_retryable());
    assert_eq!(error.to_string(), "trigger default/t: subscription default/t is already held");
    world.dispatcher.apply(snapshot).await.unwrap();
    world.send(event("1")).await;
    world.drained("t").await;
    assert_eq!(subscriber.ids(), ["1"]);
}

#[tokio::test]
async fn a_trigger_whose_subscription_is_refused_later_stays_in_the_index() {
    let subscriber = Subscriber::content().await;
    let mut world = one(&subscriber, |_| {}).await;
    world.store.refuse_subscriptions.store(1, Ordering::SeqCst);
    world.snapshot.triggers[0].max_backlog = Some(7);
    world.snapshot.triggers[0].filter = about("new");
    assert!(world.dispatcher.apply(world.snapshot.clone()).await.is_err());
    world.send(event_about("1", "new")).await;
    assert_eq!(world.store.backlog("default/t"), 1, "the event waits for the subscription");
    world.apply().await;
    world.drained("t").await;
    assert_eq!(subscriber.ids(), ["1"]);
}

#[tokio::test]
async fn an_address_that_cannot_be_used_leaves_the_last_good_one_in_force() {
    let subscriber = Subscriber::content().await;
    let mut world = one(&subscriber, |_| {}).await;
    world.snapshot.triggers[0].subscriber.url = http::Uri::from_static("ftp://files.test/");
    for _ in 0..2 {
        let error = world.dispatcher.apply(world.snapshot.clone()).await.unwrap_err();
        assert_eq!(
            error.to_string(),
            "trigger default/t: ftp://files.test/ is not an absolute http or https URL"
        );
        assert!(matches!(error.problems[0], Problem::Target(_, TargetError::Url(_))));
    }
    world.send(event("1")).await;
    world.drained("t").await;
    assert_eq!(subscriber.ids(), ["1"]);
}

#[tokio::test]
async fn a_new_trigger_with_an_unusable_address_keeps_its_events() {
    let subscriber = Subscriber::content().await;
    let mut world = World::with(Vec::new()).await;
    let mut bad = trigger("t", subscriber.url());
    bad.subscriber.ca_certs = Some("nonsense".to_owned());
    world.snapshot.triggers.push(bad);
    assert!(world.dispatcher.apply(world.snapshot.clone()).await.is_err());
    world.send(event("1")).await;
    assert_eq!(world.store.backlog("default/t"), 1);
    world.change(|trigger| trigger.subscriber.ca_certs = None).await;
    world.drained("t").await;
    assert_eq!(subscriber.ids(), ["1"]);
}

#[tokio::test]
async fn a_policy_changed_while_an_event_fails_counts_for_its_next_attempt() {
    let subscriber = Subscriber::answering(|_| answer(500, "")).await;
    let mut world = one(&subscriber, |trigger| trigger.delivery.retry = 1_000_000).await;
    world.send(event("1")).await;
    eventually("it fails", || subscriber.calls().len() > 3).await;
    world.change(|trigger| trigger.delivery.retry = 0).await;
    world.drained("t").await;
    assert_eq!(world.store.parked("default/t").len(), 1);
}

#[tokio::test]
async fn a_stopped_dispatcher_ignores_snapshots() {
    let subscriber = Subscriber::content().await;
    let mut world = one(&subscriber, |_| {}).await;
    world.dispatcher.stop().await;
    world.store.take_calls();
    world.snapshot.triggers.push(trigger("late", subscriber.url()));
    world.apply().await;
    world.dispatcher.stop().await;
    assert!(world.store.take_calls().is_empty());
}

#[tokio::test]
async fn what_was_deleted_while_the_dispatcher_was_away_is_swept() {
    let subscriber = Subscriber::content().await;
    let world = one(&subscriber, |_| {}).await;
    drop(world.store.subscribe(&topic(), "default/old", SubscribeOptions::default()).unwrap());
    world.store.take_calls();
    assert_eq!(world.dispatcher.sweep(&*world.store).await, Ok(1));
    assert_eq!(world.store.take_calls(), ["unsubscribe default/old"]);
    assert_eq!(world.dispatcher.sweep(&*world.store).await, Ok(0));
}

#[tokio::test]
async fn a_broker_that_nothing_declares_keeps_its_events_and_triggers() {
    let subscriber = Subscriber::content().await;
    let world = one(&subscriber, |_| {}).await;
    let other = Topic::new("default", "other");
    world.store.declare(&other, TopicOptions { budget: 1 }).unwrap();
    drop(world.store.subscribe(&other, "default/t", SubscribeOptions::default()).unwrap());
    world.store.take_calls();
    assert_eq!(world.dispatcher.sweep(&*world.store).await, Ok(0));
    assert!(world.store.take_calls().is_empty());
}

#[tokio::test]
async fn what_could_not_be_forgotten_is_tried_again() {
    let subscriber = Subscriber::content().await;
    let mut world = one(&subscriber, |_| {}).await;
    world.store.take_calls();
    world.store.refuse_removals.store(1, Ordering::SeqCst);
    world.snapshot.triggers.clear();
    let error = world.dispatcher.apply(world.snapshot.clone()).await.unwrap_err();
    assert_eq!(error.to_string(), "trigger default/t: the disk is broken");
    world.apply().await;
    world.apply().await;
    let unsubscribe = "unsubscribe default/t";
    assert_eq!(world.store.take_calls(), ["route default/mesh", unsubscribe, unsubscribe]);
    world.store.refuse_removals.store(1, Ordering::SeqCst);
    world.snapshot.brokers.clear();
    let error = world.dispatcher.apply(world.snapshot.clone()).await.unwrap_err();
    assert_eq!(error.to_string(), "broker default/mesh: the disk is broken");
    world.apply().await;
    world.apply().await;
    assert_eq!(world.store.take_calls(), ["remove default/mesh", "remove default/mesh"]);
}

#[tokio::test]
async fn a_trigger_that_is_there_twice_is_refused_and_the_first_stays() {
    let (first, second) = (Subscriber::content().await, Subscriber::content().await);
    let mut world = one(&first, |_| {}).await;
    world.snapshot.triggers.push(trigger("t", second.url()));
    let error = world.dispatcher.apply(world.snapshot.clone()).await.unwrap_err();
    assert_eq!(error.to_string(), "trigger default/t is there twice");
    world.send(event("1")).await;
    world.drained("t").await;
    assert_eq!(first.ids(), ["1"]);
}

#[tokio::test]
async fn triggers_of_one_name_on_two_brokers_are_two() {
    let subscriber = Subscriber::content().await;
    let mut world = one(&subscriber, |_| {}).await;
    world.store.take_calls();
    world.snapshot.triggers[0].broker = Topic::new("other", "mesh");
    world.apply().await;
    assert_eq!(world.store.take_calls(), ["route default/mesh", "unsubscribe default/t"]);
    world.snapshot.triggers[0].broker = topic();
    world.snapshot.triggers[0].filter = everything();
    world.apply().await;
    world.send(event("1")).await;
    world.drained("t").await;
    assert_eq!(subscriber.ids(), ["1"]);
}
