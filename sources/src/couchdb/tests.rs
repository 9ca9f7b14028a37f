//! Changes become events once each, in order, from where they were left; what a server can do to that is scripted here.

pub(crate) mod server;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use crds::broker_defaults::BrokerDefaults;
use crds::destination::Destination;
use crds::object::Rules;
use crds::ping_defaults::PingDefaults;
use crds::resource::Catalog;
use crds::source::SourceObject;
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use self::server::{Answer, Asked, Server};
use super::follow::SEQUENCE_KEPT;
use super::{CA, CREDENTIALS, CouchDbSource, CredentialsReference};
use crate::given::{Given, Need};
use crate::secret::Secret;
use crate::source::fake::{World, about};
use crate::source::{About, Source, SourceError};
use crate::status::{Board, Condition, State, Status, fake};

/// Longer than anything here takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(30);

/// A `CouchDB` that tells what it is told to tell.
#[derive(Clone)]
struct Couch(Arc<Mutex<Script>>);

struct Script {
    update_sequence: Value,
    /// What is answered to who asks for changes after a sequence; the last is for all others.
    changes: Vec<(String, Vec<String>)>,
    /// Keep answers open after what they tell.
    open: Vec<mpsc::Sender<String>>,
    is_there: bool,
    refusal: Option<(u16, String)>,
}

impl Couch {
    fn at(update_sequence: Value) -> Self {
        Self(Arc::new(Mutex::new(Script {
            update_sequence,
            changes: Vec::new(),
            open: Vec::new(),
            is_there: true,
            refusal: None,
        })))
    }

    fn change(&self, change: impl FnOnce(&mut Script)) -> &Self {
        change(&mut self.0.lock().unwrap());
        self
    }

    /// Tells these lines to who asks for changes after `since`, and leaves the answer open.
    fn tells(&self, since: &str, lines: &[String]) -> &Self {
        self.change(|script| script.changes.push((since.to_owned(), lines.to_vec())))
    }

    /// Says more to everybody who listens.
    fn says(&self, line: &str) {
        let script = self.0.lock().unwrap();
        for open in &script.open {
            drop(open.try_send(line.to_owned()));
        }
    }

    async fn serve(&self) -> Server {
        let couch = self.clone();
        Server::new(move |asked| couch.answer(asked)).await
    }

    fn answer(&self, asked: &Asked) -> Answer {
        let mut script = self.0.lock().unwrap();
        if let Some((status, body)) = &script.refusal {
            return Answer::Whole(*status, body.clone());
        }
        if !script.is_there {
            let missing = json!({"error": "not_found", "reason": "Database does not exist."});
            return Answer::Whole(404, missing.to_string());
        }
        let Some((_, query)) = asked.target.split_once("/_changes?") else {
            let information = json!({"db_name": "shop", "update_seq": script.update_sequence});
            return Answer::Whole(200, information.to_string());
        };
        let since = query.split('&').find_map(|field| field.strip_prefix("since=")).unwrap();
        let lines = script.changes.iter().find(|(after, _)| after == since);
        let lines = lines.map(|(_, lines)| lines.clone()).unwrap_or_default();
        if query.contains("feed=normal") {
            return Answer::Whole(200, lines.concat());
        }
        let (sender, receiver) = mpsc::channel(100);
        for line in lines {
            sender.try_send(line).unwrap();
        }
        script.open.push(sender);
        Answer::Open(receiver)
    }
}

/// One run of a source.
struct Run {
    task: JoinHandle<Result<(), SourceError>>,
    stop: CancellationToken,
    board: Arc<Board>,
}

fn world(server: &Server) -> World {
    let url = format!("http://user%40x:p%3Aw@{}/", server.address);
    World { given: [(CREDENTIALS, Secret::new(url))].into_iter().collect(), ..World::new() }
}

