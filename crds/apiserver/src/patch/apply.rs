//! Server-side apply, and the bookkeeping of who wrote which field that it rests on (`metadata.managedFields`).
//!
//! It behaves as Kubernetes' structured-merge-diff does. One thing is simpler: versions of a kind do not differ in their
//! fields, so an entry of one version is compared in another without conversion.

use std::sync::LazyLock;

use serde_json::{Map as Fields, Value, json};

use self::compare::{Comparison, compare};
use self::element::{Element, display};
use self::fields::{Emptied, fields_of, with_named, without};
use self::managers::{Entry, Id, Managers};
use self::set::Set;
use self::shape::Shape;
use super::{FieldConflict, PatchError};

mod check;
mod combine;
mod compare;
mod element;
mod fields;
mod items;
mod managers;
mod set;
mod shape;

/// Whom the fields of an object are given to that was there before anybody's writes were noted.
const BEFORE_FIRST_APPLY: &str = "before-first-apply";

/// What nobody owns: the server writes it, or it says which object this is.
const NEVER_OWNED: [&str; 11] = [
    "clusterName",
    "creationTimestamp",
    "deletionGracePeriodSeconds",
    "deletionTimestamp",
    "generation",
    "managedFields",
    "name",
    "namespace",
    "resourceVersion",
    "selfLink",
    "uid",
];

/// What an apply does not change, though manifests that were read from a server carry it. `uid` and `resourceVersion` are
/// not here: a client that sends them means them, as preconditions.
const KEPT: [&str; 5] = [
    "creationTimestamp",
    "deletionGracePeriodSeconds",
    "deletionTimestamp",
    "generation",
    "selfLink",
];

/// Who writes.
#[derive(Clone, Copy, Debug)]
pub struct Writer<'a> {
    /// The field manager.
    pub manager: &'a str,
    /// The version in which it writes, as in `eventing.knative.dev/v1`.
    pub api_version: &'a str,
    /// What it writes: empty for the object, or `status`. Each has entries of its own, and a write of one does not touch
    /// the other.
    pub subresource: &'a str,
    /// The time, RFC 3339 with seconds, as in `2026-01-02T03:04:05Z`.
    pub now: &'a str,
}

impl Writer<'_> {
    /// The part of a set that a write of this subresource is about. What other fields a request has is ignored.
    fn scope(&self, set: &Set) -> Set {
        set.filter("status", self.subresource == "status")
    }

    fn scope_of(&self, comparison: &Comparison) -> Comparison {
        comparison.filter("status", self.subresource == "status")
    }
}

/// Applies a configuration to an object, or makes the object of it. The answer has `metadata.managedFields`; it equals the
/// live object when nothing changes.
///
/// # Errors
/// When the configuration does not fit the schema, is for another version or has `managedFields`; and when it would change
/// what others own, unless forced.
pub fn apply(
    live: Option<&Value>,
    applied: &Value,
    writer: &Writer<'_>,
    force: bool,
    schema: &Value,
) -> Result<Value, PatchError> {
    let shape = Shape::object(schema);
    accept(applied, writer, shape)?;
    let current = live.map_or_else(|| json!({}), without_managed_fields);
    let mut managers = Managers::decode(live.and_then(managed_fields)).map_err(|why| {
        PatchError::Unprocessable(format!("failed to decode managed fields: {why}"))
    })?;
    let broken = |why| PatchError::Unprocessable(format!("failed to merge config: {why}"));
    if managers.is_empty() && live.is_some() {
        let unknown = Writer { manager: BEFORE_FIRST_APPLY, ..*writer };
        note(&json!({}), &current, &mut managers, &unknown, shape).map_err(broken)?;
    }
    managers.reconcile(shape);

    let id = Id::new(writer, true);
    let mut new = combine::combine(shape, &current, applied).map_err(broken)?;
    let set = writer.scope(&fields_of(shape, applied).map_err(broken)?);
    let last = managers.entries.get(&id).cloned();
    let time = last.as_ref().and_then(|entry| entry.time.clone());
    let entry = Entry { api_version: writer.api_version.to_owned(), set, time };
    managers.entries.insert(id.clone(), entry);
    if let Some(last) = &last {
        new = pruned(shape, &new, &managers, (applied, &last.set)).map_err(broken)?;
    }
    let comparison = writer.scope_of(&compare(shape, &current, &new).map_err(broken)?);
    hand_over(&mut managers, &id, &comparison, force).map_err(PatchError::Conflict)?;
    keep_rest(&mut new, &current, writer);

    disown(&mut managers, &id);
    if let Some(entry) = managers.entries.get_mut(&id) {
        let same = last.is_some_and(|last| {
            last.set == entry.set && last.api_version == entry.api_version && last.time.is_some()
        });
        if !same || new != current {
            entry.time = Some(writer.now.to_owned());
        }
    }
    set_managed_fields(&mut new, managers.encode().as_ref());
    Ok(new)
}

