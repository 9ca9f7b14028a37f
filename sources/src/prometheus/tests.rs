//! Ticks become queries, answers become events, and neither outages nor restarts leave a hole in a range; and notifications
//! of an Alertmanager.

use std::collections::HashSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use broker_event::{Event, Value as Extension};
use bytes::Bytes;
use crds::broker_defaults::BrokerDefaults;
use crds::destination::Destination;
use crds::object::Rules;
use crds::ping_defaults::PingDefaults;
use crds::resource::Catalog;
use crds::secret_ref::SecretValueFromSource;
use crds::source::SourceObject;
use http::{HeaderMap, StatusCode, header};
use http_body_util::Full;
use jiff::{SignedDuration, Timestamp};
use percent_encoding::percent_decode_str;
use serde_json::{Value, json};
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::poll::ANSWERED;
use super::{ALERTMANAGER_TOKEN, AUTH_TOKEN, Alertmanager, CA, PrometheusSource};
use crate::clock::Clock;
use crate::couchdb::tests::server::{Answer, Asked, Server};
use crate::given::{Given, Need};
use crate::secret::Secret;
use crate::source::fake::{World, about};
use crate::source::{About, Source, SourceError};
use crate::status::{Board, Condition, State, Status, fake};

/// Longer than anything here takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(30);
const EMPTY: &str = r#"{"status":"success","data":{"resultType":"matrix","result":[]}}"#;

/// What a Prometheus answers: a status and a body.
#[derive(Clone)]
struct Prometheus(Arc<Mutex<(u16, String)>>);

impl Prometheus {
    fn answering(status: u16, body: &str) -> Self {
        Self(Arc::new(Mutex::new((status, body.to_owned()))))
    }

    fn answers(&self, status: u16, body: &str) {
        *self.0.lock().unwrap() = (status, body.to_owned());
    }

    async fn serve(&self) -> Server {
        let script = Arc::clone(&self.0);
        Server::new(move |_| {
            let (status, body) = script.lock().unwrap().clone();
            Answer::Whole(status, body)
        })
        .await
    }
}

/// One run of a source.
struct Run {
    task: JoinHandle<Result<(), SourceError>>,
    stop: CancellationToken,
    board: Arc<Board>,
}

/// A clock that a test sets, and that otherwise goes on by itself. Sleeps towards it are short ones of real time.
#[derive(Clone)]
struct Watch(Arc<Mutex<(Timestamp, std::time::Instant)>>);

impl Watch {
    #[expect(clippy::disallowed_methods, reason = "real sockets need real time")]
    fn at(start: &str) -> Self {
        Self(Arc::new(Mutex::new((start.parse().unwrap(), std::time::Instant::now()))))
    }

    fn advance(&self, by: SignedDuration) {
        self.0.lock().unwrap().0 += by;
    }

    fn clock(&self) -> Clock {
        let watch = Arc::clone(&self.0);
        Clock::from_fn(move || {
            let (start, since) = *watch.lock().unwrap();
            std::time::SystemTime::from(start) + since.elapsed()
        })
    }
}

fn world(watch: &Watch) -> World {
    World { clock: watch.clock(), ..World::new() }
}

fn run(world: &World, source: PrometheusSource) -> Run {
    let (context, board) = world.context("PrometheusSource");
    let stop = context.stop.clone();
    Run { task: TaskTracker::new().spawn(source.run(context)), stop, board }
}

fn source(server: &Server, schedule: &str) -> PrometheusSource {
    PrometheusSource {
        server_url: format!("http://{}/prom/", server.address),
        prom_ql: "up".to_owned(),
        schedule: schedule.to_owned(),
        sink: Destination::at("http://sink.example/"),
        ..Default::default()
    }
}

impl Run {
    async fn stop(self) {
        self.stop.cancel();
        timeout(Duration::from_secs(1), self.task).await.unwrap().unwrap().unwrap();
    }

    async fn fails(self) -> SourceError {
        timeout(PATIENCE, self.task).await.unwrap().unwrap().unwrap_err()
    }

    /// Waits until the status is as wanted.
    async fn until<T>(&self, found: impl Fn(Status) -> Option<T>) -> T {
        let waiting = async {
            let mut seen = self.board.revision();
            loop {
                if let Some(wanted) = found(fake::only(&self.board)) {
                    return wanted;
                }
                seen = self.board.changed_since(seen).await;
            }
        };
        timeout(PATIENCE, waiting).await.unwrap()
    }

