//! Brings what files declare into the API: applies it, and deletes what an earlier version of them declared.

use std::collections::BTreeSet;

use anyhow::Context;
use crds::annotation::FILE;
use crds::manifest::Located;
use crds::resource::Resource;
use crds::trigger::BROKER_LABEL;
use crds::{broker, namespace, object};
use futures_util::StreamExt;
use kube::api::{ApiResource, DeleteParams, DynamicObject, ListParams, Patch, PatchParams};
use kube::{Api, Client};
use serde_json::{Value, json};

use crate::resources::CATALOG;

/// The field manager of the files: whatever it has applied came from them, which is how it is found again after a restart.
const MANAGER: &str = "weft-files";

/// Objects under way at a time. They share commits, so more at once are faster; each is a request in memory.
const CONCURRENT: usize = 64;

/// Metadata of this many objects is read at once.
const PAGE: u32 = 500;

/// What identifies an object in the API.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Name {
    /// Namespaces first, then what others depend on.
    rank: usize,
    group: &'static str,
    kind: &'static str,
    namespace: String,
    name: String,
}

/// An object to apply.
#[derive(Debug)]
struct Wanted<'a> {
    name: Name,
    resource: &'static Resource,
    version: String,
    body: Value,
    /// Where it was written; none for a namespace that is only used.
    located: Option<&'a Located>,
}

/// What becomes of objects that files declared once and do no more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gone {
    /// They are deleted: somebody took them out of a file just now.
    Deleted,
    /// The same, but for Brokers and the Triggers of these: who starts a mesh with other files may not mean that the events of
    /// the last ones should go.
    DeletedButBrokers,
}

/// Applies `objects`, creates the namespaces they use, and sees to what is gone from the files. Objects that came otherwise
/// are left alone. Answers with what was refused, and where it was written.
///
/// # Errors
/// When the API cannot be reached.
pub async fn apply(
    client: &Client,
    objects: &[Located],
    gone: Gone,
) -> anyhow::Result<Vec<String>> {
    let mut wanted: Vec<Wanted<'_>> = objects.iter().filter_map(of_file).collect();
    let declared: BTreeSet<Name> = wanted.iter().map(|wanted| wanted.name.clone()).collect();
    let used: BTreeSet<&str> = wanted.iter().map(|wanted| wanted.name.namespace.as_str()).collect();
    let implied: Vec<Wanted<'_>> = used
        .into_iter()
        .filter(|namespace| !namespace.is_empty())
        .filter_map(implied_namespace)
        .filter(|namespace| !declared.contains(&namespace.name))
        .collect();
    // First, so that what is applied afterwards never meets what it replaces.
    forget(client, &declared, gone).await?;
    for namespace in implied {
        create(client, &namespace).await?;
    }
    wanted.sort_by(|a, b| a.name.cmp(&b.name));
    let mut refused = Vec::new();
    // Rank by rank: a Trigger must not be refused because its namespace is only about to come.
    while !wanted.is_empty() {
        let rank = wanted.first().map_or(0, |first| first.name.rank);
        let rest = wanted.split_off(wanted.partition_point(|wanted| wanted.name.rank == rank));
        let mut answers = futures_util::stream::iter(wanted.iter().map(|one| patch(client, one)))
            .buffer_unordered(CONCURRENT);
        while let Some(answer) = answers.next().await {
            refused.extend(answer?);
        }
        drop(answers);
        wanted = rest;
    }
    refused.sort();
    Ok(refused)
}

fn of_file(located: &Located) -> Option<Wanted<'_>> {
    let object::Key { kind, namespace, name } = located.object.key();
    let api_version = located.written.get("apiVersion")?.as_str()?;
    let (group, version) = api_version.rsplit_once('/').unwrap_or(("", api_version));
    let resource = CATALOG.of_kind(group, kind)?;
    let mut body = located.written.clone();
    let metadata = body.get_mut("metadata")?.as_object_mut()?;
    // What some server wrote is not what the file wants.
    for field in ["uid", "resourceVersion", "generation", "creationTimestamp", "managedFields"] {
        metadata.remove(field);
    }
    if resource.namespaced {
        metadata.insert("namespace".to_owned(), json!(namespace));
    }
    let annotations = metadata.entry("annotations").or_insert_with(|| json!({}));
    if annotations.is_null() {
        *annotations = json!({});
    }
    // Also what tells the objects of files from others: a manager that owns no field is not recorded.
    annotations.as_object_mut()?.insert(FILE.to_owned(), json!(&*located.place.file));
    let name =
        Name { rank: rank(kind), group: resource.group, kind: resource.kind, namespace, name };
    Some(Wanted { name, resource, version: version.to_owned(), body, located: Some(located) })
}

fn implied_namespace(name: &str) -> Option<Wanted<'static>> {
    let resource = CATALOG.of_kind("", namespace::KIND)?;
    let body = json!({"apiVersion": "v1", "kind": namespace::KIND, "metadata": {"name": name}});
    let name = Name {
        rank: rank(namespace::KIND),
        group: "",
        kind: namespace::KIND,
        namespace: String::new(),
        name: name.to_owned(),
    };
    Some(Wanted { name, resource, version: "v1".to_owned(), body, located: None })
}

fn rank(kind: &str) -> usize {
    match kind {
        namespace::KIND => 0,
        crds::config_map::KIND | crds::secret::KIND => 1,
        broker::KIND => 2,
        _ => 3,
    }
}

