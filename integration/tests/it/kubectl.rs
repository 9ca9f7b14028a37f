//! `kubectl`, as it comes, against a mesh.

use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::Command;
use tokio::time::timeout;

use crate::harness::eventually::PATIENCE;
use crate::harness::mesh::{BROKER, Mesh, trigger};
use crate::harness::services;
use crate::harness::subscriber::Subscriber;

/// A `kubectl` that talks to one mesh.
struct Kubectl {
    mesh: Mesh,
    path: String,
}

/// What it said.
#[derive(Debug)]
struct Said {
    code: Option<i32>,
    out: String,
    err: String,
}

impl Kubectl {
    async fn start(yaml: &str) -> Self {
        Self { mesh: Mesh::start(yaml).await, path: services::kubectl().await }
    }

    fn command(&self, arguments: &str) -> Command {
        let mut command = Command::new(&self.path);
        // What one mesh serves must not be remembered for another, and nothing of the user's own counts.
        command
            .args(words(arguments))
            .env("KUBECONFIG", self.mesh.data().join("kubeconfig"))
            .env("KUBECACHEDIR", self.mesh.data().with_file_name("kube-cache"))
            .env("HOME", self.mesh.data())
            .current_dir(self.mesh.data().with_file_name(""))
            .stdin(Stdio::null())
            .kill_on_drop(true);
        command
    }

