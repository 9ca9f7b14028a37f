//! Serves HTTP/1 connections within limits, over TLS for those who ask for it, and ends them cleanly.

use std::convert::Infallible;
use std::error::Error as StdError;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use http::{Request, Response};
use http_body::Body;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

mod places;
mod stream;
#[cfg(test)]
mod tests;

use stream::Stream;

/// What connections may cost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Connections at a time, if the process may open as many files; more wait in the kernel's queue until one of these
    /// ends, which idle ones soon do. Ten thousand senders, and some for web hooks.
    pub connections: usize,
    /// How long a new connection may say nothing, and how long the head of a request may take, counted from the end of
    /// the one before: slow senders and idle ones hold a connection, not for ever. Ten seconds, as with Knative's ingress.
    pub head_timeout: Duration,
    /// How long a client may take none of what it is sent before its connection is given up. Answers are short: one that
    /// does not leave in half a minute is not being read.
    pub write_timeout: Duration,
    /// Bytes a connection buffers, which bounds the head: twice the 64 KiB that headers may reasonably have.
    pub buffer: usize,
    /// How long requests under way may take when stopping.
    pub drain: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 10_240,
            head_timeout: Duration::from_secs(10),
            write_timeout: Duration::from_secs(30),
            buffer: 128 << 10,
            drain: Duration::from_secs(10),
        }
    }
}

/// Pause after a failed accept: usually file descriptors ran out, and trying at once would only burn a core.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Connections that wait in the kernel to be accepted. The standard library's 128 are used up when some hundred senders
/// start together, and whoever finds the queue full is late by a second. Systems that allow fewer take what they allow.
const QUEUE: i32 = 4096;

/// How long, and for how many bytes, a refused sender is listened to so that it hears the refusal: a few times what a
/// sender has on its way before it looks for an answer.
const LINGER: Duration = Duration::from_secs(1);
const LINGER_BYTES: u64 = 16 << 20;

/// The first byte of a TLS connection: its type of record, "handshake" (RFC 8446, section 5.1). No HTTP/1 request starts
/// with it.
const TLS_HANDSHAKE: u8 = 22;

