//! Sources: what happens in the world, as `CloudEvents`. One file a kind, one trait, one list. The other way round there are
//! [`sinks`].
//!
//! A [`Source`] is run by the [`Runner`] and hands its events to an [`Emitter`], which returns only when they are
//! durable; so a source acknowledges upstream on the next line and cannot do it earlier by accident.
//!
//! This crate does not know where configurations come from, how a sink stores events, or how HTTP is served: it is
//! handed what is [`Wanted`], a port to emit through ([`Emit`]) and requests ([`Hooks::serve`]).

mod backoff;
mod body;
mod checkpoint;
mod clock;
mod deliver;
mod emit;
mod given;
mod host;
mod http_client;
mod kinds;
mod message;
mod metrics;
mod parking;
mod payload;
mod quote;
mod receive;
mod registration;
mod respond;
mod runner;
mod secret;
mod source;
mod status;
mod webhook;

pub use checkpoint::{Checkpoint, Checkpoints};
pub use clock::Clock;
pub use emit::{Emit, EmitError, Emitter, Overrides, OverridesError, Sink};
pub use given::{Given, Necessity, Need, NotGiven, Origin};
pub use host::Host;
pub use kinds::{Kind, Object};
pub use metrics::Metrics;
pub use parking::ParkingLot;
pub use respond::Refusal;
pub use runner::{Aim, Ports, Runner, Wanted};
pub use secret::Secret;
pub use source::{About, Context, Source, SourceError};
pub use status::{Condition, Key, Reporter, State, Status};
pub use webhook::{Accepted, Hook, HookTaken, Hooks, Registration, Request};

// The list of kinds. A new one is its file, its lines here, and a directory of `examples/`.
pub mod apiserver;
pub mod ceph;
pub mod container;
pub mod couchdb;
pub mod github;
pub mod gitlab;
pub mod kafka;
pub mod nats;
pub mod ping;
pub mod prometheus;
pub mod rabbitmq;
pub mod redis;

pub mod sinks;

kinds::sources! {
    apiserver::ApiServerSource,
    ceph::CephSource,
    container::ContainerSource,
    couchdb::CouchDbSource,
    github::GitHubSource,
    gitlab::GitLabSource,
    kafka::KafkaSource,
    nats::NatsSource,
    ping::PingSource,
    prometheus::PrometheusSource,
    rabbitmq::RabbitmqSource,
    redis::RedisStreamSource,
}
