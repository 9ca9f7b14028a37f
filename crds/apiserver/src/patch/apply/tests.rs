use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

const V1: &str = "test.dev/v1";
const T1: &str = "2026-01-01T00:00:00Z";
const T2: &str = "2026-01-02T00:00:00Z";

/// Atomic, set and keyed lists, maps of both types, free-form and typed fields.
fn schema() -> Value {
    let text = json!({"type": "string"});
    json!({"type": "object", "properties": {
        "apiVersion": text,
        "kind": text,
        "metadata": {"type": "object"},
        "spec": {"type": "object", "properties": {
            "name": text,
            "count": {"type": "integer"},
            "list": {"type": "array", "items": text},
            "set": {"type": "array", "items": text, "x-kubernetes-list-type": "set"},
            "keyed": {
                "type": "array",
                "x-kubernetes-list-type": "map",
                "x-kubernetes-list-map-keys": ["port", "protocol"],
                "items": {"type": "object", "properties": {
                    "port": {"type": "integer"},
                    "protocol": {"type": "string", "default": "TCP"},
                    "name": text,
                    "note": text,
                }},
            },
            "map": {"type": "object", "additionalProperties": text},
            "whole": {"type": "object", "x-kubernetes-map-type": "atomic", "additionalProperties": text},
            "free": {"type": "object", "x-kubernetes-preserve-unknown-fields": true},
            "any": {"x-kubernetes-int-or-string": true},
            "ref": {"type": "object", "properties": {"name": text, "kind": text}},
        }},
        "status": {"type": "object", "properties": {
            "phase": text,
            "url": text,
        }},
    }})
}

#[expect(clippy::needless_pass_by_value, reason = "it is given what `json!` made")]
fn object(spec: Value) -> Value {
    json!({"apiVersion": V1, "kind": "Test", "metadata": {"name": "t", "namespace": "n"}, "spec": spec})
}

fn writer<'a>(manager: &'a str, now: &'a str) -> Writer<'a> {
    Writer { manager, api_version: V1, subresource: "", now }
}

fn applied(live: Option<&Value>, manager: &str, spec: Value) -> Value {
    apply(live, &object(spec), &writer(manager, T1), false, &schema())
        .unwrap_or_else(|error| panic!("{error}"))
}

fn forced(live: &Value, manager: &str, spec: Value) -> Value {
    apply(Some(live), &object(spec), &writer(manager, T2), true, &schema()).unwrap()
}

fn conflicts(live: &Value, manager: &str, spec: Value) -> Vec<(String, String)> {
    match apply(Some(live), &object(spec), &writer(manager, T2), false, &schema()) {
        Err(PatchError::Conflict(conflicts)) => {
            conflicts.into_iter().map(|one| (one.owner, one.field)).collect()
        }
        other => panic!("no conflict: {other:?}"),
    }
}

fn invalid(applied: &Value) -> String {
    match apply(None, applied, &writer("m", T1), false, &schema()) {
        Err(PatchError::Invalid(message)) => message,
        other => panic!("not invalid: {other:?}"),
    }
}

fn created(manager: &str, spec: Value) -> Value {
    let mut new = object(spec);
    track(None, &mut new, &writer(manager, T1), &schema());
    new
}

fn updated(old: &Value, manager: &str, now: &str, spec: Value) -> Value {
    let mut new = old.clone();
    new["spec"] = spec;
    track(Some(old), &mut new, &writer(manager, now), &schema());
    new
}

/// The fields of a manager's entry.
fn fields(object: &Value, manager: &str) -> Value {
    let entries = object["metadata"]["managedFields"].as_array().unwrap();
    let entry = entries.iter().find(|entry| entry["manager"] == manager);
    entry.map_or(Value::Null, |entry| entry["fieldsV1"].clone())
}

fn times(object: &Value) -> Vec<(String, String)> {
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let entries = object["metadata"]["managedFields"].as_array().unwrap();
    entries.iter().map(|entry| (text(&entry["manager"]), text(&entry["time"]))).collect()
}

