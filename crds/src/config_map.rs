//! The `ConfigMap`: configuration of the mesh by key.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::annotation;
use crate::meta::ObjectMeta;
use crate::{FieldError, FieldErrors, name};

/// Group and version.
pub const API_VERSION: &str = "v1";
/// The kind.
pub const KIND: &str = "ConfigMap";
/// Kubernetes' bound on the data of a `ConfigMap`, and of a Secret.
pub const MAX_DATA_BYTES: usize = 1024 * 1024;

/// A `ConfigMap` keeps texts by key. Some configure the mesh.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct ConfigMap {
    /// Always [`API_VERSION`].
    pub api_version: String,
    /// Always [`KIND`].
    pub kind: String,
    /// Name, labels, annotations.
    pub metadata: ObjectMeta,
    /// Texts by key.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub data: BTreeMap<String, String>,
    /// Bytes by key, as Base64.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub binary_data: BTreeMap<String, String>,
    /// If true, neither this nor the data can be changed any more.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub immutable: Option<bool>,
}

impl ConfigMap {
    /// Fills in what the user left out.
    pub fn defaults(&mut self) {
        self.metadata.defaults();
    }

    /// What is wrong with it.
    #[must_use]
    pub fn validate(&self) -> FieldErrors {
        let mut errors = self.metadata.validate();
        errors.also(annotation::unknown(&self.metadata, KIND, &[]));
        for (field, map) in [("data", &self.data), ("binaryData", &self.binary_data)] {
            errors.also(validate_keys(map.keys()).via(field));
        }
        for key in self.binary_data.keys().filter(|key| self.data.contains_key(*key)) {
            errors.push(FieldError::multiple_one_of([
                format!("binaryData[{key}]"),
                format!("data[{key}]"),
            ]));
        }
        let bytes = size(&self.data) + size(&self.binary_data);
        if bytes > MAX_DATA_BYTES {
            errors.push(too_large(bytes));
        }
        errors
    }

    /// What cannot change from `old`: nothing of one that is immutable but its metadata.
    #[must_use]
    pub fn validate_update(&self, old: &Self) -> FieldErrors {
        let mut errors = FieldErrors::new();
        if old.immutable == Some(true) {
            let changed = [
                (self.immutable != old.immutable, "immutable"),
                (self.data != old.data, "data"),
                (self.binary_data != old.binary_data, "binaryData"),
            ];
            changed.iter().filter(|(changed, _)| *changed).for_each(|(_, field)| {
                errors.push(immutable(field));
            });
        }
        errors
    }
}

/// The complaint about a change of what cannot be changed.
pub(crate) fn immutable(field: &str) -> FieldError {
    FieldError::disallowed(field).with_details("field is immutable when `immutable` is set")
}

/// Refuses malformed keys.
pub(crate) fn validate_keys<'a>(keys: impl Iterator<Item = &'a String>) -> FieldErrors {
    let mut errors = FieldErrors::new();
    for key in keys {
        if let Err(rule) = name::config_key(key) {
            errors.push(FieldError::invalid_key(key, format!("[{key}]")).with_details(rule));
        }
    }
    errors
}

/// The complaint about too much data.
pub(crate) fn too_large(bytes: usize) -> FieldError {
    FieldError::new(format!("{bytes} bytes are too many"), ["data"])
        .with_details(format!("at most {MAX_DATA_BYTES}"))
}

fn size(map: &BTreeMap<String, String>) -> usize {
    map.values().map(String::len).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_checked_and_unique() {
        let text =
            r#"{"metadata":{"name":"c"},"data":{"a":"x","b c":"y"},"binaryData":{"a":"eA=="}}"#;
        let mut map: ConfigMap = serde_json::from_str(text).unwrap();
        map.defaults();
        let refusal = map.validate().to_string();
        assert!(
            refusal.starts_with("expected exactly one, got both: binaryData[a], data[a]\n"),
            "{refusal}"
        );
        assert!(
            refusal.contains("invalid key name \"b c\": data[b c]\na valid config key"),
            "{refusal}"
        );
    }

    #[test]
    fn an_immutable_map_keeps_its_data_and_stays_immutable() {
        let mut old =
            ConfigMap { metadata: ObjectMeta::named("default", "c"), ..ConfigMap::default() };
        old.data.insert("a".to_owned(), "x".to_owned());
        let mut new = ConfigMap { immutable: Some(true), ..old.clone() };
        assert!(new.validate_update(&old).is_empty());
        old.immutable = Some(true);
        new.metadata.labels.insert("a".to_owned(), "b".to_owned());
        assert!(new.validate_update(&old).is_empty());
        new.data.clear();
        new.immutable = None;
        assert_eq!(
            new.validate_update(&old).to_string(),
            "must not set the field(s): data, immutable\nfield is immutable when `immutable` is set"
        );
    }

    #[test]
    fn data_has_a_bound() {
        let mut map =
            ConfigMap { metadata: ObjectMeta::named("default", "c"), ..ConfigMap::default() };
        map.data.insert("a".to_owned(), "x".repeat(MAX_DATA_BYTES));
        assert!(map.validate().is_empty());
        map.data.insert("b".to_owned(), "x".to_owned());
        assert_eq!(map.validate().to_string(), "1048577 bytes are too many: data\nat most 1048576");
    }
}
