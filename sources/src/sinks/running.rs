//! Runs the sinks it is told to, and keeps running them.

use std::collections::{BTreeMap, HashMap};
use std::error::Error as StdError;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body::Body;
use http_body_util::Full;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::door::{Door, Doors};
use super::{Config, Context, Metrics};
use crate::backoff::Backoff;
use crate::given::Given;
use crate::runner::supervise::{Run, Supervised, supervise};
use crate::source::About;
use crate::status::{Board, Key, Status};

/// Waits between starts. Senders are waiting, so a system that is back is found within seconds.
const RESTART: Backoff =
    Backoff { first: Duration::from_millis(500), most: Duration::from_secs(10) };

/// The longest [`Sinks::stop`] takes: sinks are cut off after a second.
const STOP_TIMEOUT: Duration = Duration::from_secs(2);

/// A sink that should run.
#[derive(Clone, Debug, PartialEq)]
pub struct Wanted {
    /// Which resource it is.
    pub about: Arc<About>,
    /// What it needs of Secrets and `ConfigMap`s. Nothing while some of it is not there: then it does not run, and its requests
    /// are told to come again.
    pub given: Option<Given>,
    /// What it does.
    pub config: Config,
}

/// The handle on all running sinks. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Sinks(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    doors: Doors,
    board: Arc<Board>,
    tasks: TaskTracker,
    stop: CancellationToken,
    set: Mutex<Set>,
    metrics: Metrics,
}

#[derive(Debug, Default)]
struct Set {
    running: HashMap<Key, Running>,
    generation: u64,
}

/// A sink under supervision.
#[derive(Debug)]
struct Running {
    wanted: Wanted,
    door: Arc<Door>,
    stop: CancellationToken,
    /// Cancelled once nothing of it runs any more; nothing if nothing ever did.
    done: Option<CancellationToken>,
}

impl Wanted {
    /// What the sink is known by.
    #[must_use]
    pub fn key(&self) -> Key {
        let (namespace, name) = (Arc::clone(&self.about.namespace), Arc::clone(&self.about.name));
        Key { namespace, name, kind: self.config.kind_name() }
    }
}

impl Sinks {
    /// None yet. Bodies of requests may have up to `max_body` bytes. Sinks run on the tokio runtime that [`Sinks::apply`] is
    /// called on.
    #[must_use]
    pub fn new(max_body: usize, metrics: Metrics) -> Self {
        Self(Arc::new(Inner {
            doors: Doors::new(max_body, metrics.clone()),
            board: Board::new(),
            tasks: TaskTracker::new(),
            stop: CancellationToken::new(),
            set: Mutex::default(),
            metrics,
        }))
    }

    /// Makes the running sinks the wanted ones. What is unchanged is not touched; what changed is stopped and, once it has
    /// ended, started anew, while its requests wait for a moment; what is no longer wanted is stopped.
    ///
    /// Of two with one namespace and name the first counts, of whatever kind: they would have the same path. After
    /// [`Sinks::stop`] this does nothing.
    pub fn apply(&self, wanted: Vec<Wanted>) {
        let mut set = self.0.set();
        if self.0.stop.is_cancelled() {
            return;
        }
        let mut doors = HashMap::new();
        let mut before = std::mem::take(&mut set.running);
        for wanted in wanted {
            let (key, path) = (wanted.key(), path(&wanted.about.namespace, &wanted.about.name));
            if doors.contains_key(&path) {
                tracing::warn!(sink = %key, "the path of the sink is taken by another");
                continue;
            }
            let running = match before.remove(&key) {
                Some(running) if running.wanted == wanted => running,
                former => self.0.start(&mut set, &key, wanted, former),
            };
            doors.insert(path, Arc::clone(&running.door));
            set.running.insert(key, running);
        }
        self.0.doors.replace(doors);
        for (key, running) in before {
            running.stop.cancel();
            self.0.board.remove(&key);
            self.0.metrics.forget(&key);
        }
    }

    /// The status of every sink that should run.
    #[must_use]
    pub fn statuses(&self) -> BTreeMap<Key, Status> {
        self.0.board.read()
    }

    /// A number that differs from an earlier one if any status has changed since.
    #[must_use]
    pub fn revision(&self) -> u64 {
        self.0.board.revision()
    }

    /// Waits until [`Sinks::revision`] is no longer `seen`; returns what it is then.
    pub async fn changed_since(&self, seen: u64) -> u64 {
        self.0.board.changed_since(seen).await
    }

    /// Answers one HTTP request to `/sinks/{namespace}/{name}`. The body is read here.
    pub async fn serve<B>(
        &self,
        namespace: &str,
        name: &str,
        request: Request<B>,
    ) -> Response<Full<Bytes>>
    where
        B: Body<Data = Bytes> + Send,
        B::Error: Into<Box<dyn StdError + Send + Sync>>,
    {
        self.0.doors.serve(&path(namespace, name), request).await
    }

    /// Stops all sinks and waits until they have ended, about a second at most. Requests are told to come again.
    pub async fn stop(&self) {
        // Under the lock, so that no `apply` half done starts a sink behind our back.
        {
            let _set = self.0.set();
            self.0.stop.cancel();
        }
        self.0.doors.close();
        self.0.tasks.close();
        if timeout(STOP_TIMEOUT, self.0.tasks.wait()).await.is_err() {
            tracing::error!("a sink blocks its thread and is left behind");
        }
    }
}

impl Inner {
    fn start(&self, set: &mut Set, key: &Key, wanted: Wanted, former: Option<Running>) -> Running {
        let (previous, door) = match former {
            Some(former) => {
                former.stop.cancel();
                (former.done, former.door)
            }
            None => (None, Door::new(self.metrics.events(key))),
        };
        set.generation += 1;
        let stop = self.stop.child_token();
        let Some(given) = wanted.given.clone() else {
            self.board.remove(key);
            return Running { wanted, door, stop, done: previous };
        };
        let done = CancellationToken::new();
        let context = Context {
            about: Arc::clone(&wanted.about),
            given,
            stop: stop.clone(),
            report: self.board.open(key, set.generation),
            door: Arc::clone(&door),
        };
        let supervised = Supervised {
            key: key.clone(),
            stop: stop.clone(),
            report: context.report.clone(),
            restarts: self.metrics.restarts(key),
            restart: RESTART,
            previous,
            done: done.clone(),
        };
        let config = wanted.config.clone();
        let run = move || Box::pin(config.clone().run(context.clone())) as Run;
        self.tasks.spawn(supervise(supervised, self.tasks.clone(), run));
        Running { wanted, door, stop, done: Some(done) }
    }

    fn set(&self) -> MutexGuard<'_, Set> {
        // Nothing that can panic runs under the lock.
        self.set.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn path(namespace: &str, name: &str) -> String {
    format!("{namespace}/{name}")
}

#[cfg(test)]
mod tests;
