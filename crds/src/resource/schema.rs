//! The schemas of the kinds: what `schemars` derives from the types, in the form that an API server takes.

mod structural;

use std::sync::LazyLock;

use schemars::JsonSchema;
use serde_json::{Map, Value, json};

use crate::broker::Broker;
use crate::config_map::ConfigMap;
use crate::custom_resource_definition::CustomResourceDefinition;
use crate::event::Event;
use crate::github_source::{self, GitHubSource};
use crate::lease::Lease;
use crate::namespace::Namespace;
use crate::ping_source::PingSource;
use crate::secret::Secret;
use crate::service_account::ServiceAccount;
use crate::trigger::Trigger;

/// What each status has.
const STATUS: [&str; 3] = ["observedGeneration", "conditions", "annotations"];
const STATUS_OF_BROKER: &[&str] = &[
    "address",
    "addresses",
    "deadLetterSinkUri",
    "deadLetterSinkCACerts",
    "deadLetterSinkAudience",
    "policies",
];
const STATUS_OF_TRIGGER: &[&str] = &[
    "subscriberUri",
    "subscriberCACerts",
    "subscriberAudience",
    "deadLetterSinkUri",
    "deadLetterSinkCACerts",
    "deadLetterSinkAudience",
    "auth",
];
const STATUS_OF_SOURCE: &[&str] =
    &["sinkUri", "sinkCACerts", "sinkAudience", "ceAttributes", "auth"];
const STATUS_OF_GITHUB_SOURCE: &[&str] =
    &["sinkUri", "sinkCACerts", "sinkAudience", "ceAttributes", "auth", "webhookIDKey"];

/// Declares functions that answer schemas which are made once.
macro_rules! schemas {
    ($($name:ident => $make:expr;)*) => {
        $(pub(super) fn $name() -> Value {
            static SCHEMA: LazyLock<Value> = LazyLock::new(|| $make);
            SCHEMA.clone()
        })*
    };
}

schemas! {
    broker => custom::<Broker>(STATUS_OF_BROKER);
    trigger => with_spec(custom::<Trigger>(STATUS_OF_TRIGGER));
    ping_source => with_spec(custom::<PingSource>(STATUS_OF_SOURCE));
    github_source => with_spec(with_event_names(custom::<GitHubSource>(STATUS_OF_GITHUB_SOURCE)));
    namespace => object::<Namespace>();
    secret => object::<Secret>();
    config_map => object::<ConfigMap>();
    event => object::<Event>();
    service_account => object::<ServiceAccount>();
    lease => object::<Lease>();
    custom_resource_definition => object::<CustomResourceDefinition>();
}

/// The schema of a kind. What is the same for all of them is said in the same words.
fn object<T: JsonSchema>() -> Value {
    let mut schema = structural::of::<T>();
    if let Some(properties) = properties(&mut schema) {
        properties.insert(
            "apiVersion".to_owned(),
            json!({ "type": "string", "description": "Group and version of the kind, as in `eventing.knative.dev/v1`." }),
        );
        properties.insert(
            "kind".to_owned(),
            json!({ "type": "string", "description": "The kind, as in `Trigger`." }),
        );
        // An API server knows the fields of metadata, and lets no schema say more of them.
        properties.insert("metadata".to_owned(), json!({ "type": "object" }));
    }
    schema
}

/// The schema of one of the mesh's kinds, whose status has, of all that a status can have, only some fields.
fn custom<T: JsonSchema>(status_fields: &[&str]) -> Value {
    let mut schema = object::<T>();
    if let Some(status) = properties(&mut schema).and_then(|fields| fields.get_mut("status")) {
        if let Some(fields) = properties(status) {
            fields.retain(|field, _| {
                STATUS.contains(&field.as_str()) || status_fields.contains(&field.as_str())
            });
            if let Some(Value::Object(conditions)) = fields.get_mut("conditions") {
                conditions.insert("x-kubernetes-list-type".to_owned(), "map".into());
                conditions.insert("x-kubernetes-list-map-keys".to_owned(), json!(["type"]));
            }
        }
        // A status that an older or newer mesh wrote must not be cut.
        if let Value::Object(status) = status {
            status.insert(structural::PRESERVE.to_owned(), true.into());
        }
    }
    schema
}

/// Refuses an object without a spec; a Broker needs none.
fn with_spec(mut schema: Value) -> Value {
    if let Value::Object(schema) = &mut schema {
        schema.insert("required".to_owned(), json!(["spec"]));
    }
    schema
}

/// Names the events that can be asked for.
fn with_event_names(mut schema: Value) -> Value {
    if let Some(Value::Object(items)) =
        schema.pointer_mut("/properties/spec/properties/eventTypes/items")
    {
        let names = std::iter::once(&github_source::EVERY_EVENT).chain(github_source::EVENTS);
        items.insert("enum".to_owned(), names.map(|name| Value::from(*name)).collect());
    }
    schema
}

fn properties(schema: &mut Value) -> Option<&mut Map<String, Value>> {
    schema.get_mut("properties")?.as_object_mut()
}

#[cfg(test)]
mod tests;
