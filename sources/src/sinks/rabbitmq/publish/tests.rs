//! What becomes of messages, by what a server that is played says of them.

use broker_event::EventBuilder;
use bytes::Bytes;
use tokio::io::DuplexStream;

use super::*;
use crate::rabbitmq::amqp::tests::{Content, Peer, opened};

const ACK: u16 = 80;
const NACK: u16 = 120;

type Answer = oneshot::Receiver<Result<(), Refusal>>;

/// Hands over a message with a body of `size` bytes.
async fn hand_over(jobs: &mpsc::Sender<Job>, id: &str, size: usize) -> Answer {
    let message = Publication {
        routing_key: "k".to_owned(),
        content_type: Some("text/plain".to_owned()),
        headers: Bytes::new(),
        message_id: id.to_owned(),
        body: vec![b'x'; size].into(),
    };
    let (answer, answered) = oneshot::channel();
    jobs.send(Job { message, answer }).await.unwrap();
    answered
}

async fn confirm(peer: &mut Peer<DuplexStream>, method: u16, number: u64, multiple: bool) {
    let arguments = [&number.to_be_bytes()[..], &[multiple.into()]].concat();
    peer.method(1, (60, method), &arguments).await;
}

/// Runs a publisher beside `script`, which has the server's side and hands messages over.
async fn beside(
    script: impl AsyncFnOnce(&mut Peer<DuplexStream>, mpsc::Sender<Job>),
) -> Result<(), AmqpError> {
    let (mut connection, mut peer) = opened(60).await;
    let (jobs, coming) = mpsc::channel(HANDED_OVER);
    let mut publisher = Publisher::new(&mut connection, "e", coming);
    tokio::join!(publisher.work(), script(&mut peer, jobs)).0
}

/// Waits for so many messages to be published.
async fn published(peer: &mut Peer<DuplexStream>, count: usize) {
    for _ in 0..count {
        let (channel, method, arguments) = peer.called().await;
        assert_eq!((channel, method), (CHANNEL, (60, 40)));
        // The exchange, the key, and that it is mandatory.
        assert_eq!(arguments, &b"\0\0\x01e\x01k\x01"[..]);
    }
}

fn busy_with(answer: Result<Result<(), Refusal>, oneshot::error::RecvError>, word: &str) {
    let refusal = answer.unwrap().unwrap_err();
    assert!(refusal.is_retryable() && refusal.to_string().contains(word), "{refusal}");
}

#[tokio::test]
async fn every_message_is_answered_by_its_own_confirmation() {
    let ended = beside(async |peer, jobs| {
        let mut answers = Vec::new();
        for id in ["a", "b", "c", "d"] {
            answers.push(hand_over(&jobs, id, 1).await);
        }
        published(peer, 4).await;
        let [a, b, c, mut d]: [Answer; 4] = answers.try_into().unwrap();
        confirm(peer, NACK, 3, false).await;
        confirm(peer, ACK, 2, true).await;
        assert_eq!((a.await.unwrap(), b.await.unwrap()), (Ok(()), Ok(())));
        busy_with(c.await, "not taken");
        assert!(d.try_recv().is_err(), "nothing was said of it");
        confirm(peer, ACK, 4, false).await;
        assert_eq!(d.await.unwrap(), Ok(()));
    });
    ended.await.unwrap();
}

#[tokio::test]
async fn a_message_that_comes_back_is_no_success() {
    let ended = beside(async |peer, jobs| {
        let (a, b) = (hand_over(&jobs, "a", 1).await, hand_over(&jobs, "b", 1).await);
        published(peer, 2).await;
        let content = Content::new(b"x").routed("e", "k").message_id(b"a");
        peer.send(&content.returned()).await;
        confirm(peer, ACK, 2, true).await;
        busy_with(a.await, "no queue");
        assert_eq!(b.await.unwrap(), Ok(()));
    });
    ended.await.unwrap();
}

#[tokio::test]
async fn what_is_too_large_for_the_server_is_told_and_the_rest_may_come_again() {
    let ended = beside(async |peer, jobs| {
        // More than a frame holds.
        let large = hand_over(&jobs, "large", 300_000).await;
        let small = hand_over(&jobs, "small", 1).await;
        published(peer, 2).await;
        let said =
            "PRECONDITION_FAILED - message size 300000 is larger than configured max size 100000";
        peer.refuse(1, 406, said).await;
        assert!(matches!(large.await.unwrap(), Err(Refusal::Oversized(_))));
        drop(small);
    });
    assert!(matches!(ended.await, Err(AmqpError::Refused { code: 406, .. })));
}

#[tokio::test]
async fn attributes_that_do_not_fit_into_a_frame_are_refused_and_others_go_on() {
    let ended = beside(async |peer, jobs| {
        let (answer, refused) = oneshot::channel();
        let mut event = EventBuilder::new("1", "/s", "k");
        for number in 0..3 {
            event = event.extension(format!("long{number}"), "x".repeat(60_000));
        }
        let message = message(&event.build().unwrap(), "").unwrap();
        jobs.send(Job { message, answer }).await.unwrap();
        let good = hand_over(&jobs, "good", 0).await;
        assert!(matches!(refused.await.unwrap(), Err(Refusal::Oversized(_))));
        published(peer, 1).await;
        confirm(peer, ACK, 1, false).await;
        assert_eq!(good.await.unwrap(), Ok(()));
    });
    ended.await.unwrap();
}

#[tokio::test]
async fn what_nobody_waits_for_is_not_published() {
    let ended = beside(async |peer, jobs| {
        let gone = hand_over(&jobs, "gone", 1).await;
        drop(gone);
        let there = hand_over(&jobs, "there", 1).await;
        published(peer, 1).await;
        confirm(peer, ACK, 1, false).await;
        assert_eq!(there.await.unwrap(), Ok(()));
    });
    ended.await.unwrap();
}
