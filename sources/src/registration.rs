//! Registration: telling whoever sends web hooks where to send them, and keeping it told.
//!
//! A source accepts requests whether or not this succeeds; how it goes is the condition `WebhookConfigured`. What was made
//! is looked at again every few minutes, because people edit and delete web hooks by hand.

use std::io;
use std::time::Duration;

use crds::condition::WEBHOOK_CONFIGURED;
use serde::Serialize;
use serde::de::DeserializeOwned;
use thiserror::Error;
use tokio::time::sleep;

use crate::backoff::{Backoff, roll};
use crate::given::NotGiven;
use crate::http_client::{Answered, HttpError};
use crate::source::{Context, SourceError, chain};
use crate::status::Condition;

mod api;
mod hooks;

pub(crate) use api::{Api, COMPONENT, request, unreadable};
pub(crate) use hooks::{HookApi, Hooked, Session, Verdict};

/// How often it is looked at. A day of it is 144 requests, far below what APIs allow in an hour.
const CHECK: Duration = Duration::from_secs(600);

/// Waits while upstream does not answer: a minute at most, so that a source is told of soon after upstream is back.
const ABSENT: Backoff = Backoff { first: Duration::from_secs(1), most: Duration::from_secs(60) };

/// Waits while upstream refuses: somebody has to change something there, and GitHub blocks those who come again and again
/// with bad credentials.
const REFUSED: Backoff = Backoff { first: Duration::from_secs(15), most: CHECK };

/// The longest wait that an upstream can ask for: GitHub's and GitLab's limits are of an hour at most.
const MAX_ASKED: Duration = Duration::from_secs(3600);

/// What makes and removes a registration. What it does can be cut off at any point and is done again then.
pub(crate) trait Registrar: Send + Sync {
    /// What is remembered of a registration between starts, to find it again.
    type Known: Clone + PartialEq + Serialize + DeserializeOwned + Send + Sync;

    /// Makes upstream send what is wanted to where it is wanted, whatever is there now. With `tell` everything is said
    /// again even if it looks right: upstream does not show secrets.
    fn ensure(
        &self,
        known: Option<&Self::Known>,
        tell: bool,
    ) -> impl Future<Output = Result<Registered<Self::Known>, RegistrationError>> + Send;

    /// Removes what [`Registrar::ensure`] made. What is not there counts as removed.
    fn remove(
        &self,
        known: Option<&Self::Known>,
    ) -> impl Future<Output = Result<(), RegistrationError>> + Send;

    /// The fields of the resource's status that tell of it.
    fn facts(&self, known: &Self::Known, ctx: &Context);
}

