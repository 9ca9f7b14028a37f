//! When a ping is due. Pure: times in, times out.
//!
//! The grammar is Knative's (robfig/cron with optional seconds, without `@every`). The search is `croner`'s, whose
//! treatment of daylight saving is kinder than Knative's: a daily tick at a time of day that the clocks skip happens
//! right after the gap instead of not at all, and one that the clocks repeat happens once instead of twice. Ticks
//! of an interval (`*/10`, `@hourly`) follow the time that really passes.

use std::fmt;

use croner::Cron;
use croner::parser::{CronParser, Seconds, Year};
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use thiserror::Error;

/// The longest schedule that is looked at; every sensible one fits many times.
const MAX_LENGTH: usize = 1024;

/// How many missed ticks are counted one by one; more cost time at start and tell nobody more.
const MAX_COUNTED: u64 = 10_000;

const MONTHS: [&str; 12] =
    ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"];
const WEEKDAYS: [&str; 7] = ["sun", "mon", "tue", "wed", "thu", "fri", "sat"];

/// The fields of a schedule with seconds, in order.
const FIELDS: [Field; 6] = [
    Field { name: "second", min: 0, max: 59, names: &[] },
    Field { name: "minute", min: 0, max: 59, names: &[] },
    Field { name: "hour", min: 0, max: 23, names: &[] },
    Field { name: "day of month", min: 1, max: 31, names: &[] },
    Field { name: "month", min: 1, max: 12, names: &MONTHS },
    Field { name: "day of week", min: 0, max: 7, names: &WEEKDAYS },
];

/// A parsed schedule.
#[derive(Clone, Debug)]
pub struct Schedule {
    /// As configured, with its time zone; tells one schedule from another.
    text: String,
    zone: TimeZone,
    cron: Box<Cron>,
}

/// Why a schedule cannot be.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ScheduleError {
    /// The schedule's grammar.
    #[error("schedule: {0}")]
    Schedule(String),
    /// The time zone's name.
    #[error("timezone: {0}")]
    Timezone(String),
}

/// Ticks that passed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Missed {
    /// How many, or that many at least where [`Missed::more`] is set.
    pub count: u64,
    /// Whether counting stopped early.
    pub more: bool,
    /// The first of them.
    pub first: Timestamp,
    /// The last of them; where [`Missed::more`] is set, a time before which all of them are.
    pub last: Timestamp,
}

/// What is allowed in one field.
struct Field {
    name: &'static str,
    min: u16,
    max: u16,
    /// Names for the values from `min` on.
    names: &'static [&'static str],
}

impl Schedule {
    /// Reads five fields (minute, hour, day of month, month, day of week), six (seconds first), or `@yearly`,
    /// `@annually`, `@monthly`, `@weekly`, `@daily`, `@midnight` or `@hourly`. `CRON_TZ=<zone>` or `TZ=<zone>` may stand
    /// before them; otherwise `timezone` says what the fields mean, and UTC if it is absent.
    ///
    /// # Errors
    /// A sentence that names the field.
    pub fn parse(schedule: &str, timezone: Option<&str>) -> Result<Self, ScheduleError> {
        if schedule.len() > MAX_LENGTH {
            let long = format!("it is longer than {MAX_LENGTH} bytes");
            return Err(ScheduleError::Schedule(long));
        }
        let timezone = timezone.filter(|name| !name.is_empty());
        let (prefix, pattern) = split_zone(schedule.trim())?;
        let (name, blame): (_, fn(String) -> ScheduleError) = match (prefix, timezone) {
            (Some(_), Some(_)) => {
                let both = "it names a time zone, and so does the schedule; use one of them";
                return Err(ScheduleError::Timezone(both.to_owned()));
            }
            (Some(name), None) => (name, ScheduleError::Schedule),
            (None, Some(name)) => (name, ScheduleError::Timezone),
            (None, None) => ("UTC", ScheduleError::Timezone),
        };
        let zone = TimeZone::get(name)
            .map_err(|_| blame(format!("{name:?} is not the name of a time zone")))?;
        let text = format!("CRON_TZ={name} {pattern}");
        let schedule = Self { text, zone, cron: Box::new(parse(pattern)?) };
        // A fixed time: whether a schedule is ever due does not depend on when that is asked.
        if schedule.next(Timestamp::UNIX_EPOCH).is_none() {
            let never = format!("{pattern:?} names a date that never comes");
            return Err(ScheduleError::Schedule(never));
        }
        Ok(schedule)
    }

    /// The schedule with its time zone, as text. Equal texts mean equal ticks.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The first tick after `after`; none when there is none before the year 5000.
    #[must_use]
    pub fn next(&self, after: Timestamp) -> Option<Timestamp> {
        // The search works in whole seconds and goes on from the one it is given.
        let whole = Timestamp::from_second(after.as_second()).ok()?;
        let whole = if whole > after {
            whole.checked_sub(SignedDuration::from_secs(1)).ok()?
        } else {
            whole
        };
        let start = whole.to_zoned(self.zone.clone());
        let next = self.cron.find_next_occurrence(&start, false).ok()?.timestamp();
        debug_assert!(next > after, "the next tick is later");
        (next > after).then_some(next)
    }

    /// The ticks after `after`, up to and including `until`.
    #[must_use]
    pub fn missed(&self, after: Timestamp, until: Timestamp) -> Option<Missed> {
        let first = self.next(after).filter(|tick| *tick <= until)?;
        let mut missed = Missed { count: 1, more: false, first, last: first };
        while let Some(tick) = self.next(missed.last).filter(|tick| *tick <= until) {
            if missed.count == MAX_COUNTED {
                return Some(Missed { more: true, last: until, ..missed });
            }
            missed.count += 1;
            missed.last = tick;
        }
        Some(missed)
    }
}

