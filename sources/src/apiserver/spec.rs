//! What is wanted of an `ApiServerSource`: its fields, and what is refused with which words.

use crds::ce_overrides::CloudEventOverrides;
use crds::destination::Destination;
use crds::label_selector::LabelSelector;
use crds::meta::ObjectMeta;
use crds::object::Rules;
use crds::resource::{AGE, READY, REASON, Resource, Version};
use crds::source::{self, Fact, SINK, SourceSpec};
use crds::trigger::{SubscriptionsApiFilter, validate_filters};
use crds::{FieldError, FieldErrors, annotation, name};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Events that say which object it is about. Knative's default.
const REFERENCE: &str = "Reference";
/// Events with the object in them.
const RESOURCE: &str = "Resource";
/// The service account of a source that names none.
const ACCOUNT: &str = "default";

/// How many kinds one source may watch. Each is asked for at the start, and is at least one request that stays open.
const MAX_RESOURCES: usize = 64;

/// The field of the status with the namespaces that are watched.
pub(super) const NAMESPACES: &str = "namespaces";

/// What `weft.dev/start` may say.
pub(super) const EARLIEST: &str = "earliest";
const NOW: &str = "now";

/// An `ApiServerSource` makes an event of everything that happens to objects of the API: they are added, updated, deleted.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
#[schemars(extend("required" = ["resources", "sink"]))]
pub struct ApiServerSource {
    /// The kinds of objects that are watched.
    #[schemars(length(min = 1, max = MAX_RESOURCES))]
    pub resources: Vec<WatchedResource>,
    /// What is told of an object: `Reference` only says which it is, `Resource` has it whole. `Reference` if it is absent.
    #[serde(skip_serializing_if = "String::is_empty")]
    #[schemars(extend("enum" = [REFERENCE, RESOURCE]))]
    pub mode: String,
    /// Only objects that are controlled by an object of this kind are told of.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub owner: Option<OwnerKind>,
    /// The service account whose rights the source has in a cluster, in the source's namespace. `default` if it is absent.
    /// Of no effect where the mesh has the resources itself.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub service_account_name: String,
    /// The namespaces that are watched, by their labels; an empty selector means all. The source's own if it is absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub namespace_selector: Option<LabelSelector>,
    /// Which events are sent: those that every filter matches.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub filters: Vec<SubscriptionsApiFilter>,
    /// Where the events go; required.
    pub sink: Destination,
    /// What is changed in the events before they are sent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ce_overrides: Option<CloudEventOverrides>,
}

/// A kind of objects, and which of them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
#[schemars(extend("required" = ["apiVersion", "kind"]))]
pub struct WatchedResource {
    /// Group and version, as in `apps/v1`; `v1` for the core group.
    pub api_version: String,
    /// The kind, as in `Deployment`.
    pub kind: String,
    /// Only objects with these labels; all if it is absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub selector: Option<LabelSelector>,
}

/// A kind of owners.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
#[schemars(extend("required" = ["kind"]))]
pub struct OwnerKind {
    /// Group and version, as in `apps/v1`; any if it is absent.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub api_version: String,
    /// The kind, as in `ReplicaSet`.
    pub kind: String,
}

impl SourceSpec for ApiServerSource {
    const RESOURCE: Resource = Resource {
        kind: "ApiServerSource",
        plural: "apiserversources",
        singular: "apiserversource",
        versions: &[Version {
            name: "v1",
            deprecated: None,
            columns: &[SINK, AGE, READY, REASON],
            schema: source::schema::<Self>,
        }],
        annotations: &[(
            "registry.knative.dev/eventTypes",
            concat!(
                r#"[{"type":"dev.knative.apiserver.resource.add"},{"type":"dev.knative.apiserver.resource.update"},"#,
                r#"{"type":"dev.knative.apiserver.resource.delete"},{"type":"dev.knative.apiserver.ref.add"},"#,
                r#"{"type":"dev.knative.apiserver.ref.update"},{"type":"dev.knative.apiserver.ref.delete"}]"#,
            ),
        )],
        ..source::resource::<Self>()
    };
    const ANNOTATIONS: &'static [&'static str] = &[annotation::START];
    const FACTS: &'static [Fact] = &[Fact {
        name: NAMESPACES,
        kind: "array",
        description: "The namespaces that are watched; * stands for all.",
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

    fn defaults(&mut self, _: &ObjectMeta) {
        if self.mode.is_empty() {
            REFERENCE.clone_into(&mut self.mode);
        }
        if self.service_account_name.is_empty() {
            ACCOUNT.clone_into(&mut self.service_account_name);
        }
    }

    fn validate(&self, _: &ObjectMeta, rules: &Rules<'_>) -> FieldErrors {
        let mut errors = FieldErrors::new();
        if ![REFERENCE, RESOURCE].contains(&self.mode.as_str()) {
            errors.push(FieldError::invalid(&self.mode, "mode"));
        }
        if self.resources.is_empty() {
            errors.push(FieldError::missing("resources"));
        }
        if self.resources.len() > MAX_RESOURCES {
            let many = format!("{} are too many", self.resources.len());
            let error = FieldError::new(many, ["resources"]);
            errors.push(error.with_details(format!("at most {MAX_RESOURCES}")));
        }
        for (index, resource) in self.resources.iter().enumerate() {
            errors.also(resource.validate().via_index(index).via("resources"));
        }
        if let Some(owner) = &self.owner {
            errors.also(owner.validate().via("owner"));
        }
        // It becomes part of a user's name, in a header.
        if let Err(rule) = name::subdomain(&self.service_account_name) {
            let error = FieldError::invalid(&self.service_account_name, "serviceAccountName");
            errors.push(error.with_details(rule));
        }
        if let Some(selector) = &self.namespace_selector {
            errors.also(selector.validate().via("namespaceSelector"));
        }
        errors.also(validate_filters(&self.filters, rules.cesql).via("filters"));
        errors
    }

    fn validate_annotations(metadata: &ObjectMeta) -> FieldErrors {
        match metadata.annotation(annotation::START) {
            None | Some(EARLIEST | NOW) => FieldErrors::new(),
            Some(other) => FieldError::invalid(other, annotation::path(annotation::START))
                .with_details(format!("expected {EARLIEST} or {NOW}"))
                .into(),
        }
    }
}

impl ApiServerSource {
    /// Whether events have the object in them.
    pub(super) fn tells_all(&self) -> bool {
        self.mode == RESOURCE
    }
}

impl WatchedResource {
    fn validate(&self) -> FieldErrors {
        let mut errors = FieldErrors::new();
        if self.api_version.is_empty() {
            errors.push(FieldError::missing("apiVersion"));
        } else if !name::is_api_version(&self.api_version) {
            errors.push(FieldError::invalid(&self.api_version, "apiVersion"));
        }
        if self.kind.trim().is_empty() {
            errors.push(FieldError::missing("kind"));
        }
        if let Some(selector) = &self.selector {
            errors.also(selector.validate().via("selector"));
        }
        errors
    }
}

impl OwnerKind {
    fn validate(&self) -> FieldErrors {
        let mut errors = FieldErrors::new();
        if !self.api_version.is_empty() && !name::is_api_version(&self.api_version) {
            errors.push(FieldError::invalid(&self.api_version, "apiVersion"));
        }
        if self.kind.trim().is_empty() {
            errors.push(FieldError::missing("kind"));
        }
        errors
    }
}

#[cfg(test)]
mod tests;
