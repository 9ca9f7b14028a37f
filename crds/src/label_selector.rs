//! Label selectors as they stand in objects (Kubernetes' `metav1.LabelSelector`), and as requests spell them.

use std::collections::BTreeMap;
use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{FieldError, FieldErrors, name};

/// Which objects are meant, by their labels. An empty one means all of them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct LabelSelector {
    /// Labels and the values they must have.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub match_labels: BTreeMap<String, String>,
    /// What else must be true of the labels, all of it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub match_expressions: Vec<LabelRequirement>,
}

/// What must be true of one label.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
#[schemars(extend("required" = ["key", "operator"]))]
pub struct LabelRequirement {
    /// The label.
    pub key: String,
    /// `In`, `NotIn`, `Exists` or `DoesNotExist`.
    pub operator: String,
    /// The values that the label may have, or may not have.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub values: Vec<String>,
}

impl LabelSelector {
    /// Whether every object is meant.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.match_labels.is_empty() && self.match_expressions.is_empty()
    }

    /// Whether an object with these labels is meant.
    #[must_use]
    pub fn matches(&self, labels: &BTreeMap<String, String>) -> bool {
        self.match_labels.iter().all(|(key, value)| labels.get(key) == Some(value))
            && self.match_expressions.iter().all(|requirement| requirement.matches(labels))
    }

    /// What is wrong with it. Without findings its text holds nothing but what the fields say.
    #[must_use]
    pub fn validate(&self) -> FieldErrors {
        let mut errors = FieldErrors::new();
        for (key, value) in &self.match_labels {
            if let Err(rule) = name::qualified(key) {
                let error = FieldError::invalid_key(key, format!("matchLabels[{key}]"));
                errors.push(error.with_details(rule));
            } else if let Err(rule) = name::label_value(value) {
                let error = FieldError::invalid(value, format!("matchLabels[{key}]"));
                errors.push(error.with_details(rule));
            }
        }
        for (index, requirement) in self.match_expressions.iter().enumerate() {
            errors.also(requirement.validate().via_index(index).via("matchExpressions"));
        }
        errors
    }
}

impl LabelRequirement {
    fn matches(&self, labels: &BTreeMap<String, String>) -> bool {
        let found = labels.get(&self.key);
        match self.operator.as_str() {
            "In" => found.is_some_and(|value| self.values.contains(value)),
            "NotIn" => found.is_none_or(|value| !self.values.contains(value)),
            "Exists" => found.is_some(),
            "DoesNotExist" => found.is_none(),
            _ => false,
        }
    }

    fn validate(&self) -> FieldErrors {
        let mut errors = FieldErrors::new();
        if let Err(rule) = name::qualified(&self.key) {
            errors.push(FieldError::invalid(&self.key, "key").with_details(rule));
        }
        match (self.operator.as_str(), self.values.is_empty()) {
            ("In" | "NotIn", true) => {
                let error = FieldError::missing("values");
                errors.push(error.with_details("In and NotIn need values"));
            }
            ("Exists" | "DoesNotExist", false) => {
                let error = FieldError::disallowed("values");
                errors.push(error.with_details("Exists and DoesNotExist have no values"));
            }
            ("In" | "NotIn" | "Exists" | "DoesNotExist", _) => {}
            (other, _) => {
                let error = FieldError::invalid(other, "operator");
                errors.push(error.with_details("expected In, NotIn, Exists or DoesNotExist"));
            }
        }
        for (index, value) in self.values.iter().enumerate() {
            if let Err(rule) = name::label_value(value) {
                let error = FieldError::invalid(value, format!("values[{index}]"));
                errors.push(error.with_details(rule));
            }
        }
        errors
    }
}

/// As the parameter `labelSelector` of a request has it.
impl fmt::Display for LabelSelector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut between = "";
        for (key, value) in &self.match_labels {
            write!(f, "{between}{key}={value}")?;
            between = ",";
        }
        for requirement in &self.match_expressions {
            write!(f, "{between}{requirement}")?;
            between = ",";
        }
        Ok(())
    }
}

impl fmt::Display for LabelRequirement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { key, operator, values } = self;
        let values = values.join(",");
        match operator.as_str() {
            "In" => write!(f, "{key} in ({values})"),
            "NotIn" => write!(f, "{key} notin ({values})"),
            "DoesNotExist" => write!(f, "!{key}"),
            _ => f.write_str(key),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::LabelSelector;
    use serde_json::{Value, json};

    fn selector(value: Value) -> LabelSelector {
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn a_selector_is_spelt_as_requests_have_it() {
        let every = selector(json!({
            "matchLabels": {"app": "shop", "tier": ""},
            "matchExpressions": [
                {"key": "a", "operator": "In", "values": ["x", "y"]},
                {"key": "b", "operator": "NotIn", "values": ["z"]},
                {"key": "c", "operator": "Exists"},
                {"key": "example.com/d", "operator": "DoesNotExist"},
            ],
        }));
        assert!(every.validate().is_empty());
        assert_eq!(every.to_string(), "app=shop,tier=,a in (x,y),b notin (z),c,!example.com/d");
        assert!(selector(json!({})).is_empty());
        assert_eq!(selector(json!({})).to_string(), "");
    }

    #[test]
    fn labels_match_if_all_of_it_is_true_of_them() {
        let labels = BTreeMap::from([("app".to_owned(), "shop".to_owned())]);
        let expression = |key: &str, operator: &str, values: &[&str]| {
            let one = json!({"key": key, "operator": operator, "values": values});
            json!({"matchExpressions": [one]})
        };
        let cases = [
            (json!({}), true),
            (json!({"matchLabels": {"app": "shop"}}), true),
            (json!({"matchLabels": {"app": "shop", "tier": ""}}), false),
            (expression("app", "In", &["a", "shop"]), true),
            (expression("tier", "In", &["a"]), false),
            (expression("app", "NotIn", &["shop"]), false),
            (expression("tier", "NotIn", &["a"]), true),
            (expression("app", "Exists", &[]), true),
            (expression("app", "DoesNotExist", &[]), false),
            (expression("tier", "DoesNotExist", &[]), true),
            (expression("app", "Is", &["shop"]), false),
        ];
        for (value, expected) in cases {
            assert_eq!(selector(value.clone()).matches(&labels), expected, "{value}");
        }
    }

    #[test]
    fn what_is_wrong_is_named_by_its_field() {
        let cases = [
            (json!({"matchLabels": {"a b": "c"}}), "matchLabels[a b]"),
            (json!({"matchLabels": {"a": "b,c=d"}}), "matchLabels[a]"),
            (
                json!({"matchExpressions": [{"key": "a", "operator": "Is", "values": ["b"]}]}),
                "matchExpressions[0].operator",
            ),
            (
                json!({"matchExpressions": [{"key": "a", "operator": "In"}]}),
                "matchExpressions[0].values",
            ),
            (
                json!({"matchExpressions": [{"key": "a", "operator": "Exists", "values": ["b"]}]}),
                "matchExpressions[0].values",
            ),
            (
                json!({"matchExpressions": [{"key": "a", "operator": "In", "values": ["b)"]}]}),
                "matchExpressions[0].values[0]",
            ),
        ];
        for (value, field) in cases {
            let found = selector(value).validate().to_string();
            assert!(found.contains(&format!(": {field}")), "{found}");
        }
    }
}
