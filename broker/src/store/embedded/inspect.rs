//! Questions and interventions of a person.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use broker_event::Event;
use broker_log::Journal;
use roaring::RoaringTreemap;

use super::book::{Brief, Ended, Note};
use super::durable::Durable;
use super::engine::{Engine, unreadable, with_causes};
use super::journal_record::Record;
use super::router::stage;
use super::sync::{lock, now_ms, read, time};
use crate::inspect::{
    Continue, Kept, Parked, ParkedSelection, Step, SubscriptionStatus, TopicStatus,
};
use crate::store::{Outcome, Position, Settlement, Stage, Start, StoreError, Topic};

/// Bytes read at once by walks over the log.
const READ_BYTES: usize = 1 << 20;

/// Events read at once by position: at the size most events have, about [`READ_BYTES`].
const READ_EVENTS: usize = 64;

/// A parked letter without its event.
struct Found {
    position: Position,
    durable: Arc<Durable>,
    attempts: u32,
    last: Outcome,
}

impl Engine {
    pub(super) fn topic_statuses(&self) -> Vec<TopicStatus> {
        let head = self.log.head();
        let mut statuses: Vec<TopicStatus> = self
            .topics
            .load()
            .by_stream
            .values()
            .map(|open| {
                let kept_bytes = self.measure(open).kept;
                TopicStatus { topic: open.topic.clone(), kept_bytes, budget: open.budget(), head }
            })
            .collect();
        statuses.sort_unstable_by(|left, right| left.topic.cmp(&right.topic));
        statuses
    }

    pub(super) fn subscription_statuses(&self) -> Vec<SubscriptionStatus> {
        let mut statuses: Vec<SubscriptionStatus> = self
            .durables()
            .iter()
            .map(|durable| {
                let (backlog, parked, oldest) = durable.with(|ledger| {
                    let book = ledger.book();
                    (book.pending_len(), book.parked().len() as u64, book.pending().min())
                });
                let (topic, name) = (durable.topic.clone(), durable.name.to_string());
                SubscriptionStatus { topic, name, backlog, parked, oldest, oldest_at: None }
            })
            .collect();
        let oldest: RoaringTreemap = statuses.iter().filter_map(|status| status.oldest).collect();
        let oldest: Vec<Position> = oldest.into_iter().collect();
        let mut times = HashMap::new();
        for chunk in oldest.chunks(READ_EVENTS) {
            // Without its time a status is still worth having.
            let Ok(records) = self.log.get(chunk) else { continue };
            times.extend(
                records.into_iter().flatten().map(|record| (record.offset, time(record.time_ms))),
            );
        }
        for status in &mut statuses {
            status.oldest_at = status.oldest.and_then(|position| times.get(&position).copied());
        }
        statuses.sort_unstable_by(|left, right| {
            (&left.name, &left.topic).cmp(&(&right.name, &right.topic))
        });
        statuses
    }

    pub(super) fn parked_letters(
        &self,
        which: &ParkedSelection,
        after: Option<Position>,
        limit: usize,
    ) -> Result<Vec<Parked>, StoreError> {
        let mut letters: Vec<Parked> = Vec::new();
        let mut after = after;
        while letters.len() < limit {
            let found = self.find_parked(which, after, READ_EVENTS.min(limit));
            let Some(last) = found.last() else { break };
            after = Some(last.position);
            let events = self.events_at(found.iter().map(|found| found.position))?;
            for found in found {
                let Some(event) = events.get(&found.position) else { continue };
                if which.event_id.as_ref().is_some_and(|id| id != event.id()) {
                    continue;
                }
                letters.push(Parked {
                    topic: found.durable.topic.clone(),
                    subscription: found.durable.name.to_string(),
                    position: found.position,
                    event: event.clone(),
                    attempts: found.attempts,
                    last: found.last,
                });
            }
        }
        cut_between_positions(&mut letters, limit, |letter| letter.position);
        Ok(letters)
    }

    pub(super) fn redrive_parked(&self, which: &ParkedSelection) -> Result<u64, StoreError> {
        let mut count = 0;
        for durable in self.durables() {
            let positions = self.selected(&durable, which)?;
            let redriven = durable.with(|ledger| ledger.redrive(&positions));
            if redriven > 0 {
                durable.bell.notify_one();
            }
            count += redriven;
        }
        self.settle_journal()?;
        Ok(count)
    }

    pub(super) fn purge_parked(&self, which: &ParkedSelection) -> Result<u64, StoreError> {
        let mut count = 0;
        for durable in self.durables() {
            let positions = self.selected(&durable, which)?;
            count += durable.with(|ledger| ledger.purge(&positions));
        }
        self.settle_journal()?;
        Ok(count)
    }

