//! What is asked of a `CouchDB` server, and what its refusals mean.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE};
use http::{HeaderValue, Method, Request, StatusCode};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use url::{Host, Url};

use super::sequence::Sequence;
use super::spec::CouchDbSource;
use super::{CA, CREDENTIALS};
use crate::given::{Given, NotGiven};
use crate::http_client::{Answered, HttpClient, Identity};
use crate::source::SourceError;

/// How often a server says that an open request is alive, in milliseconds. Knative's choice.
pub(super) const HEARTBEAT_MS: u64 = 6000;

/// Changes of one answer of the feed `normal`. More would hold up the first of them; less would be more requests.
pub(super) const PAGE: usize = 1000;

/// Bytes of what a server says of a database or a mistake: a few hundred.
const MAX_ANSWER: usize = 64 * 1024;

/// What `encodeURIComponent` leaves as it is.
const COMPONENT: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'_')
    .remove(b'.')
    .remove(b'!')
    .remove(b'~')
    .remove(b'*')
    .remove(b'\'')
    .remove(b'(')
    .remove(b')');

/// A database of a server.
#[derive(Clone, Debug)]
pub(super) struct Database {
    client: HttpClient,
    /// The URL of the database, without user and password.
    url: String,
    /// The server's name or address, for messages.
    host: String,
    /// The name of the database.
    name: String,
    authorization: Option<HeaderValue>,
    is_continuous: bool,
    documents: bool,
    selector: Option<Map<String, Value>>,
}

/// What a server says about a database.
#[derive(Debug, Deserialize)]
struct Information {
    update_seq: Sequence,
}

/// Why a server refuses.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Mistake {
    error: String,
    reason: String,
}

/// The URL of the server.
struct Server {
    url: Url,
    user: Option<(String, String)>,
}

impl Database {
    /// The database that a spec names, at the server that its Secret names.
    ///
    /// # Errors
    /// When the Secret does not hold a URL, or holds something else for certificates.
    pub(super) fn new(spec: &CouchDbSource, given: &Given) -> Result<Self, SourceError> {
        let server = Server::parse(given.require(CREDENTIALS)?.expose())?;
        let authorities = given.get(CA).map(|pem| (CA, pem.expose()));
        let client = HttpClient::new(&Identity { authorities, certificate: None })?;
        let base = server.url.as_str().trim_end_matches('/');
        let name = utf8_percent_encode(&spec.database, COMPONENT);
        Ok(Self {
            client,
            url: format!("{base}/{name}"),
            host: server.host().to_owned(),
            name: spec.database.clone(),
            authorization: server.authorization()?,
            is_continuous: spec.is_continuous(),
            documents: spec.include_docs,
            selector: spec.selector.clone(),
        })
    }

    /// The events' `source`.
    pub(super) fn source(&self) -> String {
        of(&self.host, &self.name)
    }

    /// Which database it is: where it is, though not how it is spoken to. A host may have several servers, and a server be
    /// one of several behind a path.
    pub(super) fn place(&self) -> &str {
        self.url.split_once("://").map_or(self.url.as_str(), |(_, place)| place)
    }

    /// Whether one request stays open.
    pub(super) fn is_continuous(&self) -> bool {
        self.is_continuous
    }

    /// Whether only some changes are asked for.
    pub(super) fn is_filtered(&self) -> bool {
        self.selector.is_some()
    }

    /// What a message calls it.
    pub(super) fn what(&self) -> String {
        format!("the changes of the database {} of {}", self.name, self.host)
    }

    /// How far its changes go; `None` when the server says that it has no such database.
    ///
    /// # Errors
    /// When there is no answer, or another one.
    pub(super) async fn update_sequence(&self) -> Result<Option<Sequence>, SourceError> {
        let request = self.request(Method::GET, &self.url, Bytes::new())?;
        let answer =
            self.client.send(request, MAX_ANSWER).await.map_err(|error| {
                SourceError::unavailable(format!("read {}", self.what()), error)
            })?;
        let (status, body) = (answer.status(), answer.into_body());
        if status == StatusCode::OK {
            let read: Result<Information, _> = serde_json::from_slice(&body);
            let failed = |error| {
                SourceError::unavailable(
                    format!("{} does not answer as CouchDB does", self.host),
                    error,
                )
            };
            return read.map(|read| Some(read.update_seq)).map_err(failed);
        }
        if status == StatusCode::NOT_FOUND && says_no_database(&body) {
            return Ok(None);
        }
        Err(self.refused(status, &body))
    }

    /// There is no such database.
    pub(super) fn absent(&self) -> SourceError {
        SourceError::Absent { what: format!("{} has no database {}", self.host, self.name) }
    }

