//! Garbage collection: what goes because something else went.
//!
//! Dependents of absent owners are deleted, foreground and orphaning deletions are carried through, namespaces are emptied,
//! events that nobody will read any more are dropped. Driven by watches of every kind; what it knows it learns again at a
//! start, so nothing is lost in between. What to do with an object is decided from the store alone, whatever led there.

mod examine;
mod graph;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use crds::resource::{Catalog, Resource};
use futures_util::{StreamExt, stream};
use tokio::sync::mpsc;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, sleep_until};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::server::ApiServer;
use crate::store::{Event, EventKind, Record, Store};

use examine::examine;
use graph::{Graph, Id};

/// Messages that wait for the collector; the watches behind them have a history, so they can wait too.
const QUEUE: usize = 64;
/// Objects that are seen to at once: their writes share commits.
const CONCURRENT: usize = 32;
/// Objects that are seen to before the watches are looked at again.
const BATCH: usize = 256;
/// The first wait after a failure, and the longest.
const FIRST_WAIT: Duration = Duration::from_millis(50);
const LAST_WAIT: Duration = Duration::from_secs(60);
/// How often old events are looked for. Kubernetes keeps them for an hour, and so do we.
const EVENTS_EVERY: Duration = Duration::from_secs(60);

/// What a watch tells.
enum Seen {
    /// All objects of a kind: at the start, and when the watch fell behind.
    State(&'static Resource, Vec<Arc<Record>>),
    /// What happened since.
    Events(Vec<Arc<Event>>),
}

/// When an object that failed is seen to again.
struct Retry {
    attempts: u32,
    due: Instant,
}

/// What the collector has to do.
struct Work {
    graph: Graph,
    dirty: HashSet<Id>,
    retries: HashMap<Id, Retry>,
    /// Kinds whose state is not known yet: nothing is collected before all are.
    unknown: HashSet<(&'static str, &'static str)>,
}

/// Collects until stopped.
pub(crate) async fn run(server: &Arc<ApiServer>, stop: CancellationToken) {
    if !seeded(server, &stop).await {
        return;
    }
    let tasks = TaskTracker::new();
    let (sender, mut seen) = mpsc::channel(QUEUE);
    let mut work = Work::new(server.store().catalog());
    for resource in server.store().catalog().iter() {
        let (store, sender, stop) = (Arc::clone(server.store()), sender.clone(), stop.clone());
        tasks.spawn(async move {
            tokio::select! {
                () = stop.cancelled() => {}
                () = follow(&store, resource, &sender) => {}
            }
        });
    }
    drop(sender);
    tasks.close();
    let mut events = interval(EVENTS_EVERY);
    events.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let due = work.next_due();
        tokio::select! {
            biased;
            () = stop.cancelled() => break,
            message = seen.recv() => match message {
                Some(message) => work.take(message),
                None => break,
            },
            () = sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => {}
            _ = events.tick() => examine::drop_old_events(server).await,
        }
        // A deletion of many comes as many messages: they are seen to together.
        while let Ok(message) = seen.try_recv() {
            work.take(message);
        }
        work.see_to(server).await;
    }
    drop(seen);
    tasks.wait().await;
}

/// Waits until the store has what must be there from the start.
async fn seeded(server: &ApiServer, stop: &CancellationToken) -> bool {
    let mut wait = FIRST_WAIT;
    while let Err(refusal) = server.seed().await {
        tracing::warn!(%refusal, "the API cannot make what must be there from the start; it tries again");
        tokio::select! {
            () = stop.cancelled() => return false,
            () = sleep(wait) => wait = (wait * 2).min(LAST_WAIT),
        }
    }
    !stop.is_cancelled()
}

/// Tells everything that happens to the objects of a kind; ends when nobody listens.
async fn follow(store: &Store, resource: &'static Resource, sender: &mpsc::Sender<Seen>) {
    loop {
        let listing = store.list(resource, None, None, 0);
        let watch = store.watch(resource, None, listing.version);
        if sender.send(Seen::State(resource, listing.records)).await.is_err() {
            return;
        }
        let Ok(mut watch) = watch else { continue };
        while let Ok(events) = watch.next().await {
            if sender.send(Seen::Events(events)).await.is_err() {
                return;
            }
        }
    }
}

impl Work {
    fn new(catalog: Catalog) -> Self {
        let unknown = catalog.iter().map(|resource| (resource.group, resource.kind)).collect();
        let (graph, dirty, retries) = (Graph::new(catalog), HashSet::new(), HashMap::new());
        Self { graph, dirty, retries, unknown }
    }