/// Notes who wrote what after a create, an update or a patch that is no apply: sets `metadata.managedFields` of `new`. What
/// changed now belongs to the writer; what is gone belongs to nobody.
///
/// A request may set `managedFields` itself: clients that move to server-side apply do, and one empty entry forgets them
/// all. Unreadable ones are ignored.
pub fn track(old: Option<&Value>, new: &mut Value, writer: &Writer<'_>, schema: &Value) {
    note_writer(old, old.is_none(), new, writer, schema);
}

/// The same for a new object of a kind that has fields before anybody writes them, as `unwritten` has them: whoever writes
/// the same owns nothing by it.
pub fn track_new(unwritten: &Value, new: &mut Value, writer: &Writer<'_>, schema: &Value) {
    note_writer(Some(unwritten), true, new, writer, schema);
}

fn note_writer(
    old: Option<&Value>,
    is_new: bool,
    new: &mut Value,
    writer: &Writer<'_>,
    schema: &Value,
) {
    let before = old.and_then(managed_fields).cloned();
    let Some(mut managers) = managers_of(before.as_ref(), new, writer) else { return };
    let shape = Shape::object(schema);
    set_managed_fields(new, None);
    // An object whose entries were forgotten stays without until somebody applies to it.
    if managers.is_empty() && !is_new {
        return;
    }
    managers.reconcile(shape);
    let old = old.map_or_else(|| json!({}), without_managed_fields);
    let encoded = match note(&old, new, &mut managers, writer, shape) {
        Ok(()) => managers.encode(),
        // Lists whose items have no keys cannot be compared. Better old entries than none.
        Err(_) => before,
    };
    set_managed_fields(new, encoded.as_ref());
}

/// The entries to start from; nothing when the object has no metadata, and so cannot have any.
fn managers_of(before: Option<&Value>, new: &Value, writer: &Writer<'_>) -> Option<Managers> {
    let metadata = new.get("metadata").and_then(Value::as_object)?;
    let kept = || Managers::decode(before).unwrap_or_default();
    if !writer.subresource.is_empty() {
        return Some(kept());
    }
    let sent = metadata.get("managedFields");
    if let Some(Value::Array(entries)) = sent {
        let nothing = |entry: &Value| entry.as_object().is_some_and(Fields::is_empty);
        match entries.as_slice() {
            [] => return Some(Managers::default()),
            [only] if nothing(only) => return Some(Managers::default()),
            _ => {}
        }
    }
    match Managers::decode(sent) {
        Ok(managers) if !managers.is_empty() => Some(managers),
        _ => Some(kept()),
    }
}

/// Whether a configuration may be applied at all.
fn accept(applied: &Value, writer: &Writer<'_>, shape: Shape<'_>) -> Result<(), PatchError> {
    let invalid = |why: String| Err(PatchError::Invalid(why));
    if !applied.is_object() {
        return invalid("an applied configuration is an object".into());
    }
    let version = applied.get("apiVersion").and_then(Value::as_str).unwrap_or("");
    if version != writer.api_version {
        return invalid(format!(
            "Incorrect version specified in apply patch. Specified patch version: {version}, expected: {}",
            writer.api_version
        ));
    }
    if managed_fields(applied).is_some_and(|entries| !entries.is_null()) {
        return invalid("metadata.managedFields must be nil".into());
    }
    if let Err(why) = check::check(shape, applied) {
        let text = |name: &str| {
            applied.pointer(&format!("/metadata/{name}")).and_then(Value::as_str).unwrap_or("")
        };
        let kind = applied.get("kind").and_then(Value::as_str).unwrap_or("");
        return invalid(format!(
            "failed to create typed patch object ({}/{}; {version}, Kind={kind}): {why}",
            text("namespace"),
            text("name")
        ));
    }
    Ok(())
}

/// Gives what a write changed to the writer's entry.
fn note(
    old: &Value,
    new: &Value,
    managers: &mut Managers,
    writer: &Writer<'_>,
    shape: Shape<'_>,
) -> Result<(), String> {
    let comparison = writer.scope_of(&compare(shape, old, new)?);
    let written = comparison.written();
    for entry in managers.entries.values_mut() {
        entry.set = entry.set.difference(&written).difference(&comparison.removed);
    }
    managers.drop_empty();
    let written = written.difference(&UNOWNED);
    if !written.is_empty() {
        let id = Id::new(writer, false);
        let set = managers.entries.get(&id).map_or_else(Set::default, |entry| entry.set.clone());
        let entry = Entry {
            api_version: writer.api_version.to_owned(),
            set: set.union(&written),
            time: Some(writer.now.to_owned()),
        };
        managers.entries.insert(id, entry);
    }
    managers.cap();
    Ok(())
}

