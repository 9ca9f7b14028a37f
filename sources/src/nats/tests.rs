//! The source against a scripted NATS server: what it says, and when. A real one is in the tests of the whole mesh.

mod order;
mod scripted;

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use crds::condition::CloudEventAttributes;
use crds::meta::ObjectMeta;
use crds::source::SourceSpec;
use serde_json::json;

use self::scripted::{Peer, Server, info, play};
use super::NatsSource;
use crate::emit::EmitError;
use crate::given::Given;
use crate::source::fake::{World, about};
use crate::source::{Source, SourceError};
use crate::status::{self, State};

const KIND: &str = "NatsSource";

fn stream(server: &Server) -> NatsSource {
    let mut spec = NatsSource {
        servers: vec![server.address()],
        stream: "ORDERS".to_owned(),
        subjects: vec!["orders.new".to_owned()],
        ack_wait: Some("1s".to_owned()),
        ..NatsSource::default()
    };
    spec.defaults(&ObjectMeta::named("default", "one"));
    spec
}

fn core(server: &Server) -> NatsSource {
    NatsSource {
        servers: vec![server.address()],
        subjects: vec!["a.*".to_owned()],
        ..NatsSource::default()
    }
}

fn busy() -> Option<EmitError> {
    Some(EmitError::Unavailable { reason: "away".to_owned() })
}

fn is_stopped(ended: &Result<(), SourceError>) -> bool {
    matches!(ended, Ok(()) | Err(SourceError::Stopped))
}

fn missing() -> serde_json::Value {
    json!({ "error": { "code": 404, "err_code": 10014, "description": "consumer not found" } })
}

/// Until the source asks for messages of a consumer that is there; the inbox that they go to.
async fn asked(server: &Server) -> (Peer, String) {
    let mut peer = server.accept().await;
    peer.answer("$JS.API.CONSUMER.INFO.", &info()).await;
    let (inbox, wanted) = peer.published("$JS.API.CONSUMER.MSG.NEXT.ORDERS.weft_default_one").await;
    assert_eq!(wanted["batch"], 256);
    (peer, inbox)
}

#[test]
fn the_status_tells_what_its_events_are() {
    let told = |spec: &NatsSource| -> Vec<String> {
        let of = |attributes: CloudEventAttributes| {
            assert_eq!(attributes.kind, "dev.knative.nats.event");
            attributes.source
        };
        spec.attributes(&about(), &Given::default()).into_iter().map(of).collect()
    };
    let spec = NatsSource {
        servers: vec!["a".to_owned(), "b".to_owned()],
        stream: "ORDERS".to_owned(),
        ..NatsSource::default()
    };
    assert_eq!(told(&spec), ["nats://a:4222/ORDERS"]);
    let spec = NatsSource { subjects: vec!["x.*".to_owned(), "y".to_owned()], ..spec };
    assert_eq!(told(&spec), ["nats://a:4222/ORDERS#x.*", "nats://a:4222/ORDERS#y"]);
    assert!(spec.leaves_traces(&about()));
    assert!(!NatsSource { consumer: "c".to_owned(), ..spec }.leaves_traces(&about()));
    assert_eq!(told(&NatsSource::default()), [""; 0]);
}

