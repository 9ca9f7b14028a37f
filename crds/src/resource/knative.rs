//! Knative's kinds, as its own `CustomResourceDefinition`s name them and `kubectl` shows them.

use super::schema;
use super::{AGE, Column, InFiles, READY, REASON, Resource, URL, Version};
use crate::admission::Handle;
use crate::broker::{self, Broker};
use crate::trigger::{self, Trigger};

const EVENTING: &str = "eventing.knative.dev";

/// By which Knative's tools find the definitions that belong to it.
pub(crate) const INSTALL: (&str, &str) = ("knative.dev/crd-install", "true");
/// By which everybody finds those that come with this mesh.
pub(crate) const PART: (&str, &str) = ("app.kubernetes.io/name", "weft");
/// By which controllers and `kn` find what can be sent to.
pub(crate) const ADDRESSABLE: (&str, &str) = ("duck.knative.dev/addressable", "true");
/// By which `kn source list-types` finds the sources.
pub(crate) const SOURCE: (&str, &str) = ("duck.knative.dev/source", "true");
/// By which tools find what binds workloads.
pub(crate) const BINDING: (&str, &str) = ("duck.knative.dev/binding", "true");
pub(crate) const EVENTING_SOURCE: (&str, &str) = ("eventing.knative.dev/source", "true");

pub(super) const BROKER: Resource = Resource {
    group: EVENTING,
    kind: broker::KIND,
    plural: "brokers",
    singular: "broker",
    short_names: &[],
    categories: &["all", "knative", "eventing"],
    namespaced: true,
    versions: &[Version {
        name: "v1",
        deprecated: None,
        columns: &[
            URL,
            AGE,
            READY,
            REASON,
            Column {
                name: "Class",
                kind: "string",
                path: r".metadata.annotations.eventing\.knative\.dev/broker\.class",
                priority: 1,
                description: "Which implementation serves it.",
            },
        ],
        schema: schema::broker,
    }],
    status: true,
    writable: true,
    labels: &[PART, ADDRESSABLE, INSTALL],
    annotations: &[],
    in_files: InFiles::Configured,
    handle: Handle::of::<Broker>(),
    scale: None,
};

pub(super) const TRIGGER: Resource = Resource {
    group: EVENTING,
    kind: trigger::KIND,
    plural: "triggers",
    singular: "trigger",
    short_names: &[],
    categories: &["all", "knative", "eventing"],
    namespaced: true,
    versions: &[Version {
        name: "v1",
        deprecated: None,
        columns: &[
            Column {
                name: "Broker",
                kind: "string",
                path: ".spec.broker",
                priority: 0,
                description: "Whose events it sends.",
            },
            Column {
                name: "Subscriber_URI",
                kind: "string",
                path: ".status.subscriberUri",
                priority: 0,
                description: "Where it sends them.",
            },
            AGE,
            READY,
            REASON,
        ],
        schema: schema::trigger,
    }],
    status: true,
    writable: true,
    labels: &[PART, INSTALL],
    annotations: &[],
    in_files: InFiles::AtOnce,
    handle: Handle::of::<Trigger>(),
    scale: None,
};
