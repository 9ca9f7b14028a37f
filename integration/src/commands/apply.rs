//! `weft apply`: creates and changes what files describe.

use std::io::Write;

use anyhow::bail;
use bytes::Bytes;
use crds::manifest::Located;
use http::Method;
use serde_json::{Value, json};

use crate::api::{ApiClient, Scope, title};
use crate::cli::ApplyArgs;
use crate::resources::{self, CATALOG};

/// The field manager of what this command applies.
const MANAGER: &str = "weft";

pub(super) async fn run(args: ApplyArgs, out: &mut dyn Write) -> anyhow::Result<()> {
    let objects = resources::read(&args.files)?;
    let api = ApiClient::find(&args.api).await?;
    let mut failed = 0_u64;
    for located in &objects {
        match apply(&api, located, args.dry_run).await {
            Ok(line) => writeln!(out, "{line}")?,
            Err(error) => {
                failed += 1;
                writeln!(out, "{}: {error:#}", located.place)?;
            }
        }
    }
    if failed > 0 {
        bail!("{failed} of {} objects were refused", objects.len());
    }
    Ok(())
}

async fn apply(api: &ApiClient, located: &Located, dry_run: bool) -> anyhow::Result<String> {
    let target = target(located, api.namespace())?;
    let before = api.find_object(&target.path).await?;
    let mut path = format!("{}?fieldManager={MANAGER}&force=true", target.path);
    if dry_run {
        path.push_str("&dryRun=All");
    }
    let kinds = ("application/json", "application/apply-patch+yaml");
    let body = Bytes::from(serde_json::to_vec(&target.body)?);
    let after = api.request(Method::PATCH, &path, kinds, body).await?;
    let verb = match &before {
        None => "created",
        Some(before) if wanted(before) == wanted(&after) => "unchanged",
        Some(_) => "configured",
    };
    let how = if dry_run { " (dry run)" } else { "" };
    Ok(format!("{} {verb}{how}", target.title))
}

/// An object without what servers and controllers write.
fn wanted(object: &Value) -> Value {
    let mut object = object.clone();
    if let Some(fields) = object.as_object_mut() {
        fields.remove("status");
    }
    if let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) {
        metadata.remove("managedFields");
        metadata.remove("resourceVersion");
    }
    object
}

/// Where an object of a file goes.
pub(super) struct Target {
    pub(super) path: String,
    pub(super) title: String,
    body: Value,
}

/// An object whose file names no namespace goes to `namespace`.
pub(super) fn target(located: &Located, namespace: &str) -> anyhow::Result<Target> {
    let mut body = located.written.clone();
    let text = |pointer: &str| body.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
    let (api_version, kind) = (text("/apiVersion").to_owned(), text("/kind").to_owned());
    let name = text("/metadata/name").to_owned();
    let own = text("/metadata/namespace").to_owned();
    let namespace = if own.is_empty() { namespace.to_owned() } else { own };
    let (group, version) = api_version.rsplit_once('/').unwrap_or(("", &api_version));
    let Some(resource) = CATALOG.of_kind(group, &kind) else {
        bail!("{kind} ({api_version}) is not served");
    };
    if resource.namespaced
        && let Some(metadata) = body.get_mut("metadata").and_then(Value::as_object_mut)
    {
        metadata.insert("namespace".to_owned(), json!(namespace));
    }
    let scope = Scope { resource, namespace: Some(&namespace), version: Some(version) };
    Ok(Target { path: scope.object(&name), title: title(resource, &name), body })
}
