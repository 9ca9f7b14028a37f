//! The load generator: connections that each have one request under way, closed loop or open loop.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::Context;
use bytes::Bytes;
use futures_util::future::try_join_all;
use hdrhistogram::Histogram;
use hmac::{Hmac, Mac};
use http_body_util::{BodyExt, Full};
use hyper::Request;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use sha2::Sha256;
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::time::Instant;

use crate::oracle::{Oracle, payload};

/// How requests are paced.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Pace {
    /// The next request of a connection follows its last answer.
    Closed,
    /// So many requests a second, whether or not answers come; a free connection takes the next. Latency counts from the
    /// moment a request was due, so that a stall is charged to every request it delays.
    Open(f64),
}

/// How often the requests that have become due are handed to the connections: finer than the millisecond that tokio's timers
/// resolve, which would otherwise be charged to the server, and coarse enough to cost the machine little.
const TICK: Duration = Duration::from_micros(200);

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
    /// What is sent.
    pub(crate) what: What,
}

/// What a load sends.
#[derive(Clone, Copy, Debug)]
pub(crate) enum What {
    /// Events.
    Events,
    /// Events with a signature that nobody asks for: a sender of web hooks signs them too, so that this compares the receivers.
    SignedEvents(&'static str),
    /// Web hooks, signed with this as GitHub signs them.
    Hooks(&'static str),
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

    /// Counts ids that were sent in another way.
    pub(crate) fn skip(&self, count: u64) {
        self.0.fetch_add(count, Ordering::SeqCst);
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
        let schedule = match self.pace {
            Pace::Closed => None,
            Pace::Open(rate) => Some(Schedule::run(start, rate, self.until)),
        };
        let shares = (0..self.connections).map(|_| {
            let worker = Worker {
                load: self.clone(),
                ids: ids.clone(),
                oracle: oracle.clone(),
                first,
                start,
                schedule: schedule.clone(),
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

/// Hands out the requests of an open loop as they become due.
#[derive(Debug)]
struct Schedule {
    start: Instant,
    rate: f64,
    /// A permit for each request that is due and not yet taken.
    due: Semaphore,
    taken: AtomicU64,
}

impl Schedule {
    /// Starts handing out requests, until the load is over.
    fn run(start: Instant, rate: f64, until: Until) -> Arc<Self> {
        let due = Semaphore::new(0);
        let schedule = Arc::new(Self { start, rate, due, taken: AtomicU64::new(0) });
        let pacer = Arc::clone(&schedule);
        // A thread of its own: it sleeps finer than tokio does. It ends with the load, which has an end.
        std::thread::spawn(move || pacer.pace(until));
        schedule
    }

    fn pace(&self, until: Until) {
        let mut given = 0;
        while !self.due.is_closed() {
            let elapsed = self.start.elapsed();
            let wanted = match until {
                Until::Elapsed(span) => self.count(elapsed.min(span)),
                Until::Count(count) => self.count(elapsed).min(count),
            };
            self.due.add_permits(usize::try_from(wanted.saturating_sub(given)).unwrap_or_default());
            given = given.max(wanted);
            let over = match until {
                Until::Elapsed(span) => elapsed >= span,
                Until::Count(count) => given >= count,
            };
            // What is due is still taken: closing at once would drop it.
            if over && self.taken.load(Ordering::SeqCst) >= given {
                self.due.close();
            }
            std::thread::sleep(TICK);
        }
    }

    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a rate times seconds of a load fits"
    )]
    fn count(&self, elapsed: Duration) -> u64 {
        (elapsed.as_secs_f64() * self.rate) as u64
    }

    /// Waits for the next request and says when it was due; `None` when there are no more.
    async fn next(&self) -> Option<Instant> {
        self.due.acquire().await.ok()?.forget();
        let number = self.taken.fetch_add(1, Ordering::SeqCst);
        #[expect(clippy::cast_precision_loss, reason = "a load has fewer requests than 2^53")]
        let after = Duration::from_secs_f64((number + 1) as f64 / self.rate);
        Some(self.start + after)
    }
}

struct Worker {
    load: Load,
    ids: Arc<Ids>,
    oracle: Arc<Oracle>,
    first: u64,
    start: Instant,
    /// Of an open loop.
    schedule: Option<Arc<Schedule>>,
}

impl Worker {
    async fn run(self) -> Share {
        let mut share = Share { accepted: 0, refused: 0, latency: histogram() };
        let mut sender = None;
        while let Some(due) = self.due().await {
            let id = self.ids.next();
            if let Until::Count(count) = self.load.until
                && id.saturating_sub(self.first) >= count
            {
                break;
            }
            self.oracle.sending(id);
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

    /// Waits for this connection's next request and says when it was due; `None` when there are no more.
    async fn due(&self) -> Option<Instant> {
        if let Some(schedule) = &self.schedule {
            return schedule.next().await;
        }
        let now = Instant::now();
        match self.load.until {
            Until::Elapsed(span) if now.duration_since(self.start) >= span => None,
            _ => Some(now),
        }
    }

    async fn post(&self, sender: &mut Option<SendRequest<Full<Bytes>>>, id: u64) -> Option<u16> {
        if sender.as_ref().is_none_or(SendRequest::is_closed) {
            *sender = connect(&self.load.address).await.ok();
        }
        let connection = sender.as_mut()?;
        let body = payload(id, self.load.size);
        let request = Request::post(self.load.path.as_str())
            .header("host", self.load.address.as_str())
            .header("content-type", "application/json");
        let request = match self.load.what {
            What::Hooks(_) => {
                request.header("x-github-event", "push").header("x-github-delivery", id.to_string())
            }
            What::Events | What::SignedEvents(_) => request
                .header("ce-specversion", "1.0")
                .header("ce-type", (self.load.ty)(id))
                .header("ce-source", "/bench")
                .header("ce-id", id.to_string()),
        };
        let request = match self.load.what {
            What::Events => request,
            What::SignedEvents(secret) | What::Hooks(secret) => {
                request.header("x-hub-signature-256", signature(secret, &body))
            }
        };
        let request = request.body(Full::new(body)).ok()?;
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

/// As GitHub signs a delivery.
fn signature(secret: &str, body: &[u8]) -> String {
    let mut mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).expect("any key will do");
    mac.update(body);
    let hex: String =
        mac.finalize().into_bytes().iter().map(|byte| format!("{byte:02x}")).collect();
    format!("sha256={hex}")
}
