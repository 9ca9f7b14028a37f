//! What a server does with the metadata of objects: what it writes itself, what may not change, what names must look like.

use crds::name;
use crds::resource::Resource;
use jiff::Timestamp;
use serde_json::{Map, Value, json};
use uuid::Uuid;

use crate::status::{Cause, Refusal, Subject};

/// Set while the dependents of a deleted object go first.
pub(crate) const FOREGROUND: &str = "foregroundDeletion";
/// Set while the dependents of a deleted object are let go.
pub(crate) const ORPHAN: &str = "orphan";
/// What a Namespace holds in `spec.finalizers` until it is empty.
pub(crate) const KUBERNETES: &str = "kubernetes";
/// What Kubernetes' own kinds may be held by without a domain.
const STANDARD_FINALIZERS: [&str; 3] = [FOREGROUND, ORPHAN, KUBERNETES];
/// The label by which selectors find a namespace by name.
const NAME_LABEL: &str = "kubernetes.io/metadata.name";
/// Letters and digits that cannot spell words or be mistaken for one another: Kubernetes' own choice.
const ALPHABET: &[u8; 27] = b"bcdfghjklmnpqrstvwxz2456789";
/// Letters that are put behind `generateName`.
const SUFFIX: usize = 5;
/// Longer prefixes are cut, so that the name stays a label.
const MAX_PREFIX: usize = 63 - SUFFIX;
/// What only the server writes, besides `resourceVersion`.
const SERVER_WRITTEN: [&str; 6] = [
    "uid",
    "creationTimestamp",
    "generation",
    "deletionTimestamp",
    "deletionGracePeriodSeconds",
    "selfLink",
];

/// A text in the metadata; empty if absent.
pub(crate) fn text<'a>(object: &'a Value, field: &str) -> &'a str {
    object.get("metadata").and_then(|meta| meta.get(field)).and_then(Value::as_str).unwrap_or("")
}

/// The finalizers.
pub(crate) fn finalizers(object: &Value) -> Vec<&str> {
    let list = object.get("metadata").and_then(|meta| meta.get("finalizers"));
    list.and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str).collect()
}

/// Whether it is being deleted.
pub(crate) fn is_terminating(object: &Value) -> bool {
    !text(object, "deletionTimestamp").is_empty()
}

/// Whether nothing holds a deleted object any more.
pub(crate) fn may_go(resource: &Resource, object: &Value) -> bool {
    let held = resource.kind == crds::namespace::KIND
        && object
            .pointer("/spec/finalizers")
            .and_then(Value::as_array)
            .is_some_and(|list| !list.is_empty());
    is_terminating(object) && finalizers(object).is_empty() && !held
}

