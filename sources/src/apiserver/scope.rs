//! What a source watches: which kinds, in which namespaces, and whether it may.

use std::collections::{BTreeMap, BTreeSet};
use std::future::pending;
use std::time::Duration;

use crds::condition;
use futures_util::{StreamExt, stream};
use tokio::time::{Instant, sleep};

use super::api::{Api, Asker, Failed, base};
use super::event::Verb;
use super::object::Kind;
use super::spec::ApiServerSource;
use super::watch::{Collection, Word};
use crate::source::{Context, SourceError};
use crate::status::Condition;

/// How many watches one source may have open: each is a request that the server keeps, of the few thousand it does.
const MAX_WATCHES: usize = 256;

/// What a source has to be allowed.
const VERBS: [&str; 2] = ["list", "watch"];

/// Questions about rights that are asked at once.
const QUESTIONS: usize = 8;

/// What is not allowed, at most so much of it is said.
const MAX_SAID: usize = 10;

/// After a namespace came or went: others often follow, and each time all watches begin anew.
const GATHER: Duration = Duration::from_secs(1);

/// What a source watches.
#[derive(Debug)]
pub(super) struct Scope {
    /// One a kind, without a namespace.
    collections: Vec<Collection>,
    namespaces: Namespaces,
    /// Whose rights are the source's.
    asker: Asker,
    /// Looks for namespaces, as Knative's controller does: a service account may hardly ever do that.
    mesh: Asker,
}

/// In which namespaces.
#[derive(Debug)]
enum Namespaces {
    Own(String),
    All,
    /// The collection of those that the selector means.
    Selected(Box<Collection>),
}

/// The namespaces there are now.
#[derive(Debug)]
pub(super) struct Chosen {
    /// An empty name stands for all.
    pub(super) names: BTreeSet<String>,
    version: String,
}

impl Scope {
    /// Finds out how the server serves what `spec` wants.
    pub(super) async fn find(
        spec: &ApiServerSource,
        api: &Api,
        ctx: &Context,
    ) -> Result<Self, SourceError> {
        let own = &*ctx.about.namespace;
        let asker = api.account(own, &spec.service_account_name)?;
        let mut collections = BTreeMap::new();
        for resource in &spec.resources {
            let collection = Collection {
                asker: asker.clone(),
                kind: asker.kind(resource).await?,
                namespace: String::new(),
                selector: resource.selector.as_ref().map(ToString::to_string).unwrap_or_default(),
                whole: spec.tells_all(),
            };
            collections.insert(collection.key(), collection);
        }
        let mesh = api.mesh();
        let namespaces = match &spec.namespace_selector {
            None => Namespaces::Own(own.to_owned()),
            Some(selector) if selector.is_empty() => Namespaces::All,
            Some(selector) => Namespaces::Selected(Box::new(Collection {
                asker: mesh.clone(),
                kind: Kind {
                    api_version: "v1".to_owned(),
                    kind: "Namespace".to_owned(),
                    plural: "namespaces".to_owned(),
                    namespaced: false,
                },
                namespace: String::new(),
                selector: selector.to_string(),
                whole: false,
            })),
        };
        Ok(Self { collections: collections.into_values().collect(), namespaces, asker, mesh })
    }

    /// The namespaces there are now.
    pub(super) async fn choose(&self) -> Result<Chosen, SourceError> {
        let one = |name: &str| BTreeSet::from([name.to_owned()]);
        let selected = match &self.namespaces {
            Namespaces::Own(name) => {
                return Ok(Chosen { names: one(name), version: String::new() });
            }
            Namespaces::All => return Ok(Chosen { names: one(""), version: String::new() }),
            Namespaces::Selected(selected) => selected,
        };
        let (mut names, mut pages) = (BTreeSet::new(), selected.pages());
        loop {
            let page = pages.next().await.map_err(|failed| failed.or_gone("list namespaces"))?;
            names.extend(page.objects.into_iter().map(|object| object.name));
            if page.next.is_none() {
                return Ok(Chosen { names, version: page.version });
            }
        }
    }

    /// Ends when there are other namespaces than the chosen ones.
    pub(super) async fn changed(&self, chosen: &Chosen) -> Result<(), SourceError> {
        let Namespaces::Selected(selected) = &self.namespaces else { return pending().await };
        match watch(selected, chosen).await {
            Ok(()) => sleep(GATHER).await,
            Err(Failed::Expired) => {}
            Err(failed) => return Err(failed.or_gone("watch namespaces")),
        }
        Ok(())
    }

