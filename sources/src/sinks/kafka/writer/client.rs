//! The client of a producer: its options, what it tells, and what its errors mean.

use std::sync::Arc;
use std::sync::{Mutex, MutexGuard, PoisonError};

use rdkafka::ClientConfig;
use rdkafka::client::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};
use tokio::sync::Notify;

use crate::given::{Given, NotGiven};
use crate::kafka::client::{self, Identity, Login, Unmade};
use crate::quote::quote;
use crate::sinks::kafka::{
    CA_CERT, KafkaSink, MECHANISM, PASSWORD, PROTOCOL, USER, USER_CERT, USER_KEY, USER_SKIP,
};
use crate::source::{About, SourceError};

/// Most bytes of records that go to a partition together. A topic that takes less than this for one record would refuse small
/// ones with large ones; and it is enough for a hundred thousand small ones a second.
pub(super) const BATCH: usize = 64 << 10;

/// Why a producer cannot go on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Trouble {
    /// Kafka refuses the credentials, or what they allow.
    Refused(String),
    /// The topic does not exist.
    Absent(String),
    /// The producer is of no use any more.
    Broken(String),
    /// No server answers, it is said.
    Down,
}

/// What the client tells, on threads of its own.
#[derive(Debug, Default)]
pub(super) struct Told {
    state: Mutex<State>,
    news: Notify,
}

#[derive(Debug, Default)]
struct State {
    trouble: Option<Trouble>,
    /// What was said last about a server.
    reason: String,
}

/// What the client calls.
#[derive(Clone, Debug)]
pub(super) struct Callbacks(pub(super) Arc<Told>);

impl Told {
    /// Notes what the client says.
    fn note(&self, code: Code, reason: &str) {
        if !self.meet(code, reason) {
            self.state().reason = quote(reason);
        }
    }

    /// Notes trouble; answers whether it is any.
    pub(super) fn meet(&self, code: Code, reason: &str) -> bool {
        let Some(trouble) = meaning(code, reason) else { return false };
        {
            let mut state = self.state();
            // That none answers says less than what was said of any of them.
            if trouble != Trouble::Down || state.trouble.is_none() {
                state.trouble = Some(trouble);
            }
        }
        self.news.notify_one();
        true
    }

    /// Waits for trouble.
    pub(super) async fn trouble(&self) -> Trouble {
        loop {
            let news = self.news.notified();
            if let Some(trouble) = self.state().trouble.take() {
                return trouble;
            }
            news.await;
        }
    }

    /// Whether the credentials were refused, and with which words.
    pub(super) fn refusal(&self) -> Option<String> {
        match &self.state().trouble {
            Some(Trouble::Refused(why)) => Some(why.clone()),
            _ => None,
        }
    }

    /// What was said last about a server.
    pub(super) fn reason(&self) -> String {
        let reason = self.state().reason.clone();
        if reason.is_empty() { "no server answers".to_owned() } else { reason }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Nothing panics while it is held.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ClientContext for Callbacks {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, line: &str) {
        client::log(level, facility, line);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        if let Some(code) = error.rdkafka_error_code() {
            self.0.note(code, reason);
        }
    }
}

/// What an error means for the producer; nothing if it goes on by itself.
fn meaning(code: Code, reason: &str) -> Option<Trouble> {
    let reason = || quote(reason);
    match code {
        Code::Authentication
        | Code::SaslAuthenticationFailed
        | Code::UnsupportedSASLMechanism
        | Code::TopicAuthorizationFailed
        | Code::ClusterAuthorizationFailed => Some(Trouble::Refused(reason())),
        Code::UnknownTopicOrPartition | Code::UnknownTopic => Some(Trouble::Absent(reason())),
        Code::Fatal => Some(Trouble::Broken(reason())),
        Code::AllBrokersDown => Some(Trouble::Down),
        _ => None,
    }
}

/// The options of a producer of the sink.
pub(super) fn options(
    spec: &KafkaSink,
    about: &About,
    given: &Given,
) -> Result<ClientConfig, SourceError> {
    let mut options = client::options(spec.servers(), about);
    options.set("batch.size", BATCH.to_string());
    for (option, value) in [
        ("acks", "all"),
        ("enable.idempotence", "true"),
        // Within what a request waits for its answer: what is not written by then is not written later either.
        ("message.timeout.ms", "8000"),
        ("request.timeout.ms", "5000"),
        // Requests wait for their records, so records do not wait for more of them.
        ("linger.ms", "1"),
        // As clients in Java choose the partition of a key, so that a key has one partition whoever writes.
        ("partitioner", "murmur2_random"),
        // How large a record may be the topic decides, and what is queued is bounded by the requests under way.
        ("message.max.bytes", "1000000000"),
        ("queue.buffering.max.kbytes", "2097151"),
        ("queue.buffering.max.messages", "1000000"),
    ] {
        options.set(option, value);
    }
    protect(&mut options, given)?;
    Ok(options)
}

/// Encryption and credentials, as the Secret says.
fn protect(options: &mut ClientConfig, given: &Given) -> Result<(), SourceError> {
    let Some(protocol) = given.get(PROTOCOL) else { return Ok(()) };
    let (protocol, logs_in, encrypts) = match protocol.expose().trim() {
        "PLAINTEXT" => ("plaintext", false, false),
        "SSL" => ("ssl", false, true),
        "SASL_PLAINTEXT" => ("sasl_plaintext", true, false),
        "SASL_SSL" => ("sasl_ssl", true, true),
        _ => {
            let why = "it is none of PLAINTEXT, SSL, SASL_PLAINTEXT and SASL_SSL";
            return Err(NotGiven { field: PROTOCOL, why }.into());
        }
    };
    options.set("security.protocol", protocol);
    if logs_in {
        let login = Login { user: USER, password: PASSWORD };
        client::log_in(options, mechanism(given)?, &login, given)?;
    }
    if encrypts {
        client::trust(options, given.get(CA_CERT).is_some().then_some(CA_CERT), given)?;
        if given.get(USER_SKIP).is_none_or(|text| text.expose().trim() != "true") {
            client::show(options, &Identity { certificate: USER_CERT, key: USER_KEY }, given)?;
        }
    }
    Ok(())
}

fn mechanism(given: &Given) -> Result<&'static str, SourceError> {
    let name = given.require(MECHANISM)?.expose().trim();
    client::mechanism(name).ok_or_else(|| {
        let why = if name == "OAUTHBEARER" {
            "OAUTHBEARER is not supported; log in with SCRAM or PLAIN, or show a certificate"
        } else {
            client::NO_MECHANISM
        };
        NotGiven { field: MECHANISM, why }.into()
    })
}

/// Why there is no producer.
pub(super) fn unmade(error: KafkaError) -> SourceError {
    match client::unmade(error, "auth.secret.ref") {
        Unmade::Config(what) => SourceError::Config(what),
        Unmade::Unavailable(what) => SourceError::unavailable("make a client for Kafka", what),
    }
}

#[cfg(test)]
mod tests;
