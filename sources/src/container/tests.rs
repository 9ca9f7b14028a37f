//! Processes are told what they are promised, are kept running, and leave nothing behind.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use tokio::time::{Instant, timeout};
use uuid::Uuid;

use super::ContainerSource;
use crate::host::Host;
use crate::secret::Secret;
use crate::source::fake::World;
use crate::source::{Context, Source, SourceError};
use crate::status::{Board, State, Status, fake};

/// How long a test waits for what takes milliseconds on an idle machine.
const PATIENCE: Duration = Duration::from_secs(30);

fn world() -> World {
    let environment = vec![("PATH".to_owned(), "/usr/bin:/bin".to_owned())];
    World { host: Arc::new(Host { environment, engines: Vec::new() }), ..World::new() }
}

fn processes(scripts: &[&str]) -> ContainerSource {
    let container = |(index, script): (usize, &&str)| {
        json!({
            "name": format!("c{index}"),
            "command": ["sh", "-c"],
            "args": [script],
            "env": [{"name": "TOKEN", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}}],
        })
    };
    let containers: Vec<_> = scripts.iter().enumerate().map(container).collect();
    let pod = json!({"runtimeClassName": "process", "containers": containers});
    serde_json::from_value(json!({
        "template": {"spec": pod},
        "ceOverrides": {"extensions": {"team": "blue"}},
    }))
    .unwrap()
}

/// Runs a source that ends by itself; answers what it ended with.
async fn end(world: &World, source: ContainerSource) -> SourceError {
    let (context, _) = world.context("ContainerSource");
    timeout(PATIENCE, source.run(context)).await.expect("it ends").unwrap_err()
}

async fn until(board: &Board, wanted: impl Fn(&Status) -> bool) {
    let waiting = async {
        loop {
            let seen = board.revision();
            if wanted(&fake::only(board)) {
                return;
            }
            board.changed_since(seen).await;
        }
    };
    timeout(PATIENCE, waiting).await.expect("the status comes");
}

/// A file in which a program writes a number, as that of its process.
struct Note(PathBuf);

impl Note {
    fn new() -> Self {
        Self(std::env::temp_dir().join(format!("weft-container-{}", Uuid::new_v4())))
    }

    fn path(&self) -> &str {
        self.0.to_str().unwrap()
    }

    async fn read(&self) -> u32 {
        let written = async || {
            let text = std::fs::read_to_string(&self.0).ok()?;
            text.strip_suffix('\n')?.parse().ok()
        };
        eventually(written).await
    }
}

impl Drop for Note {
    fn drop(&mut self) {
        drop(std::fs::remove_file(&self.0));
    }
}

