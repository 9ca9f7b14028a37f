//! `OpenAPI`: what `kubectl explain`, client-side validation and the detection of server-side dry run read.

use axum::response::{IntoResponse, Response};
use crds::resource::{Catalog, Resource, Version};
use http::HeaderMap;
use http::header::{ACCEPT, CONTENT_TYPE};
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};

use crate::server::answer::{Answer, require_json};
use crate::server::discovery;
use crate::status::Refusal;

mod metadata_schema;
mod scale_schema;

/// The media type of the old document as protobuf.
const PROTOBUF: &str = "application/com.github.proto-openapi.spec.v2.v1.0+protobuf";

const META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1";

/// Answers `/openapi/…`; `rest` is the path after it.
pub(crate) fn answer(
    catalog: Catalog,
    rest: &[&str],
    headers: &HeaderMap,
    git_version: &str,
) -> Result<Response, Refusal> {
    if rest == ["v2"] && wants_protobuf(headers) {
        return Ok(([(CONTENT_TYPE, PROTOBUF)], old_protobuf(git_version)).into_response());
    }
    require_json(headers)?;
    let document = match rest {
        ["v2"] => json!({
            "swagger": "2.0",
            "info": {"title": "Weft", "version": git_version},
            "paths": {},
            "definitions": {},
        }),
        ["v3"] => index(catalog),
        ["v3", "api", version] => document(catalog, "", version, git_version)?,
        ["v3", "apis", group, version] if !group.is_empty() => {
            document(catalog, group, version, git_version)?
        }
        _ => return Err(Refusal::Unserved),
    };
    Ok(Answer::ok(&document).into_response())
}

/// Whether a client takes the old document as protobuf. `kubectl` takes it as nothing else, and asks for it before it applies
/// a `List`, which no newer document describes.
fn wants_protobuf(headers: &HeaderMap) -> bool {
    let accepted = headers.get_all(ACCEPT).iter().filter_map(|value| value.to_str().ok());
    accepted
        .flat_map(|value| value.split(','))
        .any(|media| media.trim().starts_with("application/com.github.proto-openapi.spec.v2"))
}

/// The old document as the message `openapi.v2.Document`: `swagger` (1), `info` (2) with `title` (1) and `version` (2), `paths`
/// (8). It describes nothing: what it does not know, clients leave to the server's own validation.
fn old_protobuf(git_version: &str) -> Vec<u8> {
    let mut info = field(1, b"Weft");
    info.extend(field(2, git_version.as_bytes()));
    [field(1, b"2.0"), field(2, &info), field(8, b"")].concat()
}

/// A field with a length, in protobuf's encoding; the lengths here are those of names and versions.
fn field(number: u8, content: &[u8]) -> Vec<u8> {
    let content = content.get(..content.len().min(127)).unwrap_or_default();
    let length = u8::try_from(content.len()).unwrap_or_default();
    [&[number << 3 | 2, length], content].concat()
}

/// Where the documents are. The hash is of what is in them, so that clients can keep them.
fn index(catalog: Catalog) -> Value {
    let mut paths = Map::new();
    for (group, versions) in discovery::groups(catalog) {
        for version in versions {
            let Ok(document) = document(catalog, group, version, "") else { continue };
            let path = path(group, version);
            let hash: String = Sha256::digest(document.to_string().as_bytes())
                .iter()
                .take(16)
                .map(|byte| format!("{byte:02X}"))
                .collect();
            let url = format!("/openapi/v3/{path}?hash={hash}");
            paths.insert(path, json!({"serverRelativeURL": url}));
        }
    }
    json!({"paths": paths})
}

fn path(group: &str, version: &str) -> String {
    if group.is_empty() { format!("api/{version}") } else { format!("apis/{group}/{version}") }
}

