//! Follows collections of objects: lists what there is, watches what happens, and hands over the events in between.

use std::collections::BTreeSet;
use std::time::Duration;

use broker_event::Event;
use futures_util::future::try_join_all;
use tokio::sync::{Semaphore, mpsc};
use tokio::time::{Instant, sleep};

use super::api::{Failed, Filter};
use super::event::Shape;
use super::object::Object;
use super::spec::OwnerKind;
use super::state::{MAX_KNOWN, State, Told};
use super::watch::{Collection, Word};
use crate::source::{Context, SourceError};
use crate::status::Condition;

/// Whether all objects are remembered, so that a deletion can be noticed later.
const OBJECTS_REMEMBERED: &str = "ObjectsRemembered";

/// Events that are handed over at once: with that many, what a write costs no longer counts.
const MAX_BATCH: usize = 500;

/// Bytes of their data, beyond which nothing is added: what the mesh takes as one batch from others too.
const MAX_BATCH_BYTES: usize = 1024 * 1024;

/// Lists that are read at once, a page of each in memory.
const LISTS: usize = 4;

/// The least time between two requests of one collection that tell nothing, as when a server ends watches at once.
const PAUSE: Duration = Duration::from_secs(1);

/// A source at work.
pub(super) struct Follower {
    pub(super) ctx: Context,
    pub(super) state: State,
    pub(super) shape: Shape,
    pub(super) owner: Option<OwnerKind>,
    pub(super) filter: Filter,
}

/// What one collection was heard to say.
#[derive(Debug)]
enum Heard {
    /// It is being watched.
    Open,
    /// A list of it begins.
    List,
    /// A part of that.
    Page(Vec<Object>),
    /// The end of it.
    Complete(String),
    /// What a watch says.
    Words(Vec<Word>),
}

/// Events on their way, and whether there is something to remember beside them.
#[derive(Default)]
struct Batch {
    events: Vec<Event>,
    bytes: usize,
    news: bool,
}

impl Follower {
    /// Follows `collections`, which the state begins with, until `interrupted` ends; answers with what that says. What was
    /// read until then is handed over.
    ///
    /// # Errors
    /// When reading or handing over fails, and when asked to stop.
    pub(super) async fn follow<T>(
        &mut self,
        collections: &[Collection],
        interrupted: impl Future<Output = Result<T, SourceError>>,
    ) -> Result<T, SourceError> {
        let lists = Semaphore::new(LISTS);
        // One word waits while the one before is handed over.
        let (told, heard) = mpsc::channel(1);
        let stop = self.ctx.stop.clone();
        let reader = |collection| {
            let version = self.state.version(&Collection::key(collection)).map(str::to_owned);
            Reader { collection, told: told.clone(), lists: &lists }.read(version)
        };
        let readers: Vec<_> = collections.iter().map(reader).collect();
        let reading = async move {
            tokio::select! {
                biased;
                () = stop.cancelled() => Err(SourceError::Stopped),
                // The other half failed, and says why.
                () = told.closed() => Err(SourceError::Stopped),
                // Without an error they end with that other half.
                Err(failed) = try_join_all(readers) => Err(failed.or_gone("follow objects")),
                value = interrupted => value,
            }
        };
        let (read, written) = tokio::join!(reading, self.write(collections.len(), heard));
        written?;
        read
    }

    /// Hands over what is heard and remembers it, until nobody says anything any more.
    async fn write(
        &mut self,
        collections: usize,
        mut heard: mpsc::Receiver<(&Collection, Heard)>,
    ) -> Result<(), SourceError> {
        let mut open = BTreeSet::new();
        if collections == 0 {
            self.ctx.report.running();
        }
        while let Some(first) = heard.recv().await {
            let mut batch = Batch::default();
            let mut next = Some(first);
            while let Some((collection, said)) = next {
                let key = collection.key();
                if let Heard::Open = said {
                    if open.insert(key) && open.len() == collections {
                        self.ctx.report.running();
                    }
                } else {
                    self.take(collection, &key, said, &mut batch);
                }
                next = if batch.has_room() { heard.try_recv().ok() } else { None };
            }
            self.hand_over(batch).await?;
        }
        Ok(())
    }

    /// Tells what went with a namespace that is gone.
    pub(super) async fn vanish(&mut self, collection: &Collection) -> Result<(), SourceError> {
        let mut batch = Batch { news: true, ..Batch::default() };
        let gone = self.state.vanish(&collection.key(), &collection.kind, self.shape.whole);
        self.tell(collection, gone, &mut batch);
        self.hand_over(batch).await
    }

    fn take(&mut self, collection: &Collection, key: &str, heard: Heard, batch: &mut Batch) {
        let kind = &collection.kind;
        match heard {
            Heard::Open => {}
            Heard::List => self.state.list(key),
            Heard::Page(objects) => {
                for object in objects {
                    let wanted = self.wants(&object);
                    let told = self.state.listed(key, object, wanted, kind);
                    self.tell(collection, told, batch);
                }
            }
            Heard::Complete(version) => {
                batch.news = true;
                let gone = self.state.complete(key, version, kind, self.shape.whole);
                self.tell(collection, gone, batch);
            }
            Heard::Words(words) => {
                for word in words {
                    match word {
                        Word::Mark(version) => batch.news |= self.state.marked(key, version),
                        Word::Changed(verb, object) => {
                            batch.news = true;
                            let wanted = self.wants(&object);
                            let told = self.state.changed(key, verb, object, wanted);
                            self.tell(collection, told, batch);
                        }
                    }
                }
            }
        }
    }

