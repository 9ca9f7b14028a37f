//! A kind of source as it is declared elsewhere, for the tests of this crate; and what all kinds get.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::*;
use crate::FieldError;
use crate::broker_defaults::BrokerDefaults;
use crate::ping_defaults::PingDefaults;
use crate::resource::{Catalog, Scale, Version};

/// The kinds of this crate, and one source.
pub(crate) const CATALOG: Catalog = Catalog::new(SOURCES);
const SOURCES: &[Resource] = &[TickSource::RESOURCE];

/// On a tick source: how loud it is.
const LOUD: &str = "weft.dev/loud";

/// A `TickSource` sends its data now and then.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
#[schemars(extend("required" = ["sink"]))]
pub(crate) struct TickSource {
    /// What it sends.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(crate) data: String,
    /// How many send it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) consumers: Option<u32>,
    /// Where the events go; required.
    pub(crate) sink: Destination,
    /// What is changed in the events before they are sent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) ce_overrides: Option<CloudEventOverrides>,
}

impl SourceSpec for TickSource {
    const RESOURCE: Resource = Resource {
        kind: "TickSource",
        plural: "ticksources",
        singular: "ticksource",
        short_names: &["tick"],
        versions: &[
            Version {
                name: "v1",
                deprecated: None,
                columns: &[SINK, AGE, READY, REASON],
                schema: schema::<Self>,
            },
            Version {
                name: "v1beta1",
                deprecated: Some("sources.knative.dev/v1beta1 TickSource is deprecated"),
                columns: &[SINK, AGE, READY, REASON],
                schema: schema::<Self>,
            },
        ],
        annotations: &[("registry.knative.dev/eventTypes", r#"[{"type":"tick"}]"#)],
        scale: Some(Scale {
            spec_replicas: ".spec.consumers",
            status_replicas: ".status.consumers",
            label_selector: Some(".status.selector"),
        }),
        ..resource::<Self>()
    };
    const ANNOTATIONS: &'static [&'static str] = &[LOUD];
    const FACTS: &'static [Fact] =
        &[Fact { name: "consumers", kind: "integer", description: "How many there are." }];

    fn sink(&self) -> &Destination {
        &self.sink
    }

    fn sink_mut(&mut self) -> &mut Destination {
        &mut self.sink
    }

    fn ce_overrides(&self) -> Option<&CloudEventOverrides> {
        self.ce_overrides.as_ref()
    }

    fn defaults(&mut self, metadata: &ObjectMeta) {
        if self.data.is_empty() {
            self.data.clone_from(&metadata.namespace);
        }
    }

    fn validate(&self, _: &ObjectMeta, rules: &Rules<'_>) -> FieldErrors {
        match rules.ping_defaults.check("data", &self.data) {
            Ok(()) => FieldErrors::new(),
            Err(error) => FieldError::invalid(error, "data").into(),
        }
    }

    fn validate_annotations(metadata: &ObjectMeta) -> FieldErrors {
        match metadata.annotation(LOUD) {
            None | Some("very") => FieldErrors::new(),
            Some(other) => FieldError::invalid(other, annotation::path(LOUD)).into(),
        }
    }

    fn validate_update(&self, old: &Self) -> FieldErrors {
        if self.data == old.data {
            FieldErrors::new()
        } else {
            FieldError::new("Immutable fields changed (-old +new)", ["data"]).into()
        }
    }
}

type Tick = SourceObject<TickSource>;

#[expect(clippy::needless_pass_by_value, reason = "json! makes values")]
fn tick(spec: Value) -> Tick {
    let object = json!({"metadata": {"name": "t", "namespace": "n"}, "spec": spec});
    let mut tick: Tick = serde_json::from_value(object).unwrap();
    tick.defaults();
    tick
}

fn refusal_within(tick: &Tick, data_max_size: Option<u64>) -> String {
    let rules = Rules {
        catalog: CATALOG,
        cesql: &|_| Ok(()),
        broker_defaults: &BrokerDefaults::builtin(),
        ping_defaults: PingDefaults { data_max_size },
    };
    tick.validate(&rules).to_string()
}

fn refusal(tick: &Tick) -> String {
    refusal_within(tick, None)
}

#[test]
fn the_sinks_namespace_and_what_the_kind_fills_in_are_filled_in() {
    let tick = tick(json!({"sink": {"ref": {"apiVersion": "v1", "kind": "Service", "name": "s"}}}));
    assert_eq!(refusal(&tick), "");
    assert_eq!(tick.spec.data, "n");
    assert_eq!(tick.spec.sink.reference.as_ref().unwrap().namespace, "n");
    let mut bare = Tick::default();
    bare.defaults();
    assert_eq!((bare.metadata.namespace.as_str(), bare.spec.data.as_str()), ("default", "default"));
}

#[test]
fn what_all_sources_have_is_checked_beside_what_the_kind_has() {
    let tick = tick(json!({"data": "fives", "ceOverrides": {"extensions": {"a-b": "x"}}}));
    let expected = "expected at least one, got none: spec.sink.ref, spec.sink.uri\n\
        invalid key name \"a-b\": spec.ceOverrides.extensions\nkeys are expected to be alphanumeric\n\
        invalid value: the data length of 5 bytes exceeds limit set at 4.: spec.data";
    assert_eq!(refusal_within(&tick, Some(4)), expected);
}

#[test]
fn annotations_of_the_kind_are_read_and_others_are_refused() {
    let annotated = |key: &str, value: &str| {
        let mut tick = tick(json!({"sink": {"uri": "http://s/"}}));
        tick.metadata.annotations.insert(key.to_owned(), value.to_owned());
        refusal(&tick)
    };
    assert_eq!(annotated(LOUD, "very"), "");
    assert_eq!(annotated(LOUD, "less"), "invalid value: less: metadata.annotations[weft.dev/loud]");
    let unknown = annotated("weft.dev/lod", "very");
    assert!(unknown.ends_with("\na TickSource may have weft.dev/loud"), "{unknown}");
}

#[test]
fn what_cannot_change_is_named_within_the_spec() {
    let old = tick(json!({"data": "a", "sink": {"uri": "http://s/"}}));
    let mut new = old.clone();
    new.spec.sink = Destination::at("http://t/");
    assert_eq!(Kind::validate_update(&new, &old).to_string(), "");
    "b".clone_into(&mut new.spec.data);
    assert_eq!(
        Kind::validate_update(&new, &old).to_string(),
        "Immutable fields changed (-old +new): spec.data"
    );
}

#[test]
fn an_object_is_written_as_it_was_read() {
    let object = json!({
        "apiVersion": "sources.knative.dev/v1", "kind": "TickSource", "metadata": {"name": "t"},
        "spec": {"consumers": 2, "sink": {"uri": "http://s/"}},
        "status": {"observedGeneration": 1, "sinkUri": "http://s/", "consumers": 2, "newer": {"field": [1]}},
    });
    let read: Tick = serde_json::from_value(object.clone()).unwrap();
    assert_eq!(read.status.as_ref().unwrap().facts["consumers"], 2);
    assert_eq!(serde_json::to_value(&read).unwrap(), object);
}

#[test]
fn a_kind_has_what_all_sources_have_unless_it_says_otherwise() {
    let resource = CATALOG.find(GROUP, "ticksources").unwrap();
    assert_eq!(resource.categories, ["all", "knative", "sources"]);
    assert_eq!(resource.labels.len(), 4);
    assert!(resource.is_custom() && resource.namespaced && resource.status && resource.writable);
    assert_eq!(resource.in_files, InFiles::Configured);
}
