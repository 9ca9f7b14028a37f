//! What a request asks for, read from its path and query.

use axum::extract::Query as Pairs;
use crds::resource::{Catalog, Resource, Scale, Version};
use http::{Method, Uri};
use serde_json::Value;

use crate::server::scale;
use crate::status::{Cause, Refusal, Subject};

/// A list asks for at most this many objects a page; more than all there can be.
const MAX_LIMIT: u64 = 1_000_000;
/// A query has at most this many parameters: clients send a dozen.
const MAX_PARAMETERS: usize = 64;

/// A part of an object that is read and written on its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    /// All but the status, where that is separate.
    Main,
    /// The status alone.
    Status,
    /// How many it wants and has, as an object of its own.
    Scale,
}

impl Part {
    /// As the path says it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Main => "",
            Self::Status => "status",
            Self::Scale => "scale",
        }
    }
}

/// The objects that a path names.
#[derive(Clone, Debug)]
pub(crate) struct Target {
    pub(crate) resource: &'static Resource,
    pub(crate) version: &'static Version,
    /// Absent in a path over all namespaces, and for kinds in none.
    pub(crate) namespace: Option<String>,
    /// Absent for a collection.
    pub(crate) name: Option<String>,
    pub(crate) part: Part,
}

impl Target {
    /// Reads the path after `/api/v1` or `/apis/{group}/{version}`.
    pub(crate) fn parse(
        catalog: Catalog,
        group: &str,
        version: &str,
        rest: &[&str],
    ) -> Result<Self, Refusal> {
        let (namespace, plural, rest) = match rest {
            // A namespace itself, its objects aside.
            ["namespaces"] => (None, "namespaces", &[][..]),
            ["namespaces", _] | ["namespaces", _, "status"] if group.is_empty() => {
                (None, "namespaces", rest.get(1..).unwrap_or_default())
            }
            ["namespaces", namespace, plural, rest @ ..] => (Some(*namespace), *plural, rest),
            [plural, rest @ ..] => (None, *plural, rest),
            [] => return Err(Refusal::Unserved),
        };
        let resource = catalog.find(group, plural).ok_or(Refusal::Unserved)?;
        let version = resource.version(version).ok_or(Refusal::Unserved)?;
        let (name, part) = match rest {
            [] => (None, Part::Main),
            [name] => (Some(*name), Part::Main),
            [name, "status"] if resource.status => (Some(*name), Part::Status),
            [name, "scale"] if resource.scale.is_some() => (Some(*name), Part::Scale),
            _ => return Err(Refusal::Unserved),
        };
        let misplaced = namespace.is_some() && !resource.namespaced
            || namespace.is_none() && resource.namespaced && name.is_some();
        if misplaced || name == Some("") || namespace == Some("") {
            return Err(Refusal::Unserved);
        }
        let (namespace, name) = (namespace.map(str::to_owned), name.map(str::to_owned));
        Ok(Self { resource, version, namespace, name, part })
    }

    pub(crate) fn subject(&self, name: impl Into<String>) -> Subject {
        Subject::new(self.resource, name)
    }

    /// Where its numbers are, if the path names a `scale`.
    pub(crate) fn scale(&self) -> Option<&'static Scale> {
        self.resource.scale.as_ref().filter(|_| self.part == Part::Scale)
    }

    /// Kind and version of what is sent to the path.
    pub(crate) fn sent(&self) -> (&'static str, &'static str) {
        match self.part {
            Part::Scale => (scale::KIND, scale::VERSION),
            Part::Main | Part::Status => (self.resource.kind, self.version.name),
        }
    }

    /// As in `eventing.knative.dev/v1`.
    pub(crate) fn api_version(&self) -> String {
        self.resource.api_version(self.version.name)
    }
}

/// The version a list or a watch is to start from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Start {
    /// Nothing was said.
    #[default]
    Unset,
    /// Any version will do.
    Any,
    /// This one, or for lists one that is not older.
    At(u64),
}

/// How `resourceVersion` is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Match {
    Exact,
    NotOlderThan,
}

/// What becomes of the dependents of a deleted object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Propagation {
    /// They are deleted afterwards.
    Background,
    /// They are deleted first.
    Foreground,
    /// They stay.
    Orphan,
}

