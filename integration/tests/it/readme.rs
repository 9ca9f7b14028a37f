//! The README's commands, run as written (but for the ports).

use std::process::Stdio;

use tokio::process::Command;

use crate::harness::mesh::Mesh;
use crate::harness::services;
use crate::harness::subscriber::Subscriber;

fn readme() -> String {
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/../README.md");
    std::fs::read_to_string(file).expect("README.md")
}

/// The first shell block that contains `part`.
fn block(part: &str) -> String {
    let text = readme();
    let mut blocks = text.split("```sh\n").skip(1).filter_map(|rest| rest.split("```").next());
    blocks.find(|block| block.contains(part)).expect("the README has it").to_owned()
}

async fn run(script: &str) -> String {
    let output = Command::new("bash").args(["-ceu", script]).stdin(Stdio::null()).output().await;
    let output = output.expect("bash runs");
    let text = format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    assert!(output.status.success(), "{script}\n{text}");
    text
}

#[tokio::test(flavor = "multi_thread")]
async fn the_five_minutes_work_as_written() {
    let subscriber = Subscriber::start().await;
    let example = concat!(env!("CARGO_MANIFEST_DIR"), "/../examples/github/mesh.yaml");
    let yaml = std::fs::read_to_string(example).expect("the example");
    let mesh = Mesh::start(&yaml.replace("http://127.0.0.1:9090/", &subscriber.url)).await;
    let here = |script: String| {
        let binary = format!("{} ", env!("CARGO_BIN_EXE_weft"));
        let data = format!(" --data {}", mesh.data().display());
        let script = script.replace("target/release/weft ", &binary);
        script.trim_end().to_owned() + &data
    };
    let sent = run(&here(block("weft send"))).await;
    assert!(sent.contains("accepted hello-1"), "{sent}");
    subscriber.wait(1).await;
    let explained = run(&here(block("weft explain"))).await;
    assert!(explained.contains("default/everything: matches"), "{explained}");
    let posted =
        run(&block("X-Hub-Signature-256").replace("http://127.0.0.1:8080", &mesh.events)).await;
    assert!(posted.contains("202"), "{posted}");
    subscriber.wait(3).await;
    let kubectl = services::kubectl().await;
    let script = block("kubectl get").replace("kubectl get", &format!("{kubectl} get"));
    let asked = format!("kubeconfig --data {}", mesh.data().display());
    let binary = format!("{} ", env!("CARGO_BIN_EXE_weft"));
    let script = script
        .replace("target/release/weft ", &binary)
        .replace("kubeconfig >", &format!("{asked} >"));
    let listed = run(&script).await;
    assert!(listed.contains("githubsource.sources.knative.dev/shop"), "{listed}");
}

#[test]
fn the_run_and_test_commands_are_the_ones_ci_runs() {
    assert!(readme().contains("cargo run --release -- up -f examples/github"));
    let ci = concat!(env!("CARGO_MANIFEST_DIR"), "/../.ci/run");
    let test = "cargo test --workspace";
    assert!(
        readme().contains(test) && std::fs::read_to_string(ci).expect(".ci/run").contains(test)
    );
}
