use async_nats::{Message, Subject};
use bytes::Bytes;

use super::{BATCH, Backlog, MAX_WAITING, OVERHEAD, condition};
use crate::emit::EmitError;
use crate::nats::address::Address;
use crate::source::fake::World;

fn message(payload: usize) -> Message {
    Message {
        subject: Subject::from_static("a"),
        reply: None,
        payload: vec![b'x'; payload].into(),
        headers: None,
        status: None,
        description: None,
        length: payload + 1,
    }
}

fn backlog() -> Backlog {
    Backlog::new(&Address::parse("nats").unwrap())
}

#[tokio::test]
async fn what_the_sink_does_not_take_in_time_is_dropped_and_counted() {
    let world = World::new();
    let (ctx, _) = world.context("NatsSource");
    let mut backlog = backlog();
    let most = MAX_WAITING / (2 + OVERHEAD);
    for _ in 0..most + 7 {
        backlog.receive(Some(message(1)), &ctx).unwrap();
    }
    assert_eq!((backlog.waiting.len(), backlog.dropped), (most, 7));
    assert_eq!(backlog.batch(BATCH).unwrap().unwrap().len(), BATCH);
    backlog.receive(Some(message(1)), &ctx).unwrap();
    assert_eq!(backlog.dropped, 7, "there is room again");
}

#[tokio::test]
async fn one_message_fits_however_large_it_is() {
    let world = World::new();
    let (ctx, _) = world.context("NatsSource");
    let mut backlog = backlog();
    let large = MAX_WAITING + 1;
    backlog.receive(Some(message(large)), &ctx).unwrap();
    backlog.receive(Some(message(1)), &ctx).unwrap();
    assert_eq!((backlog.waiting.len(), backlog.dropped), (1, 1));
    assert_eq!(backlog.batch(BATCH).unwrap().unwrap()[0].data().map(Bytes::len), Some(large));
    assert_eq!(backlog.waiting_bytes, 0);
}

#[tokio::test]
async fn a_batch_is_bounded_by_bytes_but_never_empty() {
    let world = World::new();
    let (ctx, _) = world.context("NatsSource");
    let mut backlog = backlog();
    for payload in [3 << 20, 3 << 20, 5 << 20] {
        backlog.receive(Some(message(payload)), &ctx).unwrap();
    }
    for _ in 0..3 {
        assert_eq!(backlog.batch(BATCH).unwrap().unwrap().len(), 1);
        backlog.handing.clear();
    }
    assert!(backlog.batch(BATCH).unwrap().is_none());
}

#[tokio::test]
async fn what_is_left_at_the_end_is_handed_over_once_more() {
    let world = World::new();
    let (ctx, _) = world.context("NatsSource");
    let mut backlog = backlog();
    for _ in 0..BATCH + 10 {
        backlog.receive(Some(message(1)), &ctx).unwrap();
    }
    let interrupted = backlog.batch(BATCH).unwrap().unwrap();
    ctx.stop.cancel();
    backlog.hand_over_rest(&ctx).await;
    let taken = world.recorder.taken();
    assert_eq!(taken.len(), BATCH + 10);
    assert_eq!(taken[..BATCH], interrupted[..]);
}

#[tokio::test(start_paused = true)]
async fn a_sink_that_is_away_does_not_hold_up_the_end() {
    let world = World::new();
    let (ctx, _) = world.context("NatsSource");
    world.recorder.always(Some(EmitError::Unavailable { reason: "away".to_owned() }));
    let started = tokio::time::Instant::now();
    let mut left = backlog();
    left.receive(Some(message(1)), &ctx).unwrap();
    left.hand_over_rest(&ctx).await;
    assert_eq!(started.elapsed(), super::LAST_OF_CONNECTION);
    ctx.stop.cancel();
    let started = tokio::time::Instant::now();
    let mut left = backlog();
    left.receive(Some(message(1)), &ctx).unwrap();
    left.hand_over_rest(&ctx).await;
    assert!(started.elapsed() <= super::LAST);
}

#[test]
fn the_condition_tells_what_core_nats_promises_and_what_was_lost() {
    let good = condition(0);
    assert!(good.holds);
    assert_eq!(good.reason, "AtMostOnce");
    let bad = condition(3);
    assert!(!bad.holds);
    assert_eq!(bad.message, "3 messages came faster than the sink took them, and were dropped");
}
