//! RabbitMQ sources: what is filled in, and what is refused with which words.

use crds::broker_defaults::BrokerDefaults;
use crds::ping_defaults::PingDefaults;
use crds::resource::Catalog;
use crds::source::SourceObject;
use serde_json::{Value, json};

use super::*;

fn whole() -> Value {
    json!({
        "rabbitmqClusterReference": { "connectionSecret": { "name": "rabbit" } },
        "rabbitmqResourcesConfig": { "exchangeName": "e", "queueName": "q" },
        "sink": { "uri": "http://s/" },
    })
}

/// The whole spec, with a value at a path.
fn with(path: &str, value: Value) -> Value {
    let mut spec = whole();
    *spec.pointer_mut(path.rsplit_once('/').unwrap().0).unwrap() = {
        let mut parent = spec.pointer(path.rsplit_once('/').unwrap().0).unwrap().clone();
        parent[path.rsplit_once('/').unwrap().1] = value;
        parent
    };
    spec
}

fn source(spec: &Value) -> SourceObject<RabbitmqSource> {
    let object = json!({ "metadata": { "name": "r", "namespace": "n" }, "spec": spec });
    let mut source: SourceObject<RabbitmqSource> = serde_json::from_value(object).unwrap();
    source.defaults();
    source
}

fn refusal(spec: &Value) -> String {
    let rules = Rules {
        catalog: Catalog::new(crate::RESOURCES),
        cesql: &|_| Ok(()),
        broker_defaults: &BrokerDefaults::builtin(),
        ping_defaults: PingDefaults::default(),
    };
    source(spec).validate(&rules).to_string()
}

#[test]
fn what_is_left_out_is_filled_in() {
    let spec = source(&whole()).spec;
    assert_eq!(spec.rabbitmq_cluster_reference.unwrap().namespace, "n");
    let config = spec.rabbitmq_resources_config.unwrap();
    assert_eq!((config.parallelism, config.predeclared), (Some(1), false));
    assert_eq!((config.virtual_host(), config.prefetch()), ("/", 1000));
    assert_eq!((config.exchange_type(), config.queue_type()), ("headers", "quorum"));
    assert_eq!(refusal(&whole()), "");
}

#[test]
fn knatives_own_example_is_taken_as_it_is() {
    let spec = json!({
        "rabbitmqClusterReference": { "name": "rabbitmqc", "namespace": "n" },
        "rabbitmqResourcesConfig": { "exchangeName": "logs", "queueName": "test", "parallelism": 10 },
        "delivery": { "retry": 5, "backoffPolicy": "linear", "backoffDelay": "PT1S" },
        "serviceAccountName": "someone",
        "adapterContainerName": "adapter",
        "sink": { "ref": { "apiVersion": "v1", "kind": "Service", "name": "recorder" } },
    });
    assert_eq!(refusal(&spec), "");
}

#[test]
fn what_is_missing_is_named() {
    let missing = "missing field(s): spec.rabbitmqClusterReference, spec.rabbitmqResourcesConfig";
    assert_eq!(refusal(&json!({ "sink": { "uri": "http://s/" } })), missing);
    let expected = "Name of exchange must be provided when spec.predeclared is false: \
                    spec.rabbitmqResourcesConfig.exchangeName\n\
                    missing field(s): spec.rabbitmqResourcesConfig.queueName";
    assert_eq!(refusal(&with("/rabbitmqResourcesConfig", json!({}))), expected);
    let predeclared = json!({ "queueName": "q", "predeclared": true });
    assert_eq!(refusal(&with("/rabbitmqResourcesConfig", predeclared)), "");
}

#[test]
fn a_server_is_named_in_one_way() {
    let refusal = |reference| refusal(&with("/rabbitmqClusterReference", reference));
    assert_eq!(refusal(json!({})), "missing field(s): spec.rabbitmqClusterReference.name");
    assert_eq!(
        refusal(json!({ "connectionSecret": {} })),
        "missing field(s): spec.rabbitmqClusterReference.connectionSecret.name"
    );
    assert_eq!(
        refusal(json!({ "name": "a", "connectionSecret": { "name": "b" } })),
        "rabbitmqClusterReference.name and rabbitmqClusterReference.connectionSecret must not be set simultaneously: \
         spec.rabbitmqClusterReference.connectionSecret"
    );
    let wrong = refusal(json!({ "name": "A b" }));
    assert!(
        wrong.starts_with("invalid value: A b: spec.rabbitmqClusterReference.name\n"),
        "{wrong}"
    );
    assert_eq!(
        refusal(json!({ "name": "a", "namespace": "other" })),
        "invalid value: other: spec.rabbitmqClusterReference.namespace\n\
         Secrets are read in the namespace of this object only; copy it there"
    );
}

#[test]
fn numbers_have_bounds() {
    let refusal = |field: &str, value: i64| {
        refusal(&with(&format!("/rabbitmqResourcesConfig/{field}"), json!(value)))
    };
    for (field, most) in [("parallelism", 1000), ("prefetchCount", 10_000)] {
        assert_eq!(refusal(field, 1), "");
        assert_eq!(refusal(field, most), "");
        for value in [-1, 0, most + 1] {
            let expected =
                format!("expected 1 <= {value} <= {most}: spec.rabbitmqResourcesConfig.{field}");
            assert_eq!(refusal(field, value), expected);
        }
    }
}

