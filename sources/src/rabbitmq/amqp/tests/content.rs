//! Messages as publishers make them, good and bad.

use bytes::{BufMut, Bytes, BytesMut};

use super::super::Delivery;
use super::super::wire::{put_long, put_short};
use super::frame;

/// A body, a route, and properties.
#[derive(Clone, Debug, Default)]
pub(crate) struct Content {
    pub(crate) body: Bytes,
    exchange: String,
    routing_key: String,
    headers: BytesMut,
    /// The properties by their numbers, as they are sent.
    properties: [Option<Vec<u8>>; 13],
}

impl Content {
    pub(crate) fn new(body: &[u8]) -> Self {
        Self { body: Bytes::copy_from_slice(body), ..Self::default() }
    }

    pub(crate) fn routed(mut self, exchange: &str, routing_key: &str) -> Self {
        (self.exchange, self.routing_key) = (exchange.to_owned(), routing_key.to_owned());
        self
    }

    pub(crate) fn text(self, name: &str, value: &[u8]) -> Self {
        let mut field = BytesMut::from(&b"S"[..]);
        put_long(&mut field, value);
        self.raw(name.as_bytes(), &field)
    }

    pub(crate) fn flag(self, name: &str) -> Self {
        self.raw(name.as_bytes(), b"t\x01")
    }

    pub(crate) fn int(self, name: &str, value: i32) -> Self {
        self.raw(name.as_bytes(), &[&b"I"[..], &value.to_be_bytes()].concat())
    }

    pub(crate) fn long(self, name: &str, value: i64) -> Self {
        self.raw(name.as_bytes(), &[&b"l"[..], &value.to_be_bytes()].concat())
    }

    pub(crate) fn time(self, name: &str, seconds: u64) -> Self {
        self.raw(name.as_bytes(), &[&b"T"[..], &seconds.to_be_bytes()].concat())
    }

    /// Tables within tables.
    pub(crate) fn nested(self, name: &str, depth: usize) -> Self {
        let mut innermost_last = BytesMut::new();
        for level in (0..depth).rev() {
            // Each but the innermost holds a nameless entry: its name, its type and its length take six bytes.
            innermost_last.put_u32(u32::try_from(level * 6).unwrap());
            if level > 0 {
                innermost_last.put_slice(&[0, b'F']);
            }
        }
        self.raw(name.as_bytes(), &[&b"F"[..], &innermost_last].concat())
    }

    /// A header with any bytes for a name, and any for type and value.
    pub(crate) fn raw(mut self, name: &[u8], field: &[u8]) -> Self {
        self.headers.put_u8(u8::try_from(name.len()).unwrap());
        self.headers.put_slice(name);
        self.headers.put_slice(field);
        self
    }

    pub(crate) fn content_type(self, value: &[u8]) -> Self {
        self.short(0, value)
    }

    pub(crate) fn content_encoding(self, value: &[u8]) -> Self {
        self.short(1, value)
    }

    pub(crate) fn priority(self, value: u8) -> Self {
        self.property(4, vec![value])
    }

    pub(crate) fn correlation_id(self, value: &[u8]) -> Self {
        self.short(5, value)
    }

    pub(crate) fn reply_to(self, value: &[u8]) -> Self {
        self.short(6, value)
    }

    pub(crate) fn message_id(self, value: &[u8]) -> Self {
        self.short(8, value)
    }

    pub(crate) fn timestamp(self, seconds: u64) -> Self {
        self.property(9, seconds.to_be_bytes().to_vec())
    }

    pub(crate) fn kind(self, value: &[u8]) -> Self {
        self.short(10, value)
    }

    pub(crate) fn user_id(self, value: &[u8]) -> Self {
        self.short(11, value)
    }

    pub(crate) fn app_id(self, value: &[u8]) -> Self {
        self.short(12, value)
    }

    fn short(self, number: usize, value: &[u8]) -> Self {
        let length = u8::try_from(value.len()).unwrap();
        self.property(number, [&[length][..], value].concat())
    }

    fn property(mut self, number: usize, bytes: Vec<u8>) -> Self {
        self.properties[number] = Some(bytes);
        self
    }

    /// Flags and properties.
    fn sent_properties(&self) -> Vec<u8> {
        let mut properties = self.properties.clone();
        // Always with headers and a delivery mode, as clients send them.
        let mut headers = BytesMut::new();
        put_long(&mut headers, &self.headers);
        properties[2] = Some(headers.to_vec());
        properties[3] = Some(vec![2]);
        let present = properties.iter().enumerate().filter(|(_, bytes)| bytes.is_some());
        let flags: u16 = present.map(|(number, _)| 1 << (15 - number)).sum();
        [flags.to_be_bytes().to_vec(), properties.into_iter().flatten().flatten().collect()]
            .concat()
    }

    /// The arguments of `basic.deliver`.
    pub(crate) fn arguments(&self, tag: u64) -> Vec<u8> {
        let mut arguments = BytesMut::new();
        put_short(&mut arguments, "ctag");
        arguments.put_u64(tag);
        arguments.put_u8(0);
        put_short(&mut arguments, &self.exchange);
        put_short(&mut arguments, &self.routing_key);
        arguments.to_vec()
    }

    /// The frame of `basic.deliver`.
    pub(crate) fn method(&self, tag: u64) -> Vec<u8> {
        frame(1, 1, &[&[0, 60, 0, 60][..], &self.arguments(tag)].concat())
    }

    /// The payload of the header.
    pub(crate) fn header(&self) -> Vec<u8> {
        let size = u64::try_from(self.body.len()).unwrap();
        [&[0, 60, 0, 0][..], &size.to_be_bytes(), &self.sent_properties()].concat()
    }

    /// All frames of a delivery, with bodies in pieces of 128 KiB.
    pub(crate) fn frames(&self, tag: u64) -> Vec<u8> {
        let mut frames = [self.method(tag), frame(2, 1, &self.header())].concat();
        for part in self.body.chunks(131_064) {
            frames.extend(frame(3, 1, part));
        }
        frames
    }

    /// All frames of a message that comes back, because no queue gets it.
    pub(crate) fn returned(&self) -> Vec<u8> {
        let mut arguments = BytesMut::new();
        arguments.put_u16(312);
        put_short(&mut arguments, "NO_ROUTE");
        put_short(&mut arguments, &self.exchange);
        put_short(&mut arguments, &self.routing_key);
        let method = frame(1, 1, &[&[0, 60, 0, 50][..], &arguments].concat());
        let body = frame(3, 1, &self.body);
        [method, frame(2, 1, &self.header()), body].concat()
    }

    /// What a client makes of them.
    pub(crate) fn delivery(&self, tag: u64) -> Delivery {
        Delivery {
            tag,
            exchange: self.exchange.clone().into(),
            routing_key: self.routing_key.clone().into(),
            properties: self.sent_properties().into(),
            body: self.body.clone(),
            too_large: None,
        }
    }
}
