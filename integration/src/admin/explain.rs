//! `GET /weft/v1/explain?id=…`: what became of an event, trigger by trigger.

use std::collections::BTreeMap;

use axum::extract::{Query, State};
use axum::response::Response;
use broker::inspect::{Inspect, Kept, Step};
use broker::store::{Start, StoreError};
use serde::Deserialize;
use serde_json::{Value, json};

use super::respond::{self, Refusal};
use super::{Admin, blocking, view};

/// Most events of one id that are explained: ids repeat only by accident or by a sender's retry.
const MOST: usize = 20;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ExplainQuery {
    id: String,
}

pub(super) async fn handle(
    State(admin): State<Admin>,
    Query(query): Query<ExplainQuery>,
) -> Result<Response, Refusal> {
    let store = admin.store.clone();
    let id = query.id.clone();
    let found = blocking(move || find(store.as_ref(), &id)).await?;
    if found.is_empty() {
        return Err(Refusal::NoSuchEvent(query.id));
    }
    let snapshot = admin.snapshot.load_full();
    let explained: Vec<Value> =
        found.iter().map(|(kept, steps)| explain(kept, steps, &snapshot)).collect();
    Ok(respond::json(&json!({ "items": explained })))
}

fn find(store: &dyn Inspect, id: &str) -> Result<Vec<(Kept, Vec<Step>)>, StoreError> {
    let mut found = Vec::new();
    store.scan(Start::Earliest, &mut |kept| {
        if kept.event.id() == id {
            found.push(kept);
        }
        found.len() < MOST
    })?;
    found
        .into_iter()
        .map(|kept| {
            let steps = store.steps(kept.position)?;
            Ok((kept, steps))
        })
        .collect()
}

fn explain(kept: &Kept, steps: &[Step], snapshot: &dispatcher::Snapshot) -> Value {
    let mut recorded: BTreeMap<&str, Vec<Value>> = BTreeMap::new();
    for step in steps {
        recorded.entry(&step.subscription).or_default().push(view::step(step));
    }
    let mut triggers = Vec::new();
    for trigger in snapshot.triggers.iter().filter(|trigger| trigger.broker == kept.topic) {
        let name = format!("{}/{}", trigger.namespace, trigger.name);
        let verdict = trigger.filter.explain(&kept.event);
        let steps = recorded.remove(name.as_str()).unwrap_or_default();
        triggers.push(json!({
            "trigger": name,
            "match": verdict.matched,
            "reason": verdict.reason,
            "steps": steps,
        }));
    }
    for (name, steps) in recorded {
        let reason = "the trigger is gone";
        triggers.push(json!({ "trigger": name, "match": null, "reason": reason, "steps": steps }));
    }
    let mut explained = view::kept(kept);
    if let Value::Object(fields) = &mut explained {
        fields.insert("triggers".to_owned(), Value::Array(triggers));
    }
    explained
}