    fn wants(&self, object: &Object) -> bool {
        self.owner.as_ref().is_none_or(|owner| object.is_controlled_by(owner))
    }

    fn tell(
        &self,
        collection: &Collection,
        told: impl IntoIterator<Item = Told>,
        batch: &mut Batch,
    ) {
        for (verb, object) in told {
            match self.shape.event(verb, &collection.kind, &object) {
                Ok(event) if (self.filter)(&event) => batch.push(event),
                Ok(_) => {}
                // Not with any name that an API server takes; one that did would stop the source for good.
                Err(error) => {
                    let (kind, name) = (&collection.kind.kind, &object.name);
                    tracing::error!(kind, name, %error, "no event can be made of an object");
                }
            }
        }
    }

    /// Hands a batch over; remembers that only once its events are safe.
    async fn hand_over(&mut self, batch: Batch) -> Result<(), SourceError> {
        if batch.events.is_empty() && !batch.news {
            return Ok(());
        }
        for events in batch.pieces() {
            self.ctx.deliver(events).await?;
        }
        let state =
            serde_json::to_vec(&self.state).map_err(|error| SourceError::State(error.into()))?;
        self.ctx.checkpoint.save(state).await.map_err(SourceError::State)?;
        self.ctx.report.condition(if self.state.is_whole() {
            Condition::good(OBJECTS_REMEMBERED, "Remembered")
        } else {
            let message = format!(
                "of more than {MAX_KNOWN} objects not all are remembered: what is deleted while the source is away for \
                 longer than the server remembers is not told"
            );
            Condition::bad(OBJECTS_REMEMBERED, "TooManyObjects", message)
        });
        Ok(())
    }
}

impl Batch {
    fn push(&mut self, event: Event) {
        self.bytes += size(&event);
        self.events.push(event);
    }

    fn has_room(&self) -> bool {
        self.events.len() < MAX_BATCH && self.bytes < MAX_BATCH_BYTES
    }

    /// In pieces that the sink takes at once: a page of a list may be more.
    fn pieces(self) -> Vec<Vec<Event>> {
        let mut pieces = Vec::new();
        let mut piece = Self::default();
        for event in self.events {
            if !piece.events.is_empty() && piece.bytes + size(&event) > MAX_BATCH_BYTES {
                pieces.push(std::mem::take(&mut piece).events);
            }
            piece.push(event);
        }
        pieces.push(piece.events);
        pieces
    }
}

fn size(event: &Event) -> usize {
    event.data().map_or(0, bytes::Bytes::len)
}

/// Reads one collection.
struct Reader<'a> {
    collection: &'a Collection,
    told: mpsc::Sender<(&'a Collection, Heard)>,
    lists: &'a Semaphore,
}

impl Reader<'_> {
    /// From `version` on, or from a list if there is none; until nobody takes it.
    async fn read(self, mut version: Option<String>) -> Result<(), Failed> {
        loop {
            let begun = Instant::now();
            let from = match version.take() {
                Some(version) => version,
                None => match self.list().await? {
                    Some(version) => version,
                    None => return Ok(()),
                },
            };
            version = match self.watch(from).await {
                Ok(Some(version)) => Some(version),
                Ok(None) => return Ok(()),
                Err(Failed::Expired) => {
                    let what = self.collection.what("watch");
                    tracing::info!("{what}: what came after is no longer kept; listing anew");
                    None
                }
                Err(failed) => return Err(failed),
            };
            if begun.elapsed() < PAUSE {
                sleep(PAUSE).await;
            }
        }
    }

    /// Answers with the version that the list is of; nothing if nobody takes it.
    async fn list(&self) -> Result<Option<String>, Failed> {
        // It is not closed while readers read.
        let _permit = self.lists.acquire().await;
        let mut pages = self.collection.pages();
        if !self.tell(Heard::List).await {
            return Ok(None);
        }
        loop {
            let page = match pages.next().await {
                Ok(page) => page,
                // The list took so long that the rest of it is no longer what it was: it begins again.
                Err(Failed::Expired) => {
                    sleep(PAUSE).await;
                    pages = self.collection.pages();
                    if !self.tell(Heard::List).await {
                        return Ok(None);
                    }
                    continue;
                }
                Err(failed) => return Err(failed),
            };
            if !self.tell(Heard::Page(page.objects)).await {
                return Ok(None);
            }
            if page.next.is_none() {
                let told = self.tell(Heard::Complete(page.version.clone())).await;
                return Ok(told.then_some(page.version));
            }
        }
    }

    /// Answers with the version that the next watch goes on from; nothing if nobody takes it.
    async fn watch(&self, mut version: String) -> Result<Option<String>, Failed> {
        let mut watch = self.collection.watch(&version).await?;
        if !self.tell(Heard::Open).await {
            return Ok(None);
        }
        while let Some(words) = watch.next().await? {
            if let Some(last) = words.last() {
                last.version().clone_into(&mut version);
            }
            if !self.tell(Heard::Words(words)).await {
                return Ok(None);
            }
        }
        Ok(Some(version))
    }

    /// Whether anybody takes it.
    async fn tell(&self, heard: Heard) -> bool {
        self.told.send((self.collection, heard)).await.is_ok()
    }
}
