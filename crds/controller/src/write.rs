//! Writes statuses and finalizers, and Events about them: as many at once as a server bears, each object again until it succeeds.

use std::collections::{BTreeMap, BTreeSet};
use std::future::pending;
use std::sync::Arc;
use std::time::Duration;

use crds::condition::Status;
use crds::meta::ObjectMeta;
use crds::object::Key;
use futures_util::stream::{FuturesUnordered, StreamExt};
use jiff::Timestamp;
use kube::api::{Api, DynamicObject, Patch, PatchParams, PostParams};
use kube::core::ApiResource;
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::kinds::{self, Watched};
use crate::notice::Notice;
use crate::observe::{Shared, value};
use crate::plan::deployment::DIGEST;
use crate::plan::{FINALIZER, Plan};
use crate::recorder::{Emission, Recorder};
use crate::retry::Retries;
use crate::status;
use crate::world::{Name, World};

/// Who the writes are from, in `metadata.managedFields`.
pub(crate) const MANAGER: &str = "weft-controller";
/// Writes under way at once. A write to an API server takes some 5 ms, so 10,000 statuses take seconds, and the server's
/// share for one client (Kubernetes' priority and fairness) is not used up.
const CONCURRENCY: usize = 16;
/// Events under way at once. More than these at a time are dropped: whoever reads Events learns nothing from a flood.
const EVENTS: usize = 32;
/// How long one may take; a server that does not answer is tried again like one that refuses.
pub(crate) const TIMEOUT: Duration = Duration::from_secs(30);

/// What is to be written of one object.
#[derive(Clone, Debug)]
pub(crate) struct Write {
    watched: &'static Watched,
    version: String,
    patch: Value,
    what: What,
}

#[derive(Clone, Debug)]
enum What {
    Status {
        status: Box<Status>,
        notice: Option<Notice>,
    },
    /// They come before the status: what depends on them waits.
    Finalizers(Vec<String>),
    /// An object of ours as a whole. `force` takes fields from others.
    Whole {
        force: bool,
    },
}

/// What is to be written, all of it.
pub(crate) type Writes = BTreeMap<Key, Write>;

/// Every status of `plan` that is not what `world` says, as `now` would have it.
pub(crate) fn differing(world: &World, plan: &Plan, now: Timestamp) -> Writes {
    let now = now.strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
    let notices: BTreeMap<&Key, &Notice> =
        plan.events.iter().map(|notice| (notice.about(), notice)).collect();
    let mut writes = Writes::new();
    for (key, planned) in &plan.statuses {
        let Some(watched) = kinds::planned(key.kind) else { continue };
        let name = Name::new(key.namespace.as_str(), key.name.as_str());
        let Some(metadata) = world.metadata(watched, &name) else { continue };
        let old = world.status(watched, &name);
        let Some(new) = status::renewed(old, planned, &now) else { continue };
        let version = metadata.resource_version.clone();
        let patch = status::patch(old, &new, &version);
        let notice = notices.get(key).map(|notice| (*notice).clone());
        let what = What::Status { status: Box::new(new), notice };
        writes.insert(key.clone(), Write { watched, version, patch, what });
    }
    for (key, wanted) in &plan.finalizers {
        let Some(watched) = kinds::planned(key.kind) else { continue };
        let name = Name::new(key.namespace.as_str(), key.name.as_str());
        let Some(metadata) = world.metadata(watched, &name) else { continue };
        writes.insert(key.clone(), finalizers(watched, metadata, *wanted));
    }
    for (key, planned) in &plan.deployments {
        let version = planned.version.clone().unwrap_or_default();
        let what = What::Whole { force: planned.version.is_some() };
        let (watched, patch) = (&kinds::DEPLOYMENT, planned.object.clone());
        writes.insert(key.clone(), Write { watched, version, patch, what });
    }
    writes
}

/// Adds ours, or takes it away; those of others stay.
fn finalizers(watched: &'static Watched, metadata: &ObjectMeta, wanted: bool) -> Write {
    let mut finalizers = metadata.finalizers.clone();
    finalizers.retain(|finalizer| finalizer != FINALIZER);
    if wanted {
        finalizers.push(FINALIZER.to_owned());
    }
    let version = metadata.resource_version.clone();
    let patch = json!({"metadata": {"resourceVersion": version, "finalizers": finalizers}});
    Write { watched, version, patch, what: What::Finalizers(finalizers) }
}

