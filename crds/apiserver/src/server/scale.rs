//! The `scale` subresource: how many an object wants and has, as `autoscaling/v1` asks for it, wherever its kind keeps that.
//!
//! Kubernetes' rules for the `scale` of custom resources hold: whoever reads the wanted number of an object that says none
//! gets an error, whoever sends none wants zero, and what else a `Scale` says changes nothing.

use crds::resource::Scale;
use serde_json::{Map, Value, json};

use crate::admission;
use crate::server::answer::{Answer, Shape};
use crate::server::body::{self, Media};
use crate::server::envelope::{self, Draft};
use crate::server::request::Target;
use crate::server::{ApiServer, Call, answer, metadata};
use crate::status::{Cause, Refusal, Subject};

/// Its group.
pub(crate) const GROUP: &str = "autoscaling";
/// Its version.
pub(crate) const VERSION: &str = "v1";
/// Both.
pub(crate) const API_VERSION: &str = "autoscaling/v1";
/// Its kind.
pub(crate) const KIND: &str = "Scale";

/// What a `Scale` tells of the metadata of its object.
const METADATA: [&str; 5] = ["name", "namespace", "uid", "resourceVersion", "creationTimestamp"];
/// What a client may make a write depend on.
const PRECONDITIONS: [&str; 2] = ["uid", "resourceVersion"];

impl ApiServer {
    /// PUT of a `Scale`.
    pub(super) async fn update_scale(&self, call: &Call, scale: &Scale) -> Result<Answer, Refusal> {
        let media = Media::of_object(&call.headers)?;
        let parsed = body::parse(&call.body, media)?;
        let mut sent = parsed.value;
        agree(&call.target, &mut sent)?;
        let wanted = wanted(&call.target, &sent)?.unwrap_or_default();
        let change = |live: &Value| {
            let object = scaled(scale, live, &sent, wanted);
            Ok(Draft { object, duplicates: problems(&sent, &parsed.duplicates), applied: false })
        };
        self.modify(call, change).await
    }
}

/// An answer with the `Scale` of an object.
pub(super) fn show(call: &Call, scale: &Scale, object: &Value) -> Answer {
    let view = of(scale, object);
    Answer::ok(&if call.shape == Shape::Partial { answer::partial(&view) } else { view })
}

/// The `Scale` of an object. A wanted number of zero is absent, as Kubernetes writes it.
pub(super) fn of(scale: &Scale, object: &Value) -> Value {
    let meta: Map<String, Value> = METADATA
        .iter()
        .filter_map(|field| {
            let value = object.get("metadata")?.get(field)?;
            Some(((*field).to_owned(), value.clone()))
        })
        .collect();
    let mut spec = Map::new();
    if let Some(wanted) = number(object, scale.spec_replicas).filter(|wanted| *wanted != 0) {
        spec.insert("replicas".to_owned(), wanted.into());
    }
    let mut status = Map::new();
    let there = number(object, scale.status_replicas).unwrap_or_default();
    status.insert("replicas".to_owned(), there.into());
    let selector = scale.label_selector.and_then(|path| at(object, path)?.as_str());
    if let Some(selector) = selector.filter(|selector| !selector.is_empty()) {
        status.insert("selector".to_owned(), selector.into());
    }
    json!({"kind": KIND, "apiVersion": API_VERSION, "metadata": meta, "spec": spec, "status": status})
}

/// Refuses to read the `Scale` of an object that does not say how many it wants.
pub(super) fn require(scale: &Scale, object: &Value) -> Result<(), Refusal> {
    let path = scale.spec_replicas;
    let missing = || Refusal::Failed(format!("the spec replicas field {path:?} does not exist"));
    number(object, path).map(drop).ok_or_else(missing)
}

/// What becomes of `live` by a patch that made `sent` of its `Scale`.
pub(super) fn patched(
    target: &Target,
    scale: &Scale,
    live: &Value,
    mut sent: Value,
    duplicates: &[String],
) -> Result<Draft, Refusal> {
    agree(target, &mut sent)?;
    let said = number(live, scale.spec_replicas).map(|_| 0);
    let wanted = wanted(target, &sent)?.or(said).ok_or_else(|| unsaid(scale))?;
    let object = scaled(scale, live, &sent, wanted);
    Ok(Draft { object, duplicates: problems(&sent, duplicates), applied: false })
}

/// The configuration that applying `sent`, a `Scale`, means for its object.
pub(super) fn applied(target: &Target, scale: &Scale, sent: &Value) -> Result<Value, Refusal> {
    let wanted = wanted(target, sent)?.ok_or_else(|| unsaid(scale))?;
    let mut object = json!({
        "apiVersion": target.api_version(), "kind": target.resource.kind,
        "metadata": {"name": metadata::text(sent, "name"), "namespace": metadata::text(sent, "namespace")},
    });
    set(&mut object, scale.spec_replicas, wanted.into());
    precondition(&mut object, sent);
    Ok(object)
}

/// Makes a `Scale` say what its path says, or refuses it if it says something else.
pub(super) fn agree(target: &Target, sent: &mut Value) -> Result<(), Refusal> {
    envelope::agree_as(target, API_VERSION, KIND, sent)
}