    fn take(&mut self, message: Seen) {
        match message {
            Seen::State(resource, records) => {
                self.graph.forget(resource);
                for record in &records {
                    let told = self.graph.insert(record);
                    self.dirty.extend(told);
                }
                self.unknown.remove(&(resource.group, resource.kind));
                // What went unseen may have been the owner of any of them.
                self.dirty.extend(self.graph.owned());
            }
            Seen::Events(events) => {
                for event in events {
                    let told = match event.kind {
                        EventKind::Added | EventKind::Modified => self.graph.insert(&event.record),
                        EventKind::Deleted => self.graph.remove(&event.record),
                    };
                    self.dirty.extend(told);
                }
            }
        }
    }

    fn next_due(&self) -> Option<Instant> {
        if !self.unknown.is_empty() {
            return None;
        }
        let waiting = self.dirty.iter().any(|id| !self.retries.contains_key(id));
        let retries = self.retries.values().map(|retry| retry.due).min();
        if waiting { Some(Instant::now()) } else { retries }
    }

    /// Sees to a batch of what is due.
    async fn see_to(&mut self, server: &Arc<ApiServer>) {
        if !self.unknown.is_empty() {
            return;
        }
        let now = Instant::now();
        let due = |id: &Id| self.retries.get(id).is_none_or(|retry| retry.due <= now);
        let batch: Vec<Id> = self.dirty.iter().filter(|id| due(id)).take(BATCH).cloned().collect();
        let graph = &self.graph;
        let outcomes: Vec<_> = stream::iter(batch)
            .map(|id| async move {
                let outcome = examine(server, graph, &id).await;
                (id, outcome)
            })
            .buffer_unordered(CONCURRENT)
            .collect()
            .await;
        for (id, outcome) in outcomes {
            match outcome {
                Ok(()) => {
                    self.dirty.remove(&id);
                    self.retries.remove(&id);
                }
                Err(refusal) => {
                    let retry =
                        self.retries.entry(id.clone()).or_insert(Retry { attempts: 0, due: now });
                    retry.attempts = retry.attempts.saturating_add(1);
                    retry.due = Instant::now() + backoff(retry.attempts, fastrand::f64());
                    if !refusal.is_retryable() {
                        tracing::warn!(%refusal, %id, "an object cannot be collected yet");
                    }
                }
            }
        }
    }
}

/// The wait after so many failures; `luck` from 0 to 1 spreads what failed together.
fn backoff(attempts: u32, luck: f64) -> Duration {
    let doubled = FIRST_WAIT.saturating_mul(1 << attempts.saturating_sub(1).min(16));
    doubled.min(LAST_WAIT).mul_f64(0.5 + luck / 2.0)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::server::{Checks, Config, Limits};
    use crate::store::{Change, Expected, Key, Options};

    #[test]
    fn waits_double_up_to_a_limit() {
        assert_eq!(backoff(1, 1.0), FIRST_WAIT);
        assert_eq!(backoff(2, 1.0), FIRST_WAIT * 2);
        assert_eq!(backoff(1, 0.0), FIRST_WAIT / 2);
        assert_eq!(backoff(u32::MAX, 1.0), LAST_WAIT);
    }

    #[tokio::test]
    async fn events_that_happened_long_ago_are_dropped() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("api.redb");
        let store = Store::open(&path, Catalog::BUILTIN, Options::default()).unwrap();
        let checks = Checks { cesql: Box::new(|_| Ok(())) };
        let (git_version, limits) = (String::new(), Limits::default());
        let server =
            ApiServer::new(Arc::clone(&store), Config { token: None, git_version, checks, limits });
        let resource = Catalog::BUILTIN.of_kind("", "Event").unwrap();
        let now = jiff::Timestamp::now().to_string();
        for (name, time) in [("old", "2020-01-01T00:00:00Z"), ("new", now.as_str())] {
            let key = Key { resource, namespace: "n".to_owned(), name: name.to_owned() };
            let mut object =
                json!({"metadata": {"name": name, "namespace": "n", "creationTimestamp": time}});
            let change = Change::Put(Box::new(move |version| {
                object["metadata"]["resourceVersion"] = version.to_string().into();
                object.to_string().into()
            }));
            store.write(key, Expected::Absent, change).await.unwrap();
        }
        examine::drop_old_events(&server).await;
        let left = store.list(resource, None, None, 0).records;
        assert_eq!(left.len(), 1);
        assert_eq!(left[0].key.name, "new");
    }
}
