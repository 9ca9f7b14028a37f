//! Handing events over for as long as it takes: what sources that can wait do between reading and acknowledging.

use std::time::Duration;

use broker_event::Event;
use tokio::time::sleep;

use crate::backoff::{Backoff, roll};
use crate::emit::EmitError;
use crate::source::{Context, SourceError};
use crate::status::Condition;

/// Waits between attempts. Half a minute at most: a sink that is back should be noticed before users notice that it was away.
pub(crate) const RETRY: Backoff =
    Backoff { first: Duration::from_millis(100), most: Duration::from_secs(30) };

/// The longest pause a sink can ask for; beyond that it is tried anyway.
pub(crate) const MAX_RETRY_AFTER: Duration = Duration::from_secs(60);

impl Context {
    /// Hands events over, in their order, and again while the sink is busy or away; what the sink refuses for good is parked.
    /// When it returns `Ok` all of them are safe: acknowledge upstream now, and not before.
    ///
    /// # Errors
    /// [`SourceError::Stopped`] when the source is asked to stop meanwhile, [`SourceError::State`] when an event is refused
    /// and cannot be parked. Then some of the events may be safe and others are not: none is acknowledged.
    pub async fn deliver(&self, mut events: Vec<Event>) -> Result<(), SourceError> {
        for (event, error) in self.emit.prepare(&mut events) {
            self.park(event, error.to_string()).await?;
        }
        if events.len() > 1 && self.emit.takes_batches() && self.offer(&events).await?.is_ok() {
            return Ok(());
        }
        // If one of them spoilt the batch, only each by itself can tell which.
        for event in events {
            if let Err(error) = self.offer(std::slice::from_ref(&event)).await? {
                self.park(event, error.to_string()).await?;
            }
        }
        Ok(())
    }

    /// Keeps aside an event that nobody takes, so that its source goes on with the next.
    ///
    /// # Errors
    /// When it cannot be kept.
    pub async fn park(&self, event: Event, reason: String) -> Result<(), SourceError> {
        let (source, id) = (event.source().to_owned(), event.id().to_owned());
        if let Err(error) = self.parking.park(event, reason.clone()).await {
            // Senders of web hooks are told no more than to come again, so the status says what is to be done.
            let message = format!("{id} is refused ({reason}) and cannot be kept: {error}");
            self.report.condition(Condition::bad(Condition::NOTHING_PARKED, "NotKept", message));
            return Err(SourceError::State(error));
        }
        tracing::warn!(
            event.source = source,
            event.id = id,
            reason,
            "an event of the source is parked"
        );
        self.metrics.parked();
        let message = format!("the last one was {id}: {reason}");
        self.report.condition(Condition::bad(Condition::NOTHING_PARKED, "EventParked", message));
        Ok(())
    }

    /// How many events to deliver at once if `most` would be good for a sink that takes batches. To any other they go one by
    /// one, and together they would all be acknowledged as late as the last, and come again if it cannot be.
    pub(crate) fn at_once(&self, most: usize) -> usize {
        if self.emit.takes_batches() { most } else { 1 }
    }

    /// Says how many messages wait upstream.
    pub fn lag(&self, waiting: u64) {
        self.metrics.lag(waiting);
        self.report.lag(waiting);
    }

    /// Prepared events, until taken or refused for good.
    async fn offer(&self, events: &[Event]) -> Result<Result<(), EmitError>, SourceError> {
        let mut failures = 0;
        loop {
            let error = tokio::select! {
                biased;
                sent = self.emit.hand_over(events.to_vec()) => match sent {
                    Ok(()) => return Ok(Ok(())),
                    Err(error) => error,
                },
                () = self.stop.cancelled() => return Err(SourceError::Stopped),
            };
            if !error.is_retryable() {
                return Ok(Err(error));
            }
            failures += 1;
            let asked = error.retry_after().unwrap_or_default().min(MAX_RETRY_AFTER);
            tokio::select! {
                biased;
                () = self.stop.cancelled() => return Err(SourceError::Stopped),
                () = sleep(RETRY.wait(failures, roll()).max(asked)) => {}
            }
        }
    }
}

#[cfg(test)]
mod tests;
