//! GET with `watch`: a stream of what happens to the objects of a path, one JSON object a line.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::response::Response;
use bytes::Bytes;
use futures_util::stream;
use http::{HeaderValue, header};
use serde_json::{Value, json};
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use crate::server::answer::Shape;
use crate::server::read::{Selection, expired};
use crate::server::request::{Match, Start};
use crate::server::{ApiServer, Call, envelope, now};
use crate::status::{Cause, Refusal, Subject};
use crate::store::{Event, EventKind, Record, Watch};

/// How often a client that takes bookmarks gets one: as often as from Kubernetes.
const BOOKMARK: Duration = Duration::from_secs(60);
/// Objects of the state at the start that are written at once: a slow reader holds no more than this in its buffer.
const INITIAL: usize = 100;
/// Says that the state at the start is complete.
const INITIAL_END: &str = "k8s.io/initial-events-end";

/// One watch on its way to a client.
struct Feed {
    call: Call,
    selection: Selection,
    watch: Watch,
    /// What is there at the start and was not yet told.
    initial: std::vec::IntoIter<Arc<Record>>,
    /// Whether the end of it is told by a bookmark.
    mark_initial: Option<u64>,
    /// Whether the client knows the columns of its tables.
    columns_told: bool,
    deadline: Instant,
    next_bookmark: Instant,
    stopping: CancellationToken,
    ended: bool,
    _permit: OwnedSemaphorePermit,
}

impl ApiServer {
    pub(super) fn watch(&self, call: Call) -> Result<Response, Refusal> {
        let query = &call.query;
        let selection = Selection::parse(query, &call.target)?;
        check(query.initial_events, query.version_match)?;
        if query.initial_events == Some(true) {
            self.check_start(query)?;
        }
        let permit = Arc::clone(&self.watches)
            .try_acquire_owned()
            .map_err(|_| Refusal::Busy("too many watches are open"))?;
        let (resource, namespace) = (call.target.resource, call.target.namespace.as_deref());
        let fresh = !matches!(query.start, Start::At(_));
        let tells_state = query.initial_events.unwrap_or(fresh);
        let mut initial = Vec::new();
        let mut since = match query.start {
            Start::At(version) => version,
            Start::Unset | Start::Any => self.store.version(),
        };
        if tells_state {
            let listing = self.store.list(resource, namespace, None, 0);
            (initial, since) = (listing.records, listing.version);
        }
        let marks = query.initial_events == Some(true) && query.bookmarks;
        let watch = match self.store.watch(resource, namespace, since) {
            Ok(watch) => watch,
            Err(gone) => {
                let error = line("ERROR", &expired(since, gone.oldest).to_status());
                return Ok(respond(Body::from(error)));
            }
        };
        let feed = Feed {
            selection,
            watch,
            initial: initial.into_iter(),
            mark_initial: marks.then_some(since),
            columns_told: false,
            deadline: Instant::now() + self.patience(query.timeout_seconds),
            next_bookmark: Instant::now() + BOOKMARK,
            stopping: self.stopping.clone(),
            ended: false,
            _permit: permit,
            call,
        };
        let lines = stream::unfold(feed, |mut feed| async move {
            let bytes = feed.next().await?;
            Some((Ok::<_, Infallible>(bytes), feed))
        });
        Ok(respond(Body::from_stream(lines)))
    }

    /// How long a watch lasts. Without a wish, between half the limit and the limit, so that clients that came together
    /// after a restart do not come together for ever.
    fn patience(&self, wish: Option<u64>) -> Duration {
        let most = self.limits.watch_seconds.max(2);
        let seconds = wish.map_or_else(|| fastrand::u64(most / 2..=most), |wish| wish.min(most));
        Duration::from_secs(seconds)
    }
}

fn check(initial_events: Option<bool>, version_match: Option<Match>) -> Result<(), Refusal> {
    let details = match (initial_events, version_match) {
        (Some(_), Some(Match::NotOlderThan)) | (None, None) => return Ok(()),
        (Some(_), _) => "sendInitialEvents requires setting resourceVersionMatch to NotOlderThan",
        (None, Some(_)) => {
            "resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided"
        }
    };
    let cause = Cause::forbidden("resourceVersionMatch", details);
    Err(Refusal::field(Subject::options("ListOptions"), cause))
}

fn respond(body: Body) -> Response {
    let mut response = Response::new(body);
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache, private"));
    response
}

fn line(kind: &str, object: &Value) -> Bytes {
    let mut line = json!({"type": kind, "object": object}).to_string();
    line.push('\n');
    line.into()
}

