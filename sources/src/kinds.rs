//! The list of kinds. A new one is its file, a `mod` line in `lib.rs` and a line at the end of this file.

use thiserror::Error;

use crate::github::GitHubSource;
use crate::ping::PingSource;
use crate::source::{Context, Source, SourceError};

/// What the list says about one kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kind {
    /// [`Source::KIND`].
    pub name: &'static str,
    /// [`Source::EXAMPLE`].
    pub example: &'static str,
    /// [`Source::HOOK`].
    pub hook: bool,
}

/// Why a configuration cannot be read.
#[derive(Debug, Error)]
pub enum ConfigError {
    /// Not a kind of [`ALL`].
    #[error("{kind:?} is not a kind of source this mesh can run")]
    UnknownKind {
        /// What was asked for.
        kind: String,
    },
    /// The fields do not fit the kind.
    #[error("read {kind}")]
    Fields {
        /// The kind.
        kind: &'static str,
        /// Which field, and why.
        #[source]
        source: serde_json::Error,
    },
}

impl ConfigError {
    /// Never: only another configuration helps.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        false
    }
}

macro_rules! sources {
    ($($variant:ident => $config:ident),+ $(,)?) => {
        /// The configuration of one source, of any kind.
        #[derive(Clone, Debug, PartialEq)]
        pub enum Config {
            $(#[doc = concat!("A [`", stringify!($config), "`].")] $variant($config),)+
        }

        /// Every kind there is.
        pub const ALL: &[Kind] = &[$(Kind {
            name: <$config as Source>::KIND,
            example: <$config as Source>::EXAMPLE,
            hook: <$config as Source>::HOOK,
        },)+];

        impl Config {
            /// Reads the configuration of a `kind` from its fields.
            ///
            /// # Errors
            /// When the kind is unknown or the fields do not fit it.
            pub fn parse(kind: &str, fields: serde_json::Value) -> Result<Self, ConfigError> {
                $(if kind == <$config as Source>::KIND {
                    let read = serde_json::from_value::<$config>(fields);
                    let failed = |source| ConfigError::Fields { kind: <$config as Source>::KIND, source };
                    return read.map(Self::$variant).map_err(failed);
                })+
                Err(ConfigError::UnknownKind { kind: kind.to_owned() })
            }

            /// What the list says about this kind.
            #[must_use]
            pub fn kind(&self) -> Kind {
                match self {
                    $(Self::$variant(_) => Kind {
                        name: <$config as Source>::KIND,
                        example: <$config as Source>::EXAMPLE,
                        hook: <$config as Source>::HOOK,
                    },)+
                }
            }

            /// Runs it, as [`Source::run`].
            pub(crate) async fn run(self, ctx: Context) -> Result<(), SourceError> {
                match self {
                    $(Self::$variant(config) => config.run(ctx).await,)+
                }
            }
        }

        $(impl From<$config> for Config {
            fn from(config: $config) -> Self {
                Self::$variant(config)
            }
        })+
    };
}

sources! {
    GitHub => GitHubSource,
    Ping => PingSource,
}

#[cfg(test)]
mod tests {
    use super::{ALL, Config, ConfigError};
    use std::collections::HashSet;

    #[test]
    fn names_are_unique_and_end_in_source() {
        let names: HashSet<_> = ALL.iter().map(|kind| kind.name).collect();
        assert_eq!(names.len(), ALL.len());
        assert!(names.iter().all(|name| name.ends_with("Source")), "{names:?}");
    }

    #[test]
    fn every_example_parses_as_its_kind() {
        for kind in ALL {
            let fields = serde_json::from_str(kind.example).unwrap();
            let config = Config::parse(kind.name, fields).unwrap();
            assert_eq!(config.kind(), *kind);
        }
    }

    #[test]
    fn unknown_fields_are_named() {
        for kind in ALL {
            let mut fields: serde_json::Value = serde_json::from_str(kind.example).unwrap();
            fields["wrongField"] = true.into();
            let Err(ConfigError::Fields { source, .. }) = Config::parse(kind.name, fields) else {
                panic!("{} accepted a field it does not have", kind.name);
            };
            assert!(source.to_string().contains("wrongField"), "{source}");
        }
    }

    #[test]
    fn unknown_kinds_are_refused() {
        let error = Config::parse("FaxSource", serde_json::Value::Null).unwrap_err();
        assert_eq!(error.to_string(), "\"FaxSource\" is not a kind of source this mesh can run");
        assert!(!error.is_retryable());
    }
}
