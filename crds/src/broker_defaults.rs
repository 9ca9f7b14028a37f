//! The `ConfigMap` `config-br-defaults`: what Brokers get that say nothing themselves.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::broker::CLASS_WEFT;
use crate::config_map::ConfigMap;
use crate::delivery::DeliverySpec;
use crate::destination::KReference;
use crate::manifest::text;
use crate::{FieldError, FieldErrors};

/// The name of the `ConfigMap`.
pub const NAME: &str = "config-br-defaults";
/// Its namespace.
pub const NAMESPACE: &str = "knative-eventing";
/// Its one key.
pub const KEY: &str = "default-br-config";

/// Defaults for the whole mesh and for single namespaces.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct BrokerDefaults {
    /// For namespaces that have no own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cluster_default: Option<ScopeDefaults>,
    /// By namespace.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub namespace_defaults: BTreeMap<String, ScopeDefaults>,
}

/// Defaults for the mesh or for a namespace.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ScopeDefaults {
    /// The class of Brokers that name none.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub broker_class: String,
    /// `apiVersion` of the configuration.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub api_version: String,
    /// Kind of the configuration.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub kind: String,
    /// Name of the configuration.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// Namespace of the configuration.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub namespace: String,
    /// Delivery options.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub delivery: Option<DeliverySpec>,
    /// By class; they win over the ones above.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub broker_classes: BTreeMap<String, ClassDefaults>,
    /// Whether configurations and dead letter sinks must be in the Broker's namespace.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub disallow_different_namespace_config: Option<bool>,
}

/// Defaults for a class.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ClassDefaults {
    /// `apiVersion` of the configuration.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub api_version: String,
    /// Kind of the configuration.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub kind: String,
    /// Name of the configuration.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// Namespace of the configuration.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub namespace: String,
    /// Delivery options.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub delivery: Option<DeliverySpec>,
}

/// What applies to one Broker.
#[derive(Clone, Copy, Debug)]
pub struct Chosen<'a> {
    reference: [&'a String; 4],
    /// Delivery options.
    pub delivery: &'a Option<DeliverySpec>,
}

/// Why a `ConfigMap` holds no defaults.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BrokerDefaultsError {
    /// The text is not YAML, or not of this shape.
    #[error("{0}")]
    Malformed(String),
    /// It names something that cannot be.
    #[error("{0}")]
    Invalid(FieldErrors),
}

impl BrokerDefaultsError {
    /// Always false: the text stays what it is.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        false
    }
}

impl BrokerDefaults {
    /// What Weft ships: its own class, ten retries with exponential waits from 200 ms.
    #[must_use]
    pub fn builtin() -> Self {
        let delivery = DeliverySpec {
            retry: Some(10),
            backoff_policy: Some("exponential".to_owned()),
            backoff_delay: Some("PT0.2S".to_owned()),
            ..DeliverySpec::default()
        };
        let cluster = ScopeDefaults {
            broker_class: CLASS_WEFT.to_owned(),
            delivery: Some(delivery),
            ..ScopeDefaults::default()
        };
        Self { cluster_default: Some(cluster), namespace_defaults: BTreeMap::new() }
    }

    /// Reads the `ConfigMap`; without the key, or with an empty one, what Weft ships.
    ///
    /// # Errors
    /// When the text is not YAML of this shape, or names something that cannot be.
    pub fn read(config: &ConfigMap) -> Result<Self, BrokerDefaultsError> {
        match config.data.get(KEY) {
            Some(yaml) if !yaml.trim().is_empty() => Self::parse(yaml),
            _ => Ok(Self::builtin()),
        }
    }

    /// Reads the YAML under [`KEY`].
    ///
    /// # Errors
    /// When it is not YAML of this shape, or names something that cannot be.
    pub fn parse(yaml: &str) -> Result<Self, BrokerDefaultsError> {
        let read: Self = text::read(yaml).map_err(BrokerDefaultsError::Malformed)?;
        read.validate().into_result().map_err(BrokerDefaultsError::Invalid)?;
        Ok(read)
    }

