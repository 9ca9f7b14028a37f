//! What readers see: every object, and the latest changes. Only the writer changes it.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt;
use std::ops::Bound;
use std::sync::Arc;

use crds::resource::{Catalog, Resource};
use parking_lot::RwLock;
use tokio::sync::watch;

use super::disk::Contents;
use super::{Event, EventKind, Expired, Key, Listing, Options, Record};

/// Objects, the latest changes, and who waits for more.
pub(super) struct Memory {
    resources: Vec<&'static Resource>,
    /// Locked for the time of copying pointers, never during input or output.
    state: RwLock<State>,
    /// Wakes the watches of a kind; in the order of `resources`.
    wakers: Vec<watch::Sender<()>>,
}

#[derive(Debug)]
struct State {
    version: u64,
    /// In the order of `resources`.
    kinds: Vec<Kind>,
    history: History,
}

/// Objects of a kind and its part of the history.
#[derive(Debug, Default)]
struct Kind {
    objects: Objects,
    /// In order of version.
    events: VecDeque<Arc<Event>>,
    /// Version of the last change that is not in `events` any more. It is a kind's own, so that a busy kind expires no watch
    /// of a quiet one.
    forgotten: u64,
}

/// Objects of a kind, by namespace, then name; no namespace is empty.
#[derive(Debug, Default)]
pub(super) struct Objects(BTreeMap<String, BTreeMap<String, Arc<Record>>>);

/// What is remembered, over all kinds.
#[derive(Debug)]
struct History {
    /// The kind of each event, oldest first.
    order: VecDeque<usize>,
    /// An upper bound: states that several events hold count several times.
    bytes: usize,
    max_events: usize,
    max_bytes: usize,
}

/// Where in memory the kinds are whose watches are to be woken.
#[derive(Debug, Default)]
pub(super) struct Woken(BTreeSet<usize>);

/// What a watch reads in one go.
#[derive(Debug)]
pub(super) struct Read {
    pub(super) events: Vec<Arc<Event>>,
    /// The version up to which the watch has seen everything with them.
    pub(super) seen: u64,
}

impl Memory {
    pub(super) fn new(catalog: Catalog, contents: Contents, options: Options) -> Self {
        let resources: Vec<&Resource> = catalog.iter().collect();
        // What happened before is not known: nothing before this version can be watched.
        let forgotten = contents.version;
        let kinds: Vec<Kind> = contents
            .kinds
            .into_iter()
            .map(|objects| Kind { objects, events: VecDeque::new(), forgotten })
            .collect();
        debug_assert_eq!(kinds.len(), resources.len(), "contents are in the order of the kinds");
        let history = History {
            order: VecDeque::new(),
            bytes: 0,
            max_events: options.history_events.max(1),
            max_bytes: options.history_bytes,
        };
        Self {
            wakers: resources.iter().map(|_| watch::Sender::new(())).collect(),
            resources,
            state: RwLock::new(State { version: contents.version, kinds, history }),
        }
    }

