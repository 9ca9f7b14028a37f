//! `weft explain`: what became of an event.

use std::io::Write;

use http::Method;
use serde_json::Value;

use crate::cli::{ExplainArgs, Output};
use crate::client::{Client, Listener};
use crate::commands::parked::text;
use crate::output;

pub(super) async fn run(args: ExplainArgs, out: &mut dyn Write) -> anyhow::Result<()> {
    let client = Client::find(&args.mesh, Listener::Api)?;
    let answer = client.json(Method::GET, "/weft/v1/explain", &[("id", args.id.clone())]).await?;
    if args.output == Output::Json {
        return output::json(out, &answer);
    }
    for event in list(&answer, "items") {
        explain(event, out)?;
    }
    Ok(())
}

fn list<'a>(value: &'a Value, key: &str) -> &'a [Value] {
    value.get(key).and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default()
}

fn explain(event: &Value, out: &mut dyn Write) -> anyhow::Result<()> {
    let at = |pointer| output::printable(&text(event.pointer(pointer)));
    writeln!(out, "event {} of {} ({})", at("/event/id"), at("/event/source"), at("/event/type"))?;
    writeln!(
        out,
        "accepted {} by {} at offset {}\n",
        at("/accepted"),
        at("/broker"),
        at("/offset")
    )?;
    let triggers = list(event, "triggers");
    if triggers.is_empty() {
        writeln!(out, "no trigger of this broker exists")?;
    }
    for trigger in triggers {
        let verdict = match trigger.get("match").and_then(Value::as_bool) {
            Some(true) => "matches",
            Some(false) => "does not match",
            None => "unknown",
        };
        let reason = output::printable(&text(trigger.get("reason")));
        writeln!(out, "{}: {verdict}: {reason}", text(trigger.get("trigger")))?;
        let steps = list(trigger, "steps");
        if steps.is_empty() && verdict == "matches" {
            writeln!(out, "  no attempt is on record")?;
        }
        let rows = steps.iter().map(row).collect::<Vec<_>>();
        if !rows.is_empty() {
            let header = ["  AT", "CALLED", "STATUS", "TOOK MS", "THEN", "NEXT ATTEMPT", "WHY"];
            output::table(out, &header, rows, "")?;
        }
    }
    writeln!(out)?;
    Ok(())
}

fn row(step: &Value) -> Vec<String> {
    let cells = [
        "/outcome/at",
        "/outcome/stage",
        "/outcome/status",
        "/outcome/tookMs",
        "/what",
        "/nextAttempt",
        "/outcome/reason",
    ];
    let mut row: Vec<String> = cells.iter().map(|pointer| text(step.pointer(pointer))).collect();
    if let Some(first) = row.first_mut() {
        first.insert_str(0, "  ");
    }
    row
}
