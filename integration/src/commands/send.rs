//! `weft send`: build an event, or read some, and post them to a broker.

use std::fmt;
use std::io::{IsTerminal, Read, Write};
use std::path::Path;

use anyhow::{Context, ensure};
use broker_event::{Event, EventBuilder, Value, http as binding};
use bytes::Bytes;
use crds::ce_overrides::CloudEventOverrides;
use dispatcher::{Clients, HttpClient};
use http::{Method, Request, Uri};
use http_body_util::{BodyExt, Full};
use indicatif::{ProgressBar, ProgressStyle};
use sources::Overrides;

use crate::cli::{DEFAULT_BROKER, MeshArgs, Output, SendArgs};
use crate::client::{Client, Listener};
use crate::commands::events;
use crate::config::{self, Binding};
use crate::{emit, output};

/// Most bytes read from a file or standard input: what a person sends by hand fits many times over.
const MAX_INPUT: u64 = 256 << 20;

/// Events above which a progress bar is worth its line.
const MANY: usize = 100;

pub(super) async fn run(args: SendArgs, out: &mut dyn Write) -> anyhow::Result<()> {
    let events = match &args.file {
        Some(file) => events::read(file)?,
        None => vec![build(&args)?],
    };
    ensure!(!events.is_empty(), "there is no event in the input");
    let door = Door::find(&args)?;
    let bar = progress(events.len());
    for event in &events {
        door.post(event).await.with_context(|| format!("send event {}", event.id()))?;
        bar.inc(1);
        if args.output == Output::Json {
            output::json(out, &serde_json::json!({ "id": event.id(), "source": event.source() }))?;
        }
    }
    bar.finish_and_clear();
    if args.output == Output::Text {
        match events.as_slice() {
            [event] => writeln!(out, "accepted {} by {door}", event.id())?,
            many => writeln!(out, "accepted {} events by {door}", many.len())?,
        }
    }
    Ok(())
}

/// Where events are posted to.
enum Door {
    Broker {
        client: Client,
        path: String,
    },
    /// What whoever runs this program bound it to.
    Bound {
        client: HttpClient,
        url: Uri,
        overrides: Overrides,
    },
}

impl Door {
    fn find(args: &SendArgs) -> anyhow::Result<Self> {
        let MeshArgs { data, server } = &args.mesh;
        let named = data.is_some() || server.is_some() || args.broker.broker != DEFAULT_BROKER;
        match config::binding() {
            Some(binding) if !named => Self::bound(&binding),
            _ => {
                let client = Client::find(&args.mesh, Listener::Events)?;
                let (namespace, name) = broker(&args.broker.broker)?;
                Ok(Self::Broker { client, path: format!("/{namespace}/{name}") })
            }
        }
    }

    fn bound(binding: &Binding) -> anyhow::Result<Self> {
        let url = binding.sink.parse().context("K_SINK is no URL")?;
        let client = Clients::new().trusting(binding.ca_certs.as_deref()).context("K_CA_CERTS")?;
        let overrides = match &binding.overrides {
            Some(text) => {
                let read: CloudEventOverrides =
                    serde_json::from_str(text).context("K_CE_OVERRIDES")?;
                Overrides::new(read.extensions).context("K_CE_OVERRIDES")?
            }
            None => Overrides::default(),
        };
        Ok(Self::Bound { client, url, overrides })
    }

    async fn post(&self, event: &Event) -> anyhow::Result<()> {
        match self {
            Self::Broker { client, path } => {
                let mut request = Request::builder()
                    .method(Method::POST)
                    .uri(client.url(path, &[])?.as_str())
                    .body(Full::default())?;
                let body = binding::write_binary(event, request.headers_mut());
                *request.body_mut() = Full::new(body);
                let answer = client.open(request).await?;
                answer.into_body().collect().await.context("read the answer")?;
                Ok(())
            }
            Self::Bound { client, url, overrides } => {
                let mut event = event.clone();
                overrides.apply(&mut event);
                Ok(emit::Mesh::post(client, url, &event).await?)
            }
        }
    }
}

impl fmt::Display for Door {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Broker { path, .. } => f.write_str(path.trim_start_matches('/')),
            // The host alone: paths and queries of sinks carry tokens.
            Self::Bound { url, .. } => f.write_str(url.host().unwrap_or_default()),
        }
    }
}

fn progress(events: usize) -> ProgressBar {
    if events < MANY || !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let style = ProgressStyle::with_template("{bar:30} {pos}/{len} events, {per_sec}, {eta} left");
    let bar = ProgressBar::new(u64::try_from(events).unwrap_or(u64::MAX));
    style.map_or(bar.clone(), |style| bar.with_style(style))
}

/// Splits NAME or NAMESPACE/NAME.
fn broker(text: &str) -> anyhow::Result<(&str, &str)> {
    let (namespace, name) = text.split_once('/').unwrap_or(("default", text));
    let valid = |part: &str| !part.is_empty() && !part.contains(['/', '?', '#', '%']);
    ensure!(valid(namespace) && valid(name), "--broker {text}: must be NAME or NAMESPACE/NAME");
    Ok((namespace, name))
}

fn build(args: &SendArgs) -> anyhow::Result<Event> {
    let id = args.id.clone().unwrap_or_else(|| uuid::Uuid::new_v4().to_string());
    let ty = args.ty.as_deref().context("--type is missing")?;
    let mut builder = EventBuilder::new(id, args.source.as_str(), ty);
    if let Some(subject) = &args.subject {
        builder = builder.subject(subject.as_str());
    }
    for extension in &args.extensions {
        let (name, value) = extension
            .split_once('=')
            .with_context(|| format!("--ext {extension}: must be NAME=VALUE"))?;
        builder = builder.extension(name, Value::from(value));
    }
    let (data, kind) = payload(args)?;
    if let Some(kind) = args.content_type.as_deref().or(kind) {
        builder = builder.data_content_type(kind);
    }
    if let Some(data) = data {
        builder = builder.data(data);
    }
    Ok(builder.build()?)
}

/// The payload and the media type to assume for it.
fn payload(args: &SendArgs) -> anyhow::Result<(Option<Bytes>, Option<&'static str>)> {
    if let Some(text) = &args.json {
        serde_json::from_str::<serde::de::IgnoredAny>(text).context("--json is not JSON")?;
        return Ok((Some(Bytes::copy_from_slice(text.as_bytes())), Some("application/json")));
    }
    if let Some(text) = &args.data_text {
        return Ok((Some(Bytes::copy_from_slice(text.as_bytes())), Some("text/plain")));
    }
    match &args.data_file {
        Some(file) => Ok((Some(input(file)?), Some("application/octet-stream"))),
        None => Ok((None, None)),
    }
}

/// Reads a file, or standard input for `-`.
pub(super) fn input(file: &Path) -> anyhow::Result<Bytes> {
    let mut bytes = Vec::new();
    let limit = MAX_INPUT.saturating_add(1);
    if file == Path::new("-") {
        std::io::stdin()
            .lock()
            .take(limit)
            .read_to_end(&mut bytes)
            .context("read standard input")?;
    } else {
        let open = std::fs::File::open(file).with_context(|| format!("open {}", file.display()))?;
        open.take(limit)
            .read_to_end(&mut bytes)
            .with_context(|| format!("read {}", file.display()))?;
    }
    let length = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
    ensure!(length <= MAX_INPUT, "{}: more than {MAX_INPUT} bytes", file.display());
    Ok(bytes.into())
}
