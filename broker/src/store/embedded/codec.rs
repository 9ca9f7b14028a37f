//! The byte encoding that journal records and snapshots share: LEB128 numbers, counted bytes, position ranges.

use roaring::RoaringTreemap;

use crate::store::{Outcome, Position, Stage};

/// Positions one set of a note may have: more than a journal of ours ever tells at once, few enough to hold.
const MAX_POSITIONS: u64 = 1 << 24;

/// Why bytes are not what this version writes.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum DecodeError {
    /// They end too early.
    #[error("it ends too early")]
    Short,
    /// A number is longer than 64 bits, or too large for its place.
    #[error("a number is out of range")]
    Number,
    /// Text that is not UTF-8.
    #[error("a text is not UTF-8")]
    Text,
    /// A kind this version does not know.
    #[error("it holds the unknown kind {0}")]
    Kind(u8),
    /// Written by a newer version.
    #[error("it is of version {0}, newer than this program")]
    Version(u8),
    /// Position sets that are not valid bitmaps.
    #[error("a set of positions is damaged")]
    Bitmap,
}

/// Appends encoded values to a buffer.
#[derive(Debug)]
pub(super) struct Writer<'a>(pub(super) &'a mut Vec<u8>);

impl Writer<'_> {
    pub(super) fn byte(&mut self, byte: u8) {
        self.0.push(byte);
    }

    pub(super) fn number(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.0.push(low_seven(value) | 0x80);
            value >>= 7;
        }
        self.0.push(low_seven(value));
    }

    /// A signed number, small magnitudes first.
    pub(super) fn signed(&mut self, value: i64) {
        let folded = (value << 1) ^ (value >> 63);
        self.number(u64::from_ne_bytes(folded.to_ne_bytes()));
    }

    pub(super) fn bytes(&mut self, bytes: &[u8]) {
        self.number(bytes.len() as u64);
        self.0.extend_from_slice(bytes);
    }

    pub(super) fn option(&mut self, value: Option<u64>) {
        match value {
            Some(value) => {
                self.byte(1);
                self.number(value);
            }
            None => self.byte(0),
        }
    }

    /// Ascending positions, as runs.
    pub(super) fn positions(&mut self, positions: impl Iterator<Item = Position>) {
        let mut runs: Vec<(Position, u64)> = Vec::new();
        for position in positions {
            match runs.last_mut() {
                Some((first, length)) if first.checked_add(*length) == Some(position) => {
                    *length += 1
                }
                _ => runs.push((position, 1)),
            }
        }
        self.number(runs.len() as u64);
        let mut end = 0;
        for (first, length) in runs {
            self.number(first - end);
            self.number(length);
            end = first + length;
        }
    }

    pub(super) fn bitmap(&mut self, map: &RoaringTreemap) {
        let mut bytes = Vec::with_capacity(map.serialized_size());
        map.serialize_into(&mut bytes).expect("writing to memory does not fail");
        self.bytes(&bytes);
    }

    pub(super) fn outcome(&mut self, outcome: &Outcome) {
        self.number(u64::from(outcome.status));
        self.number(outcome.at_ms);
        self.number(u64::from(outcome.took_ms));
        self.byte(stage_to_byte(outcome.stage));
        self.bytes(outcome.reason.as_bytes());
        self.bytes(&outcome.body);
    }
}

/// Reads encoded values from the front of a slice.
#[derive(Debug)]
pub(super) struct Reader<'a>(pub(super) &'a [u8]);

impl<'a> Reader<'a> {
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn byte(&mut self) -> Result<u8, DecodeError> {
        let (first, rest) = self.0.split_first().ok_or(DecodeError::Short)?;
        self.0 = rest;
        Ok(*first)
    }

