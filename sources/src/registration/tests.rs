//! The loop around a registration: what it says, remembers and waits for.

use std::collections::VecDeque;
use std::sync::Mutex;
use std::time::Duration;

use crds::condition::WEBHOOK_CONFIGURED;
use http::StatusCode;
use tokio::time::{Instant, timeout};

use super::{CHECK, Registered, Registrar, RegistrationError, retire, run};
use crate::given::NotGiven;
use crate::http_client::Answered;
use crate::source::Context;
use crate::source::fake::World;
use crate::status::{Board, Condition, State, fake};

type Round = Result<Registered<u32>, RegistrationError>;

/// Answers with what is scripted, then with success; remembers when it was asked, and how.
#[derive(Debug, Default)]
struct Scripted {
    rounds: Mutex<VecDeque<Round>>,
    removals: Mutex<VecDeque<Result<(), RegistrationError>>>,
    asked: Mutex<Vec<(Instant, Option<u32>, bool)>>,
}

impl Registrar for &Scripted {
    type Known = u32;

    async fn ensure(&self, known: Option<&u32>, tell: bool) -> Round {
        self.asked.lock().unwrap().push((Instant::now(), known.copied(), tell));
        let next = self.rounds.lock().unwrap().pop_front();
        next.unwrap_or_else(|| Ok(Registered { known: 7, lacking: None }))
    }

    async fn remove(&self, known: Option<&u32>) -> Result<(), RegistrationError> {
        self.asked.lock().unwrap().push((Instant::now(), known.copied(), false));
        self.removals.lock().unwrap().pop_front().unwrap_or(Ok(()))
    }

    fn facts(&self, known: &u32, ctx: &Context) {
        ctx.report.fact("number", *known);
    }
}

impl Scripted {
    fn with(rounds: impl IntoIterator<Item = Round>) -> Self {
        let scripted = Self::default();
        scripted.rounds.lock().unwrap().extend(rounds);
        scripted
    }

    /// Runs for a time.
    async fn run(&self, ctx: &Context, time: Duration) {
        let ran = timeout(time, run(|| Ok(self), ctx)).await;
        assert!(ran.is_err(), "it ended by itself");
    }

    fn asked(&self) -> Vec<(Instant, Option<u32>, bool)> {
        self.asked.lock().unwrap().clone()
    }
}

fn refused(status: StatusCode) -> RegistrationError {
    let answered = Answered::new("api.example.com", status, b"{\"message\":\"no\"}");
    match status {
        StatusCode::UNAUTHORIZED => RegistrationError::Credentials { what: "make it", answered },
        StatusCode::NOT_FOUND => RegistrationError::Absent { what: "make it", answered },
        _ => RegistrationError::Failing { what: "make it", answered },
    }
}

fn limited(seconds: u64) -> RegistrationError {
    let (host, wait) = ("api.example.com".to_owned(), Duration::from_secs(seconds));
    RegistrationError::Limited { what: "make it", host, wait }
}

fn configured(board: &Board) -> Condition {
    let conditions = fake::only(board).conditions;
    conditions.into_iter().find(|condition| condition.name == WEBHOOK_CONFIGURED).unwrap()
}

/// A few seconds less than a round can be away.
const EARLY: Duration = Duration::from_secs(530);

#[tokio::test(start_paused = true)]
async fn it_is_told_once_and_then_looked_at() {
    let world = World::new();
    let (ctx, board) = world.context("GitLabSource");
    let scripted = Scripted::default();
    scripted.run(&ctx, CHECK * 4).await;
    let asked = scripted.asked();
    let how: Vec<_> = asked.iter().map(|(_, known, tell)| (*known, *tell)).collect();
    assert_eq!(how[..3], [(None, true), (Some(7), false), (Some(7), false)]);
    assert!(asked.windows(2).all(|pair| pair[1].0 - pair[0].0 >= EARLY));
    assert_eq!(configured(&board), Condition::good(WEBHOOK_CONFIGURED, "Registered"));
    assert_eq!(fake::only(&board).state, State::Running);
    assert_eq!(fake::only(&board).facts["number"], 7);
}

#[tokio::test(start_paused = true)]
async fn what_is_known_outlives_a_restart_and_is_told_at_once() {
    let world = World::new();
    let (ctx, _) = world.context("GitLabSource");
    Scripted::default().run(&ctx, Duration::from_secs(1)).await;
    let (ctx, board) = world.context("GitLabSource");
    let second = Scripted::with([Err(limited(3600))]);
    second.run(&ctx, Duration::from_secs(1)).await;
    assert_eq!(second.asked()[0].1, Some(7));
    assert_eq!(fake::only(&board).facts["number"], 7);
    let condition = configured(&board);
    assert_eq!((condition.holds, &*condition.reason), (false, "RateLimited"));
    assert_eq!(condition.message, "make it: api.example.com allows no more requests for 3600s");
}

#[tokio::test(start_paused = true)]
async fn a_limit_is_waited_for_and_no_longer_than_an_hour() {
    let world = World::new();
    let (ctx, board) = world.context("GitLabSource");
    let scripted = Scripted::with([Err(limited(0)), Err(limited(120)), Err(limited(1_000_000))]);
    scripted.run(&ctx, Duration::from_secs(1 + 120 + 3600 + 5)).await;
    let times: Vec<_> = scripted.asked().iter().map(|asked| asked.0).collect();
    let waits: Vec<_> = times.windows(2).map(|pair| (pair[1] - pair[0]).as_secs()).collect();
    assert_eq!(waits, [1, 120, 3600]);
    assert!(configured(&board).holds);
}

