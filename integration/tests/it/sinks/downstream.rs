//! What the contract needs of the real system behind a kind of sink.

use serde_json::Value;

use crate::harness::services::Services;

/// A real system that a kind of sink writes into.
pub(crate) trait Downstream: Sized {
    /// The name of its script in `integration/services`.
    const SERVICE: &'static str;
    /// The kind, with its group and version.
    const KIND: (&'static str, &'static str);
    /// What the API calls the kind, and the kind of the sources that read what it writes.
    const PLURAL: &'static str;
    const SOURCES: &'static str;

    /// Makes in it, running and having `published` that, what the sink writes into, with nothing in it.
    async fn on(published: Value) -> Self;

    /// The manifest of a sink called `sink` in namespace `default`, with the Secret it needs. It starts with `---`.
    fn manifest(&self) -> String {
        self.manifest_with(self.password())
    }

    /// The same with that password.
    fn manifest_with(&self, password: &str) -> String;

    /// The password that it lets in.
    fn password(&self) -> &str;

    /// The manifest of a source, also called `sink`, that reads what the sink writes and sends it to `uri`; it may use the
    /// sink's Secret. It starts with `---`.
    fn source(&self, uri: &str) -> String;

    /// The ids of all events that are there, in the order in which they were written if there is one.
    async fn ids(&self) -> Vec<String>;
}

/// A system of that name's own, and the scripts that started it.
pub(crate) async fn start<D: Downstream>(name: &str) -> (Services, Value, D) {
    let services = Services::of(name);
    let published = services.up(D::SERVICE).await;
    let downstream = D::on(published.clone()).await;
    (services, published, downstream)
}
