//! Where events go that the sink refuses for good: kept aside with the reason, so that neither they nor what comes after
//! them is lost.

use std::fmt;
use std::io;
use std::sync::Arc;

use broker_event::Event;

/// Keeps events that no sink takes. Calls may block: they are made on threads meant for it.
pub trait ParkingLot: fmt::Debug + Send + Sync + 'static {
    /// Keeps `event` of the source `place` (`kind/namespace/name`), and why it was refused; durable when it returns. Of an
    /// event with the same `source` and `id` one is kept.
    ///
    /// # Errors
    /// When it cannot be written, or the place is full: then the source stops rather than lose it.
    fn park(&self, place: &str, event: &Event, reason: &str) -> io::Result<()>;
}

/// One source's place in a [`ParkingLot`].
#[derive(Clone, Debug)]
pub(crate) struct Parking {
    lot: Arc<dyn ParkingLot>,
    place: Arc<str>,
}

impl Parking {
    pub(crate) fn new(lot: Arc<dyn ParkingLot>, place: &str) -> Self {
        Self { lot, place: place.into() }
    }

    pub(crate) async fn park(&self, event: Event, reason: String) -> io::Result<()> {
        let (lot, place) = (Arc::clone(&self.lot), Arc::clone(&self.place));
        let call = move || lot.park(&place, &event, &reason);
        tokio::task::spawn_blocking(call).await.map_err(io::Error::other)?
    }
}

#[cfg(test)]
pub(crate) mod fake {
    //! A parking lot in memory, for tests.

    use std::io;
    use std::sync::Mutex;

    use broker_event::Event;

    use super::ParkingLot;

    /// Keeps everything in a list.
    #[derive(Debug, Default)]
    pub(crate) struct InMemory(pub(crate) Mutex<Vec<(String, Event, String)>>);

    impl ParkingLot for InMemory {
        fn park(&self, place: &str, event: &Event, reason: &str) -> io::Result<()> {
            self.0.lock().unwrap().push((place.to_owned(), event.clone(), reason.to_owned()));
            Ok(())
        }
    }
}
