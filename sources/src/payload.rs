//! Looks into a payload without building it: a field is found in the bytes, the rest is skipped.
//!
//! The payloads of web hooks grow fields all the time and use one name for different shapes in different events, so a
//! field of an unexpected type is treated as absent, never as an error.

use std::borrow::Cow;
use std::cell::OnceCell;
use std::fmt;

use serde::de::{Deserialize, Deserializer, Error as _, IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;
use thiserror::Error;

/// The longest text taken from a payload. Attributes travel as HTTP headers, and many servers refuse more than 8 KiB
/// of them; titles and labels have a few hundred bytes, only lists of wiki pages have no end.
const MAX_TEXT: usize = 2048;

/// Why a payload cannot be read.
#[derive(Debug, Error)]
pub enum PayloadError {
    /// It is JSON, or at least begins like it, but not an object.
    #[error("the payload is not a JSON object")]
    NotAnObject,
    /// It is not JSON.
    #[error("the payload is not valid JSON")]
    NotJson(#[source] serde_json::Error),
}

impl PayloadError {
    /// Never: the same bytes stay what they are.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        false
    }
}

/// A payload whose syntax was checked and whose top level was taken apart.
#[derive(Debug)]
pub(crate) struct Payload<'a>(Object<'a>);

impl<'a> Payload<'a> {
    pub(crate) fn parse(bytes: &'a [u8]) -> Result<Self, PayloadError> {
        // Once for all that is looked at in it.
        let text = std::str::from_utf8(bytes)
            .map_err(|error| PayloadError::NotJson(serde_json::Error::custom(error)))?;
        // JSON's white space and no more; a byte order mark is not JSON.
        if text.trim_start_matches([' ', '\t', '\r', '\n']).starts_with('{') {
            return serde_json::from_str(text).map(Self).map_err(PayloadError::NotJson);
        }
        match serde_json::from_str::<IgnoredAny>(text) {
            Ok(_) => Err(PayloadError::NotAnObject),
            Err(error) => Err(PayloadError::NotJson(error)),
        }
    }

    /// The value at a path of names separated by dots.
    fn at(&self, path: &str) -> Option<&'a RawValue> {
        let mut names = path.split('.');
        let mut member = self.0.member(names.next()?)?;
        for name in names {
            member = member.object().member(name)?;
        }
        Some(member.value)
    }

    /// A text that is not empty, fit to be an attribute.
    pub(crate) fn text(&self, path: &str) -> Option<String> {
        read::<Cow<'a, str>>(self.at(path)?).map(|text| fit(&text)).filter(|text| !text.is_empty())
    }

    /// A whole number.
    pub(crate) fn number(&self, path: &str) -> Option<i64> {
        read(self.at(path)?)
    }

    /// A truth.
    pub(crate) fn flag(&self, path: &str) -> Option<bool> {
        read(self.at(path)?)
    }

    /// A text, or a number as text: what subjects are made of.
    pub(crate) fn label(&self, path: &str) -> Option<String> {
        self.text(path).or_else(|| self.number(path).map(|number| number.to_string()))
    }

    /// The texts called `name` in the objects of the list at `path`, joined by commas.
    pub(crate) fn joined(&self, path: &str, name: &str) -> Option<String> {
        let list: Option<Vec<&'a RawValue>> = self.at(path).and_then(read);
        let text = |entry| {
            let entry: Object<'a> = read(entry)?;
            read::<Cow<'a, str>>(entry.member(name)?.value)
        };
        let texts: Vec<_> = list.unwrap_or_default().into_iter().filter_map(text).collect();
        Some(fit(&texts.join(","))).filter(|text| !text.is_empty())
    }
}

/// What of a text can be an attribute: no control characters, which CloudEvents forbids, and [`MAX_TEXT`] at most. An
/// event is not refused because somebody put a line break into a title.
fn fit(text: &str) -> String {
    let allowed = |c: &char| !c.is_control() && !is_noncharacter(*c);
    let mut length = 0;
    let short = |c: &char| {
        length += c.len_utf8();
        length <= MAX_TEXT
    };
    text.chars().filter(allowed).take_while(short).collect()
}

/// Unicode's 66 code points that never stand for a character.
fn is_noncharacter(c: char) -> bool {
    let code = u32::from(c);
    (0xfdd0..=0xfdef).contains(&code) || code & 0xfffe == 0xfffe
}

fn read<'a, T: Deserialize<'a>>(value: &'a RawValue) -> Option<T> {
    serde_json::from_str(value.get()).ok()
}

/// The members of an object, in their order. Mostly there are few, and few of them are asked for.
#[derive(Debug, Default)]
struct Object<'a>(Vec<Member<'a>>);

/// A member of an object.
#[derive(Debug)]
struct Member<'a> {
    name: Cow<'a, str>,
    value: &'a RawValue,
    /// What is in the value, once somebody looked into it.
    object: OnceCell<Object<'a>>,
}

