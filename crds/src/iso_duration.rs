//! ISO 8601 durations such as `PT0.2S` and `P1D`, as delivery specs write them.

use std::time::Duration;

const NANOS_PER_SECOND: u128 = 1_000_000_000;
const DAY: u128 = 86_400 * NANOS_PER_SECOND;
/// A year of the Gregorian calendar on average: 365.2425 days.
const YEAR: u128 = 31_556_952 * NANOS_PER_SECOND;
/// Longer durations would only overflow clocks later on.
const MAX: u128 = 100 * YEAR;

/// Why a text is not a duration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IsoDurationError {
    /// It is written differently.
    #[error("an ISO 8601 duration is expected, such as PT0.2S, PT5M or P1D")]
    Malformed,
    /// It is below zero.
    #[error("a duration cannot be negative")]
    Negative,
    /// It is longer than a century.
    #[error("a duration cannot be longer than 100 years")]
    TooLong,
}

impl IsoDurationError {
    /// Always false: the text stays what it is.
    #[must_use]
    pub fn is_retryable(self) -> bool {
        false
    }
}

/// Reads a duration. Years and months count as their average length; the last number may have a fraction.
///
/// # Errors
/// When the text is not a duration, is negative, or is longer than a century.
pub fn parse(text: &str) -> Result<Duration, IsoDurationError> {
    let (negative, unsigned) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    let body = unsigned.strip_prefix('P').ok_or(IsoDurationError::Malformed)?;
    let total = if body == "0" { 0 } else { components(body)? };
    if total > MAX {
        return Err(IsoDurationError::TooLong);
    }
    if negative && total > 0 {
        return Err(IsoDurationError::Negative);
    }
    let seconds = u64::try_from(total / NANOS_PER_SECOND).map_err(|_| IsoDurationError::TooLong)?;
    let nanos = u32::try_from(total % NANOS_PER_SECOND).map_err(|_| IsoDurationError::TooLong)?;
    Ok(Duration::new(seconds, nanos))
}

fn components(body: &str) -> Result<u128, IsoDurationError> {
    let (date, time) = match body.split_once('T') {
        Some((date, time)) => (date, Some(time)),
        None => (body, None),
    };
    let date_units = [('Y', YEAR), ('M', YEAR / 12), ('W', 7 * DAY), ('D', DAY)];
    let time_units =
        [('H', 3600 * NANOS_PER_SECOND), ('M', 60 * NANOS_PER_SECOND), ('S', NANOS_PER_SECOND)];
    let mut total = section(date, &date_units)?;
    if let Some(time) = time {
        if time.is_empty() {
            return Err(IsoDurationError::Malformed);
        }
        total = total.saturating_add(section(time, &time_units)?);
    } else if date.is_empty() {
        return Err(IsoDurationError::Malformed);
    }
    Ok(total)
}

/// Sums numbers followed by unit letters, the letters in the given order and each at most once.
fn section(text: &str, units: &[(char, u128)]) -> Result<u128, IsoDurationError> {
    let mut rest = text;
    let mut total = 0_u128;
    for &(letter, nanos) in units {
        if let Some((number, after)) = rest.split_once(letter) {
            total = total.saturating_add(scaled(number, nanos)?);
            rest = after;
        }
    }
    if rest.is_empty() { Ok(total) } else { Err(IsoDurationError::Malformed) }
}

/// A decimal number times a unit, in nanoseconds.
fn scaled(number: &str, unit: u128) -> Result<u128, IsoDurationError> {
    let (whole, fraction) = match number.split_once(['.', ',']) {
        Some((whole, fraction)) => (whole, fraction),
        None => (number, "0"),
    };
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    if !digits(whole) || !digits(fraction) {
        return Err(IsoDurationError::Malformed);
    }
    let whole: u128 = whole.parse().map_err(|_| IsoDurationError::TooLong)?;
    // Nine digits reach the nanosecond of a second; what follows is below what any clock here resolves.
    let mut part = 0_u128;
    for digit in fraction.bytes().chain(std::iter::repeat(b'0')).take(9) {
        part = part * 10 + u128::from(digit - b'0');
    }
    Ok(whole.saturating_mul(unit).saturating_add(part * unit / NANOS_PER_SECOND))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_of_delivery_specs_are_read() {
        let cases = [
            ("PT0.2S", Duration::from_millis(200)),
            ("PT0,2S", Duration::from_millis(200)),
            ("PT0.05S", Duration::from_millis(50)),
            ("PT5M", Duration::from_mins(5)),
            ("PT1H30M", Duration::from_mins(90)),
            ("P1D", Duration::from_hours(24)),
            ("P1W", Duration::from_hours(24 * 7)),
            ("P1DT1S", Duration::from_secs(86_401)),
            ("P1Y", Duration::from_secs(31_556_952)),
            ("P1M", Duration::from_secs(2_629_746)),
            ("PT0.5H", Duration::from_mins(30)),
            ("+PT1S", Duration::from_secs(1)),
            ("P0", Duration::ZERO),
            ("PT0S", Duration::ZERO),
            ("-PT0S", Duration::ZERO),
        ];
        for (text, expected) in cases {
            assert_eq!(parse(text), Ok(expected), "{text}");
        }
    }

    #[test]
    fn other_texts_are_not_durations() {
        for text in [
            "", "5", "5s", "P", "PT", "P1", "PT5", "P1S", "PT1D", "PT5S3M", "PTS", "pt5s", "PT-5S",
            "PT1.S", "PT.5S", "PT 1S", "PT1S ", "P1DT", "PT1S1S", "PTüS",
        ] {
            assert_eq!(parse(text), Err(IsoDurationError::Malformed), "{text}");
        }
    }

    #[test]
    fn negative_and_endless_durations_are_refused() {
        assert_eq!(parse("-PT1S"), Err(IsoDurationError::Negative));
        assert_eq!(parse("P101Y"), Err(IsoDurationError::TooLong));
        assert_eq!(parse(&format!("PT{}S", "9".repeat(60))), Err(IsoDurationError::TooLong));
        assert_eq!(
            parse("PT340282366920938463463374607431768211455H"),
            Err(IsoDurationError::TooLong)
        );
    }

    proptest::proptest! {
        #[test]
        fn no_text_makes_the_parser_panic(text in "[-+P0-9TYMWDHS.,]{0,40}") {
            let parsed = parse(&text);
            proptest::prop_assert!(parsed.is_err() || parsed.is_ok_and(|duration| duration.as_secs() <= 3_155_695_200));
        }
    }
}
