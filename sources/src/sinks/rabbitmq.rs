//! RabbitMQ: a message of every event, to an exchange, confirmed by the server.
//!
//! Messages are persistent and mandatory: one that no queue gets is an error, and its event may come again. Once every queue
//! that gets a message has it, which for a durable queue means on its disk, the server confirms it.

use crds::meta::ObjectMeta;
use crds::object::Rules;
use crds::resource::{Resource, Version};
use crds::sink::{self, AGE, READY, REASON, SinkSpec, URL};
use crds::{FieldError, FieldErrors};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::sink::{Context, EventSink};
use crate::given::Need;
use crate::rabbitmq::ClusterReference;
use crate::rabbitmq::server::{self, Server};
use crate::rabbitmq::spec::{EXCHANGE_TYPES, one_of, validate_name};
use crate::source::{About, SourceError};

mod message;
mod publish;

/// The condition that says whether there is the exchange, and messages can be published to it.
const EXCHANGE_READY: &str = "ExchangeReady";

/// A RabbitMQ sink publishes every event that is posted to it to an exchange.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
#[schemars(extend("required" = ["rabbitmqClusterReference"]))]
pub struct RabbitmqSink {
    /// Which server, and how to log in; required.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rabbitmq_cluster_reference: Option<ClusterReference>,
    /// The virtual host; `/` if it is absent.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub vhost: String,
    /// The exchange; required unless `predeclared`, where without one it is that which puts messages into the queue that the
    /// routing key names. It is declared durable unless it is predeclared.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub exchange: String,
    /// The type that the exchange is declared with: `headers`, the default, `direct`, `fanout` or `topic`.
    #[schemars(extend("enum" = EXCHANGE_TYPES))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exchange_type: Option<String>,
    /// Whether the exchange is made by somebody else: then it is only checked that it is there.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub predeclared: bool,
    /// The routing key of all messages; the type of the event if it is absent.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub routing_key: String,
}

impl SinkSpec for RabbitmqSink {
    const RESOURCE: Resource = Resource {
        kind: "RabbitmqSink",
        plural: "rabbitmqsinks",
        singular: "rabbitmqsink",
        versions: &[Version {
            name: "v1alpha1",
            deprecated: None,
            columns: &[URL, AGE, READY, REASON],
            schema: sink::schema::<Self>,
        }],
        ..sink::resource::<Self>()
    };

    fn defaults(&mut self, metadata: &ObjectMeta) {
        if let Some(reference) = &mut self.rabbitmq_cluster_reference
            && reference.namespace.is_empty()
        {
            metadata.namespace.clone_into(&mut reference.namespace);
        }
    }

    fn validate(&self, metadata: &ObjectMeta, _: &Rules<'_>) -> FieldErrors {
        let mut errors = FieldErrors::new();
        match &self.rabbitmq_cluster_reference {
            None => errors.push(FieldError::missing("rabbitmqClusterReference")),
            Some(reference) => {
                errors.also(reference.validate(metadata).via("rabbitmqClusterReference"));
            }
        }
        if self.exchange.is_empty() {
            if !self.predeclared {
                errors.push(FieldError::missing("exchange"));
            } else if self.routing_key.is_empty() {
                let error = FieldError::missing("routingKey");
                errors.push(error.with_details("without an exchange it is the name of the queue"));
            }
        }
        for (value, path) in [
            (&self.vhost, "vhost"),
            (&self.exchange, "exchange"),
            (&self.routing_key, "routingKey"),
        ] {
            errors.also(validate_name(value, path));
        }
        errors.also(one_of(self.exchange_type.as_deref(), &EXCHANGE_TYPES, "exchangeType"));
        errors
    }
}

impl EventSink for RabbitmqSink {
    const WORKS: &'static str = EXCHANGE_READY;

    fn needs(&self, _: &About) -> Vec<Need> {
        let place = self.rabbitmq_cluster_reference.as_ref().and_then(ClusterReference::place);
        place.map(server::needs).unwrap_or_default()
    }

    async fn run(self, ctx: Context) -> Result<(), SourceError> {
        let server = Server::new(&ctx.given)?;
        publish::run(&self, &server, &ctx).await
    }
}

#[cfg(test)]
mod tests;