    async fn runs(&self) {
        self.until(|status| (status.state == State::Running).then_some(())).await;
    }

    async fn condition(&self, name: &str, holds: bool) -> Condition {
        let wanted = |have: &Condition| have.name == name && have.holds == holds;
        self.until(|status| status.conditions.into_iter().find(wanted)).await
    }
}

async fn taken(world: &World, count: usize) -> Vec<Event> {
    timeout(PATIENCE, world.recorder.wait_for(count)).await.unwrap()
}

/// The parameters of those queries that were asked at that endpoint.
fn parameters(server: &Server, endpoint: &str) -> Vec<String> {
    let prefix = format!("/prom/api/v1/{endpoint}?");
    let asked = server.asked();
    let queries = asked.iter().filter_map(|asked| asked.target.strip_prefix(&prefix));
    queries.map(|query| percent_decode_str(query).decode_utf8().unwrap().into_owned()).collect()
}

#[tokio::test]
async fn an_instant_query_is_asked_about_its_tick() {
    let prometheus = Prometheus::answering(200, EMPTY);
    let server = prometheus.serve().await;
    let world = world(&Watch::at("2026-01-01T00:00:59.8Z"));
    let source =
        PrometheusSource { prom_ql: "a+b{c=\"#&\"}".to_owned(), ..source(&server, "* * * * *") };
    let run = run(&world, source);
    let event = taken(&world, 1).await.remove(0);
    assert_eq!(event.time(), Some("2026-01-01T00:01:00Z"));
    assert_eq!(event.data().unwrap(), EMPTY);
    let asked = server.asked().pop().unwrap();
    assert_eq!(
        asked.target,
        "/prom/api/v1/query?query=a%2Bb%7Bc%3D%22%23%26%22%7D&time=2026-01-01T00%3A01%3A00Z"
    );
    assert_eq!(asked.headers.get("authorization"), None);
    run.condition(ANSWERED, true).await;
    run.stop().await;
}

