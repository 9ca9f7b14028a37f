//! What an API server does with an object before it keeps it: reads it strictly, fills in defaults, refuses what is wrong.

mod kinds;

use serde_json::Value;

use crate::FieldErrors;
use crate::broker::{self, Broker};
use crate::config_map::{self, ConfigMap};
use crate::custom_resource_definition::{self, CustomResourceDefinition};
use crate::event::{self, Event};
use crate::github_source::{self, GitHubSource};
use crate::lease::{self, Lease};
use crate::namespace::{self, Namespace};
use crate::object::{self, DecodeError, Rules};
use crate::ping_source::{self, PingSource};
use crate::resource::Resource;
use crate::secret::{self, Secret};
use crate::service_account::{self, ServiceAccount};
use crate::trigger::{self, Trigger};

use kinds::Kind;

/// What only a server writes in metadata.
const SERVER_WRITTEN: [&str; 8] = [
    "uid",
    "resourceVersion",
    "generation",
    "creationTimestamp",
    "deletionTimestamp",
    "deletionGracePeriodSeconds",
    "managedFields",
    "selfLink",
];

/// What is about to happen to an object.
#[derive(Clone, Copy, Debug)]
pub enum Operation<'a> {
    /// It is new.
    Create,
    /// It replaces this one.
    Update {
        /// As it is stored.
        old: &'a Value,
    },
}

/// An object that may be kept.
#[derive(Clone, Debug, PartialEq)]
pub struct Admitted {
    /// With defaults, and without the fields that its kind has not.
    pub object: Value,
    /// The fields that its kind has not, as `unknown field "spec.x"`; whether they are an error is the client's choice
    /// (`fieldValidation`).
    pub unknown: Vec<String>,
    /// What the client should be warned of.
    pub warnings: Vec<String>,
}

/// Why an object may not be kept.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// A field has a value of another type.
    #[error(transparent)]
    Decode(#[from] DecodeError),
    /// It breaks a rule of its kind: for Knative's kinds, worded as Knative's admission does.
    #[error("{0}")]
    Invalid(FieldErrors),
}

impl Refused {
    /// Never: the same object is refused again.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        false
    }
}

/// Decides about `object` of `resource`. Metadata that a server writes (`uid`, `resourceVersion`, `managedFields`, …) and the
/// status pass through unchanged, and so does the version it is written in.
///
/// Of an object that is being deleted no rule is checked, so that whoever must agree to its deletion can, even if a rule
/// was made since that it breaks.
///
/// # Errors
/// When it cannot be kept.
pub fn admit(
    resource: &Resource,
    object: Value,
    operation: Operation<'_>,
    rules: &Rules<'_>,
) -> Result<Admitted, Refused> {
    dispatch(resource, Request { object, operation, rules })
}

/// The fields of `object` that its kind has not, as [`Admitted::unknown`] tells them. A server that was asked to be strict
/// (`fieldValidation`) looks for them first: Kubernetes tells of them rather than of broken rules.
///
/// # Errors
/// When a field has a value of another type, or the object is of another kind.
pub fn unknown_fields(resource: &Resource, object: &Value) -> Result<Vec<String>, Refused> {
    dispatch(resource, Reading(object))
}

/// What is done with an object once its type is known.
trait Act {
    type Answer;

    fn object(&self) -> &Value;

    fn act<T: Kind>(self) -> Result<Self::Answer, Refused>;
}

fn dispatch<A: Act>(resource: &Resource, action: A) -> Result<A::Answer, Refused> {
    check_header(resource, action.object())?;
    match (resource.group, resource.kind) {
        ("", config_map::KIND) => action.act::<ConfigMap>(),
        ("", event::KIND) => action.act::<Event>(),
        ("", namespace::KIND) => action.act::<Namespace>(),
        ("", secret::KIND) => action.act::<Secret>(),
        ("", service_account::KIND) => action.act::<ServiceAccount>(),
        (_, broker::KIND) => action.act::<Broker>(),
        (_, custom_resource_definition::KIND) => action.act::<CustomResourceDefinition>(),
        (_, github_source::KIND) => action.act::<GitHubSource>(),
        (_, lease::KIND) => action.act::<Lease>(),
        (_, ping_source::KIND) => action.act::<PingSource>(),
        (_, trigger::KIND) => action.act::<Trigger>(),
        // A kind that is served without a type would be kept unread; a test walks all of them.
        (_, kind) => Err(unserved(action.object(), kind)),
    }
}

