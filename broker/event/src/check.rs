//! The rules single attributes keep. Pure text checks, without allocation on the way of a good event.

use crate::error::{EventError, excerpt};

/// Names that are context attributes in either version, and `data`, which JSON keeps beside them.
const RESERVED: [&str; 9] = [
    "data",
    "datacontenttype",
    "dataschema",
    "id",
    "source",
    "specversion",
    "subject",
    "time",
    "type",
];

/// Names that are attributes in 0.3 only.
const RESERVED_V03: [&str; 2] = ["datacontentencoding", "schemaurl"];

/// Whether `name` is an attribute of the version, so that no extension can have it.
pub(crate) fn is_reserved(name: &str, v03: bool) -> bool {
    RESERVED.contains(&name) || (v03 && RESERVED_V03.contains(&name))
}

/// Whether `name` is a legal extension name in its canonical form, lower case.
pub(crate) fn is_extension_name(name: &str) -> bool {
    !name.is_empty()
        && name.len() <= crate::MAX_EXTENSION_NAME
        && name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit())
}

/// Refuses control characters: C0, DEL and C1.
pub(crate) fn no_control(attribute: &str, text: &str) -> Result<(), EventError> {
    if text.bytes().all(|byte| (0x20..0x7f).contains(&byte)) {
        return Ok(());
    }
    match text.chars().find(|letter| letter.is_control()) {
        None => Ok(()),
        Some(letter) => Err(EventError::ControlCharacter {
            attribute: excerpt(attribute),
            code: u32::from(letter),
        }),
    }
}

/// Whether `text` can be a URI reference.
///
/// Deliberately milder than the grammar, as Go's parser is: letters beyond ASCII, spaces and stray percent signs pass,
/// because senders that do not percent-encode their headers leave such sources behind.
pub(crate) fn is_uri_reference(text: &str) -> bool {
    match scheme(text) {
        Scheme::Absent => has_plausible_authority(text),
        Scheme::Valid(rest) => has_plausible_authority(rest),
        Scheme::Invalid => false,
    }
}

/// Whether `text` can be an absolute URI.
pub(crate) fn is_absolute_uri(text: &str) -> bool {
    matches!(scheme(text), Scheme::Valid(rest) if !rest.is_empty() && has_plausible_authority(rest))
}

enum Scheme<'a> {
    Absent,
    /// What follows the colon.
    Valid(&'a str),
    Invalid,
}

fn scheme(text: &str) -> Scheme<'_> {
    let Some(end) = text.find([':', '/', '?', '#']) else {
        return Scheme::Absent;
    };
    let Some((name, rest)) = text.split_at_checked(end) else {
        return Scheme::Absent;
    };
    let Some(rest) = rest.strip_prefix(':') else {
        return Scheme::Absent;
    };
    let mut letters = name.bytes();
    let starts_well = letters.next().is_some_and(|first| first.is_ascii_alphabetic());
    let goes_on =
        letters.all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'-' | b'.'));
    if starts_well && goes_on { Scheme::Valid(rest) } else { Scheme::Invalid }
}

fn has_plausible_authority(rest: &str) -> bool {
    let Some(rest) = rest.strip_prefix("//") else {
        return true;
    };
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    if host.contains(char::is_whitespace) {
        return false;
    }
    let port = match host.strip_prefix('[') {
        Some(literal) => match literal.split_once(']') {
            Some((_, "")) => return true,
            Some((_, port)) => port.strip_prefix(':'),
            None => None,
        },
        None => match host.split_once(':') {
            Some((_, port)) => Some(port),
            None => return true,
        },
    };
    port.is_some_and(|port| port.bytes().all(|byte| byte.is_ascii_digit()))
}

/// Whether `text` is an RFC 3339 timestamp.
pub(crate) fn is_timestamp(text: &str) -> bool {
    let [
        y1,
        y2,
        y3,
        y4,
        b'-',
        m1,
        m2,
        b'-',
        d1,
        d2,
        b'T' | b't',
        h1,
        h2,
        b':',
        i1,
        i2,
        b':',
        s1,
        s2,
        rest @ ..,
    ] = text.as_bytes()
    else {
        return false;
    };
    let (Some(century), Some(year), Some(month), Some(day)) =
        (two(*y1, *y2), two(*y3, *y4), two(*m1, *m2), two(*d1, *d2))
    else {
        return false;
    };
    let at_most = |first: &u8, second: &u8, max: u8| two(*first, *second).is_some_and(|n| n <= max);
    (1..=days(century, year, month)).contains(&day)
        && at_most(h1, h2, 23)
        && at_most(i1, i2, 59)
        && at_most(s1, s2, 60) // a leap second
        && is_fraction_and_offset(rest)
}

fn is_fraction_and_offset(rest: &[u8]) -> bool {
    let offset = match rest.strip_prefix(b".") {
        None => rest,
        Some(fraction) => {
            let digits = fraction.iter().take_while(|byte| byte.is_ascii_digit()).count();
            match fraction.split_at_checked(digits) {
                Some((digits, offset)) if !digits.is_empty() => offset,
                _ => return false,
            }
        }
    };
    match offset {
        [b'Z' | b'z'] => true,
        [b'+' | b'-', h1, h2, b':', m1, m2] => {
            two(*h1, *h2).is_some_and(|hours| hours <= 23)
                && two(*m1, *m2).is_some_and(|minutes| minutes <= 59)
        }
        _ => false,
    }
}

fn two(tens: u8, ones: u8) -> Option<u8> {
    let digit = |byte: u8| byte.is_ascii_digit().then(|| byte.wrapping_sub(b'0'));
    digit(tens)?.checked_mul(10)?.checked_add(digit(ones)?)
}

/// Days of a month in the Gregorian calendar; 0 for a month that is none.
fn days(century: u8, year: u8, month: u8) -> u8 {
    let leap = if year == 0 { century.is_multiple_of(4) } else { year.is_multiple_of(4) };
    match month {
        1 | 3 | 5 | 7 | 8 | 10 | 12 => 31,
        4 | 6 | 9 | 11 => 30,
        2 if leap => 29,
        2 => 28,
        _ => 0,
    }
}

#[cfg(test)]
mod tests;
