//! The container source: somebody's own program, as a process and in a real engine, from YAML to subscriber and to its end.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tempfile::TempDir;
use tokio::process::Command;
use tokio::time::Instant;

use super::upstream::{condition, resource};
use crate::harness::eventually::{eventually, eventually_within};
use crate::harness::mesh::{BROKER, Mesh, trigger};
use crate::harness::services;
use crate::harness::subscriber::Subscriber;

const WEFT: &str = env!("CARGO_BIN_EXE_weft");
const READY: &str = "ReceiveAdapterReady";

/// How long an engine may take to make, start or remove a container while the machine is busy.
const ENGINE: Duration = Duration::from_secs(60);

/// The source called `source`, of one container with these fields. JSON is YAML.
fn manifest(pod: &Value) -> String {
    let source = json!({
        "apiVersion": "sources.knative.dev/v1",
        "kind": "ContainerSource",
        "metadata": {"name": "source"},
        "spec": {
            "template": {"spec": pod},
            "ceOverrides": {"extensions": {"team": "blue"}},
            "sink": {"ref": {"apiVersion": "eventing.knative.dev/v1", "kind": "Broker", "name": "default"}},
        },
    });
    format!("---\n{source}\n")
}

/// The same as a process that runs a script.
fn process(script: &str, env: &Value) -> String {
    let container = json!({"name": "main", "command": ["sh", "-c", script], "env": env});
    manifest(&json!({"runtimeClassName": "process", "containers": [container]}))
}

/// A directory in which programs leave the numbers of their processes.
struct Notes(TempDir);

impl Notes {
    fn new() -> Self {
        Self(TempDir::new().expect("a directory"))
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// The number in a file, once it is another than `before`.
    async fn pid(&self, name: &str, before: Option<u32>) -> u32 {
        eventually(&format!("a process writes {name}"), async || {
            let text = std::fs::read_to_string(self.path(name)).ok()?;
            let pid = text.strip_suffix('\n')?.parse().ok()?;
            (Some(pid) != before).then_some(pid)
        })
        .await
    }
}

/// Whether a process runs; one that nobody has waited for yet does not.
fn runs(pid: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with('Z'))
}

async fn gone(pid: u32) {
    eventually(&format!("process {pid} to be gone"), async || (!runs(pid)).then_some(())).await;
}

/// Writes its number and that of a program it started, and heeds no signal that can be ignored.
fn stubborn(notes: &Notes) -> String {
    let (parent, child) = (notes.path("parent"), notes.path("child"));
    format!(
        "trap '' HUP INT TERM; sleep 1000 & echo $! > {}; echo $$$$ > {}; while :; do wait; done",
        child.display(),
        parent.display()
    )
}

