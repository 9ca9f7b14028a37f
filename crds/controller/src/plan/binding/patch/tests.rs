use std::collections::BTreeSet;

use super::*;

const MARK: &str = "ns/b 1";

fn variables() -> Variables {
    [("K_SINK", "http://sink/"), ("K_CE_OVERRIDES", "")]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .into()
}

#[expect(clippy::needless_pass_by_value, reason = "json! makes values")]
fn subject(spec: Value) -> Value {
    json!({
        "metadata": {"name": "shop", "resourceVersion": "7"},
        "spec": {"template": {"spec": spec}},
    })
}

fn marked(mut subject: Value, mark: &str) -> Value {
    subject["metadata"]["annotations"] = json!({"theirs": "yes", BOUND_BY: mark});
    subject
}

fn variable(name: &str, value: &str) -> Value {
    json!({"name": name, "value": value})
}

/// What becomes of `subject` if nobody is in the way.
fn bound(subject: &Value) -> Result<Value, Unbound> {
    bind(subject, MARK, &variables(), |_| false).map(|operations| patched(subject, &operations))
}

fn released(subject: &Value) -> Value {
    patched(subject, &release(subject, MARK))
}

/// As a server applies a patch (RFC 6902), as far as it is used here.
fn patched(object: &Value, operations: &[Value]) -> Value {
    let mut object = object.clone();
    for operation in operations {
        let path = operation["path"].as_str().unwrap();
        let (parent, last) = path.rsplit_once('/').unwrap();
        let last = last.replace("~1", "/");
        if operation["op"] == "test" {
            assert_eq!(object.pointer(path), Some(&operation["value"]));
            continue;
        }
        let is_removal = operation["op"] == "remove";
        match object.pointer_mut(parent).unwrap() {
            Value::Object(map) if is_removal => drop(map.remove(&last).unwrap()),
            Value::Object(map) => drop(map.insert(last, operation["value"].clone())),
            Value::Array(items) if is_removal => drop(items.remove(last.parse().unwrap())),
            Value::Array(items) => {
                assert_eq!(last, "-");
                items.push(operation["value"].clone());
            }
            other => panic!("{path} leads to {other}"),
        }
    }
    object
}

#[test]
fn every_container_is_told_and_what_else_it_has_stays() {
    let own = json!([variable("A", "1"), {"name": "B", "valueFrom": {"fieldRef": {}}}]);
    let before = subject(json!({
        "initContainers": [{"name": "first"}],
        "containers": [{"name": "main", "env": own}, {"name": "side", "env": []}, {"name": "null", "env": null}],
        "volumes": [],
    }));
    let after = bound(&before).unwrap();
    let told = json!([variable("K_CE_OVERRIDES", ""), variable("K_SINK", "http://sink/")]);
    let spec = &after["spec"]["template"]["spec"];
    assert_eq!(spec["initContainers"][0]["env"], told);
    assert_eq!(spec["containers"][1]["env"], told);
    assert_eq!(spec["containers"][2]["env"], told);
    let mut all = own.as_array().unwrap().clone();
    all.extend(told.as_array().unwrap().clone());
    assert_eq!(spec["containers"][0]["env"], Value::from(all));
    assert_eq!(after["metadata"]["annotations"], json!({BOUND_BY: MARK}));
    assert_eq!(bind(&after, MARK, &variables(), |_| true), Ok(Vec::new()));
    let free = released(&after);
    assert_eq!(free["spec"]["template"]["spec"]["containers"][0]["env"], own);
    assert_eq!(free["spec"]["template"]["spec"]["containers"][1], json!({"name": "side"}));
    assert_eq!(free["metadata"]["annotations"], json!({}));
    assert_eq!(release(&free, MARK), Vec::<Value>::new());
}

#[test]
fn nothing_else_is_touched_and_only_of_the_version_that_was_read() {
    let before = marked(
        subject(json!({"containers": [
            {"name": "told", "env": [variable("K_SINK", "http://sink/"), {"name": "K_CE_OVERRIDES"}]},
            {"name": "not", "env": [variable("A", "1"), variable("K_SINK", "http://old/"), variable("K_CE_OVERRIDES", "")]},
        ]})),
        MARK,
    );
    let operations = bind(&before, MARK, &variables(), |_| true).unwrap();
    let expected = json!([
        {"op": "test", "path": "/metadata/resourceVersion", "value": "7"},
        {"op": "remove", "path": "/spec/template/spec/containers/1/env/2"},
        {"op": "remove", "path": "/spec/template/spec/containers/1/env/1"},
        {"op": "add", "path": "/spec/template/spec/containers/1/env/-", "value": variable("K_CE_OVERRIDES", "")},
        {"op": "add", "path": "/spec/template/spec/containers/1/env/-", "value": variable("K_SINK", "http://sink/")},
    ]);
    assert_eq!(Value::from(operations), expected);
}

