//! How notices become Kubernetes Events: the same one again only counts up, and an object that cannot make up its mind is
//! not told about for ever.

use std::collections::BTreeMap;
use std::time::Duration;

use crds::object::Key;
use jiff::Timestamp;
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::notice::Notice;

/// What the Events say they come from.
const COMPONENT: &str = "weft-controller";
/// How long the same notice is the same Event, as in Kubernetes' own recorders.
const SAME_FOR: Duration = Duration::from_secs(600);
/// Notices remembered, each about 500 bytes: two megabytes at most.
const MOST_KNOWN: usize = 4096;
/// Events about one object in a row, and how often another is allowed after that: Kubernetes' own numbers.
const BURST: u32 = 25;
const REFILL: Duration = Duration::from_secs(300);
/// Room for the suffix within the 253 bytes of a name.
const MAX_NAME: usize = 230;

/// What to send to the API server.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Emission {
    /// A new Event.
    Create(Value),
    /// The Event of that name, once more. Should it have expired meanwhile, the new one.
    Count { name: String, patch: Value, otherwise: Value },
}

/// Remembers what was told.
#[derive(Debug, Default)]
pub(crate) struct Recorder {
    known: BTreeMap<Notice, Known>,
    buckets: BTreeMap<Key, Bucket>,
}

#[derive(Debug)]
struct Known {
    name: String,
    first: String,
    count: u32,
    last: Instant,
}

/// A token bucket.
#[derive(Debug)]
struct Bucket {
    left: u32,
    since: Instant,
}

impl Recorder {
    /// What becomes of `notice`; nothing if there was too much about its object already.
    pub(crate) fn record(
        &mut self,
        notice: &Notice,
        now: Instant,
        wall: Timestamp,
    ) -> Option<Emission> {
        self.forget(now);
        if !self.allows(notice.about(), now) {
            return None;
        }
        let time = wall.strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
        if let Some(known) = self.known.get_mut(notice) {
            known.count = known.count.saturating_add(1);
            known.last = now;
            let patch = json!({ "count": known.count, "lastTimestamp": time });
            let otherwise = event(notice, known, &time);
            return Some(Emission::Count { name: known.name.clone(), patch, otherwise });
        }
        let known = Known { name: name(notice, wall), first: time.clone(), count: 1, last: now };
        let event = event(notice, &known, &time);
        self.known.insert(notice.clone(), known);
        Some(Emission::Create(event))
    }

    fn allows(&mut self, key: &Key, now: Instant) -> bool {
        let bucket = self.buckets.entry(key.clone()).or_insert(Bucket { left: BURST, since: now });
        let passed = now.saturating_duration_since(bucket.since).as_secs() / REFILL.as_secs();
        if passed > 0 {
            let refill = u32::try_from(passed).unwrap_or(BURST);
            bucket.left = bucket.left.saturating_add(refill).min(BURST);
            bucket.since = now;
        }
        let allowed = bucket.left > 0;
        bucket.left = bucket.left.saturating_sub(1);
        allowed
    }

    /// Keeps both maps bounded. Whatever is dropped is at worst told as new.
    fn forget(&mut self, now: Instant) {
        let fresh = |since: Instant, long: Duration| now.saturating_duration_since(since) < long;
        if self.known.len() >= MOST_KNOWN {
            self.known.retain(|_, known| fresh(known.last, SAME_FOR));
        }
        if self.known.len() >= MOST_KNOWN {
            self.known.clear();
        }
        if self.buckets.len() >= MOST_KNOWN {
            self.buckets.retain(|_, bucket| bucket.left < BURST && fresh(bucket.since, REFILL));
        }
        if self.buckets.len() >= MOST_KNOWN {
            self.buckets.clear();
        }
        self.known.retain(|_, known| fresh(known.last, SAME_FOR));
    }
}

/// Unique by the time, as Kubernetes' own recorders name their Events.
fn name(notice: &Notice, wall: Timestamp) -> String {
    let about = &notice.about().name;
    let about = about.get(..about.floor_char_boundary(MAX_NAME)).unwrap_or(about);
    format!("{}.{:x}", about.trim_end_matches(['.', '-']), wall.as_nanosecond())
}

fn event(notice: &Notice, known: &Known, last: &str) -> Value {
    let Key { kind, namespace, name } = notice.about();
    json!({
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": { "name": known.name, "namespace": namespace },
        "involvedObject": {
            "apiVersion": notice.about.api_version,
            "kind": kind,
            "namespace": namespace,
            "name": name,
            "uid": notice.about.uid,
        },
        "type": if notice.warning { "Warning" } else { "Normal" },
        "reason": notice.reason,
        "message": notice.message,
        "source": { "component": COMPONENT },
        "reportingComponent": COMPONENT,
        "reportingInstance": "",
        "firstTimestamp": known.first,
        "lastTimestamp": last,
        "count": known.count,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::notice::About;

    fn notice(name: &str, message: &str) -> Notice {
        let key = Key { kind: "Trigger", namespace: "ns".to_owned(), name: name.to_owned() };
        let (api_version, uid) = ("eventing.knative.dev/v1".to_owned(), "u".to_owned());
        let about = About { key, api_version, uid };
        let (reason, message) = ("Gone".to_owned(), message.to_owned());
        Notice { about, warning: true, reason, message }
    }

    fn wall() -> Timestamp {
        "2026-01-31T12:00:00Z".parse().unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn the_same_notice_is_counted_and_another_is_another_event() {
        let (mut recorder, now) = (Recorder::default(), Instant::now());
        let Some(Emission::Create(event)) = recorder.record(&notice("a", "x"), now, wall()) else {
            panic!("the first is created");
        };
        assert_eq!(event["count"], 1);
        assert_eq!(event["involvedObject"]["uid"], "u");
        assert_eq!(event["firstTimestamp"], "2026-01-31T12:00:00Z");
        let again = recorder.record(&notice("a", "x"), now, wall());
        let Some(Emission::Count { name, patch, .. }) = again else { panic!("{again:?}") };
        assert_eq!(event["metadata"]["name"], name.as_str());
        assert_eq!(patch["count"], 2);
        let other = recorder.record(&notice("a", "y"), now, wall());
        assert!(matches!(other, Some(Emission::Create(_))), "{other:?}");
        let later = recorder.record(&notice("a", "x"), now + SAME_FOR, wall());
        assert!(matches!(later, Some(Emission::Create(_))), "{later:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn an_object_that_flaps_is_told_about_less_and_less() {
        let (mut recorder, now) = (Recorder::default(), Instant::now());
        let mut told = |name: &str, now| recorder.record(&notice(name, "x"), now, wall()).is_some();
        let count = (0..100).filter(|_| told("a", now)).count();
        assert_eq!(count, 25);
        assert!(told("b", now), "others are not concerned");
        assert!(told("a", now + REFILL));
        assert!(!told("a", now + REFILL));
    }

    #[tokio::test(start_paused = true)]
    async fn memory_and_names_are_bounded() {
        let (mut recorder, now) = (Recorder::default(), Instant::now());
        for index in 0..2 * MOST_KNOWN {
            recorder.record(&notice(&format!("t{index}"), "x"), now, wall());
        }
        assert!(recorder.known.len() <= MOST_KNOWN && recorder.buckets.len() <= MOST_KNOWN);
        assert!(name(&notice(&"x".repeat(253), ""), wall()).len() <= 253);
    }
}
