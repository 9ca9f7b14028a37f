//! What a crash may and may not do.

use super::*;

#[tokio::test]
async fn what_was_accepted_before_anything_was_routed_is_delivered() {
    let bench = Bench::new(quiet());
    let subscription = bench.all("default/t");
    bench.append(events(0..50, "a")).await;
    let after = bench.killed(quiet());
    drop(subscription);
    let mut subscription = after.all("default/t");
    assert_eq!(drain(&mut subscription, 50).await, (0..50).collect::<Vec<_>>());
    nothing(&mut subscription).await;
}

#[tokio::test]
async fn what_was_settled_is_not_delivered_again() {
    let bench = Bench::new(quiet());
    let mut subscription = bench.all("default/t");
    bench.append(events(0..100, "a")).await;
    assert_eq!(drain(&mut subscription, 40).await.len(), 40);
    bench.flush();
    let after = bench.killed(quiet());
    let mut again = after.all("default/t");
    assert_eq!(drain(&mut again, 60).await, (40..100).collect::<Vec<_>>());
    nothing(&mut again).await;
}

#[tokio::test]
async fn settlements_are_written_without_being_asked_for() {
    let bench = Bench::new(quiet());
    let mut subscription = bench.all("default/t");
    bench.append(events(0..10, "a")).await;
    drain(&mut subscription, 10).await;
    let grown = || bench.store.engine.scribe.grown();
    let before = grown();
    eventually("the journal grows", || {
        grown() > before || bench.store.engine.desk.take_dirty().is_empty()
    })
    .await;
    let after = bench.killed(quiet());
    let mut again = after.all("default/t");
    after.append(events(10..11, "a")).await;
    assert!(*drain(&mut again, 1).await.first().unwrap() <= 10);
}

#[tokio::test]
async fn attempts_parked_letters_and_due_times_survive() {
    let bench = Bench::new(quiet());
    let mut subscription = bench.all("default/t");
    bench.append(events(0..3, "a")).await;
    bench.routed().await;
    let mut deliveries = Vec::new();
    while deliveries.len() < 3 {
        deliveries.extend(next(&mut subscription, 3).await);
    }
    deliveries.pop().unwrap().park(failure("hopeless"));
    deliveries.pop().unwrap().retry(soon(3_600_000), failure("much later"));
    deliveries.pop().unwrap().retry(soon(1), failure("once more"));
    bench.flush();
    for options in [quiet(), busy()] {
        let after = bench.killed(options);
        let mut again = after.all("default/t");
        let delivery = next(&mut again, 3).await.remove(0);
        assert_eq!((id(&delivery), delivery.attempts), (0, 1));
        assert_eq!(delivery.last.as_ref().unwrap().reason, "once more");
        nothing(&mut again).await;
        let parked = after.store.parked(&ParkedSelection::default(), None, 9).unwrap();
        assert_eq!(
            (parked.len(), parked[0].last.reason.as_str(), parked[0].attempts),
            (1, "hopeless", 1)
        );
        assert_eq!(parked[0].last.body, b"busy");
    }
}

#[tokio::test]
async fn an_orderly_restart_repeats_nothing() {
    let mut bench = Bench::new(quiet());
    for round in 0..4 {
        let mut subscription = bench.all("default/t");
        bench.append(events(round * 10..round * 10 + 10, "a")).await;
        let from = round * 10 - round * 2;
        assert_eq!(drain(&mut subscription, 8).await, (from..from + 8).collect::<Vec<_>>());
        drop(subscription);
        bench = bench.reopened(quiet());
    }
    assert_eq!(bench.backlog("default/t"), 8);
}

