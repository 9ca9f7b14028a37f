//! The tables of Kubernetes' own kinds, as `kubectl get` shows them in any cluster.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::duration::since;
use super::{AGE, Heading};

/// What makes the cells of a row.
type Cells = fn(&Value, Timestamp) -> Vec<Value>;

/// The columns of a kind and how to fill them; nothing for a kind that says itself what to show.
pub(super) fn find(group: &str, kind: &str) -> Option<(Vec<Heading>, Cells)> {
    let text = |name, description| Heading::new(name, "string", 0, description);
    let age = || text("Age", AGE);
    let name = || Heading::of_name(0);
    let (headings, cells): (Vec<Heading>, Cells) = match (group, kind) {
        ("", "Namespace") => {
            (vec![name(), text("Status", "The status of the namespace."), age()], namespace)
        }
        ("", "ConfigMap") => {
            (vec![name(), text("Data", "The number of keys in the config map."), age()], config_map)
        }
        ("", "Secret") => (
            vec![
                name(),
                text("Type", "What the data is for."),
                text("Data", "The number of keys in the secret."),
                age(),
            ],
            secret,
        ),
        ("", "ServiceAccount") => (
            vec![name(), text("Secrets", "The number of secrets of the account."), age()],
            service_account,
        ),
        ("" | "events.k8s.io", "Event") => (event_headings(), event),
        ("coordination.k8s.io", "Lease") => {
            (vec![name(), text("Holder", "Who holds the lease."), age()], lease)
        }
        ("apiextensions.k8s.io", "CustomResourceDefinition") => (
            vec![name(), Heading::new("Created At", "date", 0, "When the object was created.")],
            definition,
        ),
        _ => return None,
    };
    Some((headings, cells))
}

fn event_headings() -> Vec<Heading> {
    let text = |name, description| Heading::new(name, "string", 0, description);
    let wide = |name, description| Heading::new(name, "string", 1, description);
    vec![
        text("Last Seen", "When it was last observed."),
        text("Type", "Whether it is normal or a warning."),
        text("Reason", "A short word for why it came to be."),
        text("Object", "The object that it is about."),
        wide("Subobject", "The part of the object that it is about."),
        wide("Source", "The component that reports it."),
        text("Message", "What happened."),
        wide("First Seen", "When it was first observed."),
        wide("Count", "How often it was observed."),
        Heading::of_name(1),
    ]
}

/// The name of an object.
pub(super) fn name(object: &Value) -> &str {
    text(object, "/metadata/name")
}

fn text<'a>(object: &'a Value, pointer: &str) -> &'a str {
    object.pointer(pointer).and_then(Value::as_str).unwrap_or("")
}

/// The number of items of a list or fields of an object.
fn count(object: &Value, pointer: &str) -> usize {
    match object.pointer(pointer) {
        Some(Value::Array(items)) => items.len(),
        Some(Value::Object(fields)) => fields.len(),
        _ => 0,
    }
}

fn age(object: &Value, now: Timestamp) -> String {
    since(Some(text(object, "/metadata/creationTimestamp")), now)
}

fn namespace(object: &Value, now: Timestamp) -> Vec<Value> {
    vec![json!(name(object)), json!(text(object, "/status/phase")), json!(age(object, now))]
}

fn config_map(object: &Value, now: Timestamp) -> Vec<Value> {
    let keys = count(object, "/data") + count(object, "/binaryData");
    vec![json!(name(object)), json!(keys), json!(age(object, now))]
}

fn secret(object: &Value, now: Timestamp) -> Vec<Value> {
    let keys = count(object, "/data");
    vec![json!(name(object)), json!(text(object, "/type")), json!(keys), json!(age(object, now))]
}

fn service_account(object: &Value, now: Timestamp) -> Vec<Value> {
    vec![json!(name(object)), json!(count(object, "/secrets")), json!(age(object, now))]
}

fn lease(object: &Value, now: Timestamp) -> Vec<Value> {
    let holder = text(object, "/spec/holderIdentity");
    vec![json!(name(object)), json!(holder), json!(age(object, now))]
}

fn definition(object: &Value, _now: Timestamp) -> Vec<Value> {
    vec![json!(name(object)), json!(text(object, "/metadata/creationTimestamp"))]
}

fn event(object: &Value, now: Timestamp) -> Vec<Value> {
    let text = |pointer: &'static str| text(object, pointer);
    let first_of = |pointers: [&'static str; 2]| {
        let found = pointers.into_iter().map(text).find(|found| !found.is_empty());
        found.unwrap_or("")
    };
    let series = object.get("series").is_some_and(Value::is_object);
    let first = first_of(["/firstTimestamp", "/eventTime"]);
    let last = if series {
        text("/series/lastObservedTime")
    } else {
        let last = text("/lastTimestamp");
        if last.is_empty() { first } else { last }
    };
    let number = |pointer| object.pointer(pointer).and_then(Value::as_i64).unwrap_or(0);
    let count = match (series, number("/count")) {
        (true, _) => number("/series/count"),
        // An event that happened once need not say so.
        (false, 0) => 1,
        (false, count) => count,
    };
    let kind = text("/involvedObject/kind").to_lowercase();
    let target = match text("/involvedObject/name") {
        "" => kind,
        name => format!("{kind}/{name}"),
    };
    let component = first_of(["/source/component", "/reportingComponent"]);
    let instance = first_of(["/source/host", "/reportingInstance"]);
    let source =
        if instance.is_empty() { component.to_owned() } else { format!("{component}, {instance}") };
    vec![
        json!(since(Some(last), now)),
        json!(text("/type")),
        json!(text("/reason")),
        json!(target),
        json!(text("/involvedObject/fieldPath")),
        json!(source),
        json!(text("/message").trim()),
        json!(since(Some(first), now)),
        json!(count),
        json!(name(object)),
    ]
}
