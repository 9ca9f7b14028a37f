//! Calls of an API that speaks JSON, and what its answers mean.

use std::fmt;
use std::time::Duration;

use bytes::Bytes;
use http::header::{ACCEPT, CONTENT_TYPE, RETRY_AFTER, USER_AGENT};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Uri};
use http_body_util::Full;
use jiff::Timestamp;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::RegistrationError;
use crate::clock::Clock;
use crate::given::NotGiven;
use crate::http_client::{Answered, HttpClient, Identity};

/// The largest answer: a page of a hundred web hooks, of a kilobyte or two each, has a fifth of it.
const MAX_ANSWER: usize = 1024 * 1024;

/// What is encoded in a part of a path or a query: all but the unreserved characters of RFC 3986, 2.3.
pub(crate) const COMPONENT: &AsciiSet =
    &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// The pause after a refusal for too many requests that does not say how long: what GitHub asks for.
const PAUSE: Duration = Duration::from_secs(60);

/// An API, and the time. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Api {
    client: HttpClient,
    clock: Clock,
}

impl Api {
    /// A client of APIs with publicly trusted certificates, or those in PEM that a field of the spec led to.
    ///
    /// # Errors
    /// When those are no certificates.
    pub(crate) fn new(
        clock: Clock,
        authorities: Option<(&'static str, &str)>,
    ) -> Result<Self, NotGiven> {
        let client = HttpClient::new(&Identity { authorities, ..Identity::default() })?;
        Ok(Self { client, clock })
    }

    /// The time at which a request is made.
    pub(crate) fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// Calls with a JSON body, or none, and reads the JSON of the answer. `what` is being done, for the error.
    pub(crate) async fn json<T: DeserializeOwned>(
        &self,
        what: &'static str,
        (method, url): (Method, &str),
        headers: &HeaderMap,
        body: Option<&(impl Serialize + Sync)>,
    ) -> Result<T, RegistrationError> {
        let bytes = match body {
            None => Vec::new(),
            Some(body) => serde_json::to_vec(body).map_err(|e| unreadable(what, url, e))?,
        };
        let mut request = request(what, method, url, bytes.into())?;
        request.headers_mut().extend(headers.clone());
        let response = self.send(what, request).await?;
        serde_json::from_slice(response.body()).map_err(|error| unreadable(what, url, error))
    }

    /// Sends any request; only successes are `Ok`.
    pub(crate) async fn send(
        &self,
        what: &'static str,
        request: Request<Full<Bytes>>,
    ) -> Result<Response<Bytes>, RegistrationError> {
        let host = request.uri().host().unwrap_or_default().to_owned();
        let response = self.client.send(request, MAX_ANSWER).await;
        let response =
            response.map_err(|source| RegistrationError::Unreachable { what, source })?;
        judge(what, host, response, self.now())
    }
}

/// A request with what every API wants to see.
pub(crate) fn request(
    what: &'static str,
    method: Method,
    url: &str,
    body: Bytes,
) -> Result<Request<Full<Bytes>>, RegistrationError> {
    let uri: Uri = url.parse().map_err(|error| unreadable(what, url, error))?;
    let mut request = Request::new(Full::new(body));
    *request.method_mut() = method;
    *request.uri_mut() = uri;
    let headers = request.headers_mut();
    headers.insert(ACCEPT, HeaderValue::from_static("application/json"));
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    // GitHub refuses requests without it.
    headers.insert(USER_AGENT, HeaderValue::from_static("weft"));
    Ok(request)
}

/// An answer that does not say what it should.
pub(crate) fn unreadable(
    what: &'static str,
    url: &str,
    why: impl fmt::Display,
) -> RegistrationError {
    let host = url.parse::<Uri>().ok().and_then(|uri| uri.host().map(str::to_owned));
    RegistrationError::Unreadable { what, host: host.unwrap_or_default(), why: why.to_string() }
}

/// The one place where statuses become decisions.
fn judge(
    what: &'static str,
    host: String,
    response: Response<Bytes>,
    now: Timestamp,
) -> Result<Response<Bytes>, RegistrationError> {
    let status = response.status();
    if status.is_success() {
        return Ok(response);
    }
    if let Some(wait) = pause(&response, now) {
        return Err(RegistrationError::Limited { what, host, wait });
    }
    let answered = Answered::new(&host, status, response.body());
    Err(match status {
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
            RegistrationError::Credentials { what, answered }
        }
        StatusCode::NOT_FOUND => RegistrationError::Absent { what, answered },
        StatusCode::REQUEST_TIMEOUT => RegistrationError::Failing { what, answered },
        _ if status.is_server_error() => RegistrationError::Failing { what, answered },
        // Redirects too: they say that a repository has another name now, and whoever runs the mesh should write that.
        _ => RegistrationError::Rejected { what, answered },
    })
}

