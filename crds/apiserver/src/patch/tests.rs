use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

fn refused(object: &Value, patch: &Value) -> PatchError {
    json(object, patch).expect_err("the patch should be refused")
}

#[test]
fn a_json_patch_runs_its_operations_in_order() {
    let object = json!({"metadata": {"labels": {"a/b": "1"}}, "spec": {"list": [1, 3]}});
    let patch = json!([
        {"op": "test", "path": "/metadata/labels/a~1b", "value": "1"},
        {"op": "add", "path": "/spec/list/1", "value": 2},
        {"op": "add", "path": "/spec/list/-", "value": 4},
        {"op": "remove", "path": "/spec/list/0"},
        {"op": "replace", "path": "/metadata/labels/a~1b", "value": "2"},
        {"op": "copy", "from": "/spec/list", "path": "/spec/copied"},
        {"op": "move", "from": "/spec/copied/0", "path": "/spec/first"},
    ]);
    let expected = json!({
        "metadata": {"labels": {"a/b": "2"}},
        "spec": {"list": [2, 3, 4], "copied": [3, 4], "first": 2},
    });
    assert_eq!(json(&object, &patch), Ok(expected));
}

#[test]
fn what_is_no_json_patch_is_invalid() {
    for patch in [
        json!({"op": "remove", "path": "/a"}),
        json!([{"op": "explode", "path": "/a"}]),
        json!([{"op": "add", "path": "/a"}]),
        json!([{"op": "remove", "path": "a"}]),
        json!(["remove"]),
    ] {
        assert!(matches!(refused(&json!({}), &patch), PatchError::Invalid(_)), "{patch}");
    }
}

#[test]
fn a_json_patch_that_does_not_fit_says_which_operation() {
    let patch = json!([
        {"op": "test", "path": "/a", "value": 1},
        {"op": "test", "path": "/a", "value": 2},
    ]);
    let PatchError::Unprocessable(message) = refused(&json!({"a": 1}), &patch) else {
        panic!("a failed test is unprocessable");
    };
    assert!(message.starts_with("operation 1 of the JSON patch, at \"/a\": "), "{message}");
    for patch in [
        json!([{"op": "remove", "path": "/b"}]),
        json!([{"op": "replace", "path": "/b", "value": 1}]),
        json!([{"op": "add", "path": "/b/c", "value": 1}]),
        json!([{"op": "copy", "from": "/b", "path": "/c"}]),
        json!([{"op": "move", "from": "/a", "path": "/a/b"}]),
        json!([{"op": "remove", "path": ""}]),
    ] {
        assert!(
            matches!(refused(&json!({"a": {}}), &patch), PatchError::Unprocessable(_)),
            "{patch}"
        );
    }
}

#[test]
fn too_many_operations_are_refused() {
    let operation = json!({"op": "test", "path": "/a", "value": 1});
    let object = json!({"a": 1});
    assert_eq!(json(&object, &Value::Array(vec![operation.clone(); 10_000])), Ok(object.clone()));
    assert_eq!(refused(&object, &Value::Array(vec![operation; 10_001])), PatchError::TooLarge);
}

#[test]
fn copies_cannot_multiply_an_object() {
    let object = json!({"a": ["x".repeat(1000)]});
    let copy = json!({"op": "copy", "from": "/a", "path": "/a/-"});
    assert!(matches!(
        refused(&object, &Value::Array(vec![copy; 60])),
        PatchError::TooLarge | PatchError::Invalid(_)
    ));
    let wide = json!({"op": "copy", "from": "/a/0", "path": "/a/-"});
    assert_eq!(refused(&object, &Value::Array(vec![wide; 10_000])), PatchError::TooLarge);
}

#[test]
fn an_object_cannot_be_nested_into_itself_without_end() {
    let deeper = json!({"op": "copy", "from": "/a", "path": "/a/a"});
    let error = refused(&json!({"a": {}}), &Value::Array(vec![deeper; 200]));
    assert!(matches!(error, PatchError::Invalid(_)), "{error:?}");
    let path = "/a".repeat(99);
    let object = (0..99).fold(json!({}), |inner, _| json!({"a": inner}));
    let add = |value| json!([{"op": "add", "path": format!("{path}/b"), "value": value}]);
    assert!(json(&object, &add(json!(1))).is_ok());
    assert!(matches!(refused(&object, &add(json!([[1]]))), PatchError::Invalid(_)));
}

