//! A source against a server that is played: what it declares, when it acknowledges, what it makes of answers.

use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::*;
use crate::emit::EmitError;
use crate::rabbitmq::amqp::tests::{Content, Peer};
use crate::rabbitmq::{ClusterReference, LocalReference, RabbitmqSource};
use crate::secret::Secret;
use crate::source::Source;
use crate::source::fake::World;
use crate::status::{Board, State, Status, fake};

/// A source ends within a second when it is asked to; a busy machine gets some more.
const SOON: Duration = Duration::from_secs(10);

/// A source in motion, and the server it talks to.
struct Scene {
    world: World,
    task: JoinHandle<Result<(), SourceError>>,
    stop: CancellationToken,
    board: Arc<Board>,
    listener: TcpListener,
    peer: Peer<TcpStream>,
}

fn predeclared() -> ResourcesConfig {
    ResourcesConfig {
        queue_name: "q".to_owned(),
        predeclared: true,
        prefetch_count: Some(8),
        ..ResourcesConfig::default()
    }
}

impl Scene {
    /// Up to the end of the handshake.
    async fn new(config: ResourcesConfig) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let mut world = World::new();
        let (uri, user) = (format!("amqp://127.0.0.1:{port}"), "shop".to_owned());
        let values = [
            ("rabbitmqClusterReference.connectionSecret.uri", uri),
            ("rabbitmqClusterReference.username", user.clone()),
            ("rabbitmqClusterReference.password", user),
        ];
        world.given =
            values.into_iter().map(|(field, value)| (field, Secret::new(value))).collect();
        let spec = RabbitmqSource {
            rabbitmq_cluster_reference: Some(ClusterReference {
                connection_secret: Some(LocalReference { name: "s".to_owned() }),
                ..ClusterReference::default()
            }),
            rabbitmq_resources_config: Some(config),
            ..RabbitmqSource::default()
        };
        let (context, board) = world.context("RabbitmqSource");
        let stop = context.stop.clone();
        let task = TaskTracker::new().spawn(spec.run(context));
        let mut peer = Peer::new(listener.accept().await.unwrap().0);
        peer.welcome(60).await;
        Self { world, task, stop, board, listener, peer }
    }

    /// Up to the first delivery.
    async fn consuming(config: ResourcesConfig) -> Self {
        let mut scene = Self::new(config).await;
        while scene.step().await != (60, 20) {}
        scene
    }

    /// Says yes to whatever is declared next.
    async fn step(&mut self) -> (u16, u16) {
        let (channel, id, _) = self.peer.called().await;
        self.answer(channel, id).await;
        id
    }

    async fn answer(&mut self, channel: u16, (class, number): (u16, u16)) {
        let answer: &[u8] = match (class, number) {
            (20, 10) => &[0; 4],
            (50, 10) => b"\x01q\x00\x00\x00\x00\x00\x00\x00\x00",
            (60, 20) => b"\x04ctag",
            _ => &[],
        };
        self.peer.method(channel, (class, number + 1), answer).await;
    }

    /// The same, but for `unanswered`; returns whether it was something else.
    async fn step_unless(&mut self, unanswered: (u16, u16)) -> bool {
        let called = self.peer.called().await;
        let answers = called.1 != unanswered;
        if answers {
            self.answer(called.0, called.1).await;
        }
        answers
    }

    /// The next acknowledgement or rejection; what the source asks about its queue is answered.
    async fn settled(&mut self) -> (u16, u64, bool) {
        loop {
            let (channel, (class, number), arguments) = self.peer.called().await;
            let answer: &[u8] = match (class, number) {
                (60, 80 | 90) => {
                    let (tag, flag) = arguments.split_at(8);
                    return (number, u64::from_be_bytes(tag.try_into().unwrap()), flag == [1]);
                }
                // The end of a consumer and the beginning of the next are not answered.
                (60, 20 | 30) => continue,
                (60, 10) => &[],
                _ => b"\x01q\x00\x00\x00\x2a\x00\x00\x00\x01",
            };
            self.peer.method(channel, (class, number + 1), answer).await;
        }
    }

    fn status(&self) -> Status {
        fake::only(&self.board)
    }

    /// Why it ended by itself. It says goodbye, which the server need not answer.
    async fn failure(self) -> SourceError {
        timeout(SOON, self.task).await.unwrap().unwrap().unwrap_err()
    }
}

