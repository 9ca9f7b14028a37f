//! Promise 1 and 2: 202 means on disk, and at least once.

use crate::harness::eventually::eventually;
use crate::harness::mesh::{BROKER, Mesh, trigger};
use crate::harness::request;
use crate::harness::subscriber::{Reply, Subscriber};

#[tokio::test(flavor = "multi_thread")]
async fn an_accepted_event_survives_kill_9_before_delivery() {
    let subscriber = Subscriber::start().await;
    let paused = trigger("t", &subscriber.url, "", &["weft.dev/paused: \"true\""]);
    let mut mesh = Mesh::start(&format!("{BROKER}{paused}")).await;
    for id in 0..50 {
        mesh.send("a", &id.to_string()).await;
    }
    mesh.kill().await;
    mesh.rewrite(&format!("{BROKER}{}", trigger("t", &subscriber.url, "", &[])));
    mesh.restart().await;
    eventually("all fifty", async || {
        let ids = subscriber.ids();
        (0..50).all(|id| ids.contains(&id.to_string())).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn kill_9_while_events_flow_loses_none_that_was_accepted() {
    let subscriber = Subscriber::start().await;
    let mut mesh =
        Mesh::start(&format!("{BROKER}{}", trigger("t", &subscriber.url, "", &[]))).await;
    let mut sent = 0;
    for round in 0..5 {
        for _ in 0..(20 + round * 7) {
            mesh.send("a", &sent.to_string()).await;
            sent += 1;
        }
        mesh.kill().await;
        mesh.restart().await;
    }
    eventually("every accepted event", async || {
        let ids = subscriber.ids();
        (0..sent).all(|id: u32| ids.contains(&id.to_string())).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn attempts_made_before_a_crash_count_after_it() {
    let subscriber = Subscriber::scripted(|_| Reply::status(500)).await;
    let delivery = "  delivery: {retry: 2, backoffPolicy: linear, backoffDelay: PT1S}\n";
    let yaml = format!("{BROKER}{}", trigger("t", &subscriber.url, delivery, &[]));
    let mut mesh = Mesh::start(&yaml).await;
    mesh.send("a", "x").await;
    subscriber.wait(1).await;
    // The attempt is on record within the journal's flush interval; the second attempt is a second away.
    let steps = eventually("the attempt on record", async || {
        let text = mesh.weft_ok(&["explain", "x", "-o", "json"]).await;
        text.contains("\"status\":500").then_some(text)
    })
    .await;
    assert!(steps.contains("retry"), "{steps}");
    mesh.kill().await;
    mesh.restart().await;
    eventually("the letter to be parked", async || {
        let text = mesh.weft_ok(&["parked", "list", "-o", "json"]).await;
        text.contains("\"id\":\"x\"").then_some(())
    })
    .await;
    let attempts = subscriber.got().len();
    assert!((3..=4).contains(&attempts), "{attempts} attempts: one may repeat after a crash");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_is_taken_whole_or_not_at_all() {
    let subscriber = Subscriber::start().await;
    let mesh = Mesh::start(&format!("{BROKER}{}", trigger("t", &subscriber.url, "", &[]))).await;
    let event =
        |id: &str| format!(r#"{{"specversion":"1.0","id":"{id}","source":"/s","type":"t"}}"#);
    let headers =
        vec![("content-type".to_owned(), "application/cloudevents-batch+json".to_owned())];
    let broken = format!("[{},{{\"id\":\"no\"}}]", event("1"));
    assert_eq!(request::post(&mesh.broker(), &headers, broken).await.status, 400);
    let good = format!("[{},{}]", event("2"), event("3"));
    assert_eq!(request::post(&mesh.broker(), &headers, good).await.status, 202);
    let mut ids: Vec<_> = subscriber.wait(2).await.iter().map(|got| got.id().to_owned()).collect();
    ids.sort();
    assert_eq!(ids, ["2", "3"]);
}
