//! What has to happen to one object, decided from the store as it is now, and done.

use std::sync::Arc;

use crds::resource::Resource;
use futures_util::{StreamExt, TryStreamExt, stream};
use jiff::{SignedDuration, Timestamp};
use serde_json::Value;

use super::CONCURRENT;
use super::graph::{Graph, Id, Owner, owners};
use crate::server::metadata::{self, FOREGROUND, KUBERNETES, ORPHAN};
use crate::server::{ApiServer, Deletion, Propagation};
use crate::status::Refusal;
use crate::store::{Key, Record};

/// Events are kept this long after they last happened, as in Kubernetes.
const EVENT_AGE: SignedDuration = SignedDuration::from_hours(1);

/// Sees to an object: carries its deletion on, or deletes it because its owners went.
pub(super) async fn examine(
    server: &Arc<ApiServer>,
    graph: &Graph,
    id: &Id,
) -> Result<(), Refusal> {
    let Some(key) = id.key(server.store().catalog()) else { return Ok(()) };
    let Some(record) = server.store().get(&key) else { return Ok(()) };
    let object = parse(&record)?;
    let outcome = if metadata::is_terminating(&object) {
        carry_on(server, graph, &record, object).await
    } else if is_lost(server, &key) {
        remove(server, &record, &object, None).await
    } else {
        judge(server, graph, &record, object).await
    };
    match outcome {
        // Somebody else was faster, which is what was wanted.
        Err(Refusal::NotFound(_)) => Ok(()),
        outcome => outcome,
    }
}

fn parse(record: &Record) -> Result<Value, Refusal> {
    serde_json::from_slice(&record.json).map_err(|error| Refusal::Failed(error.to_string()))
}

fn owners_of(server: &ApiServer, object: &Value) -> Vec<Owner> {
    owners(server.store().catalog(), object)
}

/// Whether it is in a namespace that is not there: it was written while the namespace went.
fn is_lost(server: &ApiServer, key: &Key) -> bool {
    let namespaces = server.store().catalog().of_kind("", crds::namespace::KIND);
    let Some(resource) = namespaces else { return false };
    let namespace = Key { resource, namespace: String::new(), name: key.namespace.clone() };
    !key.namespace.is_empty() && server.store().get(&namespace).is_none()
}

/// Goes on with a deletion that something holds.
async fn carry_on(
    server: &Arc<ApiServer>,
    graph: &Graph,
    record: &Record,
    object: Value,
) -> Result<(), Refusal> {
    let finalizers = metadata::finalizers(&object);
    if finalizers.contains(&ORPHAN) {
        let uid = metadata::text(&object, "uid").to_owned();
        for dependent in dependents(server, &uid)? {
            disown(server, &dependent, |owner| owner.uid == uid).await?;
        }
        return release(server, record, object, ORPHAN).await;
    }
    if finalizers.contains(&FOREGROUND) {
        return foreground(server, graph, record, object).await;
    }
    if record.key.resource.kind == crds::namespace::KIND {
        return empty(server, record, object).await;
    }
    Ok(())
}

/// Deletes the dependents; lets the owner go when none is left that blocks it.
async fn foreground(
    server: &Arc<ApiServer>,
    graph: &Graph,
    record: &Record,
    object: Value,
) -> Result<(), Refusal> {
    let uid = metadata::text(&object, "uid").to_owned();
    let mut blocked = false;
    // The graph may not know yet what was made a moment ago; the store does.
    for dependent in dependents(server, &uid)? {
        let state = parse(&dependent)?;
        blocked |= owners_of(server, &state).iter().any(|owner| owner.uid == uid && owner.blocks);
        if metadata::is_terminating(&state) {
            continue;
        }
        if has_other_owner(server, &state, &uid)? {
            disown(server, &dependent, |owner| owner.uid == uid).await?;
            continue;
        }
        let own = graph.dependents(metadata::text(&state, "uid")).next().is_some();
        remove(server, &dependent, &state, own.then_some(Propagation::Foreground)).await?;
    }
    if blocked {
        // The last of them to go leads here again.
        let left = dependents(server, &uid)?;
        for dependent in &left {
            let state = parse(dependent)?;
            if owners_of(server, &state).iter().any(|owner| owner.uid == uid && owner.blocks) {
                return Ok(());
            }
        }
    }
    release(server, record, object, FOREGROUND).await
}

