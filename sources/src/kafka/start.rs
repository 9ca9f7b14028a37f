//! Where a group begins that has no position, or is moved.

use jiff::Timestamp;

/// Where a group without a position begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Start {
    /// With the oldest record that Kafka has.
    Earliest,
    /// With what comes from now on.
    Latest,
    /// With the first record of this time or later, in milliseconds since 1970.
    Time(i64),
    /// With this offset in each partition.
    Offset(i64),
}

impl Start {
    /// Reads the annotation.
    ///
    /// # Errors
    /// What it may be.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let rule = "expected earliest, latest, a time such as 2026-01-31T12:00:00Z, or offset: and a number";
        match text {
            "earliest" => return Ok(Self::Earliest),
            "latest" => return Ok(Self::Latest),
            _ => {}
        }
        if let Some(number) = text.strip_prefix("offset:") {
            let digits = !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit());
            let offset = number.parse().ok().filter(|_| digits);
            return offset.map(Self::Offset).ok_or_else(|| rule.to_owned());
        }
        let time: Timestamp = text.parse().map_err(|_| rule.to_owned())?;
        Ok(Self::Time(time.as_millisecond()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_annotation_is_read() {
        assert_eq!(Start::parse("earliest"), Ok(Start::Earliest));
        assert_eq!(Start::parse("latest"), Ok(Start::Latest));
        assert_eq!(Start::parse("offset:42"), Ok(Start::Offset(42)));
        let time = Start::Time(1_767_225_600_000);
        assert_eq!(Start::parse("2026-01-01T00:00:00Z"), Ok(time));
        assert_eq!(Start::parse("2026-01-01T01:00:00+01:00"), Ok(time));
        for text in [
            "",
            "now",
            "offset:",
            "offset:-1",
            "offset:+1",
            "42",
            "2026-01-01",
            "offset:99999999999999999999",
        ] {
            assert!(Start::parse(text).is_err(), "{text}");
        }
    }
}
