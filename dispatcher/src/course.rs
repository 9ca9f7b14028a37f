//! A trigger made ready to deliver: addresses parsed, clients chosen, counters looked up.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use broker::store::Store;
use http::Uri;
use tracing::{info, warn};

use crate::clock;
use crate::metrics::TriggerMetrics;
use crate::target::{Endpoint, Limits, Role, TargetError};
use crate::tls::Clients;
use crate::trigger::Trigger;

/// One line about parked events or dropped replies a trigger in this time: a subscriber that is down for an hour must
/// not write a line for each of a million events. The counters have them all.
const NOTICE_EVERY: Duration = Duration::from_secs(10);

/// What a worker needs to make attempts. Never changed: a changed trigger gets a new one, attempts under way keep theirs.
pub(crate) struct Course {
    /// The trigger.
    pub(crate) trigger: Arc<Trigger>,
    /// Its subscriber.
    pub(crate) subscriber: Endpoint,
    /// Its dead letter sink.
    pub(crate) dead_letter: Option<Endpoint>,
    /// Where replies would be posted if this were not the same process; what a dead letter names when one failed.
    pub(crate) reply_url: String,
    /// Bounds of a call.
    pub(crate) limits: Limits,
    /// Takes replies.
    pub(crate) store: Arc<dyn Store>,
    /// Counters.
    pub(crate) metrics: TriggerMetrics,
    noticed_ms: AtomicU64,
    /// Whether the log says that the subscriber fails.
    failing: AtomicBool,
}

/// What a course is made from besides its trigger.
#[derive(Debug)]
pub(crate) struct Surroundings<'a> {
    /// Takes replies.
    pub(crate) store: &'a Arc<dyn Store>,
    /// Base address of the event listener.
    pub(crate) events_url: &'a Uri,
    /// Longest reply.
    pub(crate) reply_bytes: usize,
    /// HTTP clients.
    pub(crate) clients: &'a mut Clients,
}

impl Course {
    /// Prepares `trigger`.
    pub(crate) fn new(
        trigger: Arc<Trigger>,
        metrics: TriggerMetrics,
        around: &mut Surroundings<'_>,
    ) -> Result<Self, TargetError> {
        let policy = &trigger.delivery;
        let mut endpoint = |target, role| {
            Endpoint::new(target, role, policy.format, &trigger.namespace, around.clients)
        };
        let subscriber = endpoint(&trigger.subscriber, Role::Subscriber)?;
        let dead_letter =
            policy.dead_letter.as_ref().map(|sink| endpoint(sink, Role::DeadLetter)).transpose()?;
        let base = around.events_url.to_string();
        Ok(Self {
            subscriber,
            dead_letter,
            reply_url: format!("{}/{}", base.trim_end_matches('/'), trigger.broker),
            limits: Limits { timeout: policy.timeout, reply_bytes: around.reply_bytes },
            store: Arc::clone(around.store),
            metrics,
            noticed_ms: AtomicU64::new(0),
            failing: AtomicBool::new(false),
            trigger,
        })
    }

    /// The subscriber failed, and will be asked again. The first time the log says so: who runs the mesh should not have to
    /// look for the reason why nothing arrives.
    pub(crate) fn failed(&self, reason: &str, now: SystemTime) {
        let known = self.failing.load(Ordering::Relaxed);
        if !known && self.may_notice(now) && !self.failing.swap(true, Ordering::Relaxed) {
            let (trigger, subscriber) = (self.trigger.subscription(), self.subscriber_host());
            warn!(trigger, subscriber, reason, "the subscriber fails; its events are tried again");
        }
    }

    /// The subscriber took an event.
    pub(crate) fn succeeded(&self) {
        if self.failing.load(Ordering::Relaxed) && self.failing.swap(false, Ordering::Relaxed) {
            let (trigger, subscriber) = (self.trigger.subscription(), self.subscriber_host());
            info!(trigger, subscriber, "the subscriber takes events again");
        }
    }

    /// Host and port of the subscriber: the rest of its address may hold a secret, and logs are read by many.
    fn subscriber_host(&self) -> String {
        let url = self.subscriber.url();
        let port = url.port().map(|port| format!(":{port}")).unwrap_or_default();
        format!("{}{port}", url.host().unwrap_or_default())
    }

    /// Whether a line may be written now about something that may happen to every event.
    pub(crate) fn may_notice(&self, now: SystemTime) -> bool {
        let now = clock::millis(now);
        let last = self.noticed_ms.load(Ordering::Relaxed);
        // A clock that was set back must not silence the trigger.
        if now.abs_diff(last) < clock::whole_millis(NOTICE_EVERY) {
            return false;
        }
        self.noticed_ms.compare_exchange(last, now, Ordering::Relaxed, Ordering::Relaxed).is_ok()
    }
}

impl fmt::Debug for Course {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Course")
            .field("trigger", &self.trigger.subscription())
            .field("subscriber", &self.subscriber)
            .field("dead_letter", &self.dead_letter)
            .finish_non_exhaustive()
    }
}
