//! The schemas of the kinds: what `schemars` derives from the types, in the form that an API server takes.

mod structural;

use std::sync::LazyLock;

use schemars::JsonSchema;
use serde_json::{Map, Value, json};

use crate::broker::Broker;
use crate::config_map::ConfigMap;
use crate::custom_resource_definition::CustomResourceDefinition;
use crate::event::Event;
use crate::lease::Lease;
use crate::namespace::Namespace;
use crate::secret::Secret;
use crate::service_account::ServiceAccount;
use crate::sink::SinkSpec;
use crate::source::{self, Fact, SourceSpec};
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
const STATUS_OF_SINK: &[&str] = &["address", "addresses", "policies"];
const STATUS_OF_SOURCE: &[&str] =
    &["sinkUri", "sinkCACerts", "sinkAudience", "ceAttributes", "auth"];

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

/// The schema of a kind of source. Made anew each time, which takes less than a millisecond: a function for many types has no
/// place to keep what it made.
pub(crate) fn source<S: SourceSpec>() -> Value {
    let mut schema =
        around(STATUS_OF_SOURCE, structural::of::<S>(), "What is wanted of the source.");
    let status = properties(&mut schema).and_then(|fields| fields.get_mut("status"));
    if let Some(facts) = status.and_then(properties) {
        facts.extend(S::FACTS.iter().map(|fact| (fact.name.to_owned(), described_fact(fact))));
    }
    schema
}

/// The schema of a kind of sink, made anew each time as a source's is.
pub(crate) fn sink<S: SinkSpec>() -> Value {
    around(STATUS_OF_SINK, structural::of::<S>(), "What is wanted of the sink.")
}

/// The schema of an object around the schema of its spec.
fn around(status_fields: &[&str], mut spec: Value, described: &str) -> Value {
    let mut schema = with_spec(custom::<source::Outline>(status_fields));
    let Some(fields) = properties(&mut schema) else { return schema };
    // What the type of the spec says of itself is about the kind as a whole.
    let about = spec
        .as_object_mut()
        .and_then(|spec| spec.insert("description".to_owned(), described.into()));
    fields.insert("spec".to_owned(), spec);
    if let (Value::Object(schema), Some(about)) = (&mut schema, about) {
        schema.insert("description".to_owned(), about);
    }
    schema
}

fn described_fact(fact: &Fact) -> Value {
    let mut schema = json!({ "type": fact.kind, "description": fact.description });
    if let (Value::Object(schema), "array") = (&mut schema, fact.kind) {
        schema.insert("items".to_owned(), json!({ "type": "string" }));
    }
    schema
}

fn properties(schema: &mut Value) -> Option<&mut Map<String, Value>> {
    schema.get_mut("properties")?.as_object_mut()
}

#[cfg(test)]
mod tests;
