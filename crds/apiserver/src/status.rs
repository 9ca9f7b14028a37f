//! From refusal to `Status`: the one place that decides code, reason and words of every error that a client sees.
//!
//! Reasons, codes and wording follow Kubernetes' `meta/v1` and `api/errors`, because clients match on them.

use axum::body::Body;
use axum::response::{IntoResponse, Response};
use crds::FieldErrors;
use crds::object::DecodeError;
use crds::resource::Resource;
use http::{HeaderValue, StatusCode, header};
use serde_json::{Map, Value, json};

use crate::patch::{FieldConflict, PatchError};
use crate::store::WriteError;

/// A client that is told to come again later waits this many seconds: the writer takes less for what is queued.
const RETRY_AFTER_SECONDS: u32 = 1;
/// More causes than this are not listed: nobody reads on, and an answer stays small.
const MAX_CAUSES: usize = 100;

/// What an error is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Subject {
    pub(crate) group: &'static str,
    pub(crate) kind: &'static str,
    pub(crate) plural: &'static str,
    pub(crate) name: String,
}

impl Subject {
    pub(crate) fn new(resource: &Resource, name: impl Into<String>) -> Self {
        Self {
            group: resource.group,
            kind: resource.kind,
            plural: resource.plural,
            name: name.into(),
        }
    }

    /// The options of a request, which are of a kind of their own.
    pub(crate) fn options(kind: &'static str) -> Self {
        Self { group: "meta.k8s.io", kind, plural: kind, name: String::new() }
    }

    fn full(&self, word: &str) -> String {
        if self.group.is_empty() { word.to_owned() } else { format!("{word}.{}", self.group) }
    }

    fn resource(&self) -> String {
        format!("{} {:?}", self.full(self.plural), self.name)
    }

    fn details(&self, kind: &str) -> Map<String, Value> {
        let mut details = Map::new();
        for (field, value) in [("name", self.name.as_str()), ("group", self.group), ("kind", kind)]
        {
            if !value.is_empty() {
                details.insert(field.to_owned(), value.into());
            }
        }
        details
    }
}

/// One thing that is wrong with a field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Cause {
    reason: &'static str,
    field: String,
    message: String,
}

impl Cause {
    pub(crate) fn required(field: impl Into<String>, details: &str) -> Self {
        let message = if details.is_empty() {
            "Required value".to_owned()
        } else {
            format!("Required value: {details}")
        };
        Self { reason: "FieldValueRequired", field: field.into(), message }
    }

    /// `value` is shown as JSON shows it.
    pub(crate) fn invalid(field: impl Into<String>, value: &Value, details: &str) -> Self {
        let message = format!("Invalid value: {value}: {details}");
        Self { reason: "FieldValueInvalid", field: field.into(), message }
    }

    pub(crate) fn forbidden(field: impl Into<String>, details: &str) -> Self {
        let message = format!("Forbidden: {details}");
        Self { reason: "FieldValueForbidden", field: field.into(), message }
    }

    pub(crate) fn unsupported(field: impl Into<String>, value: &str, supported: &[&str]) -> Self {
        let supported: Vec<String> = supported.iter().map(|one| format!("{one:?}")).collect();
        let message =
            format!("Unsupported value: {value:?}: supported values: {}", supported.join(", "));
        Self { reason: "FieldValueNotSupported", field: field.into(), message }
    }

    /// The same of a list, which is shown as one.
    pub(crate) fn unsupported_list(field: &str, value: &str, supported: &[&str]) -> Self {
        let mut cause = Self::unsupported(field, value, supported);
        cause.message = cause.message.replacen(&format!("{value:?}"), &format!("[{value:?}]"), 1);
        cause
    }

