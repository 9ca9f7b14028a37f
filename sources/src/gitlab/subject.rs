//! Which subject an event gets: what the delivery is about, by its number in the project or its name.

use crate::payload::Payload;

/// Where it is found for an event of this type; the first of these that there is.
fn places(ty: &str) -> &'static [&'static str] {
    match ty {
        "push" | "tag_push" => &["ref"],
        // Builds were renamed to jobs; old servers still say so.
        "job" | "build" => &["build_id"],
        "note" | "confidential_note" | "emoji" => &[
            "merge_request.iid",
            "issue.iid",
            "commit.id",
            "snippet.id",
            "object_attributes.awardable_id",
            "object_attributes.noteable_id",
        ],
        "deployment" => &["deployment_id"],
        "wiki_page" => &["object_attributes.slug"],
        "release" => &["tag"],
        "feature_flag" => &["object_attributes.name"],
        "member" => &["user_username", "user_id"],
        "subgroup" => &["full_path"],
        "project" => &["path_with_namespace"],
        // Issues, merge requests, milestones, pipelines, tokens, vulnerabilities, and whatever comes.
        _ => &["object_attributes.iid", "object_attributes.id"],
    }
}

/// The subject of an event of type `ty`, which is the end of the event's, as in `merge_request`.
pub(super) fn subject(ty: &str, payload: &Payload<'_>) -> Option<String> {
    places(ty).iter().find_map(|path| payload.label(path))
}
