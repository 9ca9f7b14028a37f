//! The schema of `Scale`, for the kinds that have that subresource.

use serde_json::{Value, json};

use super::{META, metadata_schema, reference};
use crate::server::scale::{GROUP, KIND, VERSION};

/// As Kubernetes calls it.
pub(super) const NAME: &str = "io.k8s.api.autoscaling.v1.Scale";

/// What it is.
pub(super) fn identity() -> Value {
    json!({"group": GROUP, "version": VERSION, "kind": KIND})
}

/// What it looks like.
pub(super) fn schema() -> Value {
    let number = |description: &str| json!({"type": "integer", "format": "int32", "description": description});
    let mut properties = metadata_schema::header();
    properties.extend([
        (
            "metadata".to_owned(),
            json!({
                "description": "The metadata of the object.", "default": {},
                "allOf": [reference(&format!("{META}.ObjectMeta"))],
            }),
        ),
        (
            "spec".to_owned(),
            json!({
                "type": "object", "description": "What is wanted.",
                "properties": {"replicas": number("How many are wanted.")},
            }),
        ),
        (
            "status".to_owned(),
            json!({
                "type": "object", "description": "What is there.", "required": ["replicas"],
                "properties": {
                    "replicas": number("How many there are."),
                    "selector": {"type": "string", "description": "The labels of what is counted."},
                },
            }),
        ),
    ]);
    json!({
        "description": "How many of something are wanted, and how many there are.",
        "type": "object", "properties": properties,
        "x-kubernetes-group-version-kind": [identity()],
    })
}
