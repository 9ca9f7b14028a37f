use std::time::Duration;

use crds::broker_defaults::BrokerDefaults;
use crds::meta::ObjectMeta;
use crds::object::Rules;
use crds::ping_defaults::PingDefaults;
use crds::resource::Catalog;
use crds::secret_ref::SecretValueFromSource;
use crds::source::SourceSpec;
use serde_json::json;

use super::{NatsAuth, NatsSource, NatsTls, Start};
use crate::source::About;

fn stream() -> NatsSource {
    let mut spec = NatsSource {
        servers: vec!["nats://nats:4222".to_owned()],
        stream: "ORDERS".to_owned(),
        ..NatsSource::default()
    };
    spec.defaults(&ObjectMeta::named("default", "one"));
    spec
}

fn core() -> NatsSource {
    let mut spec = NatsSource {
        servers: vec!["nats".to_owned()],
        subjects: vec!["a.*".to_owned()],
        ..NatsSource::default()
    };
    spec.defaults(&ObjectMeta::named("default", "one"));
    spec
}

fn refused(spec: &NatsSource) -> String {
    let rules = Rules {
        catalog: Catalog::BUILTIN,
        cesql: &|_| Ok(()),
        broker_defaults: &BrokerDefaults::builtin(),
        ping_defaults: PingDefaults::default(),
    };
    spec.validate(&ObjectMeta::named("default", "one"), &rules).to_string()
}

fn secret() -> Option<SecretValueFromSource> {
    Some(SecretValueFromSource::at("nats", "value"))
}

#[test]
fn what_a_stream_needs_is_filled_in_and_core_nats_needs_nothing() {
    let spec = stream();
    assert_eq!(refused(&spec), "");
    assert_eq!(spec.deliver_policy, "all");
    assert_eq!(spec.ack_wait.as_deref(), Some("30s"));
    assert_eq!(spec.max_ack_pending, Some(1000));
    assert_eq!(spec.consumer, "", "one that is filled in could not be told from one that is named");
    let spec = core();
    assert_eq!(refused(&spec), "");
    assert_eq!(
        (spec.deliver_policy.as_str(), &spec.ack_wait, spec.max_ack_pending),
        ("", &None, None)
    );
}

#[test]
fn fields_are_written_as_knatives_are() {
    let written = json!({
        "servers": ["nats://nats:4222"],
        "subjects": ["orders.>"],
        "stream": "ORDERS",
        "consumer": "mesh",
        "deliverPolicy": "byStartSequence",
        "optStartSequence": 7,
        "ackWait": "1m",
        "maxAckPending": 100,
        "auth": { "credentials": { "secretKeyRef": { "name": "nats", "key": "creds" } } },
        "tls": { "enable": true, "caCert": { "secretKeyRef": { "name": "nats", "key": "ca.crt" } } },
        "sink": { "uri": "http://sink" },
    });
    let spec: NatsSource = serde_json::from_value(written.clone()).unwrap();
    assert_eq!(refused(&spec), "");
    assert_eq!(serde_json::to_value(&spec).unwrap(), written);
    assert_eq!(spec.start(), Ok(Start::Sequence(7)));
    assert_eq!(spec.ack_wait(), Ok(Duration::from_mins(1)));
}

#[test]
fn what_is_missing_is_named() {
    let none = NatsSource::default();
    assert_eq!(
        refused(&none),
        "missing field(s): servers\nmissing field(s): subjects\nonly a stream can be read as a whole"
    );
}

#[test]
fn addresses_are_checked_and_their_credentials_not_repeated() {
    let mut spec = core();
    spec.servers = vec!["ws://nats".to_owned(), "nats://user:s3cret@nats".to_owned()];
    let message = refused(&spec);
    assert!(message.contains("invalid value: ws://nats: servers[0]"), "{message}");
    assert!(
        message.contains("invalid value: an address with credentials: servers[1]"),
        "{message}"
    );
    assert!(!message.contains("s3cret"), "{message}");
    spec.servers = vec!["nats".to_owned(); 17];
    assert_eq!(refused(&spec), "17 are too many: servers\nat most 16");
}

#[test]
fn subjects_are_checked_and_must_not_overlap() {
    let mut spec = core();
    spec.subjects = ["a b", "x.>", "x.y"].map(str::to_owned).to_vec();
    let message = refused(&spec);
    assert!(message.contains("invalid value: \"a b\": subjects[0]"), "{message}");
    assert!(
        message.contains(
            "invalid value: \"x.y\": subjects[2]\na message may be one of \"x.>\" as well"
        ),
        "{message}"
    );
    spec.subjects = vec!["a".to_owned(); 65];
    assert_eq!(refused(&spec), "65 are too many: subjects\nat most 64");
}

