//! Runs the sources it is told to, and keeps running them.
//!
//! The runner is handed the whole set of wanted sources and works out what to start, restart and stop; what triggered
//! the hand-over does not matter. Sources themselves know nothing about restarts.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::Config;
use crate::apiserver::Api;
use crate::backoff::Backoff;
use crate::checkpoint::{Checkpoint, Checkpoints};
use crate::clock::Clock;
use crate::emit::{Emit, Emitter, Overrides, Sink};
use crate::given::Given;
use crate::host::Host;
use crate::metrics::Metrics;
use crate::parking::{Parking, ParkingLot};
use crate::source::{About, Context, SourceError};
use crate::status::{Board, Key, Status};
use crate::webhook::Hooks;

pub(crate) mod supervise;

use supervise::{Supervised, supervise};

/// The longest [`Runner::stop`] takes: sources are cut off after a second, and removing a checkpoint is one unlink.
/// Only a source that blocks its thread needs longer, and waiting for it would help nobody.
const STOP_TIMEOUT: Duration = Duration::from_secs(2);

/// Waits between starts: at once enough that a blip goes unnoticed, and a minute at most, so that a source which
/// cannot work costs next to nothing and one whose upstream has come back is not idle for long.
const RESTART: Backoff = Backoff { first: Duration::from_secs(1), most: Duration::from_secs(60) };

/// A source that should run.
#[derive(Clone, Debug, PartialEq)]
pub struct Wanted {
    /// Which resource it is.
    pub about: Arc<About>,
    /// Where its events go.
    pub sink: Sink,
    /// Extensions set on its events.
    pub ce_overrides: Overrides,
    /// What it needs of Secrets and `ConfigMap`s.
    pub given: Given,
    /// What it does.
    pub config: Config,
    /// What is to become of it now.
    pub aim: Aim,
}

/// What is to become of a source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Aim {
    /// It runs.
    Run,
    /// It does not run, because something is missing; its checkpoint stays.
    Wait,
    /// It is on its way out: it is [retired](crate::Source::retire).
    Retire,
}

/// What sources reach the world through.
#[derive(Clone, Debug)]
pub struct Ports {
    /// Takes the events.
    pub emit: Arc<dyn Emit>,
    /// Keeps the checkpoints.
    pub checkpoints: Arc<dyn Checkpoints>,
    /// Keeps what no sink takes.
    pub parking: Arc<dyn ParkingLot>,
    /// Brings the requests of web hooks.
    pub hooks: Hooks,
    /// The URL before `/sources/…` under which the outside reaches them.
    pub public_url: Arc<str>,
    /// The URL of the events listener on this machine.
    pub events_url: Arc<str>,
    /// What the machine lends to programs that sources run.
    pub host: Arc<Host>,
    /// Tells the time.
    pub clock: Clock,
    /// The API server that has the resources, where there is one to watch.
    pub api: Option<Api>,
    /// Counts.
    pub metrics: Metrics,
}

/// The handle on all running sources. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Runner(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    ports: Ports,
    board: Arc<Board>,
    tasks: TaskTracker,
    stop: CancellationToken,
    sources: Mutex<Sources>,
}

#[derive(Debug, Default)]
struct Sources {
    running: HashMap<Key, Running>,
    /// The ends of sources that were removed; a successor under the same key waits for it.
    leaving: HashMap<Key, CancellationToken>,
    generation: u64,
}

/// A source under supervision.
#[derive(Debug)]
struct Running {
    wanted: Wanted,
    stop: CancellationToken,
    /// Cancelled once nothing of it runs any more.
    done: CancellationToken,
}

impl Wanted {
    /// What the source is known by.
    #[must_use]
    pub fn key(&self) -> Key {
        let (namespace, name) = (Arc::clone(&self.about.namespace), Arc::clone(&self.about.name));
        Key { namespace, name, kind: self.config.kind().name }
    }
}