#[test]
fn applying_makes_the_object_and_notes_its_fields() {
    let new = applied(
        None,
        "kubectl",
        json!({
            "name": "a",
            "list": ["x"],
            "set": ["x", "y"],
            "keyed": [{"port": 80, "name": "web"}],
            "map": {"k": "v"},
            "whole": {"k": "v"},
            "free": {"deep": {"list": [1]}},
            "any": 5,
        }),
    );
    assert_eq!(
        new["metadata"]["managedFields"],
        json!([{
            "manager": "kubectl",
            "operation": "Apply",
            "apiVersion": V1,
            "time": T1,
            "fieldsType": "FieldsV1",
            "fieldsV1": {"f:spec": {
                "f:name": {},
                "f:list": {},
                "f:set": {"v:\"x\"": {}, "v:\"y\"": {}},
                "f:keyed": {"k:{\"port\":80,\"protocol\":\"TCP\"}": {".": {}, "f:port": {}, "f:name": {}}},
                "f:map": {"f:k": {}},
                "f:whole": {},
                "f:free": {"f:deep": {".": {}, "f:list": {}}},
                "f:any": {},
            }},
        }])
    );
    assert_eq!(new["spec"]["name"], "a");
}

#[test]
fn metadata_is_owned_as_far_as_it_is_the_clients() {
    let config = json!({
        "apiVersion": V1, "kind": "Test",
        "metadata": {
            "name": "t", "namespace": "n", "creationTimestamp": null,
            "labels": {"app": "shop"},
            "annotations": {"kubectl.kubernetes.io/last-applied-configuration": "{}"},
            "finalizers": ["weft.dev/f"],
            "ownerReferences": [{"apiVersion": "v1", "kind": "K", "name": "o", "uid": "u"}],
        },
    });
    let new = apply(None, &config, &writer("m", T1), false, &schema()).unwrap();
    assert_eq!(
        fields(&new, "m"),
        json!({"f:metadata": {
            "f:labels": {"f:app": {}},
            "f:annotations": {"f:kubectl.kubernetes.io/last-applied-configuration": {}},
            "f:finalizers": {"v:\"weft.dev/f\"": {}},
            "f:ownerReferences": {"k:{\"uid\":\"u\"}": {}},
        }})
    );
    assert_eq!(new["metadata"].get("creationTimestamp"), None);
}

#[test]
fn an_apply_without_anything_to_own_leaves_no_entry() {
    let config = json!({"apiVersion": V1, "kind": "Test", "metadata": {"name": "t"}});
    let new = apply(None, &config, &writer("m", T1), false, &schema()).unwrap();
    assert_eq!(new, config);
}

#[test]
fn a_field_that_is_no_longer_applied_goes() {
    let live = applied(
        None,
        "m",
        json!({
            "name": "a", "set": ["x", "y"], "map": {"k": "v", "l": "w"},
            "keyed": [{"port": 80}, {"port": 81, "name": "b"}], "ref": {"name": "r"},
            "free": {"a": 1, "b": 2},
        }),
    );
    let spec = json!({"set": ["y"], "map": {"l": "w"}, "keyed": [{"port": 81}], "free": {"b": 2}});
    let next = applied(Some(&live), "m", spec.clone());
    assert_eq!(next["spec"], spec);
    assert_eq!(fields(&next, "m")["f:spec"]["f:set"], json!({"v:\"y\"": {}}));
    let empty = applied(Some(&next), "m", json!({}));
    assert_eq!(empty["spec"], json!({}));
    let bare =
        json!({"apiVersion": V1, "kind": "Test", "metadata": {"name": "t", "namespace": "n"}});
    assert_eq!(apply(Some(&next), &bare, &writer("m", T1), false, &schema()), Ok(bare));
}

#[test]
fn a_field_that_somebody_else_owns_stays_when_one_lets_go() {
    let live = applied(
        None,
        "a",
        json!({"name": "x", "map": {"k": "v"}, "keyed": [{"port": 80, "name": "n"}]}),
    );
    let live =
        applied(Some(&live), "b", json!({"name": "x", "keyed": [{"port": 80, "note": "mine"}]}));
    let live = updated(
        &live,
        "c",
        T1,
        json!({
            "name": "x", "map": {"k": "v", "l": "w"}, "keyed": [{"port": 80, "name": "n", "note": "mine"}],
        }),
    );
    let next = applied(Some(&live), "a", json!({}));
    let left = json!({"name": "x", "map": {"l": "w"}, "keyed": [{"port": 80, "note": "mine"}]});
    assert_eq!(next["spec"], left);
    assert_eq!(fields(&next, "a"), json!({"f:spec": {}}));
    let next = applied(Some(&next), "b", json!({}));
    assert_eq!(next["spec"], json!({"map": {"l": "w"}}));
}