    pub(super) fn replay_to(
        &self,
        topic: &Topic,
        name: &str,
        from: Start,
    ) -> Result<u64, StoreError> {
        let open = self.topic(topic)?;
        let durable = read(&self.registry).find(open.stream, name).cloned();
        let durable = durable.ok_or_else(|| StoreError::UnknownSubscription(name.to_owned()))?;
        let slot = durable.slot.get().copied().filter(|_| durable.known.load(Ordering::Acquire));
        let (Some(selector), Some(slot)) = (open.selector(), slot) else {
            return Err(StoreError::Failed(format!(
                "trigger {name} is not in force yet, so its filter is not known"
            )));
        };
        let mut next = self.position(from);
        let end = lock(&self.routing).decided(open.stream);
        let mut count = 0;
        while next < end {
            // Held, so that what is found is not deleted before it is live.
            let _history = lock(&self.history);
            let records = self.log.read(next, READ_BYTES).map_err(|error| unreadable(&error))?;
            let Some(last) = records.last() else { break };
            next = last.offset.saturating_add(1);
            let wanted: RoaringTreemap = records
                .iter()
                .filter(|record| record.stream == open.stream && record.offset < end)
                .filter_map(stage)
                .filter(|staged| selector.wants(slot, &staged.event))
                .map(|staged| staged.position)
                .collect();
            count += durable.with(|ledger| ledger.replay(wanted, now_ms()));
            durable.bell.notify_one();
        }
        self.settle_journal()?;
        Ok(count)
    }

