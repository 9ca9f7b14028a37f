//! Puts the mesh together, runs it, takes it apart.

use std::fmt::Write as _;
use std::io::Write;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use arc_swap::ArcSwap;
use broker::store::Store;
use broker::store::embedded::{EmbeddedOptions, EmbeddedStore};
use dispatcher::{Dispatcher, DispatcherConfig};
use prometheus_client::registry::Registry;
use sources::{Clock, Hooks, Ports, Runner};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use url::Url;

use crate::admin::Admin;
use crate::endpoints::Endpoints;
use crate::listen::{self, Events};
use crate::resources::follow::Follower;
use crate::resources::{self, Plan};
use crate::{checkpoints, emit, output};

/// What `weft up` was asked for.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Resource files and directories.
    pub files: Vec<PathBuf>,
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
    let public = settings.public_url.as_ref().map_or(endpoints.events.as_str(), Url::as_str);
    let plan = resources::load(&settings.files, &endpoints.events)?;
    let mut registry = Registry::with_prefix("weft");
    let store = open(&settings).await?;
    Endpoints::remove(&settings.data)?;
    let mesh = Mesh::assemble(&settings, &store, &mut registry, &endpoints.events)?;
    let tasks = TaskTracker::new();
    let ready = CancellationToken::new();
    let admin = Admin {
        store: store.clone(),
        snapshot: mesh.snapshot.clone(),
        registry: Arc::new(registry),
        ready: ready.clone(),
        stop: stop.clone(),
    };
    mesh.listen(listeners, admin, &stop, &tasks);
    mesh.apply(plan.clone()).await;
    if let Err(error) = mesh.dispatcher.sweep(store.as_ref()).await {
        tracing::warn!(%error, "triggers deleted meanwhile cannot be forgotten");
    }
    endpoints.write(&settings.data)?;
    ready.cancel();
    announce(out, &endpoints, &settings, &plan, public)?;
    let follower = Follower::new(settings.files.clone(), endpoints.events.clone(), plan);
    follower.run(&stop, async |plan| mesh.apply(plan).await).await;
    mesh.shut_down(&settings, &tasks, store).await
}

async fn open(settings: &Settings) -> anyhow::Result<Arc<EmbeddedStore>> {
    let data = settings.data.clone();
    let opened =
        tokio::task::spawn_blocking(move || EmbeddedStore::open(&data, EmbeddedOptions::default()));
    opened.await?.with_context(|| format!("open {}", settings.data.display()))
}

/// The running parts.
struct Mesh {
    store: Arc<dyn Store>,
    dispatcher: Dispatcher,
    sources: Runner,
    hooks: Hooks,
    ingress: Arc<broker::ingress::Ingress>,
    snapshot: Arc<ArcSwap<dispatcher::Snapshot>>,
}

impl Mesh {
    fn assemble(
        settings: &Settings,
        store: &Arc<EmbeddedStore>,
        registry: &mut Registry,
        events: &str,
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
            hooks: hooks.clone(),
            clock: Clock::system(),
            metrics,
        };
        let ingress = broker::ingress::IngressConfig { max_body: settings.max_event_bytes };
        Ok(Self {
            dispatcher: Dispatcher::new(port.clone(), config, registry),
            sources: Runner::new(ports),
            hooks,
            ingress: Arc::new(broker::ingress::Ingress::new(port.clone(), ingress, registry)),
            store: port,
            snapshot: Arc::default(),
        })
    }

    /// Brings a plan into force.
    async fn apply(&self, plan: Plan) {
        for note in &plan.notes {
            tracing::warn!("{note}");
        }
        if let Err(error) = self.dispatcher.apply(plan.snapshot.clone()).await {
            for problem in error.problems {
                tracing::warn!("{problem}");
            }
        }
        self.snapshot.store(Arc::new(plan.snapshot));
        self.sources.apply(plan.sources);
    }

    fn listen(
        &self,
        listeners: Listeners,
        admin: Admin,
        stop: &CancellationToken,
        tasks: &TaskTracker,
    ) {
        let events = Events { ingress: self.ingress.clone(), hooks: self.hooks.clone() };
        tasks.spawn(listen::events(listeners.events, events, stop.clone()));
        tasks.spawn(listen::gateway(listeners.gateway, stop.clone()));
        tasks.spawn(listen::api(listeners.api, admin.router(), stop.clone()));
    }

    /// Stops in the order events flow: nothing more comes in, what is under way finishes, state is written.
    async fn shut_down(
        self,
        settings: &Settings,
        tasks: &TaskTracker,
        store: Arc<EmbeddedStore>,
    ) -> anyhow::Result<()> {
        self.sources.stop().await;
        self.dispatcher.stop().await;
        tasks.close();
        tasks.wait().await;
        Endpoints::remove(&settings.data)?;
        drop(self.store);
        tokio::task::spawn_blocking(move || store.close()).await?;
        tracing::info!("stopped");
        Ok(())
    }
}

fn announce(
    out: &mut dyn Write,
    endpoints: &Endpoints,
    settings: &Settings,
    plan: &Plan,
    public: &str,
) -> anyhow::Result<()> {
    let mut text = format!("weft {} is ready\n", endpoints.version);
    writeln!(text, "  events   {}/{{namespace}}/{{broker}}", endpoints.events)?;
    writeln!(text, "  gateway  {}", endpoints.gateway)?;
    writeln!(text, "  api      {}  (/healthz /readyz /metrics)", endpoints.api)?;
    writeln!(text, "  data     {}", settings.data.display())?;
    for broker in &plan.snapshot.brokers {
        let topic = &broker.topic;
        let of = |trigger: &&dispatcher::Trigger| trigger.broker == *topic;
        let triggers = plan.snapshot.triggers.iter().filter(of).count();
        let triggers = output::count(triggers as u64, "trigger");
        writeln!(text, "  broker   {}/{topic}  ({triggers})", endpoints.events)?;
    }
    for hook in &plan.hooks {
        writeln!(text, "  hook     {}/sources/{hook}", public.trim_end_matches('/'))?;
    }
    if settings.files.is_empty() {
        writeln!(text, "nothing is declared yet: give it YAML with `weft up -f FILE|DIR`")?;
    } else if let Some(broker) = plan.snapshot.brokers.first() {
        writeln!(text, "try: weft send --broker {} --type hello --json '{{}}'", broker.topic)?;
    }
    out.write_all(text.as_bytes())?;
    Ok(out.flush()?)
}
