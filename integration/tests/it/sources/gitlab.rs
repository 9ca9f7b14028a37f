//! `GitLabSource` against a server that plays GitLab's part: it keeps a web hook, and posts deliveries to it until they are
//! taken.

use std::ops::Range;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use futures_util::{StreamExt, stream};
use http::Request;
use http_body_util::Full;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use serde_json::{Value, json};

use super::contract;
use super::upstream::{Upstream, condition, resource};
use crate::harness::eventually::{eventually, eventually_within};
use crate::harness::mesh::{BROKER, Mesh, trigger};
use crate::harness::services::Services;
use crate::harness::subscriber::{Got, Reply, Subscriber};

const ACCESS: &str = "glpat-contract-access";
const TOKEN: &str = "contract-secret-token";

/// How long it takes until it is sent again, and again: GitLab's own schedule is of minutes.
const AGAIN: Duration = Duration::from_secs(60);

/// Deliveries under way at once.
const PARALLEL: usize = 64;

/// A GitLab with the project `acme/shop`.
struct GitLab {
    api: Subscriber,
    client: Client<HttpConnector, Full<Bytes>>,
    kept: Arc<Mutex<Kept>>,
}

/// What it keeps.
#[derive(Debug, Default)]
struct Kept {
    hooks: Vec<Value>,
    made: i64,
    away: bool,
}

impl Kept {
    fn answer(&mut self, call: &Got) -> Reply {
        let say =
            |status, body: &Value| Reply { body: body.to_string().into(), ..Reply::status(status) };
        if self.away {
            return Reply::status(502);
        }
        if call.header("private-token") != ACCESS {
            return say(401, &json!({ "message": "401 Unauthorized" }));
        }
        let told = || serde_json::from_slice::<Value>(&call.body).expect("JSON");
        let rest = call.path.strip_prefix("/api/v4/projects/acme%2Fshop").expect("the project");
        match (call.method.as_str(), rest) {
            ("GET", "") => {
                return say(200, &json!({ "id": 3, "path_with_namespace": "acme/shop" }));
            }
            ("GET", "/hooks") => return say(200, &json!(self.hooks)),
            ("POST", "/hooks") => {
                self.made += 1;
                let mut hook = told();
                hook["id"] = self.made.into();
                self.hooks.push(hook.clone());
                return say(201, &hook);
            }
            _ => {}
        }
        let id = rest.rsplit('/').next().and_then(|id| id.parse::<i64>().ok()).expect("a number");
        let Some(index) = self.hooks.iter().position(|hook| hook["id"] == id) else {
            return say(404, &json!({ "message": "404 Not found" }));
        };
        match call.method.as_str() {
            "DELETE" => {
                self.hooks.remove(index);
                return Reply::status(204);
            }
            "PUT" => {
                let mut hook = told();
                hook["id"] = id.into();
                self.hooks[index] = hook;
            }
            _ => {}
        }
        say(200, &self.hooks[index])
    }
}

impl GitLab {
    async fn new() -> Self {
        let kept: Arc<Mutex<Kept>> = Arc::default();
        let keeping = Arc::clone(&kept);
        let answer =
            move |call: &Got| keeping.lock().expect("no panic under the lock").answer(call);
        let client = Client::builder(TokioExecutor::new()).build_http();
        Self { api: Subscriber::scripted(answer).await, client, kept }
    }

    fn kept(&self) -> std::sync::MutexGuard<'_, Kept> {
        self.kept.lock().expect("no panic under the lock")
    }

    fn source(&self, access: &str, sink: &str) -> String {
        let project = format!("{}acme/shop", self.api.url);
        format!(
            "---\napiVersion: v1\nkind: Secret\nmetadata:\n  name: gitlab\nstringData:\n  access: {access}\n  token: {TOKEN}\n---\n\
             apiVersion: sources.knative.dev/v1alpha1\nkind: GitLabSource\nmetadata:\n  name: source\nspec:\n  \
             projectUrl: {project}\n  eventTypes: [issues_events]\n  accessToken:\n    secretKeyRef: {{name: gitlab, key: access}}\n  \
             secretToken:\n    secretKeyRef: {{name: gitlab, key: token}}\n  sink: {sink}\n"
        )
    }

    /// Posts a delivery to the web hook until it is taken.
    async fn deliver(&self, key: &str, payload: &Value) {
        eventually_within(AGAIN, "a delivery to be taken", async || {
            let hook = self.kept().hooks.last().cloned()?;
            let request = Request::post(hook["url"].as_str().expect("a URL"))
                .header("content-type", "application/json")
                .header("x-gitlab-event", "Issue Hook")
                .header("x-gitlab-token", hook["token"].as_str().expect("a token"))
                .header("idempotency-key", key)
                .body(Full::new(payload.to_string().into()))
                .expect("a request");
            // A mesh that is away, or elsewhere by now, is part of the tests.
            let answer = self.client.request(request).await.ok()?;
            (answer.status() == 202).then_some(())
        })
        .await;
    }
}

