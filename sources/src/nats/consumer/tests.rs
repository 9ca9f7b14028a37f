use std::time::Duration;

use async_nats::jetstream::consumer::{AckPolicy, Config, DeliverPolicy, IntoConsumerConfig};
use crds::meta::ObjectMeta;
use crds::source::SourceSpec;

use super::{ack_wait, kept, made, policy, usable};
use crate::nats::spec::NatsSource;
use crate::source::fake::about;

fn spec() -> NatsSource {
    let mut spec = NatsSource {
        servers: vec!["nats".to_owned()],
        stream: "ORDERS".to_owned(),
        subjects: vec!["orders.new".to_owned()],
        ..NatsSource::default()
    };
    spec.defaults(&ObjectMeta::named("default", "one"));
    spec
}

#[test]
fn a_consumer_is_made_as_the_spec_says() {
    let spec = NatsSource {
        deliver_policy: "byStartSequence".to_owned(),
        opt_start_sequence: Some(7),
        ack_wait: Some("5s".to_owned()),
        max_ack_pending: Some(50),
        ..spec()
    };
    let config = made(&spec, &about(), "weft_default_one", AckPolicy::Explicit).unwrap();
    assert_eq!(config.durable_name.as_deref(), Some("weft_default_one"));
    assert_eq!(config.description.as_deref(), Some("Weft: NatsSource default/one"));
    assert_eq!(config.deliver_policy, DeliverPolicy::ByStartSequence { start_sequence: 7 });
    assert_eq!(config.ack_policy, AckPolicy::Explicit);
    assert_eq!(config.ack_wait, Duration::from_secs(5));
    assert_eq!(config.max_ack_pending, 50);
    assert_eq!((config.filter_subject.as_str(), config.filter_subjects.len()), ("orders.new", 0));
    assert_eq!(config.max_deliver, 0, "as often as it takes");
}

#[test]
fn what_may_change_is_kept_up_to_date_and_where_it_started_is_not() {
    let old = made(&spec(), &about(), "c", AckPolicy::Explicit).unwrap();
    assert_eq!(kept(&spec(), old.clone()).unwrap(), old);
    let spec = NatsSource {
        subjects: vec!["a".to_owned(), "b".to_owned()],
        max_ack_pending: Some(5),
        deliver_policy: "new".to_owned(),
        ..spec()
    };
    let new = kept(&spec, old).unwrap();
    assert_eq!(
        (new.filter_subject.as_str(), new.filter_subjects.as_slice()),
        ("", &spec.subjects[..])
    );
    assert_eq!(new.max_ack_pending, 5);
    assert_eq!(new.deliver_policy, DeliverPolicy::All);
    let all = NatsSource { subjects: Vec::new(), ..spec };
    let new = kept(&all, new).unwrap();
    assert!(new.filter_subject.is_empty() && new.filter_subjects.is_empty());
}

#[test]
fn only_a_consumer_that_waits_for_acknowledgements_is_usable() {
    let config = made(&spec(), &about(), "c", AckPolicy::Explicit).unwrap().into_consumer_config();
    assert!(usable(&config, false).is_ok());
    let of = |ack_policy, own| usable(&Config { ack_policy, ..config.clone() }, own);
    for refused in
        [of(AckPolicy::None, false), of(AckPolicy::None, true), of(AckPolicy::All, false)]
    {
        let why = refused.unwrap_err();
        assert!(why.contains("acknowledgement of each message"), "{why}");
    }
    assert!(of(AckPolicy::All, true).is_ok());
    let pushes = Config { deliver_subject: Some("out".to_owned()), ..config };
    assert_eq!(usable(&pushes, true), Err("pushes and cannot be pulled from"));
}

#[test]
fn a_batch_is_acknowledged_at_once_only_where_nobody_else_reads_and_the_server_can_go_back() {
    assert_eq!(policy(&spec(), true), AckPolicy::All);
    assert_eq!(policy(&spec(), false), AckPolicy::Explicit);
    let named = NatsSource { consumer: "c".to_owned(), ..spec() };
    assert_eq!(policy(&named, true), AckPolicy::Explicit);
}

#[test]
fn the_shortest_wait_for_an_acknowledgement_counts() {
    let mut config = Config { ack_wait: Duration::from_secs(20), ..Config::default() };
    assert_eq!(ack_wait(&config), Duration::from_secs(20));
    config.backoff = vec![Duration::from_secs(2), Duration::from_mins(5)];
    assert_eq!(ack_wait(&config), Duration::from_secs(2));
    assert_eq!(ack_wait(&Config::default()), Duration::from_secs(30));
}
