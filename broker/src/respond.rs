//! The one place where the ingress's answers become statuses.

use std::time::Duration;

use broker_event::ReadError;
use bytes::Bytes;
use http::header::{ALLOW, CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderName, HeaderValue, Response, StatusCode};
use http_body_util::Full;
use thiserror::Error;

use crate::ingress::AdmitError;
use crate::store::AppendError;

const ALLOWED: HeaderValue = HeaderValue::from_static("POST, OPTIONS");
const ORIGIN: HeaderName = HeaderName::from_static("webhook-allowed-origin");
const RATE: HeaderName = HeaderName::from_static("webhook-allowed-rate");

/// When to try a log again that failed for good: whoever supervises the process needs this long to restart it.
const RESTART: Duration = Duration::from_secs(30);

/// When to try a large body again: most of those that are arriving have arrived by then.
const BODIES: Duration = Duration::from_secs(1);

/// What the ingress answers with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    /// So many events are durable.
    Accepted(usize),
    /// The handshake of the web-hook specification: anybody may send, at any rate.
    Handshake,
}

/// Why a request was refused. The sentence goes to the sender.
#[derive(Debug, Error)]
pub(crate) enum Refusal {
    #[error("only POST and OPTIONS are answered here")]
    Method,
    #[error("name a broker: POST /NAMESPACE/BROKER")]
    NoPath,
    #[error("the path must be /NAMESPACE/BROKER")]
    BadPath,
    #[error("the path is longer than {limit} bytes")]
    LongPath { limit: usize },
    #[error("the header fields are larger than {limit} bytes")]
    Headers { limit: usize },
    #[error("the body is larger than {limit} bytes, the limit of this mesh")]
    TooLarge { limit: usize },
    #[error("the body did not arrive in time")]
    TooSlow,
    #[error("the body broke off: {0}")]
    Broken(String),
    #[error("too many large bodies are arriving at once")]
    Crowded,
    #[error(transparent)]
    Read(#[from] ReadError),
    #[error(transparent)]
    Admit(AdmitError),
    #[error("event {number} of the batch: {reason}")]
    AdmitInBatch { number: usize, reason: AdmitError },
    #[error("a batch holds at most {limit} events, this one has {count}")]
    LongBatch { limit: usize, count: usize },
    #[error(transparent)]
    Append(#[from] AppendError),
}

impl Refusal {
    fn status(&self) -> StatusCode {
        match self {
            Self::Method => StatusCode::METHOD_NOT_ALLOWED,
            Self::NoPath | Self::Append(AppendError::UnknownTopic(_)) => StatusCode::NOT_FOUND,
            Self::LongPath { .. } => StatusCode::URI_TOO_LONG,
            Self::Headers { .. } => StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
            Self::TooLarge { .. }
            | Self::LongBatch { .. }
            | Self::Append(AppendError::TooLarge) => StatusCode::PAYLOAD_TOO_LARGE,
            Self::TooSlow => StatusCode::REQUEST_TIMEOUT,
            Self::Read(ReadError::UnsupportedMediaType { .. }) => {
                StatusCode::UNSUPPORTED_MEDIA_TYPE
            }
            Self::BadPath
            | Self::Broken(_)
            | Self::Read(_)
            | Self::Admit(_)
            | Self::AdmitInBatch { .. } => StatusCode::BAD_REQUEST,
            Self::Crowded
            | Self::Append(
                AppendError::Full { .. } | AppendError::Unavailable { .. } | AppendError::Failed(_),
            ) => StatusCode::SERVICE_UNAVAILABLE,
        }
    }

    fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Append(
                AppendError::Full { retry_after, .. }
                | AppendError::Unavailable { retry_after, .. },
            ) => Some(*retry_after),
            Self::Append(AppendError::Failed(_)) => Some(RESTART),
            Self::Crowded => Some(BODIES),
            _ => None,
        }
    }
}

/// The response to a request.
pub(crate) fn respond(outcome: Result<Answer, Refusal>) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::default());
    response.headers_mut().insert(ALLOW, ALLOWED);
    match outcome {
        Ok(Answer::Accepted(_)) => *response.status_mut() = StatusCode::ACCEPTED,
        Ok(Answer::Handshake) => {
            response.headers_mut().insert(ORIGIN, HeaderValue::from_static("*"));
            response.headers_mut().insert(RATE, HeaderValue::from_static("*"));
        }
        Err(refusal) => {
            *response.status_mut() = refusal.status();
            if let Some(wait) = refusal.retry_after() {
                // A fraction of a second rounds up: zero would mean "at once".
                let seconds =
                    wait.as_secs().saturating_add(u64::from(wait.subsec_nanos() > 0)).max(1);
                response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(seconds));
            }
            response
                .headers_mut()
                .insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
            *response.body_mut() = Full::from(format!("{refusal}\n"));
        }
    }
    response
}
