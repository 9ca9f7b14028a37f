//! Which sinks there are, and what becomes of their requests.

use http_body_util::Full;

use super::*;
use crate::sinks::redis::RedisStreamSink;
use crate::source::fake::about;
use crate::status::State;

/// A sink that cannot run, since it has no address.
fn wanted(given: Option<Given>) -> Wanted {
    Wanted { about: Arc::new(about()), given, config: RedisStreamSink::default().into() }
}

async fn post(sinks: &Sinks, name: &str) -> u16 {
    let request = Request::post("/")
        .header("ce-specversion", "1.0")
        .header("ce-id", "1")
        .header("ce-source", "/s")
        .header("ce-type", "t");
    let request = request.body(Full::new(Bytes::new())).unwrap();
    sinks.serve("default", name, request).await.status().as_u16()
}

#[tokio::test(start_paused = true)]
async fn a_sink_that_waits_for_a_secret_is_known_and_does_not_run() {
    let sinks = Sinks::new(1 << 10, Metrics::default());
    sinks.apply(vec![wanted(None)]);
    assert_eq!((post(&sinks, "one").await, post(&sinks, "two").await), (503, 404));
    assert!(sinks.statuses().is_empty());
    sinks.apply(vec![wanted(Some(Given::default()))]);
    let mut seen = sinks.revision();
    while sinks.statuses().values().all(|status| status.state != State::Failed) {
        seen = sinks.changed_since(seen).await;
    }
    sinks.apply(vec![wanted(None)]);
    assert!(sinks.statuses().is_empty(), "what is said of it is not of the run before");
    assert_eq!(post(&sinks, "one").await, 503);
    sinks.apply(Vec::new());
    assert_eq!(post(&sinks, "one").await, 404);
    sinks.stop().await;
    assert_eq!(post(&sinks, "one").await, 503);
}
