//! One trigger, one subscriber: requests, answers, replies, retries.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use broker::store::{Outcome, Settlement, Stage};
use broker_event::Value;
use bytes::Bytes;
use http::{HeaderName, HeaderValue};

use super::subscriber::{Answer, Call, Subscriber, answer, endless, stalling};
use super::world::{World, event, one, trigger};
use crate::trigger::{Backoff, Format};

/// An answer that is an event in binary mode.
fn reply(status: u16, id: &str, ty: &'static str, body: impl Into<Bytes>) -> Answer {
    let mut answer = answer(status, body);
    let headers = [("ce-specversion", "1.0"), ("ce-id", id), ("ce-source", "/fn"), ("ce-type", ty)];
    for (name, value) in headers {
        answer
            .headers_mut()
            .insert(HeaderName::from_static(name), HeaderValue::from_str(value).unwrap());
    }
    answer
}

fn with_header(mut answer: Answer, name: &'static str, value: &'static str) -> Answer {
    answer.headers_mut().insert(HeaderName::from_static(name), HeaderValue::from_static(value));
    answer
}

/// Answers the first calls with `first`, the rest with 200.
fn first(times: usize, status: u16) -> impl Fn(&Call) -> Answer + Send + Sync + 'static {
    let calls = AtomicUsize::new(0);
    move |_| {
        let status = if calls.fetch_add(1, Ordering::SeqCst) < times { status } else { 200 };
        answer(status, "")
    }
}

/// The only settlement of a kind other than hold.
fn settlement(world: &World) -> (Settlement, Option<Outcome>) {
    let settled = world.store.settled();
    let last = settled.last().unwrap();
    (last.settlement, last.outcome.clone())
}

