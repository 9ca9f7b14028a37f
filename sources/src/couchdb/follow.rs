//! Reads the changes of a database, hands them over, and remembers how far that came: one batch is being stored while the
//! next is being read.

use std::time::Duration;

use broker_event::Event;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use serde::Deserialize;
use serde_json::Value;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, sleep_until, timeout};

use super::change::{Said, Shape};
use super::cursor::Cursor;
use super::database::{Database, HEARTBEAT_MS, PAGE};
use super::rows::{MAX_ROW, Row, Rows};
use super::sequence::Sequence;
use crate::source::{Context, SourceError};
use crate::status::Condition;

/// Whether the changes are those of the database that they were of before, in its order.
pub(super) const SEQUENCE_KEPT: &str = "SequenceKept";

/// Events of one batch: with that many, what a batch costs no longer counts.
const MAX_BATCH: usize = 1000;

/// Bytes of the data of one batch, beyond which nothing is added to it: what the mesh takes as one batch from others too.
/// A batch ends with the row that passes it, so a batch has [`MAX_ROW`] more at most; one is stored while one is read.
const MAX_BATCH_BYTES: usize = 1024 * 1024;

/// How long an open request may be silent: several heartbeats.
const SILENCE: Duration = Duration::from_millis(5 * HEARTBEAT_MS);

/// How long an answer of the feed `normal` may take to go on: a selector can pass over many changes without a word.
const PATIENCE: Duration = Duration::from_secs(120);

/// How long to wait after an answer that had no more to tell. Knative's choice.
const PAUSE: Duration = Duration::from_secs(2);

/// How often the database itself is looked at: how much waits, and whether it is still the same.
const LOOK: Duration = Duration::from_secs(10);

/// How long a look at the database may take while changes are being read.
const LOOK_TIMEOUT: Duration = Duration::from_secs(5);

/// A source at work.
#[derive(Debug)]
pub(super) struct Follower {
    pub(super) ctx: Context,
    pub(super) database: Database,
    pub(super) shape: Shape,
    pub(super) cursor: Cursor,
    /// When the database was last looked at.
    pub(super) looked: Instant,
}

/// Changes on their way to the sink.
#[derive(Debug, Default)]
struct Batch {
    events: Vec<Event>,
    /// Events of documents that are too large.
    cut: Vec<Event>,
    bytes: usize,
    /// How far the changes are read with it.
    since: Option<Sequence>,
}

/// How the reading of one answer ended.
#[derive(Debug, PartialEq, Eq)]
enum Ended {
    /// The server has told all; whether there is more at once.
    Told { more: bool },
    /// The database is another one than before.
    Replaced,
    /// There is no such database any more.
    Gone,
    /// The other half failed, and says why.
    Abandoned,
}

/// Reads one answer of a feed.
struct Reading<'a> {
    ctx: &'a Context,
    database: &'a Database,
    shape: &'a Shape,
    looked: &'a mut Instant,
    rows: Rows,
    found: Vec<Row>,
    batch: Batch,
    /// How many rows there were.
    count: usize,
    /// The sequence after which this answer begins, until the first row was compared with it.
    begins_after: Option<Sequence>,
    /// The sequence of the last row.
    last: Sequence,
}

/// What is around the rows of the feed `normal`.
#[derive(Debug, Deserialize)]
struct Envelope {
    last_seq: Sequence,
    /// How many changes follow; not every server says so.
    #[serde(default)]
    pending: Value,
}

impl Follower {
    /// Until the source is asked to stop.
    ///
    /// # Errors
    /// When reading or handing over fails.
    pub(super) async fn follow(mut self) -> Result<(), SourceError> {
        self.announce();
        loop {
            let (batches, taken) = mpsc::channel(1);
            let since = self.cursor.since().clone();
            let reading =
                Reading::new(&self.ctx, &self.database, &self.shape, &mut self.looked, since);
            let (read, kept) =
                tokio::join!(reading.read(batches), keep(&self.ctx, &mut self.cursor, taken));
            kept?;
            match read? {
                Ended::Told { more: true } => {}
                Ended::Told { more: false } | Ended::Abandoned => self.pause().await?,
                Ended::Replaced => {
                    self.cursor.begin_anew().await?;
                    self.announce();
                }
                Ended::Gone => {
                    self.cursor.gone().await?;
                    return Err(self.database.absent());
                }
            }
            if self.looked.elapsed() >= LOOK {
                self.looked = Instant::now();
                self.look().await?;
            }
        }
    }