#[test]
fn names_are_what_amqp_can_express() {
    for field in ["exchangeName", "queueName", "vhost"] {
        let path = format!("/rabbitmqResourcesConfig/{field}");
        assert_eq!(refusal(&with(&path, json!("é".repeat(127)))), "");
        let wrong = refusal(&with(&path, json!("é".repeat(128))));
        assert!(wrong.contains("a name has at most 255 bytes"), "{wrong}");
        let wrong = refusal(&with(&path, json!("a\nb")));
        let expected = format!("invalid value: \"a\\nb\": spec.rabbitmqResourcesConfig.{field}\n");
        assert!(wrong.starts_with(&expected), "{wrong}");
    }
}

#[test]
fn types_are_of_those_there_are() {
    let refusal = |field: &str, value: &str| {
        refusal(&with(&format!("/rabbitmqResourcesConfig/{field}"), json!(value)))
    };
    assert_eq!(refusal("queueType", "classic"), "");
    assert_eq!(
        refusal("queueType", "stream"),
        "invalid value: stream: spec.rabbitmqResourcesConfig.queueType\nexpected one of: quorum, classic"
    );
    assert_eq!(refusal("exchangeType", "fanout"), "");
    assert_eq!(
        refusal("exchangeType", "x"),
        "invalid value: x: spec.rabbitmqResourcesConfig.exchangeType\n\
         expected one of: headers, direct, fanout, topic"
    );
}

#[test]
fn keys_are_for_exchanges_that_look_at_them() {
    let config = |kind: &str, keys: Value| json!({ "exchangeName": "e", "queueName": "q", "exchangeType": kind, "bindingKeys": keys });
    let refusal = |config| refusal(&with("/rabbitmqResourcesConfig", config));
    for kind in ["direct", "topic"] {
        assert_eq!(refusal(config(kind, json!(["a", "b.#"]))), "");
        let missing = "missing field(s): spec.rabbitmqResourcesConfig.bindingKeys";
        assert_eq!(refusal(config(kind, json!([]))), missing);
    }
    for kind in ["headers", "fanout"] {
        let wrong = refusal(config(kind, json!(["a"])));
        let expected = "must not set the field(s): spec.rabbitmqResourcesConfig.bindingKeys\n";
        assert!(wrong.starts_with(expected), "{wrong}");
    }
    let many = refusal(config("topic", json!(vec!["a"; 65])));
    assert!(many.starts_with("65 binding keys are too many: "), "{many}");
    let long = refusal(config("topic", json!(["a", "b".repeat(256)])));
    assert!(long.contains("spec.rabbitmqResourcesConfig.bindingKeys[1]"), "{long}");
}

#[test]
fn each_exchange_is_bound_in_its_way() {
    let keys = |kind: &str, keys: &[&str]| {
        let config = ResourcesConfig {
            exchange_type: Some(kind.to_owned()),
            binding_keys: keys.iter().map(|key| (*key).to_owned()).collect(),
            ..ResourcesConfig::default()
        };
        config.keys().into_iter().map(|key| key.map(str::to_owned)).collect::<Vec<_>>()
    };
    assert_eq!(keys("headers", &[]), [None]);
    assert_eq!(keys("fanout", &[]), [Some(String::new())]);
    assert_eq!(keys("topic", &["a.*", "b"]), [Some("a.*".to_owned()), Some("b".to_owned())]);
}

#[test]
fn delivery_is_checked_though_it_has_no_effect() {
    let delivery = json!({ "retry": -1, "backoffPolicy": "slow", "backoffDelay": "1s" });
    let expected = "invalid value: -1: spec.delivery.retry\n\
                    invalid value: 1s: spec.delivery.backoffDelay\n\
                    invalid value: slow: spec.delivery.backoffPolicy";
    assert_eq!(refusal(&with("/delivery", delivery)), expected);
}

#[test]
fn a_source_stays_what_it_is() {
    let change = |spec: Value| {
        source(&spec).spec.validate_update(&source(&whole()).spec).via("spec").to_string()
    };
    assert_eq!(change(whole()), "");
    assert_eq!(change(with("/rabbitmqResourcesConfig/prefetchCount", json!(7))), "");
    assert_eq!(change(with("/ceOverrides", json!({ "extensions": { "a": "b" } }))), "");
    for changed in [
        with("/rabbitmqResourcesConfig/queueName", json!("other")),
        with("/rabbitmqResourcesConfig/parallelism", json!(2)),
        with("/rabbitmqClusterReference/connectionSecret", json!({ "name": "other" })),
        with("/sink/uri", json!("http://other/")),
    ] {
        let refused = change(changed);
        assert!(refused.starts_with("Immutable fields changed (-old +new): spec\n"), "{refused}");
    }
}

#[test]
fn the_events_source_is_knatives() {
    let about = crate::source::fake::about();
    let source = |queue: &str| {
        let config = ResourcesConfig { queue_name: queue.to_owned(), ..ResourcesConfig::default() };
        config.event_source(&about)
    };
    assert_eq!(source("orders-q"), "/apis/v1/namespaces/default/rabbitmqsources/one#orders-q");
    // A URI has neither spaces nor two fragments.
    assert_eq!(
        source("a b#c%é/?:@!$&'()*+,;=~._"),
        "/apis/v1/namespaces/default/rabbitmqsources/one#a%20b%23c%25%C3%A9/?:@!$&'()*+,;=~._"
    );
}
