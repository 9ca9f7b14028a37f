//! A data directory that cannot be used is refused with a sentence that names it, and is left as it is.

use std::path::Path;

use crate::harness::mesh::{BROKER, Mesh, weft};

/// What `weft up` on this directory says when it refuses.
async fn refusal(data: &Path) -> String {
    let free = ["--events", "127.0.0.1:0", "--gateway", "127.0.0.1:0", "--api", "127.0.0.1:0"];
    let output =
        weft().arg("up").args(free).arg("--data").arg(data).output().await.expect("weft runs");
    assert_eq!(output.status.code(), Some(2));
    String::from_utf8(output.stderr).expect("text")
}

#[tokio::test(flavor = "multi_thread")]
async fn one_in_use_is_refused_by_name() {
    let mesh = Mesh::start(BROKER).await;
    let text = refusal(&mesh.data()).await;
    assert!(text.contains(&mesh.data().display().to_string()), "{text}");
    assert!(text.contains("in use by another process"), "{text}");
    mesh.send("still", "1").await;
}

#[tokio::test]
async fn one_of_a_newer_weft_is_refused_and_left_as_it_is() {
    let dir = tempfile::TempDir::new().unwrap();
    std::fs::write(dir.path().join("format"), "weft 99\n").unwrap();
    let text = refusal(dir.path()).await;
    assert!(text.contains("format 99") && text.contains("use a newer program"), "{text}");
    assert_eq!(std::fs::read_to_string(dir.path().join("format")).unwrap(), "weft 99\n");
    assert!(!dir.path().join("log").try_exists().unwrap());
}

#[tokio::test]
async fn one_of_something_else_is_refused() {
    let dir = tempfile::TempDir::new().unwrap();
    std::fs::write(dir.path().join("format"), "postgres 17\n").unwrap();
    let text = refusal(dir.path()).await;
    assert!(text.contains("expected \"weft 1\", found \"postgres 17"), "{text}");
}

#[tokio::test]
async fn one_that_cannot_be_written_to_is_refused() {
    // Nobody may make files there, not even root.
    let text = refusal(Path::new("/sys/weft")).await;
    assert!(text.contains("/sys/weft cannot be written to"), "{text}");
    let file = tempfile::NamedTempFile::new().unwrap();
    let text = refusal(file.path()).await;
    assert!(text.contains(&format!("cannot create {}", file.path().display())), "{text}");
}
