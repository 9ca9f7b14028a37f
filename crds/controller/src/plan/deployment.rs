//! What a cluster runs in the place of a mesh that runs no programs: a Deployment of the source's template, as Knative has it.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};

use crds::condition::Truth;
use crds::meta::ObjectMeta;
use crds::object::Key;
use serde_json::{Map, Value, json};
use sources::{Config, Kind};

use super::Planner;
use super::source::Outlet;
use crate::kinds;
use crate::world::Name;

/// The kind that is planned.
pub(crate) const KIND: &str = "Deployment";
/// What Deployments of sources are labelled with, beside the name of their source.
const CONTROLLER: (&str, &str) = ("sources.knative.dev/source", "container-source-controller");
/// On a Deployment: the digest of what was planned. A server fills in much more, with which nothing can be compared.
pub(crate) const PLANNED: &str = "weft.dev/planned";

const AVAILABLE: &str = "Available";

/// What a source is said to be of a template that no cluster runs.
const NOT_RUN: &str =
    "the mesh of a cluster runs no processes: name an image, and leave runtimeClassName out";

/// A Deployment that is not as it should be.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Deployment {
    /// All of it.
    pub(crate) object: Value,
    /// The version that is there, if it is and is the source's: only then are fields of others overwritten.
    pub(crate) version: Option<String>,
}

/// How a source is doing that runs elsewhere: its truth, reason and sentence.
pub(super) type Elsewhere = (Truth, String, String);

impl Planner<'_> {
    /// Plans what a cluster runs for a source; answers how it is doing there.
    pub(super) fn deploy(
        &mut self,
        kind: &Kind,
        metadata: &ObjectMeta,
        config: &Config,
        outlet: &Outlet,
    ) -> Elsewhere {
        let ca_certs = outlet.way.as_ref().and_then(|(sink, _)| sink.ca_certs());
        let url = outlet.shown.as_deref();
        let Some(template) = config.pod_template(url.unwrap_or_default(), ca_certs) else {
            return (Truth::False, "ProgramsNotRun".to_owned(), NOT_RUN.to_owned());
        };
        let name = format!("{}-deployment", metadata.name);
        let held = self.world.deployments.get(&Name::new(&metadata.namespace, &name));
        let owned = held.map(|held| &held.object).filter(|deployment| {
            let owners = &deployment.metadata.owner_references;
            owners.iter().any(|owner| owner.uid == metadata.uid)
        });
        let object = object(kind, metadata, &name, template);
        let planned = owned.and_then(|owned| owned.metadata.annotation(PLANNED));
        // Without a sink it stays as it is.
        if url.is_some() && planned != object.pointer(DIGEST).and_then(Value::as_str) {
            let version = owned.map(|owned| owned.metadata.resource_version.clone());
            let key = Key { kind: KIND, namespace: metadata.namespace.clone(), name: name.clone() };
            self.plan.deployments.insert(key, Deployment { object, version });
        }
        let status = owned.and_then(|owned| owned.status.as_ref());
        match status.and_then(|status| status.condition(AVAILABLE)) {
            Some(said) if said.status == Truth::True => (Truth::True, String::new(), String::new()),
            Some(said) => (said.status, said.reason.clone(), said.message.clone()),
            None => {
                let why = format!("The Deployment '{name}' is unavailable.");
                (Truth::Unknown, "DeploymentUnavailable".to_owned(), why)
            }
        }
    }
}

/// Where [`PLANNED`] is in an object.
pub(crate) const DIGEST: &str = "/metadata/annotations/weft.dev~1planned";

fn object(kind: &Kind, source: &ObjectMeta, name: &str, mut template: Value) -> Value {
    let labels = BTreeMap::from([CONTROLLER, (kinds::DEPLOYED_FOR, source.name.as_str())]);
    if let Some(metadata) = child(&mut template, "metadata")
        && let Some(given) = metadata.entry("labels").or_insert_with(|| json!({})).as_object_mut()
    {
        given.extend(labels.iter().map(|(label, value)| ((*label).to_owned(), (*value).into())));
    }
    let owner = json!({
        "apiVersion": kinds::planned(kind.name).map(kinds::Watched::api_version),
        "kind": kind.name,
        "name": source.name,
        "uid": source.uid,
        "controller": true,
        "blockOwnerDeletion": true,
    });
    let spec = json!({"selector": {"matchLabels": labels}, "template": template});
    let mut digest = DefaultHasher::new();
    spec.to_string().hash(&mut digest);
    json!({
        "apiVersion": "apps/v1",
        "kind": KIND,
        "metadata": {
            "namespace": source.namespace,
            "name": name,
            "labels": labels,
            "annotations": {PLANNED: format!("{:016x}", digest.finish())},
            "ownerReferences": [owner],
        },
        "spec": spec,
    })
}

fn child<'v>(value: &'v mut Value, field: &str) -> Option<&'v mut Map<String, Value>> {
    value.as_object_mut()?.entry(field).or_insert_with(|| json!({})).as_object_mut()
}
