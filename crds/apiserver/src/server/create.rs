//! POST: an object that is new.

use crds::{admission, namespace};
use serde_json::Value;

use crate::server::answer::{Answer, Writer};
use crate::server::body::{self, Media};
use crate::server::envelope::{self, Draft, Sealed};
use crate::server::request::{Part, Target, Validation};
use crate::server::{ApiServer, Call, metadata, scale};
use crate::status::{Refusal, Subject};
use crate::store::{Expected, Key, Record, WriteError};
use crate::table::Include;

/// Names that are tried for `generateName`: with fourteen million suffixes, eight collisions in a row do not happen.
const MAX_NAMES: usize = 8;

impl ApiServer {
    pub(super) async fn create(&self, call: &Call) -> Result<Answer, Refusal> {
        let media = Media::of_object(&call.headers)?;
        let parsed = body::parse(&call.body, media)?;
        let draft = Draft { object: parsed.value, duplicates: parsed.duplicates, applied: false };
        call.read_strictly(&draft)?;
        self.insert(call, draft).await
    }

    /// Keeps an object that is not there yet.
    pub(super) async fn insert(&self, call: &Call, mut draft: Draft) -> Result<Answer, Refusal> {
        envelope::agree(&call.target, &mut draft.object)?;
        if !metadata::text(&draft.object, "resourceVersion").is_empty() {
            return Err(Refusal::BadRequest(
                "resourceVersion should not be set on objects to be created".to_owned(),
            ));
        }
        let named = metadata::text(&draft.object, "name");
        let generated = named.is_empty();
        self.require_namespace(&call.target, named)?;
        for _ in 0..MAX_NAMES {
            // Whoever chose a name has one attempt.
            let draft = if generated { draft.clone() } else { std::mem::take(&mut draft) };
            let (object, warnings) = self.fresh(call, draft)?;
            let sealed = Sealed::fitting(&object, self.limits.object_bytes)?;
            let name = metadata::text(&object, "name").to_owned();
            let key = envelope::key(&call.target, &name);
            let exists = |current: Option<&Record>| {
                let live = current.and_then(|record| envelope::parse(record).ok());
                let subject = call.target.subject(name.clone());
                if live.is_some_and(|live| metadata::is_terminating(&live)) {
                    Refusal::StillThere(subject)
                } else {
                    Refusal::AlreadyExists(subject)
                }
            };
            if call.query.dry_run {
                if let Some(record) = self.store.get(&key) {
                    return Err(exists(Some(&*record)));
                }
                return Ok(self.show(call, object).created().with(warnings));
            }
            match self.store.write(key, Expected::Absent, sealed.put()).await {
                Ok(record) => {
                    return Ok(self.answer_record(call, &record)?.created().with(warnings));
                }
                Err(WriteError::Conflict { .. }) if generated => {}
                Err(WriteError::Conflict { current }) => return Err(exists(current.as_deref())),
                Err(error) => return Err(Refusal::of_write(&error, call.target.subject(name))),
            }
        }
        let prefix = metadata::text(&draft.object, "generateName");
        Err(Refusal::AlreadyExists(call.target.subject(prefix)))
    }

    /// Names, stamps, checks and completes a new object.
    fn fresh(&self, call: &Call, draft: Draft) -> Result<(Value, Vec<String>), Refusal> {
        let Target { resource, .. } = call.target;
        let Draft { mut object, duplicates, applied } = draft;
        if metadata::text(&object, "name").is_empty() {
            let prefix = metadata::text(&object, "generateName");
            if !prefix.is_empty() {
                let name = metadata::generate(prefix);
                metadata::known(&mut object).insert("name".to_owned(), name.into());
            }
        }
        if let (true, Value::Object(map)) = (resource.status, &mut object) {
            map.remove("status");
        }
        metadata::stamp(resource, &mut object, call.now);
        if !applied {
            metadata::known(&mut object).remove("managedFields");
        }
        let name = metadata::text(&object, "name").to_owned();
        let causes = metadata::validate(resource, &object, None);
        if !causes.is_empty() {
            return Err(Refusal::Invalid { subject: call.target.subject(name), causes });
        }
        let admitted = self.admission.admit(resource, object, None, call.is_strict())?;
        let problems = admitted.unknown.into_iter().chain(duplicates).collect();
        let mut warnings = envelope::judge(&call.target, call.query.validation, problems)?;
        warnings.extend(admitted.warnings);
        let mut object = admitted.object;
        warnings.extend(metadata::warnings(resource, &object, None));
        if !applied {
            self.track_new(call, &mut object);
        }
        envelope::to_stored(resource, &mut object);
        Ok((object, warnings))
    }

