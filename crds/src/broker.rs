//! The Broker: takes events in and keeps them for its Triggers.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::annotation;
use crate::broker_defaults::BrokerDefaults;
use crate::condition::Status;
use crate::delivery::DeliverySpec;
use crate::destination::KReference;
use crate::meta::ObjectMeta;
use crate::{FieldError, FieldErrors};

/// Group and version.
pub const API_VERSION: &str = "eventing.knative.dev/v1";
/// The kind.
pub const KIND: &str = "Broker";
/// The annotation that says which implementation a Broker is for.
pub const CLASS: &str = "eventing.knative.dev/broker.class";
/// Weft's own class.
pub const CLASS_WEFT: &str = "Weft";
/// The class of Knative's default Broker. Weft serves it too, so that manifests written for Knative need no change.
pub const CLASS_KNATIVE: &str = "MTChannelBasedBroker";

/// A Broker takes events in and keeps them until every Trigger of it has delivered them. Senders post to the URL in its
/// status; Triggers say which events go where.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
// About the whole, for a rule about a change is not asked where there was nothing before.
#[schemars(extend("x-kubernetes-validations" = [{
    "rule": "(has(self.spec) && has(self.spec.config)) == (has(oldSelf.spec) && has(oldSelf.spec.config)) && (!has(self.spec) || !has(self.spec.config) || self.spec.config == oldSelf.spec.config)",
    "message": "Immutable fields changed (-old +new): spec.config",
}]))]
pub struct Broker {
    /// Always [`API_VERSION`].
    pub api_version: String,
    /// Always [`KIND`].
    pub kind: String,
    /// Name, labels, annotations.
    pub metadata: ObjectMeta,
    /// What is wanted of the Broker.
    pub spec: BrokerSpec,
    /// What the controller says about it; this may be a moment behind.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<Status>,
}

/// What is wanted of a Broker.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct BrokerSpec {
    /// Configuration for the class of the Broker. The class `Weft` needs none. Cannot be changed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub config: Option<KReference>,
    /// How events are delivered for Triggers that say nothing themselves. If it is absent as a whole, it is what
    /// `config-br-defaults` says.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub delivery: Option<DeliverySpec>,
}

impl Broker {
    /// Fills in what the user left out.
    pub fn defaults(&mut self, defaults: &BrokerDefaults) {
        self.metadata.defaults();
        let namespace = &self.metadata.namespace;
        let class = self.metadata.annotations.get(CLASS).map(String::as_str);
        let chosen = defaults.config(namespace, class);
        if self.spec.config.is_none() {
            self.spec.config = chosen.and_then(|config| config.reference());
        }
        // Delivery is defaulted as a whole: who writes part of it means the rest to be absent.
        if self.spec.delivery.is_none() {
            self.spec.delivery = chosen.and_then(|config| config.delivery.clone());
        }
        if let Some(config) = &mut self.spec.config {
            config.defaults(namespace);
        }
        if let Some(delivery) = &mut self.spec.delivery {
            delivery.defaults(namespace);
        }
        if class.is_none()
            && let Some(class) = defaults.class(namespace)
        {
            self.metadata.annotations.insert(CLASS.to_owned(), class.to_owned());
        }
    }

    /// What is wrong with it, once defaults are filled in.
    #[must_use]
    pub fn validate(&self, defaults: &BrokerDefaults) -> FieldErrors {
        let mut errors = self.metadata.validate();
        if self.class().is_empty() {
            errors.push(FieldError::missing(CLASS));
        }
        let namespace = &self.metadata.namespace;
        let only_in = defaults.keeps_config_in_namespace(namespace).then_some(namespace.as_str());
        if let Some(config) = &self.spec.config {
            errors.also(config.validate(only_in).via("config").via("spec"));
        }
        if let Some(delivery) = &self.spec.delivery {
            errors.also(delivery.validate(only_in).via("delivery").via("spec"));
        }
        if let Err(unread) = annotation::storage_budget(&self.metadata) {
            errors.also(unread);
        }
        errors.also(annotation::unknown(&self.metadata, KIND, annotation::ON_BROKER));
        errors
    }