impl Propagation {
    pub(crate) fn parse(text: &str) -> Result<Self, Refusal> {
        match text {
            "Background" => Ok(Self::Background),
            "Foreground" => Ok(Self::Foreground),
            "Orphan" => Ok(Self::Orphan),
            other => {
                let supported = ["Foreground", "Background", "Orphan", "nil"];
                let cause = Cause::unsupported("propagationPolicy", other, &supported);
                Err(Refusal::field(Subject::options("DeleteOptions"), cause))
            }
        }
    }
}

/// What to do with fields that a kind has not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Validation {
    /// They are refused.
    Strict,
    /// They are dropped with a warning.
    #[default]
    Warn,
    /// They are dropped.
    Ignore,
}

/// The query, each parameter parsed.
#[expect(
    clippy::struct_excessive_bools,
    reason = "they are the flags of Kubernetes' queries, one by one"
)]
#[derive(Clone, Debug, Default)]
pub(crate) struct Query {
    pub(crate) label_selector: String,
    pub(crate) field_selector: String,
    pub(crate) start: Start,
    pub(crate) version_match: Option<Match>,
    /// 0 is no limit.
    pub(crate) limit: usize,
    pub(crate) continuation: String,
    pub(crate) watch: bool,
    pub(crate) bookmarks: bool,
    pub(crate) initial_events: Option<bool>,
    pub(crate) timeout_seconds: Option<u64>,
    pub(crate) dry_run: bool,
    pub(crate) field_manager: String,
    pub(crate) validation: Validation,
    pub(crate) force: bool,
    pub(crate) propagation: Option<Propagation>,
    /// What rows of a table carry: `None`, `Metadata` or `Object`.
    pub(crate) include: Option<crate::table::Include>,
}

impl Query {
    /// `options` is what Kubernetes calls the parameters of this method.
    pub(crate) fn parse(uri: &Uri, method: &Method) -> Result<Self, Refusal> {
        let options = match *method {
            Method::POST => "CreateOptions",
            Method::PATCH => "PatchOptions",
            Method::DELETE => "DeleteOptions",
            _ => "UpdateOptions",
        };
        let Pairs(pairs) = Pairs::<Vec<(String, String)>>::try_from_uri(uri)
            .map_err(|_| Refusal::BadRequest("the query cannot be read".to_owned()))?;
        if pairs.len() > MAX_PARAMETERS {
            return Err(Refusal::BadRequest(format!(
                "a query has at most {MAX_PARAMETERS} parameters"
            )));
        }
        let mut query = Self::default();
        for (key, value) in pairs {
            query.set(&key, value, options)?;
        }
        Ok(query)
    }

    fn set(&mut self, key: &str, value: String, options: &'static str) -> Result<(), Refusal> {
        match key {
            "labelSelector" => self.label_selector = value,
            "fieldSelector" => self.field_selector = value,
            "resourceVersion" => self.start = start(&value)?,
            "resourceVersionMatch" => self.version_match = version_match(&value)?,
            "limit" => {
                let limit = number(key, &value)?.unwrap_or(0).min(MAX_LIMIT);
                self.limit = usize::try_from(limit).unwrap_or(usize::MAX);
            }
            "continue" => self.continuation = value,
            "watch" => self.watch = flag(&value),
            "allowWatchBookmarks" => self.bookmarks = flag(&value),
            "sendInitialEvents" => self.initial_events = Some(flag(&value)),
            "timeoutSeconds" => self.timeout_seconds = number(key, &value)?.filter(|one| *one > 0),
            "dryRun" => self.dry_run |= dry_run(&value, options)?,
            "fieldManager" => self.field_manager = field_manager(value, options)?,
            "fieldValidation" => self.validation = validation(&value, options)?,
            "force" => self.force = flag(&value),
            "propagationPolicy" => self.propagation = Some(Propagation::parse(&value)?),
            "orphanDependents" => {
                let orphan = flag(&value);
                self.propagation =
                    Some(if orphan { Propagation::Orphan } else { Propagation::Background });
            }
            "includeObject" => self.include = Some(include(&value)?),
            // Of a newer client, or without meaning here (`pretty`, `gracePeriodSeconds`): as Kubernetes, let it be.
            _ => {}
        }
        Ok(())
    }
}

/// A flag, as Kubernetes reads it: there is false unless it says otherwise.
fn flag(value: &str) -> bool {
    !value.eq_ignore_ascii_case("false") && value != "0"
}

