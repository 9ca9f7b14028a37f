//! `weft delete`: takes away what is named, or what files describe.

use std::io::Write;
use std::time::Duration;

use anyhow::{bail, ensure};
use bytes::Bytes;
use http::Method;
use serde_json::json;
use tokio::time::Instant;

use super::apply::target;
use crate::api::{self, ApiClient, Scope, title};
use crate::cli::{Cascade, DeleteArgs};
use crate::resources;

/// How often an object that must go is looked for.
const LOOK_EVERY: Duration = Duration::from_millis(200);

pub(super) async fn run(args: DeleteArgs, out: &mut dyn Write) -> anyhow::Result<()> {
    let api = ApiClient::find(&args.api).await?;
    let namespace = api.namespace().to_owned();
    let mut targets = Vec::new();
    if let Some(kind) = &args.kind {
        let resource = api::kind(kind)?;
        ensure!(!args.names.is_empty(), "name what to delete: weft delete {kind} NAME");
        let scope = Scope { resource, namespace: Some(&namespace), version: None };
        targets.extend(args.names.iter().map(|name| (scope.object(name), title(resource, name))));
    }
    if !args.files.is_empty() {
        for located in resources::read(&args.files)?.iter().rev() {
            let target = target(located, &namespace)?;
            targets.push((target.path, target.title));
        }
    }
    ensure!(!targets.is_empty(), "nothing is named: weft delete KIND NAME, or weft delete -f FILE");
    let policy = match args.cascade {
        Cascade::Background => "Background",
        Cascade::Foreground => "Foreground",
        Cascade::Orphan => "Orphan",
    };
    let deadline = Instant::now() + Duration::from_secs(args.timeout);
    for (path, title) in &targets {
        if api.find_object(path).await?.is_none() {
            ensure!(args.ignore_not_found, "{title} not found");
            continue;
        }
        let options =
            json!({"kind": "DeleteOptions", "apiVersion": "v1", "propagationPolicy": policy});
        let body = Bytes::from(serde_json::to_vec(&options)?);
        api.request(Method::DELETE, path, ("application/json", "application/json"), body).await?;
        while args.wait && api.find_object(path).await?.is_some() {
            if Instant::now() >= deadline {
                bail!(
                    "{title} is marked for deletion, but something still holds it (see its finalizers)"
                );
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
        writeln!(out, "{title} deleted")?;
    }
    Ok(())
}
