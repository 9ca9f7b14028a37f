//! Registration against a server that keeps web hooks as GitHub's documentation of the REST API describes it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use crds::secret_ref::SecretValueFromSource;
use serde_json::{Value, json};

use super::{GitHubHook, events};
use crate::github::GitHubSource;
use crate::registration::fake::{Answer, Call, Server};
use crate::registration::{Hooked, Registered, Registrar, RegistrationError};
use crate::secret::Secret;
use crate::source::fake::World;

const TOKEN: &str = "ghp_it-is-a-token";
const SECRET: &str = "it-is-a-secret-to-everybody";
const URL: &str = "http://mesh.example/sources/default/one";

/// What GitHub has: web hooks by place and number, with their secrets.
#[derive(Debug, Default)]
struct GitHub {
    hooks: BTreeMap<(String, i64), Value>,
    last: i64,
    /// Answers that come first, after what was asked was done.
    scripted: Vec<Answer>,
}

impl GitHub {
    /// A web hook as it is shown.
    fn show(&self, key: &(String, i64)) -> Value {
        let mut hook = self.hooks[key].clone();
        if hook["config"]["secret"].is_string() {
            hook["config"]["secret"] = "********".into();
        }
        hook["id"] = key.1.into();
        hook["type"] = "Repository".into();
        hook["last_response"] = json!({ "code": null, "status": "unused", "message": null });
        hook
    }

    fn answer(&mut self, call: &Call) -> Answer {
        assert_eq!(call.headers["authorization"], format!("Bearer {TOKEN}"));
        assert_eq!(call.headers["accept"], "application/vnd.github+json");
        assert_eq!(call.headers["x-github-api-version"], "2022-11-28");
        assert!(call.headers.contains_key("user-agent"));
        let answer = self.act(call);
        if self.scripted.is_empty() { answer } else { self.scripted.remove(0) }
    }

    fn act(&mut self, call: &Call) -> Answer {
        let (path, query) = call.path.split_once('?').unwrap_or((&call.path, ""));
        let absent = Answer::json(404, &json!({ "message": "Not Found", "status": "404" }));
        if let Some(place) = path.strip_suffix("/hooks") {
            return match call.method.as_str() {
                "GET" => {
                    let page: usize =
                        query.strip_prefix("per_page=100&page=").unwrap().parse().unwrap();
                    let mine = self.hooks.keys().filter(|(at, _)| at == place);
                    let shown: Vec<_> = mine.map(|key| self.show(key)).collect();
                    let shown: Vec<_> =
                        shown.into_iter().skip((page - 1) * 100).take(100).collect();
                    Answer::json(200, &shown.into())
                }
                _ => {
                    self.last += 1;
                    let key = (place.to_owned(), self.last);
                    self.hooks.insert(key.clone(), call.json());
                    Answer::json(201, &self.show(&key))
                }
            };
        }
        let Some((place, id)) = path.rsplit_once("/hooks/") else { return absent };
        let key = (place.to_owned(), id.parse().unwrap());
        match (call.method.as_str(), self.hooks.get_mut(&key)) {
            (_, None) => absent,
            ("GET", Some(_)) => Answer::json(200, &self.show(&key)),
            ("PATCH", Some(hook)) => {
                *hook = call.json();
                Answer::json(200, &self.show(&key))
            }
            ("DELETE", Some(_)) => {
                self.hooks.remove(&key);
                Answer::text(204, "")
            }
            _ => Answer::text(405, ""),
        }
    }
}

/// A source and its GitHub.
struct Scene {
    github: Arc<Mutex<GitHub>>,
    server: Server,
    world: World,
    spec: GitHubSource,
}

impl Scene {
    async fn new() -> Self {
        let github: Arc<Mutex<GitHub>> = Arc::default();
        let answering = Arc::clone(&github);
        let server = Server::start(move |call| answering.lock().unwrap().answer(call)).await;
        let mut world = World::new();
        let given = [("accessToken", TOKEN), ("secretToken", SECRET)];
        world.given = given.map(|(field, value)| (field, Secret::new(value))).into_iter().collect();
        let spec = GitHubSource {
            owner_and_repository: "acme/shop".to_owned(),
            event_types: vec!["push".to_owned(), "issues".to_owned()],
            secret_token: Some(SecretValueFromSource::at("github", "secretToken")),
            github_api_url: Some(format!("{}/api/v3/", server.url)),
            ..GitHubSource::default()
        };
        Self { github, server, world, spec }
    }

    fn hook(&self) -> Hooked<GitHubHook> {
        let (ctx, _) = self.world.context("GitHubSource");
        Hooked(GitHubHook::new(&self.spec, &ctx).unwrap())
    }

