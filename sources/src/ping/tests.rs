//! Ticks become events, survive outages of the sink, and are accounted for when they do not.

use std::sync::Arc;
use std::time::Duration;

use broker_event::Event;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::PingSource;
use crate::clock::Clock;
use crate::emit::EmitError;
use crate::source::fake::World;
use crate::source::{Source, SourceError};
use crate::status::{Board, Condition, Status, fake};

/// One run of a source.
struct Run {
    task: JoinHandle<Result<(), SourceError>>,
    stop: CancellationToken,
    board: Arc<Board>,
}

fn starting_at(start: &str) -> World {
    World { clock: Clock::following_tokio(start.parse().unwrap()), ..World::new() }
}

fn begin(world: &World, source: PingSource) -> Run {
    let (context, board) = world.context("PingSource");
    let stop = context.stop.clone();
    Run { task: TaskTracker::new().spawn(source.run(context)), stop, board }
}

/// The times of the first `count` events.
async fn times(world: &World, count: usize) -> Vec<String> {
    let taken = world.recorder.wait_for(count).await;
    taken.iter().take(count).map(|event| event.time().unwrap().to_owned()).collect()
}

impl Run {
    async fn stop(self) {
        self.stop.cancel();
        self.task.await.unwrap().unwrap();
    }

    fn status(&self) -> Status {
        fake::only(&self.board)
    }

    /// The condition about missed ticks.
    fn punctual(&self) -> Option<Condition> {
        let conditions = self.status().conditions;
        conditions.into_iter().find(|condition| condition.name == Condition::PUNCTUAL)
    }
}

fn ping(schedule: &str) -> PingSource {
    PingSource { schedule: schedule.to_owned(), ..PingSource::default() }
}

async fn one_event(source: PingSource) -> Event {
    let world = starting_at("2025-01-01T00:00:00.4Z");
    let run = begin(&world, source);
    let event = world.recorder.wait_for(1).await.remove(0);
    run.stop().await;
    event
}

async fn refusal(source: PingSource) -> String {
    let error = begin(&starting_at("2025-01-01T00:00:00Z"), source).task.await.unwrap();
    let error = error.unwrap_err();
    assert!(!error.is_retryable());
    error.to_string()
}

fn full() -> EmitError {
    EmitError::Busy { reason: "the store is full".to_owned(), retry_after: None }
}

#[tokio::test(start_paused = true)]
async fn an_event_has_the_attributes_of_knatives() {
    let event = one_event(PingSource {
        content_type: "application/json".to_owned(),
        data: "{\"a\": 1}".to_owned(),
        ..ping("* * * * * *")
    })
    .await;
    assert_eq!(event.ty(), "dev.knative.sources.ping");
    assert_eq!(event.source(), "/apis/v1/namespaces/default/pingsources/one");
    assert_eq!(event.time(), Some("2025-01-01T00:00:01Z"));
    assert_eq!(event.data_content_type(), Some("application/json"));
    assert_eq!(event.data().unwrap(), "{\"a\": 1}");
    assert_eq!(event.subject(), None);
    assert_eq!(uuid::Uuid::parse_str(event.id()).unwrap().get_version_num(), 8);
}

#[tokio::test(start_paused = true)]
async fn data_may_be_base64_or_absent() {
    let encoded = PingSource { data_base64: "AP\n8=\n".to_owned(), ..ping("* * * * * *") };
    assert_eq!(one_event(encoded).await.data().unwrap().as_ref(), [0, 255]);
    assert_eq!(one_event(ping("* * * * * *")).await.data(), None);
}

#[tokio::test(start_paused = true)]
async fn what_cannot_work_is_refused_with_the_fields_name() {
    assert!(refusal(ping("x")).await.starts_with("schedule: "));
    let both =
        PingSource { data: "a".to_owned(), data_base64: "YQ==".to_owned(), ..ping("* * * * *") };
    assert_eq!(refusal(both).await, "data, dataBase64: only one of them can be set");
    let broken = PingSource { data_base64: "%".to_owned(), ..ping("* * * * *") };
    assert!(refusal(broken).await.starts_with("dataBase64: not base64"));
}

