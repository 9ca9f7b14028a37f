//! The embedded backend: one log for all topics, a bitmap for each subscription, no server.
//!
//! Everything accepted goes into one [`broker_log::Log`], so that one sync commits what all senders sent meanwhile. A
//! router asks each topic's [`Selector`] once an event and sets a bit in every subscription it names; a subscription
//! that keeps up is handed the event from memory, one that does not reads it back later, and costs bits until then.
//! What became of deliveries goes, gathered, into a journal; a snapshot replaces it now and then. After a crash the
//! snapshot and the journal are read and the log is routed again from where the snapshot stood.
//!
//! What survives what:
//! - An event is durable before its append returns. Which subscriptions it goes to is never written: it follows from
//!   the log, the place in it up to which the snapshot's bitmaps are complete, and the selector.
//! - Settlements are written within 50 ms and not synced. Losing the last of them repeats deliveries, never more.
//! - Topics and subscriptions are synced before anything depends on them.
//! - A segment is deleted or thinned only to positions that no bitmap, no parked letter, no search for earlier events
//!   and no undecided stretch of the log needs.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, RwLock};
use std::thread::JoinHandle;
use std::time::Duration;

use arc_swap::ArcSwap;
use broker_event::Event;
use broker_log::fs::{Fs, RealFs};
use broker_log::{Commit, DataDir, Journal, Log, Recovery, Restored};
use futures_util::future::BoxFuture;
use tokio::sync::Semaphore;

use self::cleaner::Cleaner;
use self::durable::{Desk, Durable};
use self::engine::{Engine, Tag};
use self::journal_record::Record;
use self::queue::{Batch, Queue};
use self::registry::{Registry, Topics};
use self::router::{Router, Routing};
use self::scribe::Scribe;
use self::snapshot::State;
use self::subscription::Holder;
use self::sync::{Signal, lock};
use self::topic::OpenTopic;
use crate::inspect::{
    Continue, Inspect, Kept, Parked, ParkedSelection, Step, SubscriptionStatus, TopicStatus,
};
use crate::store::{
    AppendError, Position, Selector, Start, Store, StoreError, SubscribeOptions, Subscription,
    Topic, TopicOptions, with_replies,
};

mod book;
mod cleaner;
mod codec;
mod durable;
mod engine;
mod inspect;
mod journal_record;
mod ledger;
mod metrics;
mod queue;
mod registry;
mod router;
mod scanner;
mod scribe;
mod snapshot;
mod subscription;
mod sync;
mod topic;

pub use self::metrics::EmbeddedMetrics;

/// Threads that read for subscriptions at once. More only wait for the same disk, and ten thousand subscriptions that
/// fall behind together must not make as many threads.
const READERS: usize = 4;

/// How long a thread of the store waits after a panic before it starts again.
const AFTER_PANIC: Duration = Duration::from_secs(1);

/// How an embedded store keeps its events.
#[derive(Clone, Debug)]
pub struct EmbeddedOptions {
    /// Where a segment of the log ends and the next begins.
    pub segment_bytes: u64,
    /// Bytes of the newest sealed segments that are kept whole, for replay and for people, whether needed or not.
    pub history_bytes: u64,
    /// Bytes that may wait to be written; more are refused for the moment.
    pub max_queued_bytes: usize,
    /// Bytes of replaced journals that are kept so that an event's course can be explained.
    pub trail_bytes: u64,
    /// How often old events are expired, space is given back and snapshots are considered.
    pub upkeep: Duration,
    /// The file system; tests pass one that fails.
    pub fs: Arc<dyn Fs>,
}

impl Default for EmbeddedOptions {
    fn default() -> Self {
        let log = broker_log::Options::default();
        Self {
            segment_bytes: log.segment_bytes,
            history_bytes: 64 << 20,
            max_queued_bytes: log.max_queued_bytes,
            trail_bytes: 32 << 20,
            upkeep: Duration::from_secs(2),
            fs: Arc::new(RealFs),
        }
    }
}