    pub(super) fn walk(
        &self,
        from: Start,
        visit: &mut dyn FnMut(Kept) -> Continue,
    ) -> Result<(), StoreError> {
        let mut next = self.position(from);
        // What comes meanwhile is for the next walk, or this one might never end.
        let end = self.log.head();
        while next < end {
            let records = self.log.read(next, READ_BYTES).map_err(|error| unreadable(&error))?;
            let Some(last) = records.last() else { break };
            next = last.offset.saturating_add(1);
            let topics = self.topics.load_full();
            for record in records {
                let Some(open) = topics.by_stream.get(&record.stream) else { continue };
                let Some(staged) = stage(&record) else { continue };
                let topic = open.topic.clone();
                let kept = Kept {
                    topic,
                    position: record.offset,
                    accepted: time(record.time_ms),
                    event: staged.event,
                };
                if !visit(kept) {
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    pub(super) fn steps_of(&self, position: Position) -> Result<Vec<Step>, StoreError> {
        self.scribe.write_notes(&mut self.scribe.pen(), &self.desk, &self.registry)?;
        let mut names: HashMap<u32, String> =
            self.durables().iter().map(|durable| (durable.id, durable.name.to_string())).collect();
        let mut steps = Vec::new();
        let mut visit = |bytes: &[u8]| match Record::decode(bytes) {
            Ok(Record::Subscribed { id, name, .. }) => {
                names.insert(id, name);
            }
            Ok(Record::Notes { id, notes }) => {
                let told = notes.iter().filter_map(|note| step_of(note, position));
                steps.extend(told.map(|(settlement, outcome)| (id, settlement, outcome)));
            }
            // The trail is for people: what cannot be read is left out.
            Ok(_) | Err(_) => {}
        };
        Journal::trail(&self.state_dir, &*self.fs, &mut visit)
            .map_err(|error| StoreError::Failed(with_causes(&error)))?;
        let step = |(id, settlement, outcome)| {
            let subscription =
                names.get(&id).cloned().unwrap_or_else(|| format!("removed trigger {id}"));
            Step { subscription, settlement, outcome }
        };
        Ok(steps.into_iter().map(step).collect())
    }

    /// Parked letters after a position, in order, about `limit`; never a part of those of one position.
    fn find_parked(
        &self,
        which: &ParkedSelection,
        after: Option<Position>,
        limit: usize,
    ) -> Vec<Found> {
        let from = match after {
            Some(after) => match after.checked_add(1) {
                Some(from) => from,
                None => return Vec::new(),
            },
            None => 0,
        };
        let mut all: Vec<Found> = Vec::new();
        for durable in self.durables().iter().filter(|durable| is_meant(durable, which)) {
            durable.with(|ledger| {
                let parked = ledger.book().parked().range(from..);
                let parked = parked
                    .filter(|(position, _)| which.position.is_none_or(|only| only == **position));
                all.extend(parked.take(limit).map(|(position, letter)| Found {
                    position: *position,
                    durable: Arc::clone(durable),
                    attempts: letter.attempts,
                    last: letter.last.outcome(),
                }));
            });
            // Bounded: with many subscriptions only the oldest are carried along.
            if all.len() > limit.saturating_mul(4) {
                keep_oldest(&mut all, limit);
            }
        }
        keep_oldest(&mut all, limit);
        all
    }

    /// Which parked letters of a subscription are meant.
    fn selected(
        &self,
        durable: &Arc<Durable>,
        which: &ParkedSelection,
    ) -> Result<RoaringTreemap, StoreError> {
        if !is_meant(durable, which) {
            return Ok(RoaringTreemap::new());
        }
        let mut positions: RoaringTreemap =
            durable.with(|ledger| ledger.book().parked().keys().copied().collect());
        if let Some(only) = which.position {
            positions &= RoaringTreemap::from_iter([only]);
        }
        let Some(id) = &which.event_id else { return Ok(positions) };
        let mut chosen = RoaringTreemap::new();
        let all: Vec<Position> = positions.into_iter().collect();
        for chunk in all.chunks(READ_EVENTS) {
            let events = self.events_at(chunk.iter().copied())?;
            chosen.extend(
                events.iter().filter(|(_, event)| event.id() == id).map(|(position, _)| *position),
            );
        }
        Ok(chosen)
    }

    fn events_at(
        &self,
        positions: impl Iterator<Item = Position>,
    ) -> Result<HashMap<Position, Event>, StoreError> {
        let positions: RoaringTreemap = positions.collect();
        let positions: Vec<Position> = positions.into_iter().collect();
        let records = self.log.get(&positions).map_err(|error| unreadable(&error))?;
        let staged = records.iter().flatten().filter_map(stage);
        Ok(staged.map(|staged| (staged.position, staged.event)).collect())
    }
}

fn is_meant(durable: &Durable, which: &ParkedSelection) -> bool {
    which.subscription.as_ref().is_none_or(|name| **name == *durable.name)
}

/// Sorts by position and keeps the first `limit`, and those that share a position with the last of them.
fn keep_oldest(all: &mut Vec<Found>, limit: usize) {
    all.sort_by(|left, right| {
        (left.position, &left.durable.name).cmp(&(right.position, &right.durable.name))
    });
    if let Some(last) = limit.checked_sub(1).and_then(|last| all.get(last)) {
        let last = last.position;
        let end = all.partition_point(|found| found.position <= last);
        all.truncate(end);
    }
}

/// Cuts to `limit`, but not between letters of the same position: the next page starts after a position. Only when
/// the first position alone has more than `limit`, all of its letters are answered.
fn cut_between_positions<T>(items: &mut Vec<T>, limit: usize, position: impl Fn(&T) -> Position) {
    let Some(beyond) = items.get(limit).map(&position) else { return };
    let start = items.partition_point(|item| position(item) < beyond);
    let end =
        if start == 0 { items.partition_point(|item| position(item) <= beyond) } else { start };
    items.truncate(if limit == 0 { 0 } else { end });
}

/// What a note tells about the event at `position`.
fn step_of(note: &Note, position: Position) -> Option<(Settlement, Option<Outcome>)> {
    match note {
        Note::Acked { position: of, end } if *of == position => {
            let outcome = end.map(|Brief { status, stage, at_ms, took_ms, .. }| Outcome {
                status,
                at_ms,
                took_ms,
                stage,
                ..Outcome::default()
            });
            Some((Settlement::Ack, outcome))
        }
        Note::Expired { position: of, at_ms } if *of == position => {
            let reason = "it passed the trigger's max-age or max-backlog".to_owned();
            let outcome =
                Outcome { at_ms: *at_ms, stage: Stage::Expired, reason, ..Outcome::default() };
            Some((Settlement::Ack, Some(outcome)))
        }
        Note::Step(step) if step.position == position => {
            let settlement = match step.ended {
                Ended::Ack => Settlement::Ack,
                Ended::Retry { due_ms } => Settlement::Retry { at: time(due_ms) },
                Ended::Hold { due_ms } => Settlement::Hold { at: time(due_ms) },
                Ended::Park => Settlement::Park,
            };
            Some((settlement, Some(step.outcome.clone())))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_end_between_positions() {
        let page = |limit| {
            let mut items = vec![1, 2, 2, 3];
            cut_between_positions(&mut items, limit, |item| *item);
            items
        };
        assert_eq!(page(4), [1, 2, 2, 3]);
        assert_eq!(page(3), [1, 2, 2]);
        assert_eq!(page(2), [1]);
        assert_eq!(page(0), [0_u64; 0]);
        let mut same = vec![5, 5, 6];
        cut_between_positions(&mut same, 1, |item| *item);
        assert_eq!(same, [5, 5]);
    }
}
