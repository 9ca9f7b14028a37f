//! Locks and clocks: the thin edge where the store meets both.

use std::sync::{Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Locks `mutex`. A panic of another holder does not spread: every critical section leaves its data whole or
/// stops the process's use of it by other means.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Locks for reading, as [`lock`].
pub(super) fn read<T>(lock: &RwLock<T>) -> RwLockReadGuard<'_, T> {
    lock.read().unwrap_or_else(PoisonError::into_inner)
}

/// Locks for writing, as [`lock`].
pub(super) fn write<T>(lock: &RwLock<T>) -> RwLockWriteGuard<'_, T> {
    lock.write().unwrap_or_else(PoisonError::into_inner)
}

/// Milliseconds since the Unix epoch.
pub(super) fn now_ms() -> u64 {
    #[expect(
        clippy::disallowed_methods,
        reason = "the edge: pure code takes the time as an argument"
    )]
    let now = SystemTime::now();
    millis(now)
}

/// A steady clock for intervals.
pub(super) fn steady() -> Instant {
    #[expect(
        clippy::disallowed_methods,
        reason = "the edge: measures how long work of the store's own threads takes"
    )]
    let now = Instant::now();
    now
}

/// `time` in milliseconds since the Unix epoch; 0 before it.
pub(super) fn millis(time: SystemTime) -> u64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// The time `ms` milliseconds after the Unix epoch.
pub(super) fn time(ms: u64) -> SystemTime {
    // Bounded, because a time near u64::MAX cannot be told by every platform's clock.
    const FAR: u64 = 253_402_300_799_000; // the end of the year 9999
    UNIX_EPOCH + Duration::from_millis(ms.min(FAR))
}

/// Wakes one thread: remembers that it was asked, so a call between two waits is not missed.
#[derive(Debug, Default)]
pub(super) struct Signal {
    state: parking_lot::Mutex<Asked>,
    // Unlike the standard library's, it makes no system call when nobody waits.
    changed: parking_lot::Condvar,
}

#[derive(Debug, Default)]
struct Asked {
    work: bool,
    stop: bool,
}

/// Why a wait ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Woken {
    /// Somebody asked for work.
    Work,
    /// The time is over.
    Tick,
    /// The thread is to end.
    Stop,
}

impl Signal {
    /// Asks the thread to look.
    pub(super) fn ask(&self) {
        self.state.lock().work = true;
        self.changed.notify_one();
    }

    /// Asks the thread to end.
    pub(super) fn stop(&self) {
        self.state.lock().stop = true;
        self.changed.notify_all();
    }

    /// Whether the thread is to end.
    pub(super) fn stopped(&self) -> bool {
        self.state.lock().stop
    }

    /// Lets time pass; answers whether the thread is to end.
    pub(super) fn pause(&self, time: Duration) -> bool {
        let mut asked = self.state.lock();
        self.changed.wait_while_for(&mut asked, |asked| !asked.stop, time);
        asked.stop
    }

    /// Waits until asked, at most for `tick`.
    pub(super) fn wait(&self, tick: Duration) -> Woken {
        let mut asked = self.state.lock();
        self.changed.wait_while_for(&mut asked, |asked| !asked.work && !asked.stop, tick);
        if asked.stop {
            Woken::Stop
        } else if std::mem::take(&mut asked.work) {
            Woken::Work
        } else {
            Woken::Tick
        }
    }
}
