use std::time::Duration;

use serde_json::{Value, json};

use sources::{Aim, State};

use super::*;

const EVENTING: &str = "eventing.knative.dev/v1";

pub(super) fn object(api_version: &str, kind: &str, name: &str, spec: Value) -> Value {
    let mut object = json!({
        "apiVersion": api_version,
        "kind": kind,
        "metadata": {"namespace": "ns", "name": name, "uid": name, "resourceVersion": "1", "generation": 1},
    });
    object["spec"] = spec;
    object
}

/// `object` with the fields of `more`.
pub(super) fn with(mut object: Value, more: Value) -> Value {
    if let (Value::Object(object), Value::Object(more)) = (&mut object, more) {
        object.extend(more);
    }
    object
}

fn broker(spec: Value) -> Value {
    annotated(
        object(EVENTING, "Broker", "b", spec),
        "eventing.knative.dev/broker.class",
        "MTChannelBasedBroker",
    )
}

fn foreign(name: &str) -> Value {
    annotated(
        object(EVENTING, "Broker", name, json!({})),
        "eventing.knative.dev/broker.class",
        "Kafka",
    )
}

fn trigger(spec: Value) -> Value {
    let whole = with(json!({"broker": "b", "subscriber": {"uri": "http://s/"}}), spec);
    object(EVENTING, "Trigger", "t", whole)
}

fn ping(spec: Value) -> Value {
    let whole = with(json!({"schedule": "* * * * *", "sink": {"uri": "http://s/"}}), spec);
    object("sources.knative.dev/v1", "PingSource", "p", whole)
}

fn github() -> Value {
    let token = |key: &str| json!({"secretKeyRef": {"name": "github", "key": key}});
    let spec = json!({
        "ownerAndRepository": "acme/shop", "eventTypes": ["push", "*"], "sink": to("Broker", "b"),
        "accessToken": token("access"), "secretToken": token("signing"),
    });
    object("sources.knative.dev/v1alpha1", "GitHubSource", "g", spec)
}

/// As it is once the mesh holds it.
fn guarded(mut object: Value) -> Value {
    object["metadata"]["finalizers"] = json!(["theirs/one", FINALIZER]);
    object
}

fn secret(keys: &[&str]) -> Value {
    let data: BTreeMap<_, _> = keys.iter().map(|key| (*key, "very secret")).collect();
    let mut secret = object("v1", "Secret", "github", json!({}));
    secret["stringData"] = json!(data);
    secret
}

fn annotated(mut object: Value, key: &str, value: &str) -> Value {
    object["metadata"]["annotations"][key] = value.into();
    object
}

fn to(kind: &str, name: &str) -> Value {
    json!({"ref": {"apiVersion": EVENTING, "kind": kind, "name": name}})
}

fn world(objects: &[Value]) -> World {
    let mut world = World::default();
    for object in objects {
        world.put(object.clone()).unwrap();
    }
    world
}

fn make(objects: &[Value]) -> Plan {
    Plan::make(&world(objects), &Config::new("http://events"), &InForce::default())
}

/// The same, once every source that is wanted is in that state.
fn make_with(objects: &[Value], state: State) -> Plan {
    let plan = make(objects);
    let heard = plan.sources.iter().filter(|wanted| wanted.aim != Aim::Wait);
    let sources = heard.map(|wanted| (wanted.key(), in_state(state)));
    let told = InForce { sources: sources.collect(), ..InForce::default() };
    Plan::make(&world(objects), &Config::new("http://events"), &told)
}

fn make_running(objects: &[Value]) -> Plan {
    make_with(objects, State::Running)
}

fn in_state(state: State) -> sources::Status {
    sources::Status { state, reason: "AsTold", ..sources::Status::default() }
}

/// How many sources run.
fn running(plan: &Plan) -> usize {
    plan.sources.iter().filter(|wanted| wanted.aim == Aim::Run).count()
}

fn status<'a>(plan: &'a Plan, kind: &'static str, name: &str) -> &'a Status {
    &plan.statuses[&Key { kind, namespace: "ns".to_owned(), name: name.to_owned() }]
}