fn source() -> CouchDbSource {
    CouchDbSource {
        credentials: CredentialsReference { name: "couch".to_owned(), ..Default::default() },
        feed: "continuous".to_owned(),
        database: "shop".to_owned(),
        sink: Destination::at("http://sink.example/"),
        ..Default::default()
    }
}

fn run(world: &World, source: CouchDbSource) -> Run {
    let (context, board) = world.context("CouchDbSource");
    let stop = context.stop.clone();
    Run { task: TaskTracker::new().spawn(source.run(context)), stop, board }
}

impl Run {
    async fn stop(self) {
        self.stop.cancel();
        timeout(Duration::from_secs(1), self.task).await.unwrap().unwrap().unwrap();
    }

    async fn fails(self) -> SourceError {
        timeout(PATIENCE, self.task).await.unwrap().unwrap().unwrap_err()
    }

    fn status(&self) -> Status {
        fake::only(&self.board)
    }

    async fn condition(&self, name: &str, holds: bool) -> Condition {
        let found = |status: Status| {
            status.conditions.into_iter().find(|have| have.name == name && have.holds == holds)
        };
        let waiting = async {
            let mut seen = self.board.revision();
            loop {
                if let Some(condition) = found(self.status()) {
                    return condition;
                }
                seen = self.board.changed_since(seen).await;
            }
        };
        timeout(PATIENCE, waiting).await.unwrap()
    }
}

async fn ids(world: &World, count: usize) -> Vec<String> {
    let taken = timeout(PATIENCE, world.recorder.wait_for(count)).await.unwrap();
    taken.iter().map(|event| event.id().to_owned()).collect()
}

fn line(seq: &Value, id: &str) -> String {
    json!({"seq": seq, "id": id, "changes": [{"rev": format!("1-{id}")}]}).to_string() + "\n"
}

fn annotated(key: &str, value: &str) -> Arc<About> {
    let annotations = [(key.to_owned(), value.to_owned())].into_iter().collect();
    Arc::new(About { annotations, ..about() })
}

#[tokio::test]
async fn changes_become_events_and_a_restart_goes_on_after_the_last() {
    let couch = Couch::at(json!("2-b"));
    couch.tells("0", &[line(&json!("1-a"), "x"), "\n".to_owned(), line(&json!("2-b"), "y")]);
    couch.tells("2-b", &[line(&json!("3-c"), "z")]);
    let server = couch.serve().await;
    let world = world(&server);
    let first = run(&world, source());
    assert_eq!(ids(&world, 2).await, ["1-a", "2-b"]);
    assert_eq!(world.recorder.taken()[0].source(), "127.0.0.1/shop");
    assert_eq!(first.status().state, State::Running);
    first.stop().await;
    let second = run(&world, source());
    assert_eq!(ids(&world, 3).await, ["1-a", "2-b", "3-c"]);
    couch.says(&line(&json!("4-d"), "w"));
    assert_eq!(ids(&world, 4).await.last().unwrap(), "4-d");
    assert!(second.condition(SEQUENCE_KEPT, true).await.message.is_empty());
    second.stop().await;
}

