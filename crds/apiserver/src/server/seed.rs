//! What is there without anybody having made it: a few namespaces, the defaults for Brokers, and, once somebody asks for
//! them, the definitions of the kinds.

use crds::broker_defaults;
use crds::custom_resource_definition;
use crds::resource::{self, Resource};
use serde_json::{Value, json};

use crate::server::{ApiServer, envelope, metadata, now};
use crate::status::{Refusal, Subject};
use crate::store::{Expected, Key, WriteError};

/// Namespaces that are there always, because clients take them for granted.
const ALWAYS: [&str; 2] = ["default", "kube-system"];

/// What is built in, written down so that users see what they may change.
const SHIPPED: &str = "\
clusterDefault:
  brokerClass: Weft
  delivery:
    retry: 10
    backoffPolicy: exponential
    backoffDelay: PT0.2S
";

impl ApiServer {
    /// Makes what must be there before the first request; waits for whoever is at it.
    pub(crate) async fn seed(&self) -> Result<(), Refusal> {
        self.seeded.get_or_try_init(|| Box::pin(self.sow())).await.copied()
    }

    /// Shows the definitions of the kinds, as this program has them; waits for whoever is at it. They are made when somebody
    /// first asks: the mesh never does, and to make their schemas would cost it a twentieth of its memory.
    pub(crate) async fn define(&self) -> Result<(), Refusal> {
        let all = async {
            for resource in self.store.catalog().iter().filter(|resource| resource.is_custom()) {
                self.define_kind(resource).await?;
            }
            Ok(())
        };
        self.defined.get_or_try_init(|| Box::pin(all)).await.copied()
    }

    async fn sow(&self) -> Result<(), Refusal> {
        let namespaces = self.kind("", crds::namespace::KIND)?;
        let marker = Key {
            resource: namespaces,
            namespace: String::new(),
            name: ALWAYS.first().copied().unwrap_or_default().to_owned(),
        };
        // A user may remove what comes with the first start; the rest comes back.
        let first_start = self.store.get(&marker).is_none();
        if first_start {
            self.plant(namespaces, named("", broker_defaults::NAMESPACE)).await?;
            self.plant(self.kind("", crds::config_map::KIND)?, shipped_defaults()).await?;
        }
        for name in ALWAYS.iter().rev() {
            self.plant(namespaces, named("", name)).await?;
        }
        Ok(())
    }

    /// Makes an object, unless it is there.
    async fn plant(&self, resource: &'static Resource, mut object: Value) -> Result<(), Refusal> {
        if let Value::Object(map) = &mut object {
            map.insert("kind".to_owned(), resource.kind.into());
        }
        envelope::to_stored(resource, &mut object);
        metadata::stamp(resource, &mut object, now());
        let key = Key {
            resource,
            namespace: metadata::text(&object, "namespace").to_owned(),
            name: metadata::text(&object, "name").to_owned(),
        };
        if self.store.get(&key).is_some() {
            return Ok(());
        }
        let subject = Subject::new(resource, key.name.clone());
        match self.store.write(key, Expected::Absent, envelope::put(&object)).await {
            Ok(_) | Err(WriteError::Conflict { .. }) => Ok(()),
            Err(error) => Err(Refusal::of_write(&error, subject)),
        }
    }

    async fn define_kind(&self, defined: &Resource) -> Result<(), Refusal> {
        let resource = self.kind("apiextensions.k8s.io", custom_resource_definition::KIND)?;
        let mut object = resource::definition(defined);
        let key = Key { resource, namespace: String::new(), name: defined.full_name() };
        let Some(record) = self.store.get(&key) else {
            establish(&mut object, &metadata::seconds(now()));
            return self.plant(resource, object).await;
        };
        let live = envelope::parse(&record)?;
        let since = metadata::text(&live, "creationTimestamp").to_owned();
        establish(&mut object, &since);
        let same = |field: &str| live.get(field) == object.get(field);
        if same("spec") && same("status") {
            return Ok(());
        }
        let subject = || Subject::new(resource, key.name.clone());
        metadata::carry(&live, &mut object, &subject(), false)?;
        metadata::next_generation(metadata::known(&mut object));
        envelope::to_stored(resource, &mut object);
        let expected = Expected::Version(record.version);
        let written = self.store.write(key.clone(), expected, envelope::put(&object)).await;
        written.map(drop).map_err(|error| Refusal::of_write(&error, subject()))
    }

    fn kind(&self, group: &str, kind: &str) -> Result<&'static Resource, Refusal> {
        let kinds = self.store.catalog();
        let unserved = || Refusal::Failed(format!("the kind {kind} is not served"));
        kinds.of_kind(group, kind).ok_or_else(unserved)
    }
}

fn named(namespace: &str, name: &str) -> Value {
    if namespace.is_empty() {
        json!({"metadata": {"name": name}})
    } else {
        json!({"metadata": {"name": name, "namespace": namespace}})
    }
}

/// The defaults for Brokers as Weft ships them.
fn shipped_defaults() -> Value {
    let mut object = named(broker_defaults::NAMESPACE, broker_defaults::NAME);
    if let Value::Object(map) = &mut object {
        map.insert("data".to_owned(), json!({broker_defaults::KEY: SHIPPED}));
    }
    object
}

/// The conditions by which clients see that a kind is served.
fn establish(definition: &mut Value, since: &str) {
    let condition = |kind: &str, reason: &str, message: &str| {
        json!({
            "type": kind, "status": "True", "reason": reason, "message": message,
            "lastTransitionTime": since,
        })
    };
    let names = definition.pointer("/spec/names").cloned().unwrap_or_default();
    let stored = definition.pointer("/spec/versions/0/name").cloned().unwrap_or_default();
    let status = json!({
        "acceptedNames": names,
        "storedVersions": [stored],
        "conditions": [
            condition("NamesAccepted", "NoConflicts", "no conflicts found"),
            condition("Established", "InitialNamesAccepted", "the initial names have been accepted"),
        ],
    });
    if let Value::Object(map) = definition {
        map.insert("status".to_owned(), status);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use crds::broker_defaults::BrokerDefaults;
    use crds::resource::Catalog;

    use super::*;
    use crate::server::{Checks, Config, Limits};
    use crate::store::{Options, Store};

    #[tokio::test]
    async fn definitions_are_made_when_somebody_asks_and_not_before() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("api.redb");
        let store = Store::open(&path, Catalog::BUILTIN, Options::default()).unwrap();
        let checks = Checks { cesql: Box::new(|_| Ok(())) };
        let (git_version, limits) = (String::new(), Limits::default());
        let config = Config { token: None, git_version, checks, limits };
        let server = ApiServer::new(Arc::clone(&store), config);
        let kind = server.kind("apiextensions.k8s.io", custom_resource_definition::KIND).unwrap();
        let made = || store.list(kind, None, None, 0).records.len();
        server.seed().await.unwrap();
        assert_eq!(made(), 0);
        server.define().await.unwrap();
        assert_eq!(made(), Catalog::BUILTIN.iter().filter(|kind| kind.is_custom()).count());
    }

    #[test]
    fn what_is_shipped_is_what_is_built_in() {
        assert_eq!(BrokerDefaults::parse(SHIPPED).unwrap(), BrokerDefaults::builtin());
    }
}
