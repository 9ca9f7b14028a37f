//! Which files are read, and what is refused before they are parsed.

use std::os::unix::fs::symlink;

use tempfile::TempDir;

use super::*;

const BROKER: &str =
    "apiVersion: eventing.knative.dev/v1\nkind: Broker\nmetadata: {name: default}\n";

/// A directory with these files.
fn directory(files: &[(&str, &[u8])]) -> TempDir {
    let dir = TempDir::new().unwrap();
    for (name, text) in files {
        std::fs::write(dir.path().join(name), text).unwrap();
    }
    dir
}

fn objects(text: &str) -> anyhow::Result<Vec<Located>> {
    let dir = directory(&[("mesh.yaml", text.as_bytes())]);
    read(&[dir.path().to_owned()])
}

fn refusal(text: impl AsRef<[u8]>) -> String {
    let dir = directory(&[("mesh.yaml", text.as_ref())]);
    let error = read(&[dir.path().join("mesh.yaml")]).unwrap_err();
    format!("{error:#}").replace(&format!("{}/", dir.path().display()), "")
}

fn names(dir: &TempDir) -> Vec<String> {
    let files = files(&[dir.path().to_owned()]).unwrap();
    files.iter().map(|file| file.file_name().unwrap().to_str().unwrap().to_owned()).collect()
}

#[test]
fn a_directory_stands_for_its_yaml_and_json_without_what_editors_leave() {
    let left =
        ["a.yaml~", "4913", ".a.yaml.swp", "#a.yaml#", ".hidden.yaml", "notes.txt", "a.yaml.bak"];
    let dir = directory(&[("b.yml", b"x"), ("a.yaml", b"x"), ("c.json", b"x")]);
    for name in left {
        std::fs::write(dir.path().join(name), "x").unwrap();
    }
    symlink("somebody@somewhere", dir.path().join(".#a.yaml")).unwrap();
    std::fs::create_dir(dir.path().join("d.yaml")).unwrap();
    assert_eq!(names(&dir), ["a.yaml", "b.yml", "c.json"]);
}

#[test]
fn a_config_map_that_is_mounted_is_read_through_its_links() {
    let dir = TempDir::new().unwrap();
    let data = dir.path().join("..2026_01_01");
    std::fs::create_dir(&data).unwrap();
    std::fs::write(data.join("mesh.yaml"), BROKER).unwrap();
    symlink("..2026_01_01", dir.path().join("..data")).unwrap();
    symlink("..data/mesh.yaml", dir.path().join("mesh.yaml")).unwrap();
    assert_eq!(read(&[dir.path().to_owned()]).unwrap().len(), 1);
}

#[test]
fn a_link_that_leads_nowhere_is_a_mistake_and_no_absence() {
    let dir = directory(&[("a.yaml", BROKER.as_bytes())]);
    symlink("gone", dir.path().join("b.yaml")).unwrap();
    let error = format!("{:#}", read(&[dir.path().to_owned()]).unwrap_err());
    assert!(error.contains("b.yaml: No such file"), "{error}");
}

#[test]
fn a_path_that_is_not_there_and_a_directory_without_resources_are_named() {
    let dir = directory(&[("notes.txt", b"x")]);
    let error = read(&[dir.path().to_owned()]).unwrap_err().to_string();
    assert!(error.ends_with("the directory has no .yaml, .yml or .json file"), "{error}");
    let error = format!("{:#}", read(&[dir.path().join("x.yaml")]).unwrap_err());
    assert!(error.starts_with("-f /") && error.contains("x.yaml: No such file"), "{error}");
}

#[test]
fn what_is_no_text_is_refused_at_its_line() {
    assert_eq!(
        refusal(b"a: b\nc: \xe4\n"),
        "mesh.yaml:2:4: this is not UTF-8; save the file as UTF-8"
    );
    assert_eq!(refusal("a: b\n\0"), "mesh.yaml:2:1: the character U+0000 cannot be in a file");
    assert_eq!(refusal(" \n"), "mesh.yaml:1:1: the file is empty");
    assert!(objects("# nothing yet\n").unwrap().is_empty());
}

#[test]
fn a_file_has_a_limit_and_five_megabytes_are_below_it() {
    let dir = directory(&[("mesh.yaml", b"x")]);
    let file = std::fs::File::options().write(true).open(dir.path().join("mesh.yaml")).unwrap();
    file.set_len(u64::try_from(MAX_FILE_BYTES).unwrap() + 1).unwrap();
    let error = read(&[dir.path().to_owned()]).unwrap_err().to_string();
    assert!(error.ends_with("mesh.yaml:1:1: a file may have 33554432 bytes"), "{error}");
    let map = |index: usize| {
        let value = "x".repeat(500_000);
        format!(
            "---\napiVersion: v1\nkind: ConfigMap\nmetadata: {{name: c{index}}}\ndata: {{k: {value}}}\n"
        )
    };
    let text: String = (0..10).map(map).collect();
    objects(&format!("{BROKER}{text}")).unwrap();
}

#[test]
fn a_schedule_that_never_ticks_is_refused_at_its_line() {
    let ping = |schedule: &str| {
        format!(
            "apiVersion: sources.knative.dev/v1\nkind: PingSource\nmetadata: {{name: p}}\nspec:\n  schedule: {schedule:?}\n  sink: {{uri: \"http://s/\"}}\n"
        )
    };
    assert_eq!(
        refusal(ping("0 0 30 2 *")),
        "mesh.yaml:5:3: spec.schedule: invalid value: 0 0 30 2 *; \"0 0 30 2 *\" names a date that never comes"
    );
    assert_eq!(
        refusal(ping("@every 10s")),
        "mesh.yaml:5:3: spec.schedule: invalid value: unsupported descriptor @every"
    );
    assert_eq!(objects(&ping("0 0 29 2 *")).unwrap().len(), 1);
}