impl Feed {
    /// The next lines; none at the end.
    async fn next(&mut self) -> Option<Bytes> {
        while !self.ended {
            while self.initial.len() > 0 || self.mark_initial.is_some() {
                if let Some(lines) = self.initial_lines() {
                    return Some(lines);
                }
            }
            let bookmark_at = self.next_bookmark;
            let bookmarks = self.call.query.bookmarks;
            tokio::select! {
                biased;
                () = self.stopping.cancelled() => self.ended = true,
                () = sleep_until(self.deadline) => {
                    self.ended = true;
                    // The client goes on from here without having to list again.
                    return bookmarks.then(|| self.bookmark(self.watch.version(), &json!({})));
                }
                events = self.watch.next() => match events {
                    Ok(events) => {
                        let lines: Vec<u8> =
                            events.iter().filter_map(|event| self.event(event)).flatten().collect();
                        if !lines.is_empty() {
                            return Some(lines.into());
                        }
                    }
                    Err(gone) => {
                        self.ended = true;
                        return Some(line("ERROR", &expired(self.watch.version(), gone.oldest).to_status()));
                    }
                },
                () = sleep_until(bookmark_at), if bookmarks => {
                    self.next_bookmark = bookmark_at + BOOKMARK;
                    return Some(self.bookmark(self.watch.version(), &json!({})));
                }
            }
        }
        None
    }

    /// The state at the start, piece by piece, and the mark behind it.
    fn initial_lines(&mut self) -> Option<Bytes> {
        let mut lines = Vec::new();
        let mut told = 0;
        while told < INITIAL {
            let Some(record) = self.initial.next() else { break };
            told += 1;
            if !self.selection.may_mean(&record.key) {
                continue;
            }
            match envelope::open(&self.call.target, &record) {
                Ok(object) if self.selection.matches(&object) => {
                    lines.extend(self.line("ADDED", object));
                }
                Ok(_) => {}
                Err(refusal) => lines.extend(line("ERROR", &refusal.to_status())),
            }
        }
        if self.initial.len() == 0
            && let Some(version) = self.mark_initial.take()
        {
            lines.extend(self.bookmark(version, &json!({INITIAL_END: "true"})));
        }
        // Objects that are not selected leave a piece empty.
        (!lines.is_empty()).then(|| lines.into())
    }

    /// What an event means to one who sees only the selected objects.
    fn event(&mut self, event: &Event) -> Option<Bytes> {
        if self.selection.is_all() && self.call.shape == Shape::Whole && self.is_stored_version() {
            return Some(raw(kind(event.kind), &event.record));
        }
        if !self.selection.may_mean(&event.record.key) {
            return None;
        }
        let object = envelope::open(&self.call.target, &event.record).ok()?;
        let previous = event
            .previous
            .as_ref()
            .and_then(|record| envelope::open(&self.call.target, record).ok());
        let selected = self.selection.matches(&object);
        let was_selected =
            previous.as_ref().map_or(selected, |previous| self.selection.matches(previous));
        match (event.kind, was_selected, selected) {
            (EventKind::Added, _, true) | (EventKind::Modified, false, true) => {
                Some(self.line("ADDED", object))
            }
            (EventKind::Modified, true, true) => Some(self.line("MODIFIED", object)),
            (EventKind::Deleted, true, _) => Some(self.line("DELETED", object)),
            (EventKind::Modified, true, false) => {
                // As it was when the client last saw it, in the version in which it left its sight.
                let mut last = previous.unwrap_or(object);
                let meta = last.get_mut("metadata").and_then(Value::as_object_mut)?;
                meta.insert("resourceVersion".to_owned(), event.record.version.to_string().into());
                Some(self.line("DELETED", last))
            }
            _ => None,
        }
    }

    fn is_stored_version(&self) -> bool {
        envelope::is_stored_version(&self.call.target)
    }

    fn line(&mut self, kind: &str, object: Value) -> Bytes {
        let mut writer = self.call.writer();
        writer.now = now();
        let mut object = writer.object(object);
        if self.call.shape == Shape::Table
            && std::mem::replace(&mut self.columns_told, true)
            && let Value::Object(table) = &mut object
        {
            table.insert("columnDefinitions".to_owned(), Value::Null);
        }
        line(kind, &object)
    }

    fn bookmark(&mut self, version: u64, annotations: &Value) -> Bytes {
        let target = &self.call.target;
        let mut meta = json!({"resourceVersion": version.to_string()});
        if annotations.as_object().is_some_and(|map| !map.is_empty()) {
            meta = json!({"resourceVersion": version.to_string(), "annotations": annotations});
        }
        let object = json!({
            "kind": target.resource.kind, "apiVersion": target.api_version(), "metadata": meta,
        });
        self.line("BOOKMARK", object)
    }
}

fn kind(kind: EventKind) -> &'static str {
    match kind {
        EventKind::Added => "ADDED",
        EventKind::Modified => "MODIFIED",
        EventKind::Deleted => "DELETED",
    }
}

/// A line with the object as it is stored.
fn raw(kind: &str, record: &Record) -> Bytes {
    let mut line = format!(r#"{{"type":"{kind}","object":"#).into_bytes();
    line.extend_from_slice(&record.json);
    line.extend_from_slice(b"}\n");
    line.into()
}