/// The objects in the store that name this owner.
fn dependents(server: &ApiServer, uid: &str) -> Result<Vec<Arc<Record>>, Refusal> {
    let mut found = Vec::new();
    if uid.is_empty() {
        return Ok(found);
    }
    for resource in server.store().catalog().iter() {
        for record in server.store().list(resource, None, None, 0).records {
            // Reading every object would take a hundred times as long as this.
            let names_it = std::str::from_utf8(&record.json).is_ok_and(|text| text.contains(uid));
            if names_it && owners_of(server, &parse(&record)?).iter().any(|owner| owner.uid == uid)
            {
                found.push(record);
            }
        }
    }
    Ok(found)
}

/// What an owner is to the object that names it.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Standing {
    /// It is there, or of a kind of which nobody here knows.
    Solid,
    /// It is being deleted and waits for its dependents.
    Waiting,
    /// It is gone; perhaps another has its name now.
    Absent,
}

fn standing(server: &ApiServer, owner: &Owner) -> Result<Standing, Refusal> {
    let catalog = server.store().catalog();
    let key = owner.id.as_ref().and_then(|id| id.key(catalog));
    let Some(key) = key else { return Ok(Standing::Solid) };
    let Some(record) = server.store().get(&key) else { return Ok(Standing::Absent) };
    let object = parse(&record)?;
    Ok(if metadata::text(&object, "uid") != owner.uid {
        Standing::Absent
    } else if metadata::is_terminating(&object)
        && metadata::finalizers(&object).contains(&FOREGROUND)
    {
        Standing::Waiting
    } else {
        Standing::Solid
    })
}

