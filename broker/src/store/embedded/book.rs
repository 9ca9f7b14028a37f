//! What a subscription must not forget: the durable half of its state machine, changed only by [`Note`]s and routing.
//!
//! Living and recovering are the same function: [`Book::apply`] runs when something happens and again when the journal
//! is read back. Every note sets, none adds, so applying a stretch of notes twice in order ends where applying it once
//! does; a snapshot may therefore be taken while the store runs.

use std::collections::BTreeMap;
use std::sync::Arc;

use roaring::RoaringTreemap;

use crate::store::{Outcome, Position, Stage};

/// Letters and waiting retries of one subscription that keep the whole text of their failure.
/// At 1.5 KiB each that is 6 MiB; those beyond keep the status and the first words, the journal's trail has the rest.
const WHOLE_TEXTS: usize = 4096;

/// Bytes of the reason that are kept beyond [`WHOLE_TEXTS`].
const SHORT_REASON: usize = 64;

/// Distinct texts remembered for sharing: a dead subscriber fails in one or two ways, not in many.
const SHARED_TEXTS: usize = 4;

/// Something that happened to a subscription and is recorded in the journal.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Note {
    /// Needed no more; `end` when something was sent.
    Acked {
        /// Which event.
        position: Position,
        /// How the attempt ended, where nothing needs words.
        end: Option<Brief>,
    },
    /// An attempt ended with something to tell.
    Step(Box<StepNote>),
    /// It passed `max-age` or `max-backlog`.
    Expired {
        /// Which event.
        position: Position,
        /// When, milliseconds since the epoch.
        at_ms: u64,
    },
    /// Parked letters go out again.
    Redriven(RoaringTreemap),
    /// Parked letters are forgotten.
    Purged(RoaringTreemap),
    /// Kept events go out again.
    Replayed(RoaringTreemap),
    /// The search for earlier events came to `scan` (`None`: its end) and found `matched`.
    Scanned {
        /// What is left to search.
        scan: Option<Scan>,
        /// What was found.
        matched: RoaringTreemap,
    },
}

/// The end of an attempt that needs no words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Brief {
    pub(super) attempts: u32,
    pub(super) status: u16,
    pub(super) stage: Stage,
    pub(super) at_ms: u64,
    pub(super) took_ms: u32,
}

/// An attempt in full.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct StepNote {
    pub(super) position: Position,
    pub(super) ended: Ended,
    /// Attempts made, this one included.
    pub(super) attempts: u32,
    pub(super) outcome: Outcome,
}

/// What became of a delivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ended {
    Ack,
    Retry { due_ms: u64 },
    Hold { due_ms: u64 },
    Park,
}

/// A search through events accepted before the subscription could be routed to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Scan {
    /// Everything before is decided.
    pub(super) next: Position,
    /// From here on the router decides; unknown until a selector knows the subscription.
    pub(super) end: Option<Position>,
}

/// An outcome as it is held in memory: equal texts are shared.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Remembered {
    status: u16,
    stage: Stage,
    at_ms: u64,
    took_ms: u32,
    text: Option<Arc<Text>>,
}

#[derive(Clone, Debug, PartialEq)]
struct Text {
    reason: Box<str>,
    body: Box<[u8]>,
}

/// A pending event that was tried.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Attempted {
    pub(super) attempts: u32,
    pub(super) due_ms: u64,
    pub(super) last: Remembered,
}

/// An event kept aside.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Letter {
    pub(super) attempts: u32,
    pub(super) last: Remembered,
}

/// The durable state of a subscription.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Book {
    /// Nothing before was ever meant for it.
    pub(super) from: Position,
    /// Earlier events still to be searched.
    pub(super) scan: Option<Scan>,
    pending: RoaringTreemap,
    pending_len: u64,
    attempted: BTreeMap<Position, Attempted>,
    parked: BTreeMap<Position, Letter>,
    /// After a restart: settled by the journal, though the router has not come there again.
    settled: RoaringTreemap,
    texts: Texts,
}