#[tokio::test]
async fn the_request_says_who_asks_and_for_what() {
    let couch = Couch::at(json!(0));
    couch.tells("0", &[line(&json!(1), "x")]);
    let server = couch.serve().await;
    let world = world(&server);
    let selector = json!({"type": "order"}).as_object().cloned();
    let run = run(
        &world,
        CouchDbSource { selector, include_docs: true, database: "a/b+c".to_owned(), ..source() },
    );
    ids(&world, 1).await;
    let asked = server.wait_for(|asked| asked.target.contains("/_changes")).await;
    assert_eq!(asked.method, "POST");
    assert_eq!(
        asked.target,
        "/a%2Fb%2Bc/_changes?feed=continuous&heartbeat=6000&since=0&include_docs=true&filter=_selector"
    );
    assert_eq!(asked.body, r#"{"selector":{"type":"order"}}"#);
    // user@x:p:w
    assert_eq!(asked.headers["authorization"], "Basic dXNlckB4OnA6dw==");
    assert_eq!(world.recorder.taken()[0].source(), "127.0.0.1/a/b+c");
    run.stop().await;
}

#[tokio::test]
async fn nothing_is_acknowledged_that_the_sink_did_not_take() {
    let couch = Couch::at(json!(1));
    couch.tells("0", &[line(&json!(1), "x")]);
    let server = couch.serve().await;
    let world = world(&server);
    let reason = "restarting".to_owned();
    world.recorder.always(Some(crate::emit::EmitError::Unavailable { reason }));
    let first = run(&world, source());
    first.condition(Condition::DELIVERING, false).await;
    first.stop().await;
    world.recorder.always(None);
    let second = run(&world, source());
    assert_eq!(ids(&world, 1).await, ["1"]);
    second.stop().await;
}

#[tokio::test]
async fn pages_are_asked_for_one_after_the_other() {
    let page = |ids: &[u32], last: u32, pending: u32| {
        let rows: Vec<String> = ids.iter().map(|id| line(&json!(id), "x")).collect();
        format!(
            "{{\"results\":[\n{}\n],\n\"last_seq\":{last},\"pending\":{pending}}}\n",
            rows.join(",")
        )
    };
    let couch = Couch::at(json!(9));
    couch
        .tells("0", &[page(&[1, 2], 2, 3)])
        .tells("2", &[page(&[], 7, 1)])
        .tells("7", &[page(&[8], 9, 0)]);
    couch.tells("9", &[page(&[], 9, 0)]);
    let server = couch.serve().await;
    let world = world(&server);
    let run = run(&world, CouchDbSource { feed: "normal".to_owned(), ..source() });
    assert_eq!(ids(&world, 3).await, ["1", "2", "8"]);
    // What was passed over is not asked for again.
    let asked =
        timeout(PATIENCE, server.wait_for(|asked| asked.target.contains("since=9"))).await.unwrap();
    assert_eq!(asked.target, "/shop/_changes?feed=normal&limit=1000&since=9");
    run.condition(Condition::CAUGHT_UP, true).await;
    run.stop().await;
}

#[tokio::test]
async fn a_page_that_leads_no_further_is_not_asked_for_at_once() {
    let couch = Couch::at(json!(5));
    couch.tells("0", &[r#"{"results":[],"last_seq":0,"pending":5}"#.to_owned()]);
    let server = couch.serve().await;
    let world = world(&server);
    let run = run(&world, CouchDbSource { feed: "normal".to_owned(), ..source() });
    run.condition(Condition::CAUGHT_UP, true).await;
    // The next question ends the run, and comes after the pause of two seconds.
    couch.change(|script| script.refusal = Some((500, "{}".to_owned())));
    let asked = Instant::now();
    run.fails().await;
    assert!(asked.elapsed() > Duration::from_millis(500), "{:?}", asked.elapsed());
}

#[tokio::test]
async fn a_database_that_was_made_anew_is_read_from_its_beginning() {
    let couch = Couch::at(json!(9));
    couch.tells("0", &[line(&json!(9), "x")]);
    let server = couch.serve().await;
    let world = world(&server);
    let first = run(&world, source());
    ids(&world, 1).await;
    first.stop().await;
    couch.change(|script| {
        script.update_sequence = json!(2);
        script.changes = vec![("0".to_owned(), vec![line(&json!(2), "y")])];
    });
    let second = run(&world, source());
    assert_eq!(ids(&world, 2).await, ["9", "2"]);
    let condition = second.condition(SEQUENCE_KEPT, false).await;
    assert_eq!(condition.reason, "DatabaseRecreated");
    second.stop().await;
}

#[tokio::test]
async fn another_server_of_the_same_host_has_another_database() {
    let (couch, other) = (Couch::at(json!(9)), Couch::at(json!(9)));
    couch.tells("0", &[line(&json!(9), "x")]);
    other.tells("0", &[line(&json!(8), "y")]);
    let (server, another) = (couch.serve().await, other.serve().await);
    let before = world(&server);
    let first = run(&before, source());
    ids(&before, 1).await;
    first.stop().await;
    let after = World { given: world(&another).given, ..before };
    let second = run(&after, source());
    assert_eq!(ids(&after, 2).await, ["9", "8"]);
    second.stop().await;
}

#[tokio::test]
async fn a_server_that_begins_again_by_itself_is_reported() {
    let couch = Couch::at(json!("9-a"));
    couch.tells("0", &[line(&json!("9-a"), "x")]);
    couch.tells("9-a", &[line(&json!("1-b"), "x")]);
    let server = couch.serve().await;
    let world = world(&server);
    let first = run(&world, source());
    ids(&world, 1).await;
    first.stop().await;
    let second = run(&world, source());
    assert_eq!(ids(&world, 2).await, ["9-a", "1-b"]);
    let condition = second.condition(SEQUENCE_KEPT, false).await;
    assert_eq!(condition.reason, "ServerRewound");
    second.stop().await;
}

#[tokio::test]
async fn a_database_that_is_missing_is_waited_for_and_read_from_its_beginning() {
    let couch = Couch::at(json!(5));
    couch.tells("0", &[line(&json!(5), "x")]);
    couch.change(|script| script.is_there = false);
    let server = couch.serve().await;
    let world = World { about: annotated("weft.dev/start", "now"), ..world(&server) };
    let error = run(&world, source()).fails().await;
    assert_eq!(error.reason(), "UpstreamNotFound");
    assert_eq!(error.to_string(), "127.0.0.1 has no database shop");
    couch.change(|script| script.is_there = true);
    let second = run(&world, source());
    assert_eq!(ids(&world, 1).await, ["5"]);
    second.stop().await;
    // It goes away and comes back as another.
    couch.change(|script| script.is_there = false);
    assert_eq!(run(&world, source()).fails().await.reason(), "UpstreamNotFound");
    couch.change(|script| script.is_there = true);
    let third = run(&world, source());
    assert_eq!(ids(&world, 2).await, ["5", "5"]);
    third.condition(SEQUENCE_KEPT, false).await;
    third.stop().await;
}

#[tokio::test]
async fn a_node_that_has_not_heard_of_its_databases_yet_forgets_nothing() {
    let couch = Couch::at(json!("5-e"));
    couch.tells("0", &[line(&json!("5-e"), "x")]).tells("5-e", &[line(&json!("6-f"), "y")]);
    let server = couch.serve().await;
    let world = world(&server);
    let first = run(&world, source());
    ids(&world, 1).await;
    first.stop().await;
    couch.change(|script| script.is_there = false);
    assert_eq!(run(&world, source()).fails().await.reason(), "UpstreamNotFound");
    couch.change(|script| script.is_there = true);
    let second = run(&world, source());
    assert_eq!(ids(&world, 2).await, ["5-e", "6-f"]);
    second.stop().await;
}

#[tokio::test]
async fn a_path_that_somebody_else_does_not_know_forgets_nothing() {
    let couch = Couch::at(json!(4));
    couch.tells("0", &[line(&json!(4), "x")]).tells("4", &[line(&json!(5), "y")]);
    let server = couch.serve().await;
    let world = world(&server);
    let first = run(&world, source());
    ids(&world, 1).await;
    first.stop().await;
    couch.change(|script| script.refusal = Some((404, "default backend - 404".to_owned())));
    assert_eq!(run(&world, source()).fails().await.reason(), "UpstreamNotFound");
    couch.change(|script| script.refusal = None);
    let second = run(&world, source());
    assert_eq!(ids(&world, 2).await, ["4", "5"]);
    second.stop().await;
}

#[tokio::test]
async fn a_first_start_may_begin_now() {
    let couch = Couch::at(json!("7-g"));
    couch.tells("0", &[line(&json!("7-g"), "x")]).tells("7-g", &[line(&json!("8-h"), "y")]);
    let server = couch.serve().await;
    let world = World { about: annotated("weft.dev/start", "now"), ..world(&server) };
    let run = run(&world, source());
    assert_eq!(ids(&world, 1).await, ["8-h"]);
    run.stop().await;
}

#[tokio::test]
async fn refusals_are_told_apart() {
    let couch = Couch::at(json!(1));
    let server = couch.serve().await;
    let world = world(&server);
    for (status, reason) in [
        (401, "CredentialsRefused"),
        (403, "CredentialsRefused"),
        (404, "UpstreamNotFound"),
        (500, "UpstreamUnavailable"),
        (200, "UpstreamUnavailable"),
        (302, "UpstreamUnavailable"),
    ] {
        couch.change(|script| script.refusal = Some((status, r#"{"error":"no"}"#.to_owned())));
        let error = run(&world, source()).fails().await;
        assert_eq!(error.reason(), reason, "{status}");
        let text = format!("{error} {:?}", std::error::Error::source(&error));
        assert!(!text.contains("p%3Aw") && !text.contains("p:w"), "{text}");
    }
}

#[tokio::test]
async fn a_feed_that_breaks_off_keeps_what_it_told() {
    let couch = Couch::at(json!(2));
    couch.tells("0", &[line(&json!(1), "x"), "{\"seq\":2,\"id\":".to_owned()]);
    let server = couch.serve().await;
    let world = world(&server);
    let first = run(&world, source());
    ids(&world, 1).await;
    couch.change(|script| script.open.clear());
    assert_eq!(first.fails().await.reason(), "UpstreamUnavailable");
    couch.tells("1", &[line(&json!(2), "y")]);
    let second = run(&world, source());
    assert_eq!(ids(&world, 2).await, ["1", "2"]);
    couch.says("<html>");
    assert_eq!(second.fails().await.reason(), "UpstreamUnavailable");
}

#[tokio::test]
async fn a_document_that_is_too_large_is_parked_and_passed() {
    let large = json!({"seq": 1, "id": "x", "changes": [{"rev": "1-a"}], "doc": {"a": "y".repeat(17 << 20)}});
    let couch = Couch::at(json!(2));
    couch.tells("0", &[large.to_string(), line(&json!(2), "z")]);
    let server = couch.serve().await;
    let world = world(&server);
    let run = run(&world, CouchDbSource { include_docs: true, ..source() });
    assert_eq!(ids(&world, 1).await, ["2"]);
    run.condition(Condition::NOTHING_PARKED, false).await;
    let parked = world.parked.0.lock().unwrap().remove(0);
    assert_eq!((parked.1.id(), parked.1.data().unwrap().as_ref()), ("1", &br#"["1-a"]"#[..]));
    run.stop().await;
}

#[tokio::test]
async fn it_needs_a_url_and_perhaps_certificates() {
    let needs = source().needs(&about());
    assert_eq!(needs[0], Need::secret(CREDENTIALS, "couch", "url"));
    assert_eq!(needs[1], Need::secret(CA, "couch", "ca.crt").optional());
    for (url, why) in [
        ("couch.example.com", "its url is not a URL such as https://user:password@host:6984"),
        ("ftp://couch.example.com", "its url is neither http nor https"),
        ("http://couch.example.com/?x", "its url has a query or a fragment"),
        ("", "it is empty"),
    ] {
        let given = [(CREDENTIALS, Secret::new(url))].into_iter().collect();
        let error = run(&World { given, ..World::new() }, source()).fails().await;
        assert_eq!(error.to_string(), format!("credentials: {why}"));
        assert!(!error.is_retryable());
    }
}

fn refused(change: impl FnOnce(&mut Value)) -> String {
    let mut object = json!({
        "metadata": {"name": "c", "namespace": "n"},
        "spec": {"credentials": {"name": "couch"}, "database": "shop", "sink": {"uri": "http://s/"}},
    });
    change(&mut object);
    let mut object: SourceObject<CouchDbSource> = serde_json::from_value(object).unwrap();
    object.defaults();
    let rules = Rules {
        catalog: Catalog::BUILTIN,
        cesql: &|_| Ok(()),
        broker_defaults: &BrokerDefaults::default(),
        ping_defaults: PingDefaults::default(),
    };
    let errors = object.validate(&rules).to_string();
    if errors.is_empty() {
        assert_eq!(
            object.spec.feed,
            if object.spec.is_continuous() { "continuous" } else { "normal" }
        );
    }
    errors
}

#[test]
fn a_minimal_spec_is_complete() {
    assert_eq!(refused(|_| {}), "");
    assert_eq!(refused(|object| object["spec"]["feed"] = json!("normal")), "");
    assert_eq!(refused(|object| object["spec"]["database"] = json!("_users")), "");
    assert_eq!(refused(|object| object["spec"]["credentials"]["namespace"] = json!("n")), "");
}

#[test]
fn the_schema_keeps_any_selector() {
    let schema = crds::source::schema::<CouchDbSource>();
    let selector = schema.pointer("/properties/spec/properties/selector").unwrap();
    assert_eq!(selector["type"], "object");
    assert_eq!(selector["x-kubernetes-preserve-unknown-fields"], true);
    let feed = schema.pointer("/properties/spec/properties/feed/enum").unwrap();
    assert_eq!(*feed, json!(["continuous", "normal"]));
}

#[test]
fn what_cannot_be_is_refused_with_its_field() {
    let empty = refused(|object| object["spec"] = json!({}));
    assert_eq!(
        empty,
        "expected at least one, got none: spec.sink.ref, spec.sink.uri\nmissing field(s): spec.credentials.name, spec.database"
    );
    for (field, value, expected) in [
        (
            "feed",
            json!("longpoll"),
            "invalid value: \"longpoll\": spec.feed\nexpected continuous or normal",
        ),
        ("database", json!("Shop"), "invalid value: \"Shop\": spec.database\n"),
        ("database", json!("_all_dbs"), "invalid value: \"_all_dbs\": spec.database\n"),
        (
            "credentials",
            json!({"name": "c", "namespace": "x"}),
            "mismatched namespaces: spec.credentials.namespace\n",
        ),
        (
            "credentials",
            json!({"name": "c", "kind": "ConfigMap"}),
            "invalid value: \"ConfigMap\": spec.credentials.kind\n",
        ),
        ("selector", json!({"a": "x".repeat(70_000)}), "70008 bytes are too many: spec.selector\n"),
    ] {
        let refused = refused(|object| object["spec"][field] = value);
        assert!(refused.starts_with(expected), "{refused}");
    }
    for (key, value) in [
        ("weft.dev/start", "2026-01-01T00:00:00Z"),
        ("weft.dev/event-id", "uuid"),
        ("weft.dev/order", "key"),
    ] {
        let refused = refused(|object| object["metadata"]["annotations"] = json!({ key: value }));
        assert!(refused.contains(&format!("metadata.annotations[{key}]")), "{refused}");
    }
}

#[test]
fn the_status_names_the_server_once_the_secret_does() {
    assert!(source().attributes(&about(), &Given::default()).is_empty());
    let url = Secret::new("http://user:password@couch.example:5984/");
    let given: Given = [(CREDENTIALS, url)].into_iter().collect();
    let attributes = source().attributes(&about(), &given);
    let told: Vec<_> = attributes.iter().map(|one| (&*one.kind, &*one.source)).collect();
    let (update, delete) =
        ("org.apache.couchdb.document.update", "org.apache.couchdb.document.delete");
    assert_eq!(told, [(update, "couch.example/shop"), (delete, "couch.example/shop")]);
}
