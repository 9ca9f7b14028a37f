//! When a schedule is well formed: the dialect and the complaints of the cron library that Knative uses.

use jiff::tz::TimeZone;

/// One field of a schedule: its bounds, and names for its values.
struct Field {
    min: u32,
    max: u32,
    names: &'static [&'static str],
    /// The value of the first name.
    first: u32,
}

const fn numbers(min: u32, max: u32) -> Field {
    Field { min, max, names: &[], first: 0 }
}

const MONTHS: &[&str] =
    &["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"];
const DAYS: &[&str] = &["sun", "mon", "tue", "wed", "thu", "fri", "sat"];
const FIELDS: [Field; 6] = [
    numbers(0, 59),
    numbers(0, 59),
    numbers(0, 23),
    numbers(1, 31),
    Field { min: 1, max: 12, names: MONTHS, first: 1 },
    Field { min: 0, max: 6, names: DAYS, first: 0 },
];
const DESCRIPTORS: [&str; 7] =
    ["@yearly", "@annually", "@monthly", "@weekly", "@daily", "@midnight", "@hourly"];
/// Longer schedules name every value of every field and then some.
const MAX_BYTES: usize = 1024;

/// A schedule without its time zone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Schedule<'a> {
    /// The time zone that stands before it, as in `CRON_TZ=Europe/Paris 0 9 * * *`.
    pub timezone: Option<&'a str>,
    /// Five fields, six with seconds first, or a descriptor such as `@daily`.
    pub expression: &'a str,
}

impl<'a> Schedule<'a> {
    /// Separates the time zone from the expression; checks neither.
    #[must_use]
    pub fn split(text: &'a str) -> Self {
        let zoned = text.strip_prefix("CRON_TZ=").or_else(|| text.strip_prefix("TZ="));
        match zoned {
            Some(zoned) => {
                let (timezone, expression) = zoned.split_once(' ').unwrap_or((zoned, ""));
                Self { timezone: Some(timezone), expression: expression.trim() }
            }
            None => Self { timezone: None, expression: text },
        }
    }
}

/// Checks a schedule without a time zone.
///
/// # Errors
/// What is wrong with it.
pub fn check(expression: &str) -> Result<(), String> {
    if expression.is_empty() {
        return Err("empty spec string".to_owned());
    }
    if expression.len() > MAX_BYTES {
        return Err(format!("a schedule may have {MAX_BYTES} bytes"));
    }
    if expression.contains("@every") {
        return Err("unsupported descriptor @every".to_owned());
    }
    if expression.starts_with('@') {
        let known = DESCRIPTORS.contains(&expression);
        return if known { Ok(()) } else { Err(format!("unrecognized descriptor: {expression}")) };
    }
    let fields: Vec<&str> = expression.split_whitespace().collect();
    let skipped = match fields.len() {
        5 => 1,
        6 => 0,
        found => {
            return Err(format!("expected 5 to 6 fields, found {found}: [{}]", fields.join(" ")));
        }
    };
    for (text, field) in fields.iter().zip(FIELDS.iter().skip(skipped)) {
        let mut ranges = text.split(',').filter(|range| !range.is_empty()).peekable();
        // Such a field never matches, and the schedule never fires.
        if ranges.peek().is_none() {
            return Err(format!("empty field: {text}"));
        }
        ranges.try_for_each(|range| check_range(range, field))?;
    }
    Ok(())
}

/// Checks the name of a time zone.
///
/// # Errors
/// What is wrong with it.
pub fn check_timezone(name: &str) -> Result<(), String> {
    match TimeZone::get(name) {
        Ok(_) => Ok(()),
        Err(_) => Err(format!("provided bad location {name}: unknown time zone {name}")),
    }
}

/// Checks `*`, `a`, `a-b`, each with or without `/step`.
fn check_range(text: &str, field: &Field) -> Result<(), String> {
    let (range, step) = match text.split_once('/') {
        Some((_, step)) if step.contains('/') => return Err(format!("too many slashes: {text}")),
        Some((range, step)) => (range, Some(step)),
        None => (text, None),
    };
    let (low, high) = match range.split_once('-') {
        Some((low, high)) => (low, Some(high)),
        None => (range, None),
    };
    let (start, end) = if low == "*" || low == "?" {
        (field.min, field.max)
    } else {
        let start = number_or_name(low, field)?;
        match high {
            Some(high) if high.contains('-') => return Err(format!("too many hyphens: {text}")),
            Some(high) => (start, number_or_name(high, field)?),
            None if step.is_some() => (start, field.max),
            None => (start, start),
        }
    };
    let step = step.map_or(Ok(1), number)?;
    let (min, max) = (field.min, field.max);
    if start < min {
        return Err(format!("beginning of range ({start}) below minimum ({min}): {text}"));
    }
    if end > max {
        return Err(format!("end of range ({end}) above maximum ({max}): {text}"));
    }
    if start > end {
        return Err(format!("beginning of range ({start}) beyond end of range ({end}): {text}"));
    }
    if step == 0 {
        return Err(format!("step of range should be a positive number: {text}"));
    }
    Ok(())
}

