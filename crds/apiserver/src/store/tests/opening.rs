//! Opening: what comes back, and which files are refused with which words.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use redb::{Database, ReadableDatabase, TableDefinition};
use tempfile::TempDir;

use super::{
    Expected, OpenError, Options, Store, delete, json, open, put, seen, widget, widgets, within,
};
use crate::store::disk::Disk;
use crate::store::{EventKind, Expired};

fn place() -> (TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("objects.redb");
    (dir, path)
}

/// A closed store with objects "0" to "9".
async fn filled(path: &Path) {
    let store = open(path).unwrap();
    for n in 0..10 {
        put(&store, &widget("default", &n.to_string()), Expected::Absent, "a").await.unwrap();
    }
    store.close();
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[tokio::test]
async fn contents_and_versions_come_back() {
    let (_dir, path) = place();
    filled(&path).await;
    let store = open(&path).unwrap();
    assert_eq!(store.version(), 11);
    let records = store.list(widgets(), None, None, 0).records;
    for (record, version) in records.iter().zip(2..) {
        assert_eq!((record.version, &record.json), (version, &json(version, "a")));
    }
    assert_eq!(records.len(), 10);
    let key = widget("default", "0");
    assert_eq!(put(&store, &key, Expected::Version(2), "b").await.unwrap().version, 12);
}

#[tokio::test]
async fn versions_do_not_go_back_when_the_newest_object_is_gone() {
    let (_dir, path) = place();
    filled(&path).await;
    let store = open(&path).unwrap();
    let last = widget("default", "9");
    assert_eq!(delete(&store, &last, 11).await.unwrap().version, 12);
    store.close();
    let store = open(&path).unwrap();
    assert_eq!(store.version(), 12);
    assert_eq!(put(&store, &last, Expected::Absent, "b").await.unwrap().version, 13);
}

#[tokio::test]
async fn after_a_restart_a_watch_can_start_from_where_it_began_and_no_earlier() {
    let (_dir, path) = place();
    filled(&path).await;
    let store = open(&path).unwrap();
    assert_eq!(store.watch(widgets(), None, 10).unwrap_err(), Expired { oldest: 11 });
    let mut watch = store.watch(widgets(), None, 11).unwrap();
    put(&store, &widget("default", "0"), Expected::Version(2), "b").await.unwrap();
    let events = within(watch.next()).await.unwrap();
    assert_eq!(seen(&events), [(EventKind::Modified, "0".to_owned(), 12)]);
    assert_eq!(events[0].previous.as_ref().unwrap().version, 2);
}

#[tokio::test]
async fn a_file_that_is_in_use_is_refused_and_left_alone() {
    let (_dir, path) = place();
    let store = open(&path).unwrap();
    let refused = open(&path).unwrap_err();
    assert!(matches!(refused, OpenError::Locked { .. }), "{refused:?}");
    assert!(refused.to_string().contains("in use by another process"), "{refused}");
    put(&store, &widget("default", "0"), Expected::Absent, "a").await.unwrap();
    drop(store);
    assert_eq!(open(&path).unwrap().version(), 2);
}

#[tokio::test]
async fn only_its_user_can_read_the_files() {
    let (_dir, path) = place();
    filled(&path).await;
    for file in [path.clone(), path.with_extension("journal")] {
        assert_eq!(mode(&file), 0o600);
        fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).unwrap();
        open(&path).unwrap().close();
        assert_eq!(mode(&file), 0o600);
    }
}

#[tokio::test]
async fn what_a_crash_left_of_a_new_file_is_made_anew() {
    let (dir, path) = place();
    let draft = dir.path().join("objects.redb.new");
    fs::write(&draft, vec![7; 10_000]).unwrap();
    fs::write(&path, []).unwrap();
    let store = open(&path).unwrap();
    put(&store, &widget("default", "0"), Expected::Absent, "a").await.unwrap();
    assert!(!draft.try_exists().unwrap());
    assert_eq!(mode(&path), 0o600);
    drop(store);
    assert_eq!(open(&path).unwrap().version(), 2);
}

#[tokio::test]
async fn a_file_of_something_else_is_refused_and_left_alone() {
    let (dir, path) = place();
    fs::write(&path, "apiVersion: v1\n".repeat(1_000)).unwrap();
    let before = fs::read(&path).unwrap();
    let refused = open(&path).unwrap_err();
    assert!(matches!(refused, OpenError::Foreign { .. }), "{refused:?}");
    assert_eq!(fs::read(&path).unwrap(), before);

    let other = dir.path().join("other.redb");
    let database = Database::create(&other).unwrap();
    let write = database.begin_write().unwrap();
    write.open_table(TableDefinition::<u64, u64>::new("theirs")).unwrap().insert(1, 1).unwrap();
    write.commit().unwrap();
    drop(database);
    let refused = open(&other).unwrap_err();
    assert!(matches!(refused, OpenError::Foreign { .. }), "{refused:?}");

    let refused = open(dir.path()).unwrap_err();
    assert!(matches!(refused, OpenError::Io { .. }), "{refused:?}");
    let refused = open(&dir.path().join("missing/objects.redb")).unwrap_err();
    assert!(matches!(refused, OpenError::Io { .. }), "{refused:?}");
}

