//! From snapshot to workers: what changed is changed, the rest is left alone.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use broker::inspect::Inspect;
use broker::store::{Slot, Store, StoreError, SubscribeOptions, Subscription, Topic, TopicOptions};
use http::Uri;
use prometheus_client::registry::Registry;
use tokio::sync::{Mutex, mpsc, oneshot};
use tokio_util::task::TaskTracker;
use tracing::{Instrument, error, info, info_span, warn};

use crate::course::{Course, Surroundings};
use crate::filter::Filter;
use crate::filter::index::Index;
use crate::metrics::{Metrics, TriggerMetrics};
use crate::target::TargetError;
use crate::tls::Clients;
use crate::trigger::{Broker, Snapshot, Trigger};
use crate::worker::{Command, Worker};

/// Commands on their way to one worker. It takes each at once; more than these few means it is gone.
const COMMANDS: usize = 4;

/// How a dispatcher behaves. Limits have defaults with reasons.
#[derive(Clone, Debug)]
pub struct DispatcherConfig {
    /// Base address of the event listener; what a dead letter names when a reply could not be stored.
    pub events_url: Uri,
    /// Longest reply that is taken, in bytes; also the most a 2xx answer can make an attempt hold.
    pub reply_bytes: usize,
    /// How long attempts under way may take to end when the dispatcher stops.
    pub grace: Duration,
    /// Triggers with series of their own in the metrics; the rest share one.
    pub named_triggers: usize,
}

impl Default for DispatcherConfig {
    fn default() -> Self {
        Self {
            events_url: Uri::from_static("http://127.0.0.1:8080/"),
            // The largest event a broker takes by default.
            reply_bytes: 1 << 20,
            // Kubernetes kills 30 s after SIGTERM; the store and the listeners need some of it.
            grace: Duration::from_secs(10),
            // Some thirty lines each: a scrape stays below 10 MB.
            named_triggers: 1000,
        }
    }
}

/// Something of a snapshot that is not in force.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    /// A broker could not be declared or forgotten.
    #[error("broker {0}: {1}")]
    Broker(Topic, StoreError),
    /// A trigger could not be subscribed or forgotten.
    #[error("trigger {0}: {1}")]
    Trigger(String, StoreError),
    /// A trigger has an address that cannot be used: the last good one stays in force, a new trigger's events wait.
    #[error("trigger {0}: {1}")]
    Target(String, TargetError),
    /// Two triggers of one name listen to one broker: the first is in force.
    #[error("trigger {0} is there twice")]
    Duplicate(String),
}

impl Problem {
    /// Whether applying the same snapshot again may help.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Broker(_, error) | Self::Trigger(_, error) => error.is_retryable(),
            Self::Target(_, error) => error.is_retryable(),
            Self::Duplicate(_) => false,
        }
    }
}

/// What of a snapshot is not in force. Everything else is.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}", .problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))]
pub struct ApplyError {
    /// At least one.
    pub problems: Vec<Problem>,
}

impl ApplyError {
    /// Whether applying the same snapshot again may help.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        self.problems.iter().any(Problem::is_retryable)
    }
}

/// Delivers the events of a store to the subscribers of triggers.
#[derive(Debug)]
pub struct Dispatcher {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    store: Arc<dyn Store>,
    config: DispatcherConfig,
    metrics: Metrics,
    workers: TaskTracker,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    topics: HashMap<Topic, TopicOptions>,
    entries: HashMap<Key, Entry>,
    clients: Clients,
    /// Topics whose index must be built anew.
    stale: BTreeSet<Topic>,
    /// Triggers that are gone and whose subscriptions are not yet.
    forgotten: BTreeSet<Key>,
    stopped: bool,
}

/// A trigger's identity: a trigger that moved to another broker is another one.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
struct Key {
    topic: Topic,
    name: String,
}

/// A trigger in force.
#[derive(Debug)]
struct Entry {
    trigger: Arc<Trigger>,
    /// `None` until the store has granted the subscription once. It stays in the index from then on, read or not.
    slot: Option<Slot>,
    /// Whether the worker has a subscription; if not, the next apply tries again.
    reading: bool,
    metrics: TriggerMetrics,
    commands: mpsc::Sender<Command>,
    /// Why the trigger's course is not its latest.
    problem: Option<TargetError>,
}

