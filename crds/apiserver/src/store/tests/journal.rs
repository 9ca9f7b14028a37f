//! The journal: what it saves, when it is emptied, what of it comes back, and which journals are refused.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use redb::{Database, ReadableDatabase, TableDefinition};

use super::faulty::{DATABASE, Faulty, Image, JOURNAL};
use super::{
    Expected, OpenError, Options, Pace, Store, WriteError, at_pace, blocks, delete, eventually,
    json, open, put, unlimited, widget, widgets,
};
use crate::store::disk::Disk;

const BLOCK: usize = 4096;

/// What objects "0" to "3" are: version and text of each that is there.
type State = [Option<(u64, String)>; 4];

fn key(object: usize) -> super::Key {
    widget("default", &object.to_string())
}

fn store_on(disk: &Faulty, pace: Pace) -> Result<Arc<Store>, OpenError> {
    at_pace(disk, pace, Options::default())
}

/// A database without objects that was closed, and no journal.
fn empty() -> Image {
    let disk = Faulty::new(Image::default(), 1);
    store_on(&disk, blocks(4)).unwrap().close();
    let [database, _] = disk.kill();
    [database, Vec::new()]
}

/// Puts, changes and deletes objects: one batch for each, in blocks of their own. Answers with what was acknowledged and, if the
/// disk failed, with what was tried.
async fn story(store: &Store) -> (State, Option<State>) {
    let mut state = State::default();
    for step in 0..11 {
        let object = step % 4;
        let mut next = state.clone();
        let answer = match (&state[object], step) {
            (Some((version, _)), 5 | 6) => {
                next[object] = None;
                delete(store, &key(object), *version).await
            }
            (there, _) => {
                // Some take two blocks, and that of step 8 more than there are.
                let content = step.to_string().repeat([10, 3_000, 20_000][step / 4]);
                let there = there.as_ref().map(|(version, _)| *version);
                let expected = there.map_or(Expected::Absent, Expected::Version);
                next[object] = Some((store.version() + 1, content.clone()));
                put(store, &key(object), expected, &content).await
            }
        };
        match answer {
            Ok(_) => state = next,
            Err(WriteError::Failed(_)) => return (state, Some(next)),
            Err(other) => panic!("{other}"),
        }
    }
    (state, None)
}

fn state_of(store: &Store) -> State {
    let mut state = State::default();
    for (object, place) in state.iter_mut().enumerate() {
        *place = store.get(&key(object)).map(|record| {
            let text = record.json.strip_prefix(&b"{\"version\":\""[..]).unwrap();
            let text = std::str::from_utf8(text).unwrap().split('"').nth(4).unwrap().to_owned();
            assert_eq!(record.json, json(record.version, &text));
            (record.version, text)
        });
    }
    state
}

fn check(image: Image, acknowledged: &State, tried: Option<&State>, what: &str) {
    let store = store_on(&Faulty::new(image, 1), blocks(4))
        .unwrap_or_else(|error| panic!("{what}: {error}"));
    let found = state_of(&store);
    assert!(found == *acknowledged || Some(&found) == tried, "{what}: {found:?}");
}

#[tokio::test]
async fn wherever_the_program_or_the_power_goes_what_was_acknowledged_comes_back() {
    let base = empty();
    let mut point = 0;
    loop {
        let disk = Faulty::new(base.clone(), 7);
        disk.fail_after(point);
        let (state, tried, opened) = match store_on(&disk, blocks(4)) {
            Ok(store) => {
                let (state, tried) = story(&store).await;
                store.close();
                (state, tried, true)
            }
            Err(_) => (State::default(), None, false),
        };
        check(disk.kill(), &state, tried.as_ref(), &format!("killed at {point}"));
        for _ in 0..6 {
            check(disk.crash(), &state, tried.as_ref(), &format!("power gone at {point}"));
        }
        // It went through: the disk did not fail before the end.
        let closed = Faulty::new([disk.kill()[DATABASE].clone(), Vec::new()], 1);
        if opened && tried.is_none() && store_on(&closed, blocks(4)).is_ok() {
            break;
        }
        point += 1;
    }
    assert!(point > 60, "only {point} points: the story is too short");
}

#[tokio::test]
async fn wherever_recovery_is_interrupted_the_next_one_succeeds() {
    let disk = Faulty::new(empty(), 7);
    let store = store_on(&disk, blocks(16)).unwrap();
    for object in 0..3 {
        put(&store, &key(object), Expected::Absent, "x").await.unwrap();
    }
    delete(&store, &key(1), 3).await.unwrap();
    let (image, state) = (disk.kill(), state_of(&store));
    for point in 0.. {
        let disk = Faulty::new(image.clone(), point);
        disk.fail_after(usize::try_from(point).unwrap());
        let opened = store_on(&disk, blocks(16));
        let done = opened.is_ok();
        check(disk.kill(), &state, None, &format!("killed at {point}"));
        for _ in 0..6 {
            check(disk.crash(), &state, None, &format!("power gone at {point}"));
        }
        if done {
            assert!(point > 3, "recovery took {point} steps");
            break;
        }
    }
}

