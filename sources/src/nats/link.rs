//! The connection to NATS: made as the spec says, and watched.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_nats::connection::State;
use async_nats::{
    Client, ConnectError, ConnectErrorKind, ConnectOptions, Event as Happening, ServerAddr,
    ServerError,
};
use crds::secret_ref::SecretValueFromSource;
use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};
use tokio_util::sync::CancellationToken;

use super::address::Address;
use super::spec::{NatsAuth, NatsSource, NatsTls};
use crate::given::{Given, Need, NotGiven};
use crate::http_client::{self, Identity};
use crate::quote::quote;
use crate::source::{Context, SourceError};

/// How long one server may take to answer: longer than three lost packets take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// How long connecting may take, however many servers and addresses there are to try.
const CONNECT_DEADLINE: Duration = Duration::from_secs(30);

/// How long a question to JetStream may take to be answered.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(5);

/// How long a connection may be away before that is said: a server that restarts, or another of the cluster that takes over,
/// is back earlier.
const PATIENCE: Duration = Duration::from_secs(5);

/// How often it is looked whether the connection is there.
const LOOK: Duration = Duration::from_millis(500);

/// Attempts to connect again, beside one for each server. They take longer than [`PATIENCE`]; past that the supervisor starts
/// the source anew, and whatever still tried here must end.
const RECONNECTS: usize = 16;

/// An idle connection is asked for a sign of life so often; after two without an answer it counts as lost. Balancers and
/// firewalls forget connections that are idle for some minutes.
const PING_INTERVAL: Duration = Duration::from_secs(20);

/// Messages that wait between the connection and this source, for each subscription: the client's own default. They do so
/// only while the source is not scheduled, for it takes them at once and bounds what waits by bytes.
const CAPACITY: usize = 65_536;

/// The fields that name secrets.
const CREDENTIALS: &str = "auth.credentials";
const NKEY: &str = "auth.nkey";
const TOKEN: &str = "auth.token";
const USER: &str = "auth.user";
const PASSWORD: &str = "auth.password";
const CA_CERT: &str = "tls.caCert";
const CERT: &str = "tls.cert";
const KEY: &str = "tls.key";

/// A connection.
#[derive(Debug)]
pub(crate) struct Link {
    pub(crate) client: Client,
    /// What the server refused, once it refused something.
    refused: watch::Receiver<Option<String>>,
    overflows: Arc<AtomicU64>,
}

/// What the client is told of the connection, by its own task.
#[derive(Debug)]
struct Ear {
    /// Whether it is only listened to subjects.
    listens: bool,
    refused: watch::Sender<Option<String>>,
    overflows: Arc<AtomicU64>,
}

