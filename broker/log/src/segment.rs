//! A segment file: its name and its header, which is laid out as the [crate's page](crate#segments) says.

use std::path::{Path, PathBuf};

use crc32c::crc32c;

use crate::record::{self, le32, le64};

/// Where the records begin.
pub(crate) const FIRST_RECORD: u64 = (COPY * 2) as u64;
/// Of segments and their index files.
pub(crate) const VERSION: u32 = 1;

const MAGIC: [u8; 8] = *b"WEFTSEG\n";
const COPY: usize = 64;
const CHECKED: usize = 60;

/// What a segment's first bytes say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Head {
    pub(crate) tag: u64,
    pub(crate) base: u64,
    /// `Some` in a rewritten segment: it holds what was live in `base .. end`, and older files of that range are superseded.
    pub(crate) end: Option<u64>,
}

/// What reading a header came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum HeadRead {
    Good(Head),
    /// Both copies are damaged.
    Lost,
    /// Written by a newer program.
    Newer(u32),
}

impl Head {
    /// Of a new segment that takes records from `base` on.
    pub(crate) fn new(base: u64) -> Self {
        Self { tag: record::random_tag(), base, end: None }
    }

    /// Both copies.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut copy = Vec::with_capacity(COPY);
        copy.extend_from_slice(&MAGIC);
        copy.extend_from_slice(&VERSION.to_le_bytes());
        copy.extend_from_slice(&u32::from(self.end.is_some()).to_le_bytes());
        copy.extend_from_slice(&self.tag.to_le_bytes());
        copy.extend_from_slice(&self.base.to_le_bytes());
        copy.extend_from_slice(&self.end.unwrap_or(0).to_le_bytes());
        copy.resize(CHECKED, 0);
        copy.extend_from_slice(&crc32c(&copy).to_le_bytes());
        copy.repeat(2)
    }

    /// From the file's first bytes.
    pub(crate) fn decode(bytes: &[u8]) -> HeadRead {
        let mut newer = None;
        for copy in bytes.chunks_exact(COPY).take(2) {
            let sound = copy.get(..CHECKED).map(crc32c) == le32(copy, CHECKED);
            match (le32(copy, 8), Self::decode_copy(copy)) {
                // A newer program keeps magic, version and checksum where they are.
                (Some(version), _) if sound && copy.starts_with(&MAGIC) && version > VERSION => {
                    newer = Some(version)
                }
                (_, Some(head)) if sound => return HeadRead::Good(head),
                _ => {}
            }
        }
        newer.map_or(HeadRead::Lost, HeadRead::Newer)
    }

    fn decode_copy(copy: &[u8]) -> Option<Self> {
        if !copy.starts_with(&MAGIC) {
            return None;
        }
        let (tag, base, end) = (le64(copy, 16)?, le64(copy, 24)?, le64(copy, 32)?);
        let end = match le32(copy, 12)? {
            0 => None,
            _ => Some(end),
        };
        Some(Self { tag, base, end })
    }
}

/// The file of the segment that begins at `base`.
pub(crate) fn path(dir: &Path, base: u64) -> PathBuf {
    dir.join(format!("{base:020}.seg"))
}

/// Its index.
pub(crate) fn index_path(dir: &Path, base: u64) -> PathBuf {
    dir.join(format!("{base:020}.idx"))
}

/// The base that a file name with this ending says.
pub(crate) fn parse_name(name: &str, ending: &str) -> Option<u64> {
    let digits = name.strip_suffix(ending)?;
    (digits.len() == 20).then(|| digits.parse().ok())?
}

#[cfg(test)]
mod tests {
    use super::{Head, HeadRead, VERSION, parse_name};

    #[test]
    fn a_header_survives_the_loss_of_one_copy() {
        let head = Head { tag: 5, base: 6, end: Some(9) };
        let bytes = head.encode();
        for at in 0..bytes.len() {
            let mut bad = bytes.clone();
            bad[at] ^= 0x10;
            assert_eq!(Head::decode(&bad), HeadRead::Good(head), "byte {at}");
        }
        assert_eq!(Head::decode(&[0; 128]), HeadRead::Lost);
        assert_eq!(Head::decode(&[]), HeadRead::Lost);
    }

    #[test]
    fn a_newer_header_is_told_from_a_damaged_one() {
        let mut copy = Head::new(0).encode()[..60].to_vec();
        copy[8..12].copy_from_slice(&(VERSION + 1).to_le_bytes());
        copy.extend_from_slice(&crc32c::crc32c(&copy).to_le_bytes());
        assert_eq!(Head::decode(&copy.repeat(2)), HeadRead::Newer(VERSION + 1));
    }

    #[test]
    fn only_whole_names_are_segments() {
        assert_eq!(parse_name("00000000000000000042.seg", ".seg"), Some(42));
        for name in [
            "42.seg",
            "00000000000000000042.idx",
            "+0000000000000000042.seg.tmp",
            "99999999999999999999.seg",
        ] {
            assert_eq!(parse_name(name, ".seg"), None, "{name}");
        }
    }
}