/// `Type=Status(Reason)` of each condition, without what always holds.
fn told(status: &Status) -> Vec<String> {
    let always = ["OIDCIdentityCreated", "EventPoliciesReady"];
    let mut told = Vec::new();
    for condition in status.conditions.iter().filter(|c| !always.contains(&c.kind.as_str())) {
        let reason = &condition.reason;
        let reason = if reason.is_empty() { String::new() } else { format!("({reason})") };
        told.push(format!("{}={:?}{reason}", condition.kind, condition.status));
    }
    told
}

fn is_paused(plan: &Plan) -> bool {
    plan.snapshot.triggers[0].paused
}

#[test]
fn a_broker_is_ready_and_has_an_address() {
    let plan = make(&[broker(json!({}))]);
    let status = status(&plan, "Broker", "b");
    let address = status.address.as_ref().unwrap();
    assert_eq!(address.url.as_deref(), Some("http://events/ns/b"));
    assert_eq!(address.name.as_deref(), Some("http"));
    assert_eq!(status.observed_generation, Some(1));
    let expected = [
        "Addressable=True",
        "DeadLetterSinkResolved=True(DeadLetterSinkNotConfigured)",
        "FilterReady=True",
        "IngressReady=True",
        "Ready=True",
    ];
    assert_eq!(told(status), expected);
    let policies = status.condition("EventPoliciesReady").unwrap();
    assert_eq!((policies.status, policies.reason.as_str()), (Truth::True, "OIDCDisabled"));
    assert_eq!(plan.snapshot.brokers.len(), 1);
}

#[test]
fn a_broker_of_another_class_and_its_triggers_are_left_alone() {
    let mut theirs = foreign("b");
    let plan = make(&[theirs.clone(), trigger(json!({}))]);
    assert_eq!(plan.snapshot, Snapshot::default());
    assert!(plan.statuses.is_empty() && plan.events.is_empty());
    assert_eq!(plan.notes, ["broker ns/b: class Kafka is not this mesh's: left alone"]);
    // Its address is good for others, though.
    theirs["metadata"]["name"] = "kafka".into();
    theirs["status"] = json!({"address": {"url": "http://kafka/", "CACerts": "pem"}});
    let plan = make(&[theirs, ping(json!({"sink": to("Broker", "kafka")}))]);
    let expected = sources::Sink::Url {
        url: http::Uri::from_static("http://kafka/"),
        ca_certs: Some("pem".into()),
    };
    assert_eq!(plan.sources[0].sink, expected);
}

#[test]
fn a_trigger_is_ready_with_the_addresses_it_uses() {
    let spec = json!({"delivery": {"deadLetterSink": {"uri": "http://dead/"}, "retry": 3}});
    let plan = make(&[broker(json!({})), trigger(spec)]);
    let status = status(&plan, "Trigger", "t");
    let expected = [
        "BrokerReady=True",
        "DeadLetterSinkResolved=True",
        "DependencyReady=True",
        "Ready=True",
        "SubscriberResolved=True",
        "SubscriptionReady=True",
    ];
    assert_eq!(told(status), expected);
    assert_eq!(status.subscriber_uri.as_deref(), Some("http://s/"));
    assert_eq!(status.dead_letter_sink_uri.as_deref(), Some("http://dead/"));
    assert!(!is_paused(&plan) && plan.notes.is_empty());
}

#[test]
fn delivery_is_merged_field_by_field_with_the_brokers() {
    let sink = json!({"uri": "http://dead/"});
    let inherited = json!({"delivery": {"retry": 7, "timeout": "PT2S", "deadLetterSink": sink}});
    let plan = make(&[broker(inherited), trigger(json!({"delivery": {"retry": 1}}))]);
    let delivery = &plan.snapshot.triggers[0].delivery;
    assert_eq!((delivery.retry, delivery.timeout), (1, Duration::from_secs(2)));
    assert_eq!(delivery.dead_letter.as_ref().unwrap().url, "http://dead/");
    let uri = |kind, name| status(&plan, kind, name).dead_letter_sink_uri.as_deref();
    assert_eq!(uri("Trigger", "t"), Some("http://dead/"));
    assert_eq!(uri("Broker", "b"), Some("http://dead/"));
}

