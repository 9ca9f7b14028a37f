//! Puts the mesh together, runs it, takes it apart.

use std::fmt::Write as _;
use std::io::Write;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Context;
use arc_swap::ArcSwap;
use axum::Router;
use broker::store::Store;
use broker::store::embedded::{EmbeddedOptions, EmbeddedStore};
use dispatcher::{Dispatcher, DispatcherConfig};
use prometheus_client::registry::Registry;
use sources::apiserver::Api;
use sources::sinks::{self, Sinks};
use sources::{Clock, Hooks, Host, Ports, Runner};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use url::Url;

use crate::access::{Access, KUBECONFIG};
use crate::admin::Admin;
use crate::endpoints::Endpoints;
use crate::listen::{self, Events};
use crate::{checkpoints, emit, output, parking};

mod control;
mod plane;

pub use control::{Cluster, Control};
use control::{Files, Resources};
use plane::Plane;

/// What `weft up` was asked for.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Where its resources are.
    pub control: Control,
    /// The data directory.
    pub data: PathBuf,
    /// Address of the events listener.
    pub events: SocketAddr,
    /// Address of the gateway.
    pub gateway: SocketAddr,
    /// Address of the API listener.
    pub api: SocketAddr,
    /// How the outside reaches the events listener.
    pub public_url: Option<Url>,
    /// Largest event taken, bytes.
    pub max_event_bytes: usize,
    /// What the machine lends to programs that sources run.
    pub host: Host,
    /// How long deliveries under way may take when stopping.
    pub drain: Duration,
}

/// The bound listeners.
struct Listeners {
    events: TcpListener,
    gateway: TcpListener,
    api: TcpListener,
}

impl Listeners {
    async fn bind(settings: &Settings) -> anyhow::Result<Self> {
        Ok(Self {
            events: bind(settings.events, "--events").await?,
            gateway: bind(settings.gateway, "--gateway").await?,
            api: bind(settings.api, "--api").await?,
        })
    }

    fn endpoints(&self) -> anyhow::Result<Endpoints> {
        let url = |listener: &TcpListener| -> anyhow::Result<String> {
            Ok(format!("http://{}", reachable(listener.local_addr()?)))
        };
        Ok(Endpoints {
            events: url(&self.events)?,
            gateway: url(&self.gateway)?,
            api: url(&self.api)?,
            pid: std::process::id(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
        })
    }
}

async fn bind(address: SocketAddr, flag: &str) -> anyhow::Result<TcpListener> {
    TcpListener::bind(address).await.with_context(|| {
        format!("listen on {address} ({flag}): choose another address, or port 0 for any free port")
    })
}

/// An address one can connect to: a wildcard stands for this machine.
fn reachable(mut address: SocketAddr) -> SocketAddr {
    match address {
        SocketAddr::V4(v4) if v4.ip().is_unspecified() => {
            address.set_ip(std::net::Ipv4Addr::LOCALHOST.into());
        }
        SocketAddr::V6(v6) if v6.ip().is_unspecified() => {
            address.set_ip(std::net::Ipv6Addr::LOCALHOST.into());
        }
        _ => {}
    }
    address
}

/// Runs the mesh until `stop`, then drains it.
///
/// # Errors
/// When it cannot start: a listener, the data directory, or the resources.
pub async fn run(
    settings: Settings,
    stop: CancellationToken,
    out: &mut dyn Write,
) -> anyhow::Result<()> {
    let listeners = Listeners::bind(&settings).await?;
    let endpoints = listeners.endpoints()?;
    let mut files = Files::read(&settings.control)?;
    let mut registry = Registry::with_prefix("weft");
    let store = open(&settings).await?;
    Endpoints::remove(&settings.data)?;
    let address = reachable(listeners.api.local_addr()?);
    let access = Access::open(&settings.data, address)?;
    let resources = Resources::open(&settings, &access).await?;
    let tasks = TaskTracker::new();
    let client = resources.serve(&stop, &tasks);
    let api = resources.watched(&client);
    let mesh = Arc::new(Mesh::assemble(&settings, &store, &mut registry, &endpoints.events, api)?);
    let ready = CancellationToken::new();
    let admin = Admin {
        store: store.clone(),
        parking: Arc::new(parking::Files::below(&settings.data)),
        resources: resources.kept(),
        snapshot: mesh.snapshot.clone(),
        registry: Arc::new(registry),
        ready: ready.clone(),
        stop: stop.clone(),
    };
    let router = resources.router(admin.router());
    mesh.listen(listeners, (router, access.tls()), &stop, &tasks);
    files.declare(&client).await?;
    let plane = Plane::new(mesh.clone());
    if control::reconcile(client.clone(), &settings, &endpoints.events, plane, (&stop, &tasks))
        .await
    {
        // Only now is it known which triggers there are.
        if let Err(error) = mesh.dispatcher.sweep(store.as_ref()).await {
            tracing::warn!(%error, "triggers deleted meanwhile cannot be forgotten");
        }
        resources.publish(&access, &settings.data, address)?;
        endpoints.write(&settings.data)?;
        ready.cancel();
        announce(out, &endpoints, &settings, &mesh)?;
        files.follow(&client, &stop).await;
    }
    mesh.shut_down(&settings, &tasks, store).await?;
    resources.close().await
}

async fn open(settings: &Settings) -> anyhow::Result<Arc<EmbeddedStore>> {
    let data = settings.data.clone();
    let opened =
        tokio::task::spawn_blocking(move || EmbeddedStore::open(&data, EmbeddedOptions::default()));
    opened.await?.with_context(|| format!("open {}", settings.data.display()))
}

/// The running parts.
struct Mesh {
    dispatcher: Dispatcher,
    sources: Runner,
    hooks: Hooks,
    sinks: Sinks,
    ingress: Arc<broker::ingress::Ingress>,
    snapshot: Arc<ArcSwap<dispatcher::Snapshot>>,
    /// `namespace/name` of the sources that receive web hooks.
    hooked: Mutex<Vec<String>>,
}

impl Mesh {
    fn assemble(
        settings: &Settings,
        store: &Arc<EmbeddedStore>,
        registry: &mut Registry,
        events: &str,
        api: Api,
    ) -> anyhow::Result<Self> {
        let port: Arc<dyn Store> = store.clone();
        store.metrics().register(registry);
        let config = DispatcherConfig {
            events_url: events.parse().context("the events listener's URL")?,
            reply_bytes: settings.max_event_bytes,
            grace: settings.drain,
            ..DispatcherConfig::default()
        };
        let metrics = sources::Metrics::register(registry);
        let files = checkpoints::Files::open(settings.data.join("sources"))?;
        let hooks = Hooks::new(metrics.clone());
        let ports = Ports {
            emit: Arc::new(emit::Mesh::new(port.clone())),
            checkpoints: Arc::new(files),
            parking: Arc::new(parking::Files::below(&settings.data)),
            hooks: hooks.clone(),
            public_url: settings.public_url.as_ref().map_or(events, Url::as_str).into(),
            events_url: events.into(),
            host: Arc::new(settings.host.clone()),
            clock: Clock::system(),
            api: Some(api),
            metrics,
        };
        let ingress = broker::ingress::IngressConfig { max_body: settings.max_event_bytes };
        Ok(Self {
            dispatcher: Dispatcher::new(port.clone(), config, registry),
            sources: Runner::new(ports),
            hooks,
            sinks: Sinks::new(settings.max_event_bytes, sinks::Metrics::register(registry)),
            ingress: Arc::new(broker::ingress::Ingress::new(port.clone(), ingress, registry)),
            snapshot: Arc::default(),
            hooked: Mutex::default(),
        })
    }

