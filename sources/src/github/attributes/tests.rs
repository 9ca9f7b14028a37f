//! Every row of the table, on payloads with little more than the fields it reads.

use broker_event::Value;
use serde_json::{Value as Json, json};

use super::{Attributes, attributes};

/// The 39 events Knative's `GitHubSource` knows.
const KNATIVE: [&str; 39] = [
    "check_run",
    "check_suite",
    "commit_comment",
    "create",
    "delete",
    "deployment",
    "deployment_status",
    "fork",
    "gollum",
    "installation",
    "installation_repositories",
    "integration_installation",
    "integration_installation_repositories",
    "issue_comment",
    "issues",
    "label",
    "member",
    "membership",
    "milestone",
    "organization",
    "org_block",
    "page_build",
    "ping",
    "project_card",
    "project_column",
    "project",
    "public",
    "pull_request",
    "pull_request_review_comment",
    "pull_request_review",
    "push",
    "release",
    "repository",
    "repository_vulnerability_alert",
    "security_advisory",
    "status",
    "team_add",
    "team",
    "watch",
];

/// A payload with what all have, and more.
fn payload(more: &Json) -> Json {
    let mut payload = json!({
        "action": "done",
        "repository": {"id": 7, "name": "shop", "owner": {"login": "acme"}},
        "organization": {"login": "umbrella"},
        "sender": {"login": "octocat"},
    });
    for (name, value) in more.as_object().unwrap() {
        payload[name] = value.clone();
    }
    payload
}

fn find(event: &str, payload: &Json) -> Attributes {
    attributes(event, payload.to_string().as_bytes()).unwrap()
}

/// Checks the subject and all extensions; texts in `extensions` stand for texts, numbers for integers.
fn check(event: &str, more: &Json, subject: &str, extensions: &Json) {
    let found = find(event, &payload(more));
    assert_eq!(found.subject.as_deref(), Some(subject), "subject of {event}");
    let json = |value: &Value| match value {
        Value::String(text) => Json::from(&**text),
        Value::Boolean(flag) => Json::from(*flag),
        Value::Integer(number) => Json::from(*number),
    };
    let found: serde_json::Map<_, _> =
        found.extensions.iter().map(|(name, value)| ((*name).to_owned(), json(value))).collect();
    assert_eq!(Json::from(found), *extensions, "extensions of {event}");
}

/// The extensions of most events, and more.
fn common(more: &Json) -> Json {
    let mut all = json!({
        "owner": "acme", "repository": "shop", "sender": "octocat", "action": "done",
    });
    for (name, value) in more.as_object().unwrap() {
        all[name] = value.clone();
    }
    all
}

/// The same without the action.
fn actionless(more: &Json) -> Json {
    let mut all = common(more);
    all.as_object_mut().unwrap().remove("action");
    all
}

#[test]
fn events_with_an_id_or_number_and_the_common_extensions() {
    let none = common(&json!({}));
    check("check_run", &json!({"check_run": {"id": 1}}), "1", &none);
    check("check_suite", &json!({"check_suite": {"id": 2}}), "2", &none);
    check("member", &json!({"member": {"id": 3}}), "3", &none);
    check("milestone", &json!({"milestone": {"number": 4, "id": 9}}), "4", &none);
    check("repository", &json!({}), "7", &none);
    check("watch", &json!({}), "7", &none);
}

#[test]
fn events_whose_subject_is_the_action() {
    for event in ["project", "project_card", "project_column"] {
        check(event, &json!({}), "done", &common(&json!({})));
    }
    let of_organization = json!({"owner": "umbrella", "sender": "octocat", "action": "done"});
    check("organization", &json!({}), "done", &of_organization);
    check("org_block", &json!({}), "done", &of_organization);
}

