//! Follows resource files: what is saved is in force, what is broken is reported and changes nothing.

use std::path::{Path, PathBuf};
use std::time::Duration;

use notify::{RecommendedWatcher, RecursiveMode, Watcher};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::{Plan, load};

/// Editors write a file in several steps; this much silence means they are done.
const QUIET: Duration = Duration::from_millis(50);

/// Changes may go unnoticed (network file systems, a watch limit reached), so the files are looked at this often anyway.
const SWEEP: Duration = Duration::from_secs(5);

/// Follows the files of a mesh.
#[derive(Debug)]
pub struct Follower {
    paths: Vec<PathBuf>,
    events: String,
    /// The last complaint, so that an unchanged mistake is reported once.
    complaint: Option<String>,
    /// What is in force, so that an unchanged plan is not applied again.
    applied: Plan,
}

impl Follower {
    /// Follows `paths`, of which `applied` is in force; `events` is the base URL of the events listener.
    #[must_use]
    pub fn new(paths: Vec<PathBuf>, events: String, applied: Plan) -> Self {
        Self { paths, events, complaint: None, applied }
    }

    /// Calls `apply` with each new good plan, until `stop`.
    pub async fn run(mut self, stop: &CancellationToken, apply: impl AsyncFn(Plan)) {
        if self.paths.is_empty() {
            return stop.cancelled().await;
        }
        let (sender, mut changes) = mpsc::channel(1);
        // Held: dropping it ends the watch.
        let _watcher = watch(&self.paths, sender);
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                Some(()) = changes.recv() => settle(&mut changes).await,
                () = tokio::time::sleep(SWEEP) => {}
            }
            self.look(&apply).await;
        }
    }

    async fn look(&mut self, apply: &impl AsyncFn(Plan)) {
        match load(&self.paths, &self.events) {
            Ok(plan) => {
                if self.complaint.take().is_some() {
                    tracing::info!("the files are good again");
                }
                if plan != self.applied {
                    self.applied = plan.clone();
                    apply(plan).await;
                }
            }
            Err(error) => {
                let complaint = format!("{error:#}");
                if self.complaint.as_ref() != Some(&complaint) {
                    tracing::error!("{complaint}\nthe last good state stays in force");
                }
                self.complaint = Some(complaint);
            }
        }
    }
}

/// Waits until nothing has changed for a moment.
async fn settle(changes: &mut mpsc::Receiver<()>) {
    while let Ok(Some(())) = tokio::time::timeout(QUIET, changes.recv()).await {}
}

/// Watches the directories of `paths` (a file that is replaced by rename is another inode). Without a watch the sweep is
/// enough, only slower.
fn watch(paths: &[PathBuf], sender: mpsc::Sender<()>) -> Option<RecommendedWatcher> {
    let changed = move |event: notify::Result<notify::Event>| {
        // A full channel already says "something changed"; reading the files is no change.
        if event.is_ok_and(|event| !event.kind.is_access()) && sender.try_send(()).is_err() {
            tracing::trace!("a change is already noted");
        }
    };
    let watcher = notify::recommended_watcher(changed).and_then(|mut watcher| {
        for path in paths {
            watcher.watch(&directory(path), RecursiveMode::NonRecursive)?;
        }
        Ok(watcher)
    });
    match watcher {
        Ok(watcher) => Some(watcher),
        Err(error) => {
            tracing::warn!(%error, "changes of the files are noticed within {SWEEP:?}");
            None
        }
    }
}

fn directory(path: &Path) -> PathBuf {
    if path.is_dir() {
        return path.to_owned();
    }
    match path.parent() {
        Some(parent) if parent != Path::new("") => parent.to_owned(),
        _ => PathBuf::from("."),
    }
}
