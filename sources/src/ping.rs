//! Ping: an event at each tick of a schedule, with the attributes Knative's `PingSource` gives it.
//!
//! A tick that cannot be stored is tried again until it is, or until a later tick has taken its place. Ticks that
//! passed while nothing ran are not made up for, beyond the last minute; they are counted and reported. One that the sink
//! refuses for good is parked.

use std::sync::Arc;

use broker_event::{Event, EventBuilder, EventError};
use bytes::Bytes;
use crds::condition::{self, CloudEventAttributes};
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use tokio::time::sleep;
use uuid::Builder;

use crate::backoff::roll;
use crate::deliver::{MAX_RETRY_AFTER, RETRY};
use crate::given::Given;
use crate::source::{About, Context, Source, SourceError};
use crate::status::Condition;

mod schedule;
mod spec;

pub use schedule::{Missed, Schedule, ScheduleError};
pub use spec::PingSource;

/// The type of the events.
const TYPE: &str = "dev.knative.sources.ping";

/// How late a tick is still worth an event when later ones are due already: a restart, a change of configuration or
/// a short outage of the sink then loses none, and at one tick a second no more than 60 come late at once.
const CATCH_UP: SignedDuration = SignedDuration::from_secs(60);

/// A checked [`PingSource`] at work.
#[derive(Debug)]
struct Beat {
    schedule: Schedule,
    event: Template,
    /// The last tick that was dealt with.
    last: Timestamp,
}

/// What the events of one source have in common.
#[derive(Debug)]
struct Template {
    about: Arc<About>,
    content_type: Option<String>,
    data: Option<Bytes>,
}

/// What is remembered between runs. The schedule is part of it: ticks of another schedule say nothing about this one.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Remembered {
    schedule: String,
    last: Timestamp,
}

/// How an attempt to store a tick ended.
enum Stored {
    /// Or parked, because the sink refuses it.
    Yes,
    /// Not, and a later tick is due.
    Superseded,
    /// The source was asked to stop.
    Stopped,
}

impl Source for PingSource {
    const CONDITIONS: &'static [&'static str] = &[condition::OIDC_IDENTITY_CREATED];

    fn attributes(&self, about: &About, _: &Given) -> Vec<CloudEventAttributes> {
        vec![CloudEventAttributes { kind: TYPE.to_owned(), source: source(about) }]
    }

    async fn run(self, ctx: Context) -> Result<(), SourceError> {
        let mut beat = Beat::start(self, &ctx).await?;
        ctx.report.running();
        loop {
            let Some(due) = beat.next(&ctx) else {
                // The schedule has no more ticks before the year 5000.
                ctx.stop.cancelled().await;
                return Ok(());
            };
            tokio::select! {
                biased;
                () = ctx.stop.cancelled() => return Ok(()),
                () = ctx.clock.sleep_until(due) => {}
            }
            if let Some(missed) = beat.skip(ctx.clock.now(), CATCH_UP) {
                report_missed(&ctx, &missed, "the machine slept, or the sink was away");
                continue;
            }
            match beat.store(&ctx, due).await? {
                Stored::Stopped => return Ok(()),
                Stored::Yes => {}
                Stored::Superseded => {
                    report_missed(&ctx, &Missed::one(due), "the sink did not take it in time");
                }
            }
            beat.last = due;
            beat.remember(&ctx).await;
        }
    }
}

impl Beat {
    async fn start(config: PingSource, ctx: &Context) -> Result<Self, SourceError> {
        let schedule = config.schedule().map_err(|error| SourceError::Config(error.to_string()))?;
        let event = Template::new(config, ctx)?;
        // Built once for nothing, so that an attribute that cannot be is found now and not at the first tick.
        let now = ctx.clock.now();
        event.at(now).map_err(|error| SourceError::Config(error.to_string()))?;
        let mut beat = Self { schedule, event, last: now };
        if let Some(last) = beat.recall(ctx).await {
            // A checkpoint from the future was written under a clock that was wrong.
            beat.last = last.min(now);
            match beat.skip(now, CATCH_UP) {
                Some(missed) => report_missed(ctx, &missed, "the source was not running"),
                None => ctx.report.condition(Condition::good(Condition::PUNCTUAL, "NoTickMissed")),
            }
        }
        beat.remember(ctx).await;
        Ok(beat)
    }

    /// The next tick.
    fn next(&mut self, ctx: &Context) -> Option<Timestamp> {
        let now = ctx.clock.now();
        if self.last > now.saturating_add(CATCH_UP).unwrap_or(Timestamp::MAX) {
            // The clock was set back; without this there would be no tick until it has caught up.
            self.last = now;
        }
        self.schedule.next(self.last)
    }

    /// Passes over the ticks that are more than `late` behind `now`.
    fn skip(&mut self, now: Timestamp, late: SignedDuration) -> Option<Missed> {
        let limit = now.saturating_sub(late).unwrap_or(Timestamp::MIN);
        let missed = self.schedule.missed(self.last, limit)?;
        self.last = missed.last;
        Some(missed)
    }

