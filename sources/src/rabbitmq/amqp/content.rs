//! Messages: a method that delivers, a header with the properties, and a body in frames (section 4.2.6).

use bytes::{BufMut, Bytes, BytesMut};

use super::wire::{Reader, Table, put_long, put_short};
use super::{AmqpError, LargeProperties};

/// A message that was delivered.
#[derive(Clone, Debug)]
pub(crate) struct Delivery {
    /// Its number on the channel, by which it is acknowledged.
    pub(crate) tag: u64,
    /// The exchange it was published to.
    pub(crate) exchange: Bytes,
    /// The key it was published with.
    pub(crate) routing_key: Bytes,
    /// The flags and the properties, as they came.
    pub(crate) properties: Bytes,
    /// The body.
    pub(crate) body: Bytes,
    /// The size of a body that is too large to be kept; then `body` is empty.
    pub(crate) too_large: Option<u64>,
}

/// What a publisher says of a message beside its body. Texts may be any bytes.
#[derive(Clone, Debug, Default)]
pub(crate) struct Properties<'a> {
    pub(crate) content_type: Option<&'a [u8]>,
    pub(crate) content_encoding: Option<&'a [u8]>,
    pub(crate) headers: Option<Table<'a>>,
    pub(crate) priority: Option<u8>,
    pub(crate) correlation_id: Option<&'a [u8]>,
    pub(crate) reply_to: Option<&'a [u8]>,
    pub(crate) message_id: Option<&'a [u8]>,
    /// Seconds since 1970.
    pub(crate) timestamp: Option<u64>,
    /// The property `type`.
    pub(crate) kind: Option<&'a [u8]>,
    pub(crate) user_id: Option<&'a [u8]>,
    pub(crate) app_id: Option<&'a [u8]>,
}

/// A message to publish. It is to outlive the server (delivery mode 2).
#[derive(Clone, Debug)]
pub(crate) struct Publication {
    /// At most [`MAX_SHORT`](super::MAX_SHORT) bytes, as the content type and the id.
    pub(crate) routing_key: String,
    pub(crate) content_type: Option<String>,
    /// The entries of a table.
    pub(crate) headers: Bytes,
    /// By it a message that comes back is known.
    pub(crate) message_id: String,
    pub(crate) body: Bytes,
}

/// A message of which not all frames have come.
#[derive(Debug)]
pub(super) struct Assembly {
    delivery: Delivery,
    body: Body,
    /// Whether it was published here and comes back.
    returned: bool,
}

#[derive(Debug)]
enum Body {
    /// The header has not come.
    Unknown,
    /// So many bytes are still to come.
    Kept { parts: BytesMut, missing: u64 },
    /// The same, of a body that is too large.
    Dropped { missing: u64 },
}

impl Delivery {
    /// What the publisher said of it; nothing after the first property that cannot be read.
    pub(crate) fn properties(&self) -> Properties<'_> {
        let mut properties = Properties::default();
        // The server has read all of it when it was published, so there is nothing to complain of.
        drop(properties.read(&self.properties));
        properties
    }

    /// The memory it holds, about.
    pub(crate) fn size(&self) -> usize {
        self.body.len() + self.properties.len() + size_of::<Self>()
    }
}

impl<'a> Properties<'a> {
    fn read(&mut self, bytes: &'a [u8]) -> Result<(), AmqpError> {
        let mut reader = Reader::new(bytes);
        let flags = reader.u16()?;
        // The last bit would say that more flags follow; there are no more properties.
        let has = |property: u16| flags & (1 << (15 - property)) != 0;
        let short = |reader: &mut Reader<'a>, property, into: &mut Option<&'a [u8]>| {
            if has(property) {
                *into = Some(reader.short()?);
            }
            Ok::<(), AmqpError>(())
        };
        let mut unused = None;
        short(&mut reader, 0, &mut self.content_type)?;
        short(&mut reader, 1, &mut self.content_encoding)?;
        if has(2) {
            self.headers = Some(reader.table()?);
        }
        if has(3) {
            // How it was to be kept, which no longer matters.
            reader.u8()?;
        }
        if has(4) {
            self.priority = Some(reader.u8()?);
        }
        short(&mut reader, 5, &mut self.correlation_id)?;
        short(&mut reader, 6, &mut self.reply_to)?;
        // When it was to be dropped.
        short(&mut reader, 7, &mut unused)?;
        short(&mut reader, 8, &mut self.message_id)?;
        if has(9) {
            self.timestamp = Some(reader.u64()?);
        }
        short(&mut reader, 10, &mut self.kind)?;
        short(&mut reader, 11, &mut self.user_id)?;
        short(&mut reader, 12, &mut self.app_id)
    }
}

