//! A container as one of Docker's or Podman's, through the API that both speak.

use std::collections::HashMap;
use std::convert::Infallible;
use std::future::pending;
use std::time::Duration;

use bollard::container::LogOutput;
use bollard::errors::Error;
use bollard::models::{ContainerCreateBody, ContainerWaitResponse, HostConfig};
use bollard::query_parameters::{
    CreateContainerOptions, CreateImageOptionsBuilder, KillContainerOptionsBuilder,
    ListContainersOptionsBuilder, LogsOptionsBuilder, RemoveContainerOptionsBuilder,
    StartContainerOptions, WaitContainerOptions,
};
use bollard::{API_DEFAULT_VERSION, Docker};
use futures_util::stream::{BoxStream, Fuse, StreamExt, TryStreamExt};
use tokio::time::timeout;
use url::{Host, Url};

use super::output::Lines;
use super::spec::{ALWAYS, Container, NEVER};
use super::{GRACE, Program, environment};
use crate::host;
use crate::source::{About, SourceError, chain};

/// Whose container it is: namespace and name, and which of all resources that ever had these, on any mesh of this machine.
const SOURCE: &str = "weft.dev/source";
const UID: &str = "weft.dev/uid";

/// How long an engine may take to say that it is there: it is on this machine.
const HELLO: Duration = Duration::from_secs(5);

/// How long one may take to begin an answer, seconds. Before a container is made, layers may have to be unpacked.
const ANSWER: u64 = 120;

/// How long one may take to begin an answer about what a running container prints and how it ends. Podman does not begin
/// before the container does; so this is as long as a container runs.
const LIFETIME: Duration = Duration::from_secs(10 * 365 * 86_400);

/// How long what was printed last may take to come.
const LAST_WORDS: Duration = Duration::from_millis(100);

const NONE: &str = "no container engine answers: start Docker or Podman, or set runtimeClassName: process to run the \
    command as a process of this machine";

/// How containers reach the mesh, which listens on the loopback address of this machine.
///
/// They share the machine's network where it is theirs to share. Docker on a desktop runs them in a virtual machine, to which
/// this machine has a name. (On Linux that name would lead to an address the mesh does not listen on.)
const SHARES_NETWORK: bool = cfg!(target_os = "linux");
const NAME_OF_HOST: &str = "host.docker.internal";

/// An engine that answered.
pub(super) struct Engine(Docker);

impl Engine {
    /// The first of those the machine may have.
    ///
    /// # Errors
    /// When none answers.
    pub(super) async fn find(host: &host::Host) -> Result<Self, SourceError> {
        for address in &host.engines {
            let connected = if address.starts_with("unix://") {
                Docker::connect_with_unix(address, ANSWER, API_DEFAULT_VERSION)
            } else {
                Docker::connect_with_http(address, ANSWER, API_DEFAULT_VERSION)
            };
            let answered = async { connected?.negotiate_version().await };
            match timeout(HELLO, answered).await {
                Ok(Ok(docker)) => return Ok(Self(docker)),
                Ok(Err(error)) => tracing::debug!(address, "no engine: {}", chain(&error)),
                Err(_) => tracing::debug!(address, "no engine: no answer"),
            }
        }
        Err(SourceError::Unavailable { what: NONE.to_owned(), source: None })
    }

    /// Removes every container of the resource.
    ///
    /// # Errors
    /// When the engine does not do so.
    pub(super) async fn remove_all(&self, about: &About) -> Result<(), SourceError> {
        let labels = labels(about).map(|(label, value)| format!("{label}={value}"));
        let filters = HashMap::from([("label", labels.to_vec())]);
        let options = ListContainersOptionsBuilder::default().all(true).filters(&filters).build();
        let found = self.0.list_containers(Some(options)).await;
        let found = found.map_err(|error| failed("list containers", error))?;
        for id in found.into_iter().filter_map(|container| container.id) {
            remove(&self.0, &id).await.map_err(|error| failed("remove a container", error))?;
            tracing::info!(id, "a container that a killed mesh had left is removed");
        }
        Ok(())
    }

