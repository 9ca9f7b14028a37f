//! How an HTTP/1 answer is laid out in bytes: its head, and where its body ends (RFC 9112, 6.3 and 7.1). Pure.

use bytes::{Buf, Bytes, BytesMut};
use http::header::{CONNECTION, CONTENT_LENGTH, TRANSFER_ENCODING};
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode};

/// Longest head that is read, and longest trailer. Answers carry a reply's attributes as headers; a dead letter's worth of
/// them fits.
const MAX_HEAD: usize = 64 << 10;

/// Most headers that are read. Servers' own defaults are about it; an event with all its extensions fits.
const MAX_HEADERS: usize = 100;

/// Longest line with the size of a chunk: sixteen digits, and extensions that nobody sends.
const MAX_SIZE_LINE: usize = 1 << 10;

/// What is wrong with bytes that should be an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// The head is no head of HTTP/1.
    #[error("the head of the answer is not HTTP/1: {0}")]
    Head(httparse::Error),
    /// The head does not end.
    #[error("the head of the answer is longer than {MAX_HEAD} bytes")]
    LongHead,
    /// Where the body ends cannot be told for certain.
    #[error(
        "the answer's Content-Length is no single number, or its Transfer-Encoding is not chunked"
    )]
    Length,
    /// The body is not in chunks, although the head says so.
    #[error("the chunks of the answer's body are damaged")]
    Chunk,
}

/// The head of an answer.
#[derive(Debug)]
pub(super) struct Head {
    pub(super) response: Response<()>,
    pub(super) framing: Framing,
    /// Whether the connection can take another request after the body.
    pub(super) keep: bool,
}

/// How much of the body is still to come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Framing {
    Length(u64),
    Chunked(Chunk),
    /// Until the connection is closed.
    Close,
}

/// What comes next in a body of chunks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Chunk {
    Size,
    Data(u64),
    /// The line end after the data.
    DataEnd,
    Trailer,
}

/// A step through a body.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Step {
    Data(Bytes),
    End,
    /// More bytes must be read first.
    More,
}

/// Takes the head of the final answer from `bytes`, and interim ones (1xx) before it; `None` when it is not all there yet.
pub(super) fn take_head(bytes: &mut BytesMut) -> Result<Option<Head>, Malformed> {
    loop {
        let Some((length, head)) = head(bytes)? else { return Ok(None) };
        bytes.advance(length);
        let status = head.response.status();
        if !status.is_informational() || status == StatusCode::SWITCHING_PROTOCOLS {
            return Ok(Some(head));
        }
    }
}

fn head(bytes: &[u8]) -> Result<Option<(usize, Head)>, Malformed> {
    let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
    let mut parsed = httparse::Response::new(&mut headers);
    let length = match parsed.parse(bytes).map_err(Malformed::Head)? {
        httparse::Status::Complete(length) => length,
        httparse::Status::Partial if bytes.len() < MAX_HEAD => return Ok(None),
        httparse::Status::Partial => return Err(Malformed::LongHead),
    };
    let status = parsed.code.and_then(|code| StatusCode::from_u16(code).ok());
    let status = status.ok_or(Malformed::Head(httparse::Error::Status))?;
    let mut response = Response::new(());
    *response.status_mut() = status;
    let fields = response.headers_mut();
    fields.reserve(parsed.headers.len());
    for field in parsed.headers.iter() {
        let name = HeaderName::from_bytes(field.name.as_bytes())
            .map_err(|_| Malformed::Head(httparse::Error::HeaderName))?;
        let value = HeaderValue::from_bytes(field.value)
            .map_err(|_| Malformed::Head(httparse::Error::HeaderValue))?;
        fields.append(name, value);
    }
    let latest = parsed.version == Some(1);
    let framing = framing(status, fields, latest)?;
    let asked = |what| lists(fields, CONNECTION, what);
    // A length beside an encoding comes from somebody who means to confuse, or is confused.
    let clear = !(fields.contains_key(TRANSFER_ENCODING) && fields.contains_key(CONTENT_LENGTH));
    let keep = clear
        && framing != Framing::Close
        && status != StatusCode::SWITCHING_PROTOCOLS
        && if latest { !asked("close") } else { asked("keep-alive") };
    Ok(Some((length, Head { response, framing, keep })))
}

