//! What is served, for clients that ask first: the lists of old, group by group, and the one document of new.

use axum::body::Body;
use axum::response::Response;
use crds::resource::{Catalog, Resource};
use http::{HeaderMap, HeaderValue, header};
use serde_json::{Value, json};

use crate::server::answer::{Answer, clauses, json_parameters, require_json};
use crate::server::{reviews, scale};
use crate::status::Refusal;

const ALL: &[&str] =
    &["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"];
const SINGLY: &[&str] = &["create", "delete", "get", "list", "patch", "update", "watch"];
const READ: &[&str] = &["get", "list", "watch"];
const PART: &[&str] = &["get", "patch", "update"];

/// A kind in one version, as discovery tells it.
struct Kind {
    kind: &'static str,
    plural: &'static str,
    singular: &'static str,
    short_names: &'static [&'static str],
    categories: &'static [&'static str],
    namespaced: bool,
    verbs: &'static [&'static str],
    status: bool,
    scale: bool,
}

impl Kind {
    fn of(resource: &Resource) -> Self {
        let verbs = match resource {
            Resource { writable: false, .. } => READ,
            Resource { kind: crds::namespace::KIND, .. } => SINGLY,
            _ => ALL,
        };
        Self {
            kind: resource.kind,
            plural: resource.plural,
            singular: resource.singular,
            short_names: resource.short_names,
            categories: resource.categories,
            namespaced: resource.namespaced,
            verbs,
            status: resource.status,
            scale: resource.scale.is_some(),
        }
    }

    fn review(plural: &'static str, kind: &'static str) -> Self {
        Self {
            kind,
            plural,
            singular: plural.trim_end_matches('s'),
            short_names: &[],
            categories: &[],
            namespaced: false,
            verbs: &["create"],
            status: false,
            scale: false,
        }
    }

    fn legacy(&self) -> Vec<Value> {
        let mut main = json!({
            "name": self.plural, "singularName": self.singular, "namespaced": self.namespaced,
            "kind": self.kind, "verbs": self.verbs,
        });
        if let Value::Object(main) = &mut main {
            for (field, words) in
                [("shortNames", self.short_names), ("categories", self.categories)]
            {
                if !words.is_empty() {
                    main.insert(field.to_owned(), words.into());
                }
            }
        }
        let status = json!({
            "name": format!("{}/status", self.plural), "singularName": "",
            "namespaced": self.namespaced, "kind": self.kind, "verbs": PART,
        });
        let scale = json!({
            "name": format!("{}/scale", self.plural), "singularName": "",
            "namespaced": self.namespaced, "group": scale::GROUP, "version": scale::VERSION,
            "kind": scale::KIND, "verbs": PART,
        });
        let parts = [self.status.then_some(status), self.scale.then_some(scale)];
        std::iter::once(main).chain(parts.into_iter().flatten()).collect()
    }

    fn aggregated(&self, group: &str, version: &str) -> Value {
        let response = json!({"group": group, "version": version, "kind": self.kind});
        let of_scale =
            json!({"group": scale::GROUP, "version": scale::VERSION, "kind": scale::KIND});
        let subresources: Vec<Value> = [
            ("status", self.status, &response),
            ("scale", self.scale, &of_scale),
        ]
        .into_iter()
        .filter(|(_, there, _)| *there)
        .map(|(name, _, kind)| json!({"subresource": name, "responseKind": kind, "verbs": PART}))
        .collect();
        let mut kind = json!({
            "resource": self.plural, "responseKind": response,
            "scope": if self.namespaced { "Namespaced" } else { "Cluster" },
            "singularResource": self.singular, "verbs": self.verbs,
            "shortNames": self.short_names, "categories": self.categories,
            "subresources": subresources,
        });
        if let Value::Object(kind) = &mut kind {
            kind.retain(|_, value| {
                !value.is_null() && value.as_array().is_none_or(|list| !list.is_empty())
            });
        }
        kind
    }
}

/// The groups in which something is served, each with its versions; the preferred one first.
pub(crate) fn groups(catalog: Catalog) -> Vec<(&'static str, Vec<&'static str>)> {
    let mut groups: Vec<(&str, Vec<&str>)> = Vec::new();
    let reviewed = reviews::GROUPS.iter().map(|(group, _)| (*group, reviews::VERSION));
    let served = catalog.iter().flat_map(|resource| {
        resource.versions.iter().map(|version| (resource.group, version.name))
    });
    for (group, version) in served.chain(reviewed) {
        match groups.iter_mut().find(|(known, _)| *known == group) {
            Some((_, versions)) if versions.contains(&version) => {}
            Some((_, versions)) => versions.push(version),
            None => groups.push((group, vec![version])),
        }
    }
    // Clients take the first for the preferred one, and what is stable is preferred.
    for (_, versions) in &mut groups {
        versions.sort_by_key(|version| (version.contains("alpha"), version.contains("beta")));
    }
    groups
}