#[test]
fn what_belongs_to_a_stream_is_refused_without_one() {
    let spec = NatsSource {
        consumer: "c".to_owned(),
        deliver_policy: "new".to_owned(),
        opt_start_sequence: Some(1),
        opt_start_time: Some("2026-01-31T12:00:00Z".to_owned()),
        ack_wait: Some("1s".to_owned()),
        max_ack_pending: Some(1),
        ..core()
    };
    assert_eq!(
        refused(&spec),
        "must not set the field(s): ackWait, consumer, deliverPolicy, maxAckPending, optStartSequence, optStartTime\n\
         only a source with a stream has it"
    );
    let spec = NatsSource { queue_group: "g".to_owned(), ..stream() };
    assert!(refused(&spec).starts_with("must not set the field(s): queueGroup\n"));
    let spec = NatsSource { queue_group: "a b".to_owned(), ..core() };
    assert!(refused(&spec).starts_with("invalid value: \"a b\": queueGroup\n"));
    let spec = NatsSource { stream: "a.b".to_owned(), consumer: ">".to_owned(), ..stream() };
    let message = refused(&spec);
    assert!(
        message.contains("\"a.b\": stream") && message.contains("\">\": consumer"),
        "{message}"
    );
}

#[test]
fn a_start_is_said_by_the_policy_and_what_it_asks_for() {
    let with = |policy: &str, sequence: Option<i64>, time: Option<&str>| NatsSource {
        deliver_policy: policy.to_owned(),
        opt_start_sequence: sequence,
        opt_start_time: time.map(str::to_owned),
        ..stream()
    };
    let time = "2026-01-31T12:00:00Z";
    for (spec, start) in [
        (with("", None, None), Start::All),
        (with("last", None, None), Start::Last),
        (with("new", None, None), Start::New),
        (with("byStartSequence", Some(1), None), Start::Sequence(1)),
        (with("byStartTime", None, Some(time)), Start::Time(time.parse().unwrap())),
    ] {
        assert_eq!(spec.start(), Ok(start));
        assert_eq!(refused(&spec), "");
    }
    for (spec, message) in [
        (
            with("newest", None, None),
            "invalid value: newest: deliverPolicy\nexpected one of all, last, new, byStartSequence, byStartTime",
        ),
        (with("byStartSequence", None, None), "missing field(s): optStartSequence"),
        (
            with("byStartSequence", Some(0), None),
            "invalid value: 0: optStartSequence\nsequences begin with 1",
        ),
        (with("byStartTime", None, None), "missing field(s): optStartTime"),
        (
            with("byStartTime", None, Some("noon")),
            "invalid value: noon: optStartTime\nexpected a time such as 2026-01-31T12:00:00Z",
        ),
        (
            with("all", Some(1), None),
            "must not set the field(s): optStartSequence\nonly deliverPolicy byStartSequence has one",
        ),
    ] {
        assert_eq!(refused(&spec), message);
    }
}

#[test]
fn numbers_and_durations_have_bounds() {
    for good in ["1s", "90s", "1m 30s", "PT30S", "1h", "1500ms"] {
        let spec = NatsSource { ack_wait: Some(good.to_owned()), ..stream() };
        assert_eq!(refused(&spec), "", "{good}");
    }
    for bad in ["", "30", "0s", "999ms", "-30s", "61m", "P1D", "soon"] {
        let spec = NatsSource { ack_wait: Some(bad.to_owned()), ..stream() };
        let message = refused(&spec);
        assert_eq!(
            message,
            format!(
                "invalid value: {bad}: ackWait\nexpected a duration from 1s to 1h, such as 30s or PT30S"
            )
        );
    }
    for bad in [0, -1, 1_000_001] {
        let spec = NatsSource { max_ack_pending: Some(bad), ..stream() };
        assert_eq!(
            refused(&spec),
            format!("invalid value: {bad}: maxAckPending\nexpected 1 to 1000000")
        );
    }
}

