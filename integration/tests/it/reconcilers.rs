//! The reconcilers do the same over the embedded API as over Kubernetes' own server: each test runs on both.

mod cluster;

use std::time::Duration;

use crds_controller::leader::{self, Timings};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::harness::eventually::{PATIENCE, eventually};
use cluster::{Cluster, Controlled, Plane, broker, trigger};

/// How long nothing must happen where nothing should: the reconcilers answer a change within a tenth of it.
const QUIET: Duration = Duration::from_secs(1);

/// Runs each test on either server.
macro_rules! on_both {
    ($($name:ident,)*) => {
        mod embedded {
            use super::cluster::Cluster;

            $(#[tokio::test(flavor = "multi_thread")]
            async fn $name() {
                super::$name(Cluster::embedded().await).await;
            })*
        }

        mod kubernetes {
            use super::cluster::Cluster;

            $(#[tokio::test(flavor = "multi_thread")]
            async fn $name() {
                super::$name(Cluster::kubernetes().await).await;
            })*
        }
    };
}

on_both! {
    a_broker_and_its_trigger_become_ready,
    a_trigger_waits_for_its_broker,
    a_broker_of_another_class_is_left_alone,
    a_subscriber_can_be_a_reference,
    what_is_settled_is_not_written,
    a_change_of_the_spec_reaches_the_plane,
    a_deletion_reaches_the_plane,
    what_is_not_ready_is_told_in_one_event,
    a_restart_changes_nothing,
    one_of_two_works_and_the_other_takes_over,
}

/// Type and status of each condition, in the order in which they are listed.
fn conditions(object: &Value) -> Vec<String> {
    let list = object["status"]["conditions"].as_array().into_iter().flatten();
    let text = |value: &Value| value.as_str().expect("text").to_owned();
    list.map(|one| text(&one["type"]) + "=" + &text(&one["status"])).collect()
}

async fn a_broker_and_its_trigger_become_ready(cluster: Cluster) {
    let controller = Controlled::start(&cluster).await;
    cluster.create(&broker("b")).await;
    cluster.create(&trigger("t", "b", "http://s.example/")).await;
    let broker = cluster.ready("brokers", "b", "True").await;
    let url = format!("http://events/{}/b", cluster.namespace);
    assert_eq!(broker["status"]["address"], json!({"name": "http", "url": url}));
    assert_eq!(broker["status"]["observedGeneration"], 1);
    assert_eq!(
        conditions(&broker),
        [
            "Addressable=True",
            "DeadLetterSinkResolved=True",
            "EventPoliciesReady=True",
            "FilterReady=True",
            "IngressReady=True",
            "Ready=True",
        ]
    );
    let trigger = cluster.ready("triggers", "t", "True").await;
    assert_eq!(trigger["status"]["subscriberUri"], "http://s.example/");
    assert_eq!(trigger["status"]["observedGeneration"], 1);
    assert_eq!(
        conditions(&trigger),
        [
            "BrokerReady=True",
            "DeadLetterSinkResolved=True",
            "DependencyReady=True",
            "OIDCIdentityCreated=True",
            "Ready=True",
            "SubscriberResolved=True",
            "SubscriptionReady=True",
        ]
    );
    for condition in trigger["status"]["conditions"].as_array().expect("a list") {
        let time = condition["lastTransitionTime"].as_str().expect("a time");
        assert!(time.parse::<jiff::Timestamp>().is_ok(), "{time}");
    }
    let plane =
        controller.plane.until("both", |plane| plane.brokers == ["b"] && plane.triggers.len() == 1);
    assert_eq!(plane.await.triggers, ["t: b → http://s.example/"]);
    controller.stop().await;
}

async fn a_trigger_waits_for_its_broker(cluster: Cluster) {
    let controller = Controlled::start(&cluster).await;
    cluster.create(&trigger("t", "b", "http://s.example/")).await;
    let waiting = cluster.ready("triggers", "t", "False").await;
    let condition = cluster::condition(&waiting, "BrokerReady").expect("it is reported");
    assert_eq!(condition["reason"], "BrokerDoesNotExist");
    assert_eq!(condition["message"], "Broker \"b\" does not exist");
    cluster.create(&broker("b")).await;
    let ready = cluster.ready("triggers", "t", "True").await;
    assert_eq!(ready["status"]["observedGeneration"], 1);
    controller.stop().await;
}

