//! What is known about each source: the board that sources write on and reconcilers read.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde_json::Value;
use tokio::sync::watch;

/// From so many waiting messages on a source counts as behind: fewer are handed over in a moment.
const MUCH: u64 = 1000;

/// Which source: unique in a mesh.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Key {
    /// Namespace of the resource.
    pub namespace: Arc<str>,
    /// Name of the resource.
    pub name: Arc<str>,
    /// Kind of the resource, one of [`crate::ALL`].
    pub kind: &'static str,
}

/// What a source is doing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum State {
    /// It was started and has not said yet that it works.
    #[default]
    Starting,
    /// It works.
    Running,
    /// It failed and will be started again after a wait.
    Waiting,
    /// It failed and starting it again cannot help; its configuration has to change.
    Failed,
    /// What it had made upstream is removed; its resource may go.
    Retired,
}

/// A statement about one aspect of a source, in the manner of Kubernetes' conditions: good when it holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Condition {
    /// Which aspect (`type` in a resource's status), one CamelCase word.
    pub name: Cow<'static, str>,
    /// Whether it holds.
    pub holds: bool,
    /// Why, as one CamelCase word.
    pub reason: Cow<'static, str>,
    /// Why, as a sentence.
    pub message: String,
}

impl Condition {
    /// Whether the sink takes the source's events.
    pub const DELIVERING: &'static str = "Delivering";
    /// Whether every tick of a schedule was turned into an event.
    pub const PUNCTUAL: &'static str = "Punctual";
    /// Whether the sink took every event, so that none had to be kept aside.
    pub const NOTHING_PARKED: &'static str = "NothingParked";
    /// Whether what waits upstream is little.
    pub const CAUGHT_UP: &'static str = "CaughtUp";

    /// A condition that holds.
    #[must_use]
    pub fn good(name: &'static str, reason: &'static str) -> Self {
        Self { name: name.into(), holds: true, reason: reason.into(), message: String::new() }
    }

    /// A condition that does not hold, and why.
    #[must_use]
    pub fn bad(name: &'static str, reason: &'static str, message: String) -> Self {
        Self { name: name.into(), holds: false, reason: reason.into(), message }
    }
}

/// Everything known about one source.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Status {
    /// What it is doing.
    pub state: State,
    /// Why it is [`State::Waiting`] or [`State::Failed`], as one CamelCase word; empty otherwise.
    pub reason: &'static str,
    /// The same as a sentence.
    pub message: String,
    /// How often it was started again after a failure.
    pub restarts: u64,
    /// What it reported, at most one condition a name.
    pub conditions: Vec<Condition>,
    /// What it has beside in the status of its resource, by the field's name, as the number of a web hook.
    pub facts: BTreeMap<&'static str, Value>,
}

/// Lets a running source write its own status.
#[derive(Clone)]
pub struct Reporter {
    board: Arc<Board>,
    key: Key,
    /// Which start of the source this reporter belongs to; a predecessor that lingers must not write over it.
    generation: u64,
}

/// All statuses, and a number that grows with each change.
#[derive(Debug)]
pub(crate) struct Board {
    entries: Mutex<BTreeMap<Key, (u64, Status)>>,
    revision: watch::Sender<u64>,
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}/{}", self.kind, self.namespace, self.name)
    }
}

impl Reporter {
    /// Says that the source works.
    pub fn running(&self) {
        self.update(|status| {
            status.state = State::Running;
            status.reason = "";
            status.message.clear();
        });
    }

    /// Says that nothing is left of it upstream.
    pub(crate) fn retired(&self) {
        self.update(|status| status.state = State::Retired);
    }

    /// Sets the condition of that name. Cheap when it is set already, so a source may say it with each event.
    pub fn condition(&self, condition: Condition) {
        let known = {
            let entries = self.board.entries();
            let status = entries.get(&self.key).map(|(_, status)| status);
            status.is_some_and(|status| status.conditions.contains(&condition))
        };
        if known {
            return;
        }
        self.update(|status| {
            match status.conditions.iter_mut().find(|have| have.name == condition.name) {
                Some(have) => *have = condition,
                None => status.conditions.push(condition),
            }
        });
    }

    /// Says what a field of the resource's status is.
    pub fn fact(&self, field: &'static str, value: impl Into<Value>) {
        let value = value.into();
        self.update(|status| {
            status.facts.insert(field, value);
        });
    }