#[tokio::test]
async fn a_write_costs_one_write_and_one_sync_of_the_journal_alone() {
    let disk = Faulty::new(empty(), 1);
    let store = store_on(&disk, blocks(16)).unwrap();
    let before = (disk.work(DATABASE), disk.work(JOURNAL));
    put(&store, &key(0), Expected::Absent, "x").await.unwrap();
    let (writes, syncs) = before.1;
    assert_eq!((disk.work(DATABASE), disk.work(JOURNAL)), (before.0, (writes + 1, syncs + 1)));
}

#[tokio::test]
async fn the_database_is_brought_up_to_date_when_the_journal_is_full_and_when_nothing_comes() {
    let disk = Faulty::new(empty(), 1);
    let store = store_on(&disk, blocks(4)).unwrap();
    let before = disk.work(DATABASE).1;
    let mut version = put(&store, &key(0), Expected::Absent, "x").await.unwrap().version;
    for _ in 0..8 {
        version = put(&store, &key(0), Expected::Version(version), "x").await.unwrap().version;
    }
    assert!(disk.work(DATABASE).1 > before + 1, "nine writes in three blocks");
    store.close();
    let pace = Pace { idle: Duration::from_millis(1), ..blocks(16) };
    let store = store_on(&disk, pace).unwrap();
    let before = disk.work(DATABASE).1;
    put(&store, &key(0), Expected::Version(version), "y").await.unwrap();
    eventually(|| disk.work(DATABASE).1 > before).await;
}

#[tokio::test]
async fn what_an_older_epoch_left_in_the_journal_does_not_come_back() {
    let disk = Faulty::new(empty(), 1);
    let store = store_on(&disk, blocks(5)).unwrap();
    // Fills the journal: three puts and a deletion. The next batch overwrites the first.
    for object in 0..3 {
        put(&store, &key(object), Expected::Absent, "old").await.unwrap();
    }
    delete(&store, &key(2), 4).await.unwrap();
    let before = disk.work(JOURNAL).0;
    put(&store, &key(0), Expected::Version(2), "new").await.unwrap();
    assert_eq!(disk.work(JOURNAL).0, before + 1);
    let state = state_of(&store);
    assert_eq!(state[2], None);
    check(disk.kill(), &state, None, "killed after the journal started over");
}

#[tokio::test]
async fn a_history_that_a_copy_of_the_database_left_behind_does_not_come_back() {
    let disk = Faulty::new(empty(), 1);
    store_on(&disk, blocks(16)).unwrap().close();
    let [copy, _] = disk.kill();
    let store = store_on(&disk, blocks(16)).unwrap();
    for object in 0..3 {
        put(&store, &key(object), Expected::Absent, "other").await.unwrap();
    }
    store.close();
    let [_, journal] = disk.kill();
    let disk = Faulty::new([copy, journal], 1);
    let store = store_on(&disk, blocks(16)).unwrap();
    assert_eq!(state_of(&store), State::default());
    // Same place, same count of epochs, same version as the first of the others; behind it lie the second and the third.
    put(&store, &key(0), Expected::Absent, "own").await.unwrap();
    let state = state_of(&store);
    check(disk.kill(), &state, None, "killed");
}

/// A store with three batches in its journal, killed.
async fn killed() -> (Image, State) {
    let disk = Faulty::new(empty(), 1);
    let store = store_on(&disk, blocks(16)).unwrap();
    for object in 0..3 {
        put(&store, &key(object), Expected::Absent, "x").await.unwrap();
    }
    (disk.kill(), state_of(&store))
}

fn refusal(image: Image) -> String {
    let before = image.clone();
    let disk = Faulty::new(image, 1);
    let refused = store_on(&disk, blocks(16)).unwrap_err();
    assert!(matches!(refused, OpenError::Journal { .. }), "{refused:?}");
    assert_eq!(disk.kill()[JOURNAL], before[JOURNAL], "it was written to");
    let text = refused.to_string();
    assert!(text.contains("restore both files from one copy"), "{text}");
    text
}

#[tokio::test]
async fn a_flipped_bit_in_the_middle_is_refused_and_one_at_the_end_cuts_it() {
    let (image, state) = killed().await;
    let mut random = fastrand::Rng::with_seed(3);
    for batch in 1..=3 {
        for _ in 0..200 {
            let mut flipped = image.clone();
            // The header and the changes; the rest of the block is padding.
            let place = batch * BLOCK + random.usize(..44 + 17 + 19 + 7 + 1);
            flipped[JOURNAL][place] ^= 1 << random.u8(..8);
            if batch < 3 {
                let text = refusal(flipped);
                assert!(text.contains("overwritten"), "{text}");
            } else {
                let mut cut = state.clone();
                cut[2] = None;
                check(flipped, &cut, None, "the end is cut");
            }
        }
    }
}