    /// Asks for the changes after `since`. The answer is [`rows`](super::rows).
    ///
    /// # Errors
    /// When there is no answer, or a refusal.
    pub(super) async fn changes(&self, since: &Sequence) -> Result<Incoming, SourceError> {
        let mut url = format!("{}/_changes?", self.url);
        if self.is_continuous {
            url.push_str(&format!("feed=continuous&heartbeat={HEARTBEAT_MS}"));
        } else {
            url.push_str(&format!("feed=normal&limit={PAGE}"));
        }
        url.push_str("&since=");
        url.extend(utf8_percent_encode(&since.text(), COMPONENT));
        if self.documents {
            url.push_str("&include_docs=true");
        }
        let (method, body) = match &self.selector {
            None => (Method::GET, Bytes::new()),
            Some(selector) => {
                url.push_str("&filter=_selector");
                (Method::POST, json!({ "selector": selector }).to_string().into())
            }
        };
        let request = self.request(method, &url, body)?;
        let answer =
            self.client.open(request).await.map_err(|error| {
                SourceError::unavailable(format!("read {}", self.what()), error)
            })?;
        let (status, body) = (answer.status(), answer.into_body());
        if status == StatusCode::OK {
            return Ok(body);
        }
        let said = Limited::new(body, MAX_ANSWER).collect().await;
        Err(self.refused(status, &said.map(|said| said.to_bytes()).unwrap_or_default()))
    }

    fn request(
        &self,
        method: Method,
        url: &str,
        body: Bytes,
    ) -> Result<Request<Full<Bytes>>, SourceError> {
        let mut request = Request::builder().method(method).uri(url).header(ACCEPT, JSON);
        if let Some(authorization) = &self.authorization {
            request = request.header(AUTHORIZATION, authorization.clone());
        }
        if !body.is_empty() {
            request = request.header(CONTENT_TYPE, JSON);
        }
        // The URL was read as one before, and what was added is encoded.
        request.body(Full::new(body)).map_err(|error| SourceError::Config(error.to_string()))
    }

    fn refused(&self, status: StatusCode, body: &[u8]) -> SourceError {
        let answered = Answered::new(&self.host, status, body);
        match status {
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
                SourceError::Credentials { what: format!("read {}: {answered}", self.what()) }
            }
            StatusCode::NOT_FOUND => {
                SourceError::Absent { what: format!("read {}: {answered}", self.what()) }
            }
            _ => SourceError::unavailable(format!("read {}", self.what()), answered),
        }
    }
}

const JSON: &str = "application/json";

/// The `source` of the events of that spec, as [`Database::source`].
///
/// # Errors
/// When the Secret does not hold a URL.
pub(super) fn source(spec: &CouchDbSource, given: &Given) -> Result<String, NotGiven> {
    let server = Server::parse(given.require(CREDENTIALS)?.expose())?;
    Ok(of(server.host(), &spec.database))
}

/// The server's name and the database.
fn of(host: &str, database: &str) -> String {
    // A relative path cannot begin with an IPv6 address.
    let slashes = if host.starts_with('[') { "//" } else { "" };
    format!("{slashes}{host}/{database}")
}

impl Server {
    fn host(&self) -> &str {
        self.url.host_str().unwrap_or_default()
    }

    fn parse(text: &str) -> Result<Self, NotGiven> {
        let refused = |why| NotGiven { field: CREDENTIALS, why };
        let mut url = Url::parse(text.trim())
            .map_err(|_| refused("its url is not a URL such as https://user:password@host:6984"))?;
        if !matches!(url.scheme(), "http" | "https") {
            return Err(refused("its url is neither http nor https"));
        }
        if url.query().is_some() || url.fragment().is_some() {
            return Err(refused("its url has a query or a fragment"));
        }
        if matches!(url.host(), None | Some(Host::Domain(""))) {
            return Err(refused("its url names no host"));
        }
        let decoded = |text: &str| {
            let text = percent_decode_str(text).decode_utf8();
            text.map(String::from)
                .map_err(|_| refused("its url has a user or password that is no UTF-8"))
        };
        let password = url.password().map(decoded).transpose()?;
        let user = decoded(url.username())?;
        let user =
            (!user.is_empty() || password.is_some()).then(|| (user, password.unwrap_or_default()));
        // Cannot fail with a host.
        let (Ok(()), Ok(())) = (url.set_username(""), url.set_password(None)) else {
            return Err(refused("its url names no host"));
        };
        Ok(Self { url, user })
    }

    fn authorization(&self) -> Result<Option<HeaderValue>, NotGiven> {
        let Some((user, password)) = &self.user else { return Ok(None) };
        let encoded = format!("Basic {}", STANDARD.encode(format!("{user}:{password}")));
        let mut value = HeaderValue::try_from(encoded)
            .map_err(|_| NotGiven { field: CREDENTIALS, why: "its user cannot be sent" })?;
        value.set_sensitive(true);
        Ok(Some(value))
    }
}

/// Whether it is `CouchDB` that has no such database, and not somebody on the way who knows no such path.
fn says_no_database(body: &[u8]) -> bool {
    let mistake: Mistake = serde_json::from_slice(body).unwrap_or_default();
    let reasons = ["no_db_file", "Database does not exist.", "Database does not exist"];
    mistake.error == "not_found" && reasons.contains(&mistake.reason.as_str())
}
