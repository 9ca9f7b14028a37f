//! The durable consumer that a stream is read through: found, made, kept up to date, moved back, removed.

use std::time::Duration;

use async_nats::datetime;
use async_nats::jetstream::consumer::{
    self, AckPolicy, Config, DeliverPolicy, FromConsumer, Info, pull,
};
use async_nats::jetstream::context::RequestErrorKind;
use async_nats::jetstream::response::Response;
use async_nats::jetstream::stream::{ConsumerError, ConsumerErrorKind};
use async_nats::jetstream::{self, ErrorCode};
use serde::de::IgnoredAny;
use serde_json::{Map, json};

use super::spec::{NatsSource, Start};
use crate::quote::quote;
use crate::source::{About, SourceError};

/// A consumer that is read with explicit pulls.
pub(super) type PullConsumer = consumer::Consumer<pull::Config>;

/// The first server with consumers of several subjects. Those before ignore the field and would deliver the whole stream.
const MANY_SUBJECTS: (i64, i64, i64) = (2, 10, 0);

/// The first server that moves consumers back (ADR-60 of NATS).
const RESET: (i64, i64, i64) = (2, 14, 0);

/// Finds the consumer of the spec, makes it if there is none, and changes it if it is the source's own and differs.
///
/// # Errors
/// [`SourceError::Absent`] without the stream, or when the consumer is of another sort.
pub(super) async fn open(
    context: &jetstream::Context,
    spec: &NatsSource,
    about: &About,
) -> Result<PullConsumer, SourceError> {
    let name = spec.consumer_name(about);
    if spec.subjects.len() > 1 && !is(context, MANY_SUBJECTS) {
        return Err(too_old("a consumer of several subjects", MANY_SUBJECTS));
    }
    let wanted = match info(context, &spec.stream, &name).await? {
        None => made(spec, about, &name, policy(spec, is(context, RESET)))?,
        Some(found) => {
            let usable = usable(&found.config, spec.owns_consumer()).map_err(|why| {
                absent(format!("the consumer {name} of the stream {} {why}", spec.stream))
            })?;
            let kept = spec.owns_consumer().then(|| kept(spec, usable.clone())).transpose()?;
            match kept {
                Some(kept) if kept != usable => kept,
                _ => return Ok(PullConsumer::new(usable, found, context.clone())),
            }
        }
    };
    let explicit = pull::Config { ack_policy: AckPolicy::Explicit, ..wanted.clone() };
    let mut made = context.create_consumer_on_stream(wanted, &spec.stream).await;
    // A stream that deletes what was acknowledged wants to hear of each message.
    if let Err(error) = &made
        && let ConsumerErrorKind::JetStream(error) = error.kind()
        && error.error_code() == ErrorCode::CONSUMER_WQ_REQUIRES_EXPLICIT_ACK
    {
        made = context.create_consumer_on_stream(explicit, &spec.stream).await;
    }
    made.map_err(|error| refusal(format!("make the consumer {name}"), &spec.stream, &error))
}

/// Moves a consumer to the message `next` of the stream, or back to the first that was not acknowledged: from there on it
/// delivers again, and counts its deliveries from one.
///
/// # Errors
/// When the server does not answer, refuses, or is too old.
pub(super) async fn reset(
    context: &jetstream::Context,
    consumer: &PullConsumer,
    next: Option<u64>,
) -> Result<(), SourceError> {
    let Info { name, stream_name, .. } = consumer.cached_info();
    if !is(context, RESET) {
        return Err(too_old(&format!("to move the consumer {name} back"), RESET));
    }
    let what = || format!("move the consumer {name} back");
    let from = json!({ "seq": next.unwrap_or_default() });
    match context.request(format!("CONSUMER.RESET.{stream_name}.{name}"), &from).await {
        Ok(Response::<IgnoredAny>::Ok(_)) => Ok(()),
        Ok(Response::Err { error }) => Err(complaint(what(), stream_name, &error)),
        Err(error) => Err(SourceError::unavailable(what(), quote(&error.to_string()))),
    }
}

/// Whether the server is of this version or later.
fn is(context: &jetstream::Context, (major, minor, patch): (i64, i64, i64)) -> bool {
    context.client().is_server_compatible(major, minor, patch)
}

fn too_old(what: &str, (major, minor, _): (i64, i64, i64)) -> SourceError {
    let what = format!("{what} needs NATS {major}.{minor} or later");
    SourceError::Unavailable { what, source: None }
}

/// Removes the source's own consumer.
///
/// # Errors
/// When that cannot be known to be done. What is not there is removed.
pub(super) async fn remove(
    context: &jetstream::Context,
    spec: &NatsSource,
    about: &About,
) -> Result<(), SourceError> {
    let name = spec.consumer_name(about);
    let Err(error) = context.delete_consumer_from_stream(&name, &spec.stream).await else {
        return Ok(());
    };
    match error.kind() {
        ConsumerErrorKind::JetStream(error)
            if [ErrorCode::CONSUMER_NOT_FOUND, ErrorCode::STREAM_NOT_FOUND]
                .contains(&error.error_code()) =>
        {
            Ok(())
        }
        _ => Err(refusal(format!("remove the consumer {name}"), &spec.stream, &error)),
    }
}