    /// Hands over the event of the tick at `due`, again and again where that can help.
    async fn store(&self, ctx: &Context, due: Timestamp) -> Result<Stored, SourceError> {
        let event = self.event.at(due).map_err(|error| SourceError::Config(error.to_string()))?;
        let superseded = self.schedule.next(due).unwrap_or(Timestamp::MAX);
        let give_up = due.saturating_add(CATCH_UP).unwrap_or(Timestamp::MAX).max(superseded);
        let mut failures = 0;
        loop {
            let error = tokio::select! {
                biased;
                sent = ctx.emit.send(vec![event.clone()]) => match sent {
                    Ok(()) => return Ok(Stored::Yes),
                    Err(error) => error,
                },
                () = ctx.stop.cancelled() => return Ok(Stored::Stopped),
            };
            if !error.is_retryable() {
                ctx.park(event, error.to_string()).await?;
                return Ok(Stored::Yes);
            }
            if ctx.clock.now() >= give_up {
                return Ok(Stored::Superseded);
            }
            failures += 1;
            let asked = error.retry_after().unwrap_or_default().min(MAX_RETRY_AFTER);
            tokio::select! {
                biased;
                () = ctx.stop.cancelled() => return Ok(Stored::Stopped),
                () = sleep(RETRY.wait(failures, roll()).max(asked)) => {}
            }
        }
    }

    /// The last tick dealt with before this run.
    async fn recall(&self, ctx: &Context) -> Option<Timestamp> {
        let bytes = match ctx.checkpoint.load().await {
            Ok(bytes) => bytes?,
            Err(error) => {
                tracing::warn!(%error, "the checkpoint cannot be read; missed ticks are unknown");
                return None;
            }
        };
        let remembered: Remembered = serde_json::from_slice(&bytes).ok()?;
        (remembered.schedule == self.schedule.as_str()).then_some(remembered.last)
    }

    async fn remember(&self, ctx: &Context) {
        let remembered =
            Remembered { schedule: self.schedule.as_str().to_owned(), last: self.last };
        let saved = match serde_json::to_vec(&remembered) {
            Ok(bytes) => ctx.checkpoint.save(bytes).await,
            Err(error) => Err(error.into()),
        };
        if let Err(error) = saved {
            // The tick itself is safe. After a restart it may come again, with the same id.
            tracing::warn!(%error, "the checkpoint cannot be saved");
        }
    }
}

impl Template {
    fn new(config: PingSource, ctx: &Context) -> Result<Self, SourceError> {
        let given = |text: String| Some(text).filter(|text| !text.is_empty());
        let data = match (given(config.data), given(config.data_base64)) {
            (Some(_), Some(_)) => {
                let both = "data, dataBase64: only one of them can be set";
                return Err(SourceError::Config(both.to_owned()));
            }
            (Some(text), None) => Some(Bytes::from(text)),
            (None, Some(encoded)) => {
                Some(Bytes::from(spec::decode(&encoded).map_err(|error| {
                    SourceError::Config(format!("dataBase64: not base64: {error}"))
                })?))
            }
            (None, None) => None,
        };
        let about = Arc::clone(&ctx.about);
        Ok(Self { about, content_type: given(config.content_type), data })
    }

    fn at(&self, tick: Timestamp) -> Result<Event, EventError> {
        let source = source(&self.about);
        let mut builder =
            EventBuilder::new(self.id(tick).as_str(), source.as_str(), TYPE).time(tick.to_string());
        if let Some(content_type) = &self.content_type {
            builder = builder.data_content_type(content_type.as_str());
        }
        if let Some(data) = &self.data {
            builder = builder.data(data.clone());
        }
        builder.build()
    }

    /// A UUID that depends on the source and the tick alone, so that a tick sent twice (after a crash, a timeout, or
    /// by two replicas while one takes over) can be told from two ticks.
    fn id(&self, tick: Timestamp) -> String {
        let mut hash = Sha256::new();
        for part in [&*self.about.namespace, "/", &*self.about.name, "@", &tick.to_string()] {
            hash.update(part.as_bytes());
        }
        let mut bytes = [0; 16];
        bytes.iter_mut().zip(hash.finalize()).for_each(|(to, from)| *to = from);
        Builder::from_custom_bytes(bytes).into_uuid().to_string()
    }
}

fn source(about: &About) -> String {
    format!("/apis/v1/namespaces/{}/pingsources/{}", about.namespace, about.name)
}

/// Counts, logs and reports ticks that no event was made of.
pub(crate) fn report_missed(ctx: &Context, missed: &Missed, why: &str) {
    ctx.metrics.missed(missed.count);
    let message = format!("{missed}: {why}");
    tracing::warn!("{message}");
    ctx.report.condition(Condition::bad(Condition::PUNCTUAL, "TicksMissed", message));
}

#[cfg(test)]
mod tests;
