//! Watches: what they see, what they miss, and what they cost.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures_util::FutureExt;
use tokio::task::JoinSet;

use super::{
    Change, Event, EventKind, Expected, Key, Options, Store, delete, gadgets, in_memory, put, seen,
    text, widget, widgets, within,
};
use crate::store::{Expired, Watch};

#[tokio::test]
async fn a_watch_sees_every_change_after_its_version_with_what_was_before() {
    let store = in_memory(Options::default());
    let key = widget("default", "one");
    put(&store, &key, Expected::Absent, "a").await.unwrap();
    put(&store, &key, Expected::Version(2), "b").await.unwrap();
    delete(&store, &key, 3).await.unwrap();
    let mut watch = store.watch(widgets(), None, 1).unwrap();
    let events = within(watch.next()).await.unwrap();
    let name = "one".to_owned();
    let kinds = [EventKind::Added, EventKind::Modified, EventKind::Deleted];
    let expected: Vec<_> =
        kinds.into_iter().zip(2..).map(|(kind, at)| (kind, name.clone(), at)).collect();
    assert_eq!(seen(&events), expected);
    let previous = |event: &Arc<Event>| event.previous.as_ref().map(|previous| previous.version);
    assert_eq!(events.iter().map(previous).collect::<Vec<_>>(), [None, Some(2), Some(3)]);
    let mut late = store.watch(widgets(), None, 3).unwrap();
    assert_eq!(seen(&within(late.next()).await.unwrap()), expected[2..]);
}

#[tokio::test]
async fn a_watch_of_the_future_waits_for_it() {
    let store = in_memory(Options::default());
    let mut watch = store.watch(widgets(), None, 3).unwrap();
    put(&store, &widget("default", "one"), Expected::Absent, "a").await.unwrap();
    put(&store, &widget("default", "two"), Expected::Absent, "a").await.unwrap();
    assert!(watch.next().now_or_never().is_none());
    assert_eq!(watch.version(), 3);
    put(&store, &widget("default", "three"), Expected::Absent, "a").await.unwrap();
    let events = within(watch.next()).await.unwrap();
    assert_eq!(seen(&events), [(EventKind::Added, "three".to_owned(), 4)]);
}

#[tokio::test]
async fn a_watch_wakes_for_its_kind_and_namespace_alone_and_its_version_follows_all() {
    let store = in_memory(Options::default());
    let mut watch = store.watch(widgets(), Some("a"), 1).unwrap();
    put(&store, &widget("b", "other"), Expected::Absent, "x").await.unwrap();
    let gadget = Key { resource: gadgets(), ..widget("a", "other") };
    put(&store, &gadget, Expected::Absent, "x").await.unwrap();
    assert!(watch.next().now_or_never().is_none());
    assert_eq!(watch.version(), 3);
    put(&store, &gadget, Expected::Version(3), "y").await.unwrap();
    assert_eq!(watch.version(), 4, "nobody asked for more, and there was nothing to see");
    put(&store, &widget("a", "one"), Expected::Absent, "x").await.unwrap();
    put(&store, &gadget, Expected::Version(4), "z").await.unwrap();
    assert_eq!(watch.version(), 4, "version 5 was not seen yet");
    assert_eq!(
        seen(&within(watch.next()).await.unwrap()),
        [(EventKind::Added, "one".to_owned(), 5)]
    );
    assert_eq!(watch.version(), 6);
}

#[tokio::test]
async fn a_watch_that_falls_behind_the_history_is_told_so() {
    let store = in_memory(Options { history_events: 4, ..Options::default() });
    let key = widget("default", "one");
    let mut watch = store.watch(widgets(), None, 1).unwrap();
    let mut version = put(&store, &key, Expected::Absent, "0").await.unwrap().version;
    for _ in 0..4 {
        version = put(&store, &key, Expected::Version(version), "n").await.unwrap().version;
    }
    assert_eq!(within(watch.next()).await.unwrap_err(), Expired { oldest: 2 });
    assert_eq!(store.watch(widgets(), None, 1).unwrap_err(), Expired { oldest: 2 });
    let mut kept = store.watch(widgets(), None, 2).unwrap();
    assert_eq!(within(kept.next()).await.unwrap().len(), 4);
}

