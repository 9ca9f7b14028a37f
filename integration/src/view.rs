//! What the API listener tells of events, as JSON: written by the mesh, read by the commands.
//!
//! Events stand in it in the JSON format of `CloudEvents`, as raw text: parsing one into a tree of values would round its
//! numbers and reorder its keys, and people would be shown something that was never sent.

use std::time::{SystemTime, UNIX_EPOCH};

use broker::inspect;
use broker::store::{Outcome, Settlement, Stage};
use broker_event::{Event, json};
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::output;

/// A broker and what it keeps.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Broker {
    broker: String,
    kept_bytes: u64,
    budget_bytes: u64,
    head: u64,
}

impl From<&inspect::TopicStatus> for Broker {
    fn from(status: &inspect::TopicStatus) -> Self {
        Self {
            broker: status.topic.to_string(),
            kept_bytes: status.kept_bytes,
            budget_bytes: status.budget,
            head: status.head,
        }
    }
}

/// A trigger and how far behind it is.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Trigger {
    trigger: String,
    broker: String,
    backlog: u64,
    parked: u64,
    oldest: Option<u64>,
    oldest_accepted: Option<String>,
}

impl From<&inspect::SubscriptionStatus> for Trigger {
    fn from(status: &inspect::SubscriptionStatus) -> Self {
        Self {
            trigger: status.name.clone(),
            broker: status.topic.to_string(),
            backlog: status.backlog,
            parked: status.parked,
            oldest: status.oldest,
            oldest_accepted: status.oldest_at.map(time),
        }
    }
}

/// A kept event.
#[derive(Debug, Serialize, Deserialize)]
pub struct Kept {
    /// Where it stands.
    pub offset: u64,
    /// Its broker, `namespace/name`.
    pub broker: String,
    /// When it was accepted, RFC 3339.
    pub accepted: String,
    /// The event.
    pub event: Box<RawValue>,
}

impl From<&inspect::Kept> for Kept {
    fn from(kept: &inspect::Kept) -> Self {
        Self {
            offset: kept.position,
            broker: kept.topic.to_string(),
            accepted: time(kept.accepted),
            event: raw(&kept.event),
        }
    }
}

/// What became of a kept event.
#[derive(Debug, Serialize, Deserialize)]
pub struct Explained {
    /// Where it stands.
    pub offset: u64,
    /// Its broker, `namespace/name`.
    pub broker: String,
    /// When it was accepted, RFC 3339.
    pub accepted: String,
    /// The event.
    pub event: Box<RawValue>,
    /// Trigger by trigger.
    pub triggers: Vec<Verdict>,
}

/// What one trigger did with an event.
#[derive(Debug, Serialize, Deserialize)]
pub struct Verdict {
    /// The trigger, `namespace/name`.
    pub trigger: String,
    /// Whether its filter matches; `None` if the trigger is gone.
    #[serde(rename = "match")]
    pub matched: Option<bool>,
    /// Why.
    pub reason: String,
    /// What was done, oldest first.
    pub steps: Vec<Step>,
}

/// One step in the life of a delivery.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Step {
    /// `done`, `retry`, `parked` or `released`.
    pub what: String,
    /// When the next attempt is due, RFC 3339.
    pub next_attempt: Option<String>,
    /// How the attempt ended, if one was made.
    pub outcome: Option<Attempt>,
}

impl From<&inspect::Step> for Step {
    fn from(step: &inspect::Step) -> Self {
        let (what, next) = match step.settlement {
            Settlement::Ack => ("done", None),
            Settlement::Retry { at } | Settlement::Hold { at } => ("retry", Some(at)),
            Settlement::Park => ("parked", None),
            Settlement::Release => ("released", None),
        };
        Self {
            what: what.to_owned(),
            next_attempt: next.map(time),
            outcome: step.outcome.as_ref().map(Into::into),
        }
    }
}

/// How an attempt ended.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Attempt {
    /// Who was called: `subscriber`, `reply`, `deadLetterSink`; or `expired`.
    pub stage: String,
    /// What it answered; `None` when there was no answer.
    pub status: Option<u16>,
    /// When, RFC 3339.
    pub at: String,
    /// How long it took, milliseconds.
    pub took_ms: u64,
    /// Why it failed; empty if it did not.
    pub reason: String,
    /// The beginning of the answer's body.
    pub body: String,
}

impl From<&Outcome> for Attempt {
    fn from(outcome: &Outcome) -> Self {
        let stage = match outcome.stage {
            Stage::Subscriber => "subscriber",
            Stage::Reply => "reply",
            Stage::DeadLetter => "deadLetterSink",
            Stage::Expired => "expired",
        };
        Self {
            stage: stage.to_owned(),
            status: (outcome.status != 0).then_some(outcome.status),
            at: output::time(outcome.at_ms),
            took_ms: u64::from(outcome.took_ms),
            reason: outcome.reason.clone(),
            body: String::from_utf8_lossy(&outcome.body).into_owned(),
        }
    }
}

/// An event of a source that no sink takes; also the content of its file.
#[derive(Debug, Serialize, Deserialize)]
pub struct SourceLetter {
    /// The source, `kind/namespace/name`.
    pub source: String,
    /// When it was parked, RFC 3339.
    pub time: String,
    /// Why the sink refused it.
    pub reason: String,
    /// The event.
    pub event: Box<RawValue>,
    /// Its file, below `parked` of the data directory.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub file: String,
}

/// A parked letter.
#[derive(Debug, Serialize, Deserialize)]
pub struct Letter {
    /// Where its event stands.
    pub offset: u64,
    /// The trigger that could not deliver it, `namespace/name`.
    pub trigger: String,
    /// Its broker, `namespace/name`.
    pub broker: String,
    /// Attempts made.
    pub attempts: u32,
    /// How the last one ended.
    pub last: Attempt,
    /// The event.
    pub event: Box<RawValue>,
}

impl From<&inspect::Parked> for Letter {
    fn from(letter: &inspect::Parked) -> Self {
        Self {
            offset: letter.position,
            trigger: letter.subscription.clone(),
            broker: letter.topic.to_string(),
            attempts: letter.attempts,
            last: (&letter.last).into(),
            event: raw(&letter.event),
        }
    }
}

/// One page of a list.
#[derive(Debug, Serialize, Deserialize)]
pub struct Page<T> {
    /// What is on it.
    pub items: Vec<T>,
    /// What to ask the next page with; `None` on the last.
    pub next: Option<u64>,
}

/// The event that an answer holds.
///
/// # Errors
/// When it is none.
pub fn event(raw: &RawValue) -> Result<Event, broker_event::ReadError> {
    json::read(&Bytes::copy_from_slice(raw.get().as_bytes()))
}

/// The event as raw JSON.
pub(crate) fn raw(event: &Event) -> Box<RawValue> {
    let text = String::from_utf8(json::write(event)).ok();
    text.and_then(|text| RawValue::from_string(text).ok()).unwrap_or(RawValue::NULL.to_owned())
}

fn time(at: SystemTime) -> String {
    let since = at.duration_since(UNIX_EPOCH).unwrap_or_default();
    output::time(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}
