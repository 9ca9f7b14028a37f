//! NATS with JetStream, and a bare pull consumer.

use std::ops::Range;
use std::time::Duration;

use anyhow::{Context, ensure};
use async_nats::jetstream::consumer::{AckPolicy, pull};
use async_nats::jetstream::{self, stream};
use futures_util::StreamExt;
use tokio::time::{Instant, sleep};

use super::{Peer, Services, text};
use crate::oracle::payload;

/// How long the server may take to store what it was sent.
const PATIENCE: Duration = Duration::from_secs(120);

/// NATS.
#[derive(Debug)]
pub(crate) struct Nats {
    url: String,
    user: String,
    password: String,
    jetstream: jetstream::Context,
    _services: Services,
}

impl Peer for Nats {
    const NAME: &'static str = "NATS JetStream";

    async fn start(services: Services) -> anyhow::Result<Self> {
        let told = services.up("nats").await?;
        let (url, user) = (text(&told, "url")?, text(&told, "user")?);
        let password = text(&told, "password")?;
        let options =
            async_nats::ConnectOptions::with_user_and_password(user.clone(), password.clone());
        let jetstream = jetstream::new(options.connect(&url).await?);
        Ok(Self { url, user, password, jetstream, _services: services })
    }

    async fn place(&self, name: &str) -> anyhow::Result<()> {
        let (name, subjects) = (name.to_owned(), vec![name.to_owned()]);
        let config = stream::Config { name, subjects, ..stream::Config::default() };
        self.jetstream.create_stream(config).await.map(drop).context("make the stream")
    }

    async fn fill(&self, name: &str, ids: Range<u64>, size: usize) -> anyhow::Result<()> {
        let client = self.jetstream.client();
        let count = ids.end.saturating_sub(ids.start);
        for id in ids {
            client.publish(name.to_owned(), payload(id, size)).await?;
        }
        client.flush().await?;
        // That they are stored, the stream tells sooner than an answer to each.
        let mut stream = self.jetstream.get_stream(name).await?;
        let began = Instant::now();
        while stream.info().await?.state.messages < count {
            ensure!(began.elapsed() < PATIENCE, "the stream does not fill");
            sleep(Duration::from_millis(50)).await;
        }
        Ok(())
    }

    async fn drain(
        &self,
        name: &str,
        count: u64,
        first: impl FnOnce() + Send,
    ) -> anyhow::Result<()> {
        let stream = self.jetstream.get_stream(name).await?;
        let config = pull::Config { ack_policy: AckPolicy::Explicit, ..pull::Config::default() };
        let consumer = stream.create_consumer(config).await?;
        let mut messages = consumer.messages().await?;
        let (mut first, mut taken) = (Some(first), 0);
        while taken < count {
            let message = messages.next().await.context("the messages end")??;
            if let Some(first) = first.take() {
                first();
            }
            message.ack().await.map_err(|error| anyhow::anyhow!("acknowledge: {error}"))?;
            taken += 1;
        }
        ensure!(taken == count, "{taken} of {count} messages came");
        Ok(())
    }

    fn manifest(&self, name: &str) -> String {
        let Self { url, user, password, .. } = self;
        format!(
            "---\napiVersion: v1\nkind: Secret\nmetadata: {{name: nats}}\nstringData: {{user: '{user}', password: '{password}'}}\n\
             ---\napiVersion: sources.knative.dev/v1alpha1\nkind: NatsSource\nmetadata: {{name: {name}}}\nspec:\n  \
             servers: ['{url}']\n  subjects: [{name}]\n  stream: {name}\n  deliverPolicy: all\n  \
             auth: {{user: {{secretKeyRef: {{name: nats, key: user}}}}, password: {{secretKeyRef: {{name: nats, key: password}}}}}}\n  \
             sink: {{ref: {{apiVersion: eventing.knative.dev/v1, kind: Broker, name: default}}}}\n"
        )
    }
}
