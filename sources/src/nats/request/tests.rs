use std::time::Duration;

use async_nats::jetstream::consumer::Config;

use super::{BATCH, BATCH_BYTES, Limits, REQUESTS, Verdict, verdict};

#[test]
fn requests_stay_within_what_the_consumer_allows() {
    let open = Limits::of(&Config::default(), 1 << 20);
    assert_eq!(
        open,
        Limits {
            requests: REQUESTS,
            batch: BATCH,
            bytes: BATCH_BYTES,
            expires: Duration::from_secs(30),
            heartbeat: Duration::from_secs(5),
            ack_wait: Duration::from_secs(30),
        }
    );
    let narrow = Config {
        max_waiting: 1,
        max_batch: 10,
        max_bytes: 1000,
        max_expires: Duration::from_secs(8),
        ack_wait: Duration::from_secs(1),
        ..Config::default()
    };
    let limits = Limits::of(&narrow, 1 << 20);
    assert_eq!((limits.requests, limits.batch, limits.bytes), (1, 10, 1000));
    assert_eq!(
        (limits.expires, limits.heartbeat),
        (Duration::from_secs(8), Duration::from_secs(2))
    );
    assert_eq!(limits.ack_wait, Duration::from_secs(1));
}

#[test]
fn the_largest_message_of_a_server_fits_into_a_request() {
    assert_eq!(Limits::of(&Config::default(), 64 << 20).bytes, 128 << 20);
}

#[test]
fn status_messages_say_what_becomes_of_a_request() {
    let of = |status, said: &str| verdict(status, said, "c");
    assert!(matches!(of(100, "Idle Heartbeat"), Verdict::Waits));
    assert!(matches!(of(404, "No Messages"), Verdict::Over));
    assert!(matches!(of(408, "Request Timeout"), Verdict::Over));
    assert!(matches!(of(409, "Leadership Change"), Verdict::Over));
    assert!(matches!(of(409, "Server Shutdown"), Verdict::Over));
    assert!(matches!(of(409, "Batch Completed"), Verdict::Over));
    assert!(matches!(of(409, "Message Size Exceeds MaxBytes"), Verdict::Oversized));
    for (status, said, reason, message) in [
        (409, "Consumer Deleted", "UpstreamNotFound", "the consumer c was deleted"),
        (
            409,
            "Consumer is push based",
            "UpstreamNotFound",
            "the consumer c pushes and cannot be pulled from",
        ),
        (
            409,
            "Exceeded MaxWaiting",
            "UpstreamUnavailable",
            "the consumer c refused a request: 409 Exceeded MaxWaiting",
        ),
        (
            400,
            "Bad Request",
            "UpstreamUnavailable",
            "the consumer c refused a request: 400 Bad Request",
        ),
        (
            503,
            "",
            "UpstreamUnavailable",
            "JetStream does not answer: it is not enabled at NATS, or not ready yet",
        ),
    ] {
        let Verdict::Failed(error) = of(status, said) else { panic!("{status} {said}") };
        assert_eq!((error.reason(), error.to_string().as_str()), (reason, message));
        assert!(error.is_retryable());
    }
}
