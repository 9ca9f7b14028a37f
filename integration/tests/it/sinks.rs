//! What every sink promises, played against the real system behind it: see `contract`. One file a kind says how that system is
//! started and looked into, and has the stories of the kind alone.

mod contract;
mod downstream;
mod kafka;
mod nats;
mod rabbitmq;
mod redis;

use std::time::Duration;

use serde_json::Value;

use crate::harness::eventually::eventually_within;
use crate::harness::mesh::Mesh;
use crate::harness::request::{self, Answer};

/// How long a system may take to stop, start and be found again: sinks try again within ten seconds.
const RECOVERY: Duration = Duration::from_secs(90);

/// The object `sink` of a kind, as the API has it.
async fn resource(mesh: &Mesh, plural: &str) -> Value {
    let text = mesh.weft_ok(&["get", plural, "sink", "-o", "json"]).await;
    serde_json::from_str(&text).expect("JSON")
}

/// Waits until its condition `Ready` has this status and reason; answers the object.
async fn ready(mesh: &Mesh, plural: &str, status: &str, reason: &str) -> Value {
    eventually_within(RECOVERY, &format!("{plural}: Ready={status} {reason}"), async || {
        let resource = resource(mesh, plural).await;
        let conditions = resource.pointer("/status/conditions")?.as_array()?;
        let found = conditions.iter().find(|condition| condition["type"] == "Ready")?;
        let said = (found["status"].as_str()?, found["reason"].as_str().unwrap_or_default());
        (said == (status, reason)).then_some(resource)
    })
    .await
}

/// The URL in its status.
fn address(resource: &Value) -> String {
    resource.pointer("/status/address/url").and_then(Value::as_str).expect("an address").to_owned()
}

/// Posts an event of that id with a JSON payload and `more` headers.
async fn post(url: &str, id: &str, more: &[(&str, &str)], body: &str) -> Answer {
    let mut headers = request::event("dev.weft.test", id);
    let more = more.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    headers.extend(more);
    request::post(url, &headers, body.to_owned()).await
}
