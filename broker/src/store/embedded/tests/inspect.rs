//! What a person asks and does.

use super::*;
use crate::store::Settlement;

async fn park_all(subscription: &mut Box<dyn Subscription>, count: usize) {
    let mut parked = 0;
    while parked < count {
        for delivery in next(subscription, count - parked).await {
            delivery.park(failure("dead"));
            parked += 1;
        }
    }
}

#[tokio::test]
async fn parked_letters_are_listed_page_by_page() {
    let bench = Bench::new(quiet());
    let (mut a, mut b) = (bench.subscribe("default/a"), bench.subscribe("default/b"));
    bench.route(&[(&*a, "*"), (&*b, "*")]);
    bench.append(events(0..10, "a")).await;
    park_all(&mut a, 10).await;
    park_all(&mut b, 10).await;
    let all = ParkedSelection::default();
    let mut after = None;
    let mut seen = Vec::new();
    loop {
        let page = bench.store.parked(&all, after, 7).unwrap();
        assert!(page.len() <= 7);
        let Some(last) = page.last() else { break };
        after = Some(last.position);
        seen.extend(page.into_iter().map(|letter| (letter.position, letter.subscription)));
    }
    assert_eq!(seen.len(), 20);
    assert!(seen.is_sorted());
    let only = ParkedSelection {
        subscription: Some("default/b".to_owned()),
        ..ParkedSelection::default()
    };
    assert_eq!(bench.store.parked(&only, None, 100).unwrap().len(), 10);
    let only = ParkedSelection { event_id: Some("4".to_owned()), ..ParkedSelection::default() };
    let letters = bench.store.parked(&only, None, 100).unwrap();
    assert_eq!(letters.iter().map(|letter| letter.event.id()).collect::<Vec<_>>(), ["4", "4"]);
    let position = letters[0].position;
    let only = ParkedSelection { position: Some(position), ..ParkedSelection::default() };
    assert_eq!(bench.store.purge(&only).unwrap(), 2);
    assert_eq!(bench.store.purge(&only).unwrap(), 0);
}

#[tokio::test]
async fn redriven_letters_start_afresh() {
    let bench = Bench::new(quiet());
    let mut subscription = bench.all("default/t");
    bench.append(events(0..3, "a")).await;
    park_all(&mut subscription, 3).await;
    nothing(&mut subscription).await;
    assert_eq!(bench.store.redrive(&ParkedSelection::default()).unwrap(), 3);
    let delivery = next(&mut subscription, 1).await.remove(0);
    assert_eq!((delivery.attempts, delivery.last.clone()), (0, None));
    assert_eq!(bench.store.redrive(&ParkedSelection::default()).unwrap(), 0);
}

#[tokio::test]
async fn an_event_can_be_explained() {
    let bench = Bench::new(quiet());
    let mut subscription = bench.all("default/t");
    bench.append(events(0..2, "a")).await;
    let delivery = next(&mut subscription, 1).await.remove(0);
    let position = delivery.position;
    delivery.retry(soon(0), failure("first"));
    loop {
        let delivery = next(&mut subscription, 1).await.remove(0);
        let found = delivery.position == position;
        delivery.ack(Some(success()));
        if found {
            break;
        }
    }
    let steps = bench.store.steps(position).unwrap();
    assert_eq!(steps.len(), 2);
    assert!(matches!(steps[0].settlement, Settlement::Retry { .. }));
    assert_eq!(steps[0].outcome.as_ref().unwrap().reason, "first");
    assert_eq!(steps[1].settlement, Settlement::Ack);
    let outcome = steps[1].outcome.as_ref().unwrap();
    assert_eq!((outcome.status, outcome.took_ms), (202, 3));
    assert!(steps.iter().all(|step| step.subscription == "default/t"));
    // Still so after a snapshot replaced the journal, and after a restart.
    bench.store.engine.snapshot().unwrap();
    assert_eq!(bench.store.steps(position).unwrap().len(), 2);
    let bench = bench.reopened(quiet());
    assert_eq!(bench.store.steps(position).unwrap().len(), 2);
    assert!(bench.store.steps(999).unwrap().is_empty());
}

#[tokio::test]
async fn a_scan_walks_what_is_kept_until_told_to_stop() {
    let bench = Bench::new(quiet());
    bench.append(events(0..100, "a")).await;
    let walk = |from, most| {
        let mut ids = Vec::new();
        let mut visit = |kept: Kept| {
            ids.push(kept.event.id().to_owned());
            ids.len() < most
        };
        bench.store.scan(from, &mut visit).unwrap();
        ids
    };
    assert_eq!(walk(Start::Earliest, 1000).len(), 100);
    assert_eq!(walk(Start::Position(98), 1000), ["98", "99"]);
    assert_eq!(walk(Start::Position(3), 2), ["3", "4"]);
    assert!(walk(Start::Now, 10).is_empty());
    assert_eq!(walk(Start::Time(SystemTime::UNIX_EPOCH), 1), ["0"]);
}

#[tokio::test]
async fn replay_asks_the_filter_and_leaves_pending_events_alone() {
    let bench = Bench::new(EmbeddedOptions { history_bytes: 1 << 30, ..quiet() });
    let mut subscription = bench.subscribe("default/t");
    bench.route(&[(&*subscription, "a")]);
    bench.append(events(0..4, "a")).await;
    bench.append(events(4..8, "b")).await;
    assert_eq!(drain(&mut subscription, 3).await, [0, 1, 2]);
    bench.routed().await;
    assert_eq!(bench.store.replay(&topic(), "default/t", Start::Earliest).unwrap(), 3);
    let mut ids = drain(&mut subscription, 4).await;
    ids.sort_unstable();
    assert_eq!(ids, [0, 1, 2, 3]);
    nothing(&mut subscription).await;
    let unknown = bench.store.replay(&topic(), "default/x", Start::Earliest);
    assert_eq!(unknown, Err(StoreError::UnknownSubscription("default/x".to_owned())));
}

#[tokio::test]
async fn statuses_tell_how_far_behind_everyone_is() {
    let bench = Bench::new(quiet());
    let mut subscription = bench.all("default/t");
    let before = SystemTime::UNIX_EPOCH + Duration::from_millis(sync::now_ms());
    bench.append(events(0..10, "a")).await;
    bench.routed().await;
    drain(&mut subscription, 3).await;
    park_all(&mut subscription, 1).await;
    let status = bench.status("default/t");
    assert_eq!((status.backlog, status.parked, status.oldest), (6, 1, Some(4)));
    assert!(status.oldest_at.unwrap() >= before);
    let topics = bench.store.topics();
    assert_eq!((topics.len(), topics[0].head), (1, 10));
    assert!(topics[0].kept_bytes > 0);
    drain(&mut subscription, 6).await;
    bench.store.purge(&ParkedSelection::default()).unwrap();
    assert_eq!(bench.store.topics()[0].kept_bytes, 0);
    assert_eq!(bench.store.unhealthy(), None);
}
