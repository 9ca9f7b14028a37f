//! Looks at the subjects of bindings, and changes them as planned. A subject may be of any kind, so none of them is watched:
//! they are looked at from time to time, one request after the other, and at once when a binding changes.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use crds::meta::ObjectMeta;
use crds::object::Key;
use crds::sink_binding::{BOUND_BY, Subject};
use http::Request;
use http::header::CONTENT_TYPE;
use kube::Resource;
use kube::api::{Api, DynamicObject, ListParams};
use kube::core::{ApiResource, GroupVersionKind};
use kube::discovery;
use serde_json::Value;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::observe::Shared;
use crate::plan::binding::patch::{self, Unbound};
use crate::plan::binding::{Binding, Look, SubjectKind, Wish};
use crate::write::{MANAGER, TIMEOUT};

/// Between two looks: what a user's own tools took away is back within this time. A look costs a list of metadata for each
/// kind in each namespace that has a binding.
const PAUSE: Duration = Duration::from_secs(10);
/// Subjects of one binding. Each that changes is read whole and written; an application has fewer workloads.
const MAX_SUBJECTS: usize = 100;
/// Objects in a page of a list.
const PAGE: u32 = 500;
/// Pages of a list. Of more objects of a kind in one namespace, which Kubernetes does not promise to bear either, the rest
/// is not seen.
const MAX_PAGES: usize = 20;
/// How often a subject is read again that changed between reading and writing; after that the next look sees it.
const ATTEMPTS: usize = 3;

/// What was found of each binding.
pub(crate) type Looks = BTreeMap<Key, Look>;

type Bindings = BTreeMap<Key, Binding>;

/// The task that binds.
pub(crate) struct Binder {
    client: kube::Client,
    shared: Arc<Shared>,
    looks: watch::Sender<Looks>,
    /// By binding, the uids and versions of its subjects that are as they should be.
    good: BTreeMap<Key, BTreeMap<String, String>>,
}

/// A binding that is looked at.
struct Task<'a> {
    key: &'a Key,
    binding: &'a Binding,
    /// Those of all bindings.
    marks: &'a BTreeSet<&'a str>,
}

/// What lists said during one look.
type Lists = BTreeMap<(String, SubjectKind), Result<Arc<Listed>, Failure>>;

struct Listed {
    resource: ApiResource,
    objects: Vec<ObjectMeta>,
    /// Whether there are more.
    cut: bool,
}

/// Why a request came to nothing.
#[derive(Clone, Debug)]
enum Failure {
    /// The server has no such thing.
    Absent(String),
    /// The mesh may not do that.
    Forbidden(String),
    /// The object changed meanwhile, or the server does not take the change.
    Refused(String),
    Other(String),
}

impl Binder {
    pub(crate) fn new(client: kube::Client, shared: Arc<Shared>) -> (Self, watch::Receiver<Looks>) {
        let (looks, told) = watch::channel(Looks::new());
        (Self { client, shared, looks, good: BTreeMap::new() }, told)
    }

    /// Keeps the subjects of all bindings as `wished` says, until `stop`.
    pub(crate) async fn run(
        mut self,
        mut wished: watch::Receiver<Arc<Bindings>>,
        stop: CancellationToken,
    ) {
        loop {
            let bindings = Arc::clone(&wished.borrow_and_update());
            if stop.run_until_cancelled(self.look_at_all(&bindings)).await.is_none() {
                return;
            }
            let pause = async {
                if bindings.is_empty() {
                    std::future::pending::<()>().await;
                }
                tokio::time::sleep(PAUSE).await;
            };
            tokio::select! {
                () = stop.cancelled() => return,
                changed = wished.changed() => {
                    // The controller is gone, and with it everything there is to bind.
                    if changed.is_err() {
                        return;
                    }
                }
                () = pause => {}
            }
        }
    }

    async fn look_at_all(&mut self, bindings: &Bindings) {
        self.good.retain(|key, _| bindings.contains_key(key));
        self.tell(|looks| looks.retain(|key, _| bindings.contains_key(key)));
        let marks: BTreeSet<&str> = bindings.values().map(|one| one.mark.as_str()).collect();
        let mut lists = Lists::new();
        // What changed comes first: somebody waits for it.
        let known = self.looks.borrow().clone();
        let is_known =
            |(key, one): &(&Key, &Binding)| known.get(*key).is_some_and(|look| look.of == **one);
        let (old, new): (Vec<_>, Vec<_>) = bindings.iter().partition(is_known);
        for (key, binding) in new.into_iter().chain(old) {
            if known.get(key).is_none_or(|look| look.of != *binding) {
                self.good.remove(key);
            }
            let task = Task { key, binding, marks: &marks };
            let look = self.look(&task, &mut lists).await;
            if let Some((reason, why)) = &look.wrong {
                tracing::debug!(binding = %key, reason, why, "not bound");
            }
            self.tell(|looks| {
                looks.insert(key.clone(), look);
            });
        }
    }

