//! HTTP clients, one for each set of trusted certificate authorities.

use std::collections::{HashMap, HashSet};
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::rt::Executor;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioTimer;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};
use tokio_util::task::TaskTracker;

use crate::target::TargetError;

/// The client all targets of one trust share, with its pool of connections.
pub type HttpClient = Client<HttpsConnector<HttpConnector>, Full<Bytes>>;

/// How long a TCP connection may take to come about. A packet lost twice costs three seconds; a host that
/// does not answer at all should not use up the five minutes an attempt has.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// How long an unused connection is kept. Just under the shortest default among common servers (Node.js closes after
/// five seconds), so that a request rarely meets a connection that is being closed.
const IDLE_TIMEOUT: Duration = Duration::from_secs(4);

/// Unused connections kept a host: a burst at twice the default parallelism finds them all open.
const MAX_IDLE_PER_HOST: usize = 128;

/// Longest response head that is read. Answers carry a reply's attributes as headers; a dead letter's worth of them fits.
const MAX_HEAD: usize = 64 << 10;

/// Makes and shares clients.
#[derive(Debug)]
pub struct Clients {
    public: HttpClient,
    by_ca: HashMap<String, HttpClient>,
    tasks: TaskTracker,
}

impl Clients {
    /// No client but the one that trusts the public authorities. Connections run as `tasks`.
    #[must_use]
    pub fn new(tasks: TaskTracker) -> Self {
        let public = client(public_roots(), &tasks);
        Self { public, by_ca: HashMap::new(), tasks }
    }

    /// The client that trusts the public authorities and those of `ca_certs`.
    ///
    /// # Errors
    /// When `ca_certs` holds no certificate, or one that cannot be used.
    pub fn trusting(&mut self, ca_certs: Option<&str>) -> Result<HttpClient, TargetError> {
        let Some(pem) = ca_certs.filter(|pem| !pem.trim().is_empty()) else {
            return Ok(self.public.clone());
        };
        if let Some(known) = self.by_ca.get(pem) {
            return Ok(known.clone());
        }
        let mut roots = public_roots();
        let before = roots.len();
        for certificate in CertificateDer::pem_slice_iter(pem.as_bytes()) {
            let certificate =
                certificate.map_err(|error| TargetError::Certificates(error.to_string()))?;
            roots.add(certificate).map_err(|error| TargetError::Certificates(error.to_string()))?;
        }
        if roots.len() == before {
            return Err(TargetError::Certificates("no certificate found".to_owned()));
        }
        let made = client(roots, &self.tasks);
        self.by_ca.insert(pem.to_owned(), made.clone());
        Ok(made)
    }

    /// How many clients there are for authorities that somebody named.
    #[must_use]
    pub fn named(&self) -> usize {
        self.by_ca.len()
    }

    /// Forgets the clients of authorities that nobody names any more.
    pub fn keep(&mut self, named: &HashSet<&str>) {
        self.by_ca.retain(|pem, _| named.contains(pem.as_str()));
    }
}

fn public_roots() -> RootCertStore {
    RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() }
}

fn client(roots: RootCertStore, tasks: &TaskTracker) -> HttpClient {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let tls = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("ring offers the cipher suites of TLS 1.2 and 1.3")
        .with_root_certificates(roots)
        .with_no_client_auth();
    let mut tcp = HttpConnector::new();
    tcp.set_nodelay(true);
    tcp.enforce_http(false);
    tcp.set_connect_timeout(Some(CONNECT_TIMEOUT));
    let connector = HttpsConnectorBuilder::new()
        .with_tls_config(tls)
        .https_or_http()
        .enable_http1()
        .wrap_connector(tcp);
    Client::builder(Tracked(tasks.clone()))
        .pool_timer(TokioTimer::new())
        .timer(TokioTimer::new())
        .pool_idle_timeout(IDLE_TIMEOUT)
        .pool_max_idle_per_host(MAX_IDLE_PER_HOST)
        .http1_max_buf_size(MAX_HEAD)
        .build(connector)
}

/// Runs the client's background work where shutdown can wait for it.
#[derive(Clone, Debug)]
struct Tracked(TaskTracker);

impl<F> Executor<F> for Tracked
where
    F: Future<Output = ()> + Send + 'static,
{
    fn execute(&self, future: F) {
        self.0.spawn(future);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn certificates_that_do_not_parse_are_refused_with_a_sentence() {
        let mut clients = Clients::new(TaskTracker::new());
        for pem in ["nonsense", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"] {
            let error = clients.trusting(Some(pem)).unwrap_err();
            assert!(error.to_string().starts_with("the certificates in CACerts"), "{error}");
        }
    }

    #[test]
    fn clients_nobody_names_are_forgotten() {
        let mut clients = Clients::new(TaskTracker::new());
        clients.by_ca.insert("old".to_owned(), clients.public.clone());
        clients.keep(&HashSet::from(["new"]));
        assert!(clients.by_ca.is_empty());
    }
}