/// What is needed of Secrets.
pub(crate) fn needs(spec: &NatsSource) -> Vec<Need> {
    let nothing = (NatsAuth::default(), NatsTls::default());
    let NatsAuth { credentials, nkey, token, user, password } =
        spec.auth.as_ref().unwrap_or(&nothing.0);
    let NatsTls { enable: _, ca_cert, cert, key } = spec.tls.as_ref().unwrap_or(&nothing.1);
    let fields: [(&'static str, &Option<SecretValueFromSource>); 8] = [
        (CREDENTIALS, credentials),
        (NKEY, nkey),
        (TOKEN, token),
        (USER, user),
        (PASSWORD, password),
        (CA_CERT, ca_cert),
        (CERT, cert),
        (KEY, key),
    ];
    fields.into_iter().filter_map(|(field, value)| Need::selected(field, value.as_ref())).collect()
}

/// Connects.
///
/// # Errors
/// [`SourceError::Credentials`] when NATS refuses them, [`SourceError::Given`] when they are none,
/// [`SourceError::Unavailable`] when no server answers, [`SourceError::Stopped`] when the source is asked to stop meanwhile.
pub(super) async fn connect(spec: &NatsSource, ctx: &Context) -> Result<Link, SourceError> {
    let name = format!("weft NatsSource {}/{}", ctx.about.namespace, ctx.about.name);
    open(spec, name, &ctx.given, &ctx.stop).await
}

/// The same, under a name that operators see.
pub(crate) async fn open(
    spec: &NatsSource,
    name: String,
    given: &Given,
    stop: &CancellationToken,
) -> Result<Link, SourceError> {
    let (servers, addresses) = servers(spec)?;
    let (refused, hears) = watch::channel(None);
    let overflows = Arc::<AtomicU64>::default();
    let ear = Ear { listens: spec.stream.is_empty(), refused, overflows: Arc::clone(&overflows) };
    let options = options(spec, given)?
        .name(name)
        .max_reconnects(RECONNECTS + addresses.len())
        .event_callback(move |happening| {
            ear.hear(&happening);
            std::future::ready(())
        });
    let what = format!("connect to NATS at {servers}");
    let connected = tokio::select! {
        biased;
        () = stop.cancelled() => return Err(SourceError::Stopped),
        connected = timeout(CONNECT_DEADLINE, options.connect(addresses)) => connected,
    };
    match connected {
        Ok(Ok(client)) => Ok(Link { client, refused: hears, overflows }),
        Ok(Err(error)) => Err(failure(what, &error, spec)),
        Err(_) => {
            Err(SourceError::unavailable(what, format!("no answer within {CONNECT_DEADLINE:?}")))
        }
    }
}

/// The servers for people, and for the client.
fn servers(spec: &NatsSource) -> Result<(String, Vec<ServerAddr>), SourceError> {
    let mut names = Vec::new();
    let mut addresses = Vec::new();
    for server in &spec.servers {
        let invalid = |rule: &str| SourceError::Config(format!("servers: {rule}"));
        let address = Address::parse(server).map_err(invalid)?;
        addresses.push(address.url().parse().map_err(|_| invalid("not an address"))?);
        names.push(address.to_string());
    }
    Ok((names.join(", "), addresses))
}

/// What does not depend on where and when.
fn options(spec: &NatsSource, given: &Given) -> Result<ConnectOptions, NotGiven> {
    let text = |field| given.get(field).map(|value| value.expose());
    let certificate = match (text(CERT), given.get(KEY)) {
        (Some(cert), Some(key)) => Some(((CERT, cert), (KEY, key))),
        _ => None,
    };
    let identity = Identity { authorities: text(CA_CERT).map(|pem| (CA_CERT, pem)), certificate };
    let mut options = ConnectOptions::new()
        .connection_timeout(CONNECT_TIMEOUT)
        .request_timeout(Some(REQUEST_TIMEOUT))
        .ping_interval(PING_INTERVAL)
        .subscription_capacity(CAPACITY)
        .retain_servers_order()
        // A server tells of others, but credentials go only where the spec says.
        .ignore_discovered_servers()
        .reconnect_delay_callback(delay)
        .require_tls(spec.requires_tls())
        .tls_client_config(http_client::tls(&identity)?);
    let Some(auth) = &spec.auth else { return Ok(options) };
    if auth.credentials.is_some() {
        // What the parser says of a file may quote it.
        options = options.credentials(given.require(CREDENTIALS)?.expose()).map_err(|_| {
            NotGiven { field: CREDENTIALS, why: "it is not a NATS credentials file" }
        })?;
    }
    if auth.nkey.is_some() {
        options = options.nkey(given.require(NKEY)?.expose().trim().to_owned());
    }
    if auth.token.is_some() {
        options = options.token(given.require(TOKEN)?.expose().to_owned());
    }
    if auth.user.is_some() {
        let (user, password) = (given.require(USER)?, given.require(PASSWORD)?);
        options = options.user_and_password(user.expose().to_owned(), password.expose().to_owned());
    }
    Ok(options)
}

/// The wait before an attempt to connect, of which the first is number 1.
fn delay(attempt: usize) -> Duration {
    // Past the fifth they are half a second apart: a restarted server is not kept waiting, nor one in trouble flooded.
    let steps = u32::try_from(attempt.saturating_sub(1)).unwrap_or(u32::MAX);
    Duration::from_millis(100).saturating_mul(steps).min(Duration::from_millis(500))
}

fn failure(what: String, error: &ConnectError, spec: &NatsSource) -> SourceError {
    // The client's errors print their causes and have them as causes as well.
    let text = error.to_string();
    match error.kind() {
        ConnectErrorKind::AuthorizationViolation if spec.auth.is_none() => {
            SourceError::Credentials {
                what: format!("{what}: it asks for credentials, and auth names none"),
            }
        }
        ConnectErrorKind::AuthorizationViolation => {
            SourceError::Credentials { what: format!("{what}: it refused the credentials") }
        }
        // Nothing but a seed that is none keeps a nonce from being signed.
        ConnectErrorKind::Authentication => {
            NotGiven { field: NKEY, why: "it is not the seed of an NKey" }.into()
        }
        _ if is_refusal(&text) => {
            SourceError::Credentials { what: format!("{what}: {}", quote(&text)) }
        }
        _ => SourceError::unavailable(what, quote(&text)),
    }
}

/// Whether a server's sentence is about who one is or what one may.
fn is_refusal(text: &str) -> bool {
    let text = text.to_ascii_lowercase();
    [
        "authorization violation",
        "authentication expired",
        "authentication revoked",
        "permissions violation",
    ]
    .iter()
    .any(|words| text.contains(words))
}

/// Whether a refusal is of what the source can do without: to look at single messages; for who only listens, also to publish
/// and to be answered.
fn is_harmless(text: &str, listens: bool) -> bool {
    let text = text.to_ascii_lowercase();
    let to_listeners = text.contains("for publish") || text.contains("\"_inbox.");
    text.contains("$js.api.stream.msg.get.") || (listens && to_listeners)
}

impl Ear {
    fn hear(&self, happening: &Happening) {
        match happening {
            Happening::SlowConsumer(_) => {
                self.overflows.fetch_add(1, Ordering::Relaxed);
            }
            Happening::ServerError(error) => {
                let text = match error {
                    ServerError::Other(text) => text.clone(),
                    known => known.to_string(),
                };
                let is_harmless = is_harmless(&text, self.listens);
                if is_refusal(&text) && !is_harmless {
                    self.refused.send_replace(Some(quote(&text)));
                }
            }
            _ => {}
        }
    }
}

impl Link {
    /// Does something that needs the connection.
    ///
    /// # Errors
    /// What it says itself; [`SourceError::Stopped`] when the source is asked to stop meanwhile, or how the connection was
    /// lost.
    pub(super) async fn hold<T>(
        &self,
        ctx: &Context,
        work: impl Future<Output = Result<T, SourceError>>,
    ) -> Result<T, SourceError> {
        tokio::select! {
            biased;
            () = ctx.stop.cancelled() => Err(SourceError::Stopped),
            error = self.lost() => Err(error),
            done = work => done,
        }
    }

    /// Messages that were thrown away between the connection and the source.
    pub(super) fn overflows(&self) -> u64 {
        self.overflows.load(Ordering::Relaxed)
    }

    /// Waits until the server refused something, or was away for too long.
    pub(crate) async fn lost(&self) -> SourceError {
        let mut refused = self.refused.clone();
        let mut look = interval(LOOK);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut since = None;
        loop {
            tokio::select! {
                biased;
                said = refused.wait_for(Option::is_some) => return match said.as_deref() {
                    Ok(Some(text)) => SourceError::Credentials { what: format!("NATS refused: {text}") },
                    // Whoever would say so is gone, and with it the connection.
                    _ => gone(),
                },
                _ = look.tick() => {
                    if self.client.connection_state() == State::Connected {
                        since = None;
                    } else if since.get_or_insert_with(Instant::now).elapsed() >= PATIENCE {
                        return gone();
                    }
                }
            }
        }
    }
}

/// The connection is lost.
pub(super) fn gone() -> SourceError {
    SourceError::Unavailable { what: "the connection to NATS is lost".to_owned(), source: None }
}

#[cfg(test)]
mod tests;
