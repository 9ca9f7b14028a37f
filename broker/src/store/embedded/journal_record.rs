//! What the journal holds: topics and subscriptions that come and go, and what became of deliveries.
//!
//! A record is a version byte, a kind byte and the kind's fields. Notes of one subscription travel together; within a
//! record, acks of the same kind that follow each other are grouped, sorted by position and stored as differences, so
//! that an ack costs a few bytes. Notes are otherwise kept in order: the last one about a position wins.

use super::book::{Brief, Ended, Note, Scan, StepNote};
use super::codec::{DecodeError, Reader, Writer, stage_from_byte, stage_to_byte};
use crate::store::{Position, Topic};

const VERSION: u8 = 1;

const DECLARED: u8 = 1;
const REMOVED: u8 = 2;
const SUBSCRIBED: u8 = 3;
const UNSUBSCRIBED: u8 = 4;
const NOTES: u8 = 5;

const ACKED: u8 = 1;
const ACKED_BRIEF: u8 = 2;
const STEP: u8 = 3;
const EXPIRED: u8 = 4;
const REDRIVEN: u8 = 5;
const PURGED: u8 = 6;
const REPLAYED: u8 = 7;
const SCANNED: u8 = 8;

/// One record of the journal.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Record {
    /// A topic was declared or got another budget.
    Declared { stream: u32, topic: Topic, budget: u64 },
    /// A topic was removed with everything in it.
    Removed { stream: u32 },
    /// A subscription was created.
    Subscribed { id: u32, stream: u32, name: String, from: Position, scan: Option<Scan> },
    /// A subscription was removed.
    Unsubscribed { id: u32 },
    /// Notes of one subscription, in order.
    Notes { id: u32, notes: Vec<Note> },
}

impl Record {
    /// The bytes of the record.
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut bytes = vec![VERSION];
        let mut writer = Writer(&mut bytes);
        match self {
            Self::Declared { stream, topic, budget } => {
                writer.byte(DECLARED);
                writer.number(u64::from(*stream));
                writer.bytes(topic.namespace.as_bytes());
                writer.bytes(topic.name.as_bytes());
                writer.number(*budget);
            }
            Self::Removed { stream } => {
                writer.byte(REMOVED);
                writer.number(u64::from(*stream));
            }
            Self::Subscribed { id, stream, name, from, scan } => {
                writer.byte(SUBSCRIBED);
                writer.number(u64::from(*id));
                writer.number(u64::from(*stream));
                writer.bytes(name.as_bytes());
                writer.number(*from);
                write_scan(&mut writer, *scan);
            }
            Self::Unsubscribed { id } => {
                writer.byte(UNSUBSCRIBED);
                writer.number(u64::from(*id));
            }
            Self::Notes { id, notes } => {
                writer.byte(NOTES);
                writer.number(u64::from(*id));
                write_notes(&mut writer, notes);
            }
        }
        bytes
    }

    /// Reads a record.
    ///
    /// # Errors
    /// [`DecodeError`] when it is damaged or of a newer version.
    pub(super) fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader(bytes);
        let version = reader.byte()?;
        if version != VERSION {
            return Err(DecodeError::Version(version));
        }
        match reader.byte()? {
            DECLARED => Ok(Self::Declared {
                stream: reader.small()?,
                topic: Topic::new(reader.text()?, reader.text()?),
                budget: reader.number()?,
            }),
            REMOVED => Ok(Self::Removed { stream: reader.small()? }),
            SUBSCRIBED => Ok(Self::Subscribed {
                id: reader.small()?,
                stream: reader.small()?,
                name: reader.text()?.to_owned(),
                from: reader.number()?,
                scan: read_scan(&mut reader)?,
            }),
            UNSUBSCRIBED => Ok(Self::Unsubscribed { id: reader.small()? }),
            NOTES => Ok(Self::Notes { id: reader.small()?, notes: read_notes(&mut reader)? }),
            kind => Err(DecodeError::Kind(kind)),
        }
    }
}

/// Writes an optional search.
pub(super) fn write_scan(writer: &mut Writer<'_>, scan: Option<Scan>) {
    writer.option(scan.map(|scan| scan.next));
    writer.option(scan.and_then(|scan| scan.end));
}

/// Reads an optional search.
pub(super) fn read_scan(reader: &mut Reader<'_>) -> Result<Option<Scan>, DecodeError> {
    let next = reader.option()?;
    let end = reader.option()?;
    Ok(next.map(|next| Scan { next, end }))
}

fn write_notes(writer: &mut Writer<'_>, notes: &[Note]) {
    for run in notes.chunk_by(|left, right| class(left).is_some() && class(left) == class(right)) {
        match run {
            [Note::Acked { end: None, .. }, ..] => {
                writer.byte(ACKED);
                writer.positions(sorted(run).into_iter());
            }
            [Note::Acked { end: Some(end), .. }, ..] => write_briefs(writer, end, run),
            [Note::Expired { at_ms, .. }, ..] => {
                writer.byte(EXPIRED);
                writer.number(*at_ms);
                writer.positions(sorted(run).into_iter());
            }
            _ => run.iter().for_each(|note| write_note(writer, note)),
        }
    }
}

