//! The real peers of `integration/services`, started once a test run and stopped when it ends.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use serde_json::Value;
use tokio::process::Command;

/// Where the services of this run keep everything: one directory for the whole test binary, gone with the build.
fn directory() -> PathBuf {
    PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("services")
}

/// Starts a service, or finds it running, and answers what it published. The first call on a machine installs it.
pub(crate) async fn up(name: &str) -> Value {
    up_in(&directory(), name).await
}

/// Services of one test alone, which it may stop and start again.
#[derive(Clone, Debug)]
pub(crate) struct Services(PathBuf);

impl Services {
    /// Those of that name.
    pub(crate) fn of(name: &str) -> Self {
        Self(directory().with_extension(name))
    }

    /// Starts a service, or finds it running, and answers what it published.
    pub(crate) async fn up(&self, name: &str) -> Value {
        up_in(&self.0, name).await
    }

    /// `kill -9` of a service, by what it published; its data stay. `up` starts it again.
    pub(crate) async fn kill(&self, published: &Value) {
        let pid = published["pid"].as_u64().expect("a process").to_string();
        let status = Command::new("kill").args(["-KILL", &pid]).status();
        assert!(status.await.expect("kill runs").success(), "process {pid} was there");
    }

    /// Stops a service; its data stay.
    pub(crate) async fn down(&self, name: &str) {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/services/down");
        let status = Command::new(script).arg(&self.0).arg(name).stdin(Stdio::null()).status();
        assert!(status.await.expect("the script runs").success(), "{name} could not be stopped");
    }
}

async fn up_in(directory: &Path, name: &str) -> Value {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/services/up");
    let output = Command::new(script)
        .args(["--owner", &std::process::id().to_string(), "--dir"])
        .arg(directory)
        .arg(name)
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()
        .await
        .expect("the script runs");
    assert!(output.status.success(), "{name} could not be started: the lines above say why");
    serde_json::from_slice(&output.stdout).expect("one JSON object")
}

/// The path of `kubectl`.
pub(crate) async fn kubectl() -> String {
    up("kubectl").await["path"].as_str().expect("a path").to_owned()
}
