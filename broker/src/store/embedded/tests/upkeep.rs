//! Space, budgets, expiry.

use super::*;

fn log_bytes(bench: &Bench) -> u64 {
    bench.store.engine.log.segments().iter().map(|segment| segment.bytes).sum()
}

#[tokio::test]
async fn a_backlog_of_a_hundred_thousand_is_kept_and_worked_off() {
    let bench = Bench::new(EmbeddedOptions { segment_bytes: 1 << 20, ..busy() });
    let mut subscription = bench.all("default/t");
    for start in (0..100_000).step_by(5000) {
        bench.append(events(start..start + 5000, "a")).await;
    }
    bench.routed().await;
    assert_eq!(bench.backlog("default/t"), 100_000);
    let ids = drain(&mut subscription, 100_000).await;
    assert!(ids.into_iter().eq(0..100_000));
    eventually("what nobody needs is deleted", || log_bytes(&bench) <= 3 << 20).await;
}

#[tokio::test]
async fn a_slow_subscription_costs_what_it_keeps_not_what_everybody_sent() {
    let bench = Bench::new(busy());
    let slow = bench.subscribe("default/slow");
    let mut fast = bench.subscribe("default/fast");
    bench.route(&[(&*slow, "rare"), (&*fast, "*")]);
    for round in 0..100 {
        bench.append(events(round * 100..round * 100 + 99, "common")).await;
        bench.append(vec![event(round * 100 + 99, "rare")]).await;
        drain(&mut fast, 100).await;
    }
    eventually("the log is thinned", || log_bytes(&bench) <= 3 * (64 << 10)).await;
    bench.flush();
    let bench = bench.killed(quiet());
    // What came after the last snapshot is routed again: by the same filter.
    let mut slow = bench.subscribe("default/slow");
    bench.route(&[(&*slow, "rare")]);
    assert_eq!(
        drain(&mut slow, 100).await,
        (0..100).map(|round| round * 100 + 99).collect::<Vec<_>>()
    );
}

#[tokio::test]
async fn a_used_up_budget_names_who_holds_it_and_service_resumes() {
    let bench = Bench::new(quiet());
    bench.store.declare(&topic(), TopicOptions { budget: 20_000 }).unwrap();
    let mut subscription = bench.all("default/greedy");
    let refused = loop {
        match bench.store.append(&topic(), events(0..10, "a")).await {
            Ok(()) => {
                assert!(bench.backlog("default/greedy") < 2000, "the budget is never reached")
            }
            Err(error) => break error,
        }
    };
    assert!(refused.is_retryable());
    let AppendError::Full { reason, retry_after } = refused else { panic!("{refused}") };
    assert!(reason.contains("default/greedy") && reason.contains("20000"), "{reason}");
    assert!((Duration::from_secs(1)..=Duration::from_secs(5)).contains(&retry_after));
    // Another topic is not concerned.
    let other = Topic::new("default", "other");
    bench.store.declare(&other, TopicOptions { budget: 20_000 }).unwrap();
    bench.store.append(&other, events(0..1, "a")).await.unwrap();
    while bench.backlog("default/greedy") > 0 {
        drain(&mut subscription, 1).await;
    }
    let mut taken = false;
    for _ in 0..1000 {
        taken = bench.store.append(&topic(), events(0..1, "a")).await.is_ok();
        if taken {
            break;
        }
        tokio::task::yield_now().await;
    }
    assert!(taken, "service resumes by itself");
}

#[tokio::test]
async fn events_that_keep_moving_use_no_budget() {
    let bench = Bench::new(quiet());
    bench.store.declare(&topic(), TopicOptions { budget: 20_000 }).unwrap();
    let mut subscription = bench.all("default/t");
    for round in 0..100 {
        bench.append(events(round * 20..round * 20 + 20, "a")).await;
        drain(&mut subscription, 20).await;
    }
}

#[tokio::test]
async fn old_events_expire_though_nobody_reads() {
    let bench = Bench::new(busy());
    let options = SubscribeOptions {
        max_age: Some(Duration::from_millis(50)),
        ..SubscribeOptions::default()
    };
    let subscription = bench.subscribe_with("default/t", options);
    bench.route(&[(&*subscription, "*")]);
    bench.append(events(0..2000, "a")).await;
    eventually("all of them expire", || bench.store.metrics().expired.get() == 2000).await;
    assert_eq!(bench.backlog("default/t"), 0);
    let steps = bench.store.steps(7).unwrap();
    assert_eq!(steps[0].outcome.as_ref().unwrap().stage, crate::store::Stage::Expired);
}

#[tokio::test]
async fn a_bounded_backlog_keeps_the_newest() {
    let bench = Bench::new(quiet());
    let options = SubscribeOptions { max_backlog: Some(10), ..SubscribeOptions::default() };
    let mut subscription = bench.subscribe_with("default/t", options);
    bench.route(&[(&*subscription, "*")]);
    bench.append(events(0..500, "a")).await;
    bench.routed().await;
    assert_eq!(drain(&mut subscription, 10).await, (490..500).collect::<Vec<_>>());
    nothing(&mut subscription).await;
}

#[tokio::test]
async fn a_grown_journal_is_replaced_by_a_snapshot() {
    let bench = Bench::new(busy());
    let mut subscription = bench.all("default/t");
    bench.store.engine.desk.want_snapshot();
    bench.store.engine.keeper.ask();
    eventually("a snapshot is taken", || bench.store.metrics().snapshots.get() > 0).await;
    bench.append(events(0..10, "a")).await;
    drain(&mut subscription, 10).await;
    bench.flush();
    let bench = bench.killed(quiet());
    let mut subscription = bench.all("default/t");
    nothing(&mut subscription).await;
}

#[tokio::test]
async fn snapshots_under_load_lose_and_repeat_nothing() {
    let bench = Bench::new(quiet());
    let mut subscription = bench.all("default/t");
    let engine = Arc::clone(&bench.store.engine);
    let stop = Arc::new(AtomicBool::new(false));
    let stopped = Arc::clone(&stop);
    let snapshots = tokio::task::spawn_blocking(move || {
        while !stopped.load(Ordering::Acquire) {
            engine.snapshot().unwrap();
        }
    });
    for round in 0..40 {
        bench.append(events(round * 25..round * 25 + 25, "a")).await;
        drain(&mut subscription, 20).await;
    }
    stop.store(true, Ordering::Release);
    snapshots.await.unwrap();
    bench.flush();
    let bench = bench.killed(quiet());
    let mut subscription = bench.all("default/t");
    assert_eq!(drain(&mut subscription, 200).await, (800..1000).collect::<Vec<_>>());
    nothing(&mut subscription).await;
}
