//! Reads bodies: each within its own limit, all of them within the memory there is for them.

use std::error::Error as StdError;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use http_body::Body;
use http_body_util::BodyExt;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::respond::Refusal;

/// Bytes that every body may have without asking. Most events are smaller, so nobody's large bodies keep them out;
/// and ten thousand connections with so much each hold no more than 160 MiB.
const SMALL: usize = 16 << 10;

/// Bytes that all bodies together may hold beyond [`SMALL`]. Without it, ten thousand senders that never finish their
/// megabyte would take ten gigabytes; a quarter of one is 256 bodies of the default limit under way at once.
const TOGETHER: usize = 256 << 20;

/// The bodies that are arriving.
#[derive(Debug)]
pub(super) struct Bodies {
    limit: usize,
    /// One permit a byte.
    room: Arc<Semaphore>,
}

/// A whole body. It counts as arriving until its room is dropped, which is when its events are stored.
#[derive(Debug)]
pub(super) struct Whole {
    pub(super) bytes: Bytes,
    pub(super) room: Option<OwnedSemaphorePermit>,
}

impl Bodies {
    /// Bodies of up to `limit` bytes; at least one of that size fits.
    pub(super) fn new(limit: usize) -> Self {
        Self::within(limit, TOGETHER)
    }

    pub(super) fn within(limit: usize, together: usize) -> Self {
        let room = together.max(limit).min(Semaphore::MAX_PERMITS);
        Self { limit, room: Arc::new(Semaphore::new(room)) }
    }

    /// Reads one; if it announces more than the limit, it is refused before any of it is read.
    pub(super) async fn read<B>(&self, body: B) -> Result<Whole, Refusal>
    where
        B: Body<Data = Bytes>,
        B::Error: Into<Box<dyn StdError + Send + Sync>>,
    {
        let too_large = || Refusal::TooLarge { limit: self.limit };
        if body.size_hint().lower() > u64::try_from(self.limit).unwrap_or(u64::MAX) {
            return Err(too_large());
        }
        let mut body = std::pin::pin!(body);
        let (mut first, mut rest, mut room) = (Bytes::new(), BytesMut::new(), None);
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|error| Refusal::Broken(error.into().to_string()))?;
            let Ok(data) = frame.into_data() else { continue };
            let length = first.len().saturating_add(rest.len()).saturating_add(data.len());
            if length > self.limit {
                return Err(too_large());
            }
            self.make_room(&mut room, length)?;
            // Most bodies come in one piece, which is passed on as it is.
            if first.is_empty() && rest.is_empty() {
                first = data;
            } else {
                if rest.is_empty() {
                    rest.extend_from_slice(&std::mem::take(&mut first));
                }
                rest.extend_from_slice(&data);
            }
        }
        Ok(Whole { bytes: if rest.is_empty() { first } else { rest.freeze() }, room })
    }

    /// Lets a body grow to `length`. It is not made to wait: bodies that wait for each other would all be late.
    fn make_room(
        &self,
        room: &mut Option<OwnedSemaphorePermit>,
        length: usize,
    ) -> Result<(), Refusal> {
        let have = room.as_ref().map_or(0, OwnedSemaphorePermit::num_permits);
        let missing = length.saturating_sub(SMALL).saturating_sub(have);
        if missing == 0 {
            return Ok(());
        }
        let missing = u32::try_from(missing).map_err(|_| Refusal::Crowded)?;
        let more = Arc::clone(&self.room).try_acquire_many_owned(missing);
        let more = more.map_err(|_| Refusal::Crowded)?;
        match room {
            Some(room) => room.merge(more),
            None => *room = Some(more),
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http_body_util::Full;

    async fn read(bodies: &Bodies, length: usize) -> Result<Whole, Refusal> {
        bodies.read(Full::from(vec![0; length])).await
    }

    #[tokio::test]
    async fn large_bodies_share_what_small_ones_need_not_ask_for() {
        let bodies = Bodies::within(100_000, 100_000);
        let first = read(&bodies, 100_000).await.unwrap();
        assert!(matches!(read(&bodies, 50_000).await, Err(Refusal::Crowded)));
        let small = read(&bodies, SMALL).await.unwrap();
        assert_eq!(small.bytes.len(), SMALL);
        drop(first);
        assert!(read(&bodies, 50_000).await.is_ok());
        assert_eq!(bodies.room.available_permits(), 100_000, "all of it is given back");
    }

    #[tokio::test]
    async fn one_body_of_the_limit_always_fits() {
        let bodies = Bodies::within(100_000, 10);
        assert!(read(&bodies, 100_000).await.is_ok());
        assert!(matches!(read(&bodies, 100_001).await, Err(Refusal::TooLarge { limit: 100_000 })));
    }
}
