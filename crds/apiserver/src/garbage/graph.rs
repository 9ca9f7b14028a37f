//! Who is owned by whom. Pure; it only says which objects to look at, so an entry that is too old costs a look.

use std::collections::{HashMap, HashSet};
use std::fmt;

use crds::resource::{Catalog, Resource};
use serde_json::Value;

use crate::server::metadata;
use crate::store::{Key, Record};

/// What identifies an object here.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Id {
    pub(super) group: &'static str,
    pub(super) kind: &'static str,
    pub(super) namespace: String,
    pub(super) name: String,
}

impl Id {
    pub(super) fn of(key: &Key) -> Self {
        Self {
            group: key.resource.group,
            kind: key.resource.kind,
            namespace: key.namespace.clone(),
            name: key.name.clone(),
        }
    }

    /// The same for the store.
    pub(super) fn key(&self, catalog: Catalog) -> Option<Key> {
        let resource = catalog.of_kind(self.group, self.kind)?;
        Some(Key { resource, namespace: self.namespace.clone(), name: self.name.clone() })
    }

    fn namespace(name: &str) -> Self {
        let kind = crds::namespace::KIND;
        Self { group: "", kind, namespace: String::new(), name: name.to_owned() }
    }
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}/{}", self.kind, self.namespace, self.name)
    }
}

/// An owner as an object names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Owner {
    pub(super) uid: String,
    /// Where it is; none if its kind is not served here.
    pub(super) id: Option<Id>,
    /// Whether it waits for this object when it is deleted in the foreground.
    pub(super) blocks: bool,
}

/// The owners that an object names.
pub(super) fn owners(catalog: Catalog, object: &Value) -> Vec<Owner> {
    let namespace = metadata::text(object, "namespace");
    let list = object.pointer("/metadata/ownerReferences").and_then(Value::as_array);
    list.into_iter().flatten().map(|reference| owner(catalog, reference, namespace)).collect()
}

fn owner(catalog: Catalog, reference: &Value, namespace: &str) -> Owner {
    let text = |field: &str| reference.get(field).and_then(Value::as_str).unwrap_or_default();
    let group = text("apiVersion").split_once('/').map_or("", |(group, _)| group);
    let resource = catalog.of_kind(group, text("kind"));
    // An object in no namespace cannot be owned by one that is in some: nobody says in which.
    let resource = resource.filter(|resource| !resource.namespaced || !namespace.is_empty());
    let id = resource.map(|resource| Id {
        group: resource.group,
        kind: resource.kind,
        namespace: if resource.namespaced { namespace.to_owned() } else { String::new() },
        name: text("name").to_owned(),
    });
    let blocks = reference.get("blockOwnerDeletion").and_then(Value::as_bool).unwrap_or_default();
    Owner { uid: text("uid").to_owned(), id, blocks }
}

/// The objects that have owners, and the way back.
#[derive(Debug)]
pub(super) struct Graph {
    catalog: Catalog,
    owners: HashMap<Id, Vec<Owner>>,
    dependents: HashMap<String, HashSet<Id>>,
}

impl Graph {
    /// Nothing yet, of the kinds of `catalog`.
    pub(super) fn new(catalog: Catalog) -> Self {
        Self { catalog, owners: HashMap::new(), dependents: HashMap::new() }
    }

    /// Notes an object; tells what has to be looked at for it.
    pub(super) fn insert(&mut self, record: &Record) -> Vec<Id> {
        let id = Id::of(&record.key);
        let object: Value = serde_json::from_slice(&record.json).unwrap_or_default();
        let mut told = self.unlink(&id);
        let owners = owners(self.catalog, &object);
        for owner in &owners {
            self.dependents.entry(owner.uid.clone()).or_default().insert(id.clone());
        }
        if metadata::is_terminating(&object) || !owners.is_empty() {
            told.push(id.clone());
        }
        if !owners.is_empty() {
            self.owners.insert(id, owners);
        }
        told
    }

    /// Notes that an object is gone; tells what has to be looked at because of it.
    pub(super) fn remove(&mut self, record: &Record) -> Vec<Id> {
        let id = Id::of(&record.key);
        let object: Value = serde_json::from_slice(&record.json).unwrap_or_default();
        let mut told = self.unlink(&id);
        told.extend(self.dependents(metadata::text(&object, "uid")).cloned());
        if !id.namespace.is_empty() {
            told.push(Id::namespace(&id.namespace));
        }
        told
    }

    /// Takes an object out; tells its owners, who may have waited for it.
    fn unlink(&mut self, id: &Id) -> Vec<Id> {
        let owners = self.owners.remove(id).unwrap_or_default();
        for owner in &owners {
            if let Some(dependents) = self.dependents.get_mut(&owner.uid) {
                dependents.remove(id);
                if dependents.is_empty() {
                    self.dependents.remove(&owner.uid);
                }
            }
        }
        owners.into_iter().filter_map(|owner| owner.id).collect()
    }

    /// Forgets the objects of a kind.
    pub(super) fn forget(&mut self, resource: &Resource) {
        let of_kind = |id: &&Id| id.group == resource.group && id.kind == resource.kind;
        let ids: Vec<Id> = self.owners.keys().filter(of_kind).cloned().collect();
        for id in ids {
            self.unlink(&id);
        }
    }

    /// The objects that name this owner.
    pub(super) fn dependents(&self, uid: &str) -> impl Iterator<Item = &Id> {
        self.dependents.get(uid).into_iter().flatten()
    }

    /// Every object with owners.
    pub(super) fn owned(&self) -> impl Iterator<Item = Id> {
        self.owners.keys().cloned()
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use serde_json::json;

    use super::*;

    fn record(name: &str, uid: &str, owner: Option<&str>) -> Record {
        let resource = Catalog::BUILTIN.of_kind("", "ConfigMap").unwrap();
        let owners: Vec<Value> = owner
            .map(|uid| json!({"apiVersion": "v1", "kind": "ConfigMap", "name": "o", "uid": uid}))
            .into_iter()
            .collect();
        let object = json!({"metadata": {"namespace": "n", "name": name, "uid": uid, "ownerReferences": owners}});
        let key = Key { resource, namespace: "n".to_owned(), name: name.to_owned() };
        Record { key, version: 1, json: Bytes::from(object.to_string()) }
    }

    #[test]
    fn dependents_are_looked_at_when_their_owner_goes() {
        let mut graph = Graph::new(Catalog::BUILTIN);
        assert!(graph.insert(&record("o", "u", None)).is_empty());
        assert_eq!(graph.insert(&record("d", "v", Some("u"))).len(), 1);
        let told = graph.remove(&record("o", "u", None));
        assert!(told.iter().any(|id| id.name == "d"), "{told:?}");
        assert!(told.iter().any(|id| id.kind == "Namespace" && id.name == "n"), "{told:?}");
    }

    #[test]
    fn an_owner_is_looked_at_when_it_loses_a_dependent() {
        let mut graph = Graph::new(Catalog::BUILTIN);
        graph.insert(&record("d", "v", Some("u")));
        let told = graph.insert(&record("d", "v", None));
        assert!(told.iter().any(|id| id.name == "o"), "{told:?}");
        assert_eq!(graph.dependents("u").count(), 0);
        assert_eq!(graph.owned().count(), 0);
    }
}
