//! `RabbitmqSink` against RabbitMQ.

use lapin::options::{
    BasicGetOptions, BasicNackOptions, ExchangeDeclareOptions, ExchangeDeleteOptions,
    QueueBindOptions, QueueDeclareOptions, QueueDeleteOptions,
};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{BasicProperties, Channel, Connection, ConnectionProperties, ExchangeKind};
use serde_json::Value;

use super::downstream::{Downstream, start};
use super::{address, contract, post, ready};
use crate::harness::mesh::Mesh;

/// The queue that is looked into.
const QUEUE: &str = "looked-into";

/// What a RabbitMQ published.
struct Rabbit(Value);

/// Another RabbitMQ than that of the contract, which kills its own.
async fn more() -> Rabbit {
    start("rabbitmq-sink-more").await.2
}

impl Rabbit {
    fn text(&self, key: &str) -> &str {
        self.0[key].as_str().expect("a published text")
    }

    async fn channel(&self) -> (Connection, Channel) {
        let [user, password, host, port] =
            ["user", "password", "host", "port"].map(|key| self.text(key));
        let uri = format!("amqp://{user}:{password}@{host}:{port}/%2f");
        let connection = Connection::connect(&uri, ConnectionProperties::default()).await;
        let connection = connection.expect("a connection");
        let channel = connection.create_channel().await.expect("a channel");
        (connection, channel)
    }

    /// Makes a durable queue anew. Its arguments are an `x-` name and a value.
    async fn make_queue(&self, name: &str, arguments: &[(&str, AMQPValue)]) {
        let (_connection, channel) = self.channel().await;
        // An earlier run may have left it.
        let deleted = channel.queue_delete(name.into(), QueueDeleteOptions::default()).await;
        deleted.expect("no queue of that name");
        let options = QueueDeclareOptions { durable: true, ..Default::default() };
        let mut table = FieldTable::default();
        for (name, value) in arguments {
            table.insert((*name).into(), value.clone());
        }
        channel.queue_declare(name.into(), options, table).await.expect("a queue");
    }

    async fn bind(&self, queue: &str, exchange: &str, key: &str) {
        let (_connection, channel) = self.channel().await;
        let (options, arguments) = (QueueBindOptions::default(), FieldTable::default());
        let bound =
            channel.queue_bind(queue.into(), exchange.into(), key.into(), options, arguments);
        bound.await.expect("a binding");
    }

    /// What is in a queue; it stays there.
    async fn messages(&self, queue: &str) -> Vec<(BasicProperties, String, Vec<u8>)> {
        let (_connection, channel) = self.channel().await;
        let (mut messages, mut last) = (Vec::new(), 0);
        while let Some(got) =
            channel.basic_get(queue.into(), BasicGetOptions::default()).await.expect("an answer")
        {
            let delivery = got.delivery;
            last = delivery.delivery_tag;
            let key = delivery.routing_key.to_string();
            messages.push((delivery.properties, key, delivery.data));
        }
        let back = BasicNackOptions { multiple: true, requeue: true };
        if last > 0 {
            channel.basic_nack(last, back).await.expect("they go back");
        }
        // Once that is answered, they are where they were.
        channel.close(200, "".into()).await.expect("the channel is closed");
        messages
    }

    fn sink(&self, password: &str, more: &str) -> String {
        let (uri, user) = (self.text("amqp"), self.text("user"));
        format!(
            "---\napiVersion: v1\nkind: Secret\nmetadata:\n  name: rabbit\nstringData:\n  uri: {uri}\n  username: {user}\n  \
             password: {password}\n---\n\
             apiVersion: sinks.knative.dev/v1alpha1\nkind: RabbitmqSink\nmetadata:\n  name: sink\nspec:\n  \
             rabbitmqClusterReference: {{connectionSecret: {{name: rabbit}}}}\n{more}"
        )
    }
}

/// The headers of a message that are text.
fn header(properties: &BasicProperties, name: &str) -> Option<String> {
    match properties.headers().as_ref()?.inner().get(name)? {
        AMQPValue::LongString(text) => Some(text.to_string()),
        _ => None,
    }
}

fn ids(messages: &[(BasicProperties, String, Vec<u8>)]) -> Vec<String> {
    let id = |(properties, ..): &(BasicProperties, String, Vec<u8>)| {
        header(properties, "cloudEvents_id").expect("an id")
    };
    messages.iter().map(id).collect()
}

impl Downstream for Rabbit {
    const SERVICE: &'static str = "rabbitmq";
    const KIND: (&'static str, &'static str) = ("sinks.knative.dev/v1alpha1", "RabbitmqSink");
    const PLURAL: &'static str = "rabbitmqsinks";
    const SOURCES: &'static str = "rabbitmqsources";