fn framing(status: StatusCode, headers: &HeaderMap, latest: bool) -> Result<Framing, Malformed> {
    if status.is_informational()
        || matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED)
    {
        return Ok(Framing::Length(0));
    }
    if headers.contains_key(TRANSFER_ENCODING) {
        let mut codings = headers.get_all(TRANSFER_ENCODING).iter();
        // Other encodings were not asked for.
        let chunked =
            codings.next().is_some_and(|it| it.as_bytes().eq_ignore_ascii_case(b"chunked"))
                && codings.next().is_none();
        return if chunked && latest {
            Ok(Framing::Chunked(Chunk::Size))
        } else {
            Err(Malformed::Length)
        };
    }
    let mut lengths = headers.get_all(CONTENT_LENGTH).iter();
    let Some(first) = lengths.next() else { return Ok(Framing::Close) };
    let digits = first.to_str().ok().filter(|text| text.bytes().all(|b| b.is_ascii_digit()));
    let length = digits.and_then(|text| text.parse().ok()).ok_or(Malformed::Length)?;
    if lengths.any(|other| other != first) {
        return Err(Malformed::Length);
    }
    Ok(Framing::Length(length))
}

/// Whether a header that is a list of words has this one.
fn lists(headers: &HeaderMap, name: HeaderName, word: &str) -> bool {
    let mut words = headers
        .get_all(name)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','));
    words.any(|one| one.trim().eq_ignore_ascii_case(word))
}

impl Framing {
    /// Takes the next part of the body from `bytes`.
    pub(super) fn step(&mut self, bytes: &mut BytesMut) -> Result<Step, Malformed> {
        loop {
            let chunk = match self {
                Self::Length(0) => return Ok(Step::End),
                Self::Length(left) => return Ok(data(left, bytes)),
                Self::Close if bytes.is_empty() => return Ok(Step::More),
                Self::Close => return Ok(Step::Data(bytes.split().freeze())),
                Self::Chunked(chunk) => chunk,
            };
            *self = match chunk {
                Chunk::Data(0) => Self::Chunked(Chunk::DataEnd),
                Chunk::Data(left) => return Ok(data(left, bytes)),
                Chunk::Size => match size(bytes)? {
                    Some(0) => Self::Chunked(Chunk::Trailer),
                    Some(size) => Self::Chunked(Chunk::Data(size)),
                    None => return Ok(Step::More),
                },
                Chunk::DataEnd => match bytes.get(..2) {
                    Some(b"\r\n") => {
                        bytes.advance(2);
                        Self::Chunked(Chunk::Size)
                    }
                    Some(_) => return Err(Malformed::Chunk),
                    None => return Ok(Step::More),
                },
                Chunk::Trailer => match trailer(bytes)? {
                    Some(length) => {
                        bytes.advance(length);
                        Self::Length(0)
                    }
                    None => return Ok(Step::More),
                },
            };
        }
    }
}

fn data(left: &mut u64, bytes: &mut BytesMut) -> Step {
    if bytes.is_empty() {
        return Step::More;
    }
    let some = usize::try_from(*left).unwrap_or(usize::MAX).min(bytes.len());
    *left -= some as u64;
    Step::Data(bytes.split_to(some).freeze())
}

fn size(bytes: &mut BytesMut) -> Result<Option<u64>, Malformed> {
    match httparse::parse_chunk_size(bytes).map_err(|_| Malformed::Chunk)? {
        httparse::Status::Complete((length, size)) => {
            bytes.advance(length);
            Ok(Some(size))
        }
        httparse::Status::Partial if bytes.len() < MAX_SIZE_LINE => Ok(None),
        httparse::Status::Partial => Err(Malformed::Chunk),
    }
}

/// The length of the trailer, which nobody asked for.
fn trailer(bytes: &[u8]) -> Result<Option<usize>, Malformed> {
    let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
    match httparse::parse_headers(bytes, &mut headers).map_err(|_| Malformed::Chunk)? {
        httparse::Status::Complete((length, _)) => Ok(Some(length)),
        httparse::Status::Partial if bytes.len() < MAX_HEAD => Ok(None),
        httparse::Status::Partial => Err(Malformed::Chunk),
    }
}

#[cfg(test)]
mod tests;
