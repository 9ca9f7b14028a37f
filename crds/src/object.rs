//! Any of the kinds, and how one is read from JSON: strictly, so that a misspelt field is never ignored.

mod strict;

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt::{self, Display};

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::FieldErrors;
use crate::broker::{self, Broker};
use crate::broker_defaults::BrokerDefaults;
use crate::config_map::{self, ConfigMap};
use crate::github_source::{self, GitHubSource};
use crate::meta::ObjectMeta;
use crate::namespace::{self, Namespace};
use crate::ping_defaults::PingDefaults;
use crate::ping_source::{self, PingSource, ScheduleCheck};
use crate::secret::{self, Secret};
use crate::trigger::{self, CesqlCheck, Trigger};

use strict::Strict;

/// More unknown fields than this are not collected about one object.
const MAX_UNKNOWN: usize = 32;
/// Nor more values of a wrong type: each costs one more reading of the object.
const MAX_WRONG: usize = 32;

/// The supported kinds, with their versions.
pub const SUPPORTED: &[(&str, &str)] = &[
    (broker::API_VERSION, broker::KIND),
    (trigger::API_VERSION, trigger::KIND),
    (ping_source::API_VERSION, ping_source::KIND),
    (ping_source::API_VERSION_OLD, ping_source::KIND),
    (github_source::API_VERSION, github_source::KIND),
    (config_map::API_VERSION, config_map::KIND),
    (secret::API_VERSION, secret::KIND),
    (namespace::API_VERSION, namespace::KIND),
];

/// An object of any kind.
#[expect(
    clippy::large_enum_variant,
    reason = "most objects are Triggers and sources, which are the large ones"
)]
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(untagged)]
pub enum Object {
    /// Takes events in and keeps them.
    Broker(Broker),
    /// Sends events to a subscriber.
    Trigger(Trigger),
    /// Makes events by the clock.
    PingSource(PingSource),
    /// Makes events of webhooks.
    GitHubSource(GitHubSource),
    /// Configures the mesh.
    ConfigMap(ConfigMap),
    /// Keeps values to itself.
    Secret(Secret),
    /// Keeps names apart.
    Namespace(Namespace),
}

/// What defaulting and validation of any kind need from outside.
#[derive(Clone, Copy)]
pub struct Rules<'a> {
    /// Checks the syntax of CESQL.
    pub cesql: CesqlCheck<'a>,
    /// Checks that a schedule can be kept.
    pub schedule: ScheduleCheck<'a>,
    /// What Brokers get that say nothing themselves.
    pub broker_defaults: &'a BrokerDefaults,
    /// What `PingSources` are held to.
    pub ping_defaults: PingDefaults,
}

