//! Any of the kinds, and how one is read from JSON: strictly, so that a misspelt field is never ignored.

mod place;
mod strict;

use std::any::Any;
use std::borrow::Cow;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fmt::{self, Display};

use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::FieldErrors;
use crate::admission::Kind;
use crate::broker_defaults::BrokerDefaults;
use crate::meta::ObjectMeta;
use crate::ping_defaults::PingDefaults;
use crate::resource::{Catalog, Resource};
use crate::trigger::CesqlCheck;

use place::Segment;
use strict::{Findings, Strict};

/// More values of a wrong type than this are not collected about one object: each costs one more reading of it.
const MAX_WRONG: usize = 32;

/// An object of any kind that a file may hold. Whoever knows its type asks for that.
#[derive(Debug)]
pub struct Object {
    resource: &'static Resource,
    read: Box<dyn Erased>,
}

/// A [`Kind`] whose type is forgotten.
pub(crate) trait Erased: Any + fmt::Debug + Send + Sync {
    fn metadata(&self) -> &ObjectMeta;
    fn defaults(&mut self, rules: &Rules<'_>);
    fn validate(&self, rules: &Rules<'_>) -> FieldErrors;
}

impl<T: Kind> Erased for T {
    fn metadata(&self) -> &ObjectMeta {
        Kind::metadata(self)
    }

    fn defaults(&mut self, rules: &Rules<'_>) {
        Kind::defaults(self, rules);
    }

    fn validate(&self, rules: &Rules<'_>) -> FieldErrors {
        Kind::validate(self, rules)
    }
}

/// What defaulting and validation of any kind need from outside.
#[derive(Clone, Copy)]
pub struct Rules<'a> {
    /// The kinds there are.
    pub catalog: Catalog,
    /// Checks the syntax of CESQL.
    pub cesql: CesqlCheck<'a>,
    /// What Brokers get that say nothing themselves.
    pub broker_defaults: &'a BrokerDefaults,
    /// What `PingSources` are held to.
    pub ping_defaults: PingDefaults,
}

impl fmt::Debug for Rules<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Rules")
            .field("catalog", &self.catalog)
            .field("broker_defaults", self.broker_defaults)
            .field("ping_defaults", &self.ping_defaults)
            .finish_non_exhaustive()
    }
}

/// What identifies an object. Kinds of different groups do not share names here.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Key {
    /// The kind.
    pub kind: &'static str,
    /// The namespace; empty for a Namespace.
    pub namespace: String,
    /// The name.
    pub name: String,
}

impl Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.namespace.is_empty() {
            write!(f, "{} {}", self.kind, self.name)
        } else {
            write!(f, "{} {}/{}", self.kind, self.namespace, self.name)
        }
    }
}

/// Why a JSON value is not an object.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// It does not say what it is.
    #[error("{field} is missing")]
    Unnamed {
        /// `apiVersion` or `kind`.
        field: &'static str,
    },
    /// It is of another kind or version.
    #[error("{}", unsupported(.api_version, .kind, .supported))]
    Unsupported {
        /// Its version.
        api_version: String,
        /// Its kind.
        kind: String,
        /// The versions that it could be of, each with the kind.
        supported: Vec<(String, &'static str)>,
    },
    /// It has fields that its kind has not. Worded as a Kubernetes API server does.
    #[error("{}", unknown_fields(.api_version, .kind, .paths))]
    UnknownFields {
        /// Its version.
        api_version: String,
        /// Its kind.
        kind: String,
        /// The fields.
        paths: Vec<String>,
    },
    /// A field has a value of another type.
    #[error("{path}: {expected}")]
    WrongType {
        /// The field.
        path: String,
        /// What it must be.
        expected: String,
    },
    /// Several of these at once.
    #[error("{}", lines(.0))]
    Several(Vec<Self>),
}

impl DecodeError {
    /// Always false: the value stays what it is.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        false
    }
}

impl DecodeError {
    /// One error of those that were found together.
    pub(crate) fn of(mut errors: Vec<Self>) -> Self {
        if errors.len() == 1 { errors.remove(0) } else { Self::Several(errors) }
    }
}

fn lines(errors: &[DecodeError]) -> String {
    errors.iter().map(DecodeError::to_string).collect::<Vec<_>>().join("\n")
}

