//! What follows from the list of kinds, which is in `sinks.rs`.

use crds::condition::Status;
use crds::meta::ObjectMeta;
use crds::resource::Resource;
use crds::sink::SinkObject;
use serde::Deserialize;
use serde_json::Value;

use super::sink::EventSink;
use super::{ALL, Config, RESOURCES};

/// What the list says about one kind.
#[derive(Clone, Copy, Debug)]
pub struct Kind {
    /// What the resource is called.
    pub name: &'static str,
    /// The name of its file, and of its manifest in `examples/sinks/`.
    pub module: &'static str,
    /// [`EventSink::WORKS`].
    pub works: &'static str,
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

/// The resource of a sink of any kind.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Object {
    /// Name, labels, annotations.
    pub metadata: ObjectMeta,
    /// What is wanted of it; nothing if it could not be read.
    pub spec: Option<Config>,
    /// What was last said of it.
    pub status: Option<Status>,
}

pub(crate) fn read<S: EventSink + Into<Config>>(
    value: &Value,
) -> Result<Object, serde_json::Error> {
    let mut object = SinkObject::<S>::deserialize(value)?;
    object.defaults();
    Ok(Object { metadata: object.metadata, spec: Some(object.spec.into()), status: None })
}

/// Makes of a list of kinds what knows all of them.
macro_rules! sinks {
    ($($module:ident::$sink:ident),+ $(,)?) => {
        $(use $module::$sink;)+

        /// What is wanted of one sink, of any kind.
        #[expect(clippy::enum_variant_names, reason = "all kinds end in Sink, as Knative's do")]
        #[derive(Clone, Debug, PartialEq)]
        #[non_exhaustive]
        pub enum Config {
            $(#[doc = concat!("A [`", stringify!($sink), "`].")] $sink(Box<$sink>),)+
        }

        /// Every kind there is.
        pub static ALL: &[Kind] = &[$(Kind {
            name: <$sink as crds::sink::SinkSpec>::RESOURCE.kind,
            module: stringify!($module),
            works: <$sink as EventSink>::WORKS,
            read: kinds::read::<$sink>,
        },)+];

        /// How an API server serves them.
        pub static RESOURCES: &[crds::resource::Resource] =
            &[$(<$sink as crds::sink::SinkSpec>::RESOURCE,)+];

        impl Config {
            /// The name of the kind.
            #[must_use]
            pub fn kind_name(&self) -> &'static str {
                match self { $(Self::$sink(_) => <$sink as crds::sink::SinkSpec>::RESOURCE.kind,)+ }
            }

            /// [`EventSink::needs`].
            #[must_use]
            pub fn needs(&self, about: &crate::About) -> Vec<crate::Need> {
                match self { $(Self::$sink(spec) => EventSink::needs(&**spec, about),)+ }
            }

            /// [`EventSink::run`].
            pub(crate) async fn run(self, ctx: Context) -> Result<(), crate::SourceError> {
                match self { $(Self::$sink(spec) => EventSink::run(*spec, ctx).await,)+ }
            }
        }

        $(impl From<$sink> for Config {
            fn from(spec: $sink) -> Self {
                Self::$sink(Box::new(spec))
            }
        })+
    };
}

pub(crate) use sinks;

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
