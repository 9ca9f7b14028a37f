//! PUT, and what it shares with PATCH: one object is replaced by another.

use crds::admission;
use http::{HeaderMap, header};
use serde_json::{Map, Value, json};

use crate::patch::apply;
use crate::server::answer::Answer;
use crate::server::body::{self, Media};
use crate::server::envelope::{self, Draft, Sealed};
use crate::server::request::Part;
use crate::server::{ApiServer, Call, metadata};
use crate::status::{Cause, Refusal, Subject};
use crate::store::{Expected, WriteError};

/// Attempts to write an object that others write as well. Each lost one means that somebody else's write was kept.
const MAX_ATTEMPTS: usize = 16;
/// What Kubernetes calls a manager that named itself nowhere.
const UNKNOWN_MANAGER: &str = "unknown";
/// Names of managers are cut to this many characters, Kubernetes' own bound.
const MAX_MANAGER: usize = 128;
/// Kinds of the core whose objects cannot be replaced without saying which version is replaced.
const CONDITIONAL: [&str; 1] = ["Lease"];

/// Kinds of which PUT makes what is not there, as in Kubernetes.
const MADE_BY_UPDATE: [&str; 2] = ["Lease", "Event"];

/// What becomes of an object.
enum Outcome {
    /// It stays as it is.
    Same,
    /// This replaces it.
    Replace(Value),
    /// Nothing holds it any more; this is its last state.
    Gone(Value),
}

impl ApiServer {
    pub(super) async fn update(&self, call: &Call) -> Result<Answer, Refusal> {
        if let Some(scale) = call.target.scale() {
            return self.update_scale(call, scale).await;
        }
        let media = Media::of_object(&call.headers)?;
        let parsed = body::parse(&call.body, media)?;
        let mut draft =
            Draft { object: parsed.value, duplicates: parsed.duplicates, applied: false };
        call.read_strictly(&draft)?;
        envelope::agree(&call.target, &mut draft.object)?;
        let resource = call.target.resource;
        let name = call.target.name.clone().unwrap_or_default();
        if MADE_BY_UPDATE.contains(&resource.kind)
            && call.target.part == Part::Main
            && self.store.get(&envelope::key(&call.target, &name)).is_none()
        {
            let given = metadata::text(&draft.object, "uid");
            if !given.is_empty() {
                let message = format!(
                    "Precondition failed: UID in precondition: {given}, UID in object meta: "
                );
                return Err(Refusal::Conflict { subject: call.target.subject(name), message });
            }
            metadata::known(&mut draft.object).remove("resourceVersion");
            return self.insert(call, draft).await;
        }
        let conditional = resource.is_custom() || CONDITIONAL.contains(&resource.kind);
        let blind = conditional && metadata::text(&draft.object, "resourceVersion").is_empty();
        // Only of an object that is there: what is not there is missed first.
        let change = |live: &Value| {
            let (given, uid) = (metadata::text(&draft.object, "uid"), metadata::text(live, "uid"));
            // Another identity is told first, by whoever compares them.
            if !blind || !given.is_empty() && given != uid {
                return Ok(draft.clone());
            }
            let details = "must be specified for an update";
            let cause = Cause::invalid("metadata.resourceVersion", &0.into(), details);
            let subject = call.target.subject(metadata::text(live, "name"));
            // Kubernetes names the resource here, where it names the kind everywhere else.
            Err(Refusal::field(Subject { kind: subject.plural, ..subject }, cause))
        };
        self.modify(call, change).await
    }

