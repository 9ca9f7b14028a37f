//! One call to a subscriber or a dead letter sink: the request, the limits, the answer.

use std::error::Error as StdError;
use std::fmt;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use broker::ingress::TTL;
use broker::store::{Outcome, Stage};
use broker_event::http as binding;
use broker_event::{Event, Value};
use bytes::{Bytes, BytesMut};
use http::header::{AUTHORIZATION, RETRY_AFTER};
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, Uri};
use http_body::Body;
use http_body_util::BodyExt;
use tokio::time::{Instant, timeout_at};

use crate::client::{AnswerBody, Destination, HttpClient, Message, append};
use crate::clock;
use crate::retry::{Class, MAX_WAIT, classify, heeds_retry_after, retry_after};
use crate::tls::Clients;
use crate::trigger::{Format, Target};

/// Bytes of an unwanted body that are read away so that the connection can be used again; a longer body costs the
/// connection instead. Error pages of common frameworks are below it.
const DRAIN: usize = 64 << 10;

/// How long an unwanted body is waited for: the verdict is known, only the connection is at stake.
const DRAIN_TIME: Duration = Duration::from_secs(5);

const PREFER: HeaderName = HeaderName::from_static("prefer");
const PREFER_REPLY: HeaderValue = HeaderValue::from_static("reply");
const KN_NAMESPACE: HeaderName = HeaderName::from_static("kn-namespace");
/// The `CloudEvents` distributed tracing extension, and the W3C headers of the same names.
const TRACE: [&str; 2] = ["traceparent", "tracestate"];

/// Why nothing can be sent to an address.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TargetError {
    /// Not an absolute `http` or `https` URL.
    #[error("{0} is not an absolute http or https URL")]
    Url(String),
    /// The PEM text holds no usable certificate.
    #[error("the certificates in CACerts cannot be used: {0}")]
    Certificates(String),
}

impl TargetError {
    /// Never: somebody must change the address.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        false
    }
}

/// What a target is to the event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    /// Its answer may be an event.
    Subscriber,
    /// Its answer is ignored. It sees `knativebrokerttl`, for it may be a broker: without the count, an event
    /// that comes back as its own dead letter would go round forever.
    DeadLetter,
}

/// Everything about requests to one target that does not change from event to event.
pub(crate) struct Endpoint {
    role: Role,
    format: Format,
    uri: Uri,
    destination: Destination,
    client: HttpClient,
}

/// A 2xx answer.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    /// The whole body; empty from a dead letter sink.
    pub(crate) body: Bytes,
}

/// A call that did not deliver the event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Failure {
    /// Which step failed.
    pub(crate) stage: Stage,
    /// HTTP status, 0 when there was no answer.
    pub(crate) status: u16,
    /// Why, in words.
    pub(crate) reason: String,
    /// First bytes of the answer's body.
    pub(crate) body: Vec<u8>,
    /// Whether the same call may succeed later.
    pub(crate) retryable: bool,
    /// What the answer said about when.
    pub(crate) retry_after: Option<Duration>,
}

/// Bounds of one call.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// From connecting to the last byte of the answer.
    pub(crate) timeout: Duration,
    /// Longest body of a 2xx answer.
    pub(crate) reply_bytes: usize,
}

impl Endpoint {
    /// Prepares requests to `target` on behalf of a trigger in `namespace`.
    pub(crate) fn new(
        target: &Target,
        role: Role,
        format: Option<Format>,
        namespace: &str,
        clients: &mut Clients,
    ) -> Result<Self, TargetError> {
        let (uri, authorization) = split_credentials(&target.url)?;
        let mut headers = Vec::new();
        headers.extend(authorization.map(|value| (AUTHORIZATION, value)));
        headers.extend(HeaderValue::from_str(namespace).ok().map(|value| (KN_NAMESPACE, value)));
        if role == Role::Subscriber {
            headers.push((PREFER, PREFER_REPLY));
        }
        let client = clients.trusting(target.ca_certs.as_deref())?;
        let destination = Destination::new(&uri, &headers)?;
        Ok(Self { role, format: format.unwrap_or(Format::Binary), uri, destination, client })
    }

