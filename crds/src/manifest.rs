//! Manifest files: YAML or JSON text in, objects with defaults out, or every mistake with its file, line and field.
//!
//! Files are untrusted. What they may hold is bounded: see [`MAX_FILE_BYTES`], [`MAX_DOCUMENT_CHARS`], [`MAX_NODES`] and
//! [`MAX_DEPTH`]. YAML is read as Kubernetes reads it: a `yes` or a `1.10` without quotes is no string, `<<` merges,
//! duplicate keys are refused, and null is the same as absent.

mod json;
mod node;
mod scalar;
pub(crate) mod text;
mod yaml;

use std::collections::HashMap;
use std::fmt::{self, Display};
use std::sync::Arc;

use serde_json::Value;

use crate::broker_defaults::{self, BrokerDefaults, BrokerDefaultsError};
use crate::config_map::ConfigMap;
use crate::meta::ObjectMeta;
use crate::object::{DecodeError, Key, Object, Rules};
use crate::ping_defaults::{self, PingDefaults};
use crate::resource::InFiles;
use crate::{FieldError, FieldErrors};

use node::{Content, Fault, Node, Position};

/// A file may have this many bytes: ten times what ten thousand Triggers take.
pub const MAX_FILE_BYTES: usize = 32 * 1024 * 1024;
/// A document may have this many characters, counting again what aliases repeat: what a Kubernetes API server takes in a
/// request.
pub const MAX_DOCUMENT_CHARS: usize = 3 * 1024 * 1024;
/// A document may have this many values, counting again what aliases repeat: they must not grow without bound.
pub const MAX_NODES: usize = 100_000;
/// Values may be nested this deep: resources need a dozen levels, filters within filters a few more.
pub const MAX_DEPTH: usize = 64;
/// Mistakes past this many are counted, not listed: nobody reads on.
const MAX_ERRORS: usize = 100;

/// The fields of a List; its metadata says nothing about what is in it.
const LIST_FIELDS: [&str; 4] = ["apiVersion", "kind", "metadata", "items"];

/// A file to load.
#[derive(Clone, Copy, Debug)]
pub struct File<'a> {
    /// How messages call it.
    pub name: &'a str,
    /// What is in it.
    pub text: &'a str,
}

/// An object and where it was written.
#[derive(Debug)]
pub struct Located {
    /// The object, with defaults.
    pub object: Object,
    /// What was written, without a status.
    pub written: Value,
    /// The place of its first line.
    pub place: Place,
}

/// A place in a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The file, as it was called.
    pub file: Arc<str>,
    /// The line, from 1.
    pub line: u32,
    /// The column in characters, from 1.
    pub column: u32,
}

impl Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_printable(f, &self.file)?;
        write!(f, ":{}:{}", self.line, self.column)
    }
}

/// One mistake in a file. It prints as `FILE:LINE:COL: FIELD: message`, on one line whatever the file holds.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct ManifestError {
    /// Where it is; the nearest place that exists if a field is missing.
    pub place: Place,
    /// The field, as in `spec.filters[0].exact[type]`; empty if it is about the document.
    pub field: String,
    /// The rule that is broken.
    pub message: String,
}

impl Display for ManifestError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.place)?;
        if !self.field.is_empty() {
            write_printable(f, &self.field)?;
            f.write_str(": ")?;
        }
        write_printable(f, &self.message)
    }
}

/// Every mistake in a set of files, in their order.
#[derive(Clone, Debug, Default, PartialEq, Eq, thiserror::Error)]
pub struct ManifestErrors {
    listed: Vec<ManifestError>,
    unlisted: usize,
}

impl ManifestErrors {
    /// The mistakes that are listed.
    pub fn iter(&self) -> impl Iterator<Item = &ManifestError> {
        self.listed.iter()
    }

    /// Always false: the files must change first.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        false
    }

    fn push(&mut self, error: ManifestError) {
        if self.listed.len() < MAX_ERRORS {
            self.listed.push(error);
        } else {
            self.unlisted += 1;
        }
    }
}

impl Display for ManifestErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, error) in self.listed.iter().enumerate() {
            write!(f, "{}{error}", if index == 0 { "" } else { "\n" })?;
        }
        match self.unlisted {
            0 => Ok(()),
            more => write!(f, "\nand {more} more"),
        }
    }
}

/// Writes text so that it stays on its line and sends no commands to a terminal.
fn write_printable(f: &mut fmt::Formatter<'_>, text: &str) -> fmt::Result {
    for char in text.chars() {
        match char {
            '\n' => f.write_str("; ")?,
            char if char.is_control()
                || matches!(char, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}') =>
            {
                write!(f, "{}", char.escape_default())?;
            }
            char => write!(f, "{char}")?,
        }
    }
    Ok(())
}

/// Reads a text of one YAML or JSON document as it is: any value, unchecked.
///
/// # Errors
/// A sentence that starts with the line and column in the text.
pub fn value(text: &str) -> Result<Value, String> {
    let mut found = Vec::new();
    text::documents(text, &mut |node| found.push(node.to_value()))
        .map_err(|fault| format!("{}:{}: {}", fault.at.line, fault.at.column, fault.message))?;
    match found.len() {
        0 => Err("1:1: there is no document".to_owned()),
        1 => Ok(found.remove(0)),
        _ => Err("1:1: one document is expected, not several".to_owned()),
    }
}

