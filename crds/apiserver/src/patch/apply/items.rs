//! The items of a list that is not one value: what each is known by.

use std::collections::BTreeMap;

use serde_json::Value;

use super::element::{Element, Scalar};
use super::shape::{List, Relation};

/// The step that leads to an item.
pub(super) fn element_of(list: &List<'_>, item: &Value) -> Result<Element, String> {
    match list.relation {
        Relation::Keys(keys) => keyed(list, keys, item),
        Relation::Set => match Scalar::new(item.clone()) {
            Some(_) if item.is_null() => {
                Err("associative list without keys has an element that's an explicit null".into())
            }
            Some(value) => Ok(Element::Value(value)),
            None if item.is_object() => {
                Err("associative list without keys has an element that's a map type".into())
            }
            None => Err("not supported: associative list with lists as elements".into()),
        },
        Relation::Atomic => Err("invalid indexing of non-associative list".into()),
    }
}

fn keyed(list: &List<'_>, keys: &[Value], item: &Value) -> Result<Element, String> {
    let Value::Object(fields) = item else {
        return Err("associative list with keys may not have non-map elements".into());
    };
    let mut parts = Vec::new();
    for key in keys.iter().filter_map(Value::as_str) {
        // An item without the key and without a default for it is known by its other keys.
        if let Some(value) = fields.get(key).or_else(|| list.item.default_of(key)) {
            let value = Scalar::new(value.clone())
                .ok_or_else(|| format!("the key {key:?} of an item is no scalar"))?;
            parts.push((key.to_owned(), value));
        }
    }
    if parts.is_empty() {
        let names: Vec<&str> = keys.iter().filter_map(Value::as_str).collect();
        return Err(format!(
            "associative list with keys has an element that omits all key fields {names:?} (and doesn't have \
             default values for any key fields)"
        ));
    }
    parts.sort();
    Ok(Element::Key(parts))
}

/// The items of a list by their steps; more than one where there are duplicates.
pub(super) type Index<'v> = BTreeMap<Element, Vec<&'v Value>>;

/// Indexes a list, and answers the steps in the list's order as well.
pub(super) fn index<'v>(
    list: &List<'_>,
    items: &'v [Value],
) -> Result<(Vec<Element>, Index<'v>), String> {
    let mut order = Vec::with_capacity(items.len());
    let mut index = Index::new();
    for (position, item) in items.iter().enumerate() {
        let element =
            element_of(list, item).map_err(|error| format!("element {position}: {error}"))?;
        index.entry(element.clone()).or_default().push(item);
        order.push(element);
    }
    Ok((order, index))
}