    /// The address without credentials.
    pub(crate) fn url(&self) -> &Uri {
        &self.uri
    }

    /// Posts `event` and reads the answer.
    pub(crate) async fn call(&self, event: &Event, limits: Limits) -> Result<Answer, Failure> {
        let deadline = Instant::now() + limits.timeout.min(MAX_WAIT);
        let message = self.message(event);
        let sent = self.client.send(&self.destination, &message);
        let response = match timeout_at(deadline, sent).await {
            Ok(Ok(response)) => response,
            Ok(Err(error)) => return Err(self.unanswered(&describe(&error))),
            Err(_) => {
                return Err(self.unanswered(&format!("no answer within {:?}", limits.timeout)));
            }
        };
        let (head, mut body) = response.into_parts();
        if classify(head.status) != Class::Delivered {
            let mut start = BytesMut::new();
            read_away(&mut body, &mut start, deadline).await;
            return Err(self.refused(head.status, &head.headers, start.to_vec()));
        }
        let mut answer = Answer { status: head.status, headers: head.headers, body: Bytes::new() };
        match self.role {
            Role::DeadLetter => read_away(&mut body, &mut BytesMut::new(), deadline).await,
            Role::Subscriber => {
                answer.body =
                    match timeout_at(deadline, read_whole(&mut body, limits.reply_bytes)).await {
                        Ok(Ok(whole)) => whole,
                        Ok(Err(reason)) => return Err(self.broken(answer.status, &reason)),
                        Err(_) => {
                            let reason = format!(
                                "answered {}, but not to the end within {:?}",
                                answer.status, limits.timeout
                            );
                            return Err(self.broken(answer.status, &reason));
                        }
                    };
            }
        }
        Ok(answer)
    }

    fn message(&self, event: &Event) -> Message {
        let left_out = (self.role == Role::Subscriber).then_some(TTL);
        self.destination.message(|head| {
            for extension in TRACE {
                if let Some(Value::String(context)) = event.extension(extension)
                    && let Ok(context) = HeaderValue::from_str(context)
                {
                    append(head, extension, context.as_bytes());
                }
            }
            match self.format {
                Format::Binary => binding::write_binary_lines(event, left_out, head),
                Format::Json => binding::write_structured_lines(event, left_out, head),
            }
        })
    }

    fn stage(&self) -> Stage {
        match self.role {
            Role::Subscriber => Stage::Subscriber,
            Role::DeadLetter => Stage::DeadLetter,
        }
    }

    fn unanswered(&self, reason: &str) -> Failure {
        Failure {
            stage: self.stage(),
            status: 0,
            reason: bounded(reason),
            body: Vec::new(),
            retryable: true,
            retry_after: None,
        }
    }

    fn refused(&self, status: StatusCode, headers: &HeaderMap, body: Vec<u8>) -> Failure {
        let asked = headers.get(RETRY_AFTER).filter(|_| heeds_retry_after(status));
        Failure {
            stage: self.stage(),
            status: status.as_u16(),
            reason: status.to_string(),
            body,
            retryable: classify(status) == Class::Retry,
            retry_after: asked.and_then(|value| retry_after(value.to_str().ok()?, clock::now())),
        }
    }

    fn broken(&self, status: StatusCode, reason: &str) -> Failure {
        Failure {
            stage: self.stage(),
            status: status.as_u16(),
            reason: bounded(reason),
            body: Vec::new(),
            retryable: true,
            retry_after: None,
        }
    }
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The destination holds credentials.
        f.debug_struct("Endpoint")
            .field("uri", &self.uri)
            .field("role", &self.role)
            .finish_non_exhaustive()
    }
}

