//! An API server in memory: as much of one as this crate talks to, with faults on demand.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::convert::Infallible;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream;
use http::{Method, Request, Response};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use kube::client::Body;
use serde_json::{Value, json};
use tokio::sync::watch;

type Answer = Response<UnsyncBoxBody<Bytes, Infallible>>;

/// Plural, namespace and name.
type Path = (String, String, String);

#[derive(Debug)]
pub(crate) struct Server {
    state: Mutex<State>,
    revision: watch::Sender<u64>,
}

#[derive(Debug, Default)]
pub(crate) struct State {
    pub(crate) objects: BTreeMap<Path, Value>,
    /// `METHOD plural/name` of each write, in order.
    pub(crate) writes: Vec<String>,
    /// How many lists of each kind were asked for.
    pub(crate) lists: BTreeMap<String, usize>,
    /// Kinds that are not there.
    pub(crate) absent: BTreeSet<String>,
    /// Statuses with which the next writes are refused.
    pub(crate) refuse: VecDeque<u16>,
    /// Kinds whose lists are refused with 500.
    pub(crate) broken: BTreeSet<String>,
    /// Whether a watch from an older version is refused, instead of begun and ended.
    pub(crate) blunt: bool,
    /// Whether patches are answered and not applied.
    pub(crate) deaf: bool,
    /// Whether nothing at all is answered.
    pub(crate) hung: bool,
    version: u64,
    history: Vec<(u64, String, &'static str, Value)>,
    /// Watches from an older version end with 410.
    oldest: u64,
}

impl Server {
    pub(crate) fn new() -> Arc<Self> {
        let absent = ["services", "channels", "sequences", "parallels"].map(str::to_owned);
        let state = Mutex::new(State { absent: absent.into(), ..State::default() });
        Arc::new(Self { state, revision: watch::Sender::new(0) })
    }

