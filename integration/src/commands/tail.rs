//! `weft tail`: a broker's events as they are accepted.

use std::io::Write;

use anyhow::Context;
use broker_event::json;
use bytes::{Buf, Bytes, BytesMut};
use http::{Method, Request};
use http_body_util::{BodyExt, Full};
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::cli::{Output, TailArgs};
use crate::client::{Client, Listener};
use crate::output;

/// One line of the stream.
#[derive(Debug, Deserialize)]
struct Line<'a> {
    offset: u64,
    accepted: String,
    #[serde(borrow)]
    event: &'a RawValue,
}

pub(super) async fn run(args: TailArgs, out: &mut dyn Write) -> anyhow::Result<()> {
    let client = Client::find(&args.mesh, Listener::Api)?;
    let mut query = vec![("broker", args.broker.broker.clone()), ("from", args.from.clone())];
    let optional = [("type", &args.ty), ("source", &args.source), ("cesql", &args.cesql)];
    query.extend(optional.into_iter().filter_map(|(name, value)| Some((name, value.clone()?))));
    let url = client.url("/weft/v1/tail", &query)?;
    let request = Request::builder().method(Method::GET).uri(url.as_str()).body(Full::default())?;
    let mut body = client.open(request).await?.into_body();
    let (mut buffer, mut left) = (BytesMut::new(), args.count.unwrap_or(u64::MAX));
    while left > 0 {
        let Some(frame) = body.frame().await else { return Ok(()) };
        let Ok(data) = frame.context("the mesh closed the stream")?.into_data() else { continue };
        buffer.extend_from_slice(&data);
        while left > 0
            && let Some(end) = buffer.iter().position(|byte| *byte == b'\n')
        {
            let line = buffer.split_to(end).freeze();
            buffer.advance(1);
            print(&line, args.output, out)?;
            left = left.saturating_sub(1);
        }
        out.flush()?;
    }
    Ok(())
}

fn print(line: &Bytes, how: Output, out: &mut dyn Write) -> anyhow::Result<()> {
    if how == Output::Json {
        out.write_all(line)?;
        return Ok(writeln!(out)?);
    }
    let line: Line<'_> = serde_json::from_slice(line).context("parse the mesh's answer")?;
    writeln!(out, "-- offset {} accepted {}", line.offset, line.accepted)?;
    output::event(out, &json::read(&Bytes::copy_from_slice(line.event.get().as_bytes()))?)
}