/// What is served of a group in a version.
fn document(
    catalog: Catalog,
    group: &str,
    version: &str,
    git_version: &str,
) -> Result<Value, Refusal> {
    let mut schemas = metadata_schema::schemas();
    let mut paths = Map::new();
    let served: Vec<(&Resource, &Version)> = catalog
        .iter()
        .filter(|resource| resource.group == group)
        .filter_map(|resource| Some((resource, resource.version(version)?)))
        .collect();
    if served.is_empty() {
        return Err(Refusal::Unserved);
    }
    for (resource, version) in served {
        let kind = Kind { resource, version, name: schema_name(resource, version.name) };
        schemas.insert(kind.name.clone(), kind.schema());
        schemas.insert(format!("{}List", kind.name), kind.list_schema());
        kind.paths(&mut paths);
        if resource.scale.is_some() {
            schemas.insert(scale_schema::NAME.to_owned(), scale_schema::schema());
        }
    }
    Ok(json!({
        "openapi": "3.0.0",
        "info": {"title": "Weft", "version": git_version},
        "paths": paths,
        "components": {"schemas": schemas},
    }))
}

/// As Kubernetes calls it: `dev.knative.eventing.v1.Trigger`.
fn schema_name(resource: &Resource, version: &str) -> String {
    let kind = resource.kind;
    match resource.group {
        "" => format!("io.k8s.api.core.{version}.{kind}"),
        "coordination.k8s.io" => format!("io.k8s.api.coordination.{version}.{kind}"),
        "apiextensions.k8s.io" => {
            format!("io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.{version}.{kind}")
        }
        group => {
            let reversed: Vec<&str> = group.rsplit('.').collect();
            format!("{}.{version}.{kind}", reversed.join("."))
        }
    }
}

fn reference(name: &str) -> Value {
    json!({"$ref": format!("#/components/schemas/{name}")})
}

struct Kind<'a> {
    resource: &'a Resource,
    version: &'a Version,
    name: String,
}

impl Kind<'_> {
    fn identity(&self, suffix: &str) -> Value {
        json!({
            "group": self.resource.group, "version": self.version.name,
            "kind": format!("{}{suffix}", self.resource.kind),
        })
    }

    /// The schema of the kind, with the fields that every object has.
    fn schema(&self) -> Value {
        let mut schema = (self.version.schema)();
        let Value::Object(map) = &mut schema else { return schema };
        map.insert("type".to_owned(), "object".into());
        map.insert("x-kubernetes-group-version-kind".to_owned(), json!([self.identity("")]));
        let properties = map.entry("properties").or_insert_with(|| json!({}));
        if let Value::Object(properties) = properties {
            properties.extend(metadata_schema::header());
            let meta = json!({
                "description": "What every object has: its name, labels, annotations, owners.",
                "default": {},
                "allOf": [reference(&format!("{META}.ObjectMeta"))],
            });
            properties.insert("metadata".to_owned(), meta);
        }
        schema
    }

    fn list_schema(&self) -> Value {
        let mut properties = metadata_schema::header();
        let items =
            json!({"type": "array", "items": reference(&self.name), "description": "The objects."});
        properties.insert("items".to_owned(), items);
        let meta = json!({"description": "About the list.", "default": {}, "allOf": [reference(&format!("{META}.ListMeta"))]});
        properties.insert("metadata".to_owned(), meta);
        json!({
            "description": format!("A list of {}.", self.resource.kind),
            "type": "object", "required": ["items"], "properties": properties,
            "x-kubernetes-group-version-kind": [self.identity("List")],
        })
    }

    /// The paths of the kind, with what can be done there.
    fn paths(&self, paths: &mut Map<String, Value>) {
        let root = path(self.resource.group, self.version.name);
        let plural = self.resource.plural;
        let writable = self.resource.writable;
        if self.resource.namespaced {
            let item = json!({"get": self.operation("list", &format!("list{}ForAllNamespaces", self.resource.kind))});
            paths.insert(format!("/{root}/{plural}"), item);
        }
        let base = if self.resource.namespaced {
            format!("/{root}/namespaces/{{namespace}}/{plural}")
        } else {
            format!("/{root}/{plural}")
        };
        let operation = |action: &str| {
            let id = format!("{action}{}", self.resource.kind);
            self.operation(action, &id)
        };
        let mut collection = json!({"get": operation("list")});
        let mut item = json!({"get": operation("get")});
        if let (true, Value::Object(collection), Value::Object(item)) =
            (writable, &mut collection, &mut item)
        {
            collection.insert("post".to_owned(), operation("post"));
            if self.resource.kind != crds::namespace::KIND {
                collection.insert("delete".to_owned(), operation("deletecollection"));
            }
            for action in ["put", "patch", "delete"] {
                item.insert(action.to_owned(), operation(action));
            }
        }
        let namespaced = self.resource.namespaced;
        let placed = |mut item: Value, named: bool| {
            let names = [("namespace", namespaced), ("name", named)];
            let parameters: Vec<Value> = names
                .into_iter()
                .filter(|(_, there)| *there)
                .map(|(name, _)| json!({"name": name, "in": "path", "required": true, "schema": {"type": "string"}}))
                .collect();
            if let Value::Object(item) = &mut item {
                item.insert("parameters".to_owned(), parameters.into());
            }
            item
        };
        paths.insert(format!("{base}/{{name}}"), placed(item, true));
        paths.insert(base.clone(), placed(collection, false));
        for (part, there, schema, identity) in [
            ("Status", self.resource.status, self.name.as_str(), self.identity("")),
            ("Scale", self.resource.scale.is_some(), scale_schema::NAME, scale_schema::identity()),
        ] {
            if !there {
                continue;
            }
            let mut item = Map::new();
            for action in ["get", "put", "patch"] {
                let id = format!("{action}{}{part}", self.resource.kind);
                item.insert(action.to_owned(), operation_on(action, &id, schema, &identity));
            }
            let path = format!("{base}/{{name}}/{}", part.to_lowercase());
            paths.insert(path, placed(item.into(), true));
        }
    }

    fn operation(&self, action: &str, id: &str) -> Value {
        operation_on(action, id, &self.name, &self.identity(""))
    }
}

