use serde_json::json;

use super::*;
use crate::plan::tests::{object, with};
use crate::plan::{Config, InForce, Plan};
use crate::world::World;

#[expect(clippy::needless_pass_by_value, reason = "json! makes values")]
fn binding(subject: Value, more: Value) -> Value {
    let spec = json!({"subject": subject, "sink": {"uri": "http://s/"}});
    let spec = with(spec, more);
    object("sources.knative.dev/v1", "SinkBinding", "b", spec)
}

fn deployment() -> Value {
    json!({"apiVersion": "apps/v1", "kind": "Deployment", "name": "shop"})
}

fn guarded(mut binding: Value, kinds: &[&str]) -> Value {
    binding["metadata"]["finalizers"] = json!([FINALIZER]);
    binding["status"] = json!({BOUND_KINDS: kinds});
    binding
}

fn dying(mut binding: Value) -> Value {
    binding["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
    binding
}

fn the_key() -> Key {
    Key { kind: KIND, namespace: "ns".to_owned(), name: "b".to_owned() }
}

fn planned(object: Value, looks: Option<Look>, config: &Config) -> Plan {
    let mut world = World::default();
    world.put(object).unwrap();
    let bindings = looks.into_iter().map(|look| (the_key(), look)).collect();
    Plan::make(&world, config, &InForce { bindings, ..InForce::default() })
}

fn plan(object: Value, look: Option<Look>) -> Plan {
    planned(object, look, &Config::new("http://events"))
}

fn said(plan: &Plan, kind: &str) -> String {
    let condition = plan.statuses[&the_key()].condition(kind).unwrap();
    let reason = &condition.reason;
    format!("{:?} {reason} {}", condition.status, condition.message).trim().to_owned()
}

/// A look at which all that was to be done was.
fn done(plan: &Plan) -> Look {
    let of = plan.bindings[&the_key()].clone();
    let current = match &of.wish {
        Wish::Bind { subject, .. } => vec![SubjectKind::of(subject)],
        Wish::Keep => of.kinds.clone(),
        Wish::Release => Vec::new(),
    };
    Look { of, kinds: current, wrong: None }
}

#[test]
fn nothing_is_bound_before_it_could_be_found_again() {
    let first = plan(binding(deployment(), json!({})), None);
    assert!(first.finalizers[&the_key()]);
    assert_eq!(first.bindings[&the_key()].wish, Wish::Keep);
    assert_eq!(first.statuses[&the_key()].facts[BOUND_KINDS], json!(["apps/v1/Deployment"]));
    let unrecorded = plan(guarded(binding(deployment(), json!({})), &[]), None);
    assert!(unrecorded.finalizers.is_empty());
    assert_eq!(unrecorded.bindings[&the_key()].wish, Wish::Keep);
    let overrides = json!({"ceOverrides": {"extensions": {"team": "blue"}}});
    let object = guarded(binding(deployment(), overrides), &["apps/v1/Deployment"]);
    let ready = plan(object.clone(), None);
    assert_eq!(ready.bindings[&the_key()].mark, "ns/b b");
    let Wish::Bind { variables, subject } = &ready.bindings[&the_key()].wish else {
        panic!("{:?}", ready.bindings)
    };
    assert_eq!((subject.name.as_str(), variables["K_SINK"].as_str()), ("shop", "http://s/"));
    assert_eq!(variables["K_CE_OVERRIDES"], r#"{"extensions":{"team":"blue"}}"#);
    assert_eq!(said(&ready, "Ready"), "Unknown NotBound the subjects have not been looked at yet");
    let settled = plan(object, Some(done(&ready)));
    assert_eq!(said(&settled, "Ready"), "True");
    assert_eq!(settled.statuses[&the_key()].sink_uri.as_deref(), Some("http://s/"));
    assert_eq!(settled.bindings, ready.bindings);
}

#[test]
fn a_look_that_failed_says_why() {
    let object = guarded(binding(deployment(), json!({})), &["apps/v1/Deployment"]);
    let look = done(&plan(object.clone(), None));
    let look = Look { wrong: Some(("SubjectMissing", "there is none".to_owned())), ..look };
    let plan = plan(object, Some(look));
    assert_eq!(said(&plan, "SinkBindingAvailable"), "False SubjectMissing there is none");
    assert_eq!(said(&plan, "SinkProvided"), "True");
}

#[test]
fn without_a_sink_what_is_bound_stays() {
    let nowhere = json!({"sink": {"ref": {"apiVersion": "eventing.knative.dev/v1", "kind": "Broker", "name": "x"}}});
    let object = guarded(binding(deployment(), nowhere), &["apps/v1/Deployment"]);
    let first = plan(object, None);
    assert_eq!(first.bindings[&the_key()].wish, Wish::Keep);
    assert!(said(&first, "Ready").starts_with("False NotFound"), "{}", said(&first, "Ready"));
    assert!(said(&first, "SinkBindingAvailable").starts_with("Unknown NotBound"));
}

#[test]
fn a_former_kind_is_looked_at_until_nothing_of_it_is_bound() {
    let kinds = ["apps/v1/StatefulSet", "apps/v1/Deployment", "../x/Deployment", "apps/v1/"];
    let object = guarded(binding(deployment(), json!({})), &kinds);
    let first = plan(object.clone(), None);
    let written = json!(["apps/v1/StatefulSet", "apps/v1/Deployment"]);
    assert_eq!(first.statuses[&the_key()].facts[BOUND_KINDS], written);
    let second = plan(object, Some(done(&first)));
    assert_eq!(second.statuses[&the_key()].facts[BOUND_KINDS], json!(["apps/v1/Deployment"]));
}

#[test]
fn a_binding_that_is_deleted_goes_once_its_subjects_are_released() {
    let object = dying(guarded(binding(deployment(), json!({})), &["apps/v1/Deployment"]));
    let first = plan(object.clone(), None);
    assert_eq!(first.bindings[&the_key()].wish, Wish::Release);
    assert!(first.finalizers.is_empty() && first.statuses.is_empty());
    let kept = Look { kinds: first.bindings[&the_key()].kinds.clone(), ..done(&first) };
    assert!(plan(object.clone(), Some(kept)).finalizers.is_empty());
    let last = plan(object, Some(done(&first)));
    assert!(!last.finalizers[&the_key()]);
    assert!(last.bindings.is_empty());
    let never = plan(dying(guarded(binding(deployment(), json!({})), &[])), None);
    assert!(!never.finalizers[&the_key()]);
}

#[test]
fn what_cannot_be_bound_says_so_in_a_sentence() {
    let job = json!({"apiVersion": "batch/v1", "kind": "Job", "name": "shop"});
    let object = guarded(binding(job, json!({})), &["apps/v1/Deployment"]);
    let refused = plan(object, None);
    assert!(said(&refused, "Ready").contains("bind the CronJob"), "{}", said(&refused, "Ready"));
    assert_eq!(refused.bindings[&the_key()].wish, Wish::Release);
    let laptop = Config { runs_programs: true, ..Config::new("http://events") };
    let nothing = planned(binding(deployment(), json!({})), None, &laptop);
    assert!(said(&nothing, "Ready").contains("no workloads"), "{}", said(&nothing, "Ready"));
    assert!(nothing.finalizers.is_empty() && nothing.bindings.is_empty());
    let path = json!({"apiVersion": "../v1", "kind": "Deployment", "name": "shop"});
    let torn = plan(binding(path, json!({})), None);
    assert!(said(&torn, "Ready").starts_with("False InvalidSpec invalid value: ../v1"));
    assert!(torn.bindings.is_empty());
    let elsewhere = with(deployment(), json!({"namespace": "other"}));
    let torn = plan(binding(elsewhere, json!({})), None);
    assert!(said(&torn, "Ready").contains("spec.subject.namespace"), "{}", said(&torn, "Ready"));
}
