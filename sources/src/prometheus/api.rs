//! What is asked of a Prometheus server, and what its refusals mean.

use std::fs::File;
use std::io::{self, Read};
use std::path::PathBuf;

use bytes::Bytes;
use crds::secret_ref::SecretValueFromSource;
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE};
use http::{HeaderValue, Request, StatusCode};
use http_body_util::Full;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Deserialize;

use super::spec::{PrometheusSource, server};
use super::{AUTH_TOKEN, CA};
use crate::given::Given;
use crate::http_client::{Answered, HttpClient, HttpError, Identity};
use crate::quote::quote;
use crate::secret::Secret;
use crate::source::SourceError;

/// Bytes of an answer. What is larger could not be kept as an event (15.7 MiB).
const MAX_ANSWER: usize = 16 * 1024 * 1024;

/// Bytes of parameters in a URL; longer ones are posted. Servers and balancers take 8 KiB with the rest of a head. Proxies that
/// check who may read allow GET to more people than POST.
const MAX_URL: usize = 4096;

/// Bytes of a token file. Tokens of Kubernetes have about a thousand.
const MAX_TOKEN: u64 = 16 * 1024;

/// What stays as it is in a parameter.
const PARAMETER: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// A Prometheus server.
#[derive(Clone, Debug)]
pub(super) struct Api {
    client: HttpClient,
    /// The URL of the API, as in `http://host:9090/api/v1/`.
    url: String,
    host: String,
    token: Token,
}

/// Where the token is that is shown to the server.
#[derive(Clone, Debug)]
enum Token {
    None,
    Given(Secret),
    /// A file that somebody replaces from time to time.
    File(PathBuf),
}

/// What came of a query.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Asked {
    /// The answer.
    Answer(Bytes),
    /// It cannot be answered at this time, about this time: asking again brings the same.
    Refused(String),
}

/// An error, as the API writes it.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Mistake {
    status: String,
    error_type: String,
    error: String,
}

impl Api {
    /// The server that a spec names.
    ///
    /// # Errors
    /// When its URL, a token or certificates are not what they should be.
    pub(super) fn new(spec: &PrometheusSource, given: &Given) -> Result<Self, SourceError> {
        let url = server(&spec.server_url)
            .map_err(|rule| SourceError::Config(format!("serverURL: {rule}")))?;
        let authorities = match spec.ca_cert_config_map.as_str() {
            "" => None,
            _ => Some((CA, given.require(CA)?.expose())),
        };
        let wanted = spec.auth_token.as_ref().and_then(SecretValueFromSource::selector);
        let token = if let Some(selector) = wanted {
            match given.get(AUTH_TOKEN) {
                None if selector.optional == Some(true) => Token::None,
                _ => Token::Given(given.require(AUTH_TOKEN)?.clone()),
            }
        } else if spec.auth_token_file.is_empty() {
            Token::None
        } else {
            Token::File(PathBuf::from(&spec.auth_token_file))
        };
        Ok(Self {
            client: HttpClient::new(&Identity { authorities, certificate: None })?,
            url: format!("{}/api/v1/", url.as_str().trim_end_matches('/')),
            host: url.host_str().unwrap_or_default().to_owned(),
            token,
        })
    }

    /// Asks `endpoint`, as in `query`.
    ///
    /// # Errors
    /// When there is no answer, the server refuses who asks, or it does not understand the query.
    pub(super) async fn ask(
        &self,
        endpoint: &str,
        parameters: &[(&str, &str)],
    ) -> Result<Asked, SourceError> {
        let request = self.request(endpoint, parameters).await?;
        let answer = match self.client.send(request, MAX_ANSWER).await {
            Err(error @ HttpError::TooLarge { .. }) => {
                return Ok(Asked::Refused(error.to_string()));
            }
            answer => {
                answer.map_err(|error| SourceError::unavailable("query Prometheus", error))?
            }
        };
        let (status, body) = (answer.status(), answer.into_body());
        if status == StatusCode::OK {
            return Ok(Asked::Answer(body));
        }
        self.refused(status, &body)
    }

