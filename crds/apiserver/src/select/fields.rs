//! Field selectors: `field=value`, `field==value`, `field!=value`, joined by commas.

use std::fmt;

use crds::resource::Resource;
use serde_json::Value;

/// What one field must be, or not be.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Term {
    pub(super) field: String,
    pub(super) value: String,
    pub(super) equal: bool,
}

impl Term {
    pub(super) fn matches(&self, object: &Value) -> bool {
        (read(object, &self.field) == self.value) == self.equal
    }
}

impl fmt::Display for Term {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let value = self.value.replace('\\', "\\\\").replace(',', "\\,").replace('=', "\\=");
        write!(f, "{}{}{value}", self.field, if self.equal { "=" } else { "!=" })
    }
}

/// The value of a selectable field.
fn read<'a>(object: &'a Value, field: &str) -> &'a str {
    let path = |path: &str| {
        path.split('.')
            .try_fold(object, |value, name| value.get(name))
            .and_then(Value::as_str)
            .unwrap_or("")
    };
    match field {
        "reportingComponent" => first(path("reportingComponent"), path("reportingController")),
        "source" => first(path("source.component"), read(object, "reportingComponent")),
        other => path(other),
    }
}

fn first<'a>(one: &'a str, other: &'a str) -> &'a str {
    if one.is_empty() { other } else { one }
}

/// Whether objects of a kind can be selected by a field.
pub(super) fn supported(field: &str, resource: &Resource) -> Result<(), String> {
    if field == "metadata.name" || (field == "metadata.namespace" && resource.namespaced) {
        return Ok(());
    }
    let of_kind: &[&str] = match (resource.group, resource.kind) {
        ("" | "events.k8s.io", "Event") => &[
            "involvedObject.apiVersion",
            "involvedObject.fieldPath",
            "involvedObject.kind",
            "involvedObject.name",
            "involvedObject.namespace",
            "involvedObject.resourceVersion",
            "involvedObject.uid",
            "reason",
            "reportingComponent",
            "source",
            "type",
        ],
        ("", "Namespace") => &["status.phase"],
        ("", "Secret") => &["type"],
        // Kubernetes words the refusal in two ways: with the list of fields where the kind has no others.
        ("", _) | ("coordination.k8s.io", _) => {
            return Err(format!(
                "{field:?} is not a known field selector: only \"metadata.name\", \"metadata.namespace\""
            ));
        }
        _ => &[],
    };
    if of_kind.contains(&field) {
        Ok(())
    } else {
        Err(format!("field label not supported: {field}"))
    }
}

/// Reads a selector.
pub(super) fn parse(text: &str) -> Result<Vec<Term>, String> {
    let mut parts = split(text);
    parts.sort_unstable();
    let mut terms = Vec::new();
    for part in parts.into_iter().filter(|part| !part.is_empty()) {
        let (field, value, equal) = operator(part)
            .ok_or_else(|| format!("invalid selector: '{text}'; can't understand '{part}'"))?;
        terms.push(Term { field: field.to_owned(), value: unescape(value)?, equal });
    }
    Ok(terms)
}

/// Splits at commas without a backslash before them.
fn split(text: &str) -> Vec<&str> {
    let mut escaped = false;
    text.split(|c: char| {
        let splits = c == ',' && !escaped;
        escaped = c == '\\' && !escaped;
        splits
    })
    .collect()
}

/// Splits at the first operator.
fn operator(part: &str) -> Option<(&str, &str, bool)> {
    let equal = part.split_once('=');
    let (field, value) = match (part.split_once("!="), equal) {
        (Some((field, value)), Some((before, _))) if field.len() < before.len() => {
            return Some((field, value, false));
        }
        (_, equal) => equal?,
    };
    Some((field, value.strip_prefix('=').unwrap_or(value), true))
}

fn unescape(text: &str) -> Result<String, String> {
    let mut plain = String::with_capacity(text.len());
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match c {
            '\\' => match chars.next() {
                Some(c @ ('\\' | ',' | '=')) => plain.push(c),
                other => {
                    let sequence: String = std::iter::once('\\').chain(other).collect();
                    return Err(format!(
                        "invalid field selector: invalid escape sequence: {sequence}"
                    ));
                }
            },
            ',' | '=' => {
                let code = u32::from(c);
                return Err(format!(
                    "invalid field selector: unescaped character in value: {code}"
                ));
            }
            c => plain.push(c),
        }
    }
    Ok(plain)
}