#[tokio::test]
async fn ranges_follow_each_other_over_restarts_and_outages() {
    let prometheus = Prometheus::answering(200, EMPTY);
    let server = prometheus.serve().await;
    let watch = Watch::at("2026-01-01T00:00:00Z");
    let world = world(&watch);
    let wanted = PrometheusSource { step: "15s".to_owned(), ..source(&server, "* * * * *") };
    let first = run(&world, wanted.clone());
    first.runs().await;
    first.stop().await;
    watch.advance(SignedDuration::from_mins(3));
    prometheus.answers(503, r#"{"status":"error","errorType":"timeout","error":"slow"}"#);
    let error = run(&world, wanted.clone()).fails().await;
    assert_eq!(error.reason(), "UpstreamUnavailable");
    prometheus.answers(200, EMPTY);
    let second = run(&world, wanted);
    taken(&world, 3).await;
    let ranges: Vec<String> = parameters(&server, "query_range");
    let range = |start: &str, end: &str| {
        format!("query=up&start=2026-01-01T{start}Z&end=2026-01-01T{end}Z&step=15s")
    };
    assert_eq!(
        ranges,
        [
            range("00:00:00", "00:01:00"),
            range("00:01:00", "00:02:00"),
            range("00:02:00", "00:03:00")
        ]
    );
    second.stop().await;
}

#[tokio::test]
async fn a_range_that_the_sink_did_not_take_is_asked_again_with_the_same_id() {
    let server = Prometheus::answering(200, EMPTY).serve().await;
    let watch = Watch::at("2026-01-01T00:00:59Z");
    let world = world(&watch);
    let wanted = PrometheusSource { step: "1".to_owned(), ..source(&server, "* * * * *") };
    world.recorder.always(Some(crate::emit::EmitError::Unavailable { reason: "away".to_owned() }));
    let first = run(&world, wanted.clone());
    first.condition(Condition::DELIVERING, false).await;
    first.stop().await;
    world.recorder.always(None);
    let second = run(&world, wanted);
    let event = taken(&world, 1).await.remove(0);
    assert_eq!(event.time(), Some("2026-01-01T00:01:00Z"));
    let ranges = parameters(&server, "query_range");
    assert_eq!(ranges[0], ranges[1]);
    second.stop().await;
}

#[tokio::test]
async fn a_long_range_is_asked_in_parts() {
    let server = Prometheus::answering(200, EMPTY).serve().await;
    let watch = Watch::at("2026-01-01T12:00:00Z");
    let world = world(&watch);
    let wanted = PrometheusSource { step: "1s".to_owned(), ..source(&server, "0 0 * * *") };
    let first = run(&world, wanted.clone());
    first.runs().await;
    first.stop().await;
    watch.advance(SignedDuration::from_hours(12));
    let second = run(&world, wanted);
    let events = taken(&world, 4).await;
    let ranges = parameters(&server, "query_range");
    assert_eq!(ranges[1], "query=up&start=2026-01-01T15:03:20Z&end=2026-01-01T18:06:39Z&step=1s");
    assert!(ranges[3].contains("end=2026-01-02T00:00:00Z"), "{}", ranges[3]);
    assert!(events.iter().all(|event| event.time() == Some("2026-01-02T00:00:00Z")));
    assert_ne!(events[0].id(), events[1].id());
    second.stop().await;
}

#[tokio::test]
async fn instants_of_long_ago_are_missed_and_reported() {
    let server = Prometheus::answering(200, EMPTY).serve().await;
    let watch = Watch::at("2026-01-01T00:00:30Z");
    let world = world(&watch);
    let first = run(&world, source(&server, "* * * * *"));
    first.runs().await;
    first.stop().await;
    watch.advance(SignedDuration::from_mins(5));
    let second = run(&world, source(&server, "* * * * *"));
    let event = taken(&world, 1).await.remove(0);
    assert_eq!(event.time(), Some("2026-01-01T00:05:00Z"));
    let missed = second.condition(Condition::PUNCTUAL, false).await;
    assert!(
        missed.message.starts_with("4 ticks from 2026-01-01T00:01:00Z to "),
        "{}",
        missed.message
    );
    second.stop().await;
}

#[tokio::test]
async fn more_missed_ranges_than_a_day_of_minutes_are_cut_to_a_day() {
    let server = Prometheus::answering(200, EMPTY).serve().await;
    let watch = Watch::at("2026-01-01T00:00:00Z");
    let world = world(&watch);
    let wanted = PrometheusSource { step: "1h".to_owned(), ..source(&server, "@every 1h") };
    let first = run(&world, wanted.clone());
    first.runs().await;
    first.stop().await;
    watch.advance(SignedDuration::from_hours(1441));
    let second = run(&world, wanted);
    let missed = second.condition(Condition::PUNCTUAL, false).await;
    assert!(missed.message.starts_with("1417 ticks"), "{}", missed.message);
    taken(&world, 24).await;
    second.stop().await;
}

#[tokio::test]
async fn refusals_are_told_apart() {
    let prometheus = Prometheus::answering(200, EMPTY);
    let server = prometheus.serve().await;
    let world = world(&Watch::at("2026-01-01T00:00:00Z"));
    let bad = r#"{"status":"error","errorType":"bad_data","error":"1:4: parse error\nx"}"#;
    for (status, body, reason, text) in [
        (400, bad, "InvalidSpec", "promQL: 1:4: parse error x"),
        (400, "no", "UpstreamUnavailable", "query Prometheus"),
        (
            401,
            "no",
            "CredentialsRefused",
            "query Prometheus: 127.0.0.1 answered 401 Unauthorized: no",
        ),
        (403, bad, "CredentialsRefused", "query Prometheus: 127.0.0.1 answered 403 Forbidden: "),
        (404, "no", "UpstreamNotFound", "serverURL: there is no API of Prometheus there: "),
        (302, "", "UpstreamUnavailable", "query Prometheus"),
        (500, "no", "UpstreamUnavailable", "query Prometheus"),
        (200, "<html>", "UpstreamUnavailable", "query Prometheus"),
        (200, r#"{"status":"error"}"#, "UpstreamUnavailable", "query Prometheus"),
    ] {
        prometheus.answers(status, body);
        let error = run(&world, source(&server, "* * * * *")).fails().await;
        assert_eq!(error.reason(), reason, "{status} {body}");
        assert!(error.to_string().starts_with(text), "{error}");
    }
    assert!(world.recorder.taken().is_empty());
}

#[tokio::test]
async fn what_cannot_be_answered_is_a_condition_and_no_event() {
    let execution = r#"{"status":"error","errorType":"execution","error":"many-to-many matching"}"#;
    let prometheus = Prometheus::answering(422, execution);
    let server = prometheus.serve().await;
    let world = world(&Watch::at("2026-01-01T00:00:00Z"));
    let run = run(&world, source(&server, "* * * * * *"));
    let failed = run.condition(ANSWERED, false).await;
    assert!(failed.message.ends_with(": 127.0.0.1: many-to-many matching"), "{}", failed.message);
    // That there is no event of a tick can be seen when later ones are answered, too.
    let missed = run.condition(Condition::PUNCTUAL, false).await;
    assert!(missed.message.ends_with(": Prometheus had no answer"), "{}", missed.message);
    prometheus.answers(200, EMPTY);
    taken(&world, 1).await;
    run.condition(ANSWERED, true).await;
    run.condition(Condition::PUNCTUAL, false).await;
    run.stop().await;
}

#[tokio::test]
async fn series_are_events_by_themselves_if_that_is_wanted() {
    let two = r#"{"status":"success","data":{"resultType":"vector","result":[{"metric":{"job":"a"},"value":[1,"1"]},{"metric":{"job":"b"},"value":[1,"0"]}]}}"#;
    let server = Prometheus::answering(200, two).serve().await;
    let world = per_series(&Watch::at("2026-01-01T00:00:59.9Z"));
    let run = run(&world, source(&server, "* * * * *"));
    let events = taken(&world, 2).await;
    assert_eq!((events.len(), events[0].time()), (2, events[1].time()));
    run.stop().await;
}

/// More series than two batches hold.
fn many_series() -> String {
    let series: Vec<Value> =
        (0..2500).map(|n| json!({"metric": {"n": n.to_string()}, "value": [1, "1"]})).collect();
    let data = json!({"resultType": "vector", "result": series});
    json!({"status": "success", "data": data}).to_string()
}

fn per_series(watch: &Watch) -> World {
    let annotations = [("weft.dev/per-series".to_owned(), "true".to_owned())].into_iter().collect();
    World { about: Arc::new(About { annotations, ..about() }), ..world(watch) }
}

/// Waits until events of so many ids were taken.
async fn all_taken(world: &World, count: usize) {
    let all = async {
        loop {
            let taken = world.recorder.taken();
            let ids: HashSet<&str> = taken.iter().map(Event::id).collect();
            if ids.len() == count {
                return;
            }
            world.recorder.wait_for(taken.len() + 1).await;
        }
    };
    timeout(PATIENCE, all).await.unwrap();
}

#[tokio::test]
async fn of_many_series_only_the_last_batch_comes_again() {
    let server = Prometheus::answering(200, &many_series()).serve().await;
    let world = per_series(&Watch::at("2026-01-01T00:00:59.9Z"));
    let first = run(&world, source(&server, "* * * * *"));
    taken(&world, 1000).await;
    // Between the batches, or within one: what was taken and not remembered comes again.
    let away = crate::emit::EmitError::Unavailable { reason: "away".to_owned() };
    world.recorder.always(Some(away));
    first.stop().await;
    let before = world.recorder.taken().len();
    world.recorder.always(None);
    let second = run(&world, source(&server, "* * * * *"));
    all_taken(&world, 2500).await;
    second.stop().await;
    let again = world.recorder.taken().len() - 2500;
    assert!(again <= 1000, "{again} of {before} came again");
}

#[tokio::test]
async fn of_a_later_part_with_many_series_only_the_last_batch_comes_again() {
    let server = Prometheus::answering(200, &many_series()).serve().await;
    let watch = Watch::at("2026-01-01T12:00:00Z");
    let world = per_series(&watch);
    let wanted = PrometheusSource { step: "1s".to_owned(), ..source(&server, "0 0 * * *") };
    let first = run(&world, wanted.clone());
    first.runs().await;
    first.stop().await;
    watch.advance(SignedDuration::from_hours(12));
    let second = run(&world, wanted.clone());
    // The first of four parts, and two of the three batches of the second.
    taken(&world, 4500).await;
    let away = crate::emit::EmitError::Unavailable { reason: "away".to_owned() };
    world.recorder.always(Some(away));
    second.stop().await;
    let before = world.recorder.taken().len();
    world.recorder.always(None);
    let third = run(&world, wanted);
    all_taken(&world, 10_000).await;
    third.stop().await;
    let again = world.recorder.taken().len() - 10_000;
    assert!(again <= 1000, "{again} of {before} came again");
}

#[tokio::test]
async fn a_token_is_shown_and_read_again_where_it_is_in_a_file() {
    let server = Prometheus::answering(200, EMPTY).serve().await;
    let world = world(&Watch::at("2026-01-01T00:00:00Z"));
    let path = std::env::temp_dir().join(format!("weft-token-{}", uuid::Uuid::now_v7()));
    std::fs::write(&path, "one.token\n").unwrap();
    let file = path.to_str().unwrap().to_owned();
    let wanted =
        PrometheusSource { auth_token_file: file.clone(), ..source(&server, "* * * * * *") };
    let first = run(&world, wanted.clone());
    let shows = |token: &'static str| {
        move |asked: &Asked| asked.headers.get("authorization").is_some_and(|shown| shown == token)
    };
    timeout(PATIENCE, server.wait_for(shows("Bearer one.token"))).await.unwrap();
    std::fs::write(&path, "two=").unwrap();
    timeout(PATIENCE, server.wait_for(shows("Bearer two="))).await.unwrap();
    first.stop().await;
    // What a file holds beside tokens does not leave the machine.
    std::fs::write(&path, "root:x:0:0:\n").unwrap();
    let error = run(&world, wanted.clone()).fails().await;
    assert_eq!(error.to_string(), "authTokenFile: it does not hold a token");
    std::fs::write(&path, "x".repeat(20_000)).unwrap();
    assert_eq!(run(&world, wanted.clone()).fails().await.reason(), "UpstreamUnavailable");
    std::fs::remove_file(&path).unwrap();
    assert_eq!(run(&world, wanted).fails().await.reason(), "UpstreamUnavailable");

    let given = [(AUTH_TOKEN, Secret::new("given"))].into_iter().collect();
    let auth_token = Some(SecretValueFromSource::at("s", "k"));
    let world = World { given, ..world };
    let second = run(&world, PrometheusSource { auth_token, ..source(&server, "* * * * *") });
    timeout(PATIENCE, server.wait_for(shows("Bearer given"))).await.unwrap();
    second.stop().await;
}

#[tokio::test]
async fn a_long_query_is_posted() {
    let server = Prometheus::answering(200, EMPTY).serve().await;
    let world = world(&Watch::at("2026-01-01T00:00:00Z"));
    let prom_ql = ["up"; 2000].join(" + ");
    let run = run(&world, PrometheusSource { prom_ql, ..source(&server, "* * * * *") });
    run.runs().await;
    let asked = server.asked().remove(0);
    assert_eq!((asked.method.as_str(), asked.target.as_str()), ("POST", "/prom/api/v1/query"));
    assert_eq!(asked.headers["content-type"], "application/x-www-form-urlencoded");
    assert!(asked.body.starts_with("query=up%20%2B%20up%20"));
    run.stop().await;
}

const NOTIFICATION: &str = r#"{"receiver":"weft","status":"firing","alerts":[{"status":"firing"}],
    "groupLabels":{"alertname":"Down"},"commonLabels":{"alertname":"Down","severity":"page","team":"a"},"commonAnnotations":{},
    "externalURL":"http://alertmanager","version":"4","groupKey":"{}:{alertname=\"Down\"}","truncatedAlerts":0}"#;

