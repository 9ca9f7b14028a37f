//! The oracle: a payload that follows from its id, so that loss, invention and damage are all visible.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{LazyLock, Mutex};
use std::time::Duration;

use bytes::Bytes;
use hdrhistogram::Histogram;
use tokio::time::Instant;

/// Text that payloads are cut from: making one must cost next to nothing, or it is the bench that is measured.
static TEXT: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let mut state = 0xD1B5_4A32_D192_ED03_u64;
    let letter = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        b"abcdefghijklmnopqrstuvwxyz012345"[usize::try_from(state & 31).unwrap_or_default()]
    };
    std::iter::repeat_with(letter).take(TEXT_SIZE).collect()
});

/// Room for 65,536 places to cut a payload of 128 KiB from.
const TEXT_SIZE: usize = (64 << 10) + (128 << 10);

/// The payload of event `id`: JSON of exactly `size` bytes (at least 48, at most 128 KiB), the rest derived from the id.
#[must_use]
pub(crate) fn payload(id: u64, size: usize) -> Bytes {
    let mut payload = Vec::with_capacity(size.max(48));
    payload.extend_from_slice(format!("{{\"id\":{id},\"proof\":\"").as_bytes());
    // One of the first 65,536 places of the text.
    let place = usize::try_from(id.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 48).unwrap_or_default();
    let end = place + size.saturating_sub(2 + payload.len());
    payload.extend_from_slice(TEXT.get(place..end).expect("a payload of at most 128 KiB"));
    payload.extend_from_slice(b"\"}");
    Bytes::from(payload)
}

/// What was sent, accepted and delivered.
#[derive(Debug, Default)]
pub(crate) struct Oracle {
    accepted: Mutex<Vec<bool>>,
    delivered: Mutex<Vec<u8>>,
    /// How many were accepted, and how many of whatever was sent arrived.
    promised: AtomicU64,
    arrived: AtomicU64,
    invented: AtomicU64,
    /// Where deliveries are timed.
    watch: Option<Mutex<Watch>>,
}

/// Times events from being sent to their first delivery.
#[derive(Debug)]
struct Watch {
    start: Instant,
    /// When each was sent, microseconds from the start.
    sent: Vec<u64>,
    /// Microseconds.
    took: Histogram<u64>,
}

/// What the oracle found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub(crate) struct Verdict {
    /// Events the mesh said 202 to.
    pub(crate) accepted: u64,
    /// Different events delivered.
    pub(crate) delivered: u64,
    /// Accepted and never delivered.
    pub(crate) lost: u64,
    /// Delivered with an id never sent, or with another payload than its id's.
    pub(crate) invented: u64,
    /// Deliveries beyond the first of an event.
    pub(crate) duplicates: u64,
}

impl std::ops::Add for Verdict {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            accepted: self.accepted + other.accepted,
            delivered: self.delivered + other.delivered,
            lost: self.lost + other.lost,
            invented: self.invented + other.invented,
            duplicates: self.duplicates + other.duplicates,
        }
    }
}

fn micros(span: Duration) -> u64 {
    u64::try_from(span.as_micros()).unwrap_or(u64::MAX)
}

fn at<T: Clone + Default>(list: &mut Vec<T>, id: u64) -> Option<&mut T> {
    let index = usize::try_from(id).ok()?;
    if index >= list.len() {
        list.resize(index.checked_add(1)?.next_power_of_two(), T::default());
    }
    list.get_mut(index)
}

impl Oracle {
    /// An oracle that also times deliveries.
    #[must_use]
    pub(crate) fn timing() -> Self {
        let took = Histogram::new_with_bounds(1, 600_000_000, 3).expect("bounds are valid");
        let watch = Watch { start: Instant::now(), sent: Vec::new(), took };
        Self { watch: Some(Mutex::new(watch)), ..Self::default() }
    }

    /// `id` is about to be sent.
    pub(crate) fn sending(&self, id: u64) {
        let Some(watch) = &self.watch else { return };
        let mut watch = watch.lock().expect("no panic under the lock");
        let now = micros(watch.start.elapsed());
        if let Some(sent) = at(&mut watch.sent, id) {
            *sent = now;
        }
    }

    fn timed(&self, id: u64) {
        let Some(watch) = &self.watch else { return };
        let mut watch = watch.lock().expect("no panic under the lock");
        let now = micros(watch.start.elapsed());
        let sent = at(&mut watch.sent, id).map_or(now, |sent| *sent);
        watch.took.saturating_record(now.saturating_sub(sent).max(1));
    }

