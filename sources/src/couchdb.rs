//! `CouchDB`: an event for each change of a document, with the attributes Knative's `CouchDbSource` gives it.
//!
//! What differs from Knative's, for the better: how far the changes were read is kept over restarts, and only once their
//! events are durable, so that nothing is lost and history is not replayed; documents and selectors; a database that is made
//! anew is noticed. A change is told at least once. As everywhere with `CouchDB`, of changes of one document that follow each
//! other quickly only the last need be told.

use crds::annotation;
use crds::condition::CloudEventAttributes;
use tokio::time::Instant;

use crate::given::{Given, Need};
use crate::source::{About, Context, Source, SourceError};

mod change;
mod cursor;
mod database;
mod follow;
mod rows;
mod sequence;
mod spec;

pub use spec::{CouchDbSource, CredentialsReference};

use change::{DELETE, Shape, UPDATE};
use cursor::Cursor;
use database::Database;
use follow::Follower;
use sequence::Sequence;
use spec::Ids;

/// The field with the Secret that holds the server's URL.
const CREDENTIALS: &str = "credentials";
/// Its key.
const URL_KEY: &str = "url";
/// What is also looked for there: certificates to trust.
const CA: &str = "credentials.ca.crt";
/// Its key.
const CA_KEY: &str = "ca.crt";

impl Source for CouchDbSource {
    fn needs(&self, _: &About) -> Vec<Need> {
        let name = self.credentials.name.as_str();
        vec![Need::secret(CREDENTIALS, name, URL_KEY), Need::secret(CA, name, CA_KEY).optional()]
    }

    fn attributes(&self, _: &About, given: &Given) -> Vec<CloudEventAttributes> {
        let Ok(source) = database::source(self, given) else { return Vec::new() };
        [UPDATE, DELETE]
            .map(|kind| CloudEventAttributes { kind: kind.to_owned(), source: source.clone() })
            .into()
    }

    async fn run(self, ctx: Context) -> Result<(), SourceError> {
        let follower = match start(&self, ctx).await {
            Err(SourceError::Stopped) => return Ok(()),
            started => started?,
        };
        match follower.follow().await {
            Err(SourceError::Stopped) => Ok(()),
            ended => ended,
        }
    }
}

/// Looks at the database and finds where to go on.
async fn start(spec: &CouchDbSource, ctx: Context) -> Result<Follower, SourceError> {
    let database = Database::new(spec, &ctx.given)?;
    let cursor = Cursor::load(ctx.checkpoint.clone(), database.place()).await?;
    let asked = ctx.stop.run_until_cancelled(database.update_sequence()).await;
    let Some(now) = asked.ok_or(SourceError::Stopped)?? else {
        match cursor {
            Some(mut cursor) => cursor.gone().await?,
            // When it is made, all of its changes will be later than now.
            None => {
                let (checkpoint, since) = (ctx.checkpoint.clone(), Sequence::start());
                drop(Cursor::begin(checkpoint, database.place(), since).await?);
            }
        }
        return Err(database.absent());
    };
    let cursor = match cursor {
        Some(mut cursor) => {
            if cursor.since().is_not_of_database_at(&now) {
                cursor.begin_anew().await?;
            }
            cursor
        }
        None => {
            let from_now =
                ctx.about.annotations.get(annotation::START).is_some_and(|at| at == "now");
            let since = if from_now { now } else { Sequence::start() };
            Cursor::begin(ctx.checkpoint.clone(), database.place(), since).await?
        }
    };
    // The server answers, knows the user and has the database.
    ctx.report.running();
    let (source, ids) = (database.source(), Ids::of(&ctx.about));
    let shape = Shape { source, ids, documents: spec.include_docs };
    Ok(Follower { ctx, database, shape, cursor, looked: Instant::now() })
}

#[cfg(test)]
pub(crate) mod tests;