impl Publication {
    /// The payload of the header, which has to fit into a frame with room for `most` bytes.
    pub(super) fn header(&self, most: usize) -> Result<Bytes, LargeProperties> {
        const CLASS: u16 = 60;
        const PERSISTENT: u8 = 2;
        let has = |property: u16| 1 << (15 - property);
        let flags = has(2) | has(3) | has(8);
        let mut out = BytesMut::with_capacity(64 + self.headers.len());
        out.put_u16(CLASS);
        // A weight that is not used.
        out.put_u16(0);
        out.put_u64(u64::try_from(self.body.len()).unwrap_or(u64::MAX));
        out.put_u16(if self.content_type.is_some() { flags | has(0) } else { flags });
        if let Some(content_type) = &self.content_type {
            put_short(&mut out, content_type);
        }
        put_long(&mut out, &self.headers);
        out.put_u8(PERSISTENT);
        put_short(&mut out, &self.message_id);
        if out.len() <= most { Ok(out.freeze()) } else { Err(LargeProperties) }
    }
}

impl Assembly {
    /// Begins with the arguments of `basic.deliver`.
    pub(super) fn new(arguments: &Bytes) -> Result<Self, AmqpError> {
        let mut reader = Reader::new(arguments);
        // The consumer's name: all consumers are ours, one after the other.
        reader.short()?;
        let tag = reader.u64()?;
        // Whether it was delivered before. An event is the same each time it comes, so it is not told.
        reader.u8()?;
        let exchange = arguments.slice_ref(reader.short()?);
        let routing_key = arguments.slice_ref(reader.short()?);
        let (properties, body) = (Bytes::new(), Bytes::new());
        let delivery = Delivery { tag, exchange, routing_key, properties, body, too_large: None };
        Ok(Self { delivery, body: Body::Unknown, returned: false })
    }

    /// Begins with the arguments of `basic.return`.
    pub(super) fn returned(arguments: &Bytes) -> Result<Self, AmqpError> {
        let mut reader = Reader::new(arguments);
        // Why: there is one reason only, that no queue gets it.
        reader.u16()?;
        reader.short()?;
        let exchange = arguments.slice_ref(reader.short()?);
        let routing_key = arguments.slice_ref(reader.short()?);
        let (properties, body) = (Bytes::new(), Bytes::new());
        let delivery =
            Delivery { tag: 0, exchange, routing_key, properties, body, too_large: None };
        Ok(Self { delivery, body: Body::Unknown, returned: true })
    }

    pub(super) fn is_returned(&self) -> bool {
        self.returned
    }

    /// Adds the header. A body of more than `limit` bytes is not kept, nor is one that comes back.
    pub(super) fn header(&mut self, payload: &Bytes, limit: u64) -> Result<(), AmqpError> {
        let limit = if self.returned { 0 } else { limit };
        let Body::Unknown = self.body else {
            return Err(AmqpError::Violation("a message has two headers"));
        };
        let mut reader = Reader::new(payload);
        // The class, which is that of the method, and a weight that is not used.
        reader.take(4)?;
        let missing = reader.u64()?;
        self.delivery.properties = payload.slice(12..);
        if missing > limit {
            self.delivery.too_large = Some(missing);
            self.body = Body::Dropped { missing };
        } else {
            self.body = Body::Kept { parts: BytesMut::new(), missing };
        }
        Ok(())
    }

    /// Adds a part of the body.
    pub(super) fn body(&mut self, part: Bytes) -> Result<(), AmqpError> {
        let length = u64::try_from(part.len()).unwrap_or(u64::MAX);
        let (Body::Kept { missing, .. } | Body::Dropped { missing }) = &mut self.body else {
            return Err(AmqpError::Violation("a message has a body before its header"));
        };
        *missing = missing
            .checked_sub(length)
            .ok_or(AmqpError::Violation("a body is longer than its header says"))?;
        if let Body::Kept { parts, missing } = &mut self.body {
            if *missing == 0 && parts.is_empty() {
                // The usual case, without a copy.
                self.delivery.body = part;
            } else {
                // All of it at once: growing by steps would hold a large body twice.
                parts.reserve(part.len() + usize::try_from(*missing).unwrap_or_default());
                parts.extend_from_slice(&part);
            }
        }
        Ok(())
    }

    /// Whether nothing is missing.
    pub(super) fn is_whole(&self) -> bool {
        matches!(self.body, Body::Kept { missing: 0, .. } | Body::Dropped { missing: 0 })
    }

    /// The message, with what there is of its body.
    pub(super) fn finish(self) -> Delivery {
        let mut delivery = self.delivery;
        if let Body::Kept { parts, .. } = self.body
            && !parts.is_empty()
        {
            delivery.body = parts.freeze();
        }
        delivery
    }
}
