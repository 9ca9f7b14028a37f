//! From what is known of the resources to what should be in force and what their statuses should say. Pure: the same world
//! makes the same plan.

use std::collections::BTreeMap;

use ::broker::store::{Topic, TopicOptions};
use crds::broker::Broker;
use crds::condition;
use crds::condition::reason;
use crds::condition::{Addressable, Condition, READY, Status, Truth};
use crds::meta::ObjectMeta;
use crds::object::Key;
use crds::{broker, broker_defaults, ping_defaults};
use dispatcher::Snapshot;
use sources::{Wanted, sinks};

use crate::address::{self, Resolved};
use crate::conditions::Conditions;
use crate::kinds;
use crate::notice::{self, Notice};
use crate::world::{Held, Name, World};

pub(crate) mod binding;
pub(crate) mod deployment;
mod sink;
mod source;
mod trigger;

use binding::{Binding, Look};
use deployment::Deployment;

/// Bytes a broker may keep when it does not say: a laptop's disk survives it, and at 1 KB an event it is a million of them.
const DEFAULT_BUDGET: u64 = 1 << 30;

/// On a source or a binding: something of it stays elsewhere until the mesh has removed it.
pub const FINALIZER: &str = "weft.dev/upstream";

/// What the data plane says of what is in force.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct InForce {
    /// What could not be put in force, and why.
    pub problems: BTreeMap<Key, String>,
    /// How the sources and sinks are doing.
    pub sources: BTreeMap<sources::Key, sources::Status>,
    /// What was found at the last look at each binding's subjects.
    pub(crate) bindings: BTreeMap<Key, Look>,
}

/// What the controller needs to know of the mesh.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// The base URL of the events listener, as subscribers and sources reach it: the addresses of Brokers start with it.
    pub events_url: String,
    /// How the outside reaches the events listener, for webhooks; `events_url` if absent.
    pub public_url: Option<String>,
    /// The DNS domain of the cluster, in which core Services have their names.
    pub cluster_domain: String,
    /// The URL of the API server that has the resources, which a source that watches it gives its events as their `source`.
    pub api_url: String,
    /// Whether sources may run programs that their resources name: where the resources are the user's own, and not on the
    /// machine of a mesh whose resources the users of a cluster write.
    pub runs_programs: bool,
}

impl Config {
    /// Those of a mesh whose events listener has that base URL, in a cluster with the usual domain, whose API server is called
    /// by the name that it has in every cluster. It runs no programs.
    #[must_use]
    pub fn new(events_url: impl Into<String>) -> Self {
        Self {
            events_url: events_url.into(),
            public_url: None,
            cluster_domain: "cluster.local".to_owned(),
            api_url: "https://kubernetes.default.svc".to_owned(),
            runs_programs: false,
        }
    }
}

/// What should be in force, and what should be said about it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Plan {
    /// For the dispatcher.
    pub snapshot: Snapshot,
    /// For the sources' runner.
    pub sources: Vec<Wanted>,
    /// The sinks that should run.
    pub sinks: Vec<sinks::Wanted>,
    /// `namespace/name` of the sources that receive web hooks.
    pub hooks: Vec<String>,
    /// What a person should know: it is in force, but waits for something.
    pub notes: Vec<String>,
    /// The status of every object that is ours, without times.
    pub statuses: BTreeMap<Key, Status>,
    /// The Deployments that are not as they should be.
    pub(crate) deployments: BTreeMap<Key, Deployment>,
    /// What is to be done with the subjects of bindings.
    pub(crate) bindings: BTreeMap<Key, Binding>,
    /// Which objects must have the [`FINALIZER`], and which must not. Others are as they should be.
    pub finalizers: BTreeMap<Key, bool>,
    /// What became ready, or stopped being so, with these statuses.
    pub events: Vec<Notice>,
}

impl Plan {
    /// Plans for `world`. `in_force` is what the data plane says of the plan before; it changes statuses, and lets go what is
    /// being deleted.
    #[must_use]
    pub fn make(world: &World, config: &Config, in_force: &InForce) -> Self {
        let mut planner = Planner { world, config, in_force, plan: Self::default() };
        for (name, _) in world.config_maps.alive() {
            planner.config_map(name);
        }
        // In the order in which readiness follows: Triggers repeat what their Brokers and dependencies are.
        for (name, held) in world.brokers.alive() {
            planner.broker(name, held);
        }
        for (kind, name, held) in world.sinks() {
            planner.sink(kind, name, held);
        }
        for (kind, name, held) in world.sources() {
            planner.source(kind, name, held);
        }
        for (name, held) in world.bindings() {
            planner.binding(name, held);
        }
        for (name, held) in world.triggers.alive() {
            planner.trigger(name, held);
        }
        planner.notices();
        planner.plan
    }
}

struct Planner<'a> {
    world: &'a World,
    config: &'a Config,
    in_force: &'a InForce,
    plan: Plan,
}

