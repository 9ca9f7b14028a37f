//! DELETE: an object goes at once, or is marked until nothing holds it any more.

use futures_util::{StreamExt, TryStreamExt, stream};
use http::HeaderMap;
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::server::answer::Answer;
use crate::server::body::{self, Media};
use crate::server::envelope;
use crate::server::metadata::{self, FOREGROUND, ORPHAN};
use crate::server::read::{self, Selection};
use crate::server::request::{self, Propagation, Query};
use crate::server::{ApiServer, Call};
use crate::status::{self, Cause, Refusal, Subject};
use crate::store::{Change, Expected, Key, WriteError};

/// Attempts to delete an object that others write.
const MAX_ATTEMPTS: usize = 16;
/// Objects of a collection that are deleted at once: their writes share commits.
const CONCURRENT: usize = 32;
/// Namespaces without which clients and the mesh do not work.
const KEPT_NAMESPACES: [&str; 2] = ["default", "kube-system"];

/// How something is deleted.
#[derive(Clone, Debug, Default)]
pub(crate) struct Deletion {
    /// Only this incarnation.
    pub(crate) uid: Option<String>,
    /// Only this version.
    pub(crate) version: Option<String>,
    /// What becomes of its dependents; what its finalizers say if nothing else does.
    pub(crate) propagation: Option<Propagation>,
    /// Whether it was asked in the older form for dependents to go: then it is told apart by 202 that something is held.
    pub(crate) cascades: bool,
    /// Only try.
    pub(crate) dry_run: bool,
}

/// What became of an object.
#[derive(Debug)]
pub(crate) enum Removed {
    /// It is gone; its last state.
    Gone(Value),
    /// It is marked, and held.
    Held(Value),
}

impl Deletion {
    /// What the query says, and the `DeleteOptions` in the body over it.
    fn parse(query: &Query, bytes: &[u8], headers: &HeaderMap) -> Result<Self, Refusal> {
        let mut deletion =
            Self { propagation: query.propagation, dry_run: query.dry_run, ..Self::default() };
        if bytes.iter().all(u8::is_ascii_whitespace) {
            return Ok(deletion);
        }
        let options = body::parse(bytes, Media::of_object(headers)?)?.value;
        let text = |pointer: &str| match options.pointer(pointer) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::String(text)) => Ok(Some(text.clone())),
            Some(_) => Err(Refusal::BadRequest(format!("{pointer} must be a string"))),
        };
        if !options.is_object() || text("/kind")?.is_some_and(|kind| kind != "DeleteOptions") {
            return Err(Refusal::BadRequest("the body must be DeleteOptions".to_owned()));
        }
        deletion.uid = text("/preconditions/uid")?;
        deletion.version = text("/preconditions/resourceVersion")?;
        if let Some(policy) = text("/propagationPolicy")? {
            deletion.propagation = Some(Propagation::parse(&policy)?);
            if options.get("orphanDependents").is_some_and(|orphan| !orphan.is_null()) {
                let details = "orphanDependents and deletionPropagation cannot be both set";
                let cause = Cause::invalid("propagationPolicy", &policy.into(), details);
                return Err(Refusal::field(Subject::options("DeleteOptions"), cause));
            }
        } else if let Some(orphan) = options.get("orphanDependents").and_then(Value::as_bool) {
            let policy = if orphan { Propagation::Orphan } else { Propagation::Background };
            deletion.propagation = Some(policy);
            deletion.cascades = !orphan;
        }
        for value in options.get("dryRun").and_then(Value::as_array).into_iter().flatten() {
            deletion.dry_run |= request::dry_run(value.as_str().unwrap_or("?"), "DeleteOptions")?;
        }
        Ok(deletion)
    }
}

impl ApiServer {
    pub(super) async fn delete(&self, call: &Call) -> Result<Answer, Refusal> {
        let deletion = Deletion::parse(&call.query, &call.body, &call.headers)?;
        let key = envelope::key(&call.target, call.target.name.as_deref().unwrap_or_default());
        match self.remove(&key, &deletion, call.now).await? {
            // The one kind here of whose objects Kubernetes shows the last state.
            Removed::Gone(last) if key.resource.kind == crds::service_account::KIND => {
                Ok(self.show(call, last))
            }
            Removed::Gone(last) => {
                let uid = metadata::text(&last, "uid");
                Ok(Answer::ok(&status::deleted(key.resource, &key.name, uid)))
            }
            Removed::Held(object) if deletion.cascades => Ok(self.show(call, object).accepted()),
            Removed::Held(object) => Ok(self.show(call, object)),
        }
    }

