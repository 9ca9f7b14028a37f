//! Objects become events, over restarts and a server that forgets; the server is scripted here.

mod server;

use std::sync::Arc;
use std::time::Duration;

use broker_event::Event;
use serde_json::json;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use self::server::Server;
use super::{Api, ApiServerSource};
use crate::emit::EmitError;
use crate::source::fake::World;
use crate::source::{Source, SourceError};
use crate::status::{Board, State, Status, fake};

/// Longer than anything here takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(30);

fn spec(extra: &serde_json::Value) -> ApiServerSource {
    let mut spec = json!({
        "resources": [{"apiVersion": "v1", "kind": "ConfigMap"}],
        "mode": "Resource", "serviceAccountName": "watcher",
    });
    for (field, value) in extra.as_object().unwrap() {
        spec[field] = value.clone();
    }
    serde_json::from_value(spec).unwrap()
}

fn world(server: &Server) -> World {
    let filters: super::Compile = |filters| {
        let only = filters.first().and_then(|filter| filter.exact.clone()).unwrap_or_default();
        let matches = move |event: &Event| only.get("type").is_none_or(|ty| event.ty() == ty);
        Ok(Box::new(matches))
    };
    let mut world = World { api: Some(Api::of_cluster(server.client(), filters)), ..World::new() };
    let annotations = [(crds::annotation::START.to_owned(), "earliest".to_owned())];
    Arc::make_mut(&mut world.about).annotations.extend(annotations);
    world
}

/// A source that runs.
struct Running {
    stop: CancellationToken,
    board: Arc<Board>,
    task: JoinHandle<Result<(), SourceError>>,
}

impl Running {
    fn start(world: &World, spec: ApiServerSource) -> Self {
        let (ctx, board) = world.context("ApiServerSource");
        let stop = ctx.stop.clone();
        #[expect(clippy::disallowed_methods, reason = "the test waits for it")]
        let task = tokio::spawn(spec.run(ctx));
        Self { stop, board, task }
    }

    async fn stop(self) {
        self.stop.cancel();
        self.ended().await.unwrap();
    }

    async fn ended(self) -> Result<(), SourceError> {
        timeout(PATIENCE, self.task).await.expect("in time").expect("no panic")
    }

    async fn until(&self, wanted: impl Fn(&Status) -> bool) -> Status {
        let found = async {
            let mut seen = self.board.revision();
            loop {
                let status = fake::only(&self.board);
                if wanted(&status) {
                    return status;
                }
                seen = self.board.changed_since(seen).await;
            }
        };
        timeout(PATIENCE, found).await.expect("in time")
    }
}

/// What was told, as the last word of the type and the subject's, once there are so many.
async fn told(world: &World, count: usize) -> Vec<String> {
    let events = timeout(PATIENCE, world.recorder.wait_for(count)).await;
    let events = events.unwrap_or_else(|_| panic!("{:?}", world.recorder.taken()));
    let last = |text: &str, at: char| text.rsplit(at).next().unwrap().to_owned();
    let word = |event: &Event| {
        format!("{} {}", last(event.ty(), '.'), last(event.subject().unwrap(), '/'))
    };
    events.iter().map(word).collect()
}

#[tokio::test]
async fn what_is_there_is_told_and_then_what_happens() {
    let server = Server::new();
    server.put("a");
    let world = world(&server);
    let running = Running::start(&world, spec(&json!({})));
    told(&world, 1).await;
    running.until(|status| status.state == State::Running).await;
    server.put("b");
    server.put("a");
    server.delete("b");
    assert_eq!(told(&world, 4).await, ["add a", "add b", "update a", "delete b"]);
    let events = world.recorder.taken();
    assert_eq!(events[0].data().unwrap(), server::config_map("a", 1).as_str());
    assert_eq!(events[0].id(), "u-a-1.1.add");
    assert_eq!(server.users(), ["system:serviceaccount:default:watcher"]);
    running.stop().await;
}

#[tokio::test]
async fn what_happened_while_it_was_away_is_told_once() {
    let server = Server::new();
    server.put("a");
    let world = world(&server);
    let running = Running::start(&world, spec(&json!({})));
    told(&world, 1).await;
    running.until(|status| status.state == State::Running).await;
    running.stop().await;
    server.put("b");
    server.delete("a");
    let running = Running::start(&world, spec(&json!({})));
    assert_eq!(told(&world, 3).await, ["add a", "add b", "delete a"]);
    running.stop().await;
    server.put("c");
    let running = Running::start(&world, spec(&json!({})));
    assert_eq!(told(&world, 4).await.last().unwrap(), "add c");
    running.stop().await;
}

