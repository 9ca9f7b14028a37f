//! What is watched: the kinds of the mesh, those of all sources and sinks, and what else can be sent to.

use std::sync::LazyLock;

use crds::resource::Resource;
use crds::sink_binding::SinkBindingSpec;
use crds::source::SourceSpec;
use kube::core::ApiResource;
use sources::sinks;

/// A kind that is watched.
#[derive(Debug)]
pub(crate) struct Watched {
    pub(crate) group: &'static str,
    pub(crate) version: &'static str,
    pub(crate) kind: &'static str,
    pub(crate) plural: &'static str,
    pub(crate) keep: Keep,
    pub(crate) need: Need,
}

/// What is kept of an object.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Keep {
    Broker,
    Trigger,
    Binding,
    Source(&'static sources::Kind),
    Sink(&'static sinks::Kind),
    Secret,
    ConfigMap,
    /// Where it is reached and whether it is ready.
    Address,
    /// Whose it is and whether it is available.
    Deployment,
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
pub(crate) static WATCHED: LazyLock<Vec<Watched>> = LazyLock::new(|| {
    let sources = sources::ALL.iter().map(|kind| added(kind.resource(), Keep::Source(kind)));
    let sinks = sinks::ALL.iter().map(|kind| added(kind.resource(), Keep::Sink(kind)));
    let binding = [added(&BINDING, Keep::Binding)];
    OWN.into_iter().chain(binding).chain(sources).chain(sinks).chain(OTHERS).collect()
});

const OWN: [Watched; 2] =
    [eventing("Broker", "brokers", Keep::Broker), eventing("Trigger", "triggers", Keep::Trigger)];

static BINDING: Resource = SinkBindingSpec::RESOURCE;

const OTHERS: [Watched; 8] = [
    DEPLOYMENT,
    core("Secret", "secrets", Keep::Secret, Need::Always),
    core("ConfigMap", "configmaps", Keep::ConfigMap, Need::Always),
    core("Service", "services", Keep::Address, Need::IfServed),
    addressable("serving.knative.dev", "Service", "services"),
    addressable("messaging.knative.dev", "Channel", "channels"),
    addressable("flows.knative.dev", "Sequence", "sequences"),
    addressable("flows.knative.dev", "Parallel", "parallels"),
];

/// What a cluster runs for sources; of all Deployments, only those are watched.
pub(crate) const DEPLOYMENT: Watched = Watched {
    group: "apps",
    version: "v1",
    kind: "Deployment",
    plural: "deployments",
    keep: Keep::Deployment,
    need: Need::IfServed,
};

/// The label of Deployments with the name of the source that they are of.
pub(crate) const DEPLOYED_FOR: &str = "sources.knative.dev/containerSource";

const fn eventing(kind: &'static str, plural: &'static str, keep: Keep) -> Watched {
    let (group, version) = ("eventing.knative.dev", "v1");
    Watched { group, version, kind, plural, keep, need: Need::Always }
}

/// In the version that it is stored in.
fn added(resource: &'static Resource, keep: Keep) -> Watched {
    Watched {
        group: resource.group,
        version: resource.versions.first().map_or("v1", |version| version.name),
        kind: resource.kind,
        plural: resource.plural,
        keep,
        need: Need::IfServed,
    }
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

    /// The label that all objects have that are watched, if not all are.
    pub(crate) fn label(&self) -> Option<&'static str> {
        matches!(self.keep, Keep::Deployment).then_some(DEPLOYED_FOR)
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
    let ours = |watched: &&Watched| {
        matches!(
            watched.keep,
            Keep::Broker | Keep::Trigger | Keep::Binding | Keep::Source(_) | Keep::Sink(_)
        )
    };
    WATCHED.iter().filter(ours).find(|watched| watched.kind == kind)
}