    /// Starts a container.
    ///
    /// # Errors
    /// When there is no such image, or the engine does not run it.
    pub(super) async fn start(
        &self,
        program: Program,
        about: &About,
    ) -> Result<Running, SourceError> {
        let docker = self.0.clone();
        let name = program.container.name.clone();
        self.provide(&program.container).await?;
        let created = docker.create_container(None::<CreateContainerOptions>, body(program, about));
        let doing = |what: &str| format!("{what} container {name}");
        let id = created.await.map_err(|error| failed(doing("make"), error))?.id;
        if let Err(error) = docker.start_container(&id, None::<StartContainerOptions>).await {
            drop(remove(&docker, &id).await);
            return Err(failed(doing("start"), error));
        }
        let all = LogsOptionsBuilder::default().follow(true).stdout(true).stderr(true).build();
        let patient = docker.clone().with_timeout(LIFETIME);
        Ok(Running {
            logs: patient.logs(&id, Some(all)).boxed().fuse(),
            exit: patient.wait_container(&id, None::<WaitContainerOptions>).boxed().fuse(),
            out: Lines::new(&name, "stdout"),
            err: Lines::new(&name, "stderr"),
            docker,
            id,
            name,
        })
    }

    /// Sees to it that the image is there, as the container's policy says.
    async fn provide(&self, container: &Container) -> Result<(), SourceError> {
        let Container { image, image_pull_policy: policy, .. } = container;
        if policy != ALWAYS {
            match self.0.inspect_image(image).await {
                Ok(_) => return Ok(()),
                Err(Error::DockerResponseServerError { status_code: 404, .. }) => {}
                Err(error) => return Err(failed(format!("look for image {image}"), error)),
            }
        }
        if policy == NEVER {
            let what = format!("image {image} is not there, and imagePullPolicy is {NEVER}");
            return Err(SourceError::Absent { what });
        }
        tracing::info!(image, "the image is pulled");
        let options = CreateImageOptionsBuilder::default().from_image(&tagged(image)).build();
        let pulled = self.0.create_image(Some(options), None, None);
        let pulled = pulled.try_for_each(|_| async { Ok(()) }).await;
        pulled.map_err(|error| failed(format!("pull image {image}"), error))
    }
}

/// A container that was started.
pub(super) struct Running {
    docker: Docker,
    id: String,
    name: String,
    logs: Fuse<BoxStream<'static, Result<LogOutput, Error>>>,
    exit: Fuse<BoxStream<'static, Result<ContainerWaitResponse, Error>>>,
    out: Lines,
    err: Lines,
}

impl Running {
    /// Waits until it ends, logs what it prints meanwhile, and says how it ended. May be dropped and called again.
    pub(super) async fn ended(&mut self) -> SourceError {
        let Self { name, logs, exit, out, err, .. } = self;
        let printing = async {
            print(logs, out, err).await;
            pending::<Infallible>().await
        };
        let ended = tokio::select! {
            ended = exit.next() => ended,
            never = printing => match never {},
        };
        drop(timeout(LAST_WORDS, print(logs, out, err)).await);
        let code = match ended {
            Some(Ok(ContainerWaitResponse { status_code: code, .. })) => code,
            Some(Err(Error::DockerContainerWaitError { code, .. })) => code,
            Some(Err(error)) => return failed(format!("wait for container {name}"), error),
            None => {
                return SourceError::unavailable(format!("wait for container {name}"), "no answer");
            }
        };
        SourceError::Ended { what: format!("container {name} ended: exit code {code}") }
    }

    /// Ends it and removes it: SIGTERM, and SIGKILL after [`GRACE`].
    pub(super) async fn stop(mut self) {
        let options = KillContainerOptionsBuilder::default().signal("SIGTERM").build();
        // It may have ended, which is as good.
        if self.docker.kill_container(&self.id, Some(options)).await.is_ok() {
            drop(timeout(GRACE, self.ended()).await);
        }
        if let Err(error) = remove(&self.docker, &self.id).await {
            let why = chain(&error);
            tracing::warn!(container = self.name, id = self.id, "it is not removed: {why}");
        }
    }
}

