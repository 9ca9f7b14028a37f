//! What clients of Kafka have in common, whether they read or write.

use rdkafka::ClientConfig;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::KafkaError;

use crate::given::{Given, NotGiven};
use crate::quote::quote;
use crate::source::About;

/// Where a Secret holds the name that a client logs in with, and the password.
pub(crate) struct Login {
    pub(crate) user: &'static str,
    pub(crate) password: &'static str,
}

/// Where a Secret holds the certificate that a client shows, and its key.
pub(crate) struct Identity {
    pub(crate) certificate: &'static str,
    pub(crate) key: &'static str,
}

/// Why there is no client.
pub(crate) enum Unmade {
    /// What is configured is wrong.
    Config(String),
    /// Something else, which may pass.
    Unavailable(String),
}

/// Options that all clients share. The servers are asked in no order; one tells of all others.
pub(crate) fn options<'a>(servers: impl Iterator<Item = &'a str>, about: &About) -> ClientConfig {
    let mut options = ClientConfig::new();
    options.set("bootstrap.servers", servers.collect::<Vec<_>>().join(","));
    options.set("client.id", format!("weft-{}-{}", about.namespace, about.name));
    for (option, value) in [
        // A server that is back is noticed before users do.
        ("reconnect.backoff.max.ms", "2000"),
        ("socket.connection.setup.timeout.ms", "10000"),
        ("socket.keepalive.enable", "true"),
        ("allow.auto.create.topics", "false"),
        ("log.connection.close", "false"),
        ("enable.metrics.push", "false"),
    ] {
        options.set(option, value);
    }
    // What the client would tell beyond that is of use to its developers.
    options.set_log_level(RDKafkaLogLevel::Warning);
    options
}

/// Why a mechanism cannot be used.
pub(crate) const NO_MECHANISM: &str = "it is none of PLAIN, SCRAM-SHA-256 and SCRAM-SHA-512";

/// The mechanism of that name, if clients can log in with it.
pub(crate) fn mechanism(name: &str) -> Option<&'static str> {
    ["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"].into_iter().find(|known| *known == name)
}

/// Logs in.
///
/// # Errors
/// When the name or the password is not given.
pub(crate) fn log_in(
    options: &mut ClientConfig,
    mechanism: &str,
    login: &Login,
    given: &Given,
) -> Result<(), NotGiven> {
    options.set("sasl.mechanism", mechanism);
    options.set("sasl.username", given.c_text(login.user)?);
    options.set("sasl.password", given.c_text(login.password)?);
    Ok(())
}

/// Trusts the authorities under a field, or those of the system.
///
/// # Errors
/// When what is given is no text.
pub(crate) fn trust(
    options: &mut ClientConfig,
    authorities: Option<&'static str>,
    given: &Given,
) -> Result<(), NotGiven> {
    match authorities {
        Some(field) => options.set("ssl.ca.pem", given.c_text(field)?),
        // The library brings its own OpenSSL, which does not know where this system keeps its certificates.
        None => options.set("ssl.ca.location", "probe"),
    };
    Ok(())
}

/// Shows a certificate, if one is given or its key is.
///
/// # Errors
/// When one of the two is missing.
pub(crate) fn show(
    options: &mut ClientConfig,
    identity: &Identity,
    given: &Given,
) -> Result<(), NotGiven> {
    if given.get(identity.certificate).is_some() || given.get(identity.key).is_some() {
        options.set("ssl.certificate.pem", given.c_text(identity.certificate)?);
        options.set("ssl.key.pem", given.c_text(identity.key)?);
    }
    Ok(())
}

/// Why no client can be made of the options; `field` holds the certificates. The library's own words quote the options, and
/// they hold secrets; only the name of the option passes.
pub(crate) fn unmade(error: KafkaError, field: &str) -> Unmade {
    match error {
        KafkaError::ClientConfig(_, _, option, _) => {
            Unmade::Config(format!("Kafka's client refuses the option {option}"))
        }
        // What is wrong with certificates and keys, in OpenSSL's words.
        KafkaError::ClientCreation(why) if why.contains("ssl.") => {
            Unmade::Config(format!("{field}: {}", quote(&why)))
        }
        other => Unmade::Unavailable(quote(&other.to_string())),
    }
}

/// Passes on what a client says.
pub(crate) fn log(level: RDKafkaLogLevel, facility: &str, line: &str) {
    let line = quote(line);
    match level {
        RDKafkaLogLevel::Emerg
        | RDKafkaLogLevel::Alert
        | RDKafkaLogLevel::Critical
        | RDKafkaLogLevel::Error => tracing::warn!(facility, "Kafka's client: {line}"),
        _ => tracing::debug!(facility, "Kafka's client: {line}"),
    }
}
