//! What is left when the power goes or the disk fails: every write that was acknowledged, and no half of any other.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use fastrand::Rng;
use futures_util::FutureExt;
use tokio::task::JoinSet;

use super::faulty::{Faulty, Image};
use super::{
    Change, Expected, Options, Pace, Store, WriteError, at_pace, delete, json, on, put, text,
    widget, widgets, within,
};

/// What became of the object that one task writes.
#[derive(Clone, Debug, Default)]
struct Fate {
    /// Version and text of the last acknowledged state; no text when it was deleted.
    acknowledged: (u64, Option<String>),
    /// What was being written when the disk failed: it may be there or not. A text for a put, none for a deletion.
    attempted: Option<Option<String>>,
}

/// Writes one object until a write fails, at most `rounds` times.
async fn write_on(
    store: Arc<Store>,
    name: String,
    mut fate: Fate,
    rounds: usize,
    seed: u64,
) -> (String, Fate) {
    let (key, mut random) = (widget("default", &name), Rng::with_seed(seed));
    for round in 0..rounds {
        let (version, state) = fate.acknowledged.clone();
        let expected = state.as_ref().map_or(Expected::Absent, |_| Expected::Version(version));
        let deletes = state.is_some() && random.u8(..) < 50;
        let content = (!deletes).then(|| format!("{round}-").repeat(random.usize(1..2_000)));
        let change = match &content {
            Some(content) => Change::Put(text(content)),
            None => Change::Delete(text("gone")),
        };
        match within(store.write(key.clone(), expected, change)).await {
            Ok(record) => fate.acknowledged = (record.version, content),
            Err(WriteError::Failed(_)) => {
                fate.attempted = Some(content);
                break;
            }
            Err(other) => panic!("{other}"),
        }
    }
    (name, fate)
}

/// Takes what is in the store for what was acknowledged, if it can be so.
fn settle(store: &Store, name: &str, fate: &mut Fate) {
    let found = store.get(&widget("default", name));
    let is = |version: u64, content: &Option<String>| match (&found, content) {
        (Some(found), Some(content)) => found.json == json(version, content),
        (None, None) => true,
        _ => false,
    };
    let (version, content) = &fate.acknowledged;
    if !is(*version, content) {
        let attempted = fate.attempted.as_ref();
        let attempted = attempted.unwrap_or_else(|| panic!("{name}: version {version} is lost"));
        let version = found.as_ref().map_or(store.version(), |found| found.version);
        assert!(is(version, attempted), "{name}: neither what was there nor what was written");
        fate.acknowledged = (version, attempted.clone());
    }
    fate.attempted = None;
}

/// Small journals, so that every batch may be the one that starts them over or that fits none, and short moments of idleness.
fn pace(random: &mut Rng) -> Pace {
    Pace {
        journal_bytes: random.u64(2..20) * 4096,
        idle: Duration::from_micros(random.u64(100..5_000)),
    }
}

/// The power goes, or only the program.
fn end(disk: &Faulty, random: &mut Rng) -> Image {
    if random.bool() { disk.crash() } else { disk.kill() }
}

/// Runs tasks over a disk that fails at a random point, several times in a row.
async fn survive(seed: u64) {
    let mut random = Rng::with_seed(seed);
    let mut fates: BTreeMap<String, Fate> =
        (0..6).map(|n| (n.to_string(), Fate::default())).collect();
    let (mut image, mut highest) = (Image::default(), 1);
    for life in 0..4 {
        let disk = Faulty::new(image, random.u64(..));
        if life > 0 && random.bool() {
            // Recovery itself is interrupted first.
            disk.fail_after(random.usize(..12));
            if let Ok(store) = at_pace(&disk, pace(&mut random), Options::default()) {
                store.close();
            }
            image = end(&disk, &mut random);
            let disk = Faulty::new(image, random.u64(..));
            image = life_of(disk, &mut fates, &mut highest, &mut random).await;
        } else {
            image = life_of(disk, &mut fates, &mut highest, &mut random).await;
        }
    }
}

async fn life_of(
    disk: Faulty,
    fates: &mut BTreeMap<String, Fate>,
    highest: &mut u64,
    random: &mut Rng,
) -> Image {
    let store = at_pace(&disk, pace(random), Options::default()).unwrap();
    assert!(store.version() >= *highest, "version {highest} came twice");
    for (name, fate) in fates.iter_mut() {
        settle(&store, name, fate);
    }
    let there = fates.values().filter(|fate| fate.acknowledged.1.is_some()).count();
    assert_eq!(store.list(widgets(), None, None, 0).records.len(), there);
    disk.fail_after(random.usize(..120));
    let mut tasks = JoinSet::new();
    for (name, fate) in std::mem::take(fates) {
        tasks.spawn(write_on(Arc::clone(&store), name, fate, 30, random.u64(..)));
    }
    while let Some(task) = tasks.join_next().await {
        let (name, fate) = task.unwrap();
        *highest = fate.acknowledged.0.max(*highest);
        fates.insert(name, fate);
    }
    let image = end(&disk, random);
    store.close();
    image
}

#[expect(clippy::print_stderr, reason = "the seed makes the failure come again")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_acknowledged_write_survives_a_crash_and_none_is_half_there() {
    for seed in 0..60 {
        std::panic::AssertUnwindSafe(survive(seed)).catch_unwind().await.unwrap_or_else(|panic| {
            eprintln!("with seed {seed}");
            std::panic::resume_unwind(panic)
        });
    }
}

#[tokio::test]
async fn a_failed_commit_is_final_and_nobody_sees_it() {
    let disk = Faulty::new(Image::default(), 1);
    let store = on(&disk, Options::default()).unwrap();
    let key = widget("default", "one");
    put(&store, &key, Expected::Absent, "a").await.unwrap();
    let mut watch = store.watch(widgets(), None, 2).unwrap();
    disk.fail_after(0);
    let answer = put(&store, &key, Expected::Version(2), "b").await;
    assert!(matches!(answer, Err(WriteError::Failed(_))), "{answer:?}");
    assert!(!store.is_healthy());
    disk.fail_after(usize::MAX);
    let answer = put(&store, &key, Expected::Version(2), "c").await;
    assert!(matches!(answer, Err(WriteError::Failed(_))), "it was tried again: {answer:?}");
    assert_eq!((store.version(), &store.get(&key).unwrap().json), (2, &json(2, "a")));
    assert!(watch.next().now_or_never().is_none());
    assert_eq!(watch.version(), 2);
}

#[tokio::test]
async fn a_clean_close_needs_no_repair_and_keeps_everything() {
    let disk = Faulty::new(Image::default(), 1);
    let store = on(&disk, Options::default()).unwrap();
    let key = widget("default", "one");
    put(&store, &key, Expected::Absent, "a").await.unwrap();
    delete(&store, &key, 2).await.unwrap();
    store.close();
    let store = on(&Faulty::new(disk.crash(), 2), Options::default()).unwrap();
    assert_eq!((store.version(), store.get(&key).is_none()), (3, true));
}