/// What an apply has gathered on its way.
#[derive(Debug, Default)]
struct Progress {
    problems: Vec<Problem>,
    /// Subscriptions to be read once the index knows them.
    opened: Vec<(Key, Box<dyn Subscription>)>,
    /// Entries whose course must be made anew.
    changed: Vec<Key>,
}

impl Dispatcher {
    /// A dispatcher that does nothing until a snapshot is applied.
    #[must_use]
    pub fn new(store: Arc<dyn Store>, config: DispatcherConfig, registry: &mut Registry) -> Self {
        let state = State {
            topics: HashMap::new(),
            entries: HashMap::new(),
            clients: Clients::new(),
            stale: BTreeSet::new(),
            forgotten: BTreeSet::new(),
            stopped: false,
        };
        let metrics = Metrics::register(registry, config.named_triggers);
        let workers = TaskTracker::new();
        Self {
            inner: Arc::new(Inner { store, config, metrics, workers, state: Mutex::new(state) }),
        }
    }

    /// Puts `snapshot` in force: returns once events accepted from now on are routed by it. Applying the same snapshot
    /// again changes nothing but what failed before.
    ///
    /// What an earlier snapshot had and this one has not is gone: brokers with their events, triggers with their backlog
    /// and parked letters. What went while the dispatcher was not running is [`Dispatcher::sweep`]'s.
    ///
    /// # Errors
    /// [`ApplyError`] lists what is not in force; everything else is.
    pub async fn apply(&self, snapshot: Snapshot) -> Result<(), ApplyError> {
        let inner = Arc::clone(&self.inner);
        // A task of its own, so that a caller who stops waiting does not leave a snapshot half in force.
        let applied = self.inner.workers.spawn(async move { inner.apply(snapshot).await });
        applied.await.expect("applying a snapshot does not panic and is never aborted")
    }

    /// Forgets subscriptions that the snapshot in force does not name though it has their broker: those of triggers deleted,
    /// or moved to another broker, while the dispatcher was not running, which would keep their events for ever. Answers
    /// how many.
    ///
    /// A broker that the snapshot does not have keeps its events, and is named in the log: it is as likely that its
    /// resources were not given this time as that it was deleted.
    ///
    /// To be called once a complete snapshot has been applied, never before.
    ///
    /// # Errors
    /// [`StoreError`] when it cannot be recorded.
    pub async fn sweep(&self, inspect: &dyn Inspect) -> Result<usize, StoreError> {
        let state = self.inner.state.lock().await;
        let mut swept = 0;
        if state.stopped {
            return Ok(swept);
        }
        for topic in inspect.topics().into_iter().map(|status| status.topic) {
            if !state.topics.contains_key(&topic) {
                warn!(broker = %topic, "nothing declares this broker; its events are kept");
            }
        }
        for status in inspect.subscriptions() {
            let key = Key { topic: status.topic, name: status.name };
            if state.topics.contains_key(&key.topic) && !state.entries.contains_key(&key) {
                self.inner.store.unsubscribe(&key.topic, &key.name)?;
                let (backlog, parked) = (status.backlog, status.parked);
                info!(trigger = key.name, broker = %key.topic, backlog, parked, "forgotten: nothing declares it any more");
                swept += 1;
            }
        }
        Ok(swept)
    }

    /// Stops reading, lets attempts under way end for the configured grace, and gives back the rest uncounted.
    /// Later snapshots are ignored.
    pub async fn stop(&self) {
        self.inner.stop().await;
    }
}

impl Inner {
    async fn apply(&self, snapshot: Snapshot) -> Result<(), ApplyError> {
        let mut state = self.state.lock().await;
        if state.stopped {
            return Ok(());
        }
        let mut progress = Progress::default();
        self.apply_brokers(&mut state, &snapshot.brokers, &mut progress).await;
        let gone = self.apply_triggers(&mut state, snapshot.triggers, &mut progress).await;
        self.route(&mut state, &mut progress);
        self.set_courses(&mut state, &mut progress).await;
        for (key, entry) in gone {
            retire(entry).await;
            state.forgotten.insert(key);
        }
        self.unsubscribe(&mut state, &mut progress);
        state.forget_clients();
        for (key, entry) in &state.entries {
            progress.problems.extend(
                entry.problem.clone().map(|error| Problem::Target(key.name.clone(), error)),
            );
        }
        if progress.problems.is_empty() {
            Ok(())
        } else {
            Err(ApplyError { problems: progress.problems })
        }
    }

