use serde_json::json;

use super::*;

fn trigger(version: &str, spec: Value) -> Value {
    let mut trigger = json!({
        "apiVersion": "eventing.knative.dev/v1",
        "kind": "Trigger",
        "metadata": {"namespace": "ns", "name": "t", "uid": "u", "resourceVersion": version},
    });
    trigger["spec"] = spec;
    trigger
}

fn good(version: &str, broker: &str) -> Value {
    trigger(version, json!({"broker": broker, "subscriber": {"uri": "http://s/"}}))
}

fn watched() -> &'static Watched {
    kinds::find("eventing.knative.dev", "Trigger").unwrap()
}

fn held(world: &World) -> &Held<Trigger> {
    world.triggers.get(&Name::new("ns", "t")).unwrap()
}

#[test]
fn older_news_of_the_same_incarnation_is_ignored() {
    let mut world = World::default();
    let mut put = |object| world.change(watched(), Change::Put(object));
    assert!(put(good("10", "a")));
    assert!(!put(good("9", "b")), "older");
    assert!(!put(good("10", "b")), "the same");
    assert!(put(good("11", "c")));
    let mut reborn = good("3", "d");
    reborn["metadata"]["uid"] = "other".into();
    assert!(put(reborn), "another incarnation counts anew");
    assert_eq!(held(&world).object.broker(), "d");
}

#[test]
fn the_answer_to_a_write_does_not_bring_back_what_is_gone() {
    let mut world = World::default();
    let confirm =
        |world: &mut World, version| world.change(watched(), Change::Confirm(good(version, "a")));
    assert!(!confirm(&mut world, "1"));
    world.put(good("1", "a")).unwrap();
    assert!(confirm(&mut world, "2"));
    world.change(watched(), Change::Delete(Name::new("ns", "t")));
    assert!(!confirm(&mut world, "3"));
    assert_eq!(world.triggers.alive().count(), 0);
}

#[test]
fn a_list_is_all_there_is_and_an_equal_one_changes_nothing() {
    let mut world = World::default();
    world.put(good("1", "a")).unwrap();
    assert!(!world.change(watched(), Change::Replace(vec![good("1", "a")])));
    assert!(world.change(watched(), Change::Replace(Vec::new())));
    assert_eq!(world.triggers.alive().count(), 0);
}

#[test]
fn a_list_is_believed_though_it_is_older_for_a_server_may_be_restored_from_a_backup() {
    let mut world = World::default();
    world.put(good("9", "a")).unwrap();
    assert!(world.change(watched(), Change::Replace(vec![good("5", "b")])));
    assert_eq!(held(&world).object.broker(), "b");
}

#[test]
fn what_is_being_deleted_counts_as_gone() {
    let mut world = World::default();
    let mut going = good("1", "a");
    going["metadata"]["deletionTimestamp"] = "2026-01-31T12:00:00Z".into();
    going["metadata"]["finalizers"] = json!(["example.com/theirs"]);
    world.put(going).unwrap();
    assert!(world.triggers.get(&Name::new("ns", "t")).is_none());
    assert_eq!(world.triggers.alive().count(), 0);
}

#[test]
fn of_an_object_that_is_not_understood_the_last_good_form_counts() {
    let mut world = World::default();
    let broken = |version| trigger(version, json!({"broker": "a", "subscriber": "no object"}));
    world.put(broken("1")).unwrap();
    assert!(held(&world).is_torn());
    assert_eq!(held(&world).object.broker(), "a", "enough to keep its events");
    world.put(good("2", "a")).unwrap();
    assert_eq!(held(&world).form, Form::Current);
    world.put(broken("3")).unwrap();
    assert!(matches!(&held(&world).form, Form::Former(why) if why.contains("Destination")));
    assert_eq!(held(&world).object.spec.subscriber.uri.as_deref(), Some("http://s/"));
    assert_eq!(held(&world).object.metadata.resource_version, "3");
}

#[test]
fn nulls_are_absent_and_a_strange_status_is_none() {
    let mut world = World::default();
    let mut object = good("1", "a");
    object["spec"]["delivery"] = Value::Null;
    object["spec"]["filters"] = Value::Null;
    object["metadata"]["creationTimestamp"] = Value::Null;
    object["status"] = json!({"conditions": "none"});
    world.put(object).unwrap();
    assert_eq!(held(&world).form, Form::Current);
    assert_eq!(held(&world).object.status, None);
}

#[test]
fn secrets_that_no_source_can_mean_are_not_kept() {
    let mut world = World::default();
    for (name, kind) in [("a", "Opaque"), ("b", "helm.sh/release.v1"), ("c", "kubernetes.io/tls")] {
        let metadata = json!({"namespace": "ns", "name": name});
        let secret =
            json!({"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "type": kind});
        world.put(secret).unwrap();
    }
    let names: Vec<_> = world.secrets.alive().map(|(name, _)| name.name.as_str()).collect();
    assert_eq!(names, ["a", "c"]);
}

#[test]
fn of_config_maps_certificates_alone_are_kept_unless_programs_are_given_the_rest() {
    let map = json!({
        "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"namespace": "ns", "name": "m"},
        "data": {"ca.crt": "-----BEGIN CERTIFICATE-----", "mode": "fast"}, "binaryData": {"x": "eA=="},
    });
    for (keeps_values, expected) in [(false, &["ca.crt"][..]), (true, &["ca.crt", "mode"])] {
        let mut world = World::new(keeps_values);
        world.put(map.clone()).unwrap();
        let held = world.config_maps.get(&Name::new("ns", "m")).unwrap();
        assert_eq!(held.object.data.keys().collect::<Vec<_>>(), expected);
    }
}

#[test]
fn what_is_not_watched_or_has_no_name_is_refused() {
    let mut world = World::default();
    let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"}});
    assert_eq!(world.put(pod), Err(Refused::Kind("Pod".to_owned())));
    let nameless = json!({"apiVersion": "v1", "kind": "Secret"});
    assert_eq!(world.put(nameless), Err(Refused::Nameless));
}

#[test]
fn readiness_about_an_older_generation_is_unknown() {
    let metadata =
        |generation| ObjectMeta { generation: Some(generation), ..ObjectMeta::default() };
    let status = Status {
        observed_generation: Some(1),
        conditions: vec![Condition::new(READY, Truth::True)],
        ..Status::default()
    };
    assert_eq!(reported(&metadata(1), Some(&status)).status, Truth::True);
    assert_eq!(reported(&metadata(2), Some(&status)).reason, "GenerationNotEqual");
    assert_eq!(reported(&metadata(1), None).reason, "DependencyNotConfigured");
}
