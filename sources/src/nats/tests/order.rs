//! A consumer that acknowledges all messages up to one: what is missing comes again, and nothing is acknowledged before it is
//! safe.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::scripted::{Peer, Server, info, play};
use super::{KIND, busy, is_stopped, missing, stream};
use crate::source::Source;
use crate::source::fake::World;

const RESET: &str = "$JS.API.CONSUMER.RESET.ORDERS.weft_default_one";

/// A consumer that acknowledges so, with that many deliveries in flight.
fn consumer(in_flight: u64) -> Value {
    let mut info = info();
    info["config"]["ack_policy"] = "all".into();
    info["num_ack_pending"] = in_flight.into();
    info["delivered"] = json!({ "consumer_seq": in_flight, "stream_seq": in_flight });
    info
}

async fn server() -> Server {
    Server::of("2.14.0").await
}

async fn asked(server: &Server) -> (Peer, String) {
    let mut peer = server.accept().await;
    peer.answer("$JS.API.CONSUMER.INFO.", &consumer(0)).await;
    let (inbox, _) = peer.published("$JS.API.CONSUMER.MSG.NEXT.").await;
    (peer, inbox)
}

/// Until the source has moved the consumer back: the first message that it wants, and the inbox that they go to.
async fn moved_back(peer: &mut Peer) -> (Value, String) {
    loop {
        peer.published_next("$JS.API.").await;
        if peer.last().starts_with(RESET) {
            break;
        }
    }
    let from = peer.answer_last(&consumer(0)).await;
    let (inbox, _) = peer.published("$JS.API.CONSUMER.MSG.NEXT.").await;
    (from["seq"].clone(), inbox)
}

async fn acknowledged(peer: &mut Peer) -> u64 {
    loop {
        let (sequence, what) = peer.told().await;
        match what.as_str() {
            "+ACK" => return sequence,
            other => assert_eq!(other, "+WPI"),
        }
    }
}

fn ids(world: &World) -> Vec<String> {
    world.recorder.taken().iter().map(|event| event.id().to_owned()).collect()
}

#[tokio::test]
async fn one_acknowledgement_does_for_a_batch_once_all_of_it_is_safe() {
    let (world, server) = (World::new(), server().await);
    let (ctx, _) = world.context(KIND);
    world.recorder.always(busy());
    let script = async {
        let (mut peer, inbox) = asked(&server).await;
        peer.deliver(&inbox, 1, 1, "one").await;
        assert_eq!(peer.told().await, (1, "+WPI".to_owned()));
        for sequence in 2..=4 {
            peer.deliver(&inbox, sequence, 1, "more").await;
        }
        while peer.told().await != (4, "+WPI".to_owned()) {}
        world.recorder.always(None);
        assert_eq!([acknowledged(&mut peer).await, acknowledged(&mut peer).await], [1, 4]);
        ctx.stop.cancel();
    };
    let (ended, ()) = play(stream(&server).run(ctx.clone()), script).await;
    assert!(is_stopped(&ended), "{ended:?}");
    assert_eq!(ids(&world), ["ORDERS:1", "ORDERS:2", "ORDERS:3", "ORDERS:4"]);
}

#[tokio::test]
async fn behind_a_missing_delivery_nothing_is_taken_until_it_came() {
    let (world, server) = (World::new(), server().await);
    let (ctx, _) = world.context(KIND);
    let script = async {
        let (mut peer, inbox) = asked(&server).await;
        peer.deliver(&inbox, 1, 1, "one").await;
        assert_eq!(acknowledged(&mut peer).await, 1);
        peer.deliver(&inbox, 3, 1, "three").await;
        peer.deliver(&inbox, 4, 1, "four").await;
        let (from, inbox_now) = moved_back(&mut peer).await;
        assert_eq!(from, 2);
        // What was on its way then is of no use.
        peer.deliver(&inbox, 5, 1, "five").await;
        peer.deliver_as(&inbox_now, (2, 1), 1, "two").await;
        assert_eq!(acknowledged(&mut peer).await, 2);
        peer.deliver_as(&inbox_now, (3, 2), 1, "three").await;
        assert_eq!(acknowledged(&mut peer).await, 3);
        ctx.stop.cancel();
    };
    let (ended, ()) = play(stream(&server).run(ctx.clone()), script).await;
    assert!(is_stopped(&ended), "{ended:?}");
    assert_eq!(ids(&world), ["ORDERS:1", "ORDERS:2", "ORDERS:3"]);
}

#[tokio::test]
async fn a_message_that_comes_again_moves_the_consumer_back_once_what_is_here_is_safe() {
    let (world, server) = (World::new(), server().await);
    let (ctx, _) = world.context(KIND);
    world.recorder.always(busy());
    let script = async {
        let (mut peer, inbox) = asked(&server).await;
        peer.deliver(&inbox, 1, 1, "one").await;
        assert_eq!(peer.told().await, (1, "+WPI".to_owned()));
        peer.deliver_as(&inbox, (1, 2), 2, "one").await;
        world.recorder.always(None);
        let (from, _) = moved_back(&mut peer).await;
        assert_eq!(from, 2);
        ctx.stop.cancel();
    };
    let (ended, ()) = play(stream(&server).run(ctx.clone()), script).await;
    assert!(is_stopped(&ended), "{ended:?}");
    assert_eq!(ids(&world), ["ORDERS:1"]);
}

