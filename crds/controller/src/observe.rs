//! Watches: one a kind, all into one world.

use std::collections::BTreeSet;
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::{Stream, StreamExt};
use kube::api::{Api, DynamicObject};
use kube::runtime::watcher::{self, Event, watcher};
use serde_json::Value;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::kinds::{Keep, Need, WATCHED, Watched};
use crate::retry;
use crate::world::{Change, Name, World};

/// The longest wait for a server that fails: nothing new is put in force before it works again.
const MOST_IF_BROKEN: Duration = Duration::from_secs(30);
/// The longest wait for a kind that the server does not serve: it comes with an installation, which takes minutes too.
const MOST_IF_ABSENT: Duration = Duration::from_secs(300);

/// After so many failures in a row a watch is not resumed but begun with a list: perhaps it is the version it goes on from.
const MOST_RESUMED: u32 = 5;
/// Failures with this much time between them are not in a row. The longest wait is shorter, so they are of a working server.
const APART: Duration = Duration::from_secs(600);

/// The world as the watches see it, and a number that grows with each change.
#[derive(Debug)]
pub(crate) struct Shared {
    seen: Mutex<Seen>,
    revision: watch::Sender<u64>,
}

#[derive(Debug)]
struct Seen {
    world: World,
    /// The plurals and groups of the kinds of which nothing was heard yet.
    unheard: BTreeSet<(&'static str, &'static str)>,
}

impl Shared {
    /// Of a world that keeps of `ConfigMaps` what [`World::new`] says.
    pub(crate) fn new(keeps_values: bool) -> Arc<Self> {
        let unheard = WATCHED.iter().map(id).collect();
        let seen = Mutex::new(Seen { world: World::new(keeps_values), unheard });
        Arc::new(Self { seen, revision: watch::Sender::new(0) })
    }

    /// The world; nothing until every kind was listed once, for a world without Triggers would be taken for their deletion.
    pub(crate) fn world(&self) -> Option<World> {
        let seen = self.seen();
        seen.unheard.is_empty().then(|| seen.world.clone())
    }

    /// Follows the changes from now on.
    pub(crate) fn subscribe(&self) -> watch::Receiver<u64> {
        self.revision.subscribe()
    }

    /// Says that it is worth looking again, though nothing changed.
    pub(crate) fn nudge(&self) {
        self.revision.send_modify(|revision| *revision += 1);
    }

    /// Takes in an object as a write of ours left it. That is no change to be planned for: it says what was planned.
    pub(crate) fn confirm(&self, watched: &'static Watched, object: Value) {
        self.seen().world.change(watched, Change::Confirm(object));
    }

    fn change(&self, watched: &'static Watched, change: Change) {
        let complete = matches!(change, Change::Replace(_));
        let mut seen = self.seen();
        let changed = seen.world.change(watched, change);
        let heard = complete && seen.unheard.remove(&id(watched));
        drop(seen);
        if changed || heard {
            self.nudge();
        }
    }

    /// Notes that the server does not serve the kind.
    fn absent(&self, watched: &'static Watched) {
        if self.seen().unheard.remove(&id(watched)) {
            self.nudge();
        }
    }

