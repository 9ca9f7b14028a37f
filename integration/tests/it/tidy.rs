//! The rules of the design that no lint checks.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use clap::CommandFactory;
use integration::cli::Cli;

const NAMES_THAT_SAY_NOTHING: &[&str] =
    &["common", "core", "util", "utils", "types", "helpers", "shared", "misc"];

/// What each package may depend on among ours.
const ALLOWED: &[(&str, &[&str])] = &[
    ("broker-event", &[]),
    ("broker-log", &[]),
    ("broker", &["broker-event", "broker-log"]),
    ("crds", &[]),
    ("crds-apiserver", &["crds"]),
    ("crds-controller", &["broker", "broker-event", "crds", "dispatcher", "sources"]),
    ("dispatcher", &["broker", "broker-event"]),
    ("sources", &["broker-event", "crds"]),
    ("integration-bench", &[]),
    (
        "integration",
        &[
            "broker",
            "broker-event",
            "broker-log",
            "crds",
            "crds-apiserver",
            "crds-controller",
            "dispatcher",
            "sources",
        ],
    ),
];

/// Production lines a file: a reader holds that much.
const MAX_LINES: usize = 600;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("integration/ has a parent").to_owned()
}

fn walk(dir: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(dir).expect("a directory") {
        let path = entry.expect("an entry").path();
        let name = path.file_name().expect("a name").to_string_lossy().into_owned();
        if path.is_dir() {
            if !name.starts_with('.') && name != "target" && name != "fuzz" {
                walk(&path, found);
            }
        } else {
            found.push(path);
        }
    }
}

fn files(extension: &str) -> Vec<(String, String)> {
    let (root, mut found) = (root(), Vec::new());
    walk(&root, &mut found);
    found.sort();
    found.retain(|path| path.extension().is_some_and(|have| have == extension));
    let relative = |path: &PathBuf| path.strip_prefix(&root).expect("below").display().to_string();
    found
        .iter()
        .map(|path| (relative(path), std::fs::read_to_string(path).expect("text")))
        .collect()
}

fn manifests() -> Vec<(String, String)> {
    let mut all = files("toml");
    all.retain(|(path, _)| path.ends_with("/Cargo.toml"));
    assert!(all.len() >= ALLOWED.len(), "found the manifests");
    all
}

fn is_test(path: &str) -> bool {
    path.contains("/tests/") || path.ends_with("/tests.rs") || path.contains("/benches/")
}

/// Lines outside an inline `mod tests`.
fn production(text: &str) -> &str {
    text.split("#[cfg(test)]\nmod tests {").next().unwrap_or(text)
}

fn offenders(rule: impl Fn(&str, &str) -> bool) -> Vec<String> {
    let sources = files("rs").into_iter();
    sources.filter(|(path, text)| rule(path, text)).map(|(path, _)| path).collect()
}

fn none(offenders: &[String], rule: &str) {
    assert!(offenders.is_empty(), "{rule}: {offenders:#?}");
}

#[test]
fn the_package_name_is_the_path() {
    for (path, text) in manifests() {
        let name = path.trim_end_matches("/Cargo.toml").replace('/', "-");
        assert!(text.contains(&format!("name = \"{name}\"")), "{path} is not named {name}");
    }
}

#[test]
fn every_member_inherits_the_lints_and_the_versions() {
    for (path, text) in manifests() {
        assert!(text.contains("[lints]\nworkspace = true"), "{path} does not inherit the lints");
        let own_version = text.lines().find(|line| line.contains(" = \"") && line.contains('^'));
        assert_eq!(own_version, None, "{path} pins a version of its own");
    }
}

#[test]
fn dependencies_point_the_way_the_design_says() {
    let allowed: BTreeMap<&str, &[&str]> = ALLOWED.iter().copied().collect();
    for (path, text) in manifests() {
        let name = path.trim_end_matches("/Cargo.toml").replace('/', "-");
        let may = allowed.get(name.as_str()).unwrap_or_else(|| panic!("{name} is not in the map"));
        for other in allowed.keys() {
            let depends = text.lines().any(|line| {
                line.starts_with(&format!("{other}.workspace"))
                    || line.starts_with(&format!("{other} = "))
            });
            assert!(!depends || *other == name || may.contains(other), "{name} depends on {other}");
        }
        let kubernetes = text.contains("\nkube") || text.contains("k8s-openapi");
        let may = ["crds-controller", "integration", "sources"].contains(&name.as_str());
        assert!(may || !kubernetes, "{name} reaches for Kubernetes");
        let anyhow = text.contains("anyhow") && !name.starts_with("integration");
        assert!(!anyhow, "{name} uses anyhow");
    }
}