#[test]
fn what_nobody_owns_stays_where_something_else_does() {
    let mut live = applied(None, "m", json!({"name": "x", "list": ["a"], "free": {"a": 1}}));
    live["spec"]["count"] = json!(1);
    live["spec"]["free"]["b"] = json!(2);
    let next = applied(Some(&live), "m", json!({"list": ["a"], "free": {"c": 3}}));
    assert_eq!(next["spec"], json!({"list": ["a"], "count": 1, "free": {"b": 2, "c": 3}}));
}

#[test]
fn an_object_of_which_nothing_is_owned_any_more_goes_with_all_it_has() {
    let mut live = applied(None, "m", json!({"ref": {"name": "r"}, "list": ["a"]}));
    live["spec"]["ref"]["kind"] = json!("defaulted");
    let next = applied(Some(&live), "m", json!({"list": ["a"]}));
    assert_eq!(next["spec"], json!({"list": ["a"]}));
}

#[test]
fn an_empty_value_that_is_applied_stays_empty() {
    let live = applied(None, "m", json!({"map": {"k": "v"}, "set": ["x"], "name": "n"}));
    let next = applied(Some(&live), "m", json!({"map": {}, "name": "n"}));
    assert_eq!(next["spec"], json!({"map": {}, "name": "n"}));
}

#[test]
fn changing_what_another_applied_is_a_conflict() {
    let live = applied(
        None,
        "a",
        json!({"name": "x", "set": ["s"], "keyed": [{"port": 80, "name": "n"}]}),
    );
    let spec = json!({"name": "y", "set": ["t"], "keyed": [{"port": 80, "name": "m"}]});
    assert_eq!(
        conflicts(&live, "b", spec.clone()),
        [
            ("\"a\"".to_owned(), ".spec.name".to_owned()),
            ("\"a\"".to_owned(), ".spec.keyed[port=80,protocol=\"TCP\"].name".to_owned()),
        ]
    );
    let next = forced(&live, "b", spec);
    assert_eq!(next["spec"]["name"], "y");
    assert_eq!(next["spec"]["set"], json!(["s", "t"]));
    assert_eq!(
        fields(&next, "a")["f:spec"],
        json!({
            "f:set": {"v:\"s\"": {}},
            "f:keyed": {"k:{\"port\":80,\"protocol\":\"TCP\"}": {".": {}, "f:port": {}}},
        })
    );
}

#[test]
fn conflicts_name_the_owner_as_kubernetes_does() {
    let live = created("kubectl-create", json!({"name": "x"}));
    let error =
        apply(Some(&live), &object(json!({"name": "y"})), &writer("b", T2), false, &schema());
    assert_eq!(
        error.unwrap_err().to_string(),
        "Apply failed with 1 conflict: conflict with \"kubectl-create\" using test.dev/v1: .spec.name"
    );
}

#[test]
fn the_same_value_is_owned_together() {
    let live = applied(None, "a", json!({"name": "x", "list": ["l"]}));
    let next = applied(Some(&live), "b", json!({"name": "x", "list": ["l"]}));
    assert_eq!(fields(&next, "a"), fields(&next, "b"));
    assert_eq!(conflicts(&next, "c", json!({"name": "y"})).len(), 2);
    // Changing it together is not possible either.
    assert_eq!(conflicts(&next, "a", json!({"name": "y", "list": ["l"]})).len(), 1);
}

#[test]
fn whole_values_conflict_as_a_whole() {
    let live = applied(None, "a", json!({"list": ["x"], "whole": {"k": "v"}}));
    let found = conflicts(&live, "b", json!({"list": ["x", "y"], "whole": {"l": "w"}}));
    let fields: Vec<&str> = found.iter().map(|(_, field)| field.as_str()).collect();
    assert_eq!(fields, [".spec.list", ".spec.whole"]);
    assert_eq!(
        forced(&live, "b", json!({"whole": {"l": "w"}}))["spec"]["whole"],
        json!({"l": "w"})
    );
}

