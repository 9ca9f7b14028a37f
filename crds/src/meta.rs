//! What every resource carries: its name, labels, annotations and what a server notes about it.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::name;
use crate::{FieldError, FieldErrors};

/// The namespace of an object whose manifest names none.
pub const DEFAULT_NAMESPACE: &str = "default";

/// Kubernetes' bound on the annotations of an object, names and values together.
const MAX_ANNOTATION_BYTES: usize = 256 * 1024;

/// What kind of thing an object is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct TypeMeta {
    /// Group and version, as in `eventing.knative.dev/v1`.
    pub api_version: String,
    /// The kind, as in `Trigger`.
    pub kind: String,
}

/// Kubernetes' object metadata. An empty string is an absent field.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct ObjectMeta {
    /// The name, unique for the kind within the namespace.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// A prefix from which a server makes the name.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub generate_name: String,
    /// The namespace.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub namespace: String,
    /// Labels, for selection.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// Annotations, for everything else.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
    /// Server-written: identity of this incarnation.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub uid: String,
    /// Server-written: version for optimistic concurrency.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub resource_version: String,
    /// Server-written: counts changes of the spec.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub generation: Option<i64>,
    /// Server-written: RFC 3339.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub creation_timestamp: Option<String>,
    /// Server-written: RFC 3339; set while the object is being deleted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub deletion_timestamp: Option<String>,
    /// Server-written: seconds that deletion may take.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub deletion_grace_period_seconds: Option<i64>,
    /// Who must agree before the object goes.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub finalizers: Vec<String>,
    /// The objects with which this one goes.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub owner_references: Vec<OwnerReference>,
    /// Server-written: who wrote which field. Kept as it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub managed_fields: Option<Value>,
    /// Server-written long ago; accepted and kept.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub self_link: Option<String>,
}

/// A reference to an owner.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct OwnerReference {
    /// Group and version of the owner.
    pub api_version: String,
    /// Kind of the owner.
    pub kind: String,
    /// Name of the owner.
    pub name: String,
    /// Identity of the owner.
    pub uid: String,
    /// Whether the owner manages this object.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub controller: Option<bool>,
    /// Whether the owner's deletion waits for this object.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub block_owner_deletion: Option<bool>,
}

impl ObjectMeta {
    /// Metadata of that name in that namespace.
    #[must_use]
    pub fn named(namespace: impl Into<String>, name: impl Into<String>) -> Self {
        Self { namespace: namespace.into(), name: name.into(), ..Self::default() }
    }

    /// Fills in the namespace.
    pub fn defaults(&mut self) {
        if self.namespace.is_empty() {
            DEFAULT_NAMESPACE.clone_into(&mut self.namespace);
        }
    }

    /// The value of an annotation.
    #[must_use]
    pub fn annotation(&self, key: &str) -> Option<&str> {
        self.annotations.get(key).map(String::as_str)
    }

    /// What is wrong with the metadata of a namespaced object.
    #[must_use]
    pub fn validate(&self) -> FieldErrors {
        let mut errors = self.validate_unscoped();
        if let Err(rule) = name::label(&self.namespace) {
            errors.push(
                FieldError::invalid(format_args!("{:?}", self.namespace), "metadata.namespace")
                    .with_details(rule),
            );
        }
        errors
    }

    /// What is wrong with the metadata, whatever the namespace is.
    #[must_use]
    pub fn validate_unscoped(&self) -> FieldErrors {
        let mut errors = FieldErrors::new();
        if self.name.is_empty() {
            if self.generate_name.is_empty() {
                errors.push(FieldError::missing("metadata.name"));
            }
        } else if let Err(rule) = name::subdomain(&self.name) {
            errors.push(
                FieldError::invalid(format_args!("{:?}", self.name), "metadata.name")
                    .with_details(rule),
            );
        }
        for (key, value) in &self.labels {
            let path = format!("metadata.labels[{key}]");
            if let Err(rule) = name::qualified(key) {
                errors.push(FieldError::invalid_key(key, path).with_details(rule));
            } else if let Err(rule) = name::label_value(value) {
                errors
                    .push(FieldError::invalid(format_args!("{value:?}"), path).with_details(rule));
            }
        }
        for key in self.annotations.keys() {
            if let Err(rule) = name::qualified(&key.to_lowercase()) {
                errors.push(
                    FieldError::invalid_key(key, format!("metadata.annotations[{key}]"))
                        .with_details(rule),
                );
            }
        }
        let bytes: usize =
            self.annotations.iter().map(|(key, value)| key.len() + value.len()).sum();
        if bytes > MAX_ANNOTATION_BYTES {
            let error =
                FieldError::new(format!("{bytes} bytes are too many"), ["metadata.annotations"]);
            errors.push(error.with_details(format!(
                "annotations may have {MAX_ANNOTATION_BYTES} bytes together"
            )));
        }
        errors
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_or_a_prefix_for_one_is_required() {
        let mut meta = ObjectMeta::named("default", "");
        assert_eq!(meta.validate().to_string(), "missing field(s): metadata.name");
        meta.generate_name = "x-".to_owned();
        assert!(meta.validate().is_empty());
    }

    #[test]
    fn a_malformed_name_is_refused_with_the_rule() {
        let message = ObjectMeta::named("Default", "My_Broker").validate().to_string();
        assert!(
            message.contains(
                "invalid value: \"My_Broker\": metadata.name\na lowercase RFC 1123 subdomain"
            ),
            "{message}"
        );
        assert!(
            message.contains(
                "invalid value: \"Default\": metadata.namespace\na lowercase RFC 1123 label"
            ),
            "{message}"
        );
    }

    #[test]
    fn malformed_labels_and_annotations_are_named() {
        let mut meta = ObjectMeta::named("default", "x");
        meta.labels.insert("app".to_owned(), "a b".to_owned());
        meta.annotations.insert("a b".to_owned(), String::new());
        let message = meta.validate().to_string();
        assert!(message.contains("metadata.labels[app]"), "{message}");
        assert!(message.contains("metadata.annotations[a b]"), "{message}");
    }

    #[test]
    fn what_a_server_wrote_survives_a_round_trip() {
        let text = r#"{"name":"x","namespace":"n","uid":"u","resourceVersion":"7","generation":2,
            "creationTimestamp":"2026-01-01T00:00:00Z","managedFields":[{"manager":"kubectl"}],
            "ownerReferences":[{"apiVersion":"v1","kind":"Pod","name":"p","uid":"q","controller":true}]}"#;
        let before: Value = serde_json::from_str(text).unwrap();
        let meta: ObjectMeta = serde_json::from_value(before.clone()).unwrap();
        assert_eq!(serde_json::to_value(meta).unwrap(), before);
    }
}
