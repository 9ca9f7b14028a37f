//! Where the embedded API answers otherwise on purpose: all of it, each with its reason.

use serde_json::Value;

use super::call::Call;
use super::normal::Normal;

/// A difference that stays.
struct Deliberate {
    /// Why it stays.
    #[expect(dead_code, reason = "it is there to be read")]
    reason: &'static str,
    /// Makes equal what differs for this reason, and nothing else.
    forgive: fn(&Call, &mut Normal, &mut Normal),
}

const LIST: [Deliberate; 12] = [
    Deliberate {
        reason: "Warnings are about what was done; the real server gives them with refusals, too.",
        forgive: |_, ours, theirs| {
            if ours.status >= 400 {
                theirs.warnings.clear();
                ours.warnings.clear();
            }
        },
    },
    Deliberate {
        reason: "Lists are answered as they are stored, so items of Kubernetes' own kinds say what they are; only there \
            does the real server leave it out.",
        forgive: |_, ours, theirs| {
            if let (Some(one), Some(other)) = (items(ours), items(theirs)) {
                for item in one.iter_mut().chain(other).filter_map(Value::as_object_mut) {
                    item.remove("kind");
                    item.remove("apiVersion");
                }
            }
        },
    },
    Deliberate {
        reason: "The real server blames itself (500) for some mistakes of clients; here they are told that it is theirs.",
        forgive: |_, ours, theirs| {
            let told = ours.body["message"].as_str().unwrap_or_default();
            let versioned =
                told.starts_with("resourceVersion should not be set") && theirs.status >= 400;
            if (400..500).contains(&ours.status) && theirs.status == 500 || versioned {
                *theirs = ours.clone();
            }
        },
    },
    Deliberate {
        reason: "What cannot be read is explained in the words of another parser, and what is accepted instead is less.",
        forgive: |call, ours, theirs| {
            let words = [
                "malformed",
                "mistyped",
                "no such form",
                "wrong content type",
                "wrong patch type",
                "json: ",
                "apply: no version",
                "wrong method",
            ];
            let numbers =
                ["limit=many", "fieldManager=%01"].iter().any(|it| call.path.contains(it));
            if (numbers || words.iter().any(|word| call.what.contains(word)))
                && refused_alike(ours, theirs)
            {
                theirs.body = ours.body.clone();
            }
        },
    },
    Deliberate {
        reason: "The real server calls some of what cannot be read a bad request (400) and the rest invalid (422).",
        forgive: |call, ours, theirs| {
            let unread = call.what.starts_with("malformed")
                || call.what == "merge: mistyped"
                || call.what == "merge: unknown"
                || call.path.contains("resourceVersion=garbage")
                || call.body.contains("\"labels\":{\"a\":1}");
            let codes = (ours.status, theirs.status);
            if unread && (codes == (400, 422) || codes == (422, 400)) {
                *theirs = ours.clone();
            }
        },
    },
    Deliberate {
        reason: "What is only tried has no version.",
        forgive: |call, _, theirs| {
            if call.path.contains("dryRun=All")
                && theirs.status == 201
                && let Some(Value::Object(meta)) = theirs.body.get_mut("metadata")
            {
                meta.remove("resourceVersion");
            }
        },
    },
    Deliberate {
        reason: "What an object says that it is, is looked at first, and missed in the same words for all kinds.",
        forgive: |call, ours, theirs| {
            let is = |text: &str| call.body.contains(text);
            let other = is("\"kind\":\"Other\"") || is("\"apiVersion\":\"example.com/v1\"");
            if (other || call.what == "apply: another name")
                && ours.status == 400
                && theirs.status >= 400
            {
                *theirs = ours.clone();
            }
        },
    },
    Deliberate {
        reason: "Admission is Knative's, and stands before the schema.",
        forgive: |_, ours, theirs| {
            let told = ours.body["message"].as_str().unwrap_or_default();
            if told.starts_with("admission webhook") && theirs.status == 422 {
                *theirs = ours.clone();
            }
        },
    },
    Deliberate {
        reason: "Admission knows what a schema's rules say, so there are no rules that could not be checked.",
        forgive: |_, ours, theirs| {
            let told = theirs.body["message"].as_str().unwrap_or_default();
            if told.contains("some validation rules were not checked")
                && refused_alike(ours, theirs)
            {
                *theirs = ours.clone();
            }
        },
    },
    Deliberate {
        reason: "The real server tells of its storage when it should make what already has an identity.",
        forgive: |_, ours, theirs| {
            let told = theirs.body["message"].as_str().unwrap_or_default();
            if told.contains("StorageError") && refused_alike(ours, theirs) {
                *theirs = ours.clone();
            }
        },
    },
    Deliberate {
        reason: "What is not served is told in a Status, also where the real server has no words of its own.",
        forgive: |call, ours, theirs| {
            if call.what.starts_with("unknown") && (ours.status, theirs.status) == (404, 404) {
                *theirs = ours.clone();
            }
        },
    },
    Deliberate {
        reason: "Tokens of lists have another form, so those that are none are refused in other words.",
        forgive: |call, ours, theirs| {
            if call.path.contains("continue=") && refused_alike(ours, theirs) {
                theirs.body = ours.body.clone();
            }
        },
    },
];

fn items(normal: &mut Normal) -> Option<&mut Vec<Value>> {
    normal.body.get_mut("items")?.as_array_mut()
}

/// Whether both refuse with the same code and reason.
fn refused_alike(ours: &Normal, theirs: &Normal) -> bool {
    ours.status >= 400
        && ours.status == theirs.status
        && ours.body["reason"] == theirs.body["reason"]
}

/// Makes equal what differs on purpose.
pub(crate) fn forgive(call: &Call, ours: &mut Normal, theirs: &mut Normal) {
    for deliberate in LIST {
        (deliberate.forgive)(call, ours, theirs);
    }
}