    /// Where a kind is; none for one that this store does not serve.
    pub(super) fn index(&self, resource: &Resource) -> Option<usize> {
        let same = |known: &&'static Resource| {
            known.plural == resource.plural && known.group == resource.group
        };
        // Mostly it is the very one; then no names are compared.
        let very = self.resources.iter().position(|known| std::ptr::eq(*known, resource));
        very.or_else(|| self.resources.iter().position(same))
    }

    pub(super) fn version(&self) -> u64 {
        self.state.read().version
    }

    pub(super) fn get(&self, key: &Key) -> Option<Arc<Record>> {
        let kind = self.index(key.resource)?;
        let state = self.state.read();
        state.kinds.get(kind)?.objects.get(key).cloned()
    }

    pub(super) fn list(
        &self,
        resource: &Resource,
        namespace: Option<&str>,
        after: Option<(&str, &str)>,
        limit: usize,
    ) -> Listing {
        let kind = self.index(resource);
        let limit = if limit == 0 { usize::MAX } else { limit };
        let state = self.state.read();
        let mut listing = Listing { records: Vec::new(), version: state.version, remaining: 0 };
        let Some(kind) = kind.and_then(|kind| state.kinds.get(kind)) else { return listing };
        let first = match (namespace, after) {
            (Some(namespace), _) => Bound::Included(namespace),
            (None, Some((namespace, _))) => Bound::Included(namespace),
            (None, None) => Bound::Unbounded,
        };
        let last = namespace.map_or(Bound::Unbounded, Bound::Included);
        for (namespace, objects) in kind.objects.0.range::<str, _>((first, last)) {
            match after {
                Some((after, _)) if namespace.as_str() < after => {}
                Some((after, name)) if namespace == after => {
                    let rest = objects.range::<str, _>((Bound::Excluded(name), Bound::Unbounded));
                    listing.extend(rest.map(|(_, record)| record), limit);
                }
                _ if listing.records.len() >= limit => {
                    listing.remaining = listing.remaining.saturating_add(objects.len());
                }
                _ => listing.extend(objects.values(), limit),
            }
        }
        listing
    }

    /// Makes changes that are on disk visible, in order. `kind` is where the kind of each is. Who waits for them is woken by
    /// [`Self::wake`].
    pub(super) fn publish(
        &self,
        events: impl IntoIterator<Item = (usize, Arc<Event>)>,
        woken: &mut Woken,
    ) {
        let mut state = self.state.write();
        for (kind, event) in events {
            state.apply(kind, event);
            woken.0.insert(kind);
        }
    }

    pub(super) fn wake(&self, woken: &mut Woken) {
        for kind in std::mem::take(&mut woken.0) {
            if let Some(waker) = self.wakers.get(kind) {
                waker.send_replace(());
            }
        }
    }

    /// Resolves its receivers' `changed` at the next change of that kind.
    pub(super) fn subscribe(&self, kind: usize) -> Option<watch::Receiver<()>> {
        Some(self.wakers.get(kind)?.subscribe())
    }

    /// At most `most` changes of a kind after version `seen`.
    pub(super) fn after(
        &self,
        kind: usize,
        namespace: Option<&str>,
        seen: u64,
        most: usize,
    ) -> Result<Read, Expired> {
        let state = self.state.read();
        let mut read = Read { events: Vec::new(), seen };
        let Some(kind) = state.kinds.get(kind) else { return Ok(read) };
        if seen < kind.forgotten {
            return Err(Expired { oldest: kind.forgotten });
        }
        let start = kind.events.partition_point(|event| event.record.version <= seen);
        for event in kind.events.range(start..) {
            if namespace.is_some_and(|namespace| event.record.key.namespace != namespace) {
                continue;
            }
            if read.events.len() == most {
                return Ok(read);
            }
            read.seen = event.record.version;
            read.events.push(Arc::clone(event));
        }
        read.seen = read.seen.max(state.version);
        Ok(read)
    }

    /// The version up to which a watch that has seen its kind up to `seen` has seen everything: that before the next change
    /// of its kind, which never is less than what it was before that change came.
    pub(super) fn seen(&self, kind: usize, seen: u64) -> u64 {
        let state = self.state.read();
        let Some(kind) = state.kinds.get(kind).filter(|kind| seen >= kind.forgotten) else {
            return seen;
        };
        let next = kind.events.partition_point(|event| event.record.version <= seen);
        let before = kind.events.get(next).map(|event| event.record.version.saturating_sub(1));
        seen.max(before.unwrap_or(state.version))
    }
}

impl Woken {
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl fmt::Debug for Memory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Memory").field("version", &self.version()).finish_non_exhaustive()
    }
}

impl State {
    fn apply(&mut self, index: usize, event: Arc<Event>) {
        let version = event.record.version;
        debug_assert!(version > self.version, "versions only grow");
        self.version = version;
        let Some(kind) = self.kinds.get_mut(index) else { return };
        match event.kind {
            EventKind::Added | EventKind::Modified => kind.objects.put(Arc::clone(&event.record)),
            EventKind::Deleted => kind.objects.remove(&event.record.key),
        }
        self.history.bytes = self.history.bytes.saturating_add(size(&event));
        self.history.order.push_back(index);
        kind.events.push_back(event);
        while self.history.is_over() {
            self.forget_oldest();
        }
    }

    fn forget_oldest(&mut self) {
        let oldest = self.history.order.pop_front().and_then(|kind| self.kinds.get_mut(kind));
        if let Some(kind) = oldest
            && let Some(event) = kind.events.pop_front()
        {
            kind.forgotten = event.record.version;
            self.history.bytes = self.history.bytes.saturating_sub(size(&event));
        }
    }
}

impl Objects {
    fn get(&self, key: &Key) -> Option<&Arc<Record>> {
        self.0.get(&key.namespace)?.get(&key.name)
    }

    pub(super) fn put(&mut self, record: Arc<Record>) {
        // Most writes are to a namespace that is there: its name is copied only for the first.
        if let Some(objects) = self.0.get_mut(&record.key.namespace) {
            objects.insert(record.key.name.clone(), record);
        } else {
            let namespace = record.key.namespace.clone();
            self.0.entry(namespace).or_default().insert(record.key.name.clone(), record);
        }
    }

    fn remove(&mut self, key: &Key) {
        if let Some(objects) = self.0.get_mut(&key.namespace) {
            objects.remove(&key.name);
            if objects.is_empty() {
                self.0.remove(&key.namespace);
            }
        }
    }
}

impl History {
    /// Whether the oldest must go. The newest stays, however large it is.
    fn is_over(&self) -> bool {
        self.order.len() > 1 && (self.order.len() > self.max_events || self.bytes > self.max_bytes)
    }
}

impl Listing {
    fn extend<'a>(&mut self, records: impl Iterator<Item = &'a Arc<Record>>, limit: usize) {
        for record in records {
            if self.records.len() < limit {
                self.records.push(Arc::clone(record));
            } else {
                self.remaining = self.remaining.saturating_add(1);
            }
        }
    }
}

/// Bytes of JSON that an event holds.
fn size(event: &Event) -> usize {
    let previous = event.previous.as_ref().map_or(0, |previous| previous.json.len());
    event.record.json.len().saturating_add(previous)
}
