//! The load generator: connections that each have one request under way, closed loop or open loop.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::Context;
use bytes::Bytes;
use futures_util::future::try_join_all;
use hdrhistogram::Histogram;
use http_body_util::{BodyExt, Full};
use hyper::Request;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::time::Instant;

use crate::oracle::{Oracle, payload};

/// How requests are paced.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Pace {
    /// The next request of a connection follows its last answer.
    Closed,
    /// So many requests a second over all connections, whether or not answers come; latency counts from the moment a
    /// request was due, so that a stall is charged to every request it delays.
    Open(f64),
}

/// When a load ends.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Until {
    /// After this time.
    Elapsed(Duration),
    /// After so many requests.
    Count(u64),
}

/// A load to apply.
#[derive(Clone, Debug)]
pub(crate) struct Load {
    /// `host:port` of the server.
    pub(crate) address: String,
    /// Path posted to.
    pub(crate) path: String,
    /// Connections.
    pub(crate) connections: usize,
    /// Payload bytes.
    pub(crate) size: usize,
    /// Pace.
    pub(crate) pace: Pace,
    /// End.
    pub(crate) until: Until,
    /// `type` of event `id`.
    pub(crate) ty: fn(u64) -> String,
}

/// What a load saw.
#[derive(Debug)]
pub(crate) struct Seen {
    /// Requests answered 202 a second.
    pub(crate) rate: f64,
    /// Requests answered 202.
    pub(crate) accepted: u64,
    /// Requests answered otherwise, or not at all.
    pub(crate) refused: u64,
    /// Microseconds from due to answer.
    pub(crate) latency: Histogram<u64>,
}

impl Seen {
    /// A quantile of the latency.
    #[must_use]
    pub(crate) fn quantile(&self, q: f64) -> Duration {
        Duration::from_micros(self.latency.value_at_quantile(q))
    }
}

/// The ids handed out so far; shared between loads that follow each other, so that ids never repeat.
#[derive(Debug, Default)]
pub(crate) struct Ids(AtomicU64);

impl Ids {
    /// How many were handed out.
    #[must_use]
    pub(crate) fn sent(&self) -> u64 {
        self.0.load(Ordering::SeqCst)
    }

    fn next(&self) -> u64 {
        self.0.fetch_add(1, Ordering::SeqCst)
    }
}

/// One connection's share of the result.
struct Share {
    accepted: u64,
    refused: u64,
    latency: Histogram<u64>,
}

impl Load {
    /// Applies the load; connections that break are opened again.
    ///
    /// # Errors
    /// When the server cannot be reached at the start.
    pub(crate) async fn run(&self, ids: &Arc<Ids>, oracle: &Arc<Oracle>) -> anyhow::Result<Seen> {
        connect(&self.address).await.with_context(|| format!("connect to {}", self.address))?;
        let first = ids.sent();
        let start = Instant::now();
        let shares = (0..self.connections).map(|index| {
            let worker = Worker {
                load: self.clone(),
                ids: ids.clone(),
                oracle: oracle.clone(),
                first,
                start,
                index,
            };
            tokio::task::spawn(worker.run())
        });
        let shares = try_join_all(shares).await.context("a connection's task failed")?;
        let elapsed = start.elapsed().as_secs_f64();
        let mut seen = Seen { rate: 0.0, accepted: 0, refused: 0, latency: histogram() };
        for share in shares {
            seen.accepted += share.accepted;
            seen.refused += share.refused;
            seen.latency.add(&share.latency).context("merge histograms")?;
        }
        #[expect(clippy::cast_precision_loss, reason = "a rate for people")]
        {
            seen.rate = seen.accepted as f64 / elapsed;
        }
        Ok(seen)
    }
}

fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, 600_000_000, 3).expect("bounds are valid")
}

async fn connect(address: &str) -> anyhow::Result<SendRequest<Full<Bytes>>> {
    let stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    let (sender, connection) = handshake(TokioIo::new(stream)).await?;
    tokio::task::spawn(connection);
    Ok(sender)
}

struct Worker {
    load: Load,
    ids: Arc<Ids>,
    oracle: Arc<Oracle>,
    first: u64,
    start: Instant,
    index: usize,
}

impl Worker {
    async fn run(self) -> Share {
        let mut share = Share { accepted: 0, refused: 0, latency: histogram() };
        let mut sender = None;
        let mut turn = 0_u32;
        while let Some(due) = self.due(turn).await {
            turn = turn.saturating_add(1);
            let id = self.ids.next();
            if let Until::Count(count) = self.load.until
                && id.saturating_sub(self.first) >= count
            {
                break;
            }
            let status = self.post(&mut sender, id).await;
            if status == Some(202) {
                self.oracle.accepted(id);
                share.accepted += 1;
                let took = u64::try_from(due.elapsed().as_micros()).unwrap_or(u64::MAX);
                share.latency.saturating_record(took.max(1));
            } else {
                share.refused += 1;
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        }
        share
    }

    /// Waits for this connection's next turn and says when it was due; `None` when the time is up.
    async fn due(&self, turn: u32) -> Option<Instant> {
        let due = match self.load.pace {
            Pace::Closed => Instant::now(),
            Pace::Open(rate) => {
                let connections = u32::try_from(self.load.connections).unwrap_or(1);
                let between = Duration::from_secs_f64(f64::from(connections) / rate);
                let offset = u32::try_from(self.index).unwrap_or(0);
                let due = self.start + between * turn + between * offset / connections;
                tokio::time::sleep_until(due).await;
                due
            }
        };
        match self.load.until {
            Until::Elapsed(span) if due.duration_since(self.start) >= span => None,
            _ => Some(due),
        }
    }

    async fn post(&self, sender: &mut Option<SendRequest<Full<Bytes>>>, id: u64) -> Option<u16> {
        if sender.as_ref().is_none_or(SendRequest::is_closed) {
            *sender = connect(&self.load.address).await.ok();
        }
        let connection = sender.as_mut()?;
        let request = Request::post(self.load.path.as_str())
            .header("host", self.load.address.as_str())
            .header("ce-specversion", "1.0")
            .header("ce-type", (self.load.ty)(id))
            .header("ce-source", "/bench")
            .header("ce-id", id.to_string())
            .header("content-type", "application/json")
            .body(Full::new(payload(id, self.load.size)))
            .ok()?;
        let answer = async {
            connection.ready().await?;
            let response = connection.send_request(request).await?;
            let status = response.status().as_u16();
            response.into_body().collect().await?;
            Ok::<u16, hyper::Error>(status)
        };
        match answer.await {
            Ok(status) => Some(status),
            Err(_) => {
                *sender = None;
                None
            }
        }
    }
}