#[tokio::test]
async fn a_message_is_acknowledged_once_it_is_safe_and_not_before() {
    let (world, server) = (World::new(), Server::start().await);
    let (ctx, board) = world.context(KIND);
    world.recorder.always(busy());
    let script = async {
        let (mut peer, inbox) = asked(&server).await;
        peer.deliver(&inbox, 1, 1, "one").await;
        peer.deliver(&inbox, 2, 1, "two").await;
        // A server that hears nothing for a second delivers again.
        let first = [peer.told().await, peer.told().await];
        assert_eq!(first.map(|(_, what)| what), ["+WPI", "+WPI"]);
        assert_eq!(status::fake::only(&board).state, State::Running);
        world.recorder.always(None);
        let mut acknowledged = Vec::new();
        while acknowledged.len() < 2 {
            let (sequence, what) = peer.told().await;
            if what == "+ACK" {
                acknowledged.push(sequence);
            }
        }
        assert_eq!(acknowledged, [1, 2]);
        ctx.stop.cancel();
    };
    let (ended, ()) = play(stream(&server).run(ctx.clone()), script).await;
    assert!(is_stopped(&ended), "{ended:?}");
    let taken = world.recorder.taken();
    assert_eq!(
        taken.iter().map(broker_event::Event::id).collect::<Vec<_>>(),
        ["ORDERS:1", "ORDERS:2"]
    );
    let source = format!("nats://{}/ORDERS#orders.new", server.address());
    assert!(taken.iter().all(|event| event.source() == source), "{taken:?}");
}

#[tokio::test]
async fn what_is_not_safe_at_a_stop_is_given_back_at_once() {
    let (world, server) = (World::new(), Server::start().await);
    let (ctx, _) = world.context(KIND);
    world.recorder.always(busy());
    let script = async {
        let (mut peer, inbox) = asked(&server).await;
        peer.deliver(&inbox, 1, 1, "one").await;
        assert_eq!(peer.told().await, (1, "+WPI".to_owned()));
        peer.deliver(&inbox, 2, 1, "two").await;
        peer.deliver(&inbox, 3, 1, "three").await;
        let stopped = tokio::time::Instant::now();
        ctx.stop.cancel();
        let mut given_back = Vec::new();
        while given_back.len() < 3 {
            let (sequence, what) = peer.told().await;
            assert_ne!(what, "+ACK");
            if what == "-NAK" {
                given_back.push(sequence);
            }
        }
        assert_eq!(given_back, [1, 2, 3]);
        stopped
    };
    let (ended, stopped) = play(stream(&server).run(ctx.clone()), script).await;
    assert!(is_stopped(&ended), "{ended:?}");
    assert!(stopped.elapsed() < Duration::from_secs(1), "{:?}", stopped.elapsed());
    assert!(world.recorder.taken().is_empty());
}

#[tokio::test]
async fn a_message_that_comes_again_while_it_is_here_is_one_event() {
    let (world, server) = (World::new(), Server::start().await);
    let (ctx, _) = world.context(KIND);
    world.recorder.always(busy());
    let script = async {
        let (mut peer, inbox) = asked(&server).await;
        peer.deliver(&inbox, 1, 1, "one").await;
        assert_eq!(peer.told().await, (1, "+WPI".to_owned()));
        peer.deliver(&inbox, 1, 2, "one").await;
        peer.deliver(&inbox, 2, 1, "two").await;
        world.recorder.always(None);
        world.recorder.wait_for(2).await;
        ctx.stop.cancel();
    };
    let (ended, ()) = play(stream(&server).run(ctx.clone()), script).await;
    assert!(is_stopped(&ended), "{ended:?}");
    let ids: Vec<_> = world.recorder.taken().iter().map(|event| event.id().to_owned()).collect();
    assert_eq!(ids, ["ORDERS:1", "ORDERS:2"]);
}

#[tokio::test]
async fn a_message_larger_than_a_request_is_asked_for_by_itself() {
    let (world, server) = (World::new(), Server::start().await);
    let (ctx, _) = world.context(KIND);
    let script = async {
        let (mut peer, inbox) = asked(&server).await;
        peer.status(&inbox, "409 Message Size Exceeds MaxBytes").await;
        let (_, wanted) = peer.published("$JS.API.CONSUMER.MSG.NEXT.").await;
        assert_eq!((&wanted["batch"], &wanted["max_bytes"]), (&json!(1), &json!(0)));
        peer.deliver(&inbox, 1, 1, "large").await;
        let (_, wanted) = peer.published("$JS.API.CONSUMER.MSG.NEXT.").await;
        assert_eq!(wanted["batch"], 256);
        ctx.stop.cancel();
    };
    let (ended, ()) = play(stream(&server).run(ctx.clone()), script).await;
    assert!(is_stopped(&ended), "{ended:?}");
}