    /// Notes who made it. What a Namespace is held by is the server's own.
    fn track_new(&self, call: &Call, object: &mut Value) {
        let spec = match object {
            Value::Object(map) if call.target.resource.kind == namespace::KIND => {
                map.remove("spec")
            }
            _ => None,
        };
        self.track(call, None, object);
        if let (Some(spec), Value::Object(map)) = (spec, object) {
            map.insert("spec".to_owned(), spec);
        }
    }

    /// Refuses what would be new in a namespace that is not there, or is going.
    fn require_namespace(&self, target: &Target, name: &str) -> Result<(), Refusal> {
        let Some(namespace) = &target.namespace else { return Ok(()) };
        let namespaces = self.store.catalog().of_kind("", namespace::KIND);
        let Some(resource) = namespaces else { return Ok(()) };
        let key = Key { resource, namespace: String::new(), name: namespace.clone() };
        let Some(record) = self.store.get(&key) else {
            return Err(Refusal::NotFound(Subject::new(resource, namespace.clone())));
        };
        // Every new object comes by here, and few namespaces go: most are not parsed.
        let marked = memchr::memmem::find(&record.json, b"deletionTimestamp").is_some();
        if marked && metadata::is_terminating(&envelope::parse(&record)?) {
            let reason = format!(
                "unable to create new content in namespace {namespace} because it is being terminated"
            );
            return Err(Refusal::Forbidden {
                subject: target.subject(name),
                message: reason,
                terminating: Some(namespace.as_str().into()),
            });
        }
        Ok(())
    }

    /// An answer with what was kept.
    pub(super) fn answer_record(&self, call: &Call, record: &Record) -> Result<Answer, Refusal> {
        let as_stored = call.target.part != Part::Scale
            && call.shape == super::Shape::Whole
            && envelope::is_stored_version(&call.target);
        if as_stored {
            return Ok(Answer::raw(record.json.clone()));
        }
        Ok(self.show(call, envelope::open(&call.target, record)?))
    }

    /// An answer with an object, or with that part of it that the path names.
    pub(super) fn show(&self, call: &Call, mut object: Value) -> Answer {
        if let Some(scale) = call.target.scale() {
            return scale::show(call, scale, &object);
        }
        if let Value::Object(map) = &mut object {
            map.insert("apiVersion".to_owned(), call.target.api_version().into());
        }
        Answer::ok(&call.writer().object(object))
    }
}

impl Call {
    /// Refuses unknown and repeated fields if the client wishes so: told before anything that depends on where the object is
    /// sent, or on what is there.
    pub(super) fn read_strictly(&self, draft: &Draft) -> Result<(), Refusal> {
        if !self.is_strict() {
            return Ok(());
        }
        // What cannot be read at all is told later, in the words of its kind.
        let unknown = admission::unknown_fields(self.target.resource, &draft.object);
        let mut problems = unknown.unwrap_or_default();
        problems.extend(draft.duplicates.iter().cloned());
        envelope::judge(&self.target, self.query.validation, problems).map(drop)
    }

    /// Whether unknown fields are refused.
    pub(super) fn is_strict(&self) -> bool {
        self.query.validation == Validation::Strict
    }

    /// Writes objects as this request wants them.
    pub(super) fn writer(&self) -> Writer<'_> {
        Writer {
            target: &self.target,
            shape: self.shape,
            include: self.query.include.unwrap_or(Include::Metadata),
            now: self.now,
        }
    }
}
