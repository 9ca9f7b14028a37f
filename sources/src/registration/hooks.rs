//! Web hooks at an API that creates, lists, shows, updates and deletes them, each with a number: GitHub's and GitLab's.

use bytes::Bytes;
use http::{HeaderMap, Method};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use url::{Origin, Url};

use super::api::{Api, request};
use super::{Registered, Registrar, RegistrationError};
use crate::source::Context;

/// Web hooks asked for at once: the most that GitHub and GitLab give.
const PAGE: usize = 100;

/// Pages that are searched. GitHub allows 20 hooks an event, GitLab 100 a project unless an administrator raises it.
const MAX_PAGES: usize = 10;

/// What differs between such APIs.
pub(crate) trait HookApi: Send + Sync {
    /// A web hook as the API shows it.
    type Hook: DeserializeOwned + Send + Sync;
    /// The method with which a web hook is changed.
    const UPDATE: Method;

    /// How it is called.
    fn api(&self) -> &Api;

    /// Finds out where the web hooks are and proves who asks. Done once a round.
    fn open(&self) -> impl Future<Output = Result<Session, RegistrationError>> + Send;

    /// The URL that the web hook is to post to.
    fn url(&self) -> &str;

    /// What the API is to be told of the web hook.
    fn wanted(&self) -> Value;