    /// What the rules of a core kind found, in Kubernetes' words.
    pub(crate) fn list(errors: &FieldErrors) -> Vec<Self> {
        let one = |message: &str, details: Option<&str>, path: &String| {
            let details = details.map(|text| format!(": {text}")).unwrap_or_default();
            let value = message
                .strip_prefix("invalid value: ")
                .or_else(|| message.strip_prefix("invalid key name "));
            let (reason, message) = match value {
                _ if message == "missing field(s)" => {
                    ("FieldValueRequired", format!("Required value{details}"))
                }
                _ if message == "must not set the field(s)" => {
                    ("FieldValueForbidden", format!("Forbidden: must not be set{details}"))
                }
                Some(value) => ("FieldValueInvalid", format!("Invalid value: {value}{details}")),
                None => ("FieldValueInvalid", format!("Invalid value: {message}{details}")),
            };
            Self { reason, field: path.clone(), message }
        };
        errors
            .iter()
            .flat_map(|error| {
                error
                    .paths
                    .iter()
                    .map(move |path| one(&error.message, error.details.as_deref(), path))
            })
            .take(MAX_CAUSES)
            .collect()
    }

    /// What does not decode.
    pub(crate) fn decode(error: &DecodeError) -> Vec<Self> {
        match error {
            DecodeError::WrongType { path, expected } => vec![Self {
                reason: "FieldValueTypeInvalid",
                field: path.clone(),
                message: format!("Invalid value: {expected}"),
            }],
            DecodeError::Unnamed { field } => vec![Self::required(*field, "")],
            DecodeError::Several(errors) => {
                errors.iter().flat_map(Self::decode).take(MAX_CAUSES).collect()
            }
            other => vec![Self {
                reason: "FieldValueInvalid",
                field: String::new(),
                message: other.to_string(),
            }],
        }
    }

    fn text(&self) -> String {
        format!("{}: {}", self.field, self.message)
    }
}

