//! `weft parked`: letters that could not be delivered.

use std::io::Write;

use anyhow::{Context, bail, ensure};
use broker_event::json;
use bytes::Bytes;
use http::Method;
use serde_json::Value;

use crate::cli::{Output, ParkedArgs, ParkedCommand};
use crate::client::{Client, Listener};
use crate::output;

pub(super) async fn run(command: ParkedCommand, out: &mut dyn Write) -> anyhow::Result<()> {
    match command {
        ParkedCommand::List(args) => list(&args, out).await,
        ParkedCommand::Show(args) => show(&args, out).await,
        ParkedCommand::Redrive(args) => change(&args, "redrive", "redriven", out).await,
        ParkedCommand::Purge(args) => change(&args, "purge", "purged", out).await,
    }
}

fn query(args: &ParkedArgs) -> Vec<(&'static str, String)> {
    let optional = [
        ("trigger", args.trigger.clone()),
        ("id", args.id.clone()),
        ("offset", args.offset.map(|offset| offset.to_string())),
        ("all", args.all.then(|| "true".to_owned())),
    ];
    optional.into_iter().filter_map(|(name, value)| Some((name, value?))).collect()
}

/// Calls `each` for every parked letter that is meant, page by page.
async fn pages(
    args: &ParkedArgs,
    each: &mut dyn FnMut(&Value) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let client = Client::find(&args.mesh, Listener::Api)?;
    let mut after = None::<u64>;
    loop {
        let mut query = query(args);
        query.extend(after.map(|after| ("after", after.to_string())));
        let page = client.json(Method::GET, "/weft/v1/parked", &query).await?;
        let items =
            page.get("items").and_then(Value::as_array).context("no items in the answer")?;
        items.iter().try_for_each(&mut *each)?;
        after = page.get("next").and_then(Value::as_u64);
        if after.is_none() {
            return Ok(());
        }
    }
}

async fn list(args: &ParkedArgs, out: &mut dyn Write) -> anyhow::Result<()> {
    let mut rows = Vec::new();
    pages(args, &mut |letter| {
        if args.output == Output::Json {
            return output::json(out, letter);
        }
        rows.push(row(letter));
        Ok(())
    })
    .await?;
    if args.output == Output::Json {
        return Ok(());
    }
    let header = ["OFFSET", "TRIGGER", "TYPE", "ID", "ATTEMPTS", "STATUS", "PARKED AT", "WHY"];
    output::table(out, &header, rows, "nothing is parked")
}

fn row(letter: &Value) -> Vec<String> {
    let cells = [
        "/offset",
        "/trigger",
        "/event/type",
        "/event/id",
        "/attempts",
        "/last/status",
        "/last/at",
        "/last/reason",
    ];
    cells.iter().map(|pointer| text(letter.pointer(pointer))).collect()
}

/// A cell: text as it is, numbers in digits, absence as a dash.
pub(super) fn text(value: Option<&Value>) -> String {
    match value {
        None | Some(Value::Null) => "-".to_owned(),
        Some(Value::String(text)) => text.clone(),
        Some(other) => other.to_string(),
    }
}

async fn show(args: &ParkedArgs, out: &mut dyn Write) -> anyhow::Result<()> {
    ensure!(
        args.id.is_some() || args.offset.is_some(),
        "say which letter: --id ID or --offset OFFSET"
    );
    let mut found = 0_u32;
    pages(args, &mut |letter| {
        found = found.saturating_add(1);
        if args.output == Output::Json {
            return output::json(out, letter);
        }
        letter_for_people(letter, out)
    })
    .await?;
    if found == 0 {
        bail!("no parked letter matches: `weft parked list` shows what there is");
    }
    Ok(())
}

fn letter_for_people(letter: &Value, out: &mut dyn Write) -> anyhow::Result<()> {
    let lines = [
        ("offset", "/offset"),
        ("trigger", "/trigger"),
        ("broker", "/broker"),
        ("attempts", "/attempts"),
        ("last attempt", "/last/at"),
        ("stage", "/last/stage"),
        ("status", "/last/status"),
        ("reason", "/last/reason"),
        ("response", "/last/body"),
    ];
    for (name, pointer) in lines {
        let value = output::printable(&text(letter.pointer(pointer)));
        writeln!(out, "{name:<16} {value}")?;
    }
    let event = letter.get("event").context("no event in the answer")?;
    writeln!(out)?;
    output::event(out, &json::read(&Bytes::from(event.to_string()))?)
}

async fn change(
    args: &ParkedArgs,
    verb: &str,
    done: &str,
    out: &mut dyn Write,
) -> anyhow::Result<()> {
    let client = Client::find(&args.mesh, Listener::Api)?;
    let path = format!("/weft/v1/parked/{verb}");
    let answer = client.json(Method::POST, &path, &query(args)).await?;
    if args.output == Output::Json {
        return output::json(out, &answer);
    }
    writeln!(out, "{done} {}", text(answer.get(done)))?;
    Ok(())
}
