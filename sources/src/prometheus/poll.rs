//! Asks a query at each tick of a schedule.
//!
//! An instant query is asked about the time of its tick, also when it is asked late; of ticks that passed while nothing ran
//! only those of the last minute are made up for. A range query is about the time from the tick before to its own, so that
//! the ranges of all ticks together have no hole, and missed ones are made up for one by one.

use broker_event::Event;
use bytes::Bytes;
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use super::answer::{Moment, events, stable_id};
use super::api::{Api, Asked};
use super::schedule::Schedule;
use super::spec::{PrometheusSource, Wishes};
use super::step::{Span, Step};
use crate::ping::{Missed, report_missed};
use crate::source::{Context, SourceError};
use crate::status::Condition;

/// Whether the query of the last tick was answered.
pub(super) const ANSWERED: &str = "QueryAnswered";

/// How late an instant query is still asked when later ticks are due already, as with pings: a restart or a short outage
/// loses none.
const CATCH_UP: SignedDuration = SignedDuration::from_secs(60);

/// How many missed ranges are made up for whatever their age: a day of minutes. Of more, those of the last day are.
const MAX_MADE_UP: u64 = 1440;
const LONG_CATCH_UP: SignedDuration = SignedDuration::from_hours(24);

/// Events, and bytes of their data, handed over at once. As much as the mesh takes as one batch from others too.
const MAX_BATCH: usize = 1000;
const MAX_BATCH_BYTES: usize = 1024 * 1024;

/// A checked [`PrometheusSource`] at work.
#[derive(Debug)]
struct Poll {
    api: Api,
    query: String,
    schedule: Schedule,
    /// The resolution of a range query, as it is written and as it is meant.
    step: Option<(String, Step)>,
    wishes: Wishes,
    /// The last tick that was dealt with, or when the source began.
    last: Timestamp,
    /// How far the next one was dealt with.
    within: Option<Within>,
}

/// What is remembered between runs. The schedule is part of it: ticks of another schedule say nothing about this one.
#[derive(Debug, Serialize, Deserialize)]
struct Remembered {
    schedule: String,
    last: Timestamp,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    within: Option<Within>,
}

/// How far a tick was dealt with whose events are too many for one batch: after a crash only the last batch comes again.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Within {
    tick: Timestamp,
    /// What was asked: the answers to another query have other events.
    asked: String,
    /// The part of its range that is next.
    part: usize,
    /// The events of that part with ids up to this one are handed over. They depend on nothing but the series.
    id: String,
}

/// Runs until the source is asked to stop.
///
/// # Errors
/// When the query cannot be asked, or its answer not handed over.
pub(super) async fn run(spec: &PrometheusSource, ctx: &Context) -> Result<(), SourceError> {
    let mut poll = Poll::start(spec, ctx).await?;
    poll.probe(ctx).await?;
    ctx.report.running();
    loop {
        let Some(due) = poll.next(ctx) else {
            // The schedule has no more ticks.
            ctx.stop.cancelled().await;
            return Ok(());
        };
        unless_stopped(ctx, ctx.clock.sleep_until(due)).await?;
        if let Some(missed) = poll.skip(ctx.clock.now()) {
            let why = "the source was not running, or was waiting for Prometheus or the sink";
            report_missed(ctx, &missed, why);
            continue;
        }
        poll.tick(ctx, due).await?;
        poll.last = due;
        poll.within = None;
        poll.remember(ctx).await;
    }
}

async fn unless_stopped<T>(ctx: &Context, wait: impl Future<Output = T>) -> Result<T, SourceError> {
    ctx.stop.run_until_cancelled(wait).await.ok_or(SourceError::Stopped)
}

