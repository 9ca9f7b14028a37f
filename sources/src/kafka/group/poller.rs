//! The thread of a consumer: it polls the client, hands records to the deliveries and commits what they finished.
//!
//! The client is used on this thread alone: its calls block, its callbacks run inside of them, and closing it takes as long
//! as Kafka takes to answer.

use std::io;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use rdkafka::consumer::Consumer;
use rdkafka::error::KafkaError;
use rdkafka::message::{BorrowedMessage, Message};
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use super::client::{Client, Meaning, Trouble, meaning};
use super::event::{Mapper, Record};
use super::lanes::{Pending, hash};
use super::ledger::Ledger;

/// How long to wait for a record while deliveries are under way: so late is one that ended committed.
const BUSY: Duration = Duration::from_millis(5);

/// How long to wait for a record otherwise: so late is it noticed that the source is to stop.
const IDLE: Duration = Duration::from_millis(100);

/// After so many polls in vain, about a second, deliveries that do not end are no reason to hurry.
const PATIENCE: u32 = 200;

/// After so many waits for room, about a second, the sink is away rather than slow; then fetching stops, and the client is
/// polled for what it has to tell.
const FULL: u32 = 10;

/// Records that are handed over at once, so that deliveries begin while more are read.
const HANDFUL: usize = 256;

/// Bytes that a record counts for beside its key, its headers and its value.
const OVERHEAD: usize = 512;

/// How long after a server failed it is asked whether any is there. One that restarts takes a few seconds, and the client
/// finds it again by itself.
const DOWN: Duration = Duration::from_secs(10);

/// How long one server may take to say that it is there after all.
const PROBE: Duration = Duration::from_secs(3);

/// What the thread of a consumer works with.
pub(super) struct Poller {
    pub(super) client: Client,
    pub(super) ledger: Arc<Ledger>,
    pub(super) mapper: Arc<Mapper>,
    pub(super) topics: Arc<[String]>,
    /// To the deliveries. As there is room for all that may be held, it is never full.
    pub(super) records: mpsc::Sender<Vec<Pending>>,
    pub(super) stop: CancellationToken,
}

/// The state of one run.
#[derive(Debug, Default)]
struct Pace {
    /// Polls in vain, one after the other.
    idle: u32,
    /// Waits for room in vain, one after the other.
    full: u32,
    /// Whether fetching is stopped.
    paused: bool,
}

impl Poller {
    /// Polls until it is told to stop or cannot go on, tells how it ended, and leaves the group.
    pub(super) fn run(self, ended: oneshot::Sender<Result<(), Trouble>>) {
        let Self { client, ledger, .. } = &self;
        match self.poll() {
            Ok(()) => {
                client.context().commit(client, &ledger.rest());
                drop(self);
                drop(ended.send(Ok(())));
            }
            Err(trouble) => {
                // Closing can take as long as Kafka is away, if offsets were on their way; nobody needs to wait for it.
                drop(ended.send(Err(trouble)));
                client.context().commit(client, &ledger.rest());
            }
        }
    }

    fn poll(&self) -> Result<(), Trouble> {
        let topics: Vec<&str> = self.topics.iter().map(String::as_str).collect();
        let refused = |error: KafkaError| Trouble::Config(format!("subscribe: {error}"));
        self.client.subscribe(&topics).map_err(refused)?;
        let mut pace = Pace::default();
        while !self.stop.is_cancelled() {
            self.client.context().commit(&self.client, &self.ledger.due());
            self.probe()?;
            if !self.has_way(&mut pace) {
                continue;
            }
            let busy = pace.idle < PATIENCE && !pace.paused && self.ledger.is_busy();
            let handful = self.read(if busy { BUSY } else { IDLE })?;
            if handful.is_empty() {
                pace.idle = pace.idle.saturating_add(1);
            } else {
                pace.idle = 0;
                if pace.paused {
                    // A partition that came since.
                    self.pause(&mut pace);
                }
                if self.records.try_send(handful).is_err() {
                    // The deliveries have ended, and with them the source.
                    return Ok(());
                }
                self.ledger.handed();
            }
        }
        Ok(())
    }