#[test]
fn lists_keep_their_order_and_take_the_applied_one() {
    let live = applied(None, "a", json!({"set": ["a", "b", "c"]}));
    let next = applied(Some(&live), "b", json!({"set": ["d", "b"]}));
    assert_eq!(next["spec"]["set"], json!(["a", "d", "b", "c"]));
    let next = applied(Some(&live), "b", json!({"set": ["c", "a"]}));
    assert_eq!(next["spec"]["set"], json!(["b", "c", "a"]));
    let keyed = json!({"keyed": [{"port": 2}, {"port": 1}]});
    let live = applied(
        None,
        "a",
        json!({"keyed": [{"port": 1, "protocol": "TCP", "name": "n"}, {"port": 2}]}),
    );
    let next = applied(Some(&live), "b", keyed);
    assert_eq!(
        next["spec"]["keyed"],
        json!([{"port": 2}, {"port": 1, "protocol": "TCP", "name": "n"}])
    );
}

#[test]
fn applying_twice_changes_nothing() {
    let spec = json!({"name": "a", "set": ["x"], "map": {}, "keyed": [{"port": 1}], "ref": {}});
    let once = applied(None, "m", spec.clone());
    let again = apply(Some(&once), &object(spec), &writer("m", T2), false, &schema());
    assert_eq!(again, Ok(once));
}

#[test]
fn a_manager_that_comes_to_own_more_gets_a_new_time() {
    let live = applied(None, "a", json!({"name": "x"}));
    let config = object(json!({"name": "x"}));
    let next = apply(Some(&live), &config, &writer("b", T2), false, &schema()).unwrap();
    assert_eq!(times(&next), [("a".into(), T1.into()), ("b".into(), T2.into())]);
    assert_eq!(next["spec"], live["spec"]);
}

#[test]
fn what_was_there_before_tracking_belongs_to_a_manager_of_its_own() {
    let live = object(json!({"name": "x", "ref": {"name": "r"}}));
    let next = applied(Some(&live), "m", json!({"name": "x"}));
    assert_eq!(
        fields(&next, "before-first-apply"),
        json!({"f:spec": {
            ".": {}, "f:name": {}, "f:ref": {".": {}, "f:name": {}},
        }})
    );
    assert_eq!(
        conflicts(&live, "m", json!({"name": "y"})),
        [("\"before-first-apply\" using test.dev/v1".to_owned(), ".spec.name".to_owned()),]
    );
}

#[test]
fn configurations_that_do_not_fit_are_refused() {
    let mut other = object(json!({}));
    other["apiVersion"] = json!("test.dev/v2");
    assert_eq!(
        invalid(&other),
        "Incorrect version specified in apply patch. Specified patch version: test.dev/v2, expected: test.dev/v1"
    );
    let mut managed = object(json!({}));
    managed["metadata"]["managedFields"] = json!([]);
    assert_eq!(invalid(&managed), "metadata.managedFields must be nil");
    assert_eq!(invalid(&json!([])), "an applied configuration is an object");
    let cases = [
        (json!({"unknown": 1}), ".spec.unknown: field not declared in schema"),
        (json!({"name": 1}), ".spec.name: expected string, got number"),
        (json!({"count": "1"}), ".spec.count: expected numeric (int or float), got string"),
        (json!({"ref": []}), ".spec.ref: expected map, got list"),
        (json!({"list": {}}), ".spec.list: expected list, got map"),
        (json!({"set": ["a", "a"]}), ".spec.set: duplicate entries for key [=\"a\"]"),
        (
            json!({"keyed": [{"port": 1}, {"port": 1, "protocol": "TCP"}]}),
            ".spec.keyed: duplicate entries for key [port=1,protocol=\"TCP\"]",
        ),
        (
            json!({"set": [null]}),
            ".spec.set: element 0: associative list without keys has an element that's an explicit null",
        ),
    ];
    for (spec, message) in cases {
        let expected =
            format!("failed to create typed patch object (n/t; test.dev/v1, Kind=Test): {message}");
        assert_eq!(invalid(&object(spec)), expected);
    }
}

#[test]
fn server_owned_metadata_and_status_are_not_applied() {
    let mut live = applied(None, "m", json!({"name": "x"}));
    live["metadata"]["creationTimestamp"] = json!(T1);
    live["metadata"]["generation"] = json!(3);
    live["metadata"]["uid"] = json!("u");
    live["status"] = json!({"phase": "Ready"});
    let mut config = object(json!({"name": "x"}));
    config["metadata"]["creationTimestamp"] = Value::Null;
    config["metadata"]["generation"] = json!(9);
    config["status"] = json!({"phase": "Broken"});
    let next = apply(Some(&live), &config, &writer("m", T2), false, &schema());
    assert_eq!(next, Ok(live));
}

