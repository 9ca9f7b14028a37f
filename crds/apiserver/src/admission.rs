//! What stands between a request and the store: `crds` decides about objects, with the mesh's live configuration, and its
//! refusals get the words that Kubernetes' and Knative's clients know.

use std::fmt;
use std::sync::Arc;

use crds::admission::{self, Admitted, Operation, Refused};
use crds::broker_defaults::{self, BrokerDefaults};
use crds::config_map::ConfigMap;
use crds::object::Rules;
use crds::ping_defaults::{self, PingDefaults};
use crds::resource::Resource;
use parking_lot::Mutex;
use serde_json::Value;

use crate::server::metadata;
use crate::status::{Cause, Refusal, Subject};
use crate::store::{Key, Store};

/// Checks the syntax of CESQL.
pub(crate) type CesqlCheck = Box<dyn Fn(&str) -> Result<(), String> + Send + Sync>;

/// Decides about objects.
pub(crate) struct Admission {
    store: Arc<Store>,
    cesql: CesqlCheck,
    broker_defaults: Mutex<Cached<Arc<BrokerDefaults>>>,
    ping_defaults: Mutex<Cached<PingDefaults>>,
}

/// What a `ConfigMap` said in its version; version 0 stands for one that is not there.
struct Cached<T> {
    version: Option<u64>,
    value: T,
}

impl fmt::Debug for Admission {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Admission").finish_non_exhaustive()
    }
}

impl Admission {
    pub(crate) fn new(store: Arc<Store>, cesql: CesqlCheck) -> Self {
        let broker = Cached { version: None, value: Arc::new(BrokerDefaults::builtin()) };
        let ping = Cached { version: None, value: PingDefaults::default() };
        Self { store, cesql, broker_defaults: Mutex::new(broker), ping_defaults: Mutex::new(ping) }
    }

    /// Decides about an object that is new, or that replaces `old`. Where unknown fields are refused (`strict`), they are
    /// told before broken rules, as a server does that decodes before it asks its webhooks.
    pub(crate) fn admit(
        &self,
        resource: &Resource,
        object: Value,
        old: Option<&Value>,
        strict: bool,
    ) -> Result<Admitted, Refusal> {
        let subject = Subject::new(resource, metadata::text(&object, "name"));
        let version = object.get("apiVersion").and_then(Value::as_str).unwrap_or_default();
        let version = version.rsplit('/').next().unwrap_or_default().to_owned();
        let operation = old.map_or(Operation::Create, |old| Operation::Update { old });
        let broker_defaults = self.broker_defaults();
        let rules = Rules {
            catalog: self.store.catalog(),
            cesql: &*self.cesql,
            broker_defaults: &broker_defaults,
            ping_defaults: self.ping_defaults(),
        };
        let written = strict.then(|| object.clone());
        let mut admitted =
            admission::admit(resource, object, operation, &rules).map_err(|refused| {
                let found = written.map(|written| admission::unknown_fields(resource, &written));
                let unknown = found.and_then(Result::ok).unwrap_or_default();
                if unknown.is_empty() {
                    return refusal(resource, &version, subject, &refused);
                }
                Refusal::BadRequest(cannot_be_handled(
                    resource.kind,
                    &version,
                    strict_error(&unknown),
                ))
            })?;
        // What a kind has not is dropped, and told of as unknown already.
        if let (false, Value::Object(map)) = (resource.status, &mut admitted.object) {
            map.remove("status");
        }
        check_configuration(resource, &admitted.object)?;
        Ok(admitted)
    }

    /// What Brokers get that say nothing themselves.
    fn broker_defaults(&self) -> Arc<BrokerDefaults> {
        let mut cached = self.broker_defaults.lock();
        self.refresh(broker_defaults::NAME, &mut cached, |map| match map {
            Some(map) => BrokerDefaults::read(map).map(Arc::new).map_err(|error| error.to_string()),
            None => Ok(Arc::new(BrokerDefaults::builtin())),
        });
        Arc::clone(&cached.value)
    }

