use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use broker::store::{Outcome, Settle, Settlement};
use broker_event::{EventBuilder, Value};
use bytes::Bytes;
use proptest::prelude::proptest;

use super::*;

#[derive(Debug)]
struct Nobody;

impl Settle for Nobody {
    fn settle(&self, _: Position, _: Settlement, _: Option<Outcome>) {}
}

fn delivery(position: Position, subject: &str) -> Delivery {
    let event =
        EventBuilder::new("1", "/here", "made").subject(subject).data(Bytes::from_static(b"data"));
    Delivery::new(position, UNIX_EPOCH, event.build().unwrap(), Arc::new(Nobody))
}

fn take(lanes: &mut Lanes, position: Position, subject: &str) {
    let delivery = delivery(position, subject);
    let lane = lanes.lane_of(&delivery.event);
    lanes.take(delivery, lane, None);
}

fn started(lanes: &mut Lanes) -> Vec<Held> {
    std::iter::from_fn(|| lanes.start()).collect()
}

fn positions(held: &[Held]) -> Vec<Position> {
    held.iter().map(|held| held.delivery.position).collect()
}

#[test]
fn one_delivery_of_a_key_starts_at_a_time() {
    let mut lanes = Lanes::default();
    for (position, subject) in [(1, "a"), (2, "a"), (3, "b"), (4, "a")] {
        take(&mut lanes, position, subject);
    }
    let heads = started(&mut lanes);
    assert_eq!(positions(&heads), [1, 3]);
    lanes.ended(heads[0].lane.unwrap(), |_| None);
    assert_eq!(positions(&started(&mut lanes)), [2]);
}

#[test]
fn a_head_that_waits_holds_up_its_own_key_only() {
    let mut lanes = Lanes::default();
    let now = Instant::now();
    take(&mut lanes, 1, "a");
    take(&mut lanes, 2, "a");
    let head = lanes.start().unwrap();
    lanes.wait(head, now + Duration::from_secs(5));
    take(&mut lanes, 3, "b");
    assert_eq!(positions(&started(&mut lanes)), [3]);
    lanes.wake(now + Duration::from_secs(4));
    assert!(!lanes.is_ready());
    assert_eq!(lanes.next_due(), Some(now + Duration::from_secs(5)));
    lanes.wake(now + Duration::from_secs(5));
    assert_eq!(positions(&started(&mut lanes)), [1]);
}

#[test]
fn a_lane_outlives_the_release_while_its_head_is_under_way() {
    let mut lanes = Lanes::default();
    take(&mut lanes, 1, "a");
    take(&mut lanes, 2, "a");
    let head = lanes.start().unwrap();
    lanes.release();
    assert_eq!((lanes.held(), lanes.bytes()), (0, 0));
    take(&mut lanes, 2, "a");
    assert!(!lanes.is_ready(), "the head is still under way");
    lanes.ended(head.lane.unwrap(), |_| None);
    assert_eq!(positions(&started(&mut lanes)), [2]);
}

#[test]
fn the_partition_key_comes_before_the_subject_and_no_key_is_no_lane() {
    let lanes = Lanes::default();
    let keyed = |key: Option<Value>, subject: Option<&str>| {
        let mut event = EventBuilder::new("1", "/here", "made");
        if let Some(subject) = subject {
            event = event.subject(subject);
        }
        let mut event = event.build().unwrap();
        if let Some(key) = key {
            event.set_extension("partitionkey", key);
        }
        lanes.lane_of(&event)
    };
    assert_eq!(keyed(Some(Value::from("k")), Some("s")), keyed(None, Some("k")));
    assert_eq!(keyed(Some(Value::Integer(7)), None), keyed(Some(Value::from("7")), None));
    assert_ne!(keyed(None, Some("s")), keyed(None, Some("t")));
    assert_eq!(keyed(None, None), None);
}

proptest! {
    /// Whatever is taken, ended or made to wait, in any order: each key's deliveries end in the order they came.
    #[test]
    fn keys_keep_their_order(steps: Vec<(u8, u8)>) {
        let mut lanes = Lanes::default();
        let mut now = Instant::now();
        let mut running: Vec<Held> = Vec::new();
        let mut ended: HashMap<String, Vec<Position>> = HashMap::new();
        let mut next = 0;
        for (step, choice) in steps {
            match step % 4 {
                0 => {
                    take(&mut lanes, next, &format!("key{}", choice % 5));
                    next += 1;
                }
                1 => running.extend(lanes.start()),
                2 if !running.is_empty() => {
                    let held = running.swap_remove(usize::from(choice) % running.len());
                    lanes.ended(held.lane.unwrap(), |_| None);
                    ended.entry(held.delivery.event.subject().unwrap().to_owned()).or_default().push(held.delivery.position);
                }
                3 if !running.is_empty() => {
                    let held = running.swap_remove(usize::from(choice) % running.len());
                    lanes.wait(held, now + Duration::from_secs(u64::from(choice)));
                }
                _ => {
                    now += Duration::from_secs(u64::from(choice));
                    lanes.wake(now);
                }
            }
        }
        for positions in ended.values() {
            assert!(positions.is_sorted(), "{positions:?}");
        }
    }
}
