//! The runner makes the running sources the wanted ones, and touches no other.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use jiff::Timestamp;
use serde_json::json;
use tokio::time::{Instant, timeout};

use super::{Aim, Ports, Runner, Wanted};
use crate::Config;
use crate::checkpoint::fake::InMemory;
use crate::clock::Clock;
use crate::emit::Overrides;
use crate::emit::fake::{Recorder, sink};
use crate::github::GitHubSource;
use crate::given::Given;
use crate::metrics::Metrics;
use crate::parking::fake as parking;
use crate::ping::PingSource;
use crate::registration::fake::{Answer, Server};
use crate::secret::Secret;
use crate::source::About;
use crate::source::fake::about;
use crate::status::{Condition, Key, State, Status};
use crate::webhook::Hooks;

/// A runner and what its sources see of the world.
struct World {
    runner: Runner,
    recorder: Arc<Recorder>,
    checkpoints: Arc<InMemory>,
    hooks: Hooks,
}

fn world() -> World {
    let recorder = Recorder::new();
    let checkpoints: Arc<InMemory> = Arc::default();
    let metrics = Metrics::default();
    let hooks = Hooks::new(metrics.clone());
    let runner = Runner::new(Ports {
        emit: recorder.clone(),
        checkpoints: checkpoints.clone(),
        parking: Arc::<parking::InMemory>::default(),
        public_url: "http://mesh.example/".into(),
        events_url: "http://127.0.0.1:8080".into(),
        host: Arc::default(),
        hooks: hooks.clone(),
        clock: Clock::following_tokio(Timestamp::UNIX_EPOCH),
        api: None,
        metrics,
    });
    World { runner, recorder, checkpoints, hooks }
}

fn spec(name: &str, config: impl Into<Config>) -> Wanted {
    Wanted {
        about: Arc::new(About { name: name.into(), ..about() }),
        sink: sink(),
        ce_overrides: Overrides::default(),
        given: [("secretToken", Secret::new("secret"))].into_iter().collect(),
        config: config.into(),
        aim: Aim::Run,
    }
}

fn ping(data: &str) -> PingSource {
    PingSource {
        schedule: "* * * * * *".to_owned(),
        data: data.to_owned(),
        ..PingSource::default()
    }
}

fn github(event: &str) -> GitHubSource {
    GitHubSource {
        owner_and_repository: "acme/shop".to_owned(),
        event_types: vec![event.to_owned()],
        ..GitHubSource::default()
    }
}

impl World {
    /// Waits until the source called `name` fulfils `wanted`; a minute at most.
    async fn until(&self, name: &str, wanted: impl Fn(&Status) -> bool) -> Status {
        let waiting = async {
            loop {
                let seen = self.runner.revision();
                let found = self.status(name).filter(&wanted);
                if let Some(status) = found {
                    return status;
                }
                self.runner.changed_since(seen).await;
            }
        };
        timeout(Duration::from_secs(60), waiting).await.expect("the status comes")
    }

    fn status(&self, name: &str) -> Option<Status> {
        let statuses = self.runner.statuses();
        statuses.into_iter().find(|(key, _)| &*key.name == name).map(|(_, status)| status)
    }

    /// Waits for an event with this data.
    async fn event_with(&self, data: &str) {
        let waiting = async {
            let mut count = 0;
            loop {
                let taken = self.recorder.wait_for(count + 1).await;
                if taken.iter().any(|event| event.data().is_some_and(|found| found == data)) {
                    return;
                }
                count = taken.len();
            }
        };
        timeout(Duration::from_secs(60), waiting).await.expect("the event comes");
    }

    /// What the ping called `name` says of ticks missed; nothing if it remembers none before it started.
    fn punctual(&self, name: &str) -> Option<bool> {
        let conditions = self.status(name).unwrap().conditions;
        let told = conditions.iter().find(|told| told.name == Condition::PUNCTUAL)?;
        Some(told.holds)
    }

    async fn get(&self, name: &str) -> u16 {
        let request = http::Request::get("/").body(Full::new(Bytes::new())).unwrap();
        self.hooks.serve("default", name, request).await.status().as_u16()
    }
}

