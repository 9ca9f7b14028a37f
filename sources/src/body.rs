//! Reads the bodies of requests: each within its own limit, all of them within the memory there is for them.

use std::error::Error as StdError;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http_body::Body;
use http_body_util::BodyExt;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

use crate::respond::Refusal;

/// What a sender should wait when there is no room: most of the bodies that are arriving have arrived by then.
const RETRY_AFTER: Duration = Duration::from_secs(5);

/// The bodies that are arriving.
#[derive(Debug)]
pub(crate) struct Bodies {
    limit: usize,
    patience: Duration,
    /// One permit a byte.
    pub(crate) memory: Arc<Semaphore>,
}

impl Bodies {
    /// Bodies of up to `limit` bytes that arrive within `patience`, and hold up to `together` bytes; one of the limit always
    /// fits.
    pub(crate) fn new(limit: usize, together: usize, patience: Duration) -> Self {
        let together = together.max(limit).min(Semaphore::MAX_PERMITS);
        Self { limit, patience, memory: Arc::new(Semaphore::new(together)) }
    }

    /// Reads a body; the permit stands for its memory.
    pub(crate) async fn read<B>(&self, body: B) -> Result<(Bytes, OwnedSemaphorePermit), Refusal>
    where
        B: Body<Data = Bytes> + Send,
        B::Error: Into<Box<dyn StdError + Send + Sync>>,
    {
        let too_large = || Refusal::TooLarge { limit: self.limit };
        let announced = usize::try_from(body.size_hint().lower()).unwrap_or(usize::MAX);
        if announced > self.limit {
            return Err(too_large());
        }
        let reading = async {
            let mut body = std::pin::pin!(body);
            let mut held = self.hold(0)?;
            let mut bytes = BytesMut::new();
            while let Some(frame) = body.frame().await {
                let frame = frame.map_err(|error| {
                    let error: Box<dyn StdError + Send + Sync> = error.into();
                    Refusal::Malformed(format!("the body broke off: {error}"))
                })?;
                let Ok(data) = frame.into_data() else { continue };
                if bytes.len() + data.len() > self.limit {
                    return Err(too_large());
                }
                held.merge(self.hold(data.len())?);
                bytes.extend_from_slice(&data);
            }
            Ok((bytes.freeze(), held))
        };
        timeout(self.patience, reading).await.map_err(|_| Refusal::TooSlow(self.patience))?
    }

    pub(crate) fn hold(&self, bytes: usize) -> Result<OwnedSemaphorePermit, Refusal> {
        let busy = || Refusal::Busy {
            reason: "too many large requests at one time".to_owned(),
            retry_after: RETRY_AFTER,
        };
        let bytes = u32::try_from(bytes).map_err(|_| busy())?;
        Arc::clone(&self.memory).try_acquire_many_owned(bytes).map_err(|_| busy())
    }
}
