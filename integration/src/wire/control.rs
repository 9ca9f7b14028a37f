//! The control plane of a mesh: where its resources are, the reconcilers that read them, and the files that are applied.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context;
use axum::Router;
use crds::manifest::Located;
use crds_apiserver::server::{ApiServer, Checks, Config, Limits};
use crds_apiserver::store::{Options, Store};
use crds_controller::{Controller, DataPlane, leader};
use kube::Client;
use sources::apiserver::Api;
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::ServiceExt;
use url::Url;
use uuid::Uuid;

use super::Settings;
use crate::access::Access;
use crate::resources::apply::Gone;
use crate::resources::follow::Follower;
use crate::resources::{self, CATALOG};

/// The file of the resources in the data directory.
const FILE: &str = "resources.redb";

/// The version of Kubernetes whose API this is: clients look at it before they use what is newer.
const KUBERNETES: &str = "v1.36.0";

/// The Lease by which one of several controllers works.
const LEASE: &str = "weft-controller";

/// Where the resources of a mesh are.
#[derive(Clone, Debug)]
pub enum Control {
    /// In the mesh itself.
    Embedded {
        /// Files and directories that are applied and followed.
        files: Vec<PathBuf>,
    },
    /// In a cluster.
    Cluster(Box<Cluster>),
}

/// A cluster, and how it sees the mesh.
#[derive(Clone)]
pub struct Cluster {
    /// Its API.
    pub client: Client,
    /// URL of that.
    pub url: String,
    /// URL under which it reaches the events listener; the listener's own if there is none.
    pub events_url: Option<Url>,
    /// Namespace of the Lease by which one of several works.
    pub lease_namespace: String,
}

impl std::fmt::Debug for Cluster {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Cluster")
            .field("url", &self.url)
            .field("events_url", &self.events_url)
            .field("lease_namespace", &self.lease_namespace)
            .finish_non_exhaustive()
    }
}

/// The API that the mesh serves, or the one that it is a client of.
pub(super) enum Resources {
    Embedded { store: Arc<Store>, server: Arc<ApiServer> },
    Cluster(Client),
}

impl Resources {
    pub(super) async fn open(settings: &Settings, access: &Access) -> anyhow::Result<Self> {
        if let Control::Cluster(cluster) = &settings.control {
            return Ok(Self::Cluster(cluster.client.clone()));
        }
        let path = settings.data.join(FILE);
        let opened = {
            let path = path.clone();
            let open = move || Store::open(&path, CATALOG, Options::default());
            tokio::task::spawn_blocking(open).await?
        };
        let store = opened.with_context(|| format!("open {}", path.display()))?;
        let config = Config {
            token: Some(access.token().to_owned()),
            git_version: format!("{KUBERNETES}+weft.{}", env!("CARGO_PKG_VERSION")),
            checks: Checks { cesql: Box::new(resources::check_cesql) },
            limits: Limits::default(),
        };
        Ok(Self::Embedded { server: ApiServer::new(store.clone(), config), store })
    }

    /// Where they are kept, if that is here.
    pub(super) fn kept(&self) -> Option<Arc<Store>> {
        match self {
            Self::Embedded { store, .. } => Some(store.clone()),
            Self::Cluster(_) => None,
        }
    }

    /// What the API listener answers: `own`, and the resources if they are here.
    pub(super) fn router(&self, own: Router) -> Router {
        match self {
            Self::Embedded { server, .. } => own.fallback_service(server.router()),
            Self::Cluster(_) => own,
        }
    }

    /// Starts what the API does by itself, and answers with a client of it.
    pub(super) fn serve(&self, stop: &CancellationToken, tasks: &TaskTracker) -> Client {
        let server = match self {
            Self::Embedded { server, .. } => server,
            Self::Cluster(client) => return client.clone(),
        };
        tasks.spawn(server.clone().run(stop.clone()));
        let body = |request: http::Request<kube::client::Body>| request.map(axum::body::Body::new);
        Client::new(server.local().map_request(body), "default")
    }

