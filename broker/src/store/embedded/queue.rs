//! What the log's thread hands to the router: bounded, never waiting.

use std::sync::Arc;
use std::time::Duration;

use broker_event::Event;
use parking_lot::{Condvar, Mutex};

use super::topic::OpenTopic;
use crate::store::Position;

/// Bytes that may wait for the router. Beyond, it has fallen behind by more than the largest group commit, and reading
/// the log back costs less than holding more.
const QUEUE_BYTES: usize = 32 << 20;

/// The events of one append, durable.
#[derive(Debug)]
pub(super) struct Batch {
    pub(super) topic: Arc<OpenTopic>,
    pub(super) first: Position,
    pub(super) time_ms: u64,
    pub(super) bytes: usize,
    pub(super) events: Vec<Event>,
}

/// What the router finds.
#[derive(Debug, Default)]
pub(super) struct Taken {
    pub(super) batches: Vec<Batch>,
    /// Batches were dropped: the log has to be read to its head.
    pub(super) lagging: bool,
    pub(super) stop: bool,
}

/// The queue.
#[derive(Debug, Default)]
pub(super) struct Queue {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    taken: Taken,
    bytes: usize,
    nudged: bool,
}

impl Queue {
    /// Hands over what became durable, in order.
    pub(super) fn push(&self, batches: Vec<Batch>) {
        let mut state = self.state.lock();
        for batch in batches {
            if state.taken.lagging {
                break;
            }
            if state.bytes.saturating_add(batch.bytes) > QUEUE_BYTES
                && !state.taken.batches.is_empty()
            {
                state.taken.lagging = true;
                break;
            }
            state.bytes += batch.bytes;
            state.taken.batches.push(batch);
        }
        drop(state);
        self.changed.notify_one();
    }

    /// Asks the router to read the log to its head.
    pub(super) fn fall_behind(&self) {
        self.state.lock().taken.lagging = true;
        self.changed.notify_one();
    }

    /// Asks the router to look for work that is not in the queue.
    pub(super) fn nudge(&self) {
        self.state.lock().nudged = true;
        self.changed.notify_one();
    }

    /// Ends the router, whatever waits: it is on disk and routed when the store is opened again.
    pub(super) fn stop(&self) {
        self.state.lock().taken.stop = true;
        self.changed.notify_all();
    }

    /// Whether the router is to end.
    pub(super) fn is_stopped(&self) -> bool {
        self.state.lock().taken.stop
    }

    /// Lets time pass; answers whether the router is to end.
    pub(super) fn pause(&self, time: Duration) -> bool {
        let mut state = self.state.lock();
        self.changed.wait_while_for(&mut state, |state| !state.taken.stop, time);
        state.taken.stop
    }

    /// Takes everything, waiting at most `patience` for something to come.
    pub(super) fn take(&self, patience: Duration) -> Taken {
        let mut state = self.state.lock();
        let idle = |state: &mut State| {
            state.taken.batches.is_empty()
                && !state.taken.lagging
                && !state.taken.stop
                && !state.nudged
        };
        self.changed.wait_while_for(&mut state, idle, patience);
        state.bytes = 0;
        state.nudged = false;
        let stop = state.taken.stop;
        Taken { stop, ..std::mem::replace(&mut state.taken, Taken { stop, ..Taken::default() }) }
    }
}
