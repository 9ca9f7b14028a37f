//! Events that end without being delivered: too old, too many, or unreadable.

use super::super::book::{Ended, Note, StepNote};
use super::{Ledger, Place};
use crate::store::{Outcome, Position, Stage};

/// How many events something ended that nobody delivered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in super::super) struct Dropped {
    /// Past `max-age` or `max-backlog`.
    pub(in super::super) expired: u64,
    /// Damaged or gone from the disk.
    pub(in super::super) lost: u64,
}

impl<T> Ledger<T> {
    /// Whether events are expired by age, and by which.
    pub(in super::super) fn max_age_ms(&self) -> Option<u64> {
        self.max_age_ms
    }

    /// Expires what stands before `position` and is not in flight.
    pub(in super::super) fn expire_before(&mut self, position: Position, now_ms: u64) {
        let old: Vec<Position> =
            self.book.pending().iter().take_while(|have| *have < position).collect();
        for position in old {
            if self.places.get(&position) != Some(&Place::InFlight) {
                self.expire(position, now_ms);
            }
        }
        self.check_counts();
    }

    /// What ended without delivery since the last call.
    pub(in super::super) fn take_dropped(&mut self) -> Dropped {
        std::mem::take(&mut self.dropped)
    }

    /// The event cannot be read: nobody will ever deliver it, and the record says so.
    pub(super) fn lose(&mut self, position: Position, now_ms: u64) {
        self.leave_place(position);
        self.dropped.lost += 1;
        let reason = "the stored event is damaged or gone".to_owned();
        let outcome =
            Outcome { at_ms: now_ms, stage: Stage::Subscriber, reason, ..Outcome::default() };
        let attempts = self.attempts(position);
        self.record(Note::Step(Box::new(StepNote {
            position,
            ended: Ended::Ack,
            attempts,
            outcome,
        })));
    }

    pub(super) fn expire(&mut self, position: Position, now_ms: u64) {
        self.leave_place(position);
        self.dropped.expired += 1;
        self.record(Note::Expired { position, at_ms: now_ms });
    }

    /// For events that are not in flight.
    fn leave_place(&mut self, position: Position) {
        if let Some(Place::Waiting { due_ms }) = self.places.remove(&position) {
            self.waiting.remove(&(due_ms, position));
        }
    }

    /// Expires the oldest events beyond the backlog limit.
    pub(super) fn trim(&mut self, now_ms: u64) {
        let Some(max) = self.max_backlog else { return };
        let excess = (self.book.pending_len() - self.in_flight).saturating_sub(max);
        if excess == 0 {
            return;
        }
        let excess = usize::try_from(excess).unwrap_or(usize::MAX);
        let flying = |position: &Position| self.places.get(position) == Some(&Place::InFlight);
        let oldest: Vec<Position> =
            self.book.pending().iter().filter(|position| !flying(position)).take(excess).collect();
        for position in oldest {
            self.expire(position, now_ms);
        }
        self.check_counts();
    }
}
