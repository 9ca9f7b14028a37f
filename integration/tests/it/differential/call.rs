//! One call, as both servers get it, and what a server's answers taught about it.
//!
//! A call says `${rv:configmaps/a}` where it means the version that an object had when the server last showed it: each
//! server has versions and identities of its own.

use std::collections::BTreeMap;

use bytes::Bytes;
use http_body_util::BodyExt;
use kube::Client;
use serde_json::{Value, json};
use tokio::time::timeout;

use crate::harness::servers::{self, Answer, DEADLINE};

/// Which of an object's versions a server showed last, and before.
#[derive(Clone, Debug, Default)]
struct Shown {
    uid: String,
    version: String,
    before: String,
    object: Value,
}

/// What `${uid:…}` is before the object was ever shown.
const NOBODY: &str = "00000000-0000-4000-8000-000000000000";

/// How the answer to a call is read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Read {
    /// To its end.
    Whole,
    /// To its end; what is sent is the object as it was shown last, with this status.
    WithStatus {
        /// Whether it is sent without its version.
        versionless: bool,
    },
    /// As a watch, until it tells of an object of this name.
    Until(String),
    /// As a watch, until the state at the start is complete.
    Initial,
}

/// A call.
#[derive(Clone, Debug)]
pub(crate) struct Call {
    /// What is tried, for reports and for the list of deliberate differences.
    pub(crate) what: &'static str,
    pub(crate) method: &'static str,
    pub(crate) path: String,
    pub(crate) media: &'static str,
    pub(crate) accept: &'static str,
    pub(crate) body: String,
    pub(crate) read: Read,
    /// The object it is about, as `configmaps/a`.
    pub(crate) about: Option<String>,
}

impl Call {
    pub(crate) fn get(what: &'static str, path: impl Into<String>) -> Self {
        Self {
            what,
            method: "GET",
            path: path.into(),
            media: "",
            accept: "application/json",
            body: String::new(),
            read: Read::Whole,
            about: None,
        }
    }

    /// A call with a body in JSON.
    pub(crate) fn send(
        what: &'static str,
        method: &'static str,
        path: impl Into<String>,
        body: &Value,
    ) -> Self {
        Self {
            method,
            media: "application/json",
            body: if body.is_null() { String::new() } else { body.to_string() },
            ..Self::get(what, path)
        }
    }

    pub(crate) fn media(self, media: &'static str) -> Self {
        Self { media, ..self }
    }

    pub(crate) fn accept(self, accept: &'static str) -> Self {
        Self { accept, ..self }
    }

    pub(crate) fn text(self, body: impl Into<String>) -> Self {
        Self { body: body.into(), ..self }
    }

    pub(crate) fn about(self, plural: &str, name: &str) -> Self {
        Self { about: Some(format!("{plural}/{name}")), ..self }
    }

    pub(crate) fn read(self, read: Read) -> Self {
        Self { read, ..self }
    }

    /// The path of the object that it may change.
    pub(crate) fn changes(&self) -> Option<String> {
        let name = self.about.as_ref().filter(|_| self.method != "GET")?.split_once('/')?.1;
        let path = self.path.split('?').next()?.trim_end_matches("/status");
        let collection = path.strip_suffix(&format!("/{name}")).unwrap_or(path);
        Some(format!("{collection}/{name}"))
    }
}

/// Opens a watch and reads events until one is the last; answers with a list of them.
async fn watch(client: &Client, path: &str, last: impl Fn(&Value) -> bool) -> Answer {
    let response = timeout(DEADLINE, client.send(servers::request("GET", path, &[], ""))).await;
    let response = response.expect("an answer in time").expect("an answer");
    let (parts, mut body) = response.into_parts();
    let mut answer =
        Answer { status: parts.status.as_u16(), headers: parts.headers, body: Value::Null };
    let (mut buffer, mut events) = (Vec::new(), Vec::new());
    loop {
        while let Some(end) = buffer.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = buffer.drain(..=end).collect();
            let event = servers::parse(&line);
            let is_last = last(&event);
            events.push(event);
            if is_last {
                answer.body = events.into();
                return answer;
            }
        }
        let frame = timeout(DEADLINE, body.frame()).await;
        assert!(frame.is_ok(), "{path}: no more events after {events:#?}");
        let frame = frame.expect("it was asserted").transpose().expect("the answer is whole");
        if let Some(frame) = frame {
            buffer.extend(frame.into_data().unwrap_or_else(|_| Bytes::new()));
        } else {
            events.extend((!buffer.is_empty()).then(|| servers::parse(&buffer)));
            answer.body = events.into();
            return answer;
        }
    }
}

