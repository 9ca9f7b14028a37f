//! GET: one object, or a list in pages.

use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::select::{Fields, Labels};
use crate::server::answer::{Answer, Shape};
use crate::server::envelope;
use crate::server::request::{Match, Query, Start, Target};
use crate::server::{ApiServer, Call, scale};
use crate::status::{Cause, Refusal, Subject};
use crate::store::{Key, Record};

/// Objects that are looked at in one go while a page of selected ones is filled.
const CHUNK: usize = 500;
/// What tokens of this form say.
const TOKEN_FORM: &str = "meta.k8s.io/v1";

/// Where a list goes on. Opaque to clients, who hold it as long as they like: it may be stale, and it may be forged, which
/// gets nobody anything but another place to start from.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Token {
    /// The form of the token.
    v: String,
    /// The version of the first page.
    rv: u64,
    /// The last object of the page before.
    namespace: String,
    name: String,
}

/// A page, before it is written.
struct Page {
    records: Vec<Arc<Record>>,
    version: u64,
    /// The last object looked at, if there are more.
    more: Option<(String, String)>,
    /// How many more there are; unknown where objects are selected.
    remaining: Option<usize>,
}

/// Which objects are meant.
#[derive(Debug)]
pub(super) struct Selection {
    labels: Labels,
    fields: Fields,
    /// Whether anything is selected at all; otherwise objects need not be read.
    all: bool,
}

impl Selection {
    pub(super) fn parse(query: &Query, target: &Target) -> Result<Self, Refusal> {
        let labels = Labels::parse(&query.label_selector)
            .map_err(|error| Refusal::BadRequest(error.to_string()))?;
        let fields = Fields::parse(&query.field_selector, target.resource)
            .map_err(|error| Refusal::BadRequest(error.to_string()))?;
        let all = query.label_selector.is_empty() && query.field_selector.is_empty();
        Ok(Self { labels, fields, all })
    }

    pub(super) fn matches(&self, object: &Value) -> bool {
        self.all || self.labels.matches(object) && self.fields.matches(object)
    }

    /// Whether an object of this name may be meant; what is not need not be read.
    pub(super) fn may_mean(&self, key: &Key) -> bool {
        self.fields.exact("metadata.name").is_none_or(|name| name == key.name)
    }

    pub(super) fn is_all(&self) -> bool {
        self.all
    }
}

impl ApiServer {
    pub(super) fn get(&self, call: &Call) -> Result<Answer, Refusal> {
        let name = call.target.name.clone().unwrap_or_default();
        let record = self.store.get(&envelope::key(&call.target, &name));
        let record = record.ok_or_else(|| Refusal::NotFound(call.target.subject(name)))?;
        if let Some(scale) = call.target.scale() {
            scale::require(scale, &envelope::parse(&record)?)?;
        }
        self.answer_record(call, &record)
    }

    pub(super) fn list(&self, call: &Call) -> Result<Answer, Refusal> {
        let query = &call.query;
        let selection = Selection::parse(query, &call.target)?;
        let token = self.token(query)?;
        self.check_start(query)?;
        let page = self.page(call, &selection, token.as_ref())?;
        if let (Some(Match::Exact), Start::At(asked)) = (query.version_match, query.start)
            && asked != page.version
        {
            return Err(expired(asked, page.version));
        }
        let version = token.map_or(page.version, |token| token.rv);
        let mut meta = json!({"resourceVersion": version.to_string()});
        if let (Some((namespace, name)), Value::Object(meta)) = (page.more, &mut meta) {
            let token = Token { v: TOKEN_FORM.to_owned(), rv: version, namespace, name };
            meta.insert("continue".to_owned(), token.encode().into());
            if let Some(remaining) = page.remaining {
                meta.insert("remainingItemCount".to_owned(), remaining.into());
            }
        }
        list_answer(call, &page.records, &meta)
    }

    fn page(
        &self,
        call: &Call,
        selection: &Selection,
        token: Option<&Token>,
    ) -> Result<Page, Refusal> {
        let (resource, limit) = (call.target.resource, call.query.limit);
        let namespace = call.target.namespace.as_deref();
        let mut after = token.map(|token| (token.namespace.clone(), token.name.clone()));
        let mut version = None;
        let mut records = Vec::new();
        loop {
            let size = match limit {
                0 => 0,
                limit if selection.is_all() => limit,
                _ => CHUNK,
            };
            let place = after.as_ref().map(|(namespace, name)| (namespace.as_str(), name.as_str()));
            let listing = self.store.list(resource, namespace, place, size);
            let version = *version.get_or_insert(listing.version);
            let mut left = listing.records.len() + listing.remaining;
            for record in listing.records {
                left -= 1;
                after = Some((record.key.namespace.clone(), record.key.name.clone()));
                if selection.is_all() || selection.matches(&envelope::open(&call.target, &record)?)
                {
                    records.push(record);
                }
                if limit > 0 && records.len() >= limit {
                    break;
                }
            }
            let full = limit > 0 && records.len() >= limit;
            if full || left == 0 {
                let more = after.filter(|_| left > 0);
                let remaining = selection.is_all().then_some(left);
                return Ok(Page { records, version, more, remaining });
            }
        }
    }

