//! Requests for messages: how much is asked for, and what the server says becomes of one.

use std::time::Duration;

use async_nats::Subject;
use async_nats::jetstream::consumer::Config;
use tokio::time::Instant;

use super::consumer::{self, absent, no_jetstream};
use crate::quote::quote;
use crate::source::SourceError;

/// Messages in one request and in one durable write.
pub(super) const BATCH: usize = 256;

/// Requests at a time, if the consumer allows so many: when one is half served the next is at the server already, however far
/// away that is. So there are at most three batches and a half in memory, fewer than the 1000 that a consumer leaves
/// unacknowledged by default.
const REQUESTS: usize = 2;

/// Bytes in one durable write, and the most that wait while another is in progress.
pub(super) const BATCH_BYTES: usize = 4 << 20;

/// How long a request waits at the server for messages. Another follows as long as the source runs.
const EXPIRES: Duration = Duration::from_secs(30);

/// How often the server says that a request is still waiting.
const HEARTBEAT: Duration = Duration::from_secs(5);

/// A request for messages.
#[derive(Debug)]
pub(super) struct Request {
    /// Where the server says what becomes of it. It says so even of one that it has served, and of an earlier one.
    pub(super) inbox: Subject,
    pub(super) at: Instant,
    pub(super) left: usize,
    pub(super) got: usize,
}

/// What a consumer allows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Limits {
    pub(super) requests: usize,
    pub(super) batch: usize,
    pub(super) bytes: usize,
    pub(super) expires: Duration,
    pub(super) heartbeat: Duration,
    pub(super) ack_wait: Duration,
}

/// What a message without a payload says about the request.
#[derive(Debug)]
pub(super) enum Verdict {
    /// It still waits.
    Waits,
    /// It is over; ask again.
    Over,
    /// The next message is larger than what it had left.
    Oversized,
    /// Asking again cannot help.
    Failed(SourceError),
}

impl Limits {
    pub(super) fn of(config: &Config, max_payload: usize) -> Self {
        let expires =
            if config.max_expires.is_zero() { EXPIRES } else { EXPIRES.min(config.max_expires) };
        let limited = |most: i64, by: usize| match usize::try_from(most) {
            Ok(most @ 1..) => by.min(most),
            _ => by,
        };
        Self {
            requests: limited(config.max_waiting, REQUESTS),
            batch: limited(config.max_batch, BATCH),
            // The largest message with its subjects must fit, or the server would never deliver it.
            bytes: limited(config.max_bytes, BATCH_BYTES.max(max_payload.saturating_mul(2))),
            expires,
            // A server refuses more than half of the time that the request has.
            heartbeat: HEARTBEAT.min(expires / 4),
            ack_wait: consumer::ack_wait(config),
        }
    }
}

/// What a status message says (ADR-13 and ADR-9 of NATS).
pub(super) fn verdict(status: u16, said: &str, consumer: &str) -> Verdict {
    let words = said.to_ascii_lowercase();
    let has = |text: &str| words.contains(text);
    match status {
        100 => Verdict::Waits,
        404 | 408 => Verdict::Over,
        409 if has("message size exceeds") => Verdict::Oversized,
        409 if has("consumer deleted") => {
            Verdict::Failed(absent(format!("the consumer {consumer} was deleted")))
        }
        409 if has("push based") => Verdict::Failed(absent(format!(
            "the consumer {consumer} pushes and cannot be pulled from"
        ))),
        409 if has("leadership change") || has("server shutdown") || has("batch completed") => {
            Verdict::Over
        }
        503 => Verdict::Failed(no_jetstream()),
        _ => Verdict::Failed(SourceError::Unavailable {
            what: format!("the consumer {consumer} refused a request: {status} {}", quote(said)),
            source: None,
        }),
    }
}

#[cfg(test)]
mod tests;