#[test]
fn events_without_action() {
    let none = actionless(&json!({}));
    check("deployment", &json!({"deployment": {"id": 1}}), "1", &none);
    let status = json!({"deployment": {"id": 1}, "deployment_status": {"id": 2}});
    check("deployment_status", &status, "1", &none);
    check("fork", &json!({"forkee": {"id": 2}}), "2", &none);
    check("page_build", &json!({"id": 3, "build": {}}), "3", &none);
    check("ping", &json!({"hook_id": 4}), "4", &none);
    check("public", &json!({}), "7", &none);
    check("team_add", &json!({"team": {"id": 5}}), "7", &none);
    let pages = json!({"pages": [{"page_name": "Home"}, {"page_name": "Main"}]});
    check("gollum", &pages, "Home,Main", &none);
}

#[test]
fn created_and_deleted_refs() {
    let tag = json!({"ref": "v1", "ref_type": "tag"});
    check("create", &tag, "tag", &actionless(&json!({"ref": "v1"})));
    check("delete", &tag, "tag", &actionless(&json!({"ref": "v1"})));
    let repository = json!({"ref": null, "ref_type": "repository"});
    check("create", &repository, "repository", &actionless(&json!({})));
}

#[test]
fn comments_are_called_by_the_end_of_their_url() {
    let url = "https://github.com/acme/shop/commit/a10867b#commitcomment-29186860";
    let comment = json!({"comment": {"html_url": url}});
    check("commit_comment", &comment, "a10867b#commitcomment-29186860", &common(&json!({})));
    let url = "https://github.com/acme/shop/issues/2#issuecomment-393304133";
    let comment = json!({"comment": {"html_url": url}});
    check("issue_comment", &comment, "2#issuecomment-393304133", &common(&json!({})));
}

#[test]
fn issues_and_labels() {
    let plain = json!({"issue": {"number": 1}});
    check("issues", &plain, "1", &common(&json!({})));
    let labelled = json!({
        "issue": {"number": 1}, "label": {"name": "bug"}, "assignee": {"login": "hubot"},
    });
    check("issues", &labelled, "1", &common(&json!({"label": "bug", "assignee": "hubot"})));
    let label = json!({"label": {"name": ":bug: Käfer"}});
    check("label", &label, ":bug: Käfer", &common(&json!({"label": ":bug: Käfer"})));
}

#[test]
fn installations() {
    let extensions = json!({"installation": 9, "sender": "octocat", "action": "done"});
    for event in [
        "installation",
        "installation_repositories",
        "integration_installation",
        "integration_installation_repositories",
    ] {
        check(event, &json!({"installation": {"id": 9}}), "9", &extensions);
    }
}

#[test]
fn pull_requests() {
    let plain = json!({"number": 42, "pull_request": {"number": 42}});
    let extensions = common(&json!({"installation": 0, "number": 42, "label": ""}));
    check("pull_request", &plain, "42", &extensions);
    let rich = json!({
        "number": 42, "pull_request": {"number": 42}, "installation": {"id": 5},
        "label": {"name": "bug"}, "assignee": {"login": "hubot"},
    });
    let extensions =
        common(&json!({"installation": 5, "number": 42, "label": "bug", "assignee": "hubot"}));
    check("pull_request", &rich, "42", &extensions);
    let review = json!({"review": {"id": 6, "state": "approved"}});
    let extensions = common(&json!({"installation": 0, "review": "approved"}));
    check("pull_request_review", &review, "6", &extensions);
    let comment = json!({"comment": {"id": 8}, "installation": {"id": 5}});
    check("pull_request_review_comment", &comment, "8", &common(&json!({"installation": 5})));
}

#[test]
fn pushes() {
    let push = json!({
        "ref": "refs/heads/main", "created": false, "deleted": true, "forced": false,
        "compare": "https://github.com/acme/shop/compare/a10867b14bb7...000000000000",
        "pusher": {"name": "Codertocat"},
    });
    let extensions = actionless(&json!({
        "installation": 0, "pusher": "Codertocat", "ref": "refs/heads/main",
        "created": false, "deleted": true, "forced": false,
    }));
    check("push", &push, "a10867b14bb7...000000000000", &extensions);
}