async fn until_condition(mesh: &Mesh, wanted: (&str, &str)) -> Value {
    eventually(&format!("{READY} is {wanted:?}"), async || {
        let resource = resource(mesh, "container").await;
        (condition(&resource, READY) == Some(wanted)).then_some(resource)
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_sends_with_overrides_and_its_secret_goes_nowhere_else() {
    const SECRET: &str = "it-is-a-secret-to-everybody";
    let subscriber = Subscriber::start().await;
    // The digest proves that it has the secret, and is none.
    let script = format!(
        "{WEFT} send --type a --source \"/$ME\" --id 1 --data-text \"$(printf %s \"$TOKEN$MODE\" | sha256sum)\"
         exec sleep 1000"
    );
    let env = json!([
        {"name": "TOKEN", "valueFrom": {"secretKeyRef": {"name": "keys", "key": "token"}}},
        {"name": "MODE", "valueFrom": {"configMapKeyRef": {"name": "modes", "key": "mode"}}},
        {"name": "ME", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
    ]);
    let held = format!(
        "---\napiVersion: v1\nkind: Secret\nmetadata: {{name: keys}}\nstringData: {{token: {SECRET}}}\n\
         ---\napiVersion: v1\nkind: ConfigMap\nmetadata: {{name: modes}}\ndata: {{mode: fast}}\n"
    );
    let t = trigger("t", &subscriber.url, "", &[]);
    let mesh = Mesh::start(&format!("{BROKER}{t}{held}{}", process(&script, &env))).await;
    let got = subscriber.wait(1).await.remove(0);
    assert_eq!(got.header("ce-type"), "a");
    assert_eq!(got.header("ce-source"), "/source");
    assert_eq!(got.header("ce-team"), "blue");
    let digest: String =
        Sha256::digest(format!("{SECRET}fast")).iter().map(|byte| format!("{byte:02x}")).collect();
    let data = String::from_utf8_lossy(&got.body);
    assert!(data.starts_with(&digest), "{data}");
    let resource = until_condition(&mesh, ("True", "")).await;
    assert_eq!(condition(&resource, "SinkBindingReady"), Some(("True", "")));
    assert_eq!(condition(&resource, "Ready"), Some(("True", "")));
    assert_eq!(resource["status"]["sinkUri"], mesh.broker().as_str());
    assert!(!resource.to_string().contains(SECRET) && !mesh.log().contains(SECRET));
    assert!(mesh.log().contains("accepted 1 by"), "what it prints is logged: {}", mesh.log());
    for process in std::fs::read_dir("/proc").expect("Linux").flatten() {
        // Processes go while the list is read.
        let line = std::fs::read(process.path().join("cmdline")).unwrap_or_default();
        assert!(!String::from_utf8_lossy(&line).contains(SECRET), "{:?}", process.path());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_that_ends_is_started_again_and_the_status_says_how_it_ended() {
    let subscriber = Subscriber::start().await;
    let script = format!("{WEFT} send --type a --source /s; exit 3");
    let t = trigger("t", &subscriber.url, "", &[]);
    let mesh = Mesh::start(&format!("{BROKER}{t}{}", process(&script, &json!([])))).await;
    let resource = until_condition(&mesh, ("False", "ContainerEnded")).await;
    let conditions = resource["status"]["conditions"].as_array().expect("a list");
    let ready = conditions.iter().find(|one| one["type"] == READY).expect("it is there");
    assert_eq!(ready["message"], "container main ended: exit code 3");
    assert_eq!(condition(&resource, "Ready"), Some(("False", "ContainerEnded")));
    subscriber.wait(2).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_follows_its_resource() {
    let notes = Notes::new();
    let script = |number: u32| {
        format!("echo $$$$ > {}; : {number}; exec sleep 1000", notes.path("pid").display())
    };
    let yaml = |number| format!("{BROKER}{}", process(&script(number), &json!([])));
    let mesh = Mesh::start(&yaml(1)).await;
    let first = notes.pid("pid", None).await;
    assert!(runs(first));
    mesh.rewrite(&yaml(2));
    let second = notes.pid("pid", Some(first)).await;
    assert!(!runs(first), "the one before ends before the next begins");
    mesh.rewrite(BROKER);
    gone(second).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_outlives_a_mesh_that_is_killed_or_stopped() {
    let notes = Notes::new();
    let yaml = format!("{BROKER}{}", process(&stubborn(&notes), &json!([])));
    let mut mesh = Mesh::start(&yaml).await;
    let (parent, child) = (notes.pid("parent", None).await, notes.pid("child", None).await);
    mesh.kill().await;
    gone(parent).await;
    gone(child).await;
    mesh.restart().await;
    let next = notes.pid("parent", Some(parent)).await;
    let child = notes.pid("child", Some(child)).await;
    let asked = Instant::now();
    mesh.terminate();
    assert_eq!(mesh.exit().await.code(), Some(0));
    assert!(asked.elapsed() < Duration::from_secs(2), "{:?}", asked.elapsed());
    gone(next).await;
    gone(child).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_spec_is_refused_with_the_names_of_its_fields() {
    let mesh = Mesh::start(BROKER).await;
    let dir = TempDir::new().expect("a directory");
    let refusal = async |pod: Value| {
        let file = dir.path().join("source.yaml");
        std::fs::write(&file, manifest(&pod)).expect("a file");
        let output = mesh.weft(&["apply", "-f", file.to_str().expect("text")]).await;
        assert!(!output.status.success());
        String::from_utf8(output.stderr).expect("text")
    };
    let text = refusal(json!({"runtimeClassName": "process", "containers": [{"name": "a"}]})).await;
    assert!(text.contains("spec.template.spec.containers[0].command: missing field(s)"), "{text}");
    let text = refusal(json!({"containers": [{"name": "A_B", "volumeMounts": []}]})).await;
    for expected in [
        "spec.template.spec.containers[0].image: missing field(s)",
        "spec.template.spec.containers[0].name: invalid value: A_B",
        "spec.template.spec.containers[0].volumeMounts: must not set the field(s)",
    ] {
        assert!(text.contains(expected), "{expected}: {text}");
    }
}

/// What a real engine knows of containers of the source of the mesh, by the label.
struct Engine {
    host: String,
    image: String,
}

impl Engine {
    async fn start() -> Self {
        let service = services::up("podman").await;
        let text = |key: &str| service[key].as_str().expect("a text").to_owned();
        Self { host: text("host"), image: text("image") }
    }

    /// The containers that this script runs in, running or not.
    async fn containers(&self, mark: &Path) -> Vec<String> {
        let socket = self.host.trim_start_matches("unix://");
        let output = Command::new("curl")
            .args(["--silent", "--fail", "--unix-socket", socket])
            .arg("http://engine/v1.41/containers/json?all=true")
            .output()
            .await
            .expect("curl runs");
        let all: Vec<Value> = serde_json::from_slice(&output.stdout).expect("a list");
        let mark = mark.display().to_string();
        let ours = |one: &&Value| {
            one["Labels"]["weft.dev/source"] == "default/source"
                && one["Command"].to_string().contains(&mark)
        };
        all.iter().filter(ours).map(|one| one["Id"].to_string()).collect()
    }

    async fn until(&self, mark: &Path, wanted: impl Fn(&[String]) -> bool) -> Vec<String> {
        eventually_within(ENGINE, "the containers are as wanted", async || {
            let found = self.containers(mark).await;
            wanted(&found).then_some(found)
        })
        .await
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_container_sends_is_started_again_and_leaves_nothing() {
    let engine = Engine::start().await;
    let subscriber = Subscriber::start().await;
    let dir = TempDir::new().expect("a directory");
    let mark = dir.path();
    // It sends, runs for as long as it is told, and ends with a code of its own.
    let script = format!(
        ": {}; wget -q -O - --header \"Ce-Id: $$$$\" --header 'Ce-Specversion: 1.0' --header 'Ce-Type: a' --header 'Ce-Source: /s' \
         --header 'Content-Type: application/json' --post-data \"$K_CE_OVERRIDES\" \"$K_SINK\"; echo sent; sleep $NAP; exit 5",
        mark.display()
    );
    let t = trigger("t", &subscriber.url, "", &[]);
    let yaml = |nap: &str| {
        let container = json!({
            "name": "main", "image": engine.image, "imagePullPolicy": "Never",
            "command": ["sh", "-c"], "args": [script], "env": [{"name": "NAP", "value": nap}],
        });
        format!("{BROKER}{t}{}", manifest(&json!({"containers": [container]})))
    };
    let mut mesh = Mesh::start_in(&yaml("3"), &[("DOCKER_HOST", &engine.host)]).await;
    let got = subscriber.wait(1).await.remove(0);
    assert_eq!(got.body.as_ref(), br#"{"extensions":{"team":"blue"}}"#);
    until_condition(&mesh, ("True", "")).await;
    let resource = until_condition(&mesh, ("False", "ContainerEnded")).await;
    assert!(resource.to_string().contains("container main ended: exit code 5"), "{resource}");
    assert!(mesh.log().contains("sent"), "{}", mesh.log());
    let before = subscriber.wait(2).await.len();
    mesh.rewrite(&yaml("1000"));
    subscriber.wait(before + 1).await;
    until_condition(&mesh, ("True", "")).await;
    // Killed, the mesh leaves its container running; back, it removes it and starts another.
    let left = engine.until(mark, |found| found.len() == 1).await;
    mesh.kill().await;
    assert_eq!(engine.containers(mark).await, left);
    mesh.restart().await;
    engine.until(mark, |found| found.len() == 1 && found != left).await;
    // Deleted while no mesh runs, it goes as soon as one does.
    mesh.kill().await;
    mesh.rewrite(BROKER);
    mesh.restart().await;
    engine.until(mark, <[String]>::is_empty).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_an_engine_the_status_says_how_to_do_without() {
    let pod = json!({"containers": [{"name": "main", "image": "shop:1"}]});
    let nowhere = TempDir::new().expect("a directory");
    let host = format!("unix://{}/none.sock", nowhere.path().display());
    let yaml = format!("{BROKER}{}", manifest(&pod));
    let mesh = Mesh::start_in(&yaml, &[("DOCKER_HOST", &host)]).await;
    let resource = until_condition(&mesh, ("False", "UpstreamUnavailable")).await;
    assert!(resource.to_string().contains("runtimeClassName: process"), "{resource}");
    mesh.rewrite(BROKER);
    eventually("it can be deleted", async || {
        let listed = mesh.weft_ok(&["get", "containersources", "-o", "json"]).await;
        (!listed.contains("\"source\"")).then_some(())
    })
    .await;
}
