//! What the process reads from its environment. Nothing else in the workspace looks at environment variables.

use std::path::PathBuf;

use anyhow::Context;

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

/// Log directives: `WEFT_LOG`, else warnings of libraries and the mesh's own notices.
#[must_use]
pub fn log_filter() -> String {
    read("WEFT_LOG").unwrap_or_else(|| "info".to_owned())
}

fn read(name: &str) -> Option<String> {
    #[expect(clippy::disallowed_methods, reason = "the one place that reads the environment")]
    std::env::var(name).ok().filter(|value| !value.is_empty())
}
