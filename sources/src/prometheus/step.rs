//! The resolution of a range query, and how a range is cut so that Prometheus answers. Pure.

use jiff::{SignedDuration, Timestamp};

/// Prometheus refuses a query for more points than that a series.
const MAX_POINTS: i128 = 11_000;

/// How many queries are asked about one range. What is older is left out, and reported: it takes a schedule that is due ever
/// so seldom with a resolution of milliseconds to get there.
const MAX_SPANS: i128 = 100;

/// The units of a duration in Prometheus, in the order they are written in, in milliseconds.
const UNITS: [(&str, i64); 7] = [
    ("y", 365 * 24 * 3600 * 1000),
    ("w", 7 * 24 * 3600 * 1000),
    ("d", 24 * 3600 * 1000),
    ("h", 3600 * 1000),
    ("m", 60 * 1000),
    ("s", 1000),
    ("ms", 1),
];

/// Longer is a mistake: no range is.
const MAX_STEP_MS: i64 = 10 * 365 * 24 * 3600 * 1000;

const FORM: &str =
    "expected a duration such as 15s or 1m30s, or a number of seconds, of a millisecond or more";

/// The resolution of a range query.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Step(SignedDuration);

/// The part of a range that one query is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Span {
    /// Its first point.
    pub(super) start: Timestamp,
    /// Where it ends, inclusive.
    pub(super) end: Timestamp,
}

impl Step {
    /// Reads a duration in Prometheus' form, or a number of seconds.
    ///
    /// # Errors
    /// The rule that is broken.
    pub(super) fn parse(text: &str) -> Result<Self, &'static str> {
        let milliseconds = match seconds(text) {
            Some(milliseconds) => Some(milliseconds),
            None => duration(text),
        };
        let milliseconds =
            milliseconds.filter(|step| (1..=MAX_STEP_MS).contains(step)).ok_or(FORM)?;
        Ok(Self(SignedDuration::from_millis(milliseconds)))
    }

    /// The queries that together are about all points from `start` to `end`, and whether older ones had to be left out.
    pub(super) fn spans(self, start: Timestamp, end: Timestamp) -> (Vec<Span>, bool) {
        let step = self.0.as_nanos();
        let (first, last) = (start.as_nanosecond(), end.as_nanosecond().max(start.as_nanosecond()));
        let points = (last - first) / step + 1;
        if points <= MAX_POINTS {
            return (vec![Span { start, end: end.max(start) }], false);
        }
        let count = (points + MAX_POINTS - 1) / MAX_POINTS;
        let skipped = (count - MAX_SPANS).max(0);
        let point = |index: i128| {
            Timestamp::from_nanosecond(first + index * step).unwrap_or(Timestamp::MAX)
        };
        let span = |index: i128| {
            let after = ((index + 1) * MAX_POINTS).min(points);
            Span { start: point(index * MAX_POINTS), end: point(after - 1) }
        };
        ((skipped..count).map(span).collect(), skipped > 0)
    }
}

/// A number of seconds, in milliseconds.
fn seconds(text: &str) -> Option<i64> {
    let plain = text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
    let seconds: f64 = if plain { text.parse().ok()? } else { return None };
    let step = SignedDuration::try_from_secs_f64(seconds).ok()?;
    i64::try_from(step.as_millis()).ok()
}

/// A duration such as `1h30m`, in milliseconds.
fn duration(text: &str) -> Option<i64> {
    let (mut rest, mut units, mut sum) = (text, UNITS.iter(), 0_i64);
    while !rest.is_empty() {
        let digits = rest.find(|char: char| !char.is_ascii_digit())?;
        let (number, following) = rest.split_at_checked(digits)?;
        let letters = following.find(|char: char| !char.is_ascii_alphabetic());
        let (unit, following) = following.split_at_checked(letters.unwrap_or(following.len()))?;
        // Each unit once at most, the longer first.
        let (_, milliseconds) = units.by_ref().find(|(name, _)| *name == unit)?;
        sum = number.parse::<i64>().ok()?.checked_mul(*milliseconds)?.checked_add(sum)?;
        rest = following;
    }
    Some(sum)
}

#[cfg(test)]
mod tests {
    use super::{Span, Step};
    use jiff::{SignedDuration, Timestamp};
    use proptest::prelude::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[test]
    fn steps_are_durations_or_seconds() {
        for (text, milliseconds) in [
            ("15s", 15_000),
            ("1m30s", 90_000),
            ("500ms", 500),
            ("1y2w3d", 33_004_800_000),
            ("60", 60_000),
            ("0.5", 500),
        ] {
            assert_eq!(
                Step::parse(text),
                Ok(Step(SignedDuration::from_millis(milliseconds))),
                "{text}"
            );
        }
        for wrong in [
            "",
            "s",
            "0",
            "0s",
            "-1",
            "30m1h",
            "5x",
            "1s1s",
            "1e9999",
            "0.0001",
            "11y",
            "99999999999999999999y",
            "1 m",
            "é",
        ] {
            assert!(Step::parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_range_of_few_points_is_one_query() {
        let step = Step::parse("15s").unwrap();
        let whole = vec![Span { start: at(1), end: at(60) }];
        assert_eq!(step.spans(at(1), at(60)), (whole, false));
        assert_eq!(step.spans(at(5), at(4)).0, [Span { start: at(5), end: at(5) }]);
    }

    #[test]
    fn a_long_range_is_cut_between_points() {
        let step = Step::parse("1s").unwrap();
        let (spans, is_short) = step.spans(at(0), at(25_000));
        assert!(!is_short);
        assert_eq!(
            spans,
            [
                Span { start: at(0), end: at(10_999) },
                Span { start: at(11_000), end: at(21_999) },
                Span { start: at(22_000), end: at(25_000) }
            ]
        );
        let (spans, is_short) = step.spans(at(0), at(2_000_000));
        assert!(is_short);
        assert_eq!((spans.len(), spans[99].end), (100, at(2_000_000)));
    }

    proptest! {
        #[test]
        fn no_point_is_asked_twice_or_left_out(seconds in 0..1_000_000_i64, step in 1..100_000_i64) {
            let step_of = Step(SignedDuration::from_millis(step * 10));
            let (spans, is_short) = step_of.spans(at(0), at(seconds));
            let mut points = 0;
            let mut next = spans[0].start;
            for span in &spans {
                prop_assert_eq!(span.start, next);
                let inside = (span.end.as_millisecond() - span.start.as_millisecond()) / (step * 10) + 1;
                prop_assert!(inside <= 11_000);
                points += inside;
                next = span.start + SignedDuration::from_millis(inside * step * 10);
            }
            prop_assert!(next > at(seconds));
            prop_assert!(is_short || points == seconds * 1000 / (step * 10) + 1);
        }
    }
}
