//! The schemas of what every object has, in our own words.

use serde_json::{Map, Value, json};

use super::{META, reference};

/// `apiVersion` and `kind`.
pub(super) fn header() -> Map<String, Value> {
    let text = |description: &str| json!({"type": "string", "description": description});
    Map::from_iter([
        (
            "apiVersion".to_owned(),
            text("The group and the version in which the object is written."),
        ),
        ("kind".to_owned(), text("What the object is.")),
    ])
}

/// What documents refer to.
pub(super) fn schemas() -> Map<String, Value> {
    let named = [
        ("ObjectMeta", object_meta()),
        ("ListMeta", list_meta()),
        ("OwnerReference", owner_reference()),
        ("ManagedFieldsEntry", managed_fields_entry()),
        ("Status", status()),
        ("Patch", json!({"type": "object", "description": "What is to change."})),
        (
            "Time",
            json!({"type": "string", "format": "date-time", "description": "A time, RFC 3339."}),
        ),
        ("FieldsV1", json!({"type": "object", "description": "A set of fields."})),
    ];
    named.into_iter().map(|(name, schema)| (format!("{META}.{name}"), schema)).collect()
}

fn text(description: &str) -> Value {
    json!({"type": "string", "description": description})
}

fn flag(description: &str) -> Value {
    json!({"type": "boolean", "description": description})
}

fn number(description: &str) -> Value {
    json!({"type": "integer", "format": "int64", "description": description})
}

fn texts(description: &str) -> Value {
    let text = json!({"type": "string", "default": ""});
    json!({"type": "object", "additionalProperties": text, "description": description})
}

fn linked(name: &str, description: &str) -> Value {
    json!({"description": description, "allOf": [reference(&format!("{META}.{name}"))]})
}

fn object_meta() -> Value {
    let time = |description: &str| linked("Time", description);
    let list = |name: &str, description: &str| {
        json!({
            "type": "array", "description": description,
            "items": {"default": {}, "allOf": [reference(&format!("{META}.{name}"))]},
        })
    };
    json!({
        "type": "object",
        "description": "What every object has beside what is asked for.",
        "properties": {
            "annotations": texts("Notes of any kind, for people and programs; nothing selects by them."),
            "creationTimestamp": time("When the object was made. The server writes it."),
            "deletionGracePeriodSeconds": number("Seconds that deletion may take. The server writes it."),
            "deletionTimestamp": time("When the object was asked to go; it stays until no finalizer is left. The server writes it."),
            "finalizers": {
                "type": "array", "description": "Who must agree before the object goes.",
                "items": {"type": "string", "default": ""},
                "x-kubernetes-list-type": "set", "x-kubernetes-patch-strategy": "merge",
            },
            "generateName": text("A prefix from which the server makes a name if none is given."),
            "generation": number("Counts the changes of what is asked for. The server writes it."),
            "labels": texts("Names and values by which objects are selected."),
            "managedFields": list("ManagedFieldsEntry", "Who wrote which field. The server writes it."),
            "name": text("The name, unique for its kind in the namespace. It cannot change."),
            "namespace": text("The namespace. It cannot change."),
            "ownerReferences": list("OwnerReference", "The objects with which this one goes."),
            "resourceVersion": text("The version of the object, to be sent back where a write must not overwrite another."),
            "selfLink": text("Not used any more."),
            "uid": text("The identity of this incarnation. The server writes it."),
        },
    })
}

fn list_meta() -> Value {
    json!({
        "type": "object",
        "description": "What a list has beside its objects.",
        "properties": {
            "continue": text("Set if there is more: to be sent back for the next page."),
            "remainingItemCount": number("How many objects follow, where that is known."),
            "resourceVersion": text("The version from which a watch continues the list."),
            "selfLink": text("Not used any more."),
        },
    })
}

fn owner_reference() -> Value {
    json!({
        "type": "object",
        "description": "An object with which this one goes.",
        "required": ["apiVersion", "kind", "name", "uid"],
        "properties": {
            "apiVersion": text("Group and version of the owner."),
            "blockOwnerDeletion": flag("Whether the owner, when deleted in the foreground, waits for this object."),
            "controller": flag("Whether the owner manages this object; at most one does."),
            "kind": text("Kind of the owner."),
            "name": text("Name of the owner."),
            "uid": text("Identity of the owner."),
        },
        "x-kubernetes-map-type": "atomic",
    })
}

fn managed_fields_entry() -> Value {
    json!({
        "type": "object",
        "description": "What one writer wrote.",
        "properties": {
            "apiVersion": text("The version in which it was written."),
            "fieldsType": text("Always FieldsV1."),
            "fieldsV1": linked("FieldsV1", "The fields."),
            "manager": text("Who wrote."),
            "operation": text("Apply or Update."),
            "subresource": text("The part that was written."),
            "time": linked("Time", "When."),
        },
    })
}

fn status() -> Value {
    let mut properties = header();
    let fields = [
        ("code", number("The HTTP status.")),
        ("details", json!({"type": "object", "description": "What it is about, and why."})),
        ("message", text("What happened, for people.")),
        ("metadata", linked("ListMeta", "Empty.")),
        ("reason", text("What happened, for programs.")),
        ("status", text("Success or Failure.")),
    ];
    properties.extend(fields.into_iter().map(|(name, schema)| (name.to_owned(), schema)));
    json!({
        "type": "object",
        "description": "What is answered where there is no object.",
        "properties": properties,
        "x-kubernetes-group-version-kind": [{"group": "", "version": "v1", "kind": "Status"}],
    })
}