/// What the server knows of a consumer, if there is one.
async fn info(
    context: &jetstream::Context,
    stream: &str,
    name: &str,
) -> Result<Option<Info>, SourceError> {
    let what = || format!("ask for the consumer {name}");
    // A strict server takes an empty object for an empty request, but no `null`.
    match context.request(format!("CONSUMER.INFO.{stream}.{name}"), &Map::new()).await {
        Ok(Response::Ok(info)) => Ok(Some(info)),
        Ok(Response::Err { error }) if error.error_code() == ErrorCode::CONSUMER_NOT_FOUND => {
            Ok(None)
        }
        Ok(Response::Err { error }) => Err(complaint(what(), stream, &error)),
        Err(error) if error.kind() == RequestErrorKind::NoResponders => Err(no_jetstream()),
        Err(error) => Err(SourceError::unavailable(what(), quote(&error.to_string()))),
    }
}

/// A consumer that can be pulled from and whose messages wait for an acknowledgement. One for all messages before is
/// understood of the source's `own` alone: what others took of a consumer would be acknowledged with it.
fn usable(config: &Config, own: bool) -> Result<pull::Config, &'static str> {
    let waits = match config.ack_policy {
        AckPolicy::Explicit => true,
        AckPolicy::All => own,
        AckPolicy::None => false,
    };
    if !waits {
        return Err("does not wait for the acknowledgement of each message (ack policy explicit)");
    }
    pull::Config::try_from_consumer_config(config.clone())
        .map_err(|_| "pushes and cannot be pulled from")
}

/// How a consumer that is made is told what is safe. To say it of a batch at once lets a fifth more through in the bench, but
/// is right only in order: it takes a consumer that nobody else reads, and that can be moved back when something is missing.
fn policy(spec: &NatsSource, can_be_moved: bool) -> AckPolicy {
    if spec.owns_consumer() && can_be_moved { AckPolicy::All } else { AckPolicy::Explicit }
}

/// The consumer that the spec asks for.
fn made(
    spec: &NatsSource,
    about: &About,
    name: &str,
    ack_policy: AckPolicy,
) -> Result<pull::Config, SourceError> {
    let start = spec.start().map_err(|errors| SourceError::Config(errors.to_string()))?;
    let config = pull::Config {
        durable_name: Some(name.to_owned()),
        description: Some(format!("Weft: NatsSource {}/{}", about.namespace, about.name)),
        deliver_policy: deliver_policy(start)?,
        ack_policy,
        ..pull::Config::default()
    };
    kept(spec, config)
}

/// The same with what may change over the life of a consumer. Where it started is history.
fn kept(spec: &NatsSource, config: pull::Config) -> Result<pull::Config, SourceError> {
    let ack_wait =
        spec.ack_wait().map_err(|rule| SourceError::Config(format!("ackWait: {rule}")))?;
    let (filter_subject, filter_subjects) = match &*spec.subjects {
        [] => (String::new(), Vec::new()),
        [one] => (one.clone(), Vec::new()),
        many => (String::new(), many.to_vec()),
    };
    Ok(pull::Config {
        ack_wait,
        max_ack_pending: spec.max_ack_pending(),
        filter_subject,
        filter_subjects,
        ..config
    })
}

fn deliver_policy(start: Start) -> Result<DeliverPolicy, SourceError> {
    Ok(match start {
        Start::All => DeliverPolicy::All,
        Start::Last => DeliverPolicy::Last,
        Start::New => DeliverPolicy::New,
        Start::Sequence(start_sequence) => DeliverPolicy::ByStartSequence { start_sequence },
        Start::Time(time) => {
            let start_time = datetime::from_nanos(time.as_nanosecond())
                .map_err(|_| SourceError::Config("optStartTime: it is out of range".to_owned()))?;
            DeliverPolicy::ByStartTime { start_time }
        }
    })
}

/// How long the server waits at least before it delivers a message again.
pub(super) fn ack_wait(config: &Config) -> Duration {
    // A server's default; one that answers says what it uses.
    let wait = if config.ack_wait.is_zero() { Duration::from_secs(30) } else { config.ack_wait };
    config.backoff.iter().copied().fold(wait, Duration::min)
}

/// What to say when making or removing a consumer failed.
fn refusal(what: String, stream: &str, error: &ConsumerError) -> SourceError {
    if let ConsumerErrorKind::JetStream(error) = error.kind() {
        return complaint(what, stream, &error);
    }
    SourceError::unavailable(what, quote(&error.to_string()))
}

/// What to say when JetStream answered that it cannot.
fn complaint(what: String, stream: &str, error: &jetstream::Error) -> SourceError {
    match error.error_code() {
        ErrorCode::STREAM_NOT_FOUND => absent(format!("NATS has no stream {stream}")),
        ErrorCode::JETSTREAM_NOT_ENABLED | ErrorCode::JETSTREAM_NOT_ENABLED_FOR_ACCOUNT => {
            absent("JetStream is not enabled for the account at NATS".to_owned())
        }
        _ => SourceError::unavailable(what, quote(&error.to_string())),
    }
}

/// Nobody listens where JetStream is asked.
pub(super) fn no_jetstream() -> SourceError {
    let what = "JetStream does not answer: it is not enabled at NATS, or not ready yet";
    SourceError::Unavailable { what: what.to_owned(), source: None }
}

pub(super) fn absent(what: String) -> SourceError {
    SourceError::Absent { what }
}

#[cfg(test)]
mod tests;