#[tokio::test]
async fn an_event_arrives_in_binary_mode_with_knatives_headers() {
    let subscriber = Subscriber::content().await;
    let world = one(&subscriber, |_| {}).await;
    let mut sent = event("1");
    sent.set_extension(
        "traceparent",
        Value::from("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"),
    );
    sent.set_extension("tracestate", Value::from("vendor=1"));
    world.send(sent).await;
    world.drained("t").await;
    let calls = subscriber.calls();
    let call = calls.first().unwrap();
    assert_eq!((call.method.as_str(), call.path.as_str()), ("POST", "/take?it=1"));
    assert_eq!(call.header("host"), format!("127.0.0.1:{}", subscriber.port()));
    assert_eq!(call.header("prefer"), "reply");
    assert_eq!(call.header("kn-namespace"), "default");
    assert_eq!(call.header("ce-type"), "made");
    assert_eq!(call.header("content-type"), "text/plain");
    assert_eq!(
        call.header("traceparent"),
        "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    );
    assert_eq!(call.header("ce-traceparent"), call.header("traceparent"));
    assert_eq!(call.header("tracestate"), "vendor=1");
    assert!(!call.headers.contains_key("ce-knativebrokerttl"));
    assert_eq!(call.body, "payload");
    let (settled, outcome) = settlement(&world);
    assert_eq!((settled, outcome.unwrap().status), (Settlement::Ack, 202));
    let delivered =
        r#"dispatch_attempts_total{namespace="default",trigger="t",result="delivered"}"#;
    assert!((world.metric(delivered) - 1.0).abs() < f64::EPSILON);
}

#[tokio::test]
async fn the_json_format_is_structured_mode() {
    let subscriber = Subscriber::content().await;
    let world = one(&subscriber, |trigger| trigger.delivery.format = Some(Format::Json)).await;
    world.send(event("1")).await;
    world.drained("t").await;
    let calls = subscriber.calls();
    assert!(calls[0].header("content-type").starts_with("application/cloudevents+json"));
    assert!(!calls[0].headers.contains_key("ce-id"));
    let body = std::str::from_utf8(&calls[0].body).unwrap();
    assert!(body.contains(r#""id":"1""#) && !body.contains("knativebrokerttl"), "{body}");
}

#[tokio::test]
async fn a_reply_is_stored_with_one_less_to_go() {
    // The subscriber answers what was made and is content with what was answered.
    let subscriber = Subscriber::answering(|call| match call.header("ce-type") {
        "made" => reply(202, "r1", "answered", vec![b'x'; 100_000]),
        _ => answer(200, ""),
    })
    .await;
    let world = one(&subscriber, |trigger| trigger.delivery.format = Some(Format::Binary)).await;
    world.send(event("1")).await;
    super::world::eventually("the reply came round", || subscriber.ended() == ["1", "r1"]).await;
    let calls = subscriber.calls();
    assert_eq!(calls[1].body.len(), 100_000, "a reply arrives whole");
    assert!(!calls[1].headers.contains_key("ce-knativebrokerttl"));
    assert!(calls[1].headers.contains_key("ce-knativearrivaltime"));
}

#[tokio::test]
async fn a_function_that_answers_itself_comes_to_an_end() {
    let subscriber = Subscriber::answering(|_| reply(200, "again", "made", "")).await;
    let world = one(&subscriber, |trigger| trigger.delivery.retry = 3).await;
    let mut sent = event("1");
    sent.set_extension("knativebrokerttl", Value::Integer(5));
    world.send(sent).await;
    world.drained("t").await;
    assert_eq!(subscriber.calls().len(), 5);
    let (settled, outcome) = settlement(&world);
    let outcome = outcome.unwrap();
    assert_eq!(settled, Settlement::Park, "what answered last is kept for a person, at once");
    assert_eq!((outcome.stage, outcome.status), (Stage::Reply, 400));
    assert!(outcome.reason.contains("knativebrokerttl is used up"), "{}", outcome.reason);
    let dropped =
        r#"dispatch_replies_total{namespace="default",trigger="t",result="ttl_exhausted"}"#;
    assert!((world.metric(dropped) - 1.0).abs() < f64::EPSILON);
}

#[tokio::test]
async fn an_answer_that_is_no_event_is_a_failure_and_retried() {
    let calls = AtomicUsize::new(0);
    let subscriber = Subscriber::answering(move |_| match calls.fetch_add(1, Ordering::SeqCst) {
        0 => answer(200, "<html>thanks</html>"),
        1 => with_header(answer(200, "{"), "content-type", "application/cloudevents+json"),
        _ => answer(204, ""),
    })
    .await;
    let world = one(&subscriber, |trigger| trigger.delivery.retry = 2).await;
    world.send(event("1")).await;
    world.drained("t").await;
    assert_eq!(subscriber.calls().len(), 3);
    let settled = world.store.settled();
    let reason = |at: usize| settled[at].outcome.as_ref().unwrap().reason.clone();
    assert_eq!(reason(0), "answered 200 OK with a body that is not a CloudEvent");
    assert!(
        reason(1).starts_with("answered 200 OK with a malformed CloudEvent: "),
        "{}",
        reason(1)
    );
    assert_eq!(settled[2].settlement, Settlement::Ack);
}

#[tokio::test]
async fn a_reply_that_cannot_be_stored_fails_the_delivery() {
    let subscriber = Subscriber::answering(|call| match call.header("ce-type") {
        "made" => reply(200, "r1", "answered", ""),
        _ => answer(200, ""),
    })
    .await;
    let world = one(&subscriber, |trigger| trigger.delivery.retry = 1).await;
    world.send(event("1")).await;
    world.store.refuse.store(1, Ordering::SeqCst);
    super::world::eventually("the reply came round", || subscriber.ids() == ["1", "1", "r1"]).await;
    world.drained("t").await;
    let outcome = world.store.settled()[0].outcome.clone().unwrap();
    assert_eq!((outcome.stage, outcome.status), (Stage::Reply, 503));
    assert_eq!(outcome.reason, "the reply could not be stored: full");
}

#[tokio::test]
async fn a_reply_past_the_limit_is_a_failure() {
    let subscriber = Subscriber::answering(|_| endless(200)).await;
    let world = one(&subscriber, |_| {}).await;
    world.send(event("1")).await;
    world.drained("t").await;
    assert_eq!(
        world.store.parked("default/t")[0].reason,
        "the answer is longer than 1048576 bytes"
    );
}

#[tokio::test]
async fn failures_that_may_pass_are_retried() {
    for status in [404, 408, 409, 429, 500, 503, 599] {
        let subscriber = Subscriber::answering(first(2, status)).await;
        let world = one(&subscriber, |trigger| trigger.delivery.retry = 3).await;
        world.send(event("1")).await;
        world.drained("t").await;
        assert_eq!(subscriber.calls().len(), 3, "{status}");
        assert_eq!(settlement(&world).0, Settlement::Ack);
    }
}

#[tokio::test]
async fn failures_that_stay_are_parked_at_once() {
    for status in [400, 401, 403, 405, 413, 422] {
        let subscriber = Subscriber::answering(move |_| answer(status, "no")).await;
        let world = one(&subscriber, |trigger| trigger.delivery.retry = 3).await;
        world.send(event("1")).await;
        world.drained("t").await;
        assert_eq!(subscriber.calls().len(), 1, "{status}");
        let parked = world.store.parked("default/t");
        assert_eq!((parked[0].status, parked[0].body.as_slice()), (status, &b"no"[..]));
    }
}

#[tokio::test]
async fn a_redirect_is_not_followed() {
    let elsewhere = Subscriber::content().await;
    let url: &'static str = Box::leak(elsewhere.url().to_string().into_boxed_str());
    for status in [301, 302, 303, 307, 308] {
        let subscriber =
            Subscriber::answering(move |_| with_header(answer(status, ""), "location", url)).await;
        let world = one(&subscriber, |trigger| trigger.delivery.retry = 3).await;
        world.send(event("1")).await;
        world.drained("t").await;
        assert_eq!(subscriber.calls().len(), 1);
        assert_eq!(world.store.parked("default/t")[0].status, status);
    }
    assert!(elsewhere.calls().is_empty());
}

#[tokio::test]
async fn attempts_end_when_the_policy_says() {
    let subscriber = Subscriber::answering(|_| answer(500, "")).await;
    let world = one(&subscriber, |trigger| trigger.delivery.retry = 2).await;
    world.send(event("1")).await;
    world.drained("t").await;
    assert_eq!(subscriber.calls().len(), 3);
    assert_eq!(world.store.parked("default/t").len(), 1);
}

/// How long after its failure the only retry was due.
async fn asked_to_wait(change: impl FnOnce(&mut crate::trigger::Trigger)) -> Duration {
    let subscriber =
        Subscriber::answering(|_| with_header(answer(429, ""), "retry-after", "30")).await;
    let world = one(&subscriber, |trigger| {
        trigger.delivery.retry = 1;
        change(trigger);
    })
    .await;
    world.send(event("1")).await;
    super::world::eventually("the attempt failed", || !world.store.settled().is_empty()).await;
    let settled = world.store.settled();
    let Settlement::Retry { at } = settled[0].settlement else { panic!("{settled:?}") };
    at.duration_since(settled[0].when).unwrap_or_default()
}

#[tokio::test]
async fn retry_after_is_honoured_within_its_limit() {
    let near = |wait: Duration, seconds: u64| {
        wait.as_secs_f64() > 0.9 * Duration::from_secs(seconds).as_secs_f64()
    };
    assert!(near(asked_to_wait(|_| {}).await, 30));
    let limited =
        asked_to_wait(|trigger| trigger.delivery.retry_after_max = Some(Duration::from_secs(10)))
            .await;
    assert!(near(limited, 10) && limited <= Duration::from_secs(10), "{limited:?}");
    let ignored =
        asked_to_wait(|trigger| trigger.delivery.retry_after_max = Some(Duration::ZERO)).await;
    assert!(ignored < Duration::from_secs(1), "{ignored:?}");
}

#[tokio::test]
async fn a_retry_is_due_after_the_backoff() {
    let subscriber = Subscriber::answering(|_| answer(500, "")).await;
    let world = one(&subscriber, |trigger| {
        trigger.delivery.retry = 1;
        trigger.delivery.backoff = Backoff::Exponential;
        trigger.delivery.backoff_delay = Duration::from_secs(60);
    })
    .await;
    world.send(event("1")).await;
    super::world::eventually("the attempt failed", || !world.store.settled().is_empty()).await;
    let settled = world.store.settled();
    let Settlement::Retry { at } = settled[0].settlement else { panic!("{settled:?}") };
    let wait = at.duration_since(settled[0].when).unwrap();
    assert!((Duration::from_secs(59)..Duration::from_secs(67)).contains(&wait), "{wait:?}");
}

#[tokio::test]
async fn an_attempt_that_takes_too_long_is_cut_off_and_retried() {
    let calls = AtomicUsize::new(0);
    let subscriber = Subscriber::working(move |_| match calls.fetch_add(1, Ordering::SeqCst) {
        0 => Box::pin(std::future::pending()),
        1 => Box::pin(async { stalling(200, "half an ans") }),
        _ => Box::pin(async { answer(200, "") }),
    })
    .await;
    let world = one(&subscriber, |trigger| {
        trigger.delivery.retry = 2;
        trigger.delivery.timeout = Duration::from_millis(100);
    })
    .await;
    world.send(event("1")).await;
    world.drained("t").await;
    let settled = world.store.settled();
    let outcome = |at: usize| settled[at].outcome.clone().unwrap();
    assert_eq!((outcome(0).status, outcome(0).reason.as_str()), (0, "no answer within 100ms"));
    assert_eq!(outcome(1).reason, "answered 200 OK, but not to the end within 100ms");
    assert!(outcome(0).took_ms >= 90, "{:?}", outcome(0));
    assert_eq!(settled[2].settlement, Settlement::Ack);
}

#[tokio::test]
async fn an_error_body_that_stalls_does_not_hide_the_status() {
    let subscriber = Subscriber::answering(|_| stalling(500, "half a pa")).await;
    let world =
        one(&subscriber, |trigger| trigger.delivery.timeout = Duration::from_millis(100)).await;
    world.send(event("1")).await;
    world.drained("t").await;
    let parked = world.store.parked("default/t");
    assert_eq!((parked[0].status, parked[0].body.as_slice()), (500, &b"half a pa"[..]));
}

#[tokio::test]
async fn a_subscriber_that_is_not_there_is_retried() {
    let gone = Subscriber::content().await.url();
    let mut only = trigger("t", gone);
    only.delivery.retry = 1;
    let world = World::with(vec![only]).await;
    world.send(event("1")).await;
    world.drained("t").await;
    let parked = world.store.parked("default/t");
    assert_eq!(parked[0].status, 0);
    assert!(parked[0].reason.contains("onnect"), "{}", parked[0].reason);
}

#[tokio::test]
async fn credentials_in_an_address_become_a_header_and_are_told_to_nobody() {
    let subscriber = Subscriber::answering(|_| answer(400, "")).await;
    let sink = Subscriber::content().await;
    let url = format!("http://user:p%40ss@127.0.0.1:{}/", subscriber.port()).parse().unwrap();
    let mut only = trigger("t", url);
    only.delivery.dead_letter = Some(crate::trigger::Target::new(sink.url()));
    let world = World::with(vec![only]).await;
    world.send(event("1")).await;
    world.drained("t").await;
    assert_eq!(subscriber.calls()[0].header("authorization"), "Basic dXNlcjpwQHNz");
    assert_eq!(
        sink.calls()[0].header("ce-knativeerrordest"),
        format!("http://127.0.0.1:{}/", subscriber.port())
    );
}

#[tokio::test]
async fn an_answer_with_an_enormous_head_is_a_failure_like_any_other() {
    let subscriber = Subscriber::answering(|_| {
        let mut answer = answer(200, "");
        for line in 0..60 {
            let name = HeaderName::try_from(format!("x-{line}")).unwrap();
            answer.headers_mut().insert(name, HeaderValue::try_from("y".repeat(4000)).unwrap());
        }
        answer
    })
    .await;
    let world = one(&subscriber, |_| {}).await;
    world.send(event("1")).await;
    world.drained("t").await;
    assert_eq!(world.store.parked("default/t")[0].status, 0);
}

#[tokio::test]
async fn connections_are_used_again() {
    let subscriber = Subscriber::content().await;
    let world = one(&subscriber, |trigger| trigger.parallelism = super::world::at_once(1)).await;
    for id in 0..50 {
        world.send(event(&id.to_string())).await;
    }
    world.drained("t").await;
    assert_eq!(subscriber.calls().len(), 50);
    assert!(subscriber.connections() <= 3, "{} connections", subscriber.connections());
}

#[tokio::test]
async fn a_rate_spreads_attempts_over_time() {
    let subscriber = Subscriber::content().await;
    let world = one(&subscriber, |trigger| trigger.rate = Some(super::world::at_once(50))).await;
    let started = start();
    for id in 0..25 {
        world.send(event(&id.to_string())).await;
    }
    world.drained("t").await;
    // Five at once, then one every 20 ms.
    assert!(started.elapsed() >= Duration::from_millis(380), "{:?}", started.elapsed());
    assert_eq!(subscriber.calls().len(), 25);
}

#[expect(clippy::disallowed_methods, reason = "the rate is measured by the real clock")]
fn start() -> Instant {
    Instant::now()
}
