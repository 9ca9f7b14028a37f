//! Sinks: what is posted to them as `CloudEvents` is written into another system. One file a kind, one trait, one list.
//!
//! An [`EventSink`] is run by [`Sinks`], connects, and hands over what it [writes](Write) with. Requests to
//! `/sinks/{namespace}/{name}` are answered with 202 once the system behind has acknowledged every event of the request,
//! and not before; whatever else is answered, the same request may come again.
//!
//! This module does not know where resources come from or how HTTP is served: it is handed what is [`Wanted`], and
//! requests ([`Sinks::serve`]).

mod door;
mod kinds;
mod metrics;
mod running;
mod sink;

pub use kinds::{Kind, Object};
pub use metrics::Metrics;
pub use running::{Sinks, Wanted};
pub use sink::{Context, EventSink, Write};

// The list of kinds. A new one is its file, its lines here, and a manifest in `examples/sinks/`.
pub mod kafka;
pub mod nats;
pub mod rabbitmq;
pub mod redis;

kinds::sinks! {
    kafka::KafkaSink,
    nats::NatsSink,
    rabbitmq::RabbitmqSink,
    redis::RedisStreamSink,
}
