//! The `ConfigMap` `config-ping-defaults`: what `PingSources` are held to.

use crate::config_map::ConfigMap;

/// The name of the `ConfigMap`.
pub const NAME: &str = "config-ping-defaults";
/// The key with the largest `data`, in bytes.
pub const KEY: &str = "data-max-size";
/// How Knative's own webhook calls the same key.
const KEY_OF_THE_WEBHOOK: &str = "dataMaxSize";

/// What `PingSources` are held to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PingDefaults {
    /// The largest `data`, and the largest `dataBase64` as it is written; no limit if absent.
    pub data_max_size: Option<u64>,
}

/// Why a `ConfigMap` holds no defaults.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{value:?} is not a number of bytes; -1 stands for no limit")]
pub struct PingDefaultsError {
    /// The key it stands under.
    pub key: &'static str,
    value: String,
}

impl PingDefaultsError {
    /// Always false: the text stays what it is.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        false
    }
}

impl PingDefaults {
    /// Reads the `ConfigMap`; without the key, or with a negative number, there is no limit.
    ///
    /// # Errors
    /// When the value is not a number.
    pub fn read(config: &ConfigMap) -> Result<Self, PingDefaultsError> {
        for key in [KEY, KEY_OF_THE_WEBHOOK] {
            let Some(value) = config.data.get(key).filter(|value| !value.is_empty()) else {
                continue;
            };
            let bytes: i64 =
                value.parse().map_err(|_| PingDefaultsError { key, value: value.clone() })?;
            return Ok(Self { data_max_size: u64::try_from(bytes).ok() });
        }
        Ok(Self::default())
    }

    /// Refuses a text that is too long; `field` is how the refusal calls it.
    ///
    /// # Errors
    /// What is wrong, in Knative's words.
    pub fn check(self, field: &str, text: &str) -> Result<(), String> {
        match self.data_max_size {
            Some(most) if u64::try_from(text.len()).is_ok_and(|size| size > most) => Err(format!(
                "the {field} length of {} bytes exceeds limit set at {most}.",
                text.len()
            )),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(key: &str, value: &str) -> Result<PingDefaults, PingDefaultsError> {
        let mut config = ConfigMap::default();
        config.data.insert(key.to_owned(), value.to_owned());
        PingDefaults::read(&config)
    }

    #[test]
    fn a_limit_is_read_from_either_key_and_none_is_none() {
        let limit = |data_max_size| Ok(PingDefaults { data_max_size });
        assert_eq!(PingDefaults::read(&ConfigMap::default()), limit(None));
        assert_eq!(read("data-max-size", "4096"), limit(Some(4096)));
        assert_eq!(read("dataMaxSize", "0"), limit(Some(0)));
        assert_eq!(read("data-max-size", "-1"), limit(None));
        assert_eq!(read("data-max-size", ""), limit(None));
        assert_eq!(read("other", "x"), limit(None));
        assert_eq!(
            read("data-max-size", "4k").unwrap_err().to_string(),
            "\"4k\" is not a number of bytes; -1 stands for no limit"
        );
    }
}
