//! Whatever happens in whatever order, the parts of the state agree and no event is forgotten.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;
use crate::store::memory::line::{Line, Next};

const NAMES: [&str; 3] = ["default/a", "default/b", "default/c"];

#[derive(Clone, Copy, Debug)]
enum Op {
    Append(usize),
    /// Hands a selector over that wants everything for every subscription there is.
    Route,
    Subscribe(usize, bool, Option<u64>, bool),
    LetGo(usize),
    Unsubscribe(usize),
    Take(usize, usize),
    /// Settles one of the deliveries in somebody's hands.
    Settle(usize, u8),
    Redrive,
    Purge,
    Replay(usize),
    Pass(u64),
}

fn op() -> impl Strategy<Value = Op> {
    let name = 0..NAMES.len();
    prop_oneof![
        4 => (1..4_usize).prop_map(Op::Append),
        2 => Just(Op::Route),
        3 => (name.clone(), any::<bool>(), proptest::option::of(0..6_u64), any::<bool>())
            .prop_map(|(name, ordered, max, earliest)| Op::Subscribe(name, ordered, max, earliest)),
        1 => name.clone().prop_map(Op::LetGo),
        1 => name.clone().prop_map(Op::Unsubscribe),
        4 => (name.clone(), 1..4_usize).prop_map(|(name, max)| Op::Take(name, max)),
        8 => (any::<usize>(), 0..5_u8).prop_map(|(which, how)| Op::Settle(which, how)),
        1 => Just(Op::Redrive),
        1 => Just(Op::Purge),
        1 => name.prop_map(Op::Replay),
        2 => (0..50_u64).prop_map(Op::Pass),
    ]
}

/// The state and what the test knows of it.
#[derive(Default)]
struct World {
    state: State,
    now_ms: u64,
    sent: usize,
    lines: BTreeMap<usize, (LineId, Slot)>,
    in_flight: Vec<(LineId, Position)>,
}

impl World {
    fn new() -> Self {
        let mut world = Self::default();
        world.state.declare(&topic(), TopicOptions { budget: u64::MAX });
        world
    }

    fn apply(&mut self, op: Op) {
        let now = self.now_ms;
        match op {
            Op::Append(count) => {
                let events = heavy(self.sent..self.sent + count, 1);
                self.sent += count;
                self.state.append(&topic(), events, |budget| budget, now).unwrap();
            }
            Op::Route => {
                let slots = self.lines.values().map(|(_, slot)| *slot).collect();
                self.state.route(&topic(), Arc::new(All(slots)), now).unwrap();
            }
            Op::Subscribe(name, ordered, max_backlog, earliest) => {
                let start = if earliest { Start::Earliest } else { Start::Now };
                let options = SubscribeOptions { start, ordered, max_age: None, max_backlog };
                match self.state.subscribe(&topic(), NAMES[name], &options, now) {
                    Ok(seat) => drop(self.lines.insert(name, (seat.line, seat.slot))),
                    Err(error) => assert_eq!(error, StoreError::Held(NAMES[name].to_owned())),
                }
            }
            Op::LetGo(name) => {
                if let Some((line, _)) = self.lines.get(&name) {
                    self.state.let_go(*line);
                }
            }
            Op::Unsubscribe(name) => {
                let there = self.lines.remove(&name).is_some();
                assert_eq!(self.state.unsubscribe(&topic(), NAMES[name]).is_ok(), there);
            }
            Op::Take(name, max) => self.take(name, max),
            Op::Settle(which, how) => self.settle(which, how),
            Op::Redrive => drop(self.state.redrive(&ParkedSelection::default())),
            Op::Purge => drop(self.state.purge(&ParkedSelection::default())),
            Op::Replay(name) => {
                drop(self.state.replay(&topic(), NAMES[name], Start::Earliest, now));
            }
            Op::Pass(ms) => self.now_ms += ms,
        }
    }

    fn take(&mut self, name: usize, max: usize) {
        let Some((line, _)) = self.lines.get(&name) else { return };
        if let Next::Deliver(handed) = self.state.next(*line, max, self.now_ms).unwrap() {
            assert!((1..=max).contains(&handed.len()));
            for handed in handed {
                let delivery = (*line, handed.position);
                assert!(!self.in_flight.contains(&delivery), "it is in somebody's hands already");
                self.in_flight.push(delivery);
            }
        }
    }

    fn settle(&mut self, which: usize, how: u8) {
        if self.in_flight.is_empty() {
            return;
        }
        let which = which % self.in_flight.len();
        let (line, position) = self.in_flight[which];
        let at = time(self.now_ms + 20);
        let settlement = match how {
            0 => Settlement::Ack,
            1 => Settlement::Retry { at },
            2 => Settlement::Hold { at },
            3 => Settlement::Park,
            _ => Settlement::Release,
        };
        self.state.settle(line, position, settlement, Some(Outcome::default()));
        if how != 2 {
            self.in_flight.swap_remove(which);
        }
    }

    fn check(&self) {
        self.state.archive.check();
        self.state.lines.values().for_each(Line::check);
        let needed: BTreeSet<Position> = self.state.lines.values().flat_map(Line::needs).collect();
        assert!(needed.iter().all(|position| self.state.archive.get(*position).is_some()));
        let bytes: u64 = needed.iter().map(|position| self.state.archive.weight(*position)).sum();
        assert_eq!(bytes, self.state.archive.needed(0), "kept for those who need it only");
    }
}

proptest! {
    #[test]
    fn the_parts_agree_whatever_happens(ops in proptest::collection::vec(op(), 1..120)) {
        let mut world = World::new();
        for op in ops {
            world.apply(op);
            world.check();
        }
    }
}