    async fn request(
        &self,
        endpoint: &str,
        parameters: &[(&str, &str)],
    ) -> Result<Request<Full<Bytes>>, SourceError> {
        let mut encoded = String::new();
        for (name, value) in parameters {
            let separator = if encoded.is_empty() { "" } else { "&" };
            encoded.extend([separator, name, "="]);
            encoded.extend(utf8_percent_encode(value, PARAMETER));
        }
        let url = format!("{}{endpoint}", self.url);
        let mut request = Request::builder().header(ACCEPT, "application/json");
        if let Some(authorization) = self.authorization().await? {
            request = request.header(AUTHORIZATION, authorization);
        }
        let request = if encoded.len() <= MAX_URL {
            request.uri(format!("{url}?{encoded}")).body(Full::default())
        } else {
            request
                .method(http::Method::POST)
                .uri(url)
                .header(CONTENT_TYPE, "application/x-www-form-urlencoded")
                .body(Full::new(encoded.into()))
        };
        // The URL was read as one before, and what was added is encoded.
        request.map_err(|error| SourceError::Config(format!("serverURL: {error}")))
    }

    async fn authorization(&self) -> Result<Option<HeaderValue>, SourceError> {
        let (field, text) = match &self.token {
            Token::None => return Ok(None),
            Token::Given(secret) => (AUTH_TOKEN, secret.expose().to_owned()),
            Token::File(path) => {
                let path = path.clone();
                let read = tokio::task::spawn_blocking(move || read_token(&path));
                let read = read.await.map_err(io::Error::other).and_then(|read| read);
                let text =
                    read.map_err(|error| SourceError::unavailable("read authTokenFile", error))?;
                ("authTokenFile", text)
            }
        };
        let token = text.trim();
        if !is_token(token) {
            return Err(SourceError::Credentials {
                what: format!("{field}: it does not hold a token"),
            });
        }
        let value = HeaderValue::try_from(format!("Bearer {token}"));
        let mut value = value.map_err(|_| SourceError::Credentials {
            what: format!("{field}: it does not hold a token"),
        })?;
        value.set_sensitive(true);
        Ok(Some(value))
    }

    fn refused(&self, status: StatusCode, body: &[u8]) -> Result<Asked, SourceError> {
        let answered = Answered::new(&self.host, status, body);
        let mistake: Mistake = serde_json::from_slice(body).unwrap_or_default();
        let is_prometheus = mistake.status == "error";
        match status {
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
                Err(SourceError::Credentials { what: format!("query Prometheus: {answered}") })
            }
            // Not of this time: the query is not PromQL.
            StatusCode::BAD_REQUEST if is_prometheus && mistake.error_type == "bad_data" => {
                Err(SourceError::Config(format!("promQL: {}", quote(&mistake.error))))
            }
            // Of this time: the data does not fit the query, or is too much of it.
            StatusCode::UNPROCESSABLE_ENTITY if is_prometheus => {
                Ok(Asked::Refused(format!("{}: {}", self.host, quote(&mistake.error))))
            }
            StatusCode::NOT_FOUND => Err(SourceError::Absent {
                what: format!("serverURL: there is no API of Prometheus there: {answered}"),
            }),
            _ => Err(SourceError::unavailable("query Prometheus", answered)),
        }
    }
}

/// Reads a token from a file. Anything else than a plain file could block, or never end.
fn read_token(path: &std::path::Path) -> io::Result<String> {
    if !std::fs::metadata(path)?.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is not a file"));
    }
    let mut text = String::new();
    File::open(path)?.take(MAX_TOKEN + 1).read_to_string(&mut text)?;
    if u64::try_from(text.len()).unwrap_or(u64::MAX) > MAX_TOKEN {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, "it is too large for a token"));
    }
    Ok(text)
}

/// Whether it can be a bearer token (RFC 6750, section 2.1). What else a file may hold must not leave this machine.
fn is_token(text: &str) -> bool {
    let body = text.trim_end_matches('=');
    let inner = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~+/".contains(&byte);
    !body.is_empty() && body.bytes().all(inner)
}
