//! The `SinkBinding`: which workloads are told where to send events.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::ce_overrides::CloudEventOverrides;
use crate::destination::Destination;
use crate::label_selector::LabelSelector;
use crate::meta::ObjectMeta;
use crate::object::Rules;
use crate::resource::{self, Resource, Version};
use crate::source::{self, AGE, Fact, READY, REASON, SINK, SourceObject, SourceSpec};
use crate::{FieldError, FieldErrors, name};

/// The kind.
pub const KIND: &str = "SinkBinding";

/// On a subject: the binding that it is bound by, as `namespace/name uid`.
pub const BOUND_BY: &str = "weft.dev/bound-by";

/// The field of the status with the kinds of which subjects may be bound, as `apps/v1/Deployment`.
pub const BOUND_KINDS: &str = "boundKinds";

/// The object that users write.
pub type SinkBinding = SourceObject<SinkBindingSpec>;

/// A `SinkBinding` tells the containers of workloads where to send events: in the variables `K_SINK`, `K_CE_OVERRIDES` and
/// `K_CA_CERTS` of their environment.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
#[schemars(extend("required" = ["subject", "sink"]))]
pub struct SinkBindingSpec {
    /// The workloads that are told; required.
    pub subject: Subject,
    /// Where the events go; required. The containers find its URL in the variable `K_SINK`.
    pub sink: Destination,
    /// What the containers change in their events before they send them. They find it in the variable `K_CE_OVERRIDES`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ce_overrides: Option<CloudEventOverrides>,
}

/// Workloads: one by its name, or several by their labels.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
#[schemars(extend("required" = ["apiVersion", "kind"]))]
pub struct Subject {
    /// Group and version, as in `apps/v1`.
    pub api_version: String,
    /// The kind, as in `Deployment`: one whose objects have the template of a pod.
    pub kind: String,
    /// The namespace, which is the binding's own.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub namespace: String,
    /// The name of the one.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// The labels of all. Instead of `name`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub selector: Option<LabelSelector>,
}

impl SourceSpec for SinkBindingSpec {
    const RESOURCE: Resource = Resource {
        kind: KIND,
        plural: "sinkbindings",
        singular: "sinkbinding",
        categories: &["all", "knative", "sources", "bindings"],
        versions: &[Version {
            name: "v1",
            deprecated: None,
            columns: &[SINK, AGE, READY, REASON],
            schema: source::schema::<Self>,
        }],
        labels: &[
            resource::PART,
            resource::SOURCE,
            resource::BINDING,
            resource::EVENTING_SOURCE,
            resource::INSTALL,
        ],
        ..source::resource::<Self>()
    };
    const FACTS: &'static [Fact] = &[Fact {
        name: BOUND_KINDS,
        kind: "array",
        description: "The kinds of which workloads may be bound, as apps/v1/Deployment.",
    }];

    fn sink(&self) -> &Destination {
        &self.sink
    }

    fn sink_mut(&mut self) -> &mut Destination {
        &mut self.sink
    }

    fn ce_overrides(&self) -> Option<&CloudEventOverrides> {
        self.ce_overrides.as_ref()
    }

    fn defaults(&mut self, metadata: &ObjectMeta) {
        if self.subject.namespace.is_empty() {
            metadata.namespace.clone_into(&mut self.subject.namespace);
        }
    }

    fn validate(&self, metadata: &ObjectMeta, _: &Rules<'_>) -> FieldErrors {
        self.subject.validate(&metadata.namespace).via("subject")
    }
}

impl Subject {
    /// What is wrong with it, of a binding in that namespace. Without findings its texts can become parts of paths.
    #[must_use]
    pub fn validate(&self, namespace: &str) -> FieldErrors {
        let mut errors = FieldErrors::new();
        if self.namespace != namespace {
            errors.push(FieldError::invalid(&self.namespace, "namespace"));
        }
        if self.api_version.is_empty() {
            errors.push(FieldError::missing("apiVersion"));
        } else if !name::is_api_version(&self.api_version) {
            errors.push(FieldError::invalid(&self.api_version, "apiVersion"));
        }
        if self.kind.is_empty() {
            errors.push(FieldError::missing("kind"));
        } else if !name::is_identifier(&self.kind) {
            errors.push(FieldError::invalid(&self.kind, "kind"));
        }
        match (&self.selector, self.name.is_empty()) {
            (Some(_), false) => errors.push(FieldError::multiple_one_of(["selector", "name"])),
            (Some(selector), true) => errors.also(selector.validate().via("selector")),
            (None, false) => {
                if let Err(rule) = name::subdomain(&self.name) {
                    errors.push(FieldError::invalid(&self.name, "name").with_details(rule));
                }
            }
            (None, true) => errors.push(FieldError::missing_one_of(["selector", "name"])),
        }
        errors
    }

