//! The Trigger: which events of a Broker go to which subscriber.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::annotation::{self, TriggerOptions};
use crate::condition::Status;
use crate::delivery::DeliverySpec;
use crate::destination::{Destination, KReference};
use crate::field_error::json_complaint;
use crate::meta::ObjectMeta;
use crate::{FieldError, FieldErrors, name};

/// Group and version.
pub const API_VERSION: &str = "eventing.knative.dev/v1";
/// The kind.
pub const KIND: &str = "Trigger";
/// The label that names the Broker, so that Triggers can be listed by it.
pub const BROKER_LABEL: &str = "eventing.knative.dev/broker";
/// The annotation that names an object whose readiness the Trigger waits for.
pub const DEPENDENCY: &str = "knative.dev/dependency";
/// The annotation that asks for a Broker named `default`.
pub const INJECTION: &str = "eventing.knative.dev/injection";

const ATTRIBUTE_RULE: &str =
    "Attribute name must start with a letter and can only contain lowercase alphanumeric";

/// Checks the syntax of a CESQL expression; answers what is wrong with it.
pub type CesqlCheck<'a> = &'a dyn Fn(&str) -> Result<(), String>;

/// A Trigger sends those events of a Broker that match its filters to its subscriber. What the subscriber answers as an
/// event goes back to the Broker.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Trigger {
    /// Always [`API_VERSION`].
    pub api_version: String,
    /// Always [`KIND`].
    pub kind: String,
    /// Name, labels, annotations.
    pub metadata: ObjectMeta,
    /// What is wanted of the Trigger.
    pub spec: TriggerSpec,
    /// What the controller says about it; this may be a moment behind.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<Status>,
}

/// What is wanted of a Trigger.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
#[schemars(extend("required" = ["subscriber"], "x-kubernetes-validations" = [
    {
        "rule": "(has(self.broker) && self.broker != '') || has(self.brokerRef)",
        "message": "missing field(s): spec.broker",
    },
    {
        "rule": "!(has(self.broker) && self.broker != '' && has(self.brokerRef))",
        "message": "expected exactly one, got both: spec.broker, spec.brokerRef",
    },
    {
        "rule": "(has(self.broker) ? self.broker : has(self.brokerRef) && has(self.brokerRef.name) ? self.brokerRef.name : '') == (has(oldSelf.broker) ? oldSelf.broker : has(oldSelf.brokerRef) && has(oldSelf.brokerRef.name) ? oldSelf.brokerRef.name : '')",
        "message": "Immutable fields changed (-old +new): broker, spec",
    },
]))]
pub struct TriggerSpec {
    /// The name of the Broker whose events are sent, in the Trigger's namespace. Cannot be changed.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub broker: String,
    /// The Broker as a reference, in place of `broker`: name, apiVersion and kind.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub broker_ref: Option<KReference>,
    /// The older filter: attributes that must be equal. Without filters every event matches.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub filter: Option<TriggerFilter>,
    /// The newer filters, all of which must match. Unless the list is empty, `filter` is not looked at.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub filters: Vec<SubscriptionsApiFilter>,
    /// Where matching events go; required.
    pub subscriber: Destination,
    /// How they get there; if it is absent, as the Broker says.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub delivery: Option<DeliverySpec>,
}

/// Attributes that must be equal; an empty value means present.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct TriggerFilter {
    /// Names of attributes or extensions, and the values they must have; an empty value asks only that the attribute is
    /// there.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub attributes: BTreeMap<String, String>,
}

/// One filter: exactly one of its fields is set.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct SubscriptionsApiFilter {
    /// Every one of these matches.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub all: Option<Vec<Self>>,
    /// One of these matches.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub any: Option<Vec<Self>>,
    /// This does not match.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub not: Option<Box<Self>>,
    /// Every attribute equals its value.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exact: Option<BTreeMap<String, String>>,
    /// Every attribute starts with its value.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prefix: Option<BTreeMap<String, String>>,
    /// Every attribute ends with its value.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub suffix: Option<BTreeMap<String, String>>,
    /// This CESQL expression is true, as in `type LIKE 'com.example.%' AND EXISTS subject`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cesql: Option<String>,
}

impl Trigger {
    /// Fills in what the user left out.
    pub fn defaults(&mut self) {
        self.metadata.defaults();
        let namespace = &self.metadata.namespace;
        self.spec.filter.get_or_insert_default();
        self.spec.subscriber.defaults(namespace);
        if let Some(delivery) = &mut self.spec.delivery {
            delivery.defaults(namespace);
        }
        if !self.spec.broker.is_empty() {
            self.metadata.labels.insert(BROKER_LABEL.to_owned(), self.spec.broker.clone());
        }
    }

