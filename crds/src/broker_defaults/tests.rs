//! Which defaults a Broker gets.

use super::*;

const TEXT: &str = "
clusterDefault:
  brokerClass: MTChannelBasedBroker
  apiVersion: v1
  kind: ConfigMap
  name: config-br-default-channel
  namespace: knative-eventing
  delivery:
    retry: 3
  brokerClasses:
    Kafka:
      apiVersion: v1
      kind: ConfigMap
      name: kafka
namespaceDefaults:
  team-a:
    brokerClass: Weft
    delivery:
      retry: 5
  team-b:
    disallowDifferentNamespaceConfig: true
    brokerClasses:
      Weft:
        delivery:
          retry: 7
";

fn retry(defaults: &BrokerDefaults, namespace: &str, class: Option<&str>) -> Option<i32> {
    defaults.config(namespace, class)?.delivery.as_ref()?.retry
}

#[test]
fn a_namespace_wins_over_the_mesh_and_a_class_over_the_rest() {
    let defaults = BrokerDefaults::parse(TEXT).unwrap();
    assert_eq!(defaults.class("other"), Some("MTChannelBasedBroker"));
    assert_eq!(defaults.class("team-a"), Some("Weft"));
    assert_eq!(defaults.class("team-b"), Some("MTChannelBasedBroker"));
    assert_eq!(retry(&defaults, "other", None), Some(3));
    assert_eq!(retry(&defaults, "other", Some("Any")), Some(3));
    assert_eq!(retry(&defaults, "other", Some("Kafka")), None);
    assert_eq!(retry(&defaults, "team-a", None), Some(5));
    assert_eq!(retry(&defaults, "team-a", Some("MTChannelBasedBroker")), Some(3));
    assert_eq!(retry(&defaults, "team-b", Some("Weft")), Some(7));
    assert_eq!(retry(&defaults, "team-b", None), Some(3));
    assert_eq!(defaults.config("x", Some("Kafka")).unwrap().reference().unwrap().name, "kafka");
    assert!(
        defaults.keeps_config_in_namespace("team-b")
            && !defaults.keeps_config_in_namespace("team-a")
    );
}

#[test]
fn an_absent_or_empty_key_means_what_is_shipped() {
    let mut config = ConfigMap::default();
    assert_eq!(BrokerDefaults::read(&config), Ok(BrokerDefaults::builtin()));
    config.data.insert(KEY.to_owned(), " \n".to_owned());
    assert_eq!(BrokerDefaults::read(&config), Ok(BrokerDefaults::builtin()));
    config.data.insert(KEY.to_owned(), "clusterDefault:\n  brokerClass: X\n".to_owned());
    assert_eq!(BrokerDefaults::read(&config).unwrap().class("default"), Some("X"));
}

#[test]
fn what_is_shipped_names_no_configuration() {
    let defaults = BrokerDefaults::builtin();
    let chosen = defaults.config("default", None).unwrap();
    assert_eq!(chosen.reference(), None);
    let expected = r#"{"retry":10,"backoffPolicy":"exponential","backoffDelay":"PT0.2S"}"#;
    assert_eq!(serde_json::to_string(chosen.delivery).unwrap(), expected);
}

#[test]
fn broken_defaults_are_refused_with_the_place() {
    let refusal = |text: &str| BrokerDefaults::parse(text).unwrap_err().to_string();
    assert_eq!(
        refusal("clusterDefault:\n  brokerClas: X\n"),
        "2:3: clusterDefault.brokerClas: unknown field"
    );
    assert!(
        refusal("clusterDefault: [\n").starts_with("2:1: "),
        "{}",
        refusal("clusterDefault: [\n")
    );
    assert_eq!(refusal("[]"), "1:1: must be a mapping, not a list");
    let bad = "clusterDefault:\n  delivery: {retry: -1}\n  brokerClasses: {K: {kind: C}}\n";
    let expected = "invalid value: -1: clusterDefault.delivery.retry\n\
        missing field(s): clusterDefault.brokerClasses[K].apiVersion, clusterDefault.brokerClasses[K].name";
    assert_eq!(refusal(bad), expected);
}