async fn a_broker_of_another_class_is_left_alone(cluster: Cluster) {
    let controller = Controlled::start(&cluster).await;
    let mut other = broker("other");
    other["metadata"]["annotations"]["eventing.knative.dev/broker.class"] = "Kafka".into();
    let created = cluster.create(&other).await;
    // What comes after it is done, so it was seen.
    cluster.create(&broker("ours")).await;
    cluster.ready("brokers", "ours", "True").await;
    let plane = controller.plane.until("ours", |plane| !plane.brokers.is_empty()).await;
    assert_eq!(plane.brokers, ["ours"]);
    let seen = cluster.get("brokers", "other").await;
    assert_eq!(seen["metadata"]["resourceVersion"], created["metadata"]["resourceVersion"]);
    assert_eq!(seen["status"], Value::Null);
    controller.stop().await;
}

async fn a_subscriber_can_be_a_reference(cluster: Cluster) {
    let controller = Controlled::start(&cluster).await;
    cluster.create(&broker("b")).await;
    let mut object = trigger("t", "b", "");
    object["spec"]["subscriber"] = json!({"ref": {"apiVersion": "eventing.knative.dev/v1", "kind": "Broker", "name": "next", "namespace": cluster.namespace}});
    cluster.create(&object).await;
    let waiting = cluster.ready("triggers", "t", "False").await;
    let condition = cluster::condition(&waiting, "SubscriberResolved").expect("it is reported");
    assert_eq!(condition["status"], "False");
    cluster.create(&broker("next")).await;
    let ready = cluster.ready("triggers", "t", "True").await;
    let url = format!("http://events/{}/next", cluster.namespace);
    assert_eq!(ready["status"]["subscriberUri"], url.as_str());
    controller.stop().await;
}

/// Creates a broker and a trigger, and waits until both are ready.
async fn settle(cluster: &Cluster) {
    cluster.create(&broker("b")).await;
    cluster.create(&trigger("t", "b", "http://s.example/")).await;
    cluster.ready("brokers", "b", "True").await;
    cluster.ready("triggers", "t", "True").await;
}

async fn what_is_settled_is_not_written(cluster: Cluster) {
    let controller = Controlled::start(&cluster).await;
    settle(&cluster).await;
    let versions = cluster.versions().await;
    cluster.quiet(QUIET, &versions).await;
    let published = controller.plane.times();
    cluster.quiet(QUIET, &versions).await;
    assert_eq!(controller.plane.times(), published, "the plane hears nothing new");
    controller.stop().await;
}

async fn a_change_of_the_spec_reaches_the_plane(cluster: Cluster) {
    let controller = Controlled::start(&cluster).await;
    settle(&cluster).await;
    let patch = json!({"spec": {"subscriber": {"uri": "http://new.example/"}}});
    cluster.merge("triggers", "t", &patch).await;
    controller
        .plane
        .until("the new subscriber", |plane| plane.triggers == ["t: b → http://new.example/"])
        .await;
    let changed = eventually("the status is about the change", async || {
        let seen = cluster.get("triggers", "t").await;
        (seen["status"]["observedGeneration"] == 2).then_some(seen)
    })
    .await;
    assert_eq!(changed["status"]["subscriberUri"], "http://new.example/");
    assert_eq!(changed["metadata"]["generation"], 2);
    controller.stop().await;
}

async fn a_deletion_reaches_the_plane(cluster: Cluster) {
    let controller = Controlled::start(&cluster).await;
    settle(&cluster).await;
    cluster.delete("triggers", "t").await;
    controller.plane.until("no trigger", |plane| plane.triggers.is_empty()).await;
    cluster.delete("brokers", "b").await;
    controller.plane.until("no broker", |plane| plane.brokers.is_empty()).await;
    controller.stop().await;
}