async fn print(
    logs: &mut Fuse<BoxStream<'static, Result<LogOutput, Error>>>,
    out: &mut Lines,
    err: &mut Lines,
) {
    // A log that breaks off says nothing about the container: its exit is waited for.
    while let Some(Ok(output)) = logs.next().await {
        match output {
            LogOutput::StdErr { message } => err.log(&message),
            LogOutput::StdOut { message } | LogOutput::Console { message } => out.log(&message),
            LogOutput::StdIn { .. } => {}
        }
    }
    out.log_rest();
    err.log_rest();
}

async fn remove(docker: &Docker, id: &str) -> Result<(), Error> {
    let options = RemoveContainerOptionsBuilder::default().force(true).v(true).build();
    match docker.remove_container(id, Some(options)).await {
        Err(Error::DockerResponseServerError { status_code: 404, .. }) => Ok(()),
        removed => removed,
    }
}

/// What an engine is told of a container.
fn body(program: Program, about: &About) -> ContainerCreateBody {
    let Program { container, command, args, mut variables } = program;
    if !SHARES_NETWORK && let Some(sink) = variables.get_mut(environment::SINK) {
        *sink = from_within(sink);
    }
    let given = |texts: Vec<String>| (!texts.is_empty()).then_some(texts);
    ContainerCreateBody {
        image: Some(container.image),
        entrypoint: given(command),
        cmd: given(args),
        working_dir: Some(container.working_dir).filter(|directory| !directory.is_empty()),
        env: Some(variables.into_iter().map(|(name, value)| format!("{name}={value}")).collect()),
        labels: Some(labels(about).map(|(label, value)| (label.to_owned(), value)).into()),
        host_config: SHARES_NETWORK
            .then(|| HostConfig { network_mode: Some("host".to_owned()), ..HostConfig::default() }),
        ..ContainerCreateBody::default()
    }
}

fn labels(about: &About) -> [(&'static str, String); 2] {
    [(SOURCE, format!("{}/{}", about.namespace, about.name)), (UID, about.uid.to_string())]
}

/// The URL under which a container in a network of its own finds what this machine finds under `url`.
fn from_within(url: &str) -> String {
    let Ok(mut parsed) = Url::parse(url) else { return url.to_owned() };
    let is_here = match parsed.host() {
        Some(Host::Domain(name)) => name == "localhost",
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    };
    if is_here && parsed.set_host(Some(NAME_OF_HOST)).is_ok() {
        parsed.into()
    } else {
        url.to_owned()
    }
}

/// The image with the tag that is meant without one. An engine would pull all of them.
fn tagged(image: &str) -> String {
    let last = image.rsplit('/').next().unwrap_or(image);
    if last.contains([':', '@']) { image.to_owned() } else { format!("{image}:latest") }
}

/// What an engine refused, or that it went away.
fn failed(what: impl Into<String>, error: Error) -> SourceError {
    match error {
        Error::DockerResponseServerError { status_code: 404, message } => {
            SourceError::Absent { what: format!("{}: {message}", what.into()) }
        }
        error => SourceError::unavailable(what, error),
    }
}

#[cfg(test)]
mod tests {
    use super::{from_within, tagged};

    #[test]
    fn an_image_without_a_tag_is_the_latest() {
        assert_eq!(tagged("shop"), "shop:latest");
        assert_eq!(tagged("images.example:5000/shop"), "images.example:5000/shop:latest");
        for named in ["shop:1", "images.example/shop:1", "shop@sha256:0123"] {
            assert_eq!(tagged(named), named);
        }
    }

    #[test]
    fn a_network_of_its_own_has_a_name_for_this_machine() {
        assert_eq!(
            from_within("http://127.0.0.1:8080/ns/b"),
            "http://host.docker.internal:8080/ns/b"
        );
        assert_eq!(from_within("http://[::1]:80/"), "http://host.docker.internal/");
        assert_eq!(from_within("http://localhost/x"), "http://host.docker.internal/x");
        assert_eq!(from_within("https://shop.example/x"), "https://shop.example/x");
    }
}
