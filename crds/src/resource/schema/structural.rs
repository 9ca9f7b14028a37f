//! JSON Schema to what Kubernetes calls a structural schema: every value says its type once, nothing refers to anything else.
//!
//! The rules are those of `apiextensions.k8s.io/v1`. What `schemars` derives says more than they allow (references, titles,
//! defaults, `null` as a type, numbers' formats), and all of that is left out here.

use schemars::JsonSchema;
use schemars::generate::SchemaSettings;
use serde_json::{Map, Value, json};

/// The keyword that keeps fields which the schema has not.
pub(super) const PRESERVE: &str = "x-kubernetes-preserve-unknown-fields";

/// How often a type is spelt out within itself, as filters are within filters. What is deeper can be any object: every
/// level multiplies the schema by the number of places where the type recurs.
const MAX_RECURSION: usize = 2;

/// Keywords that mean in both worlds the same.
const KEPT: [&str; 9] = [
    "description",
    "required",
    "minimum",
    "maximum",
    "minLength",
    "maxLength",
    "minItems",
    "maxItems",
    "pattern",
];
/// Formats that Kubernetes knows.
const FORMATS: [&str; 2] = ["int32", "int64"];
/// Where `schemars` keeps the types that are referred to.
const DEFINITIONS: &str = "$defs";

/// The structural schema of a type.
pub(super) fn of<T: JsonSchema>() -> Value {
    let root = SchemaSettings::draft2020_12().into_generator().into_root_schema_for::<T>();
    let root = root.to_value();
    let none = Map::new();
    let definitions = root.get(DEFINITIONS).and_then(Value::as_object).unwrap_or(&none);
    Inliner { definitions, within: Vec::new() }.inline(&root)
}

struct Inliner<'s> {
    definitions: &'s Map<String, Value>,
    /// The types that are being spelt out, the outermost first.
    within: Vec<&'s str>,
}

impl<'s> Inliner<'s> {
    fn inline(&mut self, schema: &'s Value) -> Value {
        let Value::Object(schema) = schema else {
            // `true`, which any value satisfies.
            return json!({ PRESERVE: true });
        };
        if let Some(Value::String(reference)) = schema.get("$ref") {
            return described(self.referred(reference), schema);
        }
        for keyword in ["anyOf", "oneOf"] {
            if let Some(Value::Array(choices)) = schema.get(keyword) {
                return described(self.chosen(choices), schema);
            }
        }
        self.spelt_out(schema)
    }

    fn referred(&mut self, reference: &'s str) -> Value {
        let name = reference.rsplit('/').next().unwrap_or(reference);
        let Some(definition) = self.definitions.get(name) else {
            return json!({ PRESERVE: true });
        };
        if self.within.iter().filter(|outer| **outer == name).count() >= MAX_RECURSION {
            let any = json!({ "type": "object", PRESERVE: true });
            return match definition.as_object() {
                Some(definition) => described(any, definition),
                None => any,
            };
        }
        self.within.push(name);
        let inlined = self.inline(definition);
        self.within.pop();
        inlined
    }

    /// Of a type and `null` the type; of several words an enumeration.
    fn chosen(&mut self, choices: &'s [Value]) -> Value {
        let null = |choice: &&Value| choice.get("type").and_then(Value::as_str) != Some("null");
        let mut choices = choices.iter().filter(null).peekable();
        let words: Option<Vec<&Value>> =
            choices.clone().map(|choice| choice.get("const")).collect();
        match words {
            Some(words) if !words.is_empty() => json!({ "type": "string", "enum": words }),
            _ => match choices.next() {
                Some(only) if choices.peek().is_none() => self.inline(only),
                _ => json!({ PRESERVE: true }),
            },
        }
    }

    fn spelt_out(&mut self, schema: &'s Map<String, Value>) -> Value {
        let mut structural = Map::new();
        for (keyword, value) in schema {
            let value = match (keyword.as_str(), value) {
                ("description", Value::String(text)) => one_line(text).into(),
                ("type", Value::Array(types)) => {
                    types.iter().find(|name| *name != "null").cloned().unwrap_or_default()
                }
                ("type", value) => value.clone(),
                ("enum", Value::Array(words)) => {
                    words.iter().filter(|word| !word.is_null()).cloned().collect()
                }
                ("format", Value::String(format)) if FORMATS.contains(&format.as_str()) => {
                    value.clone()
                }
                ("properties", Value::Object(properties)) => properties
                    .iter()
                    .map(|(name, property)| (name.clone(), self.inline(property)))
                    .collect(),
                ("items", items) => self.inline(items),
                ("additionalProperties", values @ Value::Object(_)) => self.inline(values),
                (keyword, value)
                    if KEPT.contains(&keyword) || keyword.starts_with("x-kubernetes-") =>
                {
                    value.clone()
                }
                _ => continue,
            };
            structural.insert(keyword.clone(), value);
        }
        if structural.is_empty() || !structural.contains_key("type") {
            structural.insert(PRESERVE.to_owned(), true.into());
        }
        structural.into()
    }
}

/// What is said about a field wins over what is said about its type.
fn described(mut schema: Value, about: &Map<String, Value>) -> Value {
    if let (Value::Object(schema), Some(Value::String(text))) =
        (&mut schema, about.get("description"))
    {
        schema.insert("description".to_owned(), one_line(text).into());
    }
    schema
}

/// Comments are broken into lines where the source is.
fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}
