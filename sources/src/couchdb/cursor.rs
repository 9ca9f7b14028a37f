//! How far the changes were made events, kept over restarts.

use serde::{Deserialize, Serialize};

use super::sequence::Sequence;
use crate::checkpoint::Checkpoint;
use crate::source::SourceError;

/// How far the changes of a database were made events.
#[derive(Debug)]
pub(super) struct Cursor {
    checkpoint: Checkpoint,
    kept: Kept,
}

/// What is kept. The database is part of it: a sequence says nothing about another one.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Kept {
    /// [`Database::place`](super::database::Database::place).
    place: String,
    since: Sequence,
    /// Whether the database was found to be another one since the last event.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    is_anew: bool,
}

impl Cursor {
    /// What was kept for the database of that place; nothing if that is a first start.
    ///
    /// # Errors
    /// When it cannot be read.
    pub(super) async fn load(
        checkpoint: Checkpoint,
        place: &str,
    ) -> Result<Option<Self>, SourceError> {
        let Some(bytes) = checkpoint.load().await.map_err(SourceError::State)? else {
            return Ok(None);
        };
        match serde_json::from_slice::<Kept>(&bytes) {
            Ok(kept) if kept.place == place => Ok(Some(Self { checkpoint, kept })),
            Ok(_) => {
                tracing::info!("the source reads another database than before");
                Ok(None)
            }
            Err(error) => {
                tracing::warn!(%error, "the checkpoint is not readable; all changes are read again");
                Ok(None)
            }
        }
    }

    /// Begins at `since`, and keeps that.
    ///
    /// # Errors
    /// When it cannot be kept.
    pub(super) async fn begin(
        checkpoint: Checkpoint,
        place: &str,
        since: Sequence,
    ) -> Result<Self, SourceError> {
        let kept = Kept { place: place.to_owned(), since, is_anew: false };
        let cursor = Self { checkpoint, kept };
        cursor.save().await?;
        Ok(cursor)
    }

    /// After which sequence to go on.
    pub(super) fn since(&self) -> &Sequence {
        &self.kept.since
    }

    /// Whether this is the beginning of a database that took another's place.
    pub(super) fn is_anew(&self) -> bool {
        self.kept.is_anew
    }

    /// All up to `since` are events.
    ///
    /// # Errors
    /// When it cannot be kept.
    pub(super) async fn advance(&mut self, since: Sequence) -> Result<(), SourceError> {
        self.kept = Kept { since, is_anew: false, ..self.kept.clone() };
        self.save().await
    }

    /// The server says that it has no such database. With counted sequences whatever has that name next is read from its
    /// beginning. A server with opaque ones sees to that itself; and a node of a cluster that has not heard of its databases
    /// yet says the same of one that is there.
    ///
    /// # Errors
    /// When it cannot be kept.
    pub(super) async fn gone(&mut self) -> Result<(), SourceError> {
        if self.kept.since.is_counted() { self.begin_anew().await } else { Ok(()) }
    }

    /// Another database has taken the place of the one that was read: it is read from its beginning.
    ///
    /// # Errors
    /// When it cannot be kept.
    pub(super) async fn begin_anew(&mut self) -> Result<(), SourceError> {
        if self.kept.since == Sequence::start() {
            return Ok(());
        }
        self.kept = Kept { since: Sequence::start(), is_anew: true, ..self.kept.clone() };
        self.save().await
    }

    async fn save(&self) -> Result<(), SourceError> {
        let bytes =
            serde_json::to_vec(&self.kept).map_err(|error| SourceError::State(error.into()))?;
        self.checkpoint.save(bytes).await.map_err(SourceError::State)
    }
}