impl Upstream for GitLab {
    const MODULE: &'static str = "gitlab";

    async fn start(_: Services) -> Self {
        Self::new().await
    }

    fn manifest(&self, sink: &str) -> String {
        self.source(ACCESS, sink)
    }

    fn refused(&self, sink: &str) -> Option<(String, &'static str)> {
        Some((self.source("glpat-wrong", sink), "CredentialsRefused"))
    }

    async fn produce(&self, _: &Mesh, numbers: Range<u64>) {
        let deliveries = stream::iter(numbers).map(async |number| {
            let payload = json!({ "object_kind": "issue", "object_attributes": { "iid": number } });
            self.deliver(&format!("key-{number}"), &payload).await;
        });
        deliveries.buffer_unordered(PARALLEL).collect::<Vec<()>>().await;
    }

    fn number(&self, event: &Got) -> Option<u64> {
        event.header("ce-subject").parse().ok()
    }

    async fn stop(&self) -> bool {
        // Only the API would be away: deliveries come whether or not it is. The second story below is about that.
        false
    }

    async fn start_again(&mut self) {}

    fn secrets(&self) -> Vec<String> {
        vec![ACCESS.to_owned(), TOKEN.to_owned()]
    }

    fn check(&self, event: &Got) {
        assert_eq!(event.header("ce-type"), "dev.knative.sources.gitlab.issue");
        assert_eq!(event.header("ce-source"), format!("{}acme/shop", self.api.url));
        assert_eq!(event.id(), "key-7");
        assert_eq!(event.header("ce-comgitlabevent"), "Issue%20Hook");
        assert_eq!(event.header("content-type"), "application/json");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn keeps_the_contract() {
    contract::kept::<GitLab>().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_web_hook_comes_and_goes_with_its_source() {
    let gitlab = GitLab::new().await;
    let source = gitlab
        .manifest("{ref: {apiVersion: eventing.knative.dev/v1, kind: Broker, name: default}}");
    let mesh = Mesh::start(&format!("{BROKER}{source}")).await;
    let shown = configured(&mesh, ("True", "Registered")).await;
    assert_eq!(shown.pointer("/status/webhookID"), Some(&json!(1)));
    let hook = gitlab.kept().hooks[0].clone();
    assert_eq!(hook["url"], format!("{}/sources/default/source", mesh.events));
    assert_eq!((&hook["issues_events"], &hook["push_events"]), (&json!(true), &json!(false)));
    // The Secret stays: with it went the right to delete the web hook.
    let (secret, _) = source.split_once("---\napiVersion: sources").expect("a source");
    mesh.rewrite(&format!("{BROKER}{secret}"));
    eventually("the web hook to be deleted", async || gitlab.kept().hooks.is_empty().then_some(()))
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn deliveries_are_taken_while_the_api_is_away() {
    let gitlab = GitLab::new().await;
    let subscriber = Subscriber::start().await;
    let sink = format!("{{uri: \"{}\"}}", subscriber.url);
    let mesh = Mesh::start(&format!("{BROKER}{}", gitlab.manifest(&sink))).await;
    configured(&mesh, ("True", "Registered")).await;
    gitlab.kept().away = true;
    // What is changed of the source starts it again.
    let changed = gitlab.manifest(&sink).replace("eventTypes: [", "eventTypes: [push_events, ");
    mesh.rewrite(&format!("{BROKER}{}{changed}", trigger("t", &subscriber.url, "", &[])));
    let shown = configured(&mesh, ("False", "UpstreamUnavailable")).await;
    assert_eq!(condition(&shown, "Deployed").map(|(status, _)| status), Some("True"));
    gitlab.produce(&mesh, 0..1).await;
    subscriber.wait(1).await;
    gitlab.kept().away = false;
    configured(&mesh, ("True", "Registered")).await;
    assert_eq!(gitlab.kept().hooks[0]["push_events"], true);
}

/// Waits until the source says that of its web hook; returns the resource.
async fn configured(mesh: &Mesh, wanted: (&str, &str)) -> Value {
    eventually(&format!("WebhookConfigured to be {wanted:?}"), async || {
        let resource = resource(mesh, "gitlab").await;
        (condition(&resource, "WebhookConfigured") == Some(wanted)).then_some(resource)
    })
    .await
}
