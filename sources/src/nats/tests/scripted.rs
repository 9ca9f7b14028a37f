//! A NATS server that does what a test says. Every wait has a deadline.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

use crate::source::SourceError;

/// Longer than anything here takes, the wait for a server that stays away included.
const DEADLINE: Duration = Duration::from_secs(20);

/// Where a client finds it.
pub(super) struct Server {
    listener: TcpListener,
    starts: AtomicU32,
    version: &'static str,
}

/// One connection.
pub(super) struct Peer {
    input: BufReader<OwnedReadHalf>,
    output: OwnedWriteHalf,
    subscriptions: Vec<Subscription>,
    /// What was published and not looked at yet, but for what acknowledges.
    published: VecDeque<Published>,
    /// What was told of messages and not looked at yet.
    told: VecDeque<(u64, String)>,
    last: Published,
}

struct Subscription {
    subject: String,
    queue: String,
    sid: String,
}

#[derive(Clone, Debug, Default)]
struct Published {
    subject: String,
    reply: String,
    payload: Value,
}

/// Runs a source and the script beside it.
pub(super) fn play<T>(
    source: impl Future<Output = Result<(), SourceError>>,
    script: impl Future<Output = T>,
) -> impl Future<Output = (Result<(), SourceError>, T)> {
    let (source, script) = (Box::pin(source), Box::pin(script));
    let both = async { tokio::join!(source, script) };
    async { timeout(DEADLINE, both).await.expect("the source and the script end") }
}

/// What JetStream says of the consumer of the source `default/one`.
pub(super) fn info() -> Value {
    let none = json!({ "consumer_seq": 0, "stream_seq": 0 });
    json!({
        "stream_name": "ORDERS",
        "name": "weft_default_one",
        "created": "2026-01-01T00:00:00Z",
        "config": {
            "durable_name": "weft_default_one",
            "deliver_policy": "all",
            "ack_policy": "explicit",
            "ack_wait": 1_000_000_000_u64,
            "replay_policy": "instant",
            "max_ack_pending": 1000,
            "filter_subject": "orders.new",
        },
        "delivered": none,
        "ack_floor": none,
        "num_ack_pending": 0,
        "num_redelivered": 0,
        "num_waiting": 0,
        "num_pending": 0,
    })
}

impl Server {
    pub(super) async fn start() -> Self {
        Self::of("2.10.0").await
    }

    /// One of a version.
    pub(super) async fn of(version: &'static str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        Self { listener, starts: AtomicU32::new(1), version }
    }

    pub(super) fn address(&self) -> String {
        self.listener.local_addr().unwrap().to_string()
    }

    /// From now on it is another server process.
    pub(super) fn restart(&self) {
        self.starts.fetch_add(1, Ordering::Relaxed);
    }

    /// The next client, greeted.
    pub(super) async fn accept(&self) -> Peer {
        let mut peer = self.meet().await;
        peer.write("PONG\r\n").await;
        peer
    }

    /// The next client is turned away.
    pub(super) async fn refuse(&self, why: &str) {
        let mut peer = self.meet().await;
        peer.complain(why).await;
    }

    async fn meet(&self) -> Peer {
        let (stream, _): (TcpStream, _) = self.listener.accept().await.unwrap();
        let (input, output) = stream.into_split();
        let mut peer = Peer {
            input: BufReader::new(input),
            output,
            subscriptions: Vec::new(),
            published: VecDeque::new(),
            told: VecDeque::new(),
            last: Published::default(),
        };
        let info = json!({
            "server_id": format!("S{}", self.starts.load(Ordering::Relaxed)),
            "version": self.version,
            "headers": true,
            "max_payload": 1 << 20,
            "jetstream": true,
        });
        peer.write(&format!("INFO {info}\r\n")).await;
        assert!(peer.line().await.starts_with("CONNECT "));
        assert_eq!(peer.line().await, "PING");
        peer
    }
}

impl Peer {
    async fn write(&mut self, text: &str) {
        self.output.write_all(text.as_bytes()).await.unwrap();
    }

    async fn line(&mut self) -> String {
        let mut line = String::new();
        let read = timeout(DEADLINE, self.input.read_line(&mut line))
            .await
            .expect("the client says something");
        assert_ne!(read.unwrap(), 0, "the client closed the connection");
        line.trim_end().to_owned()
    }

    /// Reads one operation of the client.
    async fn read(&mut self) {
        let line = self.line().await;
        let words: Vec<&str> = line.split(' ').collect();
        match words[..] {
            ["PING"] => self.write("PONG\r\n").await,
            ["PONG"] | ["UNSUB", ..] => {}
            ["SUB", subject, sid] => self.subscribe(subject, "", sid),
            ["SUB", subject, queue, sid] => self.subscribe(subject, queue, sid),
            ["PUB", subject, length] => self.take(subject.to_owned(), "", length).await,
            ["PUB", subject, reply, length] => self.take(subject.to_owned(), reply, length).await,
            _ => panic!("{line}"),
        }
    }

    fn subscribe(&mut self, subject: &str, queue: &str, sid: &str) {
        let (subject, queue, sid) = (subject.to_owned(), queue.to_owned(), sid.to_owned());
        self.subscriptions.push(Subscription { subject, queue, sid });
    }