impl Runner {
    /// A runner of nothing yet. Sources run on the tokio runtime that [`Runner::apply`] is called on.
    #[must_use]
    pub fn new(ports: Ports) -> Self {
        Self(Arc::new(Inner {
            ports,
            board: Board::new(),
            tasks: TaskTracker::new(),
            stop: CancellationToken::new(),
            sources: Mutex::default(),
        }))
    }

    /// Makes the running sources the wanted ones. What is unchanged is not touched; what changed is stopped and, once
    /// it has ended, started anew; what is no longer wanted is stopped, within a second, and its checkpoint removed. So is
    /// a source of the same name that another resource had.
    ///
    /// What does not run keeps what it was given while it did: the Secret with which it is to be
    /// [retired](crate::Source::retire) is often deleted with it.
    ///
    /// Of two with one key the first counts. After [`Runner::stop`] this does nothing.
    pub fn apply(&self, wanted: Vec<Wanted>) {
        let mut sources = self.0.sources();
        if self.0.stop.is_cancelled() {
            return;
        }
        sources.leaving.retain(|_, done| !done.is_cancelled());
        let uids: HashMap<Key, Arc<str>> =
            wanted.iter().map(|wanted| (wanted.key(), Arc::clone(&wanted.about.uid))).collect();
        let unwanted: Vec<Key> = sources
            .running
            .iter()
            .filter(|(key, running)| uids.get(*key) != Some(&running.wanted.about.uid))
            .map(|(key, _)| key.clone())
            .collect();
        for key in unwanted {
            self.0.remove(&mut sources, &key);
        }
        let mut seen = HashSet::new();
        for mut wanted in wanted {
            let key = wanted.key();
            if !seen.insert(key.clone()) {
                tracing::warn!(source = %key, "the source is given twice; the first counts");
                continue;
            }
            let running = sources.running.get(&key);
            if let Some(running) = running.filter(|_| wanted.aim != Aim::Run) {
                wanted.given.keep(&running.wanted.given);
            }
            if running.is_none_or(|running| running.wanted != wanted) {
                self.0.start(&mut sources, key, wanted);
            }
        }
        self.0.ports.hooks.know();
    }

    /// The status of every source that should run.
    #[must_use]
    pub fn statuses(&self) -> BTreeMap<Key, Status> {
        self.0.board.read()
    }

    /// A number that differs from an earlier one if any status has changed since.
    #[must_use]
    pub fn revision(&self) -> u64 {
        self.0.board.revision()
    }

    /// Waits until [`Runner::revision`] is no longer `seen`; returns what it is then.
    pub async fn changed_since(&self, seen: u64) -> u64 {
        self.0.board.changed_since(seen).await
    }

    /// Stops all sources and waits until they have ended, about a second at most. Checkpoints stay. Requests to web
    /// hooks are told to come again.
    pub async fn stop(&self) {
        // Under the lock, so that no `apply` half done starts a source behind our back.
        {
            let _sources = self.0.sources();
            self.0.stop.cancel();
        }
        self.0.ports.hooks.close();
        self.0.tasks.close();
        if timeout(STOP_TIMEOUT, self.0.tasks.wait()).await.is_err() {
            tracing::error!("a source blocks its thread and is left behind");
        }
    }
}

