//! `GET /weft/v1/tail`: a broker's events as they are accepted, one JSON object a line, until the client goes away.

use std::time::Duration;

use axum::body::Body;
use axum::extract::{Query, State};
use axum::http::header;
use axum::response::{IntoResponse, Response};
use broker::inspect::{Inspect, Kept};
use broker::store::{Position, Start};
use bytes::Bytes;
use dispatcher::filter::Filter;
use dispatcher::filter::cesql::Expression;
use futures_util::stream;
use serde::Deserialize;

use super::respond::Refusal;
use super::{Admin, blocking, start};
use crate::view;

/// Kept events looked at in one go, and bytes of their data: bounds the memory of a tail that reads a long history.
const CHUNK: usize = 256;
const CHUNK_BYTES: usize = 1 << 20;

/// How often a tail that has caught up looks for more. A person watches; a tenth of a second is at once.
const POLL: Duration = Duration::from_millis(100);

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct TailQuery {
    broker: String,
    from: String,
    #[serde(rename = "type")]
    ty: Option<String>,
    source: Option<String>,
    cesql: Option<String>,
}

impl TailQuery {
    fn filter(&self) -> Result<Filter, Refusal> {
        let mut all = Vec::new();
        let exact = |name: &str, value: &str| Filter::Exact(vec![(name.into(), value.into())]);
        all.extend(self.ty.as_deref().map(|ty| exact("type", ty)));
        all.extend(self.source.as_deref().map(|source| exact("source", source)));
        if let Some(cesql) = &self.cesql {
            let parsed = Expression::parse(cesql)
                .map_err(|error| Refusal::BadFilter(format!("cesql: {error}")))?;
            all.push(Filter::Cesql(parsed));
        }
        Ok(Filter::All(all))
    }
}

pub(super) async fn handle(
    State(admin): State<Admin>,
    Query(query): Query<TailQuery>,
) -> Result<Response, Refusal> {
    let filter = query.filter()?;
    let broker =
        if query.broker.contains('/') { query.broker } else { format!("default/{}", query.broker) };
    let from = match start(&query.from)? {
        Start::Now => Start::Position(head(&admin, &broker).await?),
        from => from,
    };
    let tail = Tail { admin, broker, filter, from };
    let body = Body::from_stream(stream::unfold(tail, |mut tail| async move {
        let lines = tail.next().await?;
        Some((Ok::<_, std::convert::Infallible>(lines), tail))
    }));
    Ok(([(header::CONTENT_TYPE, "application/x-ndjson")], body).into_response())
}

async fn head(admin: &Admin, broker: &str) -> Result<Position, Refusal> {
    let store = admin.store.clone();
    let topics = blocking(move || Ok(store.topics())).await?;
    let topic = topics.into_iter().find(|topic| topic.topic.to_string() == broker);
    topic
        .map(|topic| topic.head)
        .ok_or_else(|| Refusal::BadFilter(format!("broker {broker} does not exist")))
}

struct Tail {
    admin: Admin,
    broker: String,
    filter: Filter,
    from: Start,
}

impl Tail {
    /// The next lines (at least one); `None` when the mesh stops or the disk fails.
    async fn next(&mut self) -> Option<Bytes> {
        loop {
            let (kept, next) = {
                let (store, from) = (self.admin.store.clone(), self.from);
                blocking(move || chunk(store.as_ref(), from)).await.ok()?
            };
            if let Some(next) = next {
                self.from = Start::Position(next);
            }
            let lines = self.lines(&kept);
            if !lines.is_empty() {
                return Some(lines.into());
            }
            if kept.is_empty() {
                tokio::select! {
                    () = self.admin.stop.cancelled() => return None,
                    () = tokio::time::sleep(POLL) => {}
                }
            }
        }
    }

    fn lines(&self, kept: &[Kept]) -> Vec<u8> {
        let mut lines = Vec::new();
        for kept in kept {
            if kept.topic.to_string() == self.broker && self.filter.matches(&kept.event) {
                // Neither the view nor a vector gives it a reason to fail.
                drop(serde_json::to_writer(&mut lines, &view::Kept::from(kept)));
                lines.push(b'\n');
            }
        }
        lines
    }
}

/// Up to [`CHUNK`] kept events (or [`CHUNK_BYTES`] of them) from `from` on, and where to go on.
fn chunk(
    store: &dyn Inspect,
    from: Start,
) -> Result<(Vec<Kept>, Option<Position>), broker::store::StoreError> {
    let (mut kept, mut bytes) = (Vec::new(), 0_usize);
    store.scan(from, &mut |event| {
        bytes = bytes.saturating_add(event.event.data().map_or(0, |data| data.len()));
        kept.push(event);
        kept.len() < CHUNK && bytes < CHUNK_BYTES
    })?;
    let next = kept.last().map(|last| last.position.saturating_add(1));
    Ok((kept, next))
}
