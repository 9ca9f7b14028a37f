//! What becomes of sources.

use crds::ce_overrides::CloudEventOverrides;
use crds::condition;
use crds::condition::reason;
use crds::condition::{CloudEventAttributes, Status, Truth};
use crds::destination::Destination;
use crds::github_source::{self, EVERY_EVENT, GitHubSource, SecretKeySelector};
use crds::object::Key;
use crds::ping_source::{self, PingSource};
use sources::ping::{Schedule, ScheduleError};
use sources::{Overrides, Sink, SourceSpec};

use super::{Planner, key};
use crate::address;
use crate::conditions::Conditions;
use crate::world::{Held, Name};

/// Where a source sends, and what its status says about that.
struct Outlet {
    /// Nothing if it cannot send.
    way: Option<(Sink, Overrides)>,
    shown: Option<String>,
    /// Reason and sentence, if it cannot send, or not yet.
    wrong: Option<(&'static str, String)>,
}

impl Planner<'_> {
    pub(super) fn github(&mut self, name: &Name, held: &Held<GitHubSource>) {
        let source = &held.object;
        let overrides = source.spec.ce_overrides.as_ref();
        let outlet = self.outlet(name, &source.spec.sink, overrides);
        let key = key(github_source::KIND, &source.metadata);
        let mut conditions = Conditions::default();
        let secret = self.secrets(name, source, &mut conditions);
        provided(&mut conditions, &outlet);
        self.webhook(&key, name, held, &mut conditions);
        let from = format!("https://github.com/{}", source.spec.owner_and_repository);
        let event = |event: &String| CloudEventAttributes {
            kind: format!("dev.knative.source.github.{event}"),
            source: from.clone(),
        };
        // All of them would be a list that grows with GitHub.
        let named = source.spec.event_types.iter().filter(|event| *event != EVERY_EVENT);
        let status = Status {
            sink_uri: outlet.shown,
            ce_attributes: named.map(event).collect(),
            // Which webhook it was stays known, whoever made it.
            webhook_id_key: source.status.as_ref().and_then(|status| status.webhook_id_key.clone()),
            ..Status::default()
        };
        self.say(key, &source.metadata, conditions, status);
        let (Some(secret), Some(way), false) = (secret, outlet.way, held.is_torn()) else {
            return;
        };
        let config = sources::github::GitHubSource {
            owner_and_repository: source.spec.owner_and_repository.clone(),
            event_types: source.spec.event_types.clone(),
            secret_token: sources::Secret::new(secret),
        };
        self.plan.hooks.push(format!("{}/{}", name.namespace, name.name));
        self.source(name, way, config.into());
    }

    fn webhook(
        &mut self,
        key: &Key,
        name: &Name,
        held: &Held<GitHubSource>,
        conditions: &mut Conditions,
    ) {
        const KIND: &str = condition::WEBHOOK_CONFIGURED;
        if let Some(why) = held.unread() {
            conditions.because(KIND, Truth::False, "InvalidSpec", why);
        } else if let Some(problem) = self.problems.get(key) {
            conditions.because(KIND, Truth::False, "NotInForce", problem);
        } else if held.object.register() {
            let url = self.hook_url(name);
            let why = format!(
                "make the web hook yourself, for {url}: registering with GitHub is not built yet (annotation weft.dev/register: \"false\" says that you have)"
            );
            self.note(format!("source {}/{}: {why}", name.namespace, name.name));
            conditions.because(KIND, Truth::Unknown, "NotRegistered", &why);
        } else {
            let why = "the web hook is made by hand, as weft.dev/register says";
            conditions.because(KIND, Truth::True, "NotManaged", why);
        }
    }

    /// The secret that deliveries are signed with; says which of the secrets are there.
    fn secrets(
        &mut self,
        of: &Name,
        source: &GitHubSource,
        conditions: &mut Conditions,
    ) -> Option<String> {
        const KIND: &str = condition::SECRETS_PROVIDED;
        let signing = self.secret(of, source.spec.secret_token());
        // Without registering nothing is asked of GitHub, so no access is needed.
        let access = if source.register() {
            self.secret(of, source.spec.access_token()).map(drop)
        } else {
            Ok(())
        };
        match (&signing, access) {
            (Err(why), _) => {
                let Name { namespace, name } = of;
                self.note(format!("source {namespace}/{name}: secretToken: {why} does not exist: the source waits for it"));
                let why = format!("{why} not found");
                conditions.because(KIND, Truth::False, reason::SECRET_TOKEN_NOT_FOUND, &why);
            }
            (Ok(_), Err(why)) => {
                let why = format!("{why} not found");
                conditions.because(KIND, Truth::False, reason::ACCESS_TOKEN_NOT_FOUND, &why);
            }
            (Ok(_), Ok(())) => conditions.holds(KIND),
        }
        signing.ok()
    }

