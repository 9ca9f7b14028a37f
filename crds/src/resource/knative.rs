//! Knative's kinds, as its own `CustomResourceDefinition`s name them and `kubectl` shows them.

use super::schema;
use super::{Column, Resource, Version};
use crate::{broker, github_source, ping_source, trigger};

const EVENTING: &str = "eventing.knative.dev";
const SOURCES: &str = "sources.knative.dev";

/// By which Knative's tools find the definitions that belong to it.
const INSTALL: (&str, &str) = ("knative.dev/crd-install", "true");
/// By which everybody finds those that come with this mesh.
const PART: (&str, &str) = ("app.kubernetes.io/name", "weft");
/// By which controllers and `kn` find what can be sent to.
const ADDRESSABLE: (&str, &str) = ("duck.knative.dev/addressable", "true");
/// By which `kn source list-types` finds the sources.
const SOURCE: (&str, &str) = ("duck.knative.dev/source", "true");
const EVENTING_SOURCE: (&str, &str) = ("eventing.knative.dev/source", "true");

const AGE: Column = Column {
    name: "Age",
    kind: "date",
    path: ".metadata.creationTimestamp",
    priority: 0,
    description: "When it was created.",
};
const READY: Column = Column {
    name: "Ready",
    kind: "string",
    path: r#".status.conditions[?(@.type=="Ready")].status"#,
    priority: 0,
    description: "Whether everything about it is in force.",
};
const REASON: Column = Column {
    name: "Reason",
    kind: "string",
    path: r#".status.conditions[?(@.type=="Ready")].reason"#,
    priority: 0,
    description: "Why it is not ready, in one word.",
};
const URL: Column = Column {
    name: "URL",
    kind: "string",
    path: ".status.address.url",
    priority: 0,
    description: "Where events are posted to.",
};
const SINK: Column = Column {
    name: "Sink",
    kind: "string",
    path: ".status.sinkUri",
    priority: 0,
    description: "Where its events go.",
};

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
};

const PING_COLUMNS: &[Column] = &[
    SINK,
    Column {
        name: "Schedule",
        kind: "string",
        path: ".spec.schedule",
        priority: 0,
        description: "When it sends an event.",
    },
    AGE,
    READY,
    REASON,
];

pub(super) const PING_SOURCE: Resource = Resource {
    group: SOURCES,
    kind: ping_source::KIND,
    plural: "pingsources",
    singular: "pingsource",
    short_names: &[],
    categories: &["all", "knative", "sources"],
    namespaced: true,
    versions: &[
        Version {
            name: "v1",
            deprecated: None,
            columns: PING_COLUMNS,
            schema: schema::ping_source,
        },
        Version {
            name: "v1beta2",
            deprecated: Some(
                "sources.knative.dev/v1beta2 PingSource is deprecated; see \
                 https://knative.dev/docs/eventing/sources/ping-source/ for instructions to migrate to \
                 sources.knative.dev/v1 PingSource",
            ),
            columns: PING_COLUMNS,
            schema: schema::ping_source,
        },
    ],
    status: true,
    writable: true,
    labels: &[PART, SOURCE, EVENTING_SOURCE, INSTALL],
    annotations: &[("registry.knative.dev/eventTypes", PING_TYPES)],
};

pub(super) const GITHUB_SOURCE: Resource = Resource {
    group: SOURCES,
    kind: github_source::KIND,
    plural: "githubsources",
    singular: "githubsource",
    short_names: &[],
    categories: &["all", "knative", "eventing", "sources"],
    namespaced: true,
    versions: &[Version {
        name: "v1alpha1",
        deprecated: None,
        columns: &[READY, REASON, SINK, AGE],
        schema: schema::github_source,
    }],
    status: true,
    writable: true,
    labels: &[PART, SOURCE, EVENTING_SOURCE, INSTALL],
    annotations: &[("registry.knative.dev/eventTypes", GITHUB_TYPES)],
};

/// What `kn source list-types` and user interfaces offer: JSON.
const PING_TYPES: &str =
    r#"[{"type":"dev.knative.sources.ping","description":"A fixed payload on a schedule"}]"#;
/// Knative's own selection. The type of any other event of GitHub's is formed in the same way.
const GITHUB_TYPES: &str = r#"[{"type":"dev.knative.source.github.check_suite"},
{"type":"dev.knative.source.github.commit_comment"},
{"type":"dev.knative.source.github.create"},
{"type":"dev.knative.source.github.delete"},
{"type":"dev.knative.source.github.deployment"},
{"type":"dev.knative.source.github.deployment_status"},
{"type":"dev.knative.source.github.fork"},
{"type":"dev.knative.source.github.gollum"},
{"type":"dev.knative.source.github.installation"},
{"type":"dev.knative.source.github.integration_installation"},
{"type":"dev.knative.source.github.issue_comment"},
{"type":"dev.knative.source.github.issues"},
{"type":"dev.knative.source.github.label"},
{"type":"dev.knative.source.github.member"},
{"type":"dev.knative.source.github.membership"},
{"type":"dev.knative.source.github.milestone"},
{"type":"dev.knative.source.github.organization"},
{"type":"dev.knative.source.github.org_block"},
{"type":"dev.knative.source.github.page_build"},
{"type":"dev.knative.source.github.ping"},
{"type":"dev.knative.source.github.project_card"},
{"type":"dev.knative.source.github.project_column"},
{"type":"dev.knative.source.github.project"},
{"type":"dev.knative.source.github.public"},
{"type":"dev.knative.source.github.pull_request"},
{"type":"dev.knative.source.github.pull_request_review"},
{"type":"dev.knative.source.github.pull_request_review_comment"},
{"type":"dev.knative.source.github.push"},
{"type":"dev.knative.source.github.release"},
{"type":"dev.knative.source.github.repository"},
{"type":"dev.knative.source.github.status"},
{"type":"dev.knative.source.github.team"},
{"type":"dev.knative.source.github.team_add"},
{"type":"dev.knative.source.github.watch"}]"#;
