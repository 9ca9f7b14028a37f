//! What the contract needs of the real system behind a kind of source.

use std::ops::Range;

use serde_json::Value;

use crate::harness::mesh::Mesh;
use crate::harness::services::Services;
use crate::harness::subscriber::Got;

/// A real system that a kind of source listens to.
pub(crate) trait Upstream: Sized {
    /// The name of the kind's file, as in `sources::ALL`.
    const MODULE: &'static str;

    /// Starts it, and makes in it what the source listens to.
    async fn start(services: Services) -> Self;

    /// More arguments of `weft up` for its meshes.
    fn arguments(&self) -> Vec<String> {
        Vec::new()
    }

    /// The manifest of a source called `source` in namespace `default`, with the Secrets it needs. It sends to `sink`, which
    /// is YAML in one line: `{ref: …}` or `{uri: …}`. It starts with `---`.
    fn manifest(&self, sink: &str) -> String;

    /// The same with credentials that the system refuses, and what the source then says in a condition: its reason. Nothing
    /// if there are no credentials that could be refused.
    fn refused(&self, sink: &str) -> Option<(String, &'static str)>;

    /// Lets the messages with these numbers come, whatever state the mesh is in: what it does not take now, it is sent again.
    async fn produce(&self, mesh: &Mesh, numbers: Range<u64>);

    /// The number of the message that an event was made of.
    fn number(&self, event: &Got) -> Option<u64>;

    /// Stops the system; its data stay. Answers whether that can be done at all: nobody stops GitHub.
    async fn stop(&self) -> bool;

    /// Starts it again on its data, under the same address.
    async fn start_again(&mut self);

    /// What must never be seen.
    fn secrets(&self) -> Vec<String>;

    /// What the events have in common, as one of them shows.
    fn check(&self, event: &Got);
}

/// The kind's resource, as the API has it.
pub(crate) async fn resource(mesh: &Mesh, module: &str) -> Value {
    let kind = sources::ALL.iter().find(|kind| kind.module == module).expect("a listed kind");
    let text = mesh.weft_ok(&["get", kind.resource().plural, "source", "-o", "json"]).await;
    serde_json::from_str(&text).expect("JSON")
}

/// A condition of a resource: its status and reason.
pub(crate) fn condition<'a>(resource: &'a Value, kind: &str) -> Option<(&'a str, &'a str)> {
    let conditions = resource.pointer("/status/conditions")?.as_array()?;
    let found = conditions.iter().find(|condition| condition["type"] == kind)?;
    Some((found["status"].as_str()?, found["reason"].as_str().unwrap_or_default()))
}