#[tokio::test]
async fn everything_is_declared_before_anything_is_consumed() {
    let config = ResourcesConfig {
        exchange_name: "e".to_owned(),
        queue_name: "q".to_owned(),
        ..ResourcesConfig::default()
    };
    let mut scene = Scene::new(config).await;
    let mut declared = Vec::new();
    while declared.last().is_none_or(|(_, id, _)| *id != (60, 20)) {
        let (channel, (class, number), arguments) = scene.peer.called().await;
        scene.peer.method(channel, (class, number + 1), &[0; 12]).await;
        declared.push((channel, (class, number), arguments));
    }
    let expected: [(u16, (u16, u16), &[u8]); 7] = [
        (1, (20, 10), b"\0"),
        (1, (40, 10), b"\0\0\x01e\x07headers\x02\0\0\0\0"),
        (1, (50, 10), b"\0\0\x01q\x02\0\0\0\x18\x0cx-queue-typeS\0\0\0\x06quorum"),
        (1, (50, 20), b"\0\0\x01q\x01e\0\0\0\0\0\x10\x07x-matchS\0\0\0\x03all"),
        (1, (60, 10), b"\0\0\0\0\0\x04\0"),
        (2, (20, 10), b"\0"),
        (1, (60, 20), b"\0\0\x01q\x06weft-0\0\0\0\0\0"),
    ];
    for (found, expected) in declared.iter().zip(expected) {
        assert_eq!((found.0, found.1, &*found.2), expected);
    }
    assert_eq!(declared.len(), expected.len());
}

#[tokio::test]
async fn what_is_predeclared_is_only_looked_for() {
    let mut scene =
        Scene::new(ResourcesConfig { exchange_name: "e".to_owned(), ..predeclared() }).await;
    assert_eq!(scene.step().await, (20, 10));
    let (_, id, arguments) = scene.peer.called().await;
    assert_eq!((id, &*arguments), ((40, 10), &b"\0\0\x01e\x07headers\x01\0\0\0\0"[..]));
    scene.peer.method(1, (40, 11), &[]).await;
    let (_, id, arguments) = scene.peer.called().await;
    assert_eq!((id, &*arguments), ((50, 10), &b"\0\0\x01q\x01\0\0\0\0"[..]));
    scene.peer.method(1, (50, 11), &[0; 9]).await;
    // No binding.
    assert_eq!(scene.step().await, (60, 10));
}

#[tokio::test]
async fn a_batch_is_acknowledged_once_its_events_are_safe() {
    let mut scene = Scene::consuming(predeclared()).await;
    let frames: Vec<u8> = (1..=8)
        .flat_map(|tag| Content::new(&[b'0' + tag]).message_id(&[b'0' + tag]).frames(tag.into()))
        .collect();
    scene.peer.send(&frames).await;
    let mut last = 0;
    while last < 8 {
        let (number, tag, multiple) = scene.settled().await;
        // A batch of half the prefetch at most: the other half comes meanwhile.
        assert!(number == 80 && multiple && tag > last && tag <= last + 4, "{number} {tag}");
        assert!(scene.world.recorder.taken().len() as u64 >= tag);
        last = tag;
    }
    let taken = scene.world.recorder.taken();
    let ids: Vec<_> = taken.iter().map(Event::id).collect();
    assert_eq!(ids, ["1", "2", "3", "4", "5", "6", "7", "8"]);
    assert_eq!(scene.status().state, State::Running);
}

#[tokio::test]
async fn nothing_is_acknowledged_while_the_sink_is_away_and_all_of_it_after() {
    let mut scene = Scene::consuming(predeclared()).await;
    let away = EmitError::Unavailable { reason: "refused".to_owned() };
    scene.world.recorder.fail_with([away.clone(), away]);
    scene.peer.deliver(1, &Content::new(b"x")).await;
    let settled = scene.settled().await;
    assert_eq!(settled, (80, 1, true));
    assert_eq!(scene.world.recorder.taken().len(), 1);
}

