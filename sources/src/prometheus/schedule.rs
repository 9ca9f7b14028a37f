//! When a query is asked. Pure.

use crds::{FieldError, cron};
use jiff::{SignedDuration, Timestamp};

use crate::ping;
use crate::ping::Missed;

/// What the cron library of Knative's `PrometheusSource` understands beside expressions; `PingSource` refuses it.
const EVERY: &str = "@every ";

/// The longest period: a schedule that is due less than once a year is a mistake.
const MAX_PERIOD: SignedDuration = SignedDuration::from_hours(366 * 24);

/// When a query is asked.
#[derive(Clone, Debug)]
pub(super) enum Schedule {
    /// At the times of a cron expression.
    Cron(ping::Schedule),
    /// Every so many seconds since 1970: not since the start, so that a restart moves no tick.
    Every {
        /// How many.
        seconds: i64,
    },
}

impl Schedule {
    /// Reads a schedule.
    ///
    /// # Errors
    /// A sentence that names the field.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        match text.trim().strip_prefix(EVERY) {
            Some(period) => period_of(period).map(|seconds| Self::Every { seconds }),
            None => {
                ping::Schedule::parse(text, None).map(Self::Cron).map_err(|error| error.to_string())
            }
        }
    }

    /// Checks a schedule, in the words of the library that Knative uses.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(super) fn check(text: &str) -> Result<(), FieldError> {
        let refused = |why: String| FieldError::invalid(why, "schedule");
        if !text.trim().starts_with(EVERY) {
            let timing = cron::Schedule::split(text);
            timing.timezone.map_or(Ok(()), cron::check_timezone).map_err(refused)?;
            cron::check(timing.expression).map_err(refused)?;
        }
        Self::parse(text).map(drop).map_err(|why| refused(text.to_owned()).with_details(why))
    }

    /// The schedule as text. Equal texts mean equal ticks.
    pub(super) fn text(&self) -> String {
        match self {
            Self::Cron(schedule) => schedule.as_str().to_owned(),
            Self::Every { seconds } => format!("{EVERY}{seconds}s"),
        }
    }

    /// The first tick after `after`, if there is one.
    pub(super) fn next(&self, after: Timestamp) -> Option<Timestamp> {
        match self {
            Self::Cron(schedule) => schedule.next(after),
            Self::Every { seconds } => {
                let next = after.as_second().div_euclid(*seconds) + 1;
                Timestamp::from_second(next.checked_mul(*seconds)?).ok()
            }
        }
    }

    /// The ticks after `after`, up to and including `until`.
    pub(super) fn missed(&self, after: Timestamp, until: Timestamp) -> Option<Missed> {
        match self {
            Self::Cron(schedule) => schedule.missed(after, until),
            Self::Every { seconds } => {
                let first = self.next(after).filter(|tick| *tick <= until)?;
                let last = until.as_second().div_euclid(*seconds) * seconds;
                let count = u64::try_from((last - first.as_second()) / seconds).ok()? + 1;
                let last = Timestamp::from_second(last).ok()?;
                Some(Missed { count, more: false, first, last })
            }
        }
    }
}

/// The seconds of a period in Go's form, as in `1h30m`. Fractions of seconds are cut off, and one second is the least, as
/// in that library.
fn period_of(text: &str) -> Result<i64, String> {
    let refused =
        || format!("schedule: {text:?} is not a period; write @every 30s or @every 1h30m");
    let is_go = |char: char| char.is_ascii_digit() || "hmsµun.".contains(char);
    let period: SignedDuration = Some(text.trim())
        .filter(|text| text.chars().all(is_go))
        .and_then(|text| text.parse().ok())
        .filter(|period| *period > SignedDuration::ZERO && *period <= MAX_PERIOD)
        .ok_or_else(refused)?;
    Ok(period.as_secs().max(1))
}

#[cfg(test)]
mod tests {
    use super::Schedule;
    use jiff::Timestamp;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    #[test]
    fn periods_tick_at_the_same_times_whenever_they_start() {
        let schedule = Schedule::parse("@every 1m30s").unwrap();
        assert_eq!(schedule.text(), "@every 90s");
        let next = |after: &str| schedule.next(at(after)).unwrap().to_string();
        assert_eq!(next("2026-01-01T00:00:00Z"), "2026-01-01T00:01:30Z");
        assert_eq!(next("2026-01-01T00:01:29.9Z"), "2026-01-01T00:01:30Z");
        assert_eq!(next("2026-01-01T00:01:30Z"), "2026-01-01T00:03:00Z");
        let missed =
            schedule.missed(at("2026-01-01T00:00:00Z"), at("2026-01-01T00:10:00Z")).unwrap();
        assert_eq!(
            (missed.count, missed.first, missed.last),
            (6, at("2026-01-01T00:01:30Z"), at("2026-01-01T00:09:00Z"))
        );
        assert_eq!(schedule.missed(at("2026-01-01T00:00:00Z"), at("2026-01-01T00:01:29Z")), None);
    }

    #[test]
    fn periods_are_written_as_in_go() {
        let seconds = |text: &str| match Schedule::parse(&format!("@every {text}")) {
            Ok(Schedule::Every { seconds }) => Some(seconds),
            _ => None,
        };
        assert_eq!(seconds("30s"), Some(30));
        assert_eq!(seconds("1h0m5s"), Some(3605));
        assert_eq!(seconds("1.5h"), Some(5400));
        assert_eq!(seconds("100ms"), Some(1));
        for wrong in ["", "0s", "-5s", "5", "1d", "PT5S", "10000h", "5 s"] {
            assert_eq!(seconds(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn what_is_wrong_is_said_as_knative_says_it() {
        let refused = |text| Schedule::check(text).unwrap_err().to_string();
        assert_eq!(
            refused("61 * * * *"),
            "invalid value: end of range (61) above maximum (59): 61: schedule"
        );
        assert_eq!(
            refused("TZ=Mars * * * * *"),
            "invalid value: provided bad location Mars: unknown time zone Mars: schedule"
        );
        assert!(
            refused("@every x")
                .starts_with("invalid value: @every x: schedule\nschedule: \"x\" is not a period")
        );
        assert!(refused("0 0 30 2 *").contains("names a date that never comes"));
        for good in [
            "* * * * *",
            "*/10 * * * * *",
            "@hourly",
            "@every 5m",
            "CRON_TZ=Europe/Berlin 0 9 * * *",
        ] {
            assert_eq!(Schedule::check(good), Ok(()), "{good}");
        }
    }
}