    /// Replaces an object by what `change` makes of it, again if somebody else was faster. Who cannot live with what the
    /// other wrote says so by the `resourceVersion` of the object.
    pub(super) async fn modify(
        &self,
        call: &Call,
        change: impl Fn(&Value) -> Result<Draft, Refusal>,
    ) -> Result<Answer, Refusal> {
        let name = call.target.name.clone().unwrap_or_default();
        let key = envelope::key(&call.target, &name);
        for _ in 0..MAX_ATTEMPTS {
            let Some(record) = self.store.get(&key) else {
                return Err(Refusal::NotFound(call.target.subject(name)));
            };
            let live = envelope::open(&call.target, &record)?;
            let (outcome, warnings) = self.replacement(call, &live, change(&live)?)?;
            let (object, goes) = match outcome {
                Outcome::Same => return Ok(self.show(call, live).with(warnings)),
                Outcome::Replace(object) => (object, false),
                Outcome::Gone(object) => (object, true),
            };
            let change = if goes {
                envelope::removal(&object)
            } else {
                Sealed::fitting(&object, self.limits.object_bytes)?.put()
            };
            if call.query.dry_run {
                return Ok(self.show(call, object).with(warnings));
            }
            match self.store.write(key.clone(), Expected::Version(record.version), change).await {
                Ok(record) => {
                    // Of what goes, clients are shown the last version that they could have seen.
                    let answer = if goes {
                        self.show(call, object)
                    } else {
                        self.answer_record(call, &record)?
                    };
                    return Ok(answer.with(warnings));
                }
                Err(WriteError::Conflict { .. }) => {}
                Err(error) => return Err(Refusal::of_write(&error, call.target.subject(name))),
            }
        }
        Err(Refusal::modified(call.target.subject(name)))
    }

    /// Checks and completes what is to replace `live`.
    fn replacement(
        &self,
        call: &Call,
        live: &Value,
        draft: Draft,
    ) -> Result<(Outcome, Vec<String>), Refusal> {
        let resource = call.target.resource;
        let Draft { object: mut new, duplicates, applied } = draft;
        envelope::agree(&call.target, &mut new)?;
        let subject = call.target.subject(metadata::text(live, "name"));
        let given = metadata::text(&new, "resourceVersion");
        if !given.is_empty() && given != metadata::text(live, "resourceVersion") {
            return Err(Refusal::modified(subject));
        }
        if call.target.part == Part::Status {
            // Nothing of it is written, so nothing of it can be wrong.
            metadata::known(&mut new).remove("deletionTimestamp");
            metadata::known(&mut new).remove("deletionGracePeriodSeconds");
        }
        metadata::carry(live, &mut new, &subject, applied)?;
        let mut problems = duplicates;
        let mut warnings = Vec::new();
        if call.target.part == Part::Status {
            problems.extend(admission::unknown_fields(resource, &new).unwrap_or_default());
            new = with_status_of(live, new, applied);
            require_object(&new, "status")?;
        } else {
            keep_what_is_not_sent(resource, live, &mut new);
            let causes = metadata::validate(resource, &new, Some(live));
            if !causes.is_empty() {
                return Err(Refusal::Invalid { subject, causes });
            }
            let strict = call.is_strict();
            let admitted = match self.admission.admit(resource, new.clone(), Some(live), strict) {
                Ok(admitted) => {
                    problems.extend(admitted.unknown);
                    warnings = admitted.warnings;
                    admitted.object
                }
                // What is going must not be held by rules that are newer than it is.
                Err(_) if metadata::is_terminating(live) && spec(&new) == spec(live) => new,
                Err(refusal) => return Err(refusal),
            };
            new = admitted;
            if resource.is_custom() && spec(&new) != spec(live) {
                metadata::next_generation(metadata::known(&mut new));
            }
        }
        let mut told = envelope::judge(&call.target, call.query.validation, problems)?;
        told.extend(warnings);
        told.extend(metadata::warnings(resource, &new, Some(live)));
        if !applied {
            self.track(call, Some(live), &mut new);
        }
        envelope::to_stored(resource, &mut new);
        let outcome = if metadata::may_go(resource, &new) {
            Outcome::Gone(new)
        } else if same(live, &new) {
            Outcome::Same
        } else {
            Outcome::Replace(new)
        };
        Ok((outcome, told))
    }