/// A registration that stands.
#[derive(Debug)]
pub(crate) struct Registered<K> {
    /// What to remember of it.
    pub(crate) known: K,
    /// Why it is not all that was wanted: a reason in one CamelCase word, and a sentence.
    pub(crate) lacking: Option<(&'static str, String)>,
}

/// Why there is no registration, or why it cannot be removed.
#[derive(Debug, Error)]
pub(crate) enum RegistrationError {
    /// Upstream refused the credentials, or they do not allow it.
    #[error("{what}: {answered}")]
    Credentials {
        /// What was being done.
        what: &'static str,
        /// What upstream said.
        answered: Answered,
    },
    /// There is no such repository, project or bucket.
    #[error("{what}: {answered}; it does not exist, or the credentials do not show it")]
    Absent {
        /// What was being done.
        what: &'static str,
        /// What upstream said.
        answered: Answered,
    },
    /// Upstream does not take what is wanted.
    #[error("{what}: {answered}")]
    Rejected {
        /// What was being done.
        what: &'static str,
        /// What upstream said.
        answered: Answered,
    },
    /// Upstream asks for a pause.
    #[error("{what}: {host} allows no more requests for {wait:?}")]
    Limited {
        /// What was being done.
        what: &'static str,
        /// The host that was asked.
        host: String,
        /// The pause.
        wait: Duration,
    },
    /// Upstream has an error of its own.
    #[error("{what}: {answered}")]
    Failing {
        /// What was being done.
        what: &'static str,
        /// What upstream said.
        answered: Answered,
    },
    /// No answer.
    #[error("{what}")]
    Unreachable {
        /// What was being done.
        what: &'static str,
        /// How it failed.
        #[source]
        source: HttpError,
    },
    /// An answer that is not what the API's documentation says.
    #[error("{what}: the answer of {host} cannot be read: {why}")]
    Unreadable {
        /// What was being done.
        what: &'static str,
        /// The host that was asked.
        host: String,
        /// What is wrong with it.
        why: String,
    },
    /// A Secret is missing, or holds something else than it should.
    #[error(transparent)]
    Given(#[from] NotGiven),
    /// What is known of the registration cannot be kept.
    #[error("keep the state of the source")]
    State(#[source] io::Error),
}

/// Says that the source runs, and keeps upstream told until it is to stop: unless whoever runs the mesh makes the web hook,
/// as the annotation `weft.dev/register` has it. To be called once requests are accepted.
pub(crate) async fn run<R: Registrar>(
    registrar: impl FnOnce() -> Result<R, NotGiven>,
    ctx: &Context,
) {
    if !ctx.about.register() {
        return by_hand(ctx).await;
    }
    let registrar = match registrar() {
        Ok(registrar) => registrar,
        Err(error) => {
            // Another value of the Secret is another start.
            let error = RegistrationError::from(error);
            let bad = Condition::bad(WEBHOOK_CONFIGURED, error.reason(), error.to_string());
            ctx.report.condition(bad);
            ctx.report.running();
            return ctx.stop.cancelled().await;
        }
    };
    let begun = "upstream has not answered yet".to_owned();
    ctx.report.condition(Condition::bad(WEBHOOK_CONFIGURED, "Registering", begun));
    // What cannot be read is told of when it is next asked for.
    if let Ok(Some(known)) = load::<R>(ctx).await {
        registrar.facts(&known, ctx);
    }
    ctx.report.running();
    keep(&registrar, ctx).await;
}

/// Says that the source runs and that nobody registers it, until it is to stop.
pub(crate) async fn by_hand(ctx: &Context) {
    let message = format!("the web hook is made by hand, for {}", ctx.url);
    let good = Condition::good(WEBHOOK_CONFIGURED, "NotManaged");
    ctx.report.condition(Condition { message, ..good });
    ctx.report.running();
    ctx.stop.cancelled().await;
}

/// Keeps upstream told until the source is to stop.
async fn keep(registrar: &impl Registrar, ctx: &Context) {
    let mut told = false;
    let mut failures = 0;
    loop {
        let ensured = tokio::select! {
            biased;
            () = ctx.stop.cancelled() => return,
            ensured = ensure(registrar, ctx, !told) => ensured,
        };
        let wait = match ensured {
            Ok(None) => {
                told = true;
                failures = 0;
                ctx.report.condition(Condition::good(WEBHOOK_CONFIGURED, "Registered"));
                // Around its length, so that the sources of a mesh do not all ask at once.
                CHECK.mul_f64(0.9 + 0.2 * roll())
            }
            Ok(Some((reason, why))) => {
                told = true;
                failures += 1;
                ctx.report.condition(Condition::bad(WEBHOOK_CONFIGURED, reason, why));
                REFUSED.wait(failures, roll())
            }
            Err(error) => {
                failures += 1;
                let (reason, why) = error.lacking();
                tracing::warn!(reason, "the web hook could not be registered: {why}");
                ctx.report.condition(Condition::bad(WEBHOOK_CONFIGURED, reason, why));
                error.wait(failures, roll())
            }
        };
        tokio::select! {
            biased;
            () = ctx.stop.cancelled() => return,
            () = sleep(wait) => {}
        }
    }
}

/// Removes the registration, for [`Source::retire`](crate::Source::retire).
///
/// Credentials that upstream does not take (any more) and a repository that is gone do not keep the resource: nobody could
/// delete it then but by force. What stays at upstream is said in the log.
///
/// # Errors
/// When upstream cannot be asked now.
pub(crate) async fn retire<R: Registrar>(
    registrar: impl FnOnce() -> Result<R, NotGiven>,
    ctx: &Context,
) -> Result<(), SourceError> {
    if !ctx.about.register() {
        return Ok(());
    }
    let registrar = match registrar() {
        Ok(registrar) => registrar,
        Err(error) => {
            tracing::warn!("the web hook of a deleted source stays: {error}");
            return Ok(());
        }
    };
    let known = load::<R>(ctx).await.map_err(SourceError::State)?;
    let removed = tokio::select! {
        biased;
        () = ctx.stop.cancelled() => return Err(SourceError::Stopped),
        removed = registrar.remove(known.as_ref()) => removed,
    };
    match removed {
        Ok(()) => Ok(()),
        Err(error) if error.is_retryable() => {
            Err(SourceError::unavailable("remove the web hook", error))
        }
        Err(error) => {
            tracing::warn!("the web hook of a deleted source stays: {}", chain(&error));
            Ok(())
        }
    }
}

impl RegistrationError {
    /// Whether waiting can help, without anybody changing anything.
    pub(crate) fn is_retryable(&self) -> bool {
        match self {
            Self::Limited { .. }
            | Self::Failing { .. }
            | Self::Unreachable { .. }
            | Self::Unreadable { .. }
            | Self::State(_) => true,
            Self::Credentials { .. }
            | Self::Absent { .. }
            | Self::Rejected { .. }
            | Self::Given(_) => false,
        }
    }

    /// The reason of the condition, one CamelCase word.
    fn reason(&self) -> &'static str {
        match self {
            Self::Credentials { .. } => "CredentialsRefused",
            Self::Absent { .. } => "UpstreamNotFound",
            Self::Rejected { .. } => "WebhookRefused",
            Self::Limited { .. } => "RateLimited",
            Self::Failing { .. } | Self::Unreachable { .. } | Self::Unreadable { .. } => {
                "UpstreamUnavailable"
            }
            Self::Given(_) => "InvalidSecret",
            Self::State(_) => "StateUnavailable",
        }
    }

    /// The same as what a registration lacks that stands otherwise.
    pub(crate) fn lacking(&self) -> (&'static str, String) {
        (self.reason(), chain(self))
    }

    /// The same with another rendering of what upstream said.
    pub(crate) fn map_text(mut self, render: impl FnOnce(&str) -> String) -> Self {
        match &mut self {
            Self::Credentials { answered, .. }
            | Self::Absent { answered, .. }
            | Self::Rejected { answered, .. }
            | Self::Failing { answered, .. } => answered.text = render(&answered.text),
            Self::Limited { .. }
            | Self::Unreachable { .. }
            | Self::Unreadable { .. }
            | Self::Given(_)
            | Self::State(_) => {}
        }
        self
    }

    /// How long to wait after `failures` in a row; `dice` is between 0 and 1.
    fn wait(&self, failures: u32, dice: f64) -> Duration {
        match self {
            Self::Limited { wait, .. } => (*wait).clamp(ABSENT.first, MAX_ASKED),
            _ if self.is_retryable() => ABSENT.wait(failures, dice),
            _ => REFUSED.wait(failures, dice),
        }
    }
}

/// One round; returns what the registration lacks.
async fn ensure<R: Registrar>(
    registrar: &R,
    ctx: &Context,
    tell: bool,
) -> Result<Option<(&'static str, String)>, RegistrationError> {
    let before = load::<R>(ctx).await.map_err(RegistrationError::State)?;
    let Registered { known, lacking } = registrar.ensure(before.as_ref(), tell).await?;
    if before.as_ref() != Some(&known) {
        let bytes = serde_json::to_vec(&known).map_err(|e| RegistrationError::State(e.into()))?;
        ctx.checkpoint.save(bytes).await.map_err(RegistrationError::State)?;
    }
    registrar.facts(&known, ctx);
    Ok(lacking)
}

/// What is known from an earlier round or start. What cannot be understood counts as nothing: then upstream is searched.
async fn load<R: Registrar>(ctx: &Context) -> io::Result<Option<R::Known>> {
    let bytes = ctx.checkpoint.load().await?;
    Ok(bytes.and_then(|bytes| serde_json::from_slice(&bytes).ok()))
}

#[cfg(test)]
pub(crate) mod fake;
#[cfg(test)]
mod tests;