    /// Whether to poll now: there is room, or there has been none for so long that only what the client tells is of
    /// interest.
    fn has_way(&self, pace: &mut Pace) -> bool {
        if pace.paused {
            if self.ledger.is_half_empty() {
                self.resume(pace);
            }
            return true;
        }
        if self.ledger.has_room() || self.ledger.wait_for_room(IDLE) {
            pace.full = 0;
            return true;
        }
        pace.full += 1;
        if pace.full >= FULL {
            self.pause(pace);
        }
        pace.paused
    }

    fn pause(&self, pace: &mut Pace) {
        pace.paused = self.client.assignment().and_then(|all| self.client.pause(&all)).is_ok();
    }

    fn resume(&self, pace: &mut Pace) {
        let resumed = self.client.assignment().and_then(|all| self.client.resume(&all));
        match resumed {
            Ok(()) => (pace.paused, pace.full) = (false, 0),
            // Tried again in a moment.
            Err(error) => tracing::debug!(%error, "resume"),
        }
    }

    /// A handful of records, or none if there is none in time.
    fn read(&self, longest: Duration) -> Result<Vec<Pending>, Trouble> {
        let mut handful = Vec::new();
        let mut wait = longest;
        while let Some(polled) = self.client.poll(wait) {
            wait = Duration::ZERO;
            match polled {
                Ok(message) => handful.extend(self.take(&message)?),
                Err(error) => self.judge(&error)?,
            }
            if handful.len() >= HANDFUL || !self.ledger.has_room() {
                break;
            }
        }
        Ok(handful)
    }

    /// A record on its way, unless its partition is not this consumer's.
    fn take(&self, message: &BorrowedMessage<'_>) -> Result<Option<Pending>, Trouble> {
        let record = Record::of(message);
        let size = record.size() + OVERHEAD;
        let Record { topic, partition, offset, .. } = record;
        let Some(tenure) = self.ledger.begin(topic, partition, offset, size) else {
            return Ok(None);
        };
        let event = self.mapper.event(&record).map_err(|error| {
            Trouble::Config(format!("no event can be made of a record of {topic}: {error}"))
        })?;
        let key = message.key().filter(|key| !key.is_empty()).map(hash);
        Ok(Some(Pending { tenure, offset, size, key, event }))
    }

    fn judge(&self, error: &KafkaError) -> Result<(), Trouble> {
        let Some(code) = error.rdkafka_error_code() else { return Ok(()) };
        if let KafkaError::MessageConsumptionFatal(_) = error {
            return Err(Trouble::Unavailable(self.reason(error)));
        }
        match meaning(code, &self.reason(error)) {
            Meaning::Passing => {}
            Meaning::Down => self.ledger.is_missed(),
            Meaning::Final(trouble) => return Err(trouble),
        }
        Ok(())
    }

    /// What the client said with the error.
    fn reason(&self, error: &KafkaError) -> String {
        let complaint = self.ledger.complaint();
        if complaint.is_empty() { error.to_string() } else { complaint }
    }

    /// Whether Kafka is there, some time after a server failed.
    fn probe(&self) -> Result<(), Trouble> {
        if !self.ledger.is_away_for(DOWN) {
            return Ok(());
        }
        let topic = self.topics.first().map(String::as_str);
        match self.client.fetch_metadata(topic, PROBE) {
            Ok(_) => {
                self.ledger.is_there();
                Ok(())
            }
            Err(error) => Err(Trouble::Unavailable(self.reason(&error))),
        }
    }
}

/// Runs `call` on a thread of its own. The runtime waits at its end for its own threads, and a client can block for long.
pub(super) fn apart<T: Send + 'static>(
    name: &str,
    call: impl FnOnce(oneshot::Sender<T>) + Send + 'static,
) -> io::Result<oneshot::Receiver<T>> {
    let (sender, receiver) = oneshot::channel();
    let span = tracing::Span::current();
    // The system shows 15 characters of a name.
    let builder = thread::Builder::new().name(name.chars().take(15).collect());
    let _handle = builder.spawn(move || span.in_scope(|| call(sender)))?;
    Ok(receiver)
}
