//! The loop: gather changes, plan, put in force, say so.

use std::collections::BTreeMap;
use std::fmt;
use std::future::{Future, pending};
use std::sync::Arc;

use crds::object::Key;
use dispatcher::Snapshot;
use jiff::Timestamp;
use sources::{Wanted, sinks};
use tokio::sync::{oneshot, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::bind::{Binder, Looks};
use crate::debounce::Debounce;
use crate::kinds::WATCHED;
use crate::observe::{Shared, observe};
use crate::plan::binding::Binding;
use crate::plan::{Config, InForce, Plan};
use crate::retry;
use crate::write::{Writer, Writes, differing};

/// What the data plane is told: everything that should be in force. Whatever is missing from it is gone.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Published {
    /// For the dispatcher.
    pub snapshot: Snapshot,
    /// For the sources' runner.
    pub sources: Vec<Wanted>,
    /// The sinks that should run.
    pub sinks: Vec<sinks::Wanted>,
    /// `namespace/name` of the sources that receive web hooks.
    pub hooks: Vec<String>,
    /// What a person should know: it is in force, but waits for something.
    pub notes: Vec<String>,
}

/// What the data plane answers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Applied {
    /// Brokers and Triggers that could not be put in force, and why. Their statuses say so, and the same is
    /// published again after a while.
    pub problems: Vec<(Key, String)>,
}

/// What is in force. Snapshots are handed over one after the other, never two at once.
pub trait DataPlane: Send + Sync + 'static {
    /// Brings everything into force; answers once it is.
    fn apply(&self, published: Published) -> impl Future<Output = Applied> + Send;

    /// How the sources and sinks are doing. The default knows of none.
    fn sources(&self) -> BTreeMap<sources::Key, sources::Status> {
        BTreeMap::new()
    }

    /// Ends when [`DataPlane::sources`] has something else to say than the last time. The default never ends.
    fn changed(&self) -> impl Future<Output = ()> + Send {
        pending()
    }
}

/// Keeps a data plane as the resources say, and the resources' statuses as the data plane is.
pub struct Controller<P> {
    client: kube::Client,
    config: Config,
    plane: P,
}

impl<P> fmt::Debug for Controller<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Controller").field("config", &self.config).finish_non_exhaustive()
    }
}

impl<P: DataPlane> Controller<P> {
    /// A controller over the API server behind `client`.
    #[must_use]
    pub fn new(client: kube::Client, config: Config, plane: P) -> Self {
        Self { client, config, plane }
    }

    /// Runs until `stop`. `synced` is told when everything that existed at the start is in force; until then the data plane
    /// hears nothing. An API server that is away is waited for, and what was in force stays so.
    pub async fn run(self, stop: CancellationToken, synced: oneshot::Sender<()>) {
        // Whoever stops waiting for this stops the tasks too.
        let stop = stop.child_token();
        let _stop_tasks = stop.clone().drop_guard();
        let tasks = TaskTracker::new();
        let shared = Shared::new(self.config.runs_programs);
        // Before the watches begin, so that their first word is not missed.
        let changes = shared.subscribe();
        for watched in WATCHED.iter() {
            let (client, shared) = (self.client.clone(), Arc::clone(&shared));
            tasks.spawn(observe(client, watched, shared, stop.clone()));
        }
        let (wanted, queue) = watch::channel(Arc::default());
        let writer = Writer::new(self.client.clone(), Arc::clone(&shared));
        tasks.spawn(writer.run(queue, stop.clone()));
        let (bindings, wished) = watch::channel(Arc::default());
        let (binder, looks) = Binder::new(self.client, Arc::clone(&shared));
        tasks.spawn(binder.run(wished, stop.clone()));
        tasks.close();
        let mut rounds = Rounds {
            shared,
            config: self.config,
            plane: self.plane,
            wanted,
            bindings,
            looks,
            synced: Some(synced),
            in_force: None,
            told: InForce::default(),
            failures: 0,
            again: None,
        };
        stop.run_until_cancelled(rounds.run(changes)).await;
        tasks.wait().await;
    }
}

struct Rounds<P> {
    shared: Arc<Shared>,
    config: Config,
    plane: P,
    wanted: watch::Sender<Arc<Writes>>,
    bindings: watch::Sender<Arc<BTreeMap<Key, Binding>>>,
    /// What the binder found.
    looks: watch::Receiver<Looks>,
    synced: Option<oneshot::Sender<()>>,
    in_force: Option<Published>,
    /// What the data plane said.
    told: InForce,
    /// Rounds in a row after which there were problems.
    failures: u32,
    /// When the same is published again because of these.
    again: Option<Instant>,
}

impl<P: DataPlane> Rounds<P> {
    async fn run(&mut self, mut changes: watch::Receiver<u64>) {
        loop {
            self.gather(&mut changes).await;
            self.round().await;
        }
    }

    /// Waits for something to do, and until it is likely all of it.
    async fn gather(&mut self, changes: &mut watch::Receiver<u64>) {
        let due = self.again;
        let again = async {
            match due {
                Some(due) => tokio::time::sleep_until(due).await,
                None => pending().await,
            }
        };
        // The sender is kept by `self.shared`, so waiting for changes cannot fail.
        tokio::select! {
            _ = changes.changed() => {}
            () = self.plane.changed(), if self.in_force.is_some() => {}
            () = again => {}
        }
        let first = Instant::now();
        let mut last = first;
        loop {
            tokio::select! {
                biased;
                () = tokio::time::sleep_until(Debounce::default().due(first, last)) => return,
                _ = changes.changed() => last = Instant::now(),
            }
        }
    }

    async fn round(&mut self) {
        let Some(world) = self.shared.world() else { return };
        self.told.sources = self.plane.sources();
        self.told.bindings.clone_from(&self.looks.borrow());
        let mut plan = Plan::make(&world, &self.config, &self.told);
        let published = Published {
            snapshot: std::mem::take(&mut plan.snapshot),
            sources: std::mem::take(&mut plan.sources),
            sinks: std::mem::take(&mut plan.sinks),
            hooks: std::mem::take(&mut plan.hooks),
            notes: std::mem::take(&mut plan.notes),
        };
        let asked = self.again.is_some_and(|due| due <= Instant::now());
        if asked || self.in_force.as_ref() != Some(&published) {
            let before = self.told.clone();
            self.apply(published).await;
            if self.told != before {
                plan = Plan::make(&world, &self.config, &self.told);
            }
        }
        if self.synced.take().is_some_and(|synced| synced.send(()).is_err()) {
            tracing::debug!("nobody waited for the first world");
        }
        let bindings = Arc::new(std::mem::take(&mut plan.bindings));
        self.bindings.send_if_modified(|known| {
            let differs = *known != bindings;
            known.clone_from(&bindings);
            differs
        });
        // Statuses last: they may only say what is in force.
        self.wanted.send_replace(Arc::new(differing(&world, &plan, Timestamp::now())));
    }

    async fn apply(&mut self, published: Published) {
        self.in_force = Some(published.clone());
        let applied = self.plane.apply(published).await;
        let mut problems: BTreeMap<Key, String> = BTreeMap::new();
        for (key, why) in applied.problems {
            problems.entry(key).or_insert(why);
        }
        self.failures = if problems.is_empty() { 0 } else { self.failures.saturating_add(1) };
        self.again = (self.failures > 0)
            .then(|| Instant::now() + retry::wait(self.failures, fastrand::f64()));
        self.told.problems = problems;
        self.told.sources = self.plane.sources();
    }
}
