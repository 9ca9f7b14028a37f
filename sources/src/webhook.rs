//! Requests on their way to web hook sources: `/sources/{namespace}/{name}`.
//!
//! Whoever serves HTTP passes requests to [`Hooks::serve`]; running sources register a [`Hook`] under their name.
//! A path whose source is known but not running yet (it is starting, or being replaced) holds its requests for a moment
//! instead of refusing them, and so does every path before the sources are known: most senders of web hooks never send
//! twice.

use std::collections::HashMap;
use std::error::Error as StdError;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use bytes::Bytes;
use futures_util::future::BoxFuture;
use http::{HeaderMap, Method, Response};
use http_body::Body;
use http_body_util::Full;
use thiserror::Error;
use tokio::sync::watch;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::body::Bodies;
use crate::metrics::Metrics;
use crate::respond::{Refusal, respond};
use crate::secret::Secret;

/// The largest body: GitHub caps its payloads at 25 MB, and no other sender of web hooks goes beyond that.
const MAX_BODY: usize = 25 * 1024 * 1024;

/// Bytes of bodies held at one time, over all requests: five of the largest. Anybody who can reach the listener can
/// send a body, since signatures are checked over all of it.
const MAX_HELD: usize = 5 * MAX_BODY;

/// How long a body may take to arrive: GitHub gives up on the whole request after 10 s.
const BODY_TIMEOUT: Duration = Duration::from_secs(10);

/// How long a request waits for its source to start: well over any restart, and half of GitHub's 10 s.
const START_TIMEOUT: Duration = Duration::from_secs(5);

/// How long a source may take to answer. GitHub gives up after 10 s; an answer before that says what is wrong.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(9);

/// What a sender should wait after a refusal that has nothing better to say.
const RETRY_AFTER: Duration = Duration::from_secs(5);

/// A request, read to its end.
#[derive(Clone, Debug)]
pub struct Request {
    /// The method.
    pub method: Method,
    /// What follows the question mark of the URL; it may hold a token.
    pub query: Option<Secret>,
    /// The headers.
    pub headers: HeaderMap,
    /// The body, untouched.
    pub body: Bytes,
}

/// What became of an accepted request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Accepted {
    /// Its event is durable.
    Stored,
    /// The same, for a sender that was promised 200 and no other status.
    Done,
    /// It is genuine and of no interest.
    Ignored,
}

/// Receives the requests of one source.
pub trait Hook: fmt::Debug + Send + Sync + 'static {
    /// Looks at a request before its body is read, so that what is refused costs no memory.
    ///
    /// # Errors
    /// The refusal.
    fn admit(&self, method: &Method, headers: &HeaderMap) -> Result<(), Refusal> {
        let (_, _) = (method, headers);
        Ok(())
    }

    /// Turns an admitted request into events. `Ok` only when they are durable.
    fn handle(&self, request: Request) -> BoxFuture<'_, Result<Accepted, Refusal>>;
}

/// Another source already receives the requests of this path.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("another source receives the requests of /sources/{namespace}/{name}")]
pub struct HookTaken {
    namespace: Arc<str>,
    name: Arc<str>,
}

/// All hooks by path. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Hooks(Arc<Inner>);

/// Keeps a hook registered; dropping it ends that.
#[derive(Debug)]
pub struct Registration {
    hooks: Hooks,
    path: String,
    slot: Arc<Slot>,
}

#[derive(Debug)]
struct Inner {
    slots: ArcSwap<HashMap<String, Arc<Slot>>>,
    /// Held while `slots` is replaced.
    writing: Mutex<()>,
    bodies: Bodies,
    /// Cancelled once the sources are known.
    known: CancellationToken,
    /// Cancelled when the mesh stops.
    closed: CancellationToken,
    metrics: Metrics,
}

/// One path.
#[derive(Debug)]
struct Slot {
    /// How many sources were announced under it; each kind has its own names, so there may be two.
    expected: Mutex<usize>,
    hook: watch::Sender<Option<Arc<dyn Hook>>>,
}

impl HookTaken {
    /// The other source may go away.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        true
    }
}

impl Hooks {
    /// No hooks yet.
    #[must_use]
    pub fn new(metrics: Metrics) -> Self {
        Self(Arc::new(Inner {
            slots: ArcSwap::default(),
            writing: Mutex::new(()),
            bodies: Bodies::new(MAX_BODY, MAX_HELD, BODY_TIMEOUT),
            known: CancellationToken::new(),
            closed: CancellationToken::new(),
            metrics,
        }))
    }

    /// Receives the requests of `/sources/{namespace}/{name}` until the registration is dropped.
    ///
    /// # Errors
    /// When another source does.
    pub fn register(
        &self,
        namespace: &Arc<str>,
        name: &Arc<str>,
        hook: Arc<dyn Hook>,
    ) -> Result<Registration, HookTaken> {
        let path = path(namespace, name);
        let slot = self.expect_path(&path);
        let registered = slot.hook.send_if_modified(|have| {
            let free = have.is_none();
            if free {
                *have = Some(hook);
            }
            free
        });
        if !registered {
            self.forget_path(&path);
            return Err(HookTaken { namespace: Arc::clone(namespace), name: Arc::clone(name) });
        }
        Ok(Registration { hooks: self.clone(), path, slot })
    }

