//! The control plane of a standalone mesh: the API, the reconcilers that read it, and the files that are applied to it.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context;
use axum::Router;
use crds::manifest::Located;
use crds_apiserver::store::{Options, Store};
use crds_apiserver::server::{ApiServer, Checks, Config, Limits};
use crds::object::Key;
use crds::{broker, trigger};
use crds_controller::{Applied, Controller, DataPlane};
use dispatcher::Problem;
use kube::Client;
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::ServiceExt;
use url::Url;

use crate::access::Access;
use crate::resources;
use crate::resources::apply::Gone;

/// The file of the resources in the data directory.
const FILE: &str = "resources.redb";

/// The version of Kubernetes whose API this is: clients look at it before they use what is newer.
const KUBERNETES: &str = "v1.36.0";

/// The embedded API.
pub(super) struct Resources {
    store: Arc<Store>,
    server: Arc<ApiServer>,
}

/// How the mesh is reached.
pub(super) struct Names<'a> {
    /// Base URL of the events listener.
    pub(super) events: &'a str,
    /// The same as the outside sees it.
    pub(super) public: Option<&'a Url>,
}

impl Resources {
    pub(super) async fn open(data: &Path, access: &Access) -> anyhow::Result<Self> {
        let path = data.join(FILE);
        let opened = tokio::task::spawn_blocking(move || Store::open(&path, Options::default()));
        let store = opened.await?.with_context(|| format!("open {}", data.join(FILE).display()))?;
        let config = Config {
            token: Some(access.token().to_owned()),
            git_version: format!("{KUBERNETES}+weft.{}", env!("CARGO_PKG_VERSION")),
            checks: Checks {
                cesql: Box::new(resources::check_cesql),
                schedule: Box::new(resources::check_schedule),
            },
            limits: Limits::default(),
        };
        Ok(Self { server: ApiServer::new(store.clone(), config), store })
    }

    /// What the network is served.
    pub(super) fn router(&self) -> Router {
        self.server.router()
    }

    /// Starts what the API does by itself, and answers with a client in this process.
    pub(super) fn serve(&self, stop: &CancellationToken, tasks: &TaskTracker) -> Client {
        tasks.spawn(self.server.clone().run(stop.clone()));
        let service = self
            .server
            .local()
            .map_request(|request: http::Request<kube::client::Body>| {
                request.map(axum::body::Body::new)
            });
        Client::new(service, "default")
    }

    pub(super) async fn close(self) -> anyhow::Result<()> {
        let Self { store, server } = self;
        drop(server);
        Ok(tokio::task::spawn_blocking(move || store.close()).await?)
    }
}

/// Applies what files declare. What is refused is told and changes nothing; without files, nothing is declared by them.
pub(super) async fn declare(
    client: &Client,
    files: &[PathBuf],
    objects: &[Located],
    gone: Gone,
) -> anyhow::Result<()> {
    if files.is_empty() {
        return Ok(());
    }
    for refused in resources::apply::apply(client, objects, gone).await? {
        tracing::error!("{refused}\nthe last good state of it stays in force");
    }
    Ok(())
}

/// Starts the reconcilers; returns once what the API held is in force.
pub(super) async fn reconcile(
    client: Client,
    names: Names<'_>,
    plane: impl DataPlane,
    (stop, tasks): (&CancellationToken, &TaskTracker),
) {
    let config = crds_controller::Config {
        public_url: names.public.map(ToString::to_string),
        ..crds_controller::Config::new(names.events)
    };
    let (synced, in_force) = oneshot::channel();
    let controller = Controller::new(client, config, plane);
    tasks.spawn(controller.run(stop.clone(), synced));
    if in_force.await.is_err() {
        tracing::debug!("stopped before the resources were in force");
    }
}

/// What the dispatcher could not put in force, by object.
pub(super) fn applied(problems: Vec<Problem>) -> Applied {
    let about = |problem: Problem| {
        let text = problem.to_string();
        let (kind, name) = match problem {
            Problem::Broker(topic, _) => (broker::KIND, topic.to_string()),
            Problem::Trigger(name, _) | Problem::Target(name, _) | Problem::Duplicate(name) => {
                (trigger::KIND, name)
            }
        };
        let (namespace, name) = name.split_once('/').unwrap_or(("", &name));
        (Key { kind, namespace: namespace.to_owned(), name: name.to_owned() }, text)
    };
    Applied { problems: problems.into_iter().map(about).collect() }
}
