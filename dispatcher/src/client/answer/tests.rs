use proptest::prelude::*;

use super::*;

/// What was read: status, body, and whether the connection is kept.
type Read = (u16, Vec<u8>, bool);

/// Reads an answer that comes in pieces, after the last of which the connection is closed.
fn read<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> Result<Option<Read>, Malformed> {
    let mut bytes = BytesMut::new();
    let mut begun: Option<Head> = None;
    let mut body = Vec::new();
    for piece in pieces {
        bytes.extend_from_slice(piece);
        if begun.is_none() {
            begun = take_head(&mut bytes)?;
        }
        let Some(head) = &mut begun else { continue };
        loop {
            match head.framing.step(&mut bytes)? {
                Step::Data(data) => body.extend_from_slice(&data),
                Step::More => break,
                Step::End => {
                    let keep = head.keep && bytes.is_empty();
                    return Ok(Some((head.response.status().as_u16(), body, keep)));
                }
            }
        }
    }
    let to_the_close = begun.filter(|head| head.framing == Framing::Close);
    Ok(to_the_close.map(|head| (head.response.status().as_u16(), body, head.keep)))
}

/// Whole, and cut in two at every place.
fn read_in_every_way(answer: &str) -> Result<Option<Read>, Malformed> {
    let answer = answer.as_bytes();
    let whole = read([answer]);
    for at in 1..answer.len() {
        let (start, end) = answer.split_at(at);
        assert_eq!(read([start, end]), whole, "cut at {at}");
    }
    whole
}

#[test]
fn a_body_ends_where_the_head_says() {
    let chunks = "3\r\nabc\r\n2;name=value\r\nde\r\n0\r\n";
    for (answer, status, body, keep) in [
        ("HTTP/1.1 202 Accepted\r\nContent-Length: 0\r\n\r\n", 202, "", true),
        ("HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nabcde", 200, "abcde", true),
        (
            "HTTP/1.1 200 OK\r\ncontent-length: 5\r\ncontent-length: 5\r\n\r\nabcde",
            200,
            "abcde",
            true,
        ),
        ("HTTP/1.1 204 No Content\r\ncontent-length: 9\r\n\r\n", 204, "", true),
        ("HTTP/1.1 304 \r\n\r\n", 304, "", true),
        ("HTTP/1.1 200\r\n\r\nto the end", 200, "to the end", false),
        ("HTTP/1.0 200 OK\r\ncontent-length: 1\r\n\r\na", 200, "a", false),
        ("HTTP/1.0 200 OK\r\ncontent-length: 1\r\nConnection: Keep-Alive\r\n\r\na", 200, "a", true),
        ("HTTP/1.1 200 OK\r\ncontent-length: 1\r\nconnection: x, Close\r\n\r\na", 200, "a", false),
        (
            "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\na",
            200,
            "a",
            true,
        ),
        ("HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\n\r\n", 101, "", false),
        ("HTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\nab", 200, "a", false),
    ] {
        let expected = (status, body.as_bytes().to_vec(), keep);
        // What comes after the end may come too late to be seen.
        let seen = if answer.ends_with("ab") {
            read([answer.as_bytes()])
        } else {
            read_in_every_way(answer)
        };
        assert_eq!(seen, Ok(Some(expected)), "{answer}");
    }
    for (head, trailer, keep) in [
        ("Transfer-Encoding: chunked", "\r\n", true),
        ("Transfer-Encoding: Chunked", "a: b\r\nc: d\r\n\r\n", true),
        ("Transfer-Encoding: chunked\r\nContent-Length: 3", "\r\n", false),
    ] {
        let answer = format!("HTTP/1.1 200 OK\r\n{head}\r\n\r\n{chunks}{trailer}");
        assert_eq!(
            read_in_every_way(&answer),
            Ok(Some((200, b"abcde".to_vec(), keep))),
            "{answer}"
        );
    }
}