/// Seconds since 1970 as Kubernetes writes them.
pub(crate) fn seconds(now: Timestamp) -> String {
    now.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// The metadata of an object that is an object; made if absent, without nulls, which mean absent.
pub(crate) fn of(object: &mut Value) -> Result<&mut Map<String, Value>, Refusal> {
    let Value::Object(map) = object else {
        return Err(Refusal::BadRequest("an object must be a JSON object".to_owned()));
    };
    let meta = map.entry("metadata").or_insert(Value::Null);
    if meta.is_null() {
        *meta = json!({});
    }
    let Value::Object(meta) = meta else {
        return Err(Refusal::BadRequest("metadata must be a JSON object".to_owned()));
    };
    meta.retain(|_, value| !value.is_null());
    for field in ["name", "generateName", "namespace", "uid", "resourceVersion"] {
        match meta.get(field) {
            None | Some(Value::String(_)) => {}
            Some(_) => {
                return Err(Refusal::BadRequest(format!("metadata.{field} must be a string")));
            }
        }
    }
    Ok(meta)
}

/// The metadata of an object that was checked by [`of`] or comes from the store.
pub(crate) fn known(object: &mut Value) -> &mut Map<String, Value> {
    of(object).expect("metadata was checked when the object was read")
}

/// A name that nobody has yet, most likely.
pub(crate) fn generate(prefix: &str) -> String {
    let kept: String = prefix.chars().take(MAX_PREFIX).collect();
    let letter = || char::from(fastrand::choice(ALPHABET).copied().unwrap_or(b'x'));
    kept.chars().chain(std::iter::repeat_with(letter).take(SUFFIX)).collect()
}

/// Stamps a new object.
pub(crate) fn stamp(resource: &Resource, object: &mut Value, now: Timestamp) {
    let meta = known(object);
    for field in SERVER_WRITTEN {
        meta.remove(field);
    }
    meta.remove("resourceVersion");
    meta.insert("uid".to_owned(), Uuid::new_v4().to_string().into());
    meta.insert("creationTimestamp".to_owned(), seconds(now).into());
    if resource.is_custom() || !resource.writable {
        meta.insert("generation".to_owned(), 1.into());
    }
    if resource.kind == crds::namespace::KIND {
        let name = meta.get("name").cloned().unwrap_or_default();
        if let Value::Object(labels) = meta.entry("labels").or_insert_with(|| json!({})) {
            labels.insert(NAME_LABEL.to_owned(), name);
        }
        let Value::Object(namespace) = object else { return };
        namespace.insert("spec".to_owned(), json!({"finalizers": [KUBERNETES]}));
        namespace.insert("status".to_owned(), json!({"phase": "Active"}));
    }
}

/// Puts what the server wrote once over what a client sent, after checking that the client did not mean to change it.
pub(crate) fn carry(
    old: &Value,
    new: &mut Value,
    subject: &Subject,
    applied: bool,
) -> Result<(), Refusal> {
    let uid = text(old, "uid");
    let given = text(new, "uid");
    if !given.is_empty() && given != uid && applied {
        let cause = Cause::invalid("metadata.uid", &given.into(), "field is immutable");
        return Err(Refusal::field(subject.clone(), cause));
    }
    if !given.is_empty() && given != uid {
        let message =
            format!("Precondition failed: UID in precondition: {given}, UID in object meta: {uid}");
        return Err(Refusal::Conflict { subject: subject.clone(), message });
    }
    let empty = Value::Null;
    let old_meta = old.get("metadata").unwrap_or(&empty);
    let meta = known(new);
    for field in ["deletionTimestamp", "deletionGracePeriodSeconds"] {
        let (was, is) = (old_meta.get(field), meta.get(field));
        // Of what is going already, Kubernetes sets it right.
        if is.is_some() && is != was && !(field == "deletionTimestamp" && was.is_some()) {
            let value = is.cloned().unwrap_or_default();
            let cause = Cause::invalid(format!("metadata.{field}"), &value, "field is immutable");
            return Err(Refusal::field(subject.clone(), cause));
        }
    }
    for field in SERVER_WRITTEN.into_iter().chain(["resourceVersion"]) {
        match old_meta.get(field) {
            Some(value) => meta.insert(field.to_owned(), value.clone()),
            None => meta.remove(field),
        };
    }
    Ok(())
}

/// Marks an object as being deleted.
pub(crate) fn mark_deleted(resource: &Resource, object: &mut Value, now: Timestamp) {
    let meta = known(object);
    if meta.contains_key("deletionTimestamp") {
        return;
    }
    meta.insert("deletionTimestamp".to_owned(), seconds(now).into());
    if resource.kind != crds::namespace::KIND {
        meta.insert("deletionGracePeriodSeconds".to_owned(), 0.into());
    }
    next_generation(meta);
    if resource.kind == crds::namespace::KIND
        && let Value::Object(namespace) = object
    {
        let status = namespace.entry("status").or_insert_with(|| json!({}));
        if let Value::Object(status) = status {
            status.insert("phase".to_owned(), "Terminating".into());
        }
    }
}

/// Counts a change of what was asked for; of kinds that count them.
pub(crate) fn next_generation(meta: &mut Map<String, Value>) {
    if let Some(generation) = meta.get("generation").and_then(Value::as_i64) {
        meta.insert("generation".to_owned(), generation.saturating_add(1).into());
    }
}

/// Sets or removes finalizers; an empty list is none.
pub(crate) fn set_finalizers(object: &mut Value, finalizers: Vec<String>) {
    let meta = known(object);
    if finalizers.is_empty() {
        meta.remove("finalizers");
    } else {
        meta.insert("finalizers".to_owned(), finalizers.into());
    }
}

/// What is wrong with metadata, in Kubernetes' words. `old` is what it replaces.
pub(crate) fn validate(resource: &Resource, object: &Value, old: Option<&Value>) -> Vec<Cause> {
    let mut causes = Vec::new();
    let named = text(object, "name");
    let rule = if resource.kind == crds::namespace::KIND { name::label } else { name::subdomain };
    if named.is_empty() {
        causes.push(Cause::required("metadata.name", "name or generateName is required"));
    } else if old.is_none()
        && let Err(rule) = rule(named)
    {
        causes.push(Cause::invalid("metadata.name", &named.into(), rule));
    }
    let prefix = text(object, "generateName");
    // What follows the prefix makes up for a dash or a dot at its end.
    let prefix_rule = || rule(&format!("{prefix}a"));
    let lax = resource.kind == crds::event::KIND;
    if old.is_none()
        && !lax
        && !prefix.is_empty()
        && let Err(rule) = prefix_rule()
    {
        causes.push(Cause::invalid("metadata.generateName", &prefix.into(), rule));
    }
    let meta = object.get("metadata");
    let map = |field: &str| meta.and_then(|meta| meta.get(field)).and_then(Value::as_object);
    for (key, value) in map("labels").into_iter().flatten() {
        if let Err(rule) = name::qualified(key) {
            causes.push(Cause::invalid("metadata.labels", &key.as_str().into(), rule));
        }
        if let Err(rule) = value.as_str().map_or(Err("must be a string"), name::label_value) {
            causes.push(Cause::invalid("metadata.labels", value, rule));
        }
    }
    for key in map("annotations").into_iter().flat_map(Map::keys) {
        if let Err(rule) = name::qualified(&key.to_lowercase()) {
            causes.push(Cause::invalid("metadata.annotations", &key.as_str().into(), rule));
        }
    }
    owners(object, &mut causes);
    check_finalizers(resource, object, old, &mut causes);
    causes
}

fn check_finalizers(
    resource: &Resource,
    object: &Value,
    old: Option<&Value>,
    causes: &mut Vec<Cause>,
) {
    let path = "metadata.finalizers";
    let is_lax = !resource.group.is_empty() || resource.kind == crds::event::KIND;
    for (index, finalizer) in finalizers(object).into_iter().enumerate() {
        if let Err(rule) = name::qualified(finalizer) {
            causes.push(Cause::invalid(path, &finalizer.into(), rule));
        }
        if !is_lax && !finalizer.contains('/') && !STANDARD_FINALIZERS.contains(&finalizer) {
            let details = "name is neither a standard finalizer name nor is it fully qualified";
            causes.push(Cause::invalid(format!("{path}[{index}]"), &finalizer.into(), details));
        }
    }
    let Some(old) = old.filter(|old| is_terminating(old)) else { return };
    let held = finalizers(old);
    let new: Vec<String> = finalizers(object)
        .into_iter()
        .filter(|finalizer| !held.contains(finalizer))
        .map(|finalizer| format!("{finalizer:?}"))
        .collect();
    if !new.is_empty() {
        let details = format!(
            "no new finalizers can be added if the object is being deleted, found new finalizers []string{{{}}}",
            new.join(", ")
        );
        causes.push(Cause::forbidden(path, &details));
    }
}

/// What clients are warned of that hold custom objects by names which others may choose as well.
pub(crate) fn warnings(resource: &Resource, object: &Value, old: Option<&Value>) -> Vec<String> {
    let held = old.map(finalizers).unwrap_or_default();
    let common = |finalizer: &&str| {
        resource.is_custom() && !finalizer.contains('/') && !STANDARD_FINALIZERS.contains(finalizer)
    };
    let new = finalizers(object).into_iter().filter(|finalizer| !held.contains(finalizer));
    let warning = |finalizer| {
        format!(
            "metadata.finalizers: {finalizer:?}: prefer a domain-qualified finalizer name to avoid accidental conflicts with other finalizer writers"
        )
    };
    new.filter(common).map(warning).collect()
}

fn owners(object: &Value, causes: &mut Vec<Cause>) {
    let list = object.pointer("/metadata/ownerReferences").and_then(Value::as_array);
    let mut controllers = 0;
    for owner in list.into_iter().flatten() {
        for field in ["apiVersion", "kind", "name", "uid"] {
            if owner.get(field).and_then(Value::as_str).is_none_or(str::is_empty) {
                let what = if field == "apiVersion" { "version " } else { "" };
                let path = format!("metadata.ownerReferences.{field}");
                causes.push(Cause::invalid(path, &"".into(), &format!("{what}must not be empty")));
            }
        }
        controllers += u32::from(owner.get("controller").and_then(Value::as_bool) == Some(true));
    }
    if controllers > 1 {
        let value = list.cloned().unwrap_or_default().into();
        let details = "Only one reference can have Controller set to true";
        causes.push(Cause::invalid("metadata.ownerReferences", &value, details));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn generated_names_keep_their_prefix_and_stay_labels() {
        let name = generate("order-");
        assert!(name.starts_with("order-") && name.len() == 11, "{name}");
        assert_eq!(name::label(&name), Ok(()));
        assert_eq!(generate(&"a".repeat(300)).len(), 63);
    }

    #[test]
    fn nulls_in_metadata_mean_absent() {
        let mut object = json!({"metadata": {"name": "x", "creationTimestamp": null}});
        assert_eq!(of(&mut object).unwrap().len(), 1);
        assert!(of(&mut json!({"metadata": []})).is_err());
        assert!(of(&mut json!({"metadata": {"name": 1}})).is_err());
        assert!(of(&mut json!([])).is_err());
    }
}
