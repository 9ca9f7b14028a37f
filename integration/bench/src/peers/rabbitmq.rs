//! RabbitMQ with a quorum queue, and a bare consumer.

use std::ops::Range;

use anyhow::{Context, ensure};
use futures_util::StreamExt;
use lapin::options::{
    BasicAckOptions, BasicConsumeOptions, BasicPublishOptions, BasicQosOptions,
    ConfirmSelectOptions, QueueDeclareOptions,
};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{BasicProperties, Channel, Connection, ConnectionProperties};

use super::{Peer, Services, text};
use crate::oracle::payload;

/// Publishes that may wait for their confirmation.
const PIPELINE: usize = 512;

/// As many messages as the source has by default.
const PREFETCH: u16 = 1000;

/// RabbitMQ.
#[derive(Debug)]
pub(crate) struct RabbitMq {
    amqp: String,
    user: String,
    password: String,
    _services: Services,
}

impl RabbitMq {
    async fn channel(&self) -> anyhow::Result<(Connection, Channel)> {
        let address = self.amqp.trim_start_matches("amqp://");
        let uri = format!("amqp://{}:{}@{address}/%2f", self.user, self.password);
        let connection = Connection::connect(&uri, ConnectionProperties::default()).await?;
        let channel = connection.create_channel().await?;
        Ok((connection, channel))
    }
}

impl Peer for RabbitMq {
    const NAME: &'static str = "RabbitMQ";

    async fn start(services: Services) -> anyhow::Result<Self> {
        let told = services.up("rabbitmq").await?;
        let (amqp, user) = (text(&told, "amqp")?, text(&told, "user")?);
        Ok(Self { amqp, user, password: text(&told, "password")?, _services: services })
    }

    async fn place(&self, name: &str) -> anyhow::Result<()> {
        let (_connection, channel) = self.channel().await?;
        let mut arguments = FieldTable::default();
        arguments.insert("x-queue-type".into(), AMQPValue::LongString("quorum".into()));
        let options = QueueDeclareOptions { durable: true, ..QueueDeclareOptions::default() };
        channel.queue_declare(name.into(), options, arguments).await.map(drop).context("declare")
    }

    async fn fill(&self, name: &str, ids: Range<u64>, size: usize) -> anyhow::Result<()> {
        let (_connection, channel) = self.channel().await?;
        channel.confirm_select(ConfirmSelectOptions::default()).await?;
        let mut waiting = std::collections::VecDeque::new();
        for id in ids {
            let properties = BasicProperties::default().with_delivery_mode(2);
            let properties = properties.with_message_id(id.to_string().into());
            let body = payload(id, size);
            let options = BasicPublishOptions::default();
            let sent =
                channel.basic_publish("".into(), name.into(), options, &body, properties).await?;
            waiting.push_back(sent);
            if waiting.len() >= PIPELINE
                && let Some(oldest) = waiting.pop_front()
            {
                ensure!(!oldest.await?.is_nack(), "a message was not taken");
            }
        }
        for sent in waiting {
            ensure!(!sent.await?.is_nack(), "a message was not taken");
        }
        Ok(())
    }

    async fn drain(
        &self,
        name: &str,
        count: u64,
        first: impl FnOnce() + Send,
    ) -> anyhow::Result<()> {
        let (_connection, channel) = self.channel().await?;
        channel.basic_qos(PREFETCH, BasicQosOptions::default()).await?;
        let options = BasicConsumeOptions::default();
        let mut messages = channel
            .basic_consume(name.into(), "bare".into(), options, FieldTable::default())
            .await?;
        let (mut first, mut taken) = (Some(first), 0);
        while taken < count {
            let message = messages.next().await.context("the messages end")??;
            if let Some(first) = first.take() {
                first();
            }
            message.ack(BasicAckOptions::default()).await?;
            taken += 1;
        }
        ensure!(taken == count, "{taken} of {count} messages came");
        Ok(())
    }

    fn manifest(&self, name: &str) -> String {
        let Self { amqp, user, password, .. } = self;
        format!(
            "---\napiVersion: v1\nkind: Secret\nmetadata: {{name: rabbitmq}}\nstringData: {{uri: '{amqp}', username: '{user}', password: '{password}'}}\n\
             ---\napiVersion: sources.knative.dev/v1alpha1\nkind: RabbitmqSource\nmetadata: {{name: {name}}}\nspec:\n  \
             rabbitmqClusterReference: {{connectionSecret: {{name: rabbitmq}}}}\n  \
             rabbitmqResourcesConfig: {{queueName: {name}, predeclared: true}}\n  \
             sink: {{ref: {{apiVersion: eventing.knative.dev/v1, kind: Broker, name: default}}}}\n"
        )
    }
}
