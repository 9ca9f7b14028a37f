//! Writes on their way to the writer: bounded, and waking it once for all that came while it was busy.

use std::collections::VecDeque;
use std::fmt;
use std::time::Duration;

use parking_lot::{Condvar, Mutex};

use super::WriteError;
use super::writer::Request;

/// Writes that wait.
pub(super) struct Queue {
    state: Mutex<State>,
    /// The writer waits for it, nobody else.
    changed: Condvar,
    /// How many may wait.
    most: usize,
}

#[derive(Default)]
struct State {
    waiting: VecDeque<Request>,
    /// Takes no more.
    closed: bool,
}

/// What the writer finds.
pub(super) enum Next {
    Request(Request),
    /// Nothing came for as long as it waits.
    Idle,
    /// Nothing is left and nothing will come.
    Closed,
}

impl Queue {
    pub(super) fn new(most: usize) -> Self {
        Self { state: Mutex::default(), changed: Condvar::new(), most: most.max(1) }
    }

    /// Adds a write, if it is open and not full.
    pub(super) fn push(&self, request: Request) -> Result<(), WriteError> {
        let mut state = self.state.lock();
        if state.closed {
            return Err(WriteError::Closed);
        }
        if state.waiting.len() >= self.most {
            return Err(WriteError::Full);
        }
        state.waiting.push_back(request);
        drop(state);
        // A busy writer does not wait: this costs a look.
        self.changed.notify_one();
        Ok(())
    }

    /// The oldest write, for the writer alone; waits for one, at most for `patience`.
    pub(super) fn pop(&self, patience: Option<Duration>) -> Next {
        let mut state = self.state.lock();
        loop {
            if let Some(request) = state.waiting.pop_front() {
                return Next::Request(request);
            }
            if state.closed {
                return Next::Closed;
            }
            match patience {
                None => self.changed.wait(&mut state),
                Some(patience) => {
                    let late = self.changed.wait_for(&mut state, patience).timed_out();
                    if late && state.waiting.is_empty() && !state.closed {
                        return Next::Idle;
                    }
                }
            }
        }
    }

    /// The oldest write if one waits.
    pub(super) fn try_pop(&self) -> Option<Request> {
        self.state.lock().waiting.pop_front()
    }

    /// Takes no more; what waits is still done.
    pub(super) fn close(&self) {
        self.state.lock().closed = true;
        self.changed.notify_one();
    }

    /// Takes no more, and tells who waits that nobody comes.
    pub(super) fn abandon(&self) {
        let mut state = self.state.lock();
        state.closed = true;
        let waiting = std::mem::take(&mut state.waiting);
        drop(state);
        // What they hold may be the last handle of the store, which closes the queue: not under its lock.
        drop(waiting);
    }

    pub(super) fn is_closed(&self) -> bool {
        self.state.lock().closed
    }

    #[cfg(test)]
    pub(super) fn waiting(&self) -> usize {
        self.state.lock().waiting.len()
    }
}

impl fmt::Debug for Queue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.state.lock();
        f.debug_struct("Queue")
            .field("waiting", &state.waiting.len())
            .field("closed", &state.closed)
            .finish_non_exhaustive()
    }
}
