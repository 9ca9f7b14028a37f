//! What this crate counts, by source.

use std::sync::Arc;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use crate::status::Key;

/// Labels that name a source.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct SourceLabels {
    kind: &'static str,
    namespace: String,
    name: String,
}

/// Labels of a request to a web hook. Only statuses, so that a hostile caller cannot make up label values.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RequestLabels {
    status: u16,
}

/// All counters; clones count into the same ones.
#[derive(Clone, Debug, Default)]
pub struct Metrics(Arc<Families>);

#[derive(Debug, Default)]
struct Families {
    events: Family<SourceLabels, Counter>,
    emit_failures: Family<SourceLabels, Counter>,
    restarts: Family<SourceLabels, Counter>,
    missed_ticks: Family<SourceLabels, Counter>,
    parked: Family<SourceLabels, Counter>,
    lag: Family<SourceLabels, Gauge>,
    requests: Family<RequestLabels, Counter>,
}

/// The counters of one source.
#[derive(Clone, Debug)]
pub(crate) struct SourceMetrics {
    events: Counter,
    emit_failures: Counter,
    restarts: Counter,
    missed_ticks: Counter,
    parked: Counter,
    lag: Gauge,
}

impl Metrics {
    /// Counters registered under their names, which the registry may prefix.
    #[must_use]
    pub fn register(registry: &mut Registry) -> Self {
        let metrics = Self::default();
        let families = &metrics.0;
        registry.register(
            "source_events",
            "Events that a source handed over and the sink made durable",
            families.events.clone(),
        );
        registry.register(
            "source_emit_failures",
            "Attempts of a source to hand over events that failed",
            families.emit_failures.clone(),
        );
        registry.register(
            "source_restarts",
            "Starts of a source after it failed",
            families.restarts.clone(),
        );
        registry.register(
            "source_missed_ticks",
            "Ticks of a schedule that no event was made of",
            families.missed_ticks.clone(),
        );
        registry.register(
            "source_parked",
            "Events of a source that the sink refused for good and that are kept aside",
            families.parked.clone(),
        );
        registry.register(
            "source_lag",
            "Messages that wait upstream for a source, where upstream tells",
            families.lag.clone(),
        );
        registry.register(
            "source_hook_requests",
            "Requests to web hook sources by status answered",
            families.requests.clone(),
        );
        metrics
    }

    /// The counters of `key`.
    pub(crate) fn of(&self, key: &Key) -> SourceMetrics {
        let labels = labels(key);
        SourceMetrics {
            events: self.0.events.get_or_create_owned(&labels),
            emit_failures: self.0.emit_failures.get_or_create_owned(&labels),
            restarts: self.0.restarts.get_or_create_owned(&labels),
            missed_ticks: self.0.missed_ticks.get_or_create_owned(&labels),
            parked: self.0.parked.get_or_create_owned(&labels),
            lag: self.0.lag.get_or_create_owned(&labels),
        }
    }

    /// Drops the counters of a source that is no more, so that a mesh whose sources come and go does not grow.
    pub(crate) fn forget(&self, key: &Key) {
        let labels = labels(key);
        let families = &self.0;
        for family in [
            &families.events,
            &families.emit_failures,
            &families.restarts,
            &families.missed_ticks,
            &families.parked,
        ] {
            family.remove(&labels);
        }
        families.lag.remove(&labels);
    }

    /// Counts a request to a web hook.
    pub(crate) fn requested(&self, status: u16) {
        self.0.requests.get_or_create(&RequestLabels { status }).inc();
    }
}

impl SourceMetrics {
    pub(crate) fn emitted(&self, count: u64) {
        self.events.inc_by(count);
    }

    pub(crate) fn emit_failed(&self) {
        self.emit_failures.inc();
    }

    pub(crate) fn restarts(&self) -> Counter {
        self.restarts.clone()
    }

    pub(crate) fn missed(&self, ticks: u64) {
        self.missed_ticks.inc_by(ticks);
    }

    pub(crate) fn parked(&self) {
        self.parked.inc();
    }

    pub(crate) fn lag(&self, waiting: u64) {
        self.lag.set(i64::try_from(waiting).unwrap_or(i64::MAX));
    }
}

fn labels(key: &Key) -> SourceLabels {
    SourceLabels {
        kind: key.kind,
        namespace: key.namespace.to_string(),
        name: key.name.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::Metrics;
    use crate::status::fake;
    use prometheus_client::encoding::text::encode;
    use prometheus_client::registry::Registry;

    fn text(registry: &Registry) -> String {
        let mut text = String::new();
        encode(&mut text, registry).unwrap();
        text
    }

    #[test]
    fn counts_by_source_until_the_source_is_forgotten() {
        let mut registry = Registry::default();
        let metrics = Metrics::register(&mut registry);
        let key = fake::key("PingSource");
        metrics.of(&key).emitted(3);
        metrics.requested(202);
        let line = r#"source_events_total{kind="PingSource",namespace="default",name="one"} 3"#;
        assert!(text(&registry).contains(line), "{}", text(&registry));
        assert!(text(&registry).contains(r#"source_hook_requests_total{status="202"} 1"#));
        metrics.forget(&key);
        assert!(!text(&registry).contains("PingSource"));
    }
}