    /// Says whether the database is the one it was.
    fn announce(&self) {
        self.ctx.report.condition(if self.cursor.is_anew() {
            let message =
                "the database was made anew; its changes are read from the first".to_owned();
            tracing::warn!("{message}");
            Condition::bad(SEQUENCE_KEPT, "DatabaseRecreated", message)
        } else {
            Condition::good(SEQUENCE_KEPT, "SequenceKept")
        });
    }

    async fn pause(&self) -> Result<(), SourceError> {
        let pause = self.ctx.stop.run_until_cancelled(sleep(PAUSE)).await;
        pause.ok_or(SourceError::Stopped)
    }

    /// Looks whether the database is there and the same.
    async fn look(&mut self) -> Result<(), SourceError> {
        let asked = self.ctx.stop.run_until_cancelled(self.database.update_sequence()).await;
        let Some(now) = asked.ok_or(SourceError::Stopped)?? else {
            self.cursor.gone().await?;
            return Err(self.database.absent());
        };
        if self.cursor.since().is_not_of_database_at(&now) {
            self.cursor.begin_anew().await?;
            self.announce();
        }
        Ok(())
    }
}

/// Hands batches over and remembers each, until there are no more.
async fn keep(
    ctx: &Context,
    cursor: &mut Cursor,
    mut batches: mpsc::Receiver<Batch>,
) -> Result<(), SourceError> {
    while let Some(batch) = batches.recv().await {
        ctx.deliver(batch.events).await?;
        for event in batch.cut {
            let reason =
                format!("the document is larger than {MAX_ROW} bytes; its revisions are kept");
            ctx.park(event, reason).await?;
        }
        if let Some(since) = batch.since {
            cursor.advance(since).await?;
        }
    }
    Ok(())
}

impl<'a> Reading<'a> {
    fn new(
        ctx: &'a Context,
        database: &'a Database,
        shape: &'a Shape,
        looked: &'a mut Instant,
        since: Sequence,
    ) -> Self {
        let rows = if database.is_continuous() { Rows::lines() } else { Rows::results() };
        Self {
            ctx,
            database,
            shape,
            looked,
            rows,
            found: Vec::new(),
            batch: Batch::default(),
            count: 0,
            begins_after: Some(since.clone()),
            last: since,
        }
    }

    /// Reads one answer to its end.
    async fn read(mut self, batches: mpsc::Sender<Batch>) -> Result<Ended, SourceError> {
        // The first word of an open request may be its first heartbeat.
        let asked = timeout(self.patience(), self.database.changes(&self.last));
        let mut body = match self.ctx.stop.run_until_cancelled(asked).await {
            None => return Err(SourceError::Stopped),
            Some(Err(_)) => return Err(self.silent()),
            Some(Ok(answer)) => answer?,
        };
        let ended = self.receive(&mut body, &batches).await;
        // What was read before an answer broke off was read.
        if !self.batch.is_empty() && !self.ctx.stop.is_cancelled() {
            let sent = self.ctx.stop.run_until_cancelled(batches.send(self.batch)).await;
            if sent.is_none() {
                return Err(SourceError::Stopped);
            }
        }
        ended
    }

    async fn receive(
        &mut self,
        body: &mut Incoming,
        batches: &mpsc::Sender<Batch>,
    ) -> Result<Ended, SourceError> {
        let mut heard = Instant::now();
        loop {
            tokio::select! {
                biased;
                () = self.ctx.stop.cancelled() => return Err(SourceError::Stopped),
                () = batches.closed() => return Ok(Ended::Abandoned),
                () = sleep_until(*self.looked + LOOK) => {
                    *self.looked = Instant::now();
                    if let Some(ended) = self.look().await? {
                        return Ok(ended);
                    }
                }
                frame = body.frame(), if self.batch.has_room() => {
                    heard = Instant::now();
                    let Some(frame) = frame else { return self.end() };
                    let frame = frame.map_err(|error| {
                        SourceError::unavailable(format!("read {}", self.database.what()), error)
                    })?;
                    let Ok(data) = frame.into_data() else { continue };
                    if let Some(ended) = self.take(&data)? {
                        return Ok(ended);
                    }
                }
                permit = batches.reserve(), if !self.batch.is_empty() => {
                    // While the batch was full nobody listened.
                    heard = Instant::now();
                    let Ok(permit) = permit else { return Ok(Ended::Abandoned) };
                    permit.send(std::mem::take(&mut self.batch));
                }
                () = sleep_until(heard + self.patience()), if self.batch.has_room() => {
                    return Err(self.silent());
                }
            }
        }
    }

