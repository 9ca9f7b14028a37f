//! What admission asks of each kind: to fill in, to check, and to check against what it replaces.

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::FieldErrors;
use crate::broker::Broker;
use crate::config_map::ConfigMap;
use crate::custom_resource_definition::CustomResourceDefinition;
use crate::event::Event;
use crate::github_source::GitHubSource;
use crate::lease::Lease;
use crate::namespace::Namespace;
use crate::object::Rules;
use crate::ping_source::PingSource;
use crate::secret::Secret;
use crate::service_account::ServiceAccount;
use crate::trigger::Trigger;

/// A kind that is served.
pub(super) trait Kind: Serialize + DeserializeOwned {
    /// Fills in what the user left out.
    fn defaults(&mut self, rules: &Rules<'_>);

    /// What is wrong with it.
    fn validate(&self, rules: &Rules<'_>) -> FieldErrors;

    /// What cannot change from `old`.
    fn validate_update(&self, _old: &Self) -> FieldErrors {
        FieldErrors::new()
    }
}

impl Kind for Broker {
    fn defaults(&mut self, rules: &Rules<'_>) {
        self.defaults(rules.broker_defaults);
    }

    fn validate(&self, rules: &Rules<'_>) -> FieldErrors {
        self.validate(rules.broker_defaults)
    }

    fn validate_update(&self, old: &Self) -> FieldErrors {
        self.validate_update(old)
    }
}

impl Kind for Trigger {
    fn defaults(&mut self, _: &Rules<'_>) {
        self.defaults();
    }

    fn validate(&self, rules: &Rules<'_>) -> FieldErrors {
        self.validate(rules.cesql)
    }

    fn validate_update(&self, old: &Self) -> FieldErrors {
        self.validate_update(old)
    }
}

impl Kind for PingSource {
    fn defaults(&mut self, _: &Rules<'_>) {
        self.defaults();
    }

    fn validate(&self, rules: &Rules<'_>) -> FieldErrors {
        self.validate(rules.schedule, rules.ping_defaults)
    }
}

impl Kind for Namespace {
    // What a Namespace has without being asked is the server's to write.
    fn defaults(&mut self, _: &Rules<'_>) {}

    fn validate(&self, _: &Rules<'_>) -> FieldErrors {
        self.validate()
    }
}

impl Kind for CustomResourceDefinition {
    fn defaults(&mut self, _: &Rules<'_>) {}

    fn validate(&self, _: &Rules<'_>) -> FieldErrors {
        self.validate()
    }
}

impl Kind for ConfigMap {
    fn defaults(&mut self, _: &Rules<'_>) {
        self.defaults();
    }

    fn validate(&self, _: &Rules<'_>) -> FieldErrors {
        self.validate()
    }

    fn validate_update(&self, old: &Self) -> FieldErrors {
        self.validate_update(old)
    }
}

impl Kind for Secret {
    fn defaults(&mut self, _: &Rules<'_>) {
        self.defaults();
    }

    fn validate(&self, _: &Rules<'_>) -> FieldErrors {
        self.validate()
    }

    fn validate_update(&self, old: &Self) -> FieldErrors {
        self.validate_update(old)
    }
}

/// For kinds that decide by themselves.
macro_rules! plain {
    ($($kind:ty),*) => {
        $(impl Kind for $kind {
            fn defaults(&mut self, _: &Rules<'_>) {
                self.defaults();
            }

            fn validate(&self, _: &Rules<'_>) -> FieldErrors {
                self.validate()
            }
        })*
    };
}

plain!(GitHubSource, Event, ServiceAccount, Lease);
