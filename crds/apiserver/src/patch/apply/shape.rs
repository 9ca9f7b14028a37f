//! What a schema says about merging: which lists are one value, which are sets, which have items with keys.

use std::sync::LazyLock;

use serde_json::{Value, json};

/// The type of a value, read off a schema where it is needed.
#[derive(Clone, Copy, Debug)]
pub(super) enum Shape<'a> {
    /// As a schema says.
    Schema {
        /// The part of the schema.
        schema: &'a Value,
        /// Whether fields that it does not declare may be there.
        preserve: bool,
        /// Whether it is a whole object, which has metadata.
        object: bool,
    },
    /// Anything: objects are merged field by field, lists are one value.
    Deduced,
    /// Anything, as one value.
    Atomic,
}

/// How to treat a value.
#[derive(Clone, Copy, Debug)]
pub(super) enum Kind<'a> {
    /// An object.
    Map(Map<'a>),
    /// One value.
    Scalar,
    /// A list.
    List(List<'a>),
}

/// The type of an object.
#[derive(Clone, Copy, Debug)]
pub(super) struct Map<'a> {
    shape: Shape<'a>,
    /// Whether it is one value.
    pub(super) atomic: bool,
}

/// The type of a list.
#[derive(Clone, Copy, Debug)]
pub(super) struct List<'a> {
    /// The type of its items.
    pub(super) item: Shape<'a>,
    /// How its items relate.
    pub(super) relation: Relation<'a>,
}

/// How the items of a list relate.
#[derive(Clone, Copy, Debug)]
pub(super) enum Relation<'a> {
    /// The list is one value.
    Atomic,
    /// Each scalar stands for itself.
    Set,
    /// Each object is known by these fields.
    Keys(&'a [Value]),
}

/// The type of a field.
#[derive(Clone, Copy, Debug)]
pub(super) struct Field<'a> {
    /// Its type.
    pub(super) shape: Shape<'a>,
    /// Whether the schema names it, rather than allowing any name.
    pub(super) declared: bool,
}

impl<'a> Shape<'a> {
    /// The type of a whole object.
    pub(super) fn object(schema: &'a Value) -> Self {
        Self::schema(schema, false, true)
    }

    fn schema(schema: &'a Value, preserve: bool, object: bool) -> Self {
        let flag = |name: &str| schema.get(name).and_then(Value::as_bool).unwrap_or(false);
        // As kube-openapi's conversion does: the flag holds for everything below, too.
        let preserve = preserve || flag("x-kubernetes-preserve-unknown-fields");
        let object = object || flag("x-kubernetes-embedded-resource");
        Self::Schema { schema, preserve, object }
    }

    /// How to treat `value`; a value of a type that the schema does not allow is treated as one that it does.
    pub(super) fn kind(self, value: Option<&Value>) -> Kind<'a> {
        let fitting = match value {
            Some(Value::Object(_)) => self.map().map(Kind::Map),
            Some(Value::Array(_)) => self.list().map(Kind::List),
            Some(Value::String(_) | Value::Number(_) | Value::Bool(_)) => {
                self.scalar().then_some(Kind::Scalar)
            }
            Some(Value::Null) | None => None,
        };
        fitting.unwrap_or_else(|| self.first())
    }

    fn first(self) -> Kind<'a> {
        if let Some(map) = self.map() {
            Kind::Map(map)
        } else if let Some(list) = self.list() {
            Kind::List(list)
        } else {
            Kind::Scalar
        }
    }

    /// The name of the type in the schema; empty when any type will do.
    fn type_name(schema: &'a Value) -> &'a str {
        schema.get("type").and_then(Value::as_str).unwrap_or("")
    }

    fn scalar(self) -> bool {
        match self {
            Self::Schema { schema, .. } => !matches!(Self::type_name(schema), "object" | "array"),
            Self::Deduced | Self::Atomic => true,
        }
    }

    fn map(self) -> Option<Map<'a>> {
        match self {
            Self::Schema { schema, .. } => {
                let atomic = schema.get("x-kubernetes-map-type").and_then(Value::as_str);
                matches!(Self::type_name(schema), "object" | "")
                    .then(|| Map { shape: self, atomic: atomic == Some("atomic") })
            }
            Self::Deduced => Some(Map { shape: self, atomic: false }),
            Self::Atomic => Some(Map { shape: self, atomic: true }),
        }
    }

    fn list(self) -> Option<List<'a>> {
        let Self::Schema { schema, preserve, .. } = self else {
            return Some(List { item: Shape::Atomic, relation: Relation::Atomic });
        };
        if !matches!(Self::type_name(schema), "array" | "") {
            return None;
        }
        let item =
            schema.get("items").map_or(Shape::Atomic, |items| Self::schema(items, preserve, false));
        let keys = schema.get("x-kubernetes-list-map-keys").and_then(Value::as_array);
        let relation = match schema.get("x-kubernetes-list-type").and_then(Value::as_str) {
            Some("set") => Relation::Set,
            Some("map") => keys.map_or(Relation::Atomic, |keys| Relation::Keys(keys)),
            _ => Relation::Atomic,
        };
        Some(List { item, relation })
    }

    /// What an absent key of an item counts as.
    pub(super) fn default_of(self, key: &str) -> Option<&'a Value> {
        let Self::Schema { schema, .. } = self else { return None };
        schema.get("properties")?.get(key)?.get("default")
    }

    /// The type that the schema wants, when `value` is not of it.
    pub(super) fn mismatch(self, value: &Value) -> Option<&'static str> {
        let Self::Schema { schema, .. } = self else { return None };
        let format = schema.get("format").is_some();
        let (fits, expected) = match Self::type_name(schema) {
            "object" => (value.is_object(), "map"),
            "array" => (value.is_array(), "list"),
            "integer" | "number" => (value.is_number(), "numeric (int or float)"),
            "boolean" => (value.is_boolean(), "boolean"),
            // A format may have other notations than text, such as a port by name or number.
            "string" if !format => (value.is_string(), "string"),
            "string" => (!value.is_object() && !value.is_array(), "any scalar"),
            _ => return None,
        };
        (!fits && !value.is_null()).then_some(expected)
    }
}