#[test]
fn a_broker_that_names_no_class_is_ours_also_where_nobody_fills_in_defaults() {
    let plan = make(&[object(EVENTING, "Broker", "b", json!({})), trigger(json!({}))]);
    assert!(status(&plan, "Broker", "b").is_ready());
    assert_eq!(plan.snapshot.triggers[0].delivery.retry, 10);
}

#[test]
fn a_trigger_without_its_broker_waits_for_it_and_says_so() {
    let plan = make(&[trigger(json!({}))]);
    let status = status(&plan, "Trigger", "t");
    let broker = status.condition("BrokerReady").unwrap();
    assert_eq!(broker.message, "Broker \"b\" does not exist");
    assert!(told(status).contains(&"Ready=False(BrokerDoesNotExist)".to_owned()));
    assert!(
        told(status).contains(&"SubscriptionReady=Unknown(SubscriptionNotConfigured)".to_owned())
    );
    // The dispatcher subscribes it once there is a topic; nothing of it is decided here.
    assert_eq!(plan.snapshot.triggers.len(), 1);
    assert!(plan.snapshot.brokers.is_empty());
    assert_eq!(plan.notes, ["trigger ns/t: broker b does not exist yet: the trigger waits for it"]);
}

#[test]
fn whatever_is_missing_makes_events_wait_and_is_named() {
    let dependency = |text: &str| annotated(trigger(json!({})), "knative.dev/dependency", text);
    let on = |api_version: &str, kind: &str| {
        dependency(&json!({"apiVersion": api_version, "kind": kind, "name": "p"}).to_string())
    };
    let service = json!({"ref": {"apiVersion": "v1", "kind": "Service", "name": "s"}});
    let cases = [
        (
            trigger(json!({"subscriber": to("Broker", "none")})),
            "SubscriberResolved=False(Unable to get the Subscriber's URI)",
        ),
        (
            trigger(json!({"subscriber": to("Channel", "c")})),
            "SubscriberResolved=False(Unable to get the Subscriber's URI)",
        ),
        (
            trigger(json!({"subscriber": service})),
            "SubscriberResolved=False(Unable to get the Subscriber's URI)",
        ),
        (
            trigger(json!({"subscriber": {"uri": "ftp://s/"}})),
            "SubscriberResolved=False(Unable to get the Subscriber's URI)",
        ),
        (
            trigger(json!({"subscriber": {"uri": "http://u:pw@s/"}})),
            "SubscriberResolved=False(Unable to get the Subscriber's URI)",
        ),
        (trigger(json!({"filters": [{"cesql": "((("}]})), "SubscriptionReady=False(InvalidFilter)"),
        (trigger(json!({"filters": [{}]})), "SubscriptionReady=False(InvalidFilter)"),
        (trigger(json!({"filters": "none"})), "SubscriptionReady=False(InvalidSpec)"),
        (dependency("not json"), "DependencyReady=False(ReferenceError)"),
        (
            on("sources.knative.dev/v1", "PingSource"),
            "DependencyReady=False(DependencyDoesNotExist)",
        ),
        (on("v1", "Pod"), "DependencyReady=Unknown(ListerDoesNotExist)"),
    ];
    for (trigger, expected) in cases {
        let plan = make(&[broker(json!({})), trigger]);
        let status = status(&plan, "Trigger", "t");
        assert!(told(status).contains(&expected.to_owned()), "{expected}: {:?}", told(status));
        assert!(is_paused(&plan), "{expected}");
        assert!(!status.is_ready());
        assert!(!format!("{status:?} {:?}", plan.notes).contains("pw"), "no secret is shown");
    }
}

