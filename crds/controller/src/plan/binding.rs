//! What becomes of bindings: which variables the containers of which subjects should have. [`patch`] says what is changed of
//! a subject for that; [`crate::bind`] does it, and says what it found.

use crds::condition::{self, Status, Truth, reason};
use crds::name;
use crds::object::Key;
use crds::sink_binding::{BOUND_KINDS, KIND, SinkBinding, Subject};
use serde_json::Value;
use sources::container::{Variables, contract};

use super::source::Outlet;
use super::{FINALIZER, Planner, key};
use crate::conditions::Conditions;
use crate::world::{Held, Name, is_alive};

pub(crate) mod patch;

/// Kinds of which a binding may have bound subjects. One more each time its subject becomes of another kind, and one less
/// once those are released, so nobody comes near it.
const MAX_KINDS: usize = 16;

/// Why a mesh without a cluster binds nothing.
const NO_WORKLOADS: &str =
    "there are no workloads to bind: weft up runs none, so a SinkBinding works in a cluster only";

/// A binding, and what is to be done with its subjects.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Binding {
    /// What its subjects are marked with: `namespace/name uid`.
    pub(crate) mark: String,
    pub(crate) namespace: String,
    /// The kinds of which subjects may be marked.
    pub(crate) kinds: Vec<SubjectKind>,
    pub(crate) wish: Wish,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Wish {
    /// These subjects have these variables, and no others have any of the binding's.
    Bind { subject: Subject, variables: Variables },
    /// What is bound stays as it is.
    Keep,
    /// Nothing is bound any more.
    Release,
}

/// A kind of subjects. Its parts can become parts of paths.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct SubjectKind {
    /// As in `apps/v1`.
    pub(crate) api_version: String,
    pub(crate) kind: String,
}

/// What was found at a look at the subjects of a binding.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Look {
    /// What was to be done.
    pub(crate) of: Binding,
    /// The kinds of which subjects may still be marked.
    pub(crate) kinds: Vec<SubjectKind>,
    /// Reason and sentence, if it could not be done.
    pub(crate) wrong: Option<(&'static str, String)>,
}

impl SubjectKind {
    fn of(subject: &Subject) -> Self {
        Self { api_version: subject.api_version.clone(), kind: subject.kind.clone() }
    }

    /// As a status has it: `apps/v1/Deployment`.
    fn read(text: &str) -> Option<Self> {
        let (api_version, kind) = text.rsplit_once('/')?;
        let is_one = name::is_api_version(api_version) && name::is_identifier(kind);
        is_one.then(|| Self { api_version: api_version.to_owned(), kind: kind.to_owned() })
    }

    /// Why nothing can be bound of this kind, if that is so.
    fn refused(&self) -> Option<&'static str> {
        match (self.api_version.as_str(), self.kind.as_str()) {
            ("batch/v1", "Job") => Some(
                "the template of a Job cannot change once it is made: bind the CronJob that makes it, or name K_SINK in the template",
            ),
            ("v1", "Pod") => Some(
                "the variables of a Pod cannot change once it is made: bind the Deployment, or what else makes it",
            ),
            _ => None,
        }
    }
}

impl std::fmt::Display for SubjectKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.api_version, self.kind)
    }
}

