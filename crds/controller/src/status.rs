//! From what a status says and should say to what is written.

use crds::condition::Status;
use serde_json::{Map, Value, json};

/// What the status becomes: `planned`, with the time of each condition's last transition, and with what others keep in it.
/// Nothing if it says so already.
pub(crate) fn renewed(old: Option<&Status>, planned: &Status, now: &str) -> Option<Status> {
    let mut new = planned.clone();
    if let Some(old) = old {
        new.annotations.clone_from(&old.annotations);
        for (field, value) in &old.facts {
            new.facts.entry(field.clone()).or_insert_with(|| value.clone());
        }
    }
    for condition in &mut new.conditions {
        let before = old.and_then(|old| old.condition(&condition.kind));
        let kept = before.filter(|before| before.status == condition.status);
        let time = kept.and_then(|before| before.last_transition_time.clone());
        condition.last_transition_time = Some(time.unwrap_or_else(|| now.to_owned()));
    }
    (old != Some(&new)).then_some(new)
}

/// The merge patch (RFC 7396) that makes `old` into `new`, if the object still has that version. Fields that this program
/// does not know are left alone.
pub(crate) fn patch(old: Option<&Status>, new: &Status, version: &str) -> Value {
    let value = |status| serde_json::to_value(status).expect("a status is plain JSON");
    let old = old.map_or(Value::Null, value);
    let mut body = json!({ "status": difference(&old, &value(new)) });
    if let Some(body) = body.as_object_mut()
        && !version.is_empty()
    {
        body.insert("metadata".to_owned(), json!({ "resourceVersion": version }));
    }
    body
}

fn difference(old: &Value, new: &Value) -> Value {
    let (Value::Object(old), Value::Object(new)) = (old, new) else { return new.clone() };
    let mut changes = Map::new();
    for key in old.keys().filter(|key| !new.contains_key(*key)) {
        changes.insert(key.clone(), Value::Null);
    }
    for (key, value) in new {
        match old.get(key) {
            Some(before) if before == value => {}
            Some(before) => {
                changes.insert(key.clone(), difference(before, value));
            }
            None => {
                changes.insert(key.clone(), value.clone());
            }
        }
    }
    Value::Object(changes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crds::condition::{Addressable, Condition, READY, Truth};

    fn status(truth: Truth, reason: &str) -> Status {
        let conditions = vec![Condition::new(READY, truth).because(reason, "")];
        Status { conditions, observed_generation: Some(1), ..Status::default() }
    }

    fn time(status: &Status) -> &str {
        status.conditions[0].last_transition_time.as_deref().unwrap()
    }

    #[test]
    fn the_time_of_a_condition_changes_with_its_truth_only() {
        let first = renewed(None, &status(Truth::False, "A"), "t1").unwrap();
        assert_eq!(time(&first), "t1");
        assert_eq!(renewed(Some(&first), &status(Truth::False, "A"), "t2"), None);
        let reason = renewed(Some(&first), &status(Truth::False, "B"), "t3").unwrap();
        assert_eq!(time(&reason), "t1");
        let truth = renewed(Some(&reason), &status(Truth::True, ""), "t4").unwrap();
        assert_eq!(time(&truth), "t4");
    }

    #[test]
    fn what_others_keep_in_a_status_stays() {
        let mut old = status(Truth::True, "");
        old.annotations.insert("theirs".to_owned(), "value".to_owned());
        let new = renewed(Some(&old), &status(Truth::True, ""), "t1").unwrap();
        assert_eq!(new.annotations, old.annotations);
        assert!(patch(Some(&old), &new, "7")["status"].get("annotations").is_none());
    }

    #[test]
    fn a_patch_has_what_differs_and_null_for_what_goes() {
        let mut old = status(Truth::True, "");
        old.subscriber_uri = Some("http://s/".to_owned());
        let address = |url: &str, ca: Option<&str>| {
            let (url, ca_certs) = (Some(url.to_owned()), ca.map(str::to_owned));
            Some(Addressable { url, ca_certs, ..Addressable::default() })
        };
        old.address = address("http://a/", Some("ca"));
        let mut new = status(Truth::True, "");
        new.address = address("http://b/", None);
        let expected = json!({
            "metadata": {"resourceVersion": "7"},
            "status": {"subscriberUri": null, "address": {"url": "http://b/", "CACerts": null}},
        });
        assert_eq!(patch(Some(&old), &new, "7"), expected);
        let whole = patch(None, &status(Truth::True, ""), "");
        assert_eq!(whole["status"]["observedGeneration"], 1);
        assert_eq!(whole.get("metadata"), None);
    }
}
