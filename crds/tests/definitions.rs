//! The definitions that are in the repository are those that the types say.

use std::fs;
use std::path::Path;

use crds::resource::{self, RESOURCES};

#[test]
fn the_committed_definitions_are_current() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("yaml/weft-crds.yaml");
    let expected = resource::yaml();
    let found = fs::read_to_string(&path).unwrap_or_default();
    if found != expected {
        fs::write(&path, expected).unwrap();
        panic!("{} was not current and has been written; run again and commit it", path.display());
    }
}

/// `etcd`'s limit on an object is 1.5 MiB, and what `kubectl apply` notes about it in an annotation may have 256 KiB.
#[test]
fn a_definition_is_small_enough_for_kubectl_apply() {
    for resource in RESOURCES.iter().filter(|resource| resource.is_custom()) {
        let size = resource::definition(resource).to_string().len();
        assert!(size < 200 * 1024, "{}: {size}", resource.kind);
    }
}

#[test]
fn names_are_unique_and_lead_to_their_kind() {
    for (index, resource) in RESOURCES.iter().enumerate() {
        let (group, kind, plural) = (resource.group, resource.kind, resource.plural);
        assert!(std::ptr::eq(resource::find(group, plural).unwrap(), resource), "{plural}");
        assert!(std::ptr::eq(resource::of_kind(group, kind).unwrap(), resource), "{kind}");
        assert!(!resource.versions.is_empty(), "{kind}");
        assert!(resource.versions[0].deprecated.is_none(), "{kind} is stored in an old version");
        for other in &RESOURCES[index + 1..] {
            for name in resource.short_names.iter().chain([&plural, &resource.singular]) {
                let taken = other.short_names.iter().chain([&other.plural, &other.singular]);
                assert!(!taken.into_iter().any(|taken| taken == name), "{name}");
            }
        }
    }
    assert!(resource::find("eventing.knative.dev", "pods").is_none());
}

/// `kn source list-types` reads them, and refuses the whole list when one is malformed.
#[test]
fn event_types_of_sources_are_json() {
    for plural in ["pingsources", "githubsources"] {
        let source = resource::find("sources.knative.dev", plural).unwrap();
        let (key, types) = source.annotations[0];
        assert_eq!(key, "registry.knative.dev/eventTypes");
        let types: Vec<serde_json::Value> = serde_json::from_str(types).unwrap();
        assert!(
            types.iter().all(|one| one["type"].as_str().unwrap().starts_with("dev.knative.source"))
        );
    }
    let types = resource::find("sources.knative.dev", "githubsources").unwrap().annotations[0].1;
    let types: Vec<serde_json::Value> = serde_json::from_str(types).unwrap();
    for one in types {
        let event = one["type"].as_str().unwrap().rsplit('.').next().unwrap();
        assert!(crds::github_source::EVENTS.contains(&event), "{event}");
    }
}