    /// A quantile of the time from sent to delivered; zero unless this oracle is [timing](Self::timing).
    #[must_use]
    pub(crate) fn quantile(&self, q: f64) -> Duration {
        let Some(watch) = &self.watch else { return Duration::ZERO };
        let watch = watch.lock().expect("no panic under the lock");
        Duration::from_micros(watch.took.value_at_quantile(q))
    }

    /// The mesh answered 202 for `id`.
    pub(crate) fn accepted(&self, id: u64) {
        if let Some(seen) = at(&mut self.accepted.lock().expect("no panic under the lock"), id) {
            *seen = true;
        }
        self.promised.fetch_add(1, Ordering::Relaxed);
    }

    /// A subscriber got `id` with `body`; `sent` is the number of ids ever handed out.
    pub(crate) fn delivered(&self, id: Option<u64>, body: &Bytes, sent: u64) {
        let known = id.filter(|id| *id < sent && payload(*id, body.len()) == *body);
        let Some(id) = known else {
            self.invented.fetch_add(1, Ordering::Relaxed);
            return;
        };
        if let Some(count) = at(&mut self.delivered.lock().expect("no panic under the lock"), id) {
            *count = count.saturating_add(1);
            if *count > 1 {
                return;
            }
        }
        self.arrived.fetch_add(1, Ordering::Relaxed);
        self.timed(id);
    }

    /// Different events delivered so far.
    #[must_use]
    pub(crate) fn arrived(&self) -> u64 {
        self.arrived.load(Ordering::Relaxed)
    }

    /// Whether accepted events must be missing, as far as numbers alone tell.
    #[must_use]
    pub(crate) fn is_behind(&self) -> bool {
        self.arrived() < self.promised.load(Ordering::Relaxed)
    }

    /// Accepted events that `wanted` says should have arrived and have not.
    #[must_use]
    pub(crate) fn missing(&self, wanted: impl Fn(u64) -> bool) -> u64 {
        let accepted = self.accepted.lock().expect("no panic under the lock");
        let delivered = self.delivered.lock().expect("no panic under the lock");
        let ids = (0_u64..).zip(accepted.iter());
        let missing = ids.zip(delivered.iter().map(Some).chain(std::iter::repeat(None)));
        let lost = missing.filter(|((id, accepted), delivered)| {
            **accepted && wanted(*id) && delivered.is_none_or(|count| *count == 0)
        });
        u64::try_from(lost.count()).unwrap_or(u64::MAX)
    }

    /// The whole account.
    #[must_use]
    pub(crate) fn verdict(&self, wanted: impl Fn(u64) -> bool) -> Verdict {
        let lost = self.missing(wanted);
        let accepted = self.accepted.lock().expect("no panic under the lock");
        let delivered = self.delivered.lock().expect("no panic under the lock");
        let count = |n: usize| u64::try_from(n).unwrap_or(u64::MAX);
        Verdict {
            accepted: count(accepted.iter().filter(|seen| **seen).count()),
            delivered: self.arrived(),
            lost,
            invented: self.invented.load(Ordering::Relaxed),
            duplicates: delivered.iter().map(|n| u64::from(n.saturating_sub(1))).sum(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_payload_has_its_size_and_follows_from_its_id() {
        assert_eq!(payload(7, 256).len(), 256);
        assert_eq!(payload(7, 256), payload(7, 256));
        assert_ne!(payload(7, 256), payload(8, 256));
        serde_json::from_slice::<serde_json::Value>(&payload(7, 256)).expect("JSON");
    }

    #[test]
    fn loss_invention_and_duplicates_are_told_apart() {
        let oracle = Oracle::default();
        (0..4).for_each(|id| oracle.accepted(id));
        oracle.delivered(Some(0), &payload(0, 64), 4);
        oracle.delivered(Some(1), &payload(1, 64), 4);
        oracle.delivered(Some(1), &payload(1, 64), 4);
        oracle.delivered(Some(2), &payload(3, 64), 4);
        oracle.delivered(Some(9), &payload(9, 64), 4);
        assert!(oracle.is_behind());
        let verdict = oracle.verdict(|_| true);
        let expected = Verdict { accepted: 4, delivered: 2, lost: 2, invented: 2, duplicates: 1 };
        assert_eq!(verdict, expected);
    }
}
