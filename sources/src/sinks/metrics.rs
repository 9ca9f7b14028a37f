//! What sinks count.

use std::sync::Arc;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;

use crate::status::Key;

/// Labels that name a sink.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct SinkLabels {
    kind: &'static str,
    namespace: String,
    name: String,
}

/// Labels of a request. Only statuses, so that a hostile caller cannot make up label values.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RequestLabels {
    status: u16,
}

/// All counters; clones count into the same ones.
#[derive(Clone, Debug, Default)]
pub struct Metrics(Arc<Families>);

#[derive(Debug, Default)]
struct Families {
    events: Family<SinkLabels, Counter>,
    restarts: Family<SinkLabels, Counter>,
    requests: Family<RequestLabels, Counter>,
}

impl Metrics {
    /// Counters registered under their names, which the registry may prefix.
    #[must_use]
    pub fn register(registry: &mut Registry) -> Self {
        let metrics = Self::default();
        let families = &metrics.0;
        registry.register(
            "sink_events",
            "Events that the system behind a sink has acknowledged",
            families.events.clone(),
        );
        registry.register(
            "sink_restarts",
            "Starts of a sink after it failed",
            families.restarts.clone(),
        );
        registry.register(
            "sink_requests",
            "Requests to sinks by status answered",
            families.requests.clone(),
        );
        metrics
    }

    /// Counts the events of a sink.
    pub(super) fn events(&self, key: &Key) -> Counter {
        self.0.events.get_or_create_owned(&labels(key))
    }

    /// Counts the restarts of a sink.
    pub(super) fn restarts(&self, key: &Key) -> Counter {
        self.0.restarts.get_or_create_owned(&labels(key))
    }

    /// Drops the counters of a sink that is no more, so that a mesh whose sinks come and go does not grow.
    pub(super) fn forget(&self, key: &Key) {
        self.0.events.remove(&labels(key));
        self.0.restarts.remove(&labels(key));
    }

    /// Counts a request.
    pub(super) fn requested(&self, status: u16) {
        self.0.requests.get_or_create(&RequestLabels { status }).inc();
    }
}

fn labels(key: &Key) -> SinkLabels {
    SinkLabels { kind: key.kind, namespace: key.namespace.to_string(), name: key.name.to_string() }
}