    /// Takes a piece of the answer.
    fn take(&mut self, piece: &[u8]) -> Result<Option<Ended>, SourceError> {
        let unreadable =
            |error| SourceError::unavailable(format!("read {}", self.database.what()), error);
        self.rows.feed(piece, &mut self.found).map_err(unreadable)?;
        if self.found.is_empty() {
            if self.database.is_continuous() && self.batch.is_empty() && !self.rows.is_within_row()
            {
                // A heartbeat: there is nothing to tell.
                self.lag(0);
            }
            return Ok(None);
        }
        for row in std::mem::take(&mut self.found) {
            let said = self.shape.read(&row);
            let what = || format!("read {}", self.database.what());
            match said.map_err(|error| SourceError::unavailable(what(), error))? {
                Said::Change { event, sequence } => {
                    self.count += 1;
                    if let Some(sequence) = sequence {
                        self.compare(&sequence);
                        self.last = sequence;
                    }
                    self.batch.bytes += row.json.len();
                    self.batch.since = Some(self.last.clone());
                    let events =
                        if row.is_cut { &mut self.batch.cut } else { &mut self.batch.events };
                    events.push(event);
                }
                Said::End(sequence) => {
                    self.batch.since = Some(sequence);
                    return Ok(Some(Ended::Told { more: false }));
                }
                Said::Failed(why) => return Err(SourceError::unavailable(what(), why)),
            }
        }
        Ok(None)
    }

    /// The answer is complete, or broke off.
    fn end(&mut self) -> Result<Ended, SourceError> {
        let what = || format!("read {}", self.database.what());
        if self.database.is_continuous() {
            return Err(SourceError::unavailable(what(), "the connection was closed"));
        }
        let envelope: Envelope = serde_json::from_slice(self.rows.envelope())
            .map_err(|error| SourceError::unavailable(what(), error))?;
        let pending = envelope.pending.as_u64();
        let is_further = self.count > 0 || envelope.last_seq != self.last;
        if envelope.last_seq != self.last {
            self.batch.since = Some(envelope.last_seq);
        }
        // Where an answer leads no further, to ask again at once would be to ask the same for ever.
        let more = is_further && pending.map_or(self.count >= PAGE, |pending| pending > 0);
        if let Some(waiting) = pending.or((!more).then_some(0)) {
            self.ctx.lag(waiting);
        }
        Ok(Ended::Told { more })
    }

    /// Says so if the server began again before the place it was asked to begin after.
    fn compare(&mut self, first: &Sequence) {
        let Some(after) = self.begins_after.take() else { return };
        let (Some(after), Some(first)) = (after.count(), first.count()) else { return };
        if first <= after && after > 0 {
            let message = format!(
                "the server began again at its change {first}, though it was asked for those after {after}: the database was \
                 made anew, or a copy of it is missing; changes that were events before are events again"
            );
            tracing::warn!("{message}");
            self.ctx.report.condition(Condition::bad(SEQUENCE_KEPT, "ServerRewound", message));
        }
    }

    /// Looks how much waits, and whether the database is there and the same.
    async fn look(&self) -> Result<Option<Ended>, SourceError> {
        let asked = timeout(LOOK_TIMEOUT, self.database.update_sequence());
        let now = match self.ctx.stop.run_until_cancelled(asked).await {
            None => return Err(SourceError::Stopped),
            Some(Ok(Ok(Some(now)))) => now,
            Some(Ok(Ok(None))) => return Ok(Some(Ended::Gone)),
            // The feed itself may be in order; if it is not, its silence will show.
            Some(Ok(Err(SourceError::Unavailable { .. })) | Err(_)) => return Ok(None),
            Some(Ok(Err(error))) => return Err(error),
        };
        if self.last.is_not_of_database_at(&now) {
            return Ok(Some(Ended::Replaced));
        }
        if let (Some(now), Some(read)) = (now.count(), self.last.count()) {
            self.lag(now.saturating_sub(read));
        }
        Ok(None)
    }

    /// Changes that a selector passes over would count as waiting.
    fn lag(&self, waiting: u64) {
        if !self.database.is_filtered() {
            self.ctx.lag(waiting);
        }
    }

    fn patience(&self) -> Duration {
        if self.database.is_continuous() { SILENCE } else { PATIENCE }
    }

    fn silent(&self) -> SourceError {
        let what = format!("read {}", self.database.what());
        SourceError::unavailable(what, format!("nothing came for {:?}", self.patience()))
    }
}

impl Batch {
    fn is_empty(&self) -> bool {
        self.events.is_empty() && self.cut.is_empty() && self.since.is_none()
    }

    fn has_room(&self) -> bool {
        self.events.len() + self.cut.len() < MAX_BATCH && self.bytes < MAX_BATCH_BYTES
    }
}
