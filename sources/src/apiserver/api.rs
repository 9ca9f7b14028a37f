//! The API server: whom it takes the source for, and single questions to it.

use std::fmt;
use std::time::Duration;

use broker_event::Event;
use bytes::Bytes;
use crds::trigger::SubscriptionsApiFilter;
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use kube::Client;
use kube::client::Body;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio::time::timeout;
use tower::service_fn;

use super::object::Kind;
use super::spec::WatchedResource;
use crate::quote::quote;
use crate::source::SourceError;

/// Whether a source sends an event.
pub type Filter = Box<dyn Fn(&Event) -> bool + Send + Sync>;

/// Makes one of what a spec says, or answers with a sentence that names what cannot be evaluated.
pub type Compile = fn(&[SubscriptionsApiFilter]) -> Result<Filter, String>;

/// The header by which a request is made with the rights of somebody else.
const IMPERSONATE: &str = "impersonate-user";

/// How long the server may take to begin an answer, and for all of one that is not a watch.
const PATIENCE: Duration = Duration::from_secs(30);

/// Bytes of an answer that is no list: discovery of a large group is some 100 KB.
const MAX_ANSWER: usize = 4 * 1024 * 1024;

/// The API server that has the resources, as the mesh reaches it.
#[derive(Clone)]
pub struct Api {
    client: Client,
    /// Whether it has service accounts, and rights of them.
    accounts: bool,
    compile: Compile,
}

/// Somebody who asks.
#[derive(Clone)]
pub(super) struct Asker {
    client: Client,
    /// As whom, if not as the mesh.
    pub(super) user: Option<String>,
}

/// Why a question is not answered.
#[derive(Debug)]
pub(super) enum Failed {
    /// The server no longer has what came after the version asked for, or the rest of the list.
    Expired,
    /// The answer is larger than it may be.
    TooLarge,
    /// For another reason.
    Source(SourceError),
}

/// What explains a refusal (`metav1.Status`).
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Explanation {
    pub(super) message: String,
    pub(super) code: u16,
}

#[derive(Deserialize)]
struct Discovered {
    resources: Vec<Served>,
}

#[derive(Deserialize)]
struct Served {
    name: String,
    kind: String,
    namespaced: bool,
    verbs: Vec<String>,
}

impl fmt::Debug for Api {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Api").field("accounts", &self.accounts).finish_non_exhaustive()
    }
}

impl fmt::Debug for Asker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Asker").field("user", &self.user).finish_non_exhaustive()
    }
}

impl Api {
    /// That of a cluster. A source asks it as its service account, so that it sees what that may see: `client` needs the
    /// right to impersonate service accounts, and to list and watch namespaces for those that select some.
    #[must_use]
    pub fn of_cluster(client: Client, compile: Compile) -> Self {
        Self { client, accounts: true, compile }
    }

    /// That of the mesh itself, where whoever may write a source may read everything.
    #[must_use]
    pub fn embedded(client: Client, compile: Compile) -> Self {
        Self { client, accounts: false, compile }
    }

    /// The mesh asks.
    pub(super) fn mesh(&self) -> Asker {
        Asker { client: self.client.clone(), user: None }
    }

    /// A service account asks.
    pub(super) fn account(&self, namespace: &str, name: &str) -> Result<Asker, SourceError> {
        if !self.accounts {
            return Ok(self.mesh());
        }
        let user = format!("system:serviceaccount:{namespace}:{name}");
        let header = HeaderValue::from_str(&user)
            .map_err(|_| SourceError::Config("serviceAccountName: not a name".to_owned()))?;
        let mesh = self.client.clone();
        let service = service_fn(move |mut request: Request<Body>| {
            // The server adds the groups that every service account is in.
            request.headers_mut().insert(IMPERSONATE, header.clone());
            let mesh = mesh.clone();
            async move { mesh.send(request).await }
        });
        Ok(Asker { client: Client::new(service, "default"), user: Some(user) })
    }

    pub(super) fn filter(&self, filters: &[SubscriptionsApiFilter]) -> Result<Filter, SourceError> {
        (self.compile)(filters).map_err(SourceError::Config)
    }
}

impl Asker {
    /// Asks, and answers with what has begun to come. `what` is being done.
    pub(super) async fn open(
        &self,
        path: &str,
        accept: &'static str,
        what: &str,
    ) -> Result<Response<Body>, Failed> {
        let request = Request::get(path).header(header::ACCEPT, accept).body(Body::empty());
        self.send(request, what).await
    }

    /// What kind of objects a spec means.
    pub(super) async fn kind(&self, resource: &WatchedResource) -> Result<Kind, SourceError> {
        let WatchedResource { api_version, kind, .. } = resource;
        let what = format!("look for kind {kind} of {api_version}");
        let discovered: Discovered = self.get(&base(api_version), &what).await?;
        let served = discovered.resources.into_iter().find(|served| {
            // What has a slash is a part of objects, as `pods/status`.
            served.kind == *kind && !served.name.contains('/')
        });
        let Some(Served { name, namespaced, verbs, .. }) = served else {
            return Err(SourceError::Absent { what: format!("{api_version} has no kind {kind}") });
        };
        if !verbs.iter().any(|verb| verb == "watch") {
            let why = format!("resources: {kind} of {api_version} cannot be watched");
            return Err(SourceError::Config(why));
        }
        let (api_version, kind) = (api_version.clone(), kind.clone());
        Ok(Kind { api_version, kind, plural: name, namespaced })
    }

