//! Where the events of sources go: straight into the store, or to a URL.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use broker::ingress::{Arrival, accept};
use broker::store::{AppendError, Store, Topic};
use broker_event::Event;
use dispatcher::{Clients, HttpClient};
use futures_util::future::BoxFuture;
use http::{StatusCode, Uri, header};
use http_body_util::{BodyExt, Limited};
use sources::{Emit, EmitError, Sink};

use crate::clock;

/// How long a URL may take to answer: a source waits for it, and so may its upstream.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);

/// How much of an answer is read, to keep the connection: acknowledgements are short.
const MAX_ANSWER: usize = 64 << 10;

/// Clients kept for authorities that sinks name (`CACerts`). A mesh has a handful; beyond this they are those of sinks that
/// changed, and starting over costs each sink one handshake.
const MAX_AUTHORITIES: usize = 64;

/// Takes the events of all sources.
#[derive(Debug)]
pub struct Mesh {
    store: Arc<dyn Store>,
    clients: Mutex<Clients>,
}

impl Mesh {
    /// Emits into `store`, and over HTTP.
    #[must_use]
    pub fn new(store: Arc<dyn Store>) -> Self {
        Self { store, clients: Mutex::new(Clients::new()) }
    }

    /// The client that trusts the public authorities and those of `ca_certs`.
    fn client(&self, ca_certs: Option<&str>) -> Result<HttpClient, EmitError> {
        // Nothing panics under the lock, and clients half changed are still clients.
        let mut clients = self.clients.lock().unwrap_or_else(PoisonError::into_inner);
        if clients.named() > MAX_AUTHORITIES {
            clients.keep(&HashSet::new());
        }
        // Not the events are wrong but the sink's certificates, which may be made good.
        let unavailable =
            |error: dispatcher::TargetError| EmitError::Unavailable { reason: error.to_string() };
        clients.trusting(ca_certs).map_err(unavailable)
    }

    /// Posts one event to a URL.
    ///
    /// # Errors
    /// As [`Emit::emit`].
    pub(crate) async fn post(
        client: &HttpClient,
        url: &Uri,
        event: &Event,
    ) -> Result<(), EmitError> {
        let unavailable = |reason: String| EmitError::Unavailable { reason };
        let answer = async {
            // With its causes: the client's own message alone says only "client error".
            let broken = |error| unavailable(format!("{:#}", anyhow::Error::new(error)));
            let response = client.post(url, event).await.map_err(broken)?;
            let (parts, body) = response.into_parts();
            // The answer says nothing a source can use; reading it keeps the connection.
            drop(Limited::new(body, MAX_ANSWER).collect().await);
            judge(parts.status, parts.headers.get(header::RETRY_AFTER))
        };
        match tokio::time::timeout(ANSWER_TIMEOUT, answer).await {
            Ok(result) => result,
            Err(_) => Err(unavailable(format!("no answer within {ANSWER_TIMEOUT:?}"))),
        }
    }
}

impl Emit for Mesh {
    fn prepare(&self, sink: &Sink, events: &mut Vec<Event>) -> Vec<(Event, EmitError)> {
        let mut refused = Vec::new();
        if let Sink::Broker { .. } = sink {
            let arrival = Arrival::at(clock::now());
            events.retain_mut(|event| {
                let Err(error) = accept(event, &arrival) else { return true };
                refused.push((event.clone(), EmitError::Refused { reason: error.to_string() }));
                false
            });
        }
        refused
    }

    fn emit<'a>(
        &'a self,
        sink: &'a Sink,
        events: Vec<Event>,
    ) -> BoxFuture<'a, Result<(), EmitError>> {
        Box::pin(async move {
            match sink {
                Sink::Broker { namespace, name } => {
                    let topic = Topic { namespace: namespace.clone(), name: name.clone() };
                    self.store.append(&topic, events).await.map_err(refused)
                }
                Sink::Url { url, ca_certs } => {
                    let client = self.client(ca_certs.as_deref())?;
                    for event in &events {
                        Self::post(&client, url, event).await?;
                    }
                    Ok(())
                }
            }
        })
    }
}

