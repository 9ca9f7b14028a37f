//! The API over HTTP: finds out what a request asks for, hands it on, and turns every refusal into a `Status`.

mod answer;
mod body;
mod create;
mod delete;
mod discovery;
mod envelope;
pub(crate) mod metadata;
mod openapi;
mod patching;
mod protobuf;
mod read;
mod request;
mod reviews;
mod scale;
mod seed;
mod strategic;
mod update;
mod watch;

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use crds::custom_resource_definition;
use crds::resource::{Resource, Version};
use http::{HeaderMap, Method, Request, header};
use jiff::Timestamp;
use parking_lot::Mutex;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use tokio::sync::{OnceCell, Semaphore};
use tokio_util::sync::CancellationToken;

use crate::admission::{Admission, CesqlCheck};
use crate::garbage;
use crate::status::Refusal;
use crate::store::Store;

pub(crate) use delete::Deletion;
pub(crate) use request::Propagation;

use answer::{Answer, Shape};
use request::{Query, Target, Verb};

/// How the API behaves.
pub struct Config {
    /// The bearer token that the network must show; nobody gets in without one that is set.
    pub token: Option<String>,
    /// What `/version` says, as in `v1.36.0+weft.0.1.0`.
    pub git_version: String,
    /// What admission asks of other parts of the mesh.
    pub checks: Checks,
    /// How much one client may take.
    pub limits: Limits,
}

impl fmt::Debug for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Config")
            .field("git_version", &self.git_version)
            .field("limits", &self.limits)
            .finish_non_exhaustive()
    }
}

/// What admission asks of other parts of the mesh.
pub struct Checks {
    /// Checks the syntax of CESQL; the reason if it is wrong.
    pub cesql: CesqlCheck,
}

impl fmt::Debug for Checks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Checks").finish_non_exhaustive()
    }
}

/// How much one client may take.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Bytes of a request's body. Default 3 MiB, as Kubernetes: a patch may be larger than what it makes.
    pub request_bytes: usize,
    /// Bytes of an object. Default 1.5 MiB, as etcd: what fits here can be moved to a cluster.
    pub object_bytes: usize,
    /// Watches at a time. Default 1,000: each costs some kilobytes and wakes at every change of its kind.
    pub watches: usize,
    /// Seconds after which a watch ends whose client named none, and the longest that one can ask for. Default 3,600.
    pub watch_seconds: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self { request_bytes: 3 << 20, object_bytes: 3 << 19, watches: 1_000, watch_seconds: 3_600 }
    }
}

/// Group, kind and version.
type SchemaKey = (&'static str, &'static str, &'static str);

/// The API.
pub struct ApiServer {
    store: Arc<Store>,
    admission: Admission,
    git_version: String,
    /// The digest of the token, so that comparing takes equally long whatever its length.
    token: Option<[u8; 32]>,
    limits: Limits,
    watches: Arc<Semaphore>,
    seeded: OnceCell<()>,
    defined: OnceCell<()>,
    /// Made when first asked for: `explain` and writes need them, an idle mesh does not.
    schemas: Mutex<HashMap<SchemaKey, Arc<Value>>>,
    stopping: CancellationToken,
}

impl fmt::Debug for ApiServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ApiServer").field("version", &self.store.version()).finish_non_exhaustive()
    }
}

/// A request for objects, taken apart.
#[derive(Debug)]
struct Call {
    target: Target,
    query: Query,
    headers: HeaderMap,
    body: Bytes,
    shape: Shape,
    now: Timestamp,
}

impl ApiServer {
    /// An API over that store, whose kinds it serves.
    #[must_use]
    pub fn new(store: Arc<Store>, config: Config) -> Arc<Self> {
        Arc::new(Self {
            admission: Admission::new(Arc::clone(&store), config.checks.cesql),
            store,
            git_version: config.git_version,
            token: config.token.map(|token| digest(token.as_bytes())),
            watches: Arc::new(Semaphore::new(config.limits.watches)),
            limits: config.limits,
            seeded: OnceCell::new(),
            defined: OnceCell::new(),
            schemas: Mutex::new(HashMap::new()),
            stopping: CancellationToken::new(),
        })
    }

    /// Everything, for those who show the bearer token: for the network.
    pub fn router(self: &Arc<Self>) -> Router {
        self.routes(false)
    }

    /// Everything, for clients in the process, which are trusted.
    pub fn local(self: &Arc<Self>) -> Router {
        self.routes(true)
    }

    /// Collects garbage and empties namespaces, until stopped; then ends every watch.
    pub async fn run(self: Arc<Self>, stop: CancellationToken) {
        garbage::run(&self, stop).await;
        self.stopping.cancel();
    }

    /// Where the objects are.
    pub(crate) fn store(&self) -> &Arc<Store> {
        &self.store
    }

    fn routes(self: &Arc<Self>, trusted: bool) -> Router {
        let server = Arc::clone(self);
        Router::new().fallback(move |request: Request<Body>| {
            let server = Arc::clone(&server);
            async move {
                let answered = Box::pin(server.answer(request, trusted)).await;
                answered.unwrap_or_else(IntoResponse::into_response)
            }
        })
    }

