//! An API server that has config maps in one namespace, and forgets when it is told to.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use futures_util::stream;
use http::{Request, Response};
use http_body::Frame;
use http_body_util::{BodyExt, Full, StreamBody, combinators::UnsyncBoxBody};
use kube::Client;
use kube::client::Body;
use serde_json::json;
use tokio::sync::watch;
use tower::service_fn;

/// Its handle. Cheap to clone.
#[derive(Clone)]
pub(super) struct Server(Arc<Mutex<Inner>>);

struct Inner {
    /// The number of changes so far.
    version: watch::Sender<usize>,
    /// The line of each change that a watch tells, from the first on.
    history: Vec<String>,
    /// What came before is forgotten.
    oldest: usize,
    /// Incarnation and JSON by name.
    objects: BTreeMap<String, (usize, String)>,
    denies: bool,
    users: Vec<String>,
}

type Answer = Response<UnsyncBoxBody<Bytes, Infallible>>;

/// A config map as the server writes it when it is made by the change of that number.
pub(super) fn config_map(name: &str, version: usize) -> String {
    object(name, version, version)
}

fn object(name: &str, born: usize, version: usize) -> String {
    format!(
        r#"{{"kind":"ConfigMap","apiVersion":"v1","metadata":{{"name":"{name}","namespace":"default","uid":"u-{name}-{born}","resourceVersion":"{version}"}},"data":{{"n":"{version}"}}}}"#
    )
}

fn answer(status: u16, text: impl Into<Bytes>) -> Answer {
    let mut answer = Response::new(Full::new(text.into()).boxed_unsync());
    *answer.status_mut() = http::StatusCode::from_u16(status).unwrap();
    answer
}

impl Server {
    pub(super) fn new() -> Self {
        Self(Arc::new(Mutex::new(Inner {
            version: watch::Sender::new(0),
            history: Vec::new(),
            oldest: 0,
            objects: BTreeMap::new(),
            denies: false,
            users: Vec::new(),
        })))
    }

    pub(super) fn client(&self) -> Client {
        let server = self.clone();
        let service = service_fn(move |request: Request<Body>| {
            let answer = server.answer(&request);
            async move { Ok::<_, Infallible>(answer) }
        });
        Client::new(service, "default")
    }

    /// Makes or changes a config map.
    pub(super) fn put(&self, name: &str) {
        let mut inner = self.0.lock().unwrap();
        let version = inner.history.len() + 1;
        let born = inner.objects.get(name).map(|(born, _)| *born);
        let json = object(name, born.unwrap_or(version), version);
        inner.say(if born.is_some() { "MODIFIED" } else { "ADDED" }, &json);
        inner.objects.insert(name.to_owned(), (born.unwrap_or(version), json));
    }

    pub(super) fn delete(&self, name: &str) {
        let mut inner = self.0.lock().unwrap();
        let (born, _) = inner.objects.remove(name).unwrap();
        let json = object(name, born, inner.history.len() + 1);
        inner.say("DELETED", &json);
    }

    /// Keeps nothing of what happened until now.
    pub(super) fn forget(&self) {
        let mut inner = self.0.lock().unwrap();
        inner.oldest = inner.history.len();
    }

    /// Allows nobody anything.
    pub(super) fn deny(&self) {
        self.0.lock().unwrap().denies = true;
    }

    /// On whose behalf it was asked.
    pub(super) fn users(&self) -> Vec<String> {
        let mut users = self.0.lock().unwrap().users.clone();
        users.dedup();
        users
    }

    fn answer(&self, request: &Request<Body>) -> Answer {
        let mut inner = self.0.lock().unwrap();
        let user = request.headers().get("impersonate-user");
        inner.users.extend(user.map(|user| user.to_str().unwrap().to_owned()));
        let query: BTreeMap<String, String> =
            url::form_urlencoded::parse(request.uri().query().unwrap_or_default().as_bytes())
                .into_owned()
                .collect();
        match request.uri().path() {
            "/api/v1" => {
                let maps = json!({"name": "configmaps", "kind": "ConfigMap", "namespaced": true, "verbs": ["list", "watch"]});
                answer(200, json!({"resources": [maps]}).to_string())
            }
            "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews" => {
                answer(201, json!({"status": {"allowed": !inner.denies}}).to_string())
            }
            "/api/v1/namespaces/default/configmaps" if query.contains_key("watch") => {
                let from = query["resourceVersion"].parse().unwrap();
                if from < inner.oldest { expired() } else { self.watch(from, &inner) }
            }
            "/api/v1/namespaces/default/configmaps" => inner.list(&query),
            other => answer(404, json!({"message": other, "code": 404}).to_string()),
        }
    }

    fn watch(&self, from: usize, inner: &Inner) -> Answer {
        let (server, versions) = (self.clone(), inner.version.subscribe());
        let lines = stream::unfold((from, versions), move |(told, mut versions)| {
            let server = server.clone();
            async move {
                let now = *versions.wait_for(|version| *version > told).await.ok()?;
                let text = server.0.lock().unwrap().history[told..now].concat();
                Some((Ok(Frame::data(Bytes::from(text))), (now, versions)))
            }
        });
        Response::new(StreamBody::new(lines).boxed_unsync())
    }
}

impl Inner {
    fn say(&mut self, kind: &str, json: &str) {
        self.history.push(format!("{{\"type\":\"{kind}\",\"object\":{json}}}\n"));
        self.version.send_replace(self.history.len());
    }

    /// A page has two objects at most.
    fn list(&self, query: &BTreeMap<String, String>) -> Answer {
        let after = query.get("continue").map_or("", String::as_str);
        let rest: Vec<_> = self.objects.iter().filter(|(name, _)| name.as_str() > after).collect();
        let items: Vec<&str> = rest.iter().take(2).map(|(_, (_, json))| json.as_str()).collect();
        let next = if rest.len() > 2 { rest[1].0.as_str() } else { "" };
        let version = self.history.len();
        let text = format!(
            r#"{{"metadata":{{"resourceVersion":"{version}","continue":"{next}"}},"items":[{}]}}"#,
            items.join(",")
        );
        answer(200, text)
    }
}

fn expired() -> Answer {
    let status = json!({"kind": "Status", "code": 410, "message": "too old resource version"});
    answer(200, format!("{}\n", json!({"type": "ERROR", "object": status})))
}
