//! What is known of the resources: one picture of everything that is watched.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crds::broker::Broker;
use crds::broker_defaults::BrokerDefaults;
use crds::condition::{Condition, READY, Status, Truth};
use crds::config_map::ConfigMap;
use crds::meta::ObjectMeta;
use crds::secret::Secret;
use crds::sink_binding::SinkBinding;
use crds::trigger::Trigger;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use sources::sinks;

use crate::kinds::{self, Keep, Watched};

/// Secrets of these types are not kept: no source refers to them, and on a busy cluster they are most of all bytes.
const UNWANTED_SECRETS: [&str; 2] = ["helm.sh/", "kubernetes.io/service-account-token"];
/// `kubectl apply` repeats the whole manifest here.
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";

/// Everything that is watched, as it was last seen. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct World {
    pub(crate) brokers: Table<Broker>,
    pub(crate) triggers: Table<Trigger>,
    pub(crate) bindings: Table<SinkBinding>,
    /// By kind.
    pub(crate) sources: BTreeMap<&'static str, Table<sources::Object>>,
    /// By kind.
    pub(crate) sinks: BTreeMap<&'static str, Table<sinks::Object>>,
    pub(crate) secrets: Table<Secret>,
    pub(crate) config_maps: Table<ConfigMap>,
    /// Whether all that `ConfigMaps` hold is kept, for programs that are run here. Other sources refer to certificates only.
    keeps_values: bool,
    /// By group and kind; what the server does not serve is not there.
    pub(crate) others: BTreeMap<(&'static str, &'static str), Table<Addressed>>,
    /// Those of sources.
    pub(crate) deployments: Table<Addressed>,
}

/// Why a value is not taken into the world.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// Its kind is not watched.
    #[error("kind {0:?} is not watched")]
    Kind(String),
    /// It has no name.
    #[error("an object without a name")]
    Nameless,
}

impl Refused {
    /// Never: the value stays what it is.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        false
    }
}

/// What identifies an object among those of its kind.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Name {
    pub(crate) namespace: String,
    pub(crate) name: String,
}

impl Name {
    pub(crate) fn new(namespace: impl Into<String>, name: impl Into<String>) -> Self {
        Self { namespace: namespace.into(), name: name.into() }
    }
}

/// An object, and how much of it is understood.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Held<T> {
    pub(crate) object: T,
    pub(crate) form: Form,
}

/// How much of an object is understood. What is not must not be taken for deleted: that would delete the events it keeps.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    /// All of it.
    Current,
    /// Its latest form is not, for this reason; what is held is the last one that was.
    Former(String),
    /// It never was, for this reason; what is held is what could be read.
    Torn(String),
}

impl<T> Held<T> {
    /// Why its latest form is not understood.
    pub(crate) fn unread(&self) -> Option<&str> {
        match &self.form {
            Form::Current => None,
            Form::Former(why) | Form::Torn(why) => Some(why),
        }
    }

    /// Whether there is nothing that could be in force.
    pub(crate) fn is_torn(&self) -> bool {
        matches!(self.form, Form::Torn(_))
    }
}

/// The objects of a kind.
#[derive(Clone, Debug)]
pub(crate) struct Table<T>(BTreeMap<Name, Arc<Held<T>>>);

impl<T> Default for Table<T> {
    fn default() -> Self {
        Self(BTreeMap::new())
    }
}

/// What a table can hold.
pub(crate) trait Kept: Default + Clone + PartialEq {
    /// Reads it, without its status.
    fn read(value: &Value) -> serde_json::Result<Self>;
    fn metadata(&self) -> &ObjectMeta;
    fn metadata_mut(&mut self) -> &mut ObjectMeta;
    /// Sets the status, which is read by itself: what stands there is no mistake of the user's.
    fn set_status(&mut self, status: Option<Value>);
    /// Fills in what admission fills in, where admission is not ours.
    fn complete(&mut self);
    /// The least of an object that cannot be understood.
    fn rescue(value: &Value) -> Self;
}

/// What changed about one kind.
#[derive(Debug)]
pub(crate) enum Change {
    /// An object is there, or is another.
    Put(Value),
    /// An object was written by us and is so now, unless it has gone meanwhile.
    Confirm(Value),
    /// An object is gone.
    Delete(Name),
    /// These are all there are.
    Replace(Vec<Value>),
}

