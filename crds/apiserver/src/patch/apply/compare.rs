//! What differs between two states of an object.

use std::collections::BTreeSet;

use serde_json::{Map as Fields, Value};

use super::element::{Element, Path};
use super::items::{Index, index};
use super::set::Set;
use super::shape::{Kind, List, Map, Relation, Shape};

/// The fields that differ.
#[derive(Debug, Default)]
pub(super) struct Comparison {
    /// Only in the old state.
    pub(super) removed: Set,
    /// In both, with other values.
    pub(super) modified: Set,
    /// Only in the new state. Objects and lists that came to be are in it along with what they hold.
    pub(super) added: Set,
}

impl Comparison {
    /// The fields that the new state has otherwise than the old.
    pub(super) fn written(&self) -> Set {
        self.modified.union(&self.added)
    }

    /// Only the fields at or below the one of that name, or all others.
    pub(super) fn filter(&self, field: &str, keep: bool) -> Self {
        Self {
            removed: self.removed.filter(field, keep),
            modified: self.modified.filter(field, keep),
            added: self.added.filter(field, keep),
        }
    }
}

/// Compares two states of an object.
pub(super) fn compare(shape: Shape<'_>, old: &Value, new: &Value) -> Result<Comparison, String> {
    let mut walk = Walk { path: Vec::new(), found: Comparison::default() };
    walk.visit(shape, Some(old), Some(new))?;
    Ok(walk.found)
}

struct Walk {
    path: Path,
    found: Comparison,
}

/// Whether a value was compared as a whole.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Compared {
    Whole,
    ByParts,
}

impl Walk {
    fn visit(
        &mut self,
        shape: Shape<'_>,
        old: Option<&Value>,
        new: Option<&Value>,
    ) -> Result<(), String> {
        let (of_old, of_new) = (shape.kind(old), shape.kind(new));
        let compared = match (old, new) {
            (_, None) => self.by_kind(of_old, old, new)?,
            (None, Some(_)) => self.by_kind(of_new, old, new)?,
            (Some(_), Some(_)) => {
                // A value that changed its type: what the old one held is gone, what the new one holds is new.
                if std::mem::discriminant(&of_old) != std::mem::discriminant(&of_new) {
                    self.by_kind(of_old, old, new)?;
                }
                self.by_kind(of_new, old, new)?
            }
        };
        if compared == Compared::ByParts {
            match (old, new) {
                (None, Some(_)) => self.found.added.insert(&self.path),
                (Some(_), None) => self.found.removed.insert(&self.path),
                _ => {}
            }
        }
        Ok(())
    }

    fn by_kind(
        &mut self,
        kind: Kind<'_>,
        old: Option<&Value>,
        new: Option<&Value>,
    ) -> Result<Compared, String> {
        match kind {
            Kind::Map(map) => {
                let (before, after) = (fields(old), fields(new));
                // Empty, null and absent are told apart by comparing them as a whole.
                if map.atomic || (is_none_or_empty(before) && is_none_or_empty(after)) {
                    return Ok(self.whole(old, new));
                }
                self.maps(&map, before, after)?;
                Ok(Compared::ByParts)
            }
            Kind::List(list) => {
                let (before, after) = (items(old), items(new));
                if matches!(list.relation, Relation::Atomic)
                    || (before.is_empty() && after.is_empty())
                {
                    return Ok(self.whole(old, new));
                }
                self.lists(&list, before, after)?;
                Ok(Compared::ByParts)
            }
            Kind::Scalar => Ok(self.whole(old, new)),
        }
    }

    fn whole(&mut self, old: Option<&Value>, new: Option<&Value>) -> Compared {
        match (old, new) {
            (None, _) => self.found.added.insert(&self.path),
            (_, None) => self.found.removed.insert(&self.path),
            (Some(old), Some(new)) if old != new => self.found.modified.insert(&self.path),
            _ => {}
        }
        Compared::Whole
    }

    fn maps(
        &mut self,
        map: &Map<'_>,
        before: Option<&Fields<String, Value>>,
        after: Option<&Fields<String, Value>>,
    ) -> Result<(), String> {
        let fields = before.into_iter().chain(after);
        let names: BTreeSet<&String> = fields.flat_map(Fields::keys).collect();
        for name in names {
            let field = map.field_or_deduced(name);
            let old = before.and_then(|fields| fields.get(name));
            let new = after.and_then(|fields| fields.get(name));
            self.path.push(Element::field(name));
            self.visit(field.shape, old, new)?;
            self.path.pop();
        }
        Ok(())
    }

    fn lists(&mut self, list: &List<'_>, before: &[Value], after: &[Value]) -> Result<(), String> {
        let (_, before) = index(list, before)?;
        let (_, after) = index(list, after)?;
        let elements: BTreeSet<&Element> = before.keys().chain(after.keys()).collect();
        for element in elements {
            self.path.push(element.clone());
            self.item(list, found(&before, element), found(&after, element))?;
            self.path.pop();
        }
        Ok(())
    }

    /// Duplicates are compared as if they were one value.
    fn item(&mut self, list: &List<'_>, before: &[&Value], after: &[&Value]) -> Result<(), String> {
        match (before, after) {
            ([_, _, ..], [_, _, ..]) => {
                if before != after {
                    self.found.modified.insert(&self.path);
                }
            }
            ([_, _, ..], _) => {
                if let Some(new) = after.first() {
                    self.visit(list.item, None, Some(new))?;
                }
                self.found.removed.insert(&self.path);
            }
            (_, [_, _, ..]) => {
                if let Some(old) = before.first() {
                    self.visit(list.item, Some(old), None)?;
                }
                self.found.added.insert(&self.path);
            }
            _ => self.visit(list.item, before.first().copied(), after.first().copied())?,
        }
        Ok(())
    }
}

fn fields(value: Option<&Value>) -> Option<&Fields<String, Value>> {
    value.and_then(Value::as_object)
}

fn items(value: Option<&Value>) -> &[Value] {
    value.and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

fn is_none_or_empty(fields: Option<&Fields<String, Value>>) -> bool {
    fields.is_none_or(Fields::is_empty)
}

fn found<'a, 'v>(index: &'a Index<'v>, element: &Element) -> &'a [&'v Value] {
    index.get(element).map_or(&[], Vec::as_slice)
}
