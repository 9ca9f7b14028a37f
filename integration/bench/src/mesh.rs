//! A release build of `weft` under measurement.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, ensure};
use tempfile::TempDir;
use tokio::process::{Child, Command};
use tokio::time::Instant;

/// How long anything the bench waits for may take.
const PATIENCE: Duration = Duration::from_secs(120);

/// A trigger to write into the mesh's YAML.
#[derive(Clone, Debug)]
pub(crate) struct Trigger {
    /// Its name.
    pub(crate) name: String,
    /// Exact filter on `type`; everything when `None`.
    pub(crate) ty: Option<String>,
    /// `host:port` of the subscriber.
    pub(crate) subscriber: String,
    /// Annotation lines, `key: value`.
    pub(crate) annotations: Vec<String>,
}

/// The default broker with `triggers`.
#[must_use]
pub(crate) fn yaml(triggers: &[Trigger]) -> String {
    let mut text = "apiVersion: eventing.knative.dev/v1\nkind: Broker\nmetadata:\n  name: default\n  annotations:\n    weft.dev/storage-budget: 64Gi\n".to_owned();
    for trigger in triggers {
        let filter =
            trigger.ty.as_ref().map(|ty| format!("  filters: [{{exact: {{type: {ty}}}}}]\n"));
        let annotations: String =
            trigger.annotations.iter().map(|line| format!("    {line}\n")).collect();
        let annotations = if annotations.is_empty() {
            annotations
        } else {
            format!("  annotations:\n{annotations}")
        };
        write!(
            text,
            "---\napiVersion: eventing.knative.dev/v1\nkind: Trigger\nmetadata:\n  name: {}\n{annotations}spec:\n  broker: default\n{}  subscriber: {{uri: \"http://{}/\"}}\n",
            trigger.name,
            filter.unwrap_or_default(),
            trigger.subscriber,
        )
        .expect("writing to a String cannot fail");
    }
    text
}

/// A running mesh on a directory of its own.
#[derive(Debug)]
pub(crate) struct Mesh {
    binary: PathBuf,
    dir: TempDir,
    child: Option<Child>,
    /// `host:port` of the events listener.
    pub(crate) events: String,
    /// `host:port` of the API listener.
    pub(crate) api: String,
    /// Time from start to `endpoints.json` of the last start.
    pub(crate) ready_after: Duration,
}

impl Mesh {
    /// Starts the mesh on an empty directory.
    ///
    /// # Errors
    /// When it does not get ready.
    pub(crate) async fn start(binary: &Path, yaml: &str) -> anyhow::Result<Self> {
        let dir = TempDir::new_in(binary.parent().context("the binary has a directory")?)?;
        std::fs::write(dir.path().join("mesh.yaml"), yaml)?;
        let mut mesh = Self {
            binary: binary.to_owned(),
            dir,
            child: None,
            events: String::new(),
            api: String::new(),
            ready_after: Duration::ZERO,
        };
        mesh.restart().await?;
        Ok(mesh)
    }

    /// Its data directory.
    #[must_use]
    pub(crate) fn data(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    /// Replaces its YAML; the mesh follows.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub(crate) fn rewrite(&self, yaml: &str) -> anyhow::Result<()> {
        let staged = self.dir.path().join("mesh.yaml.new");
        std::fs::write(&staged, yaml)?;
        Ok(std::fs::rename(staged, self.dir.path().join("mesh.yaml"))?)
    }