impl World {
    /// A world in which nothing is. `keeps_values`: whether sources that run programs are given what `ConfigMaps` hold.
    pub(crate) fn new(keeps_values: bool) -> Self {
        Self { keeps_values, ..Self::default() }
    }

    /// Takes an object in, as JSON of any watched kind.
    ///
    /// # Errors
    /// When its kind is not watched or it has no name.
    pub fn put(&mut self, object: Value) -> Result<(), Refused> {
        let text = |field: &str| object.get(field).and_then(Value::as_str).unwrap_or_default();
        let group = text("apiVersion").split_once('/').map_or("", |(group, _)| group);
        let watched = kinds::find(group, text("kind"))
            .ok_or_else(|| Refused::Kind(text("kind").to_owned()))?;
        if object.pointer("/metadata/name").and_then(Value::as_str).is_none_or(str::is_empty) {
            return Err(Refused::Nameless);
        }
        self.change(watched, Change::Put(object));
        Ok(())
    }

    /// Every source, also those that are being deleted, by kind and name.
    pub(crate) fn sources(
        &self,
    ) -> impl Iterator<Item = (&'static sources::Kind, &Name, &Held<sources::Object>)> {
        sources::ALL.iter().flat_map(|kind| {
            let table = self.sources.get(kind.name);
            let every = table.into_iter().flat_map(|table| table.0.iter());
            every.map(move |(name, held)| (kind, name, held.as_ref()))
        })
    }

    /// Every sink, by kind and name.
    pub(crate) fn sinks(
        &self,
    ) -> impl Iterator<Item = (&'static sinks::Kind, &Name, &Held<sinks::Object>)> {
        sinks::ALL.iter().flat_map(|kind| {
            let table = self.sinks.get(kind.name);
            let alive = table.into_iter().flat_map(Table::alive);
            alive.map(move |(name, held)| (kind, name, held))
        })
    }

    /// Which kind of sink has the path of that name. It does not tell kinds apart, so of several the one that was there first
    /// has it: what is sent to a sink must not go elsewhere because another was made.
    pub(crate) fn sink_at(&self, name: &Name) -> Option<&'static sinks::Kind> {
        let named = sinks::ALL.iter().filter_map(|kind| {
            let held = self.sinks.get(kind.name)?.get(name)?;
            Some((held.object.metadata.creation_timestamp.as_deref(), kind))
        });
        named.min_by_key(|(created, _)| *created).map(|(_, kind)| kind)
    }

    /// Every binding, also those that are being deleted, by name.
    pub(crate) fn bindings(&self) -> impl Iterator<Item = (&Name, &Held<SinkBinding>)> {
        self.bindings.0.iter().map(|(name, held)| (name, held.as_ref()))
    }

    /// Applies a change; answers whether it made a difference.
    pub(crate) fn change(&mut self, watched: &'static Watched, change: Change) -> bool {
        match watched.keep {
            Keep::Broker => self.brokers.apply(change),
            Keep::Trigger => self.triggers.apply(change),
            Keep::Binding => self.bindings.apply(change),
            Keep::Source(kind) => self.sources.entry(kind.name).or_default().apply(change),
            Keep::Sink(kind) => self.sinks.entry(kind.name).or_default().apply(change),
            Keep::Secret => self.secrets.apply(wanted(change)),
            Keep::ConfigMap if self.keeps_values => self.config_maps.apply(change),
            Keep::ConfigMap => self.config_maps.apply(certificates(change)),
            Keep::Deployment => self.deployments.apply(change),
            Keep::Address => {
                let table = self.others.entry((watched.group, watched.kind)).or_default();
                table.apply(change)
            }
        }
    }

    /// The version of an object whose status is written, if it is there.
    pub(crate) fn metadata(&self, watched: &Watched, name: &Name) -> Option<&ObjectMeta> {
        match watched.keep {
            Keep::Broker => self.brokers.get(name).map(|held| &held.object.metadata),
            Keep::Trigger => self.triggers.get(name).map(|held| &held.object.metadata),
            Keep::Binding => self.bindings.any(name).map(|held| &held.object.metadata),
            Keep::Source(kind) => {
                self.sources.get(kind.name)?.any(name).map(|held| &held.object.metadata)
            }
            Keep::Sink(kind) => {
                self.sinks.get(kind.name)?.get(name).map(|held| &held.object.metadata)
            }
            Keep::Secret | Keep::ConfigMap | Keep::Address | Keep::Deployment => None,
        }
    }

    /// The status of an object whose status is written, as it was last seen.
    pub(crate) fn status(&self, watched: &Watched, name: &Name) -> Option<&Status> {
        match watched.keep {
            Keep::Broker => self.brokers.get(name)?.object.status.as_ref(),
            Keep::Trigger => self.triggers.get(name)?.object.status.as_ref(),
            Keep::Binding => self.bindings.any(name)?.object.status.as_ref(),
            Keep::Source(kind) => self.sources.get(kind.name)?.any(name)?.object.status.as_ref(),
            Keep::Sink(kind) => self.sinks.get(kind.name)?.get(name)?.object.status.as_ref(),
            Keep::Secret | Keep::ConfigMap | Keep::Address | Keep::Deployment => None,
        }
    }
}

