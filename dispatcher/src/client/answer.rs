//! How an HTTP/1 answer is laid out in bytes: its head, and where its body ends (RFC 9112, 6.3 and 7.1). Pure.

use std::mem::MaybeUninit;

use bytes::{Buf, Bytes, BytesMut};
use http::header::{CONNECTION, CONTENT_LENGTH, DATE, TRANSFER_ENCODING};
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
    /// Without the headers that tell of the connection, of the body's length and of the date.
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
    let mut headers = [const { MaybeUninit::uninit() }; MAX_HEADERS];
    let mut parsed = httparse::Response::new(&mut []);
    let done = httparse::ParserConfig::default()
        .parse_response_with_uninit_headers(&mut parsed, bytes, &mut headers)
        .map_err(Malformed::Head)?;
    let length = match done {
        httparse::Status::Complete(length) => length,
        httparse::Status::Partial if bytes.len() < MAX_HEAD => return Ok(None),
        httparse::Status::Partial => return Err(Malformed::LongHead),
    };
    let status = parsed.code.and_then(|code| StatusCode::from_u16(code).ok());
    let status = status.ok_or(Malformed::Head(httparse::Error::Status))?;
    let latest = parsed.version == Some(1);
    let fields = Fields(parsed.headers);
    let framing = fields.framing(status, latest)?;
    let asked = |what| fields.lists(&CONNECTION, what);
    // A length beside an encoding comes from somebody who means to confuse, or is confused.
    let clear = !(fields.has(&TRANSFER_ENCODING) && fields.has(&CONTENT_LENGTH));
    let keep = clear
        && framing != Framing::Close
        && status != StatusCode::SWITCHING_PROTOCOLS
        && if latest { !asked("close") } else { asked("keep-alive") };
    let mut response = Response::new(());
    *response.status_mut() = status;
    *response.headers_mut() = fields.of_the_answer()?;
    Ok(Some((length, Head { response, framing, keep })))
}

/// What tells of the message and its way, not of what it says. Most answers have nothing else.
const OF_THE_WAY: [HeaderName; 4] = [CONNECTION, CONTENT_LENGTH, DATE, TRANSFER_ENCODING];

/// The headers as they stand in the head.
#[derive(Clone, Copy)]
struct Fields<'a>(&'a [httparse::Header<'a>]);

impl<'a> Fields<'a> {
    fn all(self, name: &HeaderName) -> impl Iterator<Item = &'a [u8]> {
        let named =
            move |field: &&httparse::Header<'_>| field.name.eq_ignore_ascii_case(name.as_str());
        self.0.iter().filter(named).map(|field| field.value)
    }

    fn has(self, name: &HeaderName) -> bool {
        self.all(name).next().is_some()
    }

    /// Whether a header that is a list of words has this one.
    fn lists(self, name: &HeaderName, word: &str) -> bool {
        let mut words = self
            .all(name)
            .filter_map(|value| std::str::from_utf8(value).ok())
            .flat_map(|value| value.split(','));
        words.any(|one| one.trim().eq_ignore_ascii_case(word))
    }

    fn framing(self, status: StatusCode, latest: bool) -> Result<Framing, Malformed> {
        if status.is_informational()
            || matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED)
        {
            return Ok(Framing::Length(0));
        }
        let mut codings = self.all(&TRANSFER_ENCODING);
        if let Some(first) = codings.next() {
            // Other encodings were not asked for.
            let chunked = first.eq_ignore_ascii_case(b"chunked") && codings.next().is_none();
            return if chunked && latest {
                Ok(Framing::Chunked(Chunk::Size))
            } else {
                Err(Malformed::Length)
            };
        }
        let mut lengths = self.all(&CONTENT_LENGTH);
        let Some(first) = lengths.next() else { return Ok(Framing::Close) };
        let digits = std::str::from_utf8(first).ok();
        let digits = digits.filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()));
        let length = digits.and_then(|text| text.parse().ok()).ok_or(Malformed::Length)?;
        if lengths.any(|other| other != first) {
            return Err(Malformed::Length);
        }
        Ok(Framing::Length(length))
    }

    /// Those that tell of the answer.
    fn of_the_answer(self) -> Result<HeaderMap, Malformed> {
        let mut map = HeaderMap::new();
        for field in self.0 {
            if OF_THE_WAY.iter().any(|name| field.name.eq_ignore_ascii_case(name.as_str())) {
                continue;
            }
            let name = HeaderName::from_bytes(field.name.as_bytes())
                .map_err(|_| Malformed::Head(httparse::Error::HeaderName))?;
            let value = HeaderValue::from_bytes(field.value)
                .map_err(|_| Malformed::Head(httparse::Error::HeaderValue))?;
            map.append(name, value);
        }
        Ok(map)
    }
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
