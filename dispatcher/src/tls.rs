//! HTTP clients, one for each set of trusted certificate authorities.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use hyper_rustls::HttpsConnectorBuilder;
use hyper_util::client::legacy::connect::HttpConnector;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};

use crate::client::HttpClient;
use crate::target::TargetError;

/// How long a TCP connection may take to come about. A packet lost twice costs three seconds; a host that
/// does not answer at all should not use up the five minutes an attempt has.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// Makes and shares clients.
#[derive(Debug)]
pub struct Clients {
    public: HttpClient,
    by_ca: HashMap<String, HttpClient>,
}

impl Default for Clients {
    fn default() -> Self {
        Self::new()
    }
}

impl Clients {
    /// No client but the one that trusts the public authorities.
    #[must_use]
    pub fn new() -> Self {
        Self { public: client(public_roots()), by_ca: HashMap::new() }
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
        let made = client(roots);
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

fn client(roots: RootCertStore) -> HttpClient {
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
    HttpClient::new(connector)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn certificates_that_do_not_parse_are_refused_with_a_sentence() {
        let mut clients = Clients::new();
        for pem in ["nonsense", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"] {
            let error = clients.trusting(Some(pem)).unwrap_err();
            assert!(error.to_string().starts_with("the certificates in CACerts"), "{error}");
        }
    }

    #[test]
    fn clients_nobody_names_are_forgotten() {
        let mut clients = Clients::new();
        clients.by_ca.insert("old".to_owned(), clients.public.clone());
        clients.keep(&HashSet::from(["new"]));
        assert!(clients.by_ca.is_empty());
    }
}
