//! What happens to events no subscriber took.

use std::sync::atomic::{AtomicUsize, Ordering};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use broker::store::{Outcome, Settlement, Stage};
use broker_event::Value;
use bytes::Bytes;

use super::subscriber::{Answer, Subscriber, answer, endless};
use super::world::{World, event, one, trigger};
use crate::trigger::{Format, Target};

/// A world whose subscriber fails as told and whose letters go to the sink.
async fn failing(
    sink: &Subscriber,
    fails: impl Fn() -> Answer + Send + Sync + 'static,
) -> (World, Subscriber) {
    let subscriber = Subscriber::answering(move |_| fails()).await;
    let dead_letter = Some(Target::new(sink.url()));
    let world = one(&subscriber, |trigger| trigger.delivery.dead_letter = dead_letter).await;
    (world, subscriber)
}

/// An answer that is an event.
fn an_event() -> Answer {
    let mut reply = answer(200, "");
    for (name, value) in
        [("ce-specversion", "1.0"), ("ce-id", "r"), ("ce-source", "/fn"), ("ce-type", "t")]
    {
        reply.headers_mut().insert(name, http::HeaderValue::from_static(value));
    }
    reply
}

/// The data attribute of the only letter, decoded.
fn data(sink: &Subscriber) -> Vec<u8> {
    let calls = sink.calls();
    assert_eq!(calls.len(), 1);
    STANDARD.decode(calls[0].header("ce-knativeerrordata")).unwrap()
}

