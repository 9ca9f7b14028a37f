//! The whole source, against the client library's own imitation of a cluster.

use std::collections::BTreeMap;
use std::ops::Range;

use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer as _, ConsumerContext as _, Rebalance};
use rdkafka::message::Message as _;
use rdkafka::mocking::MockCluster;
use rdkafka::producer::{BaseProducer, BaseRecord, DefaultProducerContext, Producer};
use rdkafka::topic_partition_list::TopicPartitionList;
use serde_json::{Value, json};
use tokio::task::JoinHandle;

use super::*;
use crate::emit::EmitError;
use crate::given::Given;
use crate::source::Source;
use crate::source::fake::World;
use crate::status::{Board, State, Status, fake};

/// The imitation lets the first member of a group wait three seconds for others.
const LONGEST: Duration = Duration::from_secs(30);

type Cluster = MockCluster<'static, DefaultProducerContext>;

/// A source at work.
struct Run {
    stop: CancellationToken,
    board: Arc<Board>,
    task: JoinHandle<Result<(), SourceError>>,
}

fn cluster(topics: &[(&str, i32)]) -> Cluster {
    let cluster = MockCluster::new(1).unwrap();
    for (topic, partitions) in topics {
        cluster.create_topic(topic, *partitions, 1).unwrap();
    }
    cluster
}

fn client(servers: &str) -> ClientConfig {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", servers).set("group.id", "g");
    config
}

/// Writes numbers into a partition.
fn produce(cluster: &Cluster, topic: &str, partition: i32, numbers: Range<usize>) {
    let producer: BaseProducer =
        ClientConfig::new().set("bootstrap.servers", cluster.bootstrap_servers()).create().unwrap();
    for number in numbers {
        let (key, value) = (format!("k{}", number % 3), number.to_string());
        let record = BaseRecord::to(topic).partition(partition).key(&key).payload(&value);
        producer.send(record).unwrap();
    }
    producer.flush(LONGEST).unwrap();
}

fn position(servers: &str, topic: &str, partition: i32) -> Option<i64> {
    let asking: BaseConsumer = client(servers).create().unwrap();
    let mut list = TopicPartitionList::new();
    list.add_partition(topic, partition);
    let list = asking.committed_offsets(list, LONGEST).unwrap();
    let offset = list.elements()[0].offset().to_raw();
    offset.filter(|offset| *offset >= 0)
}

fn spec(servers: &str, topic: &str, extra: &Value) -> KafkaSource {
    let mut spec = json!({
        "bootstrapServers": [servers],
        "topics": [topic],
        "consumerGroup": "g",
        "sink": {"uri": "http://sink/"},
    });
    for (field, value) in extra.as_object().unwrap() {
        spec[field] = value.clone();
    }
    serde_json::from_value(spec).unwrap()
}

fn number(event: &Event) -> usize {
    std::str::from_utf8(event.data().unwrap()).unwrap().parse().unwrap()
}

impl Run {
    fn start(world: &World, spec: KafkaSource) -> Self {
        let (ctx, board) = world.context("KafkaSource");
        let stop = ctx.stop.clone();
        #[expect(clippy::disallowed_methods, reason = "a test waits for it")]
        let task = tokio::spawn(spec.run(ctx));
        Self { stop, board, task }
    }

    /// Waits until its status is like that.
    async fn until(&self, is_so: impl Fn(&Status) -> bool) -> Status {
        let wait = async {
            loop {
                let revision = self.board.revision();
                let status = fake::only(&self.board);
                if is_so(&status) {
                    return status;
                }
                self.board.changed_since(revision).await;
            }
        };
        timeout(LONGEST, wait).await.unwrap()
    }

    async fn running(&self) -> Status {
        self.until(|status| status.state == State::Running).await
    }

    /// Stops it, as it must: within a second.
    async fn stop(self) {
        self.stop.cancel();
        timeout(Duration::from_secs(1), self.task).await.unwrap().unwrap().unwrap();
    }

