//! The way out: the port through which sources hand over events, and what the runner wraps around it.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use broker_event::{Event, MAX_EXTENSION_NAME, Value};
use bytestring::ByteString;
use futures_util::future::BoxFuture;
use http::Uri;
use thiserror::Error;

use crate::metrics::SourceMetrics;
use crate::status::{Condition, Reporter};

/// Context attributes, which an override cannot be named after: it would be dropped or contradict the attribute.
const CONTEXT_ATTRIBUTES: [&str; 12] = [
    "data",
    "data_base64",
    "datacontentencoding",
    "datacontenttype",
    "dataschema",
    "id",
    "schemaurl",
    "source",
    "specversion",
    "subject",
    "time",
    "type",
];

/// How many overrides a source can have. Each is a header of every delivery, and servers commonly refuse requests with
/// more than a hundred.
const MAX_OVERRIDES: usize = 64;

/// Where the events of a source go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Sink {
    /// A broker of this mesh: straight into its store.
    Broker {
        /// Namespace of the Broker.
        namespace: Arc<str>,
        /// Name of the Broker.
        name: Arc<str>,
    },
    /// Anything that takes events over HTTP.
    Url {
        /// Where to post them.
        url: Uri,
        /// PEM certificates to trust besides the usual ones.
        ca_certs: Option<Arc<str>>,
    },
}

/// Takes events. Implemented by whoever assembles the mesh.
pub trait Emit: fmt::Debug + Send + Sync + 'static {
    /// Marks events as `sink` wants them marked when they arrive, before they are emitted for the first time. Takes out those
    /// that it will never take, with the reason.
    fn prepare(&self, _sink: &Sink, _events: &mut Vec<Event>) -> Vec<(Event, EmitError)> {
        Vec::new()
    }

    /// Hands prepared `events` to `sink`. `Ok` means that all of them are durable there; on an error none of them need be.
    ///
    /// # Errors
    /// Says through [`EmitError::is_retryable`] whether the same events can be taken later.
    fn emit<'a>(
        &'a self,
        sink: &'a Sink,
        events: Vec<Event>,
    ) -> BoxFuture<'a, Result<(), EmitError>>;
}

/// Why events were not taken.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum EmitError {
    /// The sink is full or overloaded; it asks for a pause.
    #[error("the sink is busy: {reason}")]
    Busy {
        /// What it is short of.
        reason: String,
        /// How long it asks to be left alone.
        retry_after: Option<Duration>,
    },
    /// The sink cannot be reached, does not exist (yet), or answered with a server error.
    #[error("the sink is unavailable: {reason}")]
    Unavailable {
        /// What was tried and how it failed.
        reason: String,
    },
    /// The sink refuses these events, and will again: too large, or not acceptable to it.
    #[error("the sink refused the event: {reason}")]
    Refused {
        /// What the sink objects to.
        reason: String,
    },
}

/// Extensions that a source's owner wants on every event (`ceOverrides.extensions`).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Overrides(Vec<(ByteString, Value)>);

/// Why overrides cannot be applied.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum OverridesError {
    /// Not an extension's name.
    #[error(
        "ceOverrides.extensions: {name:?} is not an extension name: use letters and digits only, 255 at most"
    )]
    Name {
        /// The name.
        name: String,
    },
    /// The name of a context attribute.
    #[error("ceOverrides.extensions: {name:?} is a context attribute and cannot be overridden")]
    Reserved {
        /// The name.
        name: String,
    },
    /// More than an event should carry.
    #[error("ceOverrides.extensions: {found} are more than {MAX_OVERRIDES}")]
    TooMany {
        /// How many there are.
        found: usize,
    },
    /// A value with characters that no attribute may hold.
    #[error("ceOverrides.extensions: the value of {name:?} must not contain control characters")]
    Value {
        /// The name.
        name: String,
    },
}

/// One source's way out: its sink, its overrides, its metrics and its `Delivering` condition around the port.
#[derive(Clone, Debug)]
pub struct Emitter {
    port: Arc<dyn Emit>,
    sink: Sink,
    overrides: Overrides,
    metrics: SourceMetrics,
    report: Reporter,
}

impl fmt::Display for Sink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Broker { namespace, name } => write!(f, "broker {namespace}/{name}"),
            // The host alone: paths and queries of sinks carry tokens.
            Self::Url { url, .. } => {
                write!(f, "{}", url.host().unwrap_or("an address without host"))
            }
        }
    }
}

impl Sink {
    /// The URL that takes events for it over HTTP; `events` is that of the events listener.
    pub(crate) fn url(&self, events: &str) -> String {
        match self {
            Self::Broker { namespace, name } => {
                format!("{}/{namespace}/{name}", events.trim_end_matches('/'))
            }
            Self::Url { url, .. } => url.to_string(),
        }
    }

    /// PEM certificates to trust there besides the usual ones.
    #[must_use]
    pub fn ca_certs(&self) -> Option<&str> {
        match self {
            Self::Broker { .. } => None,
            Self::Url { ca_certs, .. } => ca_certs.as_deref(),
        }
    }
}

