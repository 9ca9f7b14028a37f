//! What an API server does with an object before it keeps it: reads it strictly, fills in defaults, refuses what is wrong.

mod kinds;

use std::fmt::Debug;

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::FieldErrors;
use crate::meta::ObjectMeta;
use crate::object::{self, DecodeError, Erased, Rules};
use crate::resource::Resource;

/// What is asked of the objects of a kind.
pub trait Kind: Serialize + DeserializeOwned + Debug + Send + Sync + 'static {
    /// Name, labels, annotations.
    fn metadata(&self) -> &ObjectMeta;

    /// Fills in what the user left out.
    fn defaults(&mut self, rules: &Rules<'_>);

    /// What is wrong with it, once defaults are filled in.
    fn validate(&self, rules: &Rules<'_>) -> FieldErrors;

    /// What cannot change from `old`.
    fn validate_update(&self, _old: &Self) -> FieldErrors {
        FieldErrors::new()
    }
}

/// Reads an object as [`object::decode`] does, and forgets its type.
type Erasing = fn(&Value, &mut Vec<String>) -> Result<Box<dyn Erased>, Vec<DecodeError>>;

/// What is done with the objects of a kind, once its type is forgotten.
#[derive(Clone, Copy, Debug)]
pub struct Handle {
    admit: fn(Value, Operation<'_>, &Rules<'_>) -> Result<Admitted, Refused>,
    unknown: fn(&Value) -> Result<Vec<String>, Refused>,
    pub(crate) read: Erasing,
}

impl Handle {
    /// What is done with objects of that type.
    #[must_use]
    pub const fn of<T: Kind>() -> Self {
        Self { admit: admit_as::<T>, unknown: unknown_of::<T>, read: read_erased::<T> }
    }
}

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
    check_header(resource, &object)?;
    (resource.handle.admit)(object, operation, rules)
}

/// The fields of `object` that its kind has not, as [`Admitted::unknown`] tells them. A server that was asked to be strict
/// (`fieldValidation`) looks for them first: Kubernetes tells of them rather than of broken rules.
///
/// # Errors
/// When a field has a value of another type, or the object is of another kind.
pub fn unknown_fields(resource: &Resource, object: &Value) -> Result<Vec<String>, Refused> {
    check_header(resource, object)?;
    (resource.handle.unknown)(object)
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
        let (api_version, kind) = (text("apiVersion").to_owned(), text("kind").to_owned());
        let supported = resource.served_as().collect();
        Err(DecodeError::Unsupported { api_version, kind, supported }.into())
    }
}

fn admit_as<T: Kind>(
    object: Value,
    operation: Operation<'_>,
    rules: &Rules<'_>,
) -> Result<Admitted, Refused> {
    let (mut read, unknown) = read::<T>(&object)?;
    let old = match operation {
        Operation::Create => None,
        Operation::Update { old } => Some(old),
    };
    // Also of what is being deleted: some fields are only written, and must not be kept as they came.
    read.defaults(rules);
    let is_terminating = |old: &Value| old["metadata"].get("deletionTimestamp").is_some();
    if !old.is_some_and(is_terminating) {
        let mut errors = read.validate(rules);
        // What an older program stored and this one cannot read says nothing about what may change.
        if let Some(old) = old.and_then(|old| object::decode(old, &mut Vec::new()).ok()) {
            errors.also(read.validate_update(&old));
        }
        errors.into_result().map_err(Refused::Invalid)?;
    }
    let mut kept = serde_json::to_value(&read).expect("the kinds are written as JSON objects");
    pass_through(object, &mut kept);
    Ok(Admitted { object: kept, unknown, warnings: Vec::new() })
}

fn unknown_of<T: Kind>(object: &Value) -> Result<Vec<String>, Refused> {
    read::<T>(object).map(|(_, unknown)| unknown)
}

fn read_erased<T: Kind>(
    object: &Value,
    unknown: &mut Vec<String>,
) -> Result<Box<dyn Erased>, Vec<DecodeError>> {
    object::decode::<T>(object, unknown).map(|read| Box::new(read) as Box<dyn Erased>)
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
    let Some(Value::Object(mut given)) = object.get_mut("metadata").map(Value::take) else {
        return;
    };
    for field in SERVER_WRITTEN {
        if let Some((name, value)) = given.remove_entry(field)
            && !value.is_null()
        {
            kept.insert(name, value);
        }
    }
}

#[cfg(test)]
mod tests;