#[tokio::test]
async fn after_a_lost_connection_it_asks_again_and_acknowledges_what_it_has() {
    let (world, server) = (World::new(), Server::start().await);
    let (ctx, _) = world.context(KIND);
    world.recorder.always(busy());
    let script = async {
        let (mut peer, inbox) = asked(&server).await;
        peer.deliver(&inbox, 1, 1, "one").await;
        assert_eq!(peer.told().await, (1, "+WPI".to_owned()));
        server.restart();
        drop(peer);
        let mut peer = server.accept().await;
        let (inbox_now, _) = peer.published("$JS.API.CONSUMER.MSG.NEXT.").await;
        assert_ne!(inbox_now, inbox);
        world.recorder.always(None);
        while peer.told().await != (1, "+ACK".to_owned()) {}
        peer.deliver(&inbox_now, 2, 1, "two").await;
        while peer.told().await != (2, "+ACK".to_owned()) {}
        ctx.stop.cancel();
    };
    let (ended, ()) = play(stream(&server).run(ctx.clone()), script).await;
    assert!(is_stopped(&ended), "{ended:?}");
    assert_eq!(world.recorder.taken().len(), 2);
}

#[tokio::test]
async fn a_message_that_the_client_cannot_read_is_taken_without_it() {
    let (world, server) = (World::new(), Server::start().await);
    let (ctx, _) = world.context(KIND);
    let headers = b"NATS/1.0\r\nTeam: blue\r\nA: \xff\r\n\r\n";
    let script = async {
        let (mut peer, inbox) = asked(&server).await;
        peer.deliver_raw(&inbox, 1, headers).await;
        // The client ends the connection. The server is still the same: it was no restart.
        let mut peer = server.accept().await;
        let mut in_flight = info();
        in_flight["delivered"] = json!({ "consumer_seq": 1, "stream_seq": 1 });
        peer.answer("$JS.API.CONSUMER.INFO.", &in_flight).await;
        let stored = json!({ "message": {
            "subject": "orders.new",
            "seq": 1,
            "hdrs": STANDARD.encode(headers),
            "data": STANDARD.encode("body"),
            "time": "2026-01-31T12:00:00Z",
        } });
        let asked = peer.answer("$JS.API.STREAM.MSG.GET.ORDERS", &stored).await;
        assert_eq!(asked, json!({ "seq": 1, "next_by_subj": "orders.new" }));
        assert_eq!(peer.told().await, (1, "+ACK".to_owned()));
        ctx.stop.cancel();
    };
    let (ended, ()) = play(stream(&server).run(ctx.clone()), script).await;
    assert!(is_stopped(&ended), "{ended:?}");
    let event = world.recorder.taken().remove(0);
    assert_eq!(event.id(), "ORDERS:1");
    assert_eq!(event.data().map(|data| &data[..]), Some(&b"body"[..]));
    assert_eq!(event.extension("natsheaderteam"), Some(&"blue".into()));
    assert_eq!(event.extension("natsheadera"), None);
}

