//! A trigger that is changed, paused, deleted or made again while events flow keeps its place: nothing is lost, nothing
//! comes twice, nothing is invented.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::harness::eventually::{eventually, throughout};
use crate::harness::mesh::{BROKER, Mesh, trigger};
use crate::harness::request;
use crate::harness::subscriber::{A_WHILE, Reply, Subscriber};

const PAUSED: &[&str] = &["weft.dev/paused: \"true\""];

/// A filter for one type.
fn only(ty: &str) -> String {
    format!("  filters: [{{exact: {{type: {ty}}}}}]\n")
}

/// A mesh whose resources change, and a probe that tells when they are in force.
struct Story {
    mesh: Mesh,
    probe: Subscriber,
    changes: std::cell::Cell<usize>,
}

impl Story {
    async fn start(triggers: &str) -> Self {
        let mesh = Mesh::start(&format!("{BROKER}{triggers}")).await;
        Self { mesh, probe: Subscriber::start().await, changes: std::cell::Cell::new(0) }
    }

    /// Replaces the triggers; returns once events sent from now on are decided and delivered by the new ones.
    async fn change(&self, triggers: &str) {
        let ty = format!("probe{}", self.changes.replace(self.changes.get() + 1));
        let probe = trigger(&ty, &self.probe.url, &only(&ty), &[]);
        self.mesh.rewrite(&format!("{BROKER}{triggers}{probe}"));
        eventually("the change", async || {
            self.mesh.send(&ty, "probe").await;
            self.probe.got().iter().any(|got| got.header("ce-type") == ty).then_some(())
        })
        .await;
    }
}

/// Sends events of type `a` without a pause while `story` goes on; answers the ids, which are in order.
async fn under_traffic(mesh: &Mesh, story: impl Future<Output = ()>) -> Vec<String> {
    let over = AtomicBool::new(false);
    let traffic = async {
        let mut sent = Vec::new();
        while !over.load(Ordering::SeqCst) {
            let id = sent.len().to_string();
            mesh.send("a", &id).await;
            sent.push(id);
        }
        sent
    };
    let story = async {
        story.await;
        over.store(true, Ordering::SeqCst);
    };
    tokio::join!(traffic, story).0
}

fn count(subscriber: &Subscriber) -> usize {
    subscriber.got().len()
}

/// Waits for `more` deliveries than there are.
async fn flowing(subscriber: &Subscriber, more: usize) {
    subscriber.wait(count(subscriber) + more).await;
}

/// Asserts that no id came twice and none that was not sent; answers them.
fn once(ids: &[String], sent: &[String]) -> BTreeSet<usize> {
    let count = ids.len();
    let ids: BTreeSet<usize> = ids.iter().map(|id| id.parse().expect("a number")).collect();
    assert_eq!(ids.len(), count, "something came twice");
    assert!(ids.last().is_none_or(|last| *last < sent.len()), "something was invented");
    ids
}

