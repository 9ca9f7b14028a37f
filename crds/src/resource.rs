//! The kinds as an API server serves them: names, versions, columns, schemas. One [`Catalog`], from which discovery, tables,
//! `explain` and the `CustomResourceDefinition`s follow.

mod catalog;
mod knative;
mod kubernetes;
pub(crate) mod schema;
mod yaml;

use serde_json::{Map, Value, json};

use crate::admission::Handle;
use crate::custom_resource_definition;

pub use catalog::Catalog;
pub use yaml::yaml;

pub(crate) use knative::{ADDRESSABLE, BINDING, EVENTING_SOURCE, INSTALL, PART, SOURCE};

/// The column of the address.
pub const URL: Column = Column {
    name: "URL",
    kind: "string",
    path: ".status.address.url",
    priority: 0,
    description: "Where events are posted to.",
};
/// The column of an object's age.
pub const AGE: Column = Column {
    name: "Age",
    kind: "date",
    path: ".metadata.creationTimestamp",
    priority: 0,
    description: "When it was created.",
};
/// The column of the condition `Ready`.
pub const READY: Column = Column {
    name: "Ready",
    kind: "string",
    path: r#".status.conditions[?(@.type=="Ready")].status"#,
    priority: 0,
    description: "Whether everything about it is in force.",
};
/// The column of the reason that the condition `Ready` gives.
pub const REASON: Column = Column {
    name: "Reason",
    kind: "string",
    path: r#".status.conditions[?(@.type=="Ready")].reason"#,
    priority: 0,
    description: "Why it is not ready, in one word.",
};

/// A kind as it is served.
#[derive(Debug)]
pub struct Resource {
    /// The API group; empty for Kubernetes' own core group.
    pub group: &'static str,
    /// The kind, as in `Trigger`.
    pub kind: &'static str,
    /// As in `triggers`.
    pub plural: &'static str,
    /// As in `trigger`.
    pub singular: &'static str,
    /// As in `cm`.
    pub short_names: &'static [&'static str],
    /// As in `all`, `knative`, `eventing`.
    pub categories: &'static [&'static str],
    /// Whether its objects are in namespaces.
    pub namespaced: bool,
    /// The served versions, the stored one first.
    pub versions: &'static [Version],
    /// Whether `status` is a subresource: then only it changes the status, and only changes of something else than
    /// metadata and status count as a new generation.
    pub status: bool,
    /// Whether objects come by requests to change them; a `CustomResourceDefinition` is only shown.
    pub writable: bool,
    /// Labels of its `CustomResourceDefinition`; empty for Kubernetes' own kinds, which have none.
    pub labels: &'static [(&'static str, &'static str)],
    /// Annotations of its `CustomResourceDefinition`.
    pub annotations: &'static [(&'static str, &'static str)],
    /// Whether files may hold its objects, and when those are checked.
    pub in_files: InFiles,
    /// What is done with its objects: read, filled in, checked.
    pub handle: Handle,
    /// Its `scale` subresource, if it has one: `kubectl scale` and autoscalers read and write that.
    pub scale: Option<Scale>,
}

/// What files may hold of a kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InFiles {
    /// Nothing: programs make its objects.
    Never,
    /// Its objects, which are checked as they are read.
    AtOnce,
    /// Its objects, which are checked once all files were read: what decides about them may be configured in the last.
    Configured,
}

/// How many an object wants and has, as `autoscaling/v1` asks for it. The paths are plain: names of fields behind dots.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Scale {
    /// Where the wanted number is, under `.spec`, as in `.spec.consumers`.
    pub spec_replicas: &'static str,
    /// Where the number there is, under `.status`, as in `.status.consumers`.
    pub status_replicas: &'static str,
    /// Where the label selector of what is counted is, under `.status` or `.spec`, as text; an autoscaler needs it.
    pub label_selector: Option<&'static str>,
}

/// A served version of a kind.
#[derive(Debug)]
pub struct Version {
    /// As in `v1`.
    pub name: &'static str,
    /// What clients are warned with, when they should no longer use it.
    pub deprecated: Option<&'static str>,
    /// What a table shows between `NAME` and nothing: `AGE` is one of them where it is shown.
    pub columns: &'static [Column],
    /// The `OpenAPI` v3 schema of an object, self-contained (no `$ref`), as a `CustomResourceDefinition` carries it.
    pub schema: fn() -> Value,
}

/// A column of a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Column {
    /// The heading, as in `Ready`.
    pub name: &'static str,
    /// `string`, `integer`, `date` or `boolean`.
    pub kind: &'static str,
    /// Where the value is, as in `.status.conditions[?(@.type=="Ready")].status`.
    pub path: &'static str,
    /// 0 is always shown, 1 only by `-o wide`.
    pub priority: u8,
    /// What it means, for `kubectl explain`-like help.
    pub description: &'static str,
}

