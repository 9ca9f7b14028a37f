//! A running `weft`, on free ports and a directory of its own.

use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Output, Stdio};

use tempfile::TempDir;
use tokio::process::{Child, Command};

use super::eventually::eventually;
use super::request;

/// A mesh under test. Dropping it kills the process; its directory goes with it.
#[derive(Debug)]
pub(crate) struct Mesh {
    dir: TempDir,
    child: Child,
    extra: Vec<String>,
    environment: Vec<(String, String)>,
    pub(crate) events: String,
    pub(crate) api: String,
}

/// A default broker and nothing else.
pub(crate) const BROKER: &str =
    "apiVersion: eventing.knative.dev/v1\nkind: Broker\nmetadata:\n  name: default\n";

/// A trigger of the default broker, with `spec` lines (indented by two spaces) and annotations as `key: value`.
pub(crate) fn trigger(name: &str, subscriber: &str, spec: &str, annotations: &[&str]) -> String {
    let mut text = format!(
        "---\napiVersion: eventing.knative.dev/v1\nkind: Trigger\nmetadata:\n  name: {name}\n"
    );
    if !annotations.is_empty() {
        text.push_str("  annotations:\n");
        for annotation in annotations {
            text.push_str(&format!("    {annotation}\n"));
        }
    }
    text.push_str(&format!(
        "spec:\n  broker: default\n  subscriber:\n    uri: {subscriber}\n{spec}"
    ));
    text
}

impl Mesh {
    /// Starts a mesh on `yaml` and waits until it is ready.
    pub(crate) async fn start(yaml: &str) -> Self {
        Self::start_with(yaml, &[]).await
    }

    /// The same with more arguments of `weft up`.
    pub(crate) async fn start_with(yaml: &str, extra: &[&str]) -> Self {
        Self::start_as(yaml, extra, &[]).await
    }

    /// The same with variables in its environment.
    pub(crate) async fn start_in(yaml: &str, environment: &[(&str, &str)]) -> Self {
        Self::start_as(yaml, &[], environment).await
    }

    async fn start_as(yaml: &str, extra: &[&str], environment: &[(&str, &str)]) -> Self {
        let dir = TempDir::new().expect("a temporary directory");
        std::fs::create_dir(dir.path().join("resources")).expect("a directory");
        std::fs::write(dir.path().join("resources/mesh.yaml"), yaml).expect("a file");
        let extra: Vec<String> = extra.iter().map(|text| (*text).to_owned()).collect();
        let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        let environment: Vec<_> = environment.iter().map(owned).collect();
        let child = spawn(dir.path(), &extra, &environment);
        let (events, api) = (String::new(), String::new());
        let mut mesh = Self { dir, child, extra, environment, events, api };
        mesh.wait_ready().await;
        mesh
    }

    async fn wait_ready(&mut self) {
        let path = self.data().join("endpoints.json");
        let pid = self.child.id();
        let (child, dir) = (&mut self.child, self.dir.path());
        let found = eventually("endpoints.json", async || {
            let ended = child.try_wait().expect("it can be asked");
            assert_eq!(ended, None, "weft ended early: {}", read_log(dir));
            let text = std::fs::read(&path).ok()?;
            let value: serde_json::Value = serde_json::from_slice(&text).expect("whole, by rename");
            (value["pid"].as_u64() == pid.map(u64::from)).then_some(value)
        })
        .await;
        let url = |key: &str| found[key].as_str().expect("a URL").to_owned();
        self.events = url("events");
        self.api = url("api");
    }

    /// Where its events are kept.
    pub(crate) fn data(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    /// The URL of the default broker.
    pub(crate) fn broker(&self) -> String {
        format!("{}/default/default", self.events)
    }

    /// Replaces the resources on disk.
    pub(crate) fn rewrite(&self, yaml: &str) {
        let (path, staged) =
            (self.dir.path().join("resources/mesh.yaml"), self.dir.path().join("staged"));
        std::fs::write(&staged, yaml).expect("a file");
        std::fs::rename(staged, path).expect("a rename");
    }

    /// `kill -9`, and waits until it is gone.
    pub(crate) async fn kill(&mut self) {
        self.child.kill().await.expect("the process was running");
    }

    /// Starts it again on the same directory.
    pub(crate) async fn restart(&mut self) {
        self.child = spawn(self.dir.path(), &self.extra, &self.environment);
        self.wait_ready().await;
    }

    /// Sends SIGTERM.
    pub(crate) fn terminate(&self) {
        let pid = self.child.id().expect("running").to_string();
        let sent = std::process::Command::new("kill").args(["-TERM", &pid]).status();
        assert!(sent.expect("kill runs").success());
    }

    /// Waits for its exit.
    pub(crate) async fn exit(&mut self) -> ExitStatus {
        tokio::time::timeout(super::eventually::PATIENCE, self.child.wait())
            .await
            .expect("it ends")
            .expect("it can be waited for")
    }

    /// Runs another command of the binary against this mesh.
    pub(crate) async fn weft(&self, args: &[&str]) -> Output {
        let mut command = weft();
        command.args(args).arg("--data").arg(self.data());
        command.output().await.expect("weft runs")
    }

    /// The same; asserts success and returns standard output.
    pub(crate) async fn weft_ok(&self, args: &[&str]) -> String {
        let output = self.weft(args).await;
        assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).expect("text")
    }

    /// Posts a minimal binary event of `ty` and `id` and asserts 202.
    pub(crate) async fn send(&self, ty: &str, id: &str) {
        let headers = request::event(ty, id);
        let answer = request::post(&self.broker(), &headers, r#"{"a":1}"#).await;
        assert_eq!(answer.status, 202, "{}", answer.body);
    }

    /// What the process wrote to standard error so far.
    pub(crate) fn log(&self) -> String {
        read_log(self.dir.path())
    }
}

fn read_log(dir: &Path) -> String {
    std::fs::read_to_string(dir.join("stderr")).expect("a log")
}

/// The built binary.
pub(crate) fn weft() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_weft"));
    command.env_remove("WEFT_LOG").stdin(Stdio::null()).kill_on_drop(true);
    command
}

fn spawn(dir: &Path, extra: &[String], environment: &[(String, String)]) -> Child {
    let log = std::fs::File::options().create(true).append(true).open(dir.join("stderr"));
    let mut command = weft();
    command
        .args(["up", "--events", "127.0.0.1:0", "--gateway", "127.0.0.1:0", "--api", "127.0.0.1:0"])
        .arg("-f")
        .arg(dir.join("resources"))
        .arg("--data")
        .arg(dir.join("data"))
        .args(extra)
        .envs(environment.iter().map(|(name, value)| (name, value)))
        .stdout(Stdio::null())
        .stderr(log.expect("a log file"));
    command.spawn().expect("weft starts")
}
