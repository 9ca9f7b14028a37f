//! How far a source came, kept outside of Redis too: what Redis keeps goes when somebody destroys the group or the stream.

use serde::{Deserialize, Serialize};

use super::entry::Id;
use super::group::{Group, State};
use super::spec::RedisStreamSource;
use crate::checkpoint::Checkpoint;
use crate::source::SourceError;

/// What is remembered between runs, and of which stream it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Remembered {
    address: String,
    stream: String,
    group: String,
    position: String,
    /// How many entries had been removed unread, as far as was known.
    #[serde(default)]
    removed: Option<u64>,
}

/// The memory of a source.
#[derive(Debug)]
pub(super) struct Memory {
    checkpoint: Checkpoint,
    of: Remembered,
    position: Option<Id>,
    removed: Option<u64>,
}

impl Memory {
    /// What was remembered of this stream and group. What was remembered of another says nothing about it.
    ///
    /// # Errors
    /// When it cannot be read: going on without would skip entries when the group has to be made again.
    pub(super) async fn recall(
        checkpoint: Checkpoint,
        spec: &RedisStreamSource,
        group: &Group,
    ) -> Result<Self, SourceError> {
        let bytes = checkpoint.load().await.map_err(SourceError::State)?;
        let mut of = Remembered {
            address: spec.address.shown(),
            stream: group.stream.clone(),
            group: group.name.clone(),
            position: String::new(),
            removed: None,
        };
        let remembered = bytes.and_then(|bytes| serde_json::from_slice::<Remembered>(&bytes).ok());
        let remembered = remembered.filter(|remembered| {
            let Remembered { address, stream, group, position: _, removed: _ } = remembered;
            (address, stream, group) == (&of.address, &of.stream, &of.group)
        });
        let position = remembered.as_ref().and_then(|remembered| Id::parse(&remembered.position));
        let removed = remembered.and_then(|remembered| remembered.removed);
        of.removed = removed;
        Ok(Self { checkpoint, of, position, removed })
    }

    /// Whether it is remembered how many entries had been removed unread.
    pub(super) fn knows_removed(&self) -> bool {
        self.removed.is_some()
    }

    /// How many of the entries that were removed unread are news, when so many are known of in all.
    pub(super) fn newly_removed(&mut self, all: u64) -> u64 {
        let before = self.removed.replace(all);
        before.map_or(0, |before| all.saturating_sub(before))
    }

    /// Everything up to this entry was acknowledged, as far as is remembered.
    pub(super) fn position(&self) -> Option<Id> {
        self.position
    }

    /// Remembers that everything up to `position` was acknowledged.
    pub(super) async fn remember(&mut self, position: Id) {
        if (self.position, self.of.removed) == (Some(position), self.removed) {
            return;
        }
        let remembered =
            Remembered { position: position.to_string(), removed: self.removed, ..self.of.clone() };
        let saved = match serde_json::to_vec(&remembered) {
            Ok(bytes) => self.checkpoint.save(bytes).await,
            Err(error) => Err(error.into()),
        };
        match saved {
            Ok(()) => (self.position, self.of.removed) = (Some(position), self.removed),
            // Redis knows too. If it forgets, what came since the last that was saved comes again.
            Err(error) => tracing::warn!(%error, "the checkpoint cannot be saved"),
        }
    }
}

/// Up to which entry everything was acknowledged, if `oldest` was the oldest pending entry at or after the time of `state`.
pub(super) fn acknowledged(state: State, oldest: Option<Id>) -> Id {
    match oldest {
        Some(oldest) => oldest.before().min(state.last_delivered),
        None => state.last_delivered,
    }
}

#[cfg(test)]
mod tests {
    use super::{Memory, acknowledged};
    use crate::redis::entry::Id;
    use crate::redis::group::{Group, State};
    use crate::redis::{Address, RedisStreamSource};
    use crate::source::fake::World;

    fn id(text: &str) -> Id {
        Id::parse(text).unwrap()
    }

    fn spec(address: &str, stream: &str) -> RedisStreamSource {
        RedisStreamSource {
            address: Address::new(address),
            stream: stream.to_owned(),
            ..RedisStreamSource::default()
        }
    }

    async fn memory(world: &World, spec: &RedisStreamSource) -> Memory {
        let (context, _) = world.context("RedisStreamSource");
        let group = Group::of(spec, &context.about);
        Memory::recall(context.checkpoint, spec, &group).await.unwrap()
    }

    #[test]
    fn what_is_before_everything_pending_was_acknowledged() {
        let state = State::at(id("7-5"));
        assert_eq!(acknowledged(state, None), id("7-5"));
        assert_eq!(acknowledged(state, Some(id("7-3"))), id("7-2"));
        // It was handed out after the state was told.
        assert_eq!(acknowledged(state, Some(id("9-1"))), id("7-5"));
        assert_eq!(acknowledged(state, Some(id("7-6"))), id("7-5"));
    }

    #[tokio::test]
    async fn a_position_is_remembered_for_its_stream_alone() {
        let (world, orders) = (World::new(), spec("redis://u:p@cache", "orders"));
        let mut first = memory(&world, &orders).await;
        assert_eq!(first.position(), None);
        first.remember(id("7-5")).await;
        assert_eq!(memory(&world, &orders).await.position(), Some(id("7-5")));
        assert_eq!(
            memory(&world, &spec("redis://cache", "orders")).await.position(),
            Some(id("7-5"))
        );
        assert_eq!(memory(&world, &spec("redis://cache", "others")).await.position(), None);
        assert_eq!(memory(&world, &spec("redis://other", "orders")).await.position(), None);
        let kept = world.checkpoints.0.lock().unwrap().values().next().unwrap().clone();
        assert!(!String::from_utf8(kept).unwrap().contains("u:p"));
    }

    #[tokio::test]
    async fn what_cannot_be_understood_is_no_memory() {
        let (world, orders) = (World::new(), spec("redis://cache", "orders"));
        for bytes in [&b"not json"[..], b"{}", br#"{"position":"x"}"#] {
            let place = "RedisStreamSource/default/one".to_owned();
            world.checkpoints.0.lock().unwrap().insert(place, bytes.to_vec());
            assert_eq!(memory(&world, &orders).await.position(), None);
        }
    }
}
