//! `RabbitmqSource` against RabbitMQ: messages of a queue.

use std::ops::Range;

use lapin::options::{BasicPublishOptions, ConfirmSelectOptions, QueueDeleteOptions};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{BasicProperties, Channel, Confirmation, Connection, ConnectionProperties};
use serde_json::Value;

use super::contract;
use super::upstream::{Upstream, condition, resource};
use crate::harness::eventually::eventually;
use crate::harness::mesh::{BROKER, Mesh, trigger};
use crate::harness::services::Services;
use crate::harness::subscriber::{Got, Subscriber};

/// A server, and the name of a queue and its exchange, which the source declares.
struct Rabbit {
    services: Services,
    service: Value,
    queue: &'static str,
}

impl Rabbit {
    fn published(&self, key: &str) -> &str {
        self.service[key].as_str().expect("a published text")
    }

    async fn channel(&self) -> (Connection, Channel) {
        let [user, password, host, port] =
            ["user", "password", "host", "port"].map(|key| self.published(key));
        let uri = format!("amqp://{user}:{password}@{host}:{port}/%2f");
        let connection = Connection::connect(&uri, ConnectionProperties::default()).await;
        let connection = connection.expect("a connection");
        let channel = connection.create_channel().await.expect("a channel");
        channel.confirm_select(ConfirmSelectOptions::default()).await.expect("confirms");
        (connection, channel)
    }

    /// Publishes, and waits until the messages are safe.
    async fn publish(&self, messages: impl IntoIterator<Item = (BasicProperties, Vec<u8>)>) {
        let (_connection, channel) = self.channel().await;
        let mut confirms = Vec::new();
        for (properties, body) in messages {
            let (exchange, options) = (self.queue.into(), BasicPublishOptions::default());
            let properties = properties.with_delivery_mode(2);
            let confirm = channel.basic_publish(exchange, "k".into(), options, &body, properties);
            confirms.push(confirm.await.expect("a message is sent"));
        }
        for confirm in confirms {
            let confirmed = confirm.await.expect("an answer");
            assert_eq!(confirmed, Confirmation::Ack(None));
        }
    }

    fn source(&self, password: &str, sink: &str, more: &str) -> String {
        let (uri, user, queue) = (self.published("amqp"), self.published("user"), self.queue);
        format!(
            "---\napiVersion: v1\nkind: Secret\nmetadata:\n  name: rabbit\nstringData:\n  uri: {uri}\n  username: {user}\n  \
             password: {password}\n---\n\
             apiVersion: sources.knative.dev/v1alpha1\nkind: RabbitmqSource\nmetadata:\n  name: source\nspec:\n  \
             rabbitmqClusterReference: {{connectionSecret: {{name: rabbit}}}}\n  \
             rabbitmqResourcesConfig: {{exchangeName: {queue}, queueName: {queue}{more}}}\n  sink: {sink}\n"
        )
    }
}

/// Every other message has an id.
fn properties(number: u64) -> BasicProperties {
    let properties = BasicProperties::default().with_content_type("text/plain".into());
    if number.is_multiple_of(2) {
        properties.with_message_id(format!("message-{number}").into())
    } else {
        properties
    }
}

impl Upstream for Rabbit {
    const MODULE: &'static str = "rabbitmq";

    async fn start(services: Services) -> Self {
        let service = services.up("rabbitmq").await;
        Self { services, service, queue: "contract" }
    }

    fn manifest(&self, sink: &str) -> String {
        self.source(self.published("password"), sink, "")
    }

    fn refused(&self, sink: &str) -> Option<(String, &'static str)> {
        Some((self.source("wrong", sink, ""), "CredentialsRefused"))
    }

    async fn produce(&self, _: &Mesh, numbers: Range<u64>) {
        let message = |number: u64| (properties(number), number.to_string().into_bytes());
        self.publish(numbers.map(message)).await;
    }

    fn number(&self, event: &Got) -> Option<u64> {
        std::str::from_utf8(&event.body).ok()?.parse().ok()
    }

    async fn stop(&self) -> bool {
        self.services.down("rabbitmq").await;
        true
    }

    async fn start_again(&mut self) {
        self.service = self.services.up("rabbitmq").await;
    }