#[tokio::test]
async fn events_wait_for_the_selector_of_their_topic_across_crashes_and_cleaning() {
    let bench = Bench::new(busy());
    drop(bench.all("default/t"));
    // Nobody subscribes or routes in this process, and the log is cleaned all the time.
    let bench = bench.reopened(busy());
    for start in (0..2000).step_by(200) {
        bench.append(events(start..start + 200, "a")).await;
    }
    bench.routed().await;
    bench.store.engine.snapshot().unwrap();
    let bench = bench.killed(busy());
    bench.append(events(2000..2010, "a")).await;
    let mut subscription = bench.all("default/t");
    assert_eq!(drain(&mut subscription, 2010).await, (0..2010).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_crash_between_snapshot_and_routing_settles_nothing_twice() {
    let bench = Bench::new(quiet());
    let mut subscription = bench.all("default/t");
    bench.append(events(0..50, "a")).await;
    drain(&mut subscription, 25).await;
    bench.flush();
    // Opened, but nobody routes: the snapshot is taken before anything is decided again.
    let bench = bench.killed(quiet());
    bench.store.engine.snapshot().unwrap();
    let bench = bench.killed(quiet());
    bench.store.engine.snapshot().unwrap();
    let bench = bench.killed(busy());
    let mut subscription = bench.all("default/t");
    assert_eq!(drain(&mut subscription, 25).await, (25..50).collect::<Vec<_>>());
    nothing(&mut subscription).await;
    eventually("what the journal settled is forgotten", || {
        bench
            .store
            .engine
            .durables()
            .iter()
            .all(|durable| durable.with(|ledger| ledger.book().settled().is_empty()))
    })
    .await;
}

#[tokio::test]
async fn a_start_in_the_past_survives_a_crash_before_it_took_effect() {
    let options = EmbeddedOptions { history_bytes: 1 << 30, ..quiet() };
    let bench = Bench::new(options.clone());
    bench.append(events(0..30, "a")).await;
    let start = SubscribeOptions { start: Start::Earliest, ..SubscribeOptions::default() };
    let subscription = bench.subscribe_with("default/t", start);
    drop(subscription);
    let after = bench.killed(options);
    // The second opening names another start: it matters only the first time.
    let mut subscription = after.all("default/t");
    after.append(events(30..35, "a")).await;
    assert_eq!(drain(&mut subscription, 35).await, (0..35).collect::<Vec<_>>());
    nothing(&mut subscription).await;
}

#[tokio::test]
async fn a_finished_search_is_not_repeated() {
    let options = EmbeddedOptions { history_bytes: 1 << 30, ..quiet() };
    let bench = Bench::new(options.clone());
    bench.append(events(0..30, "a")).await;
    let start = SubscribeOptions { start: Start::Earliest, ..SubscribeOptions::default() };
    let mut subscription = bench.subscribe_with("default/t", start);
    bench.route(&[(&*subscription, "*")]);
    assert_eq!(drain(&mut subscription, 20).await.len(), 20);
    bench.flush();
    let after = bench.killed(options);
    let mut subscription = after.all("default/t");
    assert_eq!(drain(&mut subscription, 10).await, (20..30).collect::<Vec<_>>());
    nothing(&mut subscription).await;
}

#[tokio::test]
async fn removed_things_stay_removed() {
    let bench = Bench::new(quiet());
    let subscription = bench.all("default/t");
    bench.append(events(0..5, "a")).await;
    bench.store.unsubscribe(&topic(), "default/t").unwrap();
    drop(subscription);
    let other = Topic::new("default", "other");
    bench.store.declare(&other, TopicOptions { budget: 5 }).unwrap();
    bench.store.remove(&other).unwrap();
    let after = bench.killed(quiet());
    assert!(after.store.subscriptions().is_empty());
    assert_eq!(after.store.topics().len(), 1);
    let mut subscription = after.all("default/t");
    after.append(events(5..6, "a")).await;
    assert_eq!(
        drain(&mut subscription, 1).await,
        [5],
        "a new subscription of an old name starts anew"
    );
}

#[tokio::test]
async fn redriven_purged_and_replayed_events_survive() {
    let options = EmbeddedOptions { history_bytes: 1 << 30, ..quiet() };
    let bench = Bench::new(options.clone());
    let mut subscription = bench.all("default/t");
    bench.append(events(0..4, "a")).await;
    for _ in 0..3 {
        next(&mut subscription, 1).await.remove(0).park(failure("no"));
    }
    drain(&mut subscription, 1).await;
    let only =
        |id: &str| ParkedSelection { event_id: Some(id.to_owned()), ..ParkedSelection::default() };
    assert_eq!(bench.store.redrive(&only("0")).unwrap(), 1);
    assert_eq!(bench.store.purge(&only("1")).unwrap(), 1);
    assert_eq!(bench.store.replay(&topic(), "default/t", Start::Position(3)).unwrap(), 1);
    let after = bench.killed(options);
    let mut again = after.all("default/t");
    let mut ids = drain(&mut again, 2).await;
    ids.sort_unstable();
    assert_eq!(ids, [0, 3]);
    assert_eq!(after.store.parked(&ParkedSelection::default(), None, 9).unwrap().len(), 1);
}

#[tokio::test]
async fn kills_at_any_moment_lose_nothing() {
    let bench = Bench::new(EmbeddedOptions { segment_bytes: 16 << 10, ..quiet() });
    let mut subscription = bench.all("default/t");
    let mut acked = BTreeSet::new();
    for round in 0..20 {
        bench.append(events(round * 20..round * 20 + 20, "a")).await;
        for delivery in next(&mut subscription, 15).await {
            acked.insert(id(&delivery));
            delivery.ack(Some(success()));
        }
        if round % 3 == 0 {
            bench.store.engine.snapshot().unwrap();
        }
        let after = bench.killed(quiet());
        let mut again = after.all("default/t");
        let mut seen = BTreeSet::new();
        let missing = |seen: &BTreeSet<usize>| {
            (0..round * 20 + 20).any(|id| !acked.contains(&id) && !seen.contains(&id))
        };
        while missing(&seen) {
            seen.extend(drain(&mut again, 1).await);
        }
    }
}