#[tokio::test]
async fn what_was_taken_without_the_client_is_acknowledged_again_when_it_comes_again() {
    let (world, server) = (World::new(), Server::start().await);
    let (ctx, _) = world.context(KIND);
    let headers = b"NATS/1.0\r\nA: \xff\r\n\r\n";
    let mut in_flight = info();
    in_flight["delivered"] = json!({ "consumer_seq": 1, "stream_seq": 1 });
    let stored = json!({ "message": {
        "subject": "orders.new",
        "seq": 1,
        "hdrs": STANDARD.encode(headers),
        "data": STANDARD.encode("body"),
        "time": "2026-01-31T12:00:00Z",
    } });
    let script = async {
        let (mut peer, mut inbox) = asked(&server).await;
        // The server did not hear of the first acknowledgement.
        for _ in 0..2 {
            peer.deliver_raw(&inbox, 1, headers).await;
            peer = server.accept().await;
            peer.answer("$JS.API.CONSUMER.INFO.", &in_flight).await;
            peer.answer("$JS.API.STREAM.MSG.GET.ORDERS", &stored).await;
            assert_eq!(peer.told().await, (1, "+ACK".to_owned()));
            (inbox, _) = peer.published("$JS.API.CONSUMER.MSG.NEXT.").await;
        }
        ctx.stop.cancel();
    };
    let (ended, ()) = play(stream(&server).run(ctx.clone()), script).await;
    assert!(is_stopped(&ended), "{ended:?}");
    assert_eq!(world.recorder.taken().len(), 1);
}

#[tokio::test]
async fn what_was_in_flight_at_a_crash_is_looked_at_first() {
    let (world, server) = (World::new(), Server::start().await);
    let (ctx, _) = world.context(KIND);
    let script = async {
        let mut peer = server.accept().await;
        let mut in_flight = info();
        in_flight["num_ack_pending"] = 1.into();
        in_flight["delivered"] = json!({ "consumer_seq": 1, "stream_seq": 1 });
        peer.answer("$JS.API.CONSUMER.INFO.", &in_flight).await;
        peer.answer("$JS.API.CONSUMER.INFO.", &in_flight).await;
        let none = json!({ "error": { "code": 404, "err_code": 10037, "description": "no message found" } });
        peer.answer("$JS.API.STREAM.MSG.GET.ORDERS", &none).await;
        peer.published_next("$JS.API.CONSUMER.MSG.NEXT.").await;
        ctx.stop.cancel();
    };
    let (ended, ()) = play(stream(&server).run(ctx.clone()), script).await;
    assert!(is_stopped(&ended), "{ended:?}");
}

#[tokio::test]
async fn a_status_that_a_publisher_made_up_is_part_of_the_message() {
    let (world, server) = (World::new(), Server::start().await);
    let (ctx, _) = world.context(KIND);
    let script = async {
        let (mut peer, inbox) = asked(&server).await;
        peer.deliver_raw(&inbox, 1, b"NATS/1.0 503\r\n\r\n").await;
        assert_eq!(peer.told().await, (1, "+ACK".to_owned()));
        ctx.stop.cancel();
    };
    let (ended, ()) = play(stream(&server).run(ctx.clone()), script).await;
    assert!(is_stopped(&ended), "{ended:?}");
    assert_eq!(world.recorder.taken().len(), 1);
}

#[tokio::test]
async fn a_server_that_stays_away_is_reported() {
    let (world, server) = (World::new(), Server::start().await);
    let (ctx, _) = world.context(KIND);
    let spec = stream(&server);
    let script = async move {
        let (peer, _) = asked(&server).await;
        drop((peer, server));
    };
    let (ended, ()) = play(spec.run(ctx), script).await;
    assert_eq!(ended.unwrap_err().to_string(), "the connection to NATS is lost");
}

#[tokio::test]
async fn a_consumer_that_is_not_there_is_made() {
    let (world, server) = (World::new(), Server::start().await);
    let (ctx, _) = world.context(KIND);
    let script = async {
        let mut peer = server.accept().await;
        peer.answer("$JS.API.CONSUMER.INFO.ORDERS.weft_default_one", &missing()).await;
        let asked = peer
            .answer("$JS.API.CONSUMER.CREATE.ORDERS.weft_default_one.orders.new", &info())
            .await;
        let config = &asked["config"];
        assert_eq!(asked["stream_name"], "ORDERS");
        assert_eq!(config["durable_name"], "weft_default_one");
        assert_eq!(config["deliver_policy"], "all");
        assert_eq!(config["ack_policy"], "explicit");
        assert_eq!(config["ack_wait"], 1_000_000_000_u64);
        assert_eq!(config["max_ack_pending"], 1000);
        peer.published("$JS.API.CONSUMER.MSG.NEXT.").await;
        ctx.stop.cancel();
    };
    let (ended, ()) = play(stream(&server).run(ctx.clone()), script).await;
    assert!(is_stopped(&ended), "{ended:?}");
}

