//! The client of a consumer: its options, what it says, and what its errors mean.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use rdkafka::config::{ClientConfig, RDKafkaLogLevel};
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer, ConsumerContext, Rebalance};
use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use rdkafka::{ClientContext, Statistics};
use serde::Deserialize;

use super::ledger::Ledger;
use super::progress::Position;
use crate::given::{Given, NotGiven};
use crate::kafka::client::{self, Identity, Login, Unmade};
use crate::kafka::{
    KafkaSource, SASL_PASSWORD, SASL_TYPE, SASL_USER, TLS_CA_CERT, TLS_CERT, TLS_KEY,
};
use crate::quote::quote;
use crate::source::{About, SourceError};

/// What Knative calls the group of a source that names none; the uid follows.
const GROUP_PREFIX: &str = "knative-kafka-source-";

/// Bytes of records that a source fetches ahead, shared by its consumers: as much as a disk writes while Kafka answers.
const FETCH_AHEAD: usize = 4 << 20;

/// Bytes of records that a source holds, shared by its consumers: a few batches for each lane.
const HOLD: usize = 8 << 20;

/// However many consumers share, each gets as much as one partition hands over at once.
const LEAST_SHARE: usize = 1 << 20;

/// How long a partition that goes to another consumer waits for its deliveries, so that the other one does not repeat them.
/// The whole group waits meanwhile, and a sink that is away would keep it for ever.
const HAND_OVER: Duration = Duration::from_secs(2);

/// A client as this source uses it.
pub(super) type Client = BaseConsumer<Callbacks>;

/// Why a consumer cannot go on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Trouble {
    /// Kafka refuses the credentials, or what they allow.
    Credentials(String),
    /// A topic does not exist.
    Absent(String),
    /// Kafka is not there, or not well.
    Unavailable(String),
    /// Kafka refuses a setting.
    Config(String),
}

/// What an error means to a consumer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Meaning {
    /// The client goes on by itself.
    Passing,
    /// A server does not answer; the client goes on trying, and does not tell when it succeeds.
    Down,
    /// The consumer ends.
    Final(Trouble),
}

/// What the client calls while it is polled, on the thread that polls.
#[derive(Debug)]
pub(super) struct Callbacks {
    ledger: Arc<Ledger>,
    /// Goes into each commit; see [`position`](super::position).
    mark: Arc<str>,
}