fn wanted(change: Change) -> Change {
    let unwanted = |value: &Value| {
        let kind = value.get("type").and_then(Value::as_str).unwrap_or_default();
        UNWANTED_SECRETS.iter().any(|prefix| kind.starts_with(prefix))
    };
    match change {
        // The type of a Secret cannot change, so it is not there and stays so.
        Change::Put(value) if unwanted(&value) => Change::Delete(name_of(&value)),
        Change::Replace(values) => {
            Change::Replace(values.into_iter().filter(|value| !unwanted(value)).collect())
        }
        other => other,
    }
}

/// Leaves nothing of `ConfigMaps` but certificates: a cluster may have thousands of them.
fn certificates(mut change: Change) -> Change {
    let thin = |value: &mut Value| {
        if let Value::Object(map) = value {
            map.remove("binaryData");
        }
        if let Some(Value::Object(data)) = value.get_mut("data") {
            data.retain(|_, text| {
                text.as_str().is_some_and(|text| text.trim_start().starts_with("-----BEGIN "))
            });
        }
    };
    match &mut change {
        Change::Put(value) | Change::Confirm(value) => thin(value),
        Change::Replace(values) => values.iter_mut().for_each(thin),
        Change::Delete(_) => {}
    }
    change
}

impl<T: Kept> Table<T> {
    /// The object of that name, unless it is being deleted: then it counts as gone.
    pub(crate) fn get(&self, name: &Name) -> Option<&Held<T>> {
        self.0.get(name).map(Arc::as_ref).filter(|held| is_alive(held))
    }

    /// The object of that name, also while it is being deleted.
    pub(crate) fn any(&self, name: &Name) -> Option<&Held<T>> {
        self.0.get(name).map(Arc::as_ref)
    }

    /// Every object that is not being deleted, by name.
    pub(crate) fn alive(&self) -> impl Iterator<Item = (&Name, &Held<T>)> {
        self.0.iter().map(|(name, held)| (name, held.as_ref())).filter(|(_, held)| is_alive(held))
    }

    fn apply(&mut self, change: Change) -> bool {
        match change {
            Change::Put(value) => self.put(value, is_older),
            Change::Confirm(value) => {
                let uid =
                    value.pointer("/metadata/uid").and_then(Value::as_str).unwrap_or_default();
                let known = self.0.get(&name_of(&value));
                known.is_some_and(|held| held.object.metadata().uid == uid)
                    && self.put(value, is_older)
            }
            Change::Delete(name) => self.0.remove(&name).is_some(),
            Change::Replace(values) => {
                let names: BTreeSet<Name> = values.iter().map(name_of).collect();
                let before = self.0.len();
                self.0.retain(|name, _| names.contains(name));
                let mut changed = self.0.len() != before;
                // A list is believed even if its versions are older: a server may have been restored from a backup. One
                // that a write of ours has overtaken is corrected by the watch that begins where it ends.
                for value in values {
                    changed |= self.put(value, is_same);
                }
                changed
            }
        }
    }

    fn put(&mut self, mut value: Value, is_known: fn(&Value, &ObjectMeta) -> bool) -> bool {
        let name = name_of(&value);
        prune(&mut value);
        let known = self.0.get(&name).map(Arc::as_ref);
        if known.is_some_and(|known| is_known(&value, known.object.metadata())) {
            return false;
        }
        let held = read(value, known);
        if known == Some(&held) {
            return false;
        }
        self.0.insert(name, Arc::new(held));
        true
    }
}