    pub(super) fn number(&mut self) -> Result<u64, DecodeError> {
        let mut value = 0_u64;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            let part = u64::from(byte & 0x7f);
            if shift == 63 && part > 1 {
                return Err(DecodeError::Number);
            }
            value |= part << shift;
            if byte < 0x80 {
                return Ok(value);
            }
        }
        Err(DecodeError::Number)
    }

    pub(super) fn signed(&mut self) -> Result<i64, DecodeError> {
        let folded = self.number()?;
        let half = i64::from_ne_bytes((folded >> 1).to_ne_bytes());
        Ok(half ^ -i64::from(folded & 1 == 1))
    }

    pub(super) fn small<T: TryFrom<u64>>(&mut self) -> Result<T, DecodeError> {
        T::try_from(self.number()?).map_err(|_| DecodeError::Number)
    }

    pub(super) fn bytes(&mut self) -> Result<&'a [u8], DecodeError> {
        let length: usize = self.small()?;
        let (bytes, rest) = self.0.split_at_checked(length).ok_or(DecodeError::Short)?;
        self.0 = rest;
        Ok(bytes)
    }

    pub(super) fn text(&mut self) -> Result<&'a str, DecodeError> {
        std::str::from_utf8(self.bytes()?).map_err(|_| DecodeError::Text)
    }

    pub(super) fn option(&mut self) -> Result<Option<u64>, DecodeError> {
        match self.byte()? {
            0 => Ok(None),
            1 => Ok(Some(self.number()?)),
            kind => Err(DecodeError::Kind(kind)),
        }
    }

    /// A count of things of at least one byte each, so that a damaged count cannot ask for more than the bytes there are.
    pub(super) fn count(&mut self) -> Result<usize, DecodeError> {
        let count: usize = self.small()?;
        if count > self.0.len() { Err(DecodeError::Short) } else { Ok(count) }
    }

    pub(super) fn positions(&mut self) -> Result<RoaringTreemap, DecodeError> {
        let mut map = RoaringTreemap::new();
        let (mut end, mut total) = (0_u64, 0_u64);
        for _ in 0..self.count()? {
            let first = end.checked_add(self.number()?).ok_or(DecodeError::Number)?;
            let length = self.number()?;
            total = total
                .checked_add(length)
                .filter(|total| *total <= MAX_POSITIONS)
                .ok_or(DecodeError::Number)?;
            end = first.checked_add(length).ok_or(DecodeError::Number)?;
            map.insert_range(first..end);
        }
        Ok(map)
    }

    pub(super) fn bitmap(&mut self) -> Result<RoaringTreemap, DecodeError> {
        RoaringTreemap::deserialize_from(self.bytes()?).map_err(|_| DecodeError::Bitmap)
    }

    pub(super) fn outcome(&mut self) -> Result<Outcome, DecodeError> {
        Ok(Outcome {
            status: self.small()?,
            at_ms: self.number()?,
            took_ms: self.small()?,
            stage: stage_from_byte(self.byte()?)?,
            reason: self.text()?.to_owned(),
            body: self.bytes()?.to_vec(),
        })
    }
}

pub(super) fn stage_to_byte(stage: Stage) -> u8 {
    match stage {
        Stage::Subscriber => 0,
        Stage::Reply => 1,
        Stage::DeadLetter => 2,
        Stage::Expired => 3,
    }
}

pub(super) fn stage_from_byte(byte: u8) -> Result<Stage, DecodeError> {
    match byte {
        0 => Ok(Stage::Subscriber),
        1 => Ok(Stage::Reply),
        2 => Ok(Stage::DeadLetter),
        3 => Ok(Stage::Expired),
        kind => Err(DecodeError::Kind(kind)),
    }
}

fn low_seven(value: u64) -> u8 {
    value.to_le_bytes()[0] & 0x7f
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_come_back() {
        for value in [0, 1, 127, 128, 300, u64::from(u32::MAX), u64::MAX - 1, u64::MAX] {
            let mut bytes = Vec::new();
            Writer(&mut bytes).number(value);
            let mut reader = Reader(&bytes);
            assert_eq!(reader.number(), Ok(value));
            assert!(reader.is_empty());
        }
        for value in [0, 1, -1, 63, -64, i64::MAX, i64::MIN] {
            let mut bytes = Vec::new();
            Writer(&mut bytes).signed(value);
            assert_eq!(Reader(&bytes).signed(), Ok(value));
        }
    }

    #[test]
    fn numbers_over_64_bits_are_refused() {
        assert_eq!(Reader(&[0xff; 11]).number(), Err(DecodeError::Number));
        assert_eq!(Reader(&[0x80, 0x80]).number(), Err(DecodeError::Short));
    }

    #[test]
    fn positions_come_back_as_runs() {
        let positions: RoaringTreemap = [0, 1, 2, 7, 9, 10, 1 << 40].into_iter().collect();
        let mut bytes = Vec::new();
        Writer(&mut bytes).positions(positions.iter());
        assert!(bytes.len() < 20);
        assert_eq!(Reader(&bytes).positions(), Ok(positions));
    }

    #[test]
    fn damaged_counts_do_not_allocate() {
        let mut bytes = Vec::new();
        Writer(&mut bytes).number(u64::MAX / 2);
        assert!(Reader(&bytes).positions().is_err());
        assert!(Reader(&bytes).bytes().is_err());
        assert!(Reader(&bytes).bitmap().is_err());
    }
}
