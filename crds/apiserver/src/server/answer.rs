//! Answers: which of its shapes the client accepts, and how an object or a list is written in it.

use axum::body::Body;
use axum::response::Response;
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, StatusCode, header};
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::server::metadata;
use crate::server::request::Target;
use crate::status::Refusal;
use crate::table::{self, Include};

const ACCEPTED: &str = "application/json";
/// A client lists a handful of media types; more are not looked at.
const MAX_CLAUSES: usize = 32;
/// A warning is cut to this many bytes, and no more than this many are sent, so that they fit in anybody's header limits.
const MAX_WARNING_BYTES: usize = 512;
const MAX_WARNINGS: usize = 16;

/// What objects are written as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shape {
    /// As they are.
    Whole,
    /// Their metadata alone.
    Partial,
    /// As rows.
    Table,
}

impl Shape {
    /// The first that the client accepts, in its order of preference.
    pub(crate) fn accepted(headers: &HeaderMap) -> Result<Self, Refusal> {
        for clause in clauses(headers) {
            let Some(parameters) = json_parameters(&clause) else { continue };
            let parameter = |name: &str| {
                parameters.iter().find(|(key, _)| *key == name).map_or("", |(_, value)| value)
            };
            let meta = parameter("g") == "meta.k8s.io" && parameter("v") == "v1";
            match parameter("as") {
                "" => return Ok(Self::Whole),
                "Table" if meta => return Ok(Self::Table),
                "PartialObjectMetadata" | "PartialObjectMetadataList" if meta => {
                    return Ok(Self::Partial);
                }
                _ => {}
            }
        }
        Err(Refusal::NotAcceptable(ACCEPTED))
    }
}

/// Refuses clients that take no JSON.
pub(crate) fn require_json(headers: &HeaderMap) -> Result<(), Refusal> {
    let takes = |clause: &String| json_parameters(clause).is_some();
    if clauses(headers).iter().any(takes) { Ok(()) } else { Err(Refusal::NotAcceptable(ACCEPTED)) }
}

/// The media types in `Accept`; everything if there are none.
pub(crate) fn clauses(headers: &HeaderMap) -> Vec<String> {
    let values = headers.get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok());
    let clauses: Vec<String> = values
        .flat_map(|value| value.split(','))
        .map(|clause| clause.trim().to_owned())
        .filter(|clause| !clause.is_empty())
        .take(MAX_CLAUSES)
        .collect();
    if clauses.is_empty() { vec!["*/*".to_owned()] } else { clauses }
}

/// The parameters of a media type that JSON satisfies.
pub(crate) fn json_parameters(clause: &str) -> Option<Vec<(&str, &str)>> {
    let mut parts = clause.split(';').map(str::trim);
    if !matches!(parts.next(), Some("application/json" | "application/*" | "*/*")) {
        return None;
    }
    Some(parts.filter_map(|part| part.split_once('=')).collect())
}

/// What a request is answered with.
#[derive(Debug)]
pub(crate) struct Answer {
    code: StatusCode,
    json: Bytes,
    /// What the client is told beside it.
    pub(crate) warnings: Vec<String>,
}

impl Answer {
    pub(crate) fn ok(value: &Value) -> Self {
        Self::raw(value.to_string().into())
    }

    pub(crate) fn raw(json: Bytes) -> Self {
        Self { code: StatusCode::OK, json, warnings: Vec::new() }
    }

    /// Something was made.
    pub(crate) fn created(mut self) -> Self {
        self.code = StatusCode::CREATED;
        self
    }

    /// Something will be gone later.
    pub(crate) fn accepted(mut self) -> Self {
        self.code = StatusCode::ACCEPTED;
        self
    }

    pub(crate) fn with(mut self, warnings: impl IntoIterator<Item = String>) -> Self {
        self.warnings.extend(warnings);
        self
    }