/// Why a request is not answered as it was meant.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub(crate) enum Refusal {
    #[error("Unauthorized")]
    Unauthorized,
    #[error("the server could not find the requested resource")]
    Unserved,
    #[error("{} not found", .0.resource())]
    NotFound(Subject),
    #[error("{} already exists", .0.resource())]
    AlreadyExists(Subject),
    #[error("object is being deleted: {} already exists", .0.resource())]
    StillThere(Subject),
    #[error("Operation cannot be fulfilled on {}: {message}", .subject.resource())]
    Conflict { subject: Subject, message: String },
    #[error("{message}")]
    Contested { message: String, causes: Vec<FieldConflict> },
    #[error("{}", invalid(.subject, .causes))]
    Invalid { subject: Subject, causes: Vec<Cause> },
    #[error("{0}")]
    BadRequest(String),
    #[error("{} is forbidden: {message}", .subject.resource())]
    Forbidden { subject: Subject, message: String, terminating: Option<Box<str>> },
    #[error("the server does not allow this method on the requested resource")]
    MethodNotAllowed,
    #[error("only the following media types are accepted: {0}")]
    NotAcceptable(&'static str),
    #[error("{0}")]
    UnsupportedMediaType(String),
    #[error("{0}")]
    TooLarge(String),
    #[error("{0}")]
    Unprocessable(String),
    #[error("{0}")]
    Expired(String),
    #[error("Too large resource version: {asked}, current: {current}")]
    TooNew { asked: u64, current: u64 },
    #[error("{0}; try again later")]
    Busy(&'static str),
    #[error("the server is shutting down")]
    Stopping,
    #[error("Internal error occurred: {0}")]
    Failed(String),
}

impl Refusal {
    /// Whether the same request may succeed later.
    #[must_use]
    pub(crate) fn is_retryable(&self) -> bool {
        matches!(self, Self::Busy(_) | Self::TooNew { .. } | Self::Conflict { .. })
    }

    /// The object is not as the writer believed.
    pub(crate) fn modified(subject: Subject) -> Self {
        let message = "the object has been modified; please apply your changes to the latest version and try again";
        Self::Conflict { subject, message: message.to_owned() }
    }

    /// One field is wrong.
    pub(crate) fn field(subject: Subject, cause: Cause) -> Self {
        Self::Invalid { subject, causes: vec![cause] }
    }

    /// What a write that did not happen means, unless it is a conflict, which its caller understands better.
    pub(crate) fn of_write(error: &WriteError, subject: Subject) -> Self {
        match error {
            WriteError::Conflict { .. } => Self::modified(subject),
            WriteError::Full => Self::Busy("too many writes are waiting, or the disk is full"),
            WriteError::Failed(message) => Self::Failed(message.clone()),
            WriteError::Closed => Self::Stopping,
        }
    }

    /// What a patch that cannot be applied means.
    pub(crate) fn of_patch(error: PatchError) -> Self {
        let message = error.to_string();
        match error {
            PatchError::Invalid(message) => Self::BadRequest(message),
            PatchError::Unprocessable(message) => Self::Unprocessable(message),
            PatchError::Conflict(causes) => Self::Contested { message, causes },
            PatchError::TooLarge => Self::TooLarge(message),
        }
    }

    fn code_and_reason(&self) -> (StatusCode, &'static str) {
        match self {
            Self::Unauthorized => (StatusCode::UNAUTHORIZED, "Unauthorized"),
            Self::Unserved | Self::NotFound(_) => (StatusCode::NOT_FOUND, "NotFound"),
            Self::AlreadyExists(_) | Self::StillThere(_) => (StatusCode::CONFLICT, "AlreadyExists"),
            Self::Conflict { .. } | Self::Contested { .. } => (StatusCode::CONFLICT, "Conflict"),
            Self::Invalid { .. } | Self::Unprocessable(_) => {
                (StatusCode::UNPROCESSABLE_ENTITY, "Invalid")
            }
            Self::BadRequest(_) => (StatusCode::BAD_REQUEST, "BadRequest"),
            Self::Forbidden { .. } => (StatusCode::FORBIDDEN, "Forbidden"),
            Self::MethodNotAllowed => (StatusCode::METHOD_NOT_ALLOWED, "MethodNotAllowed"),
            Self::NotAcceptable(_) => (StatusCode::NOT_ACCEPTABLE, "NotAcceptable"),
            Self::UnsupportedMediaType(_) => {
                (StatusCode::UNSUPPORTED_MEDIA_TYPE, "UnsupportedMediaType")
            }
            Self::TooLarge(_) => (StatusCode::PAYLOAD_TOO_LARGE, "RequestEntityTooLarge"),
            Self::Expired(_) => (StatusCode::GONE, "Expired"),
            Self::TooNew { .. } => (StatusCode::GATEWAY_TIMEOUT, "Timeout"),
            Self::Busy(_) => (StatusCode::TOO_MANY_REQUESTS, "TooManyRequests"),
            Self::Stopping => (StatusCode::SERVICE_UNAVAILABLE, "ServiceUnavailable"),
            Self::Failed(_) => (StatusCode::INTERNAL_SERVER_ERROR, "InternalError"),
        }
    }

    fn details(&self) -> Map<String, Value> {
        let mut details = match self {
            Self::NotFound(subject) | Self::AlreadyExists(subject) | Self::StillThere(subject) => {
                subject.details(subject.plural)
            }
            Self::Conflict { subject, .. } | Self::Forbidden { subject, .. } => {
                subject.details(subject.plural)
            }
            Self::Invalid { subject, .. } => subject.details(subject.kind),
            _ => Map::new(),
        };
        let causes: Vec<Value> = match self {
            Self::Invalid { causes, .. } => causes
                .iter()
                .map(|one| json!({"reason": one.reason, "message": one.message, "field": one.field}))
                .collect(),
            Self::Contested { causes, .. } => causes
                .iter()
                .map(|one| {
                    json!({"reason": "FieldManagerConflict", "message": one.message(), "field": one.field})
                })
                .collect(),
            Self::Forbidden { terminating: Some(namespace), .. } => {
                let message = format!("namespace {namespace} is being terminated");
                vec![json!({"reason": "NamespaceTerminating", "message": message, "field": "metadata.namespace"})]
            }
            Self::TooNew { .. } => {
                vec![json!({"reason": "ResourceVersionTooLarge", "message": "Too large resource version"})]
            }
            Self::Failed(message) => vec![json!({"message": message})],
            _ => Vec::new(),
        };
        if !causes.is_empty() {
            details.insert("causes".to_owned(), causes.into());
        }
        if self.retry_after() {
            details.insert("retryAfterSeconds".to_owned(), RETRY_AFTER_SECONDS.into());
        }
        details
    }

    fn retry_after(&self) -> bool {
        matches!(self, Self::Busy(_) | Self::TooNew { .. } | Self::Stopping)
    }

    /// The `Status` that tells it.
    pub(crate) fn to_status(&self) -> Value {
        let (code, reason) = self.code_and_reason();
        let mut status = json!({
            "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
            "message": self.to_string(), "reason": reason, "code": code.as_u16(),
        });
        let details = self.details();
        if let (false, Value::Object(status)) = (details.is_empty(), &mut status) {
            status.insert("details".to_owned(), details.into());
        }
        status
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        if let Self::Failed(message) = &self {
            tracing::error!(message, "a request to the API failed");
        }
        let mut response = Response::new(Body::from(self.to_status().to_string()));
        *response.status_mut() = self.code_and_reason().0;
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        if self.retry_after() {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(RETRY_AFTER_SECONDS));
        }
        if self == Self::Unauthorized {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }
}

/// What a deletion answers with when nothing is left of the object.
pub(crate) fn deleted(resource: &Resource, name: &str, uid: &str) -> Value {
    let mut details = Subject::new(resource, name).details(resource.plural);
    details.insert("uid".to_owned(), uid.into());
    json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "details": details})
}