#[tokio::test]
async fn what_the_sink_refuses_is_parked_and_acknowledged() {
    let mut scene = Scene::consuming(predeclared()).await;
    scene.world.recorder.always(Some(EmitError::Refused { reason: "no".to_owned() }));
    scene.peer.deliver(1, &Content::new(b"x").message_id(b"m")).await;
    assert_eq!(scene.settled().await, (80, 1, true));
    let parked = scene.world.parked.0.lock().unwrap();
    assert_eq!(parked[0].1.id(), "m");
}

#[tokio::test]
async fn the_end_gives_back_what_is_not_safe() {
    let mut scene = Scene::consuming(predeclared()).await;
    scene.world.recorder.always(Some(EmitError::Unavailable { reason: "away".to_owned() }));
    scene.peer.deliver(1, &Content::new(b"x")).await;
    // The first question about the queue shows that the delivery before it was read.
    while scene.peer.called().await.1 != (50, 10) {}
    scene.stop.cancel();
    let goodbye = async {
        while scene.peer.called().await.1 != (10, 50) {}
        scene.peer.method(0, (10, 51), &[]).await;
    };
    timeout(SOON, goodbye).await.unwrap();
    timeout(SOON, scene.task).await.unwrap().unwrap().unwrap();
    assert!(scene.world.recorder.taken().is_empty());
}

#[tokio::test]
async fn small_messages_may_come_in_larger_numbers() {
    let mut scene = Scene::consuming(predeclared()).await;
    // While nothing is acknowledged, four is all that the server may send.
    scene.world.recorder.always(Some(EmitError::Unavailable { reason: "away".to_owned() }));
    for tag in 1..=4 {
        scene.peer.deliver(tag, &Content::new(b"x")).await;
    }
    let mut changes = Vec::new();
    while changes.len() < 3 {
        let (channel, id, arguments) = scene.peer.called().await;
        if id.0 == 60 && id.1 != 80 {
            changes.push((channel, id, arguments));
        }
    }
    let expected: [((u16, u16), &[u8]); 3] = [
        ((60, 30), b"\x06weft-0\x01"),
        ((60, 10), b"\0\0\0\0\0\x08\0"),
        ((60, 20), b"\0\0\x01q\x06weft-1\x08\0\0\0\0"),
    ];
    for (found, expected) in changes.iter().zip(expected) {
        assert_eq!((found.0, found.1, &*found.2), (1, expected.0, expected.1));
    }
}

#[tokio::test]
async fn a_server_that_forgets_who_asked_is_asked_again() {
    let mut scene = Scene::new(predeclared()).await;
    // Whatever comes before the consumer is answered.
    while scene.step_unless((60, 20)).await {}
    let again = timeout(SOON, scene.listener.accept()).await.unwrap().unwrap();
    scene.peer = Peer::new(again.0);
    scene.peer.welcome(60).await;
    while scene.step().await != (60, 20) {}
    scene.peer.deliver(1, &Content::new(b"x")).await;
    assert_eq!(scene.settled().await, (80, 1, true));
}

#[tokio::test]
async fn what_waits_is_told() {
    let mut scene = Scene::consuming(predeclared()).await;
    scene.peer.deliver(1, &Content::new(b"x")).await;
    let (mut asked, mut settled) = (false, false);
    while !(asked && settled) {
        let (channel, (class, number), arguments) = scene.peer.called().await;
        settled |= (class, number) == (60, 80);
        if class == 50 {
            asked = true;
            assert_eq!((channel, &*arguments), (2, &b"\0\0\x01q\x01\0\0\0\0"[..]));
            let answer = b"\x01q\x00\x00\x07\xd0\x00\x00\x00\x01";
            scene.peer.method(2, (50, 11), answer).await;
        }
    }
    let behind = |status: &Status| {
        status
            .conditions
            .iter()
            .any(|condition| condition.name == Condition::CAUGHT_UP && !condition.holds)
    };
    let deadline = tokio::time::Instant::now() + SOON;
    let mut seen = scene.board.revision();
    while !behind(&scene.status()) {
        seen = tokio::time::timeout_at(deadline, scene.board.changed_since(seen)).await.unwrap();
    }
}