/// The parts of a [`Book`] as a snapshot holds them.
#[derive(Debug, Default)]
pub(super) struct Pages {
    pub(super) from: Position,
    pub(super) scan: Option<Scan>,
    pub(super) pending: RoaringTreemap,
    pub(super) settled: RoaringTreemap,
    pub(super) attempted: Vec<(Position, u32, u64, Outcome)>,
    pub(super) parked: Vec<(Position, u32, Outcome)>,
}

impl Remembered {
    /// The outcome in full.
    pub(super) fn outcome(&self) -> Outcome {
        let (reason, body) = match &self.text {
            Some(text) => (text.reason.to_string(), text.body.to_vec()),
            None => (String::new(), Vec::new()),
        };
        Outcome {
            status: self.status,
            at_ms: self.at_ms,
            took_ms: self.took_ms,
            stage: self.stage,
            reason,
            body,
        }
    }
}

impl Book {
    /// The book of a subscription that starts at `from` and searches earlier events as `scan` says.
    pub(super) fn new(from: Position, scan: Option<Scan>) -> Self {
        Self { from, scan, ..Self::default() }
    }

    /// The book a snapshot holds.
    pub(super) fn from_pages(pages: Pages) -> Self {
        let mut book = Self::new(pages.from, pages.scan);
        book.pending_len = pages.pending.len();
        book.pending = pages.pending;
        book.settled = pages.settled;
        for (position, attempts, due_ms, outcome) in pages.attempted {
            book.add(position);
            let last = book.remember(&outcome);
            book.attempted.insert(position, Attempted { attempts, due_ms, last });
        }
        for (position, attempts, outcome) in pages.parked {
            book.drop_pending(position);
            let last = book.remember(&outcome);
            book.parked.insert(position, Letter { attempts, last });
        }
        book
    }

    /// Events to be delivered, those in flight included.
    pub(super) fn pending(&self) -> &RoaringTreemap {
        &self.pending
    }

    /// How many [`Self::pending`] are; the bitmap would have to count.
    pub(super) fn pending_len(&self) -> u64 {
        self.pending_len
    }

    /// Pending events that were tried.
    pub(super) fn attempted(&self) -> &BTreeMap<Position, Attempted> {
        &self.attempted
    }

    /// Parked letters.
    pub(super) fn parked(&self) -> &BTreeMap<Position, Letter> {
        &self.parked
    }

    /// What the journal settled ahead of the router.
    pub(super) fn settled(&self) -> &RoaringTreemap {
        &self.settled
    }

    /// The router has passed everything the journal settled.
    pub(super) fn forget_settled(&mut self) {
        self.settled = RoaringTreemap::new();
    }

    /// Adds to `live` every position whose event must stay on disk.
    pub(super) fn add_live(&self, live: &mut RoaringTreemap) {
        *live |= &self.pending;
        live.extend(self.parked.keys().copied());
    }

    /// The selector gave the event at `position` to the subscription. Answers whether it is new to it.
    pub(super) fn route(&mut self, position: Position) -> bool {
        let searched = self.scan.is_some_and(|scan| scan.end.is_none_or(|end| position < end));
        if position < self.from || searched {
            return false;
        }
        self.admit(position)
    }

    /// Makes `position` pending unless it already is, is parked, or was settled before a restart.
    pub(super) fn admit(&mut self, position: Position) -> bool {
        if !self.settled.is_empty() && self.settled.contains(position) {
            return false;
        }
        if !self.parked.is_empty() && self.parked.contains_key(&position) {
            return false;
        }
        self.add(position)
    }

    /// Lets `note` take effect.
    pub(super) fn apply(&mut self, note: &Note) {
        match note {
            Note::Acked { position, .. } | Note::Expired { position, .. } => self.settle(*position),
            Note::Step(step) => self.step(step),
            Note::Redriven(positions) => {
                for position in positions {
                    if self.parked.remove(&position).is_some() {
                        self.add(position);
                    }
                }
            }
            Note::Purged(positions) => {
                for position in positions {
                    self.parked.remove(&position);
                }
            }
            Note::Replayed(positions) => {
                for position in positions {
                    self.parked.remove(&position);
                    self.add(position);
                }
            }
            Note::Scanned { scan, matched } => {
                self.scan = *scan;
                for position in matched {
                    self.admit(position);
                }
            }
        }
    }