#[tokio::test(start_paused = true)]
async fn refusals_are_said_and_repeated_ever_more_slowly() {
    let world = World::new();
    let (ctx, board) = world.context("GitLabSource");
    let refusals = std::iter::repeat_with(|| Err(refused(StatusCode::UNAUTHORIZED))).take(50);
    let scripted = Scripted::with(refusals);
    scripted.run(&ctx, Duration::from_secs(3600)).await;
    let asked = scripted.asked();
    assert!((6..20).contains(&asked.len()), "{}", asked.len());
    assert!(asked.iter().all(|(_, _, tell)| *tell), "nothing was told yet");
    let condition = configured(&board);
    assert_eq!((condition.holds, &*condition.reason), (false, "CredentialsRefused"));
    let said = r#"make it: api.example.com answered 401 Unauthorized: {"message":"no"}"#;
    assert_eq!(condition.message, said);
    assert_eq!(fake::only(&board).state, State::Running, "requests are taken nevertheless");
}

#[tokio::test(start_paused = true)]
async fn an_upstream_that_is_back_is_told_within_a_minute() {
    let world = World::new();
    let (ctx, board) = world.context("GitLabSource");
    let failing = std::iter::repeat_with(|| Err(refused(StatusCode::BAD_GATEWAY))).take(10);
    let scripted = Scripted::with(failing);
    scripted.run(&ctx, Duration::from_secs(600)).await;
    assert!(configured(&board).holds);
    let times: Vec<_> = scripted.asked().iter().map(|asked| asked.0).collect();
    assert!(times.windows(2).all(|pair| pair[1] - pair[0] <= Duration::from_secs(60)));
}

#[tokio::test(start_paused = true)]
async fn what_lacks_is_said_and_looked_at_again_soon() {
    let world = World::new();
    let (ctx, board) = world.context("GitLabSource");
    let lacking = Some(("EventTypesNotSupported", "no emoji".to_owned()));
    let scripted = Scripted::with([Ok(Registered { known: 7, lacking })]);
    scripted.run(&ctx, Duration::from_secs(5)).await;
    assert_eq!(&*configured(&board).reason, "EventTypesNotSupported");
    assert_eq!(fake::only(&board).facts["number"], 7);
    let again = Scripted::default();
    again.run(&ctx, Duration::from_secs(30)).await;
    assert!(configured(&board).holds);
}

#[tokio::test(start_paused = true)]
async fn a_missing_secret_is_said_and_requests_are_taken() {
    let world = World::new();
    let (ctx, board) = world.context("GitLabSource");
    let missing = || Err::<&Scripted, _>(NotGiven { field: "accessToken", why: "it is missing" });
    let ran = timeout(Duration::from_secs(5), run(missing, &ctx)).await;
    assert!(ran.is_err());
    let condition = configured(&board);
    assert_eq!((condition.holds, &*condition.reason), (false, "InvalidSecret"));
    assert_eq!(condition.message, "accessToken: it is missing");
    assert_eq!(fake::only(&board).state, State::Running);
}

#[tokio::test(start_paused = true)]
async fn nothing_is_asked_where_the_web_hook_is_made_by_hand() {
    let world = by_hand();
    let (ctx, board) = world.context("GitLabSource");
    let scripted = Scripted::default();
    scripted.run(&ctx, CHECK * 3).await;
    assert!(scripted.asked().is_empty());
    let condition = configured(&board);
    assert_eq!((condition.holds, &*condition.reason), (true, "NotManaged"));
    let said = "the web hook is made by hand, for http://mesh.example/sources/default/one";
    assert_eq!(condition.message, said);
    retire(|| Ok(&scripted), &ctx).await.unwrap();
    assert!(scripted.asked().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_stop_ends_it_at_once() {
    let world = World::new();
    let (ctx, _) = world.context("GitLabSource");
    let scripted = Scripted::default();
    let mut running = std::pin::pin!(run(|| Ok(&scripted), &ctx));
    assert!(timeout(Duration::from_secs(5), running.as_mut()).await.is_err());
    ctx.stop.cancel();
    let before = Instant::now();
    running.await;
    assert!(before.elapsed().is_zero());
}

#[tokio::test]
async fn only_what_waiting_can_help_keeps_a_deleted_source() {
    let world = World::new();
    let (ctx, _) = world.context("GitLabSource");
    let removal = async |outcome: Result<(), RegistrationError>| {
        let scripted = Scripted::default();
        scripted.removals.lock().unwrap().push_back(outcome);
        retire(|| Ok(&scripted), &ctx).await
    };
    removal(Ok(())).await.unwrap();
    removal(Err(refused(StatusCode::UNAUTHORIZED))).await.unwrap();
    removal(Err(refused(StatusCode::NOT_FOUND))).await.unwrap();
    assert!(removal(Err(refused(StatusCode::BAD_GATEWAY))).await.unwrap_err().is_retryable());
    assert!(removal(Err(limited(9))).await.unwrap_err().is_retryable());
    let missing = || Err::<&Scripted, _>(NotGiven { field: "accessToken", why: "it is missing" });
    retire(missing, &ctx).await.unwrap();
}

fn by_hand() -> World {
    let mut world = World::new();
    let mut about = crate::source::fake::about();
    about.annotations.insert("weft.dev/register".to_owned(), "false".to_owned());
    world.about = about.into();
    world
}
