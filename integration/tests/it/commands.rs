//! The commands, as a person or a script uses them.

use std::process::Stdio;

use clap::CommandFactory;
use integration::cli::Cli;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};

use crate::harness::eventually::eventually;
use crate::harness::mesh::{BROKER, Mesh, trigger, weft};
use crate::harness::subscriber::Subscriber;

/// Runs `weft filter` on `events`; answers exit code and standard output.
async fn filter(args: &[&str], events: &str) -> (Option<i32>, String) {
    let mut command = weft();
    command.arg("filter").args(args).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = command.spawn().expect("weft runs");
    let mut input = child.stdin.take().expect("piped");
    input.write_all(events.as_bytes()).await.expect("written");
    drop(input);
    let mut text = String::new();
    child.stdout.take().expect("piped").read_to_string(&mut text).await.expect("text");
    (child.wait().await.expect("ends").code(), text)
}

fn event(id: &str, ty: &str) -> String {
    format!(r#"{{"specversion":"1.0","id":"{id}","source":"/s","type":"{ty}"}}"#)
}

#[tokio::test]
async fn filter_answers_by_exit_code_and_says_why() {
    let (both, one) = (format!("{}\n{}", event("1", "a"), event("2", "a")), event("3", "b"));
    assert_eq!(filter(&["--cesql", "type = 'a'"], &both).await.0, Some(0));
    let (code, text) =
        filter(&["--cesql", "type = 'a'", "-o", "json"], &format!("{both}\n{one}")).await;
    assert_eq!(code, Some(1));
    let lines: Vec<serde_json::Value> =
        text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    assert_eq!(lines.len(), 3);
    assert_eq!((&lines[2]["id"], &lines[2]["match"]), (&"3".into(), &false.into()));
    assert_eq!(lines[0]["error"], serde_json::Value::Null);
}

#[tokio::test]
async fn filter_names_the_kind_of_a_cesql_error_and_keeps_its_value() {
    let (code, text) = filter(&["--cesql", "nosuch = 1", "-o", "json"], &event("1", "a")).await;
    let line: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    assert_eq!(code, Some(2), "{text}");
    assert_eq!(line["error"], "missingAttribute");
    assert_eq!(line["value"], false);
    let two = format!("{}\n{}", event("1", "a"), event("2", "a"));
    let (code, text) = filter(&["--cesql", "type = = 1", "-o", "json"], &two).await;
    assert_eq!(code, Some(2));
    let line: serde_json::Value =
        serde_json::from_str(text.lines().nth(1).expect("a line an event")).expect("JSON");
    assert_eq!(
        (&line["id"], &line["match"], &line["error"]),
        (&"2".into(), &false.into(), &"parse".into())
    );
}

#[tokio::test]
async fn filter_takes_a_trigger_from_a_file() {
    let dir = tempfile::TempDir::new().unwrap();
    let file = dir.path().join("t.yaml");
    std::fs::write(
        &file,
        trigger("t", "http://x/", "  filters: [{prefix: {type: order.}}]\n", &[]),
    )
    .unwrap();
    let path = file.to_str().unwrap();
    assert_eq!(filter(&["-f", path], &event("1", "order.placed")).await.0, Some(0));
    assert_eq!(filter(&["-f", path], &event("1", "other")).await.0, Some(1));
}

/// JSON that any tree of values would change: spaces, order, a number no double holds.
const PAYLOAD: &str = r#"{"z": 1e999, "a":  [1.0]}"#;

#[tokio::test(flavor = "multi_thread")]
async fn send_tail_explain_and_replay_work_together() {
    let subscriber = Subscriber::start().await;
    let only = "  filters: [{exact: {type: a}}]\n";
    let other = trigger("other", &subscriber.url, "  filters: [{exact: {type: b}}]\n", &[]);
    let yaml = format!("{BROKER}{}{other}", trigger("t", &subscriber.url, only, &[]));
    let mesh = Mesh::start(&yaml).await;
    let sent = mesh
        .weft_ok(&[
            "send",
            "--type",
            "a",
            "--source",
            "/cli",
            "--id",
            "e-1",
            "--ext",
            "team=blue",
            "--json",
            PAYLOAD,
        ])
        .await;
    assert_eq!(sent.trim(), "accepted e-1 by default/default");
    let got = subscriber.wait(1).await.remove(0);
    assert_eq!((got.header("ce-team"), got.body.as_ref()), ("blue", PAYLOAD.as_bytes()));

    let tail = mesh.weft_ok(&["tail", "--from", "earliest", "-n", "1", "-o", "json"]).await;
    assert!(tail.contains("\"id\":\"e-1\"") && tail.contains(PAYLOAD), "{tail}");
    let tail = mesh.weft_ok(&["tail", "--from", "earliest", "-n", "1"]).await;
    assert!(tail.contains(PAYLOAD), "{tail}");

    let explained = eventually("the attempt on record", async || {
        let text = mesh.weft_ok(&["explain", "e-1"]).await;
        text.contains("202").then_some(text)
    })
    .await;
    assert!(explained.contains("default/t: matches"), "{explained}");
    assert!(explained.contains("default/other: does not match"), "{explained}");
    let explained = mesh.weft_ok(&["explain", "e-1", "-o", "json"]).await;
    assert!(explained.contains(PAYLOAD) && explained.contains("\"status\":202"), "{explained}");

    let replayed = mesh.weft_ok(&["replay", "t", "--from", "earliest"]).await;
    assert_eq!(replayed.trim(), "delivering again to t: 1 event");
    subscriber.wait(2).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn display_prints_what_it_gets() {
    let mut command = weft();
    command.args(["display", "--listen", "127.0.0.1:0", "-n", "1"]).stdout(Stdio::piped());
    let mut child = command.spawn().expect("weft runs");
    let mut lines = BufReader::new(child.stdout.take().expect("piped")).lines();
    let first = lines.next_line().await.unwrap().expect("where it listens");
    let url = first.split_whitespace().find(|word| word.starts_with("http")).expect("a URL");
    let mesh = Mesh::start(&format!("{BROKER}{}", trigger("t", url, "", &[]))).await;
    mesh.send("hello", "1").await;
    let mut text = String::new();
    while let Some(line) = lines.next_line().await.unwrap() {
        text.push_str(&line);
        text.push('\n');
    }
    assert!(text.contains("type                hello") && text.contains("{\"a\":1}"), "{text}");
    assert!(child.wait().await.unwrap().success());
}

#[tokio::test(flavor = "multi_thread")]
async fn fsck_finds_a_sound_directory_sound_and_names_the_file_of_a_flipped_bit() {
    let mut mesh = Mesh::start(&format!(
        "{BROKER}{}",
        trigger("t", "http://127.0.0.1:1/", "", &["weft.dev/paused: \"true\""])
    ))
    .await;
    for id in 0..20 {
        mesh.send("a", &id.to_string()).await;
    }
    mesh.terminate();
    mesh.exit().await;
    let data = mesh.data();
    let check = async || weft().arg("fsck").arg(&data).output().await.expect("weft runs");
    let sound = check().await;
    assert_eq!(sound.status.code(), Some(0), "{}", String::from_utf8_lossy(&sound.stdout));
    let segment = std::fs::read_dir(data.join("log"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .find(|path| path.extension().is_some_and(|extension| extension == "seg"))
        .expect("a segment");
    let mut bytes = std::fs::read(&segment).unwrap();
    let at = bytes.windows(7).position(|window| window == br#"{"a":1}"#).expect("a payload");
    bytes[at] ^= 1;
    std::fs::write(&segment, bytes).unwrap();
    let damaged = check().await;
    assert_eq!(damaged.status.code(), Some(1));
    let text = String::from_utf8_lossy(&damaged.stdout);
    assert!(text.contains(segment.file_name().unwrap().to_str().unwrap()), "{text}");
}

#[tokio::test]
async fn a_command_without_a_mesh_says_what_to_do() {
    let dir = tempfile::TempDir::new().unwrap();
    let output = weft().args(["parked", "list", "--data"]).arg(dir.path()).output().await.unwrap();
    assert_eq!(output.status.code(), Some(2));
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(text.contains("weft up --data"), "{text}");
}

#[tokio::test]
async fn every_command_has_a_help_that_teaches_by_example() {
    let commands = Cli::command();
    let names = commands.get_subcommands().map(clap::Command::get_name);
    for command in names.filter(|name| !["help", "parked"].contains(name)) {
        let output = weft().args([command, "--help"]).output().await.unwrap();
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(
            text.contains("Examples:") && text.contains(&format!("weft {command}")),
            "{command}"
        );
    }
}

#[tokio::test]
async fn completions_and_definitions_are_printed_without_a_mesh() {
    for (arguments, part) in [
        (["completions", "bash"].as_slice(), "complete -F _weft"),
        (&["completions", "zsh"], "#compdef weft"),
        (&["crds"], "name: triggers.eventing.knative.dev"),
    ] {
        let output = weft().args(arguments).output().await.expect("weft runs");
        assert!(output.status.success(), "{arguments:?}");
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(text.contains(part), "{arguments:?}: {text}");
    }
}
