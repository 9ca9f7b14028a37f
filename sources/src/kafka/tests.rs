use crds::meta::ObjectMeta;
use serde_json::{Value, json};

use super::*;
use crate::given::{Given, Necessity, Origin};

#[expect(clippy::needless_pass_by_value, reason = "json! makes values")]
pub(super) fn spec(extra: Value) -> KafkaSource {
    let mut spec = json!({
        "bootstrapServers": ["a:9092", "b:9092"],
        "topics": ["orders"],
        "sink": {"uri": "http://sink/"},
    });
    for (field, value) in extra.as_object().unwrap() {
        spec[field] = value.clone();
    }
    let mut spec: KafkaSource = serde_json::from_value(spec).unwrap();
    SourceSpec::defaults(&mut spec, &ObjectMeta::named("shop", "orders"));
    spec
}

fn refused(extra: Value) -> String {
    let mut errors = FieldErrors::new();
    let spec = spec(extra);
    errors.also(spec.validate_lists());
    errors.also(spec.validate_choices());
    errors.to_string()
}

pub(super) fn secret(key: &str) -> Value {
    json!({"secretKeyRef": {"name": "kafka", "key": key}})
}

pub(super) fn about() -> About {
    About {
        namespace: "shop".into(),
        name: "orders".into(),
        uid: "1-2-3".into(),
        ..About::default()
    }
}

#[test]
fn what_is_left_out_is_knatives() {
    let spec = spec(json!({}));
    assert_eq!(spec.consumers, Some(1));
    assert_eq!(spec.initial_offset.as_deref(), Some("latest"));
    assert_eq!(spec.ordering.as_deref(), Some("ordered"));
    assert_eq!(spec.consumer_group, "");
    assert_eq!(self::spec(json!({"initialOffset": ""})).initial_offset.as_deref(), Some("latest"));
    assert_eq!(refused(json!({"consumers": 0, "net": {"sasl": {"user": {}}, "tls": {}}})), "");
}

#[test]
fn a_whole_spec_survives_a_round_trip() {
    let written = json!({
        "bootstrapServers": ["a:9092"],
        "topics": ["orders"],
        "consumerGroup": "g",
        "consumers": 3,
        "initialOffset": "earliest",
        "ordering": "unordered",
        "delivery": {"retry": 3},
        "net": {
            "sasl": {
                "enable": true,
                "user": secret("user"),
                "password": secret("password"),
                "type": secret("type"),
                "tokenProvider": secret("provider"),
                "roleARN": secret("role"),
            },
            "tls": {"enable": true, "cert": secret("c"), "key": secret("k"), "caCert": secret("ca")},
        },
        "sink": {"uri": "http://sink/"},
        "ceOverrides": {"extensions": {"team": "blue"}},
    });
    let spec: KafkaSource = serde_json::from_value(written.clone()).unwrap();
    assert_eq!(serde_json::to_value(&spec).unwrap(), written);
}

#[test]
fn what_is_missing_or_wrong_is_named() {
    let empty = json!({"bootstrapServers": [], "topics": []});
    assert_eq!(refused(empty), "missing field(s): bootstrapServers, topics");
    for (wrong, expected) in [
        (json!({"initialOffset": "newest"}), "invalid value: newest: initialOffset"),
        (json!({"ordering": "chaos"}), "invalid value: chaos: ordering"),
        (json!({"consumers": -1}), "invalid value: -1: consumers\nexpected 0 to 64"),
        (json!({"consumers": 65}), "invalid value: 65: consumers\nexpected 0 to 64"),
        (json!({"delivery": {"retry": -1}}), "invalid value: -1: delivery.retry"),
        (
            json!({"net": {"sasl": {"enable": true, "user": {}}}}),
            "missing field(s): net.sasl.password, net.sasl.user.secretKeyRef",
        ),
        (
            json!({"net": {"sasl": {"enable": true, "tokenProvider": {}}}}),
            "missing field(s): net.sasl.password, net.sasl.user",
        ),
        (
            json!({"net": {"tls": {"enable": true, "cert": secret("tls.crt")}}}),
            "missing field(s): net.tls.key",
        ),
    ] {
        assert_eq!(refused(wrong), expected);
    }
    assert!(
        refused(json!({"consumerGroup": "a\nb"}))
            .starts_with("invalid value: \"a\\nb\": consumerGroup\n")
    );
}

#[test]
fn topics_and_servers_are_what_kafka_can_have() {
    for good in ["a", "a.b_c-D9", &"t".repeat(249)] {
        assert!(is_topic(good), "{good}");
    }
    for bad in ["", ".", "..", "^a", "a b", "ä", "a/b", &"t".repeat(250)] {
        assert!(!is_topic(bad), "{bad}");
    }
    for good in ["a:1", "kafka.example.com:9092", "10.0.0.1:65535", "[::1]:9092"] {
        assert!(is_server(good), "{good}");
    }
    for bad in [
        "",
        "a",
        "a:",
        ":1",
        "a:0",
        "a:65536",
        "a:b",
        "::1:9092",
        "http://a:1",
        "a b:1",
        "user@a:1",
    ] {
        assert!(!is_server(bad), "{bad}");
    }
    assert_eq!(refused(json!({"bootstrapServers": ["a:1, b:2"]})), "");
    assert_eq!(
        refused(json!({"bootstrapServers": ["a:1", "b"], "topics": ["t", "^t"]})).lines().next(),
        Some("invalid value: ^t: topics[1]")
    );
}

