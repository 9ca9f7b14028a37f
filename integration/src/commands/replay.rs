//! `weft replay`: a trigger gets again what is still kept.

use std::io::Write;

use http::Method;
use serde_json::Value;

use crate::cli::{Output, ReplayArgs};
use crate::client::{self, Client, Listener};
use crate::output;

pub(super) async fn run(args: ReplayArgs, out: &mut dyn Write) -> anyhow::Result<()> {
    let client = Client::find(&args.mesh, Listener::Api)?;
    let query = [("trigger", args.trigger.clone()), ("from", args.from.clone())];
    let answer = client.ask(Method::POST, "/weft/v1/replay", &query).await?;
    if args.output == Output::Json {
        return output::line(out, &answer);
    }
    let answer: Value = client::parse(&answer)?;
    let count = answer.get("replayed").and_then(Value::as_u64).unwrap_or_default();
    writeln!(out, "delivering again to {}: {}", args.trigger, output::count(count, "event"))?;
    Ok(())
}
