//! `weft wait`: until an object is as it should be.

use std::io::Write;
use std::time::Duration;

use anyhow::{Context, bail};
use serde_json::Value;
use tokio::time::Instant;

use crate::api::{self, ApiClient, Scope, title};
use crate::cli::WaitArgs;

/// How often the object is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// What is waited for.
enum Goal {
    Deleted,
    Condition { kind: String, status: String },
}

impl Goal {
    fn parse(text: &str) -> anyhow::Result<Self> {
        if text == "delete" {
            return Ok(Self::Deleted);
        }
        let condition = text.strip_prefix("condition=").with_context(|| {
            format!("--for {text}: condition=TYPE, condition=TYPE=STATUS or delete")
        })?;
        let (kind, status) = condition.split_once('=').unwrap_or((condition, "True"));
        Ok(Self::Condition { kind: kind.to_owned(), status: status.to_owned() })
    }

    fn is_met(&self, object: Option<&Value>) -> bool {
        match (self, object) {
            (Self::Deleted, object) => object.is_none(),
            (Self::Condition { .. }, None) => false,
            (Self::Condition { kind, status }, Some(object)) => {
                let generation = object.pointer("/metadata/generation");
                let observed = object.pointer("/status/observedGeneration");
                // What is said of an earlier generation says nothing of this one.
                let current = observed.is_none() || observed == generation;
                current
                    && find(object, kind)
                        .and_then(|c| c.get("status")?.as_str())
                        .is_some_and(|have| have.eq_ignore_ascii_case(status))
            }
        }
    }
}

fn find<'a>(object: &'a Value, kind: &str) -> Option<&'a Value> {
    let conditions = object.pointer("/status/conditions")?.as_array()?;
    conditions.iter().find(|condition| {
        condition.get("type").and_then(Value::as_str).is_some_and(|t| t.eq_ignore_ascii_case(kind))
    })
}

pub(super) async fn run(args: WaitArgs, out: &mut dyn Write) -> anyhow::Result<()> {
    let goal = Goal::parse(&args.goal)?;
    let api = ApiClient::find(&args.api).await?;
    let namespace = api.namespace().to_owned();
    let deadline = Instant::now() + Duration::from_secs(args.timeout);
    for (kind, name) in named(&args)? {
        let resource = api::kind(&kind)?;
        let scope = Scope { resource, namespace: Some(&namespace), version: None };
        let (path, title) = (scope.object(&name), title(resource, &name));
        loop {
            let object = api.find_object(&path).await?;
            if goal.is_met(object.as_ref()) {
                break;
            }
            if Instant::now() >= deadline {
                bail!("{title}: not within {} s{}", args.timeout, last(object.as_ref(), &goal));
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
        let met = if matches!(goal, Goal::Deleted) { "deleted" } else { "condition met" };
        writeln!(out, "{title} {met}")?;
    }
    Ok(())
}

/// `KIND/NAME …`, or `KIND NAME …`.
fn named(args: &WaitArgs) -> anyhow::Result<Vec<(String, String)>> {
    let slashed = |word: &String| {
        let (kind, name) = word.split_once('/')?;
        Some((kind.to_owned(), name.to_owned()))
    };
    if let Some(all) = args.objects.iter().map(slashed).collect::<Option<Vec<_>>>() {
        return Ok(all);
    }
    match args.objects.split_first() {
        Some((kind, names))
            if !names.is_empty() && !names.iter().any(|name| name.contains('/')) =>
        {
            Ok(names.iter().map(|name| (kind.clone(), name.clone())).collect())
        }
        _ => bail!("name what to wait for: KIND/NAME, or KIND NAME"),
    }
}

/// What the condition said last.
fn last(object: Option<&Value>, goal: &Goal) -> String {
    let (Some(object), Goal::Condition { kind, .. }) = (object, goal) else {
        return match object {
            Some(_) => ": it is still there".to_owned(),
            None => ": it does not exist".to_owned(),
        };
    };
    let Some(condition) = find(object, kind) else {
        return format!(": it has no condition {kind}");
    };
    let text = |name: &str| condition.get(name).and_then(Value::as_str).unwrap_or_default();
    format!(": {} is {} {} {}", text("type"), text("status"), text("reason"), text("message"))
        .trim_end()
        .to_owned()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_condition_counts_for_the_generation_it_is_about() {
        let goal = Goal::parse("condition=Ready").unwrap();
        let object = |generation: i64, observed: i64, status: &str| {
            json!({"metadata": {"generation": generation}, "status": {"observedGeneration": observed,
                "conditions": [{"type": "Ready", "status": status}]}})
        };
        assert!(goal.is_met(Some(&object(2, 2, "True"))));
        assert!(!goal.is_met(Some(&object(2, 1, "True"))));
        assert!(!goal.is_met(Some(&object(1, 1, "False"))));
        assert!(!goal.is_met(None));
        assert!(Goal::parse("condition=ready=false").unwrap().is_met(Some(&object(1, 1, "False"))));
        assert!(Goal::parse("delete").unwrap().is_met(None));
        assert!(Goal::parse("Ready").is_err());
    }
}
