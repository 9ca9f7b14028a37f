//! How events are delivered: retries, back-off, time limit, encoding, dead letters.

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::destination::Destination;
use crate::iso_duration::{self, IsoDurationError};
use crate::{FieldError, FieldErrors};

/// Delivery options of a Broker or a Trigger. Texts stay as they were written; the accessors read them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct DeliverySpec {
    /// Where events go that could not be delivered. Without one they are kept and listed as parked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dead_letter_sink: Option<Destination>,
    /// How often a failed delivery is tried again.
    #[schemars(range(min = 0))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retry: Option<i32>,
    /// How long one attempt may take, longer than zero: an ISO 8601 duration, as in `PT5S`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timeout: Option<String>,
    /// How the wait before each further attempt grows: `linear`, by one `backoffDelay` an attempt, or `exponential`, doubling.
    #[schemars(extend("enum" = ["linear", "exponential"]))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub backoff_policy: Option<String>,
    /// The wait from which it grows: an ISO 8601 duration, as in `PT0.2S`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub backoff_delay: Option<String>,
    /// The longest `Retry-After` of an answer that is honoured: an ISO 8601 duration; `PT0S` ignores the header.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retry_after_max: Option<String>,
    /// The encoding of requests: `json` sends events whole as JSON, `binary` their attributes as headers. If it is absent,
    /// events are sent in binary mode.
    #[schemars(extend("enum" = ["json", "binary"]))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub format: Option<String>,
}

/// How the wait between attempts grows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BackoffPolicy {
    /// By one delay an attempt.
    Linear,
    /// It doubles.
    Exponential,
}

/// The encoding of requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// Structured mode.
    Json,
    /// Binary mode.
    Binary,
}

impl DeliverySpec {
    /// The number of retries, if it is set.
    #[must_use]
    pub fn retries(&self) -> Option<u32> {
        self.retry.and_then(|retry| u32::try_from(retry).ok())
    }

    /// The time limit of one attempt, if it is set and valid.
    #[must_use]
    pub fn timeout(&self) -> Option<Duration> {
        read(self.timeout.as_ref()).filter(|timeout| !timeout.is_zero())
    }

    /// How the wait grows, if it is set and valid.
    #[must_use]
    pub fn backoff_policy(&self) -> Option<BackoffPolicy> {
        match self.backoff_policy.as_deref()? {
            "linear" => Some(BackoffPolicy::Linear),
            "exponential" => Some(BackoffPolicy::Exponential),
            _ => None,
        }
    }

    /// The wait from which it grows, if it is set and valid.
    #[must_use]
    pub fn backoff_delay(&self) -> Option<Duration> {
        read(self.backoff_delay.as_ref())
    }

    /// The longest `Retry-After` that is honoured, if it is set and valid.
    #[must_use]
    pub fn retry_after_max(&self) -> Option<Duration> {
        read(self.retry_after_max.as_ref())
    }

    /// The encoding, if it is set and valid.
    #[must_use]
    pub fn format(&self) -> Option<Format> {
        match self.format.as_deref()? {
            "json" => Some(Format::Json),
            "binary" => Some(Format::Binary),
            _ => None,
        }
    }

    /// Fills in the namespace of the dead letter sink.
    pub fn defaults(&mut self, namespace: &str) {
        if let Some(sink) = &mut self.dead_letter_sink {
            sink.defaults(namespace);
        }
    }

    /// What is wrong with it. `only_in` is the namespace that the dead letter sink must not leave, if it must not.
    #[must_use]
    pub fn validate(&self, only_in: Option<&str>) -> FieldErrors {
        let mut errors = FieldErrors::new();
        if let Some(sink) = &self.dead_letter_sink {
            errors.also(sink.validate(only_in).via("deadLetterSink"));
        }
        if let Some(retry) = self.retry.filter(|retry| *retry < 0) {
            errors.push(FieldError::invalid(retry, "retry"));
        }
        if let Some(policy) = &self.backoff_policy
            && self.backoff_policy().is_none()
        {
            errors.push(FieldError::invalid(policy, "backoffPolicy"));
        }
        if let Some(format) = &self.format
            && self.format().is_none()
        {
            errors.push(FieldError::invalid(format, "format"));
        }
        if let Some(timeout) = &self.timeout
            && iso_duration::parse(timeout).is_ok_and(|timeout| timeout.is_zero())
        {
            errors.push(
                FieldError::invalid(timeout, "timeout")
                    .with_details("a timeout must be longer than zero"),
            );
        }
        let durations = [
            (&self.timeout, "timeout"),
            (&self.backoff_delay, "backoffDelay"),
            (&self.retry_after_max, "retryAfterMax"),
        ];
        for (text, field) in durations {
            let Some(text) = text else { continue };
            match iso_duration::parse(text) {
                Ok(_) => {}
                Err(IsoDurationError::Malformed) => errors.push(FieldError::invalid(text, field)),
                Err(error) => {
                    errors.push(FieldError::invalid(text, field).with_details(error.to_string()))
                }
            }
        }
        errors
    }
}

fn read(text: Option<&String>) -> Option<Duration> {
    iso_duration::parse(text?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(text: &str) -> DeliverySpec {
        serde_json::from_str(text).unwrap()
    }

    #[test]
    fn a_whole_spec_is_read() {
        let spec = spec(
            r#"{"retry":3,"timeout":"PT5S","backoffPolicy":"exponential","backoffDelay":"PT0.2S","retryAfterMax":"PT0S",
                "format":"json","deadLetterSink":{"uri":"http://dls/"}}"#,
        );
        assert_eq!(spec.validate(None).to_string(), "");
        assert_eq!(spec.retries(), Some(3));
        assert_eq!(spec.timeout(), Some(Duration::from_secs(5)));
        assert_eq!(spec.backoff_policy(), Some(BackoffPolicy::Exponential));
        assert_eq!(spec.backoff_delay(), Some(Duration::from_millis(200)));
        assert_eq!(spec.retry_after_max(), Some(Duration::ZERO));
        assert_eq!(spec.format(), Some(Format::Json));
    }

    #[test]
    fn every_bad_value_is_named() {
        let spec = spec(
            r#"{"retry":-1,"timeout":"PT0S","backoffPolicy":"Linear","backoffDelay":"-PT1S","retryAfterMax":"5m",
                "format":"xml","deadLetterSink":{"ref":{"kind":"Service","apiVersion":"v1"}}}"#,
        );
        let expected = [
            "invalid value: -1: retry",
            "invalid value: -PT1S: backoffDelay",
            "a duration cannot be negative",
            "invalid value: 5m: retryAfterMax",
            "invalid value: Linear: backoffPolicy",
            "invalid value: PT0S: timeout",
            "a timeout must be longer than zero",
            "invalid value: xml: format",
            "missing field(s): deadLetterSink.ref.name",
        ];
        assert_eq!(spec.validate(None).to_string(), expected.join("\n"));
    }
}
