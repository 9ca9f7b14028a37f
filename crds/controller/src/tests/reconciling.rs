use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use crds::object::Key;
use serde_json::{Value, json};
use tokio::sync::{Notify, oneshot};
use tokio::time::{Duration, Instant};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::scripted::{Server, State};
use crate::{Applied, Config, Controller, DataPlane, Published};

/// Remembers what it was told.
#[derive(Clone, Default)]
struct Plane(Arc<Told>);

#[derive(Default)]
struct Told {
    published: Mutex<Vec<Published>>,
    problems: Mutex<Vec<(Key, String)>>,
    sources: Mutex<BTreeMap<sources::Key, sources::Status>>,
    changed: Notify,
}

impl DataPlane for Plane {
    async fn apply(&self, published: Published) -> Applied {
        self.0.published.lock().unwrap().push(published);
        Applied { problems: self.0.problems.lock().unwrap().clone() }
    }

    fn sources(&self) -> BTreeMap<sources::Key, sources::Status> {
        self.0.sources.lock().unwrap().clone()
    }

    async fn changed(&self) {
        self.0.changed.notified().await;
    }
}

impl Plane {
    fn times(&self) -> usize {
        self.0.published.lock().unwrap().len()
    }

    fn last(&self) -> Published {
        self.0.published.lock().unwrap().last().cloned().unwrap()
    }

    fn fail(&self, problems: &[(Key, &str)]) {
        let problems = problems.iter().map(|(key, why)| (key.clone(), (*why).to_owned()));
        *self.0.problems.lock().unwrap() = problems.collect();
    }

    /// Every source that is wanted is in that state from now on.
    fn sources_are(&self, state: sources::State) {
        let status = sources::Status { state, ..sources::Status::default() };
        let wanted = self.last().sources;
        let all = wanted.iter().map(|wanted| (wanted.key(), status.clone()));
        *self.0.sources.lock().unwrap() = all.collect();
        self.0.changed.notify_one();
    }
}

/// A running controller.
struct Running {
    plane: Plane,
    stop: CancellationToken,
    tasks: TaskTracker,
    synced: oneshot::Receiver<()>,
}

impl Running {
    fn start(server: &Arc<Server>) -> Self {
        let (plane, stop, tasks) = (Plane::default(), CancellationToken::new(), TaskTracker::new());
        let config = Config::new("http://events");
        let controller = Controller::new(server.client(), config, plane.clone());
        let (tell, synced) = oneshot::channel();
        tasks.spawn(controller.run(stop.clone(), tell));
        tasks.close();
        Self { plane, stop, tasks, synced }
    }

    async fn synced(server: &Arc<Server>) -> Self {
        let mut running = Self::start(server);
        (&mut running.synced).await.unwrap();
        running
    }

    async fn stop(self) {
        self.stop.cancel();
        self.tasks.wait().await;
    }
}

fn broker() -> Value {
    json!({
        "apiVersion": "eventing.knative.dev/v1",
        "kind": "Broker",
        "metadata": {
            "namespace": "ns", "name": "b", "generation": 1,
            "annotations": {"eventing.knative.dev/broker.class": "MTChannelBasedBroker"},
        },
        "spec": {},
    })
}

fn trigger(name: &str) -> Value {
    json!({
        "apiVersion": "eventing.knative.dev/v1",
        "kind": "Trigger",
        "metadata": {"namespace": "ns", "name": name, "generation": 1},
        "spec": {"broker": "b", "subscriber": {"uri": "http://s/"}},
    })
}

fn ping() -> Value {
    json!({
        "apiVersion": "sources.knative.dev/v1",
        "kind": "PingSource",
        "metadata": {"namespace": "ns", "name": "p", "generation": 1},
        "spec": {"sink": {"uri": "http://s/"}},
    })
}

fn served(objects: &[(&str, Value)]) -> Arc<Server> {
    let server = Server::new();
    for (plural, object) in objects {
        server.put(plural, object.clone());
    }
    server
}

fn ready(server: &Server, plural: &str, name: &str) -> Option<String> {
    server.state().condition(plural, name, "Ready").map(str::to_owned)
}