impl<'a> Object<'a> {
    /// The member of that name; of several the last counts, as in most parsers.
    fn member(&self, name: &str) -> Option<&Member<'a>> {
        self.0.iter().rev().find(|member| member.name == name)
    }
}

impl<'a> Member<'a> {
    /// The value; without members if it is no object.
    fn object(&self) -> &Object<'a> {
        self.object.get_or_init(|| {
            let value = Some(self.value).filter(|value| value.get().starts_with('{'));
            value.and_then(read).unwrap_or_default()
        })
    }
}

impl<'de> Deserialize<'de> for Object<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(Members)
    }
}

struct Members;

impl<'de> Visitor<'de> for Members {
    type Value = Object<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut members = Vec::new();
        while let Some((Name(name), value)) = map.next_entry::<Name<'de>, &'de RawValue>()? {
            members.push(Member { name, value, object: OnceCell::new() });
        }
        Ok(Object(members))
    }
}

/// A member's name, borrowed unless it holds escapes.
#[derive(serde::Deserialize)]
#[serde(transparent)]
struct Name<'a>(#[serde(borrow)] Cow<'a, str>);

#[cfg(test)]
mod tests {
    use super::{MAX_TEXT, Payload, PayloadError};

    fn parse(text: &str) -> Payload<'_> {
        Payload::parse(text.as_bytes()).unwrap()
    }

    #[test]
    fn fields_are_found_by_path() {
        let payload = parse(r#" {"a":{"b":{"c":"x"},"n":7},"t":true,"é":"ü"}"#);
        assert_eq!(payload.text("a.b.c").as_deref(), Some("x"));
        assert_eq!(payload.number("a.n"), Some(7));
        assert_eq!(payload.label("a.n").as_deref(), Some("7"));
        assert_eq!(payload.flag("t"), Some(true));
        assert_eq!(payload.text("é").as_deref(), Some("ü"));
    }

    #[test]
    fn a_field_of_another_type_is_absent() {
        let payload = parse(r#"{"a":"text","n":1.5,"o":null,"l":[1],"e":""}"#);
        assert_eq!(payload.text("a.b"), None);
        assert_eq!(payload.number("a"), None);
        assert_eq!(payload.number("n"), None);
        assert_eq!(payload.text("o"), None);
        assert_eq!(payload.text("l.0"), None);
        assert_eq!(payload.text("e"), None);
        assert_eq!(payload.flag("missing"), None);
    }

    #[test]
    fn lists_yield_what_fits() {
        let payload =
            parse(r#"{"pages":[{"page_name":"Home"},7,{"page_name":3},{"page_name":"Main"}]}"#);
        assert_eq!(payload.joined("pages", "page_name").as_deref(), Some("Home,Main"));
        assert_eq!(payload.joined("other", "page_name"), None);
    }

    #[test]
    fn texts_are_made_fit_for_attributes() {
        let payload = parse(r#"{"a":"one\ntwo\u0000\ufffe!","b":"\n"}"#);
        assert_eq!(payload.text("a").as_deref(), Some("onetwo!"));
        assert_eq!(payload.text("b"), None);
        let long = format!("{{\"a\":\"{}\"}}", "é".repeat(MAX_TEXT));
        assert_eq!(parse(&long).text("a").unwrap(), "é".repeat(MAX_TEXT / 2));
    }

    #[test]
    fn of_members_with_one_name_the_last_counts() {
        assert_eq!(parse(r#"{"a":1,"a":2}"#).number("a"), Some(2));
        assert_eq!(parse(r#"{"o":{"a":1,"a":2}}"#).number("o.a"), Some(2));
    }

    #[test]
    fn escaped_names_and_texts_are_unescaped() {
        assert_eq!(parse(r#"{"\u0061":"x\"y"}"#).text("a").as_deref(), Some("x\"y"));
    }

    #[test]
    fn only_objects_are_payloads() {
        for text in ["[]", "7", "null", r#""x""#, r#"[{"a":1}]"#] {
            assert!(matches!(Payload::parse(text.as_bytes()), Err(PayloadError::NotAnObject)));
        }
        for bytes in [&b""[..], b"{", b"{}x", b"{\"a\":}", b"\xef\xbb\xbf{}", b"{\"a\":\"\xff\"}"] {
            assert!(matches!(Payload::parse(bytes), Err(PayloadError::NotJson(_))), "{bytes:?}");
        }
    }

    #[test]
    fn depth_does_not_exhaust_the_stack() {
        let deep = format!("{{\"a\":{}1{}}}", "[".repeat(200_000), "]".repeat(200_000));
        let text = Payload::parse(deep.as_bytes()).ok().and_then(|payload| payload.text("a"));
        assert_eq!(text, None);
    }
}
