//! How stored things look as JSON.

use std::time::{SystemTime, UNIX_EPOCH};

use broker::inspect::{Kept, Parked, Step, SubscriptionStatus, TopicStatus};
use broker::store::{Outcome, Settlement, Stage};
use broker_event::Event;
use serde_json::value::RawValue;
use serde_json::{Value, json};

use crate::output;

pub(super) fn topic(topic: &TopicStatus) -> Value {
    json!({
        "broker": topic.topic.to_string(),
        "keptBytes": topic.kept_bytes,
        "budgetBytes": topic.budget,
        "head": topic.head,
    })
}

pub(super) fn subscription(subscription: &SubscriptionStatus) -> Value {
    json!({
        "trigger": subscription.name,
        "broker": subscription.topic.to_string(),
        "backlog": subscription.backlog,
        "parked": subscription.parked,
        "oldest": subscription.oldest,
        "oldestAccepted": subscription.oldest_at.map(time),
    })
}

pub(super) fn parked(letter: &Parked) -> Value {
    json!({
        "offset": letter.position,
        "trigger": letter.subscription,
        "broker": letter.topic.to_string(),
        "attempts": letter.attempts,
        "last": outcome(&letter.last),
        "event": event(&letter.event),
    })
}

pub(super) fn kept(kept: &Kept) -> Value {
    json!({
        "offset": kept.position,
        "broker": kept.topic.to_string(),
        "accepted": time(kept.accepted),
        "event": event(&kept.event),
    })
}

pub(super) fn step(step: &Step) -> Value {
    let what = match step.settlement {
        Settlement::Ack => "done",
        Settlement::Retry { .. } | Settlement::Hold { .. } => "retry",
        Settlement::Park => "parked",
        Settlement::Release => "released",
    };
    let next = match step.settlement {
        Settlement::Retry { at } | Settlement::Hold { at } => Some(time(at)),
        _ => None,
    };
    json!({ "what": what, "nextAttempt": next, "outcome": step.outcome.as_ref().map(outcome) })
}

fn outcome(outcome: &Outcome) -> Value {
    let stage = match outcome.stage {
        Stage::Subscriber => "subscriber",
        Stage::Reply => "reply",
        Stage::DeadLetter => "deadLetterSink",
        Stage::Expired => "expired",
    };
    json!({
        "stage": stage,
        "status": (outcome.status != 0).then_some(outcome.status),
        "at": output::time(outcome.at_ms),
        "tookMs": outcome.took_ms,
        "reason": outcome.reason,
        "body": String::from_utf8_lossy(&outcome.body),
    })
}

/// The event in the JSON format of `CloudEvents`, payload bytes as they are.
fn event(event: &Event) -> Option<Box<RawValue>> {
    let text = String::from_utf8(broker_event::json::write(event)).ok()?;
    RawValue::from_string(text).ok()
}

pub(super) fn time(at: SystemTime) -> String {
    let since = at.duration_since(UNIX_EPOCH).unwrap_or_default();
    output::time(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}
