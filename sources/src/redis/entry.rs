//! Entries of a stream, and what Redis answers when it is asked for some.

use std::fmt;

use ::redis::Value;
use thiserror::Error;

/// The id of an entry: when it was added, in milliseconds since 1970, and which one it is of that millisecond. Ids grow within
/// a stream.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Id {
    /// Milliseconds since 1970, by the clock of the server or of whoever chose the id.
    pub(super) milliseconds: u64,
    /// Which one of that millisecond.
    pub(super) sequence: u64,
}

/// An entry of a stream.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Entry {
    /// Its id.
    pub(super) id: Id,
    /// Names and values in turn, in their order; nothing if the entry was removed before it was acknowledged.
    pub(super) fields: Option<Vec<Vec<u8>>>,
}

/// An answer that no Redis gives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("the answer is not of the form that Redis documents")]
pub(super) struct Malformed;

impl Id {
    /// Before every entry.
    pub(super) const ZERO: Self = Self { milliseconds: 0, sequence: 0 };

    /// Reads `milliseconds-sequence`, or `milliseconds`, which is the first of that millisecond.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let (milliseconds, sequence) = text.split_once('-').unwrap_or((text, "0"));
        Some(Self { milliseconds: number(milliseconds)?, sequence: number(sequence)? })
    }

    /// The id right before: whoever reads what is after that begins with this one.
    pub(super) fn before(self) -> Self {
        match (self.milliseconds, self.sequence) {
            (0, 0) => self,
            (milliseconds, 0) => Self { milliseconds: milliseconds - 1, sequence: u64::MAX },
            (milliseconds, sequence) => Self { milliseconds, sequence: sequence - 1 },
        }
    }

    /// The id right after.
    pub(super) fn after(self) -> Self {
        match self.sequence.checked_add(1) {
            Some(sequence) => Self { sequence, ..self },
            None => Self { milliseconds: self.milliseconds.saturating_add(1), sequence: 0 },
        }
    }
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.milliseconds, self.sequence)
    }
}

impl Entry {
    /// Bytes of its names and values.
    pub(super) fn size(&self) -> usize {
        self.fields.iter().flatten().map(Vec::len).sum()
    }
}

impl fmt::Debug for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Entry({}, {} bytes)", self.id, self.size())
    }
}

/// The entries of an answer to `XREADGROUP … STREAMS` with one stream; none if nothing came in time.
///
/// # Errors
/// When the answer is of another form.
pub(super) fn read(answer: Value) -> Result<Vec<Entry>, Malformed> {
    let entries = match answer {
        Value::Nil => return Ok(Vec::new()),
        Value::Array(streams) => {
            let [stream] = <[Value; 1]>::try_from(streams).map_err(|_| Malformed)?;
            let [_, entries] = <[Value; 2]>::try_from(list(stream)?).map_err(|_| Malformed)?;
            entries
        }
        _ => return Err(Malformed),
    };
    list(entries)?.into_iter().map(entry).collect()
}

fn entry(value: Value) -> Result<Entry, Malformed> {
    let [id, fields] = <[Value; 2]>::try_from(list(value)?).map_err(|_| Malformed)?;
    let fields = match fields {
        Value::Nil => None,
        fields => Some(list(fields)?.into_iter().map(bytes).collect::<Result<Vec<_>, _>>()?),
    };
    if fields.as_ref().is_some_and(|fields| fields.len() % 2 != 0) {
        return Err(Malformed);
    }
    Ok(Entry { id: id_of(id)?, fields })
}

/// An id as a value.
pub(super) fn id_of(value: Value) -> Result<Id, Malformed> {
    text(value).ok().as_deref().and_then(Id::parse).ok_or(Malformed)
}

/// The values of a list.
pub(super) fn list(value: Value) -> Result<Vec<Value>, Malformed> {
    match value {
        Value::Array(values) => Ok(values),
        Value::Nil => Ok(Vec::new()),
        _ => Err(Malformed),
    }
}