    /// Whether an object of its kind and namespace is meant.
    #[must_use]
    pub fn means(&self, metadata: &ObjectMeta) -> bool {
        match &self.selector {
            Some(selector) => selector.matches(&metadata.labels),
            None => self.name == metadata.name,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::broker_defaults::BrokerDefaults;
    use crate::ping_defaults::PingDefaults;
    use crate::resource::Catalog;
    use serde_json::{Value, json};

    fn binding(subject: Value) -> SinkBinding {
        let mut binding = json!({"metadata": {"name": "b", "namespace": "ns"}, "spec": {
            "sink": {"ref": {"apiVersion": "eventing.knative.dev/v1", "kind": "Broker", "name": "default"}},
        }});
        binding["spec"]["subject"] = subject;
        let mut binding: SinkBinding = serde_json::from_value(binding).unwrap();
        binding.defaults();
        binding
    }

    fn refused(subject: Value) -> String {
        let defaults = BrokerDefaults::builtin();
        let rules = Rules {
            catalog: Catalog::BUILTIN,
            cesql: &|_| Ok(()),
            broker_defaults: &defaults,
            ping_defaults: PingDefaults::default(),
        };
        binding(subject).validate(&rules).to_string()
    }

    #[test]
    fn the_namespaces_of_subject_and_sink_are_the_bindings_own() {
        let subject = json!({"apiVersion": "apps/v1", "kind": "Deployment", "name": "shop"});
        let spec = binding(subject.clone()).spec;
        assert_eq!(spec.subject.namespace, "ns");
        assert_eq!(spec.sink.reference.unwrap().namespace, "ns");
        assert_eq!(refused(subject), "");
    }

    #[test]
    fn what_is_wrong_with_a_subject_is_said_in_knatives_words() {
        let with = |more: Value| {
            let mut subject = json!({"apiVersion": "apps/v1", "kind": "Deployment"});
            subject.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            subject
        };
        let cases = [
            (
                with(json!({})),
                "expected exactly one, got neither: spec.subject.name, spec.subject.selector",
            ),
            (
                with(json!({"name": "a", "selector": {}})),
                "expected exactly one, got both: spec.subject.name, spec.subject.selector",
            ),
            (
                with(json!({"name": "a", "namespace": "other"})),
                "invalid value: other: spec.subject.namespace",
            ),
            (json!({"name": "a"}), "missing field(s): spec.subject.apiVersion, spec.subject.kind"),
            (
                with(json!({"name": "a", "kind": "Deploy/ment"})),
                "invalid value: Deploy/ment: spec.subject.kind",
            ),
            (
                with(json!({"name": "a", "apiVersion": "a/b/c"})),
                "invalid value: a/b/c: spec.subject.apiVersion",
            ),
        ];
        for (subject, expected) in cases {
            assert_eq!(refused(subject), expected);
        }
        let name = refused(with(json!({"name": "../x"})));
        assert!(name.starts_with("invalid value: ../x: spec.subject.name\n"), "{name}");
        let selector = refused(with(json!({"selector": {"matchLabels": {"a b": "c"}}})));
        assert!(selector.contains("spec.subject.selector.matchLabels[a b]"), "{selector}");
    }

    #[test]
    fn a_subject_is_meant_by_its_name_or_its_labels() {
        let metadata = |name: &str, app: &str| {
            let mut metadata = ObjectMeta::named("ns", name);
            metadata.labels.insert("app".to_owned(), app.to_owned());
            metadata
        };
        let named = Subject { name: "a".to_owned(), ..Subject::default() };
        assert!(named.means(&metadata("a", "x")) && !named.means(&metadata("b", "x")));
        let selector = json!({"selector": {"matchLabels": {"app": "x"}}});
        let selected: Subject = serde_json::from_value(selector).unwrap();
        assert!(selected.means(&metadata("b", "x")) && !selected.means(&metadata("a", "y")));
    }
}
