//! Whether what somebody applies is of the type that the schema says. An object that is there already is not asked.

use std::collections::BTreeSet;

use serde_json::Value;

use super::element::{Element, display};
use super::items::element_of;
use super::shape::{Kind, Relation, Shape};

/// Says what is wrong with `value`, with the path to it.
pub(super) fn check(shape: Shape<'_>, value: &Value) -> Result<(), String> {
    visit(shape, value, &mut Vec::new())
}

fn visit(shape: Shape<'_>, value: &Value, path: &mut Vec<Element>) -> Result<(), String> {
    if let Some(expected) = shape.mismatch(value) {
        return Err(format!("{}: expected {expected}, got {}", display(path), name_of(value)));
    }
    match (shape.kind(Some(value)), value) {
        (Kind::Map(map), Value::Object(fields)) => {
            for (name, inner) in fields {
                path.push(Element::field(name));
                let Some(field) = map.field(name) else {
                    return Err(format!("{}: field not declared in schema", display(path)));
                };
                visit(field.shape, inner, path)?;
                path.pop();
            }
        }
        (Kind::List(list), Value::Array(items)) => {
            let mut seen = BTreeSet::new();
            for (position, item) in items.iter().enumerate() {
                let element = match list.relation {
                    Relation::Atomic => Element::Index(i64::try_from(position).unwrap_or(i64::MAX)),
                    Relation::Set | Relation::Keys(_) => {
                        element_of(&list, item).map_err(|error| {
                            format!("{}: element {position}: {error}", display(path))
                        })?
                    }
                };
                if !seen.insert(element.clone()) {
                    return Err(format!("{}: duplicate entries for key {element}", display(path)));
                }
                path.push(element);
                visit(list.item, item, path)?;
                path.pop();
            }
        }
        _ => {}
    }
    Ok(())
}

fn name_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "list",
        Value::Object(_) => "map",
    }
}