impl Planner<'_> {
    pub(super) fn binding(&mut self, name: &Name, held: &Held<SinkBinding>) {
        let metadata = &held.object.metadata;
        let key = key(KIND, metadata);
        let mark = format!("{}/{} {}", metadata.namespace, metadata.name, metadata.uid);
        let guarded = metadata.finalizers.iter().any(|finalizer| finalizer == FINALIZER);
        let mut kinds = recorded(held.object.status.as_ref());
        if let Some(look) = self.in_force.bindings.get(&key).filter(|look| look.of.mark == mark) {
            kinds.retain(|kind| look.kinds.contains(kind) || !look.of.kinds.contains(kind));
        }
        let namespace = metadata.namespace.clone();
        if !is_alive(held) {
            if guarded && kinds.is_empty() {
                self.plan.finalizers.insert(key, false);
            } else if guarded {
                let wish = Wish::Release;
                self.plan.bindings.insert(key, Binding { mark, namespace, kinds, wish });
            }
            return;
        }
        if self.config.runs_programs || held.is_torn() {
            let why = held.unread().unwrap_or(NO_WORKLOADS);
            let reason = if held.is_torn() { "InvalidSpec" } else { "SubjectUnavailable" };
            let mut conditions = Conditions::default();
            conditions.because(condition::SINK_BINDING_AVAILABLE, Truth::False, reason, why);
            return self.say(key, metadata, conditions, Status::default());
        }
        if !guarded {
            self.plan.finalizers.insert(key.clone(), true);
        }
        let spec = &held.object.spec;
        let outlet = self.outlet("binding", name, &spec.sink, spec.ce_overrides.as_ref());
        let current = SubjectKind::of(&spec.subject);
        let refused = current.refused();
        let resolved = outlet.way.as_ref().and_then(|(sink, _)| sink.ca_certs());
        let ca_certs = spec.sink.ca_certs.as_deref().or(resolved);
        let wish = match &outlet.shown {
            _ if refused.is_some() => Wish::Release,
            // Whose kind is not written down before could not be found again.
            Some(url) if outlet.wrong.is_none() && guarded && kinds.contains(&current) => {
                let variables = contract(url, ca_certs, spec.ce_overrides.as_ref());
                Wish::Bind { subject: spec.subject.clone(), variables }
            }
            _ => Wish::Keep,
        };
        if refused.is_none() && !kinds.contains(&current) && kinds.len() < MAX_KINDS {
            kinds.push(current);
        }
        let binding = Binding { mark, namespace, kinds, wish };
        self.say_binding(&key, held, outlet, &binding);
        self.plan.bindings.insert(key, binding);
    }

    fn say_binding(
        &mut self,
        key: &Key,
        held: &Held<SinkBinding>,
        outlet: Outlet,
        binding: &Binding,
    ) {
        let look = self.in_force.bindings.get(key).filter(|look| look.of == *binding);
        let mut conditions = Conditions::default();
        match &outlet.wrong {
            Some((reason, why)) => {
                conditions.because(condition::SINK_PROVIDED, Truth::False, reason, why);
            }
            None => conditions.holds(condition::SINK_PROVIDED),
        }
        let refused = SubjectKind::of(&held.object.spec.subject).refused();
        let (truth, reason, why) = available(held.unread(), refused, binding, look);
        conditions.because(condition::SINK_BINDING_AVAILABLE, truth, reason, why);
        let off = reason::OIDC_FEATURE_DISABLED;
        conditions.because(condition::OIDC_IDENTITY_CREATED, Truth::True, off, "");
        conditions.because(condition::OIDC_TOKEN_SECRET_CREATED, Truth::True, off, "");
        conditions.holds(condition::TRUST_BUNDLE_PROPAGATED);
        let kinds = binding.kinds.iter().map(ToString::to_string).collect::<Vec<_>>();
        let status = Status {
            sink_uri: outlet.shown,
            facts: [(BOUND_KINDS.to_owned(), kinds.into())].into(),
            ..Status::default()
        };
        self.say(key.clone(), &held.object.metadata, conditions, status);
    }
}

/// Whether the subjects are told, as the last look says.
fn available<'a>(
    unread: Option<&'a str>,
    refused: Option<&'a str>,
    binding: &Binding,
    look: Option<&'a Look>,
) -> (Truth, &'a str, &'a str) {
    if let Some(why) = unread {
        return (Truth::False, "InvalidSpec", why);
    }
    if let Some(why) = refused {
        return (Truth::False, "SubjectUnavailable", why);
    }
    match look {
        _ if binding.wish == Wish::Keep => {
            (Truth::Unknown, "NotBound", "what is bound already stays as it is")
        }
        None => (Truth::Unknown, "NotBound", "the subjects have not been looked at yet"),
        Some(look) => match &look.wrong {
            Some((reason, why)) => (Truth::False, reason, why),
            None => (Truth::True, "", ""),
        },
    }
}

/// The kinds that a status names. What nobody but the mesh writes is read as far as it makes sense.
fn recorded(status: Option<&Status>) -> Vec<SubjectKind> {
    let named = status.and_then(|status| status.facts.get(BOUND_KINDS)).and_then(Value::as_array);
    let named = named.into_iter().flatten().filter_map(Value::as_str);
    named.filter_map(SubjectKind::read).take(MAX_KINDS).collect()
}

#[cfg(test)]
mod tests;