fn invalid(subject: &Subject, causes: &[Cause]) -> String {
    let texts: Vec<String> = causes.iter().map(Cause::text).collect();
    let list = match texts.as_slice() {
        [one] => one.clone(),
        several => format!("[{}]", several.join(", ")),
    };
    format!("{} {:?} is invalid: {list}", subject.full(subject.kind), subject.name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn trigger() -> Subject {
        Subject {
            group: "eventing.knative.dev",
            kind: "Trigger",
            plural: "triggers",
            name: "t".to_owned(),
        }
    }

    #[test]
    fn not_found_is_told_as_kubernetes_tells_it() {
        assert_eq!(
            Refusal::NotFound(trigger()).to_status(),
            json!({
                "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
                "message": "triggers.eventing.knative.dev \"t\" not found", "reason": "NotFound",
                "details": {"name": "t", "group": "eventing.knative.dev", "kind": "triggers"}, "code": 404,
            })
        );
    }

    #[test]
    fn several_invalid_fields_are_listed_in_brackets() {
        let causes = vec![
            Cause::required("metadata.name", "name or generateName is required"),
            Cause::unsupported("spec.mode", "x", &["Resource", "Reference"]),
        ];
        let status = Refusal::Invalid { subject: trigger(), causes }.to_status();
        assert_eq!(
            status["message"],
            "Trigger.eventing.knative.dev \"t\" is invalid: [metadata.name: Required value: name or generateName is \
             required, spec.mode: Unsupported value: \"x\": supported values: \"Resource\", \"Reference\"]"
        );
        assert_eq!(status["code"], 422);
        assert_eq!(status["details"]["kind"], "Trigger");
        assert_eq!(status["details"]["causes"][1]["reason"], "FieldValueNotSupported");
    }

    #[test]
    fn a_full_queue_says_when_to_come_again() {
        let response = Refusal::Busy("too many writes are waiting").into_response();
        assert_eq!(response.status(), 429);
        assert_eq!(response.headers()[header::RETRY_AFTER], "1");
    }

    #[test]
    fn rules_of_core_kinds_get_the_words_of_kubernetes() {
        let mut errors = FieldErrors::new();
        errors.push(crds::FieldError::invalid_key("a b", "data[a b]").with_details("a rule"));
        errors.push(crds::FieldError::missing("spec.x"));
        let texts: Vec<String> = Cause::list(&errors).iter().map(Cause::text).collect();
        assert_eq!(texts, ["data[a b]: Invalid value: \"a b\": a rule", "spec.x: Required value"]);
    }
}
