//! Deliveries in order, of a consumer that acknowledges all messages up to one.

use std::collections::VecDeque;

use super::{Pull, consumer, gone};
use crate::nats::request::BATCH;
use crate::source::{Context, SourceError};

/// So often in a row the order may be broken, with nothing safe in between, before it is said.
const BROKEN: u32 = 3;

/// What came of a consumer without a gap.
#[derive(Debug)]
pub(super) struct Order {
    /// The number of the next delivery.
    delivery: u64,
    /// The first message of the stream that is not safe; what the server says, before any was.
    unsafe_from: Option<u64>,
    is_broken: bool,
    /// How often it was, since something was safe.
    breaks: u32,
}

impl Order {
    /// After so many deliveries. Those in flight went to somebody who is gone.
    pub(super) fn after(deliveries: u64, in_flight: bool) -> Self {
        Self { delivery: deliveries + 1, unsafe_from: None, is_broken: in_flight, breaks: 0 }
    }

    /// Whether a delivery is the next, and it comes for the first time. After one that is not none is.
    pub(super) fn follows(&mut self, delivery: u64, again: bool) -> bool {
        if self.is_broken {
            return false;
        }
        if again || delivery != self.delivery {
            tracing::debug!(delivery, expected = self.delivery, "deliveries are missing");
            self.is_broken = true;
            self.breaks += 1;
            return false;
        }
        self.delivery += 1;
        true
    }

    /// The connection was made anew: what was on its way may be lost.
    pub(super) fn interrupt(&mut self) {
        self.is_broken = true;
    }
}

impl Pull {
    /// Notes that what was handed over is safe.
    pub(super) fn mark_safe(&mut self) {
        let Some(order) = &mut self.order else {
            return self.safe.extend(self.handing.drain(..).map(|held| held.reply));
        };
        if let Some(last) = self.handing.drain(..).next_back() {
            order.unsafe_from = Some(last.sequence + 1);
            order.breaks = 0;
            self.safe = VecDeque::from([last.reply]);
        }
    }

    pub(super) fn is_broken(&self) -> bool {
        self.order.as_ref().is_some_and(|order| order.is_broken)
    }

    /// Moves the consumer back to the first message that is not safe. What is still on its way goes to an inbox that nobody
    /// reads any more.
    pub(super) async fn start_over(&mut self, ctx: &Context) -> Result<(), SourceError> {
        self.waiting.clear();
        self.waiting_bytes = 0;
        self.requests.clear();
        self.safe.clear();
        self.inbox = self.client.new_inbox();
        let messages = self.client.subscribe(format!("{}.*", self.inbox));
        self.messages = messages.await.map_err(|_| gone())?;
        if std::mem::take(&mut self.stumbled) {
            self.take_unreadable(ctx).await?;
        }
        let Some(order) = &mut self.order else { return Ok(()) };
        if order.breaks > BROKEN {
            let what = format!(
                "somebody else reads through the consumer {} too, which is the source's own: give one of them another by `consumer`",
                self.maker.consumer()
            );
            return Err(SourceError::Unavailable { what, source: None });
        }
        consumer::reset(&self.carrier.context, &self.consumer, order.unsafe_from).await?;
        (order.delivery, order.is_broken) = (1, false);
        Ok(())
    }

    /// Hands over what is in flight up to the last message that the client cannot read, without the client.
    async fn take_unreadable(&mut self, ctx: &Context) -> Result<(), SourceError> {
        let first = self.order.as_ref().and_then(|order| order.unsafe_from);
        let mut found = self.look_at_what_is_in_flight(first, |_| true).await;
        let last = found.iter().rposition(|message| !message.is_readable);
        found.truncate(last.map_or(0, |last| last + 1));
        for message in found {
            self.hold_unread(message)?;
        }
        while let Some(events) = self.batch(ctx.at_once(BATCH)) {
            ctx.deliver(events).await?;
            self.mark_safe();
        }
        Ok(())
    }
}
