//! Kubernetes' own kinds, as far as the mesh and its clients need them.
//!
//! Their tables have cells that no path can say (`DATA` counts, `LAST SEEN` is the younger of two times): whoever prints them
//! knows these kinds by name. The columns here are those that a path can say.

use super::schema;
use super::{AGE, Column, InFiles, Resource, Version};
use crate::admission::{Handle, Kind};
use crate::config_map::{self, ConfigMap};
use crate::custom_resource_definition::{self, CustomResourceDefinition};
use crate::event::{self, Event};
use crate::lease::{self, Lease};
use crate::namespace::{self, Namespace};
use crate::secret::{self, Secret};
use crate::service_account::{self, ServiceAccount};

/// What most of them have in common.
const fn core<T: Kind>() -> Resource {
    Resource {
        group: "",
        kind: "",
        plural: "",
        singular: "",
        short_names: &[],
        categories: &[],
        namespaced: true,
        versions: &[],
        status: false,
        writable: true,
        labels: &[],
        annotations: &[],
        in_files: InFiles::Never,
        handle: Handle::of::<T>(),
        scale: None,
    }
}

const fn column(name: &'static str, path: &'static str, description: &'static str) -> Column {
    Column { name, kind: "string", path, priority: 0, description }
}

pub(super) const NAMESPACE: Resource = Resource {
    kind: namespace::KIND,
    plural: "namespaces",
    singular: "namespace",
    short_names: &["ns"],
    namespaced: false,
    versions: &[Version {
        name: "v1",
        deprecated: None,
        columns: &[column("Status", ".status.phase", "Active or Terminating."), AGE],
        schema: schema::namespace,
    }],
    status: true,
    in_files: InFiles::AtOnce,
    ..core::<Namespace>()
};

pub(super) const SECRET: Resource = Resource {
    kind: secret::KIND,
    plural: "secrets",
    singular: "secret",
    versions: &[Version {
        name: "v1",
        deprecated: None,
        columns: &[column("Type", ".type", "What it is for."), AGE],
        schema: schema::secret,
    }],
    in_files: InFiles::AtOnce,
    ..core::<Secret>()
};

pub(super) const CONFIG_MAP: Resource = Resource {
    kind: config_map::KIND,
    plural: "configmaps",
    singular: "configmap",
    short_names: &["cm"],
    versions: &[Version {
        name: "v1",
        deprecated: None,
        columns: &[AGE],
        schema: schema::config_map,
    }],
    in_files: InFiles::AtOnce,
    ..core::<ConfigMap>()
};

pub(super) const EVENT: Resource = Resource {
    kind: event::KIND,
    plural: "events",
    singular: "event",
    short_names: &["ev"],
    versions: &[Version {
        name: "v1",
        deprecated: None,
        columns: &[
            Column {
                kind: "date",
                ..column("Last Seen", ".lastTimestamp", "When it last happened.")
            },
            column("Type", ".type", "Normal or Warning."),
            column("Reason", ".reason", "What happened, in one word."),
            column("Object", ".involvedObject.name", "What it happened to."),
            column("Message", ".message", "What happened, in a sentence."),
        ],
        schema: schema::event,
    }],
    ..core::<Event>()
};

pub(super) const SERVICE_ACCOUNT: Resource = Resource {
    kind: service_account::KIND,
    plural: "serviceaccounts",
    singular: "serviceaccount",
    short_names: &["sa"],
    versions: &[Version {
        name: "v1",
        deprecated: None,
        columns: &[AGE],
        schema: schema::service_account,
    }],
    ..core::<ServiceAccount>()
};

pub(super) const LEASE: Resource = Resource {
    group: "coordination.k8s.io",
    kind: lease::KIND,
    plural: "leases",
    singular: "lease",
    versions: &[Version {
        name: "v1",
        deprecated: None,
        columns: &[column("Holder", ".spec.holderIdentity", "Who holds it."), AGE],
        schema: schema::lease,
    }],
    ..core::<Lease>()
};

pub(super) const CUSTOM_RESOURCE_DEFINITION: Resource = Resource {
    group: "apiextensions.k8s.io",
    kind: custom_resource_definition::KIND,
    plural: "customresourcedefinitions",
    singular: "customresourcedefinition",
    short_names: &["crd", "crds"],
    categories: &["api-extensions"],
    namespaced: false,
    versions: &[Version {
        name: "v1",
        deprecated: None,
        columns: &[Column { name: "Created At", ..AGE }],
        schema: schema::custom_resource_definition,
    }],
    status: true,
    writable: false,
    ..core::<CustomResourceDefinition>()
};
