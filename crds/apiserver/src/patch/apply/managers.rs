//! `metadata.managedFields`: who owns what, since when.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde_json::{Map as Fields, Value, json};

use super::set::Set;
use super::shape::Shape;
use super::{Writer, fields};

/// The kept entries of managers that wrote without applying: Kubernetes' number. Beyond it the oldest become one.
const MAX_UPDATE_ENTRIES: usize = 10;
/// The manager of the entry that the oldest become.
const ANCIENT: &str = "ancient-changes";

/// What tells entries apart.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Id {
    /// The name.
    pub(super) manager: String,
    /// Whether the entry is of applying, rather than of other writes.
    pub(super) applies: bool,
    /// Empty when it applies: whatever the version, there is one such entry.
    api_version: String,
    /// As in `status`; empty for the object.
    subresource: String,
}

/// What a manager owns.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    /// The version in which it wrote.
    pub(super) api_version: String,
    /// The fields.
    pub(super) set: Set,
    /// When it last changed something, RFC 3339.
    pub(super) time: Option<String>,
}

/// All entries of an object.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Managers {
    pub(super) entries: BTreeMap<Id, Entry>,
}

impl Id {
    pub(super) fn new(writer: &Writer<'_>, applies: bool) -> Self {
        // What Kubernetes calls a client that does not say its name.
        let manager = if writer.manager.is_empty() { "unknown" } else { writer.manager };
        Self {
            manager: manager.to_owned(),
            applies,
            api_version: if applies { String::new() } else { writer.api_version.to_owned() },
            subresource: writer.subresource.to_owned(),
        }
    }

    /// As conflicts name an owner.
    pub(super) fn describe(&self) -> String {
        let mut text = format!("{:?}", self.manager);
        if !self.subresource.is_empty() {
            text += &format!(" with subresource {:?}", self.subresource);
        }
        if !self.applies {
            text += &format!(" using {}", self.api_version);
        }
        text
    }
}

impl Managers {
    /// Reads `managedFields`; an absent list has no entries.
    pub(super) fn decode(value: Option<&Value>) -> Result<Self, String> {
        let mut managers = Self::default();
        let entries = match value {
            None | Some(Value::Null) => return Ok(managers),
            Some(Value::Array(entries)) => entries,
            Some(_) => return Err("managedFields is a list".into()),
        };
        for (position, value) in entries.iter().enumerate() {
            let (id, entry) = decode_entry(value)
                .map_err(|why| format!("managed fields entry {position}: {why}"))?;
            managers.entries.insert(id, entry);
        }
        Ok(managers)
    }

    /// As `managedFields`; nothing when there are no entries.
    pub(super) fn encode(&self) -> Option<Value> {
        let mut entries: Vec<(&Id, &Entry)> = self.entries.iter().collect();
        entries.sort_by_key(|(id, entry)| {
            (
                !id.applies,
                seconds(entry.time.as_deref()),
                id.manager.as_str(),
                entry.api_version.as_str(),
                id.subresource.as_str(),
            )
        });
        let encoded: Vec<Value> =
            entries.into_iter().map(|(id, entry)| encode_entry(id, entry)).collect();
        (!encoded.is_empty()).then_some(Value::Array(encoded))
    }

    pub(super) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    pub(super) fn reconcile(&mut self, shape: Shape<'_>) {
        for entry in self.entries.values_mut() {
            entry.set = fields::reconciled(shape, &entry.set);
        }
    }

    pub(super) fn drop_empty(&mut self) {
        self.entries.retain(|_, entry| !entry.set.is_empty());
    }

    /// Everything that anybody owns.
    pub(super) fn owned(&self) -> Set {
        let mut all = Set::default();
        for entry in self.entries.values() {
            all.absorb(entry.set.clone());
        }
        all
    }

    /// Merges the oldest entries that are not of applying, by version, until there are few enough.
    pub(super) fn cap(&mut self) {
        let mut updates: Vec<(i64, Id)> = self
            .entries
            .iter()
            .filter(|(id, _)| !id.applies)
            .map(|(id, entry)| (seconds(entry.time.as_deref()), id.clone()))
            .collect();
        updates.sort();
        let mut left = updates.len();
        let mut firsts: BTreeMap<String, Id> = BTreeMap::new();
        for (_, id) in updates {
            if left <= MAX_UPDATE_ENTRIES {
                break;
            }
            let version = id.api_version.clone();
            let Some(first) = firsts.get(&version) else {
                firsts.insert(version, id);
                continue;
            };
            let bucket = Id {
                manager: ANCIENT.to_owned(),
                applies: false,
                api_version: version,
                subresource: String::new(),
            };
            if !self.entries.contains_key(&bucket)
                && let Some(entry) = self.entries.remove(first)
            {
                self.entries.insert(bucket.clone(), entry);
            }
            if id == bucket {
                continue;
            }
            if let Some(merged) = self.entries.remove(&id)
                && let Some(entry) = self.entries.get_mut(&bucket)
            {
                entry.set.absorb(merged.set);
                entry.time = merged.time;
                left -= 1;
            }
        }
    }
}

/// For sorting only: entries without a time, or with one that is none, are the oldest.
fn seconds(time: Option<&str>) -> i64 {
    time.and_then(|time| time.parse::<Timestamp>().ok()).map_or(0, Timestamp::as_second)
}

fn decode_entry(value: &Value) -> Result<(Id, Entry), String> {
    let text = |name: &str| value.get(name).and_then(Value::as_str).unwrap_or("").to_owned();
    let applies = match text("operation").as_str() {
        "Apply" => true,
        "Update" => false,
        _ => return Err("operation must be `Apply` or `Update`".into()),
    };
    let api_version = text("apiVersion");
    if api_version.is_empty() {
        return Err("apiVersion must not be empty".into());
    }
    match text("fieldsType").as_str() {
        "FieldsV1" => {}
        "" => return Err("missing fieldsType".into()),
        other => return Err(format!("invalid fieldsType {other:?}")),
    }
    let time = match value.get("time") {
        None | Some(Value::Null) => None,
        Some(Value::String(time)) if time.parse::<Timestamp>().is_ok() => Some(time.clone()),
        Some(_) => return Err("time must be RFC 3339".into()),
    };
    let set = match value.get("fieldsV1") {
        None | Some(Value::Null) => Set::default(),
        Some(fields) => Set::decode(fields)?,
    };
    let id = Id {
        manager: text("manager"),
        applies,
        api_version: if applies { String::new() } else { api_version.clone() },
        subresource: text("subresource"),
    };
    Ok((id, Entry { api_version, set, time }))
}

fn encode_entry(id: &Id, entry: &Entry) -> Value {
    let mut fields = Fields::new();
    let mut set = |name: &str, value: Value| fields.insert(name.to_owned(), value);
    if !id.manager.is_empty() {
        set("manager", json!(id.manager));
    }
    set("operation", json!(if id.applies { "Apply" } else { "Update" }));
    set("apiVersion", json!(entry.api_version));
    if let Some(time) = &entry.time {
        set("time", json!(time));
    }
    set("fieldsType", json!("FieldsV1"));
    set("fieldsV1", entry.set.encode());
    if !id.subresource.is_empty() {
        set("subresource", json!(id.subresource));
    }
    Value::Object(fields)
}
