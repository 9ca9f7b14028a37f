//! The kinds of this crate and their definitions. That all of the committed YAML is current is tested where all kinds are
//! known.

#[path = "kinds/checks.rs"]
mod checks;
#[path = "kinds/tick.rs"]
mod tick;

use crds::resource::{self, Catalog};

#[test]
fn every_kind_is_sound() {
    checks::every_kind_is_sound(Catalog::BUILTIN);
    checks::every_kind_is_sound(tick::CATALOG);
    assert!(Catalog::BUILTIN.find("eventing.knative.dev", "pods").is_none());
}

/// The sources follow in it, which are declared elsewhere.
#[test]
fn the_committed_definitions_start_with_those_of_this_crate() {
    let committed = include_str!("../yaml/weft-crds.yaml");
    let own = resource::yaml(Catalog::BUILTIN);
    assert!(committed.starts_with(&own), "a kind of this crate is not current");
}
