//! What admission asks of the kinds of this crate.

use super::Kind;
use crate::FieldErrors;
use crate::broker::Broker;
use crate::config_map::ConfigMap;
use crate::custom_resource_definition::CustomResourceDefinition;
use crate::event::Event;
use crate::lease::Lease;
use crate::meta::ObjectMeta;
use crate::namespace::Namespace;
use crate::object::Rules;
use crate::secret::Secret;
use crate::service_account::ServiceAccount;
use crate::trigger::Trigger;

impl Kind for Broker {
    fn metadata(&self) -> &ObjectMeta {
        &self.metadata
    }

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
    fn metadata(&self) -> &ObjectMeta {
        &self.metadata
    }

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

impl Kind for Namespace {
    fn metadata(&self) -> &ObjectMeta {
        &self.metadata
    }

    // What a Namespace has without being asked is the server's to write.
    fn defaults(&mut self, _: &Rules<'_>) {}

    fn validate(&self, _: &Rules<'_>) -> FieldErrors {
        self.validate()
    }
}

impl Kind for CustomResourceDefinition {
    fn metadata(&self) -> &ObjectMeta {
        &self.metadata
    }

    fn defaults(&mut self, _: &Rules<'_>) {}

    fn validate(&self, _: &Rules<'_>) -> FieldErrors {
        self.validate()
    }
}

impl Kind for ConfigMap {
    fn metadata(&self) -> &ObjectMeta {
        &self.metadata
    }

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
    fn metadata(&self) -> &ObjectMeta {
        &self.metadata
    }

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
            fn metadata(&self) -> &ObjectMeta {
                &self.metadata
            }

            fn defaults(&mut self, _: &Rules<'_>) {
                self.defaults();
            }

            fn validate(&self, _: &Rules<'_>) -> FieldErrors {
                self.validate()
            }
        })*
    };
}

plain!(Event, ServiceAccount, Lease);
