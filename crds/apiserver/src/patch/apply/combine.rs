//! Merges what is applied into what is there. Nothing goes: what is no longer applied is removed afterwards, by owner.

use std::collections::{BTreeSet, VecDeque};

use serde_json::{Map as Fields, Value};

use super::element::Element;
use super::items::{Index, index};
use super::shape::{Kind, List, Map, Relation, Shape};

/// Merges `applied` into `live`: where both have a value, the applied one stands.
pub(super) fn combine(shape: Shape<'_>, live: &Value, applied: &Value) -> Result<Value, String> {
    match shape.kind(Some(applied)) {
        Kind::Map(map) if !map.atomic => {
            let (old, new) = (live.as_object(), applied.as_object());
            if old.is_none_or(Fields::is_empty) && new.is_none_or(Fields::is_empty) {
                return Ok(applied.clone());
            }
            fields(&map, old, new)
        }
        Kind::List(list) if !matches!(list.relation, Relation::Atomic) => {
            let empty = Vec::new();
            let old = live.as_array().unwrap_or(&empty);
            let new = applied.as_array().unwrap_or(&empty);
            if old.is_empty() && new.is_empty() {
                return Ok(applied.clone());
            }
            Ok(Value::Array(items(&list, old, new)?))
        }
        Kind::Map(_) | Kind::List(_) | Kind::Scalar => Ok(applied.clone()),
    }
}

fn fields(
    map: &Map<'_>,
    live: Option<&Fields<String, Value>>,
    applied: Option<&Fields<String, Value>>,
) -> Result<Value, String> {
    let mut merged = Fields::new();
    for (name, old) in live.into_iter().flatten() {
        let value = match applied.and_then(|applied| applied.get(name)) {
            Some(new) => combine(map.field_or_deduced(name).shape, old, new)?,
            None => old.clone(),
        };
        merged.insert(name.clone(), value);
    }
    for (name, new) in applied.into_iter().flatten() {
        if !merged.contains_key(name) {
            merged.insert(name.clone(), new.clone());
        }
    }
    Ok(Value::Object(merged))
}

/// Keeps the order of what is there where the applied list has no say, and the order of the applied list otherwise.
fn items(list: &List<'_>, live: &[Value], applied: &[Value]) -> Result<Vec<Value>, String> {
    let (old_order, old) = index(list, live)?;
    let (new_order, new) = index(list, applied)?;
    let mut merge = Merge { list, old: &old, new: &new, done: BTreeSet::new(), out: Vec::new() };
    let mut shared: VecDeque<&Element> =
        new_order.iter().filter(|element| old.contains_key(*element)).collect();
    let mut next = shared.pop_front();
    let mut left = old_order.iter().zip(live).peekable();
    let mut right = new_order.iter().peekable();
    while left.peek().is_some() || right.peek().is_some() {
        if let (Some(&(ours, _)), Some(&theirs)) = (left.peek(), right.peek()) {
            if ours == theirs {
                merge.both(ours)?;
                left.next();
                right.next();
                next = shared.pop_front();
                continue;
            }
            if new.contains_key(ours) && next.is_some_and(|next| next != ours) {
                // In both, but its turn comes when the applied list gets to it.
                left.next();
                continue;
            }
        }
        if let Some(&(ours, item)) = left.peek() {
            if !new.contains_key(ours) {
                merge.out.push(item.clone());
                left.next();
                continue;
            }
            if merge.done.contains(ours) {
                left.next();
            }
        }
        if let Some(&theirs) = right.peek() {
            merge.both(theirs)?;
            right.next();
            if next == Some(theirs) {
                next = shared.pop_front();
            }
        }
    }
    Ok(merge.out)
}

struct Merge<'a> {
    list: &'a List<'a>,
    old: &'a Index<'a>,
    new: &'a Index<'a>,
    done: BTreeSet<Element>,
    out: Vec<Value>,
}

impl Merge<'_> {
    /// Takes an applied item, merged into the one that is there. One that is there more than once is replaced instead:
    /// nobody could say which of them is meant.
    fn both(&mut self, element: &Element) -> Result<(), String> {
        self.done.insert(element.clone());
        let Some(new) = self.new.get(element).and_then(|items| items.first()) else {
            return Ok(());
        };
        let merged = match self.old.get(element).map(Vec::as_slice) {
            Some([only]) => combine(self.list.item, only, new)?,
            _ => (*new).clone(),
        };
        self.out.push(merged);
        Ok(())
    }
}