    /// The token of a request that goes on with a list. One whose version cannot be watched any more has expired: what
    /// changed since could not be caught up with.
    fn token(&self, query: &Query) -> Result<Option<Token>, Refusal> {
        if query.continuation.is_empty() {
            return Ok(None);
        }
        if matches!(query.start, Start::At(_)) {
            return Err(Refusal::BadRequest(
                "specifying resource version is not allowed when using continue".to_owned(),
            ));
        }
        let token = Token::decode(&query.continuation)?;
        let any =
            self.store.catalog().iter().next().map(|kind| self.store.watch(kind, None, token.rv));
        if let Some(Err(_)) = any {
            return Err(Refusal::Expired(
                "The provided continue parameter is too old to display a consistent list result. You must start a new list \
                 without the continue parameter."
                    .to_owned(),
            ));
        }
        if token.rv > self.store.version() {
            return Err(Refusal::BadRequest(
                "continue key is not valid: it is of the future".to_owned(),
            ));
        }
        Ok(Some(token))
    }

    /// Refuses what no list can be from.
    pub(super) fn check_start(&self, query: &Query) -> Result<(), Refusal> {
        let forbidden = |details| {
            let cause = Cause::forbidden("resourceVersionMatch", details);
            Err(Refusal::field(Subject::options("ListOptions"), cause))
        };
        let current = self.store.version();
        match (query.version_match, query.start) {
            (Some(_), Start::Unset) if query.initial_events.is_none() => {
                forbidden("resourceVersionMatch is forbidden unless resourceVersion is provided")
            }
            (Some(Match::Exact), Start::Any) => {
                forbidden("resourceVersionMatch \"exact\" is forbidden for resourceVersion \"0\"")
            }
            (_, Start::At(asked)) if asked > current => Err(Refusal::TooNew { asked, current }),
            _ => Ok(()),
        }
    }
}

impl Token {
    fn encode(&self) -> String {
        URL_SAFE_NO_PAD.encode(json!(self).to_string())
    }

    fn decode(text: &str) -> Result<Self, Refusal> {
        let refused = || Refusal::BadRequest("continue key is not valid".to_owned());
        let bytes = URL_SAFE_NO_PAD.decode(text).map_err(|_| refused())?;
        let token: Self = serde_json::from_slice(&bytes).map_err(|_| refused())?;
        if token.v == TOKEN_FORM { Ok(token) } else { Err(refused()) }
    }
}

/// The words by which clients know that they have to list again.
pub(super) fn expired(asked: u64, oldest: u64) -> Refusal {
    Refusal::Expired(format!("too old resource version: {asked} ({oldest})"))
}

/// An answer with a list in the shape that was asked for. Objects are taken apart a few at a time: taken apart they take
/// twenty times their size.
pub(super) fn list_answer(
    call: &Call,
    records: &[Arc<Record>],
    meta: &Value,
) -> Result<Answer, Refusal> {
    let writer = call.writer();
    let field = if call.shape == Shape::Table { "rows" } else { "items" };
    let mut head = writer.list(&[], meta.clone());
    if let Value::Object(head) = &mut head {
        head.remove(field);
    }
    let mut list = head.to_string().into_bytes();
    // What is open at the end is closed below.
    list.pop();
    list.extend_from_slice(format!(",\"{field}\":[").as_bytes());
    if call.shape == Shape::Whole && envelope::is_stored_version(&call.target) {
        list.reserve(records.iter().map(|record| record.json.len() + 1).sum());
        for record in records {
            list.extend_from_slice(&record.json);
            list.push(b',');
        }
    } else {
        for chunk in records.chunks(CHUNK) {
            let values = chunk.iter().map(|record| envelope::open(&call.target, record));
            let values = values.collect::<Result<Vec<Value>, Refusal>>()?;
            let part = writer.list(&values, Value::Null);
            for item in part.get(field).and_then(Value::as_array).into_iter().flatten() {
                list.extend_from_slice(item.to_string().as_bytes());
                list.push(b',');
            }
        }
    }
    if !records.is_empty() {
        // The comma behind the last.
        list.pop();
    }
    list.extend_from_slice(b"]}");
    Ok(Answer::raw(list.into()))
}