    async fn ensure<'a>(
        &self,
        known: impl Into<Option<&'a <Hooked<GitHubHook> as Registrar>::Known>>,
        tell: bool,
    ) -> Result<Registered<<Hooked<GitHubHook> as Registrar>::Known>, RegistrationError> {
        self.hook().ensure(known.into(), tell).await
    }

    /// The numbers of the web hooks at a place, as in `repos/acme/shop`.
    fn numbers(&self, place: &str) -> Vec<i64> {
        let place = format!("/api/v3/{place}");
        let github = self.github.lock().unwrap();
        github.hooks.keys().filter(|(at, _)| *at == place).map(|(_, id)| *id).collect()
    }

    /// A web hook that is there already.
    fn put(&self, id: i64, url: &str) {
        let config = json!({ "url": url, "content_type": "json", "insecure_ssl": "0" });
        let hook = json!({ "active": true, "events": ["push"], "config": config });
        let mut github = self.github.lock().unwrap();
        github.hooks.insert(("/api/v3/repos/acme/shop".to_owned(), id), hook);
        github.last = github.last.max(id);
    }

    /// Changes a web hook as somebody at GitHub would.
    fn edit(&self, id: i64, change: impl FnOnce(&mut Value)) {
        let mut github = self.github.lock().unwrap();
        change(github.hooks.get_mut(&("/api/v3/repos/acme/shop".to_owned(), id)).unwrap());
    }

    fn script(&self, answers: impl IntoIterator<Item = Answer>) {
        self.github.lock().unwrap().scripted.extend(answers);
    }

    async fn refusal(&self, answer: Answer) -> String {
        self.script([answer]);
        let text = format!("{:?}", self.ensure(None, true).await.unwrap_err());
        assert!(!text.contains(TOKEN) && !text.contains(SECRET), "{text}");
        self.github.lock().unwrap().scripted.clear();
        text
    }
}

#[tokio::test]
async fn a_web_hook_is_made_and_then_only_looked_at() {
    let scene = Scene::new().await;
    let made = scene.ensure(None, true).await.unwrap();
    assert_eq!(made.lacking, None);
    let calls = scene.server.calls();
    let lines: Vec<_> = calls.iter().map(Call::line).collect();
    let list = "GET /api/v3/repos/acme/shop/hooks?per_page=100&page=1";
    assert_eq!(lines, [list, "POST /api/v3/repos/acme/shop/hooks"]);
    let wanted = json!({
        "name": "web",
        "active": true,
        "events": ["issues", "push"],
        "config": { "url": URL, "content_type": "json", "insecure_ssl": "0", "secret": SECRET },
    });
    assert_eq!(calls[1].json(), wanted);
    scene.ensure(&made.known, false).await.unwrap();
    assert_eq!(scene.server.lines(), ["GET /api/v3/repos/acme/shop/hooks/1"]);
    // After a start the secret may be another one, which GitHub does not show.
    scene.ensure(&made.known, true).await.unwrap();
    let calls = scene.server.calls();
    assert_eq!(calls[1].line(), "PATCH /api/v3/repos/acme/shop/hooks/1");
    assert_eq!(calls[1].json(), wanted);
}

#[tokio::test]
async fn an_organisation_has_its_own_place() {
    let mut scene = Scene::new().await;
    scene.spec.owner_and_repository = "acme".to_owned();
    scene.ensure(None, true).await.unwrap();
    assert_eq!(scene.numbers("orgs/acme"), [1]);
}

#[tokio::test]
async fn a_lost_answer_makes_no_second_web_hook() {
    let scene = Scene::new().await;
    scene.script([Answer::json(200, &json!([])), Answer::text(502, "<html>Bad Gateway</html>")]);
    assert!(scene.ensure(None, true).await.unwrap_err().is_retryable());
    assert_eq!(scene.numbers("repos/acme/shop"), [1]);
    scene.ensure(None, true).await.unwrap();
    assert_eq!(scene.numbers("repos/acme/shop"), [1]);
}

#[tokio::test]
async fn of_several_that_post_here_one_stays() {
    let scene = Scene::new().await;
    for id in 1..=3 {
        scene.put(id, URL);
    }
    scene.put(9, "https://ci.example/");
    scene.ensure(None, true).await.unwrap();
    assert_eq!(scene.numbers("repos/acme/shop"), [1, 9]);
}

#[tokio::test]
async fn ours_is_found_on_a_later_page() {
    let scene = Scene::new().await;
    for id in 0..150 {
        scene.put(id, "https://ci.example/");
    }
    scene.put(150, URL);
    scene.ensure(None, true).await.unwrap();
    assert_eq!(scene.numbers("repos/acme/shop").len(), 151);
}

#[tokio::test]
async fn what_somebody_changed_is_changed_back() {
    let scene = Scene::new().await;
    let known = scene.ensure(None, true).await.unwrap().known;
    let changes: [fn(&mut Value); 5] = [
        |hook| hook["active"] = false.into(),
        |hook| hook["events"] = json!(["push"]),
        |hook| hook["config"]["url"] = "https://elsewhere.example/".into(),
        |hook| hook["config"]["content_type"] = "form".into(),
        |hook| hook["config"]["insecure_ssl"] = "1".into(),
    ];
    for change in changes {
        scene.edit(1, change);
        scene.server.calls();
        let ensured = scene.ensure(&known, false).await.unwrap();
        assert_eq!((ensured.known, ensured.lacking), (known.clone(), None));
        let changed = "PATCH /api/v3/repos/acme/shop/hooks/1";
        assert_eq!(scene.server.lines(), ["GET /api/v3/repos/acme/shop/hooks/1", changed]);
    }
}

