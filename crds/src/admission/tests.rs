use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::broker_defaults::BrokerDefaults;
use crate::ping_defaults::PingDefaults;
use crate::resource::definition;
use crate::source::tests::CATALOG;

fn of_kind(group: &str, kind: &str) -> Option<&'static Resource> {
    CATALOG.of_kind(group, kind)
}

#[expect(clippy::needless_pass_by_value, reason = "json! makes values")]
fn decide(object: Value, operation: Operation<'_>) -> Result<Admitted, Refused> {
    let api_version = object["apiVersion"].as_str().unwrap();
    let group = api_version.split_once('/').map_or("", |(group, _)| group);
    let resource = of_kind(group, object["kind"].as_str().unwrap()).unwrap();
    let defaults = BrokerDefaults::builtin();
    let rules = Rules {
        catalog: CATALOG,
        cesql: &|_| Ok(()),
        broker_defaults: &defaults,
        ping_defaults: PingDefaults::default(),
    };
    admit(resource, object.clone(), operation, &rules)
}

fn trigger() -> Value {
    json!({
        "apiVersion": "eventing.knative.dev/v1", "kind": "Trigger",
        "metadata": {"name": "t", "namespace": "n"},
        "spec": {"broker": "b", "subscriber": {"uri": "http://s/"}},
    })
}

/// A good object of each kind, without what is filled in.
fn good(resource: &Resource) -> Value {
    let mut object = match resource.kind {
        "CustomResourceDefinition" => definition(CATALOG.iter().next().unwrap()),
        "Trigger" => trigger(),
        "TickSource" => json!({"spec": {"sink": {"uri": "http://s/"}}}),
        "SinkBinding" => json!({"spec": {
            "subject": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "d"},
            "sink": {"uri": "http://s/"},
        }}),
        "Event" => json!({"involvedObject": {"namespace": "n", "name": "x"}}),
        _ => json!({}),
    };
    object["apiVersion"] = resource.api_version(resource.versions[0].name).into();
    object["kind"] = resource.kind.into();
    if resource.kind != "CustomResourceDefinition" {
        object["metadata"] = json!({"name": "x"});
    }
    if resource.namespaced {
        object["metadata"]["namespace"] = "n".into();
    }
    object
}

#[test]
fn every_kind_is_admitted_and_once_defaulted_not_changed_again() {
    for resource in CATALOG.iter() {
        let object = good(resource);
        let once = decide(object, Operation::Create).expect(resource.kind);
        assert!(once.unknown.is_empty(), "{}: {:?}", resource.kind, once.unknown);
        let twice = decide(once.object.clone(), Operation::Update { old: &once.object });
        assert_eq!(twice.expect(resource.kind).object, once.object);
    }
}

#[test]
fn unknown_fields_are_told_and_left_out() {
    let mut object = trigger();
    object["spec"]["subscribr"] = json!({"uri": "http://s/"});
    object["metadata"]["lables"] = json!({});
    object["spek"] = json!(1);
    let unknown =
        unknown_fields(of_kind("eventing.knative.dev", "Trigger").unwrap(), &object).unwrap();
    let admitted = decide(object, Operation::Create).unwrap();
    let expected = [
        "unknown field \"metadata.lables\"",
        "unknown field \"spec.subscribr\"",
        "unknown field \"spek\"",
    ];
    assert_eq!(admitted.unknown, expected);
    assert_eq!(unknown, expected);
    assert!(admitted.object.get("spek").is_none());
    assert!(admitted.object.pointer("/spec/subscribr").is_none());
}

#[test]
fn what_a_server_writes_passes_through_as_it_is() {
    let mut object = trigger();
    let written = json!({
        "uid": "u", "resourceVersion": "7", "generation": 3, "creationTimestamp": "2026-01-01T00:00:00Z",
        "managedFields": [{"manager": "kubectl", "fieldsV1": {"f:spec": {".": {}, "f:broker": {}}}, "time": null}],
    });
    for (field, value) in written.as_object().unwrap() {
        object["metadata"][field] = value.clone();
    }
    let status = json!({"conditions": [{"type": "Ready", "status": "True", "later": [null, 1]}], "newer": {"a": null}});
    object["status"] = status.clone();
    let admitted = decide(object, Operation::Create).unwrap();
    assert!(admitted.unknown.is_empty(), "{:?}", admitted.unknown);
    assert_eq!(admitted.object["status"], status);
    for (field, value) in written.as_object().unwrap() {
        assert_eq!(&admitted.object["metadata"][field], value, "{field}");
    }
    assert_eq!(admitted.object["metadata"]["labels"], json!({"eventing.knative.dev/broker": "b"}));
    assert_eq!(admitted.object["spec"]["filter"], json!({}));
}

