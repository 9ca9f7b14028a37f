//! Containers: whatever program its owner wrote sends the events itself, to the URL it finds in `K_SINK`.
//!
//! This is the one source that emits nothing: its containers post to the sink over HTTP, and set what `K_CE_OVERRIDES` asks
//! for, as Knative's contract has it. What is done here is to start all of them, to keep them running, and to leave nothing
//! behind. A container is a process of this machine (`runtimeClassName: process`), or one of Docker's or Podman's.
//!
//! When one of them ends, the others are ended too and all begin anew after the runner's wait, as the containers of a pod
//! share its fate. Asked to stop, they get SIGTERM, and SIGKILL before the second is over that a source has for stopping.

use std::convert::Infallible;
use std::future::pending;
use std::time::Duration;

use crds::condition::CloudEventAttributes;
use futures_util::future::join_all;
use futures_util::stream::{FuturesUnordered, StreamExt};
use serde_json::{Value, json};
use tokio::time::sleep;

use crate::given::{Given, Need};
use crate::source::{About, Context, Source, SourceError};
use crate::status::Condition;

mod engine;
mod environment;
mod output;
mod process;
mod spec;

pub use environment::{Variables, contract, is_ours};
pub use spec::{
    ConfigMapKeySelector, Container, ContainerSource, EnvFromSource, EnvVar, EnvVarSource,
    FieldSelector, LocalReference, PodSpec, PodTemplate,
};

use engine::Engine;
use environment::expand;
use process::Process;

/// Whether the containers run, in Knative's status.
const RECEIVE_ADAPTER_READY: &str = "ReceiveAdapterReady";
/// Whether they were told where to send to, in Knative's status.
const SINK_BINDING_READY: &str = "SinkBindingReady";

/// How long all of them must have run to count as running. A program that lacks a file or does not know a flag ends sooner.
const MOMENT: Duration = Duration::from_secs(1);

/// How long a program may take to end after SIGTERM. The runner cuts a source off after 800 ms; what is left of these is for
/// SIGKILL.
const GRACE: Duration = Duration::from_millis(400);

impl Source for ContainerSource {
    const WORKS: &'static str = RECEIVE_ADAPTER_READY;
    const CONDITIONS: &'static [&'static str] = &[SINK_BINDING_READY];
    const RUNS_PROGRAMS: bool = true;

    fn needs(&self, _: &About) -> Vec<Need> {
        environment::needs(self)
    }

    /// Nobody but the containers knows.
    fn attributes(&self, _: &About, _: &Given) -> Vec<CloudEventAttributes> {
        Vec::new()
    }

    /// Processes end with the mesh. Containers of a mesh that was killed go on, and are found when it is back, even if the
    /// resource was deleted meanwhile.
    fn leaves_traces(&self, _: &About) -> bool {
        !self.is_process()
    }

    fn pod_template(&self, sink_url: &str, ca_certs: Option<&str>) -> Option<Value> {
        if self.is_process() {
            return None;
        }
        let mut template = serde_json::to_value(&self.template).ok()?;
        for list in ["/spec/containers", "/spec/initContainers"] {
            let containers = template.pointer_mut(list).and_then(Value::as_array_mut);
            for container in containers.into_iter().flatten() {
                let env = container.as_object_mut()?.entry("env").or_insert_with(|| json!([]));
                let env = env.as_array_mut()?;
                env.retain(|one| one["name"].as_str().is_none_or(|name| !is_ours(name)));
                let ours = self.contract(sink_url, ca_certs);
                env.extend(ours.iter().map(|(name, value)| json!({"name": name, "value": value})));
            }
        }
        Some(template)
    }

    async fn run(self, ctx: Context) -> Result<(), SourceError> {
        ctx.report.condition(Condition::good(SINK_BINDING_READY, ""));
        let mut units = Vec::new();
        let ended = tokio::select! {
            biased;
            () = ctx.stop.cancelled() => Ok(()),
            ended = self.keep(&ctx, &mut units) => ended.map(|never| match never {}),
        };
        join_all(units.into_iter().map(Unit::stop)).await;
        ended
    }

    async fn retire(self, ctx: Context) -> Result<(), SourceError> {
        match Engine::find(&ctx.host).await {
            Ok(engine) => engine.remove_all(&ctx.about).await,
            Err(error) => {
                // Where no engine runs, none of its containers does; and a resource must not be kept for ever by an engine
                // that was uninstalled.
                tracing::warn!(%error, "containers that a killed mesh may have left are not looked for");
                Ok(())
            }
        }
    }
}

impl ContainerSource {
    /// Starts all containers and waits until one ends. What was started is in `units`.
    async fn keep(&self, ctx: &Context, units: &mut Vec<Unit>) -> Result<Infallible, SourceError> {
        let programs = self.programs(ctx);
        if self.is_process() {
            for program in programs {
                units.push(Unit::Process(Process::start(program, &ctx.host)?));
            }
        } else {
            let engine = Engine::find(&ctx.host).await?;
            // Those of a mesh that was killed.
            engine.remove_all(&ctx.about).await?;
            for program in programs {
                units.push(Unit::Container(engine.start(program, &ctx.about).await?));
            }
        }
        let mut ends: FuturesUnordered<_> = units.iter_mut().map(Unit::ended).collect();
        let ready = async {
            sleep(MOMENT).await;
            ctx.report.running();
            pending::<Infallible>().await
        };
        tokio::select! {
            Some(why) = ends.next() => Err(why),
            never = ready => match never {},
        }
    }

    /// What is to be started, with all that it is told.
    fn programs(&self, ctx: &Context) -> Vec<Program> {
        let ca_certs = ctx.emit.sink().ca_certs();
        let containers = &self.template.spec.containers;
        let program = |(index, container): (usize, &Container)| {
            let ours = self.contract(&ctx.sink_url, ca_certs);
            let variables =
                environment::variables((index, container), &ctx.about, &ctx.given, ours);
            let expanded = |texts: &[String]| {
                texts.iter().map(|text| expand(text, &variables)).collect::<Vec<_>>()
            };
            Program {
                command: expanded(&container.command),
                args: expanded(&container.args),
                container: container.clone(),
                variables,
            }
        };
        containers.iter().enumerate().map(program).collect()
    }

    /// What its containers are told. The overrides are theirs to apply, so they are not applied here.
    fn contract(&self, sink_url: &str, ca_certs: Option<&str>) -> Variables {
        contract(sink_url, ca_certs, self.ce_overrides.as_ref())
    }
}

/// A container as it is to be started. There is no `Debug`: its variables hold secrets.
struct Program {
    container: Container,
    /// [`Container::command`], with values in it.
    command: Vec<String>,
    /// [`Container::args`], with values in them.
    args: Vec<String>,
    variables: Variables,
}

/// A container that was started.
enum Unit {
    Process(Process),
    Container(engine::Running),
}

impl Unit {
    /// Waits until it ends, and says how. May be dropped and called again.
    async fn ended(&mut self) -> SourceError {
        match self {
            Self::Process(process) => process.ended().await,
            Self::Container(running) => running.ended().await,
        }
    }

    /// Ends it, and waits until it has.
    async fn stop(self) {
        match self {
            Self::Process(process) => process.stop().await,
            Self::Container(running) => running.stop().await,
        }
    }
}

#[cfg(test)]
mod tests;
