//! What is accepted of a container source, and what is refused with which words.

use std::collections::BTreeMap;

use crds::broker_defaults::BrokerDefaults;
use crds::object::Rules;
use crds::ping_defaults::PingDefaults;
use crds::resource::Catalog;
use crds::source::SourceObject;
use serde_json::{Value, json};

use super::{ContainerSource, is_variable};

fn source(pod: &Value) -> SourceObject<ContainerSource> {
    let mut source: SourceObject<ContainerSource> = serde_json::from_value(json!({
        "metadata": {"name": "s"},
        "spec": {"template": {"spec": pod}, "sink": {"uri": "http://sink.example/"}},
    }))
    .unwrap();
    source.defaults();
    source
}

fn refused(pod: &Value) -> String {
    let defaults = BrokerDefaults::builtin();
    let rules = Rules {
        catalog: Catalog::new(crate::RESOURCES),
        cesql: &|_| Ok(()),
        broker_defaults: &defaults,
        ping_defaults: PingDefaults::default(),
    };
    source(pod).validate(&rules).to_string()
}

/// What is wrong with a container that has these fields beside a name and an image.
fn refused_container(fields: &Value) -> String {
    let mut container = json!({"name": "c", "image": "i"});
    container.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
    refused(&json!({"containers": [container]}))
}

#[test]
fn containers_need_a_name_and_an_image() {
    assert_eq!(refused(&json!({})), "missing field(s): spec.template.spec.containers");
    assert_eq!(
        refused(&json!({"containers": [{}]})),
        "missing field(s): spec.template.spec.containers[0].image, spec.template.spec.containers[0].name"
    );
    assert_eq!(refused(&json!({"containers": [{"name": "a", "image": "i"}]})), "");
    let twice = json!({"containers": [{"name": "a", "image": "i"}, {"name": "a", "image": "j"}]});
    let expected =
        "invalid value: a: spec.template.spec.containers[1].name\nanother container has this name";
    assert_eq!(refused(&twice), expected);
    let many: Vec<_> = (0..17).map(|n| json!({"name": format!("c{n}"), "image": "i"})).collect();
    let expected = "17 are too many: spec.template.spec.containers\nat most 16";
    assert_eq!(refused(&json!({"containers": many})), expected);
}

#[test]
fn processes_need_a_command_and_no_image() {
    let process = |container: Value| {
        refused(&json!({"runtimeClassName": "process", "containers": [container]}))
    };
    assert_eq!(process(json!({"name": "a", "command": ["true"]})), "");
    assert_eq!(process(json!({"name": "a", "image": "i", "command": ["true"]})), "");
    let missing = "missing field(s): spec.template.spec.containers[0].command\n";
    for without in [json!({"name": "a", "args": ["x"]}), json!({"name": "a", "command": [""]})] {
        assert!(process(without.clone()).starts_with(missing), "{without}");
    }
}

#[test]
fn variables_name_one_place_of_their_value() {
    let good = json!({"env": [
        {"name": "A", "value": "$(B)"},
        {"name": "B", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}},
        {"name": "C", "valueFrom": {"configMapKeyRef": {"name": "s", "key": "k", "optional": true}}},
        {"name": "D", "valueFrom": {"fieldRef": {"apiVersion": "v1", "fieldPath": "metadata.namespace"}}},
    ], "envFrom": [{"prefix": "P_", "secretRef": {"name": "s"}}, {"configMapRef": {"name": "m"}}]});
    assert_eq!(refused_container(&good), "");
    let at = "spec.template.spec.containers[0]";
    for (fields, expected) in [
        (json!({"env": [{}]}), format!("missing field(s): {at}.env[0].name")),
        (
            json!({"env": [{"name": "a.b"}]}),
            format!(
                "invalid value: \"a.b\": {at}.env[0].name\nexpected letters, digits and _, and no digit first"
            ),
        ),
        (
            json!({"env": [{"name": "A", "value": "x", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}}]}),
            format!("expected exactly one, got both: {at}.env[0].value, {at}.env[0].valueFrom"),
        ),
        (
            json!({"env": [{"name": "A", "valueFrom": {"secretKeyRef": {"name": "s"}}}]}),
            format!("missing field(s): {at}.env[0].valueFrom.secretKeyRef.key"),
        ),
        (
            json!({"env": [{"name": "A", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}}]}),
            format!(
                "invalid value: \"status.podIP\": {at}.env[0].valueFrom.fieldRef.fieldPath\nexpected metadata.name or metadata.namespace"
            ),
        ),
        (
            json!({"env": [{"name": "A", "valueFrom": {"resourceFieldRef": {"resource": "limits.cpu"}}}]}),
            format!(
                "must not set the field(s): {at}.env[0].valueFrom.resourceFieldRef\nit is known in a cluster only"
            ),
        ),
        (
            json!({"envFrom": [{}]}),
            format!(
                "expected exactly one, got neither: {at}.envFrom[0].configMapRef, {at}.envFrom[0].secretRef"
            ),
        ),
        (
            json!({"envFrom": [{"secretRef": {}}]}),
            format!("missing field(s): {at}.envFrom[0].secretRef.name"),
        ),
        (
            json!({"imagePullPolicy": "Sometimes"}),
            format!(
                "invalid value: Sometimes: {at}.imagePullPolicy\nexpected Always, IfNotPresent or Never"
            ),
        ),
    ] {
        assert_eq!(refused_container(&fields), expected);
    }
}

#[test]
fn what_would_be_missed_is_refused_and_the_rest_is_kept() {
    let volumes = json!({"containers": [{"name": "a", "image": "i"}], "volumes": [{"name": "v"}]});
    let expected =
        "must not set the field(s): spec.template.spec.volumes\nit is done in a cluster only";
    assert_eq!(refused(&volumes), expected);
    let pod = json!({
        "serviceAccountName": "robot",
        "containers": [{"name": "a", "image": "i", "resources": {"limits": {"cpu": 1}}}],
    });
    assert_eq!(refused(&pod), "");
    let kept = serde_json::to_value(source(&pod).spec.template).unwrap();
    assert_eq!(kept, json!({"spec": pod}));
}

#[test]
fn metadata_of_the_template_is_kept() {
    let template = json!({"metadata": {"labels": {"a": "b"}}, "spec": {}});
    let read: super::PodTemplate = serde_json::from_value(template).unwrap();
    assert_eq!(read.rest, BTreeMap::from([("metadata".to_owned(), json!({"labels": {"a": "b"}}))]));
}

#[test]
fn a_variable_has_a_name_that_shells_keep() {
    assert!(is_variable("A") && is_variable("_a1"));
    for bad in ["", "1A", "A-B", "a.b", "Ä", "A=", "A B"] {
        assert!(!is_variable(bad), "{bad}");
    }
}