#[tokio::test]
async fn what_a_server_has_forgotten_is_found_by_comparison() {
    let server = Server::new();
    for name in ["a", "b", "c"] {
        server.put(name);
    }
    let world = world(&server);
    let running = Running::start(&world, spec(&json!({})));
    told(&world, 3).await;
    running.until(|status| status.state == State::Running).await;
    running.stop().await;
    server.put("b");
    server.put("d");
    server.delete("c");
    server.forget();
    let running = Running::start(&world, spec(&json!({})));
    let told = told(&world, 6).await;
    assert_eq!(told[3..], ["update b", "add d", "delete c"]);
    let events = world.recorder.taken();
    let deleted = r#"{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"c","namespace":"default","resourceVersion":"3","uid":"u-c-3"}}"#;
    assert_eq!(events[5].data().unwrap(), deleted);
    running.stop().await;
}

#[tokio::test]
async fn events_that_were_not_taken_are_told_again_with_the_same_ids() {
    let server = Server::new();
    server.put("a");
    let world = world(&server);
    let unavailable = EmitError::Unavailable { reason: "away".to_owned() };
    world.recorder.always(Some(unavailable));
    let running = Running::start(&world, spec(&json!({})));
    running.until(|status| status.conditions.iter().any(|it| it.name == "Delivering")).await;
    running.stop().await;
    world.recorder.always(None);
    let running = Running::start(&world, spec(&json!({})));
    assert_eq!(told(&world, 1).await, ["add a"]);
    assert_eq!(world.recorder.taken()[0].id(), "u-a-1.1.add");
    running.stop().await;
}

#[tokio::test]
async fn what_is_there_at_the_first_start_is_left_out_unless_it_is_wanted() {
    let server = Server::new();
    server.put("a");
    let mut world = world(&server);
    Arc::make_mut(&mut world.about).annotations.clear();
    let running = Running::start(&world, spec(&json!({})));
    running.until(|status| status.state == State::Running).await;
    server.put("a");
    assert_eq!(told(&world, 1).await, ["update a"]);
    running.stop().await;
}

#[tokio::test]
async fn only_what_the_filters_match_is_sent() {
    let server = Server::new();
    server.put("a");
    let world = world(&server);
    let filters = json!({"filters": [{"exact": {"type": "dev.knative.apiserver.ref.delete"}}], "mode": "Reference"});
    let running = Running::start(&world, spec(&filters));
    running.until(|status| status.state == State::Running).await;
    server.put("b");
    server.delete("a");
    assert_eq!(told(&world, 1).await, ["delete a"]);
    let reference = r#"{"kind":"ConfigMap","namespace":"default","name":"a","apiVersion":"v1"}"#;
    assert_eq!(world.recorder.taken()[0].data().unwrap(), reference);
    running.stop().await;
}

#[tokio::test]
async fn without_the_rights_the_status_says_which_are_missing() {
    let server = Server::new();
    server.deny();
    let world = world(&server);
    let running = Running::start(&world, spec(&json!({})));
    let condition =
        running.until(|status| !status.conditions.is_empty()).await.conditions.remove(0);
    assert!(!condition.holds);
    assert_eq!(condition.name, "SufficientPermissions");
    assert_eq!(
        condition.message,
        r#"User system:serviceaccount:default:watcher cannot list, watch resource "configmaps" in API group "" in Namespace "default""#
    );
    let error = running.ended().await.unwrap_err();
    assert_eq!((error.reason(), error.is_retryable()), ("CredentialsRefused", true));
}

#[tokio::test]
async fn a_kind_that_is_not_served_is_named() {
    let server = Server::new();
    let world = world(&server);
    let nothing = json!({"resources": [{"apiVersion": "v1", "kind": "Nothing"}]});
    let error = Running::start(&world, spec(&nothing)).ended().await.unwrap_err();
    assert_eq!(error.to_string(), "v1 has no kind Nothing");
    assert_eq!(error.reason(), "UpstreamNotFound");
}