#[test]
fn of_the_sources_only_that_of_the_api_server_knows_kubernetes() {
    let elsewhere = |path: &str, text: &str| {
        path.starts_with("sources/")
            && path != "sources/src/apiserver.rs"
            && !path.starts_with("sources/src/apiserver/")
            && ["kube::", "k8s_openapi::"].iter().any(|package| text.contains(package))
    };
    none(&offenders(elsewhere), "reaches for Kubernetes");
}

#[test]
fn every_source_file_opens_with_its_purpose() {
    none(&offenders(|path, text| !is_test(path) && !text.starts_with("//!")), "opens without //!");
}

#[test]
fn no_file_is_longer_than_a_reader_can_hold() {
    let long =
        |path: &str, text: &str| !is_test(path) && production(text).lines().count() > MAX_LINES;
    none(&offenders(long), "more than 600 production lines");
}

#[test]
fn no_module_has_a_name_that_says_nothing() {
    let named = |path: &str, _: &str| {
        path.split('/').any(|part| NAMES_THAT_SAY_NOTHING.contains(&part.trim_end_matches(".rs")))
    };
    none(&offenders(named), "a name that says nothing");
}

#[test]
fn public_surfaces_are_lists() {
    let glob = |_: &str, text: &str| {
        text.lines().any(|line| line.trim_start().starts_with("pub use ") && line.contains("::*"))
    };
    none(&offenders(glob), "a glob re-export");
}

#[test]
fn statuses_are_decided_in_one_place_of_the_broker() {
    let elsewhere = |path: &str, text: &str| {
        path.starts_with("broker/")
            && !is_test(path)
            && !path.ends_with("respond.rs")
            && production(text).contains("StatusCode::")
    };
    none(&offenders(elsewhere), "StatusCode:: outside respond.rs");
}

#[test]
fn tests_wait_on_predicates() {
    let sleeps = |path: &str, text: &str| {
        path.starts_with("integration/tests/")
            && !path.ends_with("eventually.rs")
            && !path.ends_with("tidy.rs")
            && text.contains("sleep(")
    };
    none(&offenders(sleeps), "a bare sleep in a story");
}

#[test]
fn no_statement_asserts_nothing() {
    let bare = |path: &str, text: &str| {
        !path.ends_with("tidy.rs")
            && text
                .lines()
                .any(|line| line.trim_start().starts_with("matches!(") && line.ends_with(");"))
    };
    none(&offenders(bare), "a matches! whose answer is thrown away");
}

#[test]
fn main_only_parses_runs_and_maps_the_exit_code() {
    let main = std::fs::read_to_string(root().join("integration/src/main.rs")).expect("main.rs");
    assert!(main.lines().count() <= 60);
}

#[test]
fn the_readme_is_short_and_names_every_command() {
    let readme = std::fs::read_to_string(root().join("README.md")).expect("README.md");
    assert!(readme.lines().count() <= 150, "README.md is longer than 150 lines");
    let commands = Cli::command();
    for command in commands.get_subcommands().map(clap::Command::get_name) {
        let named = [format!("weft {command}"), format!("`{command}`")];
        assert!(
            command == "help" || named.iter().any(|name| readme.contains(name)),
            "README.md does not name weft {command}"
        );
    }
}

/// What `docs/writing-a-source.md` promises: its file, its lines in the list, its example, and nothing else that names it.
#[test]
fn a_source_is_added_in_three_places() {
    for kind in sources::ALL {
        let example = root().join("examples").join(kind.module);
        assert!(example.join("README.md").is_file(), "{} says what it shows", example.display());
        only_its_file_names(
            kind.name,
            &format!("sources/src/{}", kind.module),
            "sources/src/lib.rs",
        );
    }
}

#[test]
fn a_sink_is_added_in_three_places() {
    for kind in sources::sinks::ALL {
        let example = root().join(format!("examples/sinks/{}.yaml", kind.module));
        assert!(example.is_file(), "{}", example.display());
        let file = format!("sources/src/sinks/{}", kind.module);
        only_its_file_names(kind.name, &file, "sources/src/sinks.rs");
    }
}

fn only_its_file_names(kind: &str, file: &str, list: &str) {
    assert!(root().join(format!("{file}.rs")).is_file(), "{file}.rs");
    let elsewhere = offenders(|path, text| {
        let own = path.starts_with(file) || path == list;
        let product = !is_test(path) && !path.starts_with("integration/bench/");
        let mut code = production(text).lines().filter(|line| !line.trim_start().starts_with("//"));
        !own && product && code.any(|line| line.contains(kind))
    });
    none(&elsewhere, &format!("only {file} and the list name {kind}"));
}
