//! What must hold of every kind, wherever it is declared. Another package has this file as a module by `#[path]`.

#![expect(clippy::unwrap_used, reason = "what surprises a test ends it")]

use crds::custom_resource_definition::CustomResourceDefinition;
use crds::resource::{self, Catalog, Resource};
use serde_json::{Value, json};

/// `etcd`'s limit on an object is 1.5 MiB, and what `kubectl apply` notes about it in an annotation may have 256 KiB.
const MAX_DEFINITION: usize = 200 * 1024;

/// The keywords that a structural schema may have here.
const KEYWORDS: [&str; 21] = [
    "type",
    "description",
    "format",
    "properties",
    "items",
    "additionalProperties",
    "required",
    "enum",
    "minimum",
    "maximum",
    "minLength",
    "maxLength",
    "minItems",
    "maxItems",
    "pattern",
    PRESERVE,
    "x-kubernetes-list-type",
    "x-kubernetes-list-map-keys",
    "x-kubernetes-map-type",
    "x-kubernetes-validations",
    "x-kubernetes-int-or-string",
];
const PRESERVE: &str = "x-kubernetes-preserve-unknown-fields";

/// Every check, of every kind of `catalog`.
pub(crate) fn every_kind_is_sound(catalog: Catalog) {
    names_are_unique_and_lead_to_their_kind(catalog);
    for resource in catalog.iter() {
        for version in resource.versions {
            let name = format!("{}/{}", resource.kind, version.name);
            let schema = (version.schema)();
            is_structural(&name, &schema);
            is_described_for_users(&name, &schema);
            let plain = version.columns.iter().all(|column| column.path.starts_with('.'));
            assert!(plain, "{name}: a column without a path");
        }
        if resource.is_custom() {
            can_be_defined(resource);
        }
        if let Some(scale) = &resource.scale {
            let kind = resource.kind;
            assert!(scale.spec_replicas.starts_with(".spec."), "{kind}");
            assert!(scale.status_replicas.starts_with(".status."), "{kind}");
        }
    }
}

fn names_are_unique_and_lead_to_their_kind(catalog: Catalog) {
    for (index, resource) in catalog.iter().enumerate() {
        let (group, kind, plural) = (resource.group, resource.kind, resource.plural);
        assert!(std::ptr::eq(catalog.find(group, plural).unwrap(), resource), "{plural}");
        assert!(std::ptr::eq(catalog.of_kind(group, kind).unwrap(), resource), "{kind}");
        assert!(!resource.versions.is_empty(), "{kind}");
        assert!(resource.versions[0].deprecated.is_none(), "{kind} is stored in an old version");
        for other in catalog.iter().skip(index + 1) {
            for name in resource.short_names.iter().chain([&plural, &resource.singular]) {
                let taken = other.short_names.iter().chain([&other.plural, &other.singular]);
                assert!(!taken.into_iter().any(|taken| taken == name), "{name}");
            }
        }
    }
}

fn can_be_defined(resource: &Resource) {
    let kind = resource.kind;
    let definition = resource::definition(resource);
    let size = definition.to_string().len();
    assert!(size < MAX_DEFINITION, "{kind}: {size}");
    let read: CustomResourceDefinition = serde_json::from_value(definition).unwrap();
    assert_eq!(read.validate().to_string(), "", "{kind}");
    // `kn source list-types` reads them, and refuses the whole list when one is malformed.
    let types =
        resource.annotations.iter().find(|(key, _)| *key == "registry.knative.dev/eventTypes");
    if let Some((_, types)) = types {
        let types: Vec<Value> = serde_json::from_str(types).unwrap();
        assert!(types.iter().all(|one| one["type"].is_string()), "{kind}");
    }
}

/// Walks a schema and tells every schema within, with its path.
fn walk(path: &str, schema: &Value, see: &mut dyn FnMut(&str, &Value)) {
    see(path, schema);
    for (name, property) in schema["properties"].as_object().into_iter().flatten() {
        walk(&format!("{path}.{name}"), property, see);
    }
    for keyword in ["items", "additionalProperties"] {
        if let Some(inner) = schema.get(keyword) {
            walk(&format!("{path}[]"), inner, see);
        }
    }
}

fn is_structural(name: &str, schema: &Value) {
    walk(name, schema, &mut |path, schema| {
        let fields = schema.as_object().expect(path);
        for keyword in fields.keys() {
            assert!(KEYWORDS.contains(&keyword.as_str()), "{path}: {keyword}");
        }
        let kind = schema["type"].as_str();
        assert!(kind.is_some() || schema[PRESERVE] == true, "{path}: no type");
        assert_eq!(kind == Some("array"), fields.contains_key("items"), "{path}");
        let both = fields.contains_key("properties") && fields.contains_key("additionalProperties");
        assert!(!both, "{path}: a map and fields at once");
        for required in schema["required"].as_array().into_iter().flatten() {
            let required = required.as_str().unwrap();
            assert!(schema["properties"].get(required).is_some(), "{path} has no {required}");
        }
        for key in schema["x-kubernetes-list-map-keys"].as_array().into_iter().flatten() {
            let items = &schema["items"];
            assert!(items["properties"].get(key.as_str().unwrap()).is_some(), "{path}");
            // Of kinds that are built in, Kubernetes tells keys apart itself.
            let required = items["required"].as_array().is_some_and(|list| list.contains(key));
            assert!(required || path.starts_with("ServiceAccount"), "{path}: {key} may be absent");
        }
    });
    assert_eq!(schema["properties"]["metadata"], json!({ "type": "object" }), "{name}");
}

fn is_described_for_users(name: &str, schema: &Value) {
    walk(name, schema, &mut |path, schema| {
        // Items and values of maps are described by what holds them; metadata by the server.
        if path.ends_with("[]") || path.ends_with(".metadata") {
            return;
        }
        let description = schema["description"].as_str().unwrap_or_default();
        assert!(description.ends_with('.'), "{path}: {description:?}");
        // Links of rustdoc mean nothing to users.
        assert!(!description.contains("[`"), "{path}: {description:?}");
    });
}