    /// Notes who wrote what.
    pub(super) fn track(&self, call: &Call, old: Option<&Value>, new: &mut Value) {
        let manager = manager(&call.query.field_manager, &call.headers);
        let now = metadata::seconds(call.now);
        let writer = apply::Writer {
            manager: &manager,
            api_version: &call.target.api_version(),
            subresource: call.target.part.name(),
            now: &now,
        };
        let schema = self.schema(call.target.resource, call.target.version);
        match unwritten(call.target.resource.kind).filter(|_| old.is_none()) {
            Some(unwritten) => apply::track_new(&unwritten, new, &writer, &schema),
            None => apply::track(old, new, &writer, &schema),
        }
    }
}

/// What an object of a kind has in Kubernetes when nobody has written anything: whoever writes the same owns nothing by it.
fn unwritten(kind: &str) -> Option<Value> {
    match kind {
        crds::event::KIND => Some(json!({
            "metadata": {}, "involvedObject": {}, "source": {}, "reportingComponent": "", "reportingInstance": "",
        })),
        crds::lease::KIND => Some(json!({"metadata": {}, "spec": {}})),
        _ => None,
    }
}

/// Who writes: as the client calls itself.
fn manager(named: &str, headers: &HeaderMap) -> String {
    if !named.is_empty() {
        return named.to_owned();
    }
    let agent = headers.get(header::USER_AGENT).and_then(|value| value.to_str().ok());
    let name = agent.and_then(|agent| agent.split('/').next()).unwrap_or_default();
    if name.is_empty() {
        return UNKNOWN_MANAGER.to_owned();
    }
    name.chars().take(MAX_MANAGER).collect()
}

/// The live object with the status of the other; the rest of what was sent does not count.
fn with_status_of(live: &Value, mut sent: Value, applied: bool) -> Value {
    let mut object = live.clone();
    let status = sent.as_object_mut().and_then(|map| map.remove("status"));
    set(&mut object, "status", status);
    if applied {
        let fields = metadata::known(&mut sent).remove("managedFields");
        let meta = metadata::known(&mut object);
        match fields {
            Some(fields) => meta.insert("managedFields".to_owned(), fields),
            None => meta.remove("managedFields"),
        };
    }
    object
}

/// What a write of the main part cannot change.
fn keep_what_is_not_sent(resource: &crds::resource::Resource, live: &Value, new: &mut Value) {
    if resource.status {
        set(new, "status", live.get("status").cloned());
    }
    if resource.kind == crds::namespace::KIND {
        set(new, "spec", live.get("spec").cloned());
    }
}

fn set(object: &mut Value, field: &str, value: Option<Value>) {
    let Value::Object(map) = object else { return };
    match value {
        Some(value) if !value.is_null() => map.insert(field.to_owned(), value),
        _ => map.remove(field),
    };
}

fn require_object(object: &Value, field: &str) -> Result<(), Refusal> {
    match object.get(field) {
        None | Some(Value::Object(_)) => Ok(()),
        Some(_) => Err(Refusal::BadRequest(format!("{field} must be a JSON object"))),
    }
}

/// What was asked for: everything that is neither metadata nor status, nor says what the object is.
fn spec(object: &Value) -> Vec<(&String, &Value)> {
    let skipped = ["apiVersion", "kind", "metadata", "status"];
    let fields = object.as_object().into_iter().flatten();
    fields.filter(|(field, _)| !skipped.contains(&field.as_str())).collect()
}

/// Whether a write changes nothing but the time at which somebody claims to have written.
fn same(live: &Value, new: &Value) -> bool {
    let (Value::Object(live), Value::Object(new)) = (live, new) else { return false };
    let rest = |map: &Map<String, Value>| {
        map.iter()
            .filter(|(field, _)| !["apiVersion", "metadata"].contains(&field.as_str()))
            .map(|(field, value)| (field.clone(), value.clone()))
            .collect::<Map<_, _>>()
    };
    let meta = |map: &Map<String, Value>| {
        let mut meta = map.get("metadata").cloned().unwrap_or_default();
        let entries = meta.get_mut("managedFields").and_then(Value::as_array_mut);
        for entry in entries.into_iter().flatten().filter_map(Value::as_object_mut) {
            entry.remove("time");
        }
        meta
    };
    rest(live) == rest(new) && meta(live) == meta(new)
}