#[test]
fn a_dead_letter_sink_that_is_missing_stops_nothing_but_is_told() {
    let sink = json!({"delivery": {"deadLetterSink": to("Broker", "none")}});
    let plan = make(&[broker(sink), trigger(json!({}))]);
    for (kind, name) in [("Broker", "b"), ("Trigger", "t")] {
        let condition = status(&plan, kind, name).condition("DeadLetterSinkResolved").unwrap();
        assert_eq!(condition.reason, "Unable to get the dead letter sink's URI");
        assert_eq!(
            condition.message,
            "failed to get object ns/none: brokers.eventing.knative.dev \"none\" not found"
        );
        assert!(!status(&plan, kind, name).is_ready());
    }
    assert!(!is_paused(&plan), "what cannot be delivered is parked");
}

#[test]
fn references_lead_to_the_addresses_that_objects_report() {
    let service = |api_version: &str| {
        let mut service = object(api_version, "Service", "s", json!({}));
        service["status"] = json!({"address": {"url": "http://s.example"}});
        service
    };
    let sink = |api_version: &str, more: Value| {
        with(json!({"ref": {"apiVersion": api_version, "kind": "Service", "name": "s"}}), more)
    };
    let serving = "serving.knative.dev/v1";
    let named =
        json!({"ref": {"apiVersion": serving, "kind": "Service", "name": "s", "address": "https"}});
    let cases = [
        (sink("v1", json!({})), Some("http://s.ns.svc.cluster.local")),
        (sink("v1", json!({"uri": "/path?x=1"})), Some("http://s.ns.svc.cluster.local/path?x=1")),
        (sink(serving, json!({})), Some("http://s.example")),
        (sink(serving, json!({"uri": "path"})), Some("http://s.example/path")),
        (named, None),
        (to("Broker", "b"), Some("http://events/ns/b")),
    ];
    for (subscriber, expected) in cases {
        let objects = [
            broker(json!({})),
            service("v1"),
            service(serving),
            trigger(json!({"subscriber": subscriber})),
        ];
        let plan = make(&objects);
        let status = status(&plan, "Trigger", "t");
        assert_eq!(status.subscriber_uri.as_deref(), expected, "{subscriber}");
    }
}

#[test]
fn a_trigger_waits_until_what_it_depends_on_is_ready() {
    let text = r#"{"kind":"PingSource","apiVersion":"sources.knative.dev/v1","name":"p"}"#;
    let waiting = annotated(trigger(json!({})), "knative.dev/dependency", text);
    let ready = make_running(&[broker(json!({})), waiting.clone(), ping(json!({}))]);
    assert!(!is_paused(&ready) && status(&ready, "Trigger", "t").is_ready());
    let unready = ping(json!({"sink": to("Broker", "none")}));
    let unready = make(&[broker(json!({})), waiting, unready]);
    assert!(is_paused(&unready));
    let told = told(status(&unready, "Trigger", "t"));
    assert!(told.contains(&"DependencyReady=False(NotFound)".to_owned()), "{told:?}");
}

#[test]
fn a_ping_source_says_what_it_sends_and_where() {
    let ready = make_running(&[broker(json!({})), ping(json!({"sink": to("Broker", "b")}))]);
    let pinged = status(&ready, "PingSource", "p");
    assert_eq!(told(pinged), ["Deployed=True", "Ready=True", "SinkProvided=True"]);
    assert_eq!(pinged.sink_uri.as_deref(), Some("http://events/ns/b"));
    assert_eq!(pinged.ce_attributes[0].kind, "dev.knative.sources.ping");
    assert_eq!(pinged.ce_attributes[0].source, "/apis/v1/namespaces/ns/pingsources/p");
    let straight = sources::Sink::Broker { namespace: "ns".into(), name: "b".into() };
    assert_eq!(ready.sources[0].sink, straight);
}

