//! The protocol against a server that is played: handshake, frames in every form, silence.

use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use proptest::prelude::*;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream, duplex};
use tokio::time::{Instant, timeout};
use tokio_util::task::TaskTracker;

use super::content::Assembly;
use super::frame;
use super::wire::Reader;
use super::*;

mod content;

pub(crate) use content::Content;

const LOGIN: Login<'_> =
    Login { user: "shop", password: "secret", virtual_host: "/eu", name: "weft default/one" };

/// The server's side.
pub(crate) struct Peer<S> {
    io: S,
    input: BytesMut,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Peer<S> {
    pub(crate) fn new(io: S) -> Self {
        Self { io, input: BytesMut::new() }
    }

    pub(crate) async fn send(&mut self, bytes: &[u8]) {
        self.io.write_all(bytes).await.unwrap();
    }

    pub(crate) async fn frame(&mut self, kind: u8, channel: u16, payload: &[u8]) {
        self.send(&frame(kind, channel, payload)).await;
    }

    pub(crate) async fn method(
        &mut self,
        channel: u16,
        (class, number): (u16, u16),
        arguments: &[u8],
    ) {
        let payload = [&class.to_be_bytes()[..], &number.to_be_bytes(), arguments].concat();
        self.frame(1, channel, &payload).await;
    }

    pub(crate) async fn deliver(&mut self, tag: u64, content: &Content) {
        let frames = content.frames(tag);
        self.send(&frames).await;
    }

    /// The next method that the client calls; heartbeats are passed over.
    pub(crate) async fn called(&mut self) -> (u16, (u16, u16), Bytes) {
        loop {
            let (kind, channel, payload) = self.received().await;
            if kind == 1 {
                let mut reader = Reader::new(&payload);
                let id = (reader.u16().unwrap(), reader.u16().unwrap());
                return (channel, id, payload.slice(4..));
            }
        }
    }

    /// The next frame that the client sends.
    pub(crate) async fn received(&mut self) -> (u8, u16, Bytes) {
        loop {
            if let Some(&[kind, c1, c2, s1, s2, s3, s4]) = self.input.first_chunk::<7>() {
                let size = u32::from_be_bytes([s1, s2, s3, s4]) as usize;
                if self.input.len() >= size + frame::OVERHEAD {
                    let frame = self.input.split_to(size + frame::OVERHEAD).freeze();
                    return (kind, u16::from_be_bytes([c1, c2]), frame.slice(7..7 + size));
                }
            }
            assert_ne!(self.io.read_buf(&mut self.input).await.unwrap(), 0, "the client went away");
        }
    }

    pub(crate) async fn greet(&mut self, mechanisms: &[u8]) {
        let mut header = [0; 8];
        self.io.read_exact(&mut header).await.unwrap();
        assert_eq!(&header, b"AMQP\x00\x00\x09\x01");
        let mut start = BytesMut::from(&[0, 9][..]);
        wire::put_long(&mut start, &[]);
        wire::put_long(&mut start, mechanisms);
        wire::put_long(&mut start, b"en_US");
        self.method(0, (10, 10), &start).await;
    }

    /// A whole handshake; returns what the client said of itself.
    pub(crate) async fn welcome(&mut self, heartbeat: u16) -> Bytes {
        self.greet(b"AMQPLAIN PLAIN").await;
        let (_, id, said) = self.called().await;
        assert_eq!(id, (10, 11));
        let tune =
            [&2047u16.to_be_bytes()[..], &131_072u32.to_be_bytes(), &heartbeat.to_be_bytes()];
        self.method(0, (10, 30), &tune.concat()).await;
        assert_eq!(self.called().await.1, (10, 31));
        assert_eq!(self.called().await.1, (10, 40));
        self.method(0, (10, 41), &[0]).await;
        said
    }

    /// Closes the connection or a channel.
    pub(crate) async fn refuse(&mut self, channel: u16, code: u16, text: &str) {
        let mut arguments = BytesMut::new();
        arguments.put_u16(code);
        wire::put_short(&mut arguments, text);
        arguments.put_u32(0);
        let id = if channel == 0 { (10, 50) } else { (20, 40) };
        self.method(channel, id, &arguments).await;
    }
}

fn frame(kind: u8, channel: u16, payload: &[u8]) -> Vec<u8> {
    let size = u32::try_from(payload.len()).unwrap();
    [&[kind][..], &channel.to_be_bytes(), &size.to_be_bytes(), payload, &[0xce]].concat()
}

/// Runs the server's side beside the client's.
async fn beside<T, U>(
    server: impl Future<Output = T> + Send + 'static,
    client: impl Future<Output = U>,
) -> (T, U)
where
    T: Send + 'static,
{
    let server = TaskTracker::new().spawn(server);
    let client = client.await;
    (timeout(Duration::from_secs(600), server).await.unwrap().unwrap(), client)
}

/// An open connection, and the server's side of it.
pub(crate) async fn opened(heartbeat: u16) -> (Connection, Peer<DuplexStream>) {
    let (ours, theirs) = duplex(1 << 20);
    let mut peer = Peer::new(theirs);
    let welcome = async move {
        peer.welcome(heartbeat).await;
        peer
    };
    let (peer, connection) = beside(welcome, Connection::open(Box::new(ours), LOGIN)).await;
    (connection.unwrap(), peer)
}

async fn refused(server: impl AsyncFnOnce(&mut Peer<DuplexStream>)) -> AmqpError {
    let (ours, theirs) = duplex(1 << 20);
    let mut peer = Peer::new(theirs);
    let open = Connection::open(Box::new(ours), LOGIN);
    tokio::join!(server(&mut peer), open).1.unwrap_err()
}

async fn violation(bytes: &[u8]) -> String {
    let (mut connection, mut peer) = opened(60).await;
    peer.send(bytes).await;
    connection.next(true).await.unwrap_err().to_string()
}

fn body(incoming: Incoming) -> Bytes {
    let Incoming::Delivery(delivery) = incoming else { panic!("{incoming:?}") };
    delivery.body
}

#[tokio::test]
async fn a_client_says_who_it_is_and_what_it_understands() {
    let (ours, theirs) = duplex(1 << 20);
    let mut peer = Peer::new(theirs);
    let welcome = async move { peer.welcome(60).await };
    let (said, connection) = beside(welcome, Connection::open(Box::new(ours), LOGIN)).await;
    let mut reader = Reader::new(&said);
    let properties: Vec<_> = reader.table().unwrap().collect();
    assert!(properties.contains(&(b"connection_name", Field::Text(b"weft default/one"))));
    assert!(properties.contains(&(b"capabilities", Field::Other)));
    assert_eq!(reader.short().unwrap(), b"PLAIN");
    assert_eq!(reader.long().unwrap(), b"\0shop\0secret");
    let shown = format!("{:?}", connection.unwrap());
    assert!(!shown.contains("secret"), "{shown}");
}

#[tokio::test]
async fn a_refused_login_says_why() {
    let error = refused(async |peer| {
        peer.greet(b"PLAIN").await;
        peer.called().await;
        peer.refuse(0, 403, "ACCESS_REFUSED\n- Login was refused").await;
    });
    let expected = "the server answered 403: ACCESS_REFUSED - Login was refused";
    assert_eq!(error.await.to_string(), expected);
}

#[tokio::test]
async fn other_servers_are_told_apart() {
    let other = refused(async |peer| peer.send(b"AMQP\x00\x01\x00\x00").await);
    let expected = "the server breaks the protocol: it does not speak AMQP 0-9-1";
    assert_eq!(other.await.to_string(), expected);
    let web = refused(async |peer| peer.send(b"HTTP/1.1 400 Bad Request\r\n\r\n").await);
    let expected = "the server breaks the protocol: a frame has an unknown type";
    assert_eq!(web.await.to_string(), expected);
    let strange = refused(async |peer| peer.greet(b"EXTERNAL PLAINTEXT").await);
    let expected = "the server breaks the protocol: it does not take a user and a password";
    assert_eq!(strange.await.to_string(), expected);
    let early = refused(async |peer| peer.method(0, (10, 41), &[0]).await);
    let expected = "the server breaks the protocol: it answers something else";
    assert_eq!(early.await.to_string(), expected);
}

#[tokio::test(start_paused = true)]
async fn a_server_that_says_nothing_is_not_waited_for() {
    let (ours, theirs) = duplex(1 << 20);
    let error = Connection::open(Box::new(ours), LOGIN).await.unwrap_err();
    assert_eq!(error.to_string(), "the server was silent for 20s");
    drop(theirs);
}

#[tokio::test]
async fn messages_come_whole_in_whatever_pieces() {
    let (mut connection, mut peer) = opened(60).await;
    let content = Content::new(b"hello, world").routed("e", "k").message_id(b"m");
    let pieces = async move {
        for byte in content.frames(7) {
            peer.send(&[byte]).await;
        }
        peer.deliver(8, &Content::new(b"")).await;
        peer.deliver(9, &Content::new(&b"x".repeat(300_000))).await;
        peer
    };
    let read = async {
        let Incoming::Delivery(first) = connection.next(true).await.unwrap() else { panic!() };
        assert_eq!((first.tag, &*first.exchange, &*first.routing_key), (7, &b"e"[..], &b"k"[..]));
        assert_eq!(
            (&*first.body, first.properties().message_id),
            (&b"hello, world"[..], Some(&b"m"[..]))
        );
        assert_eq!(body(connection.next(true).await.unwrap()), Bytes::new());
        assert_eq!(body(connection.next(true).await.unwrap()), b"x".repeat(300_000));
    };
    beside(pieces, read).await;
}

#[tokio::test]
async fn a_server_that_breaks_the_protocol_is_left() {
    let cases: [(&[u8], &str); 8] = [
        (&[1, 0, 0, 0xff, 0, 0, 0], "a frame is larger than was agreed"),
        (&[9, 0, 0, 0, 0, 0, 0], "a frame has an unknown type"),
        (&[8, 0, 0, 0, 0, 0, 0, 0xcd], "a frame does not end where it should"),
        (&frame(1, 1, &[0, 60]), "a value is longer than its frame"),
        (&frame(1, 1, &[0, 60, 0, 60, 9]), "a value is longer than its frame"),
        (&frame(2, 1, &[0; 14]), "a content comes that no method announced"),
        (&frame(3, 1, &[0; 14]), "a content comes that no method announced"),
        (&frame(2, 1, &[0; 3]), "a content comes that no method announced"),
    ];
    for (bytes, expected) in cases {
        let expected = format!("the server breaks the protocol: {expected}");
        assert_eq!(violation(bytes).await, expected);
    }
    let deliver = Content::new(b"").method(1);
    let header = |size: u64| {
        let payload = [&[0, 60, 0, 0][..], &size.to_be_bytes(), &[0, 0]].concat();
        frame(2, 1, &payload)
    };
    let longer = [deliver.clone(), header(3), frame(3, 1, b"four")].concat();
    let expected = "the server breaks the protocol: a body is longer than its header says";
    assert_eq!(violation(&longer).await, expected);
    let twice = [deliver.clone(), header(3), header(3)].concat();
    let expected = "the server breaks the protocol: a message has two headers";
    assert_eq!(violation(&twice).await, expected);
    let headless = [deliver, frame(3, 1, b"x")].concat();
    let expected = "the server breaks the protocol: a message has a body before its header";
    assert_eq!(violation(&headless).await, expected);
}

#[tokio::test]
async fn what_is_published_is_what_a_consumer_reads() {
    let (mut connection, mut peer) = opened(60).await;
    let message = Publication {
        routing_key: "k".to_owned(),
        content_type: Some("text/plain".to_owned()),
        headers: TableWriter::default().text("a", "b").finish(),
        message_id: "m".to_owned(),
        body: b"x".repeat(300_000).into(),
    };
    connection.publish(1, "e", &message).unwrap();
    assert!(connection.unsent() > 300_000);
    let read = async {
        assert_eq!(peer.called().await.1, (60, 40));
        let (kind, _, header) = peer.received().await;
        assert_eq!(kind, 2);
        let mut assembly = Assembly::new(&Content::new(b"").arguments(1).into()).unwrap();
        assembly.header(&header, u64::MAX).unwrap();
        while !assembly.is_whole() {
            let (kind, _, part) = peer.received().await;
            assert!(kind == 3 && part.len() <= 131_072 - frame::OVERHEAD);
            assembly.body(part).unwrap();
        }
        assembly.finish()
    };
    let delivery = tokio::select! {
        delivery = read => delivery,
        incoming = connection.next(true) => panic!("{incoming:?}"),
    };
    assert_eq!(delivery.body, message.body);
    let properties = delivery.properties();
    assert_eq!(properties.content_type, Some(&b"text/plain"[..]));
    assert_eq!(properties.message_id, Some(&b"m"[..]));
    let headers: Vec<_> = properties.headers.unwrap().collect();
    assert_eq!(headers, [(&b"a"[..], Field::Text(b"b"))]);
}

#[test]
fn a_body_that_is_too_large_is_let_pass() {
    let content = Content::new(b"0123456789");
    let mut assembly = Assembly::new(&content.arguments(1).into()).unwrap();
    assembly.header(&content.header().into(), 9).unwrap();
    assert!(!assembly.is_whole());
    assembly.body(Bytes::from_static(b"01234")).unwrap();
    assembly.body(Bytes::from_static(b"56789")).unwrap();
    assert!(assembly.is_whole());
    let delivery = assembly.finish();
    assert_eq!((delivery.too_large, delivery.body.len()), (Some(10), 0));
}

#[tokio::test]
async fn a_closed_channel_and_a_cancelled_consumer_are_told() {
    let (mut connection, mut peer) = opened(60).await;
    peer.method(1, (60, 30), b"\x04ctag\x01").await;
    assert!(matches!(connection.next(true).await.unwrap(), Incoming::Cancelled));
    // Publishers would have to wait; we are none.
    peer.method(0, (10, 60), b"\x03low").await;
    peer.refuse(1, 404, "NOT_FOUND - no queue 'q'").await;
    let error = connection.next(true).await.unwrap_err();
    assert_eq!(error.to_string(), "the server answered 404: NOT_FOUND - no queue 'q'");
}

#[tokio::test]
async fn a_connection_that_breaks_says_so() {
    let (mut connection, peer) = opened(60).await;
    drop(peer);
    assert!(matches!(connection.next(true).await, Err(AmqpError::Broken(_))));
}

#[tokio::test(start_paused = true)]
async fn heartbeats_go_out_and_are_missed() {
    // The server offers a minute; twenty seconds are agreed on.
    let (mut connection, mut peer) = opened(60).await;
    let start = Instant::now();
    let beats = async move {
        let mut beats = Vec::new();
        for _ in 0..3 {
            assert_eq!(peer.received().await, (8, 0, Bytes::new()));
            beats.push(start.elapsed().as_secs());
        }
        (beats, peer)
    };
    let ((beats, _peer), ended) = beside(beats, connection.next(true)).await;
    assert_eq!(beats, [10, 20, 30]);
    assert_eq!(ended.unwrap_err().to_string(), "the server was silent for 40s");
    assert_eq!(start.elapsed().as_secs(), 40);
}

#[tokio::test(start_paused = true)]
async fn who_does_not_read_keeps_the_connection_and_takes_nothing() {
    let (mut connection, mut peer) = opened(60).await;
    peer.deliver(1, &Content::new(b"wait")).await;
    let pause = timeout(Duration::from_secs(300), connection.next(false)).await;
    assert!(pause.is_err(), "{pause:?}");
    assert_eq!(peer.received().await.0, 8);
    assert!(connection.buffered().unwrap().is_none());
    assert_eq!(body(connection.next(true).await.unwrap()), "wait");
    // The pause does not count as silence.
    let more = timeout(Duration::from_secs(39), connection.next(true)).await;
    assert!(more.is_err(), "{more:?}");
}

#[tokio::test]
async fn a_goodbye_comes_after_the_acknowledgements() {
    let (mut connection, mut peer) = opened(60).await;
    connection.acknowledge(1, 258);
    connection.reject(1, 259);
    let goodbye = async move {
        let first = peer.called().await;
        assert_eq!(first, (1, (60, 80), Bytes::from_static(&[0, 0, 0, 0, 0, 0, 1, 2, 1])));
        let second = peer.called().await;
        assert_eq!(second, (1, (60, 90), Bytes::from_static(&[0, 0, 0, 0, 0, 0, 1, 3, 0])));
        assert_eq!(peer.called().await.1, (10, 50));
        peer.deliver(300, &Content::new(b"too late")).await;
        peer.method(0, (10, 51), &[]).await;
    };
    beside(goodbye, connection.close()).await;
}

#[tokio::test(start_paused = true)]
async fn a_goodbye_that_nobody_answers_is_short() {
    let (connection, _peer) = opened(60).await;
    let start = Instant::now();
    connection.close().await;
    assert!(start.elapsed() < Duration::from_millis(500));
}

#[test]
fn every_type_of_field_is_read() {
    let content = Content::new(b"")
        .raw(b"t", b"t\x01")
        .raw(b"b", b"b\xff")
        .raw(b"B", b"B\xff")
        .raw(b"s", b"s\xff\xfe")
        .raw(b"U", b"U\x00\x02")
        .raw(b"u", b"u\xff\xfe")
        .raw(b"I", b"I\xff\xff\xff\xfe")
        .raw(b"i", b"i\xff\xff\xff\xfe")
        .raw(b"l", b"l\xff\xff\xff\xff\xff\xff\xff\xfe")
        .raw(b"f", b"f\x3f\x80\x00\x00")
        .raw(b"d", b"d\x3f\xf0\x00\x00\x00\x00\x00\x00")
        .raw(b"D", b"D\x02\x00\x00\x00\x01")
        .raw(b"x", b"x\x00\x00\x00\x01\x00")
        .raw(b"A", b"A\x00\x00\x00\x02t\x01")
        .raw(b"V", b"V")
        .raw(b"?", b"?123")
        .raw(b"S", b"S\x00\x00\x00\x00");
    let delivery = content.delivery(1);
    let fields: Vec<_> = delivery.properties().headers.unwrap().map(|(_, field)| field).collect();
    let expected = [
        Field::Bool(true),
        Field::Int(-1),
        Field::Int(255),
        Field::Int(-2),
        Field::Int(2),
        Field::Int(65_534),
        Field::Int(-2),
        Field::Int(4_294_967_294),
        Field::Int(-2),
        Field::Float(1.0),
        Field::Float(1.0),
        Field::Other,
        Field::Other,
        Field::Other,
        Field::Other,
        // What follows a type that is not known cannot be read.
    ];
    assert_eq!(fields, expected);
}

proptest! {
    #[test]
    fn any_bytes_are_frames_or_refused(
        chunks in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..40), 0..10),
        kinds in prop::collection::vec(prop_oneof![Just(1u8), Just(2), Just(3), Just(8)], 10),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
        runtime.block_on(async {
            let (mut connection, mut peer) = opened(60).await;
            peer.send(&Content::new(b"").method(1)).await;
            for (kind, chunk) in kinds.into_iter().zip(chunks) {
                peer.frame(kind, 1, &chunk).await;
            }
            drop(peer);
            // It ends with an error at the latest when the server is gone.
            while connection.next(true).await.is_ok() {}
        });
    }
}