    /// The number of a web hook, and the URL it posts to.
    fn identify<'a>(&self, hook: &'a Self::Hook) -> (i64, &'a str);

    /// Whether a web hook is what is wanted, so far as the API shows.
    fn judge(&self, hook: &Self::Hook) -> Verdict;

    /// The field of the resource's status that tells the number.
    fn fact(&self, id: i64) -> (&'static str, Value);
}

/// How the API is talked to in one round.
#[derive(Debug)]
pub(crate) struct Session {
    /// The URL of the list of web hooks: of a repository, an organisation, a project or a group.
    pub(crate) place: String,
    /// What proves who asks.
    pub(crate) headers: HeaderMap,
}

/// What is to be done about a web hook.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Nothing.
    Right,
    /// It is to be told again what is wanted; in what it differs.
    Differs(&'static str),
    /// It is to be replaced: telling it again would not wake it.
    Dead,
    /// Nothing can be done; a reason in one CamelCase word, and a sentence.
    Lacking(&'static str, String),
}

/// Which web hook was made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Known {
    /// [`Session::place`].
    place: String,
    /// Its number there.
    id: i64,
}

/// A web hook at such an API, kept as it should be.
#[derive(Debug)]
pub(crate) struct Hooked<A>(pub(crate) A);

impl<A: HookApi> Registrar for Hooked<A> {
    type Known = Known;

    async fn ensure(
        &self,
        known: Option<&Known>,
        tell: bool,
    ) -> Result<Registered<Known>, RegistrationError> {
        let session = self.0.open().await?;
        if let Some(moved) = known.filter(|known| known.place != session.place) {
            self.leave(&session, moved).await?;
        }
        let known = known.filter(|known| known.place == session.place);
        let hook = match self.find(&session, known.map(|known| known.id)).await? {
            None => self.create(&session).await?,
            Some(hook) => {
                let (id, _) = self.0.identify(&hook);
                match self.0.judge(&hook) {
                    Verdict::Dead => {
                        self.delete(&session, id).await?;
                        self.create(&session).await?
                    }
                    Verdict::Right | Verdict::Lacking(..) if !tell => hook,
                    _ => self.update(&session, id).await?,
                }
            }
        };
        let (id, _) = self.0.identify(&hook);
        let lacking = match self.0.judge(&hook) {
            Verdict::Right => None,
            Verdict::Lacking(reason, why) => Some((reason, why)),
            Verdict::Differs(what) => Some((
                "WebhookDiffers",
                format!("upstream does not take what it is told of: {what}"),
            )),
            Verdict::Dead => {
                Some(("WebhookDisabled", "upstream made a web hook and disabled it".to_owned()))
            }
        };
        Ok(Registered { known: Known { place: session.place, id }, lacking })
    }

    async fn remove(&self, known: Option<&Known>) -> Result<(), RegistrationError> {
        let session = self.0.open().await?;
        if let Some(known) = known {
            self.leave(&session, known).await?;
        }
        // An answer may have been lost after a web hook was made, so the list counts and not the memory alone.
        for hook in self.ours(&session).await? {
            self.delete(&session, self.0.identify(&hook).0).await?;
        }
        Ok(())
    }

    fn facts(&self, known: &Known, ctx: &Context) {
        let (field, value) = self.0.fact(known.id);
        ctx.report.fact(field, value);
    }
}

impl<A: HookApi> Hooked<A> {
    /// The web hook: the known one, or one that posts to us. Of several that do, all but one are deleted: each would bring
    /// every event once more.
    async fn find(
        &self,
        session: &Session,
        known: Option<i64>,
    ) -> Result<Option<A::Hook>, RegistrationError> {
        if let Some(id) = known
            && let Some(hook) = self.get(session, id).await?
        {
            return Ok(Some(hook));
        }
        let mut ours = self.ours(session).await?.into_iter();
        let first = ours.next();
        for other in ours {
            self.delete(session, self.0.identify(&other).0).await?;
        }
        Ok(first)
    }

    /// The web hooks that post to us.
    async fn ours(&self, session: &Session) -> Result<Vec<A::Hook>, RegistrationError> {
        let mut ours = Vec::new();
        for page in 1..=MAX_PAGES {
            let url = format!("{}?per_page={PAGE}&page={page}", session.place);
            let call = (Method::GET, url.as_str());
            let what = "list the web hooks";
            let hooks: Vec<A::Hook> = self.call(what, call, session, None).await?;
            let full = hooks.len() >= PAGE;
            ours.extend(hooks.into_iter().filter(|hook| self.0.identify(hook).1 == self.0.url()));
            if !full {
                break;
            }
        }
        Ok(ours)
    }

    async fn get(&self, session: &Session, id: i64) -> Result<Option<A::Hook>, RegistrationError> {
        let url = format!("{}/{id}", session.place);
        match self.call("look at the web hook", (Method::GET, &url), session, None).await {
            Ok(hook) => Ok(Some(hook)),
            Err(RegistrationError::Absent { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    async fn create(&self, session: &Session) -> Result<A::Hook, RegistrationError> {
        let (call, wanted) = ((Method::POST, session.place.as_str()), self.0.wanted());
        let hook: A::Hook = self.call("make the web hook", call, session, Some(&wanted)).await?;
        tracing::info!(id = self.0.identify(&hook).0, "a web hook was made");
        Ok(hook)
    }

    async fn update(&self, session: &Session, id: i64) -> Result<A::Hook, RegistrationError> {
        let (url, wanted) = (format!("{}/{id}", session.place), self.0.wanted());
        self.call("change the web hook", (A::UPDATE, &url), session, Some(&wanted)).await
    }

    async fn delete(&self, session: &Session, id: i64) -> Result<(), RegistrationError> {
        self.delete_at(session, &session.place, id).await
    }

    async fn delete_at(
        &self,
        session: &Session,
        place: &str,
        id: i64,
    ) -> Result<(), RegistrationError> {
        let url = format!("{place}/{id}");
        let what = "delete the web hook";
        let mut request = request(what, Method::DELETE, &url, Bytes::new())?;
        request.headers_mut().extend(session.headers.clone());
        match self.0.api().send(what, request).await {
            Ok(_) | Err(RegistrationError::Absent { .. }) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Deletes the web hook of an earlier configuration, which posts here still. One at another server is left: the
    /// credentials are not meant for it. One that may not be deleted is left too, or nothing would ever be registered.
    async fn leave(&self, session: &Session, moved: &Known) -> Result<(), RegistrationError> {
        if origin(&moved.place) != origin(&session.place) {
            tracing::warn!(id = moved.id, "a web hook stays at a server that is no longer asked");
            return Ok(());
        }
        match self.delete_at(session, &moved.place, moved.id).await {
            Err(error) if !error.is_retryable() => {
                tracing::warn!(id = moved.id, "a web hook that is no longer wanted stays: {error}");
                Ok(())
            }
            left => left,
        }
    }

    async fn call<T: DeserializeOwned>(
        &self,
        what: &'static str,
        call: (Method, &str),
        session: &Session,
        body: Option<&Value>,
    ) -> Result<T, RegistrationError> {
        self.0.api().json(what, call, &session.headers, body).await
    }
}

/// Scheme, host and port of a URL.
fn origin(url: &str) -> Option<Origin> {
    Url::parse(url).ok().map(|url| url.origin())
}
