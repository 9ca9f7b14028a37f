//! RabbitMQ: the messages of a queue, with the attributes Knative's `RabbitmqSource` gives them.
//!
//! What differs from Knative's, for the better: a message is acknowledged once its event is durable, and is never dropped
//! because the sink was away; messages go over in batches; a message without an id gets one that is the same when it is
//! delivered again; what the publisher said beside the body becomes extensions; exchanges of every type, the type of the queue
//! and the prefetch can be chosen. Exchange, queue and binding are declared by the source itself, so that no operator is
//! needed.

use crds::condition::CloudEventAttributes;

use crate::given::{Given, Need};
use crate::source::{About, Context, Source, SourceError};

pub(crate) mod amqp;
mod consume;
mod event;
mod prefetch;
pub(crate) mod server;
pub(crate) mod spec;

pub use spec::{
    ClusterReference, DeliveryOptions, LocalReference, RabbitmqSource, ResourcesConfig,
};

use server::Server;

impl Source for RabbitmqSource {
    const CONDITIONS: &'static [&'static str] = &["ExchangeReady", "SecretReady", "ResourcesReady"];

    fn needs(&self, _: &About) -> Vec<Need> {
        let place = self.rabbitmq_cluster_reference.as_ref().and_then(ClusterReference::place);
        place.map(server::needs).unwrap_or_default()
    }

    fn attributes(&self, about: &About, _: &Given) -> Vec<CloudEventAttributes> {
        let Some(config) = &self.rabbitmq_resources_config else { return Vec::new() };
        vec![CloudEventAttributes {
            kind: event::TYPE.to_owned(),
            source: config.event_source(about),
        }]
    }

    async fn run(self, ctx: Context) -> Result<(), SourceError> {
        let config = self.rabbitmq_resources_config.ok_or_else(|| {
            SourceError::Config("rabbitmqResourcesConfig: it is missing".to_owned())
        })?;
        let server = Server::new(&ctx.given)?;
        consume::run(&config, &server, &ctx).await
    }
}