async fn eventually<T>(mut probe: impl AsyncFnMut() -> Option<T>) -> T {
    let waiting = async {
        loop {
            if let Some(found) = probe().await {
                return found;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(PATIENCE, waiting).await.expect("it comes to pass")
}

/// Whether a process runs; what nobody has waited for yet does not.
fn runs(pid: u32) -> bool {
    let listed =
        std::process::Command::new("ps").args(["-o", "stat=", "-p", &pid.to_string()]).output();
    let state = listed.expect("ps runs").stdout;
    !state.is_empty() && !state.starts_with(b"Z")
}

#[tokio::test]
async fn an_end_is_told_with_its_code_or_signal() {
    for (script, expected) in [
        ("exit 3", "container c0 ended: exit code 3"),
        ("exit 0", "container c0 ended: exit code 0"),
        ("kill -s KILL $$$$", "container c0 ended: signal 9"),
    ] {
        let error = end(&world(), processes(&[script])).await;
        assert_eq!(error.to_string(), expected);
        assert_eq!((error.reason(), error.is_retryable()), ("ContainerEnded", true));
    }
    let mut absent = processes(&[""]);
    absent.template.spec.containers[0].command = vec!["/no/such/program".to_owned()];
    let expected = "container c0 ended: exit code 127, its command was not found";
    assert_eq!(end(&world(), absent.clone()).await.to_string(), expected);
    absent.template.spec.containers[0].working_dir = "/no/such/directory".to_owned();
    let expected = "start container c0 in its workingDir";
    assert_eq!(end(&world(), absent).await.to_string(), expected);
}

#[tokio::test]
async fn a_program_is_told_the_contract_and_what_it_asks_for_and_nothing_else() {
    let note = Note::new();
    let script = format!("env | sort > {}; exit 1", note.path());
    let mut world = world();
    let field = "template.spec.containers[0].env[0].valueFrom";
    world.given = [(field, Secret::new("it-is-a-secret"))].into_iter().collect();
    end(&world, processes(&[&script])).await;
    let told = std::fs::read_to_string(&note.0).unwrap();
    // The shell's own.
    let told: Vec<_> = told
        .lines()
        .filter(|line| !["PWD=", "SHLVL=", "_="].iter().any(|own| line.starts_with(own)))
        .collect();
    assert_eq!(
        told,
        [
            r#"K_CE_OVERRIDES={"extensions":{"team":"blue"}}"#,
            "K_SINK=http://mesh.example/default/default",
            "PATH=/usr/bin:/bin",
            "TOKEN=it-is-a-secret",
        ]
    );
}

#[test]
fn certificates_are_told_if_there_are_any() {
    let source = processes(&["true"]);
    let told = |certs| source.contract("https://sink.example/", certs).remove("K_CA_CERTS");
    assert_eq!(told(Some("PEM")).as_deref(), Some("PEM"));
    assert_eq!(told(None), None);
    // As Knative's, it is empty rather than absent.
    let plain = ContainerSource { ce_overrides: None, ..source.clone() };
    assert_eq!(plain.contract("", None).remove("K_CE_OVERRIDES").as_deref(), Some(""));
}

#[tokio::test]
async fn it_works_once_all_have_run_for_a_moment_and_all_end_with_one() {
    let (go, other) = (Note::new(), Note::new());
    let ends = format!("until [ -e {} ]; do sleep 0.05; done; exit 4", go.path());
    let stays = format!("echo $$$$ > {}; exec sleep 1000", other.path());
    let (context, board) = world().context("ContainerSource");
    let run = processes(&[&ends, &stays]).run(context);
    let watch = async {
        until(&board, |status| status.state == State::Running).await;
        let pid = other.read().await;
        assert!(runs(pid));
        std::fs::write(&go.0, "").unwrap();
        pid
    };
    let (ended, pid) = tokio::join!(timeout(PATIENCE, run), watch);
    let error = ended.expect("it ends").unwrap_err();
    assert_eq!(error.to_string(), "container c0 ended: exit code 4");
    assert!(!runs(pid));
}

/// A program that heeds no signal and has started another that does not either.
fn stubborn(parent: &Path, child: &Path) -> String {
    let (parent, child) = (parent.display(), child.display());
    format!(
        "trap '' TERM INT HUP; sleep 1000 & echo $! > {child}; echo $$$$ > {parent}; while :; do wait; done"
    )
}

/// Runs the stubborn program until its pids are known, and then does `end`.
async fn with_stubborn<F: Future<Output = ()>>(
    end: impl FnOnce(tokio::task::JoinHandle<Result<(), SourceError>>, Context) -> F,
) {
    let (parent, child) = (Note::new(), Note::new());
    let source = processes(&[&stubborn(&parent.0, &child.0)]);
    let (context, _) = world().context("ContainerSource");
    #[expect(clippy::disallowed_methods, reason = "a test cuts it off itself")]
    let task = tokio::spawn(source.run(context.clone()));
    let pids = [parent.read().await, child.read().await];
    assert!(pids.iter().all(|pid| runs(*pid)));
    end(task, context).await;
    eventually(async || pids.iter().all(|pid| !runs(*pid)).then_some(())).await;
}

#[tokio::test]
async fn what_heeds_no_signal_is_killed_with_all_it_started_before_it_is_cut_off() {
    with_stubborn(async |task, context| {
        let asked = Instant::now();
        context.stop.cancel();
        task.await.unwrap().unwrap();
        assert!(asked.elapsed() < Duration::from_millis(800), "{:?}", asked.elapsed());
    })
    .await;
}

#[tokio::test]
async fn what_is_cut_off_leaves_nothing() {
    with_stubborn(async |task, _| task.abort()).await;
}

#[tokio::test]
async fn without_an_engine_it_is_said_how_to_do_without() {
    let mut source = processes(&["true"]);
    source.template.spec.runtime_class_name.clear();
    assert!(source.leaves_traces(&crate::source::fake::about()));
    let error = end(&world(), source.clone()).await;
    assert!(error.to_string().contains("runtimeClassName: process"), "{error}");
    assert_eq!(error.reason(), "UpstreamUnavailable");
    let (context, _) = world().context("ContainerSource");
    source.retire(context).await.unwrap();
}
