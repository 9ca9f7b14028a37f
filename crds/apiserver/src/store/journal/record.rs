//! The bytes of a batch: how it is laid out, and how it is told from anything else. All numbers are little endian.
//!
//! | bytes | of a batch |
//! |---|---|
//! | 0..8 | [`MAGIC`] |
//! | 8..12 | CRC-32C of everything after it, padding left out |
//! | 12..16 | bytes of changes |
//! | 16..24, 24..32 | epoch and its tag |
//! | 32..40 | version of the first change; those after it count up by one |
//! | 40..44 | number of changes |
//! | 44.. | the changes, then zeros up to a multiple of [`BLOCK`] |
//!
//! A change is an operation (1 puts, 2 deletes), four lengths of 32 bits, and as many bytes of kind, namespace, name and JSON.

use std::borrow::Cow;

/// Batches begin and end at multiples of it: the page of the system and the largest sector of disks. So no write touches a
/// sector that holds something acknowledged.
pub(super) const BLOCK: usize = 4096;

/// Bytes before the changes.
pub(super) const HEADER: usize = 44;

/// How a batch begins. No JSON and no name contains these bytes, so that content is never taken for a batch.
const MAGIC: [u8; 8] = [0xff, b'w', b'e', b'f', b't', b'b', 0, 0xfe];

/// Bytes that the checksum does not cover: the magic and itself.
const UNCHECKED: usize = 12;

const PUT: u8 = 1;
const DELETE: u8 = 2;

/// A change of one object, as both files take it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::store) struct Entry<'a> {
    /// `plural.group`.
    pub(in crate::store) kind: Cow<'a, str>,
    pub(in crate::store) namespace: &'a str,
    pub(in crate::store) name: &'a str,
    pub(in crate::store) version: u64,
    /// None if it is deleted.
    pub(in crate::store) json: Option<&'a [u8]>,
}

/// Which run of the journal a batch is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::store) struct Epoch {
    /// Counts up with every start over.
    pub(in crate::store) number: u64,
    /// Drawn anew each time: two histories that went apart (one of the files is restored from a copy) count alike.
    pub(in crate::store) tag: u64,
}

/// What a batch says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Header {
    checksum: u32,
    /// Bytes of changes.
    pub(super) length: usize,
    pub(super) epoch: Epoch,
    /// Version of its first change.
    pub(super) first: u64,
    pub(super) count: u32,
}

/// Makes `buffer` the batch of these changes, which are in order of version. None if it cannot be one: it is too large.
pub(super) fn encode<'a>(
    buffer: &mut Vec<u8>,
    epoch: Epoch,
    entries: impl Iterator<Item = Entry<'a>>,
) -> Option<()> {
    buffer.clear();
    buffer.resize(HEADER, 0);
    let (mut first, mut count) = (None, 0_u32);
    for entry in entries {
        first.get_or_insert(entry.version);
        count = count.checked_add(1)?;
        put(buffer, &entry)?;
    }
    let length = u32::try_from(buffer.len().checked_sub(HEADER)?).ok()?;
    let mut header = Vec::with_capacity(HEADER);
    header.extend_from_slice(&MAGIC);
    header.extend_from_slice(&[0; 4]);
    header.extend_from_slice(&length.to_le_bytes());
    header.extend_from_slice(&epoch.number.to_le_bytes());
    header.extend_from_slice(&epoch.tag.to_le_bytes());
    header.extend_from_slice(&first.unwrap_or_default().to_le_bytes());
    header.extend_from_slice(&count.to_le_bytes());
    buffer.get_mut(..HEADER)?.copy_from_slice(&header);
    let checksum = crc32c::crc32c(buffer.get(UNCHECKED..)?);
    buffer.get_mut(MAGIC.len()..UNCHECKED)?.copy_from_slice(&checksum.to_le_bytes());
    buffer.resize(buffer.len().checked_next_multiple_of(BLOCK)?, 0);
    Some(())
}

fn put(buffer: &mut Vec<u8>, entry: &Entry<'_>) -> Option<()> {
    buffer.push(if entry.json.is_some() { PUT } else { DELETE });
    let parts = [
        entry.kind.as_bytes(),
        entry.namespace.as_bytes(),
        entry.name.as_bytes(),
        entry.json.unwrap_or_default(),
    ];
    for part in parts {
        buffer.extend_from_slice(&u32::try_from(part.len()).ok()?.to_le_bytes());
    }
    for part in parts {
        buffer.extend_from_slice(part);
    }
    Some(())
}

impl Header {
    /// What the batch that begins here says of itself. None if none begins here; one that does may still be torn.
    pub(super) fn parse(bytes: &[u8]) -> Option<Self> {
        let mut rest = Rest(bytes);
        if rest.bytes(MAGIC.len())? != MAGIC {
            return None;
        }
        let (checksum, length) = (rest.u32()?, rest.length()?);
        let epoch = Epoch { number: rest.u64()?, tag: rest.u64()? };
        Some(Self { checksum, length, epoch, first: rest.u64()?, count: rest.u32()? })
    }