    /// What is watched in the chosen namespaces.
    pub(super) fn collections(&self, chosen: &Chosen) -> Result<Vec<Collection>, SourceError> {
        let mut found = Vec::new();
        for collection in &self.collections {
            if !collection.kind.namespaced {
                found.push(collection.clone());
                continue;
            }
            for namespace in &chosen.names {
                found.push(Collection { namespace: namespace.clone(), ..collection.clone() });
            }
        }
        if found.len() > MAX_WATCHES {
            let what = format!(
                "{} kinds in {} namespaces are more than {MAX_WATCHES} watches; an empty namespaceSelector watches all \
                 namespaces with one a kind",
                self.collections.len(),
                chosen.names.len()
            );
            return Err(SourceError::Unavailable { what, source: None });
        }
        Ok(found)
    }

    /// What was watched under `keys` and is not among `collections`, because its namespace is gone.
    pub(super) async fn vanished(
        &self,
        keys: impl Iterator<Item = &str>,
        collections: &[Collection],
    ) -> Result<Vec<Collection>, SourceError> {
        let now: BTreeSet<String> = collections.iter().map(Collection::key).collect();
        let mut vanished = Vec::new();
        for key in keys.filter(|key| !now.contains(*key)) {
            let mut ours = self.collections.iter();
            let Some(former) = ours.find_map(|ours| ours.of_key(key)) else { continue };
            if former.namespace.is_empty() {
                continue;
            }
            let path = format!("{}/namespaces/{}", base("v1"), former.namespace);
            if !self.mesh.is_there(&path).await? {
                vanished.push(former);
            }
        }
        Ok(vanished)
    }

    /// Whether the source may watch `collections`; its status says so.
    pub(super) async fn check(
        &self,
        collections: &[Collection],
        ctx: &Context,
    ) -> Result<(), SourceError> {
        const CONDITION: &str = condition::SUFFICIENT_PERMISSIONS;
        let missing = match &self.asker.user {
            Some(_) => self.missing(collections).await,
            None => Ok(Vec::new()),
        };
        let what = match missing {
            Ok(missing) if missing.is_empty() => {
                ctx.report.condition(Condition::good(CONDITION, ""));
                return Ok(());
            }
            Ok(missing) => format!("User {} cannot {}", self.asker.name(), said(missing)),
            Err(SourceError::Credentials { what }) => what,
            Err(error) => return Err(error),
        };
        ctx.report.condition(Condition::bad(CONDITION, "", what.clone()));
        Err(SourceError::Credentials { what })
    }

    /// What the source may not do, in Knative's words.
    async fn missing(&self, collections: &[Collection]) -> Result<Vec<String>, SourceError> {
        let mut asked = Vec::new();
        for Collection { kind, namespace, .. } in collections {
            for verb in VERBS {
                asked.push(self.asker.may(verb, kind, namespace));
            }
        }
        let answers: Vec<_> = stream::iter(asked).buffered(QUESTIONS).collect().await;
        let allowed = answers.into_iter().collect::<Result<Vec<bool>, _>>()?;
        let mut missing = Vec::new();
        for (collection, allowed) in collections.iter().zip(allowed.chunks(VERBS.len())) {
            let verbs = VERBS.iter().zip(allowed).filter(|(_, allowed)| !**allowed);
            let verbs: Vec<&str> = verbs.map(|(verb, _)| *verb).collect();
            if !verbs.is_empty() {
                let Collection { kind, namespace, .. } = collection;
                let group = kind.api_version.split_once('/').map_or("", |(group, _)| group);
                missing.push(format!(
                    "{} resource {:?} in API group {group:?} in Namespace {namespace:?}",
                    verbs.join(", "),
                    kind.plural
                ));
            }
        }
        Ok(missing)
    }
}

fn said(missing: Vec<String>) -> String {
    let more = missing.len().saturating_sub(MAX_SAID);
    let mut said: Vec<String> = missing.into_iter().take(MAX_SAID).collect();
    if more > 0 {
        said.push(format!("and {more} more"));
    }
    said.join(", ")
}

/// Until a namespace came that is not among the chosen ones, or one of them went.
async fn watch(selected: &Collection, chosen: &Chosen) -> Result<(), Failed> {
    let mut version = chosen.version.clone();
    loop {
        let begun = Instant::now();
        let mut watch = selected.watch(&version).await?;
        while let Some(words) = watch.next().await? {
            for word in words {
                word.version().clone_into(&mut version);
                let Word::Changed(verb, namespace) = word else { continue };
                if chosen.names.contains(&namespace.name) == (verb == Verb::Delete) {
                    return Ok(());
                }
            }
        }
        if begun.elapsed() < GATHER {
            sleep(GATHER).await;
        }
    }
}
