//! Connections that want more than their share, against limits small enough to wait for.

use bytes::Bytes;
use http_body_util::Full;
use std::future::pending;
use std::net::SocketAddr;

use http_body_util::BodyExt;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::{PrivateKeyDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, RootCertStore, ServerConfig};

use super::*;

/// Longer than any limit here; a test that waits so long has failed.
const PATIENCE: Duration = Duration::from_secs(20);

const SHORT: Duration = Duration::from_millis(50);

const LIMITS: Limits = Limits {
    connections: 100,
    head_timeout: PATIENCE,
    write_timeout: PATIENCE,
    buffer: 16 << 10,
    drain: PATIENCE,
};

/// A server that answers with the path and the length of the body: never under `/hang`, late under `/late`, much under
/// `/much`.
struct Server {
    address: SocketAddr,
    stop: CancellationToken,
    running: JoinSet<()>,
}

impl Server {
    async fn start(limits: Limits) -> Self {
        Self::start_with(None, limits).await
    }

    async fn start_with(tls: Option<TlsAcceptor>, limits: Limits) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (address, stop) = (listener.local_addr().unwrap(), CancellationToken::new());
        let mut running = JoinSet::new();
        running.spawn(serve(listener, tls, answer, limits, stop.clone()));
        Self { address, stop, running }
    }

    async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.unwrap()
    }

    async fn sent(&self, request: &[u8]) -> TcpStream {
        let mut stream = self.connect().await;
        stream.write_all(request).await.unwrap();
        stream
    }

    /// Waits until the server is done.
    async fn ended(mut self) {
        let ended = timeout(PATIENCE, self.running.join_next()).await;
        ended.expect("it ends").unwrap().unwrap();
    }
}

async fn answer(request: Request<Incoming>) -> Response<Full<Bytes>> {
    let path = request.uri().path().to_owned();
    if path == "/hang" {
        return pending().await;
    }
    if path == "/late" {
        tokio::time::sleep(SHORT).await;
    }
    let length = request.into_body().collect().await.map_or(0, |body| body.to_bytes().len());
    let much = if path == "/much" { 1 << 20 } else { 0 };
    Response::new(Full::from(format!("{path} {length}\n{}", "x".repeat(much))))
}

