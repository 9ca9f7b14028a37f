//! Which subject and extensions an event gets: a table, by GitHub's event name.
//!
//! The rows for the 39 events that Knative's `GitHubSource` knows give exactly its attributes. Other events get the
//! four extensions most of those share, and the number or id of what they are about.

use std::collections::BTreeMap;

use broker_event::Value;

use crate::payload::{Payload, PayloadError};

/// What a payload contributes to its event's attributes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Attributes {
    /// `subject`.
    pub subject: Option<String>,
    /// Extensions by name.
    pub extensions: BTreeMap<&'static str, Value>,
}

/// A row of the table.
#[derive(Clone, Copy)]
struct Rule {
    subject: Subject,
    /// Where `owner` is found.
    owner: &'static [&'static str],
    repository: bool,
    sender: bool,
    action: bool,
    extras: &'static [Extra],
}

/// Where a subject is found.
#[derive(Clone, Copy)]
enum Subject {
    /// The first of these fields that there is.
    Field(&'static [&'static str]),
    /// What follows the last slash of this URL.
    Tail(&'static str),
    /// The names of the pages, joined by commas.
    Pages,
    /// The number or id of the object called like the event.
    Entity,
}

/// An extension besides the four that most events share: its name, and the field it is taken from.
#[derive(Clone, Copy)]
enum Extra {
    /// Absent when the field is.
    Text(&'static str, &'static str),
    /// Empty when the field is absent.
    TextOrEmpty(&'static str, &'static str),
    /// 0 when the field is absent.
    Number(&'static str, &'static str),
    /// False when the field is absent.
    Flag(&'static str, &'static str),
}

/// The owner of a repository.
const OWNER: &[&str] = &["repository.owner.login", "repository.owner.name"];
/// The organisation, of events that concern no repository.
const ORGANIZATION: &[&str] = &["organization.login"];
/// Whichever there is.
const OWNER_OR_ORGANIZATION: &[&str] =
    &["repository.owner.login", "repository.owner.name", "organization.login"];
/// The GitHub App's installation a delivery belongs to; 0 for plain web hooks.
const INSTALLATION: Extra = Extra::Number("installation", "installation.id");

/// The subject and extensions of a delivery of `event` with this `payload`.
///
/// # Errors
/// When the payload is not a JSON object.
pub fn attributes(event: &str, payload: &[u8]) -> Result<Attributes, PayloadError> {
    let payload = Payload::parse(payload)?;
    let rule = rule(event);
    let mut extensions = BTreeMap::new();
    let owner = rule.owner.iter().find_map(|path| payload.text(path));
    let repository = rule.repository.then(|| payload.text("repository.name")).flatten();
    let sender = rule.sender.then(|| payload.text("sender.login")).flatten();
    let action = rule.action.then(|| payload.text("action")).flatten();
    let texts =
        [("owner", owner), ("repository", repository), ("sender", sender), ("action", action)];
    for (name, text) in texts {
        if let Some(text) = text {
            extensions.insert(name, Value::from(text));
        }
    }
    for extra in rule.extras {
        if let Some((name, value)) = extra.find(&payload) {
            extensions.insert(name, value);
        }
    }
    Ok(Attributes { subject: rule.subject.find(event, &payload), extensions })
}