fn number_or_name(text: &str, field: &Field) -> Result<u32, String> {
    let named = (field.first..).zip(field.names).find(|(_, name)| text.eq_ignore_ascii_case(name));
    match named {
        Some((value, _)) => Ok(value),
        None => number(text),
    }
}

fn number(text: &str) -> Result<u32, String> {
    // Digits alone: the standard parser would take a sign too.
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    digits.then(|| text.parse().ok()).flatten().ok_or_else(|| {
        format!("failed to parse int from {text}: strconv.Atoi: parsing {text:?}: invalid syntax")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn schedules_of_five_and_six_fields_and_descriptors_are_well_formed() {
        for text in [
            "* * * * *",
            "*/10 * * * * *",
            "0 9 * * MON-FRI",
            "0 0 1,15 jan-Mar ?",
            "5/15 0-6/2 * * 0",
            "@daily",
            "@hourly",
            "  0   0 * * * ",
            "59 23 31 12 6",
            "*-5 * * * *",
            "1,,2 * * * *",
        ] {
            assert_eq!(check(text), Ok(()), "{text}");
        }
    }

    #[test]
    fn malformed_schedules_are_refused_in_the_words_of_the_library() {
        let cases = [
            ("", "empty spec string"),
            ("61 * * * *", "end of range (61) above maximum (59): 61"),
            ("* * * *", "expected 5 to 6 fields, found 4: [* * * *]"),
            ("* * * * * * *", "expected 5 to 6 fields, found 7: [* * * * * * *]"),
            ("* * 0 * *", "beginning of range (0) below minimum (1): 0"),
            ("5-1 * * * *", "beginning of range (5) beyond end of range (1): 5-1"),
            ("1-2-3 * * * *", "too many hyphens: 1-2-3"),
            ("1/2/3 * * * *", "too many slashes: 1/2/3"),
            ("*/0 * * * *", "step of range should be a positive number: */0"),
            ("* * * * 7", "end of range (7) above maximum (6): 7"),
            (
                "x * * * *",
                "failed to parse int from x: strconv.Atoi: parsing \"x\": invalid syntax",
            ),
            (
                "+5 * * * *",
                "failed to parse int from +5: strconv.Atoi: parsing \"+5\": invalid syntax",
            ),
            ("@every 1s", "unsupported descriptor @every"),
            ("@reboot", "unrecognized descriptor: @reboot"),
            (", * * * *", "empty field: ,"),
        ];
        for (text, expected) in cases {
            assert_eq!(check(text), Err(expected.to_owned()), "{text}");
        }
        assert!(check(&"1,".repeat(1000)).is_err());
    }

    #[test]
    fn a_time_zone_may_stand_before_a_schedule() {
        let zoned = Schedule::split("CRON_TZ=Europe/Paris  0 9 * * *");
        assert_eq!(zoned, Schedule { timezone: Some("Europe/Paris"), expression: "0 9 * * *" });
        assert_eq!(Schedule::split("TZ=UTC"), Schedule { timezone: Some("UTC"), expression: "" });
        assert_eq!(Schedule::split("@daily"), Schedule { timezone: None, expression: "@daily" });
    }

    #[test]
    fn time_zones_are_those_of_the_tz_database() {
        assert_eq!(check_timezone("Europe/Berlin"), Ok(()));
        assert_eq!(check_timezone("UTC"), Ok(()));
        let refused = check_timezone("Mars/Base").unwrap_err();
        assert_eq!(refused, "provided bad location Mars/Base: unknown time zone Mars/Base");
    }

    proptest::proptest! {
        #[test]
        fn no_schedule_makes_the_check_panic(text in "[-*?/,0-9a-zA-Z@ ü]{0,30}") {
            drop(check(&text));
        }
    }
}