/// A text.
pub(super) fn text(value: Value) -> Result<String, Malformed> {
    String::from_utf8(bytes(value)?).map_err(|_| Malformed)
}

/// A number that is not negative.
pub(super) fn count(value: &Value) -> Option<u64> {
    match value {
        Value::Int(number) => u64::try_from(*number).ok(),
        _ => None,
    }
}

fn bytes(value: Value) -> Result<Vec<u8>, Malformed> {
    match value {
        Value::BulkString(bytes) => Ok(bytes),
        Value::SimpleString(text) => Ok(text.into_bytes()),
        _ => Err(Malformed),
    }
}

/// Digits alone: Rust's own reading would take a sign too.
fn number(text: &str) -> Option<u64> {
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    text.parse().ok()
}

#[cfg(test)]
pub(super) mod tests {
    use super::{Entry, Id, Malformed, read};
    use ::redis::{Value, parse_redis_value};

    /// What a server says with those bytes; lines end with a line feed alone here.
    pub(in super::super) fn answer(text: &str) -> Value {
        parse_redis_value(text.replace('\n', "\r\n").as_bytes()).unwrap()
    }

    fn id(text: &str) -> Id {
        Id::parse(text).unwrap()
    }

    #[test]
    fn ids_are_read_and_written_and_ordered() {
        assert_eq!(id("1526919030474-55").to_string(), "1526919030474-55");
        assert_eq!(id("7").to_string(), "7-0");
        assert!(id("9-10") < id("10-9") && id("9-9") < id("9-10"));
        for text in ["", "-", "1-", "-1", "+1-0", "1-+2", "1-2-3", "a-b", "$", ">", "1 -2"] {
            assert_eq!(Id::parse(text), None, "{text}");
        }
        assert_eq!(Id::parse("18446744073709551616-0"), None);
    }

    #[test]
    fn every_id_has_one_before_and_one_after() {
        assert_eq!(id("5-3").before(), id("5-2"));
        assert_eq!(id("5-0").before(), id("4-18446744073709551615"));
        assert_eq!(Id::ZERO.before(), Id::ZERO);
        for text in ["5-3", "5-0", "0-1", "4-18446744073709551615"] {
            assert_eq!(id(text).before().after(), id(text));
        }
    }

    #[test]
    fn entries_are_read_with_those_whose_data_are_gone() {
        let got = read(answer(
            "*1\n*2\n$1\ns\n*2\n*2\n$3\n1-1\n*4\n$1\na\n$1\nb\n$1\na\n$0\n\n*2\n$3\n2-1\n*-1\n",
        ));
        let fields = [b"a".to_vec(), b"b".to_vec(), b"a".to_vec(), Vec::new()];
        let whole = Entry { id: id("1-1"), fields: Some(fields.to_vec()) };
        assert_eq!(whole.size(), 3);
        assert_eq!(got.unwrap(), [whole, Entry { id: id("2-1"), fields: None }]);
        assert_eq!(read(answer("*-1\n")), Ok(Vec::new()));
        assert_eq!(read(answer("*1\n*2\n$1\ns\n*0\n")), Ok(Vec::new()));
    }

    #[test]
    fn other_answers_are_refused() {
        for text in [
            "+OK\n",
            ":1\n",
            "*0\n",
            "*2\n*0\n*0\n",
            "*1\n*1\n$1\ns\n",
            "*1\n*2\n$1\ns\n:1\n",
            "*1\n*2\n$1\ns\n*1\n*2\n$1\nx\n*0\n",
            "*1\n*2\n$1\ns\n*1\n*2\n$3\n1-1\n*1\n$1\na\n",
            "*1\n*2\n$1\ns\n*1\n*2\n$3\n1-1\n*2\n$1\na\n:1\n",
        ] {
            assert_eq!(read(answer(text)), Err(Malformed), "{text:?}");
        }
    }
}