#[test]
fn duplicates_others_and_references_become_one_value_once_it_is_bound() {
    let env = json!([
        variable("K_SINK", "http://sink/"),
        variable("A", "1"),
        variable("K_SINK", "http://sink/"),
        variable("K_CE_OVERRIDES", ""),
        variable("K_CA_CERTS", "old"),
    ]);
    let reference = json!([{"name": "K_SINK", "value": "", "valueFrom": {"secretKeyRef": {}}}]);
    let before = marked(subject(json!({"containers": [{"env": env}, {"env": reference}]})), MARK);
    let after = bound(&before).unwrap();
    let told = [variable("K_CE_OVERRIDES", ""), variable("K_SINK", "http://sink/")];
    let containers = &after["spec"]["template"]["spec"]["containers"];
    assert_eq!(containers[0]["env"], json!([variable("A", "1"), told[0], told[1]]));
    assert_eq!(containers[1]["env"], json!(told));
}

#[test]
fn a_variable_of_the_users_own_is_not_overwritten() {
    let own = json!([variable("K_SINK", "http://mine/")]);
    let before = subject(json!({"containers": [{"name": "a"}, {"name": "main", "env": own}]}));
    let refused = bound(&before).unwrap_err();
    assert_eq!(refused.to_string(), "its container \"main\" has a variable K_SINK of its own");
    // Without the mark it is the user's, whatever it says.
    assert_eq!(release(&before, MARK), Vec::<Value>::new());
    // What says the same already, as after the mark alone was lost, is taken.
    let same = json!([variable("K_SINK", "http://sink/"), variable("K_CE_OVERRIDES", "")]);
    let same = subject(json!({"containers": [{"name": "main", "env": same}]}));
    let after = bound(&same).unwrap();
    assert_eq!(after["spec"], same["spec"]);
    assert_eq!(after["metadata"]["annotations"], json!({BOUND_BY: MARK}));
}

#[test]
fn a_subject_of_another_binding_is_left_alone_as_long_as_that_is_one() {
    let env = json!([variable("K_SINK", "http://other/"), variable("K_CE_OVERRIDES", "")]);
    let before =
        marked(subject(json!({"containers": [{"name": "main", "env": env}]})), "ns/other 2");
    let live = BTreeSet::from(["ns/other 2"]);
    let refused = bind(&before, MARK, &variables(), |mark| live.contains(mark)).unwrap_err();
    assert_eq!(refused.to_string(), "it is bound by the SinkBinding ns/other already");
    assert_eq!(release(&before, MARK), Vec::<Value>::new());
    let after = bound(&before).unwrap();
    assert_eq!(after["metadata"]["annotations"], json!({"theirs": "yes", BOUND_BY: MARK}));
    let told = json!([variable("K_CE_OVERRIDES", ""), variable("K_SINK", "http://sink/")]);
    assert_eq!(after["spec"]["template"]["spec"]["containers"][0]["env"], told);
}

#[test]
fn a_cron_job_has_its_template_deeper() {
    let before = json!({
        "metadata": {"resourceVersion": "7"},
        "spec": {"jobTemplate": {"spec": {"template": {"spec": {"containers": [{"name": "main"}]}}}}},
    });
    let after = bound(&before).unwrap();
    let container = "/spec/jobTemplate/spec/template/spec/containers/0";
    assert_eq!(after.pointer(container).unwrap()["env"].as_array().unwrap().len(), 2);
    assert_eq!(released(&after)["spec"], before["spec"]);
}

#[test]
fn what_has_no_template_is_not_bound_and_can_be_released() {
    let malformed = [
        json!(null),
        json!([]),
        json!({"spec": 5}),
        subject(json!({})),
        subject(json!({"containers": []})),
        subject(json!({"containers": ["main", 5, null]})),
        subject(json!({"containers": {"main": {}}})),
        subject(json!({"initContainers": [{"name": "first"}]})),
    ];
    for object in malformed {
        assert_eq!(bound(&object), Err(Unbound::NoTemplate), "{object}");
        if object.is_object() {
            let mark =
                marked(json!({"metadata": {"resourceVersion": "7"}, "spec": object["spec"]}), MARK);
            let free = released(&mark);
            assert_eq!(free["metadata"]["annotations"], json!({"theirs": "yes"}), "{object}");
        }
    }
    let odd =
        marked(subject(json!({"containers": [{"env": "x"}, {"env": [5, {"name": 7}]}]})), MARK);
    let after = bound(&odd).unwrap();
    assert_eq!(
        after["spec"]["template"]["spec"]["containers"][0]["env"].as_array().unwrap().len(),
        2
    );
    assert_eq!(
        after["spec"]["template"]["spec"]["containers"][1]["env"].as_array().unwrap().len(),
        4
    );
}