#[test]
fn a_source_that_cannot_run_says_why_and_one_whose_broker_is_missing_runs() {
    let cases = [
        (ping(json!({"sink": to("Channel", "c")})), "SinkProvided=False(NotFound)", 0),
        (ping(json!({"sink": to("Broker", "none")})), "SinkProvided=False(NotFound)", 1),
        (
            ping(json!({"ceOverrides": {"extensions": {"Id": "x"}}})),
            "SinkProvided=False(InvalidOverrides)",
            0,
        ),
        (ping(json!({"schedule": 5})), "Deployed=False(InvalidSpec)", 0),
    ];
    for (source, expected, count) in cases {
        let plan = make(&[source]);
        let told = told(status(&plan, "PingSource", "p"));
        assert!(told.contains(&expected.to_owned()), "{expected}: {told:?}");
        assert_eq!(running(&plan), count, "{expected}");
    }
}

#[test]
fn a_source_whose_secret_is_gone_waits_and_is_not_forgotten() {
    let plan = make(&[broker(json!({})), guarded(github())]);
    let [waiting] = plan.sources.as_slice() else { panic!("{:?}", plan.sources) };
    assert_eq!(waiting.aim, Aim::Wait);
    let notes = plan.notes.join("\n");
    let expected =
        "source ns/g: secretToken: Secret ns/github with key signing not found: the source waits";
    assert!(notes.contains(expected), "{notes}");
    let plan = make(&[broker(json!({})), secret(&["signing"]), guarded(github())]);
    assert!(plan.notes[0].ends_with("not found: the source runs without"), "{:?}", plan.notes);
}

#[test]
fn a_github_source_needs_its_secrets_and_its_web_hook() {
    let by_hand = || annotated(github(), "weft.dev/register", "false");
    let cases = [
        (guarded(github()), &[][..], "SecretsProvided=False(SecretTokenNotFound)", 0),
        (guarded(github()), &["signing"], "SecretsProvided=False(AccessTokenNotFound)", 1),
        (guarded(github()), &["signing", "access"], "SecretsProvided=True", 1),
        (by_hand(), &["signing"], "Ready=True", 1),
    ];
    for (source, keys, expected, hooks) in cases {
        let plan = make_running(&[broker(json!({})), secret(keys), source]);
        let status = status(&plan, "GitHubSource", "g");
        assert!(told(status).contains(&expected.to_owned()), "{expected}: {:?}", told(status));
        assert_eq!((plan.hooks.len(), running(&plan)), (hooks, hooks), "{expected}");
        assert_eq!(status.ce_attributes.len(), 1, "`*` is no type");
        assert_eq!(status.ce_attributes[0].source, "https://github.com/acme/shop");
        assert!(!format!("{plan:?}").contains("very secret"));
    }
}

#[test]
fn a_web_hook_is_not_configured_because_its_token_is_there() {
    let token = |key: &str| json!({"secretKeyRef": {"name": "github", "key": key}});
    let spec = json!({
        "projectUrl": "https://gitlab.example.com/acme/shop", "eventTypes": ["push_events"],
        "sink": to("Broker", "b"), "accessToken": token("access"), "secretToken": token("signing"),
    });
    let gitlab = object("sources.knative.dev/v1alpha1", "GitLabSource", "g", spec);
    let plan = make(&[broker(json!({})), secret(&["signing", "access"]), guarded(gitlab)]);
    let told = told(status(&plan, "GitLabSource", "g"));
    assert!(told.contains(&"WebhookConfigured=Unknown(NotStarted)".to_owned()), "{told:?}");
}

#[test]
fn a_source_is_as_ready_as_it_says() {
    for (state, expected) in [
        (State::Starting, "Deployed=Unknown(Starting)"),
        (State::Running, "Deployed=True"),
        (State::Waiting, "Deployed=False(AsTold)"),
        (State::Failed, "Deployed=False(AsTold)"),
    ] {
        let plan = make_with(&[broker(json!({})), ping(json!({}))], state);
        let status = status(&plan, "PingSource", "p");
        assert!(told(status).contains(&expected.to_owned()), "{:?}", told(status));
        assert_eq!(status.is_ready(), state == State::Running);
    }
    let unheard = make(&[ping(json!({}))]);
    let unheard = told(status(&unheard, "PingSource", "p"));
    assert!(unheard.contains(&"Deployed=Unknown(NotStarted)".to_owned()), "{unheard:?}");
}

