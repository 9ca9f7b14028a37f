//! PATCH: an object is changed by what differs, or by server-side apply.

use std::borrow::Cow;

use serde_json::Value;

use crate::patch::{self, apply};
use crate::server::answer::Answer;
use crate::server::body::{self, Media, Parsed};
use crate::server::envelope::{self, Draft};
use crate::server::request::Part;
use crate::server::{ApiServer, Call, metadata, scale, strategic};
use crate::status::{Cause, Refusal, Subject};

/// Rounds of an apply that finds the object there, then gone, then there again.
const MAX_ROUNDS: usize = 3;
const CUSTOM: &str =
    "application/json-patch+json, application/merge-patch+json, application/apply-patch+yaml";
const CORE: &str = "application/json-patch+json, application/merge-patch+json, \
    application/apply-patch+yaml, application/strategic-merge-patch+json without directives";

impl ApiServer {
    pub(super) async fn patch(&self, call: &Call) -> Result<Answer, Refusal> {
        let custom = call.target.resource.is_custom();
        let accepted = if custom { CUSTOM } else { CORE };
        let media = match Media::of(&call.headers).map_err(|_| body::unsupported(accepted))? {
            Media::Json | Media::Yaml | Media::Protobuf => return Err(body::unsupported(accepted)),
            Media::StrategicPatch if custom => return Err(body::unsupported(accepted)),
            media => media,
        };
        let name = call.target.name.clone().unwrap_or_default();
        let key = envelope::key(&call.target, &name);
        if media != Media::ApplyPatch && !call.query.force && self.store.get(&key).is_none() {
            // Told before what is wrong with the patch.
            return Err(Refusal::NotFound(call.target.subject(name)));
        }
        let Parsed { value: patch, duplicates } = body::parse(&call.body, media)?;
        if media == Media::ApplyPatch {
            return self.apply(call, &patch, &duplicates).await;
        }
        if call.query.force {
            let cause = Cause::forbidden("force", "may not be specified for non-apply patch");
            return Err(Refusal::field(Subject::options("PatchOptions"), cause));
        }
        if media == Media::StrategicPatch && !strategic::is_plain(&patch) {
            return Err(body::unsupported(accepted));
        }
        let change = |live: &Value| {
            let scale = call.target.scale();
            let before =
                scale.map_or(Cow::Borrowed(live), |scale| Cow::Owned(scale::of(scale, live)));
            let object = match media {
                Media::JsonPatch => patch::json(&before, &patch).map_err(Refusal::of_patch)?,
                _ if patch.is_object() => patch::merge(&before, &patch),
                _ => {
                    return Err(Refusal::BadRequest(
                        "a merge patch must be a JSON object".to_owned(),
                    ));
                }
            };
            match scale {
                Some(scale) => scale::patched(&call.target, scale, live, object, &duplicates),
                None => Ok(Draft { object, duplicates: duplicates.clone(), applied: false }),
            }
        };
        self.modify(call, change).await
    }

    /// Server-side apply: makes the object if it is not there.
    async fn apply(
        &self,
        call: &Call,
        applied: &Value,
        duplicates: &[String],
    ) -> Result<Answer, Refusal> {
        if call.query.field_manager.is_empty() {
            let cause = Cause::required("fieldManager", "is required for apply patch");
            return Err(Refusal::field(Subject::options("PatchOptions"), cause));
        }
        let name = call.target.name.clone().unwrap_or_default();
        let mut applied = self.applied(call, applied.clone(), &name)?;
        let mut duplicates = duplicates.to_vec();
        if let Some(scale) = call.target.scale() {
            duplicates = scale::problems(&applied, &duplicates);
            applied = scale::applied(&call.target, scale, &applied)?;
        }
        let key = envelope::key(&call.target, &name);
        let uid = metadata::text(&applied, "uid");
        let change = |live: Option<&Value>| {
            let object = self.merged(call, live, &applied)?;
            Ok(Draft { object, duplicates: duplicates.clone(), applied: true })
        };
        for _ in 0..MAX_ROUNDS {
            let answer = if self.store.get(&key).is_some() {
                self.modify(call, |live| change(Some(live))).await
            } else if call.target.part != Part::Main {
                return Err(Refusal::NotFound(call.target.subject(name)));
            } else if !uid.is_empty() {
                let message = format!(
                    "uid mismatch: the provided object specified uid {uid}, and no existing object was found"
                );
                return Err(Refusal::Conflict { subject: call.target.subject(name), message });
            } else {
                let mut draft = change(None)?;
                // There is no version that it could be meant for.
                metadata::known(&mut draft.object).remove("resourceVersion");
                self.insert(call, draft).await
            };
            match answer {
                Err(Refusal::AlreadyExists(_) | Refusal::StillThere(_)) => {}
                // The object itself went meanwhile; a namespace that is missing stays so.
                Err(Refusal::NotFound(subject)) if subject.kind == call.target.resource.kind => {}
                answer => return answer,
            }
        }
        Err(Refusal::modified(call.target.subject(name)))
    }

    /// What is applied, after checking that it says what it is.
    fn applied(&self, call: &Call, mut applied: Value, name: &str) -> Result<Value, Refusal> {
        metadata::of(&mut applied)?;
        for field in ["apiVersion", "kind"] {
            if applied.get(field).and_then(Value::as_str).is_none_or(str::is_empty) {
                return Err(Refusal::BadRequest(format!("an applied object must have {field}")));
            }
        }
        let meta = metadata::known(&mut applied);
        if meta.contains_key("managedFields") {
            return Err(Refusal::BadRequest("metadata.managedFields must be nil".to_owned()));
        }
        meta.entry("name").or_insert_with(|| name.into());
        match call.target.part {
            Part::Scale => scale::agree(&call.target, &mut applied)?,
            Part::Main | Part::Status => envelope::agree(&call.target, &mut applied)?,
        }
        Ok(applied)
    }

    fn merged(&self, call: &Call, live: Option<&Value>, applied: &Value) -> Result<Value, Refusal> {
        let now = metadata::seconds(call.now);
        let writer = apply::Writer {
            manager: &call.query.field_manager,
            api_version: &call.target.api_version(),
            subresource: call.target.part.name(),
            now: &now,
        };
        let schema = self.schema(call.target.resource, call.target.version);
        apply::apply(live, applied, &writer, call.query.force, &schema).map_err(Refusal::of_patch)
    }
}
