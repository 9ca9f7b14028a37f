//! The messages of Kubernetes that clients send, by field number.

/// What a field holds.
#[derive(Debug)]
pub(super) enum Kind {
    Text,
    /// Base64 in JSON.
    Bytes,
    Flag,
    Number,
    /// With seconds.
    Time,
    /// With microseconds.
    MicroTime,
    /// JSON in bytes.
    Json,
    Message(&'static [Field]),
    List(&'static Kind),
    /// From texts to these.
    Map(&'static Kind),
}

/// A field of a message.
#[derive(Debug)]
pub(super) struct Field {
    pub(super) number: u64,
    pub(super) name: &'static str,
    pub(super) kind: Kind,
}

const fn field(number: u64, name: &'static str, kind: Kind) -> Field {
    Field { number, name, kind }
}

/// The message of a kind that clients send.
pub(super) fn of(api_version: &str, kind: &str) -> Option<&'static [Field]> {
    match (api_version, kind) {
        ("v1", "Namespace") => Some(NAMESPACE),
        ("v1", "Secret") => Some(SECRET),
        ("v1", "ConfigMap") => Some(CONFIG_MAP),
        ("v1", "ServiceAccount") => Some(SERVICE_ACCOUNT),
        ("v1", "Event") => Some(EVENT),
        ("coordination.k8s.io/v1", "Lease") => Some(LEASE),
        ("authorization.k8s.io/v1", "SelfSubjectAccessReview") => Some(ACCESS_REVIEW),
        ("authorization.k8s.io/v1", "SelfSubjectRulesReview") => Some(RULES_REVIEW),
        ("authentication.k8s.io/v1", "SelfSubjectReview") => Some(SUBJECT_REVIEW),
        (_, "DeleteOptions") => Some(DELETE_OPTIONS),
        _ => None,
    }
}

pub(super) const TYPE_META: &[Field] =
    &[field(1, "apiVersion", Kind::Text), field(2, "kind", Kind::Text)];

pub(super) const TIME: &[Field] =
    &[field(1, "seconds", Kind::Number), field(2, "nanos", Kind::Number)];

/// `FieldsV1`, whose bytes are JSON text.
pub(super) const RAW: &[Field] = &[field(1, "raw", Kind::Text)];

const METADATA: Field = field(1, "metadata", Kind::Message(OBJECT_META));

const OBJECT_META: &[Field] = &[
    field(1, "name", Kind::Text),
    field(2, "generateName", Kind::Text),
    field(3, "namespace", Kind::Text),
    field(5, "uid", Kind::Text),
    field(6, "resourceVersion", Kind::Text),
    field(7, "generation", Kind::Number),
    field(8, "creationTimestamp", Kind::Time),
    field(9, "deletionTimestamp", Kind::Time),
    field(10, "deletionGracePeriodSeconds", Kind::Number),
    field(11, "labels", Kind::Map(&Kind::Text)),
    field(12, "annotations", Kind::Map(&Kind::Text)),
    field(13, "ownerReferences", Kind::List(&Kind::Message(OWNER_REFERENCE))),
    field(14, "finalizers", Kind::List(&Kind::Text)),
    field(17, "managedFields", Kind::List(&Kind::Message(MANAGED_FIELDS))),
];

const OWNER_REFERENCE: &[Field] = &[
    field(1, "kind", Kind::Text),
    field(3, "name", Kind::Text),
    field(4, "uid", Kind::Text),
    field(5, "apiVersion", Kind::Text),
    field(6, "controller", Kind::Flag),
    field(7, "blockOwnerDeletion", Kind::Flag),
];

const MANAGED_FIELDS: &[Field] = &[
    field(1, "manager", Kind::Text),
    field(2, "operation", Kind::Text),
    field(3, "apiVersion", Kind::Text),
    field(4, "time", Kind::Time),
    field(6, "fieldsType", Kind::Text),
    field(7, "fieldsV1", Kind::Json),
    field(8, "subresource", Kind::Text),
];

const NAMESPACE: &[Field] = &[
    METADATA,
    field(2, "spec", Kind::Message(&[field(1, "finalizers", Kind::List(&Kind::Text))])),
    field(3, "status", Kind::Message(&[field(1, "phase", Kind::Text)])),
];

const SECRET: &[Field] = &[
    METADATA,
    field(2, "data", Kind::Map(&Kind::Bytes)),
    field(3, "type", Kind::Text),
    field(4, "stringData", Kind::Map(&Kind::Text)),
    field(5, "immutable", Kind::Flag),
];

const CONFIG_MAP: &[Field] = &[
    METADATA,
    field(2, "data", Kind::Map(&Kind::Text)),
    field(3, "binaryData", Kind::Map(&Kind::Bytes)),
    field(4, "immutable", Kind::Flag),
];

const OBJECT_REFERENCE: &[Field] = &[
    field(1, "kind", Kind::Text),
    field(2, "namespace", Kind::Text),
    field(3, "name", Kind::Text),
    field(4, "uid", Kind::Text),
    field(5, "apiVersion", Kind::Text),
    field(6, "resourceVersion", Kind::Text),
    field(7, "fieldPath", Kind::Text),
];

const SERVICE_ACCOUNT: &[Field] = &[
    METADATA,
    field(2, "secrets", Kind::List(&Kind::Message(OBJECT_REFERENCE))),
    field(3, "imagePullSecrets", Kind::List(&Kind::Message(&[field(1, "name", Kind::Text)]))),
    field(4, "automountServiceAccountToken", Kind::Flag),
];

const EVENT: &[Field] = &[
    METADATA,
    field(2, "involvedObject", Kind::Message(OBJECT_REFERENCE)),
    field(3, "reason", Kind::Text),
    field(4, "message", Kind::Text),
    field(
        5,
        "source",
        Kind::Message(&[field(1, "component", Kind::Text), field(2, "host", Kind::Text)]),
    ),
    field(6, "firstTimestamp", Kind::Time),
    field(7, "lastTimestamp", Kind::Time),
    field(8, "count", Kind::Number),
    field(9, "type", Kind::Text),
    field(10, "eventTime", Kind::MicroTime),
    field(
        11,
        "series",
        Kind::Message(&[
            field(1, "count", Kind::Number),
            field(2, "lastObservedTime", Kind::MicroTime),
        ]),
    ),
    field(12, "action", Kind::Text),
    field(13, "related", Kind::Message(OBJECT_REFERENCE)),
    field(14, "reportingComponent", Kind::Text),
    field(15, "reportingInstance", Kind::Text),
];

const LEASE: &[Field] = &[
    METADATA,
    field(
        2,
        "spec",
        Kind::Message(&[
            field(1, "holderIdentity", Kind::Text),
            field(2, "leaseDurationSeconds", Kind::Number),
            field(3, "acquireTime", Kind::MicroTime),
            field(4, "renewTime", Kind::MicroTime),
            field(5, "leaseTransitions", Kind::Number),
            field(6, "strategy", Kind::Text),
            field(7, "preferredHolder", Kind::Text),
        ]),
    ),
];

const ACCESS_REVIEW: &[Field] = &[
    METADATA,
    field(
        2,
        "spec",
        Kind::Message(&[
            field(
                1,
                "resourceAttributes",
                Kind::Message(&[
                    field(1, "namespace", Kind::Text),
                    field(2, "verb", Kind::Text),
                    field(3, "group", Kind::Text),
                    field(4, "version", Kind::Text),
                    field(5, "resource", Kind::Text),
                    field(6, "subresource", Kind::Text),
                    field(7, "name", Kind::Text),
                ]),
            ),
            field(
                2,
                "nonResourceAttributes",
                Kind::Message(&[field(1, "path", Kind::Text), field(2, "verb", Kind::Text)]),
            ),
        ]),
    ),
];

const RULES_REVIEW: &[Field] =
    &[METADATA, field(2, "spec", Kind::Message(&[field(1, "namespace", Kind::Text)]))];

const SUBJECT_REVIEW: &[Field] = &[METADATA];

const DELETE_OPTIONS: &[Field] = &[
    field(1, "gracePeriodSeconds", Kind::Number),
    field(
        2,
        "preconditions",
        Kind::Message(&[field(1, "uid", Kind::Text), field(2, "resourceVersion", Kind::Text)]),
    ),
    field(3, "orphanDependents", Kind::Flag),
    field(4, "propagationPolicy", Kind::Text),
    field(5, "dryRun", Kind::List(&Kind::Text)),
];