#[test]
fn what_a_source_reports_is_said_and_only_its_kinds_conditions_count() {
    let objects = [broker(json!({})), secret(&["signing", "access"]), guarded(github())];
    let key = make(&objects).sources[0].key();
    let mut reported = in_state(State::Running);
    reported.facts.insert("webhookIDKey", "7".into());
    reported.conditions =
        vec![sources::Condition::bad("Delivering", "SinkBusy", "the sink is full".to_owned())];
    let plan = |reported: &sources::Status| {
        let sources = [(key.clone(), reported.clone())].into_iter().collect();
        let told = InForce { sources, ..InForce::default() };
        Plan::make(&world(&objects), &Config::new("http://events"), &told)
    };
    let mentioned = plan(&reported);
    let mentioned = status(&mentioned, "GitHubSource", "g");
    assert!(mentioned.is_ready());
    let delivering = mentioned.condition("Delivering").unwrap();
    assert_eq!((delivering.status, delivering.severity.as_str()), (Truth::False, "Warning"));
    assert_eq!(mentioned.facts["webhookIDKey"], "7");
    let refused =
        sources::Condition::bad("WebhookConfigured", "CredentialsRefused", "401".to_owned());
    reported.conditions.push(refused);
    let unready = plan(&reported);
    assert!(!status(&unready, "GitHubSource", "g").is_ready());
}

