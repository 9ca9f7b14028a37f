//! Where the events of sources go: straight into the store, or to a URL.

use std::sync::Arc;
use std::time::Duration;

use broker::store::{AppendError, Store, Topic};
use broker_event::{Event, http as binding};
use bytes::Bytes;
use futures_util::future::BoxFuture;
use http::{Method, Request, StatusCode, Uri, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use sources::{Emit, EmitError, Sink};

use crate::clock;

/// How long a URL may take to answer: a source waits for it, and so may its upstream.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);

/// How much of an answer is read, to keep the connection: acknowledgements are short.
const MAX_ANSWER: usize = 64 << 10;

/// Takes the events of all sources.
#[derive(Debug)]
pub struct Mesh {
    store: Arc<dyn Store>,
    client: Client<HttpsConnector<HttpConnector>, Full<Bytes>>,
}

impl Mesh {
    /// Emits into `store`, and over HTTP.
    #[must_use]
    pub fn new(store: Arc<dyn Store>) -> Self {
        let connector =
            HttpsConnectorBuilder::new().with_webpki_roots().https_or_http().enable_http1().build();
        Self { store, client: Client::builder(TokioExecutor::new()).build(connector) }
    }

    async fn append(&self, topic: &Topic, mut events: Vec<Event>) -> Result<(), EmitError> {
        for event in &mut events {
            broker::ingress::accept(event, clock::now())
                .map_err(|error| EmitError::Refused { reason: error.to_string() })?;
        }
        self.store.append(topic, events).await.map_err(refused)
    }

    async fn post(&self, url: &Uri, event: &Event) -> Result<(), EmitError> {
        let unavailable = |reason: String| EmitError::Unavailable { reason };
        let mut request = Request::builder()
            .method(Method::POST)
            .uri(url)
            .body(Full::default())
            .map_err(|error| EmitError::Refused { reason: error.to_string() })?;
        let body = binding::write_binary(event, request.headers_mut());
        *request.body_mut() = Full::new(body);
        let answer = async {
            let response =
                self.client.request(request).await.map_err(|e| unavailable(chain(&e)))?;
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
    fn emit<'a>(
        &'a self,
        sink: &'a Sink,
        events: Vec<Event>,
    ) -> BoxFuture<'a, Result<(), EmitError>> {
        Box::pin(async move {
            match sink {
                Sink::Broker { namespace, name } => {
                    self.append(&Topic::new(namespace, name), events).await
                }
                Sink::Url { ca_certs: Some(_), .. } => Err(EmitError::Refused {
                    reason: "CACerts of a URL sink are not supported: send to a broker".to_owned(),
                }),
                Sink::Url { url, ca_certs: None } => {
                    for event in &events {
                        self.post(url, event).await?;
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

/// An error with its causes: the client's own message alone says only "client error".
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(next) = cause {
        text.push_str(": ");
        text.push_str(&next.to_string());
        cause = next.source();
    }
    text
}
