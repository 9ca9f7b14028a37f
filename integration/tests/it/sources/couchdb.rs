//! `CouchDbSource` against a server that behaves as CouchDB: documents are messages.

use std::ops::Range;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::contract;
use super::upstream::{Upstream, condition, resource};
use crate::harness::eventually::eventually;
use crate::harness::mesh::{BROKER, Mesh, trigger};
use crate::harness::request::{self, Answer};
use crate::harness::services::Services;
use crate::harness::subscriber::{Got, Subscriber};

const DATABASE: &str = "contract";

/// A server with a database of its own.
struct Couch {
    services: Services,
    service: Value,
    database: &'static str,
}

impl Couch {
    async fn with_database(services: Services, database: &'static str) -> Self {
        let service = services.up("couchdb").await;
        let couch = Self { services, service, database };
        // An earlier run may have left it.
        couch.ask("DELETE", "", "").await;
        couch.create().await;
        couch
    }

    async fn create(&self) {
        let answer = self.ask("PUT", "", "").await;
        assert_eq!(answer.status, 201, "{}", answer.body);
    }

    fn published(&self, key: &str) -> &str {
        self.service[key].as_str().expect("a published text")
    }

    /// Asks about the database, or about what is in it.
    async fn ask(&self, method: &str, path: &str, body: impl Into<bytes::Bytes>) -> Answer {
        let url = format!("http://{}/{}{path}", self.published("address"), self.database);
        let who = format!("{}:{}", self.published("user"), self.published("password"));
        let headers = [
            ("authorization".to_owned(), format!("Basic {}", STANDARD.encode(who))),
            ("content-type".to_owned(), "application/json".to_owned()),
        ];
        request::send(method, &url, &headers, body).await
    }

    async fn put(&self, document: &Value) -> Value {
        let id = document["_id"].as_str().expect("an id");
        let answer = self.ask("PUT", &format!("/{id}"), document.to_string()).await;
        assert_eq!(answer.status, 201, "{}", answer.body);
        serde_json::from_str(&answer.body).expect("JSON")
    }

    fn source(&self, url: &str, sink: &str, more: &str) -> String {
        let database = self.database;
        format!(
            "---\napiVersion: v1\nkind: Secret\nmetadata:\n  name: couch\nstringData:\n  url: {url}\n---\n\
             apiVersion: sources.knative.dev/v1alpha1\nkind: CouchDbSource\nmetadata:\n  name: source\n  annotations:\n    \
             weft.dev/start: now\nspec:\n  credentials:\n    name: couch\n  database: {database}\n  sink: {sink}\n{more}"
        )
    }
}

impl Upstream for Couch {
    const MODULE: &'static str = "couchdb";

    async fn start(services: Services) -> Self {
        Self::with_database(services, DATABASE).await
    }

    fn manifest(&self, sink: &str) -> String {
        self.source(self.published("url"), sink, "  includeDocs: true\n")
    }

    fn refused(&self, sink: &str) -> Option<(String, &'static str)> {
        let wrong =
            format!("http://{}:wrong@{}", self.published("user"), self.published("address"));
        Some((self.source(&wrong, sink, "  includeDocs: true\n"), "CredentialsRefused"))
    }

    async fn produce(&self, _: &Mesh, numbers: Range<u64>) {
        let documents: Vec<Value> = numbers
            .map(|number| json!({ "_id": format!("document-{number}"), "number": number }))
            .collect();
        let answer =
            self.ask("POST", "/_bulk_docs", json!({ "docs": documents }).to_string()).await;
        assert_eq!(answer.status, 201, "{}", answer.body);
    }

    fn number(&self, event: &Got) -> Option<u64> {
        serde_json::from_slice::<Value>(&event.body).ok()?["number"].as_u64()
    }

    async fn stop(&self) -> bool {
        self.services.down("couchdb").await;
        true
    }

    async fn start_again(&mut self) {
        self.service = self.services.up("couchdb").await;
    }

    fn secrets(&self) -> Vec<String> {
        vec![self.published("password").to_owned()]
    }

    fn check(&self, event: &Got) {
        assert_eq!(event.header("ce-type"), "org.apache.couchdb.document.update");
        assert_eq!(event.header("ce-source"), "127.0.0.1/contract");
        assert_eq!(event.header("ce-subject"), "document-7");
        assert_eq!(event.header("content-type"), "application/json");
        assert!(event.id().parse::<u64>().is_ok(), "{}", event.id());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn keeps_the_contract() {
    contract::kept::<Couch>().await;
}

/// What Knative's events hold: revisions, and a type of its own for deletions. And what Knative's source never notices.
#[tokio::test(flavor = "multi_thread")]
async fn tells_of_deletions_and_of_a_database_that_is_made_anew() {
    let couch = Couch::with_database(Services::of("couchdb-anew"), "anew").await;
    let subscriber = Subscriber::start().await;
    let sink = "{ref: {apiVersion: eventing.knative.dev/v1, kind: Broker, name: default}}";
    let source = couch.source(couch.published("url"), sink, "");
    let yaml = format!("{BROKER}{}{source}", trigger("t", &subscriber.url, "", &[]));
    let mesh = Mesh::start(&yaml).await;
    eventually("the source to be ready", async || {
        let resource = resource(&mesh, "couchdb").await;
        (condition(&resource, "Ready")?.0 == "True").then_some(())
    })
    .await;

    let made = couch.put(&json!({ "_id": "a" })).await;
    let made = made["rev"].as_str().expect("a revision");
    let answer = couch.ask("DELETE", &format!("/a?rev={made}"), "").await;
    let deleted: Value = serde_json::from_str(&answer.body).expect("JSON");
    // The feed may be read only after the deletion, and then tells of that alone.
    let deletion = eventually("the deletion", async || {
        let is_deletion = |event: &Got| event.header("ce-type").ends_with(".delete");
        subscriber.got().into_iter().find(is_deletion)
    })
    .await;
    assert_eq!(deletion.header("ce-subject"), "a");
    assert_eq!(serde_json::from_slice::<Value>(&deletion.body).unwrap(), json!([deleted["rev"]]));

    couch.ask("DELETE", "", "").await;
    couch.create().await;
    couch.put(&json!({ "_id": "b" })).await;
    eventually("the change of the new database", async || {
        subscriber.got().into_iter().find(|event| event.header("ce-subject") == "b")
    })
    .await;
    eventually("the status to say so", async || {
        let resource = resource(&mesh, "couchdb").await;
        let kept = condition(&resource, "SequenceKept")? == ("False", "DatabaseRecreated");
        (kept && condition(&resource, "Ready")?.0 == "True").then_some(())
    })
    .await;
}
