//! Extensions that a source sets on each of its events.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{FieldError, FieldErrors};

/// The attributes that CloudEvents itself defines: an override that names one would be an event that cannot be sent.
const RESERVED: [&str; 9] = [
    "id",
    "source",
    "specversion",
    "type",
    "datacontenttype",
    "dataschema",
    "subject",
    "time",
    "data",
];

/// The `ceOverrides` of a source.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct CloudEventOverrides {
    /// Extension names and their values. Names are lower-cased when they are set.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub extensions: BTreeMap<String, String>,
}

impl CloudEventOverrides {
    /// What is wrong with it.
    #[must_use]
    pub fn validate(&self) -> FieldErrors {
        let mut errors = FieldErrors::new();
        for name in self.extensions.keys() {
            let rule = if name.is_empty() {
                "keys MUST NOT be empty"
            } else if !name.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
                "keys are expected to be alphanumeric"
            } else if RESERVED.contains(&name.to_ascii_lowercase().as_str()) {
                "CloudEvents attributes cannot be overridden, only extensions"
            } else {
                continue;
            };
            errors.push(FieldError::invalid_key(name, "extensions").with_details(rule));
        }
        errors
    }

    /// The extensions with the names that events have.
    pub fn iter(&self) -> impl Iterator<Item = (String, &str)> {
        self.extensions.iter().map(|(name, value)| (name.to_ascii_lowercase(), value.as_str()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn overrides(name: &str) -> CloudEventOverrides {
        CloudEventOverrides { extensions: BTreeMap::from([(name.to_owned(), "v".to_owned())]) }
    }

    #[test]
    fn extensions_are_alphanumeric_and_not_attributes() {
        assert!(overrides("Region1").validate().is_empty());
        assert_eq!(overrides("Region1").iter().collect::<Vec<_>>(), [("region1".to_owned(), "v")]);
        let refused = |name| overrides(name).validate().to_string();
        assert_eq!(refused(""), "invalid key name \"\": extensions\nkeys MUST NOT be empty");
        assert_eq!(
            refused("a-b"),
            "invalid key name \"a-b\": extensions\nkeys are expected to be alphanumeric"
        );
        assert!(refused("Type").starts_with("invalid key name \"Type\": extensions\n"));
    }
}