#[tokio::test]
async fn a_dead_letter_is_the_event_and_why() {
    let sink = Subscriber::content().await;
    let (world, subscriber) = failing(&sink, || answer(422, "cannot read that")).await;
    world.send(event("1")).await;
    world.drained("t").await;
    let calls = sink.calls();
    let letter = &calls[0];
    assert_eq!((letter.id(), letter.body.as_ref()), ("1", &b"payload"[..]));
    assert_eq!(letter.header("ce-knativeerrordest"), subscriber.url().to_string());
    assert_eq!(letter.header("ce-knativeerrorcode"), "422");
    assert_eq!(data(&sink), b"cannot read that");
    assert_eq!(letter.header("kn-namespace"), "default");
    assert!(!letter.headers.contains_key("prefer"));
    assert!(world.store.parked("default/t").is_empty());
    let settled = world.store.settled();
    let stages: Vec<Stage> =
        settled.iter().map(|settled| settled.outcome.as_ref().unwrap().stage).collect();
    assert_eq!(stages, [Stage::Subscriber, Stage::DeadLetter], "both steps are on record");
    assert!(
        (world.metric(r#"dispatch_dead_letters_total{namespace="default",trigger="t"}"#) - 1.0)
            .abs()
            < 0.1
    );
}

#[tokio::test]
async fn error_bodies_of_every_size_reach_the_sink_cut_to_1024_bytes() {
    for length in [0, 1, 768, 769, 1023, 1024, 1025, 10_000, 1 << 20] {
        let body: Vec<u8> = (0..=255).cycle().take(length).collect();
        let sink = Subscriber::content().await;
        let sent = Bytes::from(body.clone());
        let (world, _subscriber) = failing(&sink, move || answer(500, sent.clone())).await;
        world.send(event("1")).await;
        world.drained("t").await;
        assert_eq!(data(&sink), body[..length.min(1024)], "{length}");
    }
}

#[tokio::test]
async fn an_endless_error_body_reaches_the_sink_too() {
    let sink = Subscriber::content().await;
    let (world, _subscriber) = failing(&sink, || endless(500)).await;
    world.send(event("1")).await;
    world.drained("t").await;
    assert_eq!(data(&sink), [b'x'; 1024]);
}

#[tokio::test]
async fn an_error_page_with_newlines_is_never_an_illegal_header() {
    let page = "<html>\r\n<body>\n\t\u{0}\u{7f}Zürich\u{1b}[31m</body>\r\n\r\n</html>".repeat(250);
    assert!(page.len() > 10_000);
    let sink = Subscriber::content().await;
    let sent = Bytes::from(page.clone());
    let (world, _subscriber) = failing(&sink, move || answer(400, sent.clone())).await;
    world.send(event("1")).await;
    world.drained("t").await;
    assert_eq!(data(&sink), page.as_bytes()[..1024]);
}

#[tokio::test]
async fn a_structured_dead_letter_holds_the_same() {
    let sink = Subscriber::content().await;
    let (mut world, _subscriber) = failing(&sink, || answer(400, "no\n")).await;
    world.change(|trigger| trigger.delivery.format = Some(Format::Json)).await;
    world.send(event("1")).await;
    world.drained("t").await;
    let calls = sink.calls();
    let body = std::str::from_utf8(&calls[0].body).unwrap();
    assert!(
        body.contains(r#""knativeerrorcode":400"#) && body.contains(r#""knativeerrordata":"bm8K""#),
        "{body}"
    );
}

#[tokio::test]
async fn a_host_that_cannot_be_reached_is_a_500_with_the_error_as_data() {
    let gone = Subscriber::content().await.url();
    let sink = Subscriber::content().await;
    let mut only = trigger("t", gone.clone());
    only.delivery.dead_letter = Some(Target::new(sink.url()));
    let world = World::with(vec![only]).await;
    world.send(event("1")).await;
    world.drained("t").await;
    let calls = sink.calls();
    assert_eq!(calls[0].header("ce-knativeerrordest"), gone.to_string());
    assert_eq!(calls[0].header("ce-knativeerrorcode"), "500");
    assert!(String::from_utf8(data(&sink)).unwrap().contains("onnect"));
}

#[tokio::test]
async fn a_failing_sink_is_retried_like_a_subscriber() {
    let calls = AtomicUsize::new(0);
    let sink = Subscriber::answering(move |_| {
        answer(if calls.fetch_add(1, Ordering::SeqCst) < 2 { 503 } else { 200 }, "")
    })
    .await;
    let (mut world, subscriber) = failing(&sink, || answer(422, "no")).await;
    world.change(|trigger| trigger.delivery.retry = 2).await;
    world.send(event("1")).await;
    world.drained("t").await;
    assert_eq!(subscriber.calls().len(), 1, "the subscriber is not asked again");
    let letters = sink.calls();
    assert_eq!(letters.len(), 3);
    for letter in &letters {
        assert_eq!(letter.header("ce-knativeerrorcode"), "422");
        assert_eq!(letter.header("ce-knativeerrordata"), "bm8=");
    }
    assert!(world.store.parked("default/t").is_empty());
}

#[tokio::test]
async fn when_the_sink_fails_for_good_the_event_is_parked_with_both_reasons() {
    let sink = Subscriber::answering(|_| answer(503, "sink down")).await;
    let (mut world, subscriber) = failing(&sink, || answer(500, "subscriber down")).await;
    world.change(|trigger| trigger.delivery.retry = 2).await;
    world.send(event("1")).await;
    world.drained("t").await;
    assert_eq!((subscriber.calls().len(), sink.calls().len()), (3, 3));
    let parked = world.store.parked("default/t");
    assert_eq!(
        parked[0].reason,
        "subscriber failed after attempt 3 with 500: 500 Internal Server Error; dead letter sink: 503 Service Unavailable"
    );
    assert_eq!((parked[0].status, parked[0].stage), (503, Stage::DeadLetter));
}

#[tokio::test]
async fn a_sink_that_refuses_is_not_asked_twice() {
    let sink = Subscriber::answering(|_| answer(400, "")).await;
    let (mut world, _subscriber) = failing(&sink, || answer(500, "")).await;
    world.change(|trigger| trigger.delivery.retry = 1).await;
    world.send(event("1")).await;
    world.drained("t").await;
    assert_eq!(sink.calls().len(), 1);
    assert_eq!(world.store.parked("default/t").len(), 1);
}

#[tokio::test]
async fn after_a_restart_an_event_without_attempts_left_goes_to_the_sink() {
    let sink = Subscriber::content().await;
    let (mut world, subscriber) = failing(&sink, || answer(200, "")).await;
    world.change(|trigger| trigger.delivery.retry = 2).await;
    let last = Outcome { status: 503, body: b"before the crash".to_vec(), ..Outcome::default() };
    world.store.put("default/t", event("1"), 3, last);
    world.drained("t").await;
    assert!(subscriber.calls().is_empty());
    assert_eq!(sink.calls()[0].header("ce-knativeerrorcode"), "503");
    assert_eq!(data(&sink), b"before the crash");
}

#[tokio::test]
async fn without_a_sink_an_event_without_attempts_left_is_parked_as_it_is() {
    let subscriber = Subscriber::content().await;
    let world = one(&subscriber, |_| {}).await;
    let last = Outcome { status: 503, reason: "before".to_owned(), ..Outcome::default() };
    world.store.put("default/t", event("1"), 1, last.clone());
    world.drained("t").await;
    assert!(subscriber.calls().is_empty());
    assert_eq!(world.store.parked("default/t"), [last]);
}

#[tokio::test]
async fn the_answer_of_a_sink_is_no_reply_and_no_failure() {
    for body in ["thanks", ""] {
        let sink = Subscriber::answering(move |_| {
            let mut answer = answer(200, body);
            answer.headers_mut().insert("ce-specversion", http::HeaderValue::from_static("1.0"));
            answer
        })
        .await;
        let (world, _subscriber) = failing(&sink, || answer(400, "")).await;
        world.send(event("1")).await;
        world.drained("t").await;
        assert_eq!(sink.calls().len(), 1);
        assert_eq!(world.store.settled().last().unwrap().settlement, Settlement::Ack);
    }
}

#[tokio::test]
async fn an_event_that_comes_back_as_its_own_dead_letter_keeps_its_count() {
    let sink = Subscriber::content().await;
    let (world, _subscriber) = failing(&sink, || answer(400, "")).await;
    world.send(event("1")).await;
    world.drained("t").await;
    assert_eq!(sink.calls()[0].header("ce-knativebrokerttl"), "255");
}

#[tokio::test]
async fn a_reply_that_has_been_round_too_often_makes_a_dead_letter_of_what_it_answers() {
    let sink = Subscriber::content().await;
    let (mut world, subscriber) = failing(&sink, an_event).await;
    world.change(|trigger| trigger.delivery.retry = 5).await;
    let mut last = event("1");
    last.set_extension("knativebrokerttl", Value::Integer(1));
    world.send(last).await;
    world.drained("t").await;
    assert_eq!(subscriber.calls().len(), 1, "another call would end the same");
    let calls = sink.calls();
    assert_eq!((calls.len(), calls[0].id()), (1, "1"));
    assert_eq!(calls[0].header("ce-knativeerrordest"), "http://mesh.test/default/mesh");
    assert_eq!(calls[0].header("ce-knativeerrorcode"), "400");
    let why = String::from_utf8(data(&sink)).unwrap();
    assert!(why.contains("knativebrokerttl is used up"), "{why}");
}

#[tokio::test]
async fn a_reply_that_could_not_be_stored_names_the_broker() {
    let sink = Subscriber::content().await;
    let (world, _subscriber) = failing(&sink, an_event).await;
    world.send(event("1")).await;
    world.store.refuse.store(u64::MAX, Ordering::SeqCst);
    world.drained("t").await;
    let calls = sink.calls();
    assert_eq!(calls[0].header("ce-knativeerrordest"), "http://mesh.test/default/mesh");
    assert_eq!(calls[0].header("ce-knativeerrorcode"), "503");
}