    /// Whether whoever asks may do that with objects of that kind; in every namespace if none is named.
    pub(super) async fn may(
        &self,
        verb: &str,
        kind: &Kind,
        namespace: &str,
    ) -> Result<bool, SourceError> {
        let group = kind.api_version.split_once('/').map_or("", |(group, _)| group);
        let review = json!({
            "apiVersion": "authorization.k8s.io/v1",
            "kind": "SelfSubjectAccessReview",
            "spec": {"resourceAttributes": {
                "verb": verb, "group": group, "resource": kind.plural, "namespace": namespace,
            }},
        });
        let request = Request::builder()
            .method(Method::POST)
            .uri("/apis/authorization.k8s.io/v1/selfsubjectaccessreviews")
            .header(header::CONTENT_TYPE, "application/json")
            .body(Body::from(review.to_string().into_bytes()));
        let what = format!("ask what {} may do", self.name());
        let answered = async { read::<Value>(self.send(request, &what).await?, &what).await };
        let reviewed = answered.await.map_err(|failed| failed.or_gone(&what))?;
        Ok(reviewed.pointer("/status/allowed").and_then(Value::as_bool).unwrap_or(false))
    }

    /// Whether there is something at that path.
    pub(super) async fn is_there(&self, path: &str) -> Result<bool, SourceError> {
        match self.get::<Value>(path, "look for a namespace").await {
            Ok(_) => Ok(true),
            Err(SourceError::Absent { .. }) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// As whom it asks.
    pub(super) fn name(&self) -> &str {
        self.user.as_deref().unwrap_or("the mesh")
    }

    async fn get<T: DeserializeOwned>(&self, path: &str, what: &str) -> Result<T, SourceError> {
        let answered = async { read(self.open(path, "application/json", what).await?, what).await };
        answered.await.map_err(|failed| failed.or_gone(what))
    }

    async fn send(
        &self,
        request: http::Result<Request<Body>>,
        what: &str,
    ) -> Result<Response<Body>, Failed> {
        let request = request.map_err(|error| SourceError::unavailable(what, error))?;
        let answer = match timeout(PATIENCE, self.client.send(request)).await {
            Ok(answer) => answer.map_err(|error| SourceError::unavailable(what, error))?,
            Err(elapsed) => return Err(SourceError::unavailable(what, elapsed).into()),
        };
        if answer.status().is_success() {
            return Ok(answer);
        }
        let status = answer.status();
        let explained = read::<Explanation>(answer, what).await;
        let message = explained.unwrap_or_default().message;
        Err(Failed::of(status, &message, what))
    }
}

impl Failed {
    /// What a refusal means.
    pub(super) fn of(status: StatusCode, message: &str, what: &str) -> Self {
        let shown = quote(message);
        let what = what.to_owned();
        let explained = format!("{what}: {shown}");
        Self::Source(match status {
            StatusCode::GONE => return Self::Expired,
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
                SourceError::Credentials { what: explained }
            }
            StatusCode::NOT_FOUND => SourceError::Absent { what: explained },
            _ => SourceError::unavailable(what, format!("{status}: {shown}")),
        })
    }

    /// The error of a question to which neither the age nor the size of the answer matters.
    pub(super) fn or_gone(self, what: &str) -> SourceError {
        match self {
            Self::Expired => SourceError::unavailable(what, "the server says that it is gone"),
            Self::TooLarge => SourceError::unavailable(what, "the answer is too large"),
            Self::Source(error) => error,
        }
    }
}

impl From<SourceError> for Failed {
    fn from(error: SourceError) -> Self {
        Self::Source(error)
    }
}

/// The path under which a group and version is served.
pub(super) fn base(api_version: &str) -> String {
    let root = if api_version.contains('/') { "apis" } else { "api" };
    format!("/{root}/{api_version}")
}

/// Reads an answer whole.
pub(super) async fn collect(
    answer: Response<Body>,
    most: usize,
    what: &str,
) -> Result<Bytes, Failed> {
    let body = Limited::new(answer.into_body(), most).collect();
    let body =
        timeout(PATIENCE, body).await.map_err(|error| SourceError::unavailable(what, error))?;
    match body {
        Ok(body) => Ok(body.to_bytes()),
        Err(error) if error.is::<LengthLimitError>() => Err(Failed::TooLarge),
        Err(error) => Err(SourceError::unavailable(what, error).into()),
    }
}

async fn read<T: DeserializeOwned>(answer: Response<Body>, what: &str) -> Result<T, Failed> {
    let bytes = collect(answer, MAX_ANSWER, what).await?;
    let read = serde_json::from_slice(&bytes);
    Ok(read.map_err(|error| SourceError::unavailable(what, error))?)
}