/// Loads files: reads objects of the kinds of `rules.catalog`, fills in defaults, validates, and refuses an object that is
/// there twice.
///
/// A `ConfigMap` named `config-br-defaults` among them decides what Brokers get, and one named `config-ping-defaults`
/// what `PingSources` are held to, in place of what `rules` say.
///
/// # Errors
/// Every mistake that was found.
pub fn load(files: &[File<'_>], rules: &Rules<'_>) -> Result<Vec<Located>, ManifestErrors> {
    let mut loader = Loader {
        rules: *rules,
        objects: Vec::new(),
        waiting: Vec::new(),
        errors: ManifestErrors::default(),
    };
    for file in files {
        loader.file(*file);
    }
    let defaults = loader.broker_defaults();
    loader.rules.broker_defaults = defaults.as_ref().unwrap_or(rules.broker_defaults);
    loader.rules.ping_defaults = loader.ping_defaults().unwrap_or(rules.ping_defaults);
    for (index, node) in std::mem::take(&mut loader.waiting) {
        loader.check(index, &node);
    }
    loader.refuse_duplicates();
    if loader.errors.listed.is_empty() {
        Ok(loader.objects.into_iter().map(|loaded| loaded.located).collect())
    } else {
        let order: HashMap<&str, usize> =
            files.iter().enumerate().map(|(index, file)| (file.name, index)).collect();
        let listed = &mut loader.errors.listed;
        listed.sort_by_key(|error| {
            (order.get(&*error.place.file).copied(), error.place.line, error.place.column)
        });
        Err(loader.errors)
    }
}

struct Loader<'r> {
    rules: Rules<'r>,
    objects: Vec<Loaded>,
    /// Objects of [`InFiles::Configured`] kinds, which wait until all files were read. Nodes of other objects are let go at
    /// once.
    waiting: Vec<(usize, Node)>,
    errors: ManifestErrors,
}

struct Loaded {
    located: Located,
    /// What stands before its fields: `items[3]` for an object in a List.
    prefix: String,
    /// Where the mesh's configuration is, if it is a `ConfigMap` that has it.
    defaults_at: Position,
}