/// A server, and what it showed so far.
pub(crate) struct Peer {
    client: Client,
    shown: BTreeMap<String, Shown>,
    /// The version of the last list, by what was listed.
    mark: String,
    token: String,
    generated: String,
}

impl Peer {
    pub(crate) fn new(client: Client) -> Self {
        Self {
            client,
            shown: BTreeMap::new(),
            mark: String::new(),
            token: String::new(),
            generated: String::new(),
        }
    }

    pub(crate) async fn play(&mut self, call: &Call) -> Answer {
        let (path, mut body) = (self.fill(&call.path), self.fill(&call.body));
        if let Read::WithStatus { versionless } = call.read {
            body = self.with_status(call, &body, versionless);
        }
        let mut headers = vec![("user-agent", "differential/1")];
        for (name, value) in [("content-type", call.media), ("accept", call.accept)] {
            if !value.is_empty() {
                headers.push((name, value));
            }
        }
        match &call.read {
            Read::Whole | Read::WithStatus { .. } => {
                let answer = servers::send(&self.client, call.method, &path, &headers, &body).await;
                if answer.status < 300 {
                    self.learn(call, &answer.body);
                }
                answer
            }
            Read::Until(name) => {
                let last = |event: &Value| event["object"]["metadata"]["name"] == name.as_str();
                watch(&self.client, &path, last).await
            }
            Read::Initial => {
                let last = |event: &Value| event["type"] == "BOOKMARK";
                watch(&self.client, &path, last).await
            }
        }
    }

    /// Removes an object, whatever holds it, so that what comes next finds the same on both servers.
    pub(crate) async fn forget(&mut self, path: &str) {
        let body = json!({"metadata": {"finalizers": null}}).to_string();
        let media = [("content-type", "application/merge-patch+json")];
        servers::send(&self.client, "PATCH", path, &media, &body).await;
        servers::send(&self.client, "DELETE", path, &[], "").await;
    }

    fn with_status(&self, call: &Call, status: &str, versionless: bool) -> String {
        let about = call.about.as_ref().expect("it is about an object");
        let mut sent: Value = serde_json::from_str(status).expect("JSON");
        let object = self.shown.get(about).map(|shown| &shown.object);
        let Some(mut object) = object.filter(|object| object.is_object()).cloned() else {
            return sent.to_string();
        };
        object["status"] = sent["status"].take();
        if let (true, Some(meta)) = (versionless, object["metadata"].as_object_mut()) {
            meta.remove("resourceVersion");
        }
        object.to_string()
    }

    fn learn(&mut self, call: &Call, body: &Value) {
        let meta = &body["metadata"];
        let text = |field: &str| meta[field].as_str().unwrap_or_default().to_owned();
        if let Some(about) = &call.about
            && !text("resourceVersion").is_empty()
            && !call.path.contains("dryRun")
            && !call.body.contains("dryRun")
        {
            let shown = self.shown.entry(about.clone()).or_default();
            if shown.version != text("resourceVersion") {
                shown.before = std::mem::replace(&mut shown.version, text("resourceVersion"));
            }
            if body["kind"] != "Table" && body["kind"] != "PartialObjectMetadata" {
                shown.object = body.clone();
            }
            if !text("uid").is_empty() {
                shown.uid = text("uid");
            }
        }
        if body["items"].is_array() {
            self.mark = text("resourceVersion");
            if call.path.contains("limit=") {
                self.token = text("continue");
            }
        }
        if !text("generateName").is_empty() && call.method == "POST" {
            self.generated = text("name");
        }
    }

    /// The text with what it leaves open filled in.
    fn fill(&self, text: &str) -> String {
        let mut filled = String::new();
        let mut rest = text;
        while let Some((before, after)) = rest.split_once("${") {
            let (open, after) = after.split_once('}').expect("it is closed");
            filled.push_str(before);
            filled.push_str(&self.value(open));
            rest = after;
        }
        filled + rest
    }

    fn value(&self, open: &str) -> String {
        let (what, about) = open.split_once(':').unwrap_or((open, ""));
        let or = |text: &str, otherwise: &str| {
            if text.is_empty() { otherwise.to_owned() } else { text.to_owned() }
        };
        let shown = self.shown.get(about).cloned().unwrap_or_default();
        match what {
            "rv" => or(&shown.version, "1"),
            "old" => or(&shown.before, "1"),
            "uid" => or(&shown.uid, NOBODY),
            "mark" => self.mark.clone(),
            "continue" => or(&self.token, "none"),
            "generated" => or(&self.generated, "none"),
            other => unreachable!("{other} cannot be filled in"),
        }
    }
}