#[test]
fn status_is_applied_and_owned_apart() {
    let live = applied(None, "user", json!({"name": "x"}));
    let mut config = object(json!({"name": "ignored"}));
    config["metadata"]["labels"] = json!({"ignored": "yes"});
    config["status"] = json!({"phase": "Ready"});
    let status = |manager| Writer { subresource: "status", ..writer(manager, T2) };
    let next = apply(Some(&live), &config, &status("user"), false, &schema()).unwrap();
    assert_eq!(next["spec"], live["spec"]);
    assert_eq!(next["metadata"].get("labels"), None);
    assert_eq!(next["status"], json!({"phase": "Ready"}));
    let entries = next["metadata"]["managedFields"].as_array().unwrap();
    assert_eq!(entries.len(), 2);
    assert_eq!(entries[1]["subresource"], "status");
    assert_eq!(entries[1]["fieldsV1"], json!({"f:status": {"f:phase": {}}}));
    config["status"] = json!({"phase": "Broken"});
    let error = apply(Some(&next), &config, &status("other"), false, &schema()).unwrap_err();
    assert_eq!(
        error.to_string(),
        "Apply failed with 1 conflict: conflict with \"user\" with subresource \"status\": .status.phase"
    );
    let gone = apply(Some(&next), &object(json!({})), &status("user"), false, &schema()).unwrap();
    assert_eq!(gone, live);
}

#[test]
fn creating_gives_everything_to_the_creator() {
    let new = created(
        "kubectl-create",
        json!({"name": "a", "map": {"k": "v"}, "set": ["x"], "list": []}),
    );
    assert_eq!(
        new["metadata"]["managedFields"],
        json!([{
            "manager": "kubectl-create",
            "operation": "Update",
            "apiVersion": V1,
            "time": T1,
            "fieldsType": "FieldsV1",
            "fieldsV1": {"f:spec": {
                ".": {}, "f:name": {}, "f:list": {},
                "f:map": {".": {}, "f:k": {}},
                "f:set": {".": {}, "v:\"x\"": {}},
            }},
        }])
    );
}

#[test]
fn an_update_moves_only_what_it_changes() {
    let old = created("a", json!({"name": "x", "count": 1, "map": {"k": "v", "l": "w"}}));
    let new = updated(&old, "b", T2, json!({"name": "y", "count": 1, "map": {"k": "v", "m": "z"}}));
    assert_eq!(
        fields(&new, "a"),
        json!({"f:spec": {".": {}, "f:count": {}, "f:map": {".": {}, "f:k": {}}}})
    );
    assert_eq!(fields(&new, "b"), json!({"f:spec": {"f:name": {}, "f:map": {"f:m": {}}}}));
    assert_eq!(times(&new), [("a".into(), T1.into()), ("b".into(), T2.into())]);
}

#[test]
fn an_update_that_changes_nothing_notes_nothing() {
    let old = created("a", json!({"name": "x"}));
    assert_eq!(updated(&old, "b", T2, json!({"name": "x"})), old);
    assert_eq!(updated(&old, "a", T2, json!({"name": "x"})), old);
}

#[test]
fn an_entry_of_which_nothing_is_left_vanishes() {
    let old = created("a", json!({"name": "x"}));
    let old = updated(&old, "b", T2, json!({"name": "x", "count": 1}));
    let new = updated(&old, "c", T2, json!({"name": "x"}));
    assert_eq!(fields(&new, "b"), Value::Null);
    assert_eq!(times(&new), [("a".to_owned(), T1.to_owned())]);
}

#[test]
fn updates_take_fields_from_appliers_without_asking() {
    let live = applied(None, "a", json!({"name": "x", "count": 1}));
    let next = updated(&live, "b", T2, json!({"name": "y", "count": 1}));
    assert_eq!(fields(&next, "a"), json!({"f:spec": {"f:count": {}}}));
    assert_eq!(
        conflicts(&next, "a", json!({"name": "x", "count": 1})),
        [("\"b\" using test.dev/v1".to_owned(), ".spec.name".to_owned()),]
    );
}

