//! Extensions that a source sets on each of its events.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{FieldError, FieldErrors};

/// The attributes that CloudEvents itself defines (0.3 too): an override that names one would be an event that cannot be
/// sent.
const RESERVED: [&str; 11] = [
    "id",
    "source",
    "specversion",
    "type",
    "datacontentencoding",
    "datacontenttype",
    "dataschema",
    "schemaurl",
    "subject",
    "time",
    "data",
];

/// Each is a header of every delivery, and servers commonly refuse requests with more than a hundred.
const MAX_EXTENSIONS: usize = 64;

/// The longest name an extension of an event can have here.
const MAX_NAME: usize = 255;

/// What is changed in events before they are sent.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct CloudEventOverrides {
    /// Extensions to set on each event: names and values. Names are lower-cased.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub extensions: BTreeMap<String, String>,
}

impl CloudEventOverrides {
    /// What is wrong with it.
    #[must_use]
    pub fn validate(&self) -> FieldErrors {
        let mut errors = FieldErrors::new();
        if self.extensions.len() > MAX_EXTENSIONS {
            let found = self.extensions.len();
            let error = FieldError::new(format!("{found} extensions are too many"), ["extensions"]);
            errors.push(error.with_details(format!("at most {MAX_EXTENSIONS}")));
        }
        for (name, value) in &self.extensions {
            if value.chars().any(char::is_control) {
                let error =
                    FieldError::invalid(format_args!("{value:?}"), format!("extensions[{name}]"));
                errors.push(error.with_details("an attribute has no control characters"));
            }
            let rule = if name.is_empty() {
                "keys MUST NOT be empty"
            } else if !name.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
                "keys are expected to be alphanumeric"
            } else if RESERVED.contains(&name.to_ascii_lowercase().as_str()) {
                "CloudEvents attributes cannot be overridden, only extensions"
            } else if name.len() > MAX_NAME {
                "keys may have 255 characters"
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

    #[test]
    fn what_no_event_could_carry_is_refused() {
        let mut overrides = overrides("a");
        overrides.extensions.insert("a".to_owned(), "x\ny".to_owned());
        assert!(
            overrides
                .validate()
                .to_string()
                .starts_with("invalid value: \"x\\ny\": extensions[a]\n")
        );
        assert!(!self::overrides(&"a".repeat(256)).validate().is_empty());
        assert!(!self::overrides("schemaurl").validate().is_empty());
        let many = (0..65).map(|index| (format!("a{index}"), String::new())).collect();
        let refused = CloudEventOverrides { extensions: many }.validate().to_string();
        assert_eq!(refused, "65 extensions are too many: extensions\nat most 64");
    }
}