/// The API of a kind, in a namespace if it has one.
fn api(client: &Client, resource: &Resource, version: &str, namespace: &str) -> Api<DynamicObject> {
    let described = describe(resource, version);
    if namespace.is_empty() {
        Api::all_with(client.clone(), &described)
    } else {
        Api::namespaced_with(client.clone(), namespace, &described)
    }
}

fn describe(resource: &Resource, version: &str) -> ApiResource {
    ApiResource {
        group: resource.group.to_owned(),
        version: version.to_owned(),
        api_version: resource.api_version(version),
        kind: resource.kind.to_owned(),
        plural: resource.plural.to_owned(),
    }
}

/// Creates a namespace that is only used; it stays when it is no more.
async fn create(client: &Client, wanted: &Wanted<'_>) -> anyhow::Result<()> {
    let api = api(client, wanted.resource, &wanted.version, "");
    let object: DynamicObject = serde_json::from_value(wanted.body.clone())?;
    match api.create(&kube::api::PostParams::default(), &object).await {
        Ok(_) => Ok(()),
        Err(kube::Error::Api(status)) if status.is_already_exists() => Ok(()),
        Err(error) => Err(error).with_context(|| format!("create namespace {}", wanted.name.name)),
    }
}

/// Applies one object; a refusal is a sentence that says where the object was written.
async fn patch(client: &Client, wanted: &Wanted<'_>) -> anyhow::Result<Option<String>> {
    let api = api(client, wanted.resource, &wanted.version, &wanted.name.namespace);
    let params = PatchParams::apply(MANAGER).force();
    match api.patch(&wanted.name.name, &params, &Patch::Apply(&wanted.body)).await {
        Ok(_) => Ok(None),
        Err(kube::Error::Api(status)) => {
            let place = wanted.located.map(|located| located.place.to_string()).unwrap_or_default();
            let Name { kind, name, .. } = &wanted.name;
            Ok(Some(format!("{place}: {kind} {name}: {}", status.message)))
        }
        Err(error) => Err(error).with_context(|| format!("apply {}", wanted.name.name)),
    }
}

/// Deletes what the files declared once and do no more.
async fn forget(client: &Client, declared: &BTreeSet<Name>, gone: Gone) -> anyhow::Result<()> {
    // Of the brokers that stay although no file declares them.
    let mut kept = BTreeSet::new();
    let writable = |resource: &&Resource| resource.writable;
    for resource in CATALOG.iter().filter(writable) {
        let Some(version) = resource.versions.first() else { continue };
        for (name, broker) in from_files(client, resource, version.name).await? {
            if declared.contains(&name) {
                continue;
            }
            let of = match name.kind {
                broker::KIND => name.name.clone(),
                _ => broker.unwrap_or_default(),
            };
            let of = (name.namespace.clone(), of);
            if gone == Gone::DeletedButBrokers && (name.kind == broker::KIND || kept.contains(&of))
            {
                tell_kept(&name);
                kept.insert(of);
            } else {
                delete(client, resource, version.name, &name).await?;
            }
        }
    }
    Ok(())
}

fn tell_kept(name: &Name) {
    if name.kind == broker::KIND {
        let Name { namespace, name, .. } = name;
        tracing::warn!(
            "no file declares broker {namespace}/{name} any more: it stays, with its events and triggers, until it is \
             deleted: weft delete broker {name} -n {namespace}"
        );
    }
}

/// The objects of a kind that files declared, each with the broker it is labelled with.
async fn from_files(
    client: &Client,
    resource: &'static Resource,
    version: &str,
) -> anyhow::Result<Vec<(Name, Option<String>)>> {
    let everywhere: Api<DynamicObject> =
        Api::all_with(client.clone(), &describe(resource, version));
    let mut page = ListParams::default().limit(PAGE);
    let mut found = Vec::new();
    loop {
        let list = everywhere.list_metadata(&page).await?;
        for metadata in list.items.into_iter().map(|item| item.metadata).filter(is_from_files) {
            let name = Name {
                rank: rank(resource.kind),
                group: resource.group,
                kind: resource.kind,
                namespace: metadata.namespace.unwrap_or_default(),
                name: metadata.name.unwrap_or_default(),
            };
            let broker = metadata.labels.and_then(|mut labels| labels.remove(BROKER_LABEL));
            found.push((name, broker));
        }
        match list.metadata.continue_.filter(|token| !token.is_empty()) {
            Some(token) => page = page.continue_token(&token),
            None => return Ok(found),
        }
    }
}

fn is_from_files(metadata: &kube::api::ObjectMeta) -> bool {
    let managers = metadata.managed_fields.iter().flatten();
    managers.into_iter().any(|entry| {
        entry.manager.as_deref() == Some(MANAGER) && entry.operation.as_deref() == Some("Apply")
    })
}

async fn delete(
    client: &Client,
    resource: &Resource,
    version: &str,
    name: &Name,
) -> anyhow::Result<()> {
    let api = api(client, resource, version, &name.namespace);
    match api.delete(&name.name, &DeleteParams::background()).await {
        Ok(_) => {
            tracing::info!(
                kind = name.kind,
                namespace = name.namespace,
                name = name.name,
                "no file declares it any more: deleted"
            );
            Ok(())
        }
        Err(kube::Error::Api(status)) if status.is_not_found() => Ok(()),
        Err(error) => Err(error).with_context(|| format!("delete {} {}", name.kind, name.name)),
    }
}
