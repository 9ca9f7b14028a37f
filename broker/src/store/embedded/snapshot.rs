//! The state of the whole store as one record: what the journal is replayed onto.

use std::collections::BTreeMap;

use roaring::RoaringTreemap;

use super::book::{Book, Pages};
use super::codec::{DecodeError, Reader, Writer};
use super::journal_record::{Record, read_scan, write_scan};
use crate::store::{Position, Topic};

const VERSION: u8 = 1;

/// Everything the store must not forget.
#[derive(Debug, Default, PartialEq)]
pub(super) struct State {
    /// Number the next new topic gets.
    pub(super) next_stream: u32,
    /// Number the next new subscription gets.
    pub(super) next_id: u32,
    /// Every event before was decided, those in [`TopicState::unrouted`] excepted.
    pub(super) routed: Position,
    /// By stream number.
    pub(super) topics: BTreeMap<u32, TopicState>,
    /// By their numbers.
    pub(super) subscriptions: BTreeMap<u32, SubscriptionState>,
}

/// A declared topic.
#[derive(Debug, PartialEq)]
pub(super) struct TopicState {
    pub(super) topic: Topic,
    pub(super) budget: u64,
    /// Events accepted while there was no selector to decide about them.
    pub(super) unrouted: RoaringTreemap,
}

/// A durable subscription.
#[derive(Debug, PartialEq)]
pub(super) struct SubscriptionState {
    pub(super) stream: u32,
    pub(super) name: String,
    pub(super) book: Book,
}

impl State {
    /// Lets a record of the journal take effect.
    pub(super) fn apply(&mut self, record: Record) {
        match record {
            Record::Declared { stream, topic, budget } => {
                self.next_stream = self.next_stream.max(stream.saturating_add(1));
                let entry = self.topics.entry(stream);
                entry
                    .or_insert_with(|| TopicState {
                        topic,
                        budget,
                        unrouted: RoaringTreemap::new(),
                    })
                    .budget = budget;
            }
            Record::Removed { stream } => {
                self.topics.remove(&stream);
                self.subscriptions.retain(|_, subscription| subscription.stream != stream);
            }
            Record::Subscribed { id, stream, name, from, scan } => {
                self.next_id = self.next_id.max(id.saturating_add(1));
                let new = || SubscriptionState { stream, name, book: Book::new(from, scan) };
                self.subscriptions.entry(id).or_insert_with(new);
            }
            Record::Unsubscribed { id } => {
                self.subscriptions.remove(&id);
            }
            Record::Notes { id, notes } => {
                // Notes of a subscription that was removed meanwhile have nobody to tell.
                if let Some(subscription) = self.subscriptions.get_mut(&id) {
                    notes.iter().for_each(|note| subscription.book.recover(note));
                }
            }
        }
    }

    /// The bytes of the snapshot.
    #[cfg(test)]
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut image = Image::new(self.next_stream, self.next_id, self.routed);
        for (stream, topic) in &self.topics {
            image.topic(*stream, &topic.topic, topic.budget, &topic.unrouted);
        }
        for (id, subscription) in &self.subscriptions {
            image.subscription(*id, subscription.stream, &subscription.name, &subscription.book);
        }
        image.finish()
    }

    /// Reads a snapshot.
    ///
    /// # Errors
    /// [`DecodeError`] when it is damaged or of a newer version.
    pub(super) fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader(bytes);
        let version = reader.byte()?;
        if version != VERSION {
            return Err(DecodeError::Version(version));
        }
        let mut state = Self {
            next_stream: reader.small()?,
            next_id: reader.small()?,
            routed: reader.number()?,
            ..Self::default()
        };
        while !reader.is_empty() {
            match reader.byte()? {
                TOPIC => {
                    let stream = reader.small()?;
                    let topic = Topic::new(reader.text()?, reader.text()?);
                    let topic =
                        TopicState { topic, budget: reader.number()?, unrouted: reader.bitmap()? };
                    state.topics.insert(stream, topic);
                }
                SUBSCRIPTION => {
                    let id = reader.small()?;
                    let stream = reader.small()?;
                    let name = reader.text()?.to_owned();
                    let book = Book::from_pages(read_pages(&mut reader)?);
                    state.subscriptions.insert(id, SubscriptionState { stream, name, book });
                }
                kind => return Err(DecodeError::Kind(kind)),
            }
        }
        Ok(state)
    }
}

const TOPIC: u8 = 1;
const SUBSCRIPTION: u8 = 2;

/// A snapshot in the making; written piece by piece, so that no two subscriptions are locked at once.
#[derive(Debug)]
pub(super) struct Image {
    bytes: Vec<u8>,
}

impl Image {
    pub(super) fn new(next_stream: u32, next_id: u32, routed: Position) -> Self {
        let mut bytes = vec![VERSION];
        let mut writer = Writer(&mut bytes);
        writer.number(u64::from(next_stream));
        writer.number(u64::from(next_id));
        writer.number(routed);
        Self { bytes }
    }

    pub(super) fn topic(
        &mut self,
        stream: u32,
        topic: &Topic,
        budget: u64,
        unrouted: &RoaringTreemap,
    ) {
        let mut writer = Writer(&mut self.bytes);
        writer.byte(TOPIC);
        writer.number(u64::from(stream));
        writer.bytes(topic.namespace.as_bytes());
        writer.bytes(topic.name.as_bytes());
        writer.number(budget);
        writer.bitmap(unrouted);
    }

    pub(super) fn subscription(&mut self, id: u32, stream: u32, name: &str, book: &Book) {
        let mut writer = Writer(&mut self.bytes);
        writer.byte(SUBSCRIPTION);
        writer.number(u64::from(id));
        writer.number(u64::from(stream));
        writer.bytes(name.as_bytes());
        writer.number(book.from);
        write_scan(&mut writer, book.scan);
        writer.bitmap(book.pending());
        writer.bitmap(book.settled());
        writer.number(book.attempted().len() as u64);
        for (position, attempted) in book.attempted() {
            writer.number(*position);
            writer.number(u64::from(attempted.attempts));
            writer.number(attempted.due_ms);
            writer.outcome(&attempted.last.outcome());
        }
        writer.number(book.parked().len() as u64);
        for (position, letter) in book.parked() {
            writer.number(*position);
            writer.number(u64::from(letter.attempts));
            writer.outcome(&letter.last.outcome());
        }
    }

    pub(super) fn finish(self) -> Vec<u8> {
        self.bytes
    }
}

fn read_pages(reader: &mut Reader<'_>) -> Result<Pages, DecodeError> {
    let mut pages = Pages {
        from: reader.number()?,
        scan: read_scan(reader)?,
        pending: reader.bitmap()?,
        settled: reader.bitmap()?,
        ..Pages::default()
    };
    for _ in 0..reader.count()? {
        pages.attempted.push((
            reader.number()?,
            reader.small()?,
            reader.number()?,
            reader.outcome()?,
        ));
    }
    for _ in 0..reader.count()? {
        pages.parked.push((reader.number()?, reader.small()?, reader.outcome()?));
    }
    Ok(pages)
}

#[cfg(test)]
mod tests;