fn number(key: &str, value: &str) -> Result<Option<u64>, Refusal> {
    if value.is_empty() {
        return Ok(None);
    }
    let refused = || Refusal::BadRequest(format!("{key}={value:?} is not a number from 0 on"));
    value.parse().map(Some).map_err(|_| refused())
}

fn start(value: &str) -> Result<Start, Refusal> {
    let refused = |_| {
        let cause = Cause::invalid("resourceVersion", &Value::from(value), "must be a number");
        Refusal::field(Subject::options("ListOptions"), cause)
    };
    match value {
        "" => Ok(Start::Unset),
        "0" => Ok(Start::Any),
        number => number.parse().map(Start::At).map_err(refused),
    }
}

fn version_match(value: &str) -> Result<Option<Match>, Refusal> {
    match value {
        "" => Ok(None),
        "Exact" => Ok(Some(Match::Exact)),
        "NotOlderThan" => Ok(Some(Match::NotOlderThan)),
        other => {
            let cause =
                Cause::unsupported("resourceVersionMatch", other, &["Exact", "NotOlderThan", ""]);
            Err(Refusal::field(Subject::options("ListOptions"), cause))
        }
    }
}

pub(crate) fn dry_run(value: &str, options: &'static str) -> Result<bool, Refusal> {
    match value {
        "All" => Ok(true),
        other => {
            let cause = Cause::unsupported_list("dryRun", other, &["All"]);
            Err(Refusal::field(Subject::options(options), cause))
        }
    }
}

/// Kubernetes bounds it to 128 printable characters.
fn field_manager(value: String, options: &'static str) -> Result<String, Refusal> {
    if value.chars().count() <= 128 && !value.chars().any(char::is_control) {
        return Ok(value);
    }
    let details = "may have 128 characters, all of them printable";
    let cause = Cause::invalid("fieldManager", &Value::from(value), details);
    Err(Refusal::field(Subject::options(options), cause))
}

fn validation(value: &str, options: &'static str) -> Result<Validation, Refusal> {
    match value {
        "Strict" => Ok(Validation::Strict),
        "" | "Warn" => Ok(Validation::Warn),
        "Ignore" => Ok(Validation::Ignore),
        other => {
            let supported = ["", "Ignore", "Strict", "Warn"];
            let cause = Cause::unsupported("fieldValidation", other, &supported);
            Err(Refusal::field(Subject::options(options), cause))
        }
    }
}

fn include(value: &str) -> Result<crate::table::Include, Refusal> {
    match value {
        "" | "Metadata" => Ok(crate::table::Include::Metadata),
        "None" => Ok(crate::table::Include::None),
        "Object" => Ok(crate::table::Include::Object),
        other => Err(Refusal::BadRequest(format!(
            "includeObject={other:?} is none of None, Metadata and Object"
        ))),
    }
}

/// What is to be done with the objects of a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verb {
    Get,
    List,
    Watch,
    Create,
    Update,
    Patch,
    Delete,
    DeleteCollection,
}

impl Verb {
    /// The verb that a method stands for; none if the path does not take it.
    pub(crate) fn of(method: &Method, target: &Target, watch: bool) -> Result<Self, Refusal> {
        let named = target.name.is_some();
        let placed = target.namespace.is_some() || !target.resource.namespaced;
        let verb = match (method, named) {
            (&Method::GET | &Method::HEAD, true) => Self::Get,
            (&Method::GET | &Method::HEAD, false) if watch => Self::Watch,
            (&Method::GET | &Method::HEAD, false) => Self::List,
            (&Method::POST, false) if placed => Self::Create,
            (&Method::PUT, true) => Self::Update,
            (&Method::PATCH, true) => Self::Patch,
            (&Method::DELETE, true) if target.part == Part::Main => Self::Delete,
            (&Method::DELETE, false) if placed => Self::DeleteCollection,
            _ => return Err(Refusal::MethodNotAllowed),
        };
        let reads = matches!(verb, Self::Get | Self::List | Self::Watch);
        // A namespace is deleted with everything in it; Kubernetes does not do that to several at once either.
        let namespaces =
            target.resource.kind == crds::namespace::KIND && verb == Self::DeleteCollection;
        if namespaces || !reads && !target.resource.writable {
            return Err(Refusal::MethodNotAllowed);
        }
        Ok(verb)
    }
}
