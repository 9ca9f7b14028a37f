//! Which kinds there are: those of this crate, and the sources and sinks that somebody adds.

use super::{InFiles, Resource, knative, kubernetes};
use crate::sink_binding::SinkBindingSpec;
use crate::source::SourceSpec;

static KNATIVE: [Resource; 3] = [knative::BROKER, knative::TRIGGER, SinkBindingSpec::RESOURCE];
static KUBERNETES: [Resource; 7] = [
    kubernetes::NAMESPACE,
    kubernetes::SECRET,
    kubernetes::CONFIG_MAP,
    kubernetes::EVENT,
    kubernetes::SERVICE_ACCOUNT,
    kubernetes::LEASE,
    kubernetes::CUSTOM_RESOURCE_DEFINITION,
];

/// Every kind that a server serves or a file may hold: those of this crate, and the sources and sinks that somebody adds.
#[derive(Clone, Copy)]
pub struct Catalog {
    sources: &'static [Resource],
    sinks: &'static [Resource],
}

impl Catalog {
    /// The kinds of this crate alone.
    pub const BUILTIN: Self = Self::new(&[]);

    /// The kinds of this crate and `sources`. No two kinds may share a name within a group, nor a plural, singular or short
    /// name with any other.
    #[must_use]
    pub const fn new(sources: &'static [Resource]) -> Self {
        Self { sources, sinks: &[] }
    }

    /// The same kinds and `sinks`.
    #[must_use]
    pub const fn and(self, sinks: &'static [Resource]) -> Self {
        Self { sinks, ..self }
    }

    /// All of them, the mesh's own first.
    pub fn iter(self) -> impl Iterator<Item = &'static Resource> + Clone {
        KNATIVE.iter().chain(self.sources).chain(self.sinks).chain(&KUBERNETES)
    }

    /// The kind of that group and plural.
    #[must_use]
    pub fn find(self, group: &str, plural: &str) -> Option<&'static Resource> {
        self.iter().find(|resource| resource.group == group && resource.plural == plural)
    }

    /// The kind of that name in that group.
    #[must_use]
    pub fn of_kind(self, group: &str, kind: &str) -> Option<&'static Resource> {
        self.iter().find(|resource| resource.group == group && resource.kind == kind)
    }

    /// Whether a file may hold objects of that kind in that version, as in `eventing.knative.dev/v1`.
    #[must_use]
    pub fn supports(self, api_version: &str, kind: &str) -> bool {
        self.supported(api_version, kind).is_some()
    }

    /// The kind of that name, if a file may hold its objects in that version.
    pub(crate) fn supported(self, api_version: &str, kind: &str) -> Option<&'static Resource> {
        let (group, version) = api_version.rsplit_once('/').unwrap_or(("", api_version));
        self.of_kind(group, kind).filter(|resource| {
            resource.in_files != InFiles::Never && resource.version(version).is_some()
        })
    }

    /// The kinds that a file may hold, with their versions.
    pub(crate) fn supports_what(self) -> Vec<(String, &'static str)> {
        self.iter()
            .filter(|resource| resource.in_files != InFiles::Never)
            .flat_map(Resource::served_as)
            .collect()
    }
}

impl std::fmt::Debug for Catalog {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.iter().map(Resource::full_name)).finish()
    }
}
