//! GitHub sources: what is required, and what is refused with which words.

use crds::broker_defaults::BrokerDefaults;
use crds::object::Rules;
use crds::ping_defaults::PingDefaults;
use crds::resource::Catalog;
use crds::secret_ref::SecretKeySelector;
use crds::source::SourceObject;

use super::*;

type Object = SourceObject<GitHubSource>;

const GOOD: &str = r#"{"metadata":{"name":"g"},"spec":{"ownerAndRepository":"acme/shop","eventTypes":["push","workflow_run"],
    "accessToken":{"secretKeyRef":{"name":"github","key":"accessToken"}},
    "secretToken":{"secretKeyRef":{"name":"github","key":"secretToken"}},
    "githubAPIURL":"https://ghe.example.com/api/v3/","secure":true,"serviceAccountName":"x",
    "sink":{"ref":{"apiVersion":"eventing.knative.dev/v1","kind":"Broker","name":"default"}}}}"#;

fn good() -> Object {
    let mut source: Object = serde_json::from_str(GOOD).unwrap();
    source.defaults();
    source
}

fn complaints(source: &Object) -> String {
    let rules = Rules {
        catalog: Catalog::new(crate::RESOURCES),
        cesql: &|_| Ok(()),
        broker_defaults: &BrokerDefaults::builtin(),
        ping_defaults: PingDefaults::default(),
    };
    source.validate(&rules).to_string()
}

fn refusal(change: impl FnOnce(&mut Object)) -> String {
    let mut source = good();
    change(&mut source);
    complaints(&source)
}

#[test]
fn a_whole_source_is_read() {
    let source = good();
    assert_eq!(complaints(&source), "");
    assert_eq!(source.spec.owner_and_repository(), ("acme", Some("shop")));
    assert_eq!(source.spec.access_token.as_ref().unwrap().selector().unwrap().key, "accessToken");
    assert_eq!(source.spec.secret_token.as_ref().unwrap().selector().unwrap().name, "github");
    assert_eq!(source.spec.github_api_url.as_deref(), Some("https://ghe.example.com/api/v3/"));
    assert_eq!(source.spec.sink.reference.as_ref().unwrap().namespace, "default");
}

#[test]
fn the_list_of_events_is_sorted_and_has_knatives_and_newer_ones() {
    assert!(EVENTS.is_sorted());
    for event in [
        "org_block",
        "integration_installation",
        "ping",
        "star",
        "discussion",
        "merge_group",
        "workflow_job",
    ] {
        assert!(EVENTS.contains(&event), "{event}");
    }
}

#[test]
fn an_unknown_event_is_named() {
    let refused = refusal(|source| source.spec.event_types.push("pushed".to_owned()));
    assert!(refused.starts_with("invalid value: pushed: spec.eventTypes[2]\n"), "{refused}");
    assert_eq!(refusal(|source| source.spec.event_types = vec![EVERY_EVENT.to_owned()]), "");
}

#[test]
fn what_is_missing_is_named() {
    let refused = refusal(|source| {
        source.spec = GitHubSource { sink: Destination::at("http://s/"), ..GitHubSource::default() }
    });
    let expected = "missing field(s): spec.eventTypes, spec.ownerAndRepository, spec.secretToken\n\
        missing field(s): spec.accessToken\n\
        whoever makes the webhook by hand says so with the annotation weft.dev/register: \"false\"";
    assert_eq!(refused, expected);
    let refused =
        refusal(|source| source.spec.secret_token = Some(SecretValueFromSource::default()));
    assert_eq!(refused, "missing field(s): spec.secretToken.secretKeyRef");
    let empty = SecretValueFromSource { secret_key_ref: Some(SecretKeySelector::default()) };
    let refused = refusal(|source| source.spec.access_token = Some(empty));
    assert_eq!(
        refused,
        "missing field(s): spec.accessToken.secretKeyRef.key, spec.accessToken.secretKeyRef.name"
    );
    let refused = refusal(|source| source.spec.sink = Destination::default());
    assert_eq!(refused, "expected at least one, got none: spec.sink.ref, spec.sink.uri");
}

#[test]
fn a_webhook_made_by_the_user_needs_no_access_token() {
    let by_hand = |source: &mut Object, value: &str| {
        source.spec.access_token = None;
        source.metadata.annotations.insert(annotation::REGISTER.to_owned(), value.to_owned());
    };
    assert_eq!(refusal(|source| by_hand(source, "false")), "");
    let refused = refusal(|source| by_hand(source, "true"));
    assert!(refused.starts_with("missing field(s): spec.accessToken\n"), "{refused}");
}

#[test]
fn repositories_and_urls_are_checked() {
    for name in ["a/b/c", "/b", "a/", "a b", "a/..", "https://github.com/a/b"] {
        let refused = refusal(|source| source.spec.owner_and_repository = name.to_owned());
        assert!(
            refused.starts_with(&format!("invalid value: {name}: spec.ownerAndRepository\n")),
            "{refused}"
        );
    }
    assert_eq!(refusal(|source| source.spec.owner_and_repository = "acme".to_owned()), "");
    for url in [
        "ghe",
        "ftp://ghe/",
        "https://user:token@ghe/",
        "https://ghe/api/v3/ ",
        "https://ghe/?a",
        "https://ghe/#a",
    ] {
        let refused = refusal(|source| source.spec.github_api_url = Some(url.to_owned()));
        assert!(refused.contains("spec.githubAPIURL\n"), "{refused}");
    }
}