fn unsupported(api_version: &str, kind: &str, supported: &[(String, &'static str)]) -> String {
    let versions: Vec<_> =
        supported.iter().filter(|known| known.1 == kind).map(|known| known.0.as_str()).collect();
    if versions.is_empty() {
        let known: Vec<_> =
            supported.iter().map(|(version, kind)| format!("{kind} ({version})")).collect();
        let known = known.join(", ");
        let group = api_version.split('/').next().unwrap_or(api_version);
        return if group.ends_with(".knative.dev") {
            format!(
                "Knative's {kind} ({api_version}) is not served by this mesh; supported are {known}"
            )
        } else {
            format!("no kind {kind:?} in version {api_version:?} is known; supported are {known}")
        };
    }
    format!("{kind} has no version {api_version:?}; supported is {}", versions.join(" and "))
}

fn unknown_fields(api_version: &str, kind: &str, paths: &[String]) -> String {
    let version = api_version.rsplit('/').next().unwrap_or(api_version);
    let fields: Vec<_> = paths.iter().map(|path| format!("unknown field {path:?}")).collect();
    let fields = fields.join(", ");
    format!(
        "{kind} in version {version:?} cannot be handled as a {kind}: strict decoding error: {fields}"
    )
}

impl Object {
    /// Reads an object of one of the kinds of `catalog` that a file may hold, strictly. Null means absent, as in Kubernetes.
    ///
    /// # Errors
    /// When it is of no such kind, has unknown fields, or a field of another type.
    pub fn from_value(value: &Value, catalog: Catalog) -> Result<Self, DecodeError> {
        let api_version = header(value, "apiVersion")?;
        let kind = header(value, "kind")?;
        let Some(resource) = catalog.supported(&api_version, &kind) else {
            let supported = catalog.supports_what();
            return Err(DecodeError::Unsupported { api_version, kind, supported });
        };
        let mut unknown = Vec::new();
        let (read, mut errors) = match (resource.handle.read)(value, &mut unknown) {
            Ok(read) => (Some(read), Vec::new()),
            Err(wrong) => (None, wrong),
        };
        if !unknown.is_empty() {
            errors.push(DecodeError::UnknownFields { api_version, kind, paths: unknown });
        }
        match read {
            Some(read) if errors.is_empty() => Ok(Self { resource, read }),
            _ => Err(DecodeError::of(errors)),
        }
    }

    /// Fills in what the user left out.
    pub fn defaults(&mut self, rules: &Rules<'_>) {
        self.read.defaults(rules);
    }

    /// What is wrong with it, once defaults are filled in.
    #[must_use]
    pub fn validate(&self, rules: &Rules<'_>) -> FieldErrors {
        self.read.validate(rules)
    }

    /// The metadata.
    #[must_use]
    pub fn metadata(&self) -> &ObjectMeta {
        self.read.metadata()
    }

    /// Its kind, as it is served.
    #[must_use]
    pub fn resource(&self) -> &'static Resource {
        self.resource
    }

    /// The object as what it is; none if it is of another type.
    #[must_use]
    pub fn downcast_ref<T: Kind>(&self) -> Option<&T> {
        let any: &dyn Any = &*self.read;
        any.downcast_ref()
    }

    /// What identifies it.
    #[must_use]
    pub fn key(&self) -> Key {
        let metadata = self.metadata();
        Key {
            kind: self.resource.kind,
            namespace: metadata.namespace.clone(),
            name: metadata.name.clone(),
        }
    }
}

fn header(value: &Value, field: &'static str) -> Result<String, DecodeError> {
    let Value::Object(map) = value else {
        return Err(DecodeError::WrongType {
            path: String::new(),
            expected: must_be("a map", value),
        });
    };
    match map.get(field) {
        Some(Value::String(text)) if !text.is_empty() => Ok(text.clone()),
        None | Some(Value::Null | Value::String(_)) => Err(DecodeError::Unnamed { field }),
        Some(other) => Err(DecodeError::WrongType {
            path: field.to_owned(),
            expected: must_be("a string", other),
        }),
    }
}

/// Reads a value of any type, collecting the fields that the type has not.
///
/// Serde stops at the first value of a wrong type; such a value is taken away and the rest read again, so that one
/// mistake does not hide the others.
pub(crate) fn decode<T: DeserializeOwned>(
    value: &Value,
    unknown: &mut Vec<String>,
) -> Result<T, Vec<DecodeError>> {
    let mut rest = Cow::Borrowed(value);
    let mut wrong: BTreeMap<String, DecodeError> = BTreeMap::new();
    loop {
        unknown.clear();
        let wrong_type = match decode_once(&rest, unknown) {
            Ok(read) if wrong.is_empty() => return Ok(read),
            Ok(_) => break,
            Err(wrong_type) => wrong_type,
        };
        let place = place::path(&wrong_type.place);
        // What is still wrong once it was taken away cannot be read around.
        if wrong.contains_key(&place) {
            break;
        }
        wrong.insert(place, wrong_type.error);
        if wrong.len() == MAX_WRONG || !place::take_away(rest.to_mut(), &wrong_type.place) {
            break;
        }
    }
    Err(wrong.into_values().collect())
}

/// A value of a wrong type.
struct WrongType {
    error: DecodeError,
    place: Vec<Segment>,
}

/// Reads up to the first value of a wrong type.
fn decode_once<T: DeserializeOwned>(
    value: &Value,
    unknown: &mut Vec<String>,
) -> Result<T, WrongType> {
    let findings = RefCell::new(Findings::default());
    let read = T::deserialize(Strict::of(value, &findings));
    let found = findings.into_inner();
    unknown.extend(found.unknown);
    read.map_err(|error| {
        let place = found.wrong.unwrap_or_default();
        let error = error.to_string();
        let expected = match (error.split_once(", expected "), place::find(value, &place)) {
            (Some((_, expected)), Some(found)) => must_be(expected, found),
            _ => "has a value of the wrong type".to_owned(),
        };
        WrongType { error: DecodeError::WrongType { path: place::path(&place), expected }, place }
    })
}

/// What a field must be, in words. The value is not repeated: it may be a secret.
fn must_be(expected: &str, found: &Value) -> String {
    let found = match found {
        Value::Null => "null",
        Value::Bool(_) => "true or false",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "a list",
        Value::Object(_) => "a mapping",
    };
    let scalar = matches!(found, "null" | "true or false" | "a number");
    match expected {
        "a string" if scalar => format!("must be a string, not {found}; quote it"),
        "a string" => format!("must be a string, not {found}"),
        "a boolean" => format!("must be true or false, not {found}"),
        "a sequence" => format!("must be a list, not {found}"),
        "i32" | "i64" | "u32" | "u64" if found == "a number" => {
            "must be a whole number that is not as large".to_owned()
        }
        "i32" | "i64" | "u32" | "u64" => format!("must be a whole number, not {found}"),
        _ => format!("must be a mapping, not {found}"),
    }
}

#[cfg(test)]
mod tests;