#[tokio::test(start_paused = true)]
async fn wanted_sources_run_until_they_are_not_wanted() {
    let world = world();
    world.runner.apply(vec![spec("a", ping("a")), spec("b", ping("b"))]);
    world.event_with("a").await;
    world.event_with("b").await;
    world.runner.apply(vec![spec("b", ping("b"))]);
    assert_eq!(world.status("a"), None);
    tokio::time::advance(Duration::from_secs(1)).await;
    let before = world.recorder.taken().len();
    let after = world.recorder.wait_for(before + 3).await;
    let names: Vec<_> = after[before + 1..].iter().map(|event| event.data().unwrap()).collect();
    assert!(names.iter().all(|data| *data == "b"), "{names:?}");
    world.runner.stop().await;
}

#[tokio::test(start_paused = true)]
async fn what_is_unchanged_is_not_touched() {
    let world = world();
    world.runner.apply(vec![spec("a", ping("a"))]);
    world.until("a", |status| status.state == State::Running).await;
    world.event_with("a").await;
    let revision = world.runner.revision();
    world.runner.apply(vec![spec("a", ping("a"))]);
    assert_eq!(world.runner.revision(), revision);
    assert_eq!(world.status("a").unwrap().state, State::Running);
    world.runner.stop().await;
}

#[tokio::test(start_paused = true)]
async fn what_changed_is_started_anew_and_does_not_overlap() {
    let world = world();
    for round in ["1", "2", "3", "4"] {
        world.runner.apply(vec![spec("a", ping(round))]);
    }
    world.event_with("4").await;
    world.runner.apply(vec![spec("a", ping("5"))]);
    world.event_with("5").await;
    let taken = world.recorder.taken();
    let mut times: Vec<_> = taken.iter().map(|event| event.time().unwrap()).collect();
    let all = times.len();
    times.dedup();
    assert_eq!(times.len(), all, "a tick was made twice");
    world.runner.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_removed_sources_checkpoint_goes_and_a_stopped_ones_stays() {
    let world = world();
    world.runner.apply(vec![spec("a", ping("a")), spec("b", ping("b"))]);
    world.event_with("a").await;
    world.event_with("b").await;
    let kept = || {
        let mut keys: Vec<_> = world.checkpoints.0.lock().unwrap().keys().cloned().collect();
        keys.sort();
        keys
    };
    assert_eq!(kept(), ["PingSource/default/a", "PingSource/default/b"]);
    world.runner.apply(vec![spec("b", ping("b"))]);
    world.runner.stop().await;
    assert_eq!(kept(), ["PingSource/default/b"]);
}

#[tokio::test(start_paused = true)]
async fn a_source_that_is_removed_and_wanted_again_starts_after_its_end() {
    let world = world();
    world.runner.apply(vec![spec("a", ping("old"))]);
    world.event_with("old").await;
    world.runner.apply(Vec::new());
    world.runner.apply(vec![spec("a", ping("new"))]);
    world.event_with("new").await;
    world.runner.stop().await;
    assert_eq!(world.checkpoints.0.lock().unwrap().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn another_resource_of_the_same_name_starts_afresh() {
    let world = world();
    world.runner.apply(vec![spec("a", ping("old"))]);
    world.event_with("old").await;
    let about = Arc::new(About { name: "a".into(), uid: "another".into(), ..about() });
    world.runner.apply(vec![Wanted { about, ..spec("a", ping("new")) }]);
    world.event_with("new").await;
    assert_eq!(world.punctual("a"), None);
    world.runner.stop().await;
}

#[tokio::test(start_paused = true)]
async fn what_waits_does_not_run_and_goes_on_where_it_was() {
    let world = world();
    let waiting = |wanted: Wanted| Wanted { aim: Aim::Wait, ..wanted };
    world.runner.apply(vec![spec("a", ping("before"))]);
    world.event_with("before").await;
    world
        .runner
        .apply(vec![waiting(spec("a", ping("waiting"))), waiting(spec("hook", github("push")))]);
    assert_eq!(world.status("a"), None);
    assert_eq!(world.get("hook").await, 503, "it is known");
    world.runner.apply(vec![spec("a", ping("after"))]);
    world.event_with("after").await;
    assert_eq!(world.punctual("a"), Some(true));
    let waited = |data: &Bytes| data == "waiting";
    assert!(!world.recorder.taken().iter().any(|event| event.data().is_some_and(waited)));
    world.runner.stop().await;
}

#[tokio::test]
async fn a_source_takes_its_leave_with_the_secrets_that_it_ran_with() {
    let server = Server::start(|call| match call.method.as_str() {
        "GET" => Answer::json(200, &json!([])),
        "POST" => Answer::json(201, &json!({"id": 7})),
        _ => Answer::text(204, ""),
    })
    .await;
    let world = world();
    let source = GitHubSource { github_api_url: Some(server.url.clone()), ..github("push") };
    let given = ["accessToken", "secretToken"].map(|field| (field, Secret::new("secret")));
    let wanted = Wanted { given: given.into_iter().collect(), ..spec("a", source) };
    world.runner.apply(vec![wanted.clone()]);
    world.until("a", |status| status.facts.contains_key("webhookIDKey")).await;
    // The Secret is deleted first, then the source.
    for aim in [Aim::Wait, Aim::Retire] {
        world.runner.apply(vec![Wanted { given: Given::default(), aim, ..wanted.clone() }]);
    }
    world.until("a", |status| status.state == State::Retired).await;
    let asked = server.lines();
    assert!(asked.contains(&"DELETE /repos/acme/shop/hooks/7".to_owned()), "{asked:?}");
    world.runner.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_configuration_that_cannot_work_is_reported_and_not_tried_again() {
    let world = world();
    let broken = PingSource { schedule: "never".to_owned(), ..ping("a") };
    world.runner.apply(vec![spec("a", broken), spec("b", ping("b"))]);
    let status = world.until("a", |status| status.state == State::Failed).await;
    assert!(status.message.starts_with("schedule: "), "{}", status.message);
    tokio::time::advance(Duration::from_secs(3600)).await;
    assert_eq!(world.status("a").unwrap().restarts, 0);
    world.event_with("b").await;
    world.runner.apply(vec![spec("a", ping("a"))]);
    world.event_with("a").await;
    world.runner.stop().await;
}

#[tokio::test(start_paused = true)]
async fn web_hooks_answer_from_the_moment_they_are_applied() {
    let world = world();
    assert_eq!(world.get("hook").await, 503);
    world.runner.apply(vec![spec("hook", github("push"))]);
    assert_eq!(world.get("other").await, 404);
    assert_eq!(world.get("hook").await, 405);
    world.runner.apply(vec![spec("hook", github("issues"))]);
    assert_eq!(world.get("hook").await, 405);
    world.runner.apply(Vec::new());
    world.runner.apply(vec![spec("other", github("issues"))]);
    assert_eq!(world.get("other").await, 405);
    assert_eq!(world.get("hook").await, 404);
    world.runner.stop().await;
    assert_eq!(world.get("other").await, 503);
}

#[tokio::test(start_paused = true)]
async fn of_two_specs_with_one_key_the_first_counts() {
    let world = world();
    world.runner.apply(vec![spec("a", ping("first")), spec("a", ping("second"))]);
    world.event_with("first").await;
    let second = |data: &Bytes| data == "second";
    assert!(!world.recorder.taken().iter().any(|event| event.data().is_some_and(second)));
    world.runner.stop().await;
}

#[tokio::test(start_paused = true)]
async fn stopping_ends_everything_soon_and_for_good() {
    let world = world();
    world.runner.apply((0..100).map(|n| spec(&n.to_string(), ping("x"))).collect());
    world.event_with("x").await;
    let before = Instant::now();
    world.runner.stop().await;
    assert!(before.elapsed() < Duration::from_secs(1));
    world.runner.apply(vec![spec("late", ping("late"))]);
    assert_eq!(world.status("late"), None);
}

#[test]
fn a_key_is_kind_namespace_and_name() {
    let key = spec("a", github("push")).key();
    let expected = Key { namespace: "default".into(), name: "a".into(), kind: "GitHubSource" };
    assert_eq!(key, expected);
    assert_eq!(key.to_string(), "GitHubSource default/a");
}