    pub(crate) fn client(self: &Arc<Self>) -> kube::Client {
        let server = Arc::clone(self);
        let service = tower::service_fn(move |request: Request<Body>| {
            let server = Arc::clone(&server);
            async move { Ok::<_, Infallible>(server.answer(request).await) }
        });
        kube::Client::new(service, "default")
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    /// Waits until `holds`, for an hour at most.
    pub(crate) async fn until(&self, what: &str, holds: impl Fn(&State) -> bool) {
        let hour = Duration::from_secs(3600);
        let reached = tokio::time::timeout(hour, self.reached(&holds)).await;
        assert!(reached.is_ok(), "{what}: {:#?}", self.state());
    }

    /// Whether `holds` stays false for an hour.
    pub(crate) async fn never(&self, holds: impl Fn(&State) -> bool) -> bool {
        tokio::time::timeout(Duration::from_secs(3600), self.reached(&holds)).await.is_err()
    }

    async fn reached(&self, holds: &impl Fn(&State) -> bool) {
        let mut revisions = self.revision.subscribe();
        while !holds(&self.state()) {
            revisions.changed().await.unwrap();
        }
    }

    pub(crate) fn put(&self, plural: &str, object: Value) {
        self.state().put(plural, object);
        self.tell();
    }

    pub(crate) fn delete(&self, plural: &str, name: &str) {
        let mut state = self.state();
        let path = (plural.to_owned(), "ns".to_owned(), name.to_owned());
        let mut object = state.objects.remove(&path).unwrap();
        state.stamp(plural, "DELETED", &mut object);
        drop(state);
        self.tell();
    }

    /// As if the server had been restored and no longer knew its history: what `change` does is seen by lists only.
    pub(crate) fn forget(&self, change: impl FnOnce(&mut State)) {
        let mut state = self.state();
        change(&mut state);
        state.version += 1;
        state.oldest = state.version;
        state.history.clear();
        drop(state);
        self.tell();
    }

    fn tell(&self) {
        self.revision.send_modify(|revision| *revision += 1);
    }

    async fn answer(self: Arc<Self>, request: Request<Body>) -> Answer {
        let (head, body) = request.into_parts();
        let body = body.collect_bytes().await.unwrap();
        let body: Value = serde_json::from_slice(&body).unwrap_or_default();
        let query = head.uri.query().unwrap_or_default();
        let path = head.uri.path();
        if self.state().hung {
            std::future::pending::<()>().await;
        }
        let answer = match (head.method, query.contains("watch=true")) {
            (Method::GET, true) => Arc::clone(&self).watch(path, query),
            (method, _) => {
                let (code, value) = self.state().answer(&method, path, &body);
                let whole = Full::new(Bytes::from(value.to_string())).boxed_unsync();
                Response::builder().status(code).body(whole).unwrap()
            }
        };
        self.tell();
        answer
    }

    fn watch(self: Arc<Self>, path: &str, query: &str) -> Answer {
        let since = query.split('&').find_map(|pair| pair.strip_prefix("resourceVersion="));
        let since: u64 = since.and_then(|text| text.parse().ok()).unwrap_or_default();
        let plural = path.rsplit('/').next().unwrap().to_owned();
        if self.state().blunt && since < self.state().oldest {
            let whole = Full::new(Bytes::from(failure(410).to_string())).boxed_unsync();
            return Response::builder().status(410).body(whole).unwrap();
        }
        let revisions = self.revision.subscribe();
        let lines = stream::unfold(Some((self, since, revisions)), move |state| {
            let plural = plural.clone();
            async move {
                let (server, since, mut revisions) = state?;
                loop {
                    if server.state().blunt && since < server.state().oldest {
                        return None;
                    }
                    let next = server.state().after(&plural, since);
                    let Some((line, seen)) = next else {
                        revisions.changed().await.ok()?;
                        continue;
                    };
                    let text = Bytes::from(format!("{line}\n"));
                    let frame = Full::new(text).frame().await?;
                    let next = seen.map(|seen| (server, seen, revisions));
                    return Some((frame, next));
                }
            }
        });
        Response::new(StreamBody::new(lines).boxed_unsync())
    }
}

impl State {
    pub(crate) fn object(&self, plural: &str, name: &str) -> Option<&Value> {
        self.objects.get(&(plural.to_owned(), "ns".to_owned(), name.to_owned()))
    }

    /// The status of an object's condition.
    pub(crate) fn condition(&self, plural: &str, name: &str, kind: &str) -> Option<&str> {
        let conditions = self.object(plural, name)?.pointer("/status/conditions")?.as_array()?;
        conditions.iter().find(|condition| condition["type"] == kind)?["status"].as_str()
    }

    /// `type reason count` of each Event.
    pub(crate) fn told(&self) -> Vec<String> {
        let events = self.objects.iter().filter(|((plural, ..), _)| plural == "events");
        let text = |event: &Value, field: &str| event[field].as_str().unwrap().to_owned();
        events
            .map(|(_, event)| {
                let (kind, reason) = (text(event, "type"), text(event, "reason"));
                format!("{kind} {reason} {}", event["count"])
            })
            .collect()
    }

    pub(crate) fn count(&self, write: &str) -> usize {
        self.writes.iter().filter(|known| known.starts_with(write)).count()
    }

    pub(crate) fn put(&mut self, plural: &str, mut object: Value) {
        let path = of(plural, &object);
        let kind = if self.objects.contains_key(&path) { "MODIFIED" } else { "ADDED" };
        if object["metadata"].get("uid").is_none() {
            object["metadata"]["uid"] = format!("{plural}-{}", path.2).into();
        }
        self.stamp(plural, kind, &mut object);
        self.objects.insert(path, object);
    }

    fn stamp(&mut self, plural: &str, kind: &'static str, object: &mut Value) {
        self.version += 1;
        object["metadata"]["resourceVersion"] = self.version.to_string().into();
        self.history.push((self.version, plural.to_owned(), kind, object.clone()));
    }