fn kinds(catalog: Catalog, group: &str, version: &str) -> Vec<Kind> {
    let served = catalog
        .iter()
        .filter(|resource| resource.group == group && resource.version(version).is_some())
        .map(Kind::of);
    let reviewed = reviews::GROUPS
        .iter()
        .filter(|(known, _)| *known == group && version == reviews::VERSION)
        .flat_map(|(_, kinds)| kinds.iter().map(|(plural, kind)| Kind::review(plural, kind)));
    served.chain(reviewed).collect()
}

/// Answers `/api`, `/apis`, and the paths below them that name no kind.
pub(crate) fn answer(
    catalog: Catalog,
    segments: &[&str],
    headers: &HeaderMap,
) -> Result<Response, Refusal> {
    if let (["api" | "apis"], Some(version)) = (segments, aggregated_version(headers)) {
        let core = segments == ["api"];
        return Ok(aggregated(catalog, core, version));
    }
    require_json(headers)?;
    let answer = match segments {
        ["api"] => json!({
            "kind": "APIVersions", "versions": ["v1"],
            "serverAddressByClientCIDRs": [],
        }),
        ["apis"] => {
            let named = groups(catalog).into_iter().filter(|(group, _)| !group.is_empty());
            let groups: Vec<Value> =
                named.map(|(group, versions)| legacy_group(group, &versions)).collect();
            json!({"kind": "APIGroupList", "apiVersion": "v1", "groups": groups})
        }
        ["apis", group] => {
            let known =
                groups(catalog).into_iter().find(|(known, _)| known == group && !known.is_empty());
            let (group, versions) = known.ok_or(Refusal::Unserved)?;
            let mut answer = legacy_group(group, &versions);
            if let Value::Object(answer) = &mut answer {
                answer.insert("kind".to_owned(), "APIGroup".into());
                answer.insert("apiVersion".to_owned(), "v1".into());
            }
            answer
        }
        ["api", version] => legacy_resources(catalog, "", version)?,
        ["apis", group, version] if !group.is_empty() => legacy_resources(catalog, group, version)?,
        _ => return Err(Refusal::Unserved),
    };
    Ok(Answer::ok(&answer).into_response())
}

fn legacy_group(group: &str, versions: &[&str]) -> Value {
    let versions: Vec<Value> = versions
        .iter()
        .map(|version| json!({"groupVersion": format!("{group}/{version}"), "version": version}))
        .collect();
    let preferred = versions.first().cloned().unwrap_or_default();
    json!({"name": group, "versions": versions, "preferredVersion": preferred})
}

fn legacy_resources(catalog: Catalog, group: &str, version: &str) -> Result<Value, Refusal> {
    let kinds = kinds(catalog, group, version);
    if kinds.is_empty() {
        return Err(Refusal::Unserved);
    }
    let resources: Vec<Value> = kinds.iter().flat_map(Kind::legacy).collect();
    let group_version =
        if group.is_empty() { version.to_owned() } else { format!("{group}/{version}") };
    Ok(json!({
        "kind": "APIResourceList", "apiVersion": "v1", "groupVersion": group_version,
        "resources": resources,
    }))
}

/// The version of the one document that a client accepts before plain JSON.
fn aggregated_version(headers: &HeaderMap) -> Option<&'static str> {
    for clause in clauses(headers) {
        let Some(parameters) = json_parameters(&clause) else { continue };
        let has = |name, value| parameters.contains(&(name, value));
        if !parameters.iter().any(|(name, _)| *name == "as") {
            return None;
        }
        if has("g", "apidiscovery.k8s.io") && has("as", "APIGroupDiscoveryList") {
            let known = ["v2", "v2beta1"].into_iter().find(|version| has("v", version));
            if known.is_some() {
                return known;
            }
        }
    }
    None
}

fn aggregated(catalog: Catalog, core: bool, discovery_version: &'static str) -> Response {
    let groups = groups(catalog).into_iter().filter(|(group, _)| group.is_empty() == core);
    let items: Vec<Value> = groups
        .map(|(group, versions)| {
            let versions: Vec<Value> = versions
                .iter()
                .map(|version| {
                    let resources: Vec<Value> = kinds(catalog, group, version)
                        .iter()
                        .map(|kind| kind.aggregated(group, version))
                        .collect();
                    json!({"version": version, "resources": resources, "freshness": "Current"})
                })
                .collect();
            let mut meta = json!({"creationTimestamp": null});
            if let (Value::Object(meta), false) = (&mut meta, group.is_empty()) {
                meta.insert("name".to_owned(), group.into());
            }
            json!({"metadata": meta, "versions": versions})
        })
        .collect();
    let document = json!({
        "kind": "APIGroupDiscoveryList",
        "apiVersion": format!("apidiscovery.k8s.io/{discovery_version}"),
        "metadata": {}, "items": items,
    });
    let mut response = Response::new(Body::from(document.to_string()));
    let media = match discovery_version {
        "v2" => "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList",
        _ => "application/json;g=apidiscovery.k8s.io;v=v2beta1;as=APIGroupDiscoveryList",
    };
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(media));
    headers.insert(header::VARY, HeaderValue::from_static("Accept"));
    response
}