    /// Lets a note of the journal take effect again, remembering what it settles: the router comes there once more.
    pub(super) fn recover(&mut self, note: &Note) {
        match note {
            Note::Acked { position, .. } | Note::Expired { position, .. } => {
                self.settled.insert(*position);
            }
            Note::Step(step) if step.ended == Ended::Ack => {
                self.settled.insert(step.position);
            }
            Note::Purged(positions) => self.settled |= positions,
            _ => {}
        }
        self.apply(note);
    }

    /// Panics when the parts contradict each other.
    #[cfg(test)]
    pub(super) fn check(&self) {
        assert_eq!(self.pending.len(), self.pending_len, "the count follows the bitmap");
        assert!(
            self.attempted.keys().all(|position| self.pending.contains(*position)),
            "only pending events are tried"
        );
        assert!(
            self.parked.keys().all(|position| !self.pending.contains(*position)),
            "a parked event is not pending"
        );
    }

    fn step(&mut self, step: &StepNote) {
        let position = step.position;
        match step.ended {
            Ended::Ack => self.settle(position),
            Ended::Retry { due_ms } | Ended::Hold { due_ms } => {
                self.parked.remove(&position);
                self.add(position);
                let last = self.remember(&step.outcome);
                self.attempted
                    .insert(position, Attempted { attempts: step.attempts, due_ms, last });
            }
            Ended::Park => {
                self.drop_pending(position);
                let last = self.remember(&step.outcome);
                self.parked.insert(position, Letter { attempts: step.attempts, last });
            }
        }
    }

    fn settle(&mut self, position: Position) {
        self.drop_pending(position);
        if !self.parked.is_empty() {
            self.parked.remove(&position);
        }
    }

    fn add(&mut self, position: Position) -> bool {
        let new = self.pending.insert(position);
        self.pending_len += u64::from(new);
        new
    }

    fn drop_pending(&mut self, position: Position) {
        self.pending_len -= u64::from(self.pending.remove(position));
        if !self.attempted.is_empty() {
            self.attempted.remove(&position);
        }
    }

    fn remember(&mut self, outcome: &Outcome) -> Remembered {
        let whole = self.parked.len() + self.attempted.len() < WHOLE_TEXTS;
        Remembered {
            status: outcome.status,
            stage: outcome.stage,
            at_ms: outcome.at_ms,
            took_ms: outcome.took_ms,
            text: self.texts.share(outcome, whole),
        }
    }
}

/// The last few distinct texts, newest first.
#[derive(Clone, Debug, Default)]
struct Texts(Vec<Arc<Text>>);

impl PartialEq for Texts {
    /// A cache: what it holds changes nothing.
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Texts {
    fn share(&mut self, outcome: &Outcome, whole: bool) -> Option<Arc<Text>> {
        if outcome.reason.is_empty() && outcome.body.is_empty() {
            return None;
        }
        let same =
            |text: &&Arc<Text>| *text.reason == *outcome.reason && *text.body == *outcome.body;
        if let Some(text) = self.0.iter().find(same) {
            return Some(Arc::clone(text));
        }
        let text = if whole {
            Text {
                reason: cut(&outcome.reason, Outcome::MAX_REASON).into(),
                body: outcome.body.get(..Outcome::MAX_BODY).unwrap_or(&outcome.body).into(),
            }
        } else {
            Text { reason: cut(&outcome.reason, SHORT_REASON).into(), body: Box::default() }
        };
        let text = Arc::new(text);
        self.0.truncate(SHARED_TEXTS - 1);
        self.0.insert(0, Arc::clone(&text));
        Some(text)
    }
}

/// The longest prefix of at most `max` bytes that ends between characters.
fn cut(text: &str, max: usize) -> &str {
    text.get(..text.floor_char_boundary(max)).unwrap_or(text)
}