/// What is unknown in a `Scale`, beside what stands twice in it.
pub(super) fn problems(sent: &Value, duplicates: &[String]) -> Vec<String> {
    let known: [(&str, &[&str]); 3] = [
        ("", &["apiVersion", "kind", "metadata", "spec", "status"]),
        ("spec", &["replicas"]),
        ("status", &["replicas", "selector"]),
    ];
    let mut problems = duplicates.to_vec();
    for (part, fields) in known {
        let value = if part.is_empty() { Some(sent) } else { sent.get(part) };
        let keys = value.and_then(Value::as_object).into_iter().flat_map(Map::keys);
        for key in keys.filter(|key| !fields.contains(&key.as_str())) {
            let dot = if part.is_empty() { "" } else { "." };
            problems.push(format!("unknown field \"{part}{dot}{key}\""));
        }
    }
    problems
}

/// The number that a `Scale` wants, if it says one.
fn wanted(target: &Target, sent: &Value) -> Result<Option<i32>, Refusal> {
    let wrong =
        |reason: &str| Refusal::BadRequest(admission::cannot_be_handled(KIND, VERSION, reason));
    let value = match sent.get("spec") {
        None | Some(Value::Null) => return Ok(None),
        Some(Value::Object(spec)) => spec.get("replicas").unwrap_or(&Value::Null),
        Some(_) => return Err(wrong("spec must be a mapping")),
    };
    if value.is_null() {
        return Ok(None);
    }
    let number = value.as_i64().and_then(|number| i32::try_from(number).ok());
    let number = number.ok_or_else(|| wrong("spec.replicas must be a whole number"))?;
    if number < 0 {
        let details = "must be greater than or equal to 0";
        let cause = Cause::invalid("spec.replicas", &number.into(), details);
        let name = target.name.clone().unwrap_or_default();
        return Err(Refusal::field(
            Subject { group: GROUP, kind: KIND, plural: KIND, name },
            cause,
        ));
    }
    Ok(Some(number))
}

fn unsaid(scale: &Scale) -> Refusal {
    let path = scale.spec_replicas;
    Refusal::BadRequest(format!("the spec replicas field {path:?} cannot be empty"))
}

/// `live` with that number, to be written if it is still what `sent` says of its identity and version.
fn scaled(scale: &Scale, live: &Value, sent: &Value, wanted: i32) -> Value {
    let mut object = live.clone();
    set(&mut object, scale.spec_replicas, wanted.into());
    precondition(&mut object, sent);
    object
}

fn precondition(object: &mut Value, sent: &Value) {
    for field in PRECONDITIONS {
        let given = metadata::text(sent, field);
        if !given.is_empty() {
            metadata::known(object).insert(field.to_owned(), given.into());
        }
    }
}

/// The value at a plain path, as in `.spec.consumers`.
fn at<'o>(object: &'o Value, path: &str) -> Option<&'o Value> {
    names(path).try_fold(object, |value, name| value.get(name))
}

/// The number at a path. Whatever the kind allows, a `Scale` has room for 32 bits of it.
fn number(object: &Value, path: &str) -> Option<i32> {
    let number = at(object, path)?.as_i64()?;
    Some(i32::try_from(number).unwrap_or(if number < 0 { i32::MIN } else { i32::MAX }))
}

/// Puts a value at a plain path. What stands in the way is no object, and goes.
fn set(object: &mut Value, path: &str, value: Value) {
    let mut place = object;
    for name in names(path) {
        if !place.is_object() {
            *place = json!({});
        }
        let Value::Object(map) = place else { return };
        place = map.entry(name).or_insert(Value::Null);
    }
    *place = value;
}

fn names(path: &str) -> impl Iterator<Item = &str> {
    path.split('.').filter(|name| !name.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    const SCALE: Scale = Scale {
        spec_replicas: ".spec.pool.size",
        status_replicas: ".status.size",
        label_selector: Some(".status.selector"),
    };

    #[test]
    fn the_numbers_are_where_the_kind_keeps_them() {
        let object = json!({
            "metadata": {"name": "a", "uid": "u", "labels": {"x": "y"}},
            "spec": {"pool": {"size": 3}}, "status": {"size": 5_000_000_000_i64, "selector": "x=y"},
        });
        let expected = json!({
            "kind": "Scale", "apiVersion": "autoscaling/v1", "metadata": {"name": "a", "uid": "u"},
            "spec": {"replicas": 3}, "status": {"replicas": i32::MAX, "selector": "x=y"},
        });
        assert_eq!(of(&SCALE, &object), expected);
        let bare = of(&SCALE, &json!({"metadata": {"name": "a"}, "spec": {"pool": {"size": 0}}}));
        assert_eq!((&bare["spec"], &bare["status"]), (&json!({}), &json!({"replicas": 0})));
    }

    #[test]
    fn a_number_is_put_where_nothing_is_yet() {
        let live = json!({"metadata": {"name": "a"}, "spec": {"other": 1}});
        assert!(require(&SCALE, &live).is_err());
        let sent = json!({"metadata": {"name": "a", "uid": "u"}});
        let scaled = scaled(&SCALE, &live, &sent, 2);
        assert_eq!(scaled["spec"], json!({"other": 1, "pool": {"size": 2}}));
        assert_eq!(scaled["metadata"]["uid"], "u");
        assert_eq!(require(&SCALE, &scaled), Ok(()));
    }

    #[test]
    fn unknown_fields_are_named() {
        let sent =
            json!({"kind": "Scale", "spec": {"replica": 1}, "x": {}, "status": {"replicas": 1}});
        let found = problems(&sent, &["duplicate field \"spec\"".to_owned()]);
        let expected =
            ["duplicate field \"spec\"", "unknown field \"x\"", "unknown field \"spec.replica\""];
        assert_eq!(found, expected);
    }
}