#[tokio::test]
async fn a_journal_that_does_not_go_with_its_database_is_refused_and_left_alone() {
    let (image, _) = killed().await;
    let (other, _) = killed().await;
    let [database, journal] = image;
    let text = refusal([database.clone(), other[JOURNAL].clone()]);
    assert!(text.contains("another store's"), "{text}");
    let text = refusal([empty()[DATABASE].clone(), journal.clone()]);
    assert!(text.contains("another store's and holds writes"), "{text}");
    let text = refusal([database.clone(), Vec::new()]);
    assert!(text.contains("its start or its end is missing"), "{text}");
    let text = refusal([database.clone(), journal[..8 * BLOCK].to_vec()]);
    assert!(text.contains("its start or its end is missing"), "{text}");
    let mut headless = journal.clone();
    headless[20] ^= 1;
    refusal([database, headless]);
}

#[tokio::test]
async fn a_database_older_than_its_journal_is_refused() {
    let disk = Faulty::new(empty(), 1);
    let store = store_on(&disk, blocks(16)).unwrap();
    let [open, _] = disk.kill();
    store.close();
    let [closed, _] = disk.kill();
    let store = store_on(&disk, blocks(16)).unwrap();
    put(&store, &key(0), Expected::Absent, "x").await.unwrap();
    let [_, journal] = disk.kill();
    for database in [open, closed] {
        let text = refusal([database, journal.clone()]);
        assert!(text.contains("came after"), "{text}");
    }
}

#[tokio::test]
async fn after_a_clean_close_the_database_alone_is_enough() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("objects.redb");
    let journal = dir.path().join("objects.journal");
    let store = open(&path).unwrap();
    put(&store, &key(0), Expected::Absent, "x").await.unwrap();
    store.close();
    let length = fs::metadata(&journal).unwrap().len();
    fs::remove_file(&journal).unwrap();
    let store = open(&path).unwrap();
    assert_eq!(store.version(), 2);
    put(&store, &key(1), Expected::Absent, "y").await.unwrap();
    assert_eq!(fs::metadata(&journal).unwrap().len(), length);
    // As a process that ends leaves them.
    let left = tempfile::tempdir().unwrap();
    let copy = |name: &str| fs::copy(dir.path().join(name), left.path().join(name)).unwrap();
    copy("objects.redb");
    let path = left.path().join("objects.redb");
    let refused = open(&path).unwrap_err();
    assert!(refused.to_string().contains("it is missing"), "{refused}");
    copy("objects.journal");
    let store = open(&path).unwrap();
    assert_eq!((store.version(), store.list(widgets(), None, None, 0).records.len()), (3, 2));
}

#[tokio::test]
async fn a_file_of_something_else_in_the_journals_place_is_refused_and_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let journal = dir.path().join("objects.journal");
    fs::write(&journal, "dear diary").unwrap();
    let refused = open(&dir.path().join("objects.redb")).unwrap_err();
    assert!(matches!(refused, OpenError::Foreign { .. }), "{refused:?}");
    assert_eq!(fs::read(&journal).unwrap(), b"dear diary");
    fs::remove_file(&journal).unwrap();
    fs::create_dir(&journal).unwrap();
    let refused = open(&dir.path().join("objects.redb")).unwrap_err();
    assert!(matches!(refused, OpenError::Io { .. }), "{refused:?}");
}

/// Writes a store as the format before the journal was.
fn without_journal(path: &Path) {
    let database = Database::create(path).unwrap();
    let write = database.begin_write().unwrap();
    let mut meta = write.open_table(TableDefinition::<&str, u64>::new("weft.meta")).unwrap();
    meta.insert("format", 1).unwrap();
    meta.insert("version", 7).unwrap();
    drop(meta);
    let objects = TableDefinition::<(&str, &str, &str), (u64, &[u8])>::new("weft.objects");
    let mut objects = write.open_table(objects).unwrap();
    objects.insert(("widgets.example.com", "default", "0"), (7, json(7, "old").as_ref())).unwrap();
    drop(objects);
    write.commit().unwrap();
}

#[tokio::test]
async fn a_store_of_the_format_without_a_journal_gets_one() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("objects.redb");
    without_journal(&path);
    let store = open(&path).unwrap();
    assert_eq!(state_of(&store)[0], Some((7, "old".to_owned())));
    assert_eq!(put(&store, &key(1), Expected::Absent, "new").await.unwrap().version, 8);
    drop(store);
    let database = Database::open(&path).unwrap();
    let read = database.begin_read().unwrap();
    let meta = read.open_table(TableDefinition::<&str, u64>::new("weft.meta")).unwrap();
    let value = |key| meta.get(key).unwrap().unwrap().value();
    assert_eq!((value("format"), value("version"), value("open")), (2, 8, 0));
}

#[tokio::test]
async fn without_room_for_what_the_journal_holds_a_start_says_so_and_a_later_one_has_it_all() {
    let (image, state) = killed().await;
    let disk = Faulty::new(image, 1);
    let room = Box::new(|| Some(1 << 20));
    let refused = Disk::open_with(disk.parts(), room, blocks(16)).unwrap_err();
    assert!(matches!(refused, OpenError::Full { .. }), "{refused:?}");
    assert!(Disk::open_with(disk.parts(), unlimited(), blocks(16)).is_ok());
    check(disk.kill(), &state, None, "there is room again");
}
