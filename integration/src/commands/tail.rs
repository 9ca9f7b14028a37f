//! `weft tail`: a broker's events as they are accepted.

use std::io::Write;

use anyhow::Context;
use bytes::{Buf, BytesMut};
use http::{Method, Request};
use http_body_util::{BodyExt, Full};

use crate::cli::{Output, TailArgs};
use crate::client::{self, Client, Listener};
use crate::{output, view};

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

fn print(line: &[u8], how: Output, out: &mut dyn Write) -> anyhow::Result<()> {
    if how == Output::Json {
        return output::line(out, line);
    }
    let kept: view::Kept = client::parse(line)?;
    writeln!(out, "-- offset {} accepted {}", kept.offset, kept.accepted)?;
    output::event(out, &view::event(&kept.event)?)
}