/// What of the client's statistics is used.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Counted {
    topics: HashMap<String, CountedTopic>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct CountedTopic {
    partitions: HashMap<String, CountedPartition>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct CountedPartition {
    /// Whether it is read by this client.
    desired: bool,
    /// Records between what was committed and the end; negative while it is not known.
    consumer_lag: i64,
}

/// The options of a client of the source.
pub(super) fn options(
    spec: &KafkaSource,
    about: &About,
    given: &Given,
) -> Result<ClientConfig, SourceError> {
    let mut options = client::options(spec.servers(), about);
    let queued = share(FETCH_AHEAD, spec);
    for (option, value) in [
        ("group.id", group(spec, about)),
        ("queued.max.messages.kbytes", (queued >> 10).to_string()),
        ("fetch.max.bytes", queued.to_string()),
        // What one partition hands over at once; a larger record comes nevertheless.
        ("fetch.message.max.bytes", LEAST_SHARE.to_string()),
    ] {
        options.set(option, value);
    }
    for (option, value) in [
        // Committed is what was delivered, and nothing else.
        ("enable.auto.commit", "false"),
        ("enable.auto.offset.store", "false"),
        // A group that begins got its position before (see `position`); what is new since is read from its beginning.
        ("auto.offset.reset", "earliest"),
        ("isolation.level", "read_committed"),
        // Members come and go without stopping those that stay.
        ("partition.assignment.strategy", "cooperative-sticky"),
        // Kafka's own least: after a crash the partitions wait so long for the member that is no more.
        ("session.timeout.ms", "6000"),
        // By its answer a member learns that others came or went; each rebalance takes two.
        ("heartbeat.interval.ms", "1000"),
        // A rebalance waits so long for a member that lives; ours come within HAND_OVER.
        ("max.poll.interval.ms", "30000"),
        // With a small queue the usual second between two fetches would be the throughput.
        ("queued.min.messages", "4096"),
        ("fetch.queue.backoff.ms", "10"),
        ("socket.timeout.ms", "20000"),
        // Partitions that are added are found so soon.
        ("topic.metadata.refresh.interval.ms", "60000"),
        ("statistics.interval.ms", "5000"),
        ("check.crcs", "true"),
    ] {
        options.set(option, value);
    }
    protect(&mut options, spec, given)?;
    Ok(options)
}

/// Bytes of records that each consumer of the source holds.
pub(super) fn held(spec: &KafkaSource) -> usize {
    share(HOLD, spec)
}

fn share(whole: usize, spec: &KafkaSource) -> usize {
    let consumers = usize::try_from(spec.consumers.unwrap_or(1)).unwrap_or(1).max(1);
    (whole / consumers).max(LEAST_SHARE)
}

/// Encryption and credentials.
fn protect(
    options: &mut ClientConfig,
    spec: &KafkaSource,
    given: &Given,
) -> Result<(), SourceError> {
    let protocol = match (spec.sasl().is_some(), spec.tls().is_some()) {
        (false, false) => "plaintext",
        (false, true) => "ssl",
        (true, false) => "sasl_plaintext",
        (true, true) => "sasl_ssl",
    };
    options.set("security.protocol", protocol);
    if let Some(sasl) = spec.sasl() {
        if sasl.token_provider.as_ref().is_some_and(|value| value.selector().is_some()) {
            return Err(no_tokens("net.sasl.tokenProvider"));
        }
        let login = Login { user: SASL_USER, password: SASL_PASSWORD };
        client::log_in(options, mechanism(given)?, &login, given)?;
    }
    if let Some(tls) = spec.tls() {
        let named = tls.ca_cert.as_ref().is_some_and(|value| value.selector().is_some());
        let authorities = (named && given.get(TLS_CA_CERT).is_some()).then_some(TLS_CA_CERT);
        client::trust(options, authorities, given)?;
        client::show(options, &Identity { certificate: TLS_CERT, key: TLS_KEY }, given)?;
    }
    Ok(())
}

fn mechanism(given: &Given) -> Result<&'static str, SourceError> {
    let Some(named) = given.get(SASL_TYPE) else { return Ok("PLAIN") };
    match named.expose().trim() {
        "" => Ok("PLAIN"),
        "OAUTHBEARER" => Err(no_tokens(SASL_TYPE)),
        name => client::mechanism(name)
            .ok_or(NotGiven { field: SASL_TYPE, why: client::NO_MECHANISM }.into()),
    }
}

fn no_tokens(field: &str) -> SourceError {
    SourceError::Config(format!(
        "{field}: OAUTHBEARER is not supported; log in with PLAIN, SCRAM-SHA-256 or SCRAM-SHA-512, or with a certificate"
    ))
}

/// Makes a client.
pub(super) fn make(options: &ClientConfig, callbacks: Callbacks) -> Result<Client, Trouble> {
    options.create_with_context(callbacks).map_err(|error| match client::unmade(error, "net.tls") {
        Unmade::Config(what) => Trouble::Config(what),
        Unmade::Unavailable(what) => Trouble::Unavailable(what),
    })
}

impl Callbacks {
    pub(super) fn new(ledger: Arc<Ledger>, mark: Arc<str>) -> Self {
        Self { ledger, mark }
    }

    /// What is shared with the deliveries.
    pub(super) fn ledger(&self) -> &Arc<Ledger> {
        &self.ledger
    }

    /// Commits offsets, if there are any.
    ///
    /// Nobody waits for the answer: the library would for as long as Kafka is away, and does not tell of one that comes
    /// later. It sends offsets before it gives partitions back or leaves the group; what does not arrive is sent again with
    /// what is due next (see [`Ledger::due`]).
    pub(super) fn commit(&self, client: &Client, positions: &[Position]) {
        let Some(list) = offsets(positions, &self.mark) else { return };
        if let Err(error) = client.commit(&list, CommitMode::Async) {
            tracing::debug!(%error, "commit");
        }
    }

    /// Lets go of partitions: waits a moment for what is under way, and commits what was delivered.
    fn hand_over(&self, client: &Client, partitions: &[(String, i32)]) {
        if !client.assignment_lost() {
            self.ledger.wait_for(partitions, HAND_OVER);
            self.commit(client, &self.ledger.rest());
        }
        self.ledger.revoke(partitions);
    }
}