/// What can be done with something that `schema` names and describes.
fn operation_on(action: &str, id: &str, schema: &str, identity: &Value) -> Value {
    let (parameters, body, answer): (&[&str], Option<&str>, String) = match action {
        "list" => (LIST, None, format!("{schema}List")),
        "get" => (&[], None, schema.to_owned()),
        "post" | "put" => (WRITE, Some("application/json"), schema.to_owned()),
        "patch" => (PATCH, Some("application/merge-patch+json"), schema.to_owned()),
        "deletecollection" => (LIST, None, format!("{META}.Status")),
        _ => (DELETE, None, format!("{META}.Status")),
    };
    let parameters: Vec<Value> = parameters.iter().map(|name| parameter(name)).collect();
    let mut operation = json!({
        "operationId": id,
        "parameters": parameters,
        "responses": {"200": {
            "description": "OK",
            "content": {"application/json": {"schema": reference(&answer)}},
        }},
        "x-kubernetes-action": action,
        "x-kubernetes-group-version-kind": identity,
    });
    if let (Some(media), Value::Object(operation)) = (body, &mut operation) {
        let content = if action == "patch" {
            let schema = json!({"schema": reference(&format!("{META}.Patch"))});
            let kinds = ["application/json-patch+json", media, "application/apply-patch+yaml"];
            kinds.into_iter().map(|kind| (kind.to_owned(), schema.clone())).collect()
        } else {
            Map::from_iter([(media.to_owned(), json!({"schema": reference(schema)}))])
        };
        operation.insert("requestBody".to_owned(), json!({"required": true, "content": content}));
    }
    operation
}

const LIST: &[&str] = &[
    "allowWatchBookmarks",
    "continue",
    "fieldSelector",
    "labelSelector",
    "limit",
    "resourceVersion",
    "resourceVersionMatch",
    "sendInitialEvents",
    "timeoutSeconds",
    "watch",
];
const WRITE: &[&str] = &["dryRun", "fieldManager", "fieldValidation"];
const PATCH: &[&str] = &["dryRun", "fieldManager", "fieldValidation", "force"];
const DELETE: &[&str] = &["dryRun", "gracePeriodSeconds", "orphanDependents", "propagationPolicy"];

fn parameter(name: &str) -> Value {
    let kind = match name {
        "limit" | "timeoutSeconds" | "gracePeriodSeconds" => "integer",
        "allowWatchBookmarks" | "sendInitialEvents" | "watch" | "force" | "orphanDependents" => {
            "boolean"
        }
        _ => "string",
    };
    json!({"name": name, "in": "query", "schema": {"type": kind, "uniqueItems": true}})
}
