//! `GET /weft/v1/explain?id=…`: what became of an event, trigger by trigger.

use std::collections::BTreeMap;

use axum::extract::{Query, State};
use axum::response::Response;
use broker::inspect::{Inspect, Kept, Step};
use broker::store::{Start, StoreError};
use serde::Deserialize;

use super::respond::{self, Refusal};
use super::{Admin, blocking};
use crate::view::{self, Explained, Page, Verdict};

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
    let items = found.iter().map(|(kept, steps)| explain(kept, steps, &snapshot)).collect();
    Ok(respond::json(&Page::<Explained> { items, next: None }))
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

fn explain(kept: &Kept, steps: &[Step], snapshot: &dispatcher::Snapshot) -> Explained {
    let mut recorded: BTreeMap<&str, Vec<view::Step>> = BTreeMap::new();
    for step in steps {
        recorded.entry(&step.subscription).or_default().push(step.into());
    }
    let mut triggers = Vec::new();
    for trigger in snapshot.triggers.iter().filter(|trigger| trigger.broker == kept.topic) {
        let name = trigger.subscription();
        let verdict = trigger.filter.explain(&kept.event);
        let steps = recorded.remove(name.as_str()).unwrap_or_default();
        let (matched, reason) = (Some(verdict.matched), verdict.reason);
        triggers.push(Verdict { trigger: name, matched, reason, steps });
    }
    for (name, steps) in recorded {
        let (trigger, reason) = (name.to_owned(), "the trigger is gone".to_owned());
        triggers.push(Verdict { trigger, matched: None, reason, steps });
    }
    let view::Kept { offset, broker, accepted, event } = kept.into();
    Explained { offset, broker, accepted, event, triggers }
}
