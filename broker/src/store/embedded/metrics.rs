//! What the embedded store counts.

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

/// Counters of one embedded store. Cloning shares them.
#[derive(Clone, Debug, Default)]
pub struct EmbeddedMetrics {
    /// Events made durable.
    pub appended: Counter,
    /// Appends refused because a budget or the disk was used up.
    pub refused_full: Counter,
    /// Appends refused for other reasons.
    pub refused_other: Counter,
    /// Events the router decided about.
    pub routed: Counter,
    /// Events the router had to read back, because it fell behind or after a restart.
    pub routed_from_disk: Counter,
    /// Events given to subscriptions, one a subscription.
    pub matched: Counter,
    /// Of those, handed over from memory.
    pub handed_live: Counter,
    /// Events read from the disk to be delivered.
    pub loaded: Counter,
    /// Deliveries acked.
    pub acked: Counter,
    /// Attempts recorded that are to be repeated.
    pub retried: Counter,
    /// Deliveries parked.
    pub parked: Counter,
    /// Events expired by age or backlog.
    pub expired: Counter,
    /// Events that could not be read back; each is also in the log.
    pub lost: Counter,
    /// Snapshots written.
    pub snapshots: Counter,
    /// Bytes of events that lie ready in memory.
    pub ready_bytes: Gauge,
}

impl EmbeddedMetrics {
    /// Registers all of them.
    pub fn register(&self, registry: &mut Registry) {
        let registry = registry.sub_registry_with_prefix("store");
        let counters = [
            ("appended", "Events made durable", &self.appended),
            (
                "refused_full",
                "Appends refused because a budget or the disk was used up",
                &self.refused_full,
            ),
            ("refused_other", "Appends refused for other reasons", &self.refused_other),
            ("routed", "Events the router decided about", &self.routed),
            (
                "routed_from_disk",
                "Events the router read back from the log",
                &self.routed_from_disk,
            ),
            ("matched", "Events given to subscriptions", &self.matched),
            ("handed_live", "Events handed to subscriptions from memory", &self.handed_live),
            ("loaded", "Events read from the log to be delivered", &self.loaded),
            ("acked", "Deliveries acked", &self.acked),
            ("retried", "Attempts that are to be repeated", &self.retried),
            ("parked", "Deliveries parked", &self.parked),
            ("expired", "Events expired by age or backlog", &self.expired),
            ("lost", "Events that could not be read back", &self.lost),
            ("snapshots", "Snapshots of the store's state written", &self.snapshots),
        ];
        for (name, help, counter) in counters {
            registry.register(name, help, counter.clone());
        }
        registry.register(
            "ready_bytes",
            "Bytes of events that lie ready in memory",
            self.ready_bytes.clone(),
        );
    }
}