    /// Changes what was found; if that makes a difference, statuses are planned anew.
    fn tell(&self, change: impl FnOnce(&mut Looks)) {
        let changed = self.looks.send_if_modified(|looks| {
            let before = looks.clone();
            change(looks);
            *looks != before
        });
        if changed {
            self.shared.nudge();
        }
    }

    async fn look(&mut self, task: &Task<'_>, lists: &mut Lists) -> Look {
        let binding = task.binding;
        let mut look = Look { of: binding.clone(), kinds: Vec::new(), wrong: None };
        if binding.wish == Wish::Keep {
            look.kinds.clone_from(&binding.kinds);
            return look;
        }
        for kind in &binding.kinds {
            let at = (binding.namespace.clone(), kind.clone());
            if !lists.contains_key(&at) {
                let listed = self.list(&binding.namespace, kind).await.map(Arc::new);
                lists.insert(at.clone(), listed);
            }
            let done = match lists.get(&at) {
                Some(Ok(listed)) => {
                    let listed = Arc::clone(listed);
                    self.look_at_kind(task, kind, &listed).await
                }
                Some(Err(failure)) => failure.of_kind(binding.subject(kind).is_some(), kind),
                None => Ok(()),
            };
            // Nothing of another kind is left once that is done.
            if done.is_err() || binding.subject(kind).is_some() {
                look.kinds.push(kind.clone());
            }
            look.wrong = look.wrong.or(done.err());
        }
        look
    }

    /// Binds and releases what there is of a kind. What cannot be is no reason to leave the others.
    async fn look_at_kind(
        &mut self,
        task: &Task<'_>,
        kind: &SubjectKind,
        listed: &Listed,
    ) -> Result<(), (&'static str, String)> {
        let Task { key, binding, marks } = *task;
        let subject = binding.subject(kind);
        let (mut bound, mut wrong) = (0, None);
        let before = self.good.get(key).filter(|_| subject.is_some());
        let before = before.cloned().unwrap_or_default();
        let mut good = BTreeMap::new();
        for metadata in &listed.objects {
            let marked = metadata.annotation(BOUND_BY) == Some(binding.mark.as_str());
            let mut variables = subject.filter(|(subject, _)| subject.means(metadata));
            let known = before.get(&metadata.uid);
            bound += usize::from(variables.is_some());
            if bound > MAX_SUBJECTS && variables.take().is_some() {
                let why = format!("more than {MAX_SUBJECTS} subjects: the others are not bound");
                wrong.get_or_insert(why);
            }
            if variables.is_none() && !marked {
                continue;
            }
            if variables.is_some() && known == Some(&metadata.resource_version) {
                good.insert(metadata.uid.clone(), metadata.resource_version.clone());
                continue;
            }
            let change = |object: &Value| match variables {
                Some((_, variables)) => {
                    patch::bind(object, &binding.mark, variables, |mark| marks.contains(mark))
                }
                None => Ok(patch::release(object, &binding.mark)),
            };
            match self.change(&listed.resource, metadata, change).await {
                Ok(version) => {
                    let version = version.filter(|_| variables.is_some());
                    good.extend(version.map(|version| (metadata.uid.clone(), version)));
                }
                Err(why) => {
                    wrong.get_or_insert(format!("{} {:?}: {why}", kind.kind, metadata.name));
                }
            }
        }
        if subject.is_some() {
            self.good.insert(key.clone(), good);
        }
        if listed.cut {
            let most = u64::from(PAGE) * MAX_PAGES as u64;
            wrong.get_or_insert(format!("there are more than {most} objects of kind {kind}"));
        }
        match (wrong, subject) {
            (Some(why), _) => Err(("BindingFailed", why)),
            (None, Some((subject, _))) if bound == 0 => Err(("SubjectMissing", missing(subject))),
            (None, _) => Ok(()),
        }
    }

    /// Changes an object; answers with its version after that, if it is still there.
    async fn change(
        &self,
        resource: &ApiResource,
        of: &ObjectMeta,
        change: impl Fn(&Value) -> Result<Vec<Value>, Unbound>,
    ) -> Result<Option<String>, String> {
        let api: Api<DynamicObject> =
            Api::namespaced_with(self.client.clone(), &of.namespace, resource);
        let mut refused = String::new();
        for _ in 0..ATTEMPTS {
            let object = match timely(api.get(&of.name)).await {
                Ok(object) => object,
                Err(Failure::Absent(_)) => return Ok(None),
                Err(failure) => return Err(failure.sentence()),
            };
            let version = object.metadata.resource_version.clone();
            if object.metadata.deletion_timestamp.is_some() {
                return Ok(version);
            }
            let object = serde_json::to_value(object).map_err(|error| error.to_string())?;
            let operations = change(&object).map_err(|why| why.to_string())?;
            if operations.is_empty() {
                return Ok(version);
            }
            match self.patch(resource, of, &operations).await {
                Ok(object) => return Ok(object.metadata.resource_version),
                Err(Failure::Absent(_)) => return Ok(None),
                Err(Failure::Refused(why)) => refused = why,
                Err(failure) => return Err(failure.sentence()),
            }
        }
        Err(refused)
    }