    async fn failure(self) -> SourceError {
        timeout(LONGEST, self.task).await.unwrap().unwrap().unwrap_err()
    }
}

async fn taken(world: &World, count: usize) -> Vec<usize> {
    let taken = timeout(LONGEST, world.recorder.wait_for(count)).await.unwrap();
    taken.iter().map(number).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_comes_after_the_source_was_made_is_delivered_once_across_restarts() {
    let cluster = cluster(&[("t", 1)]);
    let servers = cluster.bootstrap_servers();
    produce(&cluster, "t", 0, 0..3);
    let world = World::new();
    // A source that is paused from the start has its position nevertheless.
    let paused = Run::start(&world, spec(&servers, "t", &json!({"consumers": 0})));
    let status = paused.running().await;
    assert_eq!(status.facts.get("consumers"), Some(&json!(0)));
    assert!(status.conditions.iter().any(|one| one.name == CONSUMING && !one.holds));
    assert_eq!(position(&servers, "t", 0), Some(3));
    paused.stop().await;

    produce(&cluster, "t", 0, 3..5);
    let run = Run::start(&world, spec(&servers, "t", &json!({})));
    assert_eq!(taken(&world, 2).await, [3, 4]);
    let status = run.until(|status| status.facts.contains_key("claims")).await;
    assert_eq!(status.facts.get("claims"), Some(&json!("t: 0")));
    assert_eq!(status.facts.get("consumers"), Some(&json!(1)));
    run.stop().await;
    assert_eq!(position(&servers, "t", 0), Some(5));

    produce(&cluster, "t", 0, 5..7);
    let run = Run::start(&world, spec(&servers, "t", &json!({})));
    assert_eq!(taken(&world, 4).await, [3, 4, 5, 6]);
    run.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_that_is_made_later_is_read_from_its_beginning() {
    let cluster = cluster(&[]);
    let servers = cluster.bootstrap_servers();
    let world = World::new();
    let error = Run::start(&world, spec(&servers, "late", &json!({}))).failure().await;
    assert_eq!(error.to_string(), "there is no topic late");
    assert_eq!(error.reason(), "UpstreamNotFound");
    cluster.create_topic("late", 2, 1).unwrap();
    produce(&cluster, "late", 1, 0..2);
    let run = Run::start(&world, spec(&servers, "late", &json!({})));
    assert_eq!(taken(&world, 2).await, [0, 1]);
    run.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_that_is_there_has_its_position_though_another_is_not() {
    let cluster = cluster(&[("t", 1)]);
    let servers = cluster.bootstrap_servers();
    produce(&cluster, "t", 0, 0..3);
    let world = World::new();
    let both = json!({"topics": ["t", "late"]});
    let error = Run::start(&world, spec(&servers, "t", &both)).failure().await;
    assert_eq!(error.to_string(), "there is no topic late");
    assert_eq!(position(&servers, "t", 0), Some(3));
    produce(&cluster, "t", 0, 3..5);
    cluster.create_topic("late", 1, 1).unwrap();
    let run = Run::start(&world, spec(&servers, "t", &both));
    assert_eq!(taken(&world, 2).await, [3, 4]);
    run.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_committed_before_the_sink_took_it() {
    let cluster = cluster(&[("t", 2)]);
    let servers = cluster.bootstrap_servers();
    produce(&cluster, "t", 0, 0..2000);
    produce(&cluster, "t", 1, 2000..4000);
    let world = World::new();
    let earliest = json!({"initialOffset": "earliest"});
    world.recorder.always(Some(EmitError::Unavailable { reason: "it is away".to_owned() }));
    let run = Run::start(&world, spec(&servers, "t", &earliest));
    run.until(|status| status.conditions.iter().any(|one| one.message.contains("it is away")))
        .await;
    run.stop().await;
    assert_eq!(position(&servers, "t", 0), Some(0));
    world.recorder.always(None);
    let run = Run::start(&world, spec(&servers, "t", &earliest));
    let (left, right): (Vec<_>, Vec<_>) =
        taken(&world, 4000).await.into_iter().partition(|number| *number < 2000);
    assert!(left.into_iter().eq(0..2000) && right.into_iter().eq(2000..4000));
    run.stop().await;
    assert_eq!(position(&servers, "t", 0), Some(2000));
}

#[tokio::test(flavor = "multi_thread")]
async fn consumers_share_the_partitions_and_keys_keep_their_order() {
    let cluster = cluster(&[("t", 4)]);
    let servers = cluster.bootstrap_servers();
    for partition in 0..4 {
        let first = usize::try_from(partition).unwrap() * 300;
        produce(&cluster, "t", partition, first..first + 300);
    }
    let world = World::new();
    let extra = json!({"consumers": 2, "ordering": "unordered", "initialOffset": "earliest"});
    let run = Run::start(&world, spec(&servers, "t", &extra));
    timeout(LONGEST, world.recorder.wait_for(1200)).await.unwrap();
    run.stop().await;
    let mut last: BTreeMap<String, usize> = BTreeMap::new();
    for event in world.recorder.taken() {
        let (partition, _) = event.id().split_once('/').unwrap();
        let lane = format!("{partition} {:?}", event.extension("key"));
        let before = last.insert(lane, number(&event));
        assert!(before.is_none_or(|before| before < number(&event)), "{event:?}");
    }
    assert_eq!(last.len(), 12);
    assert_eq!(world.recorder.taken().len(), 1200);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_annotation_moves_the_group_once() {
    let cluster = cluster(&[("t", 1)]);
    let servers = cluster.bootstrap_servers();
    produce(&cluster, "t", 0, 0..5);
    let mut world = World::new();
    let mut about = About::clone(&world.about);
    about.annotations.insert(annotation::START.to_owned(), "offset:3".to_owned());
    world.about = Arc::new(about);
    for count in [2, 2] {
        let run = Run::start(&world, spec(&servers, "t", &json!({})));
        assert_eq!(taken(&world, count).await, [3, 4]);
        run.running().await;
        run.stop().await;
    }
}

#[test]
fn a_partition_that_was_taken_away_while_it_was_stopped_is_read_when_it_comes_back() {
    let cluster = cluster(&[("t", 1)]);
    let spec = spec(&cluster.bootstrap_servers(), "t", &json!({}));
    let options = client::options(&spec, &World::new().about, &Given::default()).unwrap();
    let callbacks = Callbacks::new(Ledger::new(1 << 20), "".into());
    let consumer = client::make(&options, callbacks).unwrap();
    consumer.subscribe(&["t"]).unwrap();
    let until = Instant::now() + LONGEST;
    let next = || loop {
        assert!(Instant::now() < until, "nothing is read");
        if let Some(Ok(message)) = consumer.poll(Duration::from_millis(100)) {
            return message.payload().unwrap().to_vec();
        }
    };
    produce(&cluster, "t", 0, 0..1);
    assert_eq!(next(), b"0");
    let all = consumer.assignment().unwrap();
    consumer.pause(&all).unwrap();
    produce(&cluster, "t", 0, 1..2);
    consumer.context().pre_rebalance(&consumer, &Rebalance::Assign(&all));
    assert_eq!(next(), b"1");
}

#[tokio::test(flavor = "multi_thread")]
async fn servers_that_do_not_answer_are_told_and_can_be_given_up() {
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = nobody.local_addr().unwrap().to_string();
    let world = World::new();
    let run = Run::start(&world, spec(&address, "t", &json!({})));
    let given_up = Run::start(&world, spec(&address, "t", &json!({})));
    given_up.stop().await;
    drop(nobody);
    let error = run.failure().await;
    assert_eq!(error.reason(), "UpstreamUnavailable");
}