impl PartialEq for Schedule {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl ScheduleError {
    /// Never: only another schedule helps.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        false
    }
}

impl Missed {
    /// A single tick.
    #[must_use]
    pub(crate) fn one(tick: Timestamp) -> Self {
        Self { count: 1, more: false, first: tick, last: tick }
    }
}

impl fmt::Display for Missed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { count, more, first, last } = self;
        match (count, more) {
            (1, false) => write!(f, "the tick at {first} was missed"),
            (_, false) => write!(f, "{count} ticks from {first} to {last} were missed"),
            (_, true) => write!(f, "more than {count} ticks from {first} to {last} were missed"),
        }
    }
}

/// Reads a schedule without its time zone.
fn parse(pattern: &str) -> Result<Cron, ScheduleError> {
    let lower = pattern.to_ascii_lowercase();
    if lower.starts_with("@every") {
        let unsupported =
            "unsupported descriptor @every; write */10 * * * * * for every 10 seconds";
        return Err(ScheduleError::Schedule(unsupported.to_owned()));
    }
    let fields = match lower.as_str() {
        "@yearly" | "@annually" => "0 0 1 1 *",
        "@monthly" => "0 0 1 * *",
        "@weekly" => "0 0 * * 0",
        "@daily" | "@midnight" => "0 0 * * *",
        "@hourly" => "0 * * * *",
        fields => fields,
    };
    let mut words: Vec<&str> = fields.split_whitespace().collect();
    if words.len() == FIELDS.len() - 1 {
        words.insert(0, "0");
    }
    if words.len() != FIELDS.len() {
        return Err(ScheduleError::Schedule(format!(
            "{pattern:?} has {} fields; there are five, or six with seconds first",
            fields.split_whitespace().count()
        )));
    }
    let fields = FIELDS.iter().zip(words).map(|(field, word)| field.normalize(word));
    let normal = fields.collect::<Result<Vec<_>, _>>()?.join(" ");
    let parser = CronParser::builder()
        .seconds(Seconds::Required)
        .year(Year::Disallowed)
        .sloppy_ranges(true)
        .build();
    parser.parse(&normal).map_err(|error| ScheduleError::Schedule(format!("{pattern:?}: {error}")))
}

impl Field {
    /// Checks a field and writes it with numbers and `*` alone.
    fn normalize(&self, word: &str) -> Result<String, ScheduleError> {
        // Knative's parser overlooks empty items.
        let items = word.split(',').filter(|item| !item.is_empty()).map(|item| {
            self.item(item).ok_or_else(|| {
                let Self { name, min, max, .. } = self;
                ScheduleError::Schedule(format!(
                    "{item:?} is not possible as {name}: use numbers from {min} to {max}, ranges (a-b), steps (/n) or *"
                ))
            })
        });
        let items = items.collect::<Result<Vec<_>, _>>()?;
        if items.is_empty() {
            return Err(ScheduleError::Schedule(format!("the {} is empty", self.name)));
        }
        // A list that holds everything is everything, also where days of the month and of the week are combined.
        Ok(if items.iter().any(|item| item == "*") { "*".to_owned() } else { items.join(",") })
    }

    /// `*`, `?`, a value or a range, each with an optional step.
    fn item(&self, item: &str) -> Option<String> {
        let (range, step) = match item.split_once('/') {
            Some((range, step)) => (range, Some(number(step).filter(|step| *step > 0)?)),
            None => (item, None),
        };
        // Knative's parser overlooks what follows the star of a range.
        let low = range.split_once('-').map_or(range, |(low, _)| low);
        if matches!(low, "*" | "?") {
            return Some(match step {
                None | Some(1) => "*".to_owned(),
                Some(step) => format!("*/{step}"),
            });
        }
        let range = match range.split_once('-') {
            Some((start, end)) => {
                let (start, end) = (self.value(start)?, self.value(end)?);
                // Sunday may end a week as well as begin it.
                let sunday = self.names.len() == WEEKDAYS.len() && end == 0 && start > 0;
                let end = if sunday { self.max } else { end };
                (start <= end).then(|| format!("{start}-{end}"))?
            }
            None => self.value(range)?.to_string(),
        };
        Some(match step {
            None => range,
            Some(step) => format!("{range}/{step}"),
        })
    }

    fn value(&self, text: &str) -> Option<u16> {
        let named = self.names.iter().position(|name| *name == text);
        let value = match named {
            Some(at) => u16::try_from(at).ok()?.checked_add(self.min)?,
            None => number(text)?,
        };
        (self.min..=self.max).contains(&value).then_some(value)
    }
}

/// Digits alone: the standard parser would take a sign too.
fn number(text: &str) -> Option<u16> {
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok()).flatten()
}

/// Splits `CRON_TZ=<zone>` or `TZ=<zone>` off the front.
fn split_zone(schedule: &str) -> Result<(Option<&str>, &str), ScheduleError> {
    let named = schedule.strip_prefix("CRON_TZ=").or_else(|| schedule.strip_prefix("TZ="));
    let Some(rest) = named else { return Ok((None, schedule)) };
    let (zone, pattern) = rest.split_once(char::is_whitespace).unwrap_or((rest, ""));
    if zone.is_empty() {
        return Err(ScheduleError::Schedule("there is no time zone after TZ=".to_owned()));
    }
    Ok((Some(zone), pattern.trim_start()))
}

#[cfg(test)]
mod tests;
