//! What a user may write, and what becomes of it.

use crds::admission::Kind;
use serde_json::{Value, json};

use super::KafkaSink;
use crate::given::Necessity;
use crate::sinks::EventSink;
use crate::sinks::sink::fake::{refused, sink};
use crate::source::fake::about;

#[expect(clippy::needless_pass_by_value, reason = "json! makes values")]
pub(super) fn with(more: Value) -> Value {
    let mut spec = json!({"topic": "t", "bootstrapServers": ["k:9092"]});
    spec.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    spec
}

#[test]
fn content_is_structured_if_nothing_is_said() {
    assert_eq!(sink::<KafkaSink>(with(json!({}))).spec.content_mode.as_deref(), Some("structured"));
    assert_eq!(
        sink::<KafkaSink>(with(json!({"contentMode": ""}))).spec.content_mode.as_deref(),
        Some("structured")
    );
}

#[test]
fn refusals_have_knatives_words() {
    assert_eq!(refused::<KafkaSink>(with(json!({}))), "");
    assert_eq!(
        refused::<KafkaSink>(with(json!({"numPartitions": 10, "replicationFactor": 1}))),
        ""
    );
    for (more, said) in [
        (json!({"topic": ""}), "invalid value: : spec.topic\n"),
        (json!({"topic": "a b"}), "invalid value: a b: spec.topic\n"),
        (json!({"bootstrapServers": []}), "invalid value: []: spec.bootstrapServers"),
        (json!({"bootstrapServers": ["k"]}), "invalid value: k: spec.bootstrapServers[0]\n"),
        (json!({"numPartitions": 0}), "invalid value: 0: spec.numPartitions\n"),
        (json!({"replicationFactor": -1}), "invalid value: -1: spec.replicationFactor\n"),
        (json!({"contentMode": "batch"}), "invalid value: batch: spec.contentMode"),
        (
            json!({"auth": {"secret": {"ref": {"name": ""}}}}),
            "missing field(s): spec.auth.secret.ref.name",
        ),
    ] {
        let text = refused::<KafkaSink>(with(more));
        assert!(text.starts_with(said.trim_end()), "{text}");
    }
}

#[test]
fn the_topic_and_how_it_is_made_do_not_change() {
    let old = sink::<KafkaSink>(with(json!({"numPartitions": 1, "replicationFactor": 1})));
    let new = sink::<KafkaSink>(with(json!({"topic": "u", "bootstrapServers": ["l:1"]})));
    let refused = Kind::validate_update(&new, &old).to_string();
    assert_eq!(
        refused,
        "Immutable field updated: spec.numPartitions, spec.replicationFactor, spec.topic"
    );
    assert_eq!(Kind::validate_update(&old, &old).to_string(), "");
}

#[test]
fn it_needs_the_secret_and_of_it_the_protocol() {
    let about = about();
    assert!(sink::<KafkaSink>(with(json!({}))).spec.needs(&about).is_empty());
    let spec = sink::<KafkaSink>(with(json!({"auth": {"secret": {"ref": {"name": "k"}}}}))).spec;
    let needs = spec.needs(&about);
    assert!(needs.iter().all(|need| need.name == "k"));
    let required: Vec<_> =
        needs.iter().filter(|need| need.necessity == Necessity::Required).collect();
    assert_eq!(required.len(), 1);
    assert_eq!(required[0].key.as_deref(), Some("protocol"));
    assert_eq!(required[0].missing, Some(("TopicReady", "SecretNotFound")));
}

#[cfg(not(feature = "kafka"))]
#[tokio::test]
async fn a_sink_of_a_mesh_that_is_built_without_kafka_says_how_to_build_one_with_it() {
    use crate::given::Given;
    use crate::sinks::{Metrics, Sinks, Wanted};

    let sinks = Sinks::new(1 << 10, Metrics::default());
    let config = sink::<KafkaSink>(with(json!({}))).spec.into();
    let about = std::sync::Arc::new(about());
    sinks.apply(vec![Wanted { about, given: Some(Given::default()), config }]);
    let mut seen = sinks.revision();
    let said = loop {
        let statuses = sinks.statuses();
        if let Some(status) = statuses.values().find(|it| it.state == crate::State::Failed) {
            break format!("{status:?}");
        }
        seen = sinks.changed_since(seen).await;
    };
    assert!(said.contains("NotBuilt") && said.contains("--features kafka"), "{said}");
    sinks.stop().await;
}