async fn what_is_not_ready_is_told_in_one_event(cluster: Cluster) {
    let controller = Controlled::start(&cluster).await;
    let created = cluster.create(&trigger("t", "b", "http://s.example/")).await;
    let told = eventually("an Event", async || {
        Some(cluster.list("events").await).filter(|events| !events.is_empty())
    })
    .await;
    assert_eq!(told[0]["reason"], "BrokerDoesNotExist");
    assert_eq!(told[0]["type"], "Warning");
    assert_eq!(told[0]["count"], 1);
    assert_eq!(told[0]["involvedObject"]["name"], "t");
    assert_eq!(told[0]["involvedObject"]["uid"], created["metadata"]["uid"]);
    let versions = cluster.versions().await;
    cluster.quiet(QUIET, &versions).await;
    assert_eq!(cluster.list("events").await, told);
    controller.stop().await;
}

async fn a_restart_changes_nothing(cluster: Cluster) {
    let first = Controlled::start(&cluster).await;
    settle(&cluster).await;
    cluster.create(&trigger("waiting", "none", "http://s.example/")).await;
    cluster.ready("triggers", "waiting", "False").await;
    eventually("an Event", async || (cluster.list("events").await.len() == 1).then_some(())).await;
    let before = first.plane.until("all", |plane| plane.triggers.len() == 2).await;
    first.stop().await;
    let versions = cluster.versions().await;
    let second = Controlled::start(&cluster).await;
    assert_eq!(second.plane.until("all", |plane| !plane.brokers.is_empty()).await, before);
    cluster.quiet(QUIET, &versions).await;
    assert_eq!(cluster.list("events").await.len(), 1, "what was told is not told again");
    second.stop().await;
}

/// A controller that works while it leads.
struct Candidate {
    plane: Plane,
    stop: CancellationToken,
    tasks: TaskTracker,
}

impl Candidate {
    fn start(cluster: &Cluster, identity: &str) -> Self {
        let config = leader::Config {
            namespace: cluster.namespace.clone(),
            name: "weft-controller".to_owned(),
            identity: identity.to_owned(),
            // A tenth of what is usual, but enough for a busy machine.
            timings: Timings {
                duration: Duration::from_secs(6),
                renew_deadline: Duration::from_secs(5),
                retry: Duration::from_millis(200),
            },
        };
        let (stop, tasks) = (CancellationToken::new(), TaskTracker::new());
        let plane = Plane::new(&cluster.namespace);
        let (client, controller) = (cluster.client(), cluster.controller(plane.clone()));
        let token = stop.clone();
        tasks.spawn(async move {
            let work = |stop: CancellationToken| async move {
                let (synced, _) = tokio::sync::oneshot::channel();
                controller.run(stop, synced).await;
            };
            leader::lead(client, config, token, work).await.expect("it leads until it is stopped");
        });
        tasks.close();
        Self { plane, stop, tasks }
    }

    async fn stop(self) {
        self.stop.cancel();
        tokio::time::timeout(PATIENCE, self.tasks.wait()).await.expect("it stops");
    }
}

async fn holder(cluster: &Cluster) -> String {
    let lease = cluster.get("leases", "weft-controller").await;
    lease["spec"]["holderIdentity"].as_str().unwrap_or_default().to_owned()
}

async fn one_of_two_works_and_the_other_takes_over(cluster: Cluster) {
    let first = Candidate::start(&cluster, "first");
    settle(&cluster).await;
    let second = Candidate::start(&cluster, "second");
    assert_eq!(holder(&cluster).await, "first");
    let versions = cluster.versions().await;
    cluster.quiet(QUIET, &versions).await;
    assert_eq!(second.plane.times(), 0, "only one works");
    first.stop().await;
    second.plane.until("the second works", |plane| plane.brokers == ["b"]).await;
    assert_eq!(holder(&cluster).await, "second");
    cluster.create(&trigger("later", "b", "http://later.example/")).await;
    cluster.ready("triggers", "later", "True").await;
    second.stop().await;
    assert_eq!(holder(&cluster).await, "", "it is given back");
}