impl EmitError {
    /// Whether the same events may be taken later.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Busy { .. } | Self::Unavailable { .. } => true,
            Self::Refused { .. } => false,
        }
    }

    /// How long the sink asks to be left alone.
    #[must_use]
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Busy { retry_after, .. } => *retry_after,
            Self::Unavailable { .. } | Self::Refused { .. } => None,
        }
    }

    /// The reason of the `Delivering` condition.
    fn condition_reason(&self) -> &'static str {
        match self {
            Self::Busy { .. } => "SinkBusy",
            Self::Unavailable { .. } => "SinkUnavailable",
            Self::Refused { .. } => "EventRefused",
        }
    }
}

impl Overrides {
    /// Checks the names. Upper-case letters are lowered, as Knative's SDK does.
    ///
    /// # Errors
    /// Names the extension that cannot be.
    pub fn new(extensions: BTreeMap<String, String>) -> Result<Self, OverridesError> {
        if extensions.len() > MAX_OVERRIDES {
            return Err(OverridesError::TooMany { found: extensions.len() });
        }
        let mut checked = Vec::with_capacity(extensions.len());
        for (name, value) in extensions {
            if name.is_empty()
                || name.len() > MAX_EXTENSION_NAME
                || !name.bytes().all(|byte| byte.is_ascii_alphanumeric())
            {
                return Err(OverridesError::Name { name });
            }
            let lower = name.to_ascii_lowercase();
            if CONTEXT_ATTRIBUTES.contains(&lower.as_str()) {
                return Err(OverridesError::Reserved { name });
            }
            if value.chars().any(char::is_control) {
                return Err(OverridesError::Value { name });
            }
            checked.push((lower.into(), Value::from(value)));
        }
        Ok(Self(checked))
    }

    /// Sets the extensions on `event`, over what is there.
    pub fn apply(&self, event: &mut Event) {
        for (name, value) in &self.0 {
            event.set_extension(name.clone(), value.clone());
        }
    }
}

impl OverridesError {
    /// Never: only a changed configuration helps.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        false
    }
}

impl Emitter {
    pub(crate) fn new(
        port: Arc<dyn Emit>,
        sink: Sink,
        overrides: Overrides,
        metrics: SourceMetrics,
        report: Reporter,
    ) -> Self {
        Self { port, sink, overrides, metrics, report }
    }

    /// Where the events go.
    pub(crate) fn sink(&self) -> &Sink {
        &self.sink
    }

    /// Whether the sink takes several events at once, all or none. An address gets them one by one, so that of a batch that
    /// fails some would come again for nothing.
    #[must_use]
    pub fn takes_batches(&self) -> bool {
        matches!(self.sink, Sink::Broker { .. })
    }

    /// Prepares events and hands them over. When it returns `Ok` they are durable: acknowledge upstream now, and not before.
    ///
    /// # Errors
    /// As [`Emit::emit`].
    pub async fn send(&self, mut events: Vec<Event>) -> Result<(), EmitError> {
        if let Some((_, error)) = self.prepare(&mut events).into_iter().next() {
            return Err(error);
        }
        self.hand_over(events).await
    }

    /// Applies the overrides and marks the events for the sink: once, however often they are handed over then. Takes out what
    /// the sink will never take, with the reason.
    pub(crate) fn prepare(&self, events: &mut Vec<Event>) -> Vec<(Event, EmitError)> {
        for event in &mut *events {
            self.overrides.apply(event);
        }
        let refused = self.port.prepare(&self.sink, events);
        for (_, error) in &refused {
            self.tell(Err(error));
        }
        refused
    }

    /// Hands prepared events over, as [`send`](Self::send).
    pub(crate) async fn hand_over(&self, events: Vec<Event>) -> Result<(), EmitError> {
        let count = u64::try_from(events.len()).unwrap_or(u64::MAX);
        let outcome = self.port.emit(&self.sink, events).await;
        self.tell(outcome.as_ref().map(|()| count));
        outcome
    }

    /// Says what became of so many events.
    fn tell(&self, outcome: Result<u64, &EmitError>) {
        match outcome {
            Ok(count) => {
                self.metrics.emitted(count);
                self.report.condition(Condition::good(Condition::DELIVERING, "Delivered"));
            }
            Err(error) => {
                self.metrics.emit_failed();
                let message = format!("{error} ({})", self.sink);
                let reason = error.condition_reason();
                self.report.condition(Condition::bad(Condition::DELIVERING, reason, message));
            }
        }
    }
}

#[cfg(test)]
pub(crate) mod fake {
    //! A sink that remembers, and that fails as it is told.

    use std::collections::VecDeque;
    use std::sync::{Arc, Mutex};

    use broker_event::Event;
    use futures_util::future::BoxFuture;
    use tokio::sync::watch;

    use super::{Emit, EmitError, Emitter, Overrides, Sink};
    use crate::metrics::Metrics;
    use crate::status::Reporter;