    /// Starts it (again) on its directory and waits until it is ready.
    ///
    /// # Errors
    /// When it does not get ready; its log is part of the message.
    pub(crate) async fn restart(&mut self) -> anyhow::Result<()> {
        let log = self.dir.path().join("stderr");
        let start = Instant::now();
        let mut child = Command::new(&self.binary)
            .args([
                "up",
                "--events",
                "127.0.0.1:0",
                "--gateway",
                "127.0.0.1:0",
                "--api",
                "127.0.0.1:0",
            ])
            .args(["-f".as_ref(), self.dir.path().join("mesh.yaml").as_os_str()])
            .args(["--data".as_ref(), self.data().as_os_str()])
            .env("WEFT_LOG", "warn")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(std::fs::File::options().create(true).append(true).open(&log)?)
            .kill_on_drop(true)
            .spawn()
            .context("start weft")?;
        let pid = child.id().context("weft has a pid")?;
        let file = self.data().join("endpoints.json");
        loop {
            if let Some((events, api)) = endpoints(&file, pid) {
                (self.events, self.api) = (events, api);
                break;
            }
            if let Some(status) = child.try_wait()? {
                anyhow::bail!("weft ended with {status}: {}", std::fs::read_to_string(&log)?);
            }
            ensure!(start.elapsed() < PATIENCE, "weft is not ready after {PATIENCE:?}");
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        self.ready_after = start.elapsed();
        self.child = Some(child);
        Ok(())
    }

    /// `kill -9`.
    ///
    /// # Errors
    /// When it cannot be killed.
    pub(crate) async fn kill(&mut self) -> anyhow::Result<()> {
        if let Some(mut child) = self.child.take() {
            child.kill().await?;
        }
        Ok(())
    }

    /// SIGTERM, and waits for the end.
    ///
    /// # Errors
    /// When it does not end with success.
    pub(crate) async fn stop(&mut self) -> anyhow::Result<()> {
        if let Some(mut child) = self.child.take() {
            let pid = child.id().context("weft has a pid")?.to_string();
            Command::new("kill").args(["-TERM", &pid]).status().await?;
            let status = tokio::time::timeout(PATIENCE, child.wait())
                .await
                .context("weft does not stop")??;
            ensure!(status.success(), "weft ended with {status}");
        }
        Ok(())
    }

    /// Resident memory in bytes.
    ///
    /// # Errors
    /// When the process is not there.
    pub(crate) fn resident(&self) -> anyhow::Result<u64> {
        let pid = self.child.as_ref().and_then(Child::id).context("weft runs")?;
        let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("VmRSS")?;
        let kib: u64 = line.trim().trim_end_matches("kB").trim().parse()?;
        Ok(kib * 1024)
    }

    /// Resident memory in bytes once the start is over: the most of some seconds in which nothing happens.
    ///
    /// # Errors
    /// When the process is not there.
    pub(crate) async fn settled(&self) -> anyhow::Result<u64> {
        let mut most = 0;
        for _ in 0..10 {
            tokio::time::sleep(Duration::from_millis(500)).await;
            most = most.max(self.resident()?);
        }
        Ok(most)
    }

    /// Bytes of disk its directory uses (blocks, not lengths).
    ///
    /// # Errors
    /// When it cannot be walked.
    pub(crate) fn disk(&self) -> anyhow::Result<u64> {
        used(&self.data())
    }
}

fn used(dir: &Path) -> anyhow::Result<u64> {
    use std::os::unix::fs::MetadataExt;
    let mut bytes = 0;
    for entry in std::fs::read_dir(dir)? {
        let entry = entry?;
        // A segment may go away while it is looked at.
        let Ok(meta) = entry.metadata() else { continue };
        bytes += if meta.is_dir() { used(&entry.path())? } else { meta.blocks() * 512 };
    }
    Ok(bytes)
}

fn endpoints(file: &Path, pid: u32) -> Option<(String, String)> {
    let value: serde_json::Value = serde_json::from_slice(&std::fs::read(file).ok()?).ok()?;
    if value.get("pid")?.as_u64() != Some(u64::from(pid)) {
        return None;
    }
    let host = |name: &str| Some(value.get(name)?.as_str()?.strip_prefix("http://")?.to_owned());
    Some((host("events")?, host("api")?))
}

/// Waits until `probe` answers true.
///
/// # Errors
/// Names `what` when it takes longer than `patience`.
pub(crate) async fn until(
    what: &str,
    patience: Duration,
    mut probe: impl FnMut() -> bool,
) -> anyhow::Result<()> {
    let start = Instant::now();
    while !probe() {
        ensure!(start.elapsed() < patience, "waited {patience:?} for {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    Ok(())
}
