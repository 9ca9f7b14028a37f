//! Events of what happened to objects, as Knative's adapter makes them.

use std::sync::Arc;

use broker_event::{Event, EventBuilder, EventError};
use bytes::Bytes;
use serde::Serialize;

use super::object::{Kind, Object};

/// What happened to an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verb {
    Add,
    Update,
    Delete,
}

/// What all events of a source have in common.
#[derive(Debug)]
pub(super) struct Shape {
    pub(super) source: Arc<str>,
    /// Whether they have the object in them.
    pub(super) whole: bool,
}

/// As Kubernetes writes it.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ObjectReference<'a> {
    kind: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    namespace: &'a str,
    name: &'a str,
    api_version: &'a str,
}

impl Verb {
    pub(super) const ALL: [Self; 3] = [Self::Add, Self::Update, Self::Delete];

    fn word(self) -> &'static str {
        match self {
            Self::Add => "add",
            Self::Update => "update",
            Self::Delete => "delete",
        }
    }

    /// The type of the event that says so.
    pub(super) fn event_type(self, whole: bool) -> String {
        let shape = if whole { "resource" } else { "ref" };
        format!("dev.knative.apiserver.{shape}.{}", self.word())
    }
}

impl Shape {
    /// The event. Its id depends on nothing but the object's incarnation and version and on what happened, so that what is
    /// told twice, after a crash, can be recognized.
    ///
    /// # Errors
    /// When something of the object cannot be an attribute.
    pub(super) fn event(
        &self,
        verb: Verb,
        kind: &Kind,
        object: &Object,
    ) -> Result<Event, EventError> {
        let Object { namespace, name, uid, version, .. } = object;
        let Kind { api_version, kind, plural, .. } = kind;
        let id = format!("{uid}.{version}.{}", verb.word());
        let mut event = EventBuilder::new(id, &*self.source, verb.event_type(self.whole))
            // An object without a namespace has two slashes there, as with Knative.
            .subject(format!("/apis/{api_version}/namespaces/{namespace}/{plural}/{name}"))
            .data_content_type("application/json")
            .extension("apiversion", api_version.as_str())
            .extension("kind", kind.as_str())
            .extension("name", name.as_str());
        if !namespace.is_empty() {
            event = event.extension("namespace", namespace.as_str());
        }
        let data = if self.whole {
            object.json.clone()
        } else {
            let reference = ObjectReference { kind, namespace, name, api_version };
            serde_json::to_vec(&reference).map(Bytes::from).unwrap_or_default()
        };
        event.data(data).build()
    }
}

#[cfg(test)]
mod tests {
    use super::{Shape, Verb};
    use crate::apiserver::object::{Kind, Object};
    use broker_event::{Event, Value};

    fn event(verb: Verb, whole: bool, namespace: &str) -> Event {
        let kind = Kind {
            api_version: "v1".to_owned(),
            kind: "Pod".to_owned(),
            plural: "pods".to_owned(),
            namespaced: true,
        };
        let (of, known) = ((namespace, "unit"), ("u-1".to_owned(), "7".to_owned()));
        let object = Object::remembered(&kind, of, known, whole);
        let shape = Shape { source: "https://api.example:6443".into(), whole };
        shape.event(verb, &kind, &object).unwrap()
    }

    #[test]
    fn a_reference_says_which_object_it_is() {
        let event = event(Verb::Add, false, "test");
        assert_eq!(event.ty(), "dev.knative.apiserver.ref.add");
        assert_eq!(event.source(), "https://api.example:6443");
        assert_eq!(event.subject(), Some("/apis/v1/namespaces/test/pods/unit"));
        assert_eq!(event.id(), "u-1.7.add");
        assert_eq!(event.data_content_type(), Some("application/json"));
        for (name, value) in
            [("apiversion", "v1"), ("kind", "Pod"), ("name", "unit"), ("namespace", "test")]
        {
            assert_eq!(event.extension(name), Some(&Value::from(value)));
        }
        let data = r#"{"kind":"Pod","namespace":"test","name":"unit","apiVersion":"v1"}"#;
        assert_eq!(event.data().unwrap(), data);
    }

    #[test]
    fn what_is_in_no_namespace_names_none() {
        let event = event(Verb::Delete, true, "");
        assert_eq!(event.ty(), "dev.knative.apiserver.resource.delete");
        assert_eq!(event.subject(), Some("/apis/v1/namespaces//pods/unit"));
        assert_eq!(event.extension("namespace"), None);
        let data = r#"{"apiVersion":"v1","kind":"Pod","metadata":{"name":"unit","resourceVersion":"7","uid":"u-1"}}"#;
        assert_eq!(event.data().unwrap(), data);
    }
}