    /// Bytes that it takes in the file.
    pub(super) fn size(&self) -> Option<usize> {
        self.length.checked_add(HEADER)?.checked_next_multiple_of(BLOCK)
    }

    /// Its changes, if `batch`, which begins with this header, is as it was written.
    pub(super) fn changes<'a>(&self, batch: &'a [u8]) -> Option<&'a [u8]> {
        let end = self.length.checked_add(HEADER)?;
        let checked = batch.get(UNCHECKED..end)?;
        (crc32c::crc32c(checked) == self.checksum).then(|| batch.get(HEADER..end))?
    }

    /// The changes, one by one. None if they are not what the header says, which no crash does.
    pub(super) fn decode<'a>(&self, changes: &'a [u8]) -> Option<Vec<Entry<'a>>> {
        let mut rest = Rest(changes);
        let mut entries = Vec::new();
        for n in 0..u64::from(self.count) {
            entries.push(rest.entry(self.first.checked_add(n)?)?);
        }
        rest.0.is_empty().then_some(entries)
    }

    /// The version of the first change that can follow.
    pub(super) fn next(&self) -> Option<u64> {
        self.first.checked_add(u64::from(self.count))
    }
}

/// Bytes not read yet.
pub(super) struct Rest<'a>(pub(super) &'a [u8]);

impl<'a> Rest<'a> {
    pub(super) fn bytes(&mut self, length: usize) -> Option<&'a [u8]> {
        let (bytes, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(bytes)
    }

    pub(super) fn u32(&mut self) -> Option<u32> {
        Some(u32::from_le_bytes(self.bytes(4)?.try_into().ok()?))
    }

    pub(super) fn u64(&mut self) -> Option<u64> {
        Some(u64::from_le_bytes(self.bytes(8)?.try_into().ok()?))
    }

    fn length(&mut self) -> Option<usize> {
        usize::try_from(self.u32()?).ok()
    }

    fn text(&mut self, length: usize) -> Option<&'a str> {
        std::str::from_utf8(self.bytes(length)?).ok()
    }

    fn entry(&mut self, version: u64) -> Option<Entry<'a>> {
        let operation = self.bytes(1)?.first().copied()?;
        let (kind, namespace, name) = (self.length()?, self.length()?, self.length()?);
        let json = self.length()?;
        let kind = Cow::Borrowed(self.text(kind)?);
        let (namespace, name) = (self.text(namespace)?, self.text(name)?);
        let json = self.bytes(json)?;
        let json = match operation {
            PUT => Some(json),
            DELETE if json.is_empty() => None,
            _ => return None,
        };
        Some(Entry { kind, namespace, name, version, json })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EPOCH: Epoch = Epoch { number: 3, tag: 99 };

    fn entry(version: u64, json: Option<&[u8]>) -> Entry<'_> {
        let kind = Cow::Borrowed("widgets.example.com");
        Entry { kind, namespace: "default", name: "one", version, json }
    }

    fn encoded(entries: &[Entry<'_>]) -> Vec<u8> {
        let mut buffer = Vec::new();
        encode(&mut buffer, EPOCH, entries.iter().cloned()).unwrap();
        buffer
    }

    #[test]
    fn what_was_encoded_is_read_back() {
        let large = vec![b'x'; 5_000];
        let entries =
            [entry(7, Some(b"{}")), entry(8, None), entry(9, Some(&large)), entry(10, Some(b""))];
        let batch = encoded(&entries);
        assert_eq!(batch.len(), 2 * BLOCK);
        let header = Header::parse(&batch).unwrap();
        assert_eq!((header.epoch, header.first, header.next()), (EPOCH, 7, Some(11)));
        assert_eq!(header.size(), Some(batch.len()));
        assert_eq!(header.decode(header.changes(&batch).unwrap()).unwrap(), entries);
    }

    #[test]
    fn a_flipped_bit_or_a_missing_end_is_noticed() {
        let batch = encoded(&[entry(7, Some(b"{\"a\":1}")), entry(8, None)]);
        let used = HEADER + Header::parse(&batch).unwrap().length;
        for bit in 0..used * 8 {
            let mut flipped = batch.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            let read = Header::parse(&flipped);
            assert!(read.and_then(|header| header.changes(&flipped)).is_none(), "bit {bit}");
        }
        for length in 0..used {
            let read = Header::parse(&batch[..length]);
            assert!(read.and_then(|header| header.changes(&batch[..length])).is_none());
        }
    }

    #[test]
    fn changes_that_the_header_does_not_describe_are_none() {
        let batch = encoded(&[entry(7, Some(b"{}"))]);
        let header = Header::parse(&batch).unwrap();
        let changes = header.changes(&batch).unwrap();
        assert!(Header { count: 2, ..header }.decode(changes).is_none());
        assert!(Header { count: 0, ..header }.decode(changes).is_none());
        assert!(Header { first: u64::MAX, count: 2, ..header }.decode(changes).is_none());
        let mut unknown = changes.to_vec();
        unknown[0] = 3;
        assert!(header.decode(&unknown).is_none());
    }
}