/// Waits until `subscribers` together have everything that was sent, each event once.
async fn all_came_once(subscribers: &[&Subscriber], sent: &[String]) {
    let ids = || subscribers.iter().flat_map(|subscriber| subscriber.ids()).collect::<Vec<_>>();
    eventually("everything that was sent", async || (ids().len() >= sent.len()).then_some(()))
        .await;
    assert_eq!(once(&ids(), sent), (0..sent.len()).collect());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_changed_filter_decides_what_comes_later() {
    let subscriber = Subscriber::start().await;
    let with = |ty: &str| trigger("t", &subscriber.url, &only(ty), &[]);
    let story = Story::start(&with("a")).await;
    let mut before = Vec::new();
    let sent = under_traffic(&story.mesh, async {
        flowing(&subscriber, 20).await;
        before = subscriber.ids();
        story.change(&with("other")).await;
        let came = count(&subscriber);
        story.mesh.send("other", "9999999").await;
        subscriber.wait(came + 1).await;
        story.change(&with("a")).await;
        flowing(&subscriber, 20).await;
    })
    .await;
    let last = sent.last().expect("events were sent").clone();
    eventually("the last one", async || subscriber.ids().contains(&last).then_some(())).await;
    let mut ids = subscriber.ids();
    assert!(ids.starts_with(&before));
    assert!(ids.contains(&"9999999".to_owned()), "what the new filter wants came");
    ids.retain(|id| id != "9999999");
    assert!(once(&ids, &sent).len() < sent.len(), "what the new filter did not want never came");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_changed_subscriber_takes_over_where_the_old_one_was() {
    let (first, second) = (Subscriber::start().await, Subscriber::start().await);
    let at = |subscriber: &Subscriber| trigger("t", &subscriber.url, "", &[]);
    let story = Story::start(&at(&first)).await;
    let sent = under_traffic(&story.mesh, async {
        flowing(&first, 20).await;
        story.change(&at(&second)).await;
        flowing(&second, 20).await;
    })
    .await;
    let probes = |ids: Vec<String>| ids.into_iter().filter(|id| id != "probe").count();
    eventually("everything", async || {
        (probes(first.ids()) + probes(second.ids()) >= sent.len()).then_some(())
    })
    .await;
    let mut ids = [first.ids(), second.ids()].concat();
    ids.retain(|id| id != "probe");
    assert_eq!(once(&ids, &sent), (0..sent.len()).collect());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_paused_trigger_gets_nothing_and_afterwards_everything() {
    let subscriber = Subscriber::start().await;
    let with = |annotations: &[&str]| trigger("t", &subscriber.url, &only("a"), annotations);
    let story = Story::start(&with(&[])).await;
    let sent = under_traffic(&story.mesh, async {
        flowing(&subscriber, 20).await;
        story.change(&with(PAUSED)).await;
        // What was under way arrives still.
        throughout("the end of what was under way", A_WHILE, || true).await;
        let came = count(&subscriber);
        throughout("the pause", A_WHILE, || count(&subscriber) == came).await;
        story.change(&with(&[])).await;
        flowing(&subscriber, 20).await;
    })
    .await;
    all_came_once(&[&subscriber], &sent).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn options_that_change_under_traffic_lose_and_repeat_nothing() {
    let subscriber = Subscriber::start().await;
    let with = |annotations: &[&str]| trigger("t", &subscriber.url, &only("a"), annotations);
    let story = Story::start(&with(&[])).await;
    let sent = under_traffic(&story.mesh, async {
        for annotations in [
            &["weft.dev/order: key"][..],
            &["weft.dev/order: key", "weft.dev/parallelism: \"2\""],
            &["weft.dev/max-age: PT1H"],
            &["weft.dev/max-backlog: \"100000\"", "weft.dev/rate: \"5000\""],
            &["weft.dev/start: earliest"],
        ] {
            flowing(&subscriber, 10).await;
            story.change(&with(annotations)).await;
        }
    })
    .await;
    all_came_once(&[&subscriber], &sent).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_trigger_deleted_and_made_again_starts_anew() {
    let subscriber = Subscriber::start().await;
    let t = trigger("t", &subscriber.url, &only("a"), &[]);
    let story = Story::start(&t).await;
    let (mut before, mut after) = (0, 0);
    let sent = under_traffic(&story.mesh, async {
        flowing(&subscriber, 20).await;
        before = count(&subscriber);
        story.change("").await;
        let came = count(&subscriber);
        throughout("its absence", A_WHILE, || count(&subscriber) == came).await;
        story.change(&t).await;
        after = count(&subscriber);
        flowing(&subscriber, 20).await;
    })
    .await;
    let last = sent.last().expect("events were sent").clone();
    eventually("the last one", async || subscriber.ids().contains(&last).then_some(())).await;
    let mut ids: Vec<usize> = once(&subscriber.ids(), &sent).into_iter().collect();
    assert!(ids.len() < sent.len(), "nothing came for it while it was not there");
    assert!(before <= after && ids.len() >= after + 20);
    // One gap, where it was not there: what came before and after it is whole.
    ids.dedup_by(|next, previous| {
        *next == *previous + 1 && {
            *previous = *next;
            true
        }
    });
    assert_eq!(ids.len(), 2, "{ids:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_deleted_while_the_mesh_is_down_is_forgotten_and_nothing_else() {
    let (t, u) = (Subscriber::start().await, Subscriber::start().await);
    let of = |annotations: &[&str]| {
        (trigger("t", &t.url, "", annotations), trigger("u", &u.url, "", annotations))
    };
    let (paused, (both, only_u)) = (of(PAUSED), (of(&[]), of(PAUSED).1));
    let mut mesh = Mesh::start(&format!("{BROKER}{}{}", paused.0, paused.1)).await;
    for id in 0..3 {
        mesh.send("a", &id.to_string()).await;
    }
    mesh.kill().await;
    mesh.rewrite(&format!("{BROKER}{only_u}"));
    mesh.restart().await;
    mesh.rewrite(&format!("{BROKER}{}{}", both.0, both.1));
    u.wait(3).await;
    eventually("the trigger made again", async || {
        mesh.send("a", "new").await;
        t.ids().contains(&"new".to_owned()).then_some(())
    })
    .await;
    assert!(t.ids().iter().all(|id| id == "new"), "{:?}", t.ids());
    let mut ids = u.ids();
    ids.retain(|id| id != "new");
    ids.sort();
    assert_eq!(ids, ["0", "1", "2"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_one_run_does_not_declare_keeps_its_events() {
    let subscriber = Subscriber::start().await;
    let with = |annotations: &[&str]| {
        format!("{BROKER}{}", trigger("t", &subscriber.url, "", annotations))
    };
    let mut mesh = Mesh::start(&with(PAUSED)).await;
    for id in 0..3 {
        mesh.send("a", &id.to_string()).await;
    }
    mesh.kill().await;
    mesh.rewrite(&BROKER.replace("name: default", "name: another"));
    mesh.restart().await;
    assert!(
        mesh.log().contains("no file declares broker default/default any more"),
        "{}",
        mesh.log()
    );
    mesh.kill().await;
    mesh.rewrite(&with(&[]));
    mesh.restart().await;
    subscriber.wait(3).await;
}

/// Sends ids 0 to 5 with one subject.
async fn send_ordered(mesh: &Mesh) {
    for id in 0..6 {
        let mut headers = request::event("a", &id.to_string());
        headers.push(("ce-subject".to_owned(), "k".to_owned()));
        assert_eq!(request::post(&mesh.broker(), &headers, "{}").await.status, 202);
    }
}

/// A subscriber that answers `status` until told otherwise.
async fn failing(status: u16) -> (Subscriber, std::sync::Arc<AtomicBool>) {
    let healthy = std::sync::Arc::new(AtomicBool::new(false));
    let switch = healthy.clone();
    let subscriber = Subscriber::scripted(move |_| {
        Reply::status(if switch.load(Ordering::SeqCst) { 202 } else { status })
    })
    .await;
    (subscriber, healthy)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_stays_in_order_across_retries_and_kill_9() {
    let (subscriber, healthy) = failing(503).await;
    let delivery = "  delivery: {retry: 1000, backoffPolicy: linear, backoffDelay: PT0.02S}\n";
    let t = trigger("t", &subscriber.url, delivery, &["weft.dev/order: key"]);
    let mut mesh = Mesh::start(&format!("{BROKER}{t}")).await;
    send_ordered(&mesh).await;
    subscriber.wait(3).await;
    mesh.kill().await;
    mesh.restart().await;
    flowing(&subscriber, 2).await;
    healthy.store(true, Ordering::SeqCst);
    eventually("the last one", async || subscriber.ids().contains(&"5".to_owned()).then_some(()))
        .await;
    let mut ids = subscriber.ids();
    ids.dedup();
    assert_eq!(ids, ["0", "1", "2", "3", "4", "5"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn letters_of_a_key_are_redriven_in_order() {
    let (subscriber, healthy) = failing(400).await;
    let t = trigger("t", &subscriber.url, "", &["weft.dev/order: key"]);
    let mesh = Mesh::start(&format!("{BROKER}{t}")).await;
    send_ordered(&mesh).await;
    eventually("six letters", async || {
        let list = mesh.weft_ok(&["parked", "list", "-o", "json"]).await;
        (list.lines().count() == 6).then_some(())
    })
    .await;
    healthy.store(true, Ordering::SeqCst);
    let done = mesh.weft_ok(&["parked", "redrive", "--all"]).await;
    assert!(done.contains("redriven") && done.contains('6'), "{done}");
    subscriber.wait(12).await;
    assert_eq!(subscriber.ids()[6..], ["0", "1", "2", "3", "4", "5"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_trigger_may_start_in_the_past() {
    let (all, late) = (Subscriber::start().await, Subscriber::start().await);
    let t = trigger("t", &all.url, "", &[]);
    let story = Story::start(&t).await;
    for id in 0..5 {
        story.mesh.send("a", &id.to_string()).await;
    }
    all.wait(5).await;
    let late_one = trigger("late", &late.url, &only("a"), &["weft.dev/start: earliest"]);
    story.change(&format!("{t}{late_one}")).await;
    story.mesh.send("a", "5").await;
    let mut ids: Vec<String> = late.wait(6).await.iter().map(|got| got.id().to_owned()).collect();
    ids.sort();
    assert_eq!(ids, ["0", "1", "2", "3", "4", "5"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bounded_backlog_keeps_the_newest_and_says_what_expired() {
    let subscriber = Subscriber::start().await;
    let bounded = "weft.dev/max-backlog: \"3\"";
    let with = |annotations: &[&str]| trigger("t", &subscriber.url, &only("a"), annotations);
    let story = Story::start(&with(&[PAUSED[0], bounded])).await;
    for id in 0..10 {
        story.mesh.send("a", &id.to_string()).await;
    }
    let explained = eventually("the record", async || {
        let text = story.mesh.weft_ok(&["explain", "0", "-o", "json"]).await;
        text.contains("max-backlog").then_some(text)
    })
    .await;
    assert!(explained.contains("default/t"), "{explained}");
    story.change(&with(&[bounded])).await;
    let mut ids: Vec<String> =
        subscriber.wait(3).await.iter().map(|got| got.id().to_owned()).collect();
    ids.sort();
    assert_eq!(ids, ["7", "8", "9"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_trigger_takes_from_its_broker_what_it_does_not_say_itself() {
    let (subscriber, sink) = (failing(503).await.0, Subscriber::start().await);
    let broker = format!(
        "{BROKER}spec:\n  delivery:\n    retry: 5\n    backoffPolicy: linear\n    backoffDelay: PT0.01S\n    deadLetterSink: {{uri: \"{}\"}}\n",
        sink.url
    );
    let own = trigger("own", &subscriber.url, "  delivery: {retry: 1}\n", &[]);
    let mesh = Mesh::start(&format!("{broker}{own}")).await;
    mesh.send("a", "x").await;
    let letter = sink.wait(1).await.remove(0);
    assert_eq!((letter.id(), letter.header("ce-knativeerrorcode")), ("x", "503"));
    assert_eq!(subscriber.got().len(), 2, "its own retry, the broker's delay and sink");
}
