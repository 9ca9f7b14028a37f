//! Promise 4: one slow, broken or hostile party harms no other.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::harness::eventually::eventually;
use crate::harness::mesh::{BROKER, Mesh, trigger};
use crate::harness::request;
use crate::harness::subscriber::{Reply, Subscriber};

#[tokio::test(flavor = "multi_thread")]
async fn a_subscriber_that_hangs_holds_up_nobody_else() {
    let hung = Subscriber::scripted(|_| Reply::hang()).await;
    let healthy = Subscriber::start().await;
    let (a, b) = (trigger("hung", &hung.url, "", &[]), trigger("healthy", &healthy.url, "", &[]));
    let mesh = Mesh::start(&format!("{BROKER}{a}{b}")).await;
    for id in 0..300 {
        mesh.send("a", &id.to_string()).await;
    }
    healthy.wait(300).await;
    assert!(hung.got().len() <= 64, "no more than its window is with the hung subscriber");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hostile_expression_is_refused_or_given_up_and_harms_nobody() {
    let (slow, healthy) = (Subscriber::start().await, Subscriber::start().await);
    let cesql = |expression: &str| {
        let spec = format!("  filters: [{{cesql: \"{expression}\"}}]\n");
        trigger("hostile", &slow.url, &spec, &[])
    };
    let healthy_one = trigger("healthy", &healthy.url, "", &[]);
    let costly = cesql(&format!("subject LIKE '%{}b'", "a".repeat(10_000)));
    let mesh = Mesh::start(&format!("{BROKER}{healthy_one}{costly}")).await;
    let long = "a".repeat(900_000);
    let event = format!(
        r#"{{"specversion":"1.0","id":"long","source":"/s","type":"t","subject":"{long}"}}"#
    );
    let headers = [("content-type".to_owned(), "application/cloudevents+json".to_owned())];
    assert_eq!(request::post(&mesh.broker(), &headers, event).await.status, 202);
    let brackets = cesql(&format!("{}TRUE{}", "(".repeat(10_000), ")".repeat(10_000)));
    mesh.rewrite(&format!("{BROKER}{healthy_one}{brackets}"));
    eventually("the complaint", async || mesh.log().contains("cesql").then_some(())).await;
    mesh.send("a", "next").await;
    eventually("the next event", async || {
        healthy.got().iter().any(|got| got.id() == "next").then_some(())
    })
    .await;
    assert!(slow.got().is_empty(), "what has no answer is no match");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_sends_nothing_blocks_no_other_sender() {
    let subscriber = Subscriber::start().await;
    let mesh = Mesh::start(&format!("{BROKER}{}", trigger("t", &subscriber.url, "", &[]))).await;
    let address = mesh.events.trim_start_matches("http://").to_owned();
    let mut slow = Vec::new();
    for _ in 0..200 {
        let mut stream = TcpStream::connect(&address).await.expect("a connection");
        stream.write_all(b"POST /default/default HTTP/1.1\r\nHost: x\r\nce-").await.expect("sent");
        slow.push(stream);
    }
    mesh.send("a", "1").await;
    subscriber.wait(1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_smuggled_request_is_refused() {
    let mesh = Mesh::start(BROKER).await;
    let address = mesh.events.trim_start_matches("http://").to_owned();
    let mut stream = TcpStream::connect(&address).await.expect("a connection");
    let request = "POST /default/default HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET /evil HTTP/1.1\r\n\r\n";
    stream.write_all(request.as_bytes()).await.expect("sent");
    let mut answer = Vec::new();
    let read = tokio::time::timeout(Duration::from_secs(20), stream.read_to_end(&mut answer)).await;
    let text = String::from_utf8_lossy(&answer);
    assert!(read.is_ok() && text.matches("HTTP/1.1").count() <= 1, "one answer at most: {text}");
    assert!(!text.contains(" 202 "), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_over_the_limit_is_413_and_headers_over_it_431() {
    let mesh = Mesh::start_with(BROKER, &["--max-event-bytes", "1000"]).await;
    let headers = request::event("t", "1");
    let answer = request::post(&mesh.broker(), &headers, vec![b' '; 1001]).await;
    assert_eq!(answer.status, 413);
    assert!(answer.body.contains("1000"), "{}", answer.body);
    let mut headers = request::event("t", "1");
    headers.push(("ce-myext".to_owned(), "y".repeat(2 << 20)));
    let refused = tokio::time::timeout(Duration::from_secs(20), async {
        request::post(&mesh.broker(), &headers, "{}").await.status
    });
    assert_eq!(refused.await.expect("answered"), 431);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_broker_answers_503_names_the_trigger_and_resumes_by_itself() {
    let subscriber = Subscriber::start().await;
    let broker = "apiVersion: eventing.knative.dev/v1\nkind: Broker\nmetadata:\n  name: default\n  annotations:\n    weft.dev/storage-budget: 1Mi\n";
    let paused = trigger("greedy", &subscriber.url, "", &["weft.dev/paused: \"true\""]);
    let mesh = Mesh::start(&format!("{broker}{paused}")).await;
    let headers = request::event("a", "x");
    let mut accepted = 0;
    let refused = eventually("the budget to be used up", async || {
        let answer = request::post(&mesh.broker(), &headers, vec![b'x'; 100_000]).await;
        accepted += usize::from(answer.status == 202);
        (answer.status != 202).then_some(answer)
    })
    .await;
    assert_eq!(refused.status, 503);
    assert!(refused.headers.contains_key("retry-after"));
    assert!(refused.body.contains("default/greedy"), "{}", refused.body);
    mesh.rewrite(&format!("{broker}{}", trigger("greedy", &subscriber.url, "", &[])));
    subscriber.wait(accepted).await;
    eventually("the broker to take events again", async || {
        let answer = request::post(&mesh.broker(), &headers, "{}").await;
        (answer.status == 202).then_some(())
    })
    .await;
}
