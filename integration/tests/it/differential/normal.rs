//! What remains of an answer when what must differ between two servers is taken out.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use crate::harness::servers::Answer;

/// An answer, fit for comparison.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Normal {
    pub(crate) status: u16,
    pub(crate) media: String,
    pub(crate) warnings: Vec<String>,
    pub(crate) body: Value,
}

/// Gives names to what a server makes up: by the order in which it shows them.
#[derive(Debug, Default)]
pub(crate) struct Names {
    /// Identities by the name of the object. Names are the same on both servers.
    uids: BTreeMap<String, Vec<String>>,
    /// Versions by identity.
    versions: BTreeMap<String, Vec<String>>,
}

impl Names {
    /// Forgets the objects of that name, of which the servers have shown different things.
    pub(crate) fn forget(&mut self, name: &str) {
        self.uids.remove(name);
    }

    pub(crate) fn answer(&mut self, answer: &Answer) -> Normal {
        let header = |name: &str| {
            let values = answer.headers.get_all(name).iter();
            values.filter_map(|value| value.to_str().ok()).map(str::to_owned).collect::<Vec<_>>()
        };
        let mut body = answer.body.clone();
        self.value(&mut body);
        let media = header("content-type").concat();
        let mut warnings = header("warning");
        warnings.sort();
        Normal { status: answer.status, media, warnings, body }
    }

    fn value(&mut self, value: &mut Value) {
        match value {
            Value::Array(items) => items.iter_mut().for_each(|item| self.value(item)),
            Value::Object(fields) => self.object(fields),
            Value::String(text) => *text = self.text(text),
            _ => {}
        }
    }

    fn object(&mut self, fields: &mut Map<String, Value>) {
        // What Go writes for nothing.
        fields.retain(|_, value| !value.is_null());
        if fields.get("kind").and_then(Value::as_str).is_some_and(|kind| kind.ends_with("List")) {
            fields.entry("items").or_insert_with(|| json!([]));
        }
        // Of a bookmark only the version counts.
        if fields.get("type").is_some_and(|kind| kind == "BOOKMARK")
            && let Some(Value::Object(object)) = fields.get_mut("object")
        {
            object.retain(|field, _| ["kind", "apiVersion", "metadata"].contains(&field.as_str()));
        }
        // Details of nothing.
        if fields.get("kind").is_some_and(|kind| kind == "Status")
            && fields.get("details").is_some_and(|details| *details == json!({}))
        {
            fields.remove("details");
        }
        // When a deletion was asked for is the server's own, and sometimes given to whoever applies next.
        fields.retain(|field, _| !field.starts_with("f:deletion"));
        // What is wrong with custom kinds may be told twice.
        if let Some(Value::Array(causes)) = fields.get_mut("causes") {
            causes.dedup();
            // Owners come in any order.
            if causes.iter().all(|cause| cause["reason"] == "FieldManagerConflict") {
                causes.sort_by_key(Value::to_string);
            }
        }
        let listed = ["items", "rows"].iter().any(|field| fields.contains_key(*field));
        if let Some(Value::Object(meta)) = fields.get_mut("metadata") {
            self.metadata(meta, listed);
        }
        let named = std::mem::take(fields).into_iter();
        *fields = named.map(|(key, value)| (self.text(&key), value)).collect();
        for (key, value) in fields.iter_mut() {
            match key.as_str() {
                "columnDefinitions" => columns(value),
                "cells" => cells(value),
                _ => {}
            }
            self.value(value);
        }
    }

