//! Questions about oneself: who am I, and what may I do. There is one user, who may do everything.

use serde_json::{Value, json};

use crate::server::answer::Answer;
use crate::status::Refusal;

/// The version of both groups.
pub(crate) const VERSION: &str = "v1";
/// The groups, with the plurals and kinds of what can be asked.
pub(crate) const GROUPS: &[(&str, &[(&str, &str)])] = &[
    ("authentication.k8s.io", &[("selfsubjectreviews", "SelfSubjectReview")]),
    (
        "authorization.k8s.io",
        &[
            ("selfsubjectaccessreviews", "SelfSubjectAccessReview"),
            ("selfsubjectrulesreviews", "SelfSubjectRulesReview"),
        ],
    ),
];
/// Whoever shows the token.
const USER: &str = "weft-admin";

/// Answers a question, which is an object that comes back with a status.
pub(crate) fn answer(group: &str, plural: &str, mut review: Value) -> Result<Answer, Refusal> {
    let kinds = GROUPS.iter().find(|(known, _)| *known == group).map(|(_, kinds)| *kinds);
    let kind = kinds.into_iter().flatten().find(|(known, _)| *known == plural);
    let (_, kind) = kind.ok_or(Refusal::Unserved)?;
    let status = match *kind {
        "SelfSubjectReview" => json!({
            "userInfo": {"username": USER, "groups": ["system:masters", "system:authenticated"]},
        }),
        "SelfSubjectAccessReview" => json!({"allowed": true, "reason": "there is one user"}),
        _ => json!({
            "resourceRules": [{"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"]}],
            "nonResourceRules": [{"verbs": ["*"], "nonResourceURLs": ["*"]}],
            "incomplete": false,
        }),
    };
    let Value::Object(map) = &mut review else {
        return Err(Refusal::BadRequest(format!("the body must be a {kind}")));
    };
    let given = map.get("kind").and_then(Value::as_str).unwrap_or(kind);
    if given != *kind {
        return Err(Refusal::BadRequest(format!("the body must be a {kind}, it is a {given:?}")));
    }
    map.insert("kind".to_owned(), (*kind).into());
    map.insert("apiVersion".to_owned(), format!("{group}/{VERSION}").into());
    map.entry("metadata").or_insert_with(|| json!({}));
    map.insert("status".to_owned(), status);
    Ok(Answer::ok(&review))
}
