//! What a source is, what it is given, and how it ends.

use std::collections::BTreeMap;
use std::error::Error as StdError;
use std::io;
use std::sync::Arc;

use crds::annotation;
use crds::condition::{self, CloudEventAttributes};
use crds::source::SourceSpec;
use serde_json::Value;
use thiserror::Error;
use tokio_util::sync::CancellationToken;

use crate::apiserver::Api;
use crate::checkpoint::Checkpoint;
use crate::clock::Clock;
use crate::emit::{EmitError, Emitter};
use crate::given::{Given, Need, NotGiven};
use crate::host::Host;
use crate::metrics::SourceMetrics;
use crate::parking::Parking;
use crate::status::Reporter;
use crate::webhook::{HookTaken, Hooks};

/// One kind of source, implemented by the spec of its resource.
///
/// The rule every source keeps: acknowledge upstream (answer, commit, move a cursor) only after [`Context::deliver`] or
/// [`Emitter::send`] returned `Ok`. What was not acknowledged comes again after a crash, with the same `source` and `id`.
pub trait Source: SourceSpec {
    /// The condition in the resource's status that says whether it works.
    const WORKS: &'static str = condition::DEPLOYED;
    /// What else Knative's resource says of itself, besides that and `SinkProvided`: each holds while the source works,
    /// unless the source reports otherwise.
    const CONDITIONS: &'static [&'static str] = &[];

    /// Whether it runs programs that its resource names. It does so where the resources are the user's own; next to a cluster,
    /// whose users are not to run programs beside the mesh, it is not run.
    const RUNS_PROGRAMS: bool = false;

    /// Whether it is fed by requests to `/sources/{namespace}/{name}`.
    fn hook(&self) -> bool {
        false
    }

    /// What it is to be handed of Secrets and `ConfigMap`s. It does not run before all of it is there.
    fn needs(&self, _about: &About) -> Vec<Need> {
        Vec::new()
    }

    /// The types and sources of its events, for the resource's status. `given` is what there is of its needs.
    fn attributes(&self, about: &About, given: &Given) -> Vec<CloudEventAttributes>;

    /// Whether it makes something upstream that [`Source::retire`] has to remove when the resource is deleted.
    fn leaves_traces(&self, _about: &About) -> bool {
        false
    }

    /// What a cluster runs in its place where it may run no programs itself: a pod template, whose containers are told where to
    /// send to. Nothing if a cluster does not run it.
    fn pod_template(&self, _sink_url: &str, _ca_certs: Option<&str>) -> Option<Value> {
        None
    }

    /// Runs until `ctx.stop`. `Ok` means asked to stop; an error says whether starting again can help.
    fn run(self, ctx: Context) -> impl Future<Output = Result<(), SourceError>> + Send;

    /// Removes what it made upstream; the resource goes once this returned `Ok`. What is no longer there counts as removed.
    fn retire(self, _ctx: Context) -> impl Future<Output = Result<(), SourceError>> + Send {
        async { Ok(()) }
    }
}

/// What the resource says beside its spec.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct About {
    /// Namespace of the resource.
    pub namespace: Arc<str>,
    /// Name of the resource.
    pub name: Arc<str>,
    /// What tells it from an earlier resource of the same name.
    pub uid: Arc<str>,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// Its annotations under `weft.dev/`.
    pub annotations: BTreeMap<String, String>,
    /// The URL of the API server that has the resource.
    pub api_url: Arc<str>,
}

impl About {
    /// Whether the mesh makes the web hook; if not, the user does (`weft.dev/register: "false"`).
    #[must_use]
    pub fn register(&self) -> bool {
        self.annotations.get(annotation::REGISTER).is_none_or(|text| text != "false")
    }
}