/// Serves `listener` until `stop`, then lets requests under way finish. With `tls`, a connection that starts as TLS is one;
/// all others are plain on the same port.
pub async fn serve<H, F, B>(
    listener: TcpListener,
    tls: Option<TlsAcceptor>,
    handler: H,
    limits: Limits,
    stop: CancellationToken,
) where
    H: Fn(Request<Incoming>) -> F + Clone + Send + Sync + 'static,
    F: Future<Output = Response<B>> + Send + 'static,
    B: Body<Data: Send, Error: Into<Box<dyn StdError + Send + Sync>>> + Send + 'static,
{
    // A listener that listens already takes the new length.
    if let Err(error) = rustix::net::listen(&listener, QUEUE) {
        tracing::warn!(%error, "lengthen the queue of new connections");
    }
    let mut connections = JoinSet::new();
    let room = Room { here: Arc::new(Semaphore::new(limits.connections)), all: places::places() };
    loop {
        let accepted = tokio::select! {
            () = stop.cancelled() => break,
            Some(_) = connections.join_next() => continue,
            accepted = accept(&listener, &room) => accepted,
        };
        match accepted {
            Ok((stream, place)) => {
                let connection =
                    connection(stream, tls.clone(), handler.clone(), limits, stop.clone());
                connections.spawn(async move {
                    connection.await;
                    drop(place);
                });
            }
            Err(error) if is_over(&error) => {}
            Err(error) => {
                tracing::warn!(%error, "accept a connection");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    drop(listener);
    let drained = async { while connections.join_next().await.is_some() {} };
    if tokio::time::timeout(limits.drain, drained).await.is_err() {
        tracing::warn!(left = connections.len(), "connections are cut off");
        connections.shutdown().await;
    }
}

/// Where connections find place: among those of this listener, and among those of the process.
struct Room {
    here: Arc<Semaphore>,
    all: Arc<Semaphore>,
}

/// A connection is taken from the kernel only when there is a place for it.
async fn accept(
    listener: &TcpListener,
    room: &Room,
) -> io::Result<(TcpStream, [OwnedSemaphorePermit; 2])> {
    let here = room.here.clone().acquire_owned().await.map_err(io::Error::other)?;
    let all = room.all.clone().acquire_owned().await.map_err(io::Error::other)?;
    let (stream, _) = listener.accept().await?;
    // It fails when the client is gone already, which its connection will find out.
    drop(stream.set_nodelay(true));
    Ok((stream, [here, all]))
}

/// Whether the client was gone before it was accepted: nothing is wrong with the listener.
fn is_over(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset)
}

async fn connection<H, F, B>(
    stream: TcpStream,
    tls: Option<TlsAcceptor>,
    handler: H,
    limits: Limits,
    stop: CancellationToken,
) where
    H: Fn(Request<Incoming>) -> F + Send + Sync + 'static,
    F: Future<Output = Response<B>> + Send + 'static,
    B: Body<Data: Send, Error: Into<Box<dyn StdError + Send + Sync>>> + Send + 'static,
{
    // Each apart, so that a silent connection's task is small.
    match (speaks(&stream, limits.head_timeout, &stop).await, tls) {
        (None, _) => {}
        (Some(TLS_HANDSHAKE), Some(tls)) => {
            let greeted = tokio::time::timeout(limits.head_timeout, tls.accept(stream));
            match Box::pin(greeted).await {
                Ok(Ok(stream)) => Box::pin(converse(stream, handler, limits, stop)).await,
                Ok(Err(error)) => tracing::debug!(%error, "a TLS handshake failed"),
                Err(_) => tracing::debug!("a TLS handshake took too long"),
            }
        }
        (Some(_), _) => Box::pin(converse(stream, handler, limits, stop)).await,
    }
}

async fn converse<S, H, F, B>(stream: S, handler: H, limits: Limits, stop: CancellationToken)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    H: Fn(Request<Incoming>) -> F + Send + Sync + 'static,
    F: Future<Output = Response<B>> + Send + 'static,
    B: Body<Data: Send, Error: Into<Box<dyn StdError + Send + Sync>>> + Send + 'static,
{
    let service = service_fn(move |request| {
        let answer = handler(request);
        async move { Ok::<_, Infallible>(answer.await) }
    });
    let mut connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.head_timeout)
        .max_buf_size(limits.buffer)
        // Whoever says that no more requests come still hears the answers to those that came.
        .half_close(true)
        .serve_connection(TokioIo::new(Stream::new(stream, limits.write_timeout)), service);
    // The token has one lock for all connections: it must not be asked at every step of each, only when it wakes one.
    let mut stopping = FuturesUnordered::from_iter([stop.cancelled()]);
    let served = tokio::select! {
        biased;
        served = &mut connection => served,
        Some(()) = stopping.next() => {
            std::pin::Pin::new(&mut connection).graceful_shutdown();
            (&mut connection).await
        }
    };
    if let Err(error) = served {
        tracing::debug!(%error, "a connection broke");
    }
    if !stop.is_cancelled() {
        linger(connection.into_parts().io.into_inner().into_inner()).await;
    }
}

/// Waits for the first byte. Until it comes, a connection costs none of the buffers that HTTP takes at once, some 20 KiB.
async fn speaks(stream: &TcpStream, patience: Duration, stop: &CancellationToken) -> Option<u8> {
    let mut first = [0];
    tokio::select! {
        seen = tokio::time::timeout(patience, stream.peek(&mut first)) => {
            matches!(seen, Ok(Ok(1))).then_some(first[0])
        }
        () = stop.cancelled() => None,
    }
}

/// Reads what the client is still sending. Closed with input unread, the connection would be reset, and the client might
/// never see the answer that says why.
async fn linger(mut stream: impl AsyncRead + AsyncWrite + Unpin) {
    if stream.shutdown().await.is_ok() {
        let (mut rest, mut nowhere) = (stream.take(LINGER_BYTES), tokio::io::sink());
        let discard = tokio::io::copy(&mut rest, &mut nowhere);
        drop(tokio::time::timeout(LINGER, discard).await);
    }
}
