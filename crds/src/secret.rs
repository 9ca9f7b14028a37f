//! The Secret: values that are never printed.

use std::collections::BTreeMap;
use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::annotation;
use crate::config_map::{MAX_DATA_BYTES, immutable, too_large, validate_keys};
use crate::meta::ObjectMeta;
use crate::{FieldError, FieldErrors};

/// Group and version.
pub const API_VERSION: &str = "v1";
/// The kind.
pub const KIND: &str = "Secret";
/// The type of a Secret that names none.
pub const DEFAULT_TYPE: &str = "Opaque";

/// A Secret keeps values to itself, by key.
// Its `Debug` shows keys and never values.
#[derive(Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Secret {
    /// Always [`API_VERSION`].
    pub api_version: String,
    /// Always [`KIND`].
    pub kind: String,
    /// Name, labels, annotations.
    pub metadata: ObjectMeta,
    /// What it is for; `Opaque` if it is absent. Cannot be changed.
    #[serde(rename = "type", skip_serializing_if = "String::is_empty")]
    pub type_: String,
    /// The values by key, as Base64.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub data: BTreeMap<String, String>,
    /// Values as text, for whoever writes a manifest. They win over `data`, into which they are moved.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub string_data: BTreeMap<String, String>,
    /// If true, neither this nor the data can be changed any more.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub immutable: Option<bool>,
}

impl Secret {
    /// Fills in what the user left out, and moves `stringData` into `data`.
    pub fn defaults(&mut self) {
        self.metadata.defaults();
        if self.type_.is_empty() {
            DEFAULT_TYPE.clone_into(&mut self.type_);
        }
        for (key, text) in std::mem::take(&mut self.string_data) {
            self.data.insert(key, STANDARD.encode(text));
        }
    }

    /// What is wrong with it.
    #[must_use]
    pub fn validate(&self) -> FieldErrors {
        let mut errors = self.metadata.validate();
        errors.also(annotation::unknown(&self.metadata, KIND, &[]));
        errors.also(validate_keys(self.data.keys()).via("data"));
        errors.also(validate_keys(self.string_data.keys()).via("stringData"));
        let mut bytes = 0;
        for (key, text) in &self.data {
            match decode(text) {
                Some(value) => bytes += value.len(),
                // The value itself must not be repeated.
                None => errors
                    .push(FieldError::new("the value is not Base64", [format!("data[{key}]")])),
            }
        }
        if bytes > MAX_DATA_BYTES {
            errors.push(too_large(bytes));
        }
        errors
    }

    /// What cannot change from `old`: its type, and nothing of one that is immutable but its metadata.
    #[must_use]
    pub fn validate_update(&self, old: &Self) -> FieldErrors {
        let mut errors = FieldErrors::new();
        if self.type_ != old.type_ {
            let error = FieldError::invalid(format_args!("{:?}", self.type_), "type");
            errors.push(error.with_details("field is immutable"));
        }
        if old.immutable == Some(true) {
            let changed =
                [(self.immutable != old.immutable, "immutable"), (self.data != old.data, "data")];
            changed.iter().filter(|(changed, _)| *changed).for_each(|(_, field)| {
                errors.push(immutable(field));
            });
        }
        errors
    }

    /// The value of a key.
    #[must_use]
    pub fn value(&self, key: &str) -> Option<Vec<u8>> {
        match self.string_data.get(key) {
            Some(text) => Some(text.clone().into_bytes()),
            None => decode(self.data.get(key)?),
        }
    }
}

/// YAML block scalars break Base64 into lines; Kubernetes ignores the breaks too.
fn decode(text: &str) -> Option<Vec<u8>> {
    if text.contains(['\n', '\r']) {
        let joined: String = text.chars().filter(|char| !matches!(char, '\n' | '\r')).collect();
        return STANDARD.decode(joined).ok();
    }
    STANDARD.decode(text).ok()
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Secret")
            .field("namespace", &self.metadata.namespace)
            .field("name", &self.metadata.name)
            .field("type", &self.type_)
            .field("data", &self.data.keys())
            .field("string_data", &self.string_data.keys())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secret(text: &str) -> Secret {
        serde_json::from_str(text).unwrap()
    }

    #[test]
    fn text_moves_into_data_and_wins() {
        let mut secret = secret(
            r#"{"metadata":{"name":"s"},"data":{"a":"eA==","b":"eQ=="},"stringData":{"a":"text"}}"#,
        );
        assert_eq!(secret.value("a").unwrap(), b"text");
        secret.defaults();
        assert!(secret.string_data.is_empty());
        assert_eq!(secret.type_, "Opaque");
        assert_eq!(secret.value("a").unwrap(), b"text");
        assert_eq!(secret.value("b").unwrap(), b"y");
        assert_eq!(secret.value("c"), None);
        assert_eq!(secret.validate().to_string(), "");
    }

    #[test]
    fn a_type_never_changes_and_an_immutable_secret_keeps_its_data() {
        let mut old = secret(r#"{"metadata":{"name":"s"},"data":{"a":"eA=="}}"#);
        old.defaults();
        let mut new = old.clone();
        new.data.clear();
        assert!(new.validate_update(&old).is_empty());
        old.immutable = Some(true);
        new.immutable = Some(true);
        "Other".clone_into(&mut new.type_);
        assert_eq!(
            new.validate_update(&old).to_string(),
            "invalid value: \"Other\": type\nfield is immutable\n\
             must not set the field(s): data\nfield is immutable when `immutable` is set"
        );
    }

    #[test]
    fn debug_and_refusals_show_no_value() {
        let mut secret = secret(
            r#"{"metadata":{"name":"s","annotations":{"kubectl.kubernetes.io/last-applied-configuration":"hunter2"}},
                "data":{"a":"hunter2!","b":"aHVu\ndGVyMg=="},"stringData":{"c":"hunter2"}}"#,
        );
        for shown in [format!("{secret:?}"), format!("{secret:#?}")] {
            assert!(!shown.contains("hunter2"), "{shown}");
            assert!(shown.contains('a') && shown.contains("Secret"), "{shown}");
        }
        secret.defaults();
        assert_eq!(secret.validate().to_string(), "the value is not Base64: data[a]");
        assert_eq!(secret.value("b").unwrap(), b"hunter2");
    }
}