    async fn patch(
        &self,
        resource: &ApiResource,
        of: &ObjectMeta,
        operations: &[Value],
    ) -> Result<DynamicObject, Failure> {
        let collection = DynamicObject::url_path(resource, Some(&of.namespace));
        let body =
            serde_json::to_vec(operations).map_err(|error| Failure::Other(error.to_string()))?;
        let request = Request::patch(format!("{collection}/{}?fieldManager={MANAGER}", of.name))
            .header(CONTENT_TYPE, "application/json-patch+json")
            .body(body)
            .map_err(|error| Failure::Other(error.to_string()))?;
        timely(self.client.request(request)).await
    }

    /// The metadata of all objects of a kind in a namespace.
    async fn list(&self, namespace: &str, kind: &SubjectKind) -> Result<Listed, Failure> {
        let (group, version) =
            kind.api_version.split_once('/').unwrap_or(("", kind.api_version.as_str()));
        let gvk = GroupVersionKind::gvk(group, version, &kind.kind);
        let (resource, _) = timely(discovery::pinned_kind(&self.client, &gvk)).await?;
        let api: Api<DynamicObject> =
            Api::namespaced_with(self.client.clone(), namespace, &resource);
        let mut params = ListParams::default().limit(PAGE);
        let mut objects = Vec::new();
        for _ in 0..MAX_PAGES {
            let page = timely(api.list_metadata(&params)).await?;
            objects.extend(page.items.iter().filter_map(|item| {
                serde_json::from_value(serde_json::to_value(&item.metadata).ok()?).ok()
            }));
            match page.metadata.continue_.filter(|token| !token.is_empty()) {
                Some(token) => params = params.continue_token(&token),
                None => return Ok(Listed { resource, objects, cut: false }),
            }
        }
        Ok(Listed { resource, objects, cut: true })
    }
}

impl Binding {
    /// The subjects that should be bound of a kind, and what they are told.
    fn subject(&self, kind: &SubjectKind) -> Option<(&Subject, &sources::container::Variables)> {
        match &self.wish {
            Wish::Bind { subject, variables }
                if subject.kind == kind.kind && subject.api_version == kind.api_version =>
            {
                Some((subject, variables))
            }
            _ => None,
        }
    }
}

impl Failure {
    fn sentence(&self) -> String {
        let (Self::Absent(why) | Self::Forbidden(why) | Self::Refused(why) | Self::Other(why)) =
            self;
        why.clone()
    }

    /// What it means that a kind cannot be listed. Where nothing is to be bound, what the server does not have or the mesh may
    /// not see is released as far as it can be: a binding must not be kept for ever by that.
    fn of_kind(&self, is_subject: bool, kind: &SubjectKind) -> Result<(), (&'static str, String)> {
        match self {
            Self::Absent(_) | Self::Forbidden(_) if !is_subject => {
                tracing::warn!(%kind, why = self.sentence(), "not looked at for what is bound");
                Ok(())
            }
            Self::Absent(_) => {
                Err(("SubjectUnavailable", format!("the API server has no kind {kind}")))
            }
            _ => Err(("SubjectUnavailable", self.sentence())),
        }
    }
}

fn missing(subject: &Subject) -> String {
    let Subject { kind, namespace, name, .. } = subject;
    match &subject.selector {
        Some(_) => format!("no {kind} in namespace {namespace:?} has these labels"),
        None => format!("there is no {kind} {name:?} in namespace {namespace:?}"),
    }
}

async fn timely<T>(request: impl Future<Output = kube::Result<T>>) -> Result<T, Failure> {
    match tokio::time::timeout(TIMEOUT, request).await {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(kube::Error::Api(status))) => Err(match status.code {
            404 => Failure::Absent(status.message),
            403 => Failure::Forbidden(status.message),
            409 | 422 => Failure::Refused(status.message),
            _ => Failure::Other(status.message),
        }),
        Ok(Err(kube::Error::Discovery(error))) => Err(Failure::Absent(error.to_string())),
        Ok(Err(error)) => Err(Failure::Other(error.to_string())),
        Err(_) => Err(Failure::Other(format!("no answer in {} s", TIMEOUT.as_secs()))),
    }
}