#[test]
fn a_value_of_a_wrong_type_and_a_broken_rule_are_refused_differently() {
    let mut object = trigger();
    object["spec"]["broker"] = json!(1);
    object["spec"]["filters"] = json!({});
    let refused = decide(object, Operation::Create).unwrap_err();
    assert!(matches!(&refused, Refused::Decode(DecodeError::Several(both)) if both.len() == 2));
    assert!(!refused.is_retryable());
    let mut object = trigger();
    object["spec"]["broker"] = json!("");
    let refused = decide(object, Operation::Create).unwrap_err();
    assert_eq!(refused.to_string(), "missing field(s): spec.broker");
}

#[test]
fn what_cannot_change_is_compared_with_what_is_replaced() {
    let old = decide(trigger(), Operation::Create).unwrap().object;
    let mut new = old.clone();
    new["spec"]["broker"] = json!("other");
    let refused = decide(new, Operation::Update { old: &old }).unwrap_err().to_string();
    assert!(
        refused.starts_with("Immutable fields changed (-old +new): broker, spec\n"),
        "{refused}"
    );
}

#[test]
fn an_object_that_is_being_deleted_can_be_let_go() {
    let mut old = trigger();
    old["metadata"]["finalizers"] = json!(["example.com/a"]);
    old["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
    // As an older program may have let it in.
    old["spec"] = json!({"broker": "b"});
    let mut new = old.clone();
    new["metadata"].as_object_mut().unwrap().remove("finalizers");
    let admitted = decide(new.clone(), Operation::Update { old: &old }).unwrap();
    assert!(admitted.object["metadata"].get("finalizers").is_none());
    assert_eq!(admitted.object["metadata"]["deletionTimestamp"], "2026-01-01T00:00:00Z");
    assert!(decide(new, Operation::Create).is_err(), "only the server says that it is");
}

#[test]
fn an_object_of_another_kind_or_version_is_refused() {
    for (field, value) in [("kind", "Broker"), ("apiVersion", "eventing.knative.dev/v1beta1")] {
        let mut object = trigger();
        object[field] = json!(value);
        let resource = of_kind("eventing.knative.dev", "Trigger").unwrap();
        let defaults = BrokerDefaults::builtin();
        let rules = Rules {
            catalog: CATALOG,
            cesql: &|_| Ok(()),
            broker_defaults: &defaults,
            ping_defaults: PingDefaults::default(),
        };
        for object in [object, json!([]), json!(null), json!({})] {
            let refused = admit(resource, object, Operation::Create, &rules).unwrap_err();
            assert!(
                matches!(refused, Refused::Decode(DecodeError::Unsupported { .. })),
                "{refused}"
            );
        }
    }
}

#[test]
fn the_versions_of_a_kind_have_one_shape() {
    let source = |version: &str| {
        let mut object = json!({
            "kind": "TickSource", "metadata": {"name": "t", "namespace": "n"},
            "spec": {"data": "x", "sink": {"uri": "http://s/"}},
        });
        object["apiVersion"] = format!("sources.knative.dev/{version}").into();
        decide(object, Operation::Create).unwrap().object
    };
    let resource = of_kind("sources.knative.dev", "TickSource").unwrap();
    let mut converted = source("v1beta1");
    assert_eq!(converted["apiVersion"], "sources.knative.dev/v1beta1");
    resource.convert(&mut converted, "v1");
    assert_eq!(converted, source("v1"));
}

/// Any JSON, with names that the kinds know now and then.
fn anything() -> impl Strategy<Value = Value> {
    const NAMES: [&str; 16] = [
        "broker",
        "subscriber",
        "ref",
        "uri",
        "delivery",
        "filters",
        "all",
        "not",
        "exact",
        "data",
        "labels",
        "name",
        "namespace",
        "sink",
        "annotations",
        "involvedObject",
    ];
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        "[ -~]{0,8}".prop_map(Value::from),
    ];
    let key =
        prop_oneof![prop::sample::select(&NAMES[..]).prop_map(str::to_owned), "[a-z./-]{0,4}"];
    leaf.prop_recursive(5, 32, 4, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..3).prop_map(Value::from),
            prop::collection::btree_map(key.clone(), inner, 0..5)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

proptest! {
    /// Whatever a client sends is refused or kept, and what was kept can be written again as it is.
    #[test]
    fn hostile_objects_are_refused_or_kept(
        index in 0..CATALOG.iter().count(),
        field in prop::sample::select(&["spec", "metadata", "data", "status", "involvedObject", "other"][..]),
        value in anything(),
        replace in any::<bool>(),
    ) {
        let good = good(CATALOG.iter().nth(index).unwrap());
        let mut object = good.clone();
        match (&mut object[field], value) {
            (Value::Object(known), Value::Object(new)) if !replace => known.extend(new),
            (place, value) => *place = value,
        }
        if let Ok(admitted) = decide(object, Operation::Create) {
            prop_assert!(admitted.object["metadata"].is_object());
            let again = decide(admitted.object.clone(), Operation::Update { old: &admitted.object });
            prop_assert_eq!(again.map(|again| again.object), Ok(admitted.object));
        }
    }
}