/// Why a store could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The data directory: locked by another process, written by a newer version, read-only, or failing.
    #[error(transparent)]
    Data(#[from] broker_log::OpenError),
    /// The snapshot or the journal holds what this version does not understand.
    #[error("the state in {path} cannot be understood: {what}")]
    State {
        /// Where it is.
        path: String,
        /// What is wrong with it.
        what: String,
    },
    /// The system gave no thread.
    #[error("a thread of the store cannot be started")]
    Thread(#[source] std::io::Error),
}

impl OpenError {
    /// Whether opening may succeed later without anyone acting.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Data(error) => error.is_retryable(),
            Self::State { .. } => false,
            Self::Thread(_) => true,
        }
    }
}

/// The embedded store. Dropping it closes it.
#[derive(Debug)]
pub struct EmbeddedStore {
    engine: Arc<Engine>,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

impl EmbeddedStore {
    /// Opens the store in `dir`, which is created if need be. Reads the disk: run it off the async threads if others
    /// are waiting.
    ///
    /// # Errors
    /// [`OpenError`].
    pub fn open(dir: &Path, options: EmbeddedOptions) -> Result<Arc<Self>, OpenError> {
        let EmbeddedOptions {
            segment_bytes,
            history_bytes,
            max_queued_bytes,
            trail_bytes,
            upkeep,
            fs,
        } = options;
        let data_dir = DataDir::open(dir, &*fs)?;
        let (journal, restored) = Journal::open(&data_dir.state(), Arc::clone(&fs), trail_bytes)?;
        let state = restore(restored, &data_dir.state())?;
        let queue = Arc::new(Queue::default());
        let log_options = broker_log::Options { segment_bytes, max_queued_bytes };
        let (log, recovery) = Log::open(
            &data_dir.log(),
            Arc::clone(&fs),
            log_options,
            hand_over(Arc::clone(&queue)),
        )?;
        report(&recovery);
        let desk = Arc::new(Desk::default());
        // A log that lost its end must not make the router skip what is accepted from now on.
        let routed = state.routed.min(recovery.head);
        let (topics, registry, routing) = furnish(state, routed, &log, &desk);
        let recovering = registry
            .all()
            .filter(|durable| durable.with(|ledger| !ledger.book().settled().is_empty()));
        let cleaner = Cleaner::new(recovering.cloned().collect(), recovery.head, routed);
        let engine = Arc::new(Engine {
            log,
            scribe: Scribe::new(journal),
            desk,
            queue,
            topics: ArcSwap::from_pointee(topics),
            registry: RwLock::new(registry),
            routing: Mutex::new(routing),
            history: Mutex::new(()),
            readers: Arc::new(Semaphore::new(READERS)),
            keeper: Signal::default(),
            scanner: Signal::default(),
            closing: AtomicBool::new(false),
            router_trouble: Mutex::new(None),
            state_dir: data_dir.state(),
            data_dir: Mutex::new(Some(data_dir)),
            fs,
            history_bytes,
        });
        engine.queue.fall_behind();
        let store = Arc::new(Self { engine, threads: Mutex::new(Vec::new()) });
        store.start(cleaner, upkeep)?;
        Ok(store)
    }

    /// Closes the store: what was accepted is durable, what was settled is on record, holders hear
    /// [`StoreError::Closed`], and the directory may be opened again. Blocks until then; calling it again does nothing.
    pub fn close(&self) {
        let threads = std::mem::take(&mut *lock(&self.threads));
        let engine = &*self.engine;
        if engine.closing.swap(true, Ordering::AcqRel) {
            return;
        }
        engine.log.close();
        for durable in engine.durables() {
            durable.close(StoreError::Closed);
        }
        engine.queue.stop();
        engine.keeper.stop();
        engine.scanner.stop();
        engine.desk.writer.stop();
        for thread in threads {
            if thread.join().is_err() {
                tracing::error!("a thread of the store ended in a panic");
            }
        }
        if let Err(error) = engine.snapshot() {
            tracing::error!(%error, "no snapshot could be taken at the end; what was settled last may be delivered again");
        }
        engine.scribe.close();
        drop(lock(&engine.data_dir).take());
    }