/// All that comes until the server closes.
async fn heard(stream: &mut TcpStream) -> String {
    let mut bytes = Vec::new();
    // A reset is an end like another here; what was heard before it counts.
    drop(timeout(PATIENCE, stream.read_to_end(&mut bytes)).await.expect("it is closed"));
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Reads until `text` has come; the connection stays open.
async fn hears(stream: &mut TcpStream, text: &str) {
    let mut bytes = Vec::new();
    while !String::from_utf8_lossy(&bytes).contains(text) {
        let read =
            timeout(PATIENCE, stream.read_buf(&mut bytes)).await.expect("an answer").unwrap();
        assert_ne!(read, 0, "closed before {text:?}");
    }
}

/// Both ends of TLS with a certificate for `localhost`.
fn tls() -> (TlsAcceptor, TlsConnector) {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let certificate = made.cert.der().clone();
    let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
    let server = ServerConfig::builder()
        .with_no_client_auth()
        .with_single_cert(vec![certificate.clone()], key)
        .unwrap();
    let mut roots = RootCertStore::empty();
    roots.add(certificate).unwrap();
    let client = ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
    (TlsAcceptor::from(Arc::new(server)), TlsConnector::from(Arc::new(client)))
}

const GET: &[u8] = b"GET /a HTTP/1.1\r\nHost: x\r\n\r\n";

#[tokio::test]
async fn a_head_that_does_not_end_is_cut_off_and_others_are_served_meanwhile() {
    let server = Server::start(Limits { head_timeout: SHORT, ..LIMITS }).await;
    let mut slow = server.sent(b"GET /a HTTP/1.1\r\nHost: x\r\nSlow").await;
    let mut other = server.sent(GET).await;
    hears(&mut other, "/a 0").await;
    assert_eq!(heard(&mut slow).await, "");
}

#[tokio::test]
async fn one_port_speaks_tls_and_plain_http() {
    let (acceptor, connector) = tls();
    let server = Server::start_with(Some(acceptor), LIMITS).await;
    let mut plain = server.sent(GET).await;
    hears(&mut plain, "/a 0").await;
    let name = ServerName::try_from("localhost").unwrap();
    let mut secure = connector.connect(name, server.connect().await).await.unwrap();
    secure.write_all(GET).await.unwrap();
    secure.write_all(b"GET /b HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await.unwrap();
    let mut bytes = Vec::new();
    secure.read_to_end(&mut bytes).await.expect("closed with a goodbye");
    let heard = String::from_utf8_lossy(&bytes);
    assert!(heard.contains("/a 0") && heard.contains("/b 0"), "{heard}");
}

#[tokio::test]
async fn a_tls_handshake_that_does_not_end_is_cut_off() {
    let (acceptor, _) = tls();
    let limits = Limits { head_timeout: SHORT, ..LIMITS };
    let server = Server::start_with(Some(acceptor), limits).await;
    let mut slow = server.sent(&[TLS_HANDSHAKE, 3, 1]).await;
    assert_eq!(heard(&mut slow).await, "");
}

#[tokio::test]
async fn a_connection_that_stays_idle_is_closed() {
    let server = Server::start(Limits { head_timeout: SHORT, ..LIMITS }).await;
    let (mut silent, mut used) = (server.connect().await, server.sent(GET).await);
    assert_eq!(heard(&mut silent).await, "");
    assert_eq!(heard(&mut used).await.matches("HTTP/1.1 200").count(), 1);
}

#[tokio::test]
async fn connections_beyond_the_limit_are_served_when_others_end() {
    let server = Server::start(Limits { connections: 1, ..LIMITS }).await;
    let mut first = server.sent(GET).await;
    hears(&mut first, "/a 0").await;
    let mut second = server.sent(GET).await;
    let early = timeout(SHORT, second.read_u8()).await;
    assert!(early.is_err(), "it waits: {early:?}");
    drop(first);
    hears(&mut second, "/a 0").await;
}

#[tokio::test]
#[cfg_attr(not(target_os = "linux"), ignore = "others allow no longer queues unless told")]
async fn a_burst_of_connections_finds_room_in_the_queue() {
    let server = Server::start(Limits { connections: 1, ..LIMITS }).await;
    let mut first = server.sent(GET).await;
    hears(&mut first, "/a 0").await;
    let mut burst = Vec::new();
    for _ in 0..200 {
        let connected = timeout(Duration::from_millis(500), server.connect()).await;
        burst.push(connected.expect("nobody is turned away to try again a second later"));
    }
}

#[tokio::test]
async fn idle_connections_do_not_keep_others_out() {
    let server = Server::start(Limits { connections: 2, head_timeout: SHORT, ..LIMITS }).await;
    let _idle = (server.connect().await, server.connect().await);
    let mut other = server.sent(GET).await;
    hears(&mut other, "/a 0").await;
}

#[tokio::test]
async fn a_client_that_does_not_read_its_answers_is_given_up() {
    let limits = Limits { connections: 1, write_timeout: SHORT, ..LIMITS };
    let server = Server::start(limits).await;
    let deaf = server.sent(&b"GET /much HTTP/1.1\r\nHost: x\r\n\r\n".repeat(100)).await;
    let mut other = server.sent(GET).await;
    hears(&mut other, "/a 0").await;
    drop(deaf);
}

#[tokio::test]
async fn a_client_that_half_closes_hears_the_answer() {
    let server = Server::start(LIMITS).await;
    let mut stream =
        server.sent(b"POST /late HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\nhi").await;
    stream.shutdown().await.unwrap();
    assert!(heard(&mut stream).await.contains("/late 2"));
}

#[tokio::test]
async fn a_sender_that_is_refused_early_may_finish_and_hears_why() {
    let server = Server::start(LIMITS).await;
    let mut stream = server.sent(b"GET /a HTTP/1.1\r\nHost: x\r\nLarge: ").await;
    let sent = timeout(PATIENCE, stream.write_all(&[b'x'; 4 << 20])).await.expect("it goes on");
    sent.expect("no reset");
    let mut answer = String::new();
    let read = timeout(PATIENCE, stream.read_to_string(&mut answer)).await.expect("it is closed");
    read.expect("no reset");
    assert!(answer.starts_with("HTTP/1.1 431 "), "{answer}");
}

#[tokio::test]
async fn stopping_closes_what_is_idle_and_finishes_what_is_under_way() {
    let server = Server::start(LIMITS).await;
    let (mut silent, mut idle) = (server.connect().await, server.sent(GET).await);
    hears(&mut idle, "/a 0").await;
    let busy = b"POST /b HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n";
    let mut busy = server.sent(busy).await;
    hears(&mut busy, "100 Continue").await;
    server.stop.cancel();
    assert_eq!(heard(&mut idle).await, "");
    assert_eq!(heard(&mut silent).await, "");
    assert!(TcpStream::connect(server.address).await.is_err(), "nobody new is let in");
    busy.write_all(b"hi").await.unwrap();
    assert!(heard(&mut busy).await.contains("/b 2"));
    server.ended().await;
}

#[tokio::test]
async fn what_does_not_end_is_cut_off_when_stopping() {
    let server = Server::start(Limits { drain: SHORT, ..LIMITS }).await;
    let mut stuck = server.sent(b"GET /hang HTTP/1.1\r\nHost: x\r\n\r\n").await;
    let mut other = server.sent(GET).await;
    hears(&mut other, "/a 0").await;
    server.stop.cancel();
    assert_eq!(heard(&mut stuck).await, "");
    server.ended().await;
}
