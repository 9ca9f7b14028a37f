//! The list is whole: every kind has a name of its own, and an example that is read as its kind.

use std::collections::HashSet;
use std::path::Path;

use crds::broker_defaults::BrokerDefaults;
use crds::manifest::{self, File};
use crds::object::Rules;
use crds::ping_defaults::PingDefaults;
use crds::resource::Catalog;

use super::super::{ALL, RESOURCES};

fn rules(broker_defaults: &BrokerDefaults) -> Rules<'_> {
    Rules {
        catalog: Catalog::new(crate::RESOURCES).and(RESOURCES),
        cesql: &|_| Ok(()),
        broker_defaults,
        ping_defaults: PingDefaults::default(),
    }
}

fn example(module: &str) -> String {
    let path =
        Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("../examples/sinks/{module}.yaml"));
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

#[test]
fn names_are_unique_and_end_in_sink() {
    let names: HashSet<_> = ALL.iter().map(|kind| kind.name).collect();
    assert_eq!(names.len(), ALL.len());
    assert!(names.iter().all(|name| name.ends_with("Sink")), "{names:?}");
}

#[test]
fn every_kind_has_an_example_that_is_read_as_its_kind() {
    let defaults = BrokerDefaults::builtin();
    for kind in ALL {
        let text = example(kind.module);
        let files = [File { name: kind.module, text: &text }];
        let objects = manifest::load(&files, &rules(&defaults)).unwrap();
        let of_kind = objects.iter().find(|located| located.object.key().kind == kind.name);
        let written = &of_kind.unwrap_or_else(|| panic!("no {} among them", kind.name)).written;
        let read = (kind.read)(written).unwrap();
        assert_eq!(read.spec.unwrap().kind().name, kind.name);
        assert!(kind.resource().labels.contains(&("duck.knative.dev/addressable", "true")));
    }
}

#[test]
fn unknown_fields_are_named() {
    let defaults = BrokerDefaults::builtin();
    for kind in ALL {
        let text = example(kind.module).replace("\nspec:\n", "\nspec:\n  wrongField: 1\n");
        let files = [File { name: kind.module, text: &text }];
        let refused = manifest::load(&files, &rules(&defaults)).unwrap_err().to_string();
        assert!(refused.contains("spec.wrongField: unknown field"), "{refused}");
    }
}
