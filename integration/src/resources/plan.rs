//! From checked resources to what the data plane is handed. Pure: the same objects make the same plan.

use std::collections::{BTreeMap, BTreeSet};

use broker::store::{Start, Topic, TopicOptions};
use crds::Object;
use crds::annotation;
use crds::broker::Broker;
use crds::ce_overrides::CloudEventOverrides;
use crds::config_map::ConfigMap;
use crds::delivery::{self, DeliverySpec};
use crds::destination::Destination;
use crds::github_source::{GitHubSource, SecretKeySelector};
use crds::meta::ObjectMeta;
use crds::ping_source::PingSource;
use crds::secret::Secret;
use crds::trigger::Trigger;
use crds::{broker_defaults, ping_defaults};
use dispatcher::{
    Backoff, DEFAULT_PARALLELISM, DEFAULT_TIMEOUT, DeliveryPolicy, Format, Snapshot, Target,
};
use sources::{Overrides, SourceSpec};

use super::filter;
use super::sink::{resolve, sink};

/// Bytes a broker may keep when it does not say: a laptop's disk survives it, and at 1 KB an event it is a million of them.
const DEFAULT_BUDGET: u64 = 1 << 30;

/// Where a trigger without an address would send: nowhere. It is paused, so nothing is ever sent there.
const NOWHERE: &str = "http://unresolved.invalid/";

/// What should be in force.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Plan {
    /// For the dispatcher.
    pub snapshot: Snapshot,
    /// For the sources' runner.
    pub sources: Vec<SourceSpec>,
    /// `namespace/name` of the sources that receive web hooks.
    pub hooks: Vec<String>,
    /// What a person should know: it is in force, but waits for something.
    pub notes: Vec<String>,
}

impl Plan {
    /// Plans `objects`. `events` is the base URL of the events listener.
    ///
    /// # Errors
    /// When a checked resource still cannot be understood.
    pub fn make(objects: &[Object], events: &str) -> anyhow::Result<Self> {
        let mut planner = Planner { events, ..Planner::default() };
        for object in objects {
            let meta = object.metadata();
            planner.present.insert((object.kind(), &meta.namespace, &meta.name));
            match object {
                Object::Broker(broker) if broker.is_ours() => {
                    planner.brokers.insert((&meta.namespace, &meta.name), broker);
                }
                Object::Secret(secret) => {
                    planner.secrets.insert((&meta.namespace, &meta.name), secret);
                }
                _ => {}
            }
        }
        for object in objects {
            match object {
                Object::Broker(broker) => planner.broker(broker),
                Object::Trigger(trigger) => planner.trigger(trigger)?,
                Object::GitHubSource(source) => planner.github(source),
                Object::PingSource(source) => planner.ping(source),
                Object::ConfigMap(map) => planner.config_map(map),
                Object::Secret(_) | Object::Namespace(_) => {}
            }
        }
        Ok(planner.plan)
    }
}

#[derive(Default)]
struct Planner<'a> {
    events: &'a str,
    /// Kind, namespace and name of every object.
    present: BTreeSet<(&'a str, &'a str, &'a str)>,
    brokers: BTreeMap<(&'a str, &'a str), &'a Broker>,
    secrets: BTreeMap<(&'a str, &'a str), &'a Secret>,
    plan: Plan,
}

