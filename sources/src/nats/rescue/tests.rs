use async_nats::Message;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use proptest::prelude::*;

use super::{Stored, is_readable, readable_part};

fn stored(headers: &[u8]) -> Stored {
    Stored {
        subject: "orders.new".to_owned(),
        seq: 7,
        hdrs: STANDARD.encode(headers),
        data: STANDARD.encode("body"),
        time: "2026-01-31T12:00:00.5Z".to_owned(),
    }
}

#[test]
fn headers_as_they_should_be_are_left_to_the_client() {
    for headers in [
        "NATS/1.0\r\n\r\n",
        "NATS/1.0\r\nA: 1\r\nB:2\r\n\r\n",
        "NATS/1.0 503\r\n\r\n",
        "NATS/1.0 100 Idle Heartbeat\r\nA: ü\r\n\r\n",
        "NATS/1.0\r\nA: x\r\n  goes on\r\n\r\n",
        "NATS/1.0\r\nEmpty:\r\n\r\n",
    ] {
        assert!(is_readable(headers.as_bytes()), "{headers:?}");
        let found = stored(headers.as_bytes()).in_flight("S", "c").unwrap();
        assert!(found.is_readable, "{headers:?}");
    }
    let bare = stored(b"").in_flight("S", "c").unwrap();
    assert!(bare.is_readable && bare.message.headers.is_none(), "no headers at all");
}

#[test]
fn what_the_client_cannot_read_is_taken_without_it() {
    for headers in [
        &b"NATS/1.0\r\nGood: 1\r\nA: \xff\r\n\r\n"[..],
        b"NATS/1.0\r\nGood: 1\r\nA: x\ry\r\n\r\n",
        b"NATS/1.0\r\nGood: 1\r\nno colon\r\n\r\n",
        b"NATS/1.0\r\nGood: 1\r\n\xc3\xbc: 1\r\n\r\n",
        b"NATS/1.0 abc\r\nGood: 1\r\n\r\n",
        b"HTTP/1.1\r\nGood: 1\r\n\r\n",
        b"NATS/1.0\r\nGood: 1\r\n\r\n goes on\r\n",
    ] {
        assert!(!is_readable(headers));
        let found = stored(headers).in_flight("ORDERS", "c").unwrap();
        assert!(!found.is_readable, "{headers:?}");
        let Message { subject, reply, payload, headers: map, .. } = found.message;
        assert_eq!((subject.as_str(), &payload[..]), ("orders.new", &b"body"[..]));
        assert_eq!(reply.as_deref(), Some("$JS.ACK.ORDERS.c.1.7.0.1769860800500000000.0"));
        assert_eq!(found.sequence, 7);
        assert_eq!(found.time.to_string(), "2026-01-31T12:00:00.5Z");
        let map = map.unwrap();
        assert_eq!(map.get("Good").unwrap().as_str(), "1", "{headers:?}");
        assert_eq!(map.len(), 1, "{headers:?}");
    }
}

#[test]
fn what_is_no_message_is_none() {
    assert!(Stored::default().in_flight("S", "c").is_none());
    let bad = b"NATS/1.0\r\nA: \xff\r\n\r\n";
    for broken in [
        Stored { hdrs: "%".to_owned(), ..stored(bad) },
        Stored { data: "%".to_owned(), ..stored(bad) },
        Stored { time: "noon".to_owned(), ..stored(bad) },
    ] {
        assert!(broken.in_flight("S", "c").is_none());
    }
}

proptest! {
    #[test]
    fn any_headers_are_looked_at_without_harm(bytes in prop::collection::vec(any::<u8>(), 0..80)) {
        let headers = [b"NATS/1.0\r\n", &bytes[..]].concat();
        is_readable(&headers);
        readable_part(&headers);
    }
}