#[tokio::test]
async fn a_busy_kind_expires_no_watch_of_a_quiet_one() {
    let store = in_memory(Options { history_events: 4, ..Options::default() });
    let mut watch = store.watch(gadgets(), None, 1).unwrap();
    for n in 0..20 {
        put(&store, &widget("default", &n.to_string()), Expected::Absent, "x").await.unwrap();
    }
    assert_eq!(watch.version(), 21);
    let gadget = Key { resource: gadgets(), ..widget("a", "one") };
    put(&store, &gadget, Expected::Absent, "x").await.unwrap();
    assert_eq!(
        seen(&within(watch.next()).await.unwrap()),
        [(EventKind::Added, "one".to_owned(), 22)]
    );
}

#[tokio::test]
async fn the_history_is_bounded_in_bytes_and_keeps_the_newest_however_large() {
    let store = in_memory(Options { history_bytes: 1_000, ..Options::default() });
    let large = "x".repeat(400);
    for n in 0..5 {
        put(&store, &widget("default", &n.to_string()), Expected::Absent, &large).await.unwrap();
    }
    let oldest = store.watch(widgets(), None, 1).unwrap_err().oldest;
    assert_eq!(oldest, 4, "two of 400 bytes fit");
    let mut watch = store.watch(widgets(), None, 6).unwrap();
    put(&store, &widget("default", "huge"), Expected::Absent, &"x".repeat(5_000)).await.unwrap();
    assert_eq!(within(watch.next()).await.unwrap().len(), 1);
}

/// Follows a watch up to `last` and checks that it was fed every change once, in order.
async fn follow(mut watch: Watch, last: u64) -> Vec<Arc<Event>> {
    let mut events: Vec<Arc<Event>> = Vec::new();
    while events.last().map_or(0, |event| event.record.version) < last {
        let next = within(watch.next()).await.unwrap();
        assert!(!next.is_empty());
        events.extend(next);
    }
    assert!(events.is_sorted_by(|a, b| a.record.version < b.record.version));
    let mut state: BTreeMap<&str, u64> = BTreeMap::new();
    for event in &events {
        let (name, version) = (event.record.key.name.as_str(), event.record.version);
        let before = if event.kind == EventKind::Deleted {
            state.remove(name)
        } else {
            state.insert(name, version)
        };
        assert_eq!(before, event.previous.as_ref().map(|previous| previous.version), "{name}");
        assert_eq!(before.is_none(), event.kind == EventKind::Added);
    }
    events
}

/// Puts, changes and deletes an object of its own, over and over.
async fn churn(store: Arc<Store>, name: String, rounds: usize) -> u64 {
    let key = widget("default", &name);
    let mut version = 0;
    for _ in 0..rounds {
        version = put(&store, &key, Expected::Absent, "a").await.unwrap().version;
        version = put(&store, &key, Expected::Version(version), "b").await.unwrap().version;
        version = delete(&store, &key, version).await.unwrap().version;
    }
    version
}

