//! An object as the API server tells of it: its JSON as it came, and what an event repeats of it.

use bytes::Bytes;
use serde::Deserialize;
use serde_json::json;
use serde_json::value::RawValue;

use super::spec::OwnerKind;

/// A kind of objects, as it is served.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Kind {
    pub(super) api_version: String,
    pub(super) kind: String,
    pub(super) plural: String,
    pub(super) namespaced: bool,
}

/// One object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Object {
    /// Empty for one that is in no namespace.
    pub(super) namespace: String,
    pub(super) name: String,
    pub(super) uid: String,
    pub(super) version: String,
    /// Who controls it, if anybody does.
    pub(super) controller: Option<Controller>,
    /// All of it; empty where only references are told.
    pub(super) json: Bytes,
}

/// The owner that controls an object.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Controller {
    api_version: String,
    kind: String,
    controller: bool,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Head {
    api_version: Option<String>,
    kind: Option<String>,
    #[serde(default)]
    metadata: Metadata,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Metadata {
    name: String,
    namespace: String,
    uid: String,
    resource_version: String,
    owner_references: Vec<Controller>,
}

impl Object {
    /// Reads an object of that kind. `whole` keeps its JSON.
    ///
    /// # Errors
    /// When it is none.
    pub(super) fn read(text: &RawValue, kind: &Kind, whole: bool) -> serde_json::Result<Self> {
        let head: Head = serde_json::from_str(text.get())?;
        let json = if whole { complete(text.get(), &head, kind) } else { Bytes::new() };
        let Metadata { name, namespace, uid, resource_version, owner_references } = head.metadata;
        let controller = owner_references.into_iter().find(|owner| owner.controller);
        Ok(Self { namespace, name, uid, version: resource_version, controller, json })
    }

    /// One of which no more is known than that it was.
    pub(super) fn remembered(
        kind: &Kind,
        (namespace, name): (&str, &str),
        (uid, version): (String, String),
        whole: bool,
    ) -> Self {
        let mut metadata = json!({"name": name, "uid": uid, "resourceVersion": version});
        if !namespace.is_empty() {
            metadata["namespace"] = namespace.into();
        }
        let json = json!({"apiVersion": kind.api_version, "kind": kind.kind, "metadata": metadata});
        Self {
            namespace: namespace.to_owned(),
            name: name.to_owned(),
            uid,
            version,
            controller: None,
            json: if whole { json.to_string().into() } else { Bytes::new() },
        }
    }

    /// Whether an object of that kind controls it. As in Knative, another version is another kind.
    pub(super) fn is_controlled_by(&self, owner: &OwnerKind) -> bool {
        self.controller.as_ref().is_some_and(|controller| {
            controller.kind == owner.kind
                && (owner.api_version.is_empty() || controller.api_version == owner.api_version)
        })
    }
}

/// The object's JSON as it came. The objects of a list do not always say what they are, so that is put in front.
fn complete(text: &str, head: &Head, kind: &Kind) -> Bytes {
    let mut front = String::new();
    for (field, said, value) in
        [("apiVersion", &head.api_version, &kind.api_version), ("kind", &head.kind, &kind.kind)]
    {
        if said.is_none() {
            front.push_str(&format!("{}:{},", json!(field), json!(value)));
        }
    }
    match text.trim_start().strip_prefix('{') {
        // An object has metadata, so that something follows the comma.
        Some(rest) if !front.is_empty() => format!("{{{front}{rest}").into(),
        _ => Bytes::copy_from_slice(text.as_bytes()),
    }
}

#[cfg(test)]
mod tests {
    use super::super::spec::OwnerKind;
    use super::{Kind, Object};
    use serde_json::value::RawValue;

    fn pod() -> Kind {
        Kind {
            api_version: "v1".to_owned(),
            kind: "Pod".to_owned(),
            plural: "pods".to_owned(),
            namespaced: true,
        }
    }

    fn read(text: &str) -> Object {
        let raw: &RawValue = serde_json::from_str(text).unwrap();
        Object::read(raw, &pod(), true).unwrap()
    }

    #[test]
    fn an_object_keeps_its_bytes() {
        let text = r#"{ "kind":"Pod","apiVersion":"v1", "metadata":{"name":"a","namespace":"n","uid":"u","resourceVersion":"7"},"z":1.50,"a":[]}"#;
        let object = read(text);
        assert_eq!(object.json, text);
        assert_eq!((object.namespace.as_str(), object.name.as_str()), ("n", "a"));
        assert_eq!((object.uid.as_str(), object.version.as_str()), ("u", "7"));
    }

    #[test]
    fn an_item_of_a_list_is_told_what_it_is() {
        let both = read(r#"{"metadata":{"name":"a"}}"#);
        assert_eq!(both.json, r#"{"apiVersion":"v1","kind":"Pod","metadata":{"name":"a"}}"#);
        let one = read(r#"{"kind":"Pod","metadata":{"name":"a"}}"#);
        assert_eq!(one.json, r#"{"apiVersion":"v1","kind":"Pod","metadata":{"name":"a"}}"#);
    }

    #[test]
    fn only_the_controlling_owner_counts() {
        let object = read(
            r#"{"metadata":{"ownerReferences":[{"apiVersion":"v1","kind":"Node"},
                {"apiVersion":"apps/v1","kind":"ReplicaSet","controller":true}]}}"#,
        );
        let owner = |api_version: &str, kind: &str| OwnerKind {
            api_version: api_version.to_owned(),
            kind: kind.to_owned(),
        };
        assert!(object.is_controlled_by(&owner("apps/v1", "ReplicaSet")));
        assert!(object.is_controlled_by(&owner("", "ReplicaSet")));
        assert!(!object.is_controlled_by(&owner("apps/v2", "ReplicaSet")));
        assert!(!object.is_controlled_by(&owner("v1", "Node")));
        assert!(!read(r#"{"metadata":{}}"#).is_controlled_by(&owner("", "ReplicaSet")));
    }
}