impl Planner<'_> {
    /// A configuration that lies elsewhere is no mistake, for it may be somebody else's; but it changes nothing.
    fn config_map(&mut self, of: &Name) {
        let Name { namespace, name } = of;
        let configures = [broker_defaults::NAME, ping_defaults::NAME].contains(&name.as_str());
        if configures && namespace != broker_defaults::NAMESPACE {
            let there = broker_defaults::NAMESPACE;
            self.note(format!(
                "config map {namespace}/{name}: it has an effect in namespace {there} only"
            ));
        }
    }

    fn broker(&mut self, name: &Name, held: &Held<Broker>) {
        let broker = &held.object;
        if !broker.is_ours() {
            let class = broker.class();
            let Name { namespace, name } = name;
            self.note(format!(
                "broker {namespace}/{name}: class {class} is not this mesh's: left alone"
            ));
            return;
        }
        let Name { namespace, name } = name;
        let budget = broker.storage_budget().unwrap_or(DEFAULT_BUDGET);
        self.plan.snapshot.brokers.push(dispatcher::Broker {
            topic: Topic::new(namespace, name),
            options: TopicOptions { budget },
        });
        let key = key(broker::KIND, &broker.metadata);
        let mut conditions = Conditions::default();
        match (self.in_force.problems.get(&key), held.unread()) {
            (Some(problem), _) => {
                conditions.because(condition::INGRESS_READY, Truth::False, "NotInForce", problem);
            }
            (None, Some(why)) => {
                conditions.because(condition::INGRESS_READY, Truth::False, "InvalidSpec", why);
            }
            (None, None) => conditions.holds(condition::INGRESS_READY),
        }
        conditions.holds(condition::FILTER_READY);
        conditions.holds(condition::ADDRESSABLE);
        let sink = broker.spec.delivery.as_ref().and_then(|spec| spec.dead_letter_sink.as_ref());
        let dead_letter = sink.map(|sink| self.resolve(sink, namespace));
        dead_letter_sink(&mut conditions, dead_letter.as_ref());
        let needed = "Feature \"authentication-oidc\" must be enabled to support Authorization";
        conditions.because(
            condition::EVENT_POLICIES_READY,
            Truth::True,
            reason::OIDC_DISABLED,
            needed,
        );
        let status = Status {
            address: Some(Addressable {
                name: Some("http".to_owned()),
                url: Some(address::of_broker(self.config, namespace, name)),
                ..Addressable::default()
            }),
            dead_letter_sink_uri: dead_letter.and_then(Result::ok).map(|to| to.shown),
            ..Status::default()
        };
        self.say(key, &broker.metadata, conditions, status);
    }

    fn resolve(
        &self,
        destination: &crds::destination::Destination,
        namespace: &str,
    ) -> Result<Resolved, String> {
        address::resolve(self.world, self.config, destination, namespace)
    }

    /// Plans a status.
    fn say(&mut self, key: Key, metadata: &ObjectMeta, conditions: Conditions, rest: Status) {
        let status = Status {
            observed_generation: metadata.generation,
            conditions: conditions.finish(),
            ..rest
        };
        self.plan.statuses.insert(key, status);
    }

    /// The planned readiness of an object, if its status is planned.
    fn planned(&self, key: &Key) -> Option<&Condition> {
        self.plan.statuses.get(key)?.condition(READY)
    }

    fn note(&mut self, note: String) {
        self.plan.notes.push(note);
    }

    fn notices(&mut self) {
        for (key, status) in &self.plan.statuses {
            let Some(watched) = kinds::planned(key.kind) else { continue };
            let name = Name::new(key.namespace.as_str(), key.name.as_str());
            let Some(metadata) = self.world.metadata(watched, &name) else { continue };
            let old = self.world.status(watched, &name).and_then(|status| status.condition(READY));
            let about = notice::About {
                key: key.clone(),
                api_version: watched.api_version(),
                uid: metadata.uid.clone(),
            };
            self.plan.events.extend(notice::transition(about, old, status.condition(READY)));
        }
    }
}

/// What identifies an object.
fn key(kind: &'static str, metadata: &ObjectMeta) -> Key {
    Key { kind, namespace: metadata.namespace.clone(), name: metadata.name.clone() }
}

/// What a Broker or a Trigger says about its dead letter sink, in Knative's words.
fn dead_letter_sink(conditions: &mut Conditions, resolved: Option<&Result<Resolved, String>>) {
    const KIND: &str = condition::DEAD_LETTER_SINK_RESOLVED;
    match resolved {
        Some(Ok(_)) => conditions.holds(KIND),
        Some(Err(why)) => {
            let reason = reason::NO_DEAD_LETTER_SINK_URI;
            conditions.because(KIND, Truth::False, reason, why);
        }
        None => {
            let message = "No dead letter sink is configured.";
            conditions.because(KIND, Truth::True, reason::DEAD_LETTER_SINK_NOT_CONFIGURED, message);
        }
    }
}

#[cfg(test)]
mod tests;
