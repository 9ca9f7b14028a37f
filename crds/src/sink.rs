//! Sinks: what the resources of all of them have in common. Each kind of sink declares its spec beside its behaviour.
//!
//! A sink is an object with a spec, and a status with an address: what is posted there is written into another system. What
//! a kind adds is a [`SinkSpec`]; the object around it is always [`SinkObject`].

use schemars::JsonSchema;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::fmt::Debug;

use crate::FieldErrors;
use crate::admission::{Handle, Kind};
use crate::annotation;
use crate::condition::Status;
use crate::meta::ObjectMeta;
use crate::object::Rules;
use crate::resource::{self, InFiles, Resource};

pub use crate::resource::{AGE, READY, REASON, URL};

/// The API group of those kinds of sinks that Knative has not put elsewhere.
pub const GROUP: &str = "sinks.knative.dev";

/// What is wanted of a sink of one kind. What its documentation comment says is what users are told of the kind.
pub trait SinkSpec:
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
    /// How an API server serves the kind; it starts from `..sink::resource::<Self>()`.
    const RESOURCE: Resource;
    /// Which of Weft's annotations (`weft.dev/…`) mean something on it. Any other is refused.
    const ANNOTATIONS: &'static [&'static str] = &[];

    /// Fills in what the user left out, beside the namespace of the object, which is done for all.
    fn defaults(&mut self, _metadata: &ObjectMeta) {}

    /// What is wrong, beside the metadata, which is checked for all. Paths are relative to the spec.
    fn validate(&self, metadata: &ObjectMeta, rules: &Rules<'_>) -> FieldErrors;

    /// What cannot change from `old`. Paths are relative to the spec.
    fn validate_update(&self, _old: &Self) -> FieldErrors {
        FieldErrors::new()
    }
}

/// A sink: the object that users write.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(
    rename_all = "camelCase",
    default,
    bound(serialize = "S: SinkSpec", deserialize = "S: SinkSpec")
)]
pub struct SinkObject<S> {
    /// One of the versions of its [`SinkSpec::RESOURCE`], with the group.
    pub api_version: String,
    /// The kind of its [`SinkSpec::RESOURCE`].
    pub kind: String,
    /// Name, labels, annotations.
    pub metadata: ObjectMeta,
    /// What is wanted of the sink.
    pub spec: S,
    /// What the controller says about it; this may be a moment behind.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<Status>,
}

impl<S: SinkSpec> SinkObject<S> {
    /// Fills in what the user left out.
    pub fn defaults(&mut self) {
        self.metadata.defaults();
        self.spec.defaults(&self.metadata);
    }

    /// What is wrong with it, once defaults are filled in.
    #[must_use]
    pub fn validate(&self, rules: &Rules<'_>) -> FieldErrors {
        let mut errors = self.metadata.validate();
        errors.also(self.spec.validate(&self.metadata, rules).via("spec"));
        errors.also(annotation::unknown(&self.metadata, S::RESOURCE.kind, S::ANNOTATIONS));
        errors
    }
}

impl<S: SinkSpec> Kind for SinkObject<S> {
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

/// What the resources of all kinds of sinks have in common; the rest is empty, for [`SinkSpec::RESOURCE`] to say.
#[must_use]
pub const fn resource<S: SinkSpec>() -> Resource {
    Resource {
        group: GROUP,
        kind: "",
        plural: "",
        singular: "",
        short_names: &[],
        categories: &["all", "knative", "eventing", "sink"],
        namespaced: true,
        versions: &[],
        status: true,
        writable: true,
        labels: &[resource::PART, resource::ADDRESSABLE, resource::INSTALL],
        annotations: &[],
        in_files: InFiles::Configured,
        handle: Handle::of::<SinkObject<S>>(),
        scale: None,
    }
}

/// The structural schema of a kind of sink, for [`Version::schema`](crate::resource::Version::schema). What is particular to
/// the kind is what `schemars` derives from the type of its spec.
#[must_use]
pub fn schema<S: SinkSpec>() -> Value {
    resource::schema::sink::<S>()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::FieldError;
    use crate::broker_defaults::BrokerDefaults;
    use crate::ping_defaults::PingDefaults;
    use crate::resource::Catalog;

    #[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
    #[serde(default)]
    #[schemars(extend("required" = ["place"]))]
    struct Drain {
        /// Where it goes.
        place: String,
    }

    impl SinkSpec for Drain {
        const RESOURCE: Resource = Resource { kind: "Drain", ..resource::<Self>() };

        fn validate(&self, _: &ObjectMeta, _: &Rules<'_>) -> FieldErrors {
            if self.place.is_empty() {
                return FieldError::missing("place").into();
            }
            FieldErrors::new()
        }

        fn validate_update(&self, old: &Self) -> FieldErrors {
            if self.place == old.place {
                return FieldErrors::new();
            }
            FieldError::new("Immutable field updated", ["place"]).into()
        }
    }

    fn drain(text: &str) -> SinkObject<Drain> {
        let mut object: SinkObject<Drain> = serde_json::from_str(text).unwrap();
        object.defaults();
        object
    }

    #[test]
    fn findings_are_under_the_spec_and_foreign_annotations_are_refused() {
        let defaults = BrokerDefaults::builtin();
        let rules = Rules {
            catalog: Catalog::BUILTIN,
            cesql: &|_| Ok(()),
            broker_defaults: &defaults,
            ping_defaults: PingDefaults::default(),
        };
        let good = drain(r#"{"metadata":{"name":"d"},"spec":{"place":"here"}}"#);
        assert_eq!(good.metadata.namespace, "default");
        assert_eq!(good.validate(&rules).to_string(), "");
        let bad = drain(r#"{"metadata":{"name":"d","annotations":{"weft.dev/rate":"1"}}}"#);
        let refused = bad.validate(&rules).to_string();
        assert!(refused.contains("missing field(s): spec.place"), "{refused}");
        assert!(refused.contains("weft.dev/rate"), "{refused}");
        let moved = drain(r#"{"metadata":{"name":"d"},"spec":{"place":"there"}}"#);
        let refused = Kind::validate_update(&moved, &good).to_string();
        assert_eq!(refused, "Immutable field updated: spec.place");
    }

    #[test]
    fn the_schema_has_the_spec_and_an_address() {
        let schema = schema::<Drain>();
        assert_eq!(schema["required"], serde_json::json!(["spec"]));
        assert_eq!(schema["properties"]["spec"]["required"], serde_json::json!(["place"]));
        assert!(schema["properties"]["status"]["properties"].get("address").is_some());
        assert!(schema["properties"]["status"]["properties"].get("sinkUri").is_none());
    }
}
