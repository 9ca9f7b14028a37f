//! The `ServiceAccount`: a name under which programs act.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::FieldErrors;
use crate::event::ObjectReference;
use crate::meta::ObjectMeta;

/// Group and version.
pub const API_VERSION: &str = "v1";
/// The kind.
pub const KIND: &str = "ServiceAccount";

/// A `ServiceAccount` is a name under which programs act.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct ServiceAccount {
    /// Always [`API_VERSION`].
    pub api_version: String,
    /// Always [`KIND`].
    pub kind: String,
    /// Name, labels, annotations.
    pub metadata: ObjectMeta,
    /// Secrets that programs with this name may use; kept, and of no effect here.
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub secrets: Vec<ObjectReference>,
    /// Secrets with which images are pulled; kept, and of no effect here.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub image_pull_secrets: Vec<LocalObjectReference>,
    /// Whether pods get a token for the API; kept, and of no effect here.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub automount_service_account_token: Option<bool>,
}

/// Which object of the same namespace is meant.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
#[schemars(extend("x-kubernetes-map-type" = "atomic"))]
pub struct LocalObjectReference {
    /// Its name.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub name: String,
}

impl ServiceAccount {
    /// Fills in what the user left out.
    pub fn defaults(&mut self) {
        self.metadata.defaults();
    }

    /// What is wrong with it.
    #[must_use]
    pub fn validate(&self) -> FieldErrors {
        self.metadata.validate()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_account_needs_a_name() {
        let mut account = ServiceAccount::default();
        account.defaults();
        assert_eq!(account.validate().to_string(), "missing field(s): metadata.name");
        "sender".clone_into(&mut account.metadata.name);
        assert!(account.validate().is_empty());
    }
}