impl Loader<'_> {
    fn file(&mut self, file: File<'_>) {
        let name: Arc<str> = file.name.into();
        let fault = if file.text.len() > MAX_FILE_BYTES {
            Err(Fault::new(Position::START, format!("a file may have {MAX_FILE_BYTES} bytes")))
        } else {
            text::documents(file.text, &mut |node| self.document(&name, node))
        };
        if let Err(fault) = fault {
            self.fault(&name, fault);
        }
    }

    fn document(&mut self, file: &Arc<str>, mut node: Node) {
        if !node.is_list_of_objects(self.rules.catalog) {
            self.object(file, node, String::new());
            return;
        }
        for (key, at) in node.fields_but(&LIST_FIELDS) {
            self.fault(file, Fault { field: key, ..Fault::new(at, "unknown field") });
        }
        match node.take("items").map(|items| (items.at, items.content)) {
            Some((_, Content::List(items))) => {
                for (index, item) in items.into_iter().enumerate() {
                    let prefix = format!("items[{index}]");
                    if item.is_list_of_objects(self.rules.catalog) {
                        let fault = Fault {
                            field: prefix,
                            ..Fault::new(item.at, "a List cannot hold a List")
                        };
                        self.fault(file, fault);
                    } else {
                        self.object(file, item, prefix);
                    }
                }
            }
            Some((_, Content::Null)) | None => {}
            Some((at, _)) => {
                self.fault(
                    file,
                    Fault { field: "items".to_owned(), ..Fault::new(at, "must be a list") },
                );
            }
        }
    }

    fn object(&mut self, file: &Arc<str>, node: Node, prefix: String) {
        let mut value = node.to_value();
        // A status in a file is what some cluster once said; the controllers write their own.
        if let Value::Object(map) = &mut value {
            map.remove("status");
        }
        let object = match Object::from_value(&value, self.rules.catalog) {
            Ok(object) => object,
            Err(error) => {
                for fault in decode_faults(error, &node) {
                    self.fault(file, fault.under(&prefix));
                }
                return;
            }
        };
        let Position { line, column } = node.at;
        let place = Place { file: Arc::clone(file), line, column };
        let defaults_at = node.locate(&configuration(&object));
        let index = self.objects.len();
        let waits = object.resource().in_files == InFiles::Configured;
        self.objects.push(Loaded {
            located: Located { object, written: value, place },
            prefix,
            defaults_at,
        });
        if waits {
            self.waiting.push((index, node));
        } else {
            self.check(index, &node);
        }
    }

    /// Fills in defaults and validates.
    fn check(&mut self, index: usize, node: &Node) {
        let Some(loaded) = self.objects.get_mut(index) else { return };
        let object = &mut loaded.located.object;
        object.defaults(&self.rules);
        let mut found = object.validate(&self.rules);
        let metadata = object.metadata();
        if metadata.name.is_empty() && !metadata.generate_name.is_empty() {
            found.push(
                FieldError::missing("metadata.name")
                    .with_details("objects in a file need names of their own"),
            );
        }
        let (file, prefix) = (Arc::clone(&loaded.located.place.file), loaded.prefix.clone());
        for fault in field_faults(&found, node) {
            self.fault(&file, fault.under(&prefix));
        }
    }

    /// The defaults for Brokers that the files bring along.
    fn broker_defaults(&mut self) -> Option<BrokerDefaults> {
        self.configured(broker_defaults::NAME, |map| match BrokerDefaults::read(map) {
            Ok(defaults) => Ok(defaults),
            Err(BrokerDefaultsError::Malformed(message)) => Err((broker_defaults::KEY, message)),
            Err(BrokerDefaultsError::Invalid(errors)) => {
                Err((broker_defaults::KEY, errors.to_string()))
            }
        })
    }

    /// What the files hold `PingSources` to.
    fn ping_defaults(&mut self) -> Option<PingDefaults> {
        self.configured(ping_defaults::NAME, |map| {
            PingDefaults::read(map).map_err(|error| (error.key, error.to_string()))
        })
    }

    /// Reads the `ConfigMap` of that name in Knative's namespace, if the files have it. A mistake is a key and a message.
    fn configured<T>(
        &mut self,
        name: &str,
        read: impl Fn(&ConfigMap) -> Result<T, (&'static str, String)>,
    ) -> Option<T> {
        let (loaded, map) = self.objects.iter().find_map(|loaded| {
            let map = loaded.located.object.downcast_ref::<ConfigMap>()?;
            let ObjectMeta { name: named, namespace, .. } = &map.metadata;
            (named == name && namespace == broker_defaults::NAMESPACE).then_some((loaded, map))
        })?;
        let (key, message) = match read(map) {
            Ok(read) => return Some(read),
            Err(mistake) => mistake,
        };
        let fault =
            Fault { field: format!("data[{key}]"), ..Fault::new(loaded.defaults_at, message) };
        let (file, fault) = (Arc::clone(&loaded.located.place.file), fault.under(&loaded.prefix));
        self.fault(&file, fault);
        None
    }

    fn refuse_duplicates(&mut self) {
        let mut first: HashMap<Key, &Loaded> = HashMap::with_capacity(self.objects.len());
        let mut errors = Vec::new();
        for loaded in &self.objects {
            let key = loaded.located.object.key();
            if key.name.is_empty() {
                continue;
            }
            let message = match first.get(&key) {
                Some(earlier) => format!("{key} is there already, at {}", earlier.located.place),
                None => {
                    first.insert(key, loaded);
                    continue;
                }
            };
            errors.push(ManifestError {
                place: loaded.located.place.clone(),
                field: loaded.prefix.clone(),
                message,
            });
        }
        errors.into_iter().for_each(|error| self.errors.push(error));
    }

    fn fault(&mut self, file: &Arc<str>, fault: Fault) {
        let Position { line, column } = fault.at;
        let place = Place { file: Arc::clone(file), line, column };
        self.errors.push(ManifestError { place, field: fault.field, message: fault.message });
    }
}

/// The field that configures the mesh, where an object may have one.
fn configuration(object: &Object) -> String {
    let key = if object.metadata().name == ping_defaults::NAME {
        ping_defaults::KEY
    } else {
        broker_defaults::KEY
    };
    format!("data[{key}]")
}

/// The places of what is wrong with the shape of an object.
fn decode_faults(error: DecodeError, node: &Node) -> Vec<Fault> {
    let fault = |field: String, message: String| Fault { at: node.locate(&field), field, message };
    match error {
        DecodeError::UnknownFields { paths, .. } => {
            paths.into_iter().map(|path| fault(path, "unknown field".to_owned())).collect()
        }
        DecodeError::WrongType { path, expected } => vec![fault(path, expected)],
        DecodeError::Unnamed { field } => {
            vec![fault(field.to_owned(), "missing field(s)".to_owned())]
        }
        DecodeError::Unsupported { .. } => vec![fault("kind".to_owned(), error.to_string())],
        DecodeError::Several(errors) => {
            errors.into_iter().flat_map(|error| decode_faults(error, node)).collect()
        }
    }
}

/// The places of what validation found.
fn field_faults(found: &FieldErrors, node: &Node) -> Vec<Fault> {
    let place = |error: &FieldError| {
        // Of several fields, the one that is there says best where to look.
        let existing = error.paths.iter().find(|path| node.has(path)).or(error.paths.first());
        let message = match &error.details {
            Some(details) => format!("{}; {details}", error.message),
            None => error.message.clone(),
        };
        let at = existing.map_or(node.at, |path| node.locate(path));
        Fault { at, field: error.paths.join(", "), message }
    };
    found.iter().map(place).collect()
}

#[cfg(test)]
mod tests;
