//! The one match from what became of a request to the HTTP response.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Method, Response, StatusCode, header};
use http_body_util::Full;
use thiserror::Error;

use crate::webhook::Accepted;

/// Why a request was not accepted. The sentences are the response's body, so they hold nothing secret.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Refusal {
    /// Another method is wanted.
    #[error("{allowed} is the only method this path knows")]
    Method {
        /// Which one.
        allowed: Method,
    },
    /// Nothing listens here, or not to this.
    #[error("{0}")]
    NotFound(String),
    /// The request is not one the sender of genuine requests would make.
    #[error("{0}")]
    Malformed(String),
    /// The sender does not show the token of the source.
    #[error("{0}")]
    Unauthorized(String),
    /// The body is larger than the limit.
    #[error("the body is larger than {limit} bytes")]
    TooLarge {
        /// The limit.
        limit: usize,
    },
    /// What it asks for is larger than the system behind takes.
    #[error("{0}")]
    Oversized(String),
    /// The body is of a kind that is not read here.
    #[error("{0}")]
    MediaType(String),
    /// The body did not arrive in time.
    #[error("the body did not arrive within {0:?}")]
    TooSlow(Duration),
    /// It cannot be taken now; the same request can later.
    #[error("{reason}")]
    Busy {
        /// What is missing.
        reason: String,
        /// When to come again.
        retry_after: Duration,
    },
    /// The system behind a sink will not have this event.
    #[error("{0}")]
    Unacceptable(String),
}

impl Refusal {
    /// Whether the same request can be accepted later.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Busy { .. } | Self::TooSlow(_) => true,
            Self::Method { .. }
            | Self::NotFound(_)
            | Self::Malformed(_)
            | Self::Unauthorized(_)
            | Self::TooLarge { .. }
            | Self::Oversized(_)
            | Self::MediaType(_)
            | Self::Unacceptable(_) => false,
        }
    }
}

/// The response to a request.
pub(crate) fn respond(outcome: Result<Accepted, Refusal>) -> Response<Full<Bytes>> {
    let (status, text) = match &outcome {
        Ok(Accepted::Stored) => (StatusCode::ACCEPTED, "accepted".to_owned()),
        Ok(Accepted::Done) => (StatusCode::OK, "accepted".to_owned()),
        Ok(Accepted::Ignored) => (StatusCode::ACCEPTED, "ignored".to_owned()),
        Err(refusal) => (status(refusal), format!("{refusal}\n")),
    };
    let mut response = Response::new(Full::new(Bytes::from(text)));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    match outcome {
        Err(Refusal::Method { allowed }) => {
            if let Ok(allowed) = HeaderValue::from_str(allowed.as_str()) {
                headers.insert(header::ALLOW, allowed);
            }
        }
        Err(Refusal::Unauthorized(_)) => {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        Err(Refusal::Busy { retry_after, .. }) => {
            // Whole seconds, at least one: zero would invite an immediate repeat of what just failed.
            let seconds =
                retry_after.as_secs().saturating_add(u64::from(retry_after.subsec_nanos() > 0));
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds.max(1)));
        }
        _ => {}
    }
    response
}

fn status(refusal: &Refusal) -> StatusCode {
    match refusal {
        Refusal::Method { .. } => StatusCode::METHOD_NOT_ALLOWED,
        Refusal::NotFound(_) => StatusCode::NOT_FOUND,
        Refusal::Malformed(_) => StatusCode::BAD_REQUEST,
        Refusal::Unauthorized(_) => StatusCode::UNAUTHORIZED,
        Refusal::TooLarge { .. } | Refusal::Oversized(_) => StatusCode::PAYLOAD_TOO_LARGE,
        Refusal::MediaType(_) => StatusCode::UNSUPPORTED_MEDIA_TYPE,
        Refusal::TooSlow(_) => StatusCode::REQUEST_TIMEOUT,
        Refusal::Busy { .. } => StatusCode::SERVICE_UNAVAILABLE,
        Refusal::Unacceptable(_) => StatusCode::UNPROCESSABLE_ENTITY,
    }
}

#[cfg(test)]
mod tests {
    use super::{Refusal, respond};
    use crate::webhook::Accepted;
    use http::{Method, header};
    use std::time::Duration;

    #[test]
    fn busy_says_when_to_come_again_in_whole_seconds() {
        let after = |retry_after| {
            let refusal = Refusal::Busy { reason: "full".to_owned(), retry_after };
            let response = respond(Err(refusal));
            assert_eq!(response.status(), 503);
            response.headers()[header::RETRY_AFTER].to_str().unwrap().to_owned()
        };
        assert_eq!(after(Duration::ZERO), "1");
        assert_eq!(after(Duration::from_millis(1001)), "2");
        assert_eq!(after(Duration::from_secs(30)), "30");
    }

    #[test]
    fn a_wrong_method_is_told_the_right_one() {
        let response = respond(Err(Refusal::Method { allowed: Method::POST }));
        assert_eq!(response.status(), 405);
        assert_eq!(response.headers()[header::ALLOW], "POST");
    }

    #[test]
    fn a_wrong_token_is_told_what_is_wanted() {
        let response = respond(Err(Refusal::Unauthorized("no".to_owned())));
        assert_eq!(response.status(), 401);
        assert_eq!(response.headers()[header::WWW_AUTHENTICATE], "Bearer");
    }

    #[test]
    fn accepted_is_202() {
        assert_eq!(respond(Ok(Accepted::Stored)).status(), 202);
        assert_eq!(respond(Ok(Accepted::Ignored)).status(), 202);
    }
}