#[tokio::test]
async fn its_own_consumer_is_changed_and_that_of_others_left_alone() {
    let (world, server) = (World::new(), Server::start().await);
    let own = NatsSource { max_ack_pending: Some(7), ..stream(&server) };
    let (ctx, _) = world.context(KIND);
    let script = async {
        let mut peer = server.accept().await;
        peer.answer("$JS.API.CONSUMER.INFO.", &info()).await;
        let asked = peer.answer("$JS.API.CONSUMER.CREATE.", &info()).await;
        assert_eq!(asked["config"]["max_ack_pending"], 7);
        peer.published("$JS.API.CONSUMER.MSG.NEXT.").await;
        ctx.stop.cancel();
    };
    let (ended, ()) = play(own.run(ctx.clone()), script).await;
    assert!(is_stopped(&ended), "{ended:?}");

    let server = Server::start().await;
    let named = NatsSource { consumer: "weft_default_one".to_owned(), ..stream(&server) };
    let (ctx, _) = world.context(KIND);
    let script = async {
        let mut peer = server.accept().await;
        peer.answer("$JS.API.CONSUMER.INFO.", &info()).await;
        let (_, _) = peer.published_next("$JS.API.").await;
        assert!(peer.last().starts_with("$JS.API.CONSUMER.MSG.NEXT."), "{}", peer.last());
        ctx.stop.cancel();
    };
    let (ended, ()) = play(named.run(ctx.clone()), script).await;
    assert!(is_stopped(&ended), "{ended:?}");
}

#[tokio::test]
async fn what_nats_has_not_got_is_absent() {
    let (world, server) = (World::new(), Server::start().await);
    let (ctx, _) = world.context(KIND);
    let script = async {
        let mut peer = server.accept().await;
        let missing = json!({ "error": { "code": 404, "err_code": 10059, "description": "stream not found" } });
        peer.answer("$JS.API.CONSUMER.INFO.", &missing).await;
    };
    let (ended, ()) = play(stream(&server).run(ctx), script).await;
    let error = ended.unwrap_err();
    assert_eq!(
        (error.reason(), error.to_string().as_str()),
        ("UpstreamNotFound", "NATS has no stream ORDERS")
    );

    let (ctx, _) = world.context(KIND);
    let server = Server::start().await;
    let script = async {
        let (mut peer, inbox) = asked(&server).await;
        peer.status(&inbox, "409 Consumer Deleted").await;
    };
    let (ended, ()) = play(stream(&server).run(ctx), script).await;
    assert_eq!(ended.unwrap_err().to_string(), "the consumer weft_default_one was deleted");
}

#[tokio::test]
async fn what_nats_refuses_is_a_matter_of_credentials() {
    let (world, server) = (World::new(), Server::start().await);
    let (ctx, _) = world.context(KIND);
    let script = async {
        let mut peer = server.accept().await;
        peer.published("$JS.API.CONSUMER.INFO.").await;
        peer.complain("Permissions Violation for Publish to \"$JS.API.CONSUMER.INFO.ORDERS\"")
            .await;
    };
    let (ended, ()) = play(stream(&server).run(ctx), script).await;
    let error = ended.unwrap_err();
    assert_eq!(error.reason(), "CredentialsRefused");
    assert!(error.to_string().starts_with("NATS refused: Permissions Violation"), "{error}");

    let (ctx, _) = world.context(KIND);
    let server = Server::start().await;
    let script = async { server.refuse("Authorization Violation").await };
    let (ended, ()) = play(stream(&server).run(ctx), script).await;
    assert_eq!(ended.unwrap_err().reason(), "CredentialsRefused");
}

