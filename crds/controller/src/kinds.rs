//! What is watched. A new kind is a line in [`WATCHED`], and a table in the world if more than its address counts.

use kube::core::ApiResource;

/// A kind that is watched.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Watched {
    pub(crate) group: &'static str,
    pub(crate) version: &'static str,
    pub(crate) kind: &'static str,
    pub(crate) plural: &'static str,
    pub(crate) keep: Keep,
    pub(crate) need: Need,
}

/// What is kept of an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Keep {
    Broker,
    Trigger,
    PingSource,
    GitHubSource,
    Secret,
    ConfigMap,
    /// Where it is reached and whether it is ready.
    Address,
}

/// What it means that the server does not know the kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Need {
    /// Something is wrong: planning without it would remove what it declares, so nothing is planned.
    Always,
    /// There are none.
    IfServed,
}

/// Every kind that is watched.
pub(crate) static WATCHED: &[Watched] = &[
    eventing("Broker", "brokers", Keep::Broker),
    eventing("Trigger", "triggers", Keep::Trigger),
    Watched {
        group: "sources.knative.dev",
        version: "v1",
        kind: "PingSource",
        plural: "pingsources",
        keep: Keep::PingSource,
        need: Need::IfServed,
    },
    Watched {
        group: "sources.knative.dev",
        version: "v1alpha1",
        kind: "GitHubSource",
        plural: "githubsources",
        keep: Keep::GitHubSource,
        need: Need::IfServed,
    },
    core("Secret", "secrets", Keep::Secret, Need::Always),
    core("ConfigMap", "configmaps", Keep::ConfigMap, Need::Always),
    core("Service", "services", Keep::Address, Need::IfServed),
    addressable("serving.knative.dev", "Service", "services"),
    addressable("messaging.knative.dev", "Channel", "channels"),
    addressable("flows.knative.dev", "Sequence", "sequences"),
    addressable("flows.knative.dev", "Parallel", "parallels"),
];

const fn eventing(kind: &'static str, plural: &'static str, keep: Keep) -> Watched {
    let (group, version) = ("eventing.knative.dev", "v1");
    Watched { group, version, kind, plural, keep, need: Need::Always }
}

const fn core(kind: &'static str, plural: &'static str, keep: Keep, need: Need) -> Watched {
    Watched { group: "", version: "v1", kind, plural, keep, need }
}

const fn addressable(group: &'static str, kind: &'static str, plural: &'static str) -> Watched {
    Watched { group, version: "v1", kind, plural, keep: Keep::Address, need: Need::IfServed }
}

impl Watched {
    /// `group/version`, or `version` of the core group.
    pub(crate) fn api_version(&self) -> String {
        if self.group.is_empty() {
            self.version.to_owned()
        } else {
            format!("{}/{}", self.group, self.version)
        }
    }

    /// As `kube` names it.
    pub(crate) fn api_resource(&self) -> ApiResource {
        ApiResource {
            group: self.group.to_owned(),
            version: self.version.to_owned(),
            api_version: self.api_version(),
            kind: self.kind.to_owned(),
            plural: self.plural.to_owned(),
        }
    }
}

/// The watched kind of that group and name, whatever the version.
pub(crate) fn find(group: &str, kind: &str) -> Option<&'static Watched> {
    WATCHED.iter().find(|watched| watched.group == group && watched.kind == kind)
}

/// The kind whose status is written, by the kind's name alone: none of these share it.
pub(crate) fn planned(kind: &str) -> Option<&'static Watched> {
    let ours = [Keep::Broker, Keep::Trigger, Keep::PingSource, Keep::GitHubSource];
    WATCHED.iter().find(|watched| watched.kind == kind && ours.contains(&watched.keep))
}