    pub(crate) fn into_response(self) -> Response {
        let mut response = Response::new(Body::from(self.json));
        *response.status_mut() = self.code;
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        // What is read here is somebody's state: nobody in between may keep it.
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache, private"));
        for warning in self.warnings.iter().take(MAX_WARNINGS) {
            if let Ok(value) = HeaderValue::from_str(&warning_value(warning)) {
                headers.append(header::WARNING, value);
            }
        }
        response
    }
}

/// `299 - "text"` as RFC 7234 has it; quotes and backslashes escaped, what no header can hold replaced.
fn warning_value(text: &str) -> String {
    let mut quoted = String::from("299 - \"");
    for char in text.chars() {
        if quoted.len() >= MAX_WARNING_BYTES {
            break;
        }
        match char {
            '"' | '\\' => quoted.extend(['\\', char]),
            char if char.is_ascii_graphic() || char == ' ' => quoted.push(char),
            _ => quoted.push('?'),
        }
    }
    quoted.push('"');
    quoted
}

/// Writes objects of one kind in one shape.
#[derive(Debug)]
pub(crate) struct Writer<'a> {
    pub(crate) target: &'a Target,
    pub(crate) shape: Shape,
    pub(crate) include: Include,
    pub(crate) now: Timestamp,
}

impl Writer<'_> {
    /// One object.
    pub(crate) fn object(&self, value: Value) -> Value {
        match self.shape {
            Shape::Whole => value,
            Shape::Partial => partial(&value),
            Shape::Table => {
                let version = metadata::text(&value, "resourceVersion").to_owned();
                self.table(&[value], json!({"resourceVersion": version}))
            }
        }
    }

    /// A list, with the metadata of the list.
    pub(crate) fn list(&self, values: &[Value], meta: Value) -> Value {
        match self.shape {
            Shape::Whole => json!({
                "kind": format!("{}List", self.target.resource.kind),
                "apiVersion": self.target.api_version(),
                "metadata": meta,
                "items": values,
            }),
            Shape::Partial => {
                let items: Vec<Value> = values.iter().map(partial).collect();
                json!({
                    "kind": "PartialObjectMetadataList", "apiVersion": "meta.k8s.io/v1",
                    "metadata": meta, "items": items,
                })
            }
            Shape::Table => self.table(values, meta),
        }
    }

    fn table(&self, values: &[Value], meta: Value) -> Value {
        let Target { resource, version, .. } = self.target;
        table::table(resource, version, values, self.now, meta, self.include)
    }
}

/// The metadata of an object, as an object of its own.
pub(super) fn partial(value: &Value) -> Value {
    json!({
        "kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1",
        "metadata": value.get("metadata").cloned().unwrap_or_else(|| json!({})),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn accept(text: &'static str) -> HeaderMap {
        HeaderMap::from_iter([(header::ACCEPT, HeaderValue::from_static(text))])
    }

    #[test]
    fn the_first_shape_that_the_client_accepts_is_taken() {
        let kubectl = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json;as=Table;v=v1beta1;g=meta.k8s.io,application/json";
        assert_eq!(Shape::accepted(&accept(kubectl)), Ok(Shape::Table));
        let old = "application/json;as=Table;v=v1beta1;g=meta.k8s.io, application/json";
        assert_eq!(Shape::accepted(&accept(old)), Ok(Shape::Whole));
        let metadata = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1";
        assert_eq!(Shape::accepted(&accept(metadata)), Ok(Shape::Partial));
        assert_eq!(Shape::accepted(&HeaderMap::new()), Ok(Shape::Whole));
        let typed = "application/vnd.kubernetes.protobuf,application/json";
        assert_eq!(Shape::accepted(&accept(typed)), Ok(Shape::Whole));
        let protobuf = Shape::accepted(&accept("application/vnd.kubernetes.protobuf"));
        assert_eq!(protobuf.unwrap_err().to_status()["code"], 406);
    }

    #[test]
    fn warnings_fit_into_a_header() {
        let answer = Answer::ok(&json!({})).with(["unknown field \"spec.ü\"\n".to_owned()]);
        assert_eq!(
            answer.into_response().headers()[header::WARNING],
            "299 - \"unknown field \\\"spec.?\\\"?\""
        );
    }
}
