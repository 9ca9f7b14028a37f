//! Which server, and who we are there: what the Secret says.

use std::sync::Arc;
use std::time::Duration;

use rustls::ClientConfig;
use rustls_pki_types::ServerName;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use super::amqp::{self, AmqpError, Connection, Login, Stream};
use crate::given::{Given, Need, NotGiven};
use crate::http_client::{self, Identity};
use crate::secret::Secret;
use crate::source::SourceError;

/// The port for AMQP, and for AMQP over TLS.
const PORT: u16 = 5672;
const TLS_PORT: u16 = 5671;

/// How long a connection may take to be made, with TLS: longer than three lost packets take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// The condition that says whether the Secret is there, and why not: Knative's words.
const SECRET_READY: (&str, &str) = ("SecretReady", "SecretFailure");

/// The fields under which the parts of the Secret are given.
mod field {
    pub(super) const URI: &str = "rabbitmqClusterReference.connectionSecret.uri";
    pub(super) const HOST: &str = "rabbitmqClusterReference.name.host";
    pub(super) const USER: &str = "rabbitmqClusterReference.username";
    pub(super) const PASSWORD: &str = "rabbitmqClusterReference.password";
    pub(super) const PORT: &str = "rabbitmqClusterReference.port";
    pub(super) const AUTHORITIES: &str = "rabbitmqClusterReference.ca.crt";
}

/// Where the server is said to be.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Place<'a> {
    /// In this Secret, which a user made.
    Secret(&'a str),
    /// In the Secret that the cluster operator makes for the default user of this cluster.
    Cluster(&'a str),
}

/// A server, and how to log in.
#[derive(Clone, Debug)]
pub(crate) struct Server {
    host: String,
    port: u16,
    tls: Option<Arc<ClientConfig>>,
    user: Secret,
    password: Secret,
}

/// What a URI says.
#[derive(Debug, PartialEq, Eq)]
struct Address<'a> {
    host: &'a str,
    /// The port, if it is that of AMQP rather than of the management API.
    port: Option<u16>,
    tls: bool,
}

/// The parts of the Secret.
pub(crate) fn needs(place: Place<'_>) -> Vec<Need> {
    let (secret, address, key) = match place {
        Place::Secret(name) => (name.to_owned(), field::URI, "uri"),
        Place::Cluster(name) => (format!("{name}-default-user"), field::HOST, "host"),
    };
    let need = |field, key: &str| Need::secret(field, secret.as_str(), key);
    let missing = |need: Need| need.or(SECRET_READY.0, SECRET_READY.1);
    vec![
        missing(need(address, key)),
        missing(need(field::USER, "username")),
        missing(need(field::PASSWORD, "password")),
        missing(need(field::PORT, "port").optional()),
        missing(need(field::AUTHORITIES, "ca.crt").optional()),
    ]
}

impl Server {
    /// The server that the Secret names.
    ///
    /// # Errors
    /// Names the key that is not what it should be.
    pub(crate) fn new(given: &Given) -> Result<Self, NotGiven> {
        let chosen = given.get(field::PORT).map(port).transpose()?;
        let (host, port, tls) = if given.get(field::URI).is_some() {
            let uri = given.require(field::URI)?.expose().trim();
            let why = "it is not a URL such as http://rabbitmq.example.com";
            let address = address(uri).ok_or(NotGiven { field: field::URI, why })?;
            // As in Knative: without a port it is that of AMQP, with TLS too, for the URI is that of the management API.
            (address.host, chosen.or(address.port).unwrap_or(PORT), address.tls)
        } else {
            let port = chosen.unwrap_or(PORT);
            (given.require(field::HOST)?.expose().trim(), port, port == TLS_PORT)
        };
        let authorities = given.get(field::AUTHORITIES).map(Secret::expose);
        let identity = Identity {
            authorities: authorities.map(|pem| (field::AUTHORITIES, pem)),
            certificate: None,
        };
        Ok(Self {
            host: host.to_owned(),
            port,
            tls: if tls { Some(Arc::new(http_client::tls(&identity)?)) } else { None },
            user: given.require(field::USER)?.clone(),
            password: given.require(field::PASSWORD)?.clone(),
        })
    }

