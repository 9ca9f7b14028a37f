use std::time::UNIX_EPOCH;

use proptest::prelude::{any, prop_oneof, proptest};
use proptest::strategy::{Just, Strategy};

use super::*;

fn policy(backoff: Backoff, delay_ms: u64) -> DeliveryPolicy {
    DeliveryPolicy {
        backoff,
        backoff_delay: Duration::from_millis(delay_ms),
        ..DeliveryPolicy::default()
    }
}

fn class(status: u16) -> Class {
    classify(StatusCode::from_u16(status).unwrap())
}

#[test]
fn statuses_are_classified_as_knative_does() {
    for status in [200, 201, 202, 204, 299] {
        assert_eq!(class(status), Class::Delivered, "{status}");
    }
    for status in [404, 408, 409, 429, 500, 501, 502, 503, 504, 599] {
        assert_eq!(class(status), Class::Retry, "{status}");
    }
    for status in [
        100, 101, 300, 301, 302, 303, 307, 308, 400, 401, 403, 405, 410, 413, 415, 422, 451, 600,
        999,
    ] {
        assert_eq!(class(status), Class::Final, "{status}");
    }
}

#[test]
fn exponential_waits_double_from_the_delay() {
    let waits: Vec<u128> = (1..=5)
        .map(|failed| wait(&policy(Backoff::Exponential, 200), failed, 0.0, None).as_millis())
        .collect();
    assert_eq!(waits, [200, 400, 800, 1600, 3200]);
}

#[test]
fn linear_waits_grow_by_the_delay() {
    let waits: Vec<u128> = (1..=4)
        .map(|failed| wait(&policy(Backoff::Linear, 200), failed, 0.0, None).as_millis())
        .collect();
    assert_eq!(waits, [200, 400, 600, 800]);
}

#[test]
fn chance_adds_up_to_a_tenth() {
    assert_eq!(wait(&policy(Backoff::Linear, 1000), 1, 1.0, None), Duration::from_millis(1100));
    assert_eq!(wait(&policy(Backoff::Linear, 1000), 1, 0.5, None), Duration::from_millis(1050));
}

#[test]
fn ten_thousand_events_that_failed_together_come_back_spread_out() {
    let policy = policy(Backoff::Exponential, 3_600_000);
    let waits: Vec<Duration> =
        (0..10_000).map(|n| wait(&policy, 30, f64::from(n) / 10_000.0, None)).collect();
    let spread = *waits.iter().max().unwrap() - *waits.iter().min().unwrap();
    assert!(spread > Duration::from_secs(350), "capped waits are spread too: {spread:?}");
}

#[test]
fn retry_after_lengthens_a_wait_up_to_its_limit_and_never_shortens_it() {
    let policy = |max: Option<u64>| DeliveryPolicy {
        retry_after_max: max.map(Duration::from_secs),
        ..policy(Backoff::Linear, 2000)
    };
    let asked =
        |max, seconds| wait(&policy(max), 1, 0.0, Some(Duration::from_secs(seconds))).as_secs();
    assert_eq!(asked(Some(10), 5), 5);
    assert_eq!(asked(Some(10), 60), 10);
    assert_eq!(asked(Some(10), 1), 2, "the backoff is longer");
    assert_eq!(asked(Some(0), 60), 2, "PT0S ignores the header");
    assert_eq!(asked(None, 60), 60);
    assert_eq!(asked(None, u64::MAX), MAX_BACKOFF.as_secs());
}

#[test]
fn retry_after_is_seconds_or_a_date() {
    let now = UNIX_EPOCH + Duration::from_secs(784_111_777); // Sun, 06 Nov 1994 08:49:37 GMT
    let read = |value| retry_after(value, now);
    assert_eq!(read("120"), Some(Duration::from_secs(120)));
    assert_eq!(read(" 0 "), Some(Duration::ZERO));
    assert_eq!(read("99999999999999999999999"), Some(Duration::from_secs(u64::MAX)));
    assert_eq!(read("Sun, 06 Nov 1994 08:50:37 GMT"), Some(Duration::from_secs(60)));
    assert_eq!(read("Sunday, 06-Nov-94 08:50:37 GMT"), Some(Duration::from_secs(60)));
    assert_eq!(read("Sun Nov  6 08:50:37 1994"), Some(Duration::from_secs(60)));
    for nonsense in ["", "-1", "1.5", "soon", "Sun, 06 Nov 1994 08:49:36 GMT", "1e9"] {
        assert_eq!(read(nonsense), None, "{nonsense:?}");
    }
}

#[test]
fn only_429_and_503_may_ask_for_time() {
    for status in 200..600 {
        let heeded = heeds_retry_after(StatusCode::from_u16(status).unwrap());
        assert_eq!(heeded, status == 429 || status == 503, "{status}");
    }
}

proptest! {
    #[test]
    fn waits_grow_and_stay_below_the_cap_and_its_jitter(
        backoff in prop_oneof![Just(Backoff::Linear), Just(Backoff::Exponential)],
        delay_ms in 0_u64..100_000_000,
        failed in 1_u32..1_000_000,
        chance in 0.0..1.0_f64,
        asked in any::<Option<u64>>().prop_map(|asked| asked.map(Duration::from_secs)),
        most in any::<Option<u32>>(),
    ) {
        let policy = DeliveryPolicy {
            retry_after_max: most.map(|seconds| Duration::from_secs(seconds.into())),
            ..policy(backoff, delay_ms)
        };
        let this = wait(&policy, failed, 0.0, None);
        let next = wait(&policy, failed + 1, 0.0, None);
        assert!(this <= next && next <= MAX_BACKOFF);
        let jittered = wait(&policy, failed, chance, asked);
        assert!(jittered >= this);
        let longest = MAX_BACKOFF.mul_f64(1.0 + JITTER).max(policy.retry_after_max.unwrap_or_default().min(MAX_WAIT));
        assert!(jittered <= longest);
    }

    #[test]
    fn no_retry_after_value_is_a_surprise(value: String) {
        retry_after(&value, UNIX_EPOCH);
    }
}