/// How a write ended.
#[derive(Debug)]
enum Outcome {
    Written(Box<DynamicObject>),
    /// The object is another one meanwhile.
    Conflict,
    /// It is no more.
    Gone,
    Failed(String),
}

/// The task that writes.
pub(crate) struct Writer {
    client: kube::Client,
    shared: Arc<Shared>,
    queue: Writes,
    flying: BTreeSet<Key>,
    retries: Retries,
    recorder: Recorder,
    /// When the queue was last made: what fell due after that is not in it.
    looked: Instant,
    /// Whether anything was written since the world was last looked at as a whole.
    wrote: bool,
}

impl Writer {
    pub(crate) fn new(client: kube::Client, shared: Arc<Shared>) -> Self {
        Self {
            client,
            shared,
            queue: Writes::new(),
            flying: BTreeSet::new(),
            retries: Retries::default(),
            recorder: Recorder::default(),
            looked: Instant::now(),
            wrote: false,
        }
    }

    /// Writes what `wanted` says until `stop`. Each value of it is everything that differs; what it no longer has, need not
    /// be written any more.
    pub(crate) async fn run(
        mut self,
        mut wanted: watch::Receiver<Arc<Writes>>,
        stop: CancellationToken,
    ) {
        let mut flights = FuturesUnordered::new();
        let mut events = FuturesUnordered::new();
        loop {
            while flights.len() < CONCURRENCY
                && let Some((key, write)) = self.next()
            {
                self.flying.insert(key.clone());
                flights.push(send(self.client.clone(), key, write));
            }
            let due = self.retries.next(self.looked);
            tokio::select! {
                () = stop.cancelled() => return,
                changed = wanted.changed() => {
                    // The controller is gone, and with it everything there is to write.
                    if changed.is_err() {
                        return;
                    }
                    let writes = Arc::clone(&wanted.borrow_and_update());
                    self.take(&writes);
                }
                Some((key, write, outcome)) = flights.next(), if !flights.is_empty() => {
                    let emission = self.done(&key, write, outcome);
                    if let Some(emission) = emission.filter(|_| events.len() < EVENTS) {
                        events.push(emit(self.client.clone(), key, emission));
                    }
                }
                Some(()) = events.next(), if !events.is_empty() => {}
                () = at(due) => {
                    self.looked = Instant::now();
                    self.shared.nudge();
                }
            }
        }
    }

    fn take(&mut self, writes: &Writes) {
        self.looked = Instant::now();
        self.wrote = false;
        let flying = &self.flying;
        self.retries.keep(|key| writes.contains_key(key) || flying.contains(key), self.looked);
        let allowed =
            |(key, write): &(&Key, &Write)| self.retries.allows(key, &write.version, self.looked);
        let allowed = writes.iter().filter(allowed);
        self.queue = allowed.map(|(key, write)| (key.clone(), write.clone())).collect();
    }

    /// The next one that is not under way already.
    fn next(&mut self) -> Option<(Key, Write)> {
        let key = self.queue.keys().find(|key| !self.flying.contains(*key)).cloned()?;
        self.queue.remove_entry(&key)
    }

    /// Takes in the object as it is now. A server that keeps something else than was written would be written to for ever,
    /// so that counts as a failure, which has its waits.
    fn written(&mut self, key: &Key, write: &Write, object: DynamicObject) {
        let value = value(write.watched, object).unwrap_or_default();
        if is_kept(write, &value) {
            self.retries.succeeded(key, Instant::now(), fastrand::f64());
        } else {
            tracing::warn!(object = %key, "the server keeps something else than was written");
            self.retries.failed(key.clone(), None, Instant::now(), fastrand::f64());
        }
        self.shared.confirm(write.watched, value);
    }

    /// Draws the conclusions; answers with the Event to emit.
    fn done(&mut self, key: &Key, write: Write, outcome: Outcome) -> Option<Emission> {
        self.flying.remove(key);
        let now = Instant::now();
        let mut emission = None;
        match outcome {
            Outcome::Written(object) => {
                self.wrote = true;
                self.written(key, &write, *object);
                let notice = match &write.what {
                    What::Status { notice, .. } => notice.as_ref(),
                    What::Finalizers(_) | What::Whole { .. } => None,
                };
                emission = notice.and_then(|n| self.recorder.record(n, now, Timestamp::now()));
            }
            Outcome::Conflict => {
                tracing::debug!(object = %key, "the object changed meanwhile; planned again");
                self.retries.failed(key.clone(), Some(write.version), now, fastrand::f64());
            }
            Outcome::Gone => self.retries.gone(key),
            Outcome::Failed(error) => {
                tracing::warn!(object = %key, error, "it cannot be written; tried again later");
                self.retries.failed(key.clone(), None, now, fastrand::f64());
            }
        }
        // What was wanted meanwhile was planned without knowing this outcome.
        let overtaken = self.queue.remove(key).is_some();
        let settled = self.wrote && self.queue.is_empty() && self.flying.is_empty();
        if overtaken || settled {
            // One look at the whole when all is written, for what depends on a status that was.
            self.wrote = false;
            self.shared.nudge();
        }
        emission
    }
}

