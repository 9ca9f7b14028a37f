//! Lists and watches of one collection of objects: a kind, a namespace, a selector.

use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use http::StatusCode;
use http_body_util::BodyExt;
use kube::client::Body;
use serde::Deserialize;
use serde_json::value::RawValue;
use tokio::time::{Instant, timeout_at};
use url::form_urlencoded::Serializer;

use super::api::{Asker, Explanation, Failed, base, collect};
use super::event::Verb;
use super::object::{Kind, Object};
use crate::source::SourceError;

/// Objects of a page of a list: some 100 KB of usual ones. A power of ten, by which it shrinks.
const PAGE: usize = 100;

/// Bytes of a page. Where a hundred objects are more, fewer are asked for.
const MAX_PAGE: usize = 16 * 1024 * 1024;

/// Bytes of one word of a watch. An API server stores objects of up to 1.5 MiB.
const MAX_LINE: usize = 16 * 1024 * 1024;

/// How long one watch is asked to last, in seconds: the server's own choice is between 5 and 10 minutes.
const LASTS: u64 = 290;

/// How much longer it may take to end; then its connection is taken for dead.
const GRACE: Duration = Duration::from_secs(30);

/// Only what an object's metadata says.
const METADATA: &str =
    "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1,application/json";
const METADATA_LIST: &str =
    "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1,application/json";
const WHOLE: &str = "application/json";

/// Objects that are watched together.
#[derive(Clone, Debug)]
pub(super) struct Collection {
    pub(super) asker: Asker,
    pub(super) kind: Kind,
    /// Empty for all of them, and for what is in none.
    pub(super) namespace: String,
    /// As a request has it.
    pub(super) selector: String,
    /// Whether the objects themselves are wanted, or only their metadata: what is in a Secret is not even asked for then.
    pub(super) whole: bool,
}

/// Part of a list.
#[derive(Debug)]
pub(super) struct Page {
    pub(super) objects: Vec<Object>,
    /// As of when the list is.
    pub(super) version: String,
    /// Where it goes on, if it does.
    pub(super) next: Option<String>,
}

/// A list on its way.
#[derive(Debug)]
pub(super) struct Pages<'a> {
    collection: &'a Collection,
    next: Option<String>,
    limit: usize,
}

/// What a watch says.
#[derive(Debug)]
pub(super) enum Word {
    /// Something happened to an object.
    Changed(Verb, Object),
    /// All up to this version is told.
    Mark(String),
}

/// An open watch.
#[derive(Debug)]
pub(super) struct Watch<'a> {
    collection: &'a Collection,
    body: Body,
    lines: Lines,
    deadline: Instant,
}

#[derive(Deserialize)]
struct List<'a> {
    #[serde(default)]
    metadata: ListMetadata,
    /// Null for none.
    #[serde(borrow, default)]
    items: Option<Vec<&'a RawValue>>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct ListMetadata {
    resource_version: String,
    #[serde(rename = "continue")]
    next: String,
}

#[derive(Deserialize)]
struct Line<'a> {
    #[serde(rename = "type")]
    kind: &'a str,
    #[serde(borrow)]
    object: &'a RawValue,
}

/// Bytes, taken apart at the ends of lines.
#[derive(Debug, Default)]
struct Lines {
    buffer: BytesMut,
    /// So many bytes of it have no end of a line.
    searched: usize,
}

impl Collection {
    /// What tells it from others of the same source, over restarts.
    pub(super) fn key(&self) -> String {
        let Self { kind, namespace, selector, .. } = self;
        format!("{}/{} {namespace} {selector}", kind.api_version, kind.plural)
    }

    /// A part of the list, of `limit` objects at most: the first, or the one after.
    async fn page(&self, next: Option<&str>, limit: usize) -> Result<Page, Failed> {
        let limit = limit.to_string();
        let mut query = vec![("limit", limit.as_str())];
        query.extend(next.map(|next| ("continue", next)));
        let accept = if self.whole { WHOLE } else { METADATA_LIST };
        let what = self.what("list");
        let answer = self.asker.open(&self.path(&query), accept, &what).await?;
        let text = collect(answer, MAX_PAGE, &what).await?;
        let unreadable = |error| SourceError::unavailable(what.as_str(), error);
        let list: List<'_> = serde_json::from_slice(&text).map_err(unreadable)?;
        let items = list.items.unwrap_or_default().into_iter();
        let objects = items.map(|item| Object::read(item, &self.kind, self.whole));
        Ok(Page {
            objects: objects.collect::<Result<_, _>>().map_err(unreadable)?,
            version: list.metadata.resource_version,
            next: Some(list.metadata.next).filter(|next| !next.is_empty()),
        })
    }

