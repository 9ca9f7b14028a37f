//! Reading objects: what they are, and what is refused before validation.

use serde_json::json;

use super::*;
use crate::broker::Broker;
use crate::source::tests::CATALOG;
use crate::trigger::Trigger;

fn read(value: &Value) -> Result<Object, DecodeError> {
    Object::from_value(value, CATALOG)
}

#[expect(clippy::needless_pass_by_value, reason = "json! makes values")]
fn refusal(value: Value) -> String {
    read(&value).unwrap_err().to_string()
}

#[expect(clippy::needless_pass_by_value, reason = "json! makes values")]
fn trigger(spec: Value) -> Value {
    json!({"apiVersion": "eventing.knative.dev/v1", "kind": "Trigger", "metadata": {"name": "t"}, "spec": spec})
}

#[test]
fn every_supported_kind_is_read_as_what_it_is() {
    let supported = CATALOG.supports_what();
    assert_eq!(supported.len(), 8, "{supported:?}");
    for (api_version, kind) in supported {
        let value = json!({"apiVersion": api_version, "kind": kind, "metadata": {"name": "x", "namespace": "n"}});
        let object = read(&value).unwrap();
        assert_eq!(object.resource().kind, kind);
        assert_eq!(object.key().to_string(), format!("{kind} n/x"));
        assert_eq!(object.downcast_ref::<Broker>().is_some(), kind == "Broker");
        if let Some(broker) = object.downcast_ref::<Broker>() {
            let written = serde_json::to_value(broker).unwrap();
            assert_eq!(written["apiVersion"], api_version);
            assert_eq!(read(&written).unwrap().downcast_ref::<Broker>(), Some(broker));
        }
    }
}

#[test]
fn what_only_programs_make_is_no_kind_of_a_file() {
    for (api_version, kind) in [
        ("v1", "Event"),
        ("v1", "ServiceAccount"),
        ("coordination.k8s.io/v1", "Lease"),
        ("apiextensions.k8s.io/v1", "CustomResourceDefinition"),
    ] {
        let refused = refusal(json!({"apiVersion": api_version, "kind": kind}));
        assert!(refused.starts_with(&format!("no kind {kind:?} in version ")), "{refused}");
    }
}

#[test]
fn unknown_kinds_and_versions_are_refused_with_what_is_supported() {
    let kind = refusal(json!({"apiVersion": "apps/v1", "kind": "Deployment"}));
    let start = "no kind \"Deployment\" in version \"apps/v1\" is known; supported are Broker (eventing.knative.dev/v1), ";
    assert!(kind.starts_with(start), "{kind}");
    let version = refusal(json!({"apiVersion": "eventing.knative.dev/v1beta1", "kind": "Broker"}));
    assert_eq!(
        version,
        "Broker has no version \"eventing.knative.dev/v1beta1\"; supported is eventing.knative.dev/v1"
    );
    let source = json!({"apiVersion": "sources.knative.dev/v2", "kind": "TickSource"});
    assert_eq!(
        refusal(source),
        "TickSource has no version \"sources.knative.dev/v2\"; supported is sources.knative.dev/v1 and \
         sources.knative.dev/v1beta1"
    );
    assert_eq!(refusal(json!({"kind": "Broker"})), "apiVersion is missing");
    assert_eq!(refusal(json!({"apiVersion": "v1", "kind": null})), "kind is missing");
    assert_eq!(
        refusal(json!({"apiVersion": 1, "kind": "Broker"})),
        "apiVersion: must be a string, not a number; quote it"
    );
    assert_eq!(refusal(json!([])), ": must be a mapping, not a list");
}

#[test]
fn all_unknown_fields_are_named_as_kubernetes_names_them() {
    let refused = refusal(trigger(
        json!({"brokr": "b", "filters": [{"not": {"regex": {}}}], "subscriber": {"url": "x"}}),
    ));
    let expected = "Trigger in version \"v1\" cannot be handled as a Trigger: strict decoding error: \
        unknown field \"spec.brokr\", unknown field \"spec.filters[0].not.regex\", unknown field \"spec.subscriber.url\"";
    assert_eq!(refused, expected);
}

#[test]
fn types_are_checked_and_named() {
    let cases = [
        (json!({"broker": 1}), "spec.broker: must be a string, not a number; quote it"),
        (json!({"broker": true}), "spec.broker: must be a string, not true or false; quote it"),
        (json!({"broker": {}}), "spec.broker: must be a string, not a mapping"),
        (json!({"filters": {}}), "spec.filters: must be a list, not a mapping"),
        (json!({"filters": [1]}), "spec.filters[0]: must be a mapping, not a number"),
        (
            json!({"filters": [{"exact": {"type": 5}}]}),
            "spec.filters[0].exact[type]: must be a string, not a number; quote it",
        ),
        (
            json!({"delivery": {"retry": "3"}}),
            "spec.delivery.retry: must be a whole number, not a string",
        ),
        (
            json!({"delivery": {"retry": 3_000_000_000_u32}}),
            "spec.delivery.retry: must be a whole number that is not as large",
        ),
        (json!(["b"]), "spec: must be a mapping, not a list"),
        (json!({"subscriber": []}), "spec.subscriber: must be a mapping, not a list"),
        (
            json!({"filters": [{"exact": ["type"]}]}),
            "spec.filters[0].exact: must be a mapping, not a list",
        ),
        (json!("x"), "spec: must be a mapping, not a string"),
    ];
    for (spec, expected) in cases {
        assert_eq!(refusal(trigger(spec)), expected);
    }
    let secret = json!({"apiVersion": "v1", "kind": "Secret", "stringData": {"token": 12345}});
    assert_eq!(refusal(secret), "stringData[token]: must be a string, not a number; quote it");
}

#[test]
fn null_means_absent_and_an_unknown_status_is_tolerated() {
    let mut value = trigger(
        json!({"broker": "b", "filter": null, "delivery": null, "subscriber": {"uri": "http://s/", "ref": null}}),
    );
    value["metadata"]["labels"] = Value::Null;
    value["status"] = json!({"conditions": [], "newer": {"field": 1}});
    let object = read(&value).unwrap();
    let trigger = object.downcast_ref::<Trigger>().expect("a Trigger");
    assert_eq!(trigger.spec.filter, None);
    assert_eq!(trigger.status.as_ref().unwrap().facts["newer"], json!({"field": 1}));
}

#[test]
fn a_status_of_a_wrong_type_is_named() {
    let mut value = trigger(json!({"broker": "b"}));
    value["status"] =
        json!({"conditions": [{"status": "Perhaps"}], "subscriberUri": 5, "newer": 1});
    let expected = "status.conditions[0].status: must be a mapping, not a string\n\
        status.subscriberUri: must be a string, not a number; quote it";
    assert_eq!(refusal(value), expected);
}
