//! Messages that the client cannot read.
//!
//! A server takes whatever bytes a publisher calls headers. The client ends the connection at headers that are no text, and
//! itself at a carriage return in one; such a message, and all that the server sends right after it, would come again and
//! again without ever being seen. So when a connection ended for no visible reason, what is in flight is looked at in another
//! way: asked for one by one, a message comes as JSON.

use std::str::FromStr;

use async_nats::jetstream::{self, ErrorCode};
use async_nats::{HeaderMap, HeaderName, Message, StatusCode, Subject};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::json;

use super::address::overlap;
use super::consumer::PullConsumer;

/// How many messages are looked at: as many as a consumer leaves unacknowledged by default.
const MAX_LOOKED_AT: usize = 1000;

/// How many bytes are looked at, headers and bodies. A source has far fewer in flight; other users of the consumer may have
/// more.
const MAX_BYTES: usize = 64 << 20;

/// What headers begin with, before a status that servers send.
const VERSION: &str = "NATS/1.0";

/// A message in flight, as it stands in the stream.
#[derive(Debug)]
pub(super) struct InFlight {
    pub(super) sequence: u64,
    pub(super) time: Timestamp,
    /// The message with those of its headers that can be read, and where it is acknowledged.
    pub(super) message: Message,
    /// Whether the client can read all of it.
    pub(super) is_readable: bool,
}

/// What JetStream answers when it is asked for a message of a stream.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Answer {
    message: Option<Stored>,
    error: Option<jetstream::Error>,
}

/// A message in a stream. What is bytes stands there as base64.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Stored {
    subject: String,
    seq: u64,
    hdrs: String,
    data: String,
    time: String,
}

/// What the consumer has delivered, from the message `first` of the stream on or from the first that nobody acknowledged;
/// of that, what is `wanted`. Whatever keeps from looking ends it early, so that nothing is missing before what was found:
/// without it the source works for all messages that the client can read.
pub(super) async fn in_flight(
    context: &jetstream::Context,
    consumer: &PullConsumer,
    first: Option<u64>,
    wanted: fn(&InFlight) -> bool,
) -> Vec<InFlight> {
    let mut found = Vec::new();
    let Ok(info) = consumer.get_info().await else { return found };
    let mut next = first.unwrap_or(info.ack_floor.stream_sequence + 1);
    let last = info.delivered.stream_sequence;
    let mut filters = info.config.filter_subjects;
    if !info.config.filter_subject.is_empty() {
        filters.push(info.config.filter_subject);
    }
    // One filter the server follows by itself; of several it takes none, so that messages of no filter count as looked at.
    let follow = match &*filters {
        [one] => one.clone(),
        _ => ">".to_owned(),
    };
    let mut bytes = 0;
    for _ in 0..MAX_LOOKED_AT {
        if next > last || bytes > MAX_BYTES {
            break;
        }
        let ask = json!({ "seq": next, "next_by_subj": follow });
        let asked = context.request(format!("STREAM.MSG.GET.{}", info.stream_name), &ask).await;
        let stored = match asked {
            Ok(Answer { message: Some(stored), error: None }) if stored.seq >= next => stored,
            Ok(Answer { error: Some(error), .. })
                if error.error_code() == ErrorCode::NO_MESSAGE_FOUND =>
            {
                break;
            }
            other => {
                tracing::debug!(?other, "messages in flight cannot be looked at");
                break;
            }
        };
        next = stored.seq + 1;
        bytes += stored.hdrs.len() + stored.data.len();
        let is_of_filter =
            filters.is_empty() || filters.iter().any(|filter| overlap(filter, &stored.subject));
        if is_of_filter && stored.seq <= last {
            let Some(message) = stored.in_flight(&info.stream_name, &info.name) else { break };
            found.extend(Some(message).filter(wanted));
        }
    }
    found
}

impl Stored {
    fn in_flight(self, stream: &str, consumer: &str) -> Option<InFlight> {
        let headers = STANDARD.decode(&self.hdrs).ok()?;
        let is_readable = headers.is_empty() || is_readable(&headers);
        let payload = STANDARD.decode(&self.data).ok()?;
        let time: Timestamp = self.time.parse().ok()?;
        let (sequence, nanos) = (self.seq, time.as_nanosecond());
        // The server goes by the sequence in the stream, and knows the rest itself.
        let reply = format!("$JS.ACK.{stream}.{consumer}.1.{sequence}.0.{nanos}.0");
        let message = Message {
            length: self.subject.len() + headers.len() + payload.len(),
            subject: Subject::from(self.subject),
            reply: Some(Subject::from(reply)),
            payload: payload.into(),
            headers: (!headers.is_empty()).then(|| readable_part(&headers)),
            status: None,
            description: None,
        };
        Some(InFlight { sequence, time, message, is_readable })
    }
}

/// Whether the client can read such headers: the rules that it has, in its order.
fn is_readable(headers: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(headers) else { return false };
    let mut lines = text.lines();
    let Some(after) = lines.next().and_then(|line| line.strip_prefix(VERSION)) else {
        return false;
    };
    let status = after.trim().split(' ').next().unwrap_or_default();
    if !status.is_empty() && StatusCode::from_str(status).is_err() {
        return false;
    }
    let mut in_value = false;
    for line in lines {
        let goes_on = in_value && line.starts_with(char::is_whitespace);
        in_value = !line.is_empty();
        if line.contains('\r') || !(line.is_empty() || goes_on || named(line).is_some()) {
            return false;
        }
    }
    true
}

/// Those headers that can be read.
fn readable_part(headers: &[u8]) -> HeaderMap {
    let mut map = HeaderMap::new();
    let lines = headers.split(|byte| *byte == b'\n').skip(1);
    for line in lines.filter_map(|line| std::str::from_utf8(line).ok()) {
        let line = line.strip_suffix('\r').unwrap_or(line);
        if let Some((name, value)) = named(line)
            && !value.contains('\r')
        {
            map.append(name, value.trim());
        }
    }
    map
}

fn named(line: &str) -> Option<(HeaderName, &str)> {
    let (name, value) = line.split_once(':')?;
    Some((HeaderName::from_str(name).ok()?, value))
}

#[cfg(test)]
mod tests;
