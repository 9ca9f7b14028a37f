//! Follows resource files: what is saved is in force, what is broken is reported and changes nothing.

use std::ffi::{OsStr, OsString};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::time::Duration;

use crds::manifest::Located;
use notify::{RecommendedWatcher, RecursiveMode, Watcher};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::Texts;

/// Editors write a file in several steps; two looks this far apart that find the same mean they are done.
const QUIET: Duration = Duration::from_millis(50);

/// Changes may go unnoticed (network file systems, a watch limit reached), so the files are looked at this often anyway.
const SWEEP: Duration = Duration::from_secs(5);

/// Follows the files of a mesh.
#[derive(Debug)]
pub struct Follower {
    paths: Vec<PathBuf>,
    /// What the files held when they were last read in full, so that unchanged files are neither checked nor complained
    /// about again.
    seen: Option<u64>,
    /// Whether the files were broken then.
    complained: bool,
}

/// The files at one moment.
struct Look {
    texts: anyhow::Result<Texts>,
    /// Equal for equal texts, or equal complaints.
    mark: u64,
}

impl Follower {
    /// Reads `paths`, and follows them from there on.
    ///
    /// # Errors
    /// Every mistake with file, line, column, field and rule.
    pub fn start(paths: Vec<PathBuf>) -> anyhow::Result<(Self, Vec<Located>)> {
        let texts = Texts::read(&paths)?;
        let objects = texts.objects()?;
        let mark = mark(&Ok(texts));
        Ok((Self { paths, seen: Some(mark), complained: false }, objects))
    }

    /// Calls `apply` with the objects of each new good state, until `stop`.
    pub async fn run(mut self, stop: &CancellationToken, apply: impl AsyncFn(Vec<Located>)) {
        if self.paths.is_empty() {
            return stop.cancelled().await;
        }
        if let Some(stream) = self.paths.iter().find(|path| is_stream(path)) {
            tracing::info!("{} can be read once only: changes are not followed", stream.display());
            return stop.cancelled().await;
        }
        let (sender, mut changes) = mpsc::channel(1);
        // Held: dropping it ends the watch.
        let _watcher = watch(&self.paths, sender);
        loop {
            // Looked at first: what changed before the watch began is no event.
            match stop.run_until_cancelled(self.changed()).await {
                None => return,
                Some(None) => {}
                Some(Some(objects)) => apply(objects).await,
            }
            tokio::select! {
                () = stop.cancelled() => return,
                Some(()) = changes.recv() => {}
                () = tokio::time::sleep(SWEEP) => {}
            }
        }
    }

    /// The objects to bring into force, if the files say something new and good.
    async fn changed(&mut self) -> Option<Vec<Located>> {
        let texts = self.settled().await?;
        match aside(move || texts?.objects()).await {
            Ok(objects) => {
                if std::mem::take(&mut self.complained) {
                    tracing::info!("the files are good again");
                }
                Some(objects)
            }
            Err(error) => {
                tracing::error!("{error:#}\nthe last good state stays in force");
                self.complained = true;
                None
            }
        }
    }

    /// What the files hold once they stay the same for a moment, unless that was seen before. A file that is half written
    /// may well be good YAML, and a file that is being replaced is missing for an instant.
    async fn settled(&mut self) -> Option<anyhow::Result<Texts>> {
        let mut look = self.look().await;
        while self.seen != Some(look.mark) {
            tokio::time::sleep(QUIET).await;
            let again = self.look().await;
            if again.mark == look.mark {
                self.seen = Some(again.mark);
                return Some(again.texts);
            }
            look = again;
        }
        None
    }

    async fn look(&self) -> Look {
        let paths = self.paths.clone();
        let texts = aside(move || Texts::read(&paths)).await;
        let mark = mark(&texts);
        Look { texts, mark }
    }
}

fn mark(texts: &anyhow::Result<Texts>) -> u64 {
    let mut hasher = DefaultHasher::new();
    match texts {
        Ok(texts) => texts.hash(&mut hasher),
        Err(error) => format!("{error:#}").hash(&mut hasher),
    }
    hasher.finish()
}

/// Runs what blocks or takes long where nobody waits for it: thousands of resources are read and checked in seconds.
async fn aside<T: Send + 'static>(
    work: impl FnOnce() -> anyhow::Result<T> + Send + 'static,
) -> anyhow::Result<T> {
    tokio::task::spawn_blocking(work).await?
}

/// Watches the directories of `paths` (a file that is replaced by rename is another inode). Without a watch the sweep is
/// enough, only slower.
fn watch(paths: &[PathBuf], sender: mpsc::Sender<()>) -> Option<RecommendedWatcher> {
    let names = names(paths);
    let changed = move |event: notify::Result<notify::Event>| {
        let Ok(event) = event else { return };
        // A full channel already says "something changed"; reading the files is no change.
        if concerns(names.as_deref(), &event) && sender.try_send(()).is_err() {
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

/// The names of the followed files; `None` if a directory is followed, in which every name counts.
fn names(paths: &[PathBuf]) -> Option<Vec<OsString>> {
    paths.iter().map(|path| path.file_name().filter(|_| !path.is_dir()).map(Into::into)).collect()
}

/// Whether an event may be about a followed file. The directory of one may be busy with others, such as /tmp.
fn concerns(names: Option<&[OsString]>, event: &notify::Event) -> bool {
    // What Kubernetes mounts is changed by replacing a link beside the files.
    let counts =
        |name: &OsStr| name == "..data" || names.is_none_or(|all| all.iter().any(|of| of == name));
    let about = |path: &PathBuf| path.file_name().is_none_or(counts);
    !event.kind.is_access() && (event.paths.is_empty() || event.paths.iter().any(about))
}

/// Whether it is a pipe or a device (`-f <(…)`, `-f /dev/stdin`): who opens it again may wait forever.
fn is_stream(path: &Path) -> bool {
    std::fs::metadata(path).is_ok_and(|meta| !meta.is_file() && !meta.is_dir())
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

#[cfg(test)]
mod tests;
