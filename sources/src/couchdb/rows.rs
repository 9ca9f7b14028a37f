//! Cuts what a feed sends into rows, as it comes. Pure.
//!
//! `feed=continuous` sends a JSON object a row, with line ends between them and as heartbeats. `feed=normal` sends one object
//! whose `results` are the rows; they are cut out of it, and what is left is the envelope. Rows are found by their brackets
//! alone, so that neither line ends nor the order of fields matter, and nothing but the row at hand is in memory.

use bytes::{Bytes, BytesMut};
use thiserror::Error;

/// Bytes of a row. A document beyond that is larger than any event that can be kept (15.7 MiB), and twice `CouchDB`'s own
/// default for the largest document.
pub(super) const MAX_ROW: usize = 16 * 1024 * 1024;

/// Bytes of what surrounds the rows: an update sequence and a number, a few hundred bytes.
const MAX_ENVELOPE: usize = 64 * 1024;

/// A row of a feed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Row {
    /// The JSON object.
    pub(super) json: Bytes,
    /// Whether its document was too large, and is `null` instead.
    pub(super) is_cut: bool,
}

/// What a feed sent cannot be rows.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub(super) enum NotRows {
    /// It is not what CouchDB's feeds are made of.
    #[error("it does not answer as CouchDB does")]
    Form,
    /// A row is too large even without its document.
    #[error("a change is larger than {limit} bytes without its document")]
    TooLarge {
        /// The limit.
        limit: usize,
    },
}

/// The state between two pieces of a feed.
#[derive(Debug)]
pub(super) struct Rows {
    /// How many brackets are open around a row.
    level: usize,
    limit: usize,
    brackets: Brackets,
    row: BytesMut,
    envelope: Vec<u8>,
    /// Only a comma or space may follow.
    is_after_row: bool,
    /// Inside of a document that is not kept.
    is_dropping: bool,
    is_cut: bool,
}

/// Where in a JSON text one is: how deep, and whether inside of a text.
#[derive(Clone, Copy, Debug, Default)]
struct Brackets {
    depth: usize,
    in_text: bool,
    is_escaped: bool,
}

impl Rows {
    /// Of `feed=continuous`.
    pub(super) fn lines() -> Self {
        Self::new(0, MAX_ROW)
    }

    /// Of `feed=normal`.
    pub(super) fn results() -> Self {
        Self::new(2, MAX_ROW)
    }

    fn new(level: usize, limit: usize) -> Self {
        Self {
            level,
            limit,
            brackets: Brackets::default(),
            row: BytesMut::new(),
            envelope: Vec::new(),
            is_after_row: false,
            is_dropping: false,
            is_cut: false,
        }
    }

    /// Takes the next piece, and adds the rows that it completes.
    ///
    /// # Errors
    /// When it cannot be part of rows; then nothing that follows can be read either.
    pub(super) fn feed(&mut self, piece: &[u8], found: &mut Vec<Row>) -> Result<(), NotRows> {
        // Where the part of the piece begins that belongs to the row at hand and was not added to it yet.
        let mut from = 0;
        for (at, byte) in piece.iter().enumerate() {
            let before = self.brackets;
            self.brackets.step(*byte)?;
            if before.depth <= self.level {
                if self.brackets.depth > self.level {
                    if *byte != b'{' {
                        return Err(NotRows::Form);
                    }
                    from = at;
                } else {
                    self.surround(*byte, before)?;
                }
                continue;
            }
            if self.is_dropping {
                let ends = matches!(byte, b',' | b'}') && !before.in_text;
                if before.depth != self.level + 1 || !ends {
                    continue;
                }
                self.is_dropping = false;
                from = at;
            }
            if self.brackets.depth == self.level {
                self.keep(piece.get(from..=at).unwrap_or_default())?;
                let is_cut = std::mem::take(&mut self.is_cut);
                found.push(Row { json: self.row.split().freeze(), is_cut });
                self.is_after_row = true;
            }
        }
        if self.brackets.depth > self.level && !self.is_dropping {
            self.keep(piece.get(from..).unwrap_or_default())?;
        }
        Ok(())
    }

    /// What was around the rows: a JSON object once the answer is complete.
    pub(super) fn envelope(&self) -> &[u8] {
        &self.envelope
    }

