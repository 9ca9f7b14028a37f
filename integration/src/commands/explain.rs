//! `weft explain`: what became of an event.

use std::io::Write;

use http::Method;

use crate::cli::{ExplainArgs, Output};
use crate::client::{self, Client, Listener};
use crate::output::{self, or_dash, printable};
use crate::view::{self, Explained, Page, Step, Verdict};

pub(super) async fn run(args: ExplainArgs, out: &mut dyn Write) -> anyhow::Result<()> {
    let client = Client::find(&args.mesh, Listener::Api)?;
    let answer = client.ask(Method::GET, "/weft/v1/explain", &[("id", args.id.clone())]).await?;
    if args.output == Output::Json {
        return output::line(out, &answer);
    }
    let page: Page<Explained> = client::parse(&answer)?;
    page.items.iter().try_for_each(|event| explain(event, out))
}

fn explain(explained: &Explained, out: &mut dyn Write) -> anyhow::Result<()> {
    let event = view::event(&explained.event)?;
    let (id, source, ty) = (event.id(), event.source(), event.ty());
    writeln!(out, "event {} of {} ({})", printable(id), printable(source), printable(ty))?;
    let Explained { accepted, broker, offset, triggers, .. } = explained;
    writeln!(out, "accepted {accepted} by {broker} at offset {offset}\n")?;
    if triggers.is_empty() {
        writeln!(out, "no trigger of this broker exists")?;
    }
    for Verdict { trigger, matched, reason, steps } in triggers {
        let verdict = match matched {
            Some(true) => "matches",
            Some(false) => "does not match",
            None => "unknown",
        };
        writeln!(out, "{trigger}: {verdict}: {}", printable(reason))?;
        if steps.is_empty() && *matched == Some(true) {
            writeln!(out, "  no attempt is on record")?;
        }
        if !steps.is_empty() {
            let header = ["  AT", "CALLED", "STATUS", "TOOK MS", "THEN", "NEXT ATTEMPT", "WHY"];
            output::table(out, &header, steps.iter().map(row).collect(), "")?;
        }
    }
    writeln!(out)?;
    Ok(())
}

fn row(step: &Step) -> Vec<String> {
    let (what, next) = (step.what.clone(), or_dash(step.next_attempt.as_ref()));
    let Some(attempt) = &step.outcome else {
        let dash = || "-".to_owned();
        return vec!["  -".to_owned(), dash(), dash(), dash(), what, next, dash()];
    };
    vec![
        format!("  {}", attempt.at),
        attempt.stage.clone(),
        or_dash(attempt.status.as_ref()),
        attempt.took_ms.to_string(),
        what,
        next,
        or_dash(Some(&attempt.reason).filter(|reason| !reason.is_empty())),
    ]
}