    fn is_unheard(&self, watched: &'static Watched) -> bool {
        self.seen().unheard.contains(&id(watched))
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        // Changes are applied whole or not at all, so what a panic left behind is still a world.
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn id(watched: &Watched) -> (&'static str, &'static str) {
    (watched.plural, watched.group)
}

/// Watches a kind until `stop`. What fails is begun again, after waits that grow: `kube`'s own ones begin anew with each list
/// that is only begun.
pub(crate) async fn observe(
    client: kube::Client,
    watched: &'static Watched,
    shared: Arc<Shared>,
    stop: CancellationToken,
) {
    let api: Api<DynamicObject> = Api::all_with(client, &watched.api_resource());
    let config = watched
        .label()
        .map_or_else(watcher::Config::default, |label| watcher::Config::default().labels(label));
    let mut failures = Failures::default();
    loop {
        let events = pin!(watcher(api.clone(), config.clone()));
        let followed = follow(events, watched, &shared, &mut failures);
        if stop.run_until_cancelled(followed).await.is_none() {
            return;
        }
    }
}

/// Follows a watch until only a new list helps.
async fn follow(
    mut events: Pin<&mut impl Stream<Item = watcher::Result<Event<DynamicObject>>>>,
    watched: &'static Watched,
    shared: &Shared,
    failures: &mut Failures,
) {
    let mut listed = Vec::new();
    while let Some(event) = events.next().await {
        match event {
            Ok(Event::Init) => listed.clear(),
            Ok(Event::InitApply(object)) => listed.extend(value(watched, object)),
            Ok(Event::InitDone) => {
                failures.row = 0;
                shared.change(watched, Change::Replace(std::mem::take(&mut listed)));
            }
            Ok(Event::Apply(object)) => {
                if let Some(value) = value(watched, object) {
                    shared.change(watched, Change::Put(value));
                }
            }
            Ok(Event::Delete(object)) => {
                let namespace = object.metadata.namespace.unwrap_or_default();
                let name = Name::new(namespace, object.metadata.name.unwrap_or_default());
                shared.change(watched, Change::Delete(name));
            }
            Err(error) => {
                failures.count(Instant::now());
                let most = failed(watched, shared, &error);
                let wait = retry::wait(failures.row, fastrand::f64()).min(most);
                tokio::time::sleep(wait).await;
                if is_expired(&error) || failures.row.is_multiple_of(MOST_RESUMED) {
                    return;
                }
            }
        }
    }
}

/// Failures of one watch.
#[derive(Debug, Default)]
struct Failures {
    /// So many in a row.
    row: u32,
    last: Option<Instant>,
}

impl Failures {
    fn count(&mut self, now: Instant) {
        let apart = self.last.is_some_and(|last| now.saturating_duration_since(last) > APART);
        self.row = if apart { 1 } else { self.row.saturating_add(1) };
        self.last = Some(now);
    }
}

/// Whether the server no longer knows the version from which the watch should go on. `kube` lists anew when the watch says
/// so, but asks for the same version for ever when the request itself is answered so.
fn is_expired(error: &watcher::Error) -> bool {
    let (watcher::Error::WatchStartFailed(error) | watcher::Error::WatchFailed(error)) = error
    else {
        return false;
    };
    matches!(error, kube::Error::Api(status) if status.code == 410)
}

/// The object as plain JSON. Items of lists do not say what they are, so it is said here.
pub(crate) fn value(watched: &Watched, object: DynamicObject) -> Option<Value> {
    let Value::Object(mut map) = object.data else { return None };
    map.insert("metadata".to_owned(), serde_json::to_value(object.metadata).ok()?);
    map.insert("apiVersion".to_owned(), watched.api_version().into());
    map.insert("kind".to_owned(), watched.kind.into());
    Some(map.into())
}

/// Says what a failure means; answers how long to wait at most before trying again.
fn failed(watched: &'static Watched, shared: &Shared, error: &watcher::Error) -> Duration {
    let (kind, group) = (watched.kind, watched.group);
    if may_be_absent(watched, error) {
        // What was known stays known: a kind that is gone took its objects with it, and the watch told of each.
        shared.absent(watched);
        tracing::debug!(kind, group, "not served here; looked for again from time to time");
        return MOST_IF_ABSENT;
    }
    if shared.is_unheard(watched) {
        tracing::warn!(kind, group, %error, "cannot be listed; nothing is put in force before it is");
    } else {
        tracing::warn!(kind, group, %error, "the watch was interrupted; the last state stays in force");
    }
    MOST_IF_BROKEN
}

fn may_be_absent(watched: &Watched, error: &watcher::Error) -> bool {
    let watcher::Error::InitialListFailed(kube::Error::Api(status)) = error else { return false };
    // Without the permission to see foreign kinds they have no address, or are not available; a source must not be forgotten
    // for that.
    let foreign = matches!(watched.keep, Keep::Address | Keep::Deployment);
    let denied = status.code == 403 && foreign;
    watched.need == Need::IfServed && (status.code == 404 || denied)
}
