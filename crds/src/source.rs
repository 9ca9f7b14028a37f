//! Sources: what the resources of all of them have in common. Each kind of source declares its spec beside its behaviour.
//!
//! A source is an object with a spec, a sink in it, and a status. What a kind adds is a [`SourceSpec`]; the object around it
//! is always [`SourceObject`].

use schemars::JsonSchema;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::fmt::Debug;

use crate::FieldErrors;
use crate::admission::{Handle, Kind};
use crate::annotation;
use crate::ce_overrides::CloudEventOverrides;
use crate::condition::Status;
use crate::destination::Destination;
use crate::meta::ObjectMeta;
use crate::object::Rules;
use crate::resource::{self, Column, InFiles, Resource};

pub use crate::resource::{AGE, READY, REASON};

/// The API group of all kinds of sources.
pub const GROUP: &str = "sources.knative.dev";

/// The column with the URL that events go to.
pub const SINK: Column = Column {
    name: "Sink",
    kind: "string",
    path: ".status.sinkUri",
    priority: 0,
    description: "Where its events go.",
};

/// What is wanted of a source of one kind. What its documentation comment says is what users are told of the kind.
pub trait SourceSpec:
    Clone
    + Debug
    + Default
    + PartialEq
    + Serialize
    + DeserializeOwned
    + JsonSchema
    + Send
    + Sync
    + 'static
{
    /// How an API server serves the kind; it starts from `..source::resource::<Self>()`.
    const RESOURCE: Resource;
    /// Which of Weft's annotations (`weft.dev/…`) mean something on it. Any other is refused.
    const ANNOTATIONS: &'static [&'static str] = &[];
    /// What its status has that other sources' have not.
    const FACTS: &'static [Fact] = &[];

    /// Where the events go: the field `sink`.
    fn sink(&self) -> &Destination;

    /// The same, to fill in.
    fn sink_mut(&mut self) -> &mut Destination;

    /// What is changed in the events before they are sent: the field `ceOverrides`.
    fn ce_overrides(&self) -> Option<&CloudEventOverrides>;

    /// Fills in what the user left out, beside the namespaces of the object and of its sink, which is done for all.
    fn defaults(&mut self, _metadata: &ObjectMeta) {}

    /// What is wrong, beside the sink, `ceOverrides` and the metadata, which are checked for all. Paths are relative to the
    /// spec.
    fn validate(&self, metadata: &ObjectMeta, rules: &Rules<'_>) -> FieldErrors;

    /// What is wrong with the values of the annotations of [`Self::ANNOTATIONS`]. Paths are those of [`annotation::path`].
    fn validate_annotations(_metadata: &ObjectMeta) -> FieldErrors {
        FieldErrors::new()
    }

    /// What cannot change from `old`. Paths are relative to the spec.
    fn validate_update(&self, _old: &Self) -> FieldErrors {
        FieldErrors::new()
    }
}

/// A field of a kind's status: what a source found out beside its conditions. In the status it stands among the
/// [`facts`](Status::facts).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fact {
    /// Its name in JSON.
    pub name: &'static str,
    /// `string`, `integer`, `boolean`, or `array`, which is one of strings.
    pub kind: &'static str,
    /// What it means, for `kubectl explain`; a sentence.
    pub description: &'static str,
}

/// A source: the object that users write.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(
    rename_all = "camelCase",
    default,
    bound(serialize = "S: SourceSpec", deserialize = "S: SourceSpec")
)]
pub struct SourceObject<S> {
    /// One of the versions of its [`SourceSpec::RESOURCE`], with the group.
    pub api_version: String,
    /// The kind of its [`SourceSpec::RESOURCE`].
    pub kind: String,
    /// Name, labels, annotations.
    pub metadata: ObjectMeta,
    /// What is wanted of the source.
    pub spec: S,
    /// What the controller says about it; this may be a moment behind.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<Status>,
}

impl<S: SourceSpec> SourceObject<S> {
    /// Fills in what the user left out.
    pub fn defaults(&mut self) {
        self.metadata.defaults();
        self.spec.defaults(&self.metadata);
        self.spec.sink_mut().defaults(&self.metadata.namespace);
    }

    /// What is wrong with it, once defaults are filled in.
    #[must_use]
    pub fn validate(&self, rules: &Rules<'_>) -> FieldErrors {
        let mut errors = self.metadata.validate();
        let mut spec = self.spec.validate(&self.metadata, rules);
        spec.also(self.spec.sink().validate(None).via("sink"));
        if let Some(overrides) = self.spec.ce_overrides() {
            spec.also(overrides.validate().via("ceOverrides"));
        }
        errors.also(spec.via("spec"));
        errors.also(S::validate_annotations(&self.metadata));
        errors.also(annotation::unknown(&self.metadata, S::RESOURCE.kind, S::ANNOTATIONS));
        errors
    }
}

impl<S: SourceSpec> Kind for SourceObject<S> {
    fn metadata(&self) -> &ObjectMeta {
        &self.metadata
    }

    fn defaults(&mut self, _: &Rules<'_>) {
        self.defaults();
    }

    fn validate(&self, rules: &Rules<'_>) -> FieldErrors {
        self.validate(rules)
    }

    fn validate_update(&self, old: &Self) -> FieldErrors {
        self.spec.validate_update(&old.spec).via("spec")
    }
}

/// What the resources of all kinds of sources have in common; the rest is empty, for [`SourceSpec::RESOURCE`] to say.
#[must_use]
pub const fn resource<S: SourceSpec>() -> Resource {
    Resource {
        group: GROUP,
        kind: "",
        plural: "",
        singular: "",
        short_names: &[],
        categories: &["all", "knative", "sources"],
        namespaced: true,
        versions: &[],
        status: true,
        writable: true,
        labels: &[resource::PART, resource::SOURCE, resource::EVENTING_SOURCE, resource::INSTALL],
        annotations: &[],
        in_files: InFiles::Configured,
        handle: Handle::of::<SourceObject<S>>(),
        scale: None,
    }
}

/// The structural schema of a kind of source, for [`Version::schema`](crate::resource::Version::schema). What is particular
/// to the kind is what `schemars` derives from the type of its spec.
#[must_use]
pub fn schema<S: SourceSpec>() -> Value {
    resource::schema::source::<S>()
}

/// What is the same in the schemas of all kinds of sources and sinks.
#[derive(JsonSchema)]
#[serde(rename_all = "camelCase")]
#[expect(dead_code, reason = "only described")]
pub(crate) struct Outline {
    /// One of the versions of the kind.
    api_version: String,
    /// The kind.
    kind: String,
    /// Name, labels, annotations.
    metadata: ObjectMeta,
    /// What is wanted of it.
    spec: (),
    /// What the controller says about it; this may be a moment behind.
    status: Option<Status>,
}

#[cfg(test)]
pub(crate) mod tests;
