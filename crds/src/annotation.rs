//! The annotations under `weft.dev/`: what Weft adds to Knative's kinds.

use std::num::NonZeroU32;
use std::time::{Duration, SystemTime};

use jiff::Timestamp;

use crate::meta::ObjectMeta;
use crate::{FieldError, FieldErrors, iso_duration, quantity};

/// What all of Weft's annotations start with.
pub const PREFIX: &str = "weft.dev/";
/// On a Trigger: `key` delivers events of one key one after the other; `none` does not.
pub const ORDER: &str = "weft.dev/order";
/// On a Trigger: how many deliveries may be under way at once.
pub const PARALLELISM: &str = "weft.dev/parallelism";
/// On a Trigger: how many deliveries may start in a second.
pub const RATE: &str = "weft.dev/rate";
/// On a Trigger: with which event it begins.
pub const START: &str = "weft.dev/start";
/// On a Trigger: older events expire.
pub const MAX_AGE: &str = "weft.dev/max-age";
/// On a Trigger: of more waiting events, the oldest expire.
pub const MAX_BACKLOG: &str = "weft.dev/max-backlog";
/// On a Trigger: `"true"` keeps its events and delivers none.
pub const PAUSED: &str = "weft.dev/paused";
/// On a Broker: how many bytes it may keep.
pub const STORAGE_BUDGET: &str = "weft.dev/storage-budget";
/// On a source that is told by webhooks: `"false"` leaves the webhook to the user.
pub const REGISTER: &str = "weft.dev/register";

/// The file that an object came from: the mesh writes it, on objects of any kind.
pub const FILE: &str = "weft.dev/file";

/// The annotations a Trigger may have.
pub const ON_TRIGGER: &[&str] = &[ORDER, PARALLELISM, RATE, START, MAX_AGE, MAX_BACKLOG, PAUSED];
/// The annotations a Broker may have.
pub const ON_BROKER: &[&str] = &[STORAGE_BUDGET];

/// The largest `weft.dev/parallelism`: each delivery under way holds a connection and a body.
pub const MAX_PARALLELISM: u32 = 1000;

/// In which order a Trigger delivers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Order {
    /// As they come.
    #[default]
    None,
    /// Events with the same `partitionkey`, else the same `subject`, one after the other.
    Key,
}

/// With which event a new Trigger begins.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Start {
    /// With what is accepted from now on.
    #[default]
    Now,
    /// With the oldest that is still kept.
    Earliest,
    /// With what was accepted at or after this time.
    Time(SystemTime),
    /// With this position in the log.
    Offset(u64),
}

/// What Weft's annotations say about a Trigger.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TriggerOptions {
    /// In which order it delivers.
    pub order: Order,
    /// How many deliveries may be under way at once, if it is said.
    pub parallelism: Option<NonZeroU32>,
    /// How many deliveries may start in a second, if that is limited.
    pub rate: Option<NonZeroU32>,
    /// With which event it begins.
    pub start: Start,
    /// Older events expire.
    pub max_age: Option<Duration>,
    /// Of more waiting events, the oldest expire.
    pub max_backlog: Option<u64>,
    /// Whether it keeps its events and delivers none.
    pub paused: bool,
}

impl TriggerOptions {
    /// Reads them.
    ///
    /// # Errors
    /// Every annotation that cannot be read.
    pub fn read(metadata: &ObjectMeta) -> Result<Self, FieldErrors> {
        let mut reader = Reader { metadata, errors: FieldErrors::new() };
        let options = Self {
            order: reader.read(ORDER, order).unwrap_or_default(),
            parallelism: reader.read(PARALLELISM, parallelism),
            rate: reader.read(RATE, rate),
            start: reader.read(START, start).unwrap_or_default(),
            max_age: reader.read(MAX_AGE, max_age),
            max_backlog: reader.read(MAX_BACKLOG, max_backlog),
            paused: reader.read(PAUSED, truth).unwrap_or_default(),
        };
        reader.errors.into_result().map(|()| options)
    }
}

