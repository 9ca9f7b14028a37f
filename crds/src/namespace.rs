//! The Namespace: what names are unique within.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::annotation;
use crate::condition::Condition;
use crate::meta::ObjectMeta;
use crate::{FieldError, FieldErrors, name};

/// Group and version.
pub const API_VERSION: &str = "v1";
/// The kind.
pub const KIND: &str = "Namespace";

/// A Namespace keeps the names of objects apart.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Namespace {
    /// Always [`API_VERSION`].
    pub api_version: String,
    /// Always [`KIND`].
    pub kind: String,
    /// Name, labels, annotations.
    pub metadata: ObjectMeta,
    /// What a server notes about it.
    pub spec: NamespaceSpec,
    /// Whether it is in use; written by the server.
    #[schemars(with = "Option<NamespaceStatus>")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<Value>,
}

/// What a server notes about a Namespace.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct NamespaceSpec {
    /// Who must agree before the namespace goes.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub finalizers: Vec<String>,
}

/// Whether a Namespace is in use.
#[derive(JsonSchema)]
#[expect(dead_code, reason = "only described: a status is kept as it is")]
struct NamespaceStatus {
    /// `Active`, or `Terminating` while what is in it is being deleted.
    phase: String,
    /// What keeps it from going.
    conditions: Vec<Condition>,
}

impl Namespace {
    /// What is wrong with it.
    #[must_use]
    pub fn validate(&self) -> FieldErrors {
        let mut errors = self.metadata.validate_unscoped();
        let named = &self.metadata.name;
        if !named.is_empty()
            && name::subdomain(named).is_ok()
            && let Err(rule) = name::label(named)
        {
            errors.push(
                FieldError::invalid(format_args!("{named:?}"), "metadata.name").with_details(rule),
            );
        }
        if !self.metadata.namespace.is_empty() {
            errors.push(
                FieldError::disallowed("metadata.namespace")
                    .with_details("a Namespace is in no namespace"),
            );
        }
        errors.also(annotation::unknown(&self.metadata, KIND, &[]));
        errors
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_namespace_is_a_label_and_in_no_namespace() {
        let named = |namespace, name| Namespace {
            metadata: ObjectMeta::named(namespace, name),
            ..Namespace::default()
        };
        assert!(named("", "team-a").validate().is_empty());
        assert!(
            named("", "a.b")
                .validate()
                .to_string()
                .starts_with("invalid value: \"a.b\": metadata.name\n")
        );
        assert!(
            named("x", "y")
                .validate()
                .to_string()
                .starts_with("must not set the field(s): metadata.namespace")
        );
    }
}