/// The table of the events Knative knows.
fn rule(event: &str) -> Rule {
    use Extra::{Flag, Number, Text, TextOrEmpty};
    use Subject::{Field, Pages, Tail};
    match event {
        "check_run" => about(Field(&["check_run.id"])),
        "check_suite" => about(Field(&["check_suite.id"])),
        "commit_comment" => about(Tail("comment.html_url")),
        "create" | "delete" => {
            about(Field(&["ref_type"])).without_action().with(&[Text("ref", "ref")])
        }
        "deployment" | "deployment_status" => about(Field(&["deployment.id"])).without_action(),
        "fork" => about(Field(&["forkee.id"])).without_action(),
        "gollum" => about(Pages).without_action(),
        "installation"
        | "installation_repositories"
        | "integration_installation"
        | "integration_installation_repositories" => {
            about(Field(&["installation.id"])).owned_by(&[]).with(&[INSTALLATION])
        }
        "issue_comment" => about(Tail("comment.html_url")),
        "issues" => about(Field(&["issue.number"]))
            .with(&[Text("label", "label.name"), Text("assignee", "assignee.login")]),
        "label" => about(Field(&["label.name"])).with(&[Text("label", "label.name")]),
        "member" => about(Field(&["member.id"])),
        "membership" => {
            about(Field(&["member.id"])).owned_by(ORGANIZATION).with(&[Text("scope", "scope")])
        }
        "milestone" => about(Field(&["milestone.number"])),
        "organization" | "org_block" => about(Field(&["action"])).owned_by(ORGANIZATION),
        "page_build" => about(Field(&["id"])).without_action(),
        "ping" => about(Field(&["hook_id"])).without_action(),
        "project" | "project_card" | "project_column" => about(Field(&["action"])),
        "public" | "team_add" => about(Field(&["repository.id"])).without_action(),
        "pull_request" => about(Field(&["pull_request.number"])).with(&[
            INSTALLATION,
            Number("number", "number"),
            TextOrEmpty("label", "label.name"),
            Text("assignee", "assignee.login"),
        ]),
        "pull_request_review_comment" => about(Field(&["comment.id"])).with(&[INSTALLATION]),
        "pull_request_review" => {
            about(Field(&["review.id"])).with(&[INSTALLATION, Text("review", "review.state")])
        }
        "push" => about(Tail("compare")).without_action().with(&[
            INSTALLATION,
            Text("pusher", "pusher.name"),
            Text("ref", "ref"),
            Flag("created", "created"),
            Flag("deleted", "deleted"),
            Flag("forced", "forced"),
        ]),
        "release" => about(Field(&["release.tag_name"]))
            .with(&[INSTALLATION, Text("release", "release.name")]),
        "repository" | "watch" => about(Field(&["repository.id"])),
        "repository_vulnerability_alert" => about(Field(&["alert.id"])).action_only(),
        "security_advisory" => about(Field(&["security_advisory.ghsa_id"])).action_only(),
        "status" => about(Field(&["sha"])).without_action().with(&[
            Text("state", "state"),
            Text("name", "name"),
            Text("context", "context"),
        ]),
        "team" => about(Field(&["team.id"])).owned_by(&[]),
        _ => newer(event),
    }
}

/// The table of what Knative does not know: events whose object is called otherwise than they are.
fn newer(event: &str) -> Rule {
    use Subject::{Entity, Field, Tail};
    match event {
        "branch_protection_rule" => other(Field(&["rule.id"])),
        "code_scanning_alert" | "dependabot_alert" | "secret_scanning_alert" => {
            other(Field(&["alert.number"]))
        }
        "discussion_comment" => other(Tail("comment.html_url")),
        "merge_group" => other(Field(&["merge_group.head_sha"])),
        "pull_request_review_thread" => other(Field(&["pull_request.number"])),
        "star" => other(Field(&["repository.id"])),
        "workflow_dispatch" => other(Field(&["ref"])),
        _ => other(Entity),
    }
}

/// A row with the four common extensions.
const fn about(subject: Subject) -> Rule {
    Rule { subject, owner: OWNER, repository: true, sender: true, action: true, extras: &[] }
}

/// The same, for events that may concern an organisation instead of a repository.
const fn other(subject: Subject) -> Rule {
    Rule { owner: OWNER_OR_ORGANIZATION, ..about(subject) }
}

impl Rule {
    const fn with(self, extras: &'static [Extra]) -> Self {
        Self { extras, ..self }
    }

    const fn without_action(self) -> Self {
        Self { action: false, ..self }
    }

    /// For events that concern no repository.
    const fn owned_by(self, owner: &'static [&'static str]) -> Self {
        Self { owner, repository: false, ..self }
    }

    const fn action_only(self) -> Self {
        Self { owner: &[], repository: false, sender: false, ..self }
    }
}

impl Subject {
    fn find(self, event: &str, payload: &Payload<'_>) -> Option<String> {
        match self {
            Self::Field(paths) => paths.iter().find_map(|path| payload.label(path)),
            Self::Tail(path) => {
                let url = payload.text(path)?;
                let tail = url.rsplit('/').next().unwrap_or_default();
                (!tail.is_empty()).then(|| tail.to_owned())
            }
            Self::Pages => payload.joined("pages", "page_name"),
            Self::Entity => payload
                .label(&format!("{event}.number"))
                .or_else(|| payload.label(&format!("{event}.id")))
                .or_else(|| payload.label("repository.id"))
                .or_else(|| payload.text("action")),
        }
    }
}

impl Extra {
    fn find(self, payload: &Payload<'_>) -> Option<(&'static str, Value)> {
        match self {
            Self::Text(name, path) => Some((name, Value::from(payload.text(path)?))),
            Self::TextOrEmpty(name, path) => {
                Some((name, Value::from(payload.text(path).unwrap_or_default())))
            }
            Self::Number(name, path) => {
                let number = payload.number(path).unwrap_or_default();
                // CloudEvents' integers have 32 bits; an id beyond them is a text, as its wire form is anyway.
                let value = i32::try_from(number)
                    .map_or_else(|_| Value::from(number.to_string()), Value::from);
                Some((name, value))
            }
            Self::Flag(name, path) => {
                Some((name, Value::from(payload.flag(path).unwrap_or_default())))
            }
        }
    }
}

#[cfg(test)]
mod tests;
