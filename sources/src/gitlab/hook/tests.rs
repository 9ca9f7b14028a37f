//! Registration against a server that keeps web hooks as GitLab's documentation of its API describes it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};

use super::GitLabHook;
use crate::gitlab::GitLabSource;
use crate::registration::fake::{Answer, Call, Server};
use crate::registration::{Hooked, Registered, Registrar, RegistrationError};
use crate::secret::Secret;
use crate::source::fake::World;

const ACCESS: &str = "glpat-it-is-a-token";
const TOKEN: &str = "it-is-a-secret-to-everybody";

/// What a project's web hook has beside, in a GitLab of 2024.
const PROJECT: &[&str] = &[
    "push_events",
    "tag_push_events",
    "issues_events",
    "confidential_issues_events",
    "merge_requests_events",
    "note_events",
    "confidential_note_events",
    "job_events",
    "pipeline_events",
    "wiki_page_events",
    "deployment_events",
    "feature_flag_events",
    "releases_events",
    "emoji_events",
    "resource_access_token_events",
];

/// What a group's has more.
const GROUP: &[&str] = &["subgroup_events", "member_events"];

type Known = <Hooked<GitLabHook> as Registrar>::Known;

/// What GitLab has: `acme/shop` is a project and `acme` a group.
#[derive(Debug, Default)]
struct GitLab {
    hooks: BTreeMap<(String, i64), Value>,
    last: i64,
}

impl GitLab {
    /// Takes what is told and known; push events are wanted unless it is said that they are not.
    fn write(&mut self, key: &(String, i64), told: &Value) -> Value {
        let group = key.0.contains("/groups/");
        let flags = PROJECT.iter().chain(if group { GROUP } else { &[] });
        let hook = self.hooks.entry(key.clone()).or_insert_with(|| {
            json!({ "id": key.1, "alert_status": "executable", "disabled_until": null, "push_events": true })
        });
        for flag in flags {
            let before = hook[*flag].as_bool().unwrap_or(false);
            hook[*flag] = told[*flag].as_bool().unwrap_or(before).into();
        }
        for field in ["url", "enable_ssl_verification"] {
            hook[field] = told[field].clone();
        }
        assert_eq!(told["token"], TOKEN);
        hook.clone()
    }

    fn answer(&mut self, call: &Call) -> Answer {
        assert_eq!(call.headers["private-token"], ACCESS);
        let absent =
            |what: &str| Answer::json(404, &json!({ "message": format!("404 {what} Not Found") }));
        let (path, _) = call.path.split_once('?').unwrap_or((&call.path, ""));
        let path = path.strip_prefix("/api/v4").unwrap();
        match path {
            "/projects/acme%2Fshop" | "/groups/acme" => {
                return Answer::json(200, &json!({ "id": 3 }));
            }
            "/projects/acme" | "/projects/none" => return absent("Project"),
            "/groups/none" => return absent("Group"),
            _ => {}
        }
        if let Some(place) = path.strip_suffix("/hooks") {
            if call.method == "GET" {
                let mine = self.hooks.iter().filter(|((at, _), _)| at == place);
                return Answer::json(200, &mine.map(|(_, hook)| hook.clone()).collect());
            }
            self.last += 1;
            return Answer::json(201, &self.write(&(place.to_owned(), self.last), &call.json()));
        }
        let (place, id) = path.rsplit_once("/hooks/").unwrap();
        let key = (place.to_owned(), id.parse().unwrap());
        match (call.method.as_str(), self.hooks.get(&key)) {
            (_, None) => absent("Not found"),
            ("PUT", Some(_)) => Answer::json(200, &self.write(&key, &call.json())),
            ("DELETE", Some(_)) => {
                self.hooks.remove(&key);
                Answer::text(204, "")
            }
            (_, Some(hook)) => Answer::json(200, hook),
        }
    }
}

struct Scene {
    gitlab: Arc<Mutex<GitLab>>,
    server: Server,
    world: World,
    spec: GitLabSource,
}

impl Scene {
    async fn of(path: &str, events: &[&str]) -> Self {
        let gitlab: Arc<Mutex<GitLab>> = Arc::default();
        let answering = Arc::clone(&gitlab);
        let server = Server::start(move |call| answering.lock().unwrap().answer(call)).await;
        let mut world = World::new();
        let given = [("accessToken", ACCESS), ("secretToken", TOKEN)];
        world.given = given.map(|(field, value)| (field, Secret::new(value))).into_iter().collect();
        let spec = GitLabSource {
            project_url: format!("{}/{path}", server.url),
            event_types: events.iter().map(|&event| event.to_owned()).collect(),
            ..GitLabSource::default()
        };
        Self { gitlab, server, world, spec }
    }

    fn hook(&self) -> Hooked<GitLabHook> {
        let (ctx, _) = self.world.context("GitLabSource");
        Hooked(GitLabHook::new(&self.spec, &ctx).unwrap())
    }

    async fn ensure(
        &self,
        known: Option<&Known>,
        tell: bool,
    ) -> Result<Registered<Known>, RegistrationError> {
        self.hook().ensure(known, tell).await
    }

    /// The web hooks that there are.
    fn hooks(&self) -> Vec<Value> {
        self.gitlab.lock().unwrap().hooks.values().cloned().collect()
    }

    /// Changes the web hook as somebody at GitLab would.
    fn edit(&self, field: &str, value: impl Into<Value>) {
        let mut gitlab = self.gitlab.lock().unwrap();
        gitlab.hooks.values_mut().next().unwrap()[field] = value.into();
    }
}