/// Whether the server keeps what was written.
fn is_kept(write: &Write, object: &Value) -> bool {
    match &write.what {
        What::Status { status, .. } => {
            let kept = object.get("status").cloned().unwrap_or_default();
            serde_json::from_value::<Status>(kept).is_ok_and(|kept| kept == **status)
        }
        What::Finalizers(finalizers) => {
            let kept = object.pointer("/metadata/finalizers").and_then(Value::as_array);
            let kept = kept.into_iter().flatten().filter_map(Value::as_str);
            kept.eq(finalizers.iter().map(String::as_str))
        }
        What::Whole { .. } => object.pointer(DIGEST) == write.patch.pointer(DIGEST),
    }
}

async fn at(due: Option<Instant>) {
    match due {
        Some(due) => tokio::time::sleep_until(due).await,
        None => pending().await,
    }
}

async fn send(client: kube::Client, key: Key, write: Write) -> (Key, Write, Outcome) {
    let resource = write.watched.api_resource();
    let api: Api<DynamicObject> = Api::namespaced_with(client, &key.namespace, &resource);
    let params = PatchParams { field_manager: Some(MANAGER.to_owned()), ..PatchParams::default() };
    let patch = Patch::Merge(&write.patch);
    let sent = async {
        match write.what {
            What::Status { .. } => api.patch_status(&key.name, &params, &patch).await,
            What::Finalizers(_) => api.patch(&key.name, &params, &patch).await,
            // One that is somebody else's differs in its selector, which is a conflict.
            What::Whole { force } => {
                let params = PatchParams { force, ..params };
                api.patch(&key.name, &params, &Patch::Apply(&write.patch)).await
            }
        }
    };
    let sent = tokio::time::timeout(TIMEOUT, sent).await;
    let outcome = match sent {
        Ok(Ok(object)) => Outcome::Written(Box::new(object)),
        Ok(Err(kube::Error::Api(status))) if status.code == 409 => Outcome::Conflict,
        Ok(Err(kube::Error::Api(status))) if status.code == 404 => Outcome::Gone,
        Ok(Err(error)) => Outcome::Failed(error.to_string()),
        Err(_) => Outcome::Failed(format!("no answer in {} s", TIMEOUT.as_secs())),
    };
    (key, write, outcome)
}

/// Emits an Event. It is a courtesy: a failure is logged and nothing is tried again.
async fn emit(client: kube::Client, key: Key, emission: Emission) {
    let emitted = tokio::time::timeout(TIMEOUT, try_emit(client, &key, emission)).await;
    match emitted {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::debug!(object = %key, %error, "an Event was not taken"),
        Err(_) => tracing::debug!(object = %key, "an Event was not answered"),
    }
}

async fn try_emit(client: kube::Client, key: &Key, emission: Emission) -> kube::Result<()> {
    let resource = ApiResource {
        group: String::new(),
        version: "v1".to_owned(),
        api_version: "v1".to_owned(),
        kind: "Event".to_owned(),
        plural: "events".to_owned(),
    };
    let api: Api<DynamicObject> = Api::namespaced_with(client, &key.namespace, &resource);
    let event = match emission {
        Emission::Create(event) => event,
        Emission::Count { name, patch, otherwise } => {
            let params = PatchParams::default();
            match api.patch(&name, &params, &Patch::Merge(&patch)).await {
                Err(kube::Error::Api(status)) if status.code == 404 => otherwise,
                result => return result.map(drop),
            }
        }
    };
    let event = serde_json::from_value(event).map_err(kube::Error::SerdeError)?;
    let params = PostParams { field_manager: Some(MANAGER.to_owned()), ..PostParams::default() };
    api.create(&params, &event).await.map(drop)
}