#[tokio::test]
async fn what_somebody_deleted_is_made_again() {
    let scene = Scene::new().await;
    let known = scene.ensure(None, true).await.unwrap().known;
    scene.github.lock().unwrap().hooks.clear();
    let again = scene.ensure(&known, false).await.unwrap().known;
    assert_eq!(scene.numbers("repos/acme/shop"), [2]);
    assert_ne!(again, known);
}

#[tokio::test]
async fn what_github_does_not_take_is_said() {
    let scene = Scene::new().await;
    let known = scene.ensure(None, true).await.unwrap().known;
    let mut odd = scene.github.lock().unwrap().show(&("/api/v3/repos/acme/shop".to_owned(), 1));
    odd["events"] = json!(["push"]);
    scene.script([Answer::json(200, &odd), Answer::json(200, &odd)]);
    let lacking = scene.ensure(&known, false).await.unwrap().lacking;
    let why = "upstream does not take what it is told of: its events".to_owned();
    assert_eq!(lacking, Some(("WebhookDiffers", why)));
}

#[tokio::test]
async fn the_web_hook_of_another_repository_goes() {
    let mut scene = Scene::new().await;
    let known = scene.ensure(None, true).await.unwrap().known;
    scene.spec.owner_and_repository = "acme/store".to_owned();
    let known = scene.ensure(&known, true).await.unwrap().known;
    assert_eq!(scene.numbers("repos/acme/shop"), [0; 0]);
    assert_eq!(scene.numbers("repos/acme/store"), [2]);
    // Where it may not be deleted, it does not keep the new one from being made.
    scene.spec.owner_and_repository = "acme/depot".to_owned();
    scene.script([Answer::json(403, &json!({ "message": "Must have admin rights" }))]);
    scene.ensure(&known, true).await.unwrap();
    assert_eq!(scene.numbers("repos/acme/depot"), [3]);
    // The token is not shown to another server.
    let other = Scene::new().await;
    other.ensure(&known, true).await.unwrap();
    assert!(other.server.lines().iter().all(|line| !line.contains("store")));
}

#[tokio::test]
async fn the_web_hook_is_deleted_with_its_source() {
    let scene = Scene::new().await;
    let known = scene.ensure(None, true).await.unwrap().known;
    scene.hook().remove(Some(&known)).await.unwrap();
    assert_eq!(scene.numbers("repos/acme/shop"), [0; 0]);
    scene.hook().remove(Some(&known)).await.unwrap();
    scene.ensure(None, true).await.unwrap();
    scene.hook().remove(None).await.unwrap();
    assert_eq!(scene.numbers("repos/acme/shop"), [0; 0]);
}

#[tokio::test]
async fn refusals_are_told_apart_and_hold_no_secret() {
    let scene = Scene::new().await;
    let said = |status, text: &str| Answer::json(status, &json!({ "message": text }));
    assert!(scene.refusal(said(401, "Bad credentials")).await.starts_with("Credentials"));
    assert!(scene.refusal(said(404, "Not Found")).await.starts_with("Absent"));
    assert!(scene.refusal(said(422, "Validation Failed")).await.starts_with("Rejected"));
    assert!(scene.refusal(said(301, "Moved Permanently")).await.starts_with("Rejected"));
    assert!(scene.refusal(said(503, "Unavailable")).await.starts_with("Failing"));
    assert!(scene.refusal(Answer::text(200, "<html>")).await.starts_with("Unreadable"));
    let limited = said(403, "API rate limit exceeded").header("retry-after", "60");
    assert!(scene.refusal(limited).await.starts_with("Limited"));
}

#[tokio::test]
async fn https_is_registered_where_it_is_asked_for() {
    let mut scene = Scene::new().await;
    scene.spec.secure = Some(true);
    scene.ensure(None, true).await.unwrap();
    let calls = scene.server.calls();
    let url = &calls[1].json()["config"]["url"];
    assert_eq!(url, "https://mesh.example/sources/default/one");
}

#[tokio::test]
async fn secrets_are_not_in_debug() {
    let scene = Scene::new().await;
    let text = format!("{:?}", scene.hook());
    assert!(!text.contains(TOKEN) && !text.contains(SECRET), "{text}");
    let session = crate::registration::HookApi::open(&scene.hook().0).await.unwrap();
    assert!(!format!("{session:?}").contains(TOKEN));
}

#[test]
fn a_ping_is_not_asked_for_unless_it_is_all() {
    let asked = |wanted: &[&str]| {
        let wanted: Vec<_> = wanted.iter().map(|&event| event.to_owned()).collect();
        events(&wanted).into_iter().collect::<Vec<_>>()
    };
    assert_eq!(asked(&["push", "ping", "push"]), ["push"]);
    assert_eq!(asked(&["ping"]), ["ping"]);
    assert_eq!(asked(&["push", "*"]), ["*"]);
}