    /// What is wrong with it, once defaults are filled in.
    #[must_use]
    pub fn validate(&self, cesql: CesqlCheck<'_>) -> FieldErrors {
        // The label repeats the Broker's name, about which the field says everything.
        let mut errors =
            self.metadata.validate().without(&format!("metadata.labels[{BROKER_LABEL}]"));
        errors.also(self.spec.validate(cesql).via("spec"));
        if let Some(text) = self.metadata.annotation(DEPENDENCY) {
            errors.also(self.validate_dependency(text).via(&annotation::path(DEPENDENCY)));
        }
        if let Some(text) = self.metadata.annotation(INJECTION) {
            errors.also(self.validate_injection(text).via(&annotation::path(INJECTION)));
        }
        if let Err(unread) = self.options() {
            errors.also(unread);
        }
        errors.also(annotation::unknown(&self.metadata, KIND, annotation::ON_TRIGGER));
        errors
    }

    /// What cannot change from `old`: the Broker.
    #[must_use]
    pub fn validate_update(&self, old: &Self) -> FieldErrors {
        let mut errors = FieldErrors::new();
        if self.broker() != old.broker() {
            let details =
                format!("{{string}}:\n\t-: {:?}\n\t+: {:?}\n", old.broker(), self.broker());
            let error = FieldError::new("Immutable fields changed (-old +new)", ["broker", "spec"]);
            errors.push(error.with_details(details));
        }
        errors
    }

    /// The name of the Broker, which is in the Trigger's namespace.
    #[must_use]
    pub fn broker(&self) -> &str {
        match &self.spec.broker_ref {
            Some(reference) if self.spec.broker.is_empty() => &reference.name,
            _ => &self.spec.broker,
        }
    }

    /// What Weft's annotations say.
    ///
    /// # Errors
    /// Every annotation that cannot be read.
    pub fn options(&self) -> Result<TriggerOptions, FieldErrors> {
        TriggerOptions::read(&self.metadata)
    }

    /// The kind and name of the object, in the Trigger's namespace, whose readiness it waits for.
    #[must_use]
    pub fn dependency(&self) -> Option<(String, String)> {
        let reference: Value = serde_json::from_str(self.metadata.annotation(DEPENDENCY)?).ok()?;
        let field = |name: &str| reference.get(name)?.as_str().map(str::to_owned);
        Some((field("kind")?, field("name")?))
    }

    fn validate_dependency(&self, text: &str) -> FieldErrors {
        let mut errors = FieldErrors::new();
        let message = format!("The provided annotation was not a corev1.ObjectReference: {text:?}");
        let not_a_reference =
            |details: String| FieldError::new(message.clone(), [""]).with_details(details);
        let reference: Value = match serde_json::from_str(text) {
            Ok(reference) => reference,
            Err(error) => return not_a_reference(json_complaint(&error)).into(),
        };
        if !reference.is_object() {
            return not_a_reference("a JSON object is expected".to_owned()).into();
        }
        let field = |name: &str| match reference.get(name) {
            None | Some(Value::Null) => Ok(""),
            Some(Value::String(text)) => Ok(text.as_str()),
            Some(_) => Err(not_a_reference(format!("{name} must be a string"))),
        };
        match field("namespace") {
            Ok(namespace) if !namespace.is_empty() && namespace != self.metadata.namespace => {
                let own = &self.metadata.namespace;
                let message =
                    format!("Namespace must be empty or equal to the trigger namespace {own:?}");
                errors.push(FieldError::new(message, ["namespace"]));
            }
            Ok(_) => {}
            Err(error) => errors.push(error),
        }
        for name in ["kind", "name", "apiVersion"] {
            match field(name) {
                Ok("") => errors.push(FieldError::missing(name)),
                Ok(_) => {}
                Err(error) => errors.push(error),
            }
        }
        errors
    }

    fn validate_injection(&self, text: &str) -> FieldErrors {
        if text != "enabled" && text != "disabled" {
            let message = format!(
                "The provided injection annotation value can only be \"enabled\" or \"disabled\", not {text:?}"
            );
            return FieldError::new(message, [""]).into();
        }
        if self.spec.broker != "default" {
            let broker = &self.spec.broker;
            let message = format!(
                "The provided injection annotation is only used for default broker, but non-default broker specified \
                 here: {broker:?}"
            );
            return FieldError::new(message, [""]).into();
        }
        FieldErrors::new()
    }
}