pub(crate) fn is_alive<T: Kept>(held: &Held<T>) -> bool {
    held.object.metadata().deletion_timestamp.is_none()
}

fn name_of(value: &Value) -> Name {
    let text = |pointer| value.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
    Name::new(text("/metadata/namespace"), text("/metadata/name"))
}

/// Whether `value` is not newer than what is known of the same incarnation: an answer to a write of ours may overtake the
/// watch, and then the watch tells older news. Versions that are no numbers are taken as they come.
fn is_older(value: &Value, known: &ObjectMeta) -> bool {
    let text = |pointer| value.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
    let number = |text: &str| text.parse::<u64>().ok();
    let versions = (number(text("/metadata/resourceVersion")), number(&known.resource_version));
    let (Some(new), Some(old)) = versions else { return false };
    text("/metadata/uid") == known.uid && new <= old
}

/// Whether `value` is what is known, to the version.
fn is_same(value: &Value, known: &ObjectMeta) -> bool {
    let text = |pointer| value.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
    !known.resource_version.is_empty()
        && text("/metadata/resourceVersion") == known.resource_version
        && text("/metadata/uid") == known.uid
}

/// Takes away what nobody here reads, and absent fields that are spelt out as null.
fn prune(value: &mut Value) {
    if let Some(Value::Object(metadata)) = value.get_mut("metadata") {
        metadata.remove("managedFields");
        if let Some(Value::Object(annotations)) = metadata.get_mut("annotations") {
            annotations.remove(LAST_APPLIED);
        }
    }
    without_nulls(value, 0);
}

/// The API server refuses deeper JSON; the bound keeps the recursion harmless whoever sent it.
const MAX_DEPTH: usize = 128;

fn without_nulls(value: &mut Value, depth: usize) {
    if depth == MAX_DEPTH {
        return;
    }
    match value {
        Value::Object(map) => {
            map.retain(|_, value| !value.is_null());
            map.values_mut().for_each(|value| without_nulls(value, depth + 1));
        }
        Value::Array(items) => items.iter_mut().for_each(|item| without_nulls(item, depth + 1)),
        _ => {}
    }
}

fn read<T: Kept>(mut value: Value, known: Option<&Held<T>>) -> Held<T> {
    let status = value.as_object_mut().and_then(|map| map.remove("status"));
    let mut held = match T::read(&value) {
        Ok(object) => Held { object, form: Form::Current },
        Err(error) => unreadable(&value, known, error.to_string()),
    };
    held.object.set_status(status);
    // Of what could not be read, nobody knows what it leaves out.
    if !held.is_torn() {
        held.object.complete();
    }
    held
}

/// What is held of an object that is not understood: the last good form, else what can be rescued.
fn unreadable<T: Kept>(value: &Value, known: Option<&Held<T>>, why: String) -> Held<T> {
    let good = known.filter(|known| !known.is_torn());
    let mut held = match good {
        Some(good) => Held { object: good.object.clone(), form: Form::Former(why) },
        None => Held { object: T::rescue(value), form: Form::Torn(why) },
    };
    let metadata = value.get("metadata").and_then(|given| ObjectMeta::deserialize(given).ok());
    let named = || {
        let Name { namespace, name } = name_of(value);
        ObjectMeta::named(namespace, name)
    };
    *held.object.metadata_mut() = metadata.unwrap_or_else(named);
    held
}

/// An object of which only the address, the owners and the readiness count.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub(crate) struct Addressed {
    pub(crate) metadata: ObjectMeta,
    #[serde(skip)]
    pub(crate) status: Option<Status>,
}

/// The readiness that a foreign object reports. With a status about an older generation nothing is known, as in Knative.
pub(crate) fn reported(metadata: &ObjectMeta, status: Option<&Status>) -> Condition {
    let observed = status.and_then(|status| status.observed_generation);
    if let (Some(now), Some(observed)) = (metadata.generation, observed)
        && now != observed
    {
        let message = format!(
            "The dependency's metadata.generation, {now}, is not equal to its status.observedGeneration, {observed}."
        );
        return Condition::new(READY, Truth::Unknown).because("GenerationNotEqual", message);
    }
    let ready = status.and_then(|status| status.condition(READY)).cloned();
    ready.unwrap_or_else(|| {
        Condition::new(READY, Truth::Unknown)
            .because("DependencyNotConfigured", "Dependency has not yet been reconciled.")
    })
}