/// What a running source is given.
#[derive(Clone, Debug)]
pub struct Context {
    /// Which resource it is.
    pub about: Arc<About>,
    /// What it [needs](Source::needs) of Secrets and `ConfigMap`s.
    pub given: Given,
    /// The way out; returns when events are durable. [`Context::deliver`] also keeps trying.
    pub emit: Emitter,
    /// Ends the source. What is not finished within a second is cut off.
    pub stop: CancellationToken,
    /// Where it says how it is doing.
    pub report: Reporter,
    /// Where it remembers how far it came.
    pub checkpoint: Checkpoint,
    /// Where web hook sources receive their requests.
    pub hooks: Hooks,
    /// The URL under which the outside reaches [`Context::hooks`] of this source.
    pub url: Arc<str>,
    /// The URL that takes events for its sink over HTTP, for programs that send them themselves.
    pub sink_url: Arc<str>,
    /// The machine it runs on.
    pub host: Arc<Host>,
    /// The time.
    pub clock: Clock,
    /// The API server that has the resource, where there is one to watch.
    pub api: Option<Api>,
    pub(crate) parking: Parking,
    pub(crate) metrics: SourceMetrics,
}

/// Why a source ended without being asked to.
#[derive(Debug, Error)]
pub enum SourceError {
    /// The configuration cannot work; the sentence names the field.
    #[error("{0}")]
    Config(String),
    /// The program was built without what the source runs on.
    #[error(
        "this weft is built without {feature}: build one with `cargo build --release --features {feature}`"
    )]
    NotBuilt {
        /// The feature to build with.
        feature: &'static str,
    },
    /// Upstream refused the credentials; they may be made good there.
    #[error("{what}")]
    Credentials {
        /// What was being done, and what upstream said; nothing secret.
        what: String,
    },
    /// Upstream has not got what the spec names (a queue, a stream, a topic, a database); it may be made.
    #[error("{what}")]
    Absent {
        /// What is not there.
        what: String,
    },
    /// Something the source depends on is not there; it may come back.
    #[error("{what}")]
    Unavailable {
        /// What was being done, in a few words.
        what: String,
        /// How it failed.
        #[source]
        source: Option<Box<dyn StdError + Send + Sync>>,
    },
    /// A program that the source runs ended by itself.
    #[error("{what}")]
    Ended {
        /// Which one, and how.
        what: String,
    },
    /// The sink did not take an event and the source has no better answer than to begin again.
    #[error("emit")]
    Emit(#[from] EmitError),
    /// Another source receives the requests of this path; it may go away.
    #[error("receive requests")]
    Hook(#[from] HookTaken),
    /// A Secret or a `ConfigMap` holds something else than it should.
    #[error(transparent)]
    Given(#[from] NotGiven),
    /// What was remembered, or is to be, cannot be read or written.
    #[error("keep the state of the source")]
    State(#[source] io::Error),
    /// Asked to stop in the middle of something: the same as ending with `Ok`.
    #[error("asked to stop")]
    Stopped,
}

impl SourceError {
    /// Something the source depends on is not there; it may come back.
    pub fn unavailable(
        what: impl Into<String>,
        source: impl Into<Box<dyn StdError + Send + Sync>>,
    ) -> Self {
        Self::Unavailable { what: what.into(), source: Some(source.into()) }
    }

    /// Whether starting the source again can help.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Config(_) | Self::NotBuilt { .. } | Self::Given(_) => false,
            Self::Credentials { .. }
            | Self::Absent { .. }
            | Self::Unavailable { .. }
            | Self::Ended { .. }
            | Self::Hook(_)
            | Self::State(_)
            | Self::Stopped => true,
            Self::Emit(error) => error.is_retryable(),
        }
    }

    /// The reason of the condition that says that the source does not work, one CamelCase word.
    #[must_use]
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Config(_) => "InvalidSpec",
            Self::NotBuilt { .. } => "NotBuilt",
            Self::Given(_) => "InvalidSecret",
            Self::Credentials { .. } => "CredentialsRefused",
            Self::Absent { .. } => "UpstreamNotFound",
            Self::Unavailable { .. } => "UpstreamUnavailable",
            Self::Ended { .. } => "ContainerEnded",
            Self::Emit(_) => "EventNotTaken",
            Self::Hook(_) => "PathTaken",
            Self::State(_) => "StateUnavailable",
            Self::Stopped => "Stopped",
        }
    }
}