impl ClientContext for Callbacks {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, line: &str) {
        client::log(level, facility, line);
    }

    fn stats(&self, _: Statistics) {}

    fn stats_raw(&self, statistics: &[u8]) {
        match serde_json::from_slice::<Counted>(statistics) {
            Ok(counted) => self.ledger.lag(counted.lag()),
            Err(error) => tracing::debug!(%error, "the client's statistics cannot be read"),
        }
    }

    fn error(&self, error: KafkaError, reason: &str) {
        // That no server answers says less than what it said of the last of them.
        if error.rdkafka_error_code() != Some(Code::AllBrokersDown) {
            self.ledger.complain(quote(reason));
        }
    }
}

impl ConsumerContext for Callbacks {
    fn pre_rebalance(&self, client: &Client, rebalance: &Rebalance<'_>) {
        match rebalance {
            Rebalance::Assign(list) => {
                // One that was taken away while fetching was stopped is still stopped: the library keeps that with the
                // partition. A copy, for it writes into the list.
                if let Err(error) = client.resume(&TopicPartitionList::clone(list)) {
                    tracing::debug!(%error, "resume");
                }
                self.ledger.assign(&partitions(list));
            }
            Rebalance::Revoke(list) => self.hand_over(client, &partitions(list)),
            Rebalance::Error(error) => tracing::debug!(%error, "rebalance"),
        }
    }
}

impl Counted {
    fn lag(&self) -> u64 {
        let partitions = self.topics.values().flat_map(|topic| topic.partitions.values());
        let lags = partitions.filter(|partition| partition.desired);
        lags.map(|partition| u64::try_from(partition.consumer_lag).unwrap_or(0)).sum()
    }
}

/// What an error of the client or of a server means; `reason` is the sentence that came with it.
pub(super) fn meaning(code: Code, reason: &str) -> Meaning {
    let reason = reason.to_owned();
    Meaning::Final(match code {
        Code::Authentication
        | Code::SaslAuthenticationFailed
        | Code::UnsupportedSASLMechanism
        | Code::TopicAuthorizationFailed
        | Code::GroupAuthorizationFailed
        | Code::ClusterAuthorizationFailed => Trouble::Credentials(reason),
        Code::UnknownTopicOrPartition | Code::UnknownTopic | Code::UnknownPartition => {
            Trouble::Absent(reason)
        }
        Code::InvalidGroupId | Code::InvalidSessionTimeout => Trouble::Config(reason),
        // They may go: a Knative that is being replaced, for instance.
        Code::InconsistentGroupProtocol => Trouble::Unavailable(format!(
            "consumerGroup: members elsewhere share partitions in another way; stop them or name another group ({reason})"
        )),
        Code::Fatal | Code::FencedInstanceId | Code::GroupMaxSizeReached => {
            Trouble::Unavailable(reason)
        }
        // That none answers is not always told: one that was never asked does not count as one that is down.
        Code::AllBrokersDown
        | Code::BrokerTransportFailure
        | Code::Resolve
        | Code::SSL
        | Code::OperationTimedOut
        | Code::RequestTimedOut => return Meaning::Down,
        _ => return Meaning::Passing,
    })
}

impl From<Trouble> for SourceError {
    fn from(trouble: Trouble) -> Self {
        match trouble {
            Trouble::Credentials(what) => {
                Self::Credentials { what: format!("Kafka refused the credentials: {what}") }
            }
            Trouble::Absent(what) => Self::Absent { what },
            Trouble::Unavailable(what) => Self::unavailable("reach Kafka", what),
            Trouble::Config(what) => Self::Config(what),
        }
    }
}

/// The name of the consumer group.
fn group(spec: &KafkaSource, about: &About) -> String {
    if spec.consumer_group.is_empty() {
        format!("{GROUP_PREFIX}{}", about.uid)
    } else {
        spec.consumer_group.clone()
    }
}

/// A list of offsets with the mark that tells where they began.
pub(super) fn offsets(positions: &[Position], mark: &str) -> Option<TopicPartitionList> {
    if positions.is_empty() {
        return None;
    }
    let mut list = TopicPartitionList::with_capacity(positions.len());
    for Position { topic, partition, offset } in positions {
        let mut entry = list.add_partition(topic, *partition);
        // Refused are negative offsets, which records do not have.
        entry.set_offset(Offset::Offset(*offset)).ok()?;
        entry.set_metadata(mark);
    }
    Some(list)
}

/// The partitions of a list.
pub(super) fn partitions(list: &TopicPartitionList) -> Vec<(String, i32)> {
    list.elements().iter().map(|entry| (entry.topic().to_owned(), entry.partition())).collect()
}

#[cfg(test)]
mod tests;
