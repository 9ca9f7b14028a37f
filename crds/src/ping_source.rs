//! The ping source: an event by the clock.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::annotation;
use crate::ce_overrides::CloudEventOverrides;
use crate::condition::Status;
use crate::cron::{self, Schedule};
use crate::destination::Destination;
use crate::meta::ObjectMeta;
use crate::ping_defaults::PingDefaults;
use crate::trigger::json_complaint;
use crate::{FieldError, FieldErrors};

/// Group and version.
pub const API_VERSION: &str = "sources.knative.dev/v1";
/// An older version of the same shape.
pub const API_VERSION_OLD: &str = "sources.knative.dev/v1beta2";
/// The kind.
pub const KIND: &str = "PingSource";
/// The schedule of a source that names none: every minute.
pub const DEFAULT_SCHEDULE: &str = "* * * * *";

/// Checks that whoever runs a schedule (with its time zone, which may be empty) can keep it; answers why not.
pub type ScheduleCheck<'a> = &'a dyn Fn(&str, &str) -> Result<(), String>;

/// A `PingSource` sends an event with a fixed payload to its sink whenever its schedule says so.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct PingSource {
    /// [`API_VERSION`] or [`API_VERSION_OLD`].
    pub api_version: String,
    /// Always [`KIND`].
    pub kind: String,
    /// Name, labels, annotations.
    pub metadata: ObjectMeta,
    /// What is wanted of the source.
    pub spec: PingSourceSpec,
    /// What the controller says about it; this may be a moment behind.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<Status>,
}

/// What is wanted of a ping source.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
#[schemars(extend("required" = ["sink"], "x-kubernetes-validations" = [{
    "rule": "!(has(self.data) && self.data != '' && has(self.dataBase64) && self.dataBase64 != '')",
    "message": "expected exactly one, got both: spec.data, spec.dataBase64",
}]))]
pub struct PingSourceSpec {
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

impl PingSource {
    /// Fills in what the user left out.
    pub fn defaults(&mut self) {
        self.metadata.defaults();
        if self.spec.schedule.is_empty() {
            DEFAULT_SCHEDULE.clone_into(&mut self.spec.schedule);
        }
        self.spec.sink.defaults(&self.metadata.namespace);
    }

    /// What is wrong with it, once defaults are filled in.
    #[must_use]
    pub fn validate(&self, schedule: ScheduleCheck<'_>, limits: PingDefaults) -> FieldErrors {
        let mut errors = self.metadata.validate();
        errors.also(self.spec.validate(schedule, limits).via("spec"));
        errors.also(annotation::unknown(&self.metadata, KIND, &[]));
        errors
    }
}

impl PingSourceSpec {
    /// The schedule without its time zone, and the time zone from either place.
    #[must_use]
    pub fn timing(&self) -> Schedule<'_> {
        if self.timezone.is_empty() {
            Schedule::split(&self.schedule)
        } else {
            Schedule { timezone: Some(&self.timezone), expression: &self.schedule }
        }
    }

    /// The data of each event; nothing if `dataBase64` is not Base64.
    #[must_use]
    pub fn payload(&self) -> Option<Vec<u8>> {
        if self.data_base64.is_empty() {
            Some(self.data.clone().into_bytes())
        } else {
            STANDARD.decode(&self.data_base64).ok()
        }
    }