#[tokio::test(start_paused = true)]
async fn everything_is_in_force_before_it_is_said_and_said_only_once() {
    let server = served(&[("brokers", broker()), ("triggers", trigger("t"))]);
    let running = Running::synced(&server).await;
    let published = running.plane.last();
    assert_eq!((published.snapshot.brokers.len(), published.snapshot.triggers.len()), (1, 1));
    server
        .until("both are ready", |state| {
            let ready = |plural, name| state.condition(plural, name, "Ready") == Some("True");
            ready("brokers", "b") && ready("triggers", "t")
        })
        .await;
    assert!(server.never(|state| state.writes.len() > 2).await, "{:?}", server.state().writes);
    assert_eq!(running.plane.times(), 1);
    let lists = server.state().lists.clone();
    assert_eq!(lists["triggers"], 1, "a watch that ends is resumed");
    assert!(lists["channels"] < 40, "what is not served is asked for seldom: {lists:?}");
    let trigger = server.state().object("triggers", "t").cloned().unwrap();
    assert_eq!(trigger["status"]["subscriberUri"], "http://s/");
    assert_eq!(trigger["status"]["observedGeneration"], 1);
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_restart_over_a_settled_world_writes_nothing() {
    let server = served(&[("brokers", broker()), ("triggers", trigger("t"))]);
    let first = Running::synced(&server).await;
    server.until("written", |state| state.writes.len() == 2).await;
    first.stop().await;
    let second = Running::synced(&server).await;
    assert!(server.never(|state| state.writes.len() > 2).await, "{:?}", server.state().writes);
    assert_eq!(second.plane.times(), 1);
    second.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_conflict_and_a_failure_are_tried_again_until_it_is_written() {
    let server = served(&[("brokers", broker())]);
    server.state().refuse.extend([409, 500, 503]);
    let running = Running::synced(&server).await;
    server.until("ready", |state| state.condition("brokers", "b", "Ready") == Some("True")).await;
    assert_eq!(server.state().count("PATCH brokers/b"), 4);
    assert!(server.never(|state| state.writes.len() > 4).await);
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_status_is_about_the_generation_that_was_planned() {
    let server = served(&[("brokers", broker())]);
    let running = Running::synced(&server).await;
    server.until("written", |state| state.writes.len() == 1).await;
    let mut object = server.state().object("brokers", "b").cloned().unwrap();
    object["metadata"]["generation"] = 2.into();
    object["spec"] = json!({"delivery": {"deadLetterSink": {"uri": "http://dead/"}}});
    server.put("brokers", object);
    server
        .until("observed", |state| {
            let status = &state.object("brokers", "b").unwrap()["status"];
            status["observedGeneration"] == 2 && status["deadLetterSinkUri"] == "http://dead/"
        })
        .await;
    assert_eq!(server.state().writes.len(), 2);
    running.stop().await;
}

/// A server forgets its history. `blunt` says whether it refuses older watches or ends them with an event.
async fn forgetful(blunt: bool) {
    let server = served(&[("brokers", broker()), ("triggers", trigger("t"))]);
    let running = Running::synced(&server).await;
    server.until("written", |state| state.writes.len() == 2).await;
    server.forget(|state| {
        state.blunt = blunt;
        let path = ("triggers".to_owned(), "ns".to_owned(), "t".to_owned());
        state.objects.remove(&path).unwrap();
        state.put("triggers", trigger("other"));
    });
    server
        .until("the other is ready", |state| {
            state.condition("triggers", "other", "Ready") == Some("True")
        })
        .await;
    let published = running.plane.last();
    let names: Vec<_> = published.snapshot.triggers.iter().map(|t| t.name.as_str()).collect();
    assert_eq!(names, ["other"]);
    assert!(server.state().lists["triggers"] >= 2);
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn an_expired_watch_is_begun_anew_and_what_was_missed_is_made_up_for() {
    forgetful(false).await;
}

#[tokio::test(start_paused = true)]
async fn a_watch_that_is_refused_as_expired_is_begun_anew_too() {
    forgetful(true).await;
}

#[tokio::test(start_paused = true)]
async fn readiness_that_is_lost_and_found_is_told_once_each() {
    let server = served(&[("brokers", broker()), ("triggers", trigger("t"))]);
    let running = Running::synced(&server).await;
    server.until("written", |state| state.writes.len() == 2).await;
    assert_eq!(server.state().count("POST events"), 0, "a new object that is ready is no news");
    server.delete("brokers", "b");
    server.until("told", |state| state.count("POST events") == 1).await;
    assert_eq!(ready(&server, "triggers", "t").as_deref(), Some("False"));
    server.put("brokers", broker());
    server.until("told again", |state| state.count("POST events") == 2).await;
    assert_eq!(ready(&server, "triggers", "t").as_deref(), Some("True"));
    assert!(server.never(|state| state.count("POST events") > 2).await);
    let mut told = server.state().told();
    told.sort();
    let expected = ["Normal Ready 1", "Warning BrokerDoesNotExist 1"];
    assert_eq!(told, expected);
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn what_the_data_plane_cannot_do_is_said_and_tried_again_until_it_can() {
    let server = served(&[("brokers", broker())]);
    let running = Running::synced(&server).await;
    server.until("written", |state| state.writes.len() == 1).await;
    let key = Key { kind: "Broker", namespace: "ns".to_owned(), name: "b".to_owned() };
    running.plane.fail(&[(key, "the disk is full")]);
    server.put("triggers", trigger("t"));
    let unready = |state: &State| state.condition("brokers", "b", "IngressReady") == Some("False");
    server.until("said", unready).await;
    let times = running.plane.times();
    *running.plane.0.problems.lock().unwrap() = Vec::new();
    server.until("mended", |state| state.condition("brokers", "b", "Ready") == Some("True")).await;
    assert!(running.plane.times() > times);
    let settled = running.plane.times();
    assert!(server.never(|state| unready(state)).await);
    assert_eq!(running.plane.times(), settled, "nothing is published without need");
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn what_becomes_of_a_source_is_said_and_nothing_is_published_for_it() {
    let server = served(&[("brokers", broker()), ("pingsources", ping())]);
    let running = Running::synced(&server).await;
    let is =
        |truth| move |state: &State| state.condition("pingsources", "p", "Ready") == Some(truth);
    server.until("said", is("Unknown")).await;
    let times = running.plane.times();
    for (state, truth) in [
        (sources::State::Running, "True"),
        (sources::State::Waiting, "False"),
        (sources::State::Running, "True"),
    ] {
        running.plane.sources_are(state);
        server.until("said", is(truth)).await;
    }
    assert_eq!(running.plane.times(), times);
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn nothing_is_put_in_force_before_everything_is_known() {
    let server = served(&[("brokers", broker())]);
    server.state().broken.insert("triggers".to_owned());
    let mut running = Running::start(&server);
    assert!(server.never(|state| !state.writes.is_empty()).await);
    assert_eq!(running.plane.times(), 0, "a world without triggers would be their deletion");
    server.state().broken.clear();
    (&mut running.synced).await.unwrap();
    assert_eq!(running.plane.last().snapshot.brokers.len(), 1);
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_server_that_changes_what_is_written_is_not_written_to_for_ever() {
    let server = served(&[("brokers", broker())]);
    let running = Running::synced(&server).await;
    server.until("written", |state| state.writes.len() == 1).await;
    running.stop().await;
    // A status that the server will not keep: the next writes are answered, and not applied.
    server.state().deaf = true;
    let mut object = server.state().object("brokers", "b").cloned().unwrap();
    object["status"] = json!({});
    server.put("brokers", object);
    let running = Running::synced(&server).await;
    server.never(|_| false).await;
    let writes = server.state().writes.len();
    assert!((5..40).contains(&writes), "{writes} writes in an hour");
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_rival_that_undoes_every_status_keeps_nobody_busy() {
    let server = served(&[("brokers", broker())]);
    let running = Running::synced(&server).await;
    let began = Instant::now();
    for _ in 0..60 {
        let ready = |state: &State| state.condition("brokers", "b", "Ready") == Some("True");
        server.until("written", ready).await;
        let mut object = server.state().object("brokers", "b").cloned().unwrap();
        object["status"]["conditions"] = json!([{"type": "Ready", "status": "False"}]);
        server.put("brokers", object);
    }
    let took = began.elapsed();
    assert!(took > Duration::from_secs(15), "60 writes in {took:?}");
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn many_triggers_are_each_written_once() {
    let server = served(&[("brokers", broker())]);
    for index in 0..1000 {
        server.put("triggers", trigger(&format!("t{index:04}")));
    }
    let running = Running::synced(&server).await;
    server.until("all written", |state| state.writes.len() >= 1001).await;
    assert!(server.never(|state| state.writes.len() > 1001).await);
    assert_eq!(running.plane.times(), 1);
    running.stop().await;
}
