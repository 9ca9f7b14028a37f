//! `weft parked`: letters that could not be delivered.

use std::io::Write;

use anyhow::{bail, ensure};
use http::Method;
use serde_json::Value;

use crate::cli::{Output, ParkedArgs, ParkedCommand};
use crate::client::{self, Client, Listener};
use crate::output::{self, or_dash};
use crate::view::{self, Letter, Page, SourceLetter};

pub(super) async fn run(command: ParkedCommand, out: &mut dyn Write) -> anyhow::Result<()> {
    match command {
        ParkedCommand::List(args) if args.sources => of_sources(&args.letters, out).await,
        ParkedCommand::List(args) => list(&args.letters, out).await,
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
    each: &mut dyn FnMut(Letter) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let client = Client::find(&args.mesh, Listener::Api)?;
    let mut after = None::<u64>;
    loop {
        let mut query = query(args);
        query.extend(after.map(|after| ("after", after.to_string())));
        let answer = client.ask(Method::GET, "/weft/v1/parked", &query).await?;
        let page: Page<Letter> = client::parse(&answer)?;
        page.items.into_iter().try_for_each(&mut *each)?;
        after = page.next;
        if after.is_none() {
            return Ok(());
        }
    }
}

async fn list(args: &ParkedArgs, out: &mut dyn Write) -> anyhow::Result<()> {
    let mut rows = Vec::new();
    pages(args, &mut |letter| {
        if args.output == Output::Json {
            return output::json(out, &letter);
        }
        rows.push(row(&letter)?);
        Ok(())
    })
    .await?;
    if args.output == Output::Json {
        return Ok(());
    }
    let header = ["OFFSET", "TRIGGER", "TYPE", "ID", "ATTEMPTS", "STATUS", "PARKED AT", "WHY"];
    output::table(out, &header, rows, "nothing is parked")
}

/// Lists what sources parked.
async fn of_sources(args: &ParkedArgs, out: &mut dyn Write) -> anyhow::Result<()> {
    let client = Client::find(&args.mesh, Listener::Api)?;
    let (mut rows, mut after) = (Vec::new(), String::new());
    loop {
        let query = [("after", after)];
        let answer = client.ask(Method::GET, "/weft/v1/parked/sources", &query).await?;
        let page: Vec<SourceLetter> = client::parse(&answer)?;
        let Some(last) = page.last() else { break };
        after = last.file.clone();
        for letter in page {
            if args.output == Output::Json {
                output::json(out, &letter)?;
                continue;
            }
            let SourceLetter { source, time, reason, event, file } = letter;
            let event = view::event(&event)?;
            let (ty, id) = (event.ty().to_owned(), event.id().to_owned());
            rows.push(vec![source, ty, id, time, file, reason]);
        }
    }
    if args.output == Output::Json {
        return Ok(());
    }
    let header = ["SOURCE", "TYPE", "ID", "PARKED AT", "FILE", "WHY"];
    output::table(out, &header, rows, "no source has parked anything")
}

fn row(letter: &Letter) -> anyhow::Result<Vec<String>> {
    let event = view::event(&letter.event)?;
    Ok(vec![
        letter.offset.to_string(),
        letter.trigger.clone(),
        event.ty().to_owned(),
        event.id().to_owned(),
        letter.attempts.to_string(),
        or_dash(letter.last.status.as_ref()),
        letter.last.at.clone(),
        letter.last.reason.clone(),
    ])
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
            return output::json(out, &letter);
        }
        letter_for_people(&letter, out)
    })
    .await?;
    if found == 0 {
        bail!("no parked letter matches: `weft parked list` shows what there is");
    }
    Ok(())
}

fn letter_for_people(letter: &Letter, out: &mut dyn Write) -> anyhow::Result<()> {
    let Letter { offset, trigger, broker, attempts, last, event } = letter;
    let lines = [
        ("offset", offset.to_string()),
        ("trigger", trigger.clone()),
        ("broker", broker.clone()),
        ("attempts", attempts.to_string()),
        ("last attempt", last.at.clone()),
        ("stage", last.stage.clone()),
        ("status", or_dash(last.status.as_ref())),
        ("reason", last.reason.clone()),
        ("response", last.body.clone()),
    ];
    output::fields(out, &lines)?;
    writeln!(out)?;
    output::event(out, &view::event(event)?)
}

async fn change(
    args: &ParkedArgs,
    verb: &str,
    done: &str,
    out: &mut dyn Write,
) -> anyhow::Result<()> {
    let client = Client::find(&args.mesh, Listener::Api)?;
    let path = format!("/weft/v1/parked/{verb}");
    let answer = client.ask(Method::POST, &path, &query(args)).await?;
    if args.output == Output::Json {
        return output::line(out, &answer);
    }
    let answer: Value = client::parse(&answer)?;
    let count = answer.get(done).and_then(Value::as_u64).unwrap_or_default();
    writeln!(out, "{done}: {}", output::count(count, "letter"))?;
    Ok(())
}