#[test]
fn the_group_cannot_be_changed() {
    let (unnamed, named) = (spec(json!({})), spec(json!({"consumerGroup": "g"})));
    // Another group has no position, and what waits for the one before would be passed over.
    assert!(!named.validate_update(&unnamed).is_empty());
    assert!(unnamed.validate_update(&unnamed).is_empty());
    assert!(named.validate_update(&named).is_empty());
    assert_eq!(
        unnamed.validate_update(&named).via("spec").to_string(),
        "Immutable fields changed (-old +new): spec\n{string}:\n\t-: \"g\"\n\t+: \"\"\n"
    );
}

#[test]
fn the_annotation_is_checked() {
    let mut metadata = ObjectMeta::named("shop", "orders");
    assert!(KafkaSource::validate_annotations(&metadata).is_empty());
    for (value, good) in [("offset:7", true), ("2026-01-01T00:00:00Z", true), ("yesterday", false)]
    {
        metadata.annotations.insert(annotation::START.to_owned(), value.to_owned());
        assert_eq!(KafkaSource::validate_annotations(&metadata).is_empty(), good, "{value}");
    }
}

#[test]
fn what_is_needed_of_secrets_is_what_is_enabled() {
    let net = |enable: bool| {
        json!({"net": {
            "sasl": {"enable": enable, "user": secret("user"), "password": secret("password")},
            "tls": {"enable": enable, "caCert": {"secretKeyRef": {"name": "ca", "key": "ca.crt", "optional": true}}},
        }})
    };
    assert_eq!(spec(net(false)).needs(&about()), []);
    let needs = spec(net(true)).needs(&about());
    let named: Vec<_> = needs
        .iter()
        .map(|need| (&*need.field, need.name.as_str(), need.key.as_deref(), need.necessity))
        .collect();
    assert_eq!(
        named,
        [
            ("net.sasl.user", "kafka", Some("user"), Necessity::Required),
            ("net.sasl.password", "kafka", Some("password"), Necessity::Required),
            ("net.tls.caCert", "ca", Some("ca.crt"), Necessity::Optional),
        ]
    );
    assert!(needs.iter().all(|need| need.origin == Origin::Secret));
}

#[test]
fn each_topic_is_a_source_of_events() {
    let attributes =
        spec(json!({"topics": ["b", "a", "b"]})).attributes(&about(), &Given::default());
    let sources: Vec<_> =
        attributes.iter().map(|one| (one.kind.as_str(), one.source.as_str())).collect();
    let prefix = "/apis/v1/namespaces/shop/kafkasources/orders#";
    let expected = [format!("{prefix}a"), format!("{prefix}b")];
    assert_eq!(
        sources,
        [("dev.knative.kafka.event", &*expected[0]), ("dev.knative.kafka.event", &*expected[1])]
    );
}

#[test]
fn it_is_served_as_knatives_is() {
    let definition = crds::resource::definition(&KafkaSource::RESOURCE);
    assert_eq!(definition["metadata"]["name"], "kafkasources.sources.knative.dev");
    assert_eq!(
        definition["spec"]["names"]["categories"],
        json!(["all", "knative", "eventing", "sources"])
    );
    let versions = definition["spec"]["versions"].as_array().unwrap();
    let named: Vec<_> = versions.iter().map(|it| (&it["name"], &it["storage"])).collect();
    assert_eq!(named, [(&json!("v1beta1"), &json!(true)), (&json!("v1"), &json!(false))]);
    for version in versions {
        assert_eq!(
            version["subresources"]["scale"],
            json!({
                "specReplicasPath": ".spec.consumers",
                "statusReplicasPath": ".status.consumers",
                "labelSelectorPath": ".status.selector",
            })
        );
        let columns = version["additionalPrinterColumns"].as_array().unwrap();
        let columns: Vec<_> =
            columns.iter().map(|column| column["name"].as_str().unwrap()).collect();
        assert_eq!(columns, ["Topics", "BootstrapServers", "Ready", "Reason", "Age"]);
        let schema = &version["schema"]["openAPIV3Schema"]["properties"];
        assert_eq!(schema["spec"]["required"], json!(["bootstrapServers", "topics", "sink"]));
        assert_eq!(
            schema["spec"]["properties"]["ordering"]["enum"],
            json!(["ordered", "unordered"])
        );
        assert_eq!(schema["status"]["properties"]["consumers"]["type"], "integer");
    }
}

#[cfg(not(feature = "kafka"))]
#[tokio::test]
async fn a_mesh_that_is_built_without_kafka_says_how_to_build_one_with_it() {
    let (ctx, _) = crate::source::fake::World::new().context("KafkaSource");
    let error = Source::run(spec(json!({})), ctx).await.unwrap_err();
    assert_eq!((error.reason(), error.is_retryable()), ("NotBuilt", false));
    assert!(error.to_string().contains("cargo build --release --features kafka"), "{error}");
}
