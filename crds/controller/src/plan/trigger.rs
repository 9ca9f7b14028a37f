//! What becomes of a Trigger.

use broker::store::{Start, Topic};
use crds::annotation;
use crds::broker::{self as broker_kind, Broker};
use crds::condition;
use crds::condition::reason;
use crds::condition::{Condition, READY, Status, Truth};
use crds::delivery::{self, DeliverySpec};
use crds::destination::Destination;
use crds::object::Key;
use crds::sink_binding;
use crds::trigger::{self, Trigger};
use dispatcher::filter::Filter;
use dispatcher::{Backoff, DEFAULT_PARALLELISM, DEFAULT_TIMEOUT, DeliveryPolicy, Format, Target};
use http::Uri;
use serde_json::Value;

use super::{Planner, dead_letter_sink, key};
use crate::address::Resolved;
use crate::conditions::Conditions;
use crate::filter::filter;
use crate::kinds::{self, Keep, Watched};
use crate::world::{Held, Name, reported};

/// Where a trigger without an address would send: nowhere. It is paused, so nothing is ever sent there.
const NOWHERE: &str = "http://unresolved.invalid/";

/// What a Trigger refers to, as it was found.
struct Found<'a> {
    broker: Option<&'a Held<Broker>>,
    subscriber: Result<Resolved, String>,
    dead_letter: Option<Result<Resolved, String>>,
    dependency: Condition,
    /// Or why there is none that could decide.
    filter: Result<Filter, String>,
}

impl<'a> Planner<'a> {
    pub(super) fn trigger(&mut self, name: &Name, held: &Held<Trigger>) {
        let trigger = &held.object;
        let named = Name::new(name.namespace.as_str(), trigger.broker());
        let broker = self.world.brokers.get(&named);
        if broker.is_some_and(|broker| !broker.object.is_ours()) {
            // Whoever serves the Broker serves its Triggers, and writes their statuses.
            return;
        }
        let found = self.find(broker, trigger, &name.namespace);
        self.notes_on(name, trigger, &found);
        self.report(held, &found);
        let blocked = held.is_torn()
            || found.filter.is_err()
            || found.subscriber.is_err()
            || found.dependency.status != Truth::True;
        let planned = in_force(name, trigger, found, blocked);
        self.plan.snapshot.triggers.push(planned);
    }

