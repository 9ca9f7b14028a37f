//! Promise 4, at the door: whoever speaks slowly, endlessly or crookedly harms no other sender, and hears a clear answer.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::harness::eventually::PATIENCE;
use crate::harness::mesh::{BROKER, Mesh, trigger};
use crate::harness::subscriber::Subscriber;

/// Connections of the crowd; a process may open more, if not by default everywhere.
const CROWD: usize = 2_000;

/// `EMFILE`, everywhere.
const TOO_MANY_OPEN_FILES: i32 = 24;

async fn connect(mesh: &Mesh) -> std::io::Result<TcpStream> {
    TcpStream::connect(mesh.events.trim_start_matches("http://")).await
}

async fn say(mesh: &Mesh, bytes: &[u8]) -> TcpStream {
    let mut stream = connect(mesh).await.expect("a connection");
    stream.write_all(bytes).await.expect("sent");
    stream
}

/// Everything the mesh answers to `bytes` until it closes the connection, which it must.
async fn hear(mesh: &Mesh, bytes: &[u8]) -> String {
    let mut stream = say(mesh, bytes).await;
    let mut answer = Vec::new();
    let closed = timeout(PATIENCE, stream.read_to_end(&mut answer)).await;
    let answer = String::from_utf8_lossy(&answer).into_owned();
    assert!(closed.is_ok(), "left open after {answer:?}");
    answer
}

/// The status of the one answer there must be.
fn status(answer: &str) -> u16 {
    assert_eq!(answer.matches("HTTP/1.").count(), 1, "one answer: {answer:?}");
    answer.get(9..12).and_then(|code| code.parse().ok()).expect("a status")
}

/// An event's request from its line to its body, with `fields` among its headers.
fn post(line: &str, fields: &str, id: &str, body: &str) -> String {
    format!(
        "{line}\r\nHost: x\r\nce-specversion: 1.0\r\nce-type: t\r\nce-source: /s\r\nce-id: {id}\r\n{fields}\r\n{body}"
    )
}

const LINE: &str = "POST /default/default HTTP/1.1";

async fn mesh_with_subscriber() -> (Mesh, Subscriber) {
    let subscriber = Subscriber::start().await;
    let mesh = Mesh::start(&format!("{BROKER}{}", trigger("t", &subscriber.url, "", &[]))).await;
    (mesh, subscriber)
}