impl Planner<'_> {
    /// A configuration that lies elsewhere is no mistake, for it may be somebody else's; but it changes nothing.
    fn config_map(&mut self, map: &ConfigMap) {
        let ObjectMeta { namespace, name, .. } = &map.metadata;
        let configures = [broker_defaults::NAME, ping_defaults::NAME].contains(&name.as_str());
        if configures && namespace != broker_defaults::NAMESPACE {
            let there = broker_defaults::NAMESPACE;
            self.note(format!(
                "config map {namespace}/{name}: it has an effect in namespace {there} only"
            ));
        }
    }

    fn broker(&mut self, broker: &Broker) {
        let meta = &broker.metadata;
        if !broker.is_ours() {
            let class = broker.class();
            self.note(format!(
                "broker {}/{}: class {class} is not this mesh's: left alone",
                meta.namespace, meta.name
            ));
            return;
        }
        let budget = broker.storage_budget().unwrap_or(DEFAULT_BUDGET);
        self.plan.snapshot.brokers.push(dispatcher::Broker {
            topic: Topic::new(&meta.namespace, &meta.name),
            options: TopicOptions { budget },
        });
    }

    fn trigger(&mut self, trigger: &Trigger) -> anyhow::Result<()> {
        let meta = &trigger.metadata;
        let of = format!("trigger {}/{}", meta.namespace, meta.name);
        let options = trigger.options().unwrap_or_default();
        let broker = self.brokers.get(&(meta.namespace.as_str(), trigger.broker())).copied();
        if broker.is_none() {
            self.note(format!(
                "{of}: broker {} does not exist yet: the trigger waits for it",
                trigger.broker()
            ));
        }
        let subscriber = self.target(&of, "subscriber", &trigger.spec.subscriber, &meta.namespace);
        let waits = self.waits(&of, trigger);
        let inherited = broker.and_then(|broker| broker.spec.delivery.as_ref());
        let delivery =
            self.delivery(&of, trigger.spec.delivery.as_ref(), inherited, &meta.namespace);
        self.plan.snapshot.triggers.push(dispatcher::Trigger {
            namespace: meta.namespace.clone(),
            name: meta.name.clone(),
            broker: Topic::new(&meta.namespace, trigger.broker()),
            filter: filter(trigger)?,
            paused: options.paused || waits || subscriber.is_none(),
            subscriber: subscriber.unwrap_or_else(|| Target::new(http::Uri::from_static(NOWHERE))),
            delivery,
            order_by_key: options.order == annotation::Order::Key,
            parallelism: options.parallelism.unwrap_or(DEFAULT_PARALLELISM),
            rate: options.rate,
            start: start(options.start),
            max_age: options.max_age,
            max_backlog: options.max_backlog,
        });
        Ok(())
    }

    /// Whether what the trigger depends on does not exist. What exists here is ready.
    fn waits(&mut self, of: &str, trigger: &Trigger) -> bool {
        let Some((kind, name)) = trigger.dependency() else { return false };
        let namespace = trigger.metadata.namespace.as_str();
        let waits = !self.present.contains(&(kind.as_str(), namespace, name.as_str()));
        if waits {
            self.note(format!(
                "{of}: it depends on {kind} {name}, which does not exist: its events wait"
            ));
        }
        waits
    }

    /// Field by field: the trigger's, else the broker's, else the default.
    fn delivery(
        &mut self,
        of: &str,
        own: Option<&DeliverySpec>,
        inherited: Option<&DeliverySpec>,
        namespace: &str,
    ) -> DeliveryPolicy {
        let specs = [own, inherited];
        let mut specs = specs.into_iter().flatten();
        let defaults = DeliveryPolicy::default();
        let sink = specs.clone().find_map(|spec| spec.dead_letter_sink.as_ref());
        let dead_letter = sink.and_then(|sink| self.target(of, "deadLetterSink", sink, namespace));
        DeliveryPolicy {
            retry: specs.clone().find_map(DeliverySpec::retries).unwrap_or(defaults.retry),
            backoff: specs.clone().find_map(DeliverySpec::backoff_policy).map_or(
                defaults.backoff,
                |policy| match policy {
                    delivery::BackoffPolicy::Linear => Backoff::Linear,
                    delivery::BackoffPolicy::Exponential => Backoff::Exponential,
                },
            ),
            backoff_delay: specs
                .clone()
                .find_map(DeliverySpec::backoff_delay)
                .unwrap_or(defaults.backoff_delay),
            timeout: specs.clone().find_map(DeliverySpec::timeout).unwrap_or(DEFAULT_TIMEOUT),
            retry_after_max: specs.clone().find_map(DeliverySpec::retry_after_max),
            format: specs.find_map(DeliverySpec::format).map(|format| match format {
                delivery::Format::Json => Format::Json,
                delivery::Format::Binary => Format::Binary,
            }),
            dead_letter,
        }
    }

    fn target(
        &mut self,
        of: &str,
        field: &str,
        to: &Destination,
        namespace: &str,
    ) -> Option<Target> {
        match resolve(to, namespace, self.events) {
            Ok(url) => Some(Target { url, ca_certs: to.ca_certs.clone() }),
            Err(why) => {
                self.note(format!("{of}: {field}: {why}: its events wait"));
                None
            }
        }
    }

    fn github(&mut self, source: &GitHubSource) {
        let meta = &source.metadata;
        let of = format!("source {}/{}", meta.namespace, meta.name);
        let Some(secret) =
            source.spec.secret_token().and_then(|selector| self.secret(&meta.namespace, selector))
        else {
            let selector = source.spec.secret_token();
            let (name, key) = selector.map_or(("", ""), |s| (s.name.as_str(), s.key.as_str()));
            self.note(format!("{of}: secretToken: Secret {}/{name} with key {key} does not exist: the source waits for it", meta.namespace));
            return;
        };
        if source.register() {
            self.note(format!("{of}: make the web hook yourself: registering with GitHub is not built yet (annotation weft.dev/register: \"false\" says you know)"));
        }
        let config = sources::github::GitHubSource {
            owner_and_repository: source.spec.owner_and_repository.clone(),
            event_types: source.spec.event_types.clone(),
            secret_token: sources::Secret::new(secret),
        };
        self.plan.hooks.push(format!("{}/{}", meta.namespace, meta.name));
        self.source(meta, &source.spec.sink, source.spec.ce_overrides.as_ref(), config.into());
    }

    fn ping(&mut self, source: &PingSource) {
        let (meta, spec) = (&source.metadata, &source.spec);
        let given = |text: &String| Some(text.clone()).filter(|text| !text.is_empty());
        let config = sources::ping::PingSource {
            schedule: spec.schedule.clone(),
            timezone: given(&spec.timezone),
            content_type: given(&spec.content_type),
            data: given(&spec.data),
            data_base64: given(&spec.data_base64),
        };
        self.source(meta, &spec.sink, spec.ce_overrides.as_ref(), config.into());
    }

    fn source(
        &mut self,
        meta: &ObjectMeta,
        to: &Destination,
        overrides: Option<&CloudEventOverrides>,
        config: sources::Config,
    ) {
        let (namespace, name) = (meta.namespace.as_str(), meta.name.as_str());
        let resolved = sink(to, namespace, self.events);
        let extensions =
            overrides.map(|overrides| overrides.extensions.clone()).unwrap_or_default();
        match (resolved, Overrides::new(extensions)) {
            (Ok(sink), Ok(ce_overrides)) => self.plan.sources.push(SourceSpec {
                namespace: namespace.into(),
                name: name.into(),
                sink,
                ce_overrides,
                config,
            }),
            (Err(why), _) => {
                self.note(format!("source {namespace}/{name}: sink: {why}: the source waits"))
            }
            (_, Err(why)) => {
                self.note(format!("source {namespace}/{name}: {why}: the source waits"))
            }
        }
    }

    fn secret(&self, namespace: &str, selector: &SecretKeySelector) -> Option<String> {
        let secret = self.secrets.get(&(namespace, selector.name.as_str()))?;
        String::from_utf8(secret.value(&selector.key)?).ok()
    }

    fn note(&mut self, note: String) {
        self.plan.notes.push(note);
    }
}

fn start(start: annotation::Start) -> Start {
    match start {
        annotation::Start::Now => Start::Now,
        annotation::Start::Earliest => Start::Earliest,
        annotation::Start::Time(time) => Start::Time(time),
        annotation::Start::Offset(offset) => Start::Position(offset),
    }
}
