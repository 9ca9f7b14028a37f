//! The two API servers that everything must work with: the embedded one, in this process, and Kubernetes' own with the mesh's
//! definitions.

use std::sync::Arc;
use std::time::Duration;

use crds::resource::{self, Resource};
use crds_apiserver::server::{ApiServer, Checks, Config, Limits};
use crds_apiserver::store::{Options, Store};
use http::{HeaderMap, Request};
use integration::resources::CATALOG;
use kube::Client;
use kube::client::Body;
use kube::config::{KubeConfigOptions, Kubeconfig};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::sync::{Mutex, MutexGuard, OnceCell};
use tokio::time::timeout;
use tower::ServiceExt;
use uuid::Uuid;

use crate::harness::eventually::eventually;
use crate::harness::services;

/// How long a server may take for one answer: it shares two processors with compilers.
pub(crate) const DEADLINE: Duration = Duration::from_secs(30);

/// The embedded API over a directory of its own. Nobody collects garbage, as nobody does beside the real server.
pub(crate) struct Embedded {
    store: Arc<Store>,
    client: Client,
    _directory: TempDir,
}

impl Embedded {
    pub(crate) fn start() -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let store =
            Store::open(&directory.path().join("resources.redb"), CATALOG, Options::default());
        let store = store.expect("a store");
        let config = Config {
            token: None,
            git_version: "v1.34.0+weft.test".to_owned(),
            checks: Checks { cesql: Box::new(|_| Ok(())) },
            limits: Limits::default(),
        };
        let router = ApiServer::new(Arc::clone(&store), config).local();
        let service =
            router.map_request(|request: Request<Body>| request.map(axum::body::Body::new));
        Self { store, client: Client::new(service, "default"), _directory: directory }
    }

    pub(crate) fn client(&self) -> Client {
        self.client.clone()
    }
}

impl Drop for Embedded {
    fn drop(&mut self) {
        self.store.close();
    }
}

/// The real server, for one test at a time: reconcilers write to whatever they find, whoever made it.
pub(crate) async fn alone() -> (Client, MutexGuard<'static, ()>) {
    static ALONE: Mutex<()> = Mutex::const_new(());
    let alone = ALONE.lock().await;
    (Box::pin(real()).await, alone)
}

/// A client of the real server, which is started and given our definitions by whoever comes first.
async fn real() -> Client {
    static DEFINED: OnceCell<()> = OnceCell::const_new();
    let published = services::up("kube-apiserver").await;
    let path = published["kubeconfig"].as_str().expect("the path of a kubeconfig");
    let kubeconfig = Kubeconfig::read_from(path).expect("a kubeconfig");
    let options = KubeConfigOptions::default();
    let config = kube::Config::from_custom_kubeconfig(kubeconfig, &options).await;
    let client = Client::try_from(config.expect("a configuration")).expect("a client");
    DEFINED.get_or_init(|| Box::pin(define(client.clone()))).await;
    client
}

/// Applies the definitions as an operator would, and waits until the server serves the kinds.
async fn define(client: Client) {
    for document in resource::yaml(CATALOG).split("---\n").filter(|text| !text.trim().is_empty()) {
        let name = document
            .lines()
            .find_map(|line| line.strip_prefix("  name: "))
            .expect("a definition has a name");
        let path = format!(
            "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/{name}?fieldManager=weft&force=true"
        );
        let headers = [("content-type", "application/apply-patch+yaml")];
        let answer = send(&client, "PATCH", &path, &headers, document).await;
        assert!(matches!(answer.status, 200 | 201), "{name}: {answer:?}");
    }
    for resource in CATALOG.iter().filter(|resource| resource.is_custom()) {
        for version in resource.versions {
            let path = format!("/apis/{}/{}/{}", resource.group, version.name, resource.plural);
            eventually(&format!("{path} is served"), async || {
                let answer = send(&client, "GET", &path, &[], "").await;
                (answer.status == 200).then_some(())
            })
            .await;
        }
        clear(&client, resource).await;
    }
}

/// Deletes what earlier runs left of a kind: the server's data outlives it.
async fn clear(client: &Client, resource: &Resource) {
    let Resource { group, plural, versions, .. } = resource;
    let version = versions[0].name;
    let all = send(client, "GET", &format!("/apis/{group}/{version}/{plural}"), &[], "").await;
    for object in all.body["items"].as_array().expect("a list") {
        let text = |field: &str| object["metadata"][field].as_str().expect("text");
        let path = format!(
            "/apis/{group}/{version}/namespaces/{}/{plural}/{}",
            text("namespace"),
            text("name")
        );
        let release = json!({"metadata": {"finalizers": null}}).to_string();
        let headers = [("content-type", "application/merge-patch+json")];
        send(client, "PATCH", &path, &headers, &release).await;
        send(client, "DELETE", &path, &[], "").await;
    }
}

/// A name that nobody has yet: the real server keeps what earlier runs left.
pub(crate) fn fresh_name(prefix: &str) -> String {
    let unique = Uuid::new_v4().as_fields().0;
    format!("{prefix}-{unique:08x}")
}

/// Makes a namespace.
pub(crate) async fn create_namespace(client: &Client, name: &str) {
    let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}});
    let headers = [("content-type", "application/json")];
    let answer = send(client, "POST", "/api/v1/namespaces", &headers, &namespace.to_string()).await;
    assert_eq!(answer.status, 201, "{answer:?}");
}

/// What a server answered.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    /// Text if it is no JSON.
    pub(crate) body: Value,
}

/// A request that has not been sent.
pub(crate) fn request(
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: &str,
) -> Request<Body> {
    let mut request = Request::builder().method(method).uri(path);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    request.body(Body::from(body.as_bytes().to_vec())).expect("a request")
}

/// Sends one request and reads the answer to its end.
pub(crate) async fn send(
    client: &Client,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: &str,
) -> Answer {
    let answered = async {
        let response = client.send(request(method, path, headers, body)).await.expect("an answer");
        let (parts, body) = response.into_parts();
        let bytes = body.collect_bytes().await.expect("a whole answer");
        Answer { status: parts.status.as_u16(), headers: parts.headers, body: parse(&bytes) }
    };
    let answer = timeout(DEADLINE, answered).await;
    assert!(answer.is_ok(), "{method} {path}: no answer");
    answer.expect("it was asserted")
}

/// What an answer says: text if it is no JSON.
pub(crate) fn parse(bytes: &[u8]) -> Value {
    serde_json::from_slice(bytes)
        .unwrap_or_else(|_| Value::from(String::from_utf8_lossy(bytes).into_owned()))
}