#[tokio::test]
async fn after_a_lost_connection_it_goes_on_behind_what_is_safe() {
    let (world, server) = (World::new(), server().await);
    let (ctx, _) = world.context(KIND);
    let script = async {
        let (mut peer, inbox) = asked(&server).await;
        peer.deliver(&inbox, 1, 1, "one").await;
        assert_eq!(acknowledged(&mut peer).await, 1);
        server.restart();
        drop(peer);
        let mut peer = server.accept().await;
        let (from, inbox) = moved_back(&mut peer).await;
        assert_eq!(from, 2);
        peer.deliver_as(&inbox, (2, 1), 1, "two").await;
        assert_eq!(acknowledged(&mut peer).await, 2);
        ctx.stop.cancel();
    };
    let (ended, ()) = play(stream(&server).run(ctx.clone()), script).await;
    assert!(is_stopped(&ended), "{ended:?}");
    assert_eq!(ids(&world), ["ORDERS:1", "ORDERS:2"]);
}

#[tokio::test]
async fn what_was_in_flight_at_a_crash_comes_again_at_once() {
    let (world, server) = (World::new(), server().await);
    let (ctx, _) = world.context(KIND);
    let script = async {
        let mut peer = server.accept().await;
        peer.answer("$JS.API.CONSUMER.INFO.", &consumer(2)).await;
        peer.answer("$JS.API.CONSUMER.INFO.", &consumer(2)).await;
        let none = json!({ "error": { "code": 404, "err_code": 10037, "description": "no message found" } });
        peer.answer("$JS.API.STREAM.MSG.GET.ORDERS", &none).await;
        let (from, inbox) = moved_back(&mut peer).await;
        // Which one that is, the server knows.
        assert_eq!(from, 0);
        peer.deliver_as(&inbox, (1, 1), 1, "one").await;
        assert_eq!(acknowledged(&mut peer).await, 1);
        ctx.stop.cancel();
    };
    let (ended, ()) = play(stream(&server).run(ctx.clone()), script).await;
    assert!(is_stopped(&ended), "{ended:?}");
}

#[tokio::test]
async fn up_to_a_message_that_the_client_cannot_read_all_are_taken_without_it() {
    let (world, server) = (World::new(), server().await);
    let (ctx, _) = world.context(KIND);
    let stored = |sequence: u64, headers: &[u8]| {
        json!({ "message": {
            "subject": "orders.new",
            "seq": sequence,
            "hdrs": STANDARD.encode(headers),
            "data": STANDARD.encode("body"),
            "time": "2026-01-31T12:00:00Z",
        } })
    };
    let script = async {
        let mut peer = server.accept().await;
        peer.answer("$JS.API.CONSUMER.INFO.", &consumer(3)).await;
        peer.answer("$JS.API.CONSUMER.INFO.", &consumer(3)).await;
        for (sequence, headers) in [(1, &b""[..]), (2, b"NATS/1.0\r\nA: \xff\r\n\r\n"), (3, b"")] {
            peer.answer("$JS.API.STREAM.MSG.GET.ORDERS", &stored(sequence, headers)).await;
        }
        let (from, _) = moved_back(&mut peer).await;
        assert_eq!(from, 3);
        ctx.stop.cancel();
    };
    let (ended, ()) = play(stream(&server).run(ctx.clone()), script).await;
    assert!(is_stopped(&ended), "{ended:?}");
    assert_eq!(ids(&world), ["ORDERS:1", "ORDERS:2"]);
}

#[tokio::test]
async fn another_reader_of_the_same_consumer_is_reported() {
    let (world, server) = (World::new(), server().await);
    let (ctx, _) = world.context(KIND);
    let script = async {
        let (mut peer, mut inbox) = asked(&server).await;
        for _ in 0..3 {
            peer.deliver_as(&inbox, (2, 2), 1, "two").await;
            (_, inbox) = moved_back(&mut peer).await;
        }
        peer.deliver_as(&inbox, (2, 2), 1, "two").await;
        peer
    };
    let (ended, _peer) = play(stream(&server).run(ctx.clone()), script).await;
    assert_eq!(
        ended.unwrap_err().to_string(),
        "somebody else reads through the consumer weft_default_one too, which is the source's own: give one of them another by `consumer`"
    );
}

#[tokio::test]
async fn a_stream_that_deletes_what_is_acknowledged_hears_of_each_message() {
    let (world, server) = (World::new(), server().await);
    let (ctx, _) = world.context(KIND);
    let script = async {
        let mut peer = server.accept().await;
        peer.answer("$JS.API.CONSUMER.INFO.", &missing()).await;
        let refused = json!({ "error": { "code": 400, "err_code": 10098, "description": "workqueue stream requires explicit ack" } });
        let first = peer.answer("$JS.API.CONSUMER.CREATE.", &refused).await;
        let second = peer.answer("$JS.API.CONSUMER.CREATE.", &info()).await;
        assert_eq!(
            (&first["config"]["ack_policy"], &second["config"]["ack_policy"]),
            (&json!("all"), &json!("explicit"))
        );
        peer.published("$JS.API.CONSUMER.MSG.NEXT.").await;
        ctx.stop.cancel();
    };
    let (ended, ()) = play(stream(&server).run(ctx.clone()), script).await;
    assert!(is_stopped(&ended), "{ended:?}");
}
