//! Counters of deliveries, by trigger.

use std::collections::HashMap;
use std::sync::atomic::AtomicI64;
use std::sync::{Arc, Mutex, PoisonError};

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};

/// Upper bounds of the latency buckets in seconds: Knative's, and two beyond for functions that take minutes.
const LATENCY_BUCKETS: [f64; 13] =
    [0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 60.0, 300.0];

/// The trigger label that all triggers past the limit share.
const OTHER: &str = "(other)";

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct TriggerLabels {
    namespace: String,
    trigger: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ResultLabels {
    namespace: String,
    trigger: String,
    result: &'static str,
}

/// What happened to deliveries; the words of the `result` label.
const DELIVERY_RESULTS: [&str; 4] = ["delivered", "failed", "unwanted", "expired"];
/// What happened to replies.
const REPLY_RESULTS: [&str; 3] = ["stored", "ttl_exhausted", "refused"];

/// The families, registered once a process.
#[derive(Clone, Debug)]
pub(crate) struct Metrics {
    families: Arc<Families>,
}

#[derive(Debug)]
struct Families {
    attempts: Family<ResultLabels, Counter>,
    latency: Family<TriggerLabels, Histogram, fn() -> Histogram>,
    in_flight: Family<TriggerLabels, Gauge>,
    retries: Family<TriggerLabels, Counter>,
    dead_letters: Family<TriggerLabels, Counter>,
    parked: Family<TriggerLabels, Counter>,
    replies: Family<ResultLabels, Counter>,
    /// Triggers with series of their own, and how many hold them: a trigger made anew meets its predecessor's end.
    named: Mutex<HashMap<TriggerLabels, usize>>,
    most: usize,
}

/// One trigger's counters, looked up once.
#[derive(Clone, Debug)]
pub(crate) struct TriggerMetrics {
    /// Attempts the subscriber (or the dead letter sink) took.
    pub(crate) delivered: Counter,
    /// Attempts that failed.
    pub(crate) failed: Counter,
    /// Deliveries dropped because the filter had changed meanwhile.
    pub(crate) unwanted: Counter,
    /// Deliveries dropped because they grew too old while they waited for their turn.
    pub(crate) expired: Counter,
    /// Seconds an attempt took.
    pub(crate) latency: Histogram,
    /// Attempts under way.
    pub(crate) in_flight: Gauge,
    /// Attempts that will be repeated.
    pub(crate) retries: Counter,
    /// Events the dead letter sink took.
    pub(crate) dead_letters: Counter,
    /// Events put aside for a person.
    pub(crate) parked: Counter,
    /// Replies stored.
    pub(crate) replies: Counter,
    /// Replies refused because they had been round too often.
    pub(crate) replies_exhausted: Counter,
    /// Replies that could not be stored.
    pub(crate) replies_refused: Counter,
    _name: Arc<Name>,
}

/// Gives a trigger's series back when the last holder of its counters is gone.
#[derive(Debug)]
struct Name {
    labels: TriggerLabels,
    families: Arc<Families>,
}

/// Counts an attempt as under way as long as it lives.
#[derive(Debug)]
pub(crate) struct InFlight(Gauge<i64, AtomicI64>);

impl Metrics {
    /// Registers the families in `registry`; at most `most` triggers get series of their own, the rest share one.
    pub(crate) fn register(registry: &mut Registry, most: usize) -> Self {
        let families = Families {
            attempts: Family::default(),
            latency: Family::new_with_constructor(latency_histogram),
            in_flight: Family::default(),
            retries: Family::default(),
            dead_letters: Family::default(),
            parked: Family::default(),
            replies: Family::default(),
            named: Mutex::default(),
            most,
        };
        registry.register(
            "dispatch_attempts",
            "Attempts to deliver an event, by result",
            families.attempts.clone(),
        );
        registry.register_with_unit(
            "dispatch_duration",
            "Time an attempt took, from connecting to the end of the answer",
            Unit::Seconds,
            families.latency.clone(),
        );
        registry.register("dispatch_in_flight", "Attempts under way", families.in_flight.clone());
        registry.register(
            "dispatch_retries",
            "Failed attempts that are repeated",
            families.retries.clone(),
        );
        registry.register(
            "dispatch_dead_letters",
            "Events the dead letter sink took",
            families.dead_letters.clone(),
        );
        registry.register(
            "dispatch_parked",
            "Events put aside for a person",
            families.parked.clone(),
        );
        registry.register(
            "dispatch_replies",
            "Events subscribers answered, by result",
            families.replies.clone(),
        );
        Self { families: Arc::new(families) }
    }

    /// The counters of one trigger.
    pub(crate) fn trigger(&self, namespace: &str, name: &str) -> TriggerMetrics {
        let families = &self.families;
        let labels = families.name(namespace, name);
        let attempts = |result| families.attempts.get_or_create_owned(&labels.with(result));
        let replies = |result| families.replies.get_or_create_owned(&labels.with(result));
        let [delivered, failed, unwanted, expired] = DELIVERY_RESULTS.map(attempts);
        let [stored, exhausted, refused] = REPLY_RESULTS.map(replies);
        TriggerMetrics {
            delivered,
            failed,
            unwanted,
            expired,
            latency: families.latency.get_or_create_owned(&labels),
            in_flight: families.in_flight.get_or_create_owned(&labels),
            retries: families.retries.get_or_create_owned(&labels),
            dead_letters: families.dead_letters.get_or_create_owned(&labels),
            parked: families.parked.get_or_create_owned(&labels),
            replies: stored,
            replies_exhausted: exhausted,
            replies_refused: refused,
            _name: Arc::new(Name { labels, families: Arc::clone(families) }),
        }
    }
}

fn latency_histogram() -> Histogram {
    Histogram::new(LATENCY_BUCKETS)
}

impl Families {
    /// The labels of a trigger: its own while there is room, else the shared ones.
    fn name(&self, namespace: &str, name: &str) -> TriggerLabels {
        let own = TriggerLabels { namespace: namespace.to_owned(), trigger: name.to_owned() };
        let mut named = self.named.lock().unwrap_or_else(PoisonError::into_inner);
        if named.contains_key(&own) || named.len() < self.most {
            *named.entry(own.clone()).or_default() += 1;
            return own;
        }
        TriggerLabels { namespace: OTHER.to_owned(), trigger: OTHER.to_owned() }
    }

    fn forget(&self, labels: &TriggerLabels) {
        let mut named = self.named.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(holders) = named.get_mut(labels) else { return }; // the shared series stay
        *holders = holders.saturating_sub(1);
        if *holders > 0 {
            return;
        }
        named.remove(labels);
        for result in DELIVERY_RESULTS {
            self.attempts.remove(&labels.with(result));
        }
        for result in REPLY_RESULTS {
            self.replies.remove(&labels.with(result));
        }
        self.latency.remove(labels);
        for counters in [&self.retries, &self.dead_letters, &self.parked] {
            counters.remove(labels);
        }
        self.in_flight.remove(labels);
    }
}

impl TriggerLabels {
    fn with(&self, result: &'static str) -> ResultLabels {
        ResultLabels { namespace: self.namespace.clone(), trigger: self.trigger.clone(), result }
    }
}

impl TriggerMetrics {
    /// Counts an attempt as under way until the guard is dropped, also when the attempt is cut off.
    pub(crate) fn begin(&self) -> InFlight {
        self.in_flight.inc();
        InFlight(self.in_flight.clone())
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.dec();
    }
}

impl Drop for Name {
    fn drop(&mut self) {
        self.families.forget(&self.labels);
    }
}

#[cfg(test)]
mod tests {
    use prometheus_client::encoding::text::encode;

    use super::*;

    fn rendered(registry: &Registry) -> String {
        let mut text = String::new();
        encode(&mut text, registry).unwrap();
        text
    }

    #[test]
    fn a_deleted_triggers_series_are_gone() {
        let mut registry = Registry::default();
        let metrics = Metrics::register(&mut registry, 10);
        let trigger = metrics.trigger("default", "audit");
        trigger.parked.inc();
        assert!(
            rendered(&registry)
                .contains(r#"dispatch_parked_total{namespace="default",trigger="audit"} 1"#)
        );
        drop(trigger);
        assert!(!rendered(&registry).contains("audit"));
    }

    #[test]
    fn triggers_past_the_limit_share_their_series() {
        let mut registry = Registry::default();
        let metrics = Metrics::register(&mut registry, 1);
        let first = metrics.trigger("default", "first");
        let _second = metrics.trigger("default", "second");
        let third = metrics.trigger("default", "third");
        third.retries.inc();
        first.retries.inc();
        let text = rendered(&registry);
        assert!(text.contains(r#"trigger="first"} 1"#), "{text}");
        assert!(text.contains(r#"trigger="(other)"} 1"#), "{text}");
        assert!(!text.contains(r#"trigger="second"#) && !text.contains(r#"trigger="third"#));
    }

    #[test]
    fn an_attempt_cut_off_is_no_longer_in_flight() {
        let metrics = Metrics::register(&mut Registry::default(), 1).trigger("default", "first");
        let attempt = metrics.begin();
        assert_eq!(metrics.in_flight.get(), 1);
        drop(attempt);
        assert_eq!(metrics.in_flight.get(), 0);
    }
}
