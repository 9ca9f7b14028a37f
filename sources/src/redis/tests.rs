//! A source against a server that says what Redis says seldom: what is lost, gone, elsewhere, refused, or never answered.

use std::sync::Arc;
use std::time::Duration;

use broker_event::{Event, Value};
use crds::annotation::START;
use crds::ce_overrides::CloudEventOverrides;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::losses::NOTHING_REMOVED;
use super::{Address, PAYLOAD, RedisStreamSource};
use crate::emit::EmitError;
use crate::given::Given;
use crate::source::fake::{World, about};
use crate::source::{About, Source, SourceError};
use crate::status::{Board, Condition, State, Status, fake};

mod server;

use server::{NONE, SILENCE, Server, entries};

/// What the names of the source's group and consumers begin with.
const ID: &str = "default-one-5ca1ab1e-0000-4000-8000-000000000001";

/// A source ends within a second when it is asked to; a busy machine gets some more.
const SOON: Duration = Duration::from_secs(5);

struct Run {
    task: JoinHandle<Result<(), SourceError>>,
    stop: CancellationToken,
    board: Arc<Board>,
}

fn spec(server: &Server) -> RedisStreamSource {
    RedisStreamSource {
        address: Address::new(server.address()),
        stream: "s".to_owned(),
        group: "g".to_owned(),
        consumers: Some(1),
        ce_overrides: None::<CloudEventOverrides>,
        ..RedisStreamSource::default()
    }
}

fn run(world: &World, spec: RedisStreamSource) -> Run {
    let (context, board) = world.context("RedisStreamSource");
    let stop = context.stop.clone();
    Run { task: TaskTracker::new().spawn(spec.run(context)), stop, board }
}

impl Run {
    async fn stop(self) {
        self.stop.cancel();
        timeout(SOON, self.task).await.unwrap().unwrap().unwrap();
    }

    /// Why it ended by itself.
    async fn failure(self) -> SourceError {
        timeout(SOON, self.task).await.unwrap().unwrap().unwrap_err()
    }

    /// Waits for a status of which that is true.
    async fn status(&self, is_meant: impl Fn(&Status) -> bool) -> Status {
        let waited = timeout(SOON, async {
            loop {
                let revision = self.board.revision();
                let status = fake::only(&self.board);
                if is_meant(&status) {
                    return status;
                }
                self.board.changed_since(revision).await;
            }
        });
        waited.await.unwrap_or_else(|_| panic!("{:?}", fake::only(&self.board)))
    }

    /// Waits until a condition does not hold.
    async fn complaint(&self, name: &str) -> Condition {
        let bad = |condition: &&Condition| condition.name == name && !condition.holds;
        let status = self.status(|status| status.conditions.iter().any(|it| bad(&it))).await;
        status.conditions.iter().find(bad).unwrap().clone()
    }
}

fn world_with(annotations: &[(&str, &str)]) -> World {
    let annotations = annotations.iter().map(|(key, value)| ((*key).into(), (*value).into()));
    let about = About { annotations: annotations.collect(), ..about() };
    World { about: Arc::new(about), ..World::new() }
}

/// A server whose first answer about new entries is this.
async fn server_with(new: String) -> Server {
    let new = std::sync::Mutex::new(Some(new));
    Server::start(move |command| {
        let is_new = command.starts_with("XREADGROUP") && command.ends_with('>');
        if is_new { new.lock().unwrap().take() } else { None }
    })
    .await
}

async fn one_event(world: &World, fields: &[&str]) -> Event {
    let server = server_with(entries(&[("1526919030474-55", fields)])).await;
    let run = run(world, spec(&server));
    let event = timeout(SOON, world.recorder.wait_for(1)).await.unwrap().remove(0);
    run.stop().await;
    event
}

fn unavailable() -> EmitError {
    EmitError::Unavailable { reason: "connection refused".to_owned() }
}

