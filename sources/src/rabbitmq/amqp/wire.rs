//! The values in frames (section 4.2.5): read without trust, written without loss.

use bytes::{BufMut, Bytes, BytesMut};

use super::AmqpError;

/// The longest short string: its length is one byte.
pub(crate) const MAX_SHORT: usize = 255;

/// What remains to be read of a payload.
#[derive(Clone, Debug)]
pub(crate) struct Reader<'a>(&'a [u8]);

/// The entries of a table, up to the first that cannot be read. A table within it is one entry and is not entered.
#[derive(Clone, Debug)]
pub(crate) struct Table<'a>(Reader<'a>);

/// A value in a table.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Field<'a> {
    /// A boolean.
    Bool(bool),
    /// An integer of any width.
    Int(i64),
    /// A float or a double.
    Float(f64),
    /// A long string: text by intent, any bytes by right.
    Text(&'a [u8]),
    /// Seconds since 1970.
    Time(u64),
    /// A table, an array, plain bytes, a decimal or nothing.
    Other,
}

impl<'a> Reader<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    pub(super) fn take(&mut self, count: usize) -> Result<&'a [u8], AmqpError> {
        let (taken, rest) = self
            .0
            .split_at_checked(count)
            .ok_or(AmqpError::Violation("a value is longer than its frame"))?;
        self.0 = rest;
        Ok(taken)
    }

    pub(super) fn u8(&mut self) -> Result<u8, AmqpError> {
        self.array().map(u8::from_be_bytes)
    }

    pub(super) fn u16(&mut self) -> Result<u16, AmqpError> {
        self.array().map(u16::from_be_bytes)
    }

    pub(super) fn u32(&mut self) -> Result<u32, AmqpError> {
        self.array().map(u32::from_be_bytes)
    }

    pub(super) fn u64(&mut self) -> Result<u64, AmqpError> {
        self.array().map(u64::from_be_bytes)
    }

    /// A short string. The specification wants UTF-8; nobody makes sure.
    pub(super) fn short(&mut self) -> Result<&'a [u8], AmqpError> {
        let length = self.u8()?;
        self.take(usize::from(length))
    }

    /// A long string.
    pub(super) fn long(&mut self) -> Result<&'a [u8], AmqpError> {
        let length = self.u32()?;
        self.take(usize::try_from(length).unwrap_or(usize::MAX))
    }

    pub(super) fn table(&mut self) -> Result<Table<'a>, AmqpError> {
        self.long().map(|bytes| Table(Reader(bytes)))
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], AmqpError> {
        let mut array = [0; N];
        array.copy_from_slice(self.take(N)?);
        Ok(array)
    }

    /// A value in a table, by `RabbitMQ`'s letters for the types, which differ from the specification's.
    fn field(&mut self) -> Result<Field<'a>, AmqpError> {
        Ok(match self.u8()? {
            b't' => Field::Bool(self.u8()? != 0),
            b'b' => Field::Int(i8::from_be_bytes(self.array()?).into()),
            b'B' => Field::Int(self.u8()?.into()),
            b's' | b'U' => Field::Int(i16::from_be_bytes(self.array()?).into()),
            b'u' => Field::Int(self.u16()?.into()),
            b'I' => Field::Int(i32::from_be_bytes(self.array()?).into()),
            b'i' => Field::Int(self.u32()?.into()),
            b'l' | b'L' => Field::Int(i64::from_be_bytes(self.array()?)),
            b'f' => Field::Float(f32::from_be_bytes(self.array()?).into()),
            b'd' => Field::Float(f64::from_be_bytes(self.array()?)),
            b'S' => Field::Text(self.long()?),
            b'T' => Field::Time(self.u64()?),
            b'F' | b'A' | b'x' => self.long().map(|_| Field::Other)?,
            b'D' => self.take(5).map(|_| Field::Other)?,
            b'V' => Field::Other,
            _ => return Err(AmqpError::Violation("a field has an unknown type")),
        })
    }
}

impl<'a> Iterator for Table<'a> {
    type Item = (&'a [u8], Field<'a>);

    fn next(&mut self) -> Option<Self::Item> {
        let name = self.0.short().ok()?;
        let field = self.0.field().ok();
        if field.is_none() {
            // Where the next entry begins is not known.
            self.0 = Reader(&[]);
        }
        Some((name, field?))
    }
}

/// Writes a short string. What is too long is cut: everything that users name is checked before.
pub(crate) fn put_short(out: &mut BytesMut, text: &str) {
    let bytes = text.as_bytes();
    let (kept, length) = match u8::try_from(bytes.len()) {
        Ok(length) => (bytes, length),
        Err(_) => (bytes.split_at(MAX_SHORT).0, u8::MAX),
    };
    out.put_u8(length);
    out.put_slice(kept);
}

/// Writes what has a length of four bytes before it: a long string, a table.
pub(crate) fn put_long(out: &mut BytesMut, bytes: &[u8]) {
    // Nobody sends as much: what is large is split into frames.
    out.put_u32(u32::try_from(bytes.len()).unwrap_or(u32::MAX));
    out.put_slice(bytes);
}

/// A table to send.
#[derive(Debug, Default)]
pub(crate) struct TableWriter(BytesMut);

impl TableWriter {
    pub(crate) fn text(mut self, name: &str, value: &str) -> Self {
        put_short(&mut self.0, name);
        self.0.put_u8(b'S');
        put_long(&mut self.0, value.as_bytes());
        self
    }

    pub(crate) fn flag(mut self, name: &str) -> Self {
        put_short(&mut self.0, name);
        self.0.put_slice(&[b't', 1]);
        self
    }

    pub(crate) fn table(mut self, name: &str, value: &Self) -> Self {
        put_short(&mut self.0, name);
        self.0.put_u8(b'F');
        put_long(&mut self.0, &value.0);
        self
    }

    /// The entries, without their length.
    pub(crate) fn finish(self) -> Bytes {
        self.0.freeze()
    }
}