macro_rules! kept {
    ($($kind:ty: $read:expr, $status:expr, $complete:expr, $rescue:expr;)+) => {$(
        impl Kept for $kind {
            fn read(value: &Value) -> serde_json::Result<Self> {
                let read: fn(&Value) -> serde_json::Result<Self> = $read;
                read(value)
            }

            fn metadata(&self) -> &ObjectMeta {
                &self.metadata
            }

            fn metadata_mut(&mut self) -> &mut ObjectMeta {
                &mut self.metadata
            }

            fn set_status(&mut self, status: Option<Value>) {
                let set: fn(&mut Self, Option<Value>) = $status;
                set(self, status);
            }

            fn complete(&mut self) {
                let complete: fn(&mut Self) = $complete;
                complete(self);
            }

            fn rescue(value: &Value) -> Self {
                let rescue: fn(&Value) -> Self = $rescue;
                rescue(value)
            }
        }
    )+};
}

kept! {
    Broker: deserialized, |broker, value| broker.status = status(value), as_admitted, |_| Self::default();
    SinkBinding: sink_binding, |binding, value| binding.status = status(value), |_| {}, |_| Self::default();
    Trigger: deserialized, |trigger, value| trigger.status = status(value), Trigger::defaults, rescue_trigger;
    sources::Object: source, |source, value| source.status = status(value), |_| {}, |_| Self::default();
    sinks::Object: sink, |sink, value| sink.status = status(value), |_| {}, |_| Self::default();
    Secret: deserialized, |_, _| {}, Secret::defaults, |_| Self::default();
    ConfigMap: deserialized, |_, _| {}, |_| {}, |_| Self::default();
    Addressed: deserialized, |object, value| object.status = status(value), |_| {}, |_| Self::default();
}

fn deserialized<T: DeserializeOwned>(value: &Value) -> serde_json::Result<T> {
    T::deserialize(value)
}

/// A source of the kind that it says it is. What was watched says so.
fn source(value: &Value) -> serde_json::Result<sources::Object> {
    let name = value.get("kind").and_then(Value::as_str).unwrap_or_default();
    let kind = sources::ALL.iter().find(|kind| kind.name == name);
    let unknown = || serde::de::Error::custom(format_args!("{name:?} is no kind of source"));
    kind.ok_or_else(unknown).and_then(|kind| (kind.read)(value))
}

/// The same for sinks.
fn sink(value: &Value) -> serde_json::Result<sinks::Object> {
    let name = value.get("kind").and_then(Value::as_str).unwrap_or_default();
    let kind = sinks::ALL.iter().find(|kind| kind.name == name);
    let unknown = || serde::de::Error::custom(format_args!("{name:?} is no kind of sink"));
    kind.ok_or_else(unknown).and_then(|kind| (kind.read)(value))
}

/// A binding whose subject can be asked for: a cluster may have no admission of ours.
fn sink_binding(value: &Value) -> serde_json::Result<SinkBinding> {
    let mut binding = SinkBinding::deserialize(value)?;
    binding.defaults();
    let wrong = binding.spec.subject.validate(&binding.metadata.namespace).via("spec.subject");
    wrong.into_result().map(|()| binding).map_err(serde::de::Error::custom)
}

/// A cluster may have no admission of ours: a Broker that names no class is ours then, as it would be with it.
fn as_admitted(broker: &mut Broker) {
    if broker.class().is_empty() {
        broker.defaults(&BrokerDefaults::builtin());
    }
}

/// A status that cannot be read counts as none: whoever owns it writes it anew.
fn status(value: Option<Value>) -> Option<Status> {
    serde_json::from_value(value?).ok()
}

/// The Broker's name is enough to go on keeping events for the Trigger.
fn rescue_trigger(value: &Value) -> Trigger {
    let mut trigger = Trigger::default();
    let text = |pointer| value.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
    let broker = text("/spec/broker");
    let broker = if broker.is_empty() { text("/spec/brokerRef/name") } else { broker };
    broker.clone_into(&mut trigger.spec.broker);
    trigger
}

#[cfg(test)]
mod tests;
