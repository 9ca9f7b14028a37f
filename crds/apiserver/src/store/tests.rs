//! The store over real files, and over disks that fail.

mod concurrent;
mod crash;
mod faulty;
mod journal;
mod lists;
mod model;
mod opening;
mod watches;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use crds::admission::Handle;
use crds::config_map::ConfigMap;
use crds::resource::{Catalog, InFiles, Resource};
use redb::backends::InMemoryBackend;

use self::faulty::Faulty;
use super::disk::{Disk, Pace, Room};
use super::{
    Change, Event, EventKind, Expected, Key, OpenError, Options, Record, Store, WriteError,
};

/// Long enough that only a hang reaches it.
const DEADLINE: Duration = Duration::from_secs(60);

static KINDS: [Resource; 2] = [kind("widgets", "Widget"), kind("gadgets", "Gadget")];
const CATALOG: Catalog = Catalog::new(&KINDS);

const fn kind(plural: &'static str, kind: &'static str) -> Resource {
    Resource {
        group: "example.com",
        kind,
        plural,
        singular: plural,
        short_names: &[],
        categories: &[],
        namespaced: true,
        versions: &[],
        status: false,
        writable: true,
        labels: &[],
        annotations: &[],
        in_files: InFiles::Never,
        // What objects mean is nothing to the store.
        handle: Handle::of::<ConfigMap>(),
        scale: None,
    }
}

fn widgets() -> &'static Resource {
    &KINDS[0]
}

fn gadgets() -> &'static Resource {
    &KINDS[1]
}

fn open(path: &Path) -> Result<Arc<Store>, OpenError> {
    open_with(path, Options::default())
}

fn open_with(path: &Path, options: Options) -> Result<Arc<Store>, OpenError> {
    Store::start(Disk::open(path)?, CATALOG, options)
}

/// A journal of that many blocks, and a database that is brought up to date when that is full.
fn blocks(count: u64) -> Pace {
    Pace { journal_bytes: count * 4096, idle: DEADLINE * 10 }
}

fn unlimited() -> Room {
    Box::new(|| None)
}

/// A store on a disk that is none. Its journal has room for about 60 KB.
fn on(disk: &Faulty, options: Options) -> Result<Arc<Store>, OpenError> {
    at_pace(disk, blocks(16), options)
}

fn at_pace(disk: &Faulty, pace: Pace, options: Options) -> Result<Arc<Store>, OpenError> {
    Store::start(Disk::open_with(disk.parts(), unlimited(), pace)?, CATALOG, options)
}

fn in_memory(options: Options) -> Arc<Store> {
    in_room(unlimited(), options)
}

fn in_room(room: Room, options: Options) -> Arc<Store> {
    let files = (InMemoryBackend::new(), InMemoryBackend::new());
    Store::start(Disk::open_with(files, room, blocks(256)).unwrap(), CATALOG, options).unwrap()
}

fn widget(namespace: &str, name: &str) -> Key {
    Key { resource: widgets(), namespace: namespace.to_owned(), name: name.to_owned() }
}

/// What a put of `text` leaves: the version is in it, as in a real object.
fn json(version: u64, text: &str) -> Bytes {
    Bytes::from(format!("{{\"version\":\"{version}\",\"text\":\"{text}\"}}"))
}

fn text(text: &str) -> Box<dyn FnOnce(u64) -> Bytes + Send> {
    let text = text.to_owned();
    Box::new(move |version| json(version, &text))
}

async fn put(
    store: &Store,
    key: &Key,
    expected: Expected,
    content: &str,
) -> Result<Arc<Record>, WriteError> {
    within(store.write(key.clone(), expected, Change::Put(text(content)))).await
}

async fn delete(store: &Store, key: &Key, version: u64) -> Result<Arc<Record>, WriteError> {
    let change = Change::Delete(text("gone"));
    within(store.write(key.clone(), Expected::Version(version), change)).await
}

async fn within<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(DEADLINE, future).await.expect("it hangs")
}