/// Characters of an error that are shown. What upstream says is part of it and may have no end, and a status is kept and sent
/// with each change.
const MAX_SHOWN: usize = 1000;

/// An error with its causes, in one line; the beginning of it if it is long.
pub(crate) fn chain(error: &dyn StdError) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    if let Some((end, _)) = text.char_indices().nth(MAX_SHOWN) {
        text.truncate(end);
    }
    text
}

#[cfg(test)]
pub(crate) mod fake {
    //! What a single source is given in tests.

    use std::sync::Arc;

    use jiff::Timestamp;
    use tokio_util::sync::CancellationToken;

    use super::{About, Context};
    use crate::apiserver::Api;
    use crate::checkpoint::{Checkpoint, fake as checkpoint};
    use crate::clock::Clock;
    use crate::emit::Overrides;
    use crate::emit::fake::{Recorder, emitter};
    use crate::given::Given;
    use crate::host::Host;
    use crate::metrics::Metrics;
    use crate::parking::{Parking, fake as parking};
    use crate::status::{Board, fake as status};
    use crate::webhook::Hooks;

    /// The world of one source, across its restarts.
    #[derive(Debug)]
    pub(crate) struct World {
        pub(crate) about: Arc<About>,
        pub(crate) given: Given,
        pub(crate) recorder: Arc<Recorder>,
        pub(crate) checkpoints: Arc<checkpoint::InMemory>,
        pub(crate) parked: Arc<parking::InMemory>,
        pub(crate) hooks: Hooks,
        pub(crate) host: Arc<Host>,
        pub(crate) clock: Clock,
        pub(crate) api: Option<Api>,
    }

    impl World {
        /// Of the source `default/one` without labels and annotations, that starts in 1970.
        pub(crate) fn new() -> Self {
            Self {
                about: Arc::new(about()),
                given: Given::default(),
                recorder: Recorder::new(),
                checkpoints: Arc::default(),
                parked: Arc::default(),
                hooks: Hooks::new(Metrics::default()),
                host: Arc::default(),
                clock: Clock::following_tokio(Timestamp::UNIX_EPOCH),
                api: None,
            }
        }

        /// For one run: with its own status and stop.
        pub(crate) fn context(&self, kind: &'static str) -> (Context, Arc<Board>) {
            let (report, board) = status::reporter(kind);
            let place = format!("{kind}/default/one");
            let context = Context {
                about: Arc::clone(&self.about),
                given: self.given.clone(),
                emit: emitter(Arc::clone(&self.recorder), Overrides::default(), report.clone()),
                stop: CancellationToken::new(),
                report,
                checkpoint: Checkpoint::new(self.checkpoints.clone(), &place),
                hooks: self.hooks.clone(),
                url: "http://mesh.example/sources/default/one".into(),
                sink_url: "http://mesh.example/default/default".into(),
                host: Arc::clone(&self.host),
                clock: self.clock.clone(),
                api: self.api.clone(),
                parking: Parking::new(self.parked.clone(), &place),
                metrics: Metrics::default().of(&status::key(kind)),
            };
            (context, board)
        }
    }

    /// The source `default/one`.
    pub(crate) fn about() -> About {
        About {
            namespace: "default".into(),
            name: "one".into(),
            uid: "5ca1ab1e-0000-4000-8000-000000000001".into(),
            api_url: "https://api.example:6443".into(),
            ..About::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{MAX_SHOWN, SourceError, chain};

    #[test]
    fn of_a_long_error_the_beginning_is_shown() {
        let shown = chain(&SourceError::unavailable("ask", "é".repeat(1 << 20)));
        assert_eq!(shown.chars().count(), MAX_SHOWN);
        assert!(shown.starts_with("ask: é"), "{shown}");
    }
}
