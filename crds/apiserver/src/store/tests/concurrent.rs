//! Many writers at once: who wins, what shares a commit, and what a commit that hangs holds up.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use futures_util::FutureExt;
use tokio::task::JoinSet;

use super::faulty::{Faulty, Image};
use super::{
    Change, Expected, Options, Record, Store, WriteError, eventually, in_memory, in_room, json, on,
    put, text, widget, widgets, within,
};

/// Counts up an object by compare and set until it has done so `times`.
async fn count_up(store: Arc<Store>, times: usize) -> Vec<(u64, u64)> {
    let key = widget("default", "counter");
    let count =
        |record: &Record| std::str::from_utf8(&record.json).unwrap().parse::<u64>().unwrap();
    let mut done = Vec::new();
    let mut current = store.get(&key);
    while done.len() < times {
        let expected =
            current.as_ref().map_or(Expected::Absent, |one| Expected::Version(one.version));
        let next = current.as_deref().map_or(0, count) + 1;
        let change = Change::Put(Box::new(move |_| next.to_string().into()));
        match within(store.write(key.clone(), expected, change)).await {
            Ok(record) => {
                done.push((record.version, next));
                current = Some(record);
            }
            Err(WriteError::Conflict { current: found }) => {
                let found = found.expect("nobody deletes it");
                assert!(current.is_none_or(|current| found.version > current.version));
                assert!(store.version() >= found.version, "it is not on disk yet");
                current = Some(found);
            }
            Err(other) => panic!("{other}"),
        }
    }
    done
}

#[tokio::test(flavor = "multi_thread")]
async fn of_writers_that_expect_the_same_version_one_wins() {
    const TASKS: usize = 32;
    const TIMES: usize = 25;
    let store = in_memory(Options::default());
    let mut tasks = JoinSet::new();
    for _ in 0..TASKS {
        tasks.spawn(count_up(Arc::clone(&store), TIMES));
    }
    let mut all = BTreeSet::new();
    while let Some(done) = tasks.join_next().await {
        all.extend(done.unwrap());
    }
    // Every count once, in order of version: nothing was overwritten unseen.
    let expected = (1..).take(TASKS * TIMES).map(|count: u64| (count + 1, count));
    assert!(all.into_iter().eq(expected));
}

/// Starts writes of objects "0", "1", … and waits until all of them are queued.
async fn queued(
    store: &Arc<Store>,
    tasks: &mut JoinSet<Result<Arc<Record>, WriteError>>,
    count: usize,
) {
    for n in 0..count {
        let store = Arc::clone(store);
        tasks.spawn(async move {
            put(&store, &widget("default", &n.to_string()), Expected::Absent, "x").await
        });
    }
    eventually(|| waiting(store) == count).await;
}

fn waiting(store: &Store) -> usize {
    store.queue.waiting()
}

#[tokio::test(flavor = "multi_thread")]
async fn writes_that_wait_share_a_sync() {
    let disk = Faulty::new(Image::default(), 1);
    let store = on(&disk, Options::default()).unwrap();
    let before = disk.syncs();
    put(&store, &widget("default", "alone"), Expected::Absent, "x").await.unwrap();
    assert_eq!(disk.syncs() - before, 1);
    disk.hang(true);
    let mut tasks = JoinSet::new();
    let first = Arc::clone(&store);
    tasks.spawn(
        async move { put(&first, &widget("default", "first"), Expected::Absent, "x").await },
    );
    eventually(|| disk.hanging() == 1).await;
    let before = disk.syncs();
    queued(&store, &mut tasks, 100).await;
    disk.hang(false);
    while let Some(done) = tasks.join_next().await {
        done.unwrap().unwrap();
    }
    assert_eq!(disk.syncs() - before, 2, "one sync for the first, one for the hundred");
}

#[tokio::test]
async fn a_write_that_fails_its_check_costs_no_commit() {
    let disk = Faulty::new(Image::default(), 1);
    let store = on(&disk, Options::default()).unwrap();
    put(&store, &widget("default", "one"), Expected::Absent, "x").await.unwrap();
    let before = disk.syncs();
    let answer = put(&store, &widget("default", "one"), Expected::Absent, "x").await;
    assert!(matches!(answer, Err(WriteError::Conflict { .. })), "{answer:?}");
    assert_eq!((disk.syncs(), store.version()), (before, 2));
}