#[tokio::test]
async fn a_newer_format_is_refused_and_left_alone() {
    let (_dir, path) = place();
    filled(&path).await;
    let table = TableDefinition::<&str, u64>::new("weft.meta");
    let database = Database::open(&path).unwrap();
    let write = database.begin_write().unwrap();
    write.open_table(table).unwrap().insert("format", 3).unwrap();
    write.commit().unwrap();
    drop(database);
    let refused = open(&path).unwrap_err();
    assert!(matches!(refused, OpenError::Newer { found: 3, supported: 2, .. }), "{refused:?}");
    assert!(refused.to_string().contains("use a newer program"), "{refused}");
    let database = Database::open(&path).unwrap();
    let read = database.begin_read().unwrap();
    assert_eq!(read.open_table(table).unwrap().get("format").unwrap().unwrap().value(), 3);
}

#[tokio::test]
async fn kinds_that_are_not_known_are_kept_as_they_are() {
    let (_dir, path) = place();
    let objects = TableDefinition::<(&str, &str, &str), (u64, &[u8])>::new("weft.objects");
    let theirs = ("sprockets.example.com", "default", "one");
    filled(&path).await;
    let database = Database::open(&path).unwrap();
    let write = database.begin_write().unwrap();
    write.open_table(objects).unwrap().insert(theirs, (9, &b"{}"[..])).unwrap();
    write.commit().unwrap();
    drop(database);

    let disk = Disk::open(&path).unwrap();
    let unknown = disk.load(super::CATALOG).unwrap().unknown;
    assert_eq!(unknown.into_iter().collect::<Vec<_>>(), [("sprockets.example.com".to_owned(), 1)]);
    let store = Store::start(disk, super::CATALOG, Options::default()).unwrap();
    put(&store, &widget("default", "0"), Expected::Version(2), "b").await.unwrap();
    drop(store);
    let database = Database::open(&path).unwrap();
    let read = database.begin_read().unwrap();
    let kept = read.open_table(objects).unwrap().get(theirs).unwrap();
    assert_eq!(kept.unwrap().value(), (9, &b"{}"[..]));
}

#[tokio::test]
async fn a_damaged_file_is_refused_or_read_but_never_ends_the_program() {
    let (dir, path) = place();
    filled(&path).await;
    let good = fs::read(&path).unwrap();
    let mut random = fastrand::Rng::with_seed(7);
    let damaged = dir.path().join("damaged.redb");
    let mut opened = 0;
    for _ in 0..150 {
        let mut bytes = good.clone();
        if random.u8(..) < 64 {
            bytes.truncate(random.usize(1..bytes.len()));
        } else {
            for _ in 0..random.usize(1..20) {
                // Most of the file is unused; what is used lies at its start.
                let place = random.usize(..bytes.len().min(64 << 10));
                bytes[place] ^= 1 << random.u8(..8);
            }
        }
        fs::write(&damaged, bytes).unwrap();
        fs::remove_file(damaged.with_extension("journal")).ok();
        match open(&damaged) {
            Ok(store) => {
                for record in store.list(widgets(), None, None, 0).records {
                    assert_eq!(record.json, json(record.version, "a"), "damage was served");
                }
                opened += 1;
                let key = widget("default", "new");
                drop(put(&store, &key, Expected::Absent, "a").await);
                store.close();
            }
            Err(
                OpenError::Damaged { .. } | OpenError::Foreign { .. } | OpenError::Newer { .. },
            ) => {}
            Err(other) => panic!("{other:?}"),
        }
    }
    assert!((1..150).contains(&opened), "{opened} of 150 opened: too much or nothing was damaged");
}

#[test]
fn refusals_of_the_system_say_what_to_do() {
    let refused =
        |kind: std::io::ErrorKind| OpenError::io("open", Path::new("objects.redb"), kind.into());
    let full = refused(std::io::ErrorKind::StorageFull).to_string();
    assert!(full.contains("make room"), "{full}");
    for kind in [std::io::ErrorKind::ReadOnlyFilesystem, std::io::ErrorKind::PermissionDenied] {
        let read_only = refused(kind).to_string();
        assert!(read_only.contains("give this user the right to"), "{read_only}");
    }
}

#[tokio::test]
async fn ten_thousand_objects_come_back() {
    let (_dir, path) = place();
    let store = super::open_with(&path, Options { queue: 10_000, ..Options::default() }).unwrap();
    let content = "x".repeat(1_000);
    let mut writes = tokio::task::JoinSet::new();
    for n in 0..10_000 {
        let (store, key, content) =
            (Arc::clone(&store), widget("default", &n.to_string()), content.clone());
        writes.spawn(async move { put(&store, &key, Expected::Absent, &content).await.unwrap() });
    }
    while let Some(done) = writes.join_next().await {
        done.unwrap();
    }
    store.close();
    let store = open(&path).unwrap();
    assert_eq!(
        (store.version(), store.list(widgets(), None, None, 0).records.len()),
        (10_001, 10_000)
    );
}