impl Poll {
    async fn start(spec: &PrometheusSource, ctx: &Context) -> Result<Self, SourceError> {
        let step = match spec.step.as_str() {
            "" => None,
            text => {
                let step = Step::parse(text);
                let refused = |rule| SourceError::Config(format!("step: {rule}"));
                Some((text.to_owned(), step.map_err(refused)?))
            }
        };
        let now = ctx.clock.now();
        let mut poll = Self {
            api: Api::new(spec, &ctx.given)?,
            query: spec.prom_ql.clone(),
            schedule: Schedule::parse(&spec.schedule).map_err(SourceError::Config)?,
            step,
            wishes: Wishes::of(&ctx.about),
            // Whole, as all ticks are.
            last: Timestamp::from_second(now.as_second()).unwrap_or(now),
            within: None,
        };
        match poll.recall(ctx).await? {
            // A checkpoint from the future was written under a clock that was wrong.
            Some(remembered) => {
                poll.last = remembered.last.min(now);
                poll.within = remembered.within;
            }
            // The first range begins here, also if it ends only after a restart.
            None => poll.remember(ctx).await,
        }
        if poll.schedule.next(poll.last).is_none_or(|due| due > now) {
            ctx.report.condition(Condition::good(Condition::PUNCTUAL, "NoTickMissed"));
        }
        Ok(poll)
    }

