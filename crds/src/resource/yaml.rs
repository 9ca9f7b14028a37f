//! The definitions as YAML, for `kubectl apply -f -`.
//!
//! What is written is a small part of YAML: block mappings and lists, and scalars that no reader can take for something
//! else.

use std::fmt::Write as _;

use serde_json::Value;

use super::{Catalog, definition};

/// The `CustomResourceDefinition`s of all of the mesh's kinds in `catalog`, one YAML document each.
#[must_use]
pub fn yaml(catalog: Catalog) -> String {
    let mut text = String::new();
    for resource in catalog.iter().filter(|resource| resource.is_custom()) {
        text.push_str("---\n");
        write_value(&mut text, &definition(resource), 0);
    }
    text
}

/// Writes a value whose first line starts where the text ends, with everything else `depth` levels in.
fn write_value(text: &mut String, value: &Value, depth: usize) {
    match value {
        Value::Object(fields) if !fields.is_empty() => {
            let mut keys: Vec<&String> = fields.keys().collect();
            keys.sort_unstable();
            for (index, key) in keys.into_iter().enumerate() {
                if index > 0 {
                    indent(text, depth);
                }
                text.push_str(&scalar(key));
                text.push(':');
                if let Some(value) = fields.get(key) {
                    write_within(text, value, depth);
                }
            }
        }
        Value::Array(items) if !items.is_empty() => {
            for (index, item) in items.iter().enumerate() {
                if index > 0 {
                    indent(text, depth);
                }
                text.push_str("- ");
                write_value(text, item, depth + 1);
            }
        }
        Value::Object(_) => text.push_str("{}\n"),
        Value::Array(_) => text.push_str("[]\n"),
        Value::String(string) => {
            text.push_str(&scalar(string));
            text.push('\n');
        }
        other => {
            // Writing to a string cannot fail.
            let _infallible = writeln!(text, "{other}");
        }
    }
}

/// Writes the value of a field: a mapping one level in, a list at the level of its field, a scalar on the same line.
fn write_within(text: &mut String, value: &Value, depth: usize) {
    let depth = match value {
        Value::Object(fields) if !fields.is_empty() => depth + 1,
        Value::Array(items) if !items.is_empty() => depth,
        _ => {
            text.push(' ');
            return write_value(text, value, depth);
        }
    };
    text.push('\n');
    indent(text, depth);
    write_value(text, value, depth);
}

fn indent(text: &mut String, depth: usize) {
    text.push_str(&"  ".repeat(depth));
}

/// A string as a scalar: bare if nothing else can be meant, else between quotes.
fn scalar(string: &str) -> String {
    let bare = |byte: u8| {
        byte.is_ascii_alphanumeric()
            || matches!(byte, b' ' | b'-' | b'_' | b'.' | b'/' | b',' | b';')
    };
    let first = string.bytes().next();
    let is_bare = first.is_some_and(|byte| byte.is_ascii_alphabetic())
        && string.bytes().all(bare)
        && !string.ends_with(' ')
        && !is_word_of_yaml(string);
    if is_bare {
        string.to_owned()
    } else if string.chars().any(char::is_control) {
        // Between double quotes YAML knows all escapes of JSON.
        Value::from(string).to_string()
    } else {
        format!("'{}'", string.replace('\'', "''"))
    }
}

/// Words that YAML, in one of its versions, takes for truth, nothing or a number.
fn is_word_of_yaml(string: &str) -> bool {
    const WORDS: [&str; 11] =
        ["true", "false", "null", "yes", "no", "on", "off", "y", "n", "nan", "inf"];
    WORDS.contains(&string.to_ascii_lowercase().as_str())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;
    use crate::manifest::text;
    use crate::source::tests::CATALOG;

    fn written(value: &Value) -> String {
        let mut text = String::new();
        write_value(&mut text, value, 0);
        text
    }

    #[test]
    fn mappings_and_lists_are_blocks() {
        let value = json!({
            "a": { "b": [1, { "c": "x", "d": [] }, ["p", "q"]], "e": {} },
            "f": "it's",
            "g": true,
        });
        let expected = "a:\n  b:\n  - 1\n  - c: x\n    d: []\n  - - p\n    - q\n  e: {}\nf: 'it''s'\ng: true\n";
        assert_eq!(written(&value), expected);
    }

    #[test]
    fn strings_that_look_like_something_else_are_quoted() {
        for string in [
            "true", "No", "1", "", " a", "a ", "- a", "a: b", "a #b", "*a", "~", "a\nb", "ü", "NaN",
        ] {
            let line = scalar(string);
            assert!(line.starts_with(['\'', '"']), "{line}");
            assert_eq!(text::read::<Value>(&format!("a: {line}")), Ok(json!({ "a": string })));
        }
        assert_eq!(
            scalar("Where events go, or not; as in a/b."),
            "Where events go, or not; as in a/b."
        );
    }

    #[test]
    fn every_definition_is_read_back_as_it_was_written() {
        let yaml = yaml(CATALOG);
        let mut documents = yaml.split("---\n").skip(1);
        for resource in CATALOG.iter().filter(|resource| resource.is_custom()) {
            let read = text::read::<Value>(documents.next().unwrap()).unwrap();
            assert_eq!(read, definition(resource), "{}", resource.kind);
        }
        assert_eq!(documents.next(), None);
    }

    fn values() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            r"[ -~äöü\n\t]{0,12}".prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 24, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                prop::collection::btree_map("[ -~]{1,6}", inner, 0..4)
                    .prop_map(|map| Value::Object(map.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn whatever_is_written_is_read_back(value in values()) {
            let value = json!({ "value": value });
            prop_assert_eq!(text::read::<Value>(&written(&value)), Ok(value));
        }
    }
}
