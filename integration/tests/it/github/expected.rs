//! The attributes an event of a GitHub payload must have, written from the table of Knative's source and not from our code.

use std::collections::BTreeMap;

use serde_json::Value;

/// Subject, if the table says which, and every extension.
#[derive(Debug, PartialEq)]
pub(super) struct Expected {
    pub(super) subject: Option<String>,
    pub(super) extensions: BTreeMap<String, Value>,
}

/// Reads the value at a place of the payload.
type At<'a> = &'a dyn Fn(&str) -> Value;
/// Reads a text, or a number as text.
type Text<'a> = &'a dyn Fn(&str) -> Option<String>;

/// A row of the table: extensions shared with other events, the subject's place, and further extensions.
struct Row(&'static str, Option<String>, Vec<(&'static str, Value)>);

/// What a payload of `event` must become.
pub(super) fn expected(event: &str, payload: &Value) -> Expected {
    let at = |pointer: &str| payload.pointer(pointer).cloned().unwrap_or_default();
    let text = |pointer: &str| match at(pointer) {
        Value::String(text) => Some(text).filter(|text| !text.is_empty()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    };
    let tail = |pointer: &str| text(pointer)?.rsplit('/').next().map(str::to_owned);
    let Row(common, subject, more) = row(event, &at, &text, &tail).unwrap_or(Row(
        "owner repository sender action",
        None,
        vec![],
    ));
    let mut extensions = BTreeMap::new();
    let organisation =
        subject_is_of_an_organisation(event) || at("/repository").is_null() && is_newer(event);
    let owner = if organisation { "/organization/login" } else { "/repository/owner/login" };
    let places = [
        ("owner", owner),
        ("repository", "/repository/name"),
        ("sender", "/sender/login"),
        ("action", "/action"),
    ];
    for (name, pointer) in places {
        if common.split(' ').any(|one| one == name)
            && let Some(text) = text(pointer)
        {
            extensions.insert(name.to_owned(), text.into());
        }
    }
    // What the payload leaves empty is absent, but for the label that Knative always sets.
    let given = |name: &str, value: &Value| !value.is_null() && (value != "" || name == "label");
    let more = more.into_iter().filter(|(name, value)| given(name, value));
    extensions.extend(more.map(|(name, value)| (name.to_owned(), value)));
    Expected { subject, extensions }
}

/// Whether Knative's table has no row for it.
pub(super) fn is_newer(event: &str) -> bool {
    row(event, &|_| Value::Null, &|_| None, &|_| None).is_none()
}

fn subject_is_of_an_organisation(event: &str) -> bool {
    ["membership", "organization", "org_block"].contains(&event)
}

fn row(event: &str, at: At<'_>, text: Text<'_>, tail: Text<'_>) -> Option<Row> {
    let all = "owner repository sender action";
    let still = "owner repository sender";
    Some(match event {
        "check_run" => Row(all, text("/check_run/id"), vec![]),
        "check_suite" => Row(all, text("/check_suite/id"), vec![]),
        "commit_comment" | "issue_comment" => Row(all, tail("/comment/html_url"), vec![]),
        "create" | "delete" => Row(still, text("/ref_type"), vec![("ref", at("/ref"))]),
        "deployment" | "deployment_status" => Row(still, text("/deployment/id"), vec![]),
        "fork" => Row(all, text("/forkee/id"), vec![]),
        "gollum" => {
            let pages = at("/pages");
            let names = pages.as_array().into_iter().flatten();
            let names: Vec<_> = names.filter_map(|page| page["page_name"].as_str()).collect();
            Row(all, Some(names.join(",")), vec![])
        }
        "label" => Row(all, text("/label/name"), vec![("label", at("/label/name"))]),
        "member" => Row(all, text("/member/id"), vec![]),
        "membership" => {
            Row("owner sender action", text("/member/id"), vec![("scope", at("/scope"))])
        }
        "milestone" => Row(all, text("/milestone/number"), vec![]),
        "organization" | "org_block" => Row("owner sender action", text("/action"), vec![]),
        "page_build" => Row(all, text("/id"), vec![]),
        "ping" => Row(all, text("/hook_id"), vec![]),
        "project" | "project_card" | "project_column" => Row(all, text("/action"), vec![]),
        "public" | "repository" | "team_add" | "watch" => Row(all, text("/repository/id"), vec![]),
        "repository_vulnerability_alert" => Row("action", text("/alert/id"), vec![]),
        "security_advisory" => Row("action", text("/security_advisory/ghsa_id"), vec![]),
        "team" => Row("sender action", text("/team/id"), vec![]),
        _ => return detailed(event, at, text, tail),
    })
}

/// The rows with the most extensions.
fn detailed(event: &str, at: At<'_>, text: Text<'_>, tail: Text<'_>) -> Option<Row> {
    let or = |value: Value, absent: Value| if value.is_null() { absent } else { value };
    let installation = ("installation", or(at("/installation/id"), 0.into()));
    let all = "owner repository sender action";
    let (common, subject, more) = match event {
        "installation"
        | "installation_repositories"
        | "integration_installation"
        | "integration_installation_repositories" => {
            ("sender action", text("/installation/id"), vec![installation])
        }
        "issues" => {
            let more = vec![("label", at("/label/name")), ("assignee", at("/assignee/login"))];
            (all, text("/issue/number"), more)
        }
        "pull_request" => {
            let more = vec![
                installation,
                ("number", at("/number")),
                ("label", or(at("/label/name"), "".into())),
                ("assignee", at("/assignee/login")),
            ];
            (all, text("/pull_request/number"), more)
        }
        "pull_request_review_comment" => (all, text("/comment/id"), vec![installation]),
        "pull_request_review" => {
            (all, text("/review/id"), vec![installation, ("review", at("/review/state"))])
        }
        "push" => {
            let more = vec![
                installation,
                ("pusher", at("/pusher/name")),
                ("ref", at("/ref")),
                ("created", at("/created")),
                ("deleted", at("/deleted")),
                ("forced", at("/forced")),
            ];
            (all, tail("/compare"), more)
        }
        "release" => {
            (all, text("/release/tag_name"), vec![installation, ("release", at("/release/name"))])
        }
        "status" => {
            let names = ["state", "name", "context"];
            (all, text("/sha"), names.map(|name| (name, at(&format!("/{name}")))).to_vec())
        }
        _ => return None,
    };
    Some(Row(common, subject, more))
}
