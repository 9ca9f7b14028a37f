//! Promise 3: an event leaves by delivery, by a filter, or into a dead letter sink; otherwise it is parked.

use std::sync::atomic::{AtomicU32, Ordering};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use crate::harness::eventually::{eventually, throughout};
use crate::harness::mesh::{BROKER, Mesh, trigger};
use crate::harness::subscriber::{A_WHILE, Reply, Subscriber};

const ONCE: &str = "  delivery: {retry: 0}\n";

async fn parked(mesh: &Mesh, count: usize) -> String {
    eventually(&format!("{count} parked letters"), async || {
        let text = mesh.weft_ok(&["parked", "list", "-o", "json"]).await;
        (text.lines().count() == count).then_some(text)
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn what_nobody_takes_is_parked_listed_shown_and_redriven() {
    let failing = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(true));
    let switch = failing.clone();
    let subscriber = Subscriber::scripted(move |_| {
        let down = switch.load(Ordering::SeqCst);
        Reply::status(if down { 400 } else { 202 })
    })
    .await;
    let mesh = Mesh::start(&format!("{BROKER}{}", trigger("t", &subscriber.url, ONCE, &[]))).await;
    mesh.send("a", "x").await;
    let list = parked(&mesh, 1).await;
    assert!(list.contains("\"status\":400") && list.contains("default/t"), "{list}");
    let shown = mesh.weft_ok(&["parked", "show", "--id", "x"]).await;
    let attempts = shown.lines().find(|line| line.starts_with("attempts")).unwrap_or_default();
    assert!(attempts.ends_with(" 1") && shown.contains("{\"a\":1}"), "{shown}");
    failing.store(false, Ordering::SeqCst);
    let done = mesh.weft_ok(&["parked", "redrive", "--trigger", "t"]).await;
    assert!(done.contains("redriven") && done.contains('1'), "{done}");
    subscriber.wait(2).await;
    parked(&mesh, 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn parked_letters_survive_kill_9_and_can_be_purged() {
    let subscriber = Subscriber::scripted(|_| Reply::status(400)).await;
    let yaml = format!("{BROKER}{}", trigger("t", &subscriber.url, ONCE, &[]));
    let mut mesh = Mesh::start(&yaml).await;
    mesh.send("a", "x").await;
    parked(&mesh, 1).await;
    mesh.kill().await;
    mesh.restart().await;
    parked(&mesh, 1).await;
    let refused = mesh.weft(&["parked", "purge"]).await;
    assert!(!refused.status.success(), "purging everything must be asked for");
    let done = mesh.weft_ok(&["parked", "purge", "--all"]).await;
    assert!(done.contains("purged") && done.contains('1'), "{done}");
    parked(&mesh, 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_letter_carries_where_why_and_what() {
    let page = format!("<html>\n{}\n</html>", "x".repeat(5000));
    let body = page.clone();
    let failing =
        Subscriber::scripted(move |_| Reply { body: body.clone().into(), ..Reply::status(422) })
            .await;
    let letters = Subscriber::start().await;
    let delivery =
        format!("  delivery:\n    retry: 1\n    deadLetterSink: {{uri: \"{}\"}}\n", letters.url);
    let mesh =
        Mesh::start(&format!("{BROKER}{}", trigger("t", &failing.url, &delivery, &[]))).await;
    mesh.send("a", "x").await;
    let letter = letters.wait(1).await.remove(0);
    assert_eq!(letter.header("ce-knativeerrordest"), failing.url);
    assert_eq!(letter.header("ce-knativeerrorcode"), "422");
    let data = STANDARD.decode(letter.header("ce-knativeerrordata")).expect("base64");
    assert_eq!(data, page.as_bytes()[..1024]);
    assert_eq!(letter.body.as_ref(), br#"{"a":1}"#);
    assert_eq!(failing.got().len(), 1, "422 is final");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_subscriber_that_comes_late_still_gets_its_events() {
    let subscriber =
        Subscriber::scripted(|got| Reply::status(if got.path == "/" { 503 } else { 202 })).await;
    let delivery = "  delivery: {retry: 5, backoffPolicy: exponential, backoffDelay: PT0.1S}\n";
    let mesh =
        Mesh::start(&format!("{BROKER}{}", trigger("t", &subscriber.url, delivery, &[]))).await;
    mesh.send("a", "x").await;
    subscriber.wait(2).await;
    let elsewhere = format!("{}late", subscriber.url);
    mesh.rewrite(&format!("{BROKER}{}", trigger("t", &elsewhere, delivery, &[])));
    eventually("the event at its new address", async || {
        subscriber.got().iter().any(|got| got.path == "/late").then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_log_says_once_that_a_subscriber_fails_and_that_it_is_back() {
    let calls = AtomicU32::new(0);
    let subscriber = Subscriber::scripted(move |_| {
        Reply::status(if calls.fetch_add(1, Ordering::Relaxed) < 3 { 503 } else { 202 })
    })
    .await;
    let delivery = "  delivery: {retry: 9, backoffPolicy: linear, backoffDelay: PT0.05S}\n";
    let secret = format!("{}hook?token=hush", subscriber.url);
    let mesh = Mesh::start(&format!("{BROKER}{}", trigger("t", &secret, delivery, &[]))).await;
    mesh.send("a", "x").await;
    let log = eventually("the end of the trouble in the log", async || {
        Some(mesh.log()).filter(|log| log.contains("the subscriber takes events again"))
    })
    .await;
    assert_eq!(log.matches("the subscriber fails").count(), 1, "{log}");
    assert!(log.contains("default/t") && log.contains("503") && !log.contains("hush"), "{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reply_goes_back_into_the_broker_and_a_loop_of_replies_ends() {
    let replies = Subscriber::scripted(|got| Reply {
        headers: [
            ("ce-specversion", "1.0"),
            ("ce-type", "pong"),
            ("ce-source", "/r"),
            ("ce-id", "r"),
        ]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .to_vec(),
        body: got.body.clone(),
        ..Reply::status(200)
    })
    .await;
    let pongs = Subscriber::start().await;
    let pong = "  filter: {attributes: {type: pong}}\n";
    let yaml = format!(
        "{BROKER}{}{}",
        trigger("all", &replies.url, "", &[]),
        trigger("pong", &pongs.url, pong, &[])
    );
    let mesh = Mesh::start(&yaml).await;
    mesh.send("ping", "1").await;
    // Every reply is answered with another. The event sent may pass 255 brokers, which leaves 254 to its replies.
    pongs.wait(254).await;
    // The event whose reply may go no further is not lost with it.
    let list = parked(&mesh, 1).await;
    assert!(list.contains("default/all") && list.contains("knativebrokerttl"), "{list}");
    throughout("no more pongs", A_WHILE, || pongs.got().len() == 254).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn events_of_a_key_arrive_in_order_while_one_of_them_fails() {
    let failed = std::sync::Mutex::new(0);
    let subscriber = Subscriber::scripted(move |got| {
        let mut failed = failed.lock().unwrap();
        if got.id() == "3" && *failed < 3 {
            *failed += 1;
            return Reply::status(503);
        }
        Reply::status(202)
    })
    .await;
    let delivery = "  delivery: {retry: 5, backoffPolicy: linear, backoffDelay: PT0.05S}\n";
    let yaml = trigger("t", &subscriber.url, delivery, &["weft.dev/order: key"]);
    let mesh = Mesh::start(&format!("{BROKER}{yaml}")).await;
    let mut headers = crate::harness::request::event("a", "");
    headers.push(("ce-subject".to_owned(), "k".to_owned()));
    for id in 0..8 {
        headers[3].1 = id.to_string();
        let answer = crate::harness::request::post(&mesh.broker(), &headers, "{}").await;
        assert_eq!(answer.status, 202);
    }
    subscriber.wait(11).await;
    let mut order = subscriber.ids();
    order.dedup();
    assert_eq!(order, ["0", "1", "2", "3", "4", "5", "6", "7"]);
}