/// Reads `weft.dev/storage-budget`, in bytes.
///
/// # Errors
/// That it cannot be read.
pub fn storage_budget(metadata: &ObjectMeta) -> Result<Option<u64>, FieldErrors> {
    let mut reader = Reader { metadata, errors: FieldErrors::new() };
    let budget = reader.read(STORAGE_BUDGET, budget);
    reader.errors.into_result().map(|()| budget)
}

/// Reads `weft.dev/register`: whether the mesh makes the webhook.
///
/// # Errors
/// That it cannot be read.
pub fn register(metadata: &ObjectMeta) -> Result<bool, FieldErrors> {
    let mut reader = Reader { metadata, errors: FieldErrors::new() };
    let register = reader.read(REGISTER, truth).unwrap_or(true);
    reader.errors.into_result().map(|()| register)
}

/// Refuses annotations under `weft.dev/` that mean nothing on `kind`: a misspelt one would be ignored silently.
#[must_use]
pub fn unknown(metadata: &ObjectMeta, kind: &str, known: &[&str]) -> FieldErrors {
    let mut errors = FieldErrors::new();
    for key in metadata
        .annotations
        .keys()
        .filter(|key| key.starts_with(PREFIX) && *key != FILE && !known.contains(&key.as_str()))
    {
        let details = if known.is_empty() {
            format!("a {kind} has no annotations under {PREFIX}")
        } else {
            format!("a {kind} may have {}", known.join(", "))
        };
        errors.push(FieldError::invalid_key(key, path(key)).with_details(details));
    }
    errors
}

/// The path of an annotation.
#[must_use]
pub fn path(key: &str) -> String {
    format!("metadata.annotations[{key}]")
}

struct Reader<'a> {
    metadata: &'a ObjectMeta,
    errors: FieldErrors,
}

impl Reader<'_> {
    fn read<T>(&mut self, key: &str, parse: fn(&str) -> Result<T, String>) -> Option<T> {
        let text = self.metadata.annotation(key)?;
        match parse(text) {
            Ok(value) => Some(value),
            Err(rule) => {
                self.errors.push(FieldError::invalid(text, path(key)).with_details(rule));
                None
            }
        }
    }
}

fn order(text: &str) -> Result<Order, String> {
    match text {
        "key" => Ok(Order::Key),
        "none" => Ok(Order::None),
        _ => Err("expected key or none".to_owned()),
    }
}

fn parallelism(text: &str) -> Result<NonZeroU32, String> {
    let number: Option<NonZeroU32> = text.parse().ok();
    let rule = || format!("expected a number from 1 to {MAX_PARALLELISM}");
    number.filter(|number| number.get() <= MAX_PARALLELISM).ok_or_else(rule)
}

fn rate(text: &str) -> Result<NonZeroU32, String> {
    text.parse().map_err(|_| "expected a number of deliveries a second, at least 1".to_owned())
}

fn start(text: &str) -> Result<Start, String> {
    match text {
        "now" => return Ok(Start::Now),
        "earliest" => return Ok(Start::Earliest),
        _ => {}
    }
    if text.bytes().all(|byte| byte.is_ascii_digit())
        && let Ok(offset) = text.parse()
    {
        return Ok(Start::Offset(offset));
    }
    let time: Result<Timestamp, _> = text.parse();
    let rule =
        |_| "expected now, earliest, a time such as 2026-01-31T12:00:00Z, or an offset".to_owned();
    time.map(|time| Start::Time(time.into())).map_err(rule)
}

fn max_age(text: &str) -> Result<Duration, String> {
    match iso_duration::parse(text) {
        Ok(age) if age.is_zero() => Err("an age must be longer than zero".to_owned()),
        Ok(age) => Ok(age),
        Err(error) => Err(error.to_string()),
    }
}

fn max_backlog(text: &str) -> Result<u64, String> {
    let number: Option<u64> = text.parse().ok();
    number
        .filter(|number| *number > 0)
        .ok_or_else(|| "expected a number of events, at least 1".to_owned())
}

fn truth(text: &str) -> Result<bool, String> {
    match text {
        "true" => Ok(true),
        "false" => Ok(false),
        _ => Err("expected \"true\" or \"false\"".to_owned()),
    }
}

