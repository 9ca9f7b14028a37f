//! API server sources: what is filled in, and what is refused with which words.

use crds::broker_defaults::BrokerDefaults;
use crds::ping_defaults::PingDefaults;
use crds::resource::Catalog;
use crds::source::SourceObject;
use serde_json::{Value, json};

use super::*;

type Object = SourceObject<ApiServerSource>;

fn source(extra: &Value) -> Object {
    let mut spec = json!({
        "resources": [{"apiVersion": "v1", "kind": "Event"}],
        "sink": {"uri": "http://sink/"},
    });
    for (field, value) in extra.as_object().unwrap() {
        spec[field] = value.clone();
    }
    let object = json!({"metadata": {"name": "a", "namespace": "shop"}, "spec": spec});
    let mut source: Object = serde_json::from_value(object).unwrap();
    source.defaults();
    source
}

fn refused(source: &Object) -> String {
    let rules = Rules {
        catalog: Catalog::BUILTIN,
        cesql: &|_| Ok(()),
        broker_defaults: &BrokerDefaults::builtin(),
        ping_defaults: PingDefaults::default(),
    };
    source.validate(&rules).to_string()
}

fn refusal(extra: &Value) -> String {
    refused(&source(extra))
}

#[test]
fn what_is_left_out_is_knatives() {
    let Object { spec, .. } = source(&json!({}));
    assert_eq!(spec.mode, "Reference");
    assert_eq!(spec.service_account_name, "default");
    assert_eq!(spec.namespace_selector, None);
    assert_eq!(refusal(&json!({})), "");
}

#[test]
fn fields_are_written_as_knatives_are() {
    let written = json!({
        "resources": [
            {"apiVersion": "v1", "kind": "Pod", "selector": {"matchLabels": {"app": "shop"}}},
            {"apiVersion": "apps/v1", "kind": "Deployment", "selector": {
                "matchExpressions": [{"key": "a", "operator": "In", "values": ["b"]}]}},
        ],
        "mode": "Resource",
        "owner": {"apiVersion": "apps/v1", "kind": "ReplicaSet"},
        "serviceAccountName": "watcher",
        "namespaceSelector": {},
        "filters": [{"exact": {"type": "dev.knative.apiserver.resource.add"}}],
        "sink": {"uri": "http://sink/"},
    });
    let source = source(&written);
    assert_eq!(refused(&source), "");
    assert_eq!(serde_json::to_value(&source.spec).unwrap(), written);
}

#[test]
fn refusals_name_the_field() {
    let cases = [
        (json!({"mode": "Full"}), "invalid value: Full: spec.mode"),
        (json!({"resources": []}), "missing field(s): spec.resources"),
        (
            json!({"resources": [{"apiVersion": "a/b/c", "kind": "X"}]}),
            "invalid value: a/b/c: spec.resources[0].apiVersion",
        ),
        (
            json!({"resources": [{"apiVersion": "../v1", "kind": "X"}]}),
            "invalid value: ../v1: spec.resources[0].apiVersion",
        ),
        (
            json!({"resources": [{"kind": "X"}, {"apiVersion": "v1"}]}),
            "missing field(s): spec.resources[0].apiVersion, spec.resources[1].kind",
        ),
        (json!({"owner": {"apiVersion": "v1"}}), "missing field(s): spec.owner.kind"),
    ];
    for (extra, words) in cases {
        assert_eq!(refusal(&extra), words);
    }
    let cases = [
        (json!({"serviceAccountName": "a:b"}), "invalid value: a:b: spec.serviceAccountName\n"),
        (
            json!({"namespaceSelector": {"matchLabels": {"a": "b c"}}}),
            "invalid value: b c: spec.namespaceSelector.matchLabels[a]\n",
        ),
        (
            json!({"resources": [{"apiVersion": "v1", "kind": "Pod", "selector": {
                "matchExpressions": [{"key": "a", "operator": "Like"}]}}]}),
            "invalid value: Like: spec.resources[0].selector.matchExpressions[0].operator\n",
        ),
        (json!({"filters": [{}]}), "filter is empty: spec.filters[0]\n"),
        (
            json!({"resources": vec![json!({"apiVersion": "v1", "kind": "Pod"}); 65]}),
            "65 are too many: spec.resources\n",
        ),
    ];
    for (extra, words) in cases {
        let refused = refusal(&extra);
        assert!(refused.starts_with(words), "{refused}");
    }
}

#[test]
fn it_starts_with_what_is_there_or_now() {
    for (text, good) in [("now", true), ("earliest", true), ("2026-01-01T00:00:00Z", false)] {
        let mut source = source(&json!({}));
        source.metadata.annotations.insert(annotation::START.to_owned(), text.to_owned());
        assert_eq!(refused(&source).is_empty(), good, "{text}");
    }
}
