//! A parsed document: values, each with the place where it was written.

use serde_json::{Map, Number, Value};

use crate::resource::Catalog;

/// A place in a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Position {
    /// From 1.
    pub(super) line: u32,
    /// In characters, from 1.
    pub(super) column: u32,
}

impl Position {
    /// Where a text begins.
    pub(super) const START: Self = Self { line: 1, column: 1 };

    /// The place that follows a text.
    pub(super) fn after(text: &str) -> Self {
        let number = |value: usize| u32::try_from(value).unwrap_or(u32::MAX);
        let last = text.rsplit('\n').next().unwrap_or(text);
        Self {
            line: number(text.matches('\n').count()).saturating_add(1),
            column: number(last.chars().count()).saturating_add(1),
        }
    }
}

/// A mistake with its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Fault {
    pub(super) at: Position,
    pub(super) field: String,
    pub(super) message: String,
}

impl Fault {
    pub(super) fn new(at: Position, message: impl Into<String>) -> Self {
        Self { at, field: String::new(), message: message.into() }
    }

    /// The same mistake seen from further out. A fault about several fields names them with commas between.
    pub(super) fn under(mut self, prefix: &str) -> Self {
        if !prefix.is_empty() {
            let dotted = |path: &str| {
                if path.is_empty() { prefix.to_owned() } else { format!("{prefix}.{path}") }
            };
            self.field = self.field.split(", ").map(dotted).collect::<Vec<_>>().join(", ");
        }
        self
    }
}

/// How large a value is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Size {
    /// Values, itself included.
    pub(super) nodes: usize,
    /// Bytes of texts and names.
    pub(super) bytes: usize,
}

impl Size {
    pub(super) fn and(self, other: Self) -> Self {
        Self {
            nodes: self.nodes.saturating_add(other.nodes),
            bytes: self.bytes.saturating_add(other.bytes),
        }
    }
}

/// A value and its place.
#[derive(Clone, Debug)]
pub(super) struct Node {
    pub(super) at: Position,
    pub(super) content: Content,
}

/// A value.
#[derive(Clone, Debug)]
pub(super) enum Content {
    Null,
    Bool(bool),
    Number(Number),
    Text(String),
    List(Vec<Node>),
    Map(Vec<Entry>),
}

/// A field and the place of its name.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub(super) key: String,
    pub(super) at: Position,
    pub(super) value: Node,
}

impl Node {
    /// The value without places.
    pub(super) fn to_value(&self) -> Value {
        match &self.content {
            Content::Null => Value::Null,
            Content::Bool(value) => Value::Bool(*value),
            Content::Number(number) => Value::Number(number.clone()),
            Content::Text(text) => Value::String(text.clone()),
            Content::List(items) => Value::Array(items.iter().map(Self::to_value).collect()),
            Content::Map(entries) => {
                let fields =
                    entries.iter().map(|entry| (entry.key.clone(), entry.value.to_value()));
                Value::Object(fields.collect::<Map<_, _>>())
            }
        }
    }

    /// How much a copy of it takes.
    pub(super) fn size(&self) -> Size {
        let own = Size { nodes: 1, bytes: 0 };
        match &self.content {
            Content::Text(text) => Size { bytes: text.len(), ..own },
            Content::List(items) => items.iter().fold(own, |size, item| size.and(item.size())),
            Content::Map(entries) => entries.iter().fold(own, |size, entry| {
                size.and(entry.value.size()).and(Size { nodes: 0, bytes: entry.key.len() })
            }),
            Content::Null | Content::Bool(_) | Content::Number(_) => own,
        }
    }

    /// The value of a field.
    pub(super) fn get(&self, key: &str) -> Option<&Self> {
        match &self.content {
            Content::Map(entries) => {
                entries.iter().find(|entry| entry.key == key).map(|entry| &entry.value)
            }
            _ => None,
        }
    }

    /// Takes a field out.
    pub(super) fn take(&mut self, key: &str) -> Option<Self> {
        let Content::Map(entries) = &mut self.content else { return None };
        let index = entries.iter().position(|entry| entry.key == key)?;
        Some(entries.swap_remove(index).value)
    }

    /// Whether it is what `kubectl get -o yaml` writes about several objects (`List`), or what a server answers
    /// (`BrokerList`).
    pub(super) fn is_list_of_objects(&self, catalog: Catalog) -> bool {
        let (Some(version), Some(kind)) = (self.text("apiVersion"), self.text("kind")) else {
            return false;
        };
        match kind.strip_suffix("List") {
            Some("") => version == "v1",
            Some(kind) => catalog.supports(version, kind),
            None => false,
        }
    }

    /// The names and places of all fields but the `known` ones.
    pub(super) fn fields_but(&self, known: &[&str]) -> Vec<(String, Position)> {
        let Content::Map(entries) = &self.content else { return Vec::new() };
        let others = entries.iter().filter(|entry| !known.contains(&entry.key.as_str()));
        others.map(|entry| (entry.key.clone(), entry.at)).collect()
    }

    fn text(&self, key: &str) -> Option<&str> {
        match &self.get(key)?.content {
            Content::Text(text) => Some(text),
            _ => None,
        }
    }

    /// The place of a field, or of its nearest parent that is there.
    pub(super) fn locate(&self, path: &str) -> Position {
        self.walk(path).0
    }

    /// Whether a field is there.
    pub(super) fn has(&self, path: &str) -> bool {
        self.walk(path).1
    }

    /// Follows a path as far as it goes.
    fn walk(&self, path: &str) -> (Position, bool) {
        if let Some(entry) = self.annotation(path) {
            return (entry.at, true);
        }
        let (mut node, mut at, mut rest) = (self, self.at, path);
        while !rest.is_empty() {
            rest = rest.strip_prefix('.').unwrap_or(rest);
            let Some((found, place, after)) = node.step(rest) else { return (at, false) };
            (node, at, rest) = (found, place, after);
        }
        (at, true)
    }

    /// Knative calls the annotation with a Broker's class by its bare key.
    fn annotation(&self, key: &str) -> Option<&Entry> {
        if !key.contains('/') {
            return None;
        }
        match &self.get("metadata")?.get("annotations")?.content {
            Content::Map(entries) => entries.iter().find(|entry| entry.key == key),
            _ => None,
        }
    }

    /// One step along a path: the value, its place, and what remains of the path.
    fn step<'n, 'p>(&'n self, path: &'p str) -> Option<(&'n Self, Position, &'p str)> {
        match &self.content {
            Content::List(items) => {
                let (index, after) = path.strip_prefix('[')?.split_once(']')?;
                let item = items.get(index.parse::<usize>().ok()?)?;
                Some((item, item.at, after))
            }
            Content::Map(entries) => entries.iter().find_map(|entry| {
                let after = match path.strip_prefix('[') {
                    // A key may hold dots and brackets, so it is compared rather than cut out.
                    Some(bracketed) => {
                        bracketed.strip_prefix(entry.key.as_str())?.strip_prefix(']')?
                    }
                    None => named(path, &entry.key)?,
                };
                Some((&entry.value, entry.at, after))
            }),
            _ => None,
        }
    }
}

/// What follows a field's name in a path that begins with it.
fn named<'p>(path: &'p str, key: &str) -> Option<&'p str> {
    let after = match path.strip_prefix(key) {
        Some(after) => after,
        // Knative's message about certificates calls the field so.
        None if key == "CACerts" => path.strip_prefix("caCert")?,
        None => return None,
    };
    (after.is_empty() || after.starts_with(['.', '['])).then_some(after)
}