    /// Connects and logs in.
    ///
    /// # Errors
    /// When the server is not there, or wants neither this user nor this virtual host.
    pub(crate) async fn connect(
        &self,
        virtual_host: &str,
        name: &str,
    ) -> Result<Connection, SourceError> {
        let what = || format!("connect to {}:{}", self.host, self.port);
        let io = match timeout(CONNECT_TIMEOUT, self.dial()).await {
            Ok(Ok(io)) => io,
            Ok(Err(error)) => return Err(SourceError::unavailable(what(), error)),
            Err(error) => return Err(SourceError::unavailable(what(), error)),
        };
        let login = Login {
            user: self.user.expose(),
            password: self.password.expose(),
            virtual_host,
            name,
        };
        let opened = Connection::open(io, login).await;
        opened
            .map_err(|error| self.failed(&format!("log in at {}:{}", self.host, self.port), error))
    }

    /// What a failure means to a source. `what` was being done.
    pub(crate) fn failed(&self, what: &str, error: AmqpError) -> SourceError {
        let AmqpError::Refused { code, text } = &error else {
            return SourceError::unavailable(what, error);
        };
        // The name of the user is in the Secret, so it is not for everybody to see.
        let text = match self.user.expose() {
            "" => text.clone(),
            user => text.replace(user, "…"),
        };
        let said = format!("{what}: the server answered {code}: {text}");
        match *code {
            amqp::NOT_FOUND => SourceError::Absent { what: said },
            // One code for both: "vhost x not found", and "access to vhost x refused for user y".
            amqp::NOT_ALLOWED if text.contains("not found") => SourceError::Absent { what: said },
            // Somebody else may consume alone; nothing is wrong with who we are.
            amqp::ACCESS_REFUSED if text.contains("exclusive use") => unavailable(said),
            amqp::ACCESS_REFUSED | amqp::NOT_ALLOWED => SourceError::Credentials { what: said },
            _ => unavailable(said),
        }
    }

    async fn dial(&self) -> std::io::Result<Box<dyn Stream>> {
        let stream = TcpStream::connect((self.host.as_str(), self.port)).await?;
        // Acknowledgements are small and should not wait for more.
        stream.set_nodelay(true)?;
        let Some(tls) = &self.tls else { return Ok(Box::new(stream)) };
        let name = ServerName::try_from(self.host.clone()).map_err(std::io::Error::other)?;
        Ok(Box::new(TlsConnector::from(Arc::clone(tls)).connect(name, stream).await?))
    }
}

fn unavailable(what: String) -> SourceError {
    SourceError::Unavailable { what, source: None }
}

fn port(text: &Secret) -> Result<u16, NotGiven> {
    let port = text.expose().trim().parse().ok().filter(|port| *port != 0);
    port.ok_or(NotGiven { field: field::PORT, why: "it is not a port" })
}

/// Reads what Knative takes, the URL of the management API, of which only scheme and host count; and besides `amqp` and
/// `amqps` URLs, whose port counts. What else is in it does not: user and virtual host stand elsewhere.
fn address(uri: &str) -> Option<Address<'_>> {
    let (scheme, rest) = match uri.split_once("://") {
        Some((scheme, rest)) => (scheme.to_ascii_lowercase(), rest),
        None => ("http".to_owned(), uri),
    };
    let (tls, own) = match scheme.as_str() {
        "http" => (false, None),
        "https" => (true, None),
        "amqp" => (false, Some(PORT)),
        "amqps" => (true, Some(TLS_PORT)),
        _ => return None,
    };
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let authority = authority.rsplit_once('@').map_or(authority, |(_, rest)| rest);
    let (host, port) = match authority.strip_prefix('[') {
        Some(literal) => {
            let (host, rest) = literal.split_once(']')?;
            (host, rest.strip_prefix(':'))
        }
        None => match authority.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (authority, None),
        },
    };
    let is_plain = |char: char| !char.is_whitespace() && !char.is_control();
    if host.is_empty() || !host.chars().all(is_plain) {
        return None;
    }
    let port = match (own, port) {
        (Some(_), Some(port)) => Some(port.parse().ok().filter(|port| *port != 0)?),
        (own, _) => own,
    };
    Some(Address { host, port, tls })
}

#[cfg(test)]
mod tests;
