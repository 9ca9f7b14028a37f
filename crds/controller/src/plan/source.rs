//! What becomes of sources. All kinds are planned alike; what is particular to a kind, its row of [`sources::ALL`] says.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;

use crds::ce_overrides::CloudEventOverrides;
use crds::condition;
use crds::condition::reason;
use crds::condition::{Status, Truth};
use crds::destination::Destination;
use crds::meta::ObjectMeta;
use crds::object::Key;
use serde_json::Value;
use sources::{
    About, Aim, Config, Given, Kind, Necessity, Need, Origin, Overrides, Secret, Sink, State,
    Wanted,
};

use super::deployment::Elsewhere;
use super::{FINALIZER, Planner, key};
use crate::address;
use crate::conditions::Conditions;
use crate::world::{Held, Name, is_alive};

/// Where a source sends, and what its status says about that.
pub(super) struct Outlet {
    /// Nothing if it cannot send.
    pub(super) way: Option<(Sink, Overrides)>,
    pub(super) shown: Option<String>,
    /// Reason and sentence, if it cannot send, or not yet.
    pub(super) wrong: Option<(&'static str, String)>,
}

/// A value that a source or a sink needs and that is not there.
pub(super) struct Missing {
    field: Cow<'static, str>,
    pub(super) condition: &'static str,
    pub(super) reason: &'static str,
    pub(super) why: String,
}

/// What is looked up for a source or a sink.
#[derive(Default)]
pub(super) struct Looked {
    pub(super) given: Given,
    /// What its status says is not there.
    pub(super) missing: Vec<Missing>,
    /// Whether it can run nevertheless.
    pub(super) suffices: bool,
    /// The conditions that say whether what it cannot run without is there.
    pub(super) about: Vec<&'static str>,
    /// How it is doing, if it is a cluster that runs it.
    elsewhere: Option<Elsewhere>,
}

impl Planner<'_> {
    pub(super) fn source(
        &mut self,
        kind: &'static Kind,
        name: &Name,
        held: &Held<sources::Object>,
    ) {
        let metadata = &held.object.metadata;
        let key = key(kind.name, metadata);
        let about = Arc::new(about(metadata, &self.config.api_url));
        if !is_alive(held) {
            return self.dying(key, &about, name, held);
        }
        let Some(config) = &held.object.spec else {
            return self.torn(kind, key, held);
        };
        let outlet = self.outlet("source", name, config.sink(), config.ce_overrides());
        let may_run = self.config.runs_programs || !kind.runs_programs;
        let looked = if may_run {
            self.look_up("source", name, config.needs(&about))
        } else {
            self.elsewhere(kind, metadata, config, &outlet)
        };
        let leaves = may_run && config.leaves_traces(&about);
        let (conditions, facts) = self.say_source(kind, held, &outlet, &looked);
        let status = Status {
            sink_uri: outlet.shown,
            ce_attributes: config.attributes(&about, &looked.given),
            facts,
            ..Status::default()
        };
        self.say(key.clone(), metadata, conditions, status);
        let guarded = metadata.finalizers.iter().any(|finalizer| finalizer == FINALIZER);
        if leaves != guarded {
            self.plan.finalizers.insert(key, leaves);
        }
        if !may_run {
            return;
        }
        // What is made upstream is made only once it cannot be forgotten any more.
        let ready = looked.suffices && (guarded || !leaves);
        let (aim, (sink, ce_overrides)) = match outlet.way {
            Some(way) if ready => (Aim::Run, way),
            // It is wanted nevertheless: what it remembers of its past would be forgotten with it.
            _ => (Aim::Wait, nowhere()),
        };
        if aim == Aim::Run && config.hook() {
            self.plan.hooks.push(format!("{}/{}", name.namespace, name.name));
        }
        let (given, config) = (looked.given, config.clone());
        self.plan.sources.push(Wanted { about, sink, ce_overrides, given, config, aim });
    }

    /// Of a source that a cluster runs, which looks up by itself what it needs.
    fn elsewhere(
        &mut self,
        kind: &Kind,
        metadata: &ObjectMeta,
        config: &Config,
        outlet: &Outlet,
    ) -> Looked {
        let elsewhere = Some(self.deploy(kind, metadata, config, outlet));
        // The Deployment tells its containers where to send to.
        let about = if outlet.shown.is_some() { kind.conditions } else { &[] };
        Looked { elsewhere, about: about.to_vec(), ..Looked::default() }
    }

    /// Of a source that never could be read.
    fn torn(&mut self, kind: &'static Kind, key: Key, held: &Held<sources::Object>) {
        let mut conditions = Conditions::default();
        let why = held.unread().unwrap_or_default();
        conditions.because(kind.works, Truth::False, "InvalidSpec", why);
        self.say(key, &held.object.metadata, conditions, Status::default());
    }

