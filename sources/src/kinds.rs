//! What follows from the list of kinds, which is in `lib.rs`.

use crds::condition::Status;
use crds::meta::ObjectMeta;
use crds::resource::Resource;
use crds::source::SourceObject;
use serde::Deserialize;
use serde_json::Value;

use crate::source::Source;
use crate::{ALL, Config, RESOURCES};

/// What the list says about one kind.
#[derive(Clone, Copy, Debug)]
pub struct Kind {
    /// What the resource is called.
    pub name: &'static str,
    /// The name of its file, and of its directory in `examples/`.
    pub module: &'static str,
    /// [`Source::WORKS`].
    pub works: &'static str,
    /// [`Source::CONDITIONS`].
    pub conditions: &'static [&'static str],
    /// [`Source::RUNS_PROGRAMS`].
    pub runs_programs: bool,
    /// Reads a resource of the kind and fills in its defaults; the status is left out.
    pub read: fn(&Value) -> Result<Object, serde_json::Error>,
}

impl Kind {
    /// How an API server serves it.
    #[must_use]
    pub fn resource(&self) -> &'static Resource {
        let found = RESOURCES.iter().find(|resource| resource.kind == self.name);
        found.expect("both lists are made of one")
    }
}

/// The resource of a source of any kind.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Object {
    /// Name, labels, annotations.
    pub metadata: ObjectMeta,
    /// What is wanted of it; nothing if it could not be read.
    pub spec: Option<Config>,
    /// What was last said of it.
    pub status: Option<Status>,
}

pub(crate) fn read<S: Source + Into<Config>>(value: &Value) -> Result<Object, serde_json::Error> {
    let mut object = SourceObject::<S>::deserialize(value)?;
    object.defaults();
    Ok(Object { metadata: object.metadata, spec: Some(object.spec.into()), status: None })
}

/// Makes of a list of kinds what knows all of them.
macro_rules! sources {
    ($($module:ident::$source:ident),+ $(,)?) => {
        $(use $crate::$module::$source;)+

        /// What is wanted of one source, of any kind.
        #[expect(clippy::enum_variant_names, reason = "Knative's kinds all end in Source")]
        #[derive(Clone, Debug, PartialEq)]
        #[non_exhaustive]
        pub enum Config {
            $(#[doc = concat!("A [`", stringify!($source), "`].")] $source(Box<$source>),)+
        }

        /// Every kind there is.
        pub static ALL: &[$crate::kinds::Kind] = &[$($crate::kinds::Kind {
            name: <$source as crds::source::SourceSpec>::RESOURCE.kind,
            module: stringify!($module),
            works: <$source as $crate::source::Source>::WORKS,
            conditions: <$source as $crate::source::Source>::CONDITIONS,
            runs_programs: <$source as $crate::source::Source>::RUNS_PROGRAMS,
            read: $crate::kinds::read::<$source>,
        },)+];

        /// How an API server serves them.
        pub static RESOURCES: &[crds::resource::Resource] = &[$(<$source as crds::source::SourceSpec>::RESOURCE,)+];

        impl Config {
            /// The name of the kind.
            #[must_use]
            pub fn kind_name(&self) -> &'static str {
                match self {
                    $(Self::$source(_) => <$source as crds::source::SourceSpec>::RESOURCE.kind,)+
                }
            }

            /// Where the events go.
            #[must_use]
            pub fn sink(&self) -> &crds::destination::Destination {
                use crds::source::SourceSpec;
                match self { $(Self::$source(spec) => spec.sink(),)+ }
            }

            /// What is changed in the events.
            #[must_use]
            pub fn ce_overrides(&self) -> Option<&crds::ce_overrides::CloudEventOverrides> {
                use crds::source::SourceSpec;
                match self { $(Self::$source(spec) => spec.ce_overrides(),)+ }
            }

            /// [`Source::hook`].
            #[must_use]
            pub fn hook(&self) -> bool {
                match self { $(Self::$source(spec) => $crate::source::Source::hook(&**spec),)+ }
            }

            /// [`Source::needs`].
            #[must_use]
            pub fn needs(&self, about: &$crate::source::About) -> Vec<$crate::given::Need> {
                match self { $(Self::$source(spec) => $crate::source::Source::needs(&**spec, about),)+ }
            }

            /// [`Source::attributes`].
            #[must_use]
            pub fn attributes(&self, about: &$crate::source::About, given: &$crate::given::Given) -> Vec<crds::condition::CloudEventAttributes> {
                match self { $(Self::$source(spec) => $crate::source::Source::attributes(&**spec, about, given),)+ }
            }

            /// [`Source::leaves_traces`].
            #[must_use]
            pub fn leaves_traces(&self, about: &$crate::source::About) -> bool {
                match self { $(Self::$source(spec) => $crate::source::Source::leaves_traces(&**spec, about),)+ }
            }

            /// [`Source::pod_template`].
            #[must_use]
            pub fn pod_template(&self, sink_url: &str, ca_certs: Option<&str>) -> Option<serde_json::Value> {
                match self { $(Self::$source(spec) => $crate::source::Source::pod_template(&**spec, sink_url, ca_certs),)+ }
            }

            /// [`Source::run`].
            pub(crate) async fn run(self, ctx: $crate::source::Context) -> Result<(), $crate::source::SourceError> {
                match self { $(Self::$source(spec) => $crate::source::Source::run(*spec, ctx).await,)+ }
            }

            /// [`Source::retire`].
            pub(crate) async fn retire(self, ctx: $crate::source::Context) -> Result<(), $crate::source::SourceError> {
                match self { $(Self::$source(spec) => $crate::source::Source::retire(*spec, ctx).await,)+ }
            }
        }

        $(impl From<$source> for Config {
            fn from(spec: $source) -> Self {
                Self::$source(Box::new(spec))
            }
        })+
    };
}

pub(crate) use sources;

impl Config {
    /// What the list says about this kind.
    #[must_use]
    pub fn kind(&self) -> &'static Kind {
        let name = self.kind_name();
        ALL.iter()
            .find(|kind| kind.name == name)
            .expect("the list that made the variant has its kind")
    }
}

#[cfg(test)]
mod tests;