    async fn on(published: Value) -> Self {
        let rabbit = Self(published);
        let (_connection, channel) = rabbit.channel().await;
        let options = ExchangeDeclareOptions { durable: true, ..Default::default() };
        let (kind, arguments) = (ExchangeKind::Headers, FieldTable::default());
        channel
            .exchange_declare("contract".into(), kind, options, arguments)
            .await
            .expect("an exchange");
        rabbit.make_queue(QUEUE, &[]).await;
        rabbit.bind(QUEUE, "contract", "").await;
        rabbit
    }

    fn manifest_with(&self, password: &str) -> String {
        self.sink(password, "  exchange: contract\n")
    }

    fn password(&self) -> &str {
        self.text("password")
    }

    fn source(&self, uri: &str) -> String {
        format!(
            "---\napiVersion: sources.knative.dev/v1alpha1\nkind: RabbitmqSource\nmetadata:\n  name: sink\nspec:\n  \
             rabbitmqClusterReference: {{connectionSecret: {{name: rabbit}}}}\n  \
             rabbitmqResourcesConfig: {{exchangeName: contract, queueName: back, queueType: classic}}\n  \
             sink: {{uri: '{uri}'}}\n"
        )
    }

    async fn ids(&self) -> Vec<String> {
        ids(&self.messages(QUEUE).await)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn keeps_the_contract() {
    contract::kept::<Rabbit>().await;
}

#[tokio::test]
async fn a_message_is_persistent_and_has_the_type_as_its_key_unless_no_queue_takes_it() {
    let rabbit = more().await;
    let (_connection, channel) = rabbit.channel().await;
    let deleted = channel.exchange_delete("topics".into(), ExchangeDeleteOptions::default()).await;
    deleted.expect("no exchange of that name");
    rabbit.make_queue("keys", &[]).await;
    let spec = "  exchange: topics\n  exchangeType: topic\n";
    let mesh = Mesh::start(&rabbit.sink(rabbit.password(), spec)).await;
    let url = address(&ready(&mesh, Rabbit::PLURAL, "True", "").await);
    let answer = post(&url, "unroutable", &[], "{}").await;
    assert_eq!(answer.status, 503, "{}", answer.body);
    assert!(answer.body.contains("no queue"), "{}", answer.body);
    rabbit.bind("keys", "topics", "dev.weft.#").await;
    let subject = [("ce-subject", "gr%C3%B6%C3%9Fe")];
    assert_eq!(post(&url, "routed", &subject, r#"{"a":1}"#).await.status, 202);
    let messages = rabbit.messages("keys").await;
    let [(properties, key, data)] = messages.as_slice() else { panic!("{messages:?}") };
    assert_eq!((key.as_str(), data.as_slice()), ("dev.weft.test", &br#"{"a":1}"#[..]));
    assert_eq!(*properties.delivery_mode(), Some(2));
    let media_type = properties.content_type().as_ref().map(ToString::to_string);
    assert_eq!(media_type.as_deref(), Some("application/json"));
    for (name, value) in [
        ("cloudEvents_specversion", "1.0"),
        ("cloudEvents_id", "routed"),
        ("cloudEvents_source", "/test"),
        ("cloudEvents_subject", "größe"),
    ] {
        assert_eq!(header(properties, name).as_deref(), Some(value), "{name}");
    }
}

#[tokio::test]
async fn a_full_queue_is_no_success_and_a_missing_exchange_is_told() {
    let rabbit = more().await;
    let full = [
        ("x-max-length", AMQPValue::LongInt(1)),
        ("x-overflow", AMQPValue::LongString("reject-publish".into())),
    ];
    rabbit.make_queue("full", &full).await;
    let to = |spec: &str| rabbit.sink(rabbit.password(), &format!("  predeclared: true\n{spec}"));
    let mesh = Mesh::start(&to("  routingKey: full\n")).await;
    let url = address(&ready(&mesh, Rabbit::PLURAL, "True", "").await);
    assert_eq!(post(&url, "first", &[], "{}").await.status, 202);
    let answer = post(&url, "second", &[], "{}").await;
    assert_eq!(answer.status, 503, "{}", answer.body);
    assert!(answer.body.contains("full"), "{}", answer.body);
    assert_eq!(ids(&rabbit.messages("full").await), ["first"]);
    mesh.rewrite(&to("  exchange: nowhere\n"));
    ready(&mesh, Rabbit::PLURAL, "False", "UpstreamNotFound").await;
}
