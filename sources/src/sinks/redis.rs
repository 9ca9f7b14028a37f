//! Redis: an entry of a stream of every event, answered by Redis before the sender is.
//!
//! What becomes of an event depends on its data, see `entry`. What differs from Knative's `RedisStreamSink`: what cannot be
//! written is refused in place of being logged, attributes are not lost, and `dialOptions` mean something.

use std::sync::Arc;
use std::time::Duration;

use ::redis::aio::MultiplexedConnection;
use ::redis::{RedisError, cmd, pipe};
use broker_event::Event;
use crds::FieldErrors;
use crds::meta::ObjectMeta;
use crds::object::Rules;
use crds::resource::{Resource, Version};
use crds::sink::{self, AGE, READY, REASON, SinkSpec, URL};
use crds::source::SourceSpec;
use futures_util::future::BoxFuture;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;
use tokio::time::{MissedTickBehavior, interval};

use super::door::busy;
use super::sink::{Context, EventSink, Write};
use crate::given::Need;
use crate::redis::connect::Peer;
use crate::redis::trouble::trouble;
use crate::redis::{Address, DialOptions, Way};
use crate::respond::Refusal;
use crate::source::{About, SourceError};

mod entry;

use entry::entry;

/// How often an idle connection is tried: so soon the status tells of a server that is away.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// How often a cluster may send us to another of its servers before one has the stream.
const MAX_MOVES: usize = 5;

/// A `RedisStreamSink` adds an entry to a stream of a Redis server for every event that is posted to it.
///
/// Data that is a JSON array of texts is taken as field, value, field, value, …; of any other event the entry has its
/// attributes, and its data under `data`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
#[schemars(extend("required" = ["address", "stream"]))]
pub struct RedisStreamSink {
    /// Where the server is, as in `redis://redis.example.com:6379`; `rediss://` is TLS. It may hold a user, a password and the
    /// number of a database: `redis://user:password@redis.example.com:6379/1`. A password is better kept in a Secret, see
    /// `dialOptions`.
    #[schemars(with = "String")]
    pub address: Address,
    /// How to connect.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dial_options: Option<DialOptions>,
    /// The name of the stream. It is made if it is not there.
    pub stream: String,
}

impl SinkSpec for RedisStreamSink {
    const RESOURCE: Resource = Resource {
        kind: "RedisStreamSink",
        plural: "redisstreamsinks",
        singular: "redisstreamsink",
        categories: &["all", "knative", "eventing", "sources"],
        versions: &[Version {
            name: "v1alpha1",
            deprecated: None,
            columns: &[URL, AGE, READY, REASON],
            schema: sink::schema::<Self>,
        }],
        ..sink::resource::<Self>()
    };

    fn validate(&self, metadata: &ObjectMeta, rules: &Rules<'_>) -> FieldErrors {
        SourceSpec::validate(&self.way(), metadata, rules)
    }
}

impl EventSink for RedisStreamSink {
    fn needs(&self, _: &About) -> Vec<Need> {
        self.way().secrets()
    }

    async fn run(self, ctx: Context) -> Result<(), SourceError> {
        let connected = ctx.stop.run_until_cancelled(self.connect(&ctx)).await;
        let Some(connected) = connected else { return Ok(()) };
        let mut connection = connected?;
        // One is enough: whoever meets trouble first ends the run.
        let (tell, mut met) = mpsc::channel(1);
        let writer = Writer { connection: connection.clone(), stream: self.stream.clone(), tell };
        let _open = ctx.open(Arc::new(writer));
        let mut look = interval(LOOK_EVERY);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                biased;
                () = ctx.stop.cancelled() => return Ok(()),
                error = met.recv() => return Err(error.unwrap_or(SourceError::Stopped)),
                _ = look.tick() => {
                    let asking = self.look(&mut connection);
                    let Some(found) = ctx.stop.run_until_cancelled(asking).await else { return Ok(()) };
                    found.map_err(|error| trouble("look at the stream", &error))?;
                }
            }
        }
    }
}

impl RedisStreamSink {
    /// The source with the same way to Redis.
    fn way(&self) -> Way {
        Way {
            address: self.address.clone(),
            dial_options: self.dial_options.clone(),
            stream: self.stream.clone(),
            ..Way::default()
        }
    }

    /// Connects to the server that has the stream.
    async fn connect(&self, ctx: &Context) -> Result<MultiplexedConnection, SourceError> {
        let mut peer = Peer::new(&self.way(), &ctx.given)?;
        for _ in 0..MAX_MOVES {
            let mut connection = peer.connect(Duration::ZERO).await?;
            match self.look(&mut connection).await {
                Ok(()) => return Ok(connection),
                Err(error) => match peer.moved(&error) {
                    Some(moved) => peer = moved,
                    None => {
                        return Err(trouble(
                            format!("look at the stream at {}", peer.name()),
                            &error,
                        ));
                    }
                },
            }
        }
        Err(SourceError::unavailable(
            "find the stream",
            "the servers of the cluster send us to and fro",
        ))
    }

    /// Whether Redis is there, and what it keeps under the stream's name is a stream or nothing.
    async fn look(&self, connection: &mut MultiplexedConnection) -> Result<(), RedisError> {
        let length: Result<u64, RedisError> =
            cmd("XLEN").arg(&self.stream).query_async(connection).await;
        match length {
            // Who may write need not be allowed to look.
            Err(error) if error.code() == Some("NOPERM") => Ok(()),
            other => other.map(|_| ()),
        }
    }
}

/// Adds entries.
struct Writer {
    connection: MultiplexedConnection,
    stream: String,
    /// Ends the run.
    tell: mpsc::Sender<SourceError>,
}

impl Writer {
    async fn add(&self, events: &[Event]) -> Result<(), Refusal> {
        let mut commands = pipe();
        if events.len() > 1 {
            // Either all of them are added or, if Redis ends in between, none.
            commands.atomic();
        }
        for event in events {
            let fields = entry(event).map_err(|why| Refusal::Unacceptable(why.to_string()))?;
            let add = commands.cmd("XADD").arg(&self.stream).arg("*");
            for (name, value) in &fields {
                add.arg(name.as_ref()).arg(value.as_ref());
            }
            add.ignore();
        }
        let mut connection = self.connection.clone();
        let added: Result<(), RedisError> = commands.query_async(&mut connection).await;
        added.map_err(|error| self.failed(&error))
    }

    fn failed(&self, error: &RedisError) -> Refusal {
        let shown = trouble("add to the stream", error);
        let reason = crate::source::chain(&shown);
        // A server that is full or loads its data is there.
        if !matches!(error.code(), Some("OOM" | "BUSY" | "LOADING" | "MISCONF" | "NOREPLICAS")) {
            // If it is full, the run ends for an earlier reason.
            drop(self.tell.try_send(shown));
        }
        busy(reason)
    }
}

impl Write for Writer {
    fn write(&self, events: Vec<Event>) -> BoxFuture<'_, Result<(), Refusal>> {
        Box::pin(async move { self.add(&events).await })
    }
}

impl std::fmt::Debug for Writer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Writer").field("stream", &self.stream).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