    async fn answer(
        self: &Arc<Self>,
        request: Request<Body>,
        trusted: bool,
    ) -> Result<Response, Refusal> {
        let path = request.uri().path().to_owned();
        let segments: Vec<&str> = path.split('/').skip(1).filter(|one| !one.is_empty()).collect();
        let (method, headers) = (request.method().clone(), request.headers().clone());
        match segments.as_slice() {
            ["healthz" | "livez" | "readyz", ..] => return self.health(&method),
            ["version"] => {
                read_only(&method)?;
                return Ok(Answer::ok(&self.version()).into_response());
            }
            _ => {}
        }
        if !trusted && !self.is_authorized(&headers) {
            return Err(Refusal::Unauthorized);
        }
        match segments.as_slice() {
            ["api"] | ["apis"] | ["api" | "apis", _] | ["apis", _, _] => {
                read_only(&method)?;
                discovery::answer(self.store.catalog(), &segments, &headers)
            }
            ["openapi", rest @ ..] => {
                read_only(&method)?;
                openapi::answer(self.store.catalog(), rest, &headers, &self.git_version)
            }
            ["apis", group @ ("authorization.k8s.io" | "authentication.k8s.io"), "v1", kind] => {
                if method != Method::POST {
                    return Err(Refusal::MethodNotAllowed);
                }
                let media = body::Media::of_object(&headers)?;
                let bytes = body::read(request.into_body(), self.limits.request_bytes).await?;
                let review = body::parse(&bytes, media)?.value;
                Ok(reviews::answer(group, kind, review)?.created().into_response())
            }
            ["api", version, rest @ ..] => {
                let target = Target::parse(self.store.catalog(), "", version, rest)?;
                self.objects(target, request).await
            }
            ["apis", group, version, rest @ ..] => {
                let target = Target::parse(self.store.catalog(), group, version, rest)?;
                self.objects(target, request).await
            }
            _ => Err(Refusal::Unserved),
        }
    }

    async fn objects(
        self: &Arc<Self>,
        target: Target,
        request: Request<Body>,
    ) -> Result<Response, Refusal> {
        self.seed().await?;
        if target.resource.kind == custom_resource_definition::KIND {
            self.define().await?;
        }
        let query = Query::parse(request.uri(), request.method())?;
        let verb = Verb::of(request.method(), &target, query.watch)?;
        let (parts, body) = request.into_parts();
        let shape = Shape::accepted(&parts.headers)?;
        let body = body::read(body, self.limits.request_bytes).await?;
        let warning = target.version.deprecated.map(str::to_owned);
        let call = Call { target, query, headers: parts.headers, body, shape, now: now() };
        let answer = match verb {
            Verb::Get => self.get(&call)?,
            Verb::List => self.list(&call)?,
            Verb::Watch => return self.watch(call),
            Verb::Create => self.create(&call).await?,
            Verb::Update => self.update(&call).await?,
            Verb::Patch => self.patch(&call).await?,
            Verb::Delete => self.delete(&call).await?,
            Verb::DeleteCollection => self.delete_collection(&call).await?,
        };
        Ok(answer.with(warning).into_response())
    }

    fn is_authorized(&self, headers: &HeaderMap) -> bool {
        let shown = headers
            .get(header::AUTHORIZATION)
            .and_then(|value| value.as_bytes().split_at_checked(7))
            .filter(|(scheme, _)| scheme.eq_ignore_ascii_case(b"bearer "));
        match (&self.token, shown) {
            (Some(token), Some((_, shown))) => digest(shown.trim_ascii()).ct_eq(token).into(),
            _ => false,
        }
    }

    fn health(&self, method: &Method) -> Result<Response, Refusal> {
        read_only(method)?;
        if self.store.is_healthy() {
            Ok("ok".into_response())
        } else {
            Err(Refusal::Failed("the store cannot be written".to_owned()))
        }
    }

    /// What `/version` says; clients read the minor version to decide what they may ask for.
    fn version(&self) -> Value {
        let mut numbers = self.git_version.trim_start_matches('v').split('.');
        let (major, minor) = (numbers.next().unwrap_or("1"), numbers.next().unwrap_or("0"));
        json!({
            "major": major, "minor": minor, "gitVersion": self.git_version, "gitCommit": "",
            "gitTreeState": "clean", "buildDate": "1970-01-01T00:00:00Z", "goVersion": "",
            "compiler": "rustc", "platform": format!("{}/{}", std::env::consts::OS, std::env::consts::ARCH),
        })
    }

    /// The schema of a version of a kind.
    fn schema(&self, resource: &Resource, version: &Version) -> Arc<Value> {
        let key = (resource.group, resource.kind, version.name);
        let known = self.schemas.lock().get(&key).cloned();
        known.unwrap_or_else(|| {
            let schema = Arc::new((version.schema)());
            self.schemas.lock().insert(key, Arc::clone(&schema));
            schema
        })
    }
}

fn read_only(method: &Method) -> Result<(), Refusal> {
    if matches!(*method, Method::GET | Method::HEAD) {
        Ok(())
    } else {
        Err(Refusal::MethodNotAllowed)
    }
}

fn digest(bytes: &[u8]) -> [u8; 32] {
    Sha256::digest(bytes).into()
}

/// The clock, read once a request: times in metadata say when a request was taken.
fn now() -> Timestamp {
    Timestamp::now()
}
