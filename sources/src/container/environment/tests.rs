//! What a container's environment becomes of its spec.

use serde_json::{Value, json};

use super::{Variables, expand, needs, variables};
use crate::container::ContainerSource;
use crate::given::{Given, Need, Origin};
use crate::secret::Secret;
use crate::source::fake::about;

fn source(container: &Value) -> ContainerSource {
    serde_json::from_value(json!({"template": {"spec": {"containers": [container]}}})).unwrap()
}

fn ours() -> Variables {
    [("K_SINK", "http://sink.example/"), ("K_CE_OVERRIDES", "")]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .into()
}

#[test]
fn what_is_needed_is_named_by_its_field() {
    let source = source(&json!({
        "env": [
            {"name": "PLAIN", "value": "x"},
            {"name": "TOKEN", "valueFrom": {"secretKeyRef": {"name": "s", "key": "token"}}},
            {"name": "MODE", "valueFrom": {"configMapKeyRef": {"name": "m", "key": "mode", "optional": true}}},
            {"name": "ME", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
        ],
        "envFrom": [{"secretRef": {"name": "all"}}],
    }));
    let at = |rest: &str| format!("template.spec.containers[0].{rest}");
    assert_eq!(
        needs(&source),
        [
            Need::all_keys(at("envFrom[0]"), Origin::Secret, "all"),
            Need::secret(at("env[1].valueFrom"), "s", "token"),
            Need::config_map(at("env[2].valueFrom"), "m", "mode").optional(),
        ]
    );
}

#[test]
fn variables_win_over_whole_secrets_and_nothing_over_the_contract() {
    let source = source(&json!({
        "env": [
            {"name": "A", "value": "again $(A), $(P_B), $(NONE)"},
            {"name": "TOKEN", "valueFrom": {"secretKeyRef": {"name": "s", "key": "token"}}},
            {"name": "ABSENT", "valueFrom": {"secretKeyRef": {"name": "s", "key": "x", "optional": true}}},
            {"name": "ME", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
            {"name": "HERE", "valueFrom": {"fieldRef": {"fieldPath": "metadata.namespace"}}},
            {"name": "K_SINK", "value": "http://elsewhere.example/"},
            {"name": "TO", "value": "$(K_SINK)"},
        ],
        "envFrom": [{"secretRef": {"name": "all"}}, {"prefix": "P_", "configMapRef": {"name": "m"}}],
    }));
    let at = |rest: &str| format!("template.spec.containers[0].{rest}");
    let given: Given = [
        (at("envFrom[0]/A"), "all"),
        (at("envFrom[0]/K_CA_CERTS"), "forged"),
        (at("envFrom[0]/no.name"), "dropped"),
        (at("envFrom[1]/B"), "map"),
        (at("env[1].valueFrom"), "secret"),
    ]
    .into_iter()
    .map(|(field, value)| (field, Secret::new(value)))
    .collect();
    let container = &source.template.spec.containers[0];
    let found = variables((0, container), &about(), &given, ours());
    let found: Vec<_> = found.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    assert_eq!(
        found,
        [
            ("A", "again all, map, $(NONE)"),
            ("HERE", "default"),
            ("K_CE_OVERRIDES", ""),
            ("K_SINK", "http://sink.example/"),
            ("ME", "one"),
            ("P_B", "map"),
            ("TO", "http://sink.example/"),
            ("TOKEN", "secret"),
        ]
    );
}

#[test]
fn references_are_replaced_as_in_kubernetes() {
    let variables = Variables::from([("A".to_owned(), "1".to_owned())]);
    for (text, expected) in [
        ("", ""),
        ("$(A)$(A)", "11"),
        ("$$(A)", "$(A)"),
        ("$$$(A)", "$1"),
        ("$(B) $(A", "$(B) $(A"),
        ("$A ${A} $", "$A ${A} $"),
        ("ä$(A)ö", "ä1ö"),
    ] {
        assert_eq!(expand(text, &variables), expected, "{text}");
    }
}