/// Refuses an object of another kind or version than was asked for.
fn check_header(resource: &Resource, object: &Value) -> Result<(), Refused> {
    let text = |field| object.get(field).and_then(Value::as_str).unwrap_or_default();
    let version = resource
        .versions
        .iter()
        .any(|version| resource.api_version(version.name) == text("apiVersion"));
    if version && text("kind") == resource.kind {
        Ok(())
    } else {
        Err(unserved(object, text("kind")))
    }
}

fn unserved(object: &Value, kind: &str) -> Refused {
    let api_version = object.get("apiVersion").and_then(Value::as_str).unwrap_or_default();
    let (api_version, kind) = (api_version.to_owned(), kind.to_owned());
    DecodeError::Unsupported { api_version, kind }.into()
}

struct Request<'a> {
    object: Value,
    operation: Operation<'a>,
    rules: &'a Rules<'a>,
}

impl Act for Request<'_> {
    type Answer = Admitted;

    fn object(&self) -> &Value {
        &self.object
    }

    fn act<T: Kind>(self) -> Result<Admitted, Refused> {
        let (mut read, unknown) = read::<T>(&self.object)?;
        let old = match self.operation {
            Operation::Create => None,
            Operation::Update { old } => Some(old),
        };
        // Also of what is being deleted: some fields are only written, and must not be kept as they came.
        read.defaults(self.rules);
        if old.and_then(|old| old.pointer("/metadata/deletionTimestamp")).is_none() {
            let mut errors = read.validate(self.rules);
            // What an older program stored and this one cannot read says nothing about what may change.
            if let Some(old) = old.and_then(|old| object::decode(old, &mut Vec::new()).ok()) {
                errors.also(read.validate_update(&old));
            }
            errors.into_result().map_err(Refused::Invalid)?;
        }
        let mut kept = serde_json::to_value(&read).expect("the kinds are written as JSON objects");
        pass_through(self.object, &mut kept);
        Ok(Admitted { object: kept, unknown, warnings: Vec::new() })
    }
}

struct Reading<'a>(&'a Value);

impl Act for Reading<'_> {
    type Answer = Vec<String>;

    fn object(&self) -> &Value {
        self.0
    }

    fn act<T: Kind>(self) -> Result<Vec<String>, Refused> {
        read::<T>(self.0).map(|(_, unknown)| unknown)
    }
}

/// An object, and what is told of the fields that its kind has not.
fn read<T: Kind>(object: &Value) -> Result<(T, Vec<String>), Refused> {
    let mut unknown = Vec::new();
    let read = object::decode(object, &mut unknown).map_err(DecodeError::of)?;
    Ok((read, unknown.into_iter().map(|path| format!("unknown field {path:?}")).collect()))
}

/// Puts back, as it was, what only a server writes.
fn pass_through(mut object: Value, kept: &mut Value) {
    let Value::Object(kept) = kept else { return };
    match object.get_mut("status").map(Value::take) {
        Some(status) if !status.is_null() => kept.insert("status".to_owned(), status),
        _ => kept.remove("status"),
    };
    let Some(Value::Object(kept)) = kept.get_mut("metadata") else { return };
    for field in SERVER_WRITTEN {
        if let Some(value) = object.pointer_mut(&format!("/metadata/{field}")).map(Value::take)
            && !value.is_null()
        {
            kept.insert(field.to_owned(), value);
        }
    }
}

#[cfg(test)]
mod tests;
