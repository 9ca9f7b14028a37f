//! The kinds that are played with, and objects of them that neither server completes or refuses: Knative's admission stands
//! before one of them only.

use serde_json::{Value, json};

pub(crate) struct Kind {
    pub(crate) kind: &'static str,
    pub(crate) plural: &'static str,
    pub(crate) group_version: &'static str,
    /// Variants of what users ask for.
    variant: fn(usize) -> Value,
}

pub(crate) static KINDS: [Kind; 8] = [
    Kind {
        kind: "Trigger",
        plural: "triggers",
        group_version: "eventing.knative.dev/v1",
        variant: trigger,
    },
    Kind {
        kind: "Broker",
        plural: "brokers",
        group_version: "eventing.knative.dev/v1",
        variant: broker,
    },
    Kind {
        kind: "PingSource",
        plural: "pingsources",
        group_version: "sources.knative.dev/v1",
        variant: ping,
    },
    Kind { kind: "ConfigMap", plural: "configmaps", group_version: "v1", variant: config_map },
    Kind { kind: "Secret", plural: "secrets", group_version: "v1", variant: secret },
    Kind {
        kind: "Lease",
        plural: "leases",
        group_version: "coordination.k8s.io/v1",
        variant: lease,
    },
    Kind { kind: "Event", plural: "events", group_version: "v1", variant: event },
    Kind {
        kind: "ServiceAccount",
        plural: "serviceaccounts",
        group_version: "v1",
        variant: account,
    },
];

impl Kind {
    /// The path of its objects in a namespace.
    pub(crate) fn path(&self, namespace: &str) -> String {
        let root = if self.group_version == "v1" { "/api" } else { "/apis" };
        format!("{root}/{}/namespaces/{namespace}/{}", self.group_version, self.plural)
    }

    /// An object of this kind as users write it.
    pub(crate) fn object(&self, namespace: &str, name: &str, variant: usize) -> Value {
        let mut object = json!({
            "apiVersion": self.group_version, "kind": self.kind,
            "metadata": {"name": name, "namespace": namespace},
        });
        let parts = (self.variant)(variant);
        for (field, value) in parts.as_object().into_iter().flatten() {
            if field == "metadata" {
                for (field, value) in value.as_object().into_iter().flatten() {
                    object["metadata"][field] = value.clone();
                }
            } else {
                object[field] = value.clone();
            }
        }
        if self.kind == "Event" {
            object["involvedObject"]["namespace"] = namespace.into();
        }
        object
    }

    /// The field in which its variants differ, as a JSON pointer, and a value of it that no variant has.
    pub(crate) fn change(&self) -> (&'static str, Value) {
        match self.kind {
            "Trigger" => ("/spec/subscriber", json!({"uri": "http://changed.example/"})),
            "Broker" => ("/spec/delivery", json!({"retry": 7})),
            "PingSource" => ("/spec/schedule", json!("7 7 * * *")),
            "ConfigMap" => ("/data", json!({"changed": "yes"})),
            "Secret" => ("/data", json!({"changed": "eWVz"})),
            "Lease" => ("/spec/holderIdentity", json!("changed")),
            "Event" => ("/message", json!("changed")),
            "ServiceAccount" => ("/automountServiceAccountToken", json!(true)),
            other => unreachable!("{other} has no change"),
        }
    }

    /// A field that it has, with a value of another type.
    pub(crate) fn mistyped(&self) -> (&'static str, Value) {
        match self.kind {
            "Trigger" => ("/spec/broker", json!(5)),
            "Broker" => ("/spec/delivery", json!({"retry": "many"})),
            "PingSource" => ("/spec/schedule", json!(["a"])),
            "ConfigMap" => ("/data", json!({"a": 1})),
            "Secret" => ("/data", json!({"a": {}})),
            "Lease" => ("/spec/leaseDurationSeconds", json!("x")),
            "Event" => ("/message", json!(1)),
            "ServiceAccount" => ("/secrets", json!({})),
            other => unreachable!("{other} has no mistake"),
        }
    }
}

/// Sets the value at a pointer, making objects on the way.
pub(crate) fn set(object: &mut Value, pointer: &str, value: Value) {
    let mut place = object;
    for part in pointer.split('/').skip(1) {
        place = &mut place[part];
    }
    *place = value;
}

fn trigger(variant: usize) -> Value {
    let filters = json!([{"exact": {"type": "a"}}, {"any": [{"prefix": {"source": "/x"}}, {"suffix": {"source": "y"}}]}]);
    let mut object = json!({
        "metadata": {"labels": {"eventing.knative.dev/broker": "default"}},
        "spec": {
            "broker": "default", "filter": {"attributes": {"type": format!("t{variant}")}},
            "subscriber": {"uri": format!("http://s{variant}.example/")},
        },
    });
    match variant {
        1 => object["spec"]["filters"] = filters,
        2 => {
            object["spec"]["delivery"] =
                json!({"retry": 3, "backoffPolicy": "linear", "backoffDelay": "PT1S"})
        }
        _ => {}
    }
    object
}

fn broker(variant: usize) -> Value {
    json!({
        "metadata": {"annotations": {"eventing.knative.dev/broker.class": "Weft"}},
        "spec": {"delivery": {"retry": variant, "backoffPolicy": "exponential", "backoffDelay": "PT0.2S"}},
    })
}

fn ping(variant: usize) -> Value {
    json!({"spec": {
        "schedule": format!("{variant} * * * *"), "contentType": "application/json", "data": "{\"a\":1}",
        "sink": {"uri": "http://sink.example/"},
        "ceOverrides": {"extensions": {"team": "a"}},
    }})
}

fn config_map(variant: usize) -> Value {
    match variant {
        0 => json!({"data": {"a": "0", "b": "two\nlines"}}),
        1 => json!({"data": {"a": "1"}, "binaryData": {"bin": "AAEC"}}),
        _ => json!({"data": {"c": "2"}, "immutable": false}),
    }
}

fn secret(variant: usize) -> Value {
    match variant {
        0 => json!({"type": "Opaque", "data": {"a": "MA=="}}),
        1 => json!({"stringData": {"a": "one"}, "data": {"b": "Yg=="}}),
        _ => json!({"type": "Opaque"}),
    }
}

fn lease(variant: usize) -> Value {
    json!({"spec": {
        "holderIdentity": format!("holder-{variant}"), "leaseDurationSeconds": 15, "leaseTransitions": variant,
        "acquireTime": "2026-01-01T00:00:00.000001Z", "renewTime": "2026-01-01T00:00:02.000000Z",
    }})
}

fn event(variant: usize) -> Value {
    let mut object = json!({
        "involvedObject": {"kind": "Trigger", "apiVersion": "eventing.knative.dev/v1", "name": format!("t{variant}"), "uid": "u"},
        "reason": format!("Reason{variant}"), "message": "something happened", "type": "Normal",
        "source": {"component": "tests"}, "count": 1,
        "firstTimestamp": "2026-01-01T00:00:00Z", "lastTimestamp": "2026-01-01T00:00:01Z",
    });
    if variant == 1 {
        object["reportingComponent"] = "tests".into();
        object["reportingInstance"] = "here".into();
        object["type"] = "Warning".into();
    }
    object
}

fn account(variant: usize) -> Value {
    match variant {
        0 => json!({}),
        1 => json!({"imagePullSecrets": [{"name": "pull"}]}),
        _ => json!({"automountServiceAccountToken": false}),
    }
}