    /// What the store counts.
    #[must_use]
    pub fn metrics(&self) -> &EmbeddedMetrics {
        &self.engine.desk.metrics
    }

    fn start(&self, mut cleaner: Cleaner, upkeep: Duration) -> Result<(), OpenError> {
        self.spawn("weft-router", |engine| {
            engine.queue.fall_behind();
            Router::default().run(engine);
        })?;
        self.spawn("weft-journal", |engine| {
            scribe::run(&engine.scribe, &engine.desk, &engine.registry)
        })?;
        self.spawn("weft-scanner", scanner::run)?;
        self.spawn("weft-cleaner", move |engine| cleaner.run(engine, upkeep))
    }

    /// Starts a thread that is started again should it panic: a store that silently stopped routing would be worse.
    fn spawn(
        &self,
        name: &'static str,
        mut run: impl FnMut(&Engine) + Send + 'static,
    ) -> Result<(), OpenError> {
        let engine = Arc::clone(&self.engine);
        let body = move || {
            while catch_unwind(AssertUnwindSafe(|| run(&engine))).is_err() {
                tracing::error!(thread = name, "a thread of the store panicked; it starts again");
                engine.set_router_trouble(Some(format!("the thread {name} panicked")));
                if engine.queue.pause(AFTER_PANIC) {
                    return;
                }
            }
        };
        let thread = std::thread::Builder::new()
            .name(name.to_owned())
            .spawn(body)
            .map_err(OpenError::Thread)?;
        lock(&self.threads).push(thread);
        Ok(())
    }
}

impl Drop for EmbeddedStore {
    fn drop(&mut self) {
        self.close();
    }
}

impl Store for EmbeddedStore {
    fn declare(&self, topic: &Topic, options: TopicOptions) -> Result<(), StoreError> {
        self.engine.declare(topic, options)
    }

    fn remove(&self, topic: &Topic) -> Result<(), StoreError> {
        self.engine.remove(topic)
    }

    fn append<'a>(
        &'a self,
        topic: &'a Topic,
        events: Vec<Event>,
    ) -> BoxFuture<'a, Result<(), AppendError>> {
        Box::pin(self.engine.append(topic, events, |budget| budget))
    }

    fn append_replies<'a>(
        &'a self,
        topic: &'a Topic,
        events: Vec<Event>,
    ) -> BoxFuture<'a, Result<(), AppendError>> {
        Box::pin(self.engine.append(topic, events, with_replies))
    }

    fn route(&self, topic: &Topic, selector: Arc<dyn Selector>) -> Result<(), StoreError> {
        self.engine.route(topic, selector)
    }

    fn subscribe(
        &self,
        topic: &Topic,
        name: &str,
        options: SubscribeOptions,
    ) -> Result<Box<dyn Subscription>, StoreError> {
        let (durable, slot) = self.engine.subscribe(topic, name, &options)?;
        Ok(Box::new(Holder::new(durable, slot, Arc::clone(&self.engine))))
    }

    fn unsubscribe(&self, topic: &Topic, name: &str) -> Result<(), StoreError> {
        self.engine.unsubscribe(topic, name)
    }
}

impl Inspect for EmbeddedStore {
    fn topics(&self) -> Vec<TopicStatus> {
        self.engine.topic_statuses()
    }

    fn subscriptions(&self) -> Vec<SubscriptionStatus> {
        self.engine.subscription_statuses()
    }

    fn parked(
        &self,
        which: &ParkedSelection,
        after: Option<Position>,
        limit: usize,
    ) -> Result<Vec<Parked>, StoreError> {
        self.engine.parked_letters(which, after, limit)
    }

    fn redrive(&self, which: &ParkedSelection) -> Result<u64, StoreError> {
        self.engine.redrive_parked(which)
    }

    fn purge(&self, which: &ParkedSelection) -> Result<u64, StoreError> {
        self.engine.purge_parked(which)
    }