/// Waits until `reached`, which changes without telling.
async fn eventually(reached: impl Fn() -> bool) {
    within(async {
        while !reached() {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

/// What tests compare of events.
fn seen(events: &[Arc<Event>]) -> Vec<(EventKind, String, u64)> {
    events
        .iter()
        .map(|event| (event.kind, event.record.key.name.clone(), event.record.version))
        .collect()
}

#[tokio::test]
async fn a_write_is_what_readers_see_once_it_is_answered() {
    let store = in_memory(Options::default());
    let key = widget("default", "one");
    assert_eq!(store.version(), 1);
    let added = put(&store, &key, Expected::Absent, "a").await.unwrap();
    assert_eq!((added.version, &added.json), (2, &json(2, "a")));
    assert_eq!(store.version(), 2);
    assert_eq!(store.get(&key).unwrap().json, added.json);
    let changed = put(&store, &key, Expected::Version(2), "b").await.unwrap();
    assert_eq!((changed.version, &changed.json), (3, &json(3, "b")));
    let gone = delete(&store, &key, 3).await.unwrap();
    assert_eq!((gone.version, &gone.json), (4, &json(4, "gone")));
    assert!(store.get(&key).is_none());
    assert_eq!(store.version(), 4);
    assert!(store.is_healthy());
}

#[tokio::test]
async fn a_write_that_expects_something_else_is_a_conflict_that_shows_what_is_there() {
    let store = in_memory(Options::default());
    let key = widget("default", "one");
    let conflict = |result: Result<Arc<Record>, WriteError>| match result {
        Err(WriteError::Conflict { current }) => current.map(|current| current.version),
        other => panic!("{other:?}"),
    };
    assert_eq!(conflict(put(&store, &key, Expected::Version(1), "a").await), None);
    assert_eq!(conflict(delete(&store, &key, 1).await), None);
    put(&store, &key, Expected::Absent, "a").await.unwrap();
    assert_eq!(conflict(put(&store, &key, Expected::Absent, "b").await), Some(2));
    assert_eq!(conflict(put(&store, &key, Expected::Version(1), "b").await), Some(2));
    assert_eq!(conflict(put(&store, &key, Expected::Version(3), "b").await), Some(2));
    let change = Change::Delete(text("gone"));
    assert_eq!(conflict(store.write(key.clone(), Expected::Absent, change).await), Some(2));
    assert_eq!((store.version(), &store.get(&key).unwrap().json), (2, &json(2, "a")));
}

#[tokio::test]
async fn the_same_name_in_another_kind_or_namespace_is_another_object() {
    let store = in_memory(Options::default());
    let gadget = Key { resource: gadgets(), ..widget("a", "x") };
    for key in [widget("a", "x"), widget("b", "x"), widget("", "x"), gadget.clone()] {
        put(&store, &key, Expected::Absent, &key.namespace).await.unwrap();
    }
    assert_eq!(store.get(&gadget).unwrap().version, 5);
    assert_eq!(store.get(&widget("b", "x")).unwrap().version, 3);
    assert_eq!(store.list(widgets(), None, None, 0).records.len(), 3);
}

#[tokio::test]
async fn a_change_that_panics_harms_no_other_write() {
    let store = in_memory(Options::default());
    let key = widget("default", "one");
    let bad = Change::Put(Box::new(|_| panic!("on purpose")));
    let answer = within(store.write(key.clone(), Expected::Absent, bad)).await;
    assert!(matches!(answer, Err(WriteError::Failed(_))), "{answer:?}");
    assert!(store.is_healthy());
    assert_eq!(put(&store, &key, Expected::Absent, "a").await.unwrap().version, 2);
}

#[tokio::test]
async fn a_kind_that_is_not_served_is_refused_and_never_there() {
    static OTHER: Resource = kind("others", "Other");
    let store = in_memory(Options::default());
    let key = Key { resource: &OTHER, ..widget("default", "one") };
    let answer = put(&store, &key, Expected::Absent, "a").await;
    assert!(matches!(answer, Err(WriteError::Failed(_))), "{answer:?}");
    assert!(store.is_healthy() && store.get(&key).is_none());
    assert!(store.list(&OTHER, None, None, 0).records.is_empty());
    assert_eq!(store.watch(&OTHER, None, 1).unwrap().version(), 1);
}

#[tokio::test]
async fn a_closed_store_reads_and_refuses_writes() {
    let store = in_memory(Options::default());
    let key = widget("default", "one");
    put(&store, &key, Expected::Absent, "a").await.unwrap();
    store.close();
    store.close();
    let answer = put(&store, &key, Expected::Version(2), "b").await;
    assert!(matches!(answer, Err(WriteError::Closed)), "{answer:?}");
    assert!(!store.is_healthy());
    assert_eq!(store.get(&key).unwrap().version, 2);
}

#[tokio::test]
async fn the_last_handle_can_go_in_a_change() {
    let store = in_memory(Options::default());
    let (own, (sent, received)) = (Arc::clone(&store), std::sync::mpsc::channel());
    let change = Change::Put(Box::new(move |version| {
        received.recv_timeout(DEADLINE).expect("the other handle goes");
        drop(own);
        json(version, "last")
    }));
    let request = {
        let (answer, answered) = tokio::sync::oneshot::channel();
        let key = widget("default", "one");
        store
            .queue
            .push(super::Request { key, expected: Expected::Absent, change, answer })
            .unwrap();
        answered
    };
    drop(store);
    sent.send(()).unwrap();
    assert_eq!(within(request).await.unwrap().unwrap().version, 2);
}

#[test]
fn nothing_of_an_object_is_shown_by_debug() {
    let record = Record { key: widget("default", "one"), version: 7, json: json(7, "secret") };
    let shown = format!("{record:?}");
    assert!(
        !shown.contains("secret") && shown.contains("widgets.example.com default/one"),
        "{shown}"
    );
}
