//! What the process reads from its environment. Nothing else in the workspace looks at environment variables.

use std::path::PathBuf;

use anyhow::Context;
use sources::Host;

/// The data directory when `--data` is absent: `$XDG_STATE_HOME/weft`, else `~/.local/state/weft`.
///
/// # Errors
/// When neither variable is set.
pub fn default_data() -> anyhow::Result<PathBuf> {
    let state = read("XDG_STATE_HOME").map(PathBuf::from).filter(|path| path.is_absolute());
    let home = || read("HOME").map(|home| PathBuf::from(home).join(".local/state"));
    let base = state.or_else(home).context("HOME is not set: name a directory with --data DIR")?;
    Ok(base.join("weft"))
}

/// The user's own kubeconfig: the first file of `$KUBECONFIG`, else `~/.kube/config`.
///
/// # Errors
/// When neither variable is set.
pub fn own_kubeconfig() -> anyhow::Result<PathBuf> {
    let listed = read("KUBECONFIG").and_then(|list| std::env::split_paths(&list).next());
    let home = || read("HOME").map(|home| PathBuf::from(home).join(".kube/config"));
    listed.or_else(home).context("HOME is not set: name your kubeconfig in KUBECONFIG")
}

/// What programs that sources run are given of this machine: `PATH` and `HOME`, and the container engine that `DOCKER_HOST`
/// names, else where Docker and Podman listen by themselves.
#[must_use]
pub fn host() -> Host {
    let inherited = |name: &str| Some((name.to_owned(), read(name)?));
    let environment = ["PATH", "HOME"].into_iter().filter_map(inherited).collect();
    let under = |name: &str, path: &str| read(name).map(|base| format!("unix://{base}/{path}"));
    let engines = match read("DOCKER_HOST") {
        Some(address) => vec![address],
        None => [
            Some("unix:///var/run/docker.sock".to_owned()),
            under("HOME", ".docker/run/docker.sock"),
            under("XDG_RUNTIME_DIR", "podman/podman.sock"),
            Some("unix:///run/podman/podman.sock".to_owned()),
        ]
        .into_iter()
        .flatten()
        .collect(),
    };
    Host { environment, engines }
}

/// Where a program that a mesh or Knative runs is to send its events, and how: `K_SINK`, `K_CE_OVERRIDES`, `K_CA_CERTS`.
#[must_use]
pub fn binding() -> Option<Binding> {
    let (overrides, ca_certs) = (read("K_CE_OVERRIDES"), read("K_CA_CERTS"));
    Some(Binding { sink: read("K_SINK")?, overrides, ca_certs })
}

/// What `SinkBinding` and `ContainerSource` tell a program.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Binding {
    /// Where events are posted to.
    pub sink: String,
    /// What is set on each event, as JSON.
    pub overrides: Option<String>,
    /// Certificates to trust there, PEM.
    pub ca_certs: Option<String>,
}

/// Log directives: `WEFT_LOG`, else warnings of libraries and the mesh's own notices.
#[must_use]
pub fn log_filter() -> String {
    // The client of NATS tells of each attempt to connect; the source's status says what matters of them.
    read("WEFT_LOG").unwrap_or_else(|| "info,async_nats=warn".to_owned())
}

fn read(name: &str) -> Option<String> {
    #[expect(clippy::disallowed_methods, reason = "the one place that reads the environment")]
    std::env::var(name).ok().filter(|value| !value.is_empty())
}
