//! What a sink is, what it is given, and what it writes with.

use std::fmt;
use std::sync::Arc;

use broker_event::Event;
use crds::condition;
use crds::sink::SinkSpec;
use futures_util::future::BoxFuture;
use tokio_util::sync::CancellationToken;

use super::door::{Door, Open};
use crate::given::{Given, Need};
use crate::respond::Refusal;
use crate::source::{About, SourceError};
use crate::status::Reporter;

/// One kind of sink, implemented by the spec of its resource.
pub trait EventSink: SinkSpec {
    /// The condition in the resource's status that says whether it works.
    const WORKS: &'static str = condition::DEPLOYED;

    /// What it is to be handed of Secrets and `ConfigMap`s. It does not run before all of it is there.
    fn needs(&self, _about: &About) -> Vec<Need> {
        Vec::new()
    }

    /// Connects, [opens](Context::open), and runs until `ctx.stop`. `Ok` means asked to stop; an error says whether starting
    /// again can help. Requests that come meanwhile wait for a moment.
    fn run(self, ctx: Context) -> impl Future<Output = Result<(), SourceError>> + Send;
}

/// Writes the events of requests.
pub trait Write: fmt::Debug + Send + Sync + 'static {
    /// Writes events, in their order. `Ok` only when the system has acknowledged all of them; otherwise some may be written,
    /// and all of them may come again.
    fn write(&self, events: Vec<Event>) -> BoxFuture<'_, Result<(), Refusal>>;
}

/// What a running sink is given.
#[derive(Clone, Debug)]
pub struct Context {
    /// Which resource it is.
    pub about: Arc<About>,
    /// What it [needs](EventSink::needs) of Secrets and `ConfigMap`s.
    pub given: Given,
    /// Ends the sink. What is not finished within a second is cut off. Writes under way go on as far as they can by themselves.
    pub stop: CancellationToken,
    /// Where it says how it is doing.
    pub report: Reporter,
    pub(super) door: Arc<Door>,
}

impl Context {
    /// From now on requests are written with `writer`, and the sink works; until what is returned is dropped.
    #[must_use = "dropping it ends that"]
    pub fn open(&self, writer: Arc<dyn Write>) -> Open {
        self.report.running();
        self.door.open(writer)
    }
}

#[cfg(test)]
pub(super) mod fake {
    //! A sink as a user writes it.

    use crds::broker_defaults::BrokerDefaults;
    use crds::object::Rules;
    use crds::ping_defaults::PingDefaults;
    use crds::resource::Catalog;
    use crds::sink::{SinkObject, SinkSpec};
    use serde_json::{Value, json};

    /// The sink of that spec, with its defaults.
    #[expect(clippy::needless_pass_by_value, reason = "json! makes values")]
    pub(in super::super) fn sink<S: SinkSpec>(spec: Value) -> SinkObject<S> {
        let mut object: SinkObject<S> =
            serde_json::from_value(json!({"metadata": {"name": "s"}, "spec": spec})).unwrap();
        object.defaults();
        object
    }

    /// What is wrong with it.
    pub(in super::super) fn refused<S: SinkSpec>(spec: Value) -> String {
        let defaults = BrokerDefaults::builtin();
        let rules = Rules {
            catalog: Catalog::BUILTIN,
            cesql: &|_| Ok(()),
            broker_defaults: &defaults,
            ping_defaults: PingDefaults::default(),
        };
        sink::<S>(spec).validate(&rules).to_string()
    }
}