    /// Asks once for nothing: what cannot be asked should be known now and not at the first tick.
    async fn probe(&self, ctx: &Context) -> Result<(), SourceError> {
        let now = ctx.clock.now();
        if let Some(answer) = self.ask_at(ctx, now).await? {
            let moment = Moment { tick: now, part: 0 };
            events(&answer, &ctx.about, moment, self.wishes)
                .map_err(|error| SourceError::unavailable("query Prometheus", error))?;
        }
        Ok(())
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

    /// Passes over ticks that are too late.
    fn skip(&mut self, now: Timestamp) -> Option<Missed> {
        let before = |late| now.saturating_sub(late).unwrap_or(Timestamp::MIN);
        let late = if self.step.is_none() { CATCH_UP } else { LONG_CATCH_UP };
        if self.schedule.next(self.last)? > before(late) {
            return None;
        }
        if self.step.is_some() && self.schedule.missed(self.last, now)?.count <= MAX_MADE_UP {
            return None;
        }
        let missed = self.schedule.missed(self.last, before(late))?;
        self.last = missed.last;
        Some(missed)
    }

    /// Asks what the tick at `due` asks, and hands the answers over.
    async fn tick(&mut self, ctx: &Context, due: Timestamp) -> Result<(), SourceError> {
        let Some((_, step)) = &self.step else {
            let answer = self.ask_at(ctx, due).await?;
            return self.deliver(ctx, due, 0, answer).await;
        };
        let (spans, is_short) = step.spans(self.last, due);
        if is_short {
            report_missed(
                ctx,
                &Missed::one(due),
                "its range has too many points, and its beginning was left out",
            );
        }
        for (part, span) in spans.into_iter().enumerate() {
            if self.within(due).is_some_and(|within| part < within.part) {
                continue;
            }
            // What is remembered of this part already says how much of it is handed over.
            if part > 0 && self.within(due).is_none_or(|within| within.part < part) {
                self.remember_within(ctx, due, part, String::new()).await;
            }
            let answer = self.ask_about(ctx, span, due).await?;
            self.deliver(ctx, due, part, answer).await?;
        }
        Ok(())
    }

    async fn ask_at(&self, ctx: &Context, at: Timestamp) -> Result<Option<Bytes>, SourceError> {
        let parameters = [("query", self.query.as_str()), ("time", &at.to_string())];
        self.ask(ctx, "query", &parameters, at).await
    }

    async fn ask_about(
        &self,
        ctx: &Context,
        span: Span,
        due: Timestamp,
    ) -> Result<Option<Bytes>, SourceError> {
        let (start, end) = (span.start.to_string(), span.end.to_string());
        let step = self.step.as_ref().map_or("", |(text, _)| text);
        let parameters =
            [("query", self.query.as_str()), ("start", &start), ("end", &end), ("step", step)];
        self.ask(ctx, "query_range", &parameters, due).await
    }

    /// The answer; nothing, and a report, if there is none to be had.
    async fn ask(
        &self,
        ctx: &Context,
        endpoint: &str,
        parameters: &[(&str, &str)],
        due: Timestamp,
    ) -> Result<Option<Bytes>, SourceError> {
        match unless_stopped(ctx, self.api.ask(endpoint, parameters)).await?? {
            Asked::Answer(answer) => {
                ctx.report.condition(Condition::good(ANSWERED, "QueryAnswered"));
                Ok(Some(answer))
            }
            Asked::Refused(why) => {
                let message = format!("there is no answer for {due}: {why}");
                tracing::warn!("{message}");
                ctx.report.condition(Condition::bad(ANSWERED, "QueryFailed", message));
                Ok(None)
            }
        }
    }

    async fn deliver(
        &mut self,
        ctx: &Context,
        tick: Timestamp,
        part: usize,
        answer: Option<Bytes>,
    ) -> Result<(), SourceError> {
        let Some(answer) = answer else {
            report_missed(ctx, &Missed::one(tick), "Prometheus had no answer");
            return Ok(());
        };
        let mut events = events(&answer, &ctx.about, Moment { tick, part }, self.wishes)
            .map_err(|error| SourceError::unavailable("query Prometheus", error))?;
        events.sort_unstable_by(|left, right| left.id().cmp(right.id()));
        if let Some(within) = self.within(tick).filter(|within| within.part == part) {
            events.retain(|event| event.id() > within.id.as_str());
        }
        let (mut batch, mut bytes) = (Vec::new(), 0);
        for event in events {
            if batch.len() == MAX_BATCH || bytes >= MAX_BATCH_BYTES {
                let id =
                    batch.last().map_or_else(String::new, |event: &Event| event.id().to_owned());
                ctx.deliver(std::mem::take(&mut batch)).await?;
                self.remember_within(ctx, tick, part, id).await;
                bytes = 0;
            }
            bytes += event.data().map_or(0, |data| data.len());
            batch.push(event);
        }
        ctx.deliver(batch).await
    }

    fn within(&self, tick: Timestamp) -> Option<&Within> {
        let within = self.within.as_ref()?;
        (within.tick == tick && within.asked == self.asked()).then_some(within)
    }

    async fn remember_within(&mut self, ctx: &Context, tick: Timestamp, part: usize, id: String) {
        self.within = Some(Within { tick, asked: self.asked(), part, id });
        self.remember(ctx).await;
    }

    /// Another text for another query.
    fn asked(&self) -> String {
        stable_id(&[&self.query, self.step.as_ref().map_or("", |(text, _)| text)])
    }

    /// The last tick dealt with before this run. Where a range ended says where the next begins, under any schedule.
    async fn recall(&self, ctx: &Context) -> Result<Option<Remembered>, SourceError> {
        let Some(bytes) = ctx.checkpoint.load().await.map_err(SourceError::State)? else {
            return Ok(None);
        };
        let Ok(remembered) = serde_json::from_slice::<Remembered>(&bytes) else {
            tracing::warn!("the checkpoint is not readable; missed ticks are unknown");
            return Ok(None);
        };
        let is_same = self.step.is_some() || remembered.schedule == self.schedule.text();
        Ok(is_same.then_some(remembered))
    }

    async fn remember(&mut self, ctx: &Context) {
        let (schedule, last) = (self.schedule.text(), self.last);
        let remembered = Remembered { schedule, last, within: self.within.take() };
        let saved = serde_json::to_vec(&remembered);
        self.within = remembered.within;
        let saved = match saved {
            Ok(bytes) => ctx.checkpoint.save(bytes).await,
            Err(error) => Err(error.into()),
        };
        if let Err(error) = saved {
            // The tick itself is safe. After a restart it may come again, with the same id.
            tracing::warn!(%error, "the checkpoint cannot be saved");
        }
    }
}
