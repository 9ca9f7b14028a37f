//! `weft replay`: a trigger gets again what is still kept.

use std::io::Write;

use http::Method;

use crate::cli::{Output, ReplayArgs};
use crate::client::{Client, Listener};
use crate::output;

pub(super) async fn run(args: ReplayArgs, out: &mut dyn Write) -> anyhow::Result<()> {
    let client = Client::find(&args.mesh, Listener::Api)?;
    let query = [("trigger", args.trigger.clone()), ("from", args.from.clone())];
    let answer = client.json(Method::POST, "/weft/v1/replay", &query).await?;
    if args.output == Output::Json {
        return output::json(out, &answer);
    }
    let count = answer.get("replayed").and_then(serde_json::Value::as_u64).unwrap_or(0);
    writeln!(out, "{count} events are delivered again to {}", args.trigger)?;
    Ok(())
}