    /// Forgets the subscriptions of triggers that are gone, also those that could not be forgotten before.
    fn unsubscribe(&self, state: &mut State, progress: &mut Progress) {
        for key in std::mem::take(&mut state.forgotten) {
            if state.entries.contains_key(&key) {
                continue; // it is back, and has its place again
            }
            match self.store.unsubscribe(&key.topic, &key.name) {
                Ok(()) | Err(StoreError::UnknownTopic(_) | StoreError::UnknownSubscription(_)) => {}
                Err(error) => {
                    progress.problems.push(Problem::Trigger(key.name.clone(), error));
                    state.forgotten.insert(key);
                }
            }
        }
    }

    async fn stop(&self) {
        let mut state = self.state.lock().await;
        state.stopped = true;
        state.entries.clear(); // a worker ends when nobody can command it any more
        drop(state);
        self.workers.close();
        self.workers.wait().await;
        self.state.lock().await.clients = Clients::new(); // the old ones close their connections
    }

    async fn apply_brokers(&self, state: &mut State, brokers: &[Broker], progress: &mut Progress) {
        let wanted: HashSet<&Topic> = brokers.iter().map(|broker| &broker.topic).collect();
        let gone: Vec<Topic> =
            state.topics.keys().filter(|topic| !wanted.contains(topic)).cloned().collect();
        for topic in gone {
            let keys: Vec<Key> =
                state.entries.keys().filter(|key| key.topic == topic).cloned().collect();
            for key in keys {
                if let Some(entry) = state.entries.remove(&key) {
                    retire(entry).await;
                }
            }
            match self.store.remove(&topic) {
                Ok(()) | Err(StoreError::UnknownTopic(_)) => {
                    state.topics.remove(&topic);
                    state.stale.remove(&topic);
                }
                // It stays, so that the next apply tries again.
                Err(error) => progress.problems.push(Problem::Broker(topic, error)),
            }
        }
        for broker in brokers {
            if state.topics.get(&broker.topic) == Some(&broker.options) {
                continue;
            }
            match self.store.declare(&broker.topic, broker.options) {
                Ok(()) => {
                    state.topics.insert(broker.topic.clone(), broker.options);
                }
                Err(error) => progress.problems.push(Problem::Broker(broker.topic.clone(), error)),
            }
        }
    }

    /// Subscribes what is new or reads differently and notes what changed; returns the entries that are gone.
    async fn apply_triggers(
        &self,
        state: &mut State,
        triggers: Vec<Trigger>,
        progress: &mut Progress,
    ) -> Vec<(Key, Entry)> {
        let mut gone = std::mem::take(&mut state.entries);
        for trigger in triggers {
            let key = Key { topic: trigger.broker.clone(), name: trigger.subscription() };
            if !state.topics.contains_key(&key.topic) {
                continue; // waits for its broker
            }
            if state.entries.contains_key(&key) {
                progress.problems.push(Problem::Duplicate(key.name));
                continue;
            }
            let mut entry = match gone.remove(&key) {
                // A worker without an inbox has panicked; the trigger must not stay without one.
                Some(entry) if !entry.commands.is_closed() => entry,
                _ => self.create(&key, &trigger, progress),
            };
            self.update(state, &mut entry, progress, trigger).await;
            state.entries.insert(key, entry);
        }
        state.stale.extend(gone.keys().map(|key| key.topic.clone()));
        gone.into_iter().collect()
    }

    fn create(&self, key: &Key, trigger: &Trigger, progress: &mut Progress) -> Entry {
        let (commands, inbox) = mpsc::channel(COMMANDS);
        let worker = Worker::new(key.name.clone(), inbox, self.config.grace);
        self.workers.spawn(worker.run().instrument(info_span!("trigger", name = key.name)));
        progress.changed.push(key.clone());
        Entry {
            trigger: Arc::new(trigger.clone()),
            slot: None,
            reading: false,
            metrics: self.metrics.trigger(&trigger.namespace, &trigger.name),
            commands,
            problem: None,
        }
    }