    fn validate(&self, schedule: ScheduleCheck<'_>, limits: PingDefaults) -> FieldErrors {
        let mut errors = FieldErrors::new();
        let timing = self.timing();
        if let Some(Err(error)) = timing.timezone.map(cron::check_timezone) {
            errors.push(FieldError::invalid(error, "timezone"));
        } else if let Err(error) = cron::check(timing.expression) {
            errors.push(FieldError::invalid(error, "schedule"));
        } else if let Err(reason) = schedule(&self.schedule, &self.timezone) {
            errors.push(FieldError::invalid(&self.schedule, "schedule").with_details(reason));
        }
        errors.also(self.sink.validate(None).via("sink"));
        if self.content_type.chars().any(char::is_control) {
            let error = FieldError::invalid(format_args!("{:?}", self.content_type), "contentType");
            errors.push(error.with_details("it becomes a header, which has no control characters"));
        }
        errors.also(self.validate_data(limits));
        if let Some(overrides) = &self.ce_overrides {
            errors.also(overrides.validate().via("ceOverrides"));
        }
        errors
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
            (true, false) => match STANDARD.decode(&self.data_base64) {
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
mod tests {
    use super::*;

    fn source(spec: &str) -> PingSource {
        let mut source: PingSource =
            serde_json::from_str(&format!(r#"{{"metadata":{{"name":"p"}},"spec":{spec}}}"#))
                .unwrap();
        source.defaults();
        source
    }

    /// Stands for the scheduler, which is another crate's: it cannot keep a 30 February.
    fn schedule(schedule: &str, _: &str) -> Result<(), String> {
        if schedule == "0 0 30 2 *" { Err("that date never comes".to_owned()) } else { Ok(()) }
    }

    fn refusal_within(spec: &str, limits: PingDefaults) -> String {
        let spec = spec.replacen('{', r#"{"sink":{"uri":"http://s/"},"#, 1);
        source(&spec).validate(&schedule, limits).to_string()
    }

    fn refusal(spec: &str) -> String {
        refusal_within(spec, PingDefaults::default())
    }

    #[test]
    fn a_source_without_schedule_fires_every_minute() {
        let source = source(r#"{"sink":{"ref":{"apiVersion":"v1","kind":"Service","name":"s"}}}"#);
        assert_eq!(source.validate(&schedule, PingDefaults::default()).to_string(), "");
        assert_eq!(source.spec.timing(), Schedule { timezone: None, expression: "* * * * *" });
        assert_eq!(source.spec.sink.reference.unwrap().namespace, "default");
    }

    #[test]
    fn a_time_zone_stands_in_either_place() {
        assert_eq!(refusal(r#"{"schedule":"0 9 * * *","timezone":"Europe/Berlin"}"#), "");
        assert_eq!(refusal(r#"{"schedule":"CRON_TZ=Europe/Berlin 0 9 * * *"}"#), "");
        let expected =
            "invalid value: provided bad location Mars: unknown time zone Mars: spec.timezone";
        assert_eq!(refusal(r#"{"schedule":"0 9 * * *","timezone":"Mars"}"#), expected);
    }

    #[test]
    fn json_data_is_an_object() {
        let json = |data: &str| {
            refusal(&format!(r#"{{"contentType":"application/json","data":{data:?}}}"#))
        };
        assert_eq!(json("{}"), "");
        let array = "invalid value: json: cannot unmarshal array into Go value of type map[string]interface {}: spec.data";
        assert_eq!(json("[]"), array);
        assert!(json("{x}").starts_with("invalid value: "));
        assert_eq!(refusal(r#"{"contentType":"text/plain","data":"[]"}"#), "");
    }

    #[test]
    fn base64_data_is_decoded() {
        assert_eq!(source(r#"{"dataBase64":"aGk="}"#).spec.payload().unwrap(), b"hi");
        assert_eq!(source(r#"{"data":"hi"}"#).spec.payload().unwrap(), b"hi");
        assert!(refusal(r#"{"dataBase64":"%"}"#).ends_with(": spec.dataBase64"));
        let broken = r#"{"contentType":"application/json","dataBase64":"ew=="}"#;
        assert_eq!(refusal(broken), "invalid value: unexpected end of JSON input: spec.dataBase64");
    }

    #[test]
    fn overrides_and_annotations_are_checked() {
        let refused = refusal(r#"{"ceOverrides":{"extensions":{"a-b":"x"}}}"#);
        assert_eq!(
            refused,
            "invalid key name \"a-b\": spec.ceOverrides.extensions\nkeys are expected to be alphanumeric"
        );
        let mut source = source(r#"{"sink":{"uri":"http://s/"}}"#);
        source.metadata.annotations.insert("weft.dev/order".to_owned(), "key".to_owned());
        assert!(
            source
                .validate(&schedule, PingDefaults::default())
                .to_string()
                .ends_with("a PingSource has no annotations under weft.dev/")
        );
    }

    #[test]
    fn a_schedule_that_cannot_be_kept_is_refused_with_the_reason() {
        assert_eq!(
            refusal(r#"{"schedule":"0 0 30 2 *"}"#),
            "invalid value: 0 0 30 2 *: spec.schedule\nthat date never comes"
        );
    }

    #[test]
    fn data_is_held_to_the_limit() {
        let limits = PingDefaults { data_max_size: Some(4) };
        assert_eq!(refusal_within(r#"{"data":"four"}"#, limits), "");
        assert_eq!(
            refusal_within(r#"{"data":"fives"}"#, limits),
            "invalid value: the data length of 5 bytes exceeds limit set at 4.: spec.data"
        );
        assert_eq!(
            refusal_within(r#"{"dataBase64":"aGVsbG8="}"#, limits),
            "invalid value: the dataBase64 length of 8 bytes exceeds limit set at 4.: spec.dataBase64"
        );
    }

    #[test]
    fn a_media_type_fits_a_header() {
        let refused = refusal(r#"{"contentType":"text/plain\n"}"#);
        assert!(
            refused.starts_with("invalid value: \"text/plain\\n\": spec.contentType\n"),
            "{refused}"
        );
    }
}