/// Takes `user:password@` out of the address and makes the header of it that Go's client makes.
fn split_credentials(url: &Uri) -> Result<(Uri, Option<HeaderValue>), TargetError> {
    let parts = url.clone().into_parts();
    let authority = parts.authority.as_ref().map_or("", Authority::as_str);
    let (credentials, host) = match authority.rsplit_once('@') {
        Some((credentials, host)) => (Some(credentials), host),
        None => (None, authority),
    };
    // The credentials are not repeated in an error.
    let refuse = || TargetError::Url(host.to_owned());
    let web = parts
        .scheme
        .as_ref()
        .is_some_and(|scheme| *scheme == Scheme::HTTP || *scheme == Scheme::HTTPS);
    if !web || host.is_empty() {
        return Err(if credentials.is_some() {
            refuse()
        } else {
            TargetError::Url(url.to_string())
        });
    }
    let authorization = credentials.and_then(|credentials| {
        let decoded: Vec<u8> = percent_encoding::percent_decode_str(credentials).collect();
        let mut value =
            HeaderValue::try_from(format!("Basic {}", STANDARD.encode(decoded))).ok()?;
        value.set_sensitive(true);
        Some(value)
    });
    let uri = Uri::builder()
        .scheme(parts.scheme.clone().unwrap_or(Scheme::HTTP))
        .authority(host)
        .path_and_query(
            parts.path_and_query.clone().unwrap_or_else(|| PathAndQuery::from_static("/")),
        )
        .build()
        .map_err(|_| refuse())?;
    Ok((uri, authorization))
}

/// Reads a body to its end, or says why not.
async fn read_whole(body: &mut AnswerBody, most: usize) -> Result<Bytes, String> {
    let mut whole = Bytes::new();
    let mut grown = BytesMut::new();
    while !body.is_end_stream() {
        let Some(frame) = body.frame().await else { break };
        let frame = frame.map_err(|error| format!("the answer broke off: {}", describe(&error)))?;
        let Ok(data) = frame.into_data() else { continue };
        if whole.len() + grown.len() + data.len() > most {
            return Err(format!("the answer is longer than {most} bytes"));
        }
        if whole.is_empty() && grown.is_empty() {
            whole = data; // most answers come in one piece and need no copy
            continue;
        }
        if grown.is_empty() {
            grown.extend_from_slice(&std::mem::take(&mut whole));
        }
        grown.extend_from_slice(&data);
    }
    Ok(if grown.is_empty() { whole } else { grown.freeze() })
}

/// Reads a body nobody wants, keeping its start; stops at a limit of bytes and time. What is left unread closes the
/// connection when the body is dropped.
async fn read_away(body: &mut AnswerBody, start: &mut BytesMut, deadline: Instant) {
    let deadline = deadline.min(Instant::now() + DRAIN_TIME);
    let mut read = 0;
    while !body.is_end_stream() && read <= DRAIN {
        let Ok(Some(Ok(frame))) = timeout_at(deadline, body.frame()).await else { break };
        let Ok(data) = frame.into_data() else { continue };
        read += data.len();
        let wanted = Outcome::MAX_BODY.saturating_sub(start.len()).min(data.len());
        start.extend_from_slice(data.get(..wanted).unwrap_or_default());
    }
}

/// An error with its causes, in one line.
pub(crate) fn describe(error: &dyn StdError) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        let inner_text = inner.to_string();
        if !text.ends_with(&inner_text) {
            text.push_str(": ");
            text.push_str(&inner_text);
        }
        cause = inner.source();
    }
    text
}

/// A sentence that fits into an outcome: no control characters, cut at a character.
pub(crate) fn bounded(reason: &str) -> String {
    let mut text = String::with_capacity(reason.len().min(Outcome::MAX_REASON));
    for character in reason.chars() {
        let character = if character.is_control() { ' ' } else { character };
        if text.len() + character.len_utf8() > Outcome::MAX_REASON {
            break;
        }
        text.push(character);
    }
    text
}

#[cfg(test)]
mod tests;