#[test]
fn a_status_write_has_an_entry_of_its_own() {
    let old = created("controller", json!({"name": "x"}));
    let mut new = old.clone();
    new["status"] = json!({"phase": "Ready"});
    let status = Writer { subresource: "status", ..writer("controller", T2) };
    track(Some(&old), &mut new, &status, &schema());
    let entries = new["metadata"]["managedFields"].as_array().unwrap();
    assert_eq!(entries[0], old["metadata"]["managedFields"][0]);
    assert_eq!(entries[1]["subresource"], "status");
    assert_eq!(entries[1]["fieldsV1"], json!({"f:status": {".": {}, "f:phase": {}}}));
}

#[test]
fn old_update_entries_become_one() {
    let mut live = created("m00", json!({"map": {"k00": "v"}}));
    for number in 1..13 {
        let mut spec = live["spec"].clone();
        spec["map"][format!("k{number:02}")] = json!("v");
        let now = format!("2026-01-01T00:00:{number:02}Z");
        live = updated(&live, &format!("m{number:02}"), &now, spec);
    }
    let managers: Vec<String> = times(&live).into_iter().map(|(manager, _)| manager).collect();
    let expected: Vec<String> = std::iter::once("ancient-changes".to_owned())
        .chain((4..13).map(|n| format!("m{n:02}")))
        .collect();
    assert_eq!(managers, expected);
    assert_eq!(
        fields(&live, "ancient-changes"),
        json!({"f:spec": {
            ".": {}, "f:map": {".": {}, "f:k00": {}, "f:k01": {}, "f:k02": {}, "f:k03": {}},
        }})
    );
    assert_eq!(times(&live)[0].1, "2026-01-01T00:00:03Z");
}

#[test]
fn clients_may_set_or_forget_managed_fields() {
    let old = created("a", json!({"name": "x"}));
    let track_with = |entries: Value| {
        let mut new = old.clone();
        new["metadata"]["managedFields"] = entries;
        track(Some(&old), &mut new, &writer("b", T2), &schema());
        new["metadata"]["managedFields"].clone()
    };
    let entry = |operation: &str, fields: Value| {
        json!([{
            "manager": "b", "operation": operation, "apiVersion": V1, "time": T1, "fieldsType": "FieldsV1",
            "fieldsV1": fields,
        }])
    };
    let sent = entry("Apply", json!({"f:spec": {"f:name": {}}}));
    assert_eq!(track_with(sent.clone()), sent);
    assert_eq!(track_with(json!([])), Value::Null);
    assert_eq!(track_with(json!([{}])), Value::Null);
    let kept = old["metadata"]["managedFields"].clone();
    for unreadable in [
        json!("x"),
        json!([1]),
        entry("Steal", json!({})),
        entry("Apply", json!({"spec": {}})),
        entry("Apply", json!({"f:spec": 1})),
        entry("Apply", json!({"k:{": {}})),
        entry("Apply", json!({"v:[]": {}})),
        Value::Null,
    ] {
        assert_eq!(track_with(unreadable.clone()), kept, "{unreadable}");
    }
}

#[test]
fn entries_of_unknown_notation_lose_only_what_is_unknown() {
    let set =
        Set::decode(&json!({"f:a": {".": {}, "f:b": {}}, "x:c": {"f:d": {}}, "i:3": {}})).unwrap();
    assert_eq!(set.encode(), json!({"f:a": {".": {}, "f:b": {}}, "i:3": {}}));
}

#[test]
fn parts_of_what_became_one_value_become_the_whole() {
    let mut live =
        applied(None, "a", json!({"list": ["x"], "whole": {"k": "v"}, "map": {"k": "v"}}));
    live["metadata"]["managedFields"][0]["fieldsV1"] = json!({"f:spec": {
        "f:list": {".": {}, "v:\"x\"": {}},
        "f:whole": {"f:k": {}},
        "f:map": {"f:k": {}},
    }});
    let next = applied(Some(&live), "b", json!({"name": "n"}));
    assert_eq!(
        fields(&next, "a"),
        json!({"f:spec": {"f:list": {}, "f:whole": {}, "f:map": {"f:k": {}}}})
    );
}

