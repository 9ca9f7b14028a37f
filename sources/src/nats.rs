//! NATS: the messages of a JetStream stream, or of subjects of core NATS, as events.
//!
//! A stream is read through a durable consumer: messages are acknowledged once their events are safe, and come again
//! otherwise, as the same events. Core NATS keeps nothing, so there each message becomes an event at
//! most once.
//!
//! Knative has no such source; names of fields follow its NATS channel and NATS itself.

use crds::condition::CloudEventAttributes;

use crate::given::{Given, Need};
use crate::source::{About, Context, Source, SourceError};

pub(crate) mod address;
mod consumer;
mod event;
pub(crate) mod link;
mod pull;
mod request;
mod rescue;
mod spec;
mod subscription;

/// What the sink shares: the way to servers.
pub(crate) use spec::NatsSource as Way;
pub use spec::{NatsAuth, NatsSource, NatsTls};

use address::{Address, event_source};
use event::TYPE;
use link::Link;
use pull::Pull;
use subscription::Backlog;

impl Source for NatsSource {
    fn needs(&self, _: &About) -> Vec<Need> {
        link::needs(self)
    }

    /// One for each subject, as the spec has it: where it has wildcards, the `source` of an event has the message's subject
    /// in their place.
    fn attributes(&self, _: &About, _: &Given) -> Vec<CloudEventAttributes> {
        let Ok(server) = self.first_server() else { return Vec::new() };
        let whole = [String::new()];
        let subjects = if self.subjects.is_empty() { &whole[..] } else { &self.subjects };
        let of = |subject: &String| CloudEventAttributes {
            kind: TYPE.to_owned(),
            source: event_source(&server, &self.stream, subject),
        };
        subjects.iter().map(of).collect()
    }

    fn leaves_traces(&self, _: &About) -> bool {
        self.owns_consumer()
    }

    async fn run(self, ctx: Context) -> Result<(), SourceError> {
        let server = self.first_server()?;
        // The client's futures are large, and this one is moved into a task.
        let link = Box::pin(link::connect(&self, &ctx)).await?;
        if self.stream.is_empty() {
            Box::pin(listen(&self, &link, &server, &ctx)).await
        } else {
            Box::pin(read(&self, &link, &server, &ctx)).await
        }
    }

    async fn retire(self, ctx: Context) -> Result<(), SourceError> {
        if !self.owns_consumer() {
            return Ok(());
        }
        let link = Box::pin(link::connect(&self, &ctx)).await?;
        let context = async_nats::jetstream::new(link.client.clone());
        link.hold(&ctx, consumer::remove(&context, &self, &ctx.about)).await
    }
}

impl NatsSource {
    fn first_server(&self) -> Result<Address, SourceError> {
        let first = self.servers.first().map_or("", String::as_str);
        Address::parse(first).map_err(|rule| SourceError::Config(format!("servers: {rule}")))
    }
}

/// Reads a stream.
async fn read(
    spec: &NatsSource,
    link: &Link,
    server: &Address,
    ctx: &Context,
) -> Result<(), SourceError> {
    let mut pull = link.hold(ctx, Pull::open(link, spec, server, ctx)).await?;
    ctx.report.running();
    let ended = link.hold(ctx, pull.work(ctx)).await;
    pull.give_back().await;
    ended
}

/// Listens to subjects.
async fn listen(
    spec: &NatsSource,
    link: &Link,
    server: &Address,
    ctx: &Context,
) -> Result<(), SourceError> {
    let messages = link.hold(ctx, subscription::subscribe(link, spec)).await?;
    ctx.report.running();
    let mut backlog = Backlog::new(server);
    let ended = link.hold(ctx, backlog.work(messages, link, ctx)).await;
    backlog.hand_over_rest(ctx).await;
    ended
}

#[cfg(test)]
mod tests;