/// What notes must share to be grouped; `None` for those that stand alone.
fn class(note: &Note) -> Option<(u8, u64, u16, u8)> {
    match note {
        Note::Acked { end: None, .. } => Some((ACKED, 0, 0, 0)),
        Note::Acked { end: Some(end), .. } => {
            Some((ACKED_BRIEF, u64::from(end.attempts), end.status, stage_to_byte(end.stage)))
        }
        Note::Expired { at_ms, .. } => Some((EXPIRED, *at_ms, 0, 0)),
        _ => None,
    }
}

/// The positions of a group in order. A position stands once in a group: it would have to become pending in between.
fn sorted(run: &[Note]) -> Vec<Position> {
    let position = |note: &Note| match note {
        Note::Acked { position, .. } | Note::Expired { position, .. } => Some(*position),
        _ => None,
    };
    let mut positions: Vec<Position> = run.iter().filter_map(position).collect();
    positions.sort_unstable();
    positions.dedup();
    positions
}

fn write_briefs(writer: &mut Writer<'_>, first: &Brief, run: &[Note]) {
    let brief = |note: &Note| match note {
        Note::Acked { position, end: Some(end) } => Some((*position, *end)),
        _ => None,
    };
    let mut briefs: Vec<(Position, Brief)> = run.iter().filter_map(brief).collect();
    briefs.sort_unstable_by_key(|(position, _)| *position);
    writer.byte(ACKED_BRIEF);
    writer.number(u64::from(first.attempts));
    writer.number(u64::from(first.status));
    writer.byte(stage_to_byte(first.stage));
    writer.number(briefs.len() as u64);
    let (mut before, mut at_before) = (0, 0_u64);
    for (position, end) in briefs {
        writer.number(position - before);
        writer.signed(end.at_ms.cast_signed().wrapping_sub(at_before.cast_signed()));
        writer.number(u64::from(end.took_ms));
        (before, at_before) = (position, end.at_ms);
    }
}

fn write_note(writer: &mut Writer<'_>, note: &Note) {
    match note {
        Note::Step(step) => {
            writer.byte(STEP);
            writer.number(step.position);
            let (kind, due_ms) = match step.ended {
                Ended::Ack => (0, 0),
                Ended::Retry { due_ms } => (1, due_ms),
                Ended::Hold { due_ms } => (2, due_ms),
                Ended::Park => (3, 0),
            };
            writer.byte(kind);
            writer.number(due_ms);
            writer.number(u64::from(step.attempts));
            writer.outcome(&step.outcome);
        }
        Note::Redriven(positions) => {
            writer.byte(REDRIVEN);
            writer.positions(positions.iter());
        }
        Note::Purged(positions) => {
            writer.byte(PURGED);
            writer.positions(positions.iter());
        }
        Note::Replayed(positions) => {
            writer.byte(REPLAYED);
            writer.positions(positions.iter());
        }
        Note::Scanned { scan, matched } => {
            writer.byte(SCANNED);
            write_scan(writer, *scan);
            writer.positions(matched.iter());
        }
        // Grouped by the caller.
        Note::Acked { .. } | Note::Expired { .. } => {}
    }
}

fn read_notes(reader: &mut Reader<'_>) -> Result<Vec<Note>, DecodeError> {
    let mut notes = Vec::new();
    while !reader.is_empty() {
        match reader.byte()? {
            ACKED => {
                notes.extend(
                    reader
                        .positions()?
                        .into_iter()
                        .map(|position| Note::Acked { position, end: None }),
                );
            }
            ACKED_BRIEF => read_briefs(reader, &mut notes)?,
            EXPIRED => {
                let at_ms = reader.number()?;
                notes.extend(
                    reader
                        .positions()?
                        .into_iter()
                        .map(|position| Note::Expired { position, at_ms }),
                );
            }
            STEP => notes.push(Note::Step(Box::new(read_step(reader)?))),
            REDRIVEN => notes.push(Note::Redriven(reader.positions()?)),
            PURGED => notes.push(Note::Purged(reader.positions()?)),
            REPLAYED => notes.push(Note::Replayed(reader.positions()?)),
            SCANNED => {
                notes.push(Note::Scanned { scan: read_scan(reader)?, matched: reader.positions()? })
            }
            kind => return Err(DecodeError::Kind(kind)),
        }
    }
    Ok(notes)
}

fn read_briefs(reader: &mut Reader<'_>, notes: &mut Vec<Note>) -> Result<(), DecodeError> {
    let attempts = reader.small()?;
    let status = reader.small()?;
    let stage = stage_from_byte(reader.byte()?)?;
    let count = reader.count()?;
    let (mut position, mut at_ms) = (0_u64, 0_u64);
    notes.reserve(count);
    for _ in 0..count {
        position = position.checked_add(reader.number()?).ok_or(DecodeError::Number)?;
        at_ms = at_ms.cast_signed().wrapping_add(reader.signed()?).cast_unsigned();
        let took_ms = reader.small()?;
        notes.push(Note::Acked {
            position,
            end: Some(Brief { attempts, status, stage, at_ms, took_ms }),
        });
    }
    Ok(())
}

fn read_step(reader: &mut Reader<'_>) -> Result<StepNote, DecodeError> {
    let position = reader.number()?;
    let kind = reader.byte()?;
    let due_ms = reader.number()?;
    let ended = match kind {
        0 => Ended::Ack,
        1 => Ended::Retry { due_ms },
        2 => Ended::Hold { due_ms },
        3 => Ended::Park,
        kind => return Err(DecodeError::Kind(kind)),
    };
    Ok(StepNote { position, ended, attempts: reader.small()?, outcome: reader.outcome()? })
}

#[cfg(test)]
mod tests;
