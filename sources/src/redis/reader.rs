//! One consumer at work: reads entries, hands over their events, acknowledges them; while one batch is being stored the next
//! is being read.

use std::time::Duration;

use ::redis::Value;
use ::redis::aio::MultiplexedConnection;
use broker_event::{Event, EventBuilder};

use super::entry::{self, Entry, Id};
use super::group::{Control, Group, gone};
use super::losses::Losses;
use super::payload::{Shape, own, payload};
use super::trouble::{is_gone, malformed, trouble};
use crate::source::{Context, SourceError};

/// How long Redis waits for entries before it says that there are none. Knative's; a connection that died without a word is
/// noticed that much later.
pub(super) const BLOCK: Duration = Duration::from_secs(5);

/// Entries of a batch. One answer, one write to the log and one acknowledgement for so many makes what each costs by itself
/// disappear; more of them would hold up others on the server, which does one thing at a time.
pub(super) const MAX_ENTRIES: usize = 1000;

/// Entries of the first batch, whose size is not known yet.
const FIRST_ENTRIES: usize = 64;

/// Bytes of names and values in all batches of a source together; each reader has two, one being read and one being stored.
/// Redis can be told how many entries to send, and not how many bytes, so entries that suddenly grow exceed it once.
const MAX_BYTES: usize = 64 << 20;

/// Bytes that are handed over at once: a quarter of what the log queues for all who write to it.
const MAX_WRITE: usize = 4 << 20;

/// The type of the events.
pub(super) const TYPE: &str = "dev.knative.sources.redisstream";

/// What says that all texts of the data are Base64.
const ENCODING: &str = "redisencoding";

/// What all consumers of a source have in common.
#[derive(Debug)]
pub(super) struct Work {
    pub(super) ctx: Context,
    pub(super) group: Group,
    pub(super) losses: Losses,
    pub(super) template: EventBuilder,
    pub(super) shape: Shape,
}

/// One consumer.
#[derive(Debug)]
pub(super) struct Reader<'a> {
    pub(super) work: &'a Work,
    pub(super) name: String,
    /// On which it waits for entries. What it acknowledges goes over `control`, for Redis does one thing after the other on a
    /// connection.
    pub(super) connection: MultiplexedConnection,
    pub(super) control: Control,
}

/// When a consumer is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Until {
    /// When it is asked to stop.
    Stopped,
    /// When it has no entries that were handed to it before.
    Settled,
}

/// What a consumer asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum From {
    /// What was handed to it before, and not acknowledged, after this id.
    Pending(Id),
    /// What was handed to nobody yet.
    New,
}

/// What it got.
#[derive(Debug)]
struct Batch {
    entries: Vec<Entry>,
    /// How it goes on after it.
    next: Option<From>,
    /// How many entries to ask for then.
    count: usize,
}

/// How many entries to ask for when `asked` for were so many and the largest of those that came had `largest` bytes: as many
/// of those as fit, and at most twice as many as before, since the next may be larger.
pub(super) fn pace(asked: usize, largest: usize, max_bytes: usize) -> usize {
    let fitting = max_bytes / largest.max(1);
    fitting.min(asked.saturating_mul(2)).clamp(1, MAX_ENTRIES)
}

/// Bytes that a batch may have where there are so many readers, and the heir.
pub(super) fn batch_bytes(readers: usize) -> usize {
    MAX_BYTES / 2 / readers.saturating_add(1)
}

impl Work {
    /// The event of an entry; nothing if the entry was removed.
    ///
    /// # Errors
    /// When there cannot be one, which only the configuration could be the reason of.
    pub(super) fn event(&self, entry: &Entry) -> Result<Option<Event>, SourceError> {
        let Some(fields) = &entry.fields else { return Ok(None) };
        if self.shape == Shape::Event
            && let Some(event) = own(fields)
        {
            return Ok(Some(event));
        }
        let impossible =
            |error: &dyn std::error::Error| SourceError::Config(format!("{}: {error}", entry.id));
        let payload = payload(fields, self.shape).map_err(|error| impossible(&error))?;
        let mut builder = self.template.clone().id(entry.id.to_string()).data(payload.json);
        if payload.base64 {
            builder = builder.extension(ENCODING, "base64");
        }
        builder.build().map(Some).map_err(|error| impossible(&error))
    }
}

