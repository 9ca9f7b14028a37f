//! Values that a source reads from a Secret: where they are, never what they are.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{FieldError, FieldErrors, name};

/// A value that stands in a Secret.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct SecretValueFromSource {
    /// Which key of which Secret.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub secret_key_ref: Option<SecretKeySelector>,
}

/// A key of a Secret in the source's namespace.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
#[schemars(extend("required" = ["name", "key"]))]
pub struct SecretKeySelector {
    /// The name of the Secret, in the source's namespace.
    pub name: String,
    /// The key within it.
    pub key: String,
    /// Whether it may be absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub optional: Option<bool>,
}

impl SecretValueFromSource {
    /// The value under that key of that Secret.
    #[must_use]
    pub fn at(name: impl Into<String>, key: impl Into<String>) -> Self {
        let selector = SecretKeySelector { name: name.into(), key: key.into(), optional: None };
        Self { secret_key_ref: Some(selector) }
    }

    /// Which key of which Secret, if it is said.
    #[must_use]
    pub fn selector(&self) -> Option<&SecretKeySelector> {
        self.secret_key_ref.as_ref()
    }

    /// What is wrong with a value that must be given. Paths are relative to its field.
    #[must_use]
    pub fn validate(value: Option<&Self>) -> FieldErrors {
        match value {
            None => FieldError::missing("").into(),
            Some(Self { secret_key_ref: None }) => FieldError::missing("secretKeyRef").into(),
            Some(Self { secret_key_ref: Some(selector) }) => {
                selector.validate().via("secretKeyRef")
            }
        }
    }

    /// What is wrong with a value that may be left out, but not halfway. Paths are relative to its field.
    #[must_use]
    pub fn validate_optional(value: Option<&Self>) -> FieldErrors {
        if value.is_some() { Self::validate(value) } else { FieldErrors::new() }
    }
}

impl SecretKeySelector {
    /// What is wrong with it: both the Secret and the key must be named, as Kubernetes names them.
    #[must_use]
    pub fn validate(&self) -> FieldErrors {
        let mut errors = FieldErrors::new();
        if self.name.is_empty() {
            errors.push(FieldError::missing("name"));
        } else if let Err(rule) = name::subdomain(&self.name) {
            errors.push(FieldError::invalid(&self.name, "name").with_details(rule));
        }
        if self.key.is_empty() {
            errors.push(FieldError::missing("key"));
        } else if let Err(rule) = name::config_key(&self.key) {
            errors.push(FieldError::invalid(&self.key, "key").with_details(rule));
        }
        errors
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_required_value_is_given_as_a_whole() {
        let refused = |value: Option<SecretValueFromSource>| {
            SecretValueFromSource::validate(value.as_ref()).via("token").to_string()
        };
        assert_eq!(refused(Some(SecretValueFromSource::at("s", "k"))), "");
        assert_eq!(refused(None), "missing field(s): token");
        assert_eq!(
            refused(Some(SecretValueFromSource::default())),
            "missing field(s): token.secretKeyRef"
        );
        assert_eq!(
            refused(Some(SecretValueFromSource::at("", ""))),
            "missing field(s): token.secretKeyRef.key, token.secretKeyRef.name"
        );
    }

    #[test]
    fn an_optional_value_is_given_as_a_whole_or_not_at_all() {
        let refused = |value: Option<SecretValueFromSource>| {
            SecretValueFromSource::validate_optional(value.as_ref()).to_string()
        };
        assert_eq!(refused(None), "");
        assert_eq!(
            refused(Some(SecretValueFromSource::default())),
            "missing field(s): secretKeyRef"
        );
        let wrong = refused(Some(SecretValueFromSource::at("A", "b/c")));
        assert!(wrong.contains("invalid value: A: secretKeyRef.name\n"), "{wrong}");
        assert!(wrong.contains("invalid value: b/c: secretKeyRef.key\n"), "{wrong}");
    }

    #[test]
    fn it_is_known_which_key_is_meant() {
        assert_eq!(SecretValueFromSource::at("s", "k").selector().unwrap().key, "k");
        assert_eq!(SecretValueFromSource::default().selector(), None);
    }
}