#[tokio::test]
async fn nobody_there_is_unavailable() {
    let world = World::new();
    let server = Server::start().await;
    let spec = stream(&server);
    let address = server.address();
    drop(server);
    let (ctx, _) = world.context(KIND);
    let error = spec.run(ctx).await.unwrap_err();
    assert_eq!(error.to_string(), format!("connect to NATS at {address}"));
    assert_eq!(error.reason(), "UpstreamUnavailable");
}

#[tokio::test]
async fn a_stop_ends_it_while_nobody_answers() {
    let (world, server) = (World::new(), Server::start().await);
    let (ctx, _) = world.context(KIND);
    let script = async {
        let mut peer = server.accept().await;
        peer.published("$JS.API.CONSUMER.INFO.").await;
        ctx.stop.cancel();
        tokio::time::Instant::now()
    };
    let (ended, stopped) = play(stream(&server).run(ctx.clone()), script).await;
    assert!(is_stopped(&ended), "{ended:?}");
    assert!(stopped.elapsed() < Duration::from_secs(1), "{:?}", stopped.elapsed());
}

#[tokio::test]
async fn core_nats_is_listened_to_in_a_queue_group() {
    let (world, server) = (World::new(), Server::start().await);
    let (ctx, board) = world.context(KIND);
    let spec = NatsSource { queue_group: "mesh".to_owned(), ..core(&server) };
    let script = async {
        let mut peer = server.accept().await;
        peer.published("_INBOX.").await;
        assert!(peer.subscribed("a.*", "mesh"));
        // Who may only listen may not ask whether it is heard, and need not.
        peer.complain("Permissions Violation for Publish to \"_INBOX.x\"").await;
        peer.complain("Permissions Violation for Subscription to \"_INBOX.x.*\"").await;
        peer.no_responders().await;
        peer.send("a.*", "a.b", "hello").await;
        world.recorder.wait_for(1).await;
        ctx.stop.cancel();
    };
    let (ended, ()) = play(spec.run(ctx.clone()), script).await;
    assert!(is_stopped(&ended), "{ended:?}");
    let event = world.recorder.taken().remove(0);
    assert_eq!(event.source(), format!("nats://{}#a.b", server.address()));
    assert_eq!(event.subject(), Some("a.b"));
    let status = status::fake::only(&board);
    assert_eq!(status.state, State::Running);
    assert!(
        status.conditions.iter().any(|condition| condition.reason == "AtMostOnce"),
        "{status:?}"
    );
}

#[tokio::test]
async fn a_subject_that_may_not_be_listened_to_is_a_matter_of_credentials() {
    let (world, server) = (World::new(), Server::start().await);
    let (ctx, _) = world.context(KIND);
    let script = async {
        let mut peer = server.accept().await;
        peer.published("_INBOX.").await;
        peer.complain("Permissions Violation for Subscription to \"a.*\"").await;
    };
    let (ended, ()) = play(core(&server).run(ctx), script).await;
    assert_eq!(ended.unwrap_err().reason(), "CredentialsRefused");
}

#[tokio::test]
async fn its_own_consumer_goes_with_it() {
    let world = World::new();
    let deleted = json!({ "success": true });
    for answer in [deleted, missing()] {
        let server = Server::start().await;
        let (ctx, _) = world.context(KIND);
        let script = async {
            let mut peer = server.accept().await;
            peer.answer("$JS.API.CONSUMER.DELETE.ORDERS.weft_default_one", &answer).await;
        };
        let (ended, ()) = play(stream(&server).retire(ctx), script).await;
        ended.unwrap();
    }
    let (ctx, _) = world.context(KIND);
    let named = NatsSource { consumer: "c".to_owned(), ..stream(&Server::start().await) };
    named.retire(ctx).await.unwrap();
}