    fn secrets(&self) -> Vec<String> {
        vec![self.published("password").to_owned()]
    }

    fn check(&self, event: &Got) {
        assert_eq!(event.header("ce-type"), "dev.knative.rabbitmq.event");
        let source = "/apis/v1/namespaces/default/rabbitmqsources/source#contract";
        assert_eq!(event.header("ce-source"), source);
        assert_eq!(event.header("ce-subject"), event.id());
        assert_eq!(event.header("content-type"), "text/plain");
        assert_eq!(event.header("ce-rabbitmqexchange"), "contract");
        assert_eq!(event.header("ce-rabbitmqroutingkey"), "k");
        assert_eq!(event.body, "7");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn keeps_the_contract() {
    contract::kept::<Rabbit>().await;
}

/// A queue that is deleted under the source is declared again; what is predeclared is waited for. What nobody can parse by
/// recursion harms nobody, and an event in a message stays what it is.
#[tokio::test(flavor = "multi_thread")]
async fn outlives_deleted_queues_and_hostile_messages() {
    let services = Services::of("rabbitmq-hostile");
    let service = services.up("rabbitmq").await;
    let rabbit = Rabbit { services, service, queue: "hostile" };
    let subscriber = Subscriber::start().await;
    let to_broker = "{ref: {apiVersion: eventing.knative.dev/v1, kind: Broker, name: default}}";
    let source = rabbit.source(rabbit.published("password"), to_broker, ", queueType: classic");
    let yaml = format!("{BROKER}{}{source}", trigger("t", &subscriber.url, "", &[]));
    let mesh = Mesh::start(&yaml).await;
    let ready = async |mesh: &Mesh| {
        eventually("the source to be ready", async || {
            let resource = resource(mesh, "rabbitmq").await;
            (condition(&resource, "Ready").is_some_and(|(status, _)| status == "True"))
                .then_some(())
        })
        .await;
    };
    ready(&mesh).await;

    // A hundred deep is what the publisher's own client can write.
    let mut nested = AMQPValue::Void;
    for _ in 0..100 {
        let mut table = FieldTable::default();
        table.insert("".into(), nested);
        nested = AMQPValue::FieldTable(table);
    }
    let text = |text: &str| AMQPValue::LongString(text.into());
    let headers = |pairs: &[(&str, AMQPValue)]| {
        let mut table = FieldTable::default();
        for (name, value) in pairs {
            table.insert((*name).into(), value.clone());
        }
        BasicProperties::default().with_headers(table)
    };
    let event = headers(&[
        ("ce-specversion", text("1.0")),
        ("ce-id", text("own")),
        ("ce-source", text("/own")),
        ("ce-type", text("own.type")),
    ]);
    let claim = headers(&[("ce-specversion", text("7"))]).with_message_id("claim".into());
    let deep = headers(&[("deep", nested), ("flat", text("yes"))]).with_message_id("deep".into());
    rabbit.publish([(event, vec![]), (claim, vec![0xff]), (deep, b"x".to_vec())]).await;
    let got = subscriber.wait(3).await;
    let of = |id: &str| got.iter().find(|event| event.id() == id).expect("it arrived");
    assert_eq!((of("own").header("ce-type"), of("own").header("ce-source")), ("own.type", "/own"));
    assert_eq!(of("claim").header("ce-type"), "dev.knative.rabbitmq.event");
    assert_eq!(of("claim").body, &b"\xff"[..]);
    assert_eq!(of("deep").header("ce-rabbitmqheaderflat"), "yes");

    let (_connection, channel) = rabbit.channel().await;
    let deleted = channel.queue_delete("hostile".into(), QueueDeleteOptions::default()).await;
    assert_eq!(deleted.expect("it is deleted"), 0);
    eventually("the queue to be there again, and the source", async || {
        let options = lapin::options::QueueDeclareOptions { passive: true, ..Default::default() };
        let (_connection, channel) = rabbit.channel().await;
        channel.queue_declare("hostile".into(), options, FieldTable::default()).await.ok()
    })
    .await;
    ready(&mesh).await;
    rabbit.publish([(BasicProperties::default().with_message_id("after".into()), vec![])]).await;
    assert!(subscriber.wait(4).await.iter().any(|event| event.id() == "after"));
}