    /// What cannot change from `old`: everything but delivery.
    #[must_use]
    pub fn validate_update(&self, old: &Self) -> FieldErrors {
        let mut errors = FieldErrors::new();
        if self.spec.config != old.spec.config {
            let shown =
                |config: &Option<KReference>| serde_json::to_string(config).unwrap_or_default();
            let details = format!(
                "spec.config:\n\t-: {}\n\t+: {}\n",
                shown(&old.spec.config),
                shown(&self.spec.config)
            );
            errors.push(
                FieldError::new("Immutable fields changed (-old +new)", ["spec"])
                    .with_details(details),
            );
        } else if self.class() != old.class() {
            let details = format!("{{string}}:\n\t-: {:?}\n\t+: {:?}\n", old.class(), self.class());
            errors.push(
                FieldError::new("Immutable annotations changed (-old +new)", ["annotations"])
                    .with_details(details),
            );
        }
        errors
    }

    /// The class; empty if there is none.
    #[must_use]
    pub fn class(&self) -> &str {
        self.metadata.annotation(CLASS).unwrap_or_default()
    }

    /// Whether this mesh serves it.
    #[must_use]
    pub fn is_ours(&self) -> bool {
        [CLASS_WEFT, CLASS_KNATIVE].contains(&self.class())
    }

    /// How many bytes it may keep, if that is said and can be read.
    #[must_use]
    pub fn storage_budget(&self) -> Option<u64> {
        annotation::storage_budget(&self.metadata).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn broker(text: &str) -> Broker {
        let mut broker: Broker = serde_json::from_str(text).unwrap();
        broker.defaults(&BrokerDefaults::builtin());
        broker
    }

    #[test]
    fn a_bare_broker_becomes_one_of_ours_with_retries() {
        let broker = broker(r#"{"metadata":{"name":"b"}}"#);
        assert!(broker.is_ours());
        assert_eq!(broker.class(), "Weft");
        assert_eq!(broker.metadata.namespace, "default");
        assert_eq!(broker.spec.config, None);
        assert_eq!(broker.spec.delivery.as_ref().unwrap().retries(), Some(10));
        assert_eq!(broker.validate(&BrokerDefaults::builtin()).to_string(), "");
    }

    #[test]
    fn knatives_default_class_is_ours_and_others_are_not() {
        let classed = |class: &str| {
            broker(&format!(
                r#"{{"metadata":{{"name":"b","annotations":{{"eventing.knative.dev/broker.class":"{class}"}}}}}}"#
            ))
        };
        assert!(classed("MTChannelBasedBroker").is_ours());
        assert!(!classed("Kafka").is_ours());
        let refusal = classed("").validate(&BrokerDefaults::builtin()).to_string();
        assert_eq!(refusal, "missing field(s): eventing.knative.dev/broker.class");
    }

    #[test]
    fn a_partly_written_delivery_is_left_alone() {
        let broker = broker(
            r#"{"metadata":{"name":"b"},"spec":{"delivery":{"deadLetterSink":{"ref":{"kind":"S","name":"s"}}}}}"#,
        );
        let delivery = broker.spec.delivery.unwrap();
        assert_eq!(delivery.retry, None);
        assert_eq!(delivery.dead_letter_sink.unwrap().reference.unwrap().namespace, "default");
    }

    #[test]
    fn only_delivery_can_change() {
        let old = broker(r#"{"metadata":{"name":"b"}}"#);
        let mut new = old.clone();
        new.spec.delivery = None;
        assert!(new.validate_update(&old).is_empty());
        new.metadata.annotations.insert(CLASS.to_owned(), "Kafka".to_owned());
        let refusal = new.validate_update(&old).to_string();
        let expected = "Immutable annotations changed (-old +new): annotations\n{string}:\n\t-: \"Weft\"\n\t+: \"Kafka\"\n";
        assert_eq!(refusal, expected);
        new.spec.config = Some(KReference::to("v1", "ConfigMap", "c"));
        assert!(
            new.validate_update(&old)
                .to_string()
                .starts_with("Immutable fields changed (-old +new): spec\n")
        );
    }

    #[test]
    fn a_storage_budget_is_a_quantity() {
        let mut broker =
            broker(r#"{"metadata":{"name":"b","annotations":{"weft.dev/storage-budget":"2Gi"}}}"#);
        assert_eq!(broker.storage_budget(), Some(2 << 30));
        broker.metadata.annotations.insert("weft.dev/storage-budget".to_owned(), "lots".to_owned());
        let refusal = broker.validate(&BrokerDefaults::builtin()).to_string();
        assert!(
            refusal.starts_with(
                "invalid value: lots: metadata.annotations[weft.dev/storage-budget]\n"
            ),
            "{refusal}"
        );
    }
}