    fn listen(
        &self,
        listeners: Listeners,
        (api, tls): (Router, TlsAcceptor),
        stop: &CancellationToken,
        tasks: &TaskTracker,
    ) {
        let events = Events {
            ingress: self.ingress.clone(),
            hooks: self.hooks.clone(),
            sinks: self.sinks.clone(),
        };
        tasks.spawn(listen::events(listeners.events, events, stop.clone()));
        tasks.spawn(listen::gateway(listeners.gateway, stop.clone()));
        tasks.spawn(listen::api(listeners.api, tls, api, stop.clone()));
    }

    /// Stops in the order events flow: nothing more comes in, what is under way finishes, state is written.
    async fn shut_down(
        self: Arc<Self>,
        settings: &Settings,
        tasks: &TaskTracker,
        store: Arc<EmbeddedStore>,
    ) -> anyhow::Result<()> {
        self.sources.stop().await;
        self.dispatcher.stop().await;
        // What the dispatcher delivers goes through them too.
        self.sinks.stop().await;
        tasks.close();
        tasks.wait().await;
        Endpoints::remove(&settings.data)?;
        drop(self);
        tokio::task::spawn_blocking(move || store.close()).await?;
        tracing::info!("stopped");
        Ok(())
    }
}

fn announce(
    out: &mut dyn Write,
    endpoints: &Endpoints,
    settings: &Settings,
    mesh: &Mesh,
) -> anyhow::Result<()> {
    let snapshot = mesh.snapshot.load();
    let mut text = format!("weft {} is ready\n", endpoints.version);
    writeln!(text, "  events   {}/{{namespace}}/{{broker}}", endpoints.events)?;
    writeln!(text, "  gateway  {}", endpoints.gateway)?;
    writeln!(text, "  api      {}  (/healthz /readyz /metrics)", endpoints.api)?;
    if let Control::Embedded { .. } = settings.control {
        writeln!(text, "  kubectl  KUBECONFIG={}", settings.data.join(KUBECONFIG).display())?;
    }
    writeln!(text, "  data     {}", settings.data.display())?;
    for broker in &snapshot.brokers {
        let topic = &broker.topic;
        let of = |trigger: &&dispatcher::Trigger| trigger.broker == *topic;
        let triggers = snapshot.triggers.iter().filter(of).count();
        let triggers = output::count(triggers as u64, "trigger");
        writeln!(text, "  broker   {}/{topic}  ({triggers})", endpoints.events)?;
    }
    let public = settings.public_url.as_ref().map_or(endpoints.events.as_str(), Url::as_str);
    for hook in mesh.hooked.lock().unwrap_or_else(PoisonError::into_inner).iter() {
        writeln!(text, "  hook     {}/sources/{hook}", public.trim_end_matches('/'))?;
    }
    if let Some(broker) = snapshot.brokers.first() {
        writeln!(text, "try: weft send --broker {} --type hello --json '{{}}'", broker.topic)?;
    } else {
        writeln!(text, "nothing is declared yet: use `weft apply -f FILE`, or kubectl")?;
    }
    out.write_all(text.as_bytes())?;
    Ok(out.flush()?)
}
