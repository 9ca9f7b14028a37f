//! What is changed of a subject, so that its containers are told where to send to, or no longer. Pure.

use crds::sink_binding::BOUND_BY;
use serde_json::{Map, Value, json};
use sources::container::{Variables, is_ours};

/// [`BOUND_BY`] as a part of a JSON pointer.
const BOUND_BY_PART: &str = "weft.dev~1bound-by";

/// Why a subject is not bound.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Unbound {
    /// Its kind has no template of a pod, or this object has none.
    #[error("it has no containers under spec.template.spec")]
    NoTemplate,
    /// Another binding has it.
    #[error("it is bound by the SinkBinding {0} already")]
    Taken(String),
    /// A variable of its own would have to be overwritten.
    #[error("its container {container:?} has a variable {variable} of its own")]
    Own { container: String, variable: String },
}

/// The JSON patch (RFC 6902) after which the containers of a subject have these variables and no others of the contract, and
/// the subject is marked as bound; empty if it is so already. `is_bound` says of the mark of another binding whether that
/// still is one.
///
/// # Errors
/// Why it cannot be bound; then nothing of it may be changed.
pub(crate) fn bind(
    subject: &Value,
    mark: &str,
    variables: &Variables,
    is_bound: impl Fn(&str) -> bool,
) -> Result<Vec<Value>, Unbound> {
    let marked = marked(subject);
    if let Some(other) = marked.filter(|other| *other != mark && is_bound(other)) {
        let other = other.split_once(' ').map_or(other, |(name, _)| name);
        return Err(Unbound::Taken(other.to_owned()));
    }
    let containers = containers(subject);
    if !containers.iter().any(|(pointer, _)| pointer.contains("/containers/")) {
        return Err(Unbound::NoTemplate);
    }
    let mut operations = Vec::new();
    for (pointer, container) in containers {
        let env = env(container);
        let ours: Vec<_> = ours(env).collect();
        if is_told(&ours, variables) {
            continue;
        }
        // Before the mark, whatever has such a name is the user's.
        if let (None, Some((_, one))) = (marked, ours.first()) {
            let text = |value: &Value| value["name"].as_str().unwrap_or_default().to_owned();
            return Err(Unbound::Own { container: text(container), variable: text(one) });
        }
        // From the last one, so that the numbers of the others stay.
        operations.extend(ours.iter().rev().map(|(index, _)| remove(&pointer, *index)));
        if !container["env"].is_array() {
            operations.push(json!({"op": "add", "path": format!("{pointer}/env"), "value": []}));
        }
        operations.extend(variables.iter().map(|(name, value)| {
            let variable = json!({"name": name, "value": value});
            json!({"op": "add", "path": format!("{pointer}/env/-"), "value": variable})
        }));
    }
    if marked != Some(mark) {
        if !subject["metadata"]["annotations"].is_object() {
            let path = "/metadata/annotations";
            operations.push(json!({"op": "add", "path": path, "value": {}}));
        }
        let path = format!("/metadata/annotations/{BOUND_BY_PART}");
        operations.push(json!({"op": "add", "path": path, "value": mark}));
    }
    Ok(guarded(subject, operations))
}

/// The JSON patch after which a subject has nothing of the binding with that mark; empty if it is not bound by it.
pub(crate) fn release(subject: &Value, mark: &str) -> Vec<Value> {
    if marked(subject) != Some(mark) {
        return Vec::new();
    }
    let mut operations = Vec::new();
    for (pointer, container) in containers(subject) {
        let env = env(container);
        let ours: Vec<_> = ours(env).collect();
        if !ours.is_empty() && ours.len() == env.len() {
            operations.push(json!({"op": "remove", "path": format!("{pointer}/env")}));
        } else {
            operations.extend(ours.iter().rev().map(|(index, _)| remove(&pointer, *index)));
        }
    }
    let path = format!("/metadata/annotations/{BOUND_BY_PART}");
    operations.push(json!({"op": "remove", "path": path}));
    guarded(subject, operations)
}

/// The mark of the binding that a subject is bound by.
fn marked(subject: &Value) -> Option<&str> {
    subject["metadata"]["annotations"][BOUND_BY].as_str()
}

/// The containers and init containers, with their JSON pointers. Whatever is none is left out: it has no variables.
fn containers(subject: &Value) -> Vec<(String, &Value)> {
    let mut found = Vec::new();
    // The second is that of a CronJob.
    for template in ["/spec/template/spec", "/spec/jobTemplate/spec/template/spec"] {
        for list in ["initContainers", "containers"] {
            let path = format!("{template}/{list}");
            let all = subject.pointer(&path).and_then(Value::as_array).into_iter().flatten();
            let all = all.enumerate().filter(|(_, container)| container.is_object());
            found.extend(all.map(|(index, container)| (format!("{path}/{index}"), container)));
        }
    }
    found
}

fn env(container: &Value) -> &[Value] {
    container["env"].as_array().map_or(&[], Vec::as_slice)
}

/// The variables of the contract, with their places.
fn ours(env: &[Value]) -> impl Iterator<Item = (usize, &Value)> {
    env.iter().enumerate().filter(|(_, one)| one["name"].as_str().is_some_and(is_ours))
}

/// Whether these are the variables. A server leaves out a value that is empty.
fn is_told(ours: &[(usize, &Value)], variables: &Variables) -> bool {
    let is_one = |one: &Map<String, Value>| {
        let text = |field: &str| one.get(field).and_then(Value::as_str);
        let value = text("value").unwrap_or_default();
        let wanted = text("name").and_then(|name| variables.get(name));
        wanted.is_some_and(|wanted| wanted == value)
            && one.get("valueFrom").is_none_or(Value::is_null)
    };
    let told = |name: &String| ours.iter().any(|(_, one)| one["name"] == name.as_str());
    ours.len() == variables.len()
        && ours.iter().all(|(_, one)| one.as_object().is_some_and(is_one))
        && variables.keys().all(told)
}

fn remove(container: &str, index: usize) -> Value {
    json!({"op": "remove", "path": format!("{container}/env/{index}")})
}

/// The operations, of the version that they were made for alone.
fn guarded(subject: &Value, mut operations: Vec<Value>) -> Vec<Value> {
    if !operations.is_empty() {
        let version = &subject["metadata"]["resourceVersion"];
        let path = "/metadata/resourceVersion";
        operations.insert(0, json!({"op": "test", "path": path, "value": version}));
    }
    operations
}

#[cfg(test)]
mod tests;