#[tokio::test]
async fn an_event_has_the_attributes_of_knatives() {
    let event = one_event(&World::new(), &["fruit", "banana", "color", "yellow"]).await;
    assert_eq!(event.ty(), "dev.knative.sources.redisstream");
    assert!(event.source().starts_with("redis://127.0.0.1:") && event.source().ends_with("/s"));
    assert_eq!(event.id(), "1526919030474-55");
    assert_eq!((event.subject(), event.time()), (None, None));
    assert_eq!(event.data_content_type(), Some("application/json"));
    assert_eq!(event.data().unwrap(), r#"["fruit","banana","color","yellow"]"#);
    assert_eq!(event.extensions().len(), 0);
}

#[tokio::test]
async fn an_annotation_makes_objects_of_entries() {
    let world = world_with(&[(PAYLOAD, "object")]);
    let event = one_event(&world, &["fruit", "banana", "color", "yellow"]).await;
    assert_eq!(event.data().unwrap(), r#"{"fruit":"banana","color":"yellow"}"#);
}

#[tokio::test]
async fn an_entry_is_acknowledged_once_its_event_is_stored() {
    let world = World::new();
    world.recorder.always(Some(unavailable()));
    let server = server_with(entries(&[("1-1", &["a", "b"]), ("2-1", &["c", "d"])])).await;
    let run = run(&world, spec(&server));
    run.complaint(Condition::DELIVERING).await;
    assert_eq!(server.heard("XACK"), Vec::<String>::new());
    world.recorder.always(None);
    let taken = timeout(SOON, world.recorder.wait_for(2)).await.unwrap();
    assert_eq!((taken[0].id(), taken[1].id()), ("1-1", "2-1"));
    assert_eq!(server.wait_for("XACK").await, "XACK s g 1-1 2-1");
    run.stop().await;
}

#[tokio::test]
async fn what_the_sink_refuses_is_parked_and_acknowledged() {
    let world = World::new();
    world.recorder.always(Some(EmitError::Refused { reason: "too large".to_owned() }));
    let server = server_with(entries(&[("1-1", &["a", "b"])])).await;
    let run = run(&world, spec(&server));
    assert_eq!(server.wait_for("XACK").await, "XACK s g 1-1");
    assert_eq!(world.parked.0.lock().unwrap()[0].1.id(), "1-1");
    run.stop().await;
}

#[tokio::test]
async fn what_is_pending_comes_first_and_what_was_removed_is_told() {
    let pending =
        entries(&[("1-1", &["a", "b"])]).replacen("*1\n*2\n$3", "*2\n*2\n$3\n0-9\n*-1\n*2\n$3", 1);
    let server = Server::start(move |command| {
        (command.starts_with("XREADGROUP GROUP g default-one-")
            && command.ends_with("-0 COUNT 64 STREAMS s 0-0"))
        .then(|| pending.clone())
    })
    .await;
    let world = World::new();
    let run = run(&world, spec(&server));
    assert_eq!(server.wait_for("XACK").await, "XACK s g 0-9 1-1");
    let complaint = run.complaint(NOTHING_REMOVED).await;
    assert_eq!(
        complaint.message,
        "1 entries were removed from the stream before they were delivered; the last is 0-9"
    );
    let ids: Vec<_> = world.recorder.taken().iter().map(|event| event.id().to_owned()).collect();
    assert_eq!(ids, ["1-1"]);
    // It goes on behind what it got, and then with what is new.
    server.wait_for(&format!("XREADGROUP GROUP g {ID}-0 COUNT 128 STREAMS s 1-1")).await;
    server.wait_for(&format!("XREADGROUP GROUP g {ID}-0 COUNT 128 BLOCK 5000 STREAMS s >")).await;
    run.stop().await;
}

#[tokio::test]
async fn what_was_handed_to_a_dead_connection_is_found_when_nothing_new_comes() {
    let lost = entries(&[("1-1", &["a", "b"])]);
    let idle = std::sync::atomic::AtomicBool::new(false);
    let server = Server::start(move |command| {
        if !command.starts_with(&format!("XREADGROUP GROUP g {ID}-0 ")) {
            return None;
        }
        if command.ends_with('>') {
            let first = !idle.swap(true, std::sync::atomic::Ordering::Relaxed);
            return first.then(|| "*-1\n".to_owned());
        }
        let is_again = command.ends_with(" 0-0") && idle.load(std::sync::atomic::Ordering::Relaxed);
        is_again.then(|| lost.clone())
    })
    .await;
    let world = World::new();
    let run = run(&world, spec(&server));
    assert_eq!(server.wait_for("XACK").await, "XACK s g 1-1");
    assert_eq!(world.recorder.taken()[0].id(), "1-1");
    run.stop().await;
}

#[tokio::test]
async fn entries_that_were_removed_unread_are_told_once() {
    // Of the 150 that were added 100 are there; of the others the group read 10 and then 20 fewer than there were.
    let removed = Arc::new(std::sync::atomic::AtomicU64::new(40));
    let (known, world) = (Arc::clone(&removed), World::new());
    let server = Server::start(move |command| match command {
        "XINFO GROUPS s" => Some(
            "*1\n*8\n$4\nname\n$1\ng\n$7\npending\n:0\n$17\nlast-delivered-id\n$3\n5-3\n\
             $12\nentries-read\n:10\n"
                .to_owned(),
        ),
        "XINFO STREAM s" => Some(format!(
            "*8\n$6\nlength\n:100\n$13\nentries-added\n:{}\n$17\nlast-generated-id\n$3\n9-0\n\
             $11\nfirst-entry\n*2\n$3\n6-0\n*0\n",
            110 + known.load(std::sync::atomic::Ordering::Relaxed)
        )),
        _ => None,
    })
    .await;
    // What others lost before is not this source's.
    let first = run(&world, spec(&server));
    first.status(|status| status.state == State::Running).await;
    first.stop().await;
    removed.store(47, std::sync::atomic::Ordering::Relaxed);
    let second = run(&world, spec(&server));
    let complaint = second.complaint(NOTHING_REMOVED).await;
    assert_eq!(
        complaint.message,
        "7 entries were removed from the stream before they were delivered"
    );
    second.stop().await;
    let third = run(&world, spec(&server));
    let status = third.status(|status| status.state == State::Running).await;
    assert!(status.conditions.iter().all(|condition| condition.holds), "{status:?}");
    third.stop().await;
}

/// What a source makes a group with that is not there; `stream` is what the server knows about the stream.
async fn made(world: &World, stream: &'static str) -> String {
    let server = Server::start(move |command| match command {
        "XINFO STREAM s" => Some(stream.to_owned()),
        // Until it is made.
        "XINFO GROUPS s" => Some("*0\n".to_owned()),
        _ => None,
    })
    .await;
    let run =
        run(world, RedisStreamSource { address: Address::new(server.address()), ..spec(&server) });
    let made = server.wait_for("XGROUP CREATE").await;
    run.stop.cancel();
    drop(timeout(SOON, run.task).await.unwrap());
    made
}

#[tokio::test]
async fn a_group_begins_where_it_is_told() {
    for (start, made_at) in [
        (None, "$"),
        (Some("now"), "$"),
        (Some("earliest"), "0-0"),
        (Some("5-3"), "5-2"),
        (Some("1970-01-01T00:00:05Z"), "4999-18446744073709551615"),
    ] {
        let annotations: Vec<_> = start.map(|start| (START, start)).into_iter().collect();
        let made = made(&world_with(&annotations), "*0\n").await;
        assert_eq!(made, format!("XGROUP CREATE s g {made_at} MKSTREAM"), "{start:?}");
    }
}

#[tokio::test]
async fn a_destroyed_group_is_told_and_made_again_where_it_was() {
    let server = Server::start(|command| {
        let is_new = command.starts_with("XREADGROUP") && command.ends_with('>');
        is_new.then(|| "-NOGROUP No such key 's' or consumer group 'g'\n".to_owned())
    })
    .await;
    let world = World::new();
    let error = run(&world, spec(&server)).failure().await;
    assert!(error.is_retryable());
    assert!(error.to_string().contains("the group is made again where it was"), "{error}");
    let remembered = world.checkpoints.0.lock().unwrap().clone();
    for (stream, made_at) in [
        ("*2\n$17\nlast-generated-id\n$3\n9-0\n", "5-3"),
        // Another stream of the name: its ids are older.
        ("*2\n$17\nlast-generated-id\n$3\n4-0\n", "0-0"),
        ("-ERR no such key\n", "0-0"),
    ] {
        let again = World::new();
        // The port is another one for each server, and what is remembered is of an address.
        let server = Server::start(move |command| match command {
            "XINFO STREAM s" => Some(stream.to_owned()),
            "XINFO GROUPS s" => Some("*0\n".to_owned()),
            _ => None,
        })
        .await;
        for (place, bytes) in &remembered {
            let text = String::from_utf8(bytes.clone()).unwrap();
            let mut kept: serde_json::Value = serde_json::from_str(&text).unwrap();
            assert_eq!(kept["position"], "5-3");
            kept["address"] = server.address().into();
            again
                .checkpoints
                .0
                .lock()
                .unwrap()
                .insert(place.clone(), kept.to_string().into_bytes());
        }
        let run = run(&again, spec(&server));
        let made = server.wait_for("XGROUP CREATE").await;
        assert_eq!(made, format!("XGROUP CREATE s g {made_at} MKSTREAM"));
        run.stop.cancel();
        drop(timeout(SOON, run.task).await.unwrap());
    }
}

#[tokio::test]
async fn a_wrong_password_is_told_and_not_shown() {
    let server = Server::start(|command| {
        command
            .starts_with("AUTH")
            .then(|| "-WRONGPASS invalid username-password pair\n".to_owned())
    })
    .await;
    let address = Address::new(format!("redis://user:hunter2@127.0.0.1:{}", server.port));
    let error = run(&World::new(), RedisStreamSource { address, ..spec(&server) }).failure().await;
    assert_eq!(error.reason(), "CredentialsRefused");
    assert_eq!(
        error.to_string(),
        format!("connect to 127.0.0.1:{}: Redis refused the credentials", server.port)
    );
    assert_eq!(server.heard("AUTH"), ["AUTH user hunter2"]);
}

#[tokio::test]
async fn a_password_of_a_secret_wins() {
    let server = Server::start(|_| None).await;
    let address = Address::new(format!("redis://user:old@127.0.0.1:{}/3", server.port));
    let given = [(super::spec::PASSWORD, crate::secret::Secret::new("new"))].into_iter().collect();
    let world = World { given, ..World::new() };
    let run = run(&world, RedisStreamSource { address, ..spec(&server) });
    assert_eq!(server.wait_for("AUTH").await, "AUTH user new");
    assert_eq!(server.wait_for("SELECT").await, "SELECT 3");
    run.status(|status| status.state == State::Running).await;
    run.stop().await;
}

#[tokio::test]
async fn what_only_a_login_can_help_is_told_as_such() {
    for (line, reason) in [
        ("-NOAUTH Authentication required.\n", "CredentialsRefused"),
        (
            "-NOPERM this user has no permissions to run the 'xinfo|groups' command\n",
            "CredentialsRefused",
        ),
        (
            "-WRONGTYPE Operation against a key holding the wrong kind of value\n",
            "UpstreamNotFound",
        ),
        ("-LOADING Redis is loading the dataset in memory\n", "UpstreamUnavailable"),
        ("+WHAT\n", "UpstreamUnavailable"),
    ] {
        let server =
            Server::start(move |command| command.starts_with("XINFO").then(|| line.to_owned()))
                .await;
        let error = run(&World::new(), spec(&server)).failure().await;
        assert_eq!(error.reason(), reason, "{line}");
        assert!(error.is_retryable());
    }
}

#[tokio::test]
async fn a_stream_is_followed_to_the_server_that_has_it() {
    let owner = server_with(entries(&[("1-1", &["a", "b"])])).await;
    let moved = format!("-MOVED 3999 127.0.0.1:{}\n", owner.port);
    let server =
        Server::start(move |command| command.starts_with("XINFO").then(|| moved.clone())).await;
    let world = World::new();
    let run = run(&world, spec(&server));
    let event = timeout(SOON, world.recorder.wait_for(1)).await.unwrap().remove(0);
    assert_eq!(event.source(), format!("{}/s", server.address()));
    assert_eq!(owner.wait_for("XACK").await, "XACK s g 1-1");
    run.stop().await;
}

#[tokio::test]
async fn servers_that_point_to_each_other_are_not_followed_for_ever() {
    // No host is the one that was asked.
    let port = Arc::new(std::sync::OnceLock::new());
    let own = Arc::clone(&port);
    let server = Server::start(move |command| {
        command.starts_with("XINFO").then(|| format!("-MOVED 1 :{}\n", own.get().unwrap()))
    })
    .await;
    port.set(server.port).unwrap();
    let error = run(&World::new(), spec(&server)).failure().await;
    assert_eq!(error.reason(), "UpstreamUnavailable");
    assert_eq!(server.heard("XINFO").len(), 6);
}

#[tokio::test]
async fn a_failover_and_a_lost_connection_start_the_source_again() {
    let readonly = "-READONLY You can't write against a read only replica.\n";
    let server = Server::start(move |command| {
        (command.starts_with("XREADGROUP") && command.ends_with('>')).then(|| readonly.to_owned())
    })
    .await;
    let error = run(&World::new(), spec(&server)).failure().await;
    assert_eq!(error.reason(), "UpstreamUnavailable");
    let server = Server::start(|_| None).await;
    let run = run(&World::new(), spec(&server));
    server.wait_for(&format!("XREADGROUP GROUP g {ID}-0 COUNT 64 BLOCK")).await;
    server.kill().await;
    assert_eq!(run.failure().await.reason(), "UpstreamUnavailable");
}

#[tokio::test]
async fn a_stop_ends_it_wherever_it_is() {
    // While it waits for the first answer, for entries, and for the sink.
    let silent = Server::start(|_| Some(SILENCE.to_owned())).await;
    let at_start = run(&World::new(), spec(&silent));
    silent.wait_for("CLIENT").await;
    at_start.stop().await;
    let idle = Server::start(|_| None).await;
    let waiting = run(&World::new(), spec(&idle));
    idle.wait_for(&format!("XREADGROUP GROUP g {ID}-0 COUNT 64 BLOCK 5000 STREAMS s >")).await;
    waiting.stop().await;
    let world = World::new();
    world.recorder.always(Some(unavailable()));
    let busy = server_with(entries(&[("1-1", &["a", "b"])])).await;
    let delivering = run(&world, spec(&busy));
    delivering.complaint(Condition::DELIVERING).await;
    delivering.stop().await;
    assert_eq!(busy.heard("XACK"), Vec::<String>::new());
}

#[tokio::test]
async fn readers_that_are_no_more_leave_their_entries_to_the_source() {
    let left = entries(&[("1-1", &["a", "b"])]);
    let server = Server::start(move |command| {
        if command.starts_with("XINFO CONSUMERS") {
            let name = format!("{ID}-7");
            return Some(format!(
                "*1\n*6\n$4\nname\n${}\n{name}\n$7\npending\n:2\n$4\nidle\n:5\n",
                name.len()
            ));
        }
        if command.starts_with("XPENDING s g 0-0 + 100") {
            return Some("*2\n*4\n$3\n1-1\n$1\nx\n:5\n:1\n*4\n$3\n2-1\n$1\nx\n:5\n:1\n".to_owned());
        }
        if command.starts_with("XPENDING s g 2-2 + 100") {
            return Some("*0\n".to_owned());
        }
        if command.starts_with("XCLAIM") {
            // The other one was removed.
            return Some("*1\n$3\n1-1\n".to_owned());
        }
        let is_heir = command.starts_with("XREADGROUP") && command.contains("-claims ");
        is_heir.then(|| if command.ends_with(" 0-0") { left.clone() } else { NONE.to_owned() })
    })
    .await;
    let world = World::new();
    let run = run(&world, spec(&server));
    let claim = server.wait_for("XCLAIM").await;
    assert!(claim.ends_with("-claims 0 1-1 2-1 JUSTID"), "{claim}");
    assert_eq!(server.wait_for("XACK").await, "XACK s g 1-1");
    assert_eq!(world.recorder.taken()[0].id(), "1-1");
    assert!(run.complaint(NOTHING_REMOVED).await.message.starts_with("1 entries"));
    run.stop().await;
}

#[tokio::test]
async fn what_waits_is_told() {
    let server = Server::start(|command| {
        let group = "*1\n*8\n$4\nname\n$1\ng\n$7\npending\n:7\n$17\nlast-delivered-id\n$3\n5-3\n$3\nlag\n:4500\n";
        (command == "XINFO GROUPS s").then(|| group.to_owned())
    })
    .await;
    let run = run(&World::new(), spec(&server));
    assert_eq!(run.complaint(Condition::CAUGHT_UP).await.message, "4000 messages or more wait");
    run.stop().await;
}

#[tokio::test]
async fn what_was_removed_unread_does_not_wait() {
    // Redis goes on counting it: the lag never ends, though the group is at the end of the stream.
    let server = Server::start(|command| match command {
        "XINFO GROUPS s" => Some(
            "*1\n*8\n$4\nname\n$1\ng\n$7\npending\n:0\n$17\nlast-delivered-id\n$3\n9-0\n\
             $3\nlag\n:4500\n"
                .to_owned(),
        ),
        _ => None,
    })
    .await;
    let run = run(&World::new(), spec(&server));
    let status = run.status(|status| status.state == State::Running).await;
    let caught_up = status.conditions.iter().find(|it| it.name == Condition::CAUGHT_UP);
    assert!(caught_up.unwrap().holds);
    run.stop().await;
}

#[tokio::test]
async fn a_paused_source_reads_nothing() {
    let server = Server::start(|_| None).await;
    let paused = RedisStreamSource { consumers: Some(0), ..spec(&server) };
    let run = run(&World::new(), paused);
    let status = run.status(|status| status.state == State::Running).await;
    assert_eq!(status.facts["consumers"], 0);
    run.stop().await;
    assert_eq!(server.heard("XREADGROUP"), Vec::<String>::new());
    assert_eq!(server.heard("XINFO CONSUMERS"), Vec::<String>::new());
}

#[tokio::test]
async fn every_consumer_has_a_connection_and_a_name() {
    let server = Server::start(|_| None).await;
    let run = run(&World::new(), RedisStreamSource { consumers: Some(3), ..spec(&server) });
    for index in 0..3 {
        let name = format!("{ID}-{index}");
        server
            .wait_for(&format!("XREADGROUP GROUP g {name} COUNT 64 BLOCK 5000 STREAMS s >"))
            .await;
    }
    assert_eq!(run.status(|status| status.state == State::Running).await.facts["consumers"], 3);
    run.stop().await;
}

#[tokio::test]
async fn a_group_of_its_own_goes_with_the_source() {
    let server = Server::start(|_| None).await;
    let own = RedisStreamSource { group: String::new(), ..spec(&server) };
    let world = World::new();
    assert!(own.leaves_traces(&world.about) && !spec(&server).leaves_traces(&world.about));
    own.retire(world.context("RedisStreamSource").0).await.unwrap();
    assert_eq!(server.heard("XGROUP"), [format!("XGROUP DESTROY s {ID}")]);
}

#[tokio::test]
async fn a_source_that_is_stopped_while_it_is_removed_is_not_removed() {
    let silent = Server::start(|_| Some(SILENCE.to_owned())).await;
    let own = RedisStreamSource { group: String::new(), ..spec(&silent) };
    let (context, _) = World::new().context("RedisStreamSource");
    context.stop.cancel();
    let stopped = own.retire(context).await.unwrap_err();
    assert!(matches!(stopped, SourceError::Stopped), "{stopped}");
}

#[tokio::test(start_paused = true)]
async fn a_source_whose_server_is_no_more_can_be_removed() {
    let server = Server::start(|_| None).await;
    let own = RedisStreamSource { group: String::new(), ..spec(&server) };
    server.kill().await;
    own.retire(World::new().context("RedisStreamSource").0).await.unwrap();
}

#[test]
fn what_the_status_says_of_the_events_has_no_credentials() {
    let spec = RedisStreamSource {
        address: Address::new("rediss://user:hunter2@redis:6379"),
        stream: "orders".to_owned(),
        ..RedisStreamSource::default()
    };
    let attributes = spec.attributes(&about(), &Given::default()).remove(0);
    assert_eq!(attributes.kind, "dev.knative.sources.redisstream");
    assert_eq!(attributes.source, "rediss://redis:6379/orders");
}

#[tokio::test]
async fn bytes_that_are_no_text_are_marked() {
    let world = World::new();
    // The server's script is text, so the bytes are those of a reader of the same code.
    let work = super::Work {
        ctx: world.context("RedisStreamSource").0,
        group: super::group::tests::group("g", 1),
        losses: super::Losses::default(),
        template: broker_event::EventBuilder::new("", "redis://redis/s", super::TYPE)
            .data_content_type("application/json"),
        shape: super::Shape::Array,
    };
    let entry = super::entry::Entry {
        id: super::entry::Id::parse("1-1").unwrap(),
        fields: Some(vec![b"image".to_vec(), vec![0xff, 0xd8]]),
    };
    let event = work.event(&entry).unwrap().unwrap();
    assert_eq!(event.data().unwrap(), r#"["aW1hZ2U=","/9g="]"#);
    assert_eq!(event.extension("redisencoding"), Some(&Value::from("base64")));
    let removed = super::entry::Entry { fields: None, ..entry };
    assert!(work.event(&removed).unwrap().is_none());
}
