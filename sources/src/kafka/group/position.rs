//! Where a group begins. Before the source says that it works, every partition has a position that Kafka keeps; so `latest`
//! means when the source was made, and not when it first got around to reading.
//!
//! What the annotation `weft.dev/start` asks for is done once for each value: the value goes as a note into every commit,
//! next to the position that it led to. Whoever moves the position by hand takes the note away, and should take the
//! annotation away before.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use rdkafka::consumer::Consumer;
use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode as Code};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::client::{Client, Meaning, Trouble, meaning};
use super::progress::Position;
use crate::kafka::start::Start;
use crate::quote::quote;

/// How long Kafka may take until it answers at all.
const ANSWER: Duration = Duration::from_secs(10);

/// How long the client is served between two attempts, so that it tells why the first failed.
const SERVE: Duration = Duration::from_millis(20);

/// How long a topic may be made before the server that is asked knows of it.
const KNOWN: Duration = Duration::from_millis(500);

/// How long one attempt takes; between two it is looked whether the source is to stop.
const ATTEMPT: Duration = Duration::from_millis(500);

/// After so long it is asked whether a commit was taken.
const ANSWERED: Duration = Duration::from_millis(50);

/// How long one question may take once Kafka answers.
const QUESTION: Duration = Duration::from_secs(5);

/// How long the group may have members that are not this source's: after a crash one that is no more is kept for the
/// session's timeout of 6 s.
const FOREIGN: Duration = Duration::from_secs(12);

/// What is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Wish {
    pub(super) start: Start,
    /// The annotation that asks for it; empty if it is the spec.
    pub(super) mark: Arc<str>,
    /// Topics that were not there when the source was: all they have came after it was made.
    pub(super) absent: BTreeSet<String>,
}

/// Why a group does not begin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum NotBegun {
    /// These topics do not exist.
    Absent(BTreeSet<String>),
    /// Something else.
    Trouble(Trouble),
    /// The source is to stop.
    Stopped,
}

/// A partition, and what Kafka keeps of the group's position in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Known {
    pub(super) topic: Arc<str>,
    pub(super) partition: i32,
    /// Whether there is a position.
    pub(super) is_placed: bool,
    /// The note beside it.
    pub(super) mark: String,
}

/// Partitions and where they are to begin.
type Moves = BTreeMap<(Arc<str>, i32), Start>;

/// Which partitions move, and where to. A partition or a topic that came later than the group's position begins at its
/// beginning.
pub(super) fn moves(known: &[Known], wish: &Wish) -> Moves {
    let mut moves = Moves::new();
    for partition in known {
        let same_topic = || known.iter().filter(|other| other.topic == partition.topic);
        let begun = if wish.mark.is_empty() {
            same_topic().any(|other| other.is_placed)
        } else {
            same_topic().any(|other| other.is_placed && other.mark == *wish.mark)
        };
        let start = match (begun, partition.is_placed, wish.start) {
            (true, true, _) => continue,
            (true, false, _) => Start::Earliest,
            (false, _, Start::Latest) if wish.absent.contains(&*partition.topic) => Start::Earliest,
            (false, _, start) => start,
        };
        moves.insert((Arc::clone(&partition.topic), partition.partition), start);
    }
    moves
}

/// Sees to it that the group has a position in every partition of the topics. Blocks.
pub(super) fn begin(
    client: &Client,
    topics: &[String],
    wish: &Wish,
    stop: &CancellationToken,
) -> Result<(), NotBegun> {
    let (partitions, absent) = all_partitions(client, topics, stop)?;
    // What is there does not wait for what is not: `latest` would be later.
    let placed =
        if partitions.is_empty() { Ok(()) } else { place(client, &partitions, wish, stop) };
    if absent.is_empty() || placed == Err(NotBegun::Stopped) {
        return placed;
    }
    Err(NotBegun::Absent(absent))
}

/// Sees to it that the group has a position in these partitions.
fn place(
    client: &Client,
    partitions: &[(Arc<str>, i32)],
    wish: &Wish,
    stop: &CancellationToken,
) -> Result<(), NotBegun> {
    let mut positions = BTreeMap::new();
    let until = Instant::now() + FOREIGN;
    loop {
        let moves = moves(&known(client, partitions, stop)?, wish);
        if moves.is_empty() {
            return Ok(());
        }
        if Instant::now() >= until {
            return not_taken(client, &moves, wish);
        }
        // `latest` is what it was the first time.
        let new = moves.iter().filter(|(place, _)| !positions.contains_key(*place));
        let resolved =
            resolve(client, &new.map(|(place, start)| (place.clone(), *start)).collect(), stop)?;
        positions.extend(resolved);
        let due: Vec<Position> = moves
            .keys()
            .filter_map(|(topic, partition)| {
                let offset = *positions.get(&(Arc::clone(topic), *partition))?;
                Some(Position { topic: Arc::clone(topic), partition: *partition, offset })
            })
            .collect();
        client.context().commit(client, &due);
        // Whether they were taken is asked: a group without members takes them from outside, and no other.
        pause(client, stop, ANSWERED)?;
    }
}