#[test]
fn releases_and_statuses() {
    let release = json!({"release": {"tag_name": "0.1", "name": "First"}});
    check("release", &release, "0.1", &common(&json!({"installation": 0, "release": "First"})));
    let unnamed = json!({"release": {"tag_name": "0.1", "name": null}});
    check("release", &unnamed, "0.1", &common(&json!({"installation": 0})));
    let status =
        json!({"id": 1, "sha": "a108", "state": "success", "name": "a/b", "context": "ci"});
    let extensions = actionless(&json!({"state": "success", "name": "a/b", "context": "ci"}));
    check("status", &status, "a108", &extensions);
}

#[test]
fn teams_and_memberships() {
    let team = json!({"team": {"id": 3}});
    check("team", &team, "3", &json!({"sender": "octocat", "action": "done"}));
    let membership = json!({"member": {"id": 4}, "scope": "team"});
    let extensions =
        json!({"owner": "umbrella", "sender": "octocat", "action": "done", "scope": "team"});
    check("membership", &membership, "4", &extensions);
}

#[test]
fn alerts_and_advisories_have_an_action_only() {
    let only = json!({"action": "done"});
    check("repository_vulnerability_alert", &json!({"alert": {"id": 5}}), "5", &only);
    let advisory = json!({"security_advisory": {"ghsa_id": "GHSA-rf4j-j272-fj86"}});
    check("security_advisory", &advisory, "GHSA-rf4j-j272-fj86", &only);
}

#[test]
fn events_knative_does_not_know_have_a_number_or_id_and_the_common_extensions() {
    let none = common(&json!({}));
    check("workflow_run", &json!({"workflow_run": {"id": 30_433_642}}), "30433642", &none);
    check("workflow_job", &json!({"workflow_job": {"id": 11}}), "11", &none);
    check("discussion", &json!({"discussion": {"id": 1, "number": 90}}), "90", &none);
    check("dependabot_alert", &json!({"alert": {"number": 2}}), "2", &none);
    check("code_scanning_alert", &json!({"alert": {"number": 3}}), "3", &none);
    check("branch_protection_rule", &json!({"rule": {"id": 4}}), "4", &none);
    check("merge_group", &json!({"merge_group": {"head_sha": "abc"}}), "abc", &none);
    check("workflow_dispatch", &json!({"ref": "refs/heads/main"}), "refs/heads/main", &none);
    check("star", &json!({}), "7", &none);
    check("something_new", &json!({}), "7", &none);
}

#[test]
fn events_of_an_organisation_are_owned_by_it() {
    let payload = json!({"action": "created", "organization": {"login": "umbrella"}});
    let found = find("custom_property", &payload);
    assert_eq!(found.subject.as_deref(), Some("created"));
    assert_eq!(found.extensions["owner"], Value::from("umbrella"));
    assert!(!found.extensions.contains_key("repository"));
}

#[test]
fn an_id_beyond_32_bits_is_a_text() {
    let found = find("installation", &json!({"installation": {"id": 4_294_967_296_i64}}));
    assert_eq!(found.extensions["installation"], Value::from("4294967296"));
    assert_eq!(found.subject.as_deref(), Some("4294967296"));
}

#[test]
fn fields_of_unexpected_types_are_absent() {
    for event in KNATIVE.into_iter().chain(["workflow_run", "unheard_of"]) {
        let odd = json!({
            "action": 1, "repository": "x", "organization": [], "sender": null, "label": "bug",
            "number": "1", "installation": true, "issue": 5, "pages": {}, "pusher": "me",
            "ref": {}, "forced": "yes", "release": [], "comment": "text", "compare": 7,
        });
        find(event, &odd);
        let empty = find(event, &json!({}));
        assert_eq!(empty.subject.filter(|subject| subject.is_empty()), None, "{event}");
    }
}

#[test]
fn payloads_that_are_no_object_are_refused() {
    assert_eq!(
        attributes("push", b"[]").unwrap_err().to_string(),
        "the payload is not a JSON object"
    );
    let error = attributes("push", b"{").unwrap_err();
    assert_eq!(error.to_string(), "the payload is not valid JSON");
    assert!(!error.is_retryable());
}