impl<'a> Map<'a> {
    /// The type of a field; nothing when the schema does not allow it.
    pub(super) fn field(&self, name: &str) -> Option<Field<'a>> {
        let any = |shape| Some(Field { shape, declared: false });
        let Shape::Schema { schema, preserve, object } = self.shape else {
            return any(self.shape);
        };
        if object && let Some(shape) = object_field(name) {
            return Some(Field { shape, declared: true });
        }
        let properties = schema.get("properties").and_then(Value::as_object);
        if let Some(found) = properties.and_then(|properties| properties.get(name)) {
            return Some(Field { shape: Shape::schema(found, preserve, false), declared: true });
        }
        match schema.get("additionalProperties") {
            Some(Value::Bool(true)) => any(Shape::Deduced),
            Some(Value::Bool(false)) => None,
            Some(inner) => any(Shape::schema(inner, preserve, false)),
            None if preserve || properties.is_none_or(serde_json::Map::is_empty) => {
                any(Shape::Deduced)
            }
            None => None,
        }
    }

    /// The same for an object that is already there: what the schema does not know is merged field by field.
    pub(super) fn field_or_deduced(&self, name: &str) -> Field<'a> {
        self.field(name).unwrap_or(Field { shape: Shape::Deduced, declared: false })
    }
}

/// What every object has, whatever its schema says of it.
fn object_field(name: &str) -> Option<Shape<'static>> {
    static METADATA: LazyLock<Value> = LazyLock::new(metadata);
    static TEXT: LazyLock<Value> = LazyLock::new(|| json!({"type": "string"}));
    match name {
        "metadata" => Some(Shape::schema(&METADATA, false, false)),
        "apiVersion" | "kind" => Some(Shape::schema(&TEXT, false, false)),
        _ => None,
    }
}

/// Kubernetes' `ObjectMeta`, as far as merging is concerned.
fn metadata() -> Value {
    let text = json!({"type": "string"});
    let time = json!({"type": "string", "format": "date-time"});
    let number = json!({"type": "integer"});
    let flag = json!({"type": "boolean"});
    let texts = json!({"type": "object", "additionalProperties": text});
    json!({"type": "object", "properties": {
        "annotations": texts,
        "creationTimestamp": time,
        "deletionGracePeriodSeconds": number,
        "deletionTimestamp": time,
        "finalizers": {"type": "array", "items": text, "x-kubernetes-list-type": "set"},
        "generateName": text,
        "generation": number,
        "labels": texts,
        "managedFields": {"type": "array", "items": {"type": "object"}},
        "name": text,
        "namespace": text,
        "ownerReferences": {
            "type": "array",
            "x-kubernetes-list-type": "map",
            "x-kubernetes-list-map-keys": ["uid"],
            "items": {"type": "object", "x-kubernetes-map-type": "atomic", "properties": {
                "apiVersion": text,
                "blockOwnerDeletion": flag,
                "controller": flag,
                "kind": text,
                "name": text,
                "uid": text,
            }},
        },
        "resourceVersion": text,
        "selfLink": text,
        "uid": text,
    }})
}
