//! What a source is, what it is given, and how it ends.

use std::error::Error as StdError;
use std::fmt;
use std::sync::Arc;

use serde::de::DeserializeOwned;
use thiserror::Error;
use tokio_util::sync::CancellationToken;

use crate::checkpoint::Checkpoint;
use crate::clock::Clock;
use crate::emit::{EmitError, Emitter};
use crate::metrics::SourceMetrics;
use crate::status::Reporter;
use crate::webhook::{HookTaken, Hooks};

/// One kind of source, implemented by its configuration.
///
/// The rule every source keeps: acknowledge upstream (answer, commit, move a cursor) only after [`Emitter::send`]
/// returned `Ok`. What was not acknowledged comes again after a crash, with the same `source` and `id`.
pub trait Source:
    DeserializeOwned + Clone + PartialEq + fmt::Debug + Send + Sync + 'static
{
    /// What the resource is called.
    const KIND: &'static str;
    /// A configuration that works, as JSON; printed by the docs, run by the tests.
    const EXAMPLE: &'static str;
    /// Whether it is fed by requests to `/sources/{namespace}/{name}`.
    const HOOK: bool = false;

    /// Runs until `ctx.stop`. `Ok` means asked to stop; an error says whether starting again can help.
    fn run(self, ctx: Context) -> impl Future<Output = Result<(), SourceError>> + Send;
}

/// What a running source is given.
#[derive(Clone, Debug)]
pub struct Context {
    /// Namespace of the resource.
    pub namespace: Arc<str>,
    /// Name of the resource.
    pub name: Arc<str>,
    /// The way out; returns when events are durable.
    pub emit: Emitter,
    /// Ends the source. What is not finished within a second is cut off.
    pub stop: CancellationToken,
    /// Where it says how it is doing.
    pub report: Reporter,
    /// Where it remembers how far it came.
    pub checkpoint: Checkpoint,
    /// Where web hook sources receive their requests.
    pub hooks: Hooks,
    /// The time.
    pub clock: Clock,
    pub(crate) metrics: SourceMetrics,
}

/// Why a source ended without being asked to.
#[derive(Debug, Error)]
pub enum SourceError {
    /// The configuration cannot work; the sentence names the field.
    #[error("{0}")]
    Config(String),
    /// Something the source depends on is not there; it may come back.
    #[error("{what}")]
    Unavailable {
        /// What was being done, in a few words.
        what: String,
        /// How it failed.
        #[source]
        source: Option<Box<dyn StdError + Send + Sync>>,
    },
    /// The sink did not take an event and the source has no better answer than to begin again.
    #[error("emit")]
    Emit(#[from] EmitError),
    /// Another source receives the requests of this path; it may go away.
    #[error("receive requests")]
    Hook(#[from] HookTaken),
}

impl SourceError {
    /// Whether starting the source again can help.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Config(_) => false,
            Self::Unavailable { .. } | Self::Hook(_) => true,
            Self::Emit(error) => error.is_retryable(),
        }
    }
}