#[tokio::test(flavor = "multi_thread")]
async fn readers_wait_for_no_commit_and_see_none_that_is_not_done() {
    let disk = Faulty::new(Image::default(), 1);
    let store = on(&disk, Options { queue: 2, ..Options::default() }).unwrap();
    let key = widget("default", "one");
    put(&store, &key, Expected::Absent, "a").await.unwrap();
    disk.hang(true);
    let (writing, written) = (Arc::clone(&store), key.clone());
    let mut tasks = JoinSet::new();
    tasks.spawn(async move { put(&writing, &written, Expected::Version(2), "b").await });
    eventually(|| disk.hanging() == 1).await;
    assert_eq!(store.get(&key).unwrap().json, json(2, "a"));
    assert_eq!(store.list(widgets(), None, None, 0).version, 2);
    let mut watch = store.watch(widgets(), None, 2).unwrap();
    assert!(watch.next().now_or_never().is_none());
    queued(&store, &mut tasks, 2).await;
    let refused = put(&store, &widget("default", "more"), Expected::Absent, "x").await;
    assert!(matches!(refused, Err(WriteError::Full)) && refused.unwrap_err().is_retryable());
    disk.hang(false);
    while let Some(done) = tasks.join_next().await {
        done.unwrap().unwrap();
    }
    assert_eq!(within(watch.next()).await.unwrap()[0].record.json, json(3, "b"));
}

#[tokio::test(flavor = "multi_thread")]
async fn writes_of_one_object_that_share_a_commit_are_compared_with_each_other() {
    let disk = Faulty::new(Image::default(), 1);
    let store = on(&disk, Options::default()).unwrap();
    let key = widget("default", "one");
    disk.hang(true);
    let ahead = store.write(widget("default", "ahead"), Expected::Absent, Change::Put(text("x")));
    let mut ahead = std::pin::pin!(ahead);
    assert!(ahead.as_mut().now_or_never().is_none());
    eventually(|| disk.hanging() == 1).await;
    let mut writes = Vec::new();
    for (expected, deletes) in [
        (Expected::Absent, false),
        (Expected::Absent, false),
        (Expected::Version(3), true),
        (Expected::Version(3), false),
        (Expected::Absent, false),
    ] {
        let change = if deletes { Change::Delete(text("gone")) } else { Change::Put(text("x")) };
        let mut write = Box::pin(store.write(key.clone(), expected, change));
        assert!(write.as_mut().now_or_never().is_none());
        writes.push(write);
    }
    disk.hang(false);
    within(ahead).await.unwrap();
    let mut answers = Vec::new();
    for write in writes {
        answers.push(match within(write).await {
            Ok(record) => Ok(record.version),
            Err(WriteError::Conflict { current }) => Err(current.map(|current| current.version)),
            Err(other) => panic!("{other}"),
        });
    }
    assert_eq!(answers, [Ok(3), Err(Some(3)), Ok(4), Err(None), Ok(5)]);
    let mut watch = store.watch(widgets(), None, 2).unwrap();
    let versions: Vec<u64> =
        within(watch.next()).await.unwrap().iter().map(|event| event.record.version).collect();
    assert_eq!(versions, [3, 4, 5]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_queued_when_the_store_closes_is_written_and_who_went_away_is_not() {
    let disk = Faulty::new(Image::default(), 1);
    let store = on(&disk, Options::default()).unwrap();
    disk.hang(true);
    let mut tasks = JoinSet::new();
    let first = Arc::clone(&store);
    tasks.spawn(
        async move { put(&first, &widget("default", "first"), Expected::Absent, "x").await },
    );
    eventually(|| disk.hanging() == 1).await;
    let gone = widget("default", "gone");
    assert!(put(&store, &gone, Expected::Absent, "x").now_or_never().is_none());
    eventually(|| waiting(&store) == 1).await;
    for n in 0..10 {
        let store = Arc::clone(&store);
        tasks.spawn(async move {
            put(&store, &widget("default", &n.to_string()), Expected::Absent, "x").await
        });
    }
    eventually(|| waiting(&store) == 11).await;
    let closing = Arc::clone(&store);
    let closed = tokio::task::spawn_blocking(move || closing.close());
    eventually(|| !store.is_healthy()).await;
    disk.hang(false);
    within(closed).await.unwrap();
    while let Some(done) = tasks.join_next().await {
        done.unwrap().unwrap();
    }
    let again = on(&Faulty::new(disk.crash(), 2), Options::default()).unwrap();
    assert_eq!((again.list(widgets(), None, None, 0).records.len(), again.version()), (11, 12));
    assert!(again.get(&gone).is_none());
}

#[tokio::test]
async fn a_full_disk_refuses_writes_until_there_is_room_again() {
    let room = Arc::new(AtomicU64::new(u64::MAX));
    let free = Arc::clone(&room);
    let read = Box::new(move || Some(free.load(Ordering::Relaxed)));
    let store = in_room(read, Options::default());
    let key = widget("default", "one");
    put(&store, &key, Expected::Absent, "a").await.unwrap();
    room.store(1 << 20, Ordering::Relaxed);
    let answer = put(&store, &key, Expected::Version(2), "b").await;
    assert!(matches!(answer, Err(WriteError::Full)), "{answer:?}");
    assert!(store.is_healthy());
    assert_eq!((store.version(), &store.get(&key).unwrap().json), (2, &json(2, "a")));
    room.store(1 << 30, Ordering::Relaxed);
    assert_eq!(put(&store, &key, Expected::Version(2), "b").await.unwrap().version, 3);
}
