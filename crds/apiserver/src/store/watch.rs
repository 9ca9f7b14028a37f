//! A place in the history. It has no queue: all watches read the one history that there is.

use std::sync::Arc;

use crds::resource::Resource;
use tokio::sync::watch;

use super::memory::{Memory, Read};
use super::{Event, Expired};

/// Changes handed out at once: enough that waking up costs nothing beside them, and few enough that their JSON, which a watch
/// holds until its client has read it, is a fraction of a megabyte for each of hundreds of watches.
const BATCH: usize = 64;

/// Changes of a kind, from a version on.
#[derive(Debug)]
pub struct Watch {
    memory: Arc<Memory>,
    /// Where the kind is in memory; none for one that the store does not serve, which never changes.
    kind: Option<(usize, watch::Receiver<()>)>,
    namespace: Option<String>,
    /// Everything up to here was handed out or passed over.
    seen: u64,
}

impl Watch {
    pub(super) fn new(
        memory: Arc<Memory>,
        resource: &Resource,
        namespace: Option<&str>,
        since: u64,
    ) -> Result<Self, Expired> {
        let kind = memory.index(resource);
        let kind = kind.and_then(|kind| Some((kind, memory.subscribe(kind)?)));
        if let Some((kind, _)) = kind {
            memory.after(kind, None, since, 0)?;
        }
        Ok(Self { memory, kind, namespace: namespace.map(str::to_owned), seen: since })
    }

    /// The next changes, at least one, at most a bounded number; waits for them. A call that is dropped while it waits has
    /// lost nothing: the next one continues.
    ///
    /// # Errors
    ///
    /// [`Expired`] when it was not asked for so long that changes it has not seen are forgotten.
    pub async fn next(&mut self) -> Result<Vec<Arc<Event>>, Expired> {
        let Some((kind, changed)) = &mut self.kind else { return std::future::pending().await };
        loop {
            // Before reading: what is published after it wakes the wait below.
            changed.mark_unchanged();
            let Read { events, seen } =
                self.memory.after(*kind, self.namespace.as_deref(), self.seen, BATCH)?;
            self.seen = seen;
            if !events.is_empty() {
                return Ok(events);
            }
            if changed.changed().await.is_err() {
                // The other end is in `memory`, which this holds.
                return std::future::pending().await;
            }
        }
    }

    /// The version up to which everything has been seen: what a bookmark says. It grows also when other kinds change.
    #[must_use]
    pub fn version(&self) -> u64 {
        self.kind.as_ref().map_or_else(
            || self.memory.version().max(self.seen),
            |(kind, _)| self.memory.seen(*kind, self.seen),
        )
    }
}
