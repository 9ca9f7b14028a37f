//! `weft display`: a subscriber that prints what it gets.

use std::convert::Infallible;
use std::io::Write;
use std::net::SocketAddr;

use anyhow::Context;
use broker_event::{Event, http as binding, json};
use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio_util::task::TaskTracker;

use crate::cli::{DisplayArgs, Output};
use crate::{output, stop};

/// Largest event printed: more than any broker with default limits delivers.
const MAX_BODY: usize = 32 << 20;

/// Events received but not yet printed; then senders wait for the terminal.
const QUEUE: usize = 64;

/// What arrived: events, or why it was none.
type Received = Result<Vec<Event>, String>;

pub(super) async fn run(args: DisplayArgs, out: &mut dyn Write) -> anyhow::Result<()> {
    let tasks = TaskTracker::new();
    let stop = stop::on_signal(&tasks)?;
    let listener = TcpListener::bind(args.listen)
        .await
        .with_context(|| format!("listen on {} (--listen)", args.listen))?;
    announce(listener.local_addr()?, args.output, out)?;
    let status = StatusCode::from_u16(args.status)?;
    let (sender, mut received) = mpsc::channel(QUEUE);
    let mut left = args.count.unwrap_or(u64::MAX);
    while left > 0 {
        tokio::select! {
            () = stop.cancelled() => break,
            accepted = listener.accept() => {
                let (stream, _) = accepted.context("accept a connection")?;
                tasks.spawn(serve(stream, status, sender.clone()));
            }
            Some(received) = received.recv() => left = print(received, left, args.output, out)?,
        }
    }
    Ok(())
}

fn announce(address: SocketAddr, how: Output, out: &mut dyn Write) -> anyhow::Result<()> {
    if how == Output::Text {
        writeln!(out, "listening on http://{address}/ : name it as a trigger's subscriber uri\n")?;
        out.flush()?;
    }
    Ok(())
}

fn print(
    received: Received,
    mut left: u64,
    how: Output,
    out: &mut dyn Write,
) -> anyhow::Result<u64> {
    match received {
        Ok(events) => {
            for event in events.into_iter().take(usize::try_from(left).unwrap_or(usize::MAX)) {
                if how == Output::Json {
                    out.write_all(&json::write(&event))?;
                    writeln!(out)?;
                } else {
                    output::event(out, &event)?;
                }
                left = left.saturating_sub(1);
            }
        }
        Err(why) => note(&why, out, how)?,
    }
    out.flush()?;
    Ok(left)
}

fn note(why: &str, out: &mut dyn Write, how: Output) -> anyhow::Result<()> {
    match how {
        Output::Text => writeln!(out, "-- not an event: {}\n", output::printable(why))?,
        Output::Json => output::json(out, &serde_json::json!({ "error": why }))?,
    }
    Ok(())
}

async fn serve(stream: TcpStream, status: StatusCode, sender: mpsc::Sender<Received>) {
    let service = service_fn(move |request| answer(request, status, sender.clone()));
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .serve_connection(TokioIo::new(stream), service)
        .await;
    if let Err(error) = served {
        tracing::debug!(%error, "connection");
    }
}

async fn answer(
    request: Request<Incoming>,
    status: StatusCode,
    sender: mpsc::Sender<Received>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let (parts, body) = request.into_parts();
    let received = match Limited::new(body, MAX_BODY).collect().await {
        Ok(body) => binding::read(&parts.headers, body.to_bytes())
            .map(|received| received.events)
            .map_err(|error| error.to_string()),
        Err(error) => Err(format!("read the body: {error}")),
    };
    let refused = received.is_err();
    let mut response = Response::new(Full::default());
    *response.status_mut() = if refused { StatusCode::BAD_REQUEST } else { status };
    if sender.send(received).await.is_err() {
        *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
    }
    Ok(response)
}
