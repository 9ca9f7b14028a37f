//! What surrounds an object: the version it is written in, and whether what it says of itself agrees with its path.

use bytes::Bytes;
use crds::resource::Resource;
use serde_json::Value;

use crate::admission;
use crate::server::metadata;
use crate::server::request::{Target, Validation};
use crate::status::Refusal;
use crate::store::{Change, Key, Record};

/// An object that a client wants kept, before it was checked.
#[derive(Clone, Debug)]
pub(crate) struct Draft {
    pub(crate) object: Value,
    /// What stands twice in the body.
    pub(crate) duplicates: Vec<String>,
    /// Whether server-side apply already noted who wrote what.
    pub(crate) applied: bool,
}

/// Makes an object say what its path says, or refuses it if it says something else.
pub(crate) fn agree(target: &Target, object: &mut Value) -> Result<(), Refusal> {
    agree_as(target, &target.api_version(), target.resource.kind, object)
}

/// The same, where the path takes objects of another kind.
pub(crate) fn agree_as(
    target: &Target,
    api_version: &str,
    kind: &str,
    object: &mut Value,
) -> Result<(), Refusal> {
    metadata::of(object)?;
    let expected = [("apiVersion", api_version), ("kind", kind)];
    let Value::Object(map) = object else { return Err(Refusal::Unserved) };
    for (field, expected) in expected {
        match map.get(field) {
            None | Some(Value::Null) => {
                map.insert(field.to_owned(), expected.into());
            }
            Some(Value::String(given)) if *given == expected => {}
            Some(given) => {
                let field = if field == "kind" { field } else { "API version" };
                return Err(Refusal::BadRequest(format!(
                    "the {field} in the data ({}) does not match the expected {field} ({expected})",
                    given.as_str().unwrap_or("no string")
                )));
            }
        }
    }
    let meta = metadata::known(object);
    let given = |field: &str| meta.get(field).and_then(Value::as_str).unwrap_or_default();
    if let Some(name) = &target.name
        && given("name") != name
    {
        // Of a patch, the name is that of the path already.
        let given = given("name");
        return Err(Refusal::BadRequest(format!(
            "the name of the object ({given}) does not match the name on the URL ({name})"
        )));
    }
    let namespace = target.namespace.as_deref().unwrap_or_default();
    if !matches!(given("namespace"), "") && given("namespace") != namespace {
        return Err(Refusal::BadRequest(
            "the namespace of the provided object does not match the namespace sent on the request"
                .to_owned(),
        ));
    }
    if namespace.is_empty() {
        meta.remove("namespace");
    } else {
        meta.insert("namespace".to_owned(), namespace.into());
    }
    Ok(())
}

/// The object of a record, in the version of the path. Versions of a kind differ in nothing else.
pub(crate) fn open(target: &Target, record: &Record) -> Result<Value, Refusal> {
    let mut object = parse(record)?;
    set_version(&mut object, target.api_version());
    Ok(object)
}

/// The object of a record, in the version that is stored.
pub(crate) fn parse(record: &Record) -> Result<Value, Refusal> {
    serde_json::from_slice(&record.json).map_err(|error| {
        let Key { resource, namespace, name } = &record.key;
        Refusal::Failed(format!("{} {namespace}/{name} cannot be read: {error}", resource.plural))
    })
}

/// Whether a record can be handed out as it is stored.
pub(crate) fn is_stored_version(target: &Target) -> bool {
    target.resource.versions.first().is_some_and(|first| first.name == target.version.name)
}

/// The object in the version that is stored.
pub(crate) fn to_stored(resource: &Resource, object: &mut Value) {
    if let Some(first) = resource.versions.first() {
        set_version(object, resource.api_version(first.name));
    }
}

fn set_version(object: &mut Value, api_version: String) {
    if let Value::Object(map) = object {
        map.insert("apiVersion".to_owned(), api_version.into());
    }
}

/// The write that keeps an object.
pub(crate) fn put(object: Value) -> Change {
    Change::Put(Box::new(move |version| encode(object, version)))
}

/// The write that removes an object, of which this is the last state.
pub(crate) fn removal(object: Value) -> Change {
    Change::Delete(Box::new(move |version| encode(object, version)))
}

/// The JSON of an object in the version of its write.
pub(crate) fn encode(mut object: Value, version: u64) -> Bytes {
    if let Some(Value::Object(meta)) = object.get_mut("metadata") {
        meta.insert("resourceVersion".to_owned(), version.to_string().into());
    }
    object.to_string().into()
}

/// Refuses an object that is too large to keep.
pub(crate) fn fits(object: &Value, limit: usize) -> Result<(), Refusal> {
    let bytes = object.to_string().len();
    if bytes <= limit {
        return Ok(());
    }
    Err(Refusal::TooLarge(format!("the object has {bytes} bytes; at most {limit} can be kept")))
}

/// Refuses unknown and repeated fields, or makes warnings of them, as the client wishes.
pub(crate) fn judge(
    target: &Target,
    validation: Validation,
    problems: Vec<String>,
) -> Result<Vec<String>, Refusal> {
    match validation {
        Validation::Strict if !problems.is_empty() => {
            let reason = admission::strict_error(&problems);
            let (kind, version) = target.sent();
            Err(Refusal::BadRequest(admission::cannot_be_handled(kind, version, reason)))
        }
        Validation::Warn => Ok(problems),
        Validation::Strict | Validation::Ignore => Ok(Vec::new()),
    }
}

/// The key of a named path.
pub(crate) fn key(target: &Target, name: &str) -> Key {
    Key {
        resource: target.resource,
        namespace: target.namespace.clone().unwrap_or_default(),
        name: name.to_owned(),
    }
}