impl fmt::Debug for Rules<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Rules")
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
    #[error("{}", unsupported(.api_version, .kind))]
    Unsupported {
        /// Its version.
        api_version: String,
        /// Its kind.
        kind: String,
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

fn unsupported(api_version: &str, kind: &str) -> String {
    let versions: Vec<_> =
        SUPPORTED.iter().filter(|known| known.1 == kind).map(|known| known.0).collect();
    if versions.is_empty() {
        let known: Vec<_> =
            SUPPORTED.iter().map(|(version, kind)| format!("{kind} ({version})")).collect();
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
    /// Reads an object, strictly. Null means absent, as in Kubernetes.
    ///
    /// # Errors
    /// When it is of no supported kind, has unknown fields, or a field of another type.
    pub fn from_value(value: &Value) -> Result<Self, DecodeError> {
        let api_version = header(value, "apiVersion")?;
        let kind = header(value, "kind")?;
        if !SUPPORTED.contains(&(api_version.as_str(), kind.as_str())) {
            return Err(DecodeError::Unsupported { api_version, kind });
        }
        let mut unknown = Vec::new();
        let object = match kind.as_str() {
            broker::KIND => decode(value, &mut unknown).map(Self::Broker),
            trigger::KIND => decode(value, &mut unknown).map(Self::Trigger),
            ping_source::KIND => decode(value, &mut unknown).map(Self::PingSource),
            github_source::KIND => decode(value, &mut unknown).map(Self::GitHubSource),
            config_map::KIND => decode(value, &mut unknown).map(Self::ConfigMap),
            secret::KIND => decode(value, &mut unknown).map(Self::Secret),
            _ => decode(value, &mut unknown).map(Self::Namespace),
        };
        let (object, mut errors) = match object {
            Ok(object) => (Some(object), Vec::new()),
            Err(wrong) => (None, wrong),
        };
        if !unknown.is_empty() {
            errors.push(DecodeError::UnknownFields { api_version, kind, paths: unknown });
        }
        match object {
            Some(object) if errors.is_empty() => Ok(object),
            _ => Err(DecodeError::of(errors)),
        }
    }

    /// Fills in what the user left out.
    pub fn defaults(&mut self, rules: &Rules<'_>) {
        match self {
            Self::Broker(broker) => broker.defaults(rules.broker_defaults),
            Self::Trigger(trigger) => trigger.defaults(),
            Self::PingSource(source) => source.defaults(),
            Self::GitHubSource(source) => source.defaults(),
            Self::ConfigMap(map) => map.defaults(),
            Self::Secret(secret) => secret.defaults(),
            Self::Namespace(_) => {}
        }
    }

    /// What is wrong with it, once defaults are filled in.
    #[must_use]
    pub fn validate(&self, rules: &Rules<'_>) -> FieldErrors {
        match self {
            Self::Broker(broker) => broker.validate(rules.broker_defaults),
            Self::Trigger(trigger) => trigger.validate(rules.cesql),
            Self::PingSource(source) => source.validate(rules.schedule, rules.ping_defaults),
            Self::GitHubSource(source) => source.validate(),
            Self::ConfigMap(map) => map.validate(),
            Self::Secret(secret) => secret.validate(),
            Self::Namespace(namespace) => namespace.validate(),
        }
    }

    /// The metadata.
    #[must_use]
    pub fn metadata(&self) -> &ObjectMeta {
        match self {
            Self::Broker(broker) => &broker.metadata,
            Self::Trigger(trigger) => &trigger.metadata,
            Self::PingSource(source) => &source.metadata,
            Self::GitHubSource(source) => &source.metadata,
            Self::ConfigMap(map) => &map.metadata,
            Self::Secret(secret) => &secret.metadata,
            Self::Namespace(namespace) => &namespace.metadata,
        }
    }

    /// The kind.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Broker(_) => broker::KIND,
            Self::Trigger(_) => trigger::KIND,
            Self::PingSource(_) => ping_source::KIND,
            Self::GitHubSource(_) => github_source::KIND,
            Self::ConfigMap(_) => config_map::KIND,
            Self::Secret(_) => secret::KIND,
            Self::Namespace(_) => namespace::KIND,
        }
    }

    /// What identifies it.
    #[must_use]
    pub fn key(&self) -> Key {
        let metadata = self.metadata();
        Key {
            kind: self.kind(),
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
        let place = wrong_type.place.to_string();
        // What is still wrong once it was taken away cannot be read around.
        if wrong.contains_key(&place) {
            break;
        }
        wrong.insert(place, wrong_type.error);
        if wrong.len() == MAX_WRONG || !take_away(rest.to_mut(), &wrong_type.place) {
            break;
        }
    }
    Err(wrong.into_values().collect())
}

/// A value of a wrong type.
struct WrongType {
    error: DecodeError,
    place: serde_path_to_error::Path,
}

/// Reads up to the first value of a wrong type.
fn decode_once<T: DeserializeOwned>(
    value: &Value,
    unknown: &mut Vec<String>,
) -> Result<T, WrongType> {
    let mut track = serde_path_to_error::Track::new();
    let tracked = serde_path_to_error::Deserializer::new(Strict(value), &mut track);
    let read = serde_ignored::deserialize(tracked, |path| {
        let path = ignored_path(&path);
        // What a server wrote may be newer than this program.
        if !path.starts_with("status.") && unknown.len() < MAX_UNKNOWN {
            unknown.push(path);
        }
    });
    read.map_err(|error| {
        let place = track.path();
        let (path, found) = tracked_path(&place, value);
        let error = error.to_string();
        let expected = match (error.split_once(", expected "), found) {
            (Some((_, expected)), Some(found)) => must_be(expected, found),
            _ => "has a value of the wrong type".to_owned(),
        };
        WrongType { error: DecodeError::WrongType { path, expected }, place }
    })
}

/// Makes a value absent. An item of a list becomes empty instead, so that the numbers of the others stay.
fn take_away(root: &mut Value, place: &serde_path_to_error::Path) -> bool {
    if place.iter().len() == 0 {
        return false;
    }
    let mut value = root;
    let mut absent = Value::Null;
    for segment in place {
        let inner = match segment {
            serde_path_to_error::Segment::Seq { index } => {
                absent = Value::Object(serde_json::Map::new());
                value.get_mut(index)
            }
            serde_path_to_error::Segment::Map { key }
            | serde_path_to_error::Segment::Enum { variant: key } => {
                absent = Value::Null;
                value.get_mut(key)
            }
            serde_path_to_error::Segment::Unknown => None,
        };
        let Some(inner) = inner else { return false };
        value = inner;
    }
    *value = absent;
    true
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

/// Fields whose keys are the user's own, not the names of fields.
const MAPS: [&str; 12] = [
    "labels",
    "annotations",
    "data",
    "stringData",
    "binaryData",
    "attributes",
    "exact",
    "prefix",
    "suffix",
    "extensions",
    "namespaceDefaults",
    "brokerClasses",
];

fn push_key(path: &mut String, parent: Option<&str>, key: &str) {
    if parent.is_some_and(|parent| MAPS.contains(&parent)) {
        path.push('[');
        path.push_str(key);
        path.push(']');
    } else {
        if !path.is_empty() {
            path.push('.');
        }
        path.push_str(key);
    }
}

fn tracked_path<'v>(
    tracked: &serde_path_to_error::Path,
    root: &'v Value,
) -> (String, Option<&'v Value>) {
    let (mut path, mut parent, mut value) = (String::new(), None, Some(root));
    for segment in tracked {
        match segment {
            serde_path_to_error::Segment::Seq { index } => {
                path.push_str(&format!("[{index}]"));
                value = value.and_then(|value| value.get(index));
                parent = None;
            }
            serde_path_to_error::Segment::Map { key }
            | serde_path_to_error::Segment::Enum { variant: key } => {
                push_key(&mut path, parent, key);
                value = value.and_then(|value| value.get(key));
                parent = Some(key.as_str());
            }
            serde_path_to_error::Segment::Unknown => {}
        }
    }
    (path, value)
}

fn ignored_path(ignored: &serde_ignored::Path<'_>) -> String {
    fn write<'p>(ignored: &'p serde_ignored::Path<'_>, path: &mut String) -> Option<&'p str> {
        match ignored {
            serde_ignored::Path::Root => None,
            serde_ignored::Path::Seq { parent, index } => {
                write(parent, path);
                path.push_str(&format!("[{index}]"));
                None
            }
            serde_ignored::Path::Map { parent, key } => {
                let above = write(parent, path);
                push_key(path, above, key);
                Some(key)
            }
            serde_ignored::Path::Some { parent }
            | serde_ignored::Path::NewtypeStruct { parent }
            | serde_ignored::Path::NewtypeVariant { parent } => write(parent, path),
        }
    }
    let mut path = String::new();
    write(ignored, &mut path);
    path
}

#[cfg(test)]
mod tests;