    /// Says how many messages wait upstream. The condition tells the first digit of many, so that it does not change with
    /// each message.
    pub(crate) fn lag(&self, waiting: u64) {
        if waiting < MUCH {
            self.condition(Condition::good(Condition::CAUGHT_UP, "CaughtUp"));
        } else {
            let magnitude = 10_u64.pow(waiting.ilog10());
            let message = format!("{} messages or more wait", waiting / magnitude * magnitude);
            self.condition(Condition::bad(Condition::CAUGHT_UP, "Behind", message));
        }
    }

    /// Changes the status, if it is still this start's to change.
    pub(crate) fn update(&self, change: impl FnOnce(&mut Status)) {
        let mut entries = self.board.entries();
        let Some((generation, status)) = entries.get_mut(&self.key) else { return };
        if *generation != self.generation {
            return;
        }
        let before = status.clone();
        change(status);
        if *status != before {
            drop(entries);
            self.board.changed();
        }
    }
}

impl fmt::Debug for Reporter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Reporter({})", self.key)
    }
}

impl Board {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self { entries: Mutex::default(), revision: watch::Sender::new(0) })
    }

    /// Opens (or begins anew) the entry of `key` and returns who may write it.
    pub(crate) fn open(self: &Arc<Self>, key: &Key, generation: u64) -> Reporter {
        self.entries().insert(key.clone(), (generation, Status::default()));
        self.changed();
        Reporter { board: Arc::clone(self), key: key.clone(), generation }
    }

    pub(crate) fn remove(&self, key: &Key) {
        self.entries().remove(key);
        self.changed();
    }

    pub(crate) fn read(&self) -> BTreeMap<Key, Status> {
        self.entries().iter().map(|(key, (_, status))| (key.clone(), status.clone())).collect()
    }

    pub(crate) fn revision(&self) -> u64 {
        *self.revision.borrow()
    }

    /// Waits until the revision is no longer `seen`.
    pub(crate) async fn changed_since(&self, seen: u64) -> u64 {
        let mut revisions = self.revision.subscribe();
        // The sender is a field of `self`, so the wait cannot fail.
        revisions.wait_for(|now| *now != seen).await.map_or(seen, |now| *now)
    }

    fn changed(&self) {
        self.revision.send_modify(|revision| *revision += 1);
    }

    fn entries(&self) -> MutexGuard<'_, BTreeMap<Key, (u64, Status)>> {
        // Nothing panics while the lock is held, and a status half written would still be worth reading.
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
pub(crate) mod fake {
    //! A board with one entry, for tests of single sources.

    use std::sync::Arc;

    use super::{Board, Key, Reporter, Status};

    /// The key every test of a single source uses.
    pub(crate) fn key(kind: &'static str) -> Key {
        Key { namespace: "default".into(), name: "one".into(), kind }
    }

    /// A reporter, and the board it writes on.
    pub(crate) fn reporter(kind: &'static str) -> (Reporter, Arc<Board>) {
        let board = Board::new();
        (board.open(&key(kind), 1), board)
    }

    /// The only status on the board.
    pub(crate) fn only(board: &Board) -> Status {
        board.read().into_values().next().expect("one entry")
    }
}

#[cfg(test)]
mod tests {
    use super::{Board, Condition, State, fake};

    #[test]
    fn a_condition_replaces_the_one_of_its_name() {
        let (reporter, board) = fake::reporter("Ping");
        reporter.condition(Condition::bad(Condition::DELIVERING, "Busy", "full".to_owned()));
        reporter.condition(Condition::good(Condition::PUNCTUAL, "NoTickMissed"));
        reporter.condition(Condition::good(Condition::DELIVERING, "Delivered"));
        let conditions = fake::only(&board).conditions;
        assert_eq!(conditions.len(), 2);
        assert!(conditions.iter().all(|condition| condition.holds));
    }

    #[test]
    fn a_predecessor_that_lingers_does_not_write() {
        let board = Board::new();
        let key = fake::key("Ping");
        let old = board.open(&key, 1);
        let new = board.open(&key, 2);
        old.running();
        assert_eq!(fake::only(&board).state, State::Starting);
        new.running();
        assert_eq!(fake::only(&board).state, State::Running);
        board.remove(&key);
        new.running();
        assert!(board.read().is_empty());
    }

    #[tokio::test]
    async fn changes_are_told_and_only_changes() {
        let (reporter, board) = fake::reporter("Ping");
        let seen = board.revision();
        reporter.running();
        let now = board.changed_since(seen).await;
        assert_ne!(now, seen);
        reporter.running();
        assert_eq!(board.revision(), now);
    }
}
