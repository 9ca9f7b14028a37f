//! The commands' way to resources: the API of a mesh, or of any cluster that a kubeconfig names.

use std::path::PathBuf;

use anyhow::{Context, bail};
use bytes::Bytes;
use crds::resource::Resource;

use crate::resources::CATALOG;
use http::{Method, Request, header};
use kube::config::{KubeConfigOptions, Kubeconfig};
use serde_json::Value;

use crate::access::KUBECONFIG;
use crate::cli::ApiArgs;
use crate::config;

/// What a server is asked for when people read the answer.
pub const TABLE: &str = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json";

/// A client for resources.
#[derive(Clone)]
pub struct ApiClient {
    client: kube::Client,
    namespace: String,
}

/// Resources that are meant: of one kind, in one namespace or in all.
#[derive(Clone, Copy, Debug)]
pub struct Scope<'a> {
    /// The kind.
    pub resource: &'static Resource,
    /// Its namespace; all if there is none.
    pub namespace: Option<&'a str>,
    /// Its version; the one that is stored if there is none.
    pub version: Option<&'a str>,
}

impl std::fmt::Debug for ApiClient {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ApiClient").field("namespace", &self.namespace).finish_non_exhaustive()
    }
}

impl ApiClient {
    /// Finds the API through the kubeconfig of a mesh's data directory, or the one that is named.
    ///
    /// # Errors
    /// When there is none, with what to do about it.
    pub async fn find(args: &ApiArgs) -> anyhow::Result<Self> {
        let path = kubeconfig_path(args)?;
        let kubeconfig = Kubeconfig::read_from(&path).with_context(|| {
            format!(
                "no API is known: {} cannot be read. Is `weft up` running? Name its data directory with --data DIR, or \
                 another cluster with --kubeconfig FILE",
                path.display()
            )
        })?;
        let options =
            KubeConfigOptions { context: args.context.clone(), ..KubeConfigOptions::default() };
        let mut config = kube::Config::from_custom_kubeconfig(kubeconfig, &options)
            .await
            .with_context(|| format!("use {}", path.display()))?;
        // A watch may be silent for as long as nothing happens.
        config.read_timeout = None;
        let namespace = args.namespace.clone().unwrap_or_else(|| config.default_namespace.clone());
        let client = kube::Client::try_from(config).context("make a client")?;
        Ok(Self { client, namespace })
    }

    /// The underlying client.
    #[must_use]
    pub fn kube(&self) -> &kube::Client {
        &self.client
    }

    /// The namespace that is meant when none is named.
    #[must_use]
    pub fn namespace(&self) -> &str {
        &self.namespace
    }

    /// Sends a request and reads the answer as JSON.
    ///
    /// # Errors
    /// When the server cannot be reached, or refuses: then in its words.
    pub async fn request(
        &self,
        method: Method,
        path: &str,
        (accept, content_type): (&str, &str),
        body: Bytes,
    ) -> anyhow::Result<Value> {
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header(header::ACCEPT, accept)
            .header(header::CONTENT_TYPE, content_type)
            .body(body.to_vec())
            .context("make a request")?;
        self.client.request(request).await.map_err(refusal)
    }

    /// Reads JSON from `path`.
    ///
    /// # Errors
    /// As [`ApiClient::request`].
    pub async fn get(&self, path: &str, accept: &str) -> anyhow::Result<Value> {
        self.request(Method::GET, path, (accept, "application/json"), Bytes::new()).await
    }

    /// The object at `path`, if there is one.
    ///
    /// # Errors
    /// As [`ApiClient::request`].
    pub async fn find_object(&self, path: &str) -> anyhow::Result<Option<Value>> {
        let request = Request::get(path).body(Vec::new()).context("make a request")?;
        match self.client.request(request).await {
            Ok(object) => Ok(Some(object)),
            Err(kube::Error::Api(status)) if status.is_not_found() => Ok(None),
            Err(error) => Err(refusal(error)),
        }
    }
}

/// What a server refused, in its words; everything else with its causes.
fn refusal(error: kube::Error) -> anyhow::Error {
    match error {
        kube::Error::Api(status) => {
            anyhow::anyhow!("Error from server ({}): {}", status.reason, status.message)
        }
        other => anyhow::Error::new(other).context("ask the API"),
    }
}

/// Where the kubeconfig is that these arguments mean.
///
/// # Errors
/// When no data directory is known.
pub fn kubeconfig_path(args: &ApiArgs) -> anyhow::Result<PathBuf> {
    if let Some(path) = &args.kubeconfig {
        return Ok(path.clone());
    }
    let data = match &args.data {
        Some(data) => data.clone(),
        None => config::default_data()?,
    };
    Ok(data.join(KUBECONFIG))
}

/// The kind that a word means: `trigger`, `triggers`, `Trigger`, a short name, or any of these with its group.
///
/// # Errors
/// When no kind is called so; with those there are.
pub fn kind(word: &str) -> anyhow::Result<&'static Resource> {
    let lower = word.to_lowercase();
    let (name, group) = lower.split_once('.').map_or((lower.as_str(), None), |(n, g)| (n, Some(g)));
    let found = CATALOG.iter().find(|resource| {
        let called = resource.plural == name
            || resource.singular == name
            || resource.kind.to_lowercase() == name
            || resource.short_names.contains(&name);
        called && group.is_none_or(|group| resource.group == group)
    });
    let Some(found) = found else {
        let known: Vec<&str> = CATALOG.iter().map(|resource| resource.plural).collect();
        bail!("no kind is called {word:?}: there are {}", known.join(", "));
    };
    Ok(found)
}

/// The kinds that a word means: one, several separated by commas, or a category such as `all`.
///
/// # Errors
/// When no kind is called so.
pub fn kinds(words: &str) -> anyhow::Result<Vec<&'static Resource>> {
    let mut found = Vec::new();
    for word in words.split(',').filter(|word| !word.is_empty()) {
        let category: Vec<&Resource> =
            CATALOG.iter().filter(|resource| resource.categories.contains(&word)).collect();
        if category.is_empty() {
            found.push(kind(word)?);
        } else {
            found.extend(category);
        }
    }
    Ok(found)
}

impl Scope<'_> {
    /// The path of the collection.
    #[must_use]
    pub fn path(&self) -> String {
        let stored = || self.resource.versions.first().map_or("v1", |version| version.name);
        let version = self.version.unwrap_or_else(stored);
        let root = if self.resource.group.is_empty() { "/api" } else { "/apis" };
        let api_version = self.resource.api_version(version);
        match self.namespace.filter(|_| self.resource.namespaced) {
            Some(namespace) => {
                format!("{root}/{api_version}/namespaces/{namespace}/{}", self.resource.plural)
            }
            None => format!("{root}/{api_version}/{}", self.resource.plural),
        }
    }

    /// The path of one object.
    #[must_use]
    pub fn object(&self, name: &str) -> String {
        format!("{}/{name}", self.path())
    }
}

/// How an object is named in messages: `trigger.eventing.knative.dev/orders`.
#[must_use]
pub fn title(resource: &Resource, name: &str) -> String {
    if resource.group.is_empty() {
        format!("{}/{name}", resource.singular)
    } else {
        format!("{}.{}/{name}", resource.singular, resource.group)
    }
}