#[tokio::test]
async fn answers_are_told_as_what_they_mean() {
    let mut scene = Scene::new(predeclared()).await;
    scene.step().await;
    scene.peer.called().await;
    scene.peer.refuse(1, 404, "NOT_FOUND - no queue 'q' in vhost '/'").await;
    let error = scene.failure().await;
    assert_eq!(error.reason(), "UpstreamNotFound");
    let expected =
        r#"declare the queue "q": the server answered 404: NOT_FOUND - no queue 'q' in vhost '/'"#;
    assert_eq!(error.to_string(), expected);

    let config = ResourcesConfig { exchange_name: "e".to_owned(), ..predeclared() };
    let mut scene = Scene::new(ResourcesConfig { predeclared: false, ..config }).await;
    scene.step().await;
    scene.peer.called().await;
    scene.peer.refuse(1, 406, "PRECONDITION_FAILED - inequivalent arg 'type'").await;
    let mut seen = scene.board.revision();
    while scene.status().conditions.is_empty() {
        seen = scene.board.changed_since(seen).await;
    }
    let status = scene.status();
    assert_eq!(status.conditions[0].name, EXCHANGE_READY);
    assert_eq!(scene.failure().await.reason(), "UpstreamUnavailable");

    let mut scene = Scene::consuming(predeclared()).await;
    scene.peer.method(1, (60, 30), b"\x04ctag\x01").await;
    let error = scene.failure().await;
    assert_eq!(error.reason(), "UpstreamNotFound");
}

#[tokio::test]
async fn a_message_that_cannot_be_held_is_kept_aside_without_its_body_and_given_up() {
    let world = World::new();
    let (ctx, _) = world.context("RabbitmqSource");
    let config = predeclared();
    let mut consumer = Consumer::new(&config, &ctx);
    let mut deliveries: Vec<_> = (1..=3).map(|tag| Content::new(b"x").delivery(tag)).collect();
    deliveries[1].too_large = Some(1 << 40);
    for delivery in deliveries {
        consumer.hold(delivery);
    }
    let mut batches = Vec::new();
    while !(consumer.waiting.is_empty() && consumer.under_way.is_empty()) {
        consumer.start_batches();
        let batch = consumer.under_way.next().await.unwrap().unwrap();
        batches.push((batch.tag, batch.given_up));
    }
    assert_eq!(batches, [(1, false), (2, true), (3, false)]);
    assert_eq!(world.recorder.taken().len(), 2);
    assert!(world.parked.0.lock().unwrap()[0].2.contains("1099511627776 bytes"));
}

#[tokio::test]
async fn a_source_holds_no_more_than_it_may() {
    let world = World::new();
    let (ctx, _) = world.context("RabbitmqSource");
    let config = ResourcesConfig { prefetch_count: Some(10_000), ..predeclared() };
    let mut consumer = Consumer::new(&config, &ctx);
    let large = Content::new(&vec![0; 1 << 20]);
    let mut tag = 0;
    while consumer.has_room() {
        tag += 1;
        consumer.hold(large.delivery(tag));
    }
    assert_eq!(tag, 128);
    assert!(consumer.is_full() && consumer.prefetch.adapt());
    let (batch, messages) = consumer.next_batch().unwrap();
    assert_eq!((batch.tag, messages.len()), (4, 4));
}

#[tokio::test]
async fn more_batches_at_once_are_settled_in_their_order() {
    let world = World::new();
    let (ctx, _) = world.context("RabbitmqSource");
    let config = ResourcesConfig { parallelism: Some(3), prefetch_count: Some(8), ..predeclared() };
    // The first batch is offered again after a wait, so that the others are safe before it.
    world.recorder.fail_with([EmitError::Unavailable { reason: "away".to_owned() }]);
    let mut consumer = Consumer::new(&config, &ctx);
    consumer.prefetch.saw(1);
    assert!(consumer.prefetch.adapt());
    for tag in 1..=8 {
        let content = Content::new(b"x").message_id(tag.to_string().as_bytes());
        consumer.hold(content.delivery(tag));
    }
    let mut tags = Vec::new();
    while tags.len() < 4 {
        consumer.start_batches();
        assert!(consumer.under_way.len() <= 3);
        tags.push(consumer.under_way.next().await.unwrap().unwrap().tag);
    }
    assert_eq!(tags, [2, 4, 6, 8]);
    assert_eq!(world.recorder.taken().len(), 8);
    assert_ne!(world.recorder.taken()[0].id(), "1");
}