#[test]
fn a_source_that_makes_something_upstream_is_held_first_and_let_go_once_it_is_removed() {
    let make_dying = || {
        let mut dying = guarded(github());
        dying["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z".into();
        dying
    };
    let key = Key { kind: "GitHubSource", namespace: "ns".to_owned(), name: "g".to_owned() };
    let others = [broker(json!({})), secret(&["signing", "access"])];
    let with = |source: Value| [&others[..], &[source]].concat();

    let new = make(&with(github()));
    assert_eq!(new.finalizers.get(&key), Some(&true));
    assert_eq!(running(&new), 0, "nothing is made upstream that could be forgotten");
    let held = make(&with(guarded(github())));
    assert!(held.finalizers.is_empty());
    assert_eq!(held.sources[0].aim, Aim::Run);

    let dying = make(&with(make_dying()));
    assert!(dying.finalizers.is_empty() && dying.hooks.is_empty());
    assert_eq!(dying.sources[0].aim, Aim::Retire);
    assert!(!dying.statuses.contains_key(&key));
    let retired = make_with(&with(make_dying()), State::Retired);
    assert_eq!(retired.finalizers.get(&key), Some(&false));
    assert_eq!(retired.sources[0].aim, Aim::Retire, "until it is gone");
    let without = make(&[others[0].clone(), make_dying()]);
    assert!(without.finalizers.is_empty(), "its Secret may be remembered");
    assert_eq!(without.sources[0].aim, Aim::Retire);
    let mut torn = make_dying();
    torn["spec"] = json!({"eventTypes": 7});
    let torn = make(&[others[0].clone(), torn]);
    assert_eq!(torn.finalizers.get(&key), Some(&false));
    assert!(torn.notes.iter().any(|note| note.contains("stays there")), "{:?}", torn.notes);
}

#[test]
fn what_the_data_plane_could_not_do_is_said_and_changes_nothing_else() {
    let objects = [broker(json!({})), trigger(json!({})), ping(json!({}))];
    let world = world(&objects);
    let config = Config::new("http://events");
    let good = Plan::make(&world, &config, &InForce::default());
    for (kind, name, expected) in [
        ("Broker", "b", "IngressReady=False(NotInForce)"),
        ("Trigger", "t", "SubscriptionReady=False(NotInForce)"),
        ("PingSource", "p", "Deployed=False(NotInForce)"),
    ] {
        let of = Key { kind, namespace: "ns".to_owned(), name: name.to_owned() };
        let problems = BTreeMap::from([(of, "the disk is full".to_owned())]);
        let in_force = InForce { problems, ..InForce::default() };
        let plan = Plan::make(&world, &config, &in_force);
        let told = told(status(&plan, kind, name));
        assert!(told.contains(&expected.to_owned()), "{told:?}");
        assert_eq!((&plan.snapshot, &plan.sources), (&good.snapshot, &good.sources));
        let follows = !status(&plan, "Trigger", "t").is_ready();
        assert_eq!(follows, kind != "PingSource", "a trigger is as ready as its broker");
    }
}

#[test]
fn a_trigger_that_was_never_understood_keeps_its_events() {
    let mut torn = trigger(json!({}));
    torn["spec"]["subscriber"] = json!(["no", "object"]);
    let plan = make(&[broker(json!({})), torn]);
    assert_eq!(plan.snapshot.triggers[0].broker, Topic::new("ns", "b"));
    assert!(is_paused(&plan));
}

#[test]
fn a_pause_that_was_asked_for_is_no_fault() {
    let plan = make(&[broker(json!({})), annotated(trigger(json!({})), "weft.dev/paused", "true")]);
    let status = status(&plan, "Trigger", "t");
    assert!(is_paused(&plan) && status.is_ready());
    assert_eq!(status.condition("SubscriptionReady").unwrap().reason, "Paused");
}

#[test]
fn readiness_that_is_lost_is_an_event() {
    let mut lost = trigger(json!({}));
    lost["status"] = json!({"conditions": [{"type": "Ready", "status": "True"}]});
    let plan = make(
        &[lost, broker(json!({}))]
            .map(|object| if object["kind"] == "Broker" { foreign("other") } else { object }),
    );
    let [notice] = plan.events.as_slice() else { panic!("{:?}", plan.events) };
    assert_eq!(notice.about().to_string(), "Trigger ns/t");
    assert!(notice.warning);
    assert_eq!(notice.reason, "BrokerDoesNotExist");
}

#[test]
fn configuration_in_another_namespace_is_pointed_out() {
    let plan = make(&[object("v1", "ConfigMap", "config-br-defaults", json!({}))]);
    let note =
        "config map ns/config-br-defaults: it has an effect in namespace knative-eventing only";
    assert_eq!(plan.notes, [note]);
}

#[test]
fn ten_thousand_triggers_are_planned_in_the_order_of_their_names_whatever_the_order_they_came_in() {
    let named = |index: usize| {
        let mut trigger = trigger(json!({}));
        trigger["metadata"]["name"] = format!("t{index:05}").into();
        trigger
    };
    let forwards: Vec<_> = (0..10_000).map(named).chain([broker(json!({}))]).collect();
    let backwards: Vec<_> = forwards.iter().rev().cloned().collect();
    let plan = make(&forwards);
    assert_eq!(plan.snapshot.triggers.len(), 10_000);
    assert_eq!(plan.statuses.len(), 10_001);
    assert_eq!(plan, make(&backwards));
}

fn container_source() -> Value {
    let env = json!([
        {"name": "MODE", "valueFrom": {"configMapKeyRef": {"name": "modes", "key": "mode"}}},
        {"name": "K_SINK", "value": "http://elsewhere/"},
    ]);
    let from = json!([{"secretRef": {"name": "github"}}]);
    let containers = json!([{"name": "main", "image": "shop:1", "env": env, "envFrom": from}]);
    let spec = json!({"template": {"spec": {"containers": containers}}, "sink": to("Broker", "b")});
    object("sources.knative.dev/v1", "ContainerSource", "c", spec)
}

fn only_deployment(plan: &Plan) -> (&Key, &Deployment) {
    let mut all = plan.deployments.iter();
    let found = all.next().expect("one");
    assert!(all.next().is_none());
    found
}

#[test]
fn a_cluster_runs_the_containers_of_a_source_and_says_how_they_are() {
    let objects = [broker(json!({})), container_source()];
    let new = make(&objects);
    assert!(new.sources.is_empty() && new.finalizers.is_empty());
    let (key, planned) = only_deployment(&new);
    assert_eq!((key.kind, key.name.as_str()), ("Deployment", "c-deployment"));
    assert_eq!(planned.version, None);
    let env = &planned.object["spec"]["template"]["spec"]["containers"][0]["env"];
    let names: Vec<_> = env.as_array().unwrap().iter().map(|one| &one["name"]).collect();
    assert_eq!(names, ["MODE", "K_CE_OVERRIDES", "K_SINK"]);
    assert_eq!(env[2]["value"], "http://events/ns/b");
    let source = |plan: &Plan| {
        let (_, status) = plan.statuses.iter().find(|(key, _)| key.name == "c").unwrap();
        let of = |kind| status.condition(kind).map(|one| (one.status, one.reason.clone()));
        (
            of("ReceiveAdapterReady").unwrap(),
            of("SinkBindingReady").unwrap().0,
            of(READY).unwrap().0,
        )
    };
    let unavailable = (Truth::Unknown, "DeploymentUnavailable".to_owned());
    assert_eq!(source(&new), (unavailable, Truth::True, Truth::Unknown));

    let there = |status: &str, owner: &str| {
        let mut there = planned.object.clone();
        there["metadata"]["resourceVersion"] = "7".into();
        there["metadata"]["ownerReferences"][0]["uid"] = owner.into();
        let said =
            json!({"type": "Available", "status": status, "reason": "Said", "message": "so"});
        there["status"] = json!({"replicas": 1, "conditions": [said]});
        make(&[&objects[..], &[there]].concat())
    };
    let available = there("True", "c");
    assert!(available.deployments.is_empty());
    assert_eq!(source(&available), ((Truth::True, String::new()), Truth::True, Truth::True));
    assert_eq!(source(&there("False", "c")).0, (Truth::False, "Said".to_owned()));
    // One of an earlier source of the name is neither taken over nor believed.
    let earlier = there("True", "before");
    assert_eq!(only_deployment(&earlier).1.version, None);
    assert_eq!(source(&earlier).2, Truth::Unknown);

    let mut other = container_source();
    other["spec"]["template"]["spec"]["containers"][0]["image"] = "shop:2".into();
    let mut there = planned.object.clone();
    there["metadata"]["resourceVersion"] = "7".into();
    let again = make(&[broker(json!({})), other, there]);
    assert_eq!(only_deployment(&again).1.version.as_deref(), Some("7"));
}

#[test]
fn a_process_is_run_by_a_mesh_of_ones_own_alone_and_is_given_what_it_asks_for() {
    let mut process = container_source();
    process["spec"]["template"]["spec"]["runtimeClassName"] = "process".into();
    process["spec"]["template"]["spec"]["containers"][0]["command"] = json!(["true"]);
    let mut modes = object("v1", "ConfigMap", "modes", json!({}));
    modes["data"] = json!({"mode": "fast"});
    let objects = [broker(json!({})), process, modes, secret(&["access", "signing"])];
    let refused = make(&objects);
    assert!(refused.sources.is_empty() && refused.deployments.is_empty());
    let status = refused.statuses.iter().find(|(key, _)| key.name == "c").unwrap().1;
    assert_eq!(status.condition("ReceiveAdapterReady").unwrap().reason, "ProgramsNotRun");

    let mut world = World::new(true);
    objects.iter().for_each(|object| world.put(object.clone()).unwrap());
    let config = Config { runs_programs: true, ..Config::new("http://events") };
    let plan = Plan::make(&world, &config, &InForce::default());
    assert!(plan.deployments.is_empty());
    let given = &plan.sources[0].given;
    let at = |rest: &str| format!("template.spec.containers[0].{rest}");
    assert_eq!(given.get(&at("env[0].valueFrom")).unwrap().expose(), "fast");
    let keys: Vec<_> = given.under(&at("envFrom[0]")).map(|(key, _)| key).collect();
    assert_eq!(keys, ["access", "signing"]);
}