impl Inner {
    fn start(&self, sources: &mut Sources, key: Key, wanted: Wanted) {
        let running = sources.running.remove(&key);
        let expected = running.as_ref().is_some_and(|running| running.wanted.config.hook());
        match (expected, wanted.config.hook()) {
            (false, true) => self.ports.hooks.expect(&key.namespace, &key.name),
            (true, false) => self.ports.hooks.forget(&key.namespace, &key.name),
            (true, true) | (false, false) => {}
        }
        let previous = match running {
            Some(running) => {
                running.stop.cancel();
                Some(running.done)
            }
            None => sources.leaving.get(&key).cloned(),
        };
        sources.generation += 1;
        let stop = self.stop.child_token();
        let done = CancellationToken::new();
        let context = self.context(&key, &wanted, sources.generation, stop.clone());
        if wanted.aim == Aim::Wait {
            // What does not run has no status; whoever has it wait knows why.
            self.board.remove(&key);
        }
        let supervised = Supervised {
            key: key.clone(),
            stop: stop.clone(),
            report: context.report.clone(),
            restarts: context.metrics.restarts(),
            restart: RESTART,
            previous,
            done: done.clone(),
        };
        let (config, aim) = (wanted.config.clone(), wanted.aim);
        let run = move || -> supervise::Run {
            let (config, context) = (config.clone(), context.clone());
            match aim {
                Aim::Run => Box::pin(config.run(context)),
                Aim::Wait => Box::pin(wait(context)),
                Aim::Retire => Box::pin(retire(config, context)),
            }
        };
        // The tracker holds two tasks a source: the supervisor, and the source within reach of its own panic.
        self.tasks.spawn(supervise(supervised, self.tasks.clone(), run));
        sources.running.insert(key, Running { wanted, stop, done });
    }

    fn remove(&self, sources: &mut Sources, key: &Key) {
        let Some(running) = sources.running.remove(key) else { return };
        running.stop.cancel();
        if running.wanted.config.hook() {
            self.ports.hooks.forget(&key.namespace, &key.name);
        }
        self.board.remove(key);
        self.ports.metrics.forget(key);
        let checkpoint = self.checkpoint(key);
        // What removes the checkpoint ends the leaving, so that a successor under the same key starts after it and
        // does not lose its own.
        let (ended, left) = (running.done, CancellationToken::new());
        sources.leaving.insert(key.clone(), left.clone());
        let key = key.clone();
        self.tasks.spawn(async move {
            let _left = left.drop_guard();
            ended.cancelled().await;
            if let Err(error) = checkpoint.remove().await {
                tracing::warn!(source = %key, %error, "the checkpoint of a removed source stays");
            }
        });
    }

    fn context(
        &self,
        key: &Key,
        wanted: &Wanted,
        generation: u64,
        stop: CancellationToken,
    ) -> Context {
        let report = self.board.open(key, generation);
        let metrics = self.ports.metrics.of(key);
        let emit = Emitter::new(
            Arc::clone(&self.ports.emit),
            wanted.sink.clone(),
            wanted.ce_overrides.clone(),
            metrics.clone(),
            report.clone(),
        );
        let public = self.ports.public_url.trim_end_matches('/');
        Context {
            about: Arc::clone(&wanted.about),
            given: wanted.given.clone(),
            emit,
            stop,
            report,
            checkpoint: self.checkpoint(key),
            hooks: self.ports.hooks.clone(),
            url: format!("{public}/sources/{}/{}", key.namespace, key.name).into(),
            sink_url: wanted.sink.url(&self.ports.events_url).into(),
            host: Arc::clone(&self.ports.host),
            clock: self.ports.clock.clone(),
            api: self.ports.api.clone(),
            parking: Parking::new(Arc::clone(&self.ports.parking), &place(key)),
            metrics,
        }
    }

    fn checkpoint(&self, key: &Key) -> Checkpoint {
        Checkpoint::new(Arc::clone(&self.ports.checkpoints), &place(key))
    }

    fn sources(&self) -> MutexGuard<'_, Sources> {
        // Nothing that can panic runs under the lock.
        self.sources.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Where a source keeps what it keeps.
fn place(key: &Key) -> String {
    format!("{}/{}/{}", key.kind, key.namespace, key.name)
}

async fn wait(context: Context) -> Result<(), SourceError> {
    context.stop.cancelled().await;
    Ok(())
}

async fn retire(config: Config, context: Context) -> Result<(), SourceError> {
    config.retire(context.clone()).await?;
    context.report.retired();
    context.stop.cancelled().await;
    Ok(())
}

#[cfg(test)]
mod tests;
