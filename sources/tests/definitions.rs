//! All kinds and their definitions, and the committed YAML of these.

#[path = "../../crds/tests/kinds/checks.rs"]
mod checks;

use std::fs;
use std::path::Path;

use crds::resource::{self, Catalog};

static CATALOG: Catalog = Catalog::new(sources::RESOURCES).and(sources::sinks::RESOURCES);

#[test]
fn every_kind_is_sound() {
    checks::every_kind_is_sound(CATALOG);
}

#[test]
fn the_committed_definitions_are_current() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../crds/yaml/weft-crds.yaml");
    let expected = resource::yaml(CATALOG);
    let found = fs::read_to_string(&path).unwrap_or_default();
    if found != expected {
        fs::write(&path, expected).unwrap();
        panic!("{} was not current and has been written; run again and commit it", path.display());
    }
}