#[test]
fn shifting_a_huge_array_again_and_again_is_refused() {
    let object = json!({"a": vec![0; 500_000]});
    let insert = json!({"op": "add", "path": "/a/0", "value": 1});
    assert_eq!(refused(&object, &Value::Array(vec![insert; 10_000])), PatchError::TooLarge);
}

#[test]
fn an_object_that_grew_too_large_is_refused() {
    let half = "x".repeat(2 * 1024 * 1024);
    let patch = json!([{"op": "add", "path": "/b", "value": half}]);
    assert_eq!(refused(&json!({"a": half}), &patch), PatchError::TooLarge);
}

#[test]
fn a_merge_patch_merges_objects_and_removes_by_null() {
    let object = json!({"a": {"b": 1, "c": 2}, "list": [1, 2], "d": 1});
    let patch = json!({"a": {"b": null, "e": {"f": null, "g": 1}}, "list": [3], "d": {"h": 1}});
    let expected = json!({"a": {"c": 2, "e": {"g": 1}}, "list": [3], "d": {"h": 1}});
    assert_eq!(merge(&object, &patch), expected);
    assert_eq!(merge(&object, &json!("text")), json!("text"));
}

#[test]
fn conflicts_are_printed_as_kubernetes_prints_them() {
    let conflict =
        |owner: &str, field: &str| FieldConflict { owner: owner.into(), field: field.into() };
    let one = conflict("\"kubectl\" using v1", ".spec.broker");
    assert_eq!(one.message(), "conflict with \"kubectl\" using v1");
    assert_eq!(
        PatchError::Conflict(vec![one.clone()]).to_string(),
        "Apply failed with 1 conflict: conflict with \"kubectl\" using v1: .spec.broker"
    );
    let more = vec![one, conflict("\"a\"", ".spec.x"), conflict("\"a\"", ".spec.y")];
    assert_eq!(
        PatchError::Conflict(more).to_string(),
        "Apply failed with 3 conflicts: conflicts with \"a\":\n- .spec.x\n- .spec.y\n\
         conflicts with \"kubectl\" using v1:\n- .spec.broker"
    );
}

fn values() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        (-2_i64..3).prop_map(Value::from),
        "[a-c]{0,2}".prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 24, 4, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            proptest::collection::btree_map("[a-c]", inner, 0..4)
                .prop_map(|fields| fields.into_iter().collect()),
        ]
    })
}

fn without_null(value: &Value) -> Value {
    match value {
        Value::Object(fields) => fields
            .iter()
            .filter(|(_, value)| !value.is_null())
            .map(|(name, value)| (name.clone(), without_null(value)))
            .collect(),
        other => other.clone(),
    }
}

fn operations() -> impl Strategy<Value = Value> {
    let path = "(/([a-c]|-|0|1)){0,3}";
    let operation = (
        prop_oneof!["add", "remove", "replace", "move", "copy", "test"],
        path,
        path,
        values(),
    )
        .prop_map(
            |(op, path, from, value)| json!({"op": op, "path": path, "from": from, "value": value}),
        );
    proptest::collection::vec(operation, 0..6).prop_map(Value::from)
}

proptest! {
    #[test]
    fn merging_twice_is_merging_once(object in values(), patch in values()) {
        let once = merge(&object, &patch);
        prop_assert_eq!(merge(&once, &patch), once);
    }

    #[test]
    fn an_empty_object_merges_to_nothing_and_takes_everything(object in values(), patch in values()) {
        if object.is_object() {
            prop_assert_eq!(merge(&object, &json!({})), object);
        }
        prop_assert_eq!(merge(&json!({}), &patch), without_null(&patch));
    }

    #[test]
    fn no_json_patch_panics(object in values(), patch in operations()) {
        if let Ok(patched) = json(&object, &patch) {
            prop_assert!(patched.to_string().len() < 3 * 1024 * 1024);
        }
    }

    #[test]
    fn what_is_no_patch_at_all_is_refused_or_empty(object in values(), patch in values()) {
        let patched = json(&object, &patch);
        prop_assert!(patched.is_err() || patched == Ok(object));
    }
}
