//! Frames (section 4.2.3): type, channel, size, payload, and an octet that proves that both sides count alike.

use bytes::{Buf, BufMut, Bytes, BytesMut};

use super::AmqpError;

/// Bytes of a frame beside its payload.
pub(super) const OVERHEAD: usize = 8;

const HEADER: usize = 7;
const END: u8 = 0xce;

/// What is in a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Method,
    Header,
    Body,
    Heartbeat,
}

/// One frame.
#[derive(Debug)]
pub(super) struct Frame {
    pub(super) kind: Kind,
    pub(super) channel: u16,
    pub(super) payload: Bytes,
}

/// Takes a frame off the front of `buffer`, if all of it is there. A payload of more than `limit` bytes is refused before it
/// is waited for.
pub(super) fn take(buffer: &mut BytesMut, limit: usize) -> Result<Option<Frame>, AmqpError> {
    let Some(&[kind, c1, c2, s1, s2, s3, s4]) = buffer.first_chunk::<HEADER>() else {
        return Ok(None);
    };
    let kind = match kind {
        1 => Kind::Method,
        2 => Kind::Header,
        3 => Kind::Body,
        8 => Kind::Heartbeat,
        // The first letter of the header that a server answers to a version it does not speak (section 4.2.2).
        b'A' => return Err(AmqpError::Violation("it does not speak AMQP 0-9-1")),
        _ => return Err(AmqpError::Violation("a frame has an unknown type")),
    };
    let size = usize::try_from(u32::from_be_bytes([s1, s2, s3, s4])).unwrap_or(usize::MAX);
    if size > limit {
        return Err(AmqpError::Violation("a frame is larger than was agreed"));
    }
    if buffer.len() < size + OVERHEAD {
        buffer.reserve(size + OVERHEAD - buffer.len());
        return Ok(None);
    }
    buffer.advance(HEADER);
    let payload = buffer.split_to(size).freeze();
    if buffer.get_u8() != END {
        return Err(AmqpError::Violation("a frame does not end where it should"));
    }
    Ok(Some(Frame { kind, channel: u16::from_be_bytes([c1, c2]), payload }))
}

/// Appends a frame whose payload `write` writes.
pub(super) fn put(out: &mut BytesMut, kind: Kind, channel: u16, write: impl FnOnce(&mut BytesMut)) {
    out.put_u8(match kind {
        Kind::Method => 1,
        Kind::Header => 2,
        Kind::Body => 3,
        Kind::Heartbeat => 8,
    });
    out.put_u16(channel);
    let mut payload = BytesMut::new();
    write(&mut payload);
    super::wire::put_long(out, &payload);
    out.put_u8(END);
}