fn budget(text: &str) -> Result<u64, String> {
    match quantity::bytes(text) {
        Ok(0) => Err("a budget must be larger than zero".to_owned()),
        Ok(bytes) => Ok(bytes),
        Err(error) => Err(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(annotations: &[(&str, &str)]) -> ObjectMeta {
        let mut metadata = ObjectMeta::named("default", "x");
        for (key, value) in annotations {
            metadata.annotations.insert((*key).to_owned(), (*value).to_owned());
        }
        metadata
    }

    #[test]
    fn a_trigger_without_annotations_has_no_options() {
        assert_eq!(TriggerOptions::read(&with(&[])), Ok(TriggerOptions::default()));
    }

    #[test]
    fn every_option_of_a_trigger_is_read() {
        let metadata = with(&[
            (ORDER, "key"),
            (PARALLELISM, "1000"),
            (RATE, "50"),
            (START, "earliest"),
            (MAX_AGE, "PT1H"),
            (MAX_BACKLOG, "100000"),
            (PAUSED, "true"),
        ]);
        let expected = TriggerOptions {
            order: Order::Key,
            parallelism: NonZeroU32::new(1000),
            rate: NonZeroU32::new(50),
            start: Start::Earliest,
            max_age: Some(Duration::from_hours(1)),
            max_backlog: Some(100_000),
            paused: true,
        };
        assert_eq!(TriggerOptions::read(&metadata), Ok(expected));
    }

    #[test]
    fn a_start_is_now_earliest_a_time_or_an_offset() {
        let time = SystemTime::UNIX_EPOCH + Duration::from_secs(1_767_225_600);
        assert_eq!(start("now"), Ok(Start::Now));
        assert_eq!(start("2026-01-01T00:00:00Z"), Ok(Start::Time(time)));
        assert_eq!(start("2026-01-01T01:00:00+01:00"), Ok(Start::Time(time)));
        assert_eq!(start("42"), Ok(Start::Offset(42)));
        for text in ["", "later", "-1", "2026-01-01", "99999999999999999999999999"] {
            assert!(start(text).is_err(), "{text}");
        }
    }

    #[test]
    fn every_bad_option_is_named() {
        let bad = [
            (ORDER, "keys"),
            (PARALLELISM, "1001"),
            (RATE, "0"),
            (START, "x"),
            (MAX_AGE, "1h"),
            (MAX_BACKLOG, "0"),
            (PAUSED, "yes"),
        ];
        let errors = TriggerOptions::read(&with(&bad)).unwrap_err();
        assert_eq!(errors.iter().count(), bad.len());
        for (key, value) in bad {
            let expected = format!("invalid value: {value}: metadata.annotations[{key}]\n");
            assert!(
                errors.iter().any(|error| error.to_string().starts_with(&expected)),
                "{expected}{errors}"
            );
        }
        for value in ["0", "-1", "x", ""] {
            assert!(TriggerOptions::read(&with(&[(PARALLELISM, value)])).is_err(), "{value}");
        }
    }

    #[test]
    fn budgets_and_registration_are_read() {
        assert_eq!(storage_budget(&with(&[(STORAGE_BUDGET, "1Gi")])), Ok(Some(1 << 30)));
        assert_eq!(storage_budget(&with(&[])), Ok(None));
        assert!(storage_budget(&with(&[(STORAGE_BUDGET, "0")])).is_err());
        assert_eq!(register(&with(&[])), Ok(true));
        assert_eq!(register(&with(&[(REGISTER, "false")])), Ok(false));
        assert!(register(&with(&[(REGISTER, "no")])).is_err());
    }

    #[test]
    fn a_misspelt_annotation_is_refused_with_the_known_ones() {
        let metadata = with(&[("weft.dev/ordr", "key"), ("example.com/x", "y"), (ORDER, "key")]);
        let message = unknown(&metadata, "Trigger", ON_TRIGGER).to_string();
        assert!(message.starts_with("invalid key name \"weft.dev/ordr\": metadata.annotations[weft.dev/ordr]\na Trigger may have weft.dev/order, "), "{message}");
        let message = unknown(&metadata, "Secret", &[]).to_string();
        assert!(message.ends_with("a Secret has no annotations under weft.dev/"), "{message}");
    }
}
