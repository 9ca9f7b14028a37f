//! The methods that are sent and understood (section 1.4 of the reference, with their numbers).

use bytes::{BufMut, Bytes, BytesMut};

use super::AmqpError;
use super::frame::{self, Kind};
use super::wire::{Reader, TableWriter, put_long, put_short};

/// Class and number of a method.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Id(u16, u16);

pub(super) const START: Id = Id(10, 10);
pub(super) const START_OK: Id = Id(10, 11);
pub(super) const TUNE: Id = Id(10, 30);
pub(super) const TUNE_OK: Id = Id(10, 31);
pub(super) const OPEN: Id = Id(10, 40);
pub(super) const OPEN_OK: Id = Id(10, 41);
pub(super) const CLOSE: Id = Id(10, 50);
pub(super) const CLOSE_OK: Id = Id(10, 51);
/// The server is short of memory or disk, or no longer: it concerns those who publish.
pub(super) const BLOCKED: Id = Id(10, 60);
pub(super) const UNBLOCKED: Id = Id(10, 61);
pub(super) const CHANNEL_CLOSE: Id = Id(20, 40);
pub(super) const CANCEL: Id = Id(60, 30);
pub(super) const CANCEL_OK: Id = Id(60, 31);
const PUBLISH: Id = Id(60, 40);
/// A message that was to go to a queue, and went to none.
pub(super) const RETURN: Id = Id(60, 50);
pub(super) const DELIVER: Id = Id(60, 60);
/// Of a consumer: it is done with a message. Of the server: it has taken one that was published.
pub(super) const ACK: Id = Id(60, 80);
pub(super) const NACK: Id = Id(60, 120);
const CHANNEL_OPEN: Id = Id(20, 10);
const CHANNEL_OPEN_OK: Id = Id(20, 11);
const EXCHANGE_DECLARE: Id = Id(40, 10);
const EXCHANGE_DECLARE_OK: Id = Id(40, 11);
const QUEUE_DECLARE: Id = Id(50, 10);
pub(super) const QUEUE_DECLARE_OK: Id = Id(50, 11);
const QUEUE_BIND: Id = Id(50, 20);
const QUEUE_BIND_OK: Id = Id(50, 21);
const QOS: Id = Id(60, 10);
const QOS_OK: Id = Id(60, 11);
const CONSUME: Id = Id(60, 20);
const CONSUME_OK: Id = Id(60, 21);
const REJECT: Id = Id(60, 90);
const CONFIRM_SELECT: Id = Id(85, 10);
const CONFIRM_SELECT_OK: Id = Id(85, 11);

/// What is asked for on a channel, and answered.
#[derive(Clone, Debug)]
pub(crate) enum Declaration<'a> {
    /// The channel itself.
    Channel,
    /// That there is an exchange; unless `kind` is given it is not made.
    Exchange { name: &'a str, kind: Option<&'a str> },
    /// That there is a queue; unless it has a `kind` it is not made.
    Queue { name: &'a str, kind: Option<&'a str> },
    /// That the exchange puts into the queue what has that routing key, or, of a headers exchange, everything.
    Binding { exchange: &'a str, queue: &'a str, key: Option<&'a str> },
    /// How many messages may be under way without acknowledgement.
    Prefetch(u16),
    /// That messages are delivered to a consumer of that name. Without `wait` only a failure is answered, by closing the channel.
    Consumer { queue: &'a str, tag: &'a str, wait: bool },
    /// That no more messages are delivered to that consumer; not answered.
    End { tag: &'a str },
    /// That the server says of each message that is published on the channel whether it has taken it. `RabbitMQ`'s own.
    Confirms,
}

impl Declaration<'_> {
    /// What is sent, and what is awaited.
    pub(super) fn ids(&self) -> (Id, Id) {
        match self {
            Self::Channel => (CHANNEL_OPEN, CHANNEL_OPEN_OK),
            Self::Exchange { .. } => (EXCHANGE_DECLARE, EXCHANGE_DECLARE_OK),
            Self::Queue { .. } => (QUEUE_DECLARE, QUEUE_DECLARE_OK),
            Self::Binding { .. } => (QUEUE_BIND, QUEUE_BIND_OK),
            Self::Prefetch(_) => (QOS, QOS_OK),
            Self::Consumer { .. } => (CONSUME, CONSUME_OK),
            Self::End { .. } => (CANCEL, CANCEL_OK),
            Self::Confirms => (CONFIRM_SELECT, CONFIRM_SELECT_OK),
        }
    }

    pub(super) fn write(&self, out: &mut BytesMut) {
        // The first field of most methods is reserved, as are the last bits.
        match self {
            Self::Channel => put_short(out, ""),
            Self::Exchange { name, kind } => {
                out.put_u16(0);
                put_short(out, name);
                put_short(out, kind.unwrap_or("headers"));
                out.put_u8(passive_or_durable(kind.is_none()));
                put_long(out, &[]);
            }
            Self::Queue { name, kind } => {
                out.put_u16(0);
                put_short(out, name);
                out.put_u8(passive_or_durable(kind.is_none()));
                let arguments = kind.map(|kind| TableWriter::default().text("x-queue-type", kind));
                put_long(out, &arguments.unwrap_or_default().finish());
            }
            Self::Binding { exchange, queue, key } => {
                out.put_u16(0);
                for name in [*queue, *exchange, key.unwrap_or_default()] {
                    put_short(out, name);
                }
                out.put_u8(0);
                // No header is asked for, so all of none match.
                let every = || TableWriter::default().text("x-match", "all");
                put_long(out, &key.map_or_else(every, |_| TableWriter::default()).finish());
            }
            Self::Prefetch(count) => {
                // Of any size; for the consumers to come rather than for the channel, which quorum queues refuse.
                out.put_u32(0);
                out.put_u16(*count);
                out.put_u8(0);
            }
            Self::Consumer { queue, tag, wait } => {
                out.put_u16(0);
                put_short(out, queue);
                put_short(out, tag);
                out.put_u8(if *wait { 0 } else { 0b1000 });
                put_long(out, &[]);
            }
            Self::End { tag } => {
                put_short(out, tag);
                out.put_u8(1);
            }
            Self::Confirms => out.put_u8(0),
        }
    }
}