/// Takes what changes from all managers but `id`; only by force if there is any.
fn hand_over(
    managers: &mut Managers,
    id: &Id,
    comparison: &Comparison,
    force: bool,
) -> Result<(), Vec<FieldConflict>> {
    let written = comparison.written();
    let mut conflicts = Vec::new();
    for (other, entry) in managers.entries.iter_mut().filter(|(other, _)| *other != id) {
        let contested = entry.set.intersection(&written);
        for path in contested.paths() {
            conflicts.push(FieldConflict { owner: other.describe(), field: display(&path) });
        }
        entry.set = entry.set.difference(&contested).difference(&comparison.removed);
    }
    if !force && !conflicts.is_empty() {
        // Of each owner in the order of its set, as Kubernetes lists them.
        conflicts.sort_by(|one, other| one.owner.cmp(&other.owner));
        return Err(conflicts);
    }
    managers.drop_empty();
    Ok(())
}

/// The merged object without what its manager applied last time, does not now, and nobody else owns.
fn pruned(
    shape: Shape<'_>,
    merged: &Value,
    managers: &Managers,
    (applied, last): (&Value, &Set),
) -> Result<Value, String> {
    if last.is_empty() {
        return Ok(merged.clone());
    }
    let named = |set: &Set| with_named(Some(shape), set);
    let last = named(last);
    let all = named(&fields_of(shape, merged)?);
    let first = without(shape, merged, &last, Emptied::Null);
    // Owned fields come back, with what holds them.
    let left = named(&fields_of(shape, &first)?).union(&named(&managers.owned()));
    let second = without(shape, merged, &all.difference(&left), Emptied::Null);
    // And so does what was never applied by this manager, but is below something it applied.
    let left = named(&fields_of(shape, &second)?);
    let gone = all.difference(&left).intersection(&last);
    Ok(without(
        shape,
        merged,
        &gone,
        Emptied::Unless { owned: &managers.owned(), applied: Some(applied) },
    ))
}

/// Takes over from the current object what this write is not about.
fn keep_rest(new: &mut Value, current: &Value, writer: &Writer<'_>) {
    if writer.subresource == "status" {
        let mut kept = current.clone();
        if let Some(fields) = kept.as_object_mut() {
            replace(fields, "status", new.get("status"));
        }
        *new = kept;
        return;
    }
    let Some(fields) = new.as_object_mut() else { return };
    replace(fields, "status", current.get("status"));
    if let Some(metadata) = fields.get_mut("metadata").and_then(Value::as_object_mut) {
        for name in KEPT {
            replace(metadata, name, current.get("metadata").and_then(|old| old.get(name)));
        }
    }
}

fn replace(fields: &mut Fields<String, Value>, name: &str, value: Option<&Value>) {
    match value {
        Some(value) => fields.insert(name.to_owned(), value.clone()),
        None => fields.remove(name),
    };
}

/// Takes from an entry what nobody owns.
fn disown(managers: &mut Managers, id: &Id) {
    if let Some(entry) = managers.entries.get_mut(id) {
        entry.set = entry.set.difference(&UNOWNED);
    }
    managers.drop_empty();
}

/// What [`NEVER_OWNED`] names, and what says which object it is.
static UNOWNED: LazyLock<Set> = LazyLock::new(|| {
    let mut set = Set::default();
    for name in ["apiVersion", "kind", "metadata"] {
        set.insert(&[Element::field(name)]);
    }
    for name in NEVER_OWNED {
        set.insert(&[Element::field("metadata"), Element::field(name)]);
    }
    set
});

fn managed_fields(object: &Value) -> Option<&Value> {
    object.get("metadata")?.get("managedFields")
}

fn without_managed_fields(object: &Value) -> Value {
    let mut bare = object.clone();
    set_managed_fields(&mut bare, None);
    bare
}

fn set_managed_fields(object: &mut Value, entries: Option<&Value>) {
    let Some(fields) = object.as_object_mut() else { return };
    if entries.is_some() && !fields.get("metadata").is_some_and(Value::is_object) {
        fields.insert("metadata".into(), json!({}));
    }
    if let Some(metadata) = fields.get_mut("metadata").and_then(Value::as_object_mut) {
        replace(metadata, "managedFields", entries);
    }
}

#[cfg(test)]
mod tests;
