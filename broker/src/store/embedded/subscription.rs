//! The holder's side of a subscription: waits, reads from the disk what is not in memory, hands out.

use std::sync::Arc;
use std::time::Duration;

use broker_event::Event;
use broker_log::Log;
use futures_util::future::BoxFuture;
use tokio::sync::OwnedSemaphorePermit;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::durable::Durable;
use super::engine::{Engine, Tag, with_causes};
use super::ledger::{Handed, Next, READY_BYTES, Ready};
use super::router::stage;
use super::sync::{now_ms, time};
use crate::store::{Delivery, Position, Settle, Slot, StoreError, Subscription};

/// What an event is taken to weigh before the first was read, so that a first read of large ones stays small.
const FIRST_GUESS: usize = 64 << 10;

/// Bytes read at once while the store holds as much in memory as it may.
const CROWDED_BYTES: usize = 64 << 10;

/// The longest wait for a due time before looking again: the wall clock may be set meanwhile.
const LOOK_AGAIN: Duration = Duration::from_secs(60);

type Found = Vec<(Position, Option<Ready<Event>>)>;

/// Holds a subscription until it is dropped.
pub(super) struct Holder {
    durable: Arc<Durable>,
    engine: Arc<Engine>,
    slot: Slot,
    /// A read under way; kept here, so that a dropped `next` loses nothing and the next one goes on waiting for it.
    loading: Option<JoinHandle<Result<Found, String>>>,
    /// Average weight of the events read last.
    weight: usize,
}

impl std::fmt::Debug for Holder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Holder")
            .field("durable", &self.durable)
            .field("slot", &self.slot)
            .finish_non_exhaustive()
    }
}

impl Holder {
    pub(super) fn new(durable: Arc<Durable>, slot: Slot, engine: Arc<Engine>) -> Self {
        Self { durable, engine, slot, loading: None, weight: FIRST_GUESS }
    }

    async fn fetch(&mut self, max: usize) -> Result<Vec<Delivery>, StoreError> {
        loop {
            self.finish_loading().await?;
            match self.durable.next(max.max(1), now_ms())? {
                Next::Deliver(handed) => {
                    return Ok(handed.into_iter().map(|handed| self.delivery(handed)).collect());
                }
                Next::Load(positions) => {
                    let permit = Arc::clone(&self.engine.readers).acquire_owned().await;
                    self.load(positions, permit.map_err(|_| StoreError::Closed)?);
                }
                Next::Wait(None) => self.durable.bell.notified().await,
                Next::Wait(Some(due_ms)) => {
                    let wait = Duration::from_millis(due_ms.saturating_sub(now_ms()).max(1))
                        .min(LOOK_AGAIN);
                    // Whether it was the bell or the time: look again.
                    timeout(wait, self.durable.bell.notified()).await.unwrap_or_default();
                }
            }
        }
    }

    async fn finish_loading(&mut self) -> Result<(), StoreError> {
        let Some(loading) = &mut self.loading else { return Ok(()) };
        let result = loading.await;
        self.loading = None;
        let found = match result {
            Ok(Ok(found)) => found,
            Ok(Err(error)) => return Err(StoreError::Failed(error)),
            Err(_) => return Err(StoreError::Closed), // the runtime is shutting down
        };
        let read = found.iter().filter_map(|(_, ready)| ready.as_ref());
        let (count, bytes) =
            read.fold((0, 0), |(count, bytes), ready| (count + 1, bytes + ready.bytes));
        if let Some(weight) = bytes.checked_div(count) {
            self.weight = weight.max(1);
            self.engine.desk.metrics.loaded.inc_by(count as u64);
        }
        self.durable.with(|ledger| ledger.loaded(found, now_ms()));
        Ok(())
    }

    fn load(&mut self, positions: Vec<Position>, permit: OwnedSemaphorePermit) {
        let log = self.engine.log.clone();
        let weight = self.weight;
        let limit = if self.engine.desk.has_room() { READY_BYTES } else { CROWDED_BYTES };
        self.loading = Some(tokio::task::spawn_blocking(move || {
            let found = read(&log, &positions, weight, limit);
            drop(permit);
            found
        }));
    }

    fn delivery(&self, handed: Handed<Event>) -> Delivery {
        let settle: Arc<dyn Settle> = Arc::clone(&self.durable) as Arc<dyn Settle>;
        let accepted = time(handed.time_ms);
        let mut delivery = Delivery::new(handed.position, accepted, handed.item, settle);
        delivery.attempts = handed.attempts;
        delivery.last = handed.last;
        delivery.not_before = handed.not_before_ms.map(time);
        delivery
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        self.durable.let_go();
    }
}

impl Subscription for Holder {
    fn slot(&self) -> Slot {
        self.slot
    }

    fn next(&mut self, max: usize) -> BoxFuture<'_, Result<Vec<Delivery>, StoreError>> {
        Box::pin(self.fetch(max))
    }
}

/// Reads `positions` from the front until about `limit` bytes are there, asking for as many at once as probably fit.
fn read(
    log: &Log<Tag>,
    positions: &[Position],
    mut weight: usize,
    limit: usize,
) -> Result<Found, String> {
    let mut found = Vec::with_capacity(positions.len());
    let mut rest = positions;
    let mut bytes = 0;
    while !rest.is_empty() && bytes < limit {
        let fits = ((limit - bytes) / weight).clamp(1, rest.len());
        let (chunk, later) = rest.split_at(fits);
        let records = log.get(chunk).map_err(|error| with_causes(&error))?;
        for (position, record) in chunk.iter().zip(records) {
            let ready = record.as_ref().and_then(stage).map(|staged| Ready {
                position: *position,
                time_ms: staged.time_ms,
                bytes: staged.bytes,
                item: staged.event,
            });
            bytes += ready.as_ref().map_or(0, |ready| ready.bytes);
            found.push((*position, ready));
        }
        rest = later;
        weight = (bytes / found.len()).max(1);
    }
    Ok(found)
}