    /// The API as sources watch it, through that client.
    pub(super) fn watched(&self, client: &Client) -> Api {
        let client = client.clone();
        match self {
            Self::Embedded { .. } => Api::embedded(client, resources::compile_filters),
            Self::Cluster(_) => Api::of_cluster(client, resources::compile_filters),
        }
    }

    /// Tells clients how they reach the resources.
    pub(super) fn publish(
        &self,
        access: &Access,
        data: &Path,
        address: SocketAddr,
    ) -> anyhow::Result<()> {
        match self {
            Self::Embedded { .. } => access.write_kubeconfig(data, address),
            Self::Cluster(_) => Ok(()),
        }
    }

    pub(super) async fn close(self) -> anyhow::Result<()> {
        let Self::Embedded { store, server } = self else { return Ok(()) };
        drop(server);
        Ok(tokio::task::spawn_blocking(move || store.close()).await?)
    }
}

/// The files of a mesh, if it was given any.
pub(super) struct Files {
    follower: Option<(Follower, Vec<Located>)>,
}

impl Files {
    pub(super) fn read(control: &Control) -> anyhow::Result<Self> {
        let follower = match control {
            Control::Embedded { files } if !files.is_empty() => {
                Some(Follower::start(files.clone())?)
            }
            Control::Embedded { .. } | Control::Cluster(_) => None,
        };
        Ok(Self { follower })
    }

    /// Applies what the files declared when they were read.
    pub(super) async fn declare(&mut self, client: &Client) -> anyhow::Result<()> {
        match &mut self.follower {
            Some((_, objects)) => {
                declare(client, &std::mem::take(objects), Gone::DeletedButBrokers).await
            }
            None => Ok(()),
        }
    }

    /// Applies what changes in them, until `stop`.
    pub(super) async fn follow(self, client: &Client, stop: &CancellationToken) {
        let Some((follower, _)) = self.follower else { return stop.cancelled().await };
        let changed = async |objects: Vec<Located>| {
            if let Err(error) = declare(client, &objects, Gone::Deleted).await {
                tracing::error!("{error:#}");
            }
        };
        follower.run(stop, changed).await;
    }
}

/// What is refused is told and changes nothing.
async fn declare(client: &Client, objects: &[Located], gone: Gone) -> anyhow::Result<()> {
    for refused in resources::apply::apply(client, objects, gone).await? {
        tracing::error!("{refused}\nthe last good state of it stays in force");
    }
    Ok(())
}

/// Starts the reconcilers; returns once what the API held is in force, or false when the mesh stopped before.
pub(super) async fn reconcile(
    client: Client,
    settings: &Settings,
    listener: &str,
    plane: impl DataPlane,
    (stop, tasks): (&CancellationToken, &TaskTracker),
) -> bool {
    let public_url = settings.public_url.as_ref().map(ToString::to_string);
    let config = |events: &str| crds_controller::Config {
        public_url,
        ..crds_controller::Config::new(events.trim_end_matches('/'))
    };
    let (synced, in_force) = oneshot::channel();
    match &settings.control {
        Control::Embedded { .. } => {
            let config = crds_controller::Config { runs_programs: true, ..config(listener) };
            let controller = Controller::new(client, config, plane);
            tasks.spawn(controller.run(stop.clone(), synced));
        }
        Control::Cluster(cluster) => {
            let url = cluster.events_url.as_ref().map_or(listener, Url::as_str);
            let config = crds_controller::Config { api_url: cluster.url.clone(), ..config(url) };
            let controller = Controller::new(client.clone(), config, plane);
            let lease = leader::Config {
                namespace: cluster.lease_namespace.clone(),
                name: LEASE.to_owned(),
                identity: Uuid::new_v4().to_string(),
                timings: leader::Timings::default(),
            };
            let (stop, work) = (stop.clone(), |stop| controller.run(stop, synced));
            tasks.spawn(async move {
                if let Err(error) = leader::lead(client, lease, stop.clone(), work).await {
                    // Another may work already: what runs the process starts it again, as one that waits.
                    tracing::error!(%error, "stopping");
                    stop.cancel();
                }
            });
        }
    }
    in_force.await.is_ok()
}