    /// Whether a row has begun and not ended.
    pub(super) fn is_within_row(&self) -> bool {
        self.brackets.depth > self.level
    }

    /// Takes a byte that belongs to no row.
    fn surround(&mut self, byte: u8, before: Brackets) -> Result<(), NotRows> {
        if byte.is_ascii_whitespace() && !before.in_text {
            return Ok(());
        }
        if self.level == 0 {
            return Err(NotRows::Form);
        }
        if std::mem::take(&mut self.is_after_row) && byte == b',' {
            return Ok(());
        }
        if self.envelope.len() == MAX_ENVELOPE {
            return Err(NotRows::Form);
        }
        self.envelope.push(byte);
        Ok(())
    }

    /// Adds to the row at hand. If that makes it too large, its document goes.
    fn keep(&mut self, part: &[u8]) -> Result<(), NotRows> {
        self.row.extend_from_slice(part);
        if self.row.len() <= self.limit {
            return Ok(());
        }
        let too_large = NotRows::TooLarge { limit: self.limit };
        let (start, end) = document(&self.row).ok_or_else(|| too_large.clone())?;
        let rest = end.map(|end| self.row.split_off(end));
        self.row.truncate(start);
        self.row.extend_from_slice(b"null");
        self.is_dropping = rest.is_none();
        self.row.extend_from_slice(&rest.unwrap_or_default());
        self.is_cut = true;
        if self.row.len() > self.limit { Err(too_large) } else { Ok(()) }
    }
}

impl Brackets {
    fn step(&mut self, byte: u8) -> Result<(), NotRows> {
        if self.in_text {
            let is_escaped = std::mem::take(&mut self.is_escaped);
            match byte {
                b'\\' => self.is_escaped = !is_escaped,
                b'"' => self.in_text = is_escaped,
                _ => {}
            }
            return Ok(());
        }
        match byte {
            b'"' => self.in_text = true,
            b'{' | b'[' => self.depth += 1,
            b'}' | b']' => self.depth = self.depth.checked_sub(1).ok_or(NotRows::Form)?,
            _ => {}
        }
        Ok(())
    }
}

/// Where the value of the field `doc` is in a row that may not be complete: its start, and its end if that is there.
fn document(row: &[u8]) -> Option<(usize, Option<usize>)> {
    let mut brackets = Brackets::default();
    // The last text at the row's own depth, which is a field's name if a colon follows.
    let (mut name, mut start) = (0..0, None);
    for (at, byte) in row.iter().enumerate() {
        let before = brackets;
        brackets.step(*byte).ok()?;
        if before.depth != 1 {
            continue;
        }
        match (before.in_text, byte) {
            (false, b'"') => name = at + 1..at + 1,
            (true, _) if !brackets.in_text => name.end = at,
            (false, b':') if start.is_none() => {
                let is_document = row.get(name.clone()).is_some_and(|name| name == b"doc");
                start = is_document.then_some(at + 1);
            }
            (false, b',' | b'}') => {
                if let Some(start) = start {
                    return Some((start, Some(at)));
                }
            }
            _ => {}
        }
    }
    start.map(|start| (start, None))
}

#[cfg(test)]
mod tests {
    use super::{NotRows, Row, Rows};
    use proptest::prelude::*;

    fn rows(mut rows: Rows, pieces: &[&[u8]]) -> Result<(Vec<(String, bool)>, String), NotRows> {
        let mut found = Vec::new();
        for piece in pieces {
            rows.feed(piece, &mut found)?;
        }
        let text = |row: Row| (String::from_utf8(row.json.to_vec()).unwrap(), row.is_cut);
        let envelope = String::from_utf8(rows.envelope().to_vec()).unwrap();
        Ok((found.into_iter().map(text).collect(), envelope))
    }

    fn texts(found: &[(String, bool)]) -> Vec<&str> {
        found.iter().map(|(text, _)| text.as_str()).collect()
    }