/// The two first bits of both declarations.
fn passive_or_durable(passive: bool) -> u8 {
    if passive { 0b01 } else { 0b10 }
}

/// How many messages are ready in a queue, by the answer to its declaration.
pub(super) fn depth(answer: &[u8]) -> Result<u32, AmqpError> {
    let mut reader = Reader::new(answer);
    reader.short()?;
    reader.u32()
}

/// Appends a method whose arguments `write` writes.
pub(super) fn put(
    out: &mut BytesMut,
    channel: u16,
    Id(class, method): Id,
    write: impl FnOnce(&mut BytesMut),
) {
    frame::put(out, Kind::Method, channel, |out| {
        out.put_u16(class);
        out.put_u16(method);
        write(out);
    });
}

/// Acknowledges a message, and with `multiple` all before it on the channel.
pub(super) fn put_ack(out: &mut BytesMut, channel: u16, tag: u64, multiple: bool) {
    put(out, channel, ACK, |out| {
        out.put_u64(tag);
        out.put_u8(multiple.into());
    });
}

/// Announces a message to an exchange. It comes back if no queue gets it.
pub(super) fn put_publish(out: &mut BytesMut, channel: u16, exchange: &str, routing_key: &str) {
    const MANDATORY: u8 = 1;
    put(out, channel, PUBLISH, |out| {
        out.put_u16(0);
        put_short(out, exchange);
        put_short(out, routing_key);
        out.put_u8(MANDATORY);
    });
}

/// Which message was confirmed, and whether with it all before it were.
pub(super) fn confirmed(arguments: &[u8]) -> Result<(u64, bool), AmqpError> {
    let mut reader = Reader::new(arguments);
    Ok((reader.u64()?, reader.u8()? & 1 != 0))
}

/// Gives up a message: the queue's dead letter exchange has it then, if the queue has one.
pub(super) fn put_reject(out: &mut BytesMut, channel: u16, tag: u64) {
    put(out, channel, REJECT, |out| {
        out.put_u64(tag);
        out.put_u8(0);
    });
}

/// The method in a frame: its name, and the arguments.
pub(super) fn read(payload: &Bytes) -> Result<(Id, Bytes), AmqpError> {
    let mut reader = Reader::new(payload);
    let id = Id(reader.u16()?, reader.u16()?);
    Ok((id, payload.slice(4..)))
}

/// What a server says when it closes a connection or a channel.
pub(super) fn refusal(arguments: &[u8]) -> AmqpError {
    let mut reader = Reader::new(arguments);
    let (code, text) = (reader.u16().unwrap_or_default(), reader.short().unwrap_or_default());
    let text = String::from_utf8_lossy(text);
    let text = text.chars().map(|char| if char.is_control() { ' ' } else { char }).collect();
    AmqpError::Refused { code, text }
}
