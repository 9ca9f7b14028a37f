//! Objects as a `meta.k8s.io/v1` Table: what `kubectl get` asks for and prints.

use crds::resource::{Column, Resource, Version};
use jiff::Timestamp;
use serde_json::{Map, Number, Value, json};

use self::path::Path;

mod builtin;
mod duration;
mod path;

/// What a row carries of its object.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Include {
    /// Nothing.
    None,
    /// Its metadata, as a `PartialObjectMetadata`.
    #[default]
    Metadata,
    /// All of it.
    Object,
}

/// The description of the column of names.
const NAME: &str =
    "The name of the object: unique for its kind within the namespace, and never changed.";
/// The description of the column of ages.
const AGE: &str = "How long ago the object was created.";

/// Makes a table of objects of one kind. `now` is what ages count from, `list_meta` is the table's metadata.
#[must_use]
#[expect(
    clippy::too_many_arguments,
    reason = "each is another part of the answer, and all callers have them apart"
)]
pub fn table(
    resource: &Resource,
    version: &Version,
    objects: &[Value],
    now: Timestamp,
    list_meta: Value,
    include: Include,
) -> Value {
    let printer = Printer::new(resource, version);
    let rows: Vec<Value> = objects
        .iter()
        .map(|object| json!({"cells": printer.cells(object, now), "object": included(object, include)}))
        .collect();
    let definitions: Vec<Value> = printer.headings.iter().map(Heading::definition).collect();
    let mut table = Map::new();
    table.insert("kind".into(), json!("Table"));
    table.insert("apiVersion".into(), json!("meta.k8s.io/v1"));
    table.insert("metadata".into(), list_meta);
    table.insert("columnDefinitions".into(), Value::Array(definitions));
    table.insert("rows".into(), Value::Array(rows));
    Value::Object(table)
}

fn included(object: &Value, include: Include) -> Value {
    match include {
        Include::None => Value::Null,
        Include::Metadata => json!({
            "kind": "PartialObjectMetadata",
            "apiVersion": "meta.k8s.io/v1",
            "metadata": object.get("metadata"),
        }),
        Include::Object => object.clone(),
    }
}

/// The head of a column.
#[derive(Clone, Debug)]
struct Heading {
    name: &'static str,
    kind: &'static str,
    /// 0 is always shown, 1 only by `-o wide`.
    priority: u8,
    description: String,
    /// Whether it is the column of names, by which `kubectl` prefixes the kind.
    is_name: bool,
}

impl Heading {
    fn new(name: &'static str, kind: &'static str, priority: u8, description: &str) -> Self {
        Self { name, kind, priority, description: description.to_owned(), is_name: false }
    }

    fn of_name(priority: u8) -> Self {
        Self { is_name: true, ..Self::new("Name", "string", priority, NAME) }
    }

    /// The column of a custom resource.
    fn of(column: &Column) -> Self {
        let Column { name, kind, path, priority, description } = *column;
        if description.is_empty() {
            let text = format!("Custom resource definition column (in JSONPath format): {path}");
            Self::new(name, kind, priority, &text)
        } else {
            Self::new(name, kind, priority, description)
        }
    }

    fn definition(&self) -> Value {
        json!({
            "name": self.name,
            "type": self.kind,
            "format": if self.is_name { "name" } else { "" },
            "description": self.description,
            "priority": self.priority,
        })
    }
}

/// How the objects of a kind become rows.
struct Printer {
    headings: Vec<Heading>,
    cells: Cells,
}

enum Cells {
    /// Kubernetes' own kinds.
    Builtin(fn(&Value, Timestamp) -> Vec<Value>),
    /// By the columns of the kind; one whose path is not understood stays empty.
    Columns(Vec<(&'static str, Option<Path>)>),
}

impl Printer {
    fn new(resource: &Resource, version: &Version) -> Self {
        if let Some((headings, cells)) = builtin::find(resource.group, resource.kind) {
            return Self { headings, cells: Cells::Builtin(cells) };
        }
        let headings = std::iter::once(Heading::of_name(0));
        let headings = headings.chain(version.columns.iter().map(Heading::of)).collect();
        let columns = version.columns.iter().map(|column| (column.kind, Path::parse(column.path)));
        Self { headings, cells: Cells::Columns(columns.collect()) }
    }

    fn cells(&self, object: &Value, now: Timestamp) -> Vec<Value> {
        match &self.cells {
            Cells::Builtin(cells) => cells(object, now),
            Cells::Columns(columns) => {
                let mut cells = vec![json!(builtin::name(object))];
                for (kind, path) in columns {
                    let value = path.as_ref().and_then(|path| path.first(object));
                    cells.push(value.map_or(Value::Null, |value| cell(kind, value, now)));
                }
                cells
            }
        }
    }
}

/// What a column of that type shows of a value: null when the value is of another type, as Kubernetes does it.
fn cell(kind: &str, value: &Value, now: Timestamp) -> Value {
    match kind {
        "string" => match value {
            Value::String(text) => json!(text),
            Value::Null => json!("<no value>"),
            other => json!(other.to_string()),
        },
        "integer" => match value {
            Value::Number(number) => number.as_i64().map_or_else(|| truncated(number), Value::from),
            _ => Value::Null,
        },
        "number" if value.is_number() => value.clone(),
        "boolean" if value.is_boolean() => value.clone(),
        "date" => {
            value.as_str().map_or(Value::Null, |text| json!(duration::since(Some(text), now)))
        }
        _ => Value::Null,
    }
}

/// The whole part of a number that is not whole, or too large for 64 bits.
fn truncated(number: &Number) -> Value {
    let whole = number.as_f64().map(|number| format!("{:.0}", number.trunc()));
    whole.and_then(|text| text.parse::<i64>().ok()).map_or(Value::Null, Value::from)
}

#[cfg(test)]
mod tests;