#[tokio::test(start_paused = true)]
async fn ticks_come_when_they_are_due_and_differ() {
    let world = starting_at("2025-01-01T00:00:30Z");
    let run = begin(&world, ping("* * * * *"));
    let times = times(&world, 3).await;
    assert_eq!(times, ["2025-01-01T00:01:00Z", "2025-01-01T00:02:00Z", "2025-01-01T00:03:00Z"]);
    let late = world.clock.now().duration_since("2025-01-01T00:03:00Z".parse().unwrap());
    assert!(late.as_millis() < 50, "{late}");
    let taken = world.recorder.taken();
    assert_ne!(taken[0].id(), taken[1].id());
    run.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_tick_is_sent_until_it_is_stored() {
    let world = starting_at("2025-01-01T00:00:30Z");
    world.recorder.fail_with(std::iter::repeat_n(full(), 5));
    let run = begin(&world, ping("* * * * *"));
    assert_eq!(times(&world, 2).await, ["2025-01-01T00:01:00Z", "2025-01-01T00:02:00Z"]);
    assert!(run.punctual().is_none_or(|condition| condition.holds));
    run.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_pause_that_the_sink_asks_for_is_kept() {
    let world = starting_at("2025-01-01T00:00:30Z");
    let retry_after = Some(Duration::from_secs(20));
    let busy = EmitError::Busy { reason: "full".to_owned(), retry_after };
    world.recorder.fail_with([busy]);
    let run = begin(&world, ping("* * * * *"));
    times(&world, 1).await;
    assert!(world.clock.now() >= "2025-01-01T00:01:20Z".parse().unwrap());
    run.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_short_outage_of_the_sink_loses_no_tick() {
    let world = starting_at("2025-01-01T00:00:00Z");
    world.recorder.always(Some(full()));
    let run = begin(&world, ping("*/5 * * * * *"));
    world.clock.sleep_until("2025-01-01T00:00:22Z".parse().unwrap()).await;
    world.recorder.always(None);
    let times = times(&world, 5).await;
    let seconds: Vec<_> = times.iter().map(|time| time.get(17..19).unwrap()).collect();
    assert_eq!(seconds, ["05", "10", "15", "20", "25"]);
    run.stop().await;
}

#[tokio::test(start_paused = true)]
async fn ticks_that_a_long_outage_overtook_are_reported() {
    let world = starting_at("2025-01-01T00:00:30Z");
    world.recorder.always(Some(full()));
    let run = begin(&world, ping("* * * * *"));
    world.clock.sleep_until("2025-01-01T00:10:30Z".parse().unwrap()).await;
    world.recorder.always(None);
    let first = times(&world, 1).await.remove(0);
    assert!(*first >= *"2025-01-01T00:09:00Z", "{first}");
    let condition = run.punctual().unwrap();
    assert!(!condition.holds);
    assert!(condition.message.contains("missed"), "{}", condition.message);
    run.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_daily_tick_outlives_a_long_outage() {
    let world = starting_at("2025-01-01T23:59:00Z");
    world.recorder.always(Some(full()));
    let run = begin(&world, ping("@daily"));
    world.clock.sleep_until("2025-01-02T08:00:00Z".parse().unwrap()).await;
    world.recorder.always(None);
    assert_eq!(times(&world, 1).await, ["2025-01-02T00:00:00Z"]);
    run.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_refused_tick_is_parked_and_the_next_one_sent() {
    let world = starting_at("2025-01-01T00:00:30Z");
    world.recorder.fail_with([EmitError::Refused { reason: "too large".to_owned() }]);
    let run = begin(&world, ping("* * * * *"));
    assert_eq!(times(&world, 1).await, ["2025-01-01T00:02:00Z"]);
    let parked = world.parked.0.lock().unwrap().clone();
    let [(_, event, reason)] = parked.as_slice() else { panic!("{parked:?}") };
    assert_eq!(event.time(), Some("2025-01-01T00:01:00Z"));
    assert!(reason.contains("too large"), "{reason}");
    run.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_quick_restart_loses_no_tick_and_repeats_none() {
    let world = starting_at("2025-01-01T00:00:00Z");
    let run = begin(&world, ping("* * * * * *"));
    times(&world, 3).await;
    run.stop().await;
    world.clock.sleep_until(world.clock.now() + jiff::SignedDuration::from_secs(5)).await;
    let run = begin(&world, ping("* * * * * *"));
    let times = times(&world, 10).await;
    let seconds: Vec<_> = times.iter().map(|time| time.get(17..19).unwrap()).collect();
    assert_eq!(seconds, ["01", "02", "03", "04", "05", "06", "07", "08", "09", "10"]);
    assert!(run.punctual().unwrap().holds);
    run.stop().await;
}

#[tokio::test(start_paused = true)]
async fn ticks_missed_in_a_long_downtime_are_counted_and_not_replayed() {
    let world = starting_at("2025-01-01T00:00:30Z");
    let run = begin(&world, ping("* * * * *"));
    times(&world, 1).await;
    run.stop().await;
    world.clock.sleep_until("2025-01-01T00:11:30Z".parse().unwrap()).await;
    let run = begin(&world, ping("* * * * *"));
    // The tick at 00:11 is 30 s old and still made; those from 00:02 to 00:10 are gone.
    assert_eq!(times(&world, 2).await[1], "2025-01-01T00:11:00Z");
    let condition = run.punctual().unwrap();
    assert_eq!(condition.reason, "TicksMissed");
    assert_eq!(
        condition.message,
        "9 ticks from 2025-01-01T00:02:00Z to 2025-01-01T00:10:00Z were missed: the source was not running"
    );
    run.stop().await;
}

#[tokio::test(start_paused = true)]
async fn ticks_of_another_schedule_are_not_missed() {
    let world = starting_at("2025-01-01T00:00:30Z");
    let run = begin(&world, ping("@daily"));
    world.clock.sleep_until("2025-01-01T10:00:30Z".parse().unwrap()).await;
    run.stop().await;
    let run = begin(&world, ping("* * * * *"));
    assert_eq!(times(&world, 1).await, ["2025-01-01T10:01:00Z"]);
    assert!(run.punctual().is_none_or(|condition| condition.holds));
    run.stop().await;
}

#[tokio::test(start_paused = true)]
async fn an_unreadable_checkpoint_is_no_obstacle() {
    let world = starting_at("2025-01-01T00:00:30Z");
    let key = "PingSource/default/one".to_owned();
    world.checkpoints.0.lock().unwrap().insert(key, b"{\"schedule\":".to_vec());
    let run = begin(&world, ping("* * * * *"));
    assert_eq!(times(&world, 1).await, ["2025-01-01T00:01:00Z"]);
    run.stop().await;
}

#[tokio::test(start_paused = true)]
async fn stopping_does_not_wait_for_the_sink() {
    let world = starting_at("2025-01-01T00:00:00Z");
    world.recorder.always(Some(full()));
    let run = begin(&world, ping("* * * * * *"));
    world.clock.sleep_until("2025-01-01T00:00:10Z".parse().unwrap()).await;
    let before = tokio::time::Instant::now();
    run.stop().await;
    assert!(before.elapsed() < Duration::from_millis(100));
}