#[tokio::test]
async fn a_projects_web_hook_says_all_events() {
    let scene = Scene::of("acme/shop", &["merge_requests_events", "emoji_events"]).await;
    let made = scene.ensure(None, true).await.unwrap();
    assert_eq!(made.lacking, None);
    let calls = scene.server.calls();
    let lines: Vec<_> = calls.iter().map(Call::line).collect();
    let place = "/api/v4/projects/acme%2Fshop";
    let list = format!("GET {place}/hooks?per_page=100&page=1");
    assert_eq!(lines, [format!("GET {place}"), list, format!("POST {place}/hooks")]);
    let told = calls[2].json();
    assert_eq!(told["url"], "http://mesh.example/sources/default/one");
    assert_eq!(
        (&told["enable_ssl_verification"], &told["push_events"]),
        (&json!(false), &json!(false))
    );
    let on = scene.hooks()[0].clone();
    let on: Vec<_> = PROJECT.iter().filter(|event| on[**event] == true).collect();
    assert_eq!(on, [&"merge_requests_events", &"emoji_events"]);
    scene.ensure(Some(&made.known), false).await.unwrap();
    let lines = scene.server.lines();
    assert_eq!(lines, [format!("GET {place}"), format!("GET {place}/hooks/1")]);
}

#[tokio::test]
async fn a_path_that_is_no_project_is_a_group() {
    let scene = Scene::of("acme", &["push_events", "member_events"]).await;
    assert_eq!(scene.ensure(None, true).await.unwrap().lacking, None);
    let place = "/api/v4/groups/acme";
    let lines = scene.server.lines();
    assert_eq!(lines[..2], ["GET /api/v4/projects/acme".to_owned(), format!("GET {place}")]);
    assert_eq!(lines[3], format!("POST {place}/hooks"));
    let as_shown = Scene::of("groups/acme", &["push_events"]).await;
    as_shown.ensure(None, true).await.unwrap();
    assert_eq!(as_shown.server.lines()[0], format!("GET {place}/hooks?per_page=100&page=1"));
}

#[tokio::test]
async fn what_is_neither_is_absent() {
    let scene = Scene::of("none", &["push_events"]).await;
    let error = scene.ensure(None, true).await.unwrap_err();
    assert!(matches!(error, RegistrationError::Absent { .. }), "{error}");
    let text = error.to_string();
    assert!(text.starts_with("look up the project or group: 127.0.0.1 answered 404"), "{text}");
    assert!(text.contains("404 Group Not Found"), "{text}");
    scene.hook().remove(None).await.unwrap_err();
}

#[tokio::test]
async fn what_somebody_changed_is_changed_back() {
    let scene = Scene::of("acme/shop", &["push_events"]).await;
    let known = scene.ensure(None, true).await.unwrap().known;
    let changes = [
        ("push_events", json!(false)),
        ("issues_events", json!(true)),
        ("url", json!("https://elsewhere.example/")),
        ("enable_ssl_verification", json!(true)),
    ];
    for (field, value) in changes {
        let right = scene.hooks()[0].clone();
        scene.edit(field, value);
        scene.server.calls();
        let ensured = scene.ensure(Some(&known), false).await.unwrap();
        assert_eq!((ensured.known, ensured.lacking), (known.clone(), None));
        assert_eq!(scene.server.lines()[2], "PUT /api/v4/projects/acme%2Fshop/hooks/1");
        assert_eq!(scene.hooks(), [right], "{field}");
    }
}

#[tokio::test]
async fn a_web_hook_that_gitlab_gave_up_is_replaced() {
    let scene = Scene::of("acme/shop", &["push_events"]).await;
    let known = scene.ensure(None, true).await.unwrap().known;
    scene.edit("alert_status", "disabled");
    let again = scene.ensure(Some(&known), false).await.unwrap();
    assert_ne!(again.known, known);
    let hooks = scene.hooks();
    assert_eq!((hooks.len(), &hooks[0]["id"]), (1, &json!(2)));
}

#[tokio::test]
async fn a_pause_of_gitlabs_is_said() {
    let scene = Scene::of("acme/shop", &["push_events"]).await;
    let known = scene.ensure(None, true).await.unwrap().known;
    scene.edit("alert_status", "temporarily_disabled");
    scene.edit("disabled_until", "2026-11-26T09:00:00Z");
    let lacking = scene.ensure(Some(&known), false).await.unwrap().lacking;
    let why = "deliveries failed, and GitLab sends none until 2026-11-26T09:00:00Z".to_owned();
    assert_eq!(lacking, Some(("WebhookDisabled", why)));
}

#[tokio::test]
async fn events_that_this_web_hook_cannot_have_are_named() {
    let wanted = ["push_events", "member_events", "milestone_events"];
    let scene = Scene::of("acme/shop", &wanted).await;
    let made = scene.ensure(None, true).await.unwrap();
    let why = "GitLab has no member_events, milestone_events for this web hook".to_owned();
    assert_eq!(made.lacking, Some(("EventTypesNotSupported", why)));
    scene.server.calls();
    // It is not told the same again and again.
    scene.ensure(Some(&made.known), false).await.unwrap();
    assert!(scene.server.lines().iter().all(|line| line.starts_with("GET ")));
}

#[tokio::test]
async fn the_web_hook_is_deleted_with_its_source() {
    let scene = Scene::of("acme/shop", &["push_events"]).await;
    let known = scene.ensure(None, true).await.unwrap().known;
    scene.hook().remove(Some(&known)).await.unwrap();
    assert!(scene.hooks().is_empty());
    scene.hook().remove(Some(&known)).await.unwrap();
}

#[tokio::test]
async fn secrets_are_not_in_debug() {
    let scene = Scene::of("acme/shop", &["push_events"]).await;
    let text = format!("{:?}", scene.hook());
    assert!(!text.contains(ACCESS) && !text.contains(TOKEN), "{text}");
}