    fn validate(&self) -> FieldErrors {
        let mut errors = FieldErrors::new();
        if let Some(cluster) = &self.cluster_default {
            errors.also(cluster.validate().via("clusterDefault"));
        }
        for (namespace, defaults) in &self.namespace_defaults {
            errors.also(defaults.validate().via(&format!("namespaceDefaults[{namespace}]")));
        }
        errors
    }

    /// What a Broker of that class in that namespace gets. The namespace wins over the mesh, a class over the rest.
    #[must_use]
    pub fn config(&self, namespace: &str, class: Option<&str>) -> Option<Chosen<'_>> {
        let scope = self.namespace_defaults.get(namespace);
        let cluster = self.cluster_default.as_ref();
        let class = match class.filter(|class| !class.is_empty()) {
            Some(class) => class,
            None => self.class(namespace).unwrap_or_default(),
        };
        let by_class = |scope: &'_ ScopeDefaults| scope.broker_classes.contains_key(class);
        if let Some(scope) = scope
            && (by_class(scope) || (scope.broker_class == class && !scope.is_bare()))
        {
            return Some(scope.chosen(class));
        }
        cluster.map(|cluster| cluster.chosen(class))
    }

    /// The class of a Broker in that namespace that names none.
    #[must_use]
    pub fn class(&self, namespace: &str) -> Option<&str> {
        let scopes = [self.namespace_defaults.get(namespace), self.cluster_default.as_ref()];
        scopes
            .into_iter()
            .flatten()
            .map(|scope| scope.broker_class.as_str())
            .find(|class| !class.is_empty())
    }

    /// Whether configurations and dead letter sinks of Brokers must be in the Broker's namespace.
    #[must_use]
    pub fn keeps_config_in_namespace(&self, namespace: &str) -> bool {
        let scopes = [self.namespace_defaults.get(namespace), self.cluster_default.as_ref()];
        scopes
            .into_iter()
            .flatten()
            .any(|scope| scope.disallow_different_namespace_config == Some(true))
    }
}

impl ScopeDefaults {
    fn is_bare(&self) -> bool {
        self.delivery.is_none()
            && [&self.api_version, &self.kind, &self.name].iter().all(|field| field.is_empty())
    }

    fn chosen(&self, class: &str) -> Chosen<'_> {
        match self.broker_classes.get(class) {
            Some(class) => class.chosen(),
            None => Chosen {
                reference: [&self.api_version, &self.kind, &self.name, &self.namespace],
                delivery: &self.delivery,
            },
        }
    }

    fn validate(&self) -> FieldErrors {
        let own = Chosen {
            reference: [&self.api_version, &self.kind, &self.name, &self.namespace],
            delivery: &self.delivery,
        };
        let mut errors = own.validate();
        for (class, defaults) in &self.broker_classes {
            errors.also(defaults.chosen().validate().via(&format!("brokerClasses[{class}]")));
        }
        errors
    }
}

impl ClassDefaults {
    fn chosen(&self) -> Chosen<'_> {
        Chosen {
            reference: [&self.api_version, &self.kind, &self.name, &self.namespace],
            delivery: &self.delivery,
        }
    }
}

impl Chosen<'_> {
    /// The configuration, if one is named.
    #[must_use]
    pub fn reference(&self) -> Option<KReference> {
        let [api_version, kind, name, namespace] = self.reference;
        if [api_version, kind, name].iter().all(|field| field.is_empty()) {
            return None;
        }
        let mut reference = KReference::to(api_version, kind, name);
        reference.namespace.clone_from(namespace);
        Some(reference)
    }

    fn validate(&self) -> FieldErrors {
        let mut errors = FieldErrors::new();
        if let Some(reference) = self.reference() {
            errors.also(reference.validate(None));
        } else if !self.reference[3].is_empty() {
            errors.push(FieldError::missing("name"));
        }
        if let Some(delivery) = self.delivery {
            errors.also(delivery.validate(None).via("delivery"));
        }
        errors
    }
}

#[cfg(test)]
mod tests;