impl Reader<'_> {
    /// Works, first on what was handed to it before.
    ///
    /// # Errors
    /// When Redis fails, or what is refused cannot be parked.
    pub(super) async fn run(self, until: Until) -> Result<(), SourceError> {
        let mut next = self.read(From::Pending(Id::ZERO), FIRST_ENTRIES, until).await?;
        while let Some(batch) = next {
            let (from, count) = (batch.next, batch.count);
            let read = async {
                match from {
                    Some(from) => self.read(from, count, until).await,
                    None => Ok(None),
                }
            };
            ((), next) = tokio::try_join!(self.store(batch.entries), read)?;
        }
        Ok(())
    }

    /// A batch; nothing when the source is asked to stop.
    async fn read(
        &self,
        from: From,
        count: usize,
        until: Until,
    ) -> Result<Option<Batch>, SourceError> {
        let what = "read the stream";
        let answer = tokio::select! {
            biased;
            // What Redis may hand out in this moment is pending then, and comes at the next start.
            () = self.work.ctx.stop.cancelled() => return Ok(None),
            answer = self.ask(from, count) => answer,
        };
        let answer = answer
            .map_err(|error| if is_gone(&error) { gone(what) } else { trouble(what, &error) })?;
        let entries = entry::read(answer).map_err(|error| malformed(what, error))?;
        let next = match (from, entries.last()) {
            (From::Pending(_), Some(last)) => Some(From::Pending(last.id)),
            (From::Pending(_), None) if until == Until::Settled => None,
            // Redis may have served a dead connection of before, whose entries are pending then. By now nothing else is: what
            // was read before is acknowledged.
            (From::New, None) => Some(From::Pending(Id::ZERO)),
            (From::Pending(_), None) | (From::New, Some(_)) => Some(From::New),
        };
        let count = match entries.iter().map(Entry::size).max() {
            Some(largest) => pace(count, largest, batch_bytes(self.work.group.readers)),
            None => count,
        };
        Ok(Some(Batch { entries, next, count }))
    }

    async fn ask(&self, from: From, count: usize) -> Result<Value, ::redis::RedisError> {
        let mut command = ::redis::cmd("XREADGROUP");
        command.arg("GROUP").arg(&self.work.group.name).arg(&self.name).arg("COUNT").arg(count);
        let from = match from {
            From::Pending(after) => after.to_string(),
            From::New => {
                command.arg("BLOCK").arg(BLOCK.as_secs() * 1000);
                ">".to_owned()
            }
        };
        command.arg("STREAMS").arg(&self.work.group.stream).arg(from);
        command.query_async(&mut self.connection.clone()).await
    }

    /// Hands over the events of entries, in their order, and acknowledges them then.
    async fn store(&self, entries: Vec<Entry>) -> Result<(), SourceError> {
        let mut rest = entries.as_slice();
        while !rest.is_empty() {
            let count = fitting(rest, MAX_WRITE).min(self.work.ctx.at_once(MAX_ENTRIES));
            let (part, after) = rest.split_at(count);
            rest = after;
            let mut events = Vec::with_capacity(part.len());
            let mut removed = Vec::new();
            for entry in part {
                match self.work.event(entry)? {
                    Some(event) => events.push(event),
                    None => removed.push(entry.id),
                }
            }
            match self.work.ctx.deliver(events).await {
                // Nothing of it is acknowledged; other readers may be about to acknowledge theirs.
                Err(SourceError::Stopped) => return Ok(()),
                delivered => delivered?,
            }
            let ids: Vec<Id> = part.iter().map(|entry| entry.id).collect();
            self.control.clone().acknowledge(&self.work.group, &ids).await?;
            self.work.losses.removed(&self.work.ctx, &removed);
        }
        Ok(())
    }
}

/// How many of the first entries have no more than so many bytes together; one at least.
fn fitting(entries: &[Entry], max_bytes: usize) -> usize {
    let mut bytes = 0;
    let fits = |entry: &&Entry| {
        bytes += entry.size();
        bytes <= max_bytes
    };
    entries.iter().take_while(fits).count().max(1)
}

#[cfg(test)]
mod tests {
    use super::{MAX_BYTES, MAX_ENTRIES, batch_bytes, fitting, pace};
    use crate::redis::MAX_CONSUMERS;
    use crate::redis::entry::{Entry, Id};

    #[test]
    fn batches_grow_while_entries_are_small_and_shrink_when_they_are_not() {
        let mut count = 64;
        let sizes = [100, 100, 100, 100, 100, 1 << 20, 1 << 20, 100, 1 << 30];
        let counts = sizes.map(|largest| {
            count = pace(count, largest, 4 << 20);
            count
        });
        assert_eq!(counts, [128, 256, 512, 1000, 1000, 4, 4, 8, 1]);
        assert_eq!(pace(1, 0, 4 << 20), 2);
        assert_eq!(pace(usize::MAX, 0, 4 << 20), MAX_ENTRIES);
    }

    #[test]
    fn all_batches_together_are_bounded() {
        for readers in 1..=usize::try_from(MAX_CONSUMERS).unwrap() {
            assert!((readers + 1) * 2 * batch_bytes(readers) <= MAX_BYTES);
            assert!(batch_bytes(readers) >= 256 << 10);
        }
    }

    #[test]
    fn what_is_handed_over_at_once_is_bounded_but_one_entry_always_goes() {
        let entry = |bytes| Entry { id: Id::ZERO, fields: Some(vec![Vec::new(), vec![0; bytes]]) };
        let removed = Entry { id: Id::ZERO, fields: None };
        let entries = [entry(3), removed, entry(2), entry(1)];
        assert_eq!(fitting(&entries, 5), 3);
        assert_eq!(fitting(&entries, 4), 2);
        assert_eq!(fitting(&entries, 2), 1);
        assert_eq!(fitting(&entries, 100), 4);
    }
}
