//! What surrounds an object: the version it is written in, and whether what it says of itself agrees with its path.

use bytes::Bytes;
use crds::resource::Resource;
use serde::Serialize;
use serde_json::{Map, Value};

use crate::admission;
use crate::server::metadata;
use crate::server::request::{Target, Validation};
use crate::status::Refusal;
use crate::store::{Change, Key, Record};

/// What tells the version of an object.
const VERSION: &str = "resourceVersion";

/// An object that a client wants kept, before it was checked.
#[derive(Clone, Debug, Default)]
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

/// The JSON of an object but for the version, which its write gives it: the writer's thread has only to put that in its place.
#[derive(Debug)]
pub(crate) struct Sealed {
    json: Vec<u8>,
    /// Where the digits of the version go; nowhere in what has no metadata.
    version_at: Option<usize>,
}

impl Sealed {
    pub(crate) fn new(object: &Value) -> Self {
        let mut sealed = Self { json: Vec::new(), version_at: None };
        match object {
            Value::Object(fields) => sealed.object(fields),
            other => sealed.push(other),
        }
        sealed
    }

    fn object(&mut self, fields: &Map<String, Value>) {
        self.json.push(b'{');
        for (position, (name, value)) in fields.iter().enumerate() {
            self.name(position, name);
            match value {
                Value::Object(meta) if name == "metadata" => self.metadata(meta),
                value => self.push(value),
            }
        }
        self.json.push(b'}');
    }

    fn metadata(&mut self, meta: &Map<String, Value>) {
        self.json.push(b'{');
        let others = meta.iter().filter(|(name, _)| *name != VERSION);
        let mut count = 0;
        for (name, value) in others {
            self.name(count, name);
            self.push(value);
            count += 1;
        }
        self.name(count, VERSION);
        self.json.push(b'"');
        self.version_at = Some(self.json.len());
        self.json.extend_from_slice(b"\"}");
    }

    fn name(&mut self, position: usize, name: &str) {
        if position > 0 {
            self.json.push(b',');
        }
        self.push(name);
        self.json.push(b':');
    }

    fn push(&mut self, value: &(impl Serialize + ?Sized)) {
        serde_json::to_writer(&mut self.json, value).expect("JSON is written to memory");
    }

    /// The same, refused if it is too large to keep.
    pub(crate) fn fitting(object: &Value, limit: usize) -> Result<Self, Refusal> {
        let sealed = Self::new(object);
        let bytes = sealed.json.len();
        if bytes <= limit {
            return Ok(sealed);
        }
        Err(Refusal::TooLarge(format!("the object has {bytes} bytes; at most {limit} can be kept")))
    }

    /// The JSON in the version of its write.
    pub(crate) fn of_version(mut self, version: u64) -> Bytes {
        if let Some(at) = self.version_at {
            self.json.splice(at..at, version.to_string().into_bytes());
        }
        self.json.into()
    }

    /// The write that keeps the object.
    pub(crate) fn put(self) -> Change {
        Change::Put(Box::new(move |version| self.of_version(version)))
    }

    fn removal(self) -> Change {
        Change::Delete(Box::new(move |version| self.of_version(version)))
    }
}

/// The write that keeps an object.
pub(crate) fn put(object: &Value) -> Change {
    Sealed::new(object).put()
}

/// The write that removes an object, of which this is the last state.
pub(crate) fn removal(object: &Value) -> Change {
    Sealed::new(object).removal()
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

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// What an object is in a version, read from its JSON.
    fn in_version(object: &Value, version: u64) -> Value {
        serde_json::from_slice(&Sealed::new(object).of_version(version)).unwrap()
    }

    #[test]
    fn a_sealed_object_has_the_version_of_its_write_and_everything_else_as_it_was() {
        let object = json!({
            "apiVersion": "v1", "kind": "Event",
            "metadata": {"name": "a\"b", "resourceVersion": "7", "uid": "u", "labels": {"resourceVersion": "8"}},
            "involvedObject": {"metadata": {"resourceVersion": ""}, "resourceVersion": "9"},
        });
        let mut expected = object.clone();
        expected["metadata"]["resourceVersion"] = "18446744073709551615".into();
        assert_eq!(in_version(&object, u64::MAX), expected);
        let bare = json!({"metadata": {}});
        assert_eq!(in_version(&bare, 1), json!({"metadata": {"resourceVersion": "1"}}));
        for strange in [json!({}), json!([1]), json!({"metadata": "none"})] {
            assert_eq!(in_version(&strange, 1), strange);
        }
    }

    #[test]
    fn what_is_too_large_is_refused_and_what_just_fits_is_not() {
        let object = json!({"metadata": {"name": "x".repeat(100)}});
        let size = Sealed::new(&object).json.len();
        assert!(Sealed::fitting(&object, size).is_ok());
        let refused = Sealed::fitting(&object, size - 1).unwrap_err();
        assert!(refused.to_string().contains(&size.to_string()), "{refused}");
    }
}