#[test]
fn lists_that_cannot_be_compared_keep_the_old_entries() {
    let old = created("a", json!({"keyed": [{"port": 1}]}));
    let schema = json!({"type": "object", "properties": {"spec": {"type": "object", "properties": {"keyed": {
        "type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["port"],
        "items": {"type": "object"},
    }}}}});
    let mut new = old.clone();
    new["spec"]["keyed"] = json!([{"name": "no key"}]);
    track(Some(&old), &mut new, &writer("b", T2), &schema);
    assert_eq!(new["metadata"]["managedFields"], old["metadata"]["managedFields"]);
}

#[test]
fn duplicates_that_are_there_do_not_stop_an_apply() {
    let live = created("a", json!({"set": ["x", "x", "y"]}));
    let next = applied(Some(&live), "b", json!({"set": ["z"]}));
    assert_eq!(next["spec"]["set"], json!(["x", "x", "y", "z"]));
    let next = forced(&live, "b", json!({"set": ["x"]}));
    assert_eq!(next["spec"]["set"], json!(["x", "y"]));
    assert_eq!(conflicts(&live, "b", json!({"set": ["x"]})).len(), 1);
}

#[test]
fn objects_without_metadata_are_left_alone() {
    let mut new = json!({"spec": {}});
    track(None, &mut new, &writer("m", T1), &schema());
    assert_eq!(new, json!({"spec": {}}));
    let mut text = json!("text");
    track(None, &mut text, &writer("m", T1), &schema());
    assert_eq!(text, json!("text"));
}

fn specs() -> impl Strategy<Value = Value> {
    let text = || prop_oneof![Just("a"), Just("b"), Just("c")];
    let texts = || proptest::collection::btree_map(text(), text(), 0..3).prop_map(|map| json!(map));
    let set = || proptest::sample::subsequence(vec!["a", "b", "c", "d"], 0..4).prop_shuffle();
    let keyed = proptest::collection::btree_map(0..3, proptest::option::of(text()), 0..3);
    let keyed = keyed.prop_map(|items| {
        let item = |(port, name): (i32, Option<&str>)| match name {
            Some(name) => json!({"port": port, "name": name}),
            None => json!({"port": port}),
        };
        items.into_iter().map(item).collect::<Value>()
    });
    let fields = (
        proptest::option::of(text().prop_map(|text| json!(text))),
        proptest::option::of(set().prop_map(|set| json!(set))),
        proptest::option::of(set().prop_map(|set| json!(set))),
        proptest::option::of(keyed),
        proptest::option::of(texts()),
        proptest::option::of(texts()),
        proptest::option::of(texts()),
    );
    fields.prop_map(|(name, list, set, keyed, map, whole, free)| {
        let named = [
            ("name", name),
            ("list", list),
            ("set", set),
            ("keyed", keyed),
            ("map", map),
            ("whole", whole),
            ("free", free),
        ];
        named.into_iter().filter_map(|(name, value)| Some((name, value?))).collect()
    })
}

