//! The `CustomResourceDefinition`: what Kubernetes is told about a kind.
//!
//! The definitions of the mesh's kinds are in [`crate::resource`]; this is the type as it is read from outside.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::meta::ObjectMeta;
use crate::{FieldError, FieldErrors};

/// Group and version.
pub const API_VERSION: &str = "apiextensions.k8s.io/v1";
/// The kind.
pub const KIND: &str = "CustomResourceDefinition";

/// A `CustomResourceDefinition` tells an API server about a kind.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
#[schemars(extend("required" = ["spec"]))]
pub struct CustomResourceDefinition {
    /// Always [`API_VERSION`].
    pub api_version: String,
    /// Always [`KIND`].
    pub kind: String,
    /// Name, labels, annotations.
    pub metadata: ObjectMeta,
    /// The kind: its names and versions.
    pub spec: CustomResourceDefinitionSpec,
    /// Whether it is served.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<Value>,
}

/// A kind: its names and versions.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
#[schemars(extend("required" = ["group", "names", "scope", "versions"]))]
pub struct CustomResourceDefinitionSpec {
    /// The API group.
    pub group: String,
    /// What the kind is called.
    pub names: CustomResourceDefinitionNames,
    /// `Namespaced` or `Cluster`.
    pub scope: String,
    /// The versions, each with its schema, columns and subresources.
    pub versions: Vec<Value>,
    /// How objects get from one version to another.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub conversion: Option<Value>,
    /// Whether fields that the schema has not are kept.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub preserve_unknown_fields: Option<bool>,
}

/// What a kind is called.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
#[schemars(extend("required" = ["kind", "plural"]))]
pub struct CustomResourceDefinitionNames {
    /// The kind, as in `Trigger`.
    pub kind: String,
    /// The kind of a list, as in `TriggerList`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub list_kind: String,
    /// As in `triggers`.
    pub plural: String,
    /// As in `trigger`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub singular: String,
    /// Short names, as in `crd`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub short_names: Vec<String>,
    /// Groups of kinds that it belongs to, as in `all`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub categories: Vec<String>,
}

impl CustomResourceDefinition {
    /// What is wrong with it: no more than what makes it one.
    #[must_use]
    pub fn validate(&self) -> FieldErrors {
        let mut errors = self.metadata.validate_unscoped();
        let (spec, names) = (&self.spec, &self.spec.names);
        for (text, path) in [
            (&spec.group, "spec.group"),
            (&names.plural, "spec.names.plural"),
            (&names.kind, "spec.names.kind"),
            (&spec.scope, "spec.scope"),
        ] {
            if text.is_empty() {
                errors.push(FieldError::missing(path));
            }
        }
        if spec.versions.is_empty() {
            errors.push(FieldError::missing("spec.versions"));
        }
        let name = &self.metadata.name;
        if !name.is_empty() && *name != format!("{}.{}", names.plural, spec.group) {
            let error = FieldError::invalid(format_args!("{name:?}"), "metadata.name");
            errors.push(error.with_details("must be spec.names.plural+\".\"+spec.group"));
        }
        errors
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resource::definition;
    use crate::source::tests::CATALOG;

    #[test]
    fn the_definitions_of_the_mesh_are_some_and_others_are_named_by_group() {
        for resource in CATALOG.iter().filter(|resource| resource.is_custom()) {
            let mut read: CustomResourceDefinition =
                serde_json::from_value(definition(resource)).unwrap();
            assert_eq!(read.validate().to_string(), "", "{}", resource.kind);
            "other".clone_into(&mut read.metadata.name);
            let refusal = "invalid value: \"other\": metadata.name\nmust be spec.names.plural+\".\"+spec.group";
            assert_eq!(read.validate().to_string(), refusal);
        }
        let empty = CustomResourceDefinition::default().validate().to_string();
        let missing = "missing field(s): metadata.name, spec.group, spec.names.kind, spec.names.plural, spec.scope, \
                       spec.versions";
        assert_eq!(empty, missing);
    }
}