#[test]
fn one_way_to_say_who_one_is_is_enough() {
    let with = |auth: NatsAuth| refused(&NatsSource { auth: Some(auth), ..stream() });
    let user = NatsAuth { user: secret(), password: secret(), ..NatsAuth::default() };
    assert_eq!(with(user.clone()), "");
    assert_eq!(with(NatsAuth { nkey: secret(), ..NatsAuth::default() }), "");
    assert_eq!(
        with(NatsAuth::default()),
        "expected exactly one, got neither: auth.credentials, auth.nkey, auth.token, auth.user"
    );
    assert_eq!(
        with(NatsAuth { token: secret(), ..user }),
        "expected exactly one, got both: auth.token, auth.user"
    );
    assert_eq!(
        with(NatsAuth { user: secret(), ..NatsAuth::default() }),
        "missing field(s): auth.password"
    );
    assert_eq!(
        with(NatsAuth { password: secret(), ..NatsAuth::default() }),
        "missing field(s): auth.user"
    );
    assert_eq!(
        with(NatsAuth { token: Some(SecretValueFromSource::default()), ..NatsAuth::default() }),
        "missing field(s): auth.token.secretKeyRef"
    );
}

#[test]
fn a_certificate_has_a_key_and_requires_tls() {
    let with = |tls: NatsTls| NatsSource { tls: Some(tls), ..stream() };
    let cert = NatsTls { cert: secret(), ..NatsTls::default() };
    assert_eq!(refused(&with(cert)), "missing field(s): tls.key");
    let key = NatsTls { key: secret(), ..NatsTls::default() };
    assert_eq!(refused(&with(key)), "missing field(s): tls.cert");
    let trusts = with(NatsTls { ca_cert: secret(), ..NatsTls::default() });
    assert_eq!(refused(&trusts), "");
    assert!(trusts.requires_tls());
    assert!(with(NatsTls { enable: true, ..NatsTls::default() }).requires_tls());
    assert!(!with(NatsTls::default()).requires_tls());
    assert!(!stream().requires_tls());
}

#[test]
fn where_a_consumer_starts_cannot_change() {
    let old = stream();
    let new = NatsSource { deliver_policy: "new".to_owned(), ..stream() };
    let message = new.validate_update(&old).to_string();
    assert!(
        message.starts_with(
            "Immutable fields changed (-old +new): deliverPolicy, optStartSequence, optStartTime\n"
        ),
        "{message}"
    );
    let elsewhere = |consumer: &str| NatsSource {
        stream: "OTHER".to_owned(),
        consumer: consumer.to_owned(),
        ..new.clone()
    };
    let named = NatsSource { consumer: "ours".to_owned(), ..stream() };
    assert!(elsewhere("ours").validate_update(&named).is_empty());
    // Its own consumer would stay behind.
    for moved in [elsewhere(""), named] {
        let message = moved.validate_update(&old).to_string();
        assert!(
            message.starts_with("Immutable fields changed (-old +new): consumer, stream\n"),
            "{message}"
        );
    }
    let unsaid = NatsSource { deliver_policy: String::new(), ..stream() };
    assert!(unsaid.validate_update(&old).is_empty());
    let faster = NatsSource { max_ack_pending: Some(7), ..stream() };
    assert!(faster.validate_update(&old).is_empty());
}

#[test]
fn a_consumer_is_named_after_its_source() {
    let about = |namespace: &str, name: &str| About {
        namespace: namespace.into(),
        name: name.into(),
        ..About::default()
    };
    let spec = stream();
    assert_eq!(spec.consumer_name(&about("default", "shop.eu")), "weft_default_shop_eu");
    assert!(spec.owns_consumer());
    let long = spec.consumer_name(&about("default", &"x".repeat(253)));
    assert_eq!(long.len(), "weft_".len() + 64);
    assert_ne!(long, spec.consumer_name(&about("default", &"x".repeat(252))));
    let named = NatsSource { consumer: "mesh".to_owned(), ..stream() };
    assert_eq!(named.consumer_name(&about("default", "one")), "mesh");
    assert!(!named.owns_consumer());
    assert!(!core().owns_consumer());
}

#[test]
fn the_schema_knows_the_policies_and_what_is_required() {
    let schema = (NatsSource::RESOURCE.versions[0].schema)();
    let spec = &schema["properties"]["spec"];
    assert_eq!(spec["required"], json!(["servers", "sink"]));
    assert_eq!(
        spec["properties"]["deliverPolicy"]["enum"],
        json!(["", "all", "last", "new", "byStartSequence", "byStartTime"])
    );
    assert_eq!(spec["properties"]["maxAckPending"]["maximum"], 1_000_000);
}
