//! What is wanted of a `PingSource`: its fields, and what is refused with which words.

use base64::engine::general_purpose::STANDARD;
use base64::{DecodeError, Engine};
use crds::ce_overrides::CloudEventOverrides;
use crds::cron;
use crds::destination::Destination;
use crds::field_error::json_complaint;
use crds::meta::ObjectMeta;
use crds::object::Rules;
use crds::ping_defaults::PingDefaults;
use crds::resource::{AGE, Column, READY, REASON, Resource, Version};
use crds::source::{self, SINK, SourceSpec};
use crds::{FieldError, FieldErrors};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{Schedule, ScheduleError};

/// The schedule of a source that names none: every minute.
const DEFAULT_SCHEDULE: &str = "* * * * *";

const COLUMNS: &[Column] = &[
    SINK,
    Column {
        name: "Schedule",
        kind: "string",
        path: ".spec.schedule",
        priority: 0,
        description: "When it sends an event.",
    },
    AGE,
    READY,
    REASON,
];

/// A `PingSource` sends an event with a fixed payload to its sink whenever its schedule says so.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
#[schemars(extend("required" = ["sink"], "x-kubernetes-validations" = [{
    "rule": "!(has(self.data) && self.data != '' && has(self.dataBase64) && self.dataBase64 != '')",
    "message": "expected exactly one, got both: spec.data, spec.dataBase64",
}]))]
pub struct PingSource {
    /// When an event is sent: a cron expression of five fields, or of six that start with seconds, or `@hourly` and the
    /// like. Every minute if it is absent.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub schedule: String,
    /// The time zone of the schedule, as in `Europe/Berlin`; UTC if it is absent.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub timezone: String,
    /// The media type of the data, which becomes the event's `datacontenttype`. With `application/json` the data must be a
    /// JSON object.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub content_type: String,
    /// The data of the events, as text. Excludes `dataBase64`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub data: String,
    /// The data of the events, as Base64. Excludes `data`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub data_base64: String,
    /// Where the events go; required.
    pub sink: Destination,
    /// What is changed in the events before they are sent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ce_overrides: Option<CloudEventOverrides>,
}

impl SourceSpec for PingSource {
    const RESOURCE: Resource = Resource {
        kind: "PingSource",
        plural: "pingsources",
        singular: "pingsource",
        versions: &[
            Version {
                name: "v1",
                deprecated: None,
                columns: COLUMNS,
                schema: source::schema::<Self>,
            },
            Version {
                name: "v1beta2",
                deprecated: Some(
                    "sources.knative.dev/v1beta2 PingSource is deprecated; see \
                     https://knative.dev/docs/eventing/sources/ping-source/ for instructions to migrate to \
                     sources.knative.dev/v1 PingSource",
                ),
                columns: COLUMNS,
                schema: source::schema::<Self>,
            },
        ],
        annotations: &[(
            "registry.knative.dev/eventTypes",
            r#"[{"type":"dev.knative.sources.ping","description":"A fixed payload on a schedule"}]"#,
        )],
        ..source::resource::<Self>()
    };

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
            DEFAULT_SCHEDULE.clone_into(&mut self.schedule);
        }
    }

    fn validate(&self, _: &ObjectMeta, rules: &Rules<'_>) -> FieldErrors {
        let mut errors = FieldErrors::new();
        let timing = self.timing();
        if let Some(Err(error)) = timing.timezone.map(cron::check_timezone) {
            errors.push(FieldError::invalid(error, "timezone"));
        } else if let Err(error) = cron::check(timing.expression) {
            errors.push(FieldError::invalid(error, "schedule"));
        } else if let Err(ScheduleError::Schedule(why) | ScheduleError::Timezone(why)) =
            self.schedule()
        {
            errors.push(FieldError::invalid(&self.schedule, "schedule").with_details(why));
        }
        if self.content_type.chars().any(char::is_control) {
            let error = FieldError::invalid(format_args!("{:?}", self.content_type), "contentType");
            errors.push(error.with_details("it becomes a header, which has no control characters"));
        }
        errors.also(self.validate_data(rules.ping_defaults));
        errors
    }
}

impl PingSource {
    /// When it fires.
    pub(super) fn schedule(&self) -> Result<Schedule, ScheduleError> {
        let timezone = Some(self.timezone.as_str()).filter(|timezone| !timezone.is_empty());
        Schedule::parse(&self.schedule, timezone)
    }

    /// The schedule without its time zone, and the time zone from either place.
    pub(super) fn timing(&self) -> cron::Schedule<'_> {
        if self.timezone.is_empty() {
            cron::Schedule::split(&self.schedule)
        } else {
            cron::Schedule { timezone: Some(&self.timezone), expression: &self.schedule }
        }
    }

    fn validate_data(&self, limits: PingDefaults) -> FieldErrors {
        let mut errors = FieldErrors::new();
        let both = !self.data.is_empty() && !self.data_base64.is_empty();
        for (field, text) in [("data", &self.data), ("dataBase64", &self.data_base64)] {
            if let Err(error) = limits.check(field, text)
                && !both
            {
                errors.push(FieldError::invalid(error, field));
            }
        }
        let json = self.content_type == "application/json";
        let checked = match (self.data.is_empty(), self.data_base64.is_empty()) {
            (true, true) => Ok(()),
            (false, false) => return FieldError::multiple_one_of(["data", "dataBase64"]).into(),
            (false, true) if json => {
                check_json(self.data.as_bytes()).map_err(|error| (error, "data"))
            }
            (false, true) => Ok(()),
            (true, false) => match decode(&self.data_base64) {
                Ok(bytes) if json => check_json(&bytes).map_err(|error| (error, "dataBase64")),
                Ok(_) => Ok(()),
                Err(error) => Err((error.to_string(), "dataBase64")),
            },
        };
        if let Err((error, field)) = checked {
            errors.push(FieldError::invalid(error, field));
        }
        errors
    }
}

/// As Knative's decoder, this overlooks the ends of lines that YAML makes of long texts.
pub(super) fn decode(encoded: &str) -> Result<Vec<u8>, DecodeError> {
    let digits: Vec<u8> = encoded.bytes().filter(|byte| !matches!(byte, b'\r' | b'\n')).collect();
    STANDARD.decode(digits)
}

/// Knative wants an object where the media type says JSON.
fn check_json(bytes: &[u8]) -> Result<(), String> {
    let kind = match serde_json::from_slice(bytes) {
        Ok(Value::Object(_) | Value::Null) => return Ok(()),
        Ok(Value::Array(_)) => "array",
        Ok(Value::String(_)) => "string",
        Ok(Value::Number(_)) => "number",
        Ok(Value::Bool(_)) => "bool",
        Err(error) => return Err(json_complaint(&error)),
    };
    Err(format!("json: cannot unmarshal {kind} into Go value of type map[string]interface {{}}"))
}

#[cfg(test)]
mod tests;
