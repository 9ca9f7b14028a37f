//! Which GitLab sources are refused, and with which words.

use broker_event::EventBuilder;
use crds::meta::ObjectMeta;
use crds::secret_ref::SecretValueFromSource;
use crds::source::SourceSpec;

use super::{EVENTS, GitLabSource, TYPES, ty};

fn source() -> GitLabSource {
    GitLabSource {
        project_url: "https://gitlab.example.com/acme/shop".to_owned(),
        event_types: vec!["push_events".to_owned()],
        access_token: Some(SecretValueFromSource::at("gitlab", "accessToken")),
        secret_token: Some(SecretValueFromSource::at("gitlab", "secretToken")),
        ..GitLabSource::default()
    }
}

fn refusal_with(metadata: &ObjectMeta, change: impl FnOnce(&mut GitLabSource)) -> String {
    let mut source = source();
    change(&mut source);
    source.validate_fields(metadata).to_string()
}

fn refusal(change: impl FnOnce(&mut GitLabSource)) -> String {
    refusal_with(&ObjectMeta::named("default", "one"), change)
}

#[test]
fn what_knative_takes_is_taken() {
    assert_eq!(refusal(|_| {}), "");
    let text = r#"{"projectUrl":"https://gitlab.com/g/sub/p","eventTypes":["push_events","releases_events"],
        "accessToken":{"secretKeyRef":{"name":"s","key":"a"}},"secretToken":{"secretKeyRef":{"name":"s","key":"b"}},
        "sslverify":true,"serviceAccountName":"x","sink":{"uri":"http://sink/"}}"#;
    let source: GitLabSource = serde_json::from_str(text).unwrap();
    assert_eq!(source.ssl_verify, Some(true));
    assert!(source.validate_fields(&ObjectMeta::named("default", "one")).is_empty());
}

#[test]
fn what_is_missing_is_named() {
    assert_eq!(refusal(|source| source.project_url.clear()), "missing field(s): projectUrl");
    assert_eq!(refusal(|source| source.event_types.clear()), "missing field(s): eventTypes");
    assert_eq!(refusal(|source| source.secret_token = None), "missing field(s): secretToken");
    let without = |source: &mut GitLabSource| source.access_token = None;
    assert!(refusal(without).starts_with("missing field(s): accessToken\n"));
    let mut by_hand = ObjectMeta::named("default", "one");
    by_hand.annotations.insert("weft.dev/register".to_owned(), "false".to_owned());
    assert_eq!(refusal_with(&by_hand, without), "");
    assert_eq!(
        refusal(|source| source.ca_cert = Some(SecretValueFromSource::default())),
        "missing field(s): caCert.secretKeyRef"
    );
}

#[test]
fn an_event_that_gitlab_has_not_is_refused() {
    let refused = refusal(|source| source.event_types.push("push".to_owned()));
    assert!(refused.starts_with("invalid value: push: eventTypes[1]\n"), "{refused}");
    assert!(refusal(|source| source.event_types = vec!["*".to_owned()]).contains("eventTypes[0]"));
}

#[test]
fn projects_and_groups_are_found_in_their_urls() {
    let parts = |url: &str| {
        let source = GitLabSource { project_url: url.to_owned(), ..source() };
        source.server_and_path().map(|(server, path)| format!("{server} {path}"))
    };
    let good = [
        ("https://gitlab.com/acme/shop", "https://gitlab.com acme/shop"),
        ("https://gitlab.com/acme/shop/", "https://gitlab.com acme/shop"),
        ("https://gitlab.com/acme/shop.git", "https://gitlab.com acme/shop"),
        ("https://gitlab.com/acme", "https://gitlab.com acme"),
        ("https://gitlab.com/groups/acme/eu", "https://gitlab.com groups/acme/eu"),
        ("http://gitlab.local:8080/a/b/c.d", "http://gitlab.local:8080 a/b/c.d"),
    ];
    for (url, expected) in good {
        assert_eq!(parts(url).as_deref(), Some(expected));
    }
    let bad = [
        "gitlab.com/acme/shop",
        "ssh://git@gitlab.com/acme/shop",
        "https://gitlab.com",
        "https://gitlab.com/",
        "https://gitlab.com/acme//shop",
        "https://gitlab.com/acme/sh op",
        " https://gitlab.com/acme/shop",
        "https://gitlab.com/acme/shop?x=1",
        "https://gitlab.com/acme/shop#x",
        "https://gitlab.com/acme/%2e%2e",
    ];
    for url in bad {
        assert_eq!(parts(url), None, "{url}");
        let refused = refusal(|source| url.clone_into(&mut source.project_url));
        assert!(refused.starts_with("invalid value: "), "{refused}");
    }
    let secret =
        refusal(|source| "https://u:hunter2@gitlab.com/a/b".clone_into(&mut source.project_url));
    assert!(!secret.contains("hunter2"), "{secret}");
    let long = refusal(|source| source.project_url += &"a".repeat(3000));
    assert!(long.len() < 300, "{long}");
}

#[test]
fn the_url_of_a_project_is_the_source_of_events() {
    let event = EventBuilder::new("1", source().project_url, "t").build().unwrap();
    assert_eq!(event.source(), "https://gitlab.example.com/acme/shop");
}

#[test]
fn the_events_are_sorted_and_offered() {
    assert!(EVENTS.is_sorted());
    assert_eq!(ty("releases_events"), Some("release"));
    let offered: Vec<serde_json::Value> = serde_json::from_str(TYPES).unwrap();
    assert_eq!(offered.len(), EVENTS.len());
    for (_, ty) in EVENTS {
        let ty = format!("dev.knative.sources.gitlab.{ty}");
        assert!(offered.iter().any(|one| one["type"] == *ty), "{ty}");
    }
}

#[test]
fn the_schema_names_the_events() {
    let schema = (GitLabSource::RESOURCE.versions[0].schema)();
    let spec = &schema["properties"]["spec"];
    let names = spec["properties"]["eventTypes"]["items"]["enum"].as_array().unwrap();
    assert_eq!(names.len(), EVENTS.len());
    assert_eq!(spec["required"][0], "projectUrl");
}
