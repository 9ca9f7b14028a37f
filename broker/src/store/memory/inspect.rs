//! What a person asks and does.

use super::archive::Stored;
use super::line::{Begin, Letter, Line, LineId};
use super::state::{OpenTopic, State};
use super::time;
use crate::inspect::{Kept, Parked, ParkedSelection, Step, SubscriptionStatus, TopicStatus};
use crate::store::{Position, Start, Topic};

impl State {
    pub(super) fn topic_statuses(&mut self, now_ms: u64) -> Vec<TopicStatus> {
        self.expire(now_ms);
        let status = |(topic, open): (&Topic, &OpenTopic)| TopicStatus {
            topic: topic.clone(),
            kept_bytes: self.archive.needed(open.stream),
            budget: open.budget,
            head: self.archive.head(),
        };
        self.topics.iter().map(status).collect()
    }

    pub(super) fn subscription_statuses(&mut self, now_ms: u64) -> Vec<SubscriptionStatus> {
        self.expire(now_ms);
        let status = |(topic, line): (&Topic, &Line)| {
            let oldest = line.oldest();
            let stored = oldest.and_then(|position| self.archive.get(position));
            SubscriptionStatus {
                topic: topic.clone(),
                name: line.name.to_string(),
                backlog: line.backlog(),
                parked: line.parked().len() as u64,
                oldest,
                oldest_at: stored.map(|stored| time(stored.time_ms)),
            }
        };
        let mut statuses: Vec<SubscriptionStatus> = self.all().map(status).collect();
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
    ) -> Vec<Parked> {
        let parked = |(topic, line, position, letter): Found<'_>| {
            Some(Parked {
                topic: topic.clone(),
                subscription: line.name.to_string(),
                position,
                event: self.archive.get(position)?.event.clone(),
                attempts: letter.attempts,
                last: letter.last.clone(),
            })
        };
        let mut found: Vec<Found<'_>> = self
            .letters(which)
            .filter(|(.., position, _)| after.is_none_or(|after| *position > after))
            .collect();
        found.sort_by(|left, right| (left.2, &left.1.name).cmp(&(right.2, &right.1.name)));
        cut_between_positions(&mut found, limit);
        found.into_iter().filter_map(parked).collect()
    }

    pub(super) fn redrive(&mut self, which: &ParkedSelection) -> u64 {
        self.each_letter(which, |state, line, position| {
            state.lines.get_mut(&line).is_some_and(|line| line.redrive(position))
        })
    }

    pub(super) fn purge(&mut self, which: &ParkedSelection) -> u64 {
        self.each_letter(which, |state, line, position| {
            let Self { lines, archive, .. } = state;
            lines.get_mut(&line).is_some_and(|line| line.purge(position, archive))
        })
    }

    /// The positions a scan from `from` walks now.
    pub(super) fn stretch(&self, from: Start) -> (Position, Position) {
        let head = self.archive.head();
        let begin = Begin::new(from, head);
        let included = |(position, stored): &(Position, &Stored)| begin.includes(*position, stored);
        let first = self.archive.range(begin.from()..).find(included);
        (first.map_or(head, |(position, _)| position), head)
    }

    /// Kept events between two positions, at most `max`.
    pub(super) fn kept(&self, from: Position, end: Position, max: usize) -> Vec<Kept> {
        let kept = |(position, stored): (Position, &Stored)| {
            let of = |open: &OpenTopic| open.stream == stored.stream;
            let (topic, _) = self.topics.iter().find(|(_, open)| of(open))?;
            Some(Kept {
                topic: topic.clone(),
                position,
                accepted: time(stored.time_ms),
                event: stored.event.clone(),
            })
        };
        self.archive.range(from..end).filter_map(kept).take(max).collect()
    }

    pub(super) fn steps(&mut self, position: Position, now_ms: u64) -> Vec<Step> {
        self.expire(now_ms);
        self.archive
            .trail(position)
            .map(|recorded| Step {
                subscription: recorded.subscription.to_string(),
                settlement: recorded.settlement,
                outcome: recorded.outcome.clone(),
            })
            .collect()
    }

    /// Nobody expires anything in the background: whoever looks does.
    fn expire(&mut self, now_ms: u64) {
        for line in self.lines.values_mut() {
            line.expire(&mut self.archive, now_ms);
        }
    }

    fn all(&self) -> impl Iterator<Item = (&Topic, &Line)> {
        self.topics.iter().flat_map(move |(topic, open)| {
            open.lines.values().filter_map(move |line| Some((topic, self.lines.get(line)?)))
        })
    }

    fn letters<'a>(&'a self, which: &ParkedSelection) -> impl Iterator<Item = Found<'a>> {
        let ParkedSelection { subscription, position, event_id } = which.clone();
        self.all()
            .filter(move |(_, line)| subscription.as_ref().is_none_or(|name| **name == *line.name))
            .flat_map(|(topic, line)| {
                line.parked().iter().map(move |(position, letter)| (topic, line, *position, letter))
            })
            .filter(move |(_, _, found, _)| position.is_none_or(|only| only == *found))
            .filter(move |(_, _, found, _)| {
                event_id.as_ref().is_none_or(|id| {
                    self.archive.get(*found).is_some_and(|stored| stored.event.id() == id)
                })
            })
    }

    fn each_letter(
        &mut self,
        which: &ParkedSelection,
        mut act: impl FnMut(&mut Self, LineId, Position) -> bool,
    ) -> u64 {
        let meant: Vec<(LineId, Position)> =
            self.letters(which).map(|(_, line, position, _)| (line.id, position)).collect();
        meant.into_iter().map(|(line, position)| u64::from(act(self, line, position))).sum()
    }
}

/// A parked letter and where it is.
type Found<'a> = (&'a Topic, &'a Line, Position, &'a Letter);

/// Cuts to `limit`, but not between letters of the same position: the next page starts after a position. Only when
/// the first position alone has more than `limit`, all of its letters are answered.
fn cut_between_positions(found: &mut Vec<Found<'_>>, limit: usize) {
    let Some((.., beyond, _)) = found.get(limit) else { return };
    let beyond = *beyond;
    let start = found.partition_point(|(.., position, _)| *position < beyond);
    let end = if start == 0 {
        found.partition_point(|(.., position, _)| *position <= beyond)
    } else {
        start
    };
    found.truncate(if limit == 0 { 0 } else { end });
}