    fn find(
        &self,
        broker: Option<&'a Held<Broker>>,
        trigger: &Trigger,
        namespace: &str,
    ) -> Found<'a> {
        let sink = specs(trigger, broker).find_map(|spec| spec.dead_letter_sink.as_ref());
        let resolve = |to: &Destination| self.resolve(to, namespace);
        Found {
            broker,
            subscriber: resolve(&trigger.spec.subscriber),
            dead_letter: sink.map(resolve),
            dependency: self.dependency(trigger, namespace),
            filter: filter(trigger),
        }
    }

    /// The readiness of what the Trigger waits for, in Knative's words.
    fn dependency(&self, trigger: &Trigger, namespace: &str) -> Condition {
        let known = |status, reason: &str, message: String| {
            Condition::new(READY, status).because(reason, message)
        };
        let Some(text) = trigger.metadata.annotation(trigger::DEPENDENCY) else {
            return Condition::new(READY, Truth::True);
        };
        let Some((group, kind, object)) = reference(text) else {
            let message = format!(
                "Unable to unmarshal objectReference from dependency annotation of trigger: {text:?}"
            );
            return known(Truth::False, reason::REFERENCE_ERROR, message);
        };
        let name = Name::new(namespace, object);
        // Nobody can wait for a kind of which only some are watched.
        let watched = kinds::find(&group, &kind).filter(|watched| watched.label().is_none());
        let Some(watched) = watched else {
            let message = format!(
                "Failed to retrieve lister: objects of kind {kind:?} in {group:?} are not watched"
            );
            return known(Truth::Unknown, "ListerDoesNotExist", message);
        };
        self.readiness(watched, &name).unwrap_or_else(|| {
            let message = format!("Dependency does not exist: {kind} {:?} not found", name.name);
            known(Truth::False, reason::DEPENDENCY_DOES_NOT_EXIST, message)
        })
    }

    /// The readiness of an object; nothing if it does not exist. What reports none is ready by being there.
    fn readiness(&self, watched: &Watched, name: &Name) -> Option<Condition> {
        let is_there = || Condition::new(READY, Truth::True);
        match watched.keep {
            Keep::Broker => self.of_planned(watched, broker_kind::KIND, name),
            Keep::Source(kind) => self.of_planned(watched, kind.name, name),
            Keep::Sink(kind) => self.of_planned(watched, kind.name, name),
            Keep::Binding => self.of_planned(watched, sink_binding::KIND, name),
            Keep::Trigger => {
                // It may not be planned yet, so what was said about it last counts.
                let object = &self.world.triggers.get(name)?.object;
                Some(reported(&object.metadata, object.status.as_ref()))
            }
            Keep::Deployment => None,
            Keep::Secret => self.world.secrets.get(name).map(|_| is_there()),
            Keep::ConfigMap => self.world.config_maps.get(name).map(|_| is_there()),
            Keep::Address => {
                let table = self.world.others.get(&(watched.group, watched.kind))?;
                let object = &table.get(name)?.object;
                let core = watched.group.is_empty();
                Some(if core {
                    is_there()
                } else {
                    reported(&object.metadata, object.status.as_ref())
                })
            }
        }
    }

    /// What this very plan says about an object, else (a Broker of another class) what it says itself.
    fn of_planned(&self, watched: &Watched, kind: &'static str, name: &Name) -> Option<Condition> {
        let metadata = self.world.metadata(watched, name)?;
        let planned = self.planned(&key(kind, metadata)).cloned();
        Some(planned.unwrap_or_else(|| reported(metadata, self.world.status(watched, name))))
    }

    fn notes_on(&mut self, name: &Name, trigger: &Trigger, found: &Found<'_>) {
        let of = format!("trigger {}/{}", name.namespace, name.name);
        if found.broker.is_none() {
            let broker = trigger.broker();
            self.note(format!(
                "{of}: broker {broker} does not exist yet: the trigger waits for it"
            ));
        }
        if let Err(why) = &found.subscriber {
            self.note(format!("{of}: subscriber: {why}: its events wait"));
        }
        if found.dependency.status != Truth::True {
            let why = &found.dependency.message;
            self.note(format!("{of}: what it depends on is not ready: {why}: its events wait"));
        }
        if let Err(why) = &found.filter {
            self.note(format!("{of}: {why}: its events wait"));
        }
        if let Some(Err(why)) = &found.dead_letter {
            self.note(format!("{of}: deadLetterSink: {why}: what is not delivered is parked"));
        }
    }

    fn report(&mut self, held: &Held<Trigger>, found: &Found<'_>) {
        let trigger = &held.object;
        let key = key(trigger::KIND, &trigger.metadata);
        let mut conditions = Conditions::default();
        self.broker_ready(&mut conditions, trigger, found);
        conditions.like(condition::DEPENDENCY_READY, &found.dependency);
        match &found.subscriber {
            Ok(_) => conditions.holds(condition::SUBSCRIBER_RESOLVED),
            Err(why) => {
                let reason = reason::NO_SUBSCRIBER_URI;
                conditions.because(condition::SUBSCRIBER_RESOLVED, Truth::False, reason, why);
            }
        }
        dead_letter_sink(&mut conditions, found.dead_letter.as_ref());
        self.subscription_ready(&mut conditions, &key, held, found);
        let off = reason::OIDC_FEATURE_DISABLED;
        conditions.because(condition::OIDC_IDENTITY_CREATED, Truth::True, off, "");
        let shown = |resolved: &Result<Resolved, String>| {
            resolved.as_ref().ok().map(|resolved| resolved.shown.clone())
        };
        let status = Status {
            subscriber_uri: shown(&found.subscriber),
            dead_letter_sink_uri: found.dead_letter.as_ref().and_then(shown),
            ..Status::default()
        };
        self.say(key, &trigger.metadata, conditions, status);
    }

    fn broker_ready(&self, conditions: &mut Conditions, trigger: &Trigger, found: &Found<'_>) {
        let broker = found.broker.map(|broker| key(broker_kind::KIND, &broker.object.metadata));
        match broker.and_then(|broker| self.planned(&broker)) {
            Some(ready) if ready.status == Truth::True => conditions.holds(condition::BROKER_READY),
            Some(ready) => conditions.like(condition::BROKER_READY, ready),
            None => {
                let message = format!("Broker {:?} does not exist", trigger.broker());
                conditions.because(
                    condition::BROKER_READY,
                    Truth::False,
                    reason::BROKER_DOES_NOT_EXIST,
                    &message,
                );
            }
        }
    }

    /// Whether its events are kept and, if nothing else is said, delivered.
    fn subscription_ready(
        &self,
        conditions: &mut Conditions,
        key: &Key,
        held: &Held<Trigger>,
        found: &Found<'_>,
    ) {
        let options = held.object.options().map_err(|errors| errors.to_string());
        let (truth, reason, why) = if let Some(problem) = self.in_force.problems.get(key) {
            (Truth::False, "NotInForce", problem.as_str())
        } else if let Some(why) = held.unread() {
            (Truth::False, "InvalidSpec", why)
        } else if let Err(why) = &found.filter {
            (Truth::False, "InvalidFilter", why.as_str())
        } else if let Err(why) = &options {
            (Truth::False, "InvalidAnnotation", why.as_str())
        } else if found.broker.is_none() {
            let why = "Subscription has not yet been reconciled.";
            (Truth::Unknown, reason::SUBSCRIPTION_NOT_CONFIGURED, why)
        } else if options.is_ok_and(|options| options.paused) {
            let why = "its events are kept and none is delivered, as weft.dev/paused asks";
            (Truth::True, "Paused", why)
        } else {
            (Truth::True, "", "")
        };
        conditions.because(condition::SUBSCRIPTION_READY, truth, reason, why);
    }
}