    /// Lets a source go once nothing is left of it upstream.
    fn dying(&mut self, key: Key, about: &Arc<About>, name: &Name, held: &Held<sources::Object>) {
        if !held.object.metadata.finalizers.iter().any(|finalizer| finalizer == FINALIZER) {
            return;
        }
        let Some(config) = held.object.spec.clone() else {
            let Name { namespace, name } = name;
            self.note(format!(
                "source {namespace}/{name}: deleted and not understood: what it made upstream stays there"
            ));
            self.plan.finalizers.insert(key, false);
            return;
        };
        // A Secret that was deleted too may be remembered where the source ran. Without it the source says what stays.
        let given = self.gather(name, config.needs(about)).given;
        let (about, (sink, ce_overrides)) = (Arc::clone(about), nowhere());
        let retiring = Wanted { about, sink, ce_overrides, given, config, aim: Aim::Retire };
        let status = self.in_force.sources.get(&retiring.key());
        if status.is_some_and(|status| status.state == State::Retired) {
            self.plan.finalizers.insert(key, false);
        }
        self.plan.sources.push(retiring);
    }

    /// What the status says, beside where the events go.
    fn say_source(
        &self,
        kind: &'static Kind,
        held: &Held<sources::Object>,
        outlet: &Outlet,
        looked: &Looked,
    ) -> (Conditions, BTreeMap<String, Value>) {
        let key = &key(kind.name, &held.object.metadata);
        let mut conditions = Conditions::default();
        for Missing { condition, reason, why, .. } in &looked.missing {
            conditions.because(condition, Truth::False, reason, why);
        }
        match &outlet.wrong {
            Some((reason, why)) => {
                conditions.because(condition::SINK_PROVIDED, Truth::False, reason, why);
            }
            None => conditions.holds(condition::SINK_PROVIDED),
        }
        let status = self.running(key);
        let (truth, reason, why) = match (held.unread(), self.in_force.problems.get(key)) {
            (Some(why), _) => (Truth::False, "InvalidSpec", why),
            (None, Some(problem)) => (Truth::False, "NotInForce", problem.as_str()),
            (None, None) => match &looked.elsewhere {
                Some((truth, reason, why)) => (*truth, reason.as_str(), why.as_str()),
                None => works(status),
            },
        };
        conditions.otherwise(kind.works, truth, reason, why);
        for reported in status.map_or(&[][..], |status| &status.conditions) {
            let holds = if reported.holds { Truth::True } else { Truth::False };
            // A broken sink or a missed tick is worth knowing, and no reason to wait for the source to become ready.
            if kind.conditions.contains(&&*reported.name) {
                conditions.otherwise(&reported.name, holds, &reported.reason, &reported.message);
            } else {
                conditions.mention(&reported.name, holds, &reported.reason, &reported.message);
            }
        }
        for condition in kind.conditions {
            if *condition == condition::OIDC_IDENTITY_CREATED {
                let off = reason::OIDC_FEATURE_DISABLED;
                conditions.otherwise(condition, Truth::True, off, "");
            } else if looked.about.contains(condition) {
                conditions.otherwise(condition, Truth::True, "", "");
            } else {
                conditions.otherwise(condition, truth, reason, why);
            }
        }
        let facts = status.map(|status| status.facts.clone()).unwrap_or_default();
        (conditions, facts.into_iter().map(|(field, value)| (field.to_owned(), value)).collect())
    }

    /// What is known of the run of a source or a sink.
    pub(super) fn running(&self, key: &Key) -> Option<&sources::Status> {
        let running = sources::Key {
            namespace: key.namespace.as_str().into(),
            name: key.name.as_str().into(),
            kind: key.kind,
        };
        self.in_force.sources.get(&running)
    }

    /// Finds what a source or a sink needs, and tells people what is not there; `what` is which of these.
    pub(super) fn look_up(&mut self, what: &str, of: &Name, needs: Vec<Need>) -> Looked {
        let looked = self.gather(of, needs);
        let then = if looked.suffices { "runs without" } else { "waits" };
        let Name { namespace, name } = of;
        for Missing { field, why, .. } in &looked.missing {
            self.note(format!("{what} {namespace}/{name}: {field}: {why}: the {what} {then}"));
        }
        looked
    }