    #[test]
    fn lines_and_heartbeats_are_rows() {
        let feed = b"{\"seq\":1,\"id\":\"a}\\\"{\"}\r\n\n\n{\"seq\":2}\n{\"seq\"";
        let (found, _) = rows(Rows::lines(), &[feed]).unwrap();
        assert_eq!(texts(&found), [r#"{"seq":1,"id":"a}\"{"}"#, r#"{"seq":2}"#]);
    }

    #[test]
    fn results_are_rows_and_the_rest_is_the_envelope() {
        let answer = b"{\"results\":[\n{\"seq\":1,\"c\":[{}]},\n{\"seq\":2}\n],\n\"last_seq\":[2,\"x y\"],\"pending\":0}\n";
        let (found, envelope) = rows(Rows::results(), &[answer]).unwrap();
        assert_eq!(texts(&found), [r#"{"seq":1,"c":[{}]}"#, r#"{"seq":2}"#]);
        assert_eq!(envelope, r#"{"results":[],"last_seq":[2,"x y"],"pending":0}"#);
        let (found, envelope) =
            rows(Rows::results(), &[b"{\"results\":[],\"last_seq\":0}"]).unwrap();
        assert!(found.is_empty());
        assert_eq!(envelope, r#"{"results":[],"last_seq":0}"#);
    }

    #[test]
    fn what_is_no_feed_is_refused() {
        for text in ["<html>", "]", "[{}]", "null"] {
            assert_eq!(rows(Rows::lines(), &[text.as_bytes()]), Err(NotRows::Form), "{text}");
        }
        assert_eq!(rows(Rows::results(), &[b"{\"results\":[[]]}"]), Err(NotRows::Form));
        let long = "x".repeat(100_000);
        assert_eq!(rows(Rows::results(), &[long.as_bytes()]), Err(NotRows::Form));
    }

    #[test]
    fn a_document_that_is_too_large_goes_wherever_it_stands() {
        let large = "x".repeat(200);
        let first = format!(r#"{{"doc":{{"a":["{large}}}"],"doc":1}},"id":"d,}}","seq":7}}"#);
        let last = format!(r#"{{"seq":7,"id":"doc","doc":"{large}\"}}"}}"#);
        for (row, expected) in [
            (first, r#"{"doc":null,"id":"d,}","seq":7}"#),
            (last, r#"{"seq":7,"id":"doc","doc":null}"#),
        ] {
            for size in [1, 7, 64, 1000] {
                let pieces: Vec<&[u8]> = row.as_bytes().chunks(size).collect();
                let (found, _) = rows(Rows::new(0, 100), &pieces).unwrap();
                assert_eq!(found, [(expected.to_owned(), true)], "{size}");
            }
        }
    }

    #[test]
    fn a_row_that_is_too_large_by_itself_is_refused() {
        let row = format!(r#"{{"id":"{}","doc":{{}}}}"#, "x".repeat(200));
        let refused = Err(NotRows::TooLarge { limit: 100 });
        assert_eq!(rows(Rows::new(0, 100), &[row.as_bytes()]), refused);
        let row = format!(r#"{{"doc":{{"a":"{}"}},"id":"{0}"}}"#, "x".repeat(200));
        assert_eq!(rows(Rows::new(0, 100), &[row.as_bytes()]), refused);
    }

    proptest! {
        #[test]
        fn where_pieces_end_does_not_matter(cuts in prop::collection::vec(0..200_usize, 0..20), limit in 40..200_usize) {
            let text = br#"{"results":[{"id":"\\\"","doc":{"k":[1,2,{"x":"]}"}]},"seq":1},{"id":"b","changes":[{"rev":"1-a"}],"seq":[2,"x"]}],"last_seq":"2-b"}"#;
            let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(text.len())).collect();
            cuts.extend([0, text.len()]);
            cuts.sort_unstable();
            let pieces: Vec<&[u8]> = cuts.windows(2).map(|cut| &text[cut[0]..cut[1]]).collect();
            let whole = rows(Rows::new(2, 200), &[text]);
            prop_assert_eq!(&rows(Rows::new(2, 200), &pieces), &whole);
            let cut = rows(Rows::new(2, limit), &pieces);
            if let Ok((found, envelope)) = cut {
                let (all, expected) = whole.unwrap();
                prop_assert_eq!(envelope, expected);
                prop_assert_eq!(found.len(), all.len());
            }
        }

        #[test]
        fn nothing_makes_it_panic(text in prop::collection::vec(prop::sample::select(br#"{}[]":,\ doc1"#.to_vec()), 0..80), level in prop::sample::select(vec![0_usize, 2])) {
            drop(rows(Rows::new(level, 16), &[&text]));
        }
    }
}
