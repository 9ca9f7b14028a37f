//! The HTTP client of sources that call an API: GitHub's, GitLab's, `CouchDB`'s, Prometheus', Ceph's.
//!
//! Redirects are not followed: they would carry credentials to where nobody meant them to go.

use std::error::Error as StdError;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::{Client, connect::HttpConnector};
use hyper_util::rt::TokioExecutor;
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use thiserror::Error;
use tokio::time::timeout;

use crate::given::NotGiven;
use crate::quote::quote;
use crate::secret::Secret;
use crate::source::SourceError;

/// How long a connection may take to be made: longer than three lost packets take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// How long an answer may take to begin. Prometheus gives up on a query after two minutes by default.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(130);

/// Idle connections are closed before most servers and balancers close them.
const IDLE_TIMEOUT: Duration = Duration::from_secs(30);

/// Whom a client trusts, and who it says it is.
#[derive(Clone, Debug, Default)]
pub(crate) struct Identity<'a> {
    /// PEM certificates to trust beside the public ones, and the field that they come from.
    pub(crate) authorities: Option<(&'static str, &'a str)>,
    /// What to show.
    pub(crate) certificate: Option<Certificate<'a>>,
}

/// A certificate and its key, PEM, each with the field that it comes from.
pub(crate) type Certificate<'a> = ((&'static str, &'a str), (&'static str, &'a Secret));

/// A client. Cheap to clone; connections are shared.
#[derive(Clone, Debug)]
pub(crate) struct HttpClient(Client<HttpsConnector<HttpConnector>, Full<Bytes>>);

/// Why there is no answer, or none to be used. Texts hold the host and nothing else of the URL: paths and queries carry tokens.
#[derive(Debug, Error)]
pub(crate) enum HttpError {
    /// No connection, or it broke.
    #[error("{host}")]
    Unreachable {
        /// The host that was asked.
        host: String,
        /// How it failed.
        #[source]
        source: Box<dyn StdError + Send + Sync>,
    },
    /// No answer in time.
    #[error("{host} did not answer within {limit:?}")]
    Late {
        /// The host that was asked.
        host: String,
        /// The time it had.
        limit: Duration,
    },
    /// The answer is larger than the caller can use.
    #[error("the answer of {host} is larger than {limit} bytes")]
    TooLarge {
        /// The host that was asked.
        host: String,
        /// What was bearable.
        limit: usize,
    },
}

/// An answer that is no success.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{host} answered {status}: {text}")]
pub(crate) struct Answered {
    /// The host that was asked.
    pub(crate) host: String,
    /// The status.
    pub(crate) status: StatusCode,
    /// The beginning of the body, on one line.
    pub(crate) text: String,
}

impl HttpClient {
    /// A client of that identity.
    ///
    /// # Errors
    /// When certificates or keys are not what they should be.
    pub(crate) fn new(identity: &Identity<'_>) -> Result<Self, NotGiven> {
        let mut connector = HttpConnector::new();
        connector.enforce_http(false);
        connector.set_nodelay(true);
        connector.set_connect_timeout(Some(CONNECT_TIMEOUT));
        let connector = HttpsConnectorBuilder::new()
            .with_tls_config(tls(identity)?)
            .https_or_http()
            .enable_http1()
            .wrap_connector(connector);
        let client = Client::builder(TokioExecutor::new())
            .pool_idle_timeout(IDLE_TIMEOUT)
            .pool_timer(hyper_util::rt::TokioTimer::new())
            .build(connector);
        Ok(Self(client))
    }

    /// Sends a request and reads the whole answer, of whatever status.
    ///
    /// # Errors
    /// When there is none, or it has more than `limit` bytes.
    pub(crate) async fn send(
        &self,
        request: Request<Full<Bytes>>,
        limit: usize,
    ) -> Result<Response<Bytes>, HttpError> {
        let host = host(&request);
        let late = |_| HttpError::Late { host: host.clone(), limit: ANSWER_TIMEOUT };
        let whole = async {
            let response =
                self.0.request(request).await.map_err(|e| unreachable(&host, e.into()))?;
            let (parts, body) = response.into_parts();
            let body = Limited::new(body, limit).collect().await.map_err(|error| {
                if error.is::<LengthLimitError>() {
                    HttpError::TooLarge { host: host.clone(), limit }
                } else {
                    unreachable(&host, error)
                }
            })?;
            Ok(Response::from_parts(parts, body.to_bytes()))
        };
        timeout(ANSWER_TIMEOUT, whole).await.map_err(late)?
    }

    /// Sends a request whose answer is read by the caller as it comes, which may be for ever.
    ///
    /// # Errors
    /// When no answer begins in time.
    pub(crate) async fn open(
        &self,
        request: Request<Full<Bytes>>,
    ) -> Result<Response<hyper::body::Incoming>, HttpError> {
        let host = host(&request);
        let late = |_| HttpError::Late { host: host.clone(), limit: ANSWER_TIMEOUT };
        let answer = timeout(ANSWER_TIMEOUT, self.0.request(request)).await.map_err(late)?;
        answer.map_err(|error| unreachable(&host, error.into()))
    }
}

impl Answered {
    /// What was answered to a request to `host`.
    pub(crate) fn new(host: &str, status: StatusCode, body: &[u8]) -> Self {
        let text = String::from_utf8_lossy(body);
        Self { host: host.to_owned(), status, text: quote(&text).trim().to_owned() }
    }
}

impl From<HttpError> for SourceError {
    fn from(error: HttpError) -> Self {
        Self::unavailable("ask the API", error)
    }
}

fn host<B>(request: &Request<B>) -> String {
    request.uri().host().unwrap_or("an address without host").to_owned()
}

fn unreachable(host: &str, source: Box<dyn StdError + Send + Sync>) -> HttpError {
    HttpError::Unreachable { host: host.to_owned(), source }
}

/// The TLS of a client of that identity.
///
/// # Errors
/// When certificates or keys are not what they should be.
pub(crate) fn tls(identity: &Identity<'_>) -> Result<ClientConfig, NotGiven> {
    let mut roots = RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
    if let Some((field, pem)) = identity.authorities {
        for certificate in certificates(field, pem)? {
            roots.add(certificate).map_err(|_| NotGiven { field, why: NOT_CERTIFICATES })?;
        }
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("ring has the ciphers of TLS 1.2 and 1.3")
        .with_root_certificates(roots);
    match identity.certificate {
        None => Ok(builder.with_no_client_auth()),
        Some(((shown, pem), (field, key))) => {
            let key = PrivateKeyDer::from_pem_slice(key.expose().as_bytes())
                .map_err(|_| NotGiven { field, why: "it is not a private key in PEM" })?;
            builder
                .with_client_auth_cert(certificates(shown, pem)?, key)
                .map_err(|_| NotGiven { field, why: "it is not the key of the certificate" })
        }
    }
}

const NOT_CERTIFICATES: &str = "it does not hold certificates in PEM";

fn certificates(field: &'static str, pem: &str) -> Result<Vec<CertificateDer<'static>>, NotGiven> {
    let read: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem.as_bytes()).collect();
    match read {
        Ok(certificates) if !certificates.is_empty() => Ok(certificates),
        _ => Err(NotGiven { field, why: NOT_CERTIFICATES }),
    }
}

#[cfg(test)]
mod tests;