impl TriggerSpec {
    fn validate(&self, cesql: CesqlCheck<'_>) -> FieldErrors {
        let mut errors = FieldErrors::new();
        match &self.broker_ref {
            None if self.broker.is_empty() => errors.push(FieldError::missing("broker")),
            None => {
                // As a label value, it must be short too.
                if let Err(rule) =
                    name::subdomain(&self.broker).and_then(|()| name::label_value(&self.broker))
                {
                    errors.push(FieldError::invalid(&self.broker, "broker").with_details(rule));
                }
            }
            Some(_) if !self.broker.is_empty() => {
                errors.push(FieldError::multiple_one_of(["broker", "brokerRef"]))
            }
            Some(reference) => {
                if !reference.namespace.is_empty() {
                    let details = "only name, apiVersion and kind are supported fields when \
                                   feature.CrossNamespaceEventLinks is disabled";
                    errors
                        .push(FieldError::disallowed("brokerRef.namespace").with_details(details));
                }
                errors.also(reference.validate(None).via("brokerRef"));
            }
        }
        if let Some(filter) = &self.filter {
            errors.also(validate_names(&filter.attributes).via("attributes").via("filter"));
        }
        errors.also(validate_filters(&self.filters, cesql).via("filters"));
        errors.also(self.subscriber.validate(None).via("subscriber"));
        if let Some(delivery) = &self.delivery {
            errors.also(delivery.validate(None).via("delivery"));
        }
        errors
    }
}

fn validate_names(attributes: &BTreeMap<String, String>) -> FieldErrors {
    let mut errors = FieldErrors::new();
    for name in attributes.keys().filter(|name| !name::is_filter_attribute(name)) {
        errors
            .push(FieldError::invalid_key(name, format!("[{name}]")).with_details(ATTRIBUTE_RULE));
    }
    errors
}

/// What is wrong with a list of filters, all of which must match. Paths are relative to the list.
#[must_use]
pub fn validate_filters(filters: &[SubscriptionsApiFilter], cesql: CesqlCheck<'_>) -> FieldErrors {
    let mut errors = FieldErrors::new();
    for (index, filter) in filters.iter().enumerate() {
        errors.also(filter.validate(cesql).via_index(index));
    }
    errors
}

impl SubscriptionsApiFilter {
    fn validate(&self, cesql: CesqlCheck<'_>) -> FieldErrors {
        let maps = [(&self.exact, "exact"), (&self.prefix, "prefix"), (&self.suffix, "suffix")];
        let lists = [(&self.all, "all"), (&self.any, "any")];
        let mut errors = FieldErrors::new();
        for (map, dialect) in maps {
            if let Some(map) = map {
                errors.also(validate_map(map).via(dialect));
            }
        }
        for (list, dialect) in lists {
            match list {
                Some(list) if list.is_empty() => errors.push(empty(dialect)),
                Some(list) => errors.also(validate_filters(list, cesql).via(dialect)),
                None => {}
            }
        }
        if let Some(not) = &self.not {
            errors.also(not.validate(cesql).via("not"));
        }
        match self.cesql.as_deref() {
            Some("") => errors.push(empty("cesql")),
            Some(expression) => {
                if let Err(reason) = cesql(expression) {
                    errors.push(FieldError::invalid(expression, "cesql").with_details(reason));
                }
            }
            None => {}
        }
        let dialects = maps.iter().filter(|(map, _)| map.is_some()).count()
            + lists.iter().filter(|(list, _)| list.is_some()).count()
            + usize::from(self.not.is_some())
            + usize::from(self.cesql.is_some());
        match dialects {
            0 => {
                let details = "a filter needs one of all, any, not, exact, prefix, suffix, cesql; an empty one would match every event";
                errors.push(FieldError::new("filter is empty", [""]).with_details(details));
            }
            1 => {}
            _ => {
                let message = "multiple dialects found, filters can have only one dialect set";
                errors.push(FieldError::new(message, [""]));
            }
        }
        errors
    }
}

fn validate_map(map: &BTreeMap<String, String>) -> FieldErrors {
    if map.is_empty() {
        return empty("").into();
    }
    let mut errors = validate_names(map);
    for (name, _) in map.iter().filter(|(_, value)| value.is_empty()) {
        let error = FieldError::invalid("\"\"", format!("[{name}]"));
        errors.push(error.with_details(
            "an empty value is no condition: the filter would be skipped and every event match",
        ));
    }
    errors
}

fn empty(dialect: &str) -> FieldError {
    FieldError::new("filter is empty", [dialect])
        .with_details("an empty filter would match every event")
}

#[cfg(test)]
mod tests;