fn refused(error: AppendError) -> EmitError {
    match error {
        AppendError::Full { reason, retry_after }
        | AppendError::Unavailable { reason, retry_after } => {
            EmitError::Busy { reason, retry_after: Some(retry_after) }
        }
        AppendError::TooLarge => EmitError::Refused { reason: error.to_string() },
        // The broker may be declared a moment later; a failed log needs a restart, after which the upstream tries again.
        AppendError::UnknownTopic(_) | AppendError::Failed(_) => {
            EmitError::Unavailable { reason: error.to_string() }
        }
    }
}

fn judge(status: StatusCode, retry_after: Option<&http::HeaderValue>) -> Result<(), EmitError> {
    if status.is_success() {
        return Ok(());
    }
    let reason = format!("it answered {status}");
    let seconds = retry_after.and_then(|value| value.to_str().ok()?.parse().ok());
    match status.as_u16() {
        429 | 503 => Err(EmitError::Busy { reason, retry_after: seconds.map(Duration::from_secs) }),
        404 | 408 | 409 | 500.. => Err(EmitError::Unavailable { reason }),
        _ => Err(EmitError::Refused { reason }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(status: u16, retry_after: Option<&'static str>) -> Result<(), EmitError> {
        let value = retry_after.map(http::HeaderValue::from_static);
        judge(StatusCode::from_u16(status).unwrap(), value.as_ref())
    }

    #[test]
    fn an_answer_says_whether_the_same_event_can_be_taken_later() {
        for status in [200, 202, 204] {
            assert_eq!(answer(status, None), Ok(()));
        }
        for status in [404, 408, 409, 500, 502, 504] {
            assert!(matches!(answer(status, None), Err(EmitError::Unavailable { .. })), "{status}");
        }
        for status in [301, 400, 401, 403, 413, 422] {
            assert!(matches!(answer(status, None), Err(EmitError::Refused { .. })), "{status}");
        }
    }

    #[test]
    fn a_busy_sink_says_when_to_come_again() {
        for status in [429, 503] {
            let error = answer(status, Some("7")).unwrap_err();
            assert_eq!(error.retry_after(), Some(Duration::from_secs(7)));
            assert!(error.is_retryable());
            assert_eq!(answer(status, Some("soon")).unwrap_err().retry_after(), None);
        }
    }

    #[test]
    fn certificates_that_cannot_be_used_cost_no_event() {
        let mesh = Mesh::new(broker::store::memory::MemoryStore::new());
        let error = mesh.client(Some("no certificate")).unwrap_err();
        assert!(error.is_retryable(), "{error}");
    }

    #[test]
    fn what_goes_to_a_broker_arrives_once_and_what_came_round_too_often_not_at_all() {
        let mesh = Mesh::new(broker::store::memory::MemoryStore::new());
        let event = |hops: i32| {
            let builder = broker_event::EventBuilder::new("1", "/s", "t");
            builder.extension(broker::ingress::TTL, hops).build().unwrap()
        };
        let mut events = vec![event(7), event(1)];
        let broker = Sink::Broker { namespace: "a".into(), name: "b".into() };
        let refused = mesh.prepare(&broker, &mut events);
        assert!(matches!(&refused[..], [(_, EmitError::Refused { .. })]), "{refused:?}");
        assert_eq!(events.len(), 1);
        assert_eq!(events[0].extension(broker::ingress::TTL), Some(&6.into()));
        assert!(events[0].extension(broker::ingress::ARRIVAL).is_some());
        let url = Sink::Url { url: "http://a/".parse().unwrap(), ca_certs: None };
        let mut events = vec![event(1)];
        assert!(mesh.prepare(&url, &mut events).is_empty());
        assert_eq!(events, [event(1)]);
    }

    #[test]
    fn a_full_store_is_busy_and_a_missing_broker_may_come() {
        let retry_after = Duration::from_secs(3);
        let full = refused(AppendError::Full { reason: "full".to_owned(), retry_after });
        assert_eq!(full.retry_after(), Some(retry_after));
        let missing = refused(AppendError::UnknownTopic(Topic::new("a", "b")));
        assert_eq!(missing.to_string(), "the sink is unavailable: broker a/b does not exist");
        assert!(missing.is_retryable());
    }
}
