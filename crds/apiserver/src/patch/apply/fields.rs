//! From an object to its set of fields, and from a set to an object without those.

use serde_json::{Map as Fields, Value, json};

use super::element::{Element, Path};
use super::items::{element_of, index};
use super::set::{Node, Set};
use super::shape::{Kind, List, Map, Relation, Shape};

/// The fields of a value: scalars, values that are one, items, and fields whose names are not in the schema. Objects that
/// only hold such fields are not among them.
pub(super) fn fields_of(shape: Shape<'_>, value: &Value) -> Result<Set, String> {
    let mut walk = Walk { path: Vec::new(), set: Set::default() };
    walk.visit(shape, value)?;
    Ok(walk.set)
}

struct Walk {
    path: Path,
    set: Set,
}

impl Walk {
    fn visit(&mut self, shape: Shape<'_>, value: &Value) -> Result<(), String> {
        match shape.kind(Some(value)) {
            Kind::Map(map) if map.atomic => self.set.insert(&self.path),
            Kind::Map(map) => self.map(&map, value)?,
            Kind::List(list) if matches!(list.relation, Relation::Atomic) => {
                self.set.insert(&self.path);
            }
            Kind::List(list) => self.list(&list, value)?,
            Kind::Scalar => self.set.insert(&self.path),
        }
        Ok(())
    }

    fn map(&mut self, map: &Map<'_>, value: &Value) -> Result<(), String> {
        for (name, inner) in value.as_object().into_iter().flatten() {
            let field = map.field_or_deduced(name);
            self.path.push(Element::field(name));
            self.visit(field.shape, inner)?;
            let empty = inner.is_null() || inner.as_object().is_some_and(Fields::is_empty);
            if empty || !field.declared {
                self.set.insert(&self.path);
            }
            self.path.pop();
        }
        Ok(())
    }

    fn list(&mut self, list: &List<'_>, value: &Value) -> Result<(), String> {
        let items = value.as_array().map_or(&[][..], Vec::as_slice);
        if items.is_empty() {
            // Kubernetes owns empty objects but not empty lists, so that applying one takes two rounds to settle.
            self.set.insert(&self.path);
        }
        let (_, index) = index(list, items)?;
        for (element, found) in index {
            self.path.push(element);
            if let [only] = found.as_slice() {
                self.visit(list.item, only)?;
            }
            self.set.insert(&self.path);
            self.path.pop();
        }
        Ok(())
    }
}

/// The set, with every field of the schema that has members below it: what goes when the last of those goes.
pub(super) fn with_named(shape: Option<Shape<'_>>, set: &Set) -> Set {
    let mut named = Set::default();
    let map = match shape.map(|shape| shape.kind(Some(&Value::Object(Fields::new())))) {
        Some(Kind::Map(map)) => Some(map),
        _ => None,
    };
    for (element, node) in set.iter() {
        let (inner, declared) = match (element, map) {
            (Element::Field(name), Some(map)) => {
                let field = map.field_or_deduced(name);
                (Some(field.shape), field.declared)
            }
            (Element::Key(_), _) => (shape.and_then(item_shape), false),
            _ => (None, false),
        };
        let member = node.member || (declared && !node.below.is_empty());
        named.put(element.clone(), Node { member, below: with_named(inner, &node.below) });
    }
    named
}

