//! NATS: a message of every event, in a JetStream stream, acknowledged by it.
//!
//! The id of each message is made of the `source` and the `id` of its event, so that a stream keeps one that comes again only
//! once, as long as its window of duplicates is.

use std::sync::Arc;
use std::time::Duration;

use async_nats::jetstream::context::{
    Context as JetStream, GetStreamByNameErrorKind, PublishAckFuture, PublishError,
    PublishErrorKind,
};
use async_nats::jetstream::message::PublishMessage;
use async_nats::{Client, HeaderMap};
use broker_event::Event;
use broker_event::http as binding;
use crds::meta::ObjectMeta;
use crds::object::Rules;
use crds::resource::{Resource, Version};
use crds::sink::{self, AGE, READY, REASON, SinkSpec, URL};
use crds::source::SourceSpec;
use crds::{FieldError, FieldErrors};
use futures_util::future::BoxFuture;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;

use super::door::busy;
use super::sink::{Context, EventSink, Write};
use crate::given::Need;
use crate::message::fingerprint;
use crate::nats::address::{subject_rule, token_rule};
use crate::nats::link::{self, Link};
use crate::nats::{NatsAuth, NatsTls, Way};
use crate::quote::quote;
use crate::respond::Refusal;
use crate::source::{About, SourceError};

/// How long a stream may take to acknowledge: within what a request waits for its answer.
const ACK_TIMEOUT: Duration = Duration::from_secs(8);

/// Messages that wait for acknowledgements at a time: as many as requests may be under way, a few times over for batches.
const MAX_UNACKNOWLEDGED: usize = 4096;

/// The contents of messages, in the words of the spec.
const STRUCTURED: &str = "structured";
const BINARY: &str = "binary";

/// A NATS sink publishes every event that is posted to it to a subject of a JetStream stream.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
#[schemars(extend("required" = ["servers", "subject"]))]
pub struct NatsSink {
    /// Where NATS is: `nats://host:4222`, `tls://host:4222` or `host`, without credentials. All are of one cluster.
    #[schemars(length(min = 1, max = 16))]
    pub servers: Vec<String>,
    /// The subject, without wildcards. A stream must take its messages.
    pub subject: String,
    /// The stream that takes them. If it is named, messages are not accepted by any other.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub stream: String,
    /// What a message holds: `binary`, the event's data, with the attributes in headers, or `structured`, the event in JSON;
    /// `binary` if it is absent.
    #[schemars(extend("enum" = ["", BINARY, STRUCTURED]))]
    #[serde(skip_serializing_if = "String::is_empty")]
    pub content_mode: String,
    /// As whom to connect.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub auth: Option<NatsAuth>,
    /// How connections are protected.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls: Option<NatsTls>,
}

impl SinkSpec for NatsSink {
    const RESOURCE: Resource = Resource {
        kind: "NatsSink",
        plural: "natssinks",
        singular: "natssink",
        versions: &[Version {
            name: "v1alpha1",
            deprecated: None,
            columns: &[URL, AGE, READY, REASON],
            schema: sink::schema::<Self>,
        }],
        ..sink::resource::<Self>()
    };

    fn defaults(&mut self, _: &ObjectMeta) {
        if self.content_mode.is_empty() {
            BINARY.clone_into(&mut self.content_mode);
        }
    }

    fn validate(&self, metadata: &ObjectMeta, rules: &Rules<'_>) -> FieldErrors {
        let mut errors = SourceSpec::validate(&self.way(), metadata, rules);
        if self.subject.is_empty() {
            errors.push(FieldError::missing("subject"));
        } else if let Err(rule) = subject_rule(&self.subject) {
            let error = FieldError::invalid(format_args!("{:?}", self.subject), "subject");
            errors.push(error.with_details(rule));
        } else if self.subject.contains(['*', '>']) {
            let error = FieldError::invalid(format_args!("{:?}", self.subject), "subject");
            errors.push(error.with_details("a message has one subject: no wildcards"));
        }
        if !self.stream.is_empty()
            && let Err(rule) = token_rule(&self.stream)
        {
            let error = FieldError::invalid(format_args!("{:?}", self.stream), "stream");
            errors.push(error.with_details(rule));
        }
        if ![BINARY, STRUCTURED].contains(&self.content_mode.as_str()) {
            errors.push(FieldError::invalid(&self.content_mode, "contentMode"));
        }
        errors
    }
}

impl EventSink for NatsSink {
    fn needs(&self, _: &About) -> Vec<Need> {
        link::needs(&self.way())
    }

    async fn run(self, ctx: Context) -> Result<(), SourceError> {
        // The client's futures are large, and this one is moved into a task.
        match Box::pin(self.work(&ctx)).await {
            Err(SourceError::Stopped) => Ok(()),
            outcome => outcome,
        }
    }
}

impl NatsSink {
    /// A source with the same way to NATS.
    fn way(&self) -> Way {
        Way {
            servers: self.servers.clone(),
            // One is required of it.
            subjects: vec![">".to_owned()],
            auth: self.auth.clone(),
            tls: self.tls.clone(),
            ..Way::default()
        }
    }