#[test]
fn an_answer_that_breaks_off_is_not_taken_for_a_whole_one() {
    for answer in [
        "HTTP/1.1 200 OK\r\ncontent-len",
        "HTTP/1.1 100 Continue\r\n\r\n",
        "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nabcd",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n",
    ] {
        assert_eq!(read_in_every_way(answer), Ok(None), "{answer}");
    }
}

#[test]
fn an_answer_whose_end_is_in_doubt_is_refused() {
    for head in [
        "content-length: 5\r\ncontent-length: 6",
        "content-length: 5, 5",
        "content-length: +5",
        "content-length: -1",
        "content-length:",
        "content-length: 18446744073709551616",
        "transfer-encoding: gzip, chunked",
        "transfer-encoding: chunked\r\ntransfer-encoding: chunked",
        "transfer-encoding: identity",
    ] {
        let answer = format!("HTTP/1.1 200 OK\r\n{head}\r\n\r\n");
        assert_eq!(read([answer.as_bytes()]), Err(Malformed::Length), "{head}");
    }
    let old = "HTTP/1.0 200 OK\r\ntransfer-encoding: chunked\r\n\r\n";
    assert_eq!(read([old.as_bytes()]), Err(Malformed::Length));
}

#[test]
fn what_is_no_http_is_refused() {
    for answer in
        ["SSH-2.0-OpenSSH_9.2\r\n", "HTTP/2 200 OK\r\n\r\n", "HTTP/1.1 99999 \r\n\r\n", "{}"]
    {
        assert!(matches!(read([answer.as_bytes()]), Err(Malformed::Head(_))), "{answer}");
    }
    for chunk in ["x\r\n", "3\r\nabcd\r\n", "11111111111111111\r\n", "-1\r\n"] {
        let answer = format!("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n{chunk}");
        assert_eq!(read([answer.as_bytes()]), Err(Malformed::Chunk), "{chunk}");
    }
}

#[test]
fn a_head_a_size_and_a_trailer_that_do_not_end_are_refused() {
    let endless = "a".repeat(MAX_HEAD);
    let head = format!("HTTP/1.1 200 OK\r\na: {endless}");
    assert_eq!(read([head.as_bytes()]), Err(Malformed::LongHead));
    let many = format!("HTTP/1.1 200 OK\r\n{}", "a: b\r\n".repeat(MAX_HEADERS + 1));
    let error = Malformed::Head(httparse::Error::TooManyHeaders);
    assert_eq!(read([many.as_bytes()]), Err(error));
    for rest in [format!("1;{endless}"), format!("0\r\na: {endless}")] {
        let answer = format!("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n{rest}");
        assert_eq!(read([answer.as_bytes()]), Err(Malformed::Chunk));
    }
}

proptest! {
    #[test]
    fn no_bytes_make_the_reader_panic(
        head in prop_oneof![
            Just(""),
            Just("HTTP/1.1 200 OK\r\n"),
            Just("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"),
        ],
        pieces in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..64), 0..4),
    ) {
        let pieces = pieces.iter().map(Vec::as_slice);
        let _read = read(std::iter::once(head.as_bytes()).chain(pieces));
    }
}

#[test]
fn headers_tell_of_the_answer_and_not_of_its_way() {
    let mut bytes = BytesMut::from(
        "HTTP/1.1 503 Service Unavailable\r\nDate: Fri, 27 Nov 2026 08:00:00 GMT\r\nContent-Length: 0\r\n\
         Connection: close\r\nRetry-After: 7\r\nce-a: 1\r\nce-a: 2\r\n\r\n",
    );
    let head = take_head(&mut bytes).unwrap().unwrap();
    let headers = head.response.headers();
    let told = headers.iter().map(|(name, value)| (name.as_str(), value.as_bytes()));
    let expected: [(&str, &[u8]); 3] = [("retry-after", b"7"), ("ce-a", b"1"), ("ce-a", b"2")];
    assert_eq!(told.collect::<Vec<_>>(), expected);
    assert!(!head.keep);
}
