//! The way to a Redis server: who to be, whom to trust, how long to wait.

use std::time::Duration;

use ::redis::aio::MultiplexedConnection;
use ::redis::io::tcp::TcpSettings;
use ::redis::{
    AsyncConnectionConfig, Client, ClientTlsConfig, ConnectionAddr, ConnectionInfo,
    IntoConnectionInfo, RedisConnectionInfo, RedisError, TlsCertificates,
};
use rustls::crypto::{CryptoProvider, ring};

use super::address::Place;
use super::spec::{CA_CERT, CERT, KEY, PASSWORD, RedisStreamSource};
use super::trouble::trouble;
use crate::given::{Given, NotGiven};
use crate::http_client::{self, Identity};
use crate::secret::Secret;
use crate::source::SourceError;

/// How long a connection may take to be made, TLS and authentication included: longer than three lost packets take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// How long an answer may take that Redis gives at once, beside the time that it was asked to wait. With
/// `appendfsync always` it waits for a disk.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);

/// A server, and who to be there. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Peer {
    host: String,
    port: u16,
    settings: RedisConnectionInfo,
    tls: Option<Tls>,
}

#[derive(Clone)]
struct Tls {
    insecure: bool,
    certificates: TlsCertificates,
}

impl Peer {
    /// The server that a source names.
    ///
    /// # Errors
    /// When the address is none, or a Secret holds something else than it should.
    pub(crate) fn new(spec: &RedisStreamSource, given: &Given) -> Result<Self, SourceError> {
        let place = spec.address.place();
        let place = place.map_err(|rule| SourceError::Config(format!("address: {rule}")))?;
        let options = spec.options();
        let with_tls = place.tls || options.use_tls;
        let tls = with_tls.then(|| Tls::new(options.skip_verify, given)).transpose()?;
        let settings = settings(&place, value(given, PASSWORD)?);
        Ok(Self { host: place.host, port: place.port, settings, tls })
    }

    /// Connects. `patience` is how long Redis may be asked to wait before it answers.
    ///
    /// # Errors
    /// When there is no connection, or the server does not let us in.
    pub(crate) async fn connect(
        &self,
        patience: Duration,
    ) -> Result<MultiplexedConnection, SourceError> {
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(CONNECT_TIMEOUT))
            .set_response_timeout(Some(patience + ANSWER_TIMEOUT));
        let connected =
            async { self.client()?.get_multiplexed_async_connection_with_config(&config).await };
        connected.await.map_err(|error| trouble(format!("connect to {}", self.name()), &error))
    }

    /// The same on the server that `error` says has the stream, which servers of a cluster do.
    pub(crate) fn moved(&self, error: &RedisError) -> Option<Self> {
        let (node, _) = error.redirect_node()?;
        let (host, port) = node.rsplit_once(':')?;
        let host = host.trim_start_matches('[').trim_end_matches(']');
        // No host means the one that was asked.
        let host = if host.is_empty() { self.host.as_str() } else { host };
        Some(Self { host: host.to_owned(), port: port.parse().ok()?, ..self.clone() })
    }

    /// Host and port.
    pub(crate) fn name(&self) -> String {
        if self.host.contains(':') {
            format!("[{}]:{}", self.host, self.port)
        } else {
            format!("{}:{}", self.host, self.port)
        }
    }

    fn client(&self) -> Result<Client, RedisError> {
        let (host, port) = (self.host.clone(), self.port);
        let Some(tls) = &self.tls else {
            return Client::open(self.info(ConnectionAddr::Tcp(host, port))?);
        };
        let insecure = tls.insecure;
        let address = ConnectionAddr::TcpTls { host, port, insecure, tls_params: None };
        Client::build_with_tls(self.info(address)?, tls.certificates.clone())
    }

    fn info(&self, address: ConnectionAddr) -> Result<ConnectionInfo, RedisError> {
        let info = address.into_connection_info()?;
        Ok(info
            .set_redis_settings(self.settings.clone())
            // Acknowledgements are small, and the next ones must not wait for the server's.
            .set_tcp_settings(TcpSettings::default().set_nodelay(true)))
    }
}

impl std::fmt::Debug for Peer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Peer").field("name", &self.name()).finish_non_exhaustive()
    }
}

impl Tls {
    fn new(insecure: bool, given: &Given) -> Result<Self, SourceError> {
        let authorities = value(given, CA_CERT)?;
        let (certificate, key) = (value(given, CERT)?, value(given, KEY)?);
        // Read once for nothing: the library's complaints do not say which Secret is wrong.
        http_client::tls(&Identity {
            authorities: authorities.map(|pem| (CA_CERT, pem.expose())),
            certificate: certificate.zip(key).map(|(pem, key)| ((CERT, pem.expose()), (KEY, key))),
        })?;
        if CryptoProvider::get_default().is_none() {
            // The library takes the one of the process. If there is one by now, that is as good.
            drop(ring::default_provider().install_default());
        }
        let bytes = |value: &Secret| value.expose().as_bytes().to_vec();
        let client_tls = certificate.zip(key).map(|(certificate, key)| ClientTlsConfig {
            client_cert: bytes(certificate),
            client_key: bytes(key),
        });
        let certificates = TlsCertificates { client_tls, root_cert: authorities.map(bytes) };
        Ok(Self { insecure, certificates })
    }
}

/// Who to be, and in which database.
fn settings(place: &Place, password: Option<&Secret>) -> RedisConnectionInfo {
    // What operators see in `CLIENT LIST`.
    let mut settings = RedisConnectionInfo::default()
        .set_db(place.database)
        .set_lib_name("weft", env!("CARGO_PKG_VERSION"));
    if let Some(password) = password.or(place.password.as_ref()) {
        settings = settings.set_password(password.expose());
        if let Some(user) = &place.user {
            settings = settings.set_username(user);
        }
    }
    settings
}

/// What was given for a field. An empty text is none, and whoever wrote it meant something.
fn value<'a>(given: &'a Given, field: &'static str) -> Result<Option<&'a Secret>, NotGiven> {
    given.get(field).map(|_| given.require(field)).transpose()
}