/// The pause that a refusal asks for, if it is one for too many requests.
///
/// GitHub says so with 403 or 429 and one of two headers, or in the text alone; GitLab with 429 and `Retry-After`.
fn pause(response: &Response<Bytes>, now: Timestamp) -> Option<Duration> {
    let number = |name: &str| response.headers().get(name)?.to_str().ok()?.parse::<i64>().ok();
    let status = response.status();
    if status != StatusCode::TOO_MANY_REQUESTS && status != StatusCode::FORBIDDEN {
        return None;
    }
    let seconds = |seconds: i64| Duration::from_secs(u64::try_from(seconds).unwrap_or_default());
    if let Some(after) = number(RETRY_AFTER.as_str()) {
        return Some(seconds(after));
    }
    if number("x-ratelimit-remaining") == Some(0)
        && let Some(reset) = number("x-ratelimit-reset")
    {
        return Some(seconds(reset.saturating_sub(now.as_second())));
    }
    let told = String::from_utf8_lossy(response.body()).to_ascii_lowercase().contains("rate limit");
    (status == StatusCode::TOO_MANY_REQUESTS || told).then_some(PAUSE)
}

#[cfg(test)]
mod tests {
    use super::{PAUSE, RegistrationError, judge};
    use bytes::Bytes;
    use http::Response;
    use jiff::Timestamp;
    use std::time::Duration;

    fn judged(status: u16, headers: &[(&str, &str)], body: &'static str) -> RegistrationError {
        let mut response = Response::builder().status(status);
        for (name, value) in headers {
            response = response.header(*name, *value);
        }
        let response = response.body(Bytes::from_static(body.as_bytes())).unwrap();
        let now = Timestamp::from_second(1_700_000_000).unwrap();
        judge("make it", "api.example.com".to_owned(), response, now).unwrap_err()
    }

    fn wait(error: &RegistrationError) -> Option<Duration> {
        match error {
            RegistrationError::Limited { wait, .. } => Some(*wait),
            _ => None,
        }
    }

    #[test]
    fn limits_are_told_from_refusals() {
        let pause = |status, headers: &[_], body| wait(&judged(status, headers, body));
        assert_eq!(pause(403, &[("retry-after", "7")], ""), Some(Duration::from_secs(7)));
        assert_eq!(pause(429, &[("retry-after", "120")], ""), Some(Duration::from_secs(120)));
        let spent = [("x-ratelimit-remaining", "0"), ("x-ratelimit-reset", "1700000090")];
        assert_eq!(pause(403, &spent, ""), Some(Duration::from_secs(90)));
        let past = [("x-ratelimit-remaining", "0"), ("x-ratelimit-reset", "1")];
        assert_eq!(pause(429, &past, ""), Some(Duration::ZERO));
        let secondary = r#"{"message":"You have exceeded a secondary rate limit."}"#;
        assert_eq!(pause(403, &[("x-ratelimit-remaining", "9")], secondary), Some(PAUSE));
        assert_eq!(pause(429, &[("retry-after", "soon")], ""), Some(PAUSE));
        assert_eq!(pause(403, &[("x-ratelimit-remaining", "9")], "{}"), None);
        assert_eq!(pause(503, &[("retry-after", "7")], ""), None);
    }

    #[test]
    fn every_status_has_its_decision() {
        let reason = |status| judged(status, &[], "no").reason();
        assert_eq!(reason(401), "CredentialsRefused");
        assert_eq!(reason(403), "CredentialsRefused");
        assert_eq!(reason(404), "UpstreamNotFound");
        assert_eq!(reason(301), "WebhookRefused");
        assert_eq!(reason(422), "WebhookRefused");
        assert_eq!(reason(500), "UpstreamUnavailable");
        assert_eq!(reason(408), "UpstreamUnavailable");
        let text = judged(422, &[], "url is\nnot allowed").to_string();
        assert_eq!(
            text,
            "make it: api.example.com answered 422 Unprocessable Entity: url is not allowed"
        );
    }
}