    /// A value of a Secret, or the name of what is missing.
    fn secret(&self, of: &Name, selector: Option<&SecretKeySelector>) -> Result<String, String> {
        let (name, key) = selector.map_or(("", ""), |s| (s.name.as_str(), s.key.as_str()));
        let missing = || format!("Secret {}/{name} with key {key}", of.namespace);
        let held = self.world.secrets.get(&Name::new(of.namespace.as_str(), name));
        let value = held.and_then(|held| held.object.value(key)).ok_or_else(missing)?;
        String::from_utf8(value).map_err(|_| missing())
    }

    fn hook_url(&self, name: &Name) -> String {
        let public = self.config.public_url.as_ref().unwrap_or(&self.config.events_url);
        format!("{}/sources/{}/{}", public.trim_end_matches('/'), name.namespace, name.name)
    }

    pub(super) fn ping(&mut self, name: &Name, held: &Held<PingSource>) {
        let source = &held.object;
        let (spec, key) = (&source.spec, key(ping_source::KIND, &source.metadata));
        let outlet = self.outlet(name, &spec.sink, spec.ce_overrides.as_ref());
        let given = |text: &String| Some(text.clone()).filter(|text| !text.is_empty());
        let timezone = given(&spec.timezone);
        let schedule = Schedule::parse(&spec.schedule, timezone.as_deref());
        let mut conditions = Conditions::default();
        provided(&mut conditions, &outlet);
        let (truth, reason, why) = match (held.unread(), &schedule, self.problems.get(&key)) {
            (Some(why), _, _) => (Truth::False, "InvalidSpec", why),
            (_, Err(ScheduleError::Schedule(why) | ScheduleError::Timezone(why)), _) => {
                (Truth::False, "InvalidSchedule", why.as_str())
            }
            (_, _, Some(problem)) => (Truth::False, "NotInForce", problem.as_str()),
            (None, Ok(_), None) => (Truth::True, "", ""),
        };
        conditions.because(condition::DEPLOYED, truth, reason, why);
        let off = reason::OIDC_FEATURE_DISABLED;
        conditions.because(condition::OIDC_IDENTITY_CREATED, Truth::True, off, "");
        let Name { namespace, name: named } = name;
        let status = Status {
            sink_uri: outlet.shown,
            ce_attributes: vec![CloudEventAttributes {
                kind: "dev.knative.sources.ping".to_owned(),
                source: format!("/apis/v1/namespaces/{namespace}/pingsources/{named}"),
            }],
            ..Status::default()
        };
        self.say(key, &source.metadata, conditions, status);
        let (Ok(_), Some(way), false) = (schedule, outlet.way, held.is_torn()) else { return };
        let config = sources::ping::PingSource {
            schedule: spec.schedule.clone(),
            timezone,
            content_type: given(&spec.content_type),
            data: given(&spec.data),
            data_base64: given(&spec.data_base64),
        };
        self.source(name, way, config.into());
    }

    /// Adds a source that can run.
    fn source(&mut self, of: &Name, way: (Sink, Overrides), config: sources::Config) {
        let (sink, ce_overrides) = way;
        self.plan.sources.push(SourceSpec {
            namespace: of.namespace.as_str().into(),
            name: of.name.as_str().into(),
            sink,
            ce_overrides,
            config,
        });
    }

    /// Where a source's events go. For a Broker that does not exist the source runs nevertheless: what it cannot hand over
    /// it offers again, and what it remembers of its past would be forgotten if it stopped.
    fn outlet(
        &mut self,
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
                wrong: Some(("InvalidOverrides", format!("ceOverrides: {why}"))),
            },
            (Err(why), overrides) => Outlet {
                way: address::awaited(self.world, to, namespace).zip(overrides.ok()),
                shown: None,
                wrong: Some((reason::SINK_NOT_FOUND, why)),
            },
        };
        if let Some((_, why)) = &outlet.wrong {
            self.note(format!("source {namespace}/{name}: sink: {why}: the source waits"));
        }
        outlet
    }
}

fn provided(conditions: &mut Conditions, outlet: &Outlet) {
    match &outlet.wrong {
        Some((reason, why)) => {
            conditions.because(condition::SINK_PROVIDED, Truth::False, reason, why)
        }
        None => conditions.holds(condition::SINK_PROVIDED),
    }
}