/// What becomes of a group that does not take its position.
fn not_taken(client: &Client, moves: &Moves, wish: &Wish) -> Result<(), NotBegun> {
    if wish.mark.is_empty() && moves.values().all(|start| *start == Start::Earliest) {
        // Without a position a consumer begins at the beginning.
        return Ok(());
    }
    let complaint = client.context().ledger().complaint();
    let what = if complaint.is_empty() {
        "the consumer group does not take a position from outside: it has members elsewhere"
            .to_owned()
    } else {
        complaint
    };
    Err(NotBegun::Trouble(Trouble::Unavailable(what)))
}

/// Partitions that exist, and topics that do not.
type Found = (Vec<(Arc<str>, i32)>, BTreeSet<String>);

/// Looks for the partitions of the topics.
fn all_partitions(
    client: &Client,
    topics: &[String],
    stop: &CancellationToken,
) -> Result<Found, NotBegun> {
    let (mut partitions, mut absent) = (Vec::new(), BTreeSet::new());
    let since = Instant::now();
    for topic in topics {
        match topic_partitions(client, topic, since, stop)? {
            Some(ids) => {
                let name: Arc<str> = topic.as_str().into();
                partitions.extend(ids.into_iter().map(|id| (Arc::clone(&name), id)));
            }
            None => {
                absent.insert(topic.clone());
            }
        }
    }
    Ok((partitions, absent))
}

/// The partitions of a topic, or nothing if there is no such topic, some time after `since`.
fn topic_partitions(
    client: &Client,
    topic: &str,
    since: Instant,
    stop: &CancellationToken,
) -> Result<Option<Vec<i32>>, NotBegun> {
    let until = Instant::now() + ANSWER;
    loop {
        let failed = match client.fetch_metadata(Some(topic), ATTEMPT) {
            Ok(metadata) => {
                let found = metadata.topics().iter().find(|found| found.name() == topic);
                match found.map(|found| (found, found.error().map(Code::from))) {
                    Some((found, None)) if !found.partitions().is_empty() => {
                        return Ok(Some(found.partitions().iter().map(|one| one.id()).collect()));
                    }
                    // Not every server knows a topic at once.
                    Some((_, Some(Code::UnknownTopicOrPartition | Code::UnknownTopic))) => {
                        if since.elapsed() >= KNOWN {
                            return Ok(None);
                        }
                        pause(client, stop, ATTEMPT)?;
                        continue;
                    }
                    // Made a moment ago, it may have no leader yet.
                    Some((_, Some(code))) => code,
                    _ => Code::LeaderNotAvailable,
                }
            }
            Err(error) => error.rdkafka_error_code().unwrap_or(Code::Fail),
        };
        pause(client, stop, SERVE)?;
        if let Meaning::Final(trouble) = meaning(failed, &format!("topic {topic}: {failed}")) {
            return Err(NotBegun::Trouble(trouble));
        }
        if Instant::now() >= until {
            let complaint = client.context().ledger().complaint();
            let what = match meaning(failed, "") {
                _ if !complaint.is_empty() => complaint,
                Meaning::Down => format!("no server answered within {ANSWER:?}"),
                _ => failed.to_string(),
            };
            return Err(NotBegun::Trouble(Trouble::Unavailable(what)));
        }
    }
}

/// What Kafka keeps of the group's positions.
fn known(
    client: &Client,
    partitions: &[(Arc<str>, i32)],
    stop: &CancellationToken,
) -> Result<Vec<Known>, NotBegun> {
    ask(client, stop, || {
        let mut list = TopicPartitionList::with_capacity(partitions.len());
        for (topic, partition) in partitions {
            list.add_partition(topic, *partition);
        }
        let list = client.committed_offsets(list, QUESTION)?;
        let elements = list.elements();
        let known = elements.iter().zip(partitions).map(|(entry, (topic, partition))| {
            entry.error()?;
            Ok(Known {
                topic: Arc::clone(topic),
                partition: *partition,
                is_placed: matches!(entry.offset(), Offset::Offset(_)),
                mark: entry.metadata().to_owned(),
            })
        });
        known.collect()
    })
}

/// The offsets that are meant.
fn resolve(
    client: &Client,
    moves: &Moves,
    stop: &CancellationToken,
) -> Result<BTreeMap<(Arc<str>, i32), i64>, NotBegun> {
    let times = ask(client, stop, || {
        let mut times = TopicPartitionList::new();
        for ((topic, partition), start) in moves {
            if let Start::Time(time) = start {
                times.add_partition_offset(topic, *partition, Offset::Offset((*time).max(0)))?;
            }
        }
        if times.count() == 0 {
            return Ok(times);
        }
        let times = client.offsets_for_times(times, QUESTION)?;
        // Who has no leader is not asked, and has the time where the others have an offset.
        for entry in times.elements() {
            entry.error()?;
        }
        Ok(times)
    })?;
    let place = |((topic, partition), start): (&(Arc<str>, i32), &Start)| {
        let (low, high) =
            ask(client, stop, || client.fetch_watermarks(topic, *partition, QUESTION))?;
        let offset = match start {
            Start::Earliest => low,
            Start::Latest => high,
            Start::Offset(offset) => *offset,
            Start::Time(_) => match times.find_partition(topic, *partition).map(|it| it.offset()) {
                Some(Offset::Offset(offset)) => offset,
                // Nothing is as young.
                _ => high,
            },
        };
        Ok(((Arc::clone(topic), *partition), offset.min(high).max(low)))
    };
    moves.iter().map(place).collect()
}