    fn metadata(&mut self, meta: &mut Map<String, Value>, listed: bool) {
        let text =
            |field: &str| meta.get(field).and_then(Value::as_str).unwrap_or_default().to_owned();
        let uid = text("uid");
        // Generated names differ.
        let name = self.text(&text("name"));
        if is_uuid(&uid) {
            place(self.uids.entry(name).or_default(), &uid);
        }
        if let Some(Value::String(version)) = meta.get_mut("resourceVersion") {
            // A list's version is the server's, which counts what others write as well.
            *version = if listed || uid.is_empty() {
                "of the list".to_owned()
            } else {
                let versions = self.versions.entry(uid).or_default();
                format!("version {}", place(versions, version))
            };
        }
        for field in ["creationTimestamp", "deletionTimestamp"] {
            if let Some(time) = meta.get_mut(field).filter(|time| is_time(time)) {
                *time = "a time".into();
            }
        }
        match meta.get("continue").and_then(Value::as_str) {
            // The server for custom kinds says that there is none.
            Some("") => meta.remove("continue"),
            Some(_) => meta.insert("continue".to_owned(), "a token".into()),
            None => None,
        };
        if let Some(Value::Array(entries)) = meta.get_mut("managedFields") {
            // Rarely missing there.
            for entry in entries.iter_mut().filter_map(Value::as_object_mut) {
                entry.remove("time");
            }
            // They are sorted by time, of which each server has its own.
            entries.sort_by_key(|entry| {
                let text = |field: &str| entry[field].as_str().unwrap_or_default().to_owned();
                [text("manager"), text("operation"), text("subresource"), text("apiVersion")]
            });
        }
    }

    fn uid(&self, uid: &str) -> String {
        let known = self.uids.iter().find_map(|(name, uids)| {
            let place = uids.iter().position(|known| known == uid)?;
            Some(format!("uid {place} of {name}"))
        });
        known.unwrap_or_else(|| "a uid".to_owned())
    }

    /// Text in which identities and generated names are replaced.
    fn text(&self, text: &str) -> String {
        let mut words = Vec::new();
        for word in text.split_inclusive(|char: char| !char.is_ascii_alphanumeric() && char != '-')
        {
            let bare = word.trim_end_matches(|char: char| !char.is_ascii_alphanumeric());
            let rest = word.strip_prefix(bare).unwrap_or_default();
            if is_uuid(bare) {
                words.push(format!("{}{rest}", self.uid(bare)));
            } else if bare.starts_with("gen-") && bare.len() == 9 {
                words.push(format!("gen-*{rest}"));
            } else {
                words.push(word.to_owned());
            }
        }
        // A rule with two blanks, which are nobody's intention.
        let text = words.concat().replace(",  or", ", or");
        for start in
            ["ResourceVersion in precondition: ", "the ResourceVersion in the precondition ("]
        {
            if let Some((before, _)) = text.split_once(start) {
                return format!("{before}{start}…");
            }
        }
        text
    }
}

/// Where the word stands in the list, at whose end it is put if it is new.
fn place(list: &mut Vec<String>, word: &str) -> usize {
    list.iter().position(|known| known == word).unwrap_or_else(|| {
        list.push(word.to_owned());
        list.len() - 1
    })
}

fn is_time(value: &Value) -> bool {
    // What clients sent stays.
    let is = |text: &str| !text.starts_with("2020-") && text.parse::<jiff::Timestamp>().is_ok();
    value.as_str().is_some_and(is)
}

fn is_uuid(text: &str) -> bool {
    uuid::Uuid::try_parse(text).is_ok() && text.len() == 36
}

/// What a column means is said in each project's own words.
fn columns(value: &mut Value) {
    for column in value.as_array_mut().into_iter().flatten() {
        column["description"] = json!("words");
    }
}

/// Ages grow while the other server is asked.
fn cells(value: &mut Value) {
    for cell in value.as_array_mut().into_iter().flatten() {
        let is_age = cell.as_str().is_some_and(|text| {
            let digits = text.trim_end_matches(['s', 'm', 'h', 'd', 'y']);
            digits.len() < text.len()
                && digits.bytes().all(|byte| byte.is_ascii_alphanumeric())
                && digits.bytes().next().is_some_and(|byte| byte.is_ascii_digit())
        });
        if is_age || is_time(cell) {
            *cell = "an age".into();
        }
    }
}