    /// The whole list, page by page.
    pub(super) fn pages(&self) -> Pages<'_> {
        Pages { collection: self, next: None, limit: PAGE }
    }

    /// The same objects of the namespace that `key` is about, if it is a key of these.
    pub(super) fn of_key(&self, key: &str) -> Option<Self> {
        let Self { kind, selector, .. } = self;
        let rest = key.strip_prefix(&format!("{}/{} ", kind.api_version, kind.plural))?;
        let namespace = rest.strip_suffix(&format!(" {selector}"))?;
        Some(Self { namespace: namespace.to_owned(), ..self.clone() })
    }

    /// Watches what happens after `version`.
    pub(super) async fn watch(&self, version: &str) -> Result<Watch<'_>, Failed> {
        let lasts = LASTS.to_string();
        let query = [
            ("watch", "true"),
            ("allowWatchBookmarks", "true"),
            ("resourceVersion", version),
            ("timeoutSeconds", &lasts),
        ];
        let accept = if self.whole { WHOLE } else { METADATA };
        let answer = self.asker.open(&self.path(&query), accept, &self.what("watch")).await?;
        let deadline = Instant::now() + Duration::from_secs(LASTS) + GRACE;
        Ok(Watch { collection: self, body: answer.into_body(), lines: Lines::default(), deadline })
    }

    /// What is being done, for people.
    pub(super) fn what(&self, verb: &str) -> String {
        let Self { kind, namespace, asker, .. } = self;
        let mut what = format!("{verb} {} of {}", kind.plural, kind.api_version);
        if !namespace.is_empty() {
            what.push_str(&format!(" in namespace {namespace}"));
        }
        match &asker.user {
            Some(user) => format!("{what} as {user}"),
            None => what,
        }
    }

    fn path(&self, query: &[(&str, &str)]) -> String {
        let Self { kind, namespace, selector, .. } = self;
        let mut path = base(&kind.api_version);
        if !namespace.is_empty() {
            path.push_str(&format!("/namespaces/{namespace}"));
        }
        path.push_str(&format!("/{}?", kind.plural));
        let mut query = Serializer::new(path).extend_pairs(query).finish();
        if !selector.is_empty() {
            query =
                Serializer::for_suffix(query, 0).append_pair("labelSelector", selector).finish();
        }
        query
    }
}

impl Pages<'_> {
    /// The next page. What does not fit into one is asked for in smaller ones.
    pub(super) async fn next(&mut self) -> Result<Page, Failed> {
        loop {
            match self.collection.page(self.next.as_deref(), self.limit).await {
                Err(Failed::TooLarge) if self.limit > 1 => self.limit /= 10,
                Err(failed) => return Err(failed),
                Ok(page) => {
                    self.next.clone_from(&page.next);
                    return Ok(page);
                }
            }
        }
    }
}

impl Word {
    /// All up to which version is told with it.
    pub(super) fn version(&self) -> &str {
        match self {
            Self::Changed(_, object) => &object.version,
            Self::Mark(version) => version,
        }
    }
}

impl Watch<'_> {
    /// What is said next, at least one word; nothing at the end.
    pub(super) async fn next(&mut self) -> Result<Option<Vec<Word>>, Failed> {
        loop {
            let what = || self.collection.what("watch");
            let frame = timeout_at(self.deadline, self.body.frame()).await;
            let Some(frame) = frame.map_err(|error| SourceError::unavailable(what(), error))?
            else {
                return Ok(None);
            };
            let frame = frame.map_err(|error| SourceError::unavailable(what(), error))?;
            let Ok(data) = frame.into_data() else { continue };
            self.lines.feed(&data);
            let mut words = Vec::new();
            while let Some(line) = self.lines.next() {
                words.extend(self.read(&line)?);
            }
            if self.lines.buffer.len() > MAX_LINE {
                return Err(SourceError::unavailable(what(), "a line is too long").into());
            }
            if !words.is_empty() {
                return Ok(Some(words));
            }
        }
    }

    fn read(&self, line: &[u8]) -> Result<Option<Word>, Failed> {
        let Collection { kind, whole, .. } = self.collection;
        if line.iter().all(u8::is_ascii_whitespace) {
            return Ok(None);
        }
        let what = || self.collection.what("watch");
        let unreadable = |error| Failed::from(SourceError::unavailable(what(), error));
        let line: Line<'_> = serde_json::from_slice(line).map_err(unreadable)?;
        if line.kind == "ERROR" {
            let Explanation { message, code } =
                serde_json::from_str(line.object.get()).map_err(unreadable)?;
            let status = StatusCode::from_u16(code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
            return Err(Failed::of(status, &message, &what()));
        }
        let object = |whole| Object::read(line.object, kind, whole).map_err(unreadable);
        let verb = match line.kind {
            "ADDED" => Verb::Add,
            "MODIFIED" => Verb::Update,
            "DELETED" => Verb::Delete,
            "BOOKMARK" => return Ok(Some(Word::Mark(object(false)?.version))),
            _ => return Ok(None),
        };
        Ok(Some(Word::Changed(verb, object(*whole)?)))
    }
}

impl Lines {
    fn feed(&mut self, data: &[u8]) {
        self.buffer.extend_from_slice(data);
    }

    /// The next whole line, without its end.
    fn next(&mut self) -> Option<Bytes> {
        let rest = self.buffer.get(self.searched..).unwrap_or_default();
        let Some(end) = rest.iter().position(|byte| *byte == b'\n') else {
            self.searched = self.buffer.len();
            return None;
        };
        let line = self.buffer.split_to(self.searched + end).freeze();
        self.buffer.advance(1);
        self.searched = 0;
        Some(line)
    }
}

#[cfg(test)]
mod tests {
    use super::Lines;

    #[test]
    fn lines_are_found_wherever_they_are_cut() {
        let text = b"one\n\ntwo and more\nrest";
        for at in 0..=text.len() {
            let (mut lines, mut found) = (Lines::default(), Vec::new());
            for piece in [&text[..at], &text[at..]] {
                lines.feed(piece);
                while let Some(line) = lines.next() {
                    found.push(line);
                }
            }
            assert_eq!(found, ["one", "", "two and more"]);
            assert_eq!(&lines.buffer[..], b"rest");
        }
    }
}