    /// The next line of a watch, and the version seen then; nothing if it ends there.
    fn after(&self, plural: &str, since: u64) -> Option<(Value, Option<u64>)> {
        if since < self.oldest {
            return Some((json!({"type": "ERROR", "object": failure(410)}), None));
        }
        let from = self.history.partition_point(|(version, ..)| *version <= since);
        let next = self.history[from..].iter().find(|(_, of, ..)| of == plural);
        next.map(|(version, _, kind, object)| {
            (json!({"type": kind, "object": object}), Some(*version))
        })
    }

    fn answer(&mut self, method: &Method, path: &str, body: &Value) -> (u16, Value) {
        let mut parts = path.split('/').skip(1).skip_while(|part| !part.starts_with('v')).skip(1);
        let mut part = || parts.next().unwrap_or_default().to_owned();
        let (mut plural, mut namespace) = (part(), String::new());
        if plural == "namespaces" {
            (namespace, plural) = (part(), part());
        }
        let path = (plural.clone(), namespace, part());
        let (_, _, name) = &path;
        if *method == Method::GET && name.is_empty() {
            *self.lists.entry(plural.clone()).or_default() += 1;
            if self.absent.contains(&plural) {
                return (404, failure(404));
            }
            if self.broken.contains(&plural) {
                return (500, failure(500));
            }
            let objects = self.objects.iter().filter(|((of, ..), _)| *of == plural);
            let items: Vec<_> = objects.map(|(_, object)| object.clone()).collect();
            let metadata = json!({"resourceVersion": self.version.to_string()});
            return (
                200,
                json!({"kind": "List", "apiVersion": "v1", "metadata": metadata, "items": items}),
            );
        }
        let known = self.objects.get(&path).cloned();
        if *method == Method::GET {
            return known.map_or((404, failure(404)), |object| (200, object));
        }
        self.writes.push(format!("{method} {plural}/{name}"));
        if let Some(code) = self.refuse.pop_front() {
            return (code, failure(code));
        }
        self.write(method, &path, body, known)
    }

    fn write(
        &mut self,
        method: &Method,
        path: &Path,
        body: &Value,
        known: Option<Value>,
    ) -> (u16, Value) {
        let version = body.pointer("/metadata/resourceVersion");
        let (object, path) = match (method, known) {
            (&Method::POST, _) => {
                let path = of(&path.0, body);
                if self.objects.contains_key(&path) {
                    return (409, failure(409));
                }
                (body.clone(), path)
            }
            (_, None) => return (404, failure(404)),
            (_, Some(known))
                if version
                    .is_some_and(|version| *version != known["metadata"]["resourceVersion"]) =>
            {
                return (409, failure(409));
            }
            (&Method::PATCH, Some(known)) if self.deaf => return (200, known),
            (&Method::PATCH, Some(mut known)) => {
                merge(&mut known, body);
                (known, path.clone())
            }
            (_, Some(_)) => (body.clone(), path.clone()),
        };
        self.put(&path.0, object);
        (200, self.objects[&path].clone())
    }
}

fn of(plural: &str, object: &Value) -> Path {
    let text = |field: &str| object["metadata"][field].as_str().unwrap_or_default().to_owned();
    (plural.to_owned(), text("namespace"), text("name"))
}

fn merge(object: &mut Value, patch: &Value) {
    let Value::Object(patch) = patch else {
        *object = patch.clone();
        return;
    };
    if !object.is_object() {
        *object = json!({});
    }
    for (key, value) in patch {
        if value.is_null() {
            object.as_object_mut().unwrap().remove(key);
        } else {
            merge(&mut object[key], value);
        }
    }
}

fn failure(code: u16) -> Value {
    let reason = match code {
        404 => "NotFound",
        409 => "Conflict",
        410 => "Expired",
        _ => "InternalError",
    };
    json!({
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
        "message": "as the test says", "reason": reason, "code": code,
    })
}
