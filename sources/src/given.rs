//! What a source is handed of Secrets and `ConfigMap`s: it names what it needs, and whoever runs it looks it up.

use std::borrow::Cow;
use std::collections::BTreeMap;

use crds::secret_ref::{SecretKeySelector, SecretValueFromSource};
use thiserror::Error;

use crate::secret::Secret;

/// Where a value is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// A Secret.
    Secret,
    /// A `ConfigMap`; next to a cluster, only certificates in PEM are found there.
    ConfigMap,
}

/// What a source does without a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Necessity {
    /// It does not run.
    Required,
    /// It runs, does less, and its status says what is missing.
    Wanted,
    /// It runs.
    Optional,
}

/// A value that a source needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Need {
    /// The field of the spec that asks for it, as in `net.sasl.user`; the value is found under it.
    pub field: Cow<'static, str>,
    /// Where it is kept.
    pub origin: Origin,
    /// The name of the Secret or `ConfigMap`, in the source's namespace.
    pub name: String,
    /// The key in it. Without one all keys are meant, and what they hold is found [under](Given::under) the field.
    pub key: Option<String>,
    /// What the source does without it.
    pub necessity: Necessity,
    /// The condition that says that it is missing, and why in one word; without it `SecretsProvided`, and `SecretNotFound`
    /// or `ConfigMapNotFound`.
    pub missing: Option<(&'static str, &'static str)>,
}

/// What a source was handed, by the fields that asked for it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Given(BTreeMap<Cow<'static, str>, Secret>);

/// A value that a source cannot do without is missing or not what it should be.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{field}: {why}")]
pub struct NotGiven {
    /// The field that asks for it.
    pub field: &'static str,
    /// What is wrong with the value, without the value.
    pub why: &'static str,
}

impl Need {
    /// A key of a Secret.
    #[must_use]
    pub fn secret(
        field: impl Into<Cow<'static, str>>,
        name: impl Into<String>,
        key: impl Into<String>,
    ) -> Self {
        Self { key: Some(key.into()), ..Self::all_keys(field, Origin::Secret, name) }
    }

    /// A key of a `ConfigMap`.
    #[must_use]
    pub fn config_map(
        field: impl Into<Cow<'static, str>>,
        name: impl Into<String>,
        key: impl Into<String>,
    ) -> Self {
        Self { origin: Origin::ConfigMap, ..Self::secret(field, name, key) }
    }

    /// All keys of a Secret or a `ConfigMap`.
    #[must_use]
    pub fn all_keys(
        field: impl Into<Cow<'static, str>>,
        origin: Origin,
        name: impl Into<String>,
    ) -> Self {
        Self {
            field: field.into(),
            origin,
            name: name.into(),
            key: None,
            necessity: Necessity::Required,
            missing: None,
        }
    }

    /// What a `secretKeyRef` names, if there is one.
    #[must_use]
    pub fn selected(field: &'static str, value: Option<&SecretValueFromSource>) -> Option<Self> {
        let SecretKeySelector { name, key, optional } = value?.selector()?;
        let need = Self::secret(field, name.as_str(), key.as_str());
        Some(if optional.unwrap_or(false) { need.optional() } else { need })
    }

    /// The same, though the source can do without.
    #[must_use]
    pub fn optional(self) -> Self {
        Self { necessity: Necessity::Optional, ..self }
    }

    /// The same, though the source runs without and does less.
    #[must_use]
    pub fn wanted(self) -> Self {
        Self { necessity: Necessity::Wanted, ..self }
    }

    /// The same, with the condition and the reason that say that it is missing.
    #[must_use]
    pub fn or(self, condition: &'static str, reason: &'static str) -> Self {
        Self { missing: Some((condition, reason)), ..self }
    }
}

impl Given {
    /// Adds what `former` has and this has not.
    pub(crate) fn keep(&mut self, former: &Self) {
        for (field, value) in &former.0 {
            self.0.entry(field.clone()).or_insert_with(|| value.clone());
        }
    }

    /// What is under a field, if it was asked for and is there.
    #[must_use]
    pub fn get(&self, field: &str) -> Option<&Secret> {
        self.0.get(field)
    }

    /// What all keys of a Secret or a `ConfigMap` hold, by key.
    pub fn under(&self, field: &str) -> impl Iterator<Item = (&str, &Secret)> {
        self.0.iter().filter_map(move |(found, value)| {
            Some((found.strip_prefix(field)?.strip_prefix('/')?, value))
        })
    }

    /// The same as a text that a library in C can be handed.
    ///
    /// # Errors
    /// As [`Self::require`], and when it holds the character that ends texts there.
    #[cfg(feature = "kafka")]
    pub(crate) fn c_text(&self, field: &'static str) -> Result<&str, NotGiven> {
        let value = self.require(field)?.expose();
        if value.contains('\0') {
            return Err(NotGiven { field, why: "it holds a character with the code 0" });
        }
        Ok(value)
    }

    /// What is under a field.
    ///
    /// # Errors
    /// When there is nothing, or an empty text. White space counts as empty: who looks at what is within it would take it for
    /// a secret that everybody knows.
    pub fn require(&self, field: &'static str) -> Result<&Secret, NotGiven> {
        match self.get(field) {
            Some(value) if value.expose().trim().is_empty() => {
                Err(NotGiven { field, why: "it is empty" })
            }
            Some(value) => Ok(value),
            None => Err(NotGiven { field, why: "it is missing" }),
        }
    }
}

impl<F: Into<Cow<'static, str>>> FromIterator<(F, Secret)> for Given {
    fn from_iter<I: IntoIterator<Item = (F, Secret)>>(values: I) -> Self {
        Self(values.into_iter().map(|(field, value)| (field.into(), value)).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::{Given, Necessity, Need, Origin};
    use crate::secret::Secret;

    #[test]
    fn what_is_missing_or_empty_is_named_by_its_field() {
        let values = [("user", ""), ("blank", " \n"), ("password", "p")];
        let given: Given =
            values.into_iter().map(|(field, value)| (field, Secret::new(value))).collect();
        assert_eq!(given.require("user").unwrap_err().to_string(), "user: it is empty");
        assert_eq!(given.require("blank").unwrap_err().to_string(), "blank: it is empty");
        assert_eq!(given.require("token").unwrap_err().to_string(), "token: it is missing");
        assert_eq!(given.require("password").unwrap().expose(), "p");
        assert_eq!(given.get("user").map(Secret::is_empty), Some(true));
    }

    #[test]
    fn what_all_keys_hold_is_found_under_the_field() {
        let given: Given = [("env/a", Secret::new("1")), ("envy/b", Secret::new("2"))]
            .into_iter()
            .chain([("env", Secret::new("3"))])
            .collect();
        let found: Vec<_> = given.under("env").map(|(key, value)| (key, value.expose())).collect();
        assert_eq!(found, [("a", "1")]);
    }

    #[test]
    fn a_need_of_a_config_map_keeps_its_choices() {
        let need = Need::config_map("caCert", "ca", "ca.crt").optional().or("Deployed", "NoCA");
        assert_eq!(need.origin, Origin::ConfigMap);
        assert_eq!(need.necessity, Necessity::Optional);
        assert_eq!(need.missing, Some(("Deployed", "NoCA")));
    }
}