proptest! {
    #[test]
    fn applying_the_same_again_changes_nothing(first in specs(), other in specs(), mine in specs()) {
        let live = applied(None, "a", first);
        let live = forced(&live, "b", other);
        let once = forced(&live, "a", mine.clone());
        prop_assert_eq!(forced(&once, "a", mine), once);
    }

    #[test]
    fn one_manager_alone_gets_what_it_applies(first in specs(), then in specs()) {
        let live = applied(None, "a", first);
        let next = applied(Some(&live), "a", then.clone());
        let sorted = |value: &Value| {
            let mut spec = value.clone();
            if let Some(set) = spec.get_mut("set").and_then(Value::as_array_mut) {
                set.sort_by_key(Value::to_string);
            }
            if let Some(fields) = spec.as_object_mut() {
                fields.retain(|_, value| *value != json!({}) && *value != json!([]));
            }
            spec
        };
        prop_assert_eq!(sorted(&next["spec"]), if next.get("spec").is_some() { sorted(&then) } else { Value::Null });
    }

    #[test]
    fn an_apply_without_conflict_needs_no_force(first in specs(), mine in specs()) {
        let live = applied(None, "a", first);
        let config = object(mine);
        let asked = apply(Some(&live), &config, &writer("b", T2), false, &schema());
        let forced = apply(Some(&live), &config, &writer("b", T2), true, &schema());
        match asked {
            Ok(next) => prop_assert_eq!(Ok(next), forced),
            Err(error) => {
                prop_assert!(matches!(error, PatchError::Conflict(_)));
                prop_assert!(forced.is_ok());
            }
        }
    }

    #[test]
    fn every_field_of_a_tracked_object_has_one_updating_owner(first in specs(), then in specs()) {
        let live = updated(&created("a", first), "b", T2, then);
        let entries = Managers::decode(managed_fields(&live)).unwrap().entries;
        let sets: Vec<&Set> = entries.values().map(|entry| &entry.set).collect();
        if let [one, other] = sets.as_slice() {
            prop_assert!(one.intersection(other).is_empty());
        }
        let owned = sets.iter().fold(Set::default(), |all, set| all.union(set));
        let there = fields_of(Shape::object(&schema()), &without_managed_fields(&live)).unwrap();
        prop_assert!(there.difference(&UNOWNED).difference(&owned).is_empty());
    }

    #[test]
    fn sets_are_read_as_they_are_written(spec in specs()) {
        let set = fields_of(Shape::object(&schema()), &object(spec)).unwrap();
        prop_assert_eq!(Set::decode(&set.encode()), Ok(set));
    }

    #[test]
    fn sets_follow_the_laws_of_sets(a in specs(), b in specs()) {
        let schema = schema();
        let set = |spec| fields_of(Shape::object(&schema), &object(spec)).unwrap();
        let (a, b) = (set(a), set(b));
        prop_assert_eq!(a.union(&b), b.union(&a));
        prop_assert_eq!(a.intersection(&b), b.intersection(&a));
        prop_assert_eq!(a.difference(&b).union(&a.intersection(&b)), a.clone());
        prop_assert!(a.difference(&b).intersection(&b).is_empty());
        prop_assert_eq!(a.paths().iter().fold(Set::default(), |mut set, path| { set.insert(path); set }), a);
    }

    #[test]
    fn nothing_panics_whatever_is_there(live in anything(), applied in anything(), schema in anything()) {
        let writer = Writer { manager: "", api_version: "", subresource: "", now: T1 };
        let next = apply(Some(&live), &applied, &writer, true, &schema);
        prop_assert!(next.is_err() || applied.is_object());
        let mut new = applied;
        track(Some(&live), &mut new, &writer, &schema);
        track(None, &mut new, &writer, &schema);
    }
}

#[test]
fn thousands_of_entries_are_merged_in_no_time() {
    let entries: Vec<Value> = (0..20_000)
        .map(|number| {
            json!({
                "manager": format!("m{number}"), "operation": "Update", "apiVersion": V1, "fieldsType": "FieldsV1",
                "fieldsV1": {"f:spec": {"f:map": {format!("f:k{number}"): {}}}},
            })
        })
        .collect();
    let old = created("a", json!({"name": "x"}));
    let mut new = old.clone();
    new["metadata"]["managedFields"] = json!(entries);
    new["spec"]["name"] = json!("y");
    track(Some(&old), &mut new, &writer("b", T2), &schema());
    assert_eq!(new["metadata"]["managedFields"].as_array().map(Vec::len), Some(10));
    assert_eq!(fields(&new, "b"), json!({"f:spec": {"f:name": {}}}));
}

/// Values that are made of the words that mean something here, and so get far.
fn anything() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        Just(json!(1)),
        Just(json!(true)),
        proptest::sample::select(vec![
            "object", "array", "string", "set", "map", "atomic", "Update", "Apply", "FieldsV1",
            "v1", T1,
        ])
        .prop_map(Value::from),
    ];
    let words = proptest::sample::select(vec![
        "metadata",
        "managedFields",
        "spec",
        "status",
        "a",
        "f:a",
        "f:spec",
        "k:{\"a\":1}",
        "v:1",
        ".",
        "operation",
        "apiVersion",
        "fieldsType",
        "fieldsV1",
        "manager",
        "type",
        "properties",
        "items",
        "additionalProperties",
        "x-kubernetes-list-type",
        "x-kubernetes-list-map-keys",
        "x-kubernetes-map-type",
        "finalizers",
        "ownerReferences",
        "labels",
        "uid",
    ]);
    leaf.prop_recursive(6, 48, 6, move |inner| {
        prop_oneof![
            1 => proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            3 => proptest::collection::btree_map(words.clone().prop_map(str::to_owned), inner, 0..6)
                .prop_map(|fields| fields.into_iter().collect()),
        ]
    })
}
