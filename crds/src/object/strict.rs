//! Reads types from JSON values the way Kubernetes does: null is absent, and a list is never a mapping. Finds out which fields
//! the type has not, and where a value is that it cannot have.
//!
//! Serde's own reader takes a list for a struct whose fields it fills in order, which would accept nonsense. And wrappers that
//! look for unknown fields and for places, one within the other, are compiled for every field of every kind: a tenth of the program.

use std::cell::RefCell;

use serde::de::value::{BorrowedStrDeserializer, StrDeserializer};
use serde::de::{
    DeserializeSeed, Deserializer, Error as _, MapAccess, SeqAccess, Unexpected, Visitor,
};
use serde::forward_to_deserialize_any;
use serde_json::{Error, Value, map};

use super::place::{Place, Segment};

/// More unknown fields than this are not collected about one object.
const MAX_UNKNOWN: usize = 32;

/// What reading a value found out about it.
#[derive(Debug, Default)]
pub(super) struct Findings {
    /// The fields that the type has not.
    pub(super) unknown: Vec<String>,
    /// Where the value is that the type cannot have; empty if that is the whole.
    pub(super) wrong: Option<Vec<Segment>>,
}

/// A value to read from, where it is, and where to say what is found. The depth of the value is bounded by whoever parsed it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Strict<'a, 'v> {
    value: &'v Value,
    place: &'a Place<'a>,
    findings: &'a RefCell<Findings>,
}

/// The fields of a mapping that are not null.
struct Fields<'a, 'v> {
    rest: map::Iter<'v>,
    /// The field whose key was read and whose value was not.
    next: Option<(&'v str, &'v Value)>,
    place: &'a Place<'a>,
    findings: &'a RefCell<Findings>,
}

/// The items of a list.
struct Items<'a, 'v> {
    rest: std::iter::Enumerate<std::slice::Iter<'v, Value>>,
    place: &'a Place<'a>,
    findings: &'a RefCell<Findings>,
}

impl<'a, 'v> Strict<'a, 'v> {
    /// The whole.
    pub(super) fn of(value: &'v Value, findings: &'a RefCell<Findings>) -> Self {
        Self { value, place: &Place::Root, findings }
    }

    /// Reads it; the innermost value that cannot be read is remembered.
    fn read<S: DeserializeSeed<'v>>(self, seed: S) -> Result<S::Value, Error> {
        seed.deserialize(self).inspect_err(|_| self.fail())
    }

    fn fail(self) {
        self.findings.borrow_mut().wrong.get_or_insert_with(|| self.place.segments());
    }

    fn ignore(self) {
        let mut findings = self.findings.borrow_mut();
        if findings.unknown.len() == MAX_UNKNOWN {
            return;
        }
        let path = self.place.to_string();
        // What a server wrote may be newer than this program.
        if !path.starts_with("status.") {
            findings.unknown.push(path);
        }
    }

    fn mapping<V: Visitor<'v>>(self, visitor: V) -> Result<V::Value, Error> {
        match self.value {
            Value::Array(_) => Err(Error::invalid_type(Unexpected::Seq, &visitor)),
            _ => self.deserialize_any(visitor),
        }
    }
}

impl<'v> MapAccess<'v> for Fields<'_, 'v> {
    type Error = Error;

    fn next_key_seed<K: DeserializeSeed<'v>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, Error> {
        let next = self.rest.find(|(_, value)| !value.is_null());
        self.next = next.map(|(key, value)| (key.as_str(), value));
        let Some((key, _)) = self.next else { return Ok(None) };
        seed.deserialize(BorrowedStrDeserializer::new(key)).map(Some)
    }

    fn next_value_seed<S: DeserializeSeed<'v>>(&mut self, seed: S) -> Result<S::Value, Error> {
        let Some((key, value)) = self.next.take() else {
            return Err(Error::custom("a value is read before its key"));
        };
        let place = Place::Key(self.place, key);
        Strict { value, place: &place, findings: self.findings }.read(seed)
    }
}

impl<'v> SeqAccess<'v> for Items<'_, 'v> {
    type Error = Error;

    fn next_element_seed<S: DeserializeSeed<'v>>(
        &mut self,
        seed: S,
    ) -> Result<Option<S::Value>, Error> {
        let Some((index, value)) = self.rest.next() else { return Ok(None) };
        let place = Place::Index(self.place, index);
        Strict { value, place: &place, findings: self.findings }.read(seed).map(Some)
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.rest.len())
    }
}

impl<'v> Deserializer<'v> for Strict<'_, 'v> {
    type Error = Error;

    fn deserialize_any<V: Visitor<'v>>(self, visitor: V) -> Result<V::Value, Error> {
        let Self { value, place, findings } = self;
        match value {
            Value::Null => visitor.visit_unit(),
            Value::Bool(value) => visitor.visit_bool(*value),
            Value::Number(number) => number.deserialize_any(visitor),
            Value::String(text) => visitor.visit_borrowed_str(text),
            Value::Array(items) => {
                visitor.visit_seq(Items { rest: items.iter().enumerate(), place, findings })
            }
            Value::Object(fields) => {
                visitor.visit_map(Fields { rest: fields.iter(), next: None, place, findings })
            }
        }
    }

    /// What a type makes of a field that it has not.
    fn deserialize_ignored_any<V: Visitor<'v>>(self, visitor: V) -> Result<V::Value, Error> {
        self.ignore();
        visitor.visit_unit()
    }

    fn deserialize_option<V: Visitor<'v>>(self, visitor: V) -> Result<V::Value, Error> {
        if self.value.is_null() { visitor.visit_none() } else { visitor.visit_some(self) }
    }

    fn deserialize_newtype_struct<V: Visitor<'v>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, Error> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_map<V: Visitor<'v>>(self, visitor: V) -> Result<V::Value, Error> {
        self.mapping(visitor)
    }

    fn deserialize_struct<V: Visitor<'v>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        self.mapping(visitor)
    }

    fn deserialize_enum<V: Visitor<'v>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        match self.value {
            Value::String(text) => visitor.visit_enum(StrDeserializer::new(text)),
            _ => self.deserialize_any(visitor),
        }
    }

    forward_to_deserialize_any! {
        <V: Visitor<'v>>
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit unit_struct seq tuple
        tuple_struct identifier
    }
}
