//! What web hook sources do with the events of a request.

use std::time::Duration;

use broker_event::Event;
use tokio::time::timeout;

use crate::respond::Refusal;
use crate::source::{Context, SourceError};

/// How long a request waits for a sink that is busy or away, before its sender is told to come again: within the 10 s after
/// which GitHub and GitLab give up. GitHub does not come again by itself; a gateway of Ceph's does at once, thousands of
/// times a second.
const PATIENCE: Duration = Duration::from_secs(7);

/// What senders are told to wait. Those who come again have schedules of their own.
const RETRY_AFTER: Duration = Duration::from_secs(30);

/// Hands the events of a request over. `Ok` means that all of them are safe; otherwise the sender is to come again with all
/// of them. What the sink refuses for good is parked: a sender that came again would come with the same for ever.
pub(crate) async fn store(ctx: &Context, events: Vec<Event>) -> Result<(), Refusal> {
    let busy = |reason: String| Refusal::Busy { reason, retry_after: RETRY_AFTER };
    match timeout(PATIENCE, ctx.deliver(events)).await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(SourceError::Stopped)) => Err(busy("the source is stopping".to_owned())),
        Ok(Err(error)) => Err(busy(error.to_string())),
        Err(_) => Err(busy(format!("the sink did not take the event within {PATIENCE:?}"))),
    }
}
