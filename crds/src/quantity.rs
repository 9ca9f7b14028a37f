//! Kubernetes quantities such as `1Gi` and `500M`, as a number of bytes.

/// Why a text is not a number of bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum QuantityError {
    /// It is written differently.
    #[error("a Kubernetes quantity is expected, such as 512Mi or 1Gi")]
    Malformed,
    /// It is below zero.
    #[error("a quantity of bytes cannot be negative")]
    Negative,
    /// It does not fit 64 bits.
    #[error("a quantity of bytes must be below 16Ei")]
    TooLarge,
}

impl QuantityError {
    /// Always false: the text stays what it is.
    #[must_use]
    pub fn is_retryable(self) -> bool {
        false
    }
}

/// Reads a quantity as whole bytes, rounded up as Kubernetes does.
///
/// # Errors
/// When the text is not a quantity, is negative, or is too large.
pub fn bytes(text: &str) -> Result<u64, QuantityError> {
    let (negative, unsigned) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    let end =
        unsigned.find(|char: char| !char.is_ascii_digit() && char != '.').unwrap_or(unsigned.len());
    let (number, suffix) = unsigned.split_at_checked(end).ok_or(QuantityError::Malformed)?;
    let (numerator, denominator) = factor(suffix)?;
    let (digits, scale) = decimal(number)?;
    let product = digits.checked_mul(numerator).ok_or(QuantityError::TooLarge)?;
    let divisor = scale.checked_mul(denominator).ok_or(QuantityError::TooLarge)?;
    let value = u64::try_from(product.div_ceil(divisor)).map_err(|_| QuantityError::TooLarge)?;
    if negative && value > 0 { Err(QuantityError::Negative) } else { Ok(value) }
}

/// The digits of a decimal number without its point, and the power of ten to divide them by.
fn decimal(number: &str) -> Result<(u128, u128), QuantityError> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if (whole.is_empty() && fraction.is_empty()) || fraction.contains('.') {
        return Err(QuantityError::Malformed);
    }
    let digits = format!("{whole}{fraction}").parse().map_err(|_| QuantityError::TooLarge)?;
    let places = u32::try_from(fraction.len()).map_err(|_| QuantityError::TooLarge)?;
    Ok((digits, 10_u128.checked_pow(places).ok_or(QuantityError::TooLarge)?))
}

/// What a suffix multiplies by, as a fraction.
fn factor(suffix: &str) -> Result<(u128, u128), QuantityError> {
    let whole = match suffix {
        "" => 1,
        "k" => 10_u128.pow(3),
        "M" => 10_u128.pow(6),
        "G" => 10_u128.pow(9),
        "T" => 10_u128.pow(12),
        "P" => 10_u128.pow(15),
        "E" => 10_u128.pow(18),
        "Ki" => 1 << 10,
        "Mi" => 1 << 20,
        "Gi" => 1 << 30,
        "Ti" => 1 << 40,
        "Pi" => 1 << 50,
        "Ei" => 1 << 60,
        "m" => return Ok((1, 10_u128.pow(3))),
        "u" => return Ok((1, 10_u128.pow(6))),
        "n" => return Ok((1, 10_u128.pow(9))),
        _ => return exponent(suffix),
    };
    Ok((whole, 1))
}

fn exponent(suffix: &str) -> Result<(u128, u128), QuantityError> {
    let power = suffix.strip_prefix(['e', 'E']).ok_or(QuantityError::Malformed)?;
    let power: i32 = power.parse().map_err(|_| QuantityError::Malformed)?;
    let magnitude = 10_u128.checked_pow(power.unsigned_abs()).ok_or(QuantityError::TooLarge)?;
    Ok(if power < 0 { (1, magnitude) } else { (magnitude, 1) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantities_are_read_as_bytes() {
        let cases = [
            ("0", 0),
            ("128", 128),
            ("1k", 1000),
            ("1Ki", 1024),
            ("1.5Gi", 1_610_612_736),
            ("500M", 500_000_000),
            ("1e3", 1000),
            ("1E", 1_000_000_000_000_000_000),
            ("1500m", 2),
            ("5e-1", 1),
            (".5Ki", 512),
            ("-0", 0),
        ];
        for (text, expected) in cases {
            assert_eq!(bytes(text), Ok(expected), "{text}");
        }
    }

    #[test]
    fn other_texts_are_not_quantities() {
        for text in ["", "Gi", ".", "1.2.3", "1 Gi", "1GiB", "1kb", "x", "1e", "ü", "1ü"] {
            assert_eq!(bytes(text), Err(QuantityError::Malformed), "{text}");
        }
        assert_eq!(bytes("-1Gi"), Err(QuantityError::Negative));
        for text in ["16Ei", "99999999999999999999999999999999999999999999", "1e99"] {
            assert_eq!(bytes(text), Err(QuantityError::TooLarge), "{text}");
        }
    }
}