impl Resource {
    /// `group/version`, or `version` of the core group.
    #[must_use]
    pub fn api_version(&self, version: &str) -> String {
        if self.group.is_empty() { version.to_owned() } else { format!("{}/{version}", self.group) }
    }

    /// The served version of that name.
    #[must_use]
    pub fn version(&self, name: &str) -> Option<&'static Version> {
        self.versions.iter().find(|version| version.name == name)
    }

    /// Writes an object of this kind in that version. The versions of a kind differ in nothing but their names.
    pub fn convert(&self, object: &mut Value, version: &str) {
        if let Value::Object(object) = object {
            object.insert("apiVersion".to_owned(), self.api_version(version).into());
        }
    }

    /// `plural.group`, the name of its `CustomResourceDefinition`; the plural alone in the core group.
    #[must_use]
    pub fn full_name(&self) -> String {
        if self.group.is_empty() {
            self.plural.to_owned()
        } else {
            format!("{}.{}", self.plural, self.group)
        }
    }

    /// Its versions with their group, each with the kind.
    pub(crate) fn served_as(&self) -> impl Iterator<Item = (String, &'static str)> + '_ {
        self.versions.iter().map(|version| (self.api_version(version.name), self.kind))
    }

    /// Whether it is one of Knative's or Weft's kinds, which have a `CustomResourceDefinition`.
    #[must_use]
    pub fn is_custom(&self) -> bool {
        !self.labels.is_empty()
    }
}

/// The `CustomResourceDefinition` of a kind, as `kubectl apply` takes it: `apiextensions.k8s.io/v1`, no conversion but that
/// of the version's name.
#[must_use]
pub fn definition(resource: &Resource) -> Value {
    let mut names = Map::new();
    for (field, name) in [
        ("kind", resource.kind.to_owned()),
        ("listKind", format!("{}List", resource.kind)),
        ("plural", resource.plural.to_owned()),
        ("singular", resource.singular.to_owned()),
    ] {
        names.insert(field.to_owned(), name.into());
    }
    for (field, words) in
        [("shortNames", resource.short_names), ("categories", resource.categories)]
    {
        if !words.is_empty() {
            names.insert(field.to_owned(), words.into());
        }
    }
    let mut metadata = Map::new();
    metadata.insert("name".to_owned(), resource.full_name().into());
    for (field, pairs) in [("labels", resource.labels), ("annotations", resource.annotations)] {
        if !pairs.is_empty() {
            let map: Map<_, _> =
                pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).into())).collect();
            metadata.insert(field.to_owned(), map.into());
        }
    }
    let versions: Vec<_> = resource
        .versions
        .iter()
        .enumerate()
        .map(|(index, version)| defined_version(resource, version, index == 0))
        .collect();
    json!({
        "apiVersion": custom_resource_definition::API_VERSION,
        "kind": custom_resource_definition::KIND,
        "metadata": metadata,
        "spec": {
            "group": resource.group,
            "names": names,
            "scope": if resource.namespaced { "Namespaced" } else { "Cluster" },
            "versions": versions,
            "conversion": { "strategy": "None" },
        },
    })
}

fn defined_version(resource: &Resource, version: &Version, storage: bool) -> Value {
    let columns: Vec<_> = version.columns.iter().map(defined_column).collect();
    let mut defined = json!({
        "name": version.name,
        "served": true,
        "storage": storage,
        "schema": { "openAPIV3Schema": (version.schema)() },
        "additionalPrinterColumns": columns,
    });
    if let Value::Object(defined) = &mut defined {
        let mut parts = Map::new();
        if resource.status {
            parts.insert("status".to_owned(), json!({}));
        }
        if let Some(scale) = &resource.scale {
            parts.insert("scale".to_owned(), defined_scale(scale));
        }
        if !parts.is_empty() {
            defined.insert("subresources".to_owned(), parts.into());
        }
        if let Some(warning) = version.deprecated {
            defined.insert("deprecated".to_owned(), true.into());
            defined.insert("deprecationWarning".to_owned(), warning.into());
        }
    }
    defined
}

fn defined_scale(scale: &Scale) -> Value {
    let mut defined = json!({
        "specReplicasPath": scale.spec_replicas,
        "statusReplicasPath": scale.status_replicas,
    });
    if let (Value::Object(defined), Some(path)) = (&mut defined, scale.label_selector) {
        defined.insert("labelSelectorPath".to_owned(), path.into());
    }
    defined
}

fn defined_column(column: &Column) -> Value {
    let mut defined = json!({
        "name": column.name,
        "type": column.kind,
        "jsonPath": column.path,
        "description": column.description,
    });
    if let (Value::Object(defined), 1..) = (&mut defined, column.priority) {
        defined.insert("priority".to_owned(), column.priority.into());
    }
    defined
}