fn receiving(auth_token: Option<SecretValueFromSource>) -> PrometheusSource {
    PrometheusSource { alertmanager: Some(Alertmanager { auth_token }), ..Default::default() }
}

async fn post(world: &World, token: Option<&str>, body: &str) -> StatusCode {
    let mut headers = HeaderMap::new();
    if let Some(token) = token {
        headers.insert(header::AUTHORIZATION, token.parse().unwrap());
    }
    let mut request = http::Request::post("/").body(Full::<Bytes>::from(body.to_owned())).unwrap();
    *request.headers_mut() = headers;
    world.hooks.serve("default", "one", request).await.status()
}

#[tokio::test]
async fn a_notification_is_an_event() {
    let world = world(&Watch::at("2026-01-01T00:00:00Z"));
    let run = run(&world, receiving(None));
    run.runs().await;
    assert_eq!(post(&world, None, NOTIFICATION).await, 202);
    let event = taken(&world, 1).await.remove(0);
    assert_eq!(event.ty(), "dev.knative.prometheus.alertmanager");
    assert_eq!(event.source(), "default/one");
    assert_eq!(event.subject(), Some(r#"{}:{alertname="Down"}"#));
    assert_eq!(event.data_content_type(), Some("application/json"));
    assert_eq!(event.data().unwrap(), NOTIFICATION);
    for (name, value) in
        [("status", "firing"), ("receiver", "weft"), ("alertname", "Down"), ("severity", "page")]
    {
        assert_eq!(event.extension(name), Some(&Extension::from(value)), "{name}");
    }
    assert_eq!(event.extension("team"), None);
    // Posted again after a lost answer it is the same event; resolved it is another.
    assert_eq!(post(&world, None, NOTIFICATION).await, 202);
    assert_eq!(post(&world, None, &NOTIFICATION.replace("firing", "resolved")).await, 202);
    let ids: Vec<String> =
        taken(&world, 3).await.iter().map(|event| event.id().to_owned()).collect();
    assert_eq!(ids[0], ids[1]);
    assert_ne!(ids[0], ids[2]);
    run.stop().await;
}

#[tokio::test]
async fn what_is_no_notification_is_refused() {
    let world = world(&Watch::at("2026-01-01T00:00:00Z"));
    let run = run(&world, receiving(None));
    run.runs().await;
    for body in [
        "",
        "{}",
        "[]",
        r#"{"groupKey":"a","status":"firing"}"#,
        r#"{"groupKey":1,"status":"firing","alerts":[]}"#,
    ] {
        assert_eq!(post(&world, None, body).await, 400, "{body}");
    }
    let request = http::Request::get("/").body(Full::<Bytes>::default()).unwrap();
    assert_eq!(world.hooks.serve("default", "one", request).await.status(), 405);
    // A text that no attribute can hold stays in the data.
    let odd = r#"{"groupKey":"a\nb","status":"","receiver":null,"alerts":[],"commonLabels":null}"#;
    assert_eq!(post(&world, None, odd).await, 202);
    let event = taken(&world, 1).await.remove(0);
    assert_eq!((event.subject(), event.extensions().count()), (None, 0));
    run.stop().await;
}

#[tokio::test]
async fn a_token_that_is_wanted_must_be_shown() {
    let given = [(ALERTMANAGER_TOKEN, Secret::new("sesame\n"))].into_iter().collect();
    let world = World { given, ..world(&Watch::at("2026-01-01T00:00:00Z")) };
    let wanted = receiving(Some(SecretValueFromSource::at("s", "k")));
    let run = run(&world, wanted.clone());
    run.runs().await;
    for token in [None, Some("sesame"), Some("Bearer sesam"), Some("Bearer "), Some("Basic sesame")]
    {
        assert_eq!(post(&world, token, NOTIFICATION).await, 401, "{token:?}");
    }
    assert_eq!(post(&world, Some("Bearer sesame"), NOTIFICATION).await, 202);
    run.stop().await;
    // Without it nobody is let in.
    let world = World { given: Default::default(), ..world };
    let error = self::run(&world, wanted).fails().await;
    assert_eq!(error.to_string(), "alertmanager.authToken: it is missing");
}

#[tokio::test]
async fn a_busy_sink_is_503_and_what_it_refuses_is_parked() {
    let world = world(&Watch::at("2026-01-01T00:00:00Z"));
    let run = run(&world, receiving(None));
    run.runs().await;
    let reason = "full".to_owned();
    world.recorder.fail_with([
        crate::emit::EmitError::Busy { reason: reason.clone(), retry_after: None },
        crate::emit::EmitError::Refused { reason },
    ]);
    assert_eq!(post(&world, None, NOTIFICATION).await, 503);
    assert_eq!(post(&world, None, NOTIFICATION).await, 202);
    assert_eq!(world.parked.0.lock().unwrap().len(), 1);
    assert!(world.recorder.taken().is_empty());
    assert_eq!(post(&world, None, NOTIFICATION).await, 202);
    assert_eq!(world.recorder.taken().len(), 1);
    run.stop().await;
}

#[test]
fn needs_and_attributes_follow_what_is_wanted() {
    let asking = PrometheusSource {
        ca_cert_config_map: "ca".to_owned(),
        auth_token: Some(SecretValueFromSource::at("s", "k")),
        ..Default::default()
    };
    assert_eq!(
        asking.needs(&about()),
        [Need::config_map(CA, "ca", "service-ca.crt"), Need::secret(AUTH_TOKEN, "s", "k")]
    );
    assert_eq!(
        asking.attributes(&about(), &Given::default())[0].kind,
        "dev.knative.prometheus.promql"
    );
    assert!(!asking.hook(), "nobody posts to it");
    let receiving = receiving(Some(SecretValueFromSource::at("s", "k")));
    assert_eq!(receiving.needs(&about()), [Need::secret(ALERTMANAGER_TOKEN, "s", "k")]);
    assert_eq!(receiving.attributes(&about(), &Given::default())[0].source, "default/one");
    assert!(receiving.hook());
}

fn refused(spec: &Value) -> String {
    let mut spec = spec.clone();
    spec["sink"] = json!({"uri": "http://s/"});
    let object = json!({"metadata": {"name": "p", "namespace": "n"}, "spec": spec});
    let mut object: SourceObject<PrometheusSource> = serde_json::from_value(object).unwrap();
    object.defaults();
    let rules = Rules {
        catalog: Catalog::BUILTIN,
        cesql: &|_| Ok(()),
        broker_defaults: &BrokerDefaults::default(),
        ping_defaults: PingDefaults::default(),
    };
    object.validate(&rules).to_string()
}

#[test]
fn knatives_examples_are_complete() {
    let mut range = json!({"serverURL": "http://demo.robustperception.io:9090", "promQL": "up", "schedule": "* * * * *", "step": "15s"});
    assert_eq!(refused(&range), "");
    range["authTokenFile"] = json!("/var/run/secrets/kubernetes.io/serviceaccount/token");
    range["caCertConfigMap"] = json!("openshift-service-serving-signer-cabundle");
    assert_eq!(refused(&range), "");
    assert_eq!(refused(&json!({"alertmanager": {}})), "");
}

#[test]
fn what_cannot_be_is_refused_with_its_field() {
    assert_eq!(refused(&json!({})), "missing field(s): spec.promQL, spec.schedule, spec.serverURL");
    let good = json!({"serverURL": "http://p:9090", "promQL": "up", "schedule": "* * * * *"});
    for (field, value, expected) in [
        ("serverURL", json!("p:9090"), "invalid value: p:9090: spec.serverURL\n"),
        (
            "serverURL",
            json!("http://u:p@p/"),
            "invalid value: a URL with credentials: spec.serverURL\n",
        ),
        ("serverURL", json!("http://p/?x"), "invalid value: http://p/?x: spec.serverURL\n"),
        ("promQL", json!("x".repeat(70_000)), "70000 bytes are too many: spec.promQL\n"),
        (
            "schedule",
            json!("61 * * * *"),
            "invalid value: end of range (61) above maximum (59): 61: spec.schedule",
        ),
        ("step", json!("0s"), "invalid value: \"0s\": spec.step\n"),
        ("authTokenFile", json!("token"), "invalid value: \"token\": spec.authTokenFile\n"),
        ("authTokenFile", json!("/a/../b"), "invalid value: \"/a/../b\": spec.authTokenFile\n"),
        ("caCertConfigMap", json!("A"), "invalid value: \"A\": spec.caCertConfigMap\n"),
        ("authToken", json!({}), "missing field(s): spec.authToken.secretKeyRef"),
    ] {
        let mut spec = good.clone();
        spec[field] = value;
        let refused = refused(&spec);
        assert!(refused.starts_with(expected), "{refused}");
    }
    let mut both = good;
    both["alertmanager"] = json!({"authToken": {"secretKeyRef": {"name": "s"}}});
    assert_eq!(
        refused(&both),
        "expected exactly one, got both: spec.alertmanager, spec.promQL\n\
         missing field(s): spec.alertmanager.authToken.secretKeyRef.key\n\
         must not set the field(s): spec.schedule, spec.serverURL\n\
         nothing is asked where an Alertmanager posts"
    );
}