#[tokio::test(flavor = "multi_thread")]
async fn slow_heads_and_slow_bodies_hold_up_no_other_sender() {
    let (mesh, subscriber) = mesh_with_subscriber().await;
    let head = format!("{LINE}\r\nHost: x\r\nce-");
    let body = post(LINE, "Content-Length: 100\r\n", "slow", "{");
    let mut slow = Vec::new();
    for _ in 0..150 {
        slow.push(say(&mesh, head.as_bytes()).await);
        slow.push(say(&mesh, body.as_bytes()).await);
    }
    for id in 0..20 {
        mesh.send("a", &id.to_string()).await;
    }
    assert!(subscriber.wait(20).await.iter().all(|got| got.id() != "slow"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crowd_of_idle_connections_keeps_nobody_out() {
    let (mesh, subscriber) = mesh_with_subscriber().await;
    let mut idle = Vec::with_capacity(CROWD);
    while idle.len() < CROWD {
        match connect(&mesh).await {
            Ok(stream) => idle.push(stream),
            Err(error) if error.raw_os_error() == Some(TOO_MANY_OPEN_FILES) => {
                idle.truncate(idle.len() - 50); // the test itself needs some
                break;
            }
            Err(error) => panic!("after {} connections: {error}", idle.len()),
        }
    }
    for id in 0..20 {
        mesh.send("a", &id.to_string()).await;
    }
    subscriber.wait(20).await;
    let last = idle.last_mut().expect("a crowd");
    let event = post(LINE, "Content-Length: 2\r\nConnection: close\r\n", "late", "{}");
    last.write_all(event.as_bytes()).await.expect("sent");
    let mut answer = String::new();
    timeout(PATIENCE, last.read_to_string(&mut answer)).await.expect("an answer").expect("text");
    assert_eq!(status(&answer), 202, "one of the crowd is served like everybody");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_endless_body_ends_with_413_and_the_connection() {
    let mesh = Mesh::start_with(BROKER, &["--max-event-bytes", "100000"]).await;
    let head = post(LINE, "Transfer-Encoding: chunked\r\n", "endless", "");
    let mut stream = say(&mesh, head.as_bytes()).await;
    let (mut hears, mut says) = stream.split();
    let chunk = format!("1000\r\n{}\r\n", "x".repeat(0x1000));
    let endless = async { while says.write_all(chunk.as_bytes()).await.is_ok() {} };
    let mut answer = Vec::new();
    let listen = async { hears.read_to_end(&mut answer).await };
    timeout(PATIENCE, async { tokio::join!(endless, listen) }).await.expect("it is closed").1.ok();
    let answer = String::from_utf8_lossy(&answer);
    assert_eq!(status(&answer), 413);
    assert!(answer.contains("100000 bytes"), "{answer}");
    mesh.send("a", "1").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_large_body_that_is_announced_is_refused_before_it_is_sent() {
    let mesh = Mesh::start_with(BROKER, &["--max-event-bytes", "100000"]).await;
    let fields = "Content-Length: 100001\r\nExpect: 100-continue\r\n";
    let answer = hear(&mesh, post(LINE, fields, "1", "").as_bytes()).await;
    assert_eq!(status(&answer), 413, "and it does not ask for the body");
    // One who sends it all the same hears why.
    let body = "x".repeat(2 << 20);
    let fields = format!("Content-Length: {}\r\n", body.len());
    assert_eq!(status(&hear(&mesh, post(LINE, &fields, "1", &body).as_bytes()).await), 413);
}

/// Requests whose end two readers might see in different places, each with an event behind it that must not get in.
#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_smuggled_in_behind_an_ambiguous_request() {
    let (mesh, subscriber) = mesh_with_subscriber().await;
    let chunked = "Transfer-Encoding: chunked\r\n";
    let cases = [
        ("two lengths", LINE, "Content-Length: 2\r\nContent-Length: 3\r\n", "{}"),
        ("a list of lengths", LINE, "Content-Length: 2, 3\r\n", "{}"),
        ("a signed length", LINE, "Content-Length: +2\r\n", "{}"),
        ("a negative length", LINE, "Content-Length: -2\r\n", "{}"),
        ("a huge length", LINE, "Content-Length: 18446744073709551618\r\n", "{}"),
        ("another encoding last", LINE, "Transfer-Encoding: chunked, identity\r\n", "{}"),
        ("an unknown encoding", LINE, "Transfer-Encoding: xchunked\r\n", "2\r\n{}\r\n0\r\n\r\n"),
        ("a space before the colon", LINE, "Transfer-Encoding : chunked\r\n", "0\r\n\r\n"),
        ("a folded header", LINE, "X: a\r\n Content-Length: 2\r\n", ""),
        ("a carriage return alone", LINE, "X: a\rContent-Length: 2\r\n", ""),
        ("a NUL in a header", LINE, "X: a\0b\r\nContent-Length: 2\r\n", "{}"),
        ("chunks in 1.0", "POST /default/default HTTP/1.0", chunked, "2\r\n{}\r\n0\r\n\r\n"),
        ("a chunk size that is none", LINE, chunked, "zz\r\n{}\r\n0\r\n\r\n"),
        ("a negative chunk size", LINE, chunked, "-2\r\n{}\r\n0\r\n\r\n"),
        ("a prefixed chunk size", LINE, chunked, "0x2\r\n{}\r\n0\r\n\r\n"),
        ("a huge chunk size", LINE, chunked, "10000000000000002\r\n{}\r\n0\r\n\r\n"),
        ("a chunk longer than its size", LINE, chunked, "1\r\n{}\r\n0\r\n\r\n"),
        ("a chunk size before a line feed alone", LINE, chunked, "2\n{}\r\n0\r\n\r\n"),
        ("a chunk before a line feed alone", LINE, chunked, "2\r\n{}\n0\r\n\r\n"),
    ];
    let smuggled = post(LINE, "Content-Length: 2\r\n", "smuggled", "{}");
    for (name, line, fields, body) in cases {
        let request = post(line, fields, "ambiguous", body) + &smuggled;
        let answer = hear(&mesh, request.as_bytes()).await;
        assert_eq!(status(&answer), 400, "{name}: {answer}");
    }
    // The protocol says which of the two counts, and that nothing may follow.
    for fields in [
        "Content-Length: 2\r\nTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding: chunked\r\nContent-Length: 2\r\n",
    ] {
        let request = post(LINE, fields, "both", "2\r\n{}\r\n0\r\n\r\n") + &smuggled;
        assert_eq!(status(&hear(&mesh, request.as_bytes()).await), 202, "{fields}");
    }
    mesh.send("a", "honest").await;
    subscriber.wait(3).await;
    let mut ids = subscriber.ids();
    ids.sort();
    assert_eq!(ids, ["both", "both", "honest"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_sent_without_waiting_are_answered_in_their_order() {
    let (mesh, subscriber) = mesh_with_subscriber().await;
    let fixed = |id: &str| post(LINE, "Content-Length: 2\r\n", id, "{}");
    let chunked =
        post(LINE, "Transfer-Encoding: chunked\r\n", "2", "2;x=y\r\n{}\r\n0\r\nT: t\r\n\r\n");
    let unknown = post("POST /default/nope HTTP/1.1", "Content-Length: 2\r\n", "no", "{}");
    let last = post(LINE, "Content-Length: 2\r\nConnection: close\r\n", "4", "{}");
    let all = [fixed("1"), chunked, unknown, fixed("3"), last].concat();
    let answer = hear(&mesh, all.as_bytes()).await;
    let statuses: Vec<_> =
        answer.split("HTTP/1.1 ").skip(1).filter_map(|answer| answer.get(..3)).collect();
    assert_eq!(statuses, ["202", "202", "404", "202", "202"]);
    let mut ids: Vec<_> = subscriber.wait(4).await.iter().map(|got| got.id().to_owned()).collect();
    ids.sort();
    assert_eq!(ids, ["1", "2", "3", "4"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn unusual_requests_are_answered_plainly() {
    let (mesh, subscriber) = mesh_with_subscriber().await;
    let length = "Content-Length: 2\r\nConnection: close\r\n";
    let long = format!("POST /default/{} HTTP/1.1", "b".repeat(10_000));
    let very_long = format!("POST /default/{} HTTP/1.1", "b".repeat(70_000));
    let cases = [
        ("POST /default/default HTTP/1.0", "Content-Length: 2\r\n", 202),
        ("POST http://elsewhere.example/default/default HTTP/1.1", length, 202),
        ("POST /default/default/?a=/b HTTP/1.1", length, 202),
        (LINE, "X: a line feed alone ends a line\nContent-Length: 2\nConnection: close\n", 202),
        (
            "POST /default/default HTTP/1.1",
            "Expect: 200-maybe\r\nContent-Length: 2\r\nConnection: close\r\n",
            202,
        ),
        ("POST /default%2Fdefault HTTP/1.1", length, 400),
        ("POST /default/default%2F HTTP/1.1", length, 404),
        ("POST /default/default%00 HTTP/1.1", length, 404),
        ("POST /default/a\0b HTTP/1.1", length, 400),
        ("POST default/default HTTP/1.1", length, 400),
        ("POST /default/default HTTP/1.1 ", length, 400),
        ("POST /default/default HTTP/3.0", length, 400),
        ("PUT /default/default HTTP/1.1", length, 405),
        ("DELETE /default/default HTTP/1.1", length, 405),
        ("post /default/default HTTP/1.1", length, 405),
        ("CONNECT default:80 HTTP/1.1", length, 405),
        ("OPTIONS * HTTP/1.1", length, 200),
        (&long, length, 414),
        (&very_long, length, 414),
    ];
    for (line, fields, expected) in cases {
        let answer = hear(&mesh, post(line, fields, "1", "{}").as_bytes()).await;
        let shown = line.get(..60).unwrap_or(line);
        assert_eq!(status(&answer), expected, "{shown}: {answer}");
    }
    subscriber.wait(5).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_head_request_is_answered_without_a_body() {
    let mesh = Mesh::start(BROKER).await;
    let request = post("HEAD /default/default HTTP/1.1", "Connection: close\r\n", "1", "");
    let answer = hear(&mesh, request.as_bytes()).await;
    assert_eq!(status(&answer), 405);
    assert!(answer.contains("allow: POST, OPTIONS") && answer.ends_with("\r\n\r\n"), "{answer}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sender_that_asks_first_is_told_to_go_on() {
    let mesh = Mesh::start(BROKER).await;
    let fields = "Content-Length: 2\r\nConnection: close\r\nExpect: 100-continue\r\n";
    let mut stream = say(&mesh, post(LINE, fields, "1", "").as_bytes()).await;
    let mut asked = [0; b"HTTP/1.1 100 Continue\r\n\r\n".len()];
    timeout(PATIENCE, stream.read_exact(&mut asked)).await.expect("in time").expect("an answer");
    assert!(asked.starts_with(b"HTTP/1.1 100 "));
    stream.write_all(b"{}").await.expect("sent");
    let mut answer = String::new();
    timeout(PATIENCE, stream.read_to_string(&mut answer)).await.expect("in time").expect("text");
    assert_eq!(status(&answer), 202);
}

#[tokio::test(flavor = "multi_thread")]
async fn other_protocols_are_closed_at_once() {
    let mesh = Mesh::start(BROKER).await;
    let http2 = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
    assert_eq!(hear(&mesh, http2).await, "");
    let tls = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n";
    assert_eq!(status(&hear(&mesh, tls).await), 400);
    assert_eq!(status(&hear(&mesh, b"GET / SPDY/3\r\n\r\n").await), 400);
    mesh.send("a", "1").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn heads_that_are_too_large_are_431() {
    let mesh = Mesh::start(BROKER).await;
    let length = "Content-Length: 2\r\nConnection: close\r\n";
    let wide = |bytes: usize| format!("ce-wide: {}\r\n{length}", "y".repeat(bytes));
    let many: String = (0..200).map(|n| format!("ce-n{n}: x\r\n")).collect();
    for (fields, expected) in
        [(wide(60_000), 202), (wide(64 << 10), 431), (wide(1 << 20), 431), (many + length, 431)]
    {
        let answer = hear(&mesh, post(LINE, &fields, "1", "{}").as_bytes()).await;
        assert_eq!(status(&answer), expected, "{} bytes", fields.len());
    }
    let answer = hear(&mesh, post(LINE, &wide(64 << 10), "1", "{}").as_bytes()).await;
    assert!(answer.contains("larger than 65536 bytes"), "{answer}");
}
