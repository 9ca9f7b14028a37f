//! JSON text to documents: one object after the other.

use std::cell::Cell;
use std::collections::HashSet;
use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::Value;
use serde_json::value::RawValue;

use super::node::{Content, Entry, Fault, Node, Position};
use super::{MAX_DEPTH, MAX_DOCUMENT_CHARS, MAX_NODES};

/// Reads every document.
pub(super) fn read(text: &str) -> Result<Vec<Node>, Fault> {
    let reader = Reader { text, reached: Cell::new((0, Position::START)) };
    let mut documents = Vec::new();
    for document in serde_json::Deserializer::from_str(text).into_iter::<&RawValue>() {
        let document = document.map_err(|error| reader.fault(&error, 0))?;
        if document.get().len() > MAX_DOCUMENT_CHARS {
            let at = reader.position(document.get());
            return Err(Fault::new(
                at,
                format!("a document may have {MAX_DOCUMENT_CHARS} characters"),
            ));
        }
        documents.push(reader.node(document, 0, &mut 0)?);
    }
    Ok(documents)
}

struct Reader<'t> {
    text: &'t str,
    /// The offset whose place was asked for last, and that place. Values are met in their order, so counting on from
    /// there keeps the whole linear, also where the text is one long line.
    reached: Cell<(usize, Position)>,
}

impl Reader<'_> {
    fn node(&self, raw: &RawValue, depth: usize, nodes: &mut usize) -> Result<Node, Fault> {
        let at = self.position(raw.get());
        *nodes += 1;
        if *nodes > MAX_NODES {
            return Err(Fault::new(at, format!("a document may have {MAX_NODES} values")));
        }
        let text = raw.get();
        if !text.starts_with(['{', '[']) {
            return Ok(Node { at, content: self.scalar(text)? });
        }
        if depth >= MAX_DEPTH {
            return Err(Fault::new(at, format!("values may be nested {MAX_DEPTH} deep")));
        }
        let offset = self.offset(text);
        if text.starts_with('[') {
            let items: Vec<&RawValue> =
                serde_json::from_str(text).map_err(|error| self.fault(&error, offset))?;
            let items = items.into_iter().map(|item| self.node(item, depth + 1, nodes));
            return Ok(Node { at, content: Content::List(items.collect::<Result<_, _>>()?) });
        }
        let Fields(fields) =
            serde_json::from_str(text).map_err(|error| self.fault(&error, offset))?;
        let mut keys = HashSet::with_capacity(fields.len());
        let mut entries = Vec::with_capacity(fields.len());
        for (key, raw) in fields {
            let value = self.node(raw, depth + 1, nodes)?;
            if !keys.insert(key.clone()) {
                return Err(Fault::new(value.at, format!("the field {key} is there twice")));
            }
            // The parser does not say where a name starts; its value is on the same line in any JSON that a program wrote.
            entries.push(Entry { key, at: value.at, value });
        }
        Ok(Node { at, content: Content::Map(entries) })
    }

    fn scalar(&self, text: &str) -> Result<Content, Fault> {
        let value: Value =
            serde_json::from_str(text).map_err(|error| self.fault(&error, self.offset(text)))?;
        Ok(match value {
            Value::Bool(value) => Content::Bool(value),
            Value::Number(number) => Content::Number(number),
            Value::String(text) => Content::Text(text),
            Value::Null | Value::Array(_) | Value::Object(_) => Content::Null,
        })
    }

    /// Where a part of the text starts, in bytes. Parts are borrowed from the text, so their address tells.
    fn offset(&self, part: &str) -> usize {
        let offset = part.as_ptr().addr().wrapping_sub(self.text.as_ptr().addr());
        if offset <= self.text.len() { offset } else { 0 }
    }

    fn position(&self, part: &str) -> Position {
        self.at(self.offset(part))
    }

    fn at(&self, offset: usize) -> Position {
        let (from, mut at) = match self.reached.get() {
            (from, at) if from <= offset => (from, at),
            _ => (0, Position::START),
        };
        for char in self.text.get(from..offset).unwrap_or_default().chars() {
            if char == '\n' {
                at = Position { line: at.line.saturating_add(1), column: 1 };
            } else {
                at.column = at.column.saturating_add(1);
            }
        }
        self.reached.set((offset, at));
        at
    }

    /// A mistake that the parser found in the part that starts at `offset`.
    fn fault(&self, error: &serde_json::Error, offset: usize) -> Fault {
        let Position { line: first, column } = self.at(offset);
        let number = |value: usize| u32::try_from(value).unwrap_or(u32::MAX);
        let (line, within) = (number(error.line()).max(1), number(error.column()).max(1));
        let at = if line == 1 {
            Position { line: first, column: column.saturating_add(within - 1) }
        } else {
            Position { line: first.saturating_add(line - 1), column: within }
        };
        let message = error.to_string();
        let without_place = message.split(" at line ").next().unwrap_or(&message);
        Fault::new(at, format!("not JSON: {without_place}"))
    }
}

/// The fields of an object in their order, duplicates included.
struct Fields<'t>(Vec<(String, &'t RawValue)>);

impl<'de> Deserialize<'de> for Fields<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(FieldsVisitor)
    }
}

struct FieldsVisitor;

impl<'de> Visitor<'de> for FieldsVisitor {
    type Value = Fields<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut fields = Vec::new();
        while let Some(field) = map.next_entry()? {
            fields.push(field);
        }
        Ok(Fields(fields))
    }
}
