//! Text to documents, whether it is YAML or JSON.

use serde::de::DeserializeOwned;

use super::node::{Fault, Node, Position};
use super::{json, yaml};
use crate::object::{self, DecodeError};

/// Reads every document and hands it on. As with kubectl, a text that starts with a brace is JSON if it can be.
pub(super) fn documents(text: &str, take: &mut dyn FnMut(Node)) -> Result<(), Fault> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    refuse_control_characters(text)?;
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

/// Neither YAML nor JSON may hold them, and the parser takes the first NUL for the end of the file.
fn refuse_control_characters(text: &str) -> Result<(), Fault> {
    let forbidden =
        |byte: u8| byte < b' ' && !matches!(byte, b'\t' | b'\n' | b'\r') || byte == 0x7f;
    let Some(offset) = text.bytes().position(forbidden) else { return Ok(()) };
    let before = text.get(..offset).unwrap_or_default();
    let code = text.as_bytes().get(offset).copied().unwrap_or_default();
    Err(Fault::new(
        Position::after(before),
        format!("the character U+{code:04X} cannot be in a file"),
    ))
}

/// Reads a text that stands in a field: one document of one type.
///
/// # Errors
/// Sentences that start with the line and column in the text.
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
    let read = object::decode(&node.to_value(), &mut unknown);
    let errors = read.as_ref().err().into_iter().flatten();
    let mut mistakes: Vec<String> = errors
        .map(|error| match error {
            DecodeError::WrongType { path, expected } if path.is_empty() => told(node.at, expected),
            DecodeError::WrongType { path, expected } => {
                told(node.locate(path), &format!("{path}: {expected}"))
            }
            other => told(node.at, &other.to_string()),
        })
        .collect();
    let unknown = unknown.iter();
    mistakes.extend(unknown.map(|path| told(node.locate(path), &format!("{path}: unknown field"))));
    match read {
        Ok(read) if mistakes.is_empty() => Ok(read),
        _ => Err(mistakes.join("\n")),
    }
}