    async fn work(&self, ctx: &Context) -> Result<(), SourceError> {
        let name = format!("weft NatsSink {}/{}", ctx.about.namespace, ctx.about.name);
        let link = link::open(&self.way(), name, &ctx.given, &ctx.stop).await?;
        let jetstream = jetstream(link.client.clone());
        self.find(&jetstream, &link, ctx).await?;
        // One is enough: whoever meets trouble first ends the run.
        let (tell, mut met) = mpsc::channel(1);
        let writer = Writer {
            jetstream,
            subject: self.subject.clone(),
            stream: Some(self.stream.clone()).filter(|stream| !stream.is_empty()),
            structured: self.content_mode == STRUCTURED,
            tell,
        };
        let _open = ctx.open(Arc::new(writer));
        tokio::select! {
            biased;
            () = ctx.stop.cancelled() => Ok(()),
            error = link.lost() => Err(error),
            error = met.recv() => Err(error.unwrap_or(SourceError::Stopped)),
        }
    }

    /// Looks which stream takes the subject.
    async fn find(
        &self,
        jetstream: &JetStream,
        link: &Link,
        ctx: &Context,
    ) -> Result<(), SourceError> {
        let found = tokio::select! {
            biased;
            () = ctx.stop.cancelled() => return Err(SourceError::Stopped),
            error = link.lost() => return Err(error),
            found = jetstream.stream_by_subject(self.subject.as_str()) => found,
        };
        let (subject, stream) = (&self.subject, &self.stream);
        let absent = |what| Err(SourceError::Absent { what });
        match found {
            Ok(found) if stream.is_empty() || found == *stream => Ok(()),
            Ok(found) => {
                absent(format!("stream {found:?}, and not {stream:?}, takes subject {subject:?}"))
            }
            Err(error) if error.kind() == GetStreamByNameErrorKind::NotFound => {
                absent(format!("no stream takes subject {subject:?}"))
            }
            Err(error) => Err(SourceError::unavailable(
                "ask JetStream for the stream",
                quote(&error.to_string()),
            )),
        }
    }
}

fn jetstream(client: Client) -> JetStream {
    async_nats::jetstream::context::ContextBuilder::new()
        .ack_timeout(ACK_TIMEOUT)
        .max_ack_inflight(MAX_UNACKNOWLEDGED)
        .build(client)
}

/// Publishes messages.
struct Writer {
    jetstream: JetStream,
    subject: String,
    stream: Option<String>,
    structured: bool,
    /// Ends the run.
    tell: mpsc::Sender<SourceError>,
}

impl Writer {
    async fn publish(&self, events: &[Event]) -> Result<(), Refusal> {
        let mut under_way = Vec::with_capacity(events.len());
        for event in events {
            let sent = self.send(event).await.map_err(|error| self.failed(&error))?;
            under_way.push(sent);
        }
        for sent in under_way {
            // That the stream has it already is as good.
            sent.await.map_err(|error| self.failed(&error))?;
        }
        Ok(())
    }

    async fn send(&self, event: &Event) -> Result<PublishAckFuture, PublishError> {
        let mut http = http::HeaderMap::new();
        // The binding of NATS (3.1.3) names and encodes headers as that of HTTP does.
        let payload = if self.structured {
            binding::write_structured(event, &mut http)
        } else {
            binding::write_binary(event, &mut http)
        };
        let mut headers = HeaderMap::new();
        for (name, value) in &http {
            // A content type may be any text.
            headers.insert(name.as_str(), String::from_utf8_lossy(value.as_bytes()).as_ref());
        }
        let mut message = PublishMessage::build().headers(headers).payload(payload);
        message = message.message_id(fingerprint(event));
        if let Some(stream) = &self.stream {
            message = message.expected_stream(stream);
        }
        self.jetstream.send_publish(self.subject.clone(), message).await
    }

    fn failed(&self, error: &PublishError) -> Refusal {
        let said = quote(&error.to_string());
        match error.kind() {
            PublishErrorKind::MaxPayloadExceeded => Refusal::Oversized(said),
            PublishErrorKind::StreamNotFound => {
                let what = format!("no stream takes subject {:?}", self.subject);
                // If it is full, the run ends for an earlier reason.
                drop(self.tell.try_send(SourceError::Absent { what: what.clone() }));
                busy(what)
            }
            PublishErrorKind::Other if said.contains("message size exceeds maximum") => {
                Refusal::Oversized("the stream takes no message of that size".to_owned())
            }
            _ => busy(format!("NATS: {said}")),
        }
    }
}

impl Write for Writer {
    fn write(&self, events: Vec<Event>) -> BoxFuture<'_, Result<(), Refusal>> {
        Box::pin(async move { self.publish(&events).await })
    }
}

impl std::fmt::Debug for Writer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Writer").field("subject", &self.subject).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