    /// Keeps what it took; answers with the scripted errors first.
    #[derive(Debug)]
    pub(crate) struct Recorder {
        taken: watch::Sender<Vec<Event>>,
        errors: Mutex<VecDeque<EmitError>>,
        always: Mutex<Option<EmitError>>,
    }

    impl Recorder {
        pub(crate) fn new() -> Arc<Self> {
            Arc::new(Self {
                taken: watch::Sender::new(Vec::new()),
                errors: Mutex::default(),
                always: Mutex::default(),
            })
        }

        /// The next calls fail with these.
        pub(crate) fn fail_with(&self, errors: impl IntoIterator<Item = EmitError>) {
            self.errors.lock().unwrap().extend(errors);
        }

        /// All calls fail with this, until told otherwise.
        pub(crate) fn always(&self, error: Option<EmitError>) {
            *self.always.lock().unwrap() = error;
        }

        /// What was taken so far.
        pub(crate) fn taken(&self) -> Vec<Event> {
            self.taken.borrow().clone()
        }

        /// Waits until `count` events were taken.
        pub(crate) async fn wait_for(&self, count: usize) -> Vec<Event> {
            let mut taken = self.taken.subscribe();
            taken.wait_for(|taken| taken.len() >= count).await.unwrap().clone()
        }
    }

    impl Emit for Recorder {
        fn emit<'a>(
            &'a self,
            _: &'a Sink,
            events: Vec<Event>,
        ) -> BoxFuture<'a, Result<(), EmitError>> {
            Box::pin(async move {
                if let Some(error) = self.always.lock().unwrap().clone() {
                    return Err(error);
                }
                if let Some(error) = self.errors.lock().unwrap().pop_front() {
                    return Err(error);
                }
                self.taken.send_modify(|taken| taken.extend(events));
                Ok(())
            })
        }
    }

    /// The broker every test sends to.
    pub(crate) fn sink() -> Sink {
        Sink::Broker { namespace: "default".into(), name: "default".into() }
    }

    /// An emitter around `port`.
    pub(crate) fn emitter(port: Arc<Recorder>, overrides: Overrides, report: Reporter) -> Emitter {
        let metrics = Metrics::default().of(&crate::status::fake::key("Test"));
        Emitter::new(port, sink(), overrides, metrics, report)
    }
}

#[cfg(test)]
mod tests {
    use super::{EmitError, Overrides, OverridesError, Sink, fake};
    use crate::status::fake as status;
    use broker_event::{EventBuilder, Value};
    use std::collections::BTreeMap;

    fn overrides(pairs: &[(&str, &str)]) -> Result<Overrides, OverridesError> {
        let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        Overrides::new(pairs.iter().map(owned).collect::<BTreeMap<_, _>>())
    }

    #[tokio::test]
    async fn overrides_come_last_and_replace() {
        let (report, _) = status::reporter("Test");
        let recorder = fake::Recorder::new();
        let chosen = overrides(&[("Team", "blue"), ("action", "mine")]).unwrap();
        let emitter = fake::emitter(recorder.clone(), chosen, report);
        let event = EventBuilder::new("1", "/s", "t").extension("action", Value::from("opened"));
        emitter.send(vec![event.build().unwrap()]).await.unwrap();
        let taken = recorder.taken();
        assert_eq!(taken[0].extension("action"), Some(&Value::from("mine")));
        assert_eq!(taken[0].extension("team"), Some(&Value::from("blue")));
    }

    #[test]
    fn overrides_name_what_they_cannot_be() {
        let reserved = overrides(&[("Source", "x")]).unwrap_err();
        assert_eq!(
            reserved.to_string(),
            "ceOverrides.extensions: \"Source\" is a context attribute and cannot be overridden"
        );
        assert!(matches!(overrides(&[("a-b", "x")]), Err(OverridesError::Name { .. })));
        assert!(matches!(overrides(&[("", "x")]), Err(OverridesError::Name { .. })));
        assert!(matches!(overrides(&[(&"a".repeat(256), "x")]), Err(OverridesError::Name { .. })));
        assert!(matches!(overrides(&[("a", "x\n")]), Err(OverridesError::Value { .. })));
    }

    #[tokio::test]
    async fn a_failing_sink_is_a_condition_until_it_takes_events_again() {
        let (report, board) = status::reporter("Test");
        let recorder = fake::Recorder::new();
        let emitter = fake::emitter(recorder.clone(), Overrides::default(), report);
        recorder.fail_with([EmitError::Unavailable { reason: "connection refused".to_owned() }]);
        emitter.send(Vec::new()).await.unwrap_err();
        let condition = status::only(&board).conditions.remove(0);
        assert!(!condition.holds);
        assert_eq!(
            condition.message,
            "the sink is unavailable: connection refused (broker default/default)"
        );
        emitter.send(Vec::new()).await.unwrap();
        assert!(status::only(&board).conditions.remove(0).holds);
    }

    #[test]
    fn a_sinks_path_is_not_shown() {
        let url = "https://example.com/hook/token?key=secret".parse().unwrap();
        assert_eq!(Sink::Url { url, ca_certs: None }.to_string(), "example.com");
    }
}
