//! Events are offered until they are taken, parked if they never will be, and left alone when the source stops.

use std::sync::Arc;
use std::time::Duration;

use broker_event::{Event, EventBuilder};
use futures_util::future::BoxFuture;

use crate::emit::{Emit, EmitError, Emitter, Overrides, Sink, fake};
use crate::source::SourceError;
use crate::source::fake::World;
use crate::status::{Condition, fake as status};

fn events(ids: &[&str]) -> Vec<Event> {
    ids.iter().map(|id| EventBuilder::new(*id, "/s", "t").build().unwrap()).collect()
}

fn away() -> EmitError {
    EmitError::Unavailable { reason: "no broker".to_owned() }
}

fn refused() -> EmitError {
    EmitError::Refused { reason: "too large".to_owned() }
}

fn ids(world: &World) -> Vec<String> {
    world.recorder.taken().iter().map(|event| event.id().to_owned()).collect()
}

#[tokio::test(start_paused = true)]
async fn a_sink_that_is_away_is_waited_for() {
    let world = World::new();
    world.recorder.fail_with([away(), away(), away()]);
    let (context, _) = world.context("Test");
    context.deliver(events(&["1", "2"])).await.unwrap();
    assert_eq!(ids(&world), ["1", "2"]);
}

#[tokio::test]
async fn what_goes_one_by_one_is_acknowledged_one_by_one() {
    let world = World::new();
    let (mut context, _) = world.context("Test");
    assert_eq!(context.at_once(100), 100);
    let url = Sink::Url { url: "http://sink/".parse().unwrap(), ca_certs: None };
    let (metrics, report) = (context.metrics.clone(), context.report.clone());
    context.emit = Emitter::new(world.recorder.clone(), url, Overrides::default(), metrics, report);
    assert_eq!(context.at_once(100), 1);
}

#[tokio::test(start_paused = true)]
async fn what_is_refused_for_good_is_parked_and_the_rest_goes_on() {
    let world = World::new();
    // The batch, the first of it, and not the second.
    world.recorder.fail_with([refused(), refused()]);
    let (context, board) = world.context("Test");
    context.deliver(events(&["1", "2"])).await.unwrap();
    assert_eq!(ids(&world), ["2"]);
    let parked = world.parked.0.lock().unwrap().clone();
    let [(place, event, reason)] = parked.as_slice() else { panic!("{parked:?}") };
    assert_eq!((place.as_str(), event.id()), ("Test/default/one", "1"));
    assert!(reason.contains("too large"), "{reason}");
    let conditions = status::only(&board).conditions;
    let told = conditions.iter().find(|told| told.name == Condition::NOTHING_PARKED).unwrap();
    assert!(!told.holds && told.message.contains("too large"), "{told:?}");
}

/// Takes no more.
#[derive(Debug)]
struct Full;

impl crate::parking::ParkingLot for Full {
    fn park(&self, _: &str, _: &Event, _: &str) -> std::io::Result<()> {
        Err(std::io::Error::other("look at them, then remove them"))
    }
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_parked_is_not_acknowledged_and_the_status_says_why() {
    let world = World::new();
    world.recorder.always(Some(refused()));
    let (mut context, board) = world.context("Test");
    context.parking = crate::parking::Parking::new(Arc::new(Full), "Test/default/one");
    let error = context.deliver(events(&["1"])).await.unwrap_err();
    assert!(matches!(error, SourceError::State(_)), "{error}");
    let conditions = status::only(&board).conditions;
    let told = conditions.iter().find(|told| told.name == Condition::NOTHING_PARKED).unwrap();
    assert_eq!((told.holds, &*told.reason), (false, "NotKept"));
    assert!(told.message.ends_with("look at them, then remove them"), "{}", told.message);
}

#[tokio::test(start_paused = true)]
async fn a_source_that_stops_does_not_wait_on() {
    let world = World::new();
    world.recorder.always(Some(away()));
    let (context, _) = world.context("Test");
    let stop = context.stop.clone();
    let delivering = context.deliver(events(&["1"]));
    let stopping = async {
        tokio::time::sleep(Duration::from_secs(3)).await;
        stop.cancel();
    };
    let (delivered, ()) = tokio::join!(delivering, stopping);
    assert!(matches!(delivered, Err(SourceError::Stopped)));
    assert!(world.parked.0.lock().unwrap().is_empty());
}

/// Marks what comes to it, and takes nothing that is called `bad`.
#[derive(Debug)]
struct Marking(Arc<fake::Recorder>);

impl Emit for Marking {
    fn prepare(&self, _: &Sink, events: &mut Vec<Event>) -> Vec<(Event, EmitError)> {
        for event in &mut *events {
            assert!(event.extension("mark").is_none(), "marked twice: {event:?}");
            event.set_extension("mark", 1.into());
        }
        events.extract_if(.., |event| event.id() == "bad").map(|event| (event, refused())).collect()
    }

    fn emit<'a>(
        &'a self,
        sink: &'a Sink,
        events: Vec<Event>,
    ) -> BoxFuture<'a, Result<(), EmitError>> {
        self.0.emit(sink, events)
    }
}

#[tokio::test(start_paused = true)]
async fn events_are_marked_once_however_often_they_are_offered() {
    let world = World::new();
    world.recorder.fail_with([away(), away()]);
    let (mut context, _) = world.context("Test");
    let marking = Arc::new(Marking(world.recorder.clone()));
    let (metrics, report) = (context.metrics.clone(), context.report.clone());
    context.emit = Emitter::new(marking, fake::sink(), Overrides::default(), metrics, report);
    context.deliver(events(&["1", "bad", "2"])).await.unwrap();
    assert_eq!(ids(&world), ["1", "2"]);
    assert!(world.recorder.taken().iter().all(|event| event.extension("mark").is_some()));
    let parked = world.parked.0.lock().unwrap().clone();
    assert_eq!(parked.iter().map(|(_, event, _)| event.id()).collect::<Vec<_>>(), ["bad"]);
}
