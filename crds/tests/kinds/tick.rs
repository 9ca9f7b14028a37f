//! A kind of source as it is declared elsewhere: with an old version, facts in its status, and a scale.

use crds::FieldErrors;
use crds::ce_overrides::CloudEventOverrides;
use crds::destination::Destination;
use crds::meta::ObjectMeta;
use crds::object::Rules;
use crds::resource::{Catalog, Column, Resource, Scale, Version};
use crds::source::{self, Fact, SourceSpec};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The kinds of the tests.
pub(crate) const CATALOG: Catalog = Catalog::new(&[TickSource::RESOURCE]);

const COLUMNS: &[Column] = &[source::SINK, source::AGE, source::READY, source::REASON];

/// A `TickSource` sends an event now and then.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
#[schemars(extend("required" = ["sink"]))]
pub(crate) struct TickSource {
    /// When it sends; every minute if it is absent.
    #[serde(skip_serializing_if = "String::is_empty")]
    schedule: String,
    /// How many send.
    #[serde(skip_serializing_if = "Option::is_none")]
    consumers: Option<u8>,
    /// Where the events go; required.
    sink: Destination,
    /// What is changed in the events before they are sent.
    #[serde(skip_serializing_if = "Option::is_none")]
    ce_overrides: Option<CloudEventOverrides>,
}

impl SourceSpec for TickSource {
    const RESOURCE: Resource = Resource {
        kind: "TickSource",
        plural: "ticksources",
        singular: "ticksource",
        versions: &[
            Version {
                name: "v1",
                deprecated: None,
                columns: COLUMNS,
                schema: source::schema::<Self>,
            },
            Version {
                name: "v1beta2",
                deprecated: Some("sources.knative.dev/v1beta2 TickSource is deprecated"),
                columns: COLUMNS,
                schema: source::schema::<Self>,
            },
        ],
        scale: Some(Scale {
            spec_replicas: ".spec.consumers",
            status_replicas: ".status.consumers",
            label_selector: Some(".status.selector"),
        }),
        ..source::resource::<Self>()
    };
    const FACTS: &'static [Fact] =
        &[Fact { name: "consumers", kind: "integer", description: "How many send." }];

    fn sink(&self) -> &Destination {
        &self.sink
    }

    fn sink_mut(&mut self) -> &mut Destination {
        &mut self.sink
    }

    fn ce_overrides(&self) -> Option<&CloudEventOverrides> {
        self.ce_overrides.as_ref()
    }

    fn defaults(&mut self, _: &ObjectMeta) {
        if self.schedule.is_empty() {
            "* * * * *".clone_into(&mut self.schedule);
        }
    }

    fn validate(&self, _: &ObjectMeta, _: &Rules<'_>) -> FieldErrors {
        match self.consumers {
            Some(many @ 10..) => crds::FieldError::invalid(many, "consumers").into(),
            _ => FieldErrors::new(),
        }
    }
}