/// Group, kind and name of the object that the annotation names.
fn reference(text: &str) -> Option<(String, String, String)> {
    let reference: Value = serde_json::from_str(text).ok()?;
    let field = |name: &str| reference.get(name)?.as_str().map(str::to_owned);
    let version = field("apiVersion").unwrap_or_default();
    let group = version.split_once('/').map_or("", |(group, _)| group).to_owned();
    Some((group, field("kind")?, field("name")?))
}

/// The delivery options that count, the Trigger's first.
fn specs<'a>(
    trigger: &'a Trigger,
    broker: Option<&'a Held<Broker>>,
) -> impl Iterator<Item = &'a DeliverySpec> + Clone {
    let own = trigger.spec.delivery.as_ref();
    let inherited = broker.and_then(|broker| broker.object.spec.delivery.as_ref());
    [own, inherited].into_iter().flatten()
}

fn in_force(
    name: &Name,
    trigger: &Trigger,
    found: Found<'_>,
    blocked: bool,
) -> dispatcher::Trigger {
    let options = trigger.options().unwrap_or_default();
    let delivery = policy(trigger, &found);
    let nowhere = || Target::new(Uri::from_static(NOWHERE));
    dispatcher::Trigger {
        namespace: name.namespace.clone(),
        name: name.name.clone(),
        broker: Topic::new(&name.namespace, trigger.broker()),
        paused: options.paused || blocked,
        subscriber: found.subscriber.map_or_else(|_| nowhere(), |to| to.target),
        // Everything waits until there is a filter that can decide.
        filter: found.filter.unwrap_or_else(|_| Filter::All(Vec::new())),
        delivery,
        order_by_key: options.order == annotation::Order::Key,
        parallelism: options.parallelism.unwrap_or(DEFAULT_PARALLELISM),
        rate: options.rate,
        start: start(options.start),
        max_age: options.max_age,
        max_backlog: options.max_backlog,
    }
}

/// Field by field: the Trigger's, else the Broker's, else the default.
fn policy(trigger: &Trigger, found: &Found<'_>) -> DeliveryPolicy {
    let specs = specs(trigger, found.broker);
    let defaults = DeliveryPolicy::default();
    let backoff = |policy| match policy {
        delivery::BackoffPolicy::Linear => Backoff::Linear,
        delivery::BackoffPolicy::Exponential => Backoff::Exponential,
    };
    let format = |format| match format {
        delivery::Format::Json => Format::Json,
        delivery::Format::Binary => Format::Binary,
    };
    let dead_letter = found.dead_letter.as_ref().and_then(|resolved| resolved.as_ref().ok());
    let policy = specs.clone().find_map(DeliverySpec::backoff_policy);
    let delay = specs.clone().find_map(DeliverySpec::backoff_delay);
    DeliveryPolicy {
        retry: specs.clone().find_map(DeliverySpec::retries).unwrap_or(defaults.retry),
        backoff: policy.map_or(defaults.backoff, backoff),
        backoff_delay: delay.unwrap_or(defaults.backoff_delay),
        timeout: specs.clone().find_map(DeliverySpec::timeout).unwrap_or(DEFAULT_TIMEOUT),
        retry_after_max: specs.clone().find_map(DeliverySpec::retry_after_max),
        format: specs.clone().find_map(DeliverySpec::format).map(format),
        dead_letter: dead_letter.map(|resolved| resolved.target.clone()),
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
