//! Sinks have an address from the start, and are as ready as their runs say.

use crds::condition::{Status, Truth};
use crds::object::Key;
use serde_json::{Value, json};
use sources::State;

use crate::plan::{Config, InForce, Plan};
use crate::world::World;

const EVENTING: &str = "eventing.knative.dev/v1";
const ALPHA: &str = "eventing.knative.dev/v1alpha1";

#[expect(clippy::needless_pass_by_value, reason = "json! makes values")]
fn object(api_version: &str, kind: &str, name: &str, spec: Value) -> Value {
    json!({
        "apiVersion": api_version, "kind": kind, "spec": spec,
        "metadata": {
            "namespace": "ns", "name": name, "uid": name, "resourceVersion": "1", "generation": 1,
            "creationTimestamp": "2026-01-01T00:00:00Z",
        },
    })
}

fn kafka(more: Value) -> Value {
    let mut spec = json!({"topic": "t", "bootstrapServers": ["k:9092"]});
    if let (Value::Object(spec), Value::Object(more)) = (&mut spec, more) {
        spec.extend(more);
    }
    object(ALPHA, "KafkaSink", "k", spec)
}

fn to_kafka() -> Value {
    json!({"ref": {"apiVersion": ALPHA, "kind": "KafkaSink", "name": "k"}})
}

fn make(objects: &[Value], state: Option<State>) -> Plan {
    let mut world = World::default();
    for object in objects {
        world.put(object.clone()).unwrap();
    }
    let config = Config::new("http://events/");
    let plan = Plan::make(&world, &config, &InForce::default());
    let Some(state) = state else { return plan };
    let status = sources::Status { state, reason: "AsTold", ..sources::Status::default() };
    let told = plan.sinks.iter().map(|wanted| (wanted.key(), status.clone())).collect();
    Plan::make(&world, &config, &InForce { sources: told, ..InForce::default() })
}

fn status<'a>(plan: &'a Plan, kind: &'static str, name: &str) -> &'a Status {
    &plan.statuses[&Key { kind, namespace: "ns".to_owned(), name: name.to_owned() }]
}

fn told(plan: &Plan) -> Vec<String> {
    let conditions = &status(plan, "KafkaSink", "k").conditions;
    conditions.iter().map(|one| format!("{}={:?}({})", one.kind, one.status, one.reason)).collect()
}

#[test]
fn a_sink_has_an_address_and_is_as_ready_as_its_run() {
    for (state, truth, reason) in [
        (None, "Unknown", "NotStarted"),
        (Some(State::Running), "True", ""),
        (Some(State::Waiting), "False", "AsTold"),
    ] {
        let plan = make(&[kafka(json!({}))], state);
        let expected = [
            "Addressable=True()".to_owned(),
            format!("Ready={truth}({reason})"),
            format!("TopicReady={truth}({reason})"),
        ];
        assert_eq!(told(&plan), expected);
        let address = status(&plan, "KafkaSink", "k").address.as_ref().unwrap();
        assert_eq!(address.url.as_deref(), Some("http://events/sinks/ns/k"));
        assert_eq!(address.name.as_deref(), Some("http"));
        assert_eq!(plan.sinks.len(), 1);
    }
}

#[test]
fn a_sink_without_its_secret_waits_for_it() {
    let sink = kafka(json!({"auth": {"secret": {"ref": {"name": "login"}}}}));
    let plan = make(std::slice::from_ref(&sink), None);
    assert_eq!(plan.sinks[0].given, None, "it is known, so that its senders come again");
    assert!(told(&plan).contains(&"TopicReady=False(SecretNotFound)".to_owned()), "{plan:?}");
    let mut secret = object("v1", "Secret", "login", json!({}));
    secret["stringData"] = json!({"protocol": "SSL", "password": "very secret"});
    let plan = make(&[sink, secret], Some(State::Running));
    assert!(told(&plan).contains(&"Ready=True()".to_owned()));
    assert!(!format!("{plan:?}").contains("very secret"));
}

#[test]
fn triggers_sources_and_dead_letters_find_a_sink() {
    let broker =
        object(EVENTING, "Broker", "b", json!({"delivery": {"deadLetterSink": to_kafka()}}));
    let trigger =
        object(EVENTING, "Trigger", "t", json!({"broker": "b", "subscriber": to_kafka()}));
    let ping = json!({"schedule": "* * * * *", "sink": to_kafka()});
    let ping = object("sources.knative.dev/v1", "PingSource", "p", ping);
    let plan = make(&[kafka(json!({})), broker, trigger, ping.clone()], Some(State::Running));
    let url = Some("http://events/sinks/ns/k");
    assert_eq!(status(&plan, "Trigger", "t").subscriber_uri.as_deref(), url);
    assert_eq!(status(&plan, "Broker", "b").dead_letter_sink_uri.as_deref(), url);
    assert_eq!(status(&plan, "PingSource", "p").sink_uri.as_deref(), url);
    let alone = make(&[ping], None);
    let provided = status(&alone, "PingSource", "p").condition("SinkProvided").unwrap();
    assert_eq!(provided.status, Truth::False);
    assert!(provided.message.contains("kafkasinks"), "{}", provided.message);
}

#[test]
fn what_cannot_be_read_has_no_address_and_what_could_runs_on() {
    let plan = make(&[kafka(json!({"topic": 7}))], None);
    assert_eq!(status(&plan, "KafkaSink", "k").address, None);
    assert!(told(&plan).contains(&"TopicReady=False(InvalidSpec)".to_owned()));
    assert!(plan.sinks.is_empty());
}

#[test]
fn of_two_kinds_with_one_name_the_older_has_the_path() {
    let spec = json!({"servers": ["n"], "subject": "a"});
    let mut nats = object("sinks.knative.dev/v1alpha1", "NatsSink", "k", spec);
    nats["metadata"]["creationTimestamp"] = json!("2025-01-01T00:00:00Z");
    let to_nats = json!({"ref": {"apiVersion": "sinks.knative.dev/v1alpha1", "kind": "NatsSink", "name": "k"}});
    let sent = |name: &str, sink: Value| {
        let spec = json!({"schedule": "* * * * *", "sink": sink});
        object("sources.knative.dev/v1", "PingSource", name, spec)
    };
    let objects = [kafka(json!({})), nats, sent("one", to_kafka()), sent("two", to_nats)];
    let plan = make(&objects, Some(State::Running));
    let running: Vec<_> = plan.sinks.iter().map(|wanted| wanted.key().kind).collect();
    assert_eq!(running, ["NatsSink"]);
    assert!(told(&plan).contains(&"Addressable=False(PathTaken)".to_owned()), "{:?}", told(&plan));
    assert_eq!(status(&plan, "KafkaSink", "k").address, None);
    assert_eq!(status(&plan, "PingSource", "one").sink_uri, None, "it would go to the other");
    let url = Some("http://events/sinks/ns/k");
    assert_eq!(status(&plan, "PingSource", "two").sink_uri.as_deref(), url);
}