    pub(super) async fn delete_collection(&self, call: &Call) -> Result<Answer, Refusal> {
        let deletion = &Deletion::parse(&call.query, &call.body, &call.headers)?;
        let selection = Selection::parse(&call.query, &call.target)?;
        let namespace = call.target.namespace.as_deref();
        let mut meant = Vec::new();
        for record in self.store.list(call.target.resource, namespace, None, 0).records {
            if selection.is_all() || selection.matches(&envelope::open(&call.target, &record)?) {
                meant.push(record);
            }
        }
        let removals = meant.into_iter().map(|record| async move {
            match self.remove(&record.key, deletion, call.now).await {
                Ok(Removed::Gone(_) | Removed::Held(_)) => Ok(Some(record)),
                // Somebody else was faster.
                Err(Refusal::NotFound(_)) => Ok(None),
                Err(refusal) => Err(refusal),
            }
        });
        let removed: Vec<Option<_>> =
            stream::iter(removals).buffered(CONCURRENT).try_collect().await?;
        let removed: Vec<_> = removed.into_iter().flatten().collect();
        let meta = json!({"resourceVersion": self.store.version().to_string()});
        read::list_answer(call, &removed, &meta)
    }

    /// Deletes an object, or marks it if something holds it.
    pub(crate) async fn remove(
        &self,
        key: &Key,
        deletion: &Deletion,
        now: Timestamp,
    ) -> Result<Removed, Refusal> {
        let subject = || Subject::new(key.resource, key.name.clone());
        if key.resource.kind == crds::namespace::KIND && KEPT_NAMESPACES.contains(&&*key.name) {
            let message = "this namespace may not be deleted".to_owned();
            return Err(Refusal::Forbidden { subject: subject(), message, terminating: None });
        }
        for _ in 0..MAX_ATTEMPTS {
            let record = self.store.get(key).ok_or_else(|| Refusal::NotFound(subject()))?;
            let live = envelope::parse(&record)?;
            check_preconditions(&live, deletion, subject)?;
            let (object, gone) = marked(key, live.clone(), deletion, now);
            let answer = |object| if gone { Removed::Gone(object) } else { Removed::Held(object) };
            if deletion.dry_run || !gone && object == live {
                return Ok(answer(object));
            }
            let change: Change =
                if gone { envelope::removal(&object) } else { envelope::put(&object) };
            match self.store.write(key.clone(), Expected::Version(record.version), change).await {
                Ok(record) => return Ok(answer(envelope::parse(&record)?)),
                Err(WriteError::Conflict { .. }) => {}
                Err(error) => return Err(Refusal::of_write(&error, subject())),
            }
        }
        Err(Refusal::modified(subject()))
    }

    /// Changes the finalizers or owners of an object, for the garbage collector; gone if nothing holds it any more.
    pub(crate) async fn release(
        &self,
        key: &Key,
        version: u64,
        object: &Value,
    ) -> Result<(), Refusal> {
        let change = if metadata::may_go(key.resource, object) {
            envelope::removal(object)
        } else {
            envelope::put(object)
        };
        let written = self.store.write(key.clone(), Expected::Version(version), change).await;
        let subject = || Subject::new(key.resource, key.name.clone());
        written.map(drop).map_err(|error| Refusal::of_write(&error, subject()))
    }
}

fn check_preconditions(
    live: &Value,
    deletion: &Deletion,
    subject: impl Fn() -> Subject,
) -> Result<(), Refusal> {
    let recreated = "The object might have been deleted and then recreated";
    let modified = "The object might have been modified";
    let checks = [
        ("UID", &deletion.uid, "uid", recreated),
        ("ResourceVersion", &deletion.version, "resourceVersion", modified),
    ];
    for (name, wanted, field, why) in checks {
        let is = metadata::text(live, field);
        if let Some(wanted) = wanted
            && wanted != is
        {
            let message = format!(
                "the {name} in the precondition ({wanted}) does not match the {name} in record ({is}). {why}"
            );
            // Kubernetes names the kind here, where it names the resource everywhere else.
            let subject = subject();
            let subject = Subject { plural: subject.kind, ..subject };
            return Err(Refusal::Conflict { subject, message });
        }
    }
    Ok(())
}

/// The object after it was asked to go, and whether it goes at once.
fn marked(key: &Key, mut object: Value, deletion: &Deletion, now: Timestamp) -> (Value, bool) {
    let mut finalizers: Vec<String> =
        metadata::finalizers(&object).into_iter().map(str::to_owned).collect();
    // Nobody waits for an Event, whatever is asked for.
    let propagation = deletion.propagation.filter(|_| key.resource.kind != crds::event::KIND);
    if let Some(propagation) = propagation {
        let ours = match propagation {
            Propagation::Background => None,
            Propagation::Foreground => Some(FOREGROUND),
            Propagation::Orphan => Some(ORPHAN),
        };
        finalizers.retain(|one| ours == Some(one) || one != FOREGROUND && one != ORPHAN);
        finalizers.extend(
            ours.filter(|ours| !finalizers.iter().any(|one| one == ours)).map(str::to_owned),
        );
        metadata::set_finalizers(&mut object, finalizers);
    }
    let mut terminating = object.clone();
    metadata::mark_deleted(key.resource, &mut terminating, now);
    if metadata::may_go(key.resource, &terminating) {
        // The last state is what was there: it was never marked.
        (object, true)
    } else {
        (terminating, false)
    }
}