    fn replay(&self, topic: &Topic, subscription: &str, from: Start) -> Result<u64, StoreError> {
        self.engine.replay_to(topic, subscription, from)
    }

    fn scan(&self, from: Start, visit: &mut dyn FnMut(Kept) -> Continue) -> Result<(), StoreError> {
        self.engine.walk(from, visit)
    }

    fn steps(&self, position: Position) -> Result<Vec<Step>, StoreError> {
        self.engine.steps_of(position)
    }

    fn unhealthy(&self) -> Option<String> {
        self.engine.unhealthy()
    }
}

/// Reads what the journal restored.
fn restore(restored: Restored, path: &Path) -> Result<State, OpenError> {
    let failed = |part: &str, error: codec::DecodeError| OpenError::State {
        path: path.display().to_string(),
        what: format!("{part}: {error}"),
    };
    if restored.damaged > 0 || restored.fell_back {
        tracing::error!(
            records = restored.damaged,
            older_snapshot = restored.fell_back,
            "the journal was damaged; events settled before may be delivered again"
        );
    }
    let mut state = match &restored.snapshot {
        Some(bytes) => State::decode(bytes).map_err(|error| failed("the snapshot", error))?,
        None => State::default(),
    };
    for bytes in restored.records {
        state.apply(
            Record::decode(&bytes).map_err(|error| failed("a record of the journal", error))?,
        );
    }
    Ok(state)
}

/// Makes the shared structures from the restored state.
fn furnish(
    state: State,
    routed: Position,
    log: &Log<Tag>,
    desk: &Arc<Desk>,
) -> (Topics, Registry, Routing) {
    let mut topics = Topics::default();
    let mut routing = Routing { next: routed, ..Routing::default() };
    for (stream, topic) in state.topics {
        let open = Arc::new(OpenTopic::new(stream, topic.topic, topic.budget));
        topics.by_name.insert(open.topic.clone(), Arc::clone(&open));
        topics.by_stream.insert(stream, open);
        if !topic.unrouted.is_empty() {
            routing.unrouted.insert(stream, topic.unrouted);
        }
    }
    // Should the state have been lost, a new topic must not inherit the events of an old one.
    let used =
        log.segments().iter().flat_map(|segment| &segment.streams).map(|used| used.stream).max();
    let next_stream = state.next_stream.max(used.map_or(0, |stream| stream.saturating_add(1)));
    let mut registry = Registry::new(next_stream, state.next_id);
    for (id, subscription) in state.subscriptions {
        let Some(open) = topics.by_stream.get(&subscription.stream) else { continue };
        let place = (open.stream, open.topic.clone());
        let durable =
            Durable::new(id, place, &subscription.name, subscription.book, Arc::clone(desk));
        registry.insert(&Arc::new(durable));
    }
    (topics, registry, routing)
}

/// What the log's thread does with what became durable: answer the senders, then tell the router.
fn hand_over(queue: Arc<Queue>) -> impl FnMut(&mut Vec<Commit<Tag>>) + Send + 'static {
    move |commits| {
        let mut batches = Vec::with_capacity(commits.len());
        for commit in commits.drain(..) {
            let Tag { done, topic, events, time_ms, bytes } = commit.tag;
            if commit.result.is_ok() {
                batches.push(Batch { topic, first: commit.first_offset, time_ms, bytes, events });
            }
            // A sender that went away does not hear of it; the event is kept all the same.
            done.send(commit.result).unwrap_or_default();
        }
        queue.push(batches);
    }
}

fn report(recovery: &Recovery) {
    for damage in &recovery.damaged {
        tracing::error!(
            file = %damage.file.display(),
            bytes = damage.bytes,
            offsets = ?damage.offsets,
            "stored events are damaged and cannot be delivered; those around them are kept"
        );
    }
    if recovery.torn_bytes > 0 {
        tracing::info!(
            bytes = recovery.torn_bytes,
            "dropped what was being written when the process ended"
        );
    }
}

#[cfg(test)]
mod tests;
