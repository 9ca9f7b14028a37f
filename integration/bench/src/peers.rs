//! The real systems behind sources: filled with numbered messages, and read by a bare client that acknowledges each.

use std::future::Future;
use std::ops::Range;
use std::process::Stdio;

use anyhow::Context;
use serde_json::Value;
use tempfile::TempDir;

pub(crate) mod kafka;
pub(crate) mod nats;
pub(crate) mod rabbitmq;
pub(crate) mod redis;

/// A system that keeps messages until somebody acknowledges them.
pub(crate) trait Peer: Sized {
    /// What it is called.
    const NAME: &'static str;

    /// Starts it, from `integration/services`.
    fn start(services: Services) -> impl Future<Output = anyhow::Result<Self>> + Send;

    /// Makes an empty place for messages.
    fn place(&self, name: &str) -> impl Future<Output = anyhow::Result<()>> + Send;

    /// Puts the payloads of these ids there, of `size` bytes each.
    fn fill(
        &self,
        name: &str,
        ids: Range<u64>,
        size: usize,
    ) -> impl Future<Output = anyhow::Result<()>> + Send;

    /// Takes `count` messages out with a bare client, each acknowledged; when the first came is told by `first`.
    fn drain(
        &self,
        name: &str,
        count: u64,
        first: impl FnOnce() + Send,
    ) -> impl Future<Output = anyhow::Result<()>> + Send;

    /// The manifest of a source that reads the place from its beginning, with its Secret; it starts with `---`.
    fn manifest(&self, name: &str) -> String;
}

/// The services of one scenario, stopped with the bench.
#[derive(Debug)]
pub(crate) struct Services(TempDir);

impl Services {
    /// None yet.
    ///
    /// # Errors
    /// When there is no room for them.
    pub(crate) fn new() -> anyhow::Result<Self> {
        // On the disk that the mesh is on, for temporary files may be in memory.
        let here = std::env::current_exe()?;
        Ok(Self(TempDir::new_in(here.parent().context("a directory")?)?))
    }

    /// Starts a service, or finds it running, and answers what it published.
    ///
    /// # Errors
    /// When it cannot be started; standard error says why.
    pub(crate) async fn up(&self, name: &str) -> anyhow::Result<Value> {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../services/up");
        let output = tokio::process::Command::new(script)
            .args(["--owner", &std::process::id().to_string(), "--dir"])
            .args([self.0.path().as_os_str(), name.as_ref()])
            .stderr(Stdio::inherit())
            .output()
            .await
            .with_context(|| format!("run {script}"))?;
        serde_json::from_slice(&output.stdout).with_context(|| format!("{name} does not start"))
    }
}

impl Drop for Services {
    fn drop(&mut self) {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../services/down");
        // The owner's end would do the same, later, in a directory that is gone.
        std::process::Command::new(script).arg(self.0.path()).status().ok();
    }
}

/// A text of what a service published.
///
/// # Errors
/// When it is not there.
pub(crate) fn text(published: &Value, key: &str) -> anyhow::Result<String> {
    let found = published.get(key).and_then(Value::as_str);
    found.map(str::to_owned).with_context(|| format!("no {key} is published"))
}