#[tokio::test(flavor = "multi_thread")]
async fn watches_miss_nothing_and_repeat_nothing_under_concurrent_writers() {
    const WRITERS: usize = 16;
    const ROUNDS: usize = 40;
    let store = in_memory(Options::default());
    let last = u64::try_from(WRITERS * ROUNDS * 3 + 1).unwrap();
    let mut watches = JoinSet::new();
    for _ in 0..4 {
        watches.spawn(follow(store.watch(widgets(), None, 1).unwrap(), last));
    }
    let mut slow = store.watch(widgets(), None, 1).unwrap();
    let mut writers = JoinSet::new();
    for n in 0..WRITERS {
        writers.spawn(churn(Arc::clone(&store), n.to_string(), ROUNDS));
    }
    while let Some(version) = writers.join_next().await {
        assert!(version.unwrap() <= last);
        let late = store.watch(widgets(), None, 1).unwrap();
        watches.spawn(follow(late, last));
    }
    while let Some(events) = watches.join_next().await {
        let versions: Vec<u64> = events.unwrap().iter().map(|event| event.record.version).collect();
        assert_eq!(versions, (2..=last).collect::<Vec<_>>());
    }
    assert_eq!(store.version(), last);
    assert!(within(slow.next()).await.unwrap().len() > 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watch_behind_busy_writers_expires_instead_of_skipping() {
    let store = in_memory(Options { history_events: 50, ..Options::default() });
    let mut writers = JoinSet::new();
    for n in 0..8 {
        writers.spawn(churn(Arc::clone(&store), n.to_string(), 50));
    }
    let mut watch = store.watch(widgets(), None, store.version()).unwrap();
    let (mut next, mut expired) = (watch.version() + 1, 0);
    while next <= 8 * 50 * 3 + 1 {
        match within(watch.next()).await {
            Ok(events) => {
                for event in events {
                    assert_eq!(event.record.version, next);
                    next += 1;
                }
            }
            Err(Expired { oldest }) => {
                assert!(oldest >= next, "{oldest} was not seen at {next}");
                expired += 1;
                watch = store.watch(widgets(), None, store.version()).unwrap();
                next = watch.version() + 1;
            }
        }
        if next % 7 == 0 {
            // Falls behind on purpose: until the history has moved on, or nobody writes any more.
            let reached = next + 60;
            super::eventually(|| store.version() >= reached.min(8 * 50 * 3 + 1)).await;
        }
    }
    assert!(expired > 0);
    while let Some(done) = writers.join_next().await {
        done.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_list_and_a_watch_since_its_version_make_up_the_state() {
    let store = in_memory(Options::default());
    let mut writers = JoinSet::new();
    for n in 0..4 {
        let (store, key) = (Arc::clone(&store), widget("default", &n.to_string()));
        writers.spawn(async move {
            let mut expected = Expected::Absent;
            for _ in 0..100 {
                let change = Change::Put(text("x"));
                let record = within(store.write(key.clone(), expected, change)).await.unwrap();
                expected = Expected::Version(record.version);
            }
        });
    }
    for _ in 0..50 {
        let listing = store.list(widgets(), None, None, 0);
        let newest = listing.records.iter().map(|record| record.version).max().unwrap_or(1);
        assert_eq!(newest, listing.version, "every write left an object");
        let mut watch = store.watch(widgets(), None, listing.version).unwrap();
        if let Some(Ok(events)) = watch.next().now_or_never() {
            assert_eq!(events[0].record.version, listing.version + 1);
        }
        tokio::task::yield_now().await;
    }
    while let Some(done) = writers.join_next().await {
        done.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn two_hundred_watches_see_ten_thousand_objects_change() {
    const WATCHES: usize = 200;
    const OBJECTS: u64 = 10_000;
    let store = in_memory(Options { queue: 16_384, ..Options::default() });
    let mut watches = JoinSet::new();
    for _ in 0..WATCHES {
        let mut watch = store.watch(widgets(), None, 1).unwrap();
        watches.spawn(async move {
            let mut next = 2;
            while next <= OBJECTS + 1 {
                for event in within(watch.next()).await.unwrap() {
                    assert_eq!(event.record.version, next);
                    next += 1;
                }
            }
        });
    }
    let mut writes = JoinSet::new();
    for n in 0..OBJECTS {
        let store = Arc::clone(&store);
        let key = widget("default", &n.to_string());
        writes.spawn(async move { put(&store, &key, Expected::Absent, "x").await.unwrap() });
    }
    while let Some(done) = writes.join_next().await {
        done.unwrap();
    }
    while let Some(done) = watches.join_next().await {
        done.unwrap();
    }
    assert_eq!(store.list(widgets(), None, None, 0).records.len(), 10_000);
}