    async fn update(
        &self,
        state: &mut State,
        entry: &mut Entry,
        progress: &mut Progress,
        trigger: Trigger,
    ) {
        let key = Key { topic: trigger.broker.clone(), name: trigger.subscription() };
        let options = trigger.subscribe_options();
        if !entry.reading || !reads_alike(&entry.trigger.subscribe_options(), &options) {
            give_up_subscription(entry).await;
            entry.reading = false;
            match self.store.subscribe(&key.topic, &key.name, options) {
                Ok(subscription) => {
                    if entry.slot.replace(subscription.slot()) != Some(subscription.slot()) {
                        state.stale.insert(key.topic.clone());
                    }
                    entry.reading = true;
                    progress.opened.push((key.clone(), subscription));
                }
                Err(error) => progress.problems.push(Problem::Trigger(key.name.clone(), error)),
            }
        }
        if *entry.trigger == trigger {
            return;
        }
        if entry.trigger.filter != trigger.filter {
            state.stale.insert(key.topic.clone());
        }
        entry.trigger = Arc::new(trigger);
        progress.changed.push(key);
    }

    /// Hands the store an index for each topic whose triggers changed.
    fn route(&self, state: &mut State, progress: &mut Progress) {
        let mut pairs: HashMap<Topic, Vec<(Slot, Filter)>> =
            std::mem::take(&mut state.stale).into_iter().map(|topic| (topic, Vec::new())).collect();
        for (key, entry) in &state.entries {
            if let (Some(pairs), Some(slot)) = (pairs.get_mut(&key.topic), entry.slot) {
                pairs.push((slot, entry.trigger.filter.clone()));
            }
        }
        for (topic, mut pairs) in pairs {
            pairs.sort_by_key(|(slot, _)| *slot);
            if let Err(error) = self.store.route(&topic, Arc::new(Index::new(pairs))) {
                progress.problems.push(Problem::Broker(topic.clone(), error));
                state.stale.insert(topic); // the next apply tries again
            }
        }
    }

    /// Tells workers how to deliver, then what to read.
    async fn set_courses(&self, state: &mut State, progress: &mut Progress) {
        let mut around = Surroundings {
            store: &self.store,
            events_url: &self.config.events_url,
            reply_bytes: self.config.reply_bytes,
            clients: &mut state.clients,
        };
        for key in std::mem::take(&mut progress.changed) {
            let Some(entry) = state.entries.get_mut(&key) else { continue };
            let course = if entry.trigger.paused {
                entry.problem = None;
                None
            } else {
                match Course::new(Arc::clone(&entry.trigger), entry.metrics.clone(), &mut around) {
                    Ok(course) => {
                        entry.problem = None;
                        Some(Arc::new(course))
                    }
                    Err(error) => {
                        entry.problem = Some(error);
                        continue;
                    }
                }
            };
            command(entry, Command::Course(course)).await;
        }
        for (key, subscription) in std::mem::take(&mut progress.opened) {
            if let Some(entry) = state.entries.get(&key) {
                command(entry, Command::Read(subscription)).await;
            }
        }
    }
}

impl State {
    fn forget_clients(&mut self) {
        let triggers = self.entries.values().map(|entry| &entry.trigger);
        let targets = triggers
            .flat_map(|trigger| trigger.delivery.dead_letter.iter().chain([&trigger.subscriber]));
        let named = targets.filter_map(|target| target.ca_certs.as_deref()).collect();
        self.clients.keep(&named);
    }
}

/// Whether two sets of options mean the same for a subscription that exists: where it started no longer matters.
fn reads_alike(old: &SubscribeOptions, new: &SubscribeOptions) -> bool {
    SubscribeOptions { start: new.start, ..old.clone() } == *new
}

async fn command(entry: &Entry, command: Command) {
    if entry.commands.send(command).await.is_err() {
        error!(trigger = entry.trigger.subscription(), "the trigger's worker is gone");
    }
}

/// Returns once the worker has dropped its subscription; attempts under way go on.
async fn give_up_subscription(entry: &Entry) {
    let (done, given_up) = oneshot::channel();
    command(entry, Command::Yield(done)).await;
    // An error means that the worker is gone, and its subscription with it.
    given_up.await.unwrap_or_default();
}

/// Ends a worker whose trigger is gone. Attempts under way may end; their events will not be handed out again.
async fn retire(entry: Entry) {
    give_up_subscription(&entry).await;
}

#[cfg(test)]
mod tests;