/// Asks until there is an answer, or there will be none: who is asked may have started, or been given the partition or the
/// group, a moment ago.
fn ask<T>(
    client: &Client,
    stop: &CancellationToken,
    mut question: impl FnMut() -> KafkaResult<T>,
) -> Result<T, NotBegun> {
    let until = Instant::now() + ANSWER;
    loop {
        let error = match question() {
            Ok(answer) => return Ok(answer),
            Err(error) => error,
        };
        match not(&error) {
            refused @ NotBegun::Trouble(Trouble::Credentials(_) | Trouble::Config(_)) => {
                return Err(refused);
            }
            other if Instant::now() >= until => return Err(other),
            _ => pause(client, stop, ATTEMPT)?,
        }
    }
}

/// Serves the client for a while, so that it tells of its errors.
fn pause(client: &Client, stop: &CancellationToken, longest: Duration) -> Result<(), NotBegun> {
    let until = Instant::now() + longest;
    loop {
        // With no time to wait, it serves one line of its log and no error behind it.
        let polled = client.poll(until.saturating_duration_since(Instant::now()));
        if let Some(Err(error)) = &polled {
            let reason = client.context().ledger().complaint();
            let code = error.rdkafka_error_code().unwrap_or(Code::Fail);
            if let Meaning::Final(trouble) = meaning(code, &reason) {
                return Err(NotBegun::Trouble(trouble));
            }
        }
        if stop.is_cancelled() {
            return Err(NotBegun::Stopped);
        }
        if polled.is_none() || Instant::now() >= until {
            return Ok(());
        }
    }
}

fn not(error: &KafkaError) -> NotBegun {
    let reason = quote(&error.to_string());
    let code = error.rdkafka_error_code().unwrap_or(Code::Fail);
    NotBegun::Trouble(match meaning(code, &reason) {
        Meaning::Final(trouble) => trouble,
        Meaning::Passing | Meaning::Down => Trouble::Unavailable(reason),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn known(topic: &str, partition: i32, mark: Option<&str>) -> Known {
        let mark_text = mark.unwrap_or_default().to_owned();
        Known { topic: topic.into(), partition, is_placed: mark.is_some(), mark: mark_text }
    }

    fn wish(start: Start, mark: &str) -> Wish {
        Wish { start, mark: mark.into(), absent: BTreeSet::new() }
    }

    fn moved(known: &[Known], wish: &Wish) -> Vec<(i32, Start)> {
        moves(known, wish).into_iter().map(|((_, partition), start)| (partition, start)).collect()
    }

    #[test]
    fn a_group_that_has_begun_keeps_its_position() {
        let known = [known("t", 0, Some("")), known("t", 1, Some(""))];
        assert_eq!(moved(&known, &wish(Start::Latest, "")), []);
    }

    #[test]
    fn a_new_group_begins_where_it_is_told() {
        let new = [known("t", 0, None), known("t", 1, None)];
        for start in [Start::Latest, Start::Earliest] {
            assert_eq!(moved(&new, &wish(start, "")), [(0, start), (1, start)]);
        }
        let (start, text) = (Start::Offset(3), "offset:3");
        assert_eq!(moved(&new, &wish(start, text)), [(0, start), (1, start)]);
    }

    #[test]
    fn what_came_later_is_read_from_its_beginning() {
        let grown = [known("t", 0, Some("")), known("t", 1, None)];
        assert_eq!(moved(&grown, &wish(Start::Latest, "")), [(1, Start::Earliest)]);
        let marked = [known("t", 0, Some("latest")), known("t", 1, None)];
        assert_eq!(moved(&marked, &wish(Start::Latest, "latest")), [(1, Start::Earliest)]);
        let absent = BTreeSet::from(["t".to_owned()]);
        let late = Wish { absent, ..wish(Start::Latest, "") };
        assert_eq!(moved(&[known("t", 0, None)], &late), [(0, Start::Earliest)]);
        assert_eq!(moved(&[known("u", 0, None)], &late), [(0, Start::Latest)]);
    }

    #[test]
    fn each_value_of_the_annotation_moves_the_group_once() {
        let before = [known("t", 0, Some("")), known("t", 1, Some(""))];
        let again = wish(Start::Earliest, "earliest");
        assert_eq!(moved(&before, &again), [(0, Start::Earliest), (1, Start::Earliest)]);
        let after = [known("t", 0, Some("earliest")), known("t", 1, Some("earliest"))];
        assert_eq!(moved(&after, &again), []);
        let other = wish(Start::Offset(7), "offset:7");
        assert_eq!(moved(&after, &other), [(0, Start::Offset(7)), (1, Start::Offset(7))]);
        // Without the annotation a group stays where it is.
        assert_eq!(moved(&after, &wish(Start::Latest, "")), []);
    }
}
