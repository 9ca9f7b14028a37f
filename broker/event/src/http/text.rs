//! How an attribute's text becomes a header value and back (HTTP binding, 3.1.3.2).

use std::borrow::Cow;

use bytestring::ByteString;
use http::HeaderValue;
use percent_encoding::{AsciiSet, CONTROLS, percent_decode, utf8_percent_encode};

use crate::error::{ReadError, excerpt};

/// What a header value cannot carry as it is, besides everything beyond ASCII.
const ENCODED: &AsciiSet = &CONTROLS.add(b' ').add(b'"').add(b'%');

/// Appends the text of a header value to `out`: quotes around the whole value are taken off, then `%XX` is decoded once.
///
/// A percent sign that starts no escape stays, as does UTF-8 that was not encoded: many senders never encode.
pub(super) fn decode(attribute: &str, value: &[u8], out: &mut String) -> Result<(), ReadError> {
    let unquoted = unquote(value);
    let decoded = if memchr::memchr(b'%', &unquoted).is_some() {
        Cow::from(percent_decode(&unquoted))
    } else {
        Cow::Borrowed(&*unquoted)
    };
    match std::str::from_utf8(&decoded) {
        Ok(text) => {
            out.push_str(text);
            Ok(())
        }
        Err(_) => Err(ReadError::NotUtf8 { part: format!("header ce-{}", excerpt(attribute)) }),
    }
}

/// Takes a quoted string out of its quotes; anything else, also one with a stray quote inside, is itself.
fn unquote(value: &[u8]) -> Cow<'_, [u8]> {
    let inner = value.strip_prefix(b"\"").and_then(|rest| rest.strip_suffix(b"\""));
    let Some(inner) = inner else {
        return Cow::Borrowed(value);
    };
    let mut plain = Vec::with_capacity(inner.len());
    let mut bytes = inner.iter().copied();
    while let Some(byte) = bytes.next() {
        match byte {
            b'"' => return Cow::Borrowed(value),
            b'\\' => match bytes.next() {
                Some(escaped) => plain.push(escaped),
                None => return Cow::Borrowed(value),
            },
            other => plain.push(other),
        }
    }
    Cow::Owned(plain)
}

/// The header value of an attribute's text; shares its bytes when nothing needs encoding.
pub(super) fn encode(text: &ByteString) -> HeaderValue {
    if needs_encoding(text) {
        let encoded = utf8_percent_encode(text, ENCODED).to_string();
        return HeaderValue::try_from(encoded).expect("percent-encoded text is visible ASCII");
    }
    HeaderValue::from_maybe_shared(text.as_bytes().clone()).expect("visible ASCII was checked")
}

/// Appends what [`encode`] makes of an attribute's text.
pub(super) fn append_encoded(text: &str, out: &mut Vec<u8>) {
    if needs_encoding(text) {
        for part in utf8_percent_encode(text, ENCODED) {
            out.extend_from_slice(part.as_bytes());
        }
    } else {
        out.extend_from_slice(text.as_bytes());
    }
}

fn needs_encoding(text: &str) -> bool {
    text.bytes().any(|byte| !(0x21..=0x7e).contains(&byte) || byte == b'"' || byte == b'%')
}

/// Whether text can stand in a header as it is (RFC 9110, 5.5).
pub(super) fn is_header_value(text: &str) -> bool {
    text.bytes().all(|byte| byte == b'\t' || (byte >= b' ' && byte != 0x7f))
}
