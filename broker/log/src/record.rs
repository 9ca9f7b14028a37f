//! Encodes and checks records, which are laid out as the [crate's page](crate#records) says.

use crc32c::crc32c_append;

/// Bytes before the payload.
pub(crate) const HEADER: usize = 40;
/// [`HEADER`] as a file distance.
pub(crate) const HEADER_BYTES: u64 = HEADER as u64;
/// Longest payload the length field can say.
pub(crate) const MAX_PAYLOAD: usize = LENGTH_MASK as usize;

const LENGTH_MASK: u32 = (1 << FLAGS_SHIFT) - 1;
const FLAGS_SHIFT: u32 = 28;

/// First record of its entry.
pub(crate) const FIRST: u8 = 1;
/// Last record of its entry.
pub(crate) const LAST: u8 = 2;
/// Not a record of anybody's: says that the offsets from `offset` to `time_ms` hold nothing.
pub(crate) const GAP: u8 = 4;

/// Where a record stands; part of what its checksum covers.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place {
    pub(crate) tag: u64,
    pub(crate) position: u64,
}

/// What precedes a payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) length: u32,
    pub(crate) flags: u8,
    pub(crate) offset: u64,
    pub(crate) time_ms: u64,
    pub(crate) stream: u32,
    pub(crate) group: u32,
}

impl Header {
    pub(crate) fn is(&self, flag: u8) -> bool {
        self.flags & flag != 0
    }

    /// Header and payload, in bytes.
    pub(crate) fn size(&self) -> u64 {
        HEADER_BYTES.saturating_add(u64::from(self.length))
    }

    /// Every offset below was durable before this record was written.
    pub(crate) fn group_start(&self) -> u64 {
        self.offset.saturating_sub(u64::from(self.group))
    }

    /// The offset after this record, or after the gap it stands for.
    pub(crate) fn next(&self) -> u64 {
        if self.is(GAP) { self.time_ms.max(self.offset) } else { self.offset.saturating_add(1) }
    }
}

/// Appends a record to `out`. `header.length` is taken from `payload`.
pub(crate) fn encode(out: &mut Vec<u8>, place: Place, header: Header, payload: &[u8]) {
    debug_assert!(payload.len() <= MAX_PAYLOAD, "append refuses longer ones");
    let length = u32::try_from(payload.len()).unwrap_or(LENGTH_MASK) & LENGTH_MASK;
    let mut rest = [0; HEADER - 12];
    let fields: [&[u8]; 5] = [
        &(length | u32::from(header.flags) << FLAGS_SHIFT).to_le_bytes(),
        &header.offset.to_le_bytes(),
        &header.time_ms.to_le_bytes(),
        &header.stream.to_le_bytes(),
        &header.group.to_le_bytes(),
    ];
    for (slot, byte) in rest.iter_mut().zip(fields.into_iter().flatten()) {
        *slot = *byte;
    }
    out.extend_from_slice(&place.tag.to_le_bytes());
    out.extend_from_slice(&checksum(place, &rest, payload).to_le_bytes());
    out.extend_from_slice(&rest);
    out.extend_from_slice(payload);
}

/// Reads a header without believing it: the tag matches, nothing else is checked.
pub(crate) fn peek(bytes: &[u8], tag: u64) -> Option<Header> {
    if le64(bytes, 0)? != tag {
        return None;
    }
    let length = le32(bytes, 12)?;
    Some(Header {
        length: length & LENGTH_MASK,
        flags: u8::try_from(length >> FLAGS_SHIFT).expect("four bits"),
        offset: le64(bytes, 16)?,
        time_ms: le64(bytes, 24)?,
        stream: le32(bytes, 32)?,
        group: le32(bytes, 36)?,
    })
}

/// Whether `record`, header and payload, is what was written at `place`.
pub(crate) fn verify(record: &[u8], place: Place) -> bool {
    let Some((head, payload)) = record.split_at_checked(HEADER) else { return false };
    let (Some(stored), Some(rest)) = (le32(head, 8), head.get(12..)) else { return false };
    stored == checksum(place, rest, payload)
}

fn checksum(place: Place, rest: &[u8], payload: &[u8]) -> u32 {
    let crc = crc32c_append(0, &place.tag.to_le_bytes());
    let crc = crc32c_append(crc, &place.position.to_le_bytes());
    crc32c_append(crc32c_append(crc, rest), payload)
}

/// The little-endian number at `at`, if `bytes` reach that far.
pub(crate) fn le64(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(*bytes.get(at..)?.first_chunk()?))
}

/// The little-endian number at `at`, if `bytes` reach that far.
pub(crate) fn le32(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(*bytes.get(at..)?.first_chunk()?))
}

/// A file distance as a length in memory. What does not fit fails to allocate, it does not wrap.
pub(crate) fn in_memory(bytes: u64) -> usize {
    usize::try_from(bytes).unwrap_or(usize::MAX)
}

/// Whether there is nothing but zeros.
pub(crate) fn is_blank(bytes: &[u8]) -> bool {
    let (chunks, rest) = bytes.as_chunks::<64>();
    chunks.iter().all(|chunk| *chunk == [0; 64]) && rest.iter().all(|byte| *byte == 0)
}

/// A number nobody can guess; never zero, so that blank pages do not look like records.
pub(crate) fn random_tag() -> u64 {
    use std::hash::{BuildHasher, Hasher};
    // The standard library seeds this from the system's random source.
    std::hash::RandomState::new().build_hasher().finish().max(1)
}

#[cfg(test)]
mod tests {
    use super::{FIRST, HEADER, Header, LAST, Place, encode, peek, verify};

    const PLACE: Place = Place { tag: 0x1122_3344_5566_7788, position: 4096 };

    fn sample() -> Vec<u8> {
        let header =
            Header { length: 5, flags: FIRST | LAST, offset: 7, time_ms: 8, stream: 9, group: 3 };
        let mut bytes = Vec::new();
        encode(&mut bytes, PLACE, header, b"hello");
        assert_eq!(peek(&bytes, PLACE.tag), Some(header));
        bytes
    }

    #[test]
    fn a_record_is_valid_only_where_it_was_written() {
        let bytes = sample();
        assert_eq!(bytes.len(), HEADER + 5);
        assert!(verify(&bytes, PLACE));
        assert!(!verify(&bytes, Place { position: 8192, ..PLACE }));
        assert!(!verify(&bytes, Place { tag: 1, ..PLACE }));
    }

    #[test]
    fn every_flipped_bit_is_noticed() {
        let bytes = sample();
        for bit in 0..bytes.len() * 8 {
            let mut bad = bytes.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            let good = peek(&bad, PLACE.tag).is_some() && verify(&bad, PLACE);
            assert!(!good, "bit {bit}");
        }
    }
}