    async fn take(&mut self, subject: String, reply: &str, length: &str) {
        let mut payload = vec![0; length.parse::<usize>().unwrap() + 2];
        self.input.read_exact(&mut payload).await.unwrap();
        let payload = String::from_utf8(payload).unwrap();
        let payload = payload.trim_end();
        if let Some(of) = subject.strip_prefix("$JS.ACK.ORDERS.weft_default_one.") {
            let sequence = of.split('.').nth(1).unwrap().parse().unwrap();
            self.told.push_back((sequence, payload.to_owned()));
            return;
        }
        let payload = serde_json::from_str(payload).unwrap_or_default();
        self.published.push_back(Published { subject, reply: reply.to_owned(), payload });
    }

    /// Whether the client listens to a subject in a queue group.
    pub(super) fn subscribed(&self, subject: &str, queue: &str) -> bool {
        self.subscriptions.iter().any(|have| have.subject == subject && have.queue == queue)
    }

    /// What is said next of a message: its sequence and what becomes of it.
    pub(super) async fn told(&mut self) -> (u64, String) {
        loop {
            if let Some(told) = self.told.pop_front() {
                return told;
            }
            self.read().await;
        }
    }

    /// What is published next, which must begin so: where an answer goes, and what was said.
    pub(super) async fn published_next(&mut self, prefix: &str) -> (String, Value) {
        loop {
            if let Some(published) = self.published.pop_front() {
                assert!(published.subject.starts_with(prefix), "{published:?}");
                self.last = published.clone();
                return (published.reply, published.payload);
            }
            self.read().await;
        }
    }

    /// The next that is published under a subject that begins so.
    pub(super) async fn published(&mut self, prefix: &str) -> (String, Value) {
        loop {
            let (reply, payload) = self.published_next("").await;
            if self.last.subject.starts_with(prefix) {
                return (reply, payload);
            }
        }
    }

    /// The subject that was published last.
    pub(super) fn last(&self) -> &str {
        &self.last.subject
    }

    /// Answers what is published next, which must begin so.
    pub(super) async fn answer(&mut self, prefix: &str, answer: &Value) -> Value {
        self.published_next(prefix).await;
        self.answer_last(answer).await
    }

    /// Answers what was published last.
    pub(super) async fn answer_last(&mut self, answer: &Value) -> Value {
        let Published { reply, payload: asked, .. } = self.last.clone();
        let (sid, text) = (self.sid(&reply), answer.to_string());
        self.write(&format!("MSG {reply} {sid} {}\r\n{text}\r\n", text.len())).await;
        asked
    }

    /// Says that nobody listens to what was published last.
    pub(super) async fn no_responders(&mut self) {
        let reply = self.last.reply.clone();
        self.status(&reply, "503").await;
    }

    /// Delivers a message of the stream.
    pub(super) async fn deliver(&mut self, inbox: &str, sequence: u64, times: u64, payload: &str) {
        self.deliver_as(inbox, (sequence, sequence), times, payload).await;
    }

    /// Delivers a message of the stream, as the consumer's delivery of that number.
    pub(super) async fn deliver_as(
        &mut self,
        inbox: &str,
        (sequence, delivery): (u64, u64),
        times: u64,
        payload: &str,
    ) {
        let reply = format!(
            "$JS.ACK.ORDERS.weft_default_one.{times}.{sequence}.{delivery}.1790230470084404000.0"
        );
        let (sid, length) = (self.sid(inbox), payload.len());
        self.write(&format!("MSG orders.new {sid} {reply} {length}\r\n{payload}\r\n")).await;
    }

    /// Delivers a message of the stream with headers as they are.
    pub(super) async fn deliver_raw(&mut self, inbox: &str, sequence: u64, headers: &[u8]) {
        let reply = format!(
            "$JS.ACK.ORDERS.weft_default_one.1.{sequence}.{sequence}.1790230470084404000.0"
        );
        let (sid, length) = (self.sid(inbox), headers.len());
        self.write(&format!("HMSG orders.new {sid} {reply} {length} {length}\r\n")).await;
        self.output.write_all(headers).await.unwrap();
        self.write("\r\n").await;
    }

    /// Delivers a message of a subject to whom that subscription is.
    pub(super) async fn send(&mut self, subscription: &str, subject: &str, payload: &str) {
        let sid = self.sid(subscription);
        self.write(&format!("MSG {subject} {sid} {}\r\n{payload}\r\n", payload.len())).await;
    }

    /// Says what becomes of a request.
    pub(super) async fn status(&mut self, inbox: &str, status: &str) {
        let headers = format!("NATS/1.0 {status}\r\n\r\n");
        let (sid, length) = (self.sid(inbox), headers.len());
        self.write(&format!("HMSG {inbox} {sid} {length} {length}\r\n{headers}\r\n")).await;
    }

    /// Complains.
    pub(super) async fn complain(&mut self, why: &str) {
        self.write(&format!("-ERR '{why}'\r\n")).await;
    }

    fn sid(&self, subject: &str) -> String {
        let is_of = |have: &&Subscription| {
            let several = have.subject.strip_suffix('*');
            have.subject == subject || several.is_some_and(|prefix| subject.starts_with(prefix))
        };
        self.subscriptions.iter().find(is_of).expect("a subscription").sid.clone()
    }
}
