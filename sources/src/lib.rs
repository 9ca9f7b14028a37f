//! Sources: what happens in the world, as `CloudEvents`. One file a kind, one trait, one list.
//!
//! A [`Source`] is run by the [`Runner`] and hands its events to an [`Emitter`], which returns only when they are
//! durable; so a source acknowledges upstream on the next line and cannot do it earlier by accident.
//!
//! This crate does not know where configurations come from, how a sink stores events, or how HTTP is served: it is
//! handed [`SourceSpec`]s, a port to emit through ([`Emit`]) and requests ([`Hooks::serve`]).

mod backoff;
mod checkpoint;
mod clock;
mod emit;
pub mod github;
mod kinds;
mod metrics;
pub mod ping;
mod respond;
mod runner;
mod secret;
mod source;
mod status;
mod webhook;

pub use checkpoint::{Checkpoint, Checkpoints};
pub use clock::Clock;
pub use emit::{Emit, EmitError, Emitter, Overrides, OverridesError, Sink};
pub use kinds::{ALL, Config, ConfigError, Kind};
pub use metrics::Metrics;
pub use respond::Refusal;
pub use runner::{Ports, Runner, SourceSpec};
pub use secret::Secret;
pub use source::{Context, Source, SourceError};
pub use status::{Condition, Key, Reporter, State, Status};
pub use webhook::{Accepted, Hook, HookTaken, Hooks, Registration, Request};
