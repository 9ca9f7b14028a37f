//! SIGTERM drains and exits 0; nothing new is dead-lettered or parked by it.

use crate::harness::eventually::eventually;
use crate::harness::mesh::{BROKER, Mesh, trigger};
use crate::harness::subscriber::{Reply, Subscriber};

#[tokio::test(flavor = "multi_thread")]
async fn sigterm_under_way_exits_zero_and_what_was_left_is_delivered_next_time() {
    let subscriber = Subscriber::start().await;
    let paused = trigger("t", &subscriber.url, "", &["weft.dev/paused: \"true\""]);
    let mut mesh = Mesh::start(&format!("{BROKER}{paused}")).await;
    mesh.send("a", "1").await;
    mesh.terminate();
    assert_eq!(mesh.exit().await.code(), Some(0));
    assert!(!mesh.data().join("endpoints.json").try_exists().unwrap(), "says it is gone");
    mesh.rewrite(&format!("{BROKER}{}", trigger("t", &subscriber.url, "", &[])));
    mesh.restart().await;
    subscriber.wait(1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hung_subscriber_does_not_keep_the_process_and_its_event_is_not_given_up() {
    let hung = Subscriber::scripted(|_| Reply::hang()).await;
    let yaml = format!("{BROKER}{}", trigger("t", &hung.url, "", &[]));
    let mut mesh = Mesh::start_with(&yaml, &["--drain", "1"]).await;
    mesh.send("a", "1").await;
    hung.wait(1).await;
    mesh.terminate();
    assert_eq!(mesh.exit().await.code(), Some(0));
    mesh.restart().await;
    hung.wait(2).await;
    assert_eq!(mesh.weft_ok(&["parked", "list"]).await.trim(), "nothing is parked");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_sigterm_stops_at_once() {
    let hung = Subscriber::scripted(|_| Reply::hang()).await;
    let yaml = format!("{BROKER}{}", trigger("t", &hung.url, "", &[]));
    let mut mesh = Mesh::start_with(&yaml, &["--drain", "600"]).await;
    mesh.send("a", "1").await;
    hung.wait(1).await;
    mesh.terminate();
    eventually("the first to be heard", async || mesh.log().contains("stopping").then_some(()))
        .await;
    mesh.terminate();
    assert_eq!(mesh.exit().await.code(), Some(143));
}
