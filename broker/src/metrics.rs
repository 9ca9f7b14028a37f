//! What the ingress counts.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;

/// By what requests are told apart: few enough values to enumerate.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Labels {
    code: u16,
}

/// The ingress's counters.
#[derive(Clone, Debug)]
pub(crate) struct Metrics {
    requests: Family<Labels, Counter>,
    /// Kept aside: the one that every good request touches needs no look-up.
    accepted: Counter,
    events: Counter,
}

impl Metrics {
    pub(crate) fn new(registry: &mut Registry) -> Self {
        let requests = Family::<Labels, Counter>::default();
        let accepted = requests.get_or_create(&Labels { code: 202 }).clone();
        let events = Counter::default();
        registry.register("ingress_requests", "Requests answered, by status", requests.clone());
        registry.register("ingress_events", "Events accepted and durable", events.clone());
        Self { requests, accepted, events }
    }

    pub(crate) fn answered(&self, code: u16, events: usize) {
        if code == 202 {
            self.accepted.inc();
            self.events.inc_by(u64::try_from(events).unwrap_or(u64::MAX));
        } else {
            self.requests.get_or_create(&Labels { code }).inc();
        }
    }
}
