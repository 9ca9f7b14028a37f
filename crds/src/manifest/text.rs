//! Text to documents, whether it is YAML or JSON.

use serde::de::DeserializeOwned;

use super::node::{Fault, Node, Position};
use super::{json, yaml};
use crate::object::{self, DecodeError};

/// Reads every document and hands it on. As with kubectl, a text that starts with a brace is JSON if it can be.
pub(super) fn documents(text: &str, take: &mut dyn FnMut(Node)) -> Result<(), Fault> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let Some(object) = text.trim_start().strip_prefix('{') else {
        return yaml::read(text, take);
    };
    let not_json = match json::read(text) {
        Ok(documents) => {
            documents.into_iter().for_each(take);
            return Ok(());
        }
        Err(fault) => fault,
    };
    // The mistakes of what is meant to be JSON are told as such.
    let meant = object.trim_start().starts_with('"');
    let mut documents = Vec::new();
    let read = yaml::read(text, &mut |node| documents.push(node));
    match read {
        Err(_) if meant => Err(not_json),
        read => {
            documents.into_iter().for_each(take);
            read
        }
    }
}

/// Reads a text that stands in a field: one document of one type.
///
/// # Errors
/// A sentence that starts with the line and column in the text.
pub(crate) fn read<T: DeserializeOwned>(text: &str) -> Result<T, String> {
    let told = |at: Position, message: &str| format!("{}:{}: {message}", at.line, at.column);
    let mut found = None;
    let mut more = None;
    let mut take = |node: Node| {
        if found.is_some() {
            more.get_or_insert(node.at);
        } else {
            found = Some(node);
        }
    };
    documents(text, &mut take).map_err(|fault| told(fault.at, &fault.message))?;
    let Some(node) = found else { return Err(told(Position::START, "nothing is written here")) };
    if let Some(at) = more {
        return Err(told(at, "one document is expected"));
    }
    let mut unknown = Vec::new();
    let read = object::decode(&node.to_value(), &mut unknown).map_err(|error| match error {
        DecodeError::WrongType { path, expected } if path.is_empty() => told(node.at, &expected),
        DecodeError::WrongType { path, expected } => {
            told(node.locate(&path), &format!("{path}: {expected}"))
        }
        other => told(node.at, &other.to_string()),
    })?;
    match unknown.first() {
        Some(path) => Err(told(node.locate(path), &format!("{path}: unknown field"))),
        None => Ok(read),
    }
}
