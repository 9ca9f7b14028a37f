//! What every event gets on its way in, whoever sent it: the time of its arrival, and a bound on how often it may come round.

use std::time::SystemTime;

use broker_event::{Event, Value};
use bytestring::ByteString;
use thiserror::Error;

/// The extension that counts down the hops of an event; taken away before delivery, given back to replies.
pub const TTL: &str = "knativebrokerttl";

/// The extension that says when the event was accepted.
pub const ARRIVAL: &str = "knativearrivaltime";

/// Hops of an event that says nothing: Knative's default.
const MAX_TTL: i32 = 255;

/// Why an event may not come in.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum AdmitError {
    /// It has come round as often as it may.
    #[error(
        "knativebrokerttl is used up: the event has come through the broker as often as it may"
    )]
    Exhausted,
    /// The count is none.
    #[error("knativebrokerttl must be a whole number of hops, not {0:?}")]
    NotANumber(String),
}

impl AdmitError {
    /// Never: the same event stays refused.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        false
    }
}

/// When events are accepted, as those say it that come together.
#[derive(Clone, Debug)]
pub struct Arrival(Value);

impl Arrival {
    /// At this time.
    #[must_use]
    pub fn at(time: SystemTime) -> Self {
        let text = jiff::Timestamp::try_from(time)
            .map_or_else(|_| "1970-01-01T00:00:00Z".to_owned(), |time| time.to_string());
        Self(Value::from(text))
    }
}

/// Marks an event as accepted.
///
/// # Errors
/// [`AdmitError`], and the event is as it was.
pub fn accept(event: &mut Event, arrival: &Arrival) -> Result<(), AdmitError> {
    let left = match event.extension(TTL) {
        None => MAX_TTL,
        Some(value) => {
            let have = match value {
                Value::Integer(number) => Some(*number),
                Value::String(text) => text.parse().ok(),
                Value::Boolean(_) => None,
            };
            let have: i32 = have.ok_or_else(|| AdmitError::NotANumber(value.to_string()))?;
            have.min(MAX_TTL.saturating_add(1)).saturating_sub(1)
        }
    };
    if left <= 0 {
        return Err(AdmitError::Exhausted);
    }
    event.set_extension(ByteString::from_static(TTL), Value::Integer(left));
    event.set_extension(ByteString::from_static(ARRIVAL), arrival.0.clone());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use broker_event::EventBuilder;
    use std::time::{Duration, UNIX_EPOCH};

    fn admitted(ttl: Option<Value>) -> Result<Option<Value>, AdmitError> {
        let mut builder = EventBuilder::new("1", "/s", "t");
        if let Some(ttl) = ttl {
            builder = builder.extension(TTL, ttl);
        }
        let mut event = builder.build().unwrap();
        accept(&mut event, &Arrival::at(UNIX_EPOCH + Duration::from_millis(1500)))?;
        assert_eq!(event.extension(ARRIVAL), Some(&Value::from("1970-01-01T00:00:01.5Z")));
        Ok(event.extension(TTL).cloned())
    }

    #[test]
    fn the_time_to_live_starts_at_255_and_counts_down() {
        assert_eq!(admitted(None), Ok(Some(Value::from(255))));
        assert_eq!(admitted(Some(Value::from(7))), Ok(Some(Value::from(6))));
        assert_eq!(admitted(Some(Value::from("7"))), Ok(Some(Value::from(6))));
        assert_eq!(admitted(Some(Value::from(i32::MAX))), Ok(Some(Value::from(255))));
    }

    #[test]
    fn a_count_that_is_used_up_or_none_is_refused() {
        assert_eq!(admitted(Some(Value::from(1))), Err(AdmitError::Exhausted));
        assert_eq!(admitted(Some(Value::from("-5"))), Err(AdmitError::Exhausted));
        assert_eq!(admitted(Some(Value::from("x"))), Err(AdmitError::NotANumber("x".to_owned())));
    }
}
