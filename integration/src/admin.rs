//! The API listener: health, metrics, and what the commands ask of a running mesh under `/weft/v1`.
//!
//! It listens on loopback. A browser page must not be able to use it: requests that carry an `Origin`,
//! or a `Host` that is a name other than `localhost` (DNS rebinding), are refused.

use std::sync::Arc;

use arc_swap::ArcSwap;
use axum::Router;
use axum::extract::{Query, Request, State};
use axum::http::{HeaderMap, header};
use axum::middleware::{Next, from_fn};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use broker::inspect::{Inspect, ParkedSelection};
use broker::store::Start;
use crds_apiserver::store::Store as Resources;
use prometheus_client::registry::Registry;
use serde::Deserialize;
use serde_json::json;
use tokio_util::sync::CancellationToken;

use self::respond::Refusal;
use crate::parking;
use crate::view::{self, Page, SourceLetter};

mod explain;
mod respond;
mod tail;

/// Most parked letters in one answer: with the largest events of the default limit it has some 40 MB. The commands page
/// through more.
const PAGE: usize = 32;

/// What the handlers share.
#[derive(Clone, Debug)]
pub struct Admin {
    /// The store, as people see it.
    pub store: Arc<dyn Inspect>,
    /// What sources parked.
    pub parking: Arc<parking::Files>,
    /// The resources, if they are kept here.
    pub resources: Option<Arc<Resources>>,
    /// The triggers in force, for verdicts.
    pub snapshot: Arc<ArcSwap<dispatcher::Snapshot>>,
    /// Everybody's metrics.
    pub registry: Arc<Registry>,
    /// Cancelled once everything is in force.
    pub ready: CancellationToken,
    /// Cancelled when the mesh stops: live streams end.
    pub stop: CancellationToken,
}

impl Admin {
    /// Why the mesh cannot go on as it is: what it keeps cannot be written any more.
    fn unhealthy(&self) -> Option<String> {
        let resources = self.resources.as_ref().is_some_and(|resources| !resources.is_healthy());
        let failed = || "the resources cannot be written any more; start the mesh again".to_owned();
        self.store.unhealthy().or_else(|| resources.then(failed))
    }

    /// The routes.
    pub fn router(self) -> Router {
        Router::new()
            .route("/healthz", get(healthz))
            .route("/readyz", get(readyz))
            .route("/metrics", get(metrics))
            .route("/weft/v1/brokers", get(brokers))
            .route("/weft/v1/triggers", get(triggers))
            .route("/weft/v1/parked", get(parked))
            .route("/weft/v1/parked/sources", get(parked_by_sources))
            .route("/weft/v1/parked/redrive", post(redrive))
            .route("/weft/v1/parked/purge", post(purge))
            .route("/weft/v1/replay", post(replay))
            .route("/weft/v1/explain", get(explain::handle))
            .route("/weft/v1/tail", get(tail::handle))
            .layer(from_fn(refuse_browsers))
            .with_state(self)
    }
}

async fn refuse_browsers(request: Request, next: Next) -> Response {
    if from_browser_page(request.headers()) {
        return Refusal::ForeignOrigin.into_response();
    }
    next.run(request).await
}

fn from_browser_page(headers: &HeaderMap) -> bool {
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
    let name = host.rsplit_once(':').map_or(host, |(name, port)| {
        if port.bytes().all(|b| b.is_ascii_digit()) { name } else { host }
    });
    let trusted = name.is_empty()
        || name == "localhost"
        || name.trim_matches(['[', ']']).parse::<std::net::IpAddr>().is_ok();
    headers.contains_key(header::ORIGIN) || !trusted
}

async fn healthz(State(admin): State<Admin>) -> Result<&'static str, Refusal> {
    admin.unhealthy().map_or(Ok("ok\n"), |why| Err(Refusal::Unhealthy(why)))
}

async fn readyz(State(admin): State<Admin>) -> Result<&'static str, Refusal> {
    if let Some(why) = admin.unhealthy() {
        return Err(Refusal::Unhealthy(why));
    }
    if admin.stop.is_cancelled() {
        return Err(Refusal::Unhealthy("stopping".to_owned()));
    }
    if admin.ready.is_cancelled() { Ok("ok\n") } else { Err(Refusal::Starting) }
}

async fn metrics(State(admin): State<Admin>) -> Result<Response, Refusal> {
    let mut text = String::new();
    prometheus_client::encoding::text::encode(&mut text, &admin.registry)
        .map_err(|error| Refusal::Failed(error.to_string()))?;
    let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    Ok(([(header::CONTENT_TYPE, kind)], text).into_response())
}

async fn brokers(State(admin): State<Admin>) -> Result<Response, Refusal> {
    let topics = blocking(move || Ok(admin.store.topics())).await?;
    Ok(respond::json(&topics.iter().map(view::Broker::from).collect::<Vec<_>>()))
}

async fn triggers(State(admin): State<Admin>) -> Result<Response, Refusal> {
    let subscriptions = blocking(move || Ok(admin.store.subscriptions())).await?;
    Ok(respond::json(&subscriptions.iter().map(view::Trigger::from).collect::<Vec<_>>()))
}