    async fn run(&self, arguments: &str) -> Said {
        let ended = timeout(PATIENCE, self.command(arguments).output()).await;
        assert!(ended.is_ok(), "kubectl {arguments} does not end");
        let output = ended.expect("it ended").expect("kubectl runs");
        Said {
            code: output.status.code(),
            out: String::from_utf8_lossy(&output.stdout).into_owned(),
            err: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    /// Runs it, asserts success without a warning, and answers standard output.
    async fn ok(&self, arguments: &str) -> String {
        let said = self.run(arguments).await;
        assert_eq!(said.code, Some(0), "kubectl {arguments}: {said:?}");
        assert_eq!(said.err, "", "kubectl {arguments}");
        said.out
    }

    async fn json(&self, arguments: &str) -> Value {
        serde_json::from_str(&self.ok(arguments).await).expect("JSON")
    }

    /// Runs it, asserts failure, and answers standard error.
    async fn refused(&self, arguments: &str) -> String {
        let said = self.run(arguments).await;
        assert_eq!(said.code, Some(1), "kubectl {arguments}: {said:?}");
        said.err
    }

    fn file(&self, name: &str, text: &str) -> PathBuf {
        let path = self.mesh.data().with_file_name(name);
        std::fs::write(&path, text).expect("a file");
        path
    }
}

/// Splits at spaces outside of single quotes.
fn words(text: &str) -> Vec<String> {
    let mut words = Vec::new();
    for (index, part) in text.split('\'').enumerate() {
        if index % 2 == 1 {
            words.push(part.to_owned());
        } else {
            words.extend(part.split_whitespace().map(str::to_owned));
        }
    }
    words
}

fn columns(table: &str) -> Vec<&str> {
    table.lines().next().expect("a header").split_whitespace().collect()
}

const NOTHING: &str = "# nothing yet\n";

#[tokio::test(flavor = "multi_thread")]
async fn what_is_applied_is_shown_ready_and_delivers() {
    let subscriber = Subscriber::start().await;
    let kubectl = Kubectl::start(NOTHING).await;
    kubectl.file("mesh.yaml", &format!("{BROKER}{}", trigger("t", &subscriber.url, "", &[])));
    let applied = kubectl.ok("apply -f mesh.yaml").await;
    assert_eq!(
        applied,
        "broker.eventing.knative.dev/default created\ntrigger.eventing.knative.dev/t created\n"
    );
    let again = kubectl.ok("apply -f mesh.yaml").await;
    assert!(again.lines().all(|line| line.ends_with(" unchanged")), "{again}");
    let waited =
        kubectl.ok("wait --for=condition=Ready trigger/t broker/default --timeout=20s").await;
    assert_eq!(waited.lines().filter(|line| line.ends_with("condition met")).count(), 2);
    kubectl.mesh.send("a", "1").await;
    subscriber.wait(1).await;
    let table = kubectl.ok("get triggers").await;
    assert_eq!(columns(&table), ["NAME", "BROKER", "SUBSCRIBER_URI", "AGE", "READY", "REASON"]);
    assert!(table.contains(&subscriber.url), "{table}");
    let wide = kubectl.ok("get brokers -o wide").await;
    assert_eq!(columns(&wide), ["NAME", "URL", "AGE", "READY", "REASON", "CLASS"]);
    let all = kubectl.ok("get all,sources -A").await;
    assert!(all.contains("broker.eventing.knative.dev/default"), "{all}");
    assert!(all.contains("trigger.eventing.knative.dev/t"), "{all}");
    let url = kubectl.ok("get broker default -o jsonpath={.status.address.url}").await;
    assert_eq!(url, kubectl.mesh.broker());
    assert_eq!(kubectl.json("get trigger t -o json").await["spec"]["broker"], "default");
    let described = kubectl.ok("describe trigger t").await;
    assert!(described.contains("Subscriber Uri:") && described.contains("Ready"), "{described}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_got_as_a_list_can_be_applied_again() {
    let kubectl = Kubectl::start(&format!("{BROKER}{}", trigger("t", "http://s/", "", &[]))).await;
    let list = kubectl.ok("get brokers,triggers -o json").await;
    assert!(list.contains("\"kind\": \"List\""), "{list}");
    kubectl.file("list.json", &list);
    let said = kubectl.run("apply -f list.json").await;
    assert_eq!(said.code, Some(0), "{said:?}");
    assert_eq!(said.out.lines().count(), 2, "{said:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn server_side_apply_owns_its_fields_and_tells_conflicts() {
    let kubectl = Kubectl::start(BROKER).await;
    kubectl.file("t.yaml", &trigger("t", "http://one.invalid/", "", &[]));
    let applied = kubectl.ok("apply --server-side -f t.yaml").await;
    assert_eq!(applied, "trigger.eventing.knative.dev/t serverside-applied\n");
    kubectl.file("t.yaml", &trigger("t", "http://two.invalid/", "", &[]));
    let diff = kubectl.run("diff --server-side -f t.yaml").await;
    assert_eq!(diff.code, Some(1), "{diff:?}");
    assert!(diff.out.contains("+    uri: http://two.invalid/"), "{diff:?}");
    let conflict = kubectl.refused("apply --server-side --field-manager=other -f t.yaml").await;
    assert!(conflict.contains("conflict with \"kubectl\""), "{conflict}");
    assert!(conflict.contains(".spec.subscriber.uri"), "{conflict}");
    kubectl.ok("apply --server-side --field-manager=other --force-conflicts -f t.yaml").await;
    let uri = kubectl.ok("get trigger t -o jsonpath={.spec.subscriber.uri}").await;
    assert_eq!(uri, "http://two.invalid/");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_kind_of_patch_label_and_annotation_is_taken() {
    let kubectl =
        Kubectl::start(&format!("{BROKER}{}", trigger("t", "http://s.invalid/", "", &[]))).await;
    let uri = async || kubectl.ok("get trigger t -o jsonpath={.spec.subscriber.uri}").await;
    kubectl
        .ok(r#"patch trigger t --type=merge -p '{"spec":{"subscriber":{"uri":"http://a/"}}}'"#)
        .await;
    assert_eq!(uri().await, "http://a/");
    kubectl
        .ok(r#"patch trigger t --type=json -p '[{"op":"replace","path":"/spec/subscriber/uri","value":"http://b/"}]'"#)
        .await;
    assert_eq!(uri().await, "http://b/");
    let refused = kubectl.refused(r#"patch trigger t -p '{"spec":{"broker":"x"}}'"#).await;
    assert!(
        refused.contains("UnsupportedMediaType") || refused.contains("media type"),
        "{refused}"
    );
    kubectl.ok("label trigger t team=shop").await;
    kubectl.ok("annotate trigger t 'note=for the shop'").await;
    assert!(kubectl.ok("get triggers -l team=shop").await.contains("t "));
    let none = kubectl.run("get triggers -l team!=shop").await;
    assert_eq!(none.err, "No resources found in default namespace.\n");
    assert!(
        kubectl.ok("get triggers --field-selector metadata.name=t -o name").await.ends_with("/t\n")
    );
    let status = r#"patch trigger t --subresource=status --type=merge -p '{"status":{"annotations":{"x":"y"}}}'"#;
    kubectl.ok(status).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_is_refused_in_knatives_words() {
    let kubectl = Kubectl::start(BROKER).await;
    kubectl.file("bad.yaml", &trigger("t", "no-url", "", &[]));
    let refused = kubectl.refused("apply -f bad.yaml").await;
    let webhook =
        "admission webhook \"validation.webhook.eventing.knative.dev\" denied the request: ";
    assert!(refused.contains(webhook), "{refused}");
    assert!(refused.contains("spec.subscriber.uri"), "{refused}");
    kubectl.file("bad.yaml", &trigger("t", "http://s/", "  filtres: []\n", &[]));
    let refused = kubectl.refused("apply -f bad.yaml").await;
    assert!(refused.contains("unknown field \"spec.filtres\""), "{refused}");
    let missing = kubectl.refused("get trigger none").await;
    assert_eq!(
        missing,
        "Error from server (NotFound): triggers.eventing.knative.dev \"none\" not found\n"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_there_is_explains_itself() {
    let kubectl = Kubectl::start(BROKER).await;
    let version = kubectl.run("version").await;
    assert!(version.out.contains("Server Version: v1."), "{version:?}");
    let kinds = kubectl.ok("api-resources").await;
    for kind in ["brokers", "triggers", "pingsources", "githubsources", "configmaps", "leases"] {
        assert!(kinds.contains(kind), "{kind} is not in {kinds}");
    }
    let explained = kubectl.ok("explain trigger.spec.subscriber").await;
    assert!(explained.contains("uri\t<string>"), "{explained}");
    let recursive = kubectl.ok("explain broker --recursive").await;
    assert!(recursive.contains("deadLetterSink"), "{recursive}");
    assert_eq!(kubectl.ok("auth can-i create triggers").await, "yes\n");
    assert!(kubectl.ok("auth can-i --list").await.contains("*.*"));
    assert!(kubectl.ok("get --raw /readyz").await.contains("ok"));
    let raw = kubectl.json("get --raw /apis/eventing.knative.dev/v1/brokers").await;
    assert_eq!(raw["kind"], "BrokerList");
    let definition = kubectl.json("get crd triggers.eventing.knative.dev -o json").await;
    assert_eq!(definition["spec"]["names"]["kind"], "Trigger");
    let sources = kubectl.ok("get crd -l duck.knative.dev/source=true -o name").await;
    assert!(sources.contains("pingsources.sources.knative.dev"), "{sources}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watch_shows_what_comes_and_changes() {
    let kubectl = Kubectl::start(BROKER).await;
    let mut watch = kubectl
        .command("get configmaps -w -o name")
        .stdout(Stdio::piped())
        .spawn()
        .expect("kubectl runs");
    let mut lines = BufReader::new(watch.stdout.take().expect("its output")).lines();
    let mut next = async || {
        let line = timeout(PATIENCE, lines.next_line()).await.expect("a line in time");
        line.expect("text").expect("it goes on")
    };
    // What is there already comes first, and tells that the watch has begun.
    kubectl.ok("create configmap first --from-literal=a=b").await;
    let mut seen = next().await;
    while seen != "configmap/first" {
        seen = next().await;
    }
    kubectl.ok("create configmap second --from-literal=a=b").await;
    assert_eq!(next().await, "configmap/second");
    kubectl.ok("delete configmap first").await;
    assert_eq!(next().await, "configmap/first");
}

/// A config map that belongs to another one.
fn dependent(name: &str, owner: &str, uid: &str) -> String {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "ownerReferences": [
        {"apiVersion": "v1", "kind": "ConfigMap", "name": owner, "uid": uid, "blockOwnerDeletion": true}]}})
    .to_string()
}

#[tokio::test(flavor = "multi_thread")]
async fn each_cascade_treats_dependents_as_it_says() {
    let kubectl = Kubectl::start(BROKER).await;
    for (cascade, stays) in [("background", false), ("foreground", false), ("orphan", true)] {
        kubectl.ok(&format!("create configmap {cascade}")).await;
        let uid =
            kubectl.ok(&format!("get configmap {cascade} -o jsonpath={{.metadata.uid}}")).await;
        let name = format!("of-{cascade}");
        kubectl.file("dependent.json", &dependent(&name, cascade, &uid));
        kubectl.ok("apply -f dependent.json").await;
        let deleted = kubectl.ok(&format!("delete configmap {cascade} --cascade={cascade}")).await;
        assert!(deleted.contains("deleted"), "{deleted}");
        if stays {
            let owners = format!("get configmap {name} -o jsonpath={{.metadata.ownerReferences}}");
            assert_eq!(kubectl.ok(&owners).await, "");
        } else {
            kubectl.ok(&format!("wait --for=delete configmap/{name} --timeout=20s")).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_namespace_goes_with_everything_in_it() {
    let kubectl = Kubectl::start(BROKER).await;
    kubectl.ok("create namespace team-a").await;
    kubectl.file("team.yaml", &format!("{BROKER}{}", trigger("t", "http://s/", "", &[])));
    kubectl.ok("apply -n team-a -f team.yaml").await;
    kubectl.ok("wait -n team-a --for=condition=Ready broker/default --timeout=20s").await;
    kubectl.ok("delete namespace team-a --timeout=25s").await;
    let gone = kubectl.refused("get namespace team-a").await;
    assert!(gone.contains("NotFound"), "{gone}");
    let left = kubectl.run("get brokers,triggers -n team-a").await;
    assert_eq!(left.err, "No resources found in team-a namespace.\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_object_that_somebody_holds_goes_when_it_is_let_go() {
    let kubectl = Kubectl::start(BROKER).await;
    kubectl.ok("create configmap held").await;
    kubectl
        .ok(r#"patch configmap held --type=merge -p '{"metadata":{"finalizers":["example.com/hold"]}}'"#)
        .await;
    kubectl.ok("delete configmap held --wait=false").await;
    let marked = kubectl.ok("get configmap held -o jsonpath={.metadata.deletionTimestamp}").await;
    assert!(marked.starts_with("20"), "{marked}");
    kubectl.ok(r#"patch configmap held --type=merge -p '{"metadata":{"finalizers":null}}'"#).await;
    kubectl.ok("wait --for=delete configmap/held --timeout=20s").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_mesh_stops_at_once_while_somebody_watches() {
    let mut kubectl = Kubectl::start(BROKER).await;
    let mut watch =
        kubectl.command("get brokers -w").stdout(Stdio::piped()).spawn().expect("it runs");
    let mut lines = BufReader::new(watch.stdout.take().expect("its output")).lines();
    timeout(PATIENCE, lines.next_line()).await.expect("the watch begins").expect("text");
    kubectl.mesh.terminate();
    let status = timeout(Duration::from_secs(5), kubectl.mesh.exit()).await.expect("it stops");
    assert!(status.success());
}