    /// What `PingSources` are held to.
    fn ping_defaults(&self) -> PingDefaults {
        let mut cached = self.ping_defaults.lock();
        self.refresh(ping_defaults::NAME, &mut cached, |map| match map {
            Some(map) => PingDefaults::read(map).map_err(|error| error.to_string()),
            None => Ok(PingDefaults::default()),
        });
        cached.value
    }

    /// Reads a `ConfigMap` again if it changed. What cannot be read leaves in force what was: it was refused when written,
    /// so only an older program can have left it.
    fn refresh<T>(
        &self,
        name: &str,
        cached: &mut Cached<T>,
        read: impl FnOnce(Option<&ConfigMap>) -> Result<T, String>,
    ) {
        let config_maps = self.store.catalog().of_kind("", crds::config_map::KIND);
        let Some(resource) = config_maps else { return };
        let namespace = broker_defaults::NAMESPACE.to_owned();
        let record = self.store.get(&Key { resource, namespace, name: name.to_owned() });
        let version = record.as_ref().map_or(0, |record| record.version);
        if cached.version == Some(version) {
            return;
        }
        cached.version = Some(version);
        let map =
            record.map(|record| serde_json::from_slice::<ConfigMap>(&record.json)).transpose();
        match map.map_err(|error| error.to_string()).and_then(|map| read(map.as_ref())) {
            Ok(value) => cached.value = value,
            Err(error) => {
                tracing::warn!(
                    name,
                    error,
                    "a ConfigMap cannot be read; what it said before stays in force"
                );
            }
        }
    }
}

/// Refuses configuration of the mesh that cannot be read.
fn check_configuration(resource: &Resource, object: &Value) -> Result<(), Refusal> {
    if resource.kind != crds::config_map::KIND
        || metadata::text(object, "namespace") != broker_defaults::NAMESPACE
    {
        return Ok(());
    }
    let name = metadata::text(object, "name");
    if name != broker_defaults::NAME && name != ping_defaults::NAME {
        return Ok(());
    }
    let denied = |error: String| {
        Refusal::BadRequest(format!(
            "admission webhook \"config.webhook.eventing.knative.dev\" denied the request: validation failed: {error}"
        ))
    };
    let map: ConfigMap =
        serde_json::from_value(object.clone()).map_err(|error| denied(error.to_string()))?;
    if name == broker_defaults::NAME {
        BrokerDefaults::read(&map).map(drop).map_err(|error| denied(error.to_string()))
    } else {
        PingDefaults::read(&map)
            .map(drop)
            .map_err(|error| denied(format!("{}: {error}", error.key)))
    }
}

fn refusal(resource: &Resource, version: &str, subject: Subject, refused: &Refused) -> Refusal {
    match refused {
        Refused::Decode(error) if resource.is_custom() => {
            Refusal::Invalid { subject, causes: Cause::decode(error) }
        }
        Refused::Decode(error) => {
            Refusal::BadRequest(cannot_be_handled(resource.kind, version, error))
        }
        Refused::Invalid(errors) if resource.is_custom() => Refusal::BadRequest(format!(
            "admission webhook \"{}\" denied the request: validation failed: {errors}",
            webhook(resource.group)
        )),
        Refused::Invalid(errors) => Refusal::Invalid { subject, causes: Cause::list(errors) },
    }
}

/// The webhook that decides about a kind in a cluster: clients match on its name.
fn webhook(group: &str) -> &'static str {
    match group {
        "serving.knative.dev" => "validation.webhook.serving.knative.dev",
        _ => "validation.webhook.eventing.knative.dev",
    }
}

/// How Kubernetes tells of fields that are unknown or stand twice.
pub(crate) fn strict_error(problems: &[String]) -> String {
    format!("strict decoding error: {}", problems.join(", "))
}

/// How Kubernetes refuses what does not decode.
pub(crate) fn cannot_be_handled(kind: &str, version: &str, reason: impl fmt::Display) -> String {
    format!("{kind} in version {version:?} cannot be handled as a {kind}: {reason}")
}