    /// Announces a source: its requests are held for a moment while it does not run.
    pub(crate) fn expect(&self, namespace: &str, name: &str) {
        self.expect_path(&path(namespace, name));
    }

    /// Takes an announcement back.
    pub(crate) fn forget(&self, namespace: &str, name: &str) {
        self.forget_path(&path(namespace, name));
    }

    /// All sources there are were announced: a path that is not known now is wrong.
    pub(crate) fn know(&self) {
        self.0.known.cancel();
    }

    /// From now on requests are told to come again: the sources are about to stop.
    pub(crate) fn close(&self) {
        self.0.closed.cancel();
    }

    /// Answers one HTTP request. The body is read here, up to 25 MiB and 10 s.
    pub async fn serve<B>(
        &self,
        namespace: &str,
        name: &str,
        request: http::Request<B>,
    ) -> Response<Full<Bytes>>
    where
        B: Body<Data = Bytes> + Send,
        B::Error: Into<Box<dyn StdError + Send + Sync>>,
    {
        let (parts, body) = request.into_parts();
        let answer = async {
            let hook = self.find(namespace, name).await?;
            hook.admit(&parts.method, &parts.headers)?;
            let (body, held) = self.0.bodies.read(body).await?;
            let query = parts.uri.query().map(Secret::new);
            let request = Request { method: parts.method, query, headers: parts.headers, body };
            let outcome = ask(&*hook, request).await;
            drop(held);
            outcome
        };
        self.answer(answer.await)
    }

    fn answer(&self, outcome: Result<Accepted, Refusal>) -> Response<Full<Bytes>> {
        if let Err(refusal) = &outcome {
            tracing::debug!(%refusal, "a web hook request was refused");
        }
        let response = respond(outcome);
        self.0.metrics.requested(response.status().as_u16());
        response
    }

    /// The hook of a path; waits for it where a source is announced.
    async fn find(&self, namespace: &str, name: &str) -> Result<Arc<dyn Hook>, Refusal> {
        let unknown =
            || Refusal::NotFound(format!("there is no web hook source {namespace}/{name}"));
        let busy = |reason| Refusal::Busy { reason, retry_after: RETRY_AFTER };
        let path = path(namespace, name);
        let slot = || self.0.slots.load().get(&path).cloned();
        let found = async {
            if slot().is_none() && timeout(START_TIMEOUT, self.0.known.cancelled()).await.is_err() {
                return Err(busy("the mesh is starting".to_owned()));
            }
            let slot = slot().ok_or_else(unknown)?;
            let mut hooks = slot.hook.subscribe();
            // A source that is removed while requests wait must not keep them: only the map may own the sender.
            drop(slot);
            match timeout(START_TIMEOUT, hooks.wait_for(Option::is_some)).await {
                Ok(Ok(hook)) => hook.clone().ok_or_else(unknown),
                Ok(Err(_)) => Err(unknown()),
                Err(_) => Err(busy(format!("the source {namespace}/{name} is not running"))),
            }
        };
        let stopping = || Err(busy("the mesh is stopping".to_owned()));
        if self.0.closed.is_cancelled() {
            return stopping();
        }
        self.0.closed.run_until_cancelled(found).await.unwrap_or_else(stopping)
    }

    fn expect_path(&self, path: &str) -> Arc<Slot> {
        let _writing = lock(&self.0.writing);
        let slots = self.0.slots.load();
        if let Some(slot) = slots.get(path) {
            *lock(&slot.expected) += 1;
            return Arc::clone(slot);
        }
        let slot = Arc::new(Slot { expected: Mutex::new(1), hook: watch::Sender::new(None) });
        let mut changed = HashMap::clone(&slots);
        changed.insert(path.to_owned(), Arc::clone(&slot));
        self.0.slots.store(Arc::new(changed));
        slot
    }

    fn forget_path(&self, path: &str) {
        let _writing = lock(&self.0.writing);
        let slots = self.0.slots.load();
        let Some(slot) = slots.get(path) else { return };
        let mut expected = lock(&slot.expected);
        *expected = expected.saturating_sub(1);
        if *expected == 0 {
            let mut changed = HashMap::clone(&slots);
            changed.remove(path);
            self.0.slots.store(Arc::new(changed));
        }
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        // Requests already with the hook keep their own reference and finish.
        self.slot.hook.send_replace(None);
        self.hooks.forget_path(&self.path);
    }
}

async fn ask(hook: &dyn Hook, request: Request) -> Result<Accepted, Refusal> {
    let late = |_| Refusal::Busy {
        reason: "the event could not be stored in time".to_owned(),
        retry_after: RETRY_AFTER,
    };
    timeout(ANSWER_TIMEOUT, hook.handle(request)).await.map_err(late)?
}

fn path(namespace: &str, name: &str) -> String {
    format!("{namespace}/{name}")
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nothing panics while one of these is held.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
