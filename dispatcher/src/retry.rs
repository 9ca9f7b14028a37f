//! Whether a failed attempt is worth another, and when. Pure: time and randomness are arguments.

use std::time::{Duration, SystemTime};

use http::StatusCode;

use crate::trigger::{Backoff, DeliveryPolicy};

/// Longest wait between two attempts, before jitter. Exponential waits pass a year after 25 doublings of a second,
/// and nobody who repaired a subscriber expects to wait longer than an hour for the next attempt.
pub const MAX_BACKOFF: Duration = Duration::from_secs(3600);

/// Longest wait of all, also when a trigger allows a longer `Retry-After`: a day, after which asking once more costs nobody
/// anything, and which no clock can overflow on.
pub(crate) const MAX_WAIT: Duration = Duration::from_secs(24 * 3600);

/// Largest share of a wait that chance adds to it, so that events which failed together do not return together.
pub const JITTER: f64 = 0.1;

/// What a status means for the delivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Class {
    /// Delivered.
    Delivered,
    /// Failed; the same request may succeed later.
    Retry,
    /// Failed; the same request will fail again.
    Final,
}

/// What an HTTP status means, by Knative's table: 404 and 409 are retried because a subscriber that is being rolled out
/// answers so; redirects are not followed and count as final.
pub(crate) fn classify(status: StatusCode) -> Class {
    match status.as_u16() {
        200..=299 => Class::Delivered,
        404 | 408 | 409 | 429 | 500..=599 => Class::Retry,
        _ => Class::Final,
    }
}

/// How long to wait after the `failed`-th failed attempt in a row (1 for the first).
///
/// `chance` is a random fraction from 0 to 1; `retry_after` what the answer asked for. A server can lengthen the
/// wait up to `retry_after_max`, never shorten it.
pub(crate) fn wait(
    policy: &DeliveryPolicy,
    failed: u32,
    chance: f64,
    retry_after: Option<Duration>,
) -> Duration {
    let backoff = backoff(policy.backoff, policy.backoff_delay, failed);
    let jittered = backoff.mul_f64(1.0 + JITTER * chance.clamp(0.0, 1.0));
    let asked = retry_after.unwrap_or_default().min(policy.retry_after_max.unwrap_or(MAX_BACKOFF));
    jittered.max(asked.min(MAX_WAIT))
}

fn backoff(kind: Backoff, delay: Duration, failed: u32) -> Duration {
    let factor = match kind {
        Backoff::Linear => failed.max(1),
        // 31 doublings take any delay of a few microseconds or more past the cap.
        Backoff::Exponential => 1 << failed.saturating_sub(1).min(31),
    };
    delay.saturating_mul(factor).min(MAX_BACKOFF)
}

/// Reads a `Retry-After` value: whole seconds or an HTTP date. `None` when it is neither or lies in the past.
pub(crate) fn retry_after(value: &str, now: SystemTime) -> Option<Duration> {
    let value = value.trim();
    if !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit()) {
        // More digits than fit are an absurd wait, which the caller's cap shortens.
        return Some(Duration::from_secs(value.parse().unwrap_or(u64::MAX)));
    }
    httpdate::parse_http_date(value).ok()?.duration_since(now).ok()
}

/// Whether the status's `Retry-After` is looked at: RFC 9110 defines it for 503, RFC 6585 for 429.
pub(crate) fn heeds_retry_after(status: StatusCode) -> bool {
    matches!(status, StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE)
}

#[cfg(test)]
mod tests;