fn item_shape(shape: Shape<'_>) -> Option<Shape<'_>> {
    match shape.kind(Some(&Value::Array(Vec::new()))) {
        Kind::List(list) => Some(list.item),
        Kind::Map(_) | Kind::Scalar => None,
    }
}

/// The set as the schema of today would have it: owners of parts of what has become one value own the whole of it.
pub(super) fn reconciled(shape: Shape<'_>, set: &Set) -> Set {
    let mut made = Set::default();
    for (element, node) in set.iter() {
        let inner = match element {
            Element::Field(name) => match shape.kind(Some(&Value::Object(Fields::new()))) {
                Kind::Map(map) => map.field(name).map(|field| field.shape),
                Kind::List(_) | Kind::Scalar => None,
            },
            Element::Key(_) | Element::Value(_) => item_shape(shape),
            Element::Index(_) => None,
        };
        let node = match inner {
            Some(inner) if !node.below.is_empty() => {
                if is_one_value(inner, &node.below) {
                    Node { member: true, below: Set::default() }
                } else {
                    Node { member: node.member, below: reconciled(inner, &node.below) }
                }
            }
            _ => node.clone(),
        };
        made.put(element.clone(), node);
    }
    made
}

fn is_one_value(shape: Shape<'_>, below: &Set) -> bool {
    // What is below tells whether it was an object or a list when the set was written.
    let example = match below.iter().next() {
        Some((Element::Field(_), _)) => Value::Object(Fields::new()),
        _ => Value::Array(Vec::new()),
    };
    match shape.kind(Some(&example)) {
        Kind::Map(map) => map.atomic,
        Kind::List(list) => matches!(list.relation, Relation::Atomic),
        Kind::Scalar => true,
    }
}

/// What becomes of an object or a list of which nothing is left.
#[derive(Clone, Copy, Debug)]
pub(super) enum Emptied<'a> {
    /// It is null, which still counts as a field.
    Null,
    /// It stays, empty, where somebody owns it as such, and goes elsewhere.
    Unless {
        /// What anybody owns.
        owned: &'a Set,
        /// What is applied: it says in which way a field is empty. Only fields are followed; items with keys are never
        /// empty.
        applied: Option<&'a Value>,
    },
}

impl Emptied<'_> {
    /// The same for what is below.
    fn below(self, element: &Element) -> Self {
        static NOBODY: Set = Set::new();
        match self {
            Self::Null => Self::Null,
            Self::Unless { owned, applied } => Self::Unless {
                owned: owned.get(element).map_or(&NOBODY, |node| &node.below),
                applied: applied.and_then(|applied| field_of(applied, element)),
            },
        }
    }

    /// What stands for `value`.
    fn remnant(self, element: &Element, value: &Value) -> Option<Value> {
        match self {
            Self::Null => Some(Value::Null),
            Self::Unless { owned, applied }
                if owned.get(element).is_some_and(|node| node.member) =>
            {
                let empty = if value.is_array() { json!([]) } else { json!({}) };
                Some(
                    applied
                        .and_then(|applied| field_of(applied, element))
                        .cloned()
                        .unwrap_or(empty),
                )
            }
            Self::Unless { .. } => None,
        }
    }
}

fn field_of<'a>(value: &'a Value, element: &Element) -> Option<&'a Value> {
    match element {
        Element::Field(name) => value.get(name),
        Element::Key(_) | Element::Value(_) | Element::Index(_) => None,
    }
}

/// The value without the fields and items of the set.
pub(super) fn without(shape: Shape<'_>, value: &Value, set: &Set, emptied: Emptied<'_>) -> Value {
    remove(shape, value, set, emptied).unwrap_or(Value::Null)
}

/// Nothing is left when it answers nothing.
fn remove(shape: Shape<'_>, value: &Value, set: &Set, emptied: Emptied<'_>) -> Option<Value> {
    match (shape.kind(Some(value)), value) {
        (Kind::Map(map), Value::Object(fields)) if !map.atomic && !fields.is_empty() => {
            let mut left = Fields::new();
            for (name, inner) in fields {
                let element = Element::field(name);
                let kept = match set.get(&element) {
                    Some(node) if node.member => None,
                    Some(node) => {
                        let shape = map.field_or_deduced(name).shape;
                        remove(shape, inner, &node.below, emptied.below(&element))
                            .or_else(|| emptied.remnant(&element, inner))
                    }
                    None => Some(inner.clone()),
                };
                if let Some(kept) = kept {
                    left.insert(name.clone(), kept);
                }
            }
            (!left.is_empty()).then_some(Value::Object(left))
        }
        (Kind::List(list), Value::Array(items))
            if !matches!(list.relation, Relation::Atomic) && !items.is_empty() =>
        {
            let left: Vec<Value> =
                items.iter().filter_map(|item| remove_item(&list, item, set, emptied)).collect();
            (!left.is_empty()).then_some(Value::Array(left))
        }
        _ => Some(value.clone()),
    }
}

fn remove_item(list: &List<'_>, item: &Value, set: &Set, emptied: Emptied<'_>) -> Option<Value> {
    let Ok(element) = element_of(list, item) else { return Some(item.clone()) };
    match set.get(&element) {
        Some(node) if node.member => None,
        Some(node) => remove(list.item, item, &node.below, emptied.below(&element)),
        None => Some(item.clone()),
    }
}
