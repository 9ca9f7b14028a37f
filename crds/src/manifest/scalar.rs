//! What a YAML scalar without quotes is: the rules of the YAML that Kubernetes reads, which is between 1.1 and 1.2.

use serde_json::Number;

use super::node::Content;

/// Resolves a scalar without quotes.
///
/// # Errors
/// When it is a number that JSON has not.
pub(super) fn resolve(text: &str) -> Result<Content, &'static str> {
    Ok(match text {
        "" | "~" | "null" | "Null" | "NULL" => Content::Null,
        "true" | "True" | "TRUE" | "yes" | "Yes" | "YES" | "on" | "On" | "ON" => {
            Content::Bool(true)
        }
        "false" | "False" | "FALSE" | "no" | "No" | "NO" | "off" | "Off" | "OFF" => {
            Content::Bool(false)
        }
        _ => match number(text) {
            Some(Ok(number)) => Content::Number(number),
            Some(Err(rule)) => return Err(rule),
            None => Content::Text(text.to_owned()),
        },
    })
}

fn number(text: &str) -> Option<Result<Number, &'static str>> {
    let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
    let lower = unsigned.to_ascii_lowercase();
    if lower == ".inf" || lower == ".nan" {
        return Some(Err("infinity and not-a-number are no values here"));
    }
    if !unsigned.starts_with(|first: char| first.is_ascii_digit() || first == '.') {
        return None;
    }
    let plain = unsigned.replace('_', "");
    if let Some(integer) = integer(&plain) {
        let negative = text.starts_with('-');
        let signed = if negative {
            i128::try_from(integer).ok()?.checked_neg()?
        } else {
            i128::try_from(integer).ok()?
        };
        let exact = i64::try_from(signed)
            .map(Number::from)
            .or_else(|_| u64::try_from(signed).map(Number::from));
        if let Ok(number) = exact {
            return Some(Ok(number));
        }
    }
    if !is_decimal(&plain) {
        return None;
    }
    let sign = if text.starts_with('-') { "-" } else { "" };
    let value: f64 = format!("{sign}{plain}").parse().ok()?;
    Some(Number::from_f64(value).ok_or("the number is too large"))
}

fn integer(text: &str) -> Option<u128> {
    let radix = |prefix: &str, radix: u32| {
        let digits = text.strip_prefix(prefix)?;
        let valid = !digits.is_empty() && digits.chars().all(|digit| digit.is_digit(radix));
        valid.then(|| u128::from_str_radix(digits, radix).ok())?
    };
    radix("0x", 16)
        .or_else(|| radix("0o", 8))
        .or_else(|| radix("0b", 2))
        .or_else(|| radix("0", 8))
        .or_else(|| radix("", 10).filter(|_| text == "0" || !text.starts_with('0')))
}

/// Digits with at most one point and one exponent.
fn is_decimal(text: &str) -> bool {
    let (mantissa, exponent) = match text.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, Some(exponent)),
        None => (text, None),
    };
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let exponent_is_good = exponent.is_none_or(|exponent| {
        let unsigned = exponent.strip_prefix(['+', '-']).unwrap_or(exponent);
        !unsigned.is_empty() && digits(unsigned)
    });
    digits(whole)
        && digits(fraction)
        && !(whole.is_empty() && fraction.is_empty())
        && exponent_is_good
}

#[cfg(test)]
mod tests {
    use super::*;

    fn json(text: &str) -> String {
        match resolve(text).unwrap() {
            Content::Null => "null".to_owned(),
            Content::Bool(value) => value.to_string(),
            Content::Number(number) => number.to_string(),
            Content::Text(text) => format!("{text:?}"),
            Content::List(_) | Content::Map(_) => panic!("not a scalar"),
        }
    }

    #[test]
    fn scalars_are_what_kubernetes_takes_them_for() {
        let cases = [
            ("", "null"),
            ("~", "null"),
            ("yes", "true"),
            ("Off", "false"),
            ("y", "\"y\""),
            ("12", "12"),
            ("+12", "12"),
            ("-12", "-12"),
            ("1_000", "1000"),
            ("0x1F", "31"),
            ("0o17", "15"),
            ("017", "15"),
            ("0", "0"),
            ("08", "8.0"),
            ("1.10", "1.1"),
            ("-1e3", "-1000.0"),
            (".5", "0.5"),
            ("18446744073709551615", "18446744073709551615"),
            ("100000000000000000000", "1e+20"),
            ("1.2.3", "\"1.2.3\""),
            ("1s", "\"1s\""),
            ("1e", "\"1e\""),
            (".", "\".\""),
            ("-", "\"-\""),
            ("2026-01-01", "\"2026-01-01\""),
            ("0x", "\"0x\""),
            ("v1", "\"v1\""),
        ];
        for (text, expected) in cases {
            assert_eq!(json(text), expected, "{text}");
        }
        assert!(resolve(".inf").is_err() && resolve("-.NaN").is_err() && resolve("1e999").is_err());
    }
}