fn has_other_owner(server: &ApiServer, object: &Value, uid: &str) -> Result<bool, Refusal> {
    for owner in owners_of(server, object).iter().filter(|owner| owner.uid != uid) {
        if standing(server, owner)? == Standing::Solid {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Decides about an object that names owners.
async fn judge(
    server: &Arc<ApiServer>,
    graph: &Graph,
    record: &Record,
    object: Value,
) -> Result<(), Refusal> {
    let mut standings = Vec::new();
    for owner in owners_of(server, &object) {
        standings.push((standing(server, &owner)?, owner.uid));
    }
    let any = |wanted: Standing| standings.iter().any(|(standing, _)| *standing == wanted);
    if standings.is_empty() || !any(Standing::Waiting) && !any(Standing::Absent) {
        return Ok(());
    }
    if any(Standing::Solid) {
        let gone: Vec<String> = standings
            .into_iter()
            .filter(|(standing, _)| *standing != Standing::Solid)
            .map(|(_, uid)| uid)
            .collect();
        return disown(server, record, |owner| gone.contains(&owner.uid)).await;
    }
    let own = graph.dependents(metadata::text(&object, "uid")).next().is_some();
    let propagation = (any(Standing::Waiting) && own).then_some(Propagation::Foreground);
    remove(server, record, &object, propagation).await
}

/// Deletes an object as it was seen; somebody who changed it meanwhile is heard.
async fn remove(
    server: &Arc<ApiServer>,
    record: &Record,
    object: &Value,
    propagation: Option<Propagation>,
) -> Result<(), Refusal> {
    let deletion = Deletion {
        uid: Some(metadata::text(object, "uid").to_owned()),
        version: Some(record.version.to_string()),
        propagation,
        dry_run: false,
        cascades: false,
    };
    server.remove(&record.key, &deletion, Timestamp::now()).await.map(drop)
}

/// Takes owners away from an object.
async fn disown(
    server: &Arc<ApiServer>,
    record: &Record,
    gone: impl Fn(&Owner) -> bool,
) -> Result<(), Refusal> {
    let mut object = parse(record)?;
    let named = owners_of(server, &object);
    let meta = metadata::known(&mut object);
    if let Some(Value::Array(list)) = meta.get_mut("ownerReferences") {
        let mut kept = named.iter().map(|owner| !gone(owner));
        list.retain(|_| kept.next().unwrap_or(true));
        if list.is_empty() {
            meta.remove("ownerReferences");
        }
    }
    server.release(&record.key, record.version, &object).await
}

/// Takes a finalizer from an object, which goes if it was the last.
async fn release(
    server: &Arc<ApiServer>,
    record: &Record,
    mut object: Value,
    finalizer: &str,
) -> Result<(), Refusal> {
    let kept = metadata::finalizers(&object).into_iter().filter(|one| *one != finalizer);
    let kept = kept.map(str::to_owned).collect();
    metadata::set_finalizers(&mut object, kept);
    server.release(&record.key, record.version, &object).await
}

/// Deletes what is in a namespace; lets it go when nothing is left.
async fn empty(server: &Arc<ApiServer>, record: &Record, mut object: Value) -> Result<(), Refusal> {
    let name = record.key.name.as_str();
    let catalog = server.store().catalog();
    let namespaced = || catalog.iter().filter(|resource| resource.namespaced);
    let contents =
        |resource: &'static Resource| server.store().list(resource, Some(name), None, 0).records;
    let all: Vec<Arc<Record>> = namespaced().flat_map(contents).collect();
    stream::iter(all.into_iter().map(Ok))
        .try_for_each_concurrent(CONCURRENT, |content| async move {
            let deletion =
                Deletion { propagation: Some(Propagation::Background), ..Deletion::default() };
            match server.remove(&content.key, &deletion, Timestamp::now()).await {
                Ok(_) | Err(Refusal::NotFound(_)) => Ok(()),
                Err(refusal) => Err(refusal),
            }
        })
        .await?;
    if namespaced().any(|resource| !contents(resource).is_empty()) {
        // Something holds what is left; when it goes, it leads here again.
        return Ok(());
    }
    if let Some(Value::Array(list)) = object.pointer_mut("/spec/finalizers") {
        list.retain(|one| one != KUBERNETES);
    }
    server.release(&record.key, record.version, &object).await
}

/// Drops events that happened long ago.
pub(super) async fn drop_old_events(server: &Arc<ApiServer>) {
    let Some(resource) = server.store().catalog().of_kind("", "Event") else { return };
    let oldest = Timestamp::now() - EVENT_AGE;
    let records = server.store().list(resource, None, None, 0).records;
    let old = records.into_iter().filter_map(|record| {
        let object = parse(&record).ok()?;
        (last_time(&object)? < oldest).then_some((record, object))
    });
    stream::iter(old)
        .for_each_concurrent(CONCURRENT, |(record, object)| async move {
            // One that happened again meanwhile stays; any other comes up again in a minute.
            if let Err(refusal) = remove(server, &record, &object, None).await {
                tracing::debug!(%refusal, "an old event stays for now");
            }
        })
        .await;
}

/// When an event last happened.
fn last_time(event: &Value) -> Option<Timestamp> {
    let times =
        ["/metadata/creationTimestamp", "/lastTimestamp", "/eventTime", "/series/lastObservedTime"];
    let times = times.iter().filter_map(|pointer| event.pointer(pointer)?.as_str()?.parse().ok());
    times.max()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_event_is_as_old_as_its_last_time() {
        let event = json!({
            "metadata": {"creationTimestamp": "2026-01-01T00:00:00Z"},
            "lastTimestamp": "2026-01-01T02:00:00Z", "eventTime": null,
        });
        assert_eq!(last_time(&event), "2026-01-01T02:00:00Z".parse().ok());
        assert_eq!(last_time(&json!({})), None);
    }
}
