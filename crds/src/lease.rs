//! The Lease: who of several is in charge, and until when.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::event::validate_time;
use crate::meta::ObjectMeta;
use crate::{FieldError, FieldErrors};

/// Group and version.
pub const API_VERSION: &str = "coordination.k8s.io/v1";
/// The kind.
pub const KIND: &str = "Lease";

/// A Lease says which of several processes is in charge, and until when.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Lease {
    /// Always [`API_VERSION`].
    pub api_version: String,
    /// Always [`KIND`].
    pub kind: String,
    /// Name, labels, annotations.
    pub metadata: ObjectMeta,
    /// Who holds it.
    pub spec: LeaseSpec,
}

/// Who holds a Lease.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct LeaseSpec {
    /// Who holds it; nobody if empty.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub holder_identity: Option<String>,
    /// Seconds that others wait after `renewTime` before they take it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lease_duration_seconds: Option<i32>,
    /// When it was taken, RFC 3339 with microseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub acquire_time: Option<String>,
    /// When its holder last renewed it, RFC 3339 with microseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub renew_time: Option<String>,
    /// How often its holder changed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lease_transitions: Option<i32>,
    /// How a coordinated election picks the holder.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub strategy: Option<String>,
    /// To whom the holder should hand it over.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub preferred_holder: Option<String>,
}

impl Lease {
    /// Fills in what the user left out.
    pub fn defaults(&mut self) {
        self.metadata.defaults();
    }

    /// What is wrong with it.
    #[must_use]
    pub fn validate(&self) -> FieldErrors {
        let mut errors = self.metadata.validate();
        errors.also(self.spec.validate().via("spec"));
        errors
    }
}

impl LeaseSpec {
    fn validate(&self) -> FieldErrors {
        let mut errors = FieldErrors::new();
        if let Some(seconds) = self.lease_duration_seconds.filter(|seconds| *seconds <= 0) {
            let error = FieldError::invalid(seconds, "leaseDurationSeconds");
            errors.push(error.with_details("must be greater than 0"));
        }
        if let Some(changes) = self.lease_transitions.filter(|changes| *changes < 0) {
            let error = FieldError::invalid(changes, "leaseTransitions");
            errors.push(error.with_details("must be greater than or equal to 0"));
        }
        errors.also(validate_time(self.acquire_time.as_ref(), "acquireTime"));
        errors.also(validate_time(self.renew_time.as_ref(), "renewTime"));
        errors
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lease_lasts_and_its_times_are_times() {
        let refusal = |spec: &str| {
            let text = format!(r#"{{"metadata":{{"name":"l"}},"spec":{spec}}}"#);
            let mut lease: Lease = serde_json::from_str(&text).unwrap();
            lease.defaults();
            lease.validate().to_string()
        };
        let good = r#"{"holderIdentity":"","leaseDurationSeconds":15,"acquireTime":"2026-01-01T00:00:00.000001Z",
            "renewTime":"2026-01-01T00:00:02.000000Z","leaseTransitions":0}"#;
        assert_eq!(refusal(good), "");
        assert_eq!(refusal("{}"), "");
        assert_eq!(
            refusal(r#"{"leaseDurationSeconds":0}"#),
            "invalid value: 0: spec.leaseDurationSeconds\nmust be greater than 0"
        );
        assert_eq!(
            refusal(r#"{"leaseTransitions":-1}"#),
            "invalid value: -1: spec.leaseTransitions\nmust be greater than or equal to 0"
        );
        assert!(
            refusal(r#"{"renewTime":"x"}"#).starts_with("invalid value: \"x\": spec.renewTime")
        );
    }
}
