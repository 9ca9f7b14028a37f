//! The API server: an event for each object that is added, updated or deleted, with the attributes Knative's `ApiServerSource`
//! gives it.
//!
//! What differs from Knative's, for the better: how far the watches came is kept over restarts, and only once their events are
//! durable; what happened meanwhile is told. Where the server no longer knows (after some minutes), a list is compared with what
//! was told before, so that additions, the last of several updates, and deletions are told nevertheless; of what was deleted then,
//! only its metadata is known. What is there at the first start is left out, as Knative does; `weft.dev/start: earliest` tells it as added.
//!
//! In a cluster the source sees what its service account may see, for it asks as that. This is the one place of the crate that
//! knows `kube`.

use crds::annotation;
use crds::condition::{self, CloudEventAttributes};

use crate::given::Given;
use crate::source::{About, Context, Source, SourceError};

mod api;
mod event;
mod follow;
mod object;
mod scope;
mod spec;
mod state;
mod watch;

pub use api::{Api, Compile, Filter};
pub use spec::{ApiServerSource, OwnerKind, WatchedResource};

use event::{Shape, Verb};
use follow::Follower;
use scope::Scope;
use spec::{EARLIEST, NAMESPACES};
use state::State;

impl Source for ApiServerSource {
    const CONDITIONS: &'static [&'static str] =
        &[condition::SUFFICIENT_PERMISSIONS, condition::OIDC_IDENTITY_CREATED];

    fn attributes(&self, about: &About, _: &Given) -> Vec<CloudEventAttributes> {
        let of = |verb: Verb| CloudEventAttributes {
            kind: verb.event_type(self.tells_all()),
            source: about.api_url.to_string(),
        };
        Verb::ALL.map(of).into()
    }

    async fn run(self, ctx: Context) -> Result<(), SourceError> {
        match work(self, ctx).await {
            Err(SourceError::Stopped) => Ok(()),
            ended => ended,
        }
    }
}

async fn work(spec: ApiServerSource, ctx: Context) -> Result<(), SourceError> {
    let stop = ctx.stop.clone();
    let begun = stop.run_until_cancelled(begin(spec, ctx)).await;
    let (scope, mut follower, mut quiet) = begun.ok_or(SourceError::Stopped)??;
    loop {
        let chosen = stop.run_until_cancelled(scope.choose()).await;
        let chosen = chosen.ok_or(SourceError::Stopped)??;
        let collections = scope.collections(&chosen)?;
        let checked = stop.run_until_cancelled(scope.check(&collections, &follower.ctx)).await;
        checked.ok_or(SourceError::Stopped)??;
        let vanished = scope.vanished(follower.state.keys(), &collections);
        let vanished = stop.run_until_cancelled(vanished).await.ok_or(SourceError::Stopped)??;
        for collection in &vanished {
            follower.vanish(collection).await?;
        }
        follower.state.begin(&collections, quiet);
        // What is in a namespace that is chosen later is told: it has most likely just been made.
        quiet = false;
        let names =
            chosen.names.iter().map(|name| if name.is_empty() { "*" } else { name.as_str() });
        follower.ctx.report.fact(NAMESPACES, names.collect::<Vec<_>>());
        follower.follow(&collections, scope.changed(&chosen)).await?;
    }
}

/// Finds out what there is to do, and where to go on. The last says whether nothing is told of what is there.
async fn begin(
    spec: ApiServerSource,
    ctx: Context,
) -> Result<(Scope, Follower, bool), SourceError> {
    let Some(api) = ctx.api.clone() else {
        return Err(SourceError::Config("this mesh has no API server to watch".to_owned()));
    };
    let filter = api.filter(&spec.filters)?;
    let scope = Scope::find(&spec, &api, &ctx).await?;
    let kept = ctx.checkpoint.load().await.map_err(SourceError::State)?;
    let from_now = ctx.about.annotations.get(annotation::START).is_none_or(|at| at != EARLIEST);
    let quiet = from_now && kept.is_none();
    let state = match kept.map(|kept| serde_json::from_slice(&kept)) {
        Some(Ok(state)) => state,
        Some(Err(error)) => {
            tracing::warn!(%error, "the checkpoint cannot be understood; what is there is told anew");
            State::default()
        }
        None => State::default(),
    };
    let shape = Shape { source: ctx.about.api_url.clone(), whole: spec.tells_all() };
    Ok((scope, Follower { ctx, state, shape, owner: spec.owner, filter }, quiet))
}

#[cfg(test)]
mod tests;
