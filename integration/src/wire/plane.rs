//! The mesh as the reconcilers see it: what they publish is put in force, and what could not be is told.

use std::collections::{BTreeMap, HashSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use crds::object::Key;
use crds::{broker, trigger};
use crds_controller::{Applied, DataPlane, Published};
use dispatcher::Problem;

use super::Mesh;

pub(super) struct Plane {
    mesh: Arc<Mesh>,
    /// The sources' and the sinks' revision that the last answer was about.
    seen: [AtomicU64; 2],
    /// The notes of the last time: what still waits is not told again.
    told: Mutex<HashSet<String>>,
}

impl Plane {
    pub(super) fn new(mesh: Arc<Mesh>) -> Self {
        Self { mesh, seen: Default::default(), told: Mutex::default() }
    }

    fn tell(&self, notes: Vec<String>) {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        for note in notes.iter().filter(|note| !told.contains(*note)) {
            tracing::warn!("{note}");
        }
        *told = notes.into_iter().collect();
    }
}

impl DataPlane for Plane {
    async fn apply(&self, published: Published) -> Applied {
        let mesh = &self.mesh;
        let dispatched = mesh.dispatcher.apply(published.snapshot.clone()).await;
        mesh.snapshot.store(Arc::new(published.snapshot));
        mesh.sources.apply(published.sources);
        mesh.sinks.apply(published.sinks);
        *mesh.hooked.lock().unwrap_or_else(PoisonError::into_inner) = published.hooks;
        let refused = dispatched.err().map_or(Vec::new(), |error| error.problems);
        let problems: Vec<(Key, String)> = refused.into_iter().map(about).collect();
        let told = problems.iter().map(|(key, problem)| format!("{key}: {problem}"));
        self.tell(published.notes.into_iter().chain(told).collect());
        Applied { problems }
    }

    fn sources(&self) -> BTreeMap<sources::Key, sources::Status> {
        // Before the statuses: what changes in between is seen as a change.
        let [sources, sinks] = &self.seen;
        sources.store(self.mesh.sources.revision(), Ordering::SeqCst);
        sinks.store(self.mesh.sinks.revision(), Ordering::SeqCst);
        let mut statuses = self.mesh.sources.statuses();
        statuses.append(&mut self.mesh.sinks.statuses());
        statuses
    }

    async fn changed(&self) {
        let [sources, sinks] = self.seen.each_ref().map(|seen| seen.load(Ordering::SeqCst));
        tokio::select! {
            _ = self.mesh.sources.changed_since(sources) => {}
            _ = self.mesh.sinks.changed_since(sinks) => {}
        }
    }
}

/// The object that a problem of the dispatcher is about.
fn about(problem: Problem) -> (Key, String) {
    let (kind, name, why) = match problem {
        Problem::Broker(topic, error) => (broker::KIND, topic.to_string(), error.to_string()),
        Problem::Trigger(name, error) => (trigger::KIND, name, error.to_string()),
        Problem::Target(name, error) => (trigger::KIND, name, error.to_string()),
        Problem::Duplicate(name) => (trigger::KIND, name, "it is there twice".to_owned()),
    };
    let (namespace, name) = name.split_once('/').unwrap_or(("", &name));
    (Key { kind, namespace: namespace.to_owned(), name: name.to_owned() }, why)
}