    fn gather(&self, of: &Name, needs: Vec<Need>) -> Looked {
        let mut looked = Looked { suffices: true, ..Looked::default() };
        let mut found = Vec::new();
        for need in needs {
            if need.necessity == Necessity::Required {
                looked.about.extend(need.missing.map(|(condition, _)| condition));
            }
            let name = Name::new(of.namespace.as_str(), need.name.as_str());
            match self.held(&name, &need) {
                Some(values) => found.extend(values),
                None if need.necessity == Necessity::Optional => {}
                None => {
                    looked.suffices &= need.necessity == Necessity::Wanted;
                    looked.missing.push(missing(of, &need));
                }
            }
        }
        looked.given = found.into_iter().collect();
        looked
    }

    /// What is needed of the object of that name, by the fields under which it is found; nothing if it is not there.
    fn held(&self, name: &Name, need: &Need) -> Option<Vec<(Cow<'static, str>, Secret)>> {
        let text = |key: &str| match need.origin {
            Origin::Secret => {
                String::from_utf8(self.world.secrets.get(name)?.object.value(key)?).ok()
            }
            Origin::ConfigMap => self.world.config_maps.get(name)?.object.data.get(key).cloned(),
        };
        if let Some(key) = &need.key {
            return Some(vec![(need.field.clone(), Secret::new(text(key)?))]);
        }
        let data = match need.origin {
            Origin::Secret => &self.world.secrets.get(name)?.object.data,
            Origin::ConfigMap => &self.world.config_maps.get(name)?.object.data,
        };
        let under =
            |key: &String| Some((format!("{}/{key}", need.field).into(), Secret::new(text(key)?)));
        Some(data.keys().filter_map(under).collect())
    }

    /// Where a source's events go. For a Broker that does not exist the source runs nevertheless: what it cannot hand over
    /// it offers again.
    pub(super) fn outlet(
        &mut self,
        what: &str,
        of: &Name,
        to: &Destination,
        overrides: Option<&CloudEventOverrides>,
    ) -> Outlet {
        let Name { namespace, name } = of;
        let extensions =
            overrides.map(|overrides| overrides.extensions.clone()).unwrap_or_default();
        let outlet = match (self.resolve(to, namespace), Overrides::new(extensions)) {
            (Ok(resolved), Ok(overrides)) => Outlet {
                way: Some((resolved.sink(), overrides)),
                shown: Some(resolved.shown),
                wrong: None,
            },
            (Ok(resolved), Err(why)) => Outlet {
                way: None,
                shown: Some(resolved.shown),
                wrong: Some(("InvalidOverrides", why.to_string())),
            },
            (Err(why), overrides) => Outlet {
                way: address::awaited(self.world, to, namespace).zip(overrides.ok()),
                shown: None,
                wrong: Some((reason::SINK_NOT_FOUND, why)),
            },
        };
        if let Some((_, why)) = &outlet.wrong {
            self.note(format!("{what} {namespace}/{name}: sink: {why}: the {what} waits"));
        }
        outlet
    }
}

fn missing(of: &Name, need: &Need) -> Missing {
    let (what, reason) = match need.origin {
        Origin::Secret => ("Secret", "SecretNotFound"),
        Origin::ConfigMap => ("ConfigMap", "ConfigMapNotFound"),
    };
    let (condition, reason) = need.missing.unwrap_or((condition::SECRETS_PROVIDED, reason));
    let with = need.key.as_ref().map(|key| format!(" with key {key}")).unwrap_or_default();
    let why = format!("{what} {}/{}{with} not found", of.namespace, need.name);
    Missing { field: need.field.clone(), condition, reason, why }
}

/// Where those send that send nothing.
fn nowhere() -> (Sink, Overrides) {
    (Sink::Broker { namespace: "".into(), name: "".into() }, Overrides::default())
}

/// Whether a source or a sink works, as its run says.
pub(super) fn works(status: Option<&sources::Status>) -> (Truth, &str, &str) {
    let Some(status) = status else {
        return (Truth::Unknown, "NotStarted", "it does not run yet");
    };
    match status.state {
        State::Running => (Truth::True, "", ""),
        State::Starting => (Truth::Unknown, "Starting", "it has not said yet that it works"),
        State::Waiting | State::Failed | State::Retired => {
            (Truth::False, status.reason, status.message.as_str())
        }
    }
}

/// What a source or a sink is told of its resource beside the spec.
pub(super) fn about(metadata: &ObjectMeta, api_url: &str) -> About {
    let ours = |(key, _): &(&String, &String)| {
        key.starts_with(crds::annotation::PREFIX) && *key != crds::annotation::FILE
    };
    let annotations = metadata.annotations.iter().filter(ours);
    About {
        namespace: metadata.namespace.as_str().into(),
        name: metadata.name.as_str().into(),
        uid: metadata.uid.as_str().into(),
        labels: metadata.labels.clone(),
        annotations: annotations.map(|(key, value)| (key.clone(), value.clone())).collect(),
        api_url: api_url.into(),
    }
}