/// Which parked letters, as the query says.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct ParkedQuery {
    trigger: Option<String>,
    id: Option<String>,
    offset: Option<u64>,
    after: Option<u64>,
    #[serde(default)]
    all: bool,
}

impl ParkedQuery {
    fn selection(&self) -> ParkedSelection {
        ParkedSelection {
            subscription: self.trigger.as_deref().map(qualified),
            position: self.offset,
            event_id: self.id.clone(),
        }
    }

    /// For what changes something: everything only when everything was asked for.
    fn deliberate(&self) -> Result<ParkedSelection, Refusal> {
        let narrowed = self.trigger.is_some() || self.id.is_some() || self.offset.is_some();
        if narrowed || self.all { Ok(self.selection()) } else { Err(Refusal::NothingNamed) }
    }
}

/// A trigger's full name; without a namespace it is one of `default`.
fn qualified(name: &str) -> String {
    if name.contains('/') { name.to_owned() } else { format!("default/{name}") }
}

async fn parked(
    State(admin): State<Admin>,
    Query(query): Query<ParkedQuery>,
) -> Result<Response, Refusal> {
    let selection = query.selection();
    let letters = blocking(move || admin.store.parked(&selection, query.after, PAGE)).await?;
    // The page after the last is empty.
    let next = letters.last().map(|letter| letter.position);
    Ok(respond::json(&Page { items: letters.iter().map(view::Letter::from).collect(), next }))
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct SourcesQuery {
    #[serde(default)]
    after: String,
}

async fn parked_by_sources(
    State(admin): State<Admin>,
    Query(query): Query<SourcesQuery>,
) -> Result<Response, Refusal> {
    let page = tokio::task::spawn_blocking(move || admin.parking.page(&query.after, PAGE));
    let page = page.await.map_err(|error| Refusal::Failed(error.to_string()))?;
    let items: Vec<SourceLetter> = page.map_err(|error| Refusal::Failed(error.to_string()))?;
    Ok(respond::json(&items))
}

async fn redrive(
    State(admin): State<Admin>,
    Query(query): Query<ParkedQuery>,
) -> Result<Response, Refusal> {
    let selection = query.deliberate()?;
    let count = blocking(move || admin.store.redrive(&selection)).await?;
    Ok(respond::json(&json!({ "redriven": count })))
}

async fn purge(
    State(admin): State<Admin>,
    Query(query): Query<ParkedQuery>,
) -> Result<Response, Refusal> {
    let selection = query.deliberate()?;
    let count = blocking(move || admin.store.purge(&selection)).await?;
    Ok(respond::json(&json!({ "purged": count })))
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct ReplayQuery {
    trigger: String,
    from: String,
}

async fn replay(
    State(admin): State<Admin>,
    Query(query): Query<ReplayQuery>,
) -> Result<Response, Refusal> {
    let from = start(&query.from)?;
    let name = qualified(&query.trigger);
    let count = blocking(move || {
        let known = admin.store.subscriptions();
        let topic = known.into_iter().find(|subscription| subscription.name == name);
        let topic =
            topic.ok_or_else(|| broker::store::StoreError::UnknownSubscription(name.clone()))?;
        admin.store.replay(&topic.topic, &name, from)
    })
    .await?;
    Ok(respond::json(&json!({ "replayed": count })))
}

/// Reads a starting point: `now`, `earliest`, an offset or a time.
fn start(text: &str) -> Result<Start, Refusal> {
    match text {
        "now" => return Ok(Start::Now),
        "earliest" => return Ok(Start::Earliest),
        _ => {}
    }
    if let Ok(position) = text.parse() {
        return Ok(Start::Position(position));
    }
    let time: jiff::Timestamp = text.parse().map_err(|_| Refusal::BadStart(text.to_owned()))?;
    Ok(Start::Time(time.into()))
}

/// Runs what may read the disk off the async threads.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, broker::store::StoreError> + Send + 'static,
) -> Result<T, Refusal> {
    let result = tokio::task::spawn_blocking(work).await;
    Ok(result.map_err(|error| Refusal::Failed(error.to_string()))??)
}

#[cfg(test)]
mod tests {
    use broker::store::embedded::{EmbeddedOptions, EmbeddedStore};
    use crds_apiserver::store::Options;

    use super::*;
    use crate::resources::CATALOG;

    #[tokio::test]
    async fn resources_that_cannot_be_written_are_unhealthy_too() {
        let dir = tempfile::tempdir().unwrap();
        let resources =
            Resources::open(&dir.path().join("resources.redb"), CATALOG, Options::default());
        let resources = resources.unwrap();
        let store = EmbeddedStore::open(&dir.path().join("data"), EmbeddedOptions::default());
        let admin = Admin {
            store: store.unwrap(),
            parking: Arc::new(parking::Files::below(dir.path())),
            resources: Some(resources.clone()),
            snapshot: Arc::default(),
            registry: Arc::default(),
            ready: CancellationToken::new(),
            stop: CancellationToken::new(),
        };
        assert_eq!(healthz(State(admin.clone())).await.unwrap(), "ok\n");
        resources.close();
        let refusal = healthz(State(admin)).await.unwrap_err();
        assert!(matches!(refusal, Refusal::Unhealthy(why) if why.contains("start the mesh again")));
    }
}
