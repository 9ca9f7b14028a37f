//! `weft send`: build an event, or read some, and post them to a broker.

use std::io::{IsTerminal, Read, Write};
use std::path::Path;

use anyhow::{Context, ensure};
use broker_event::{Event, EventBuilder, Value, http as binding};
use bytes::Bytes;
use http::{Method, Request};
use http_body_util::{BodyExt, Full};
use indicatif::{ProgressBar, ProgressStyle};

use crate::cli::{Output, SendArgs};
use crate::client::{Client, Listener};
use crate::commands::events;
use crate::output;

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
    let client = Client::find(&args.mesh, Listener::Events)?;
    let (namespace, name) = broker(&args.broker.broker)?;
    let path = format!("/{namespace}/{name}");
    let bar = progress(events.len());
    for event in &events {
        post(&client, &path, event).await.with_context(|| format!("send event {}", event.id()))?;
        bar.inc(1);
        if args.output == Output::Json {
            output::json(out, &serde_json::json!({ "id": event.id(), "source": event.source() }))?;
        }
    }
    bar.finish_and_clear();
    if args.output == Output::Text {
        match events.as_slice() {
            [event] => writeln!(out, "accepted {} by {namespace}/{name}", event.id())?,
            many => writeln!(out, "accepted {} events by {namespace}/{name}", many.len())?,
        }
    }
    Ok(())
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

async fn post(client: &Client, path: &str, event: &Event) -> anyhow::Result<()> {
    let mut request = Request::builder()
        .method(Method::POST)
        .uri(client.url(path, &[])?.as_str())
        .body(Full::default())?;
    let body = binding::write_binary(event, request.headers_mut());
    *request.body_mut() = Full::new(body);
    client.open(request).await?.into_body().collect().await.context("read the answer")?;
    Ok(())
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
