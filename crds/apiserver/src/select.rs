//! Selectors: which objects of a list or a watch a client asks for. Kubernetes' grammar and its words for what is wrong.

use std::fmt;

use crds::resource::Resource;
use serde_json::Value;

mod fields;
mod labels;

/// The longest selector that is read: what fits in a request line. Each requirement is asked of every object.
const MAX_BYTES: usize = 64 * 1024;

/// Why a text is no selector: status 400.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SelectError {
    /// It is not written as one.
    #[error("{0}")]
    Malformed(String),
    /// It asks for a field by which the kind cannot be selected.
    #[error("{0}")]
    Unsupported(String),
    /// It is longer than a request line may be.
    #[error("a selector cannot be longer than {MAX_BYTES} bytes")]
    TooLong,
}

impl SelectError {
    /// Never: the text stays what it is.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        false
    }
}

/// A selection by labels, as in `app=shop,tier notin (a, b),!legacy`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Labels {
    requirements: Vec<labels::Requirement>,
}

impl Labels {
    /// Reads a selector; the empty one selects everything.
    ///
    /// # Errors
    /// When it is not written as one.
    pub fn parse(text: &str) -> Result<Self, SelectError> {
        if text.len() > MAX_BYTES {
            return Err(SelectError::TooLong);
        }
        let mut requirements = labels::parse(text).map_err(SelectError::Malformed)?;
        requirements.sort_by(|a, b| a.key.cmp(&b.key));
        Ok(Self { requirements })
    }

    /// Whether it selects everything.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.requirements.is_empty()
    }

    /// Whether it selects an object, by `metadata.labels`.
    #[must_use]
    pub fn matches(&self, object: &Value) -> bool {
        let labels = object.get("metadata").and_then(|metadata| metadata.get("labels"));
        self.requirements.iter().all(|requirement| {
            let value = labels.and_then(|labels| labels.get(&requirement.key));
            requirement.matches(value.and_then(Value::as_str))
        })
    }
}

impl fmt::Display for Labels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_list(f, &self.requirements)
    }
}

/// A selection by fields, as in `metadata.name=orders,status.phase!=Active`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Fields {
    terms: Vec<fields::Term>,
}

impl Fields {
    /// Reads a selector for a kind; the empty one selects everything.
    ///
    /// # Errors
    /// When it is not written as one, or names a field by which the kind cannot be selected.
    pub fn parse(text: &str, resource: &Resource) -> Result<Self, SelectError> {
        if text.len() > MAX_BYTES {
            return Err(SelectError::TooLong);
        }
        let terms = fields::parse(text).map_err(SelectError::Malformed)?;
        for term in &terms {
            fields::supported(&term.field, resource).map_err(SelectError::Unsupported)?;
        }
        Ok(Self { terms })
    }

    /// Whether it selects everything.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.terms.is_empty()
    }

    /// Whether it selects an object. An absent field counts as an empty one.
    #[must_use]
    pub fn matches(&self, object: &Value) -> bool {
        self.terms.iter().all(|term| term.matches(object))
    }

    /// The value that a field must have, when the selector says so: a name makes a list a single lookup.
    #[must_use]
    pub fn exact(&self, field: &str) -> Option<&str> {
        let term = self.terms.iter().find(|term| term.equal && term.field == field)?;
        Some(&term.value)
    }
}

impl fmt::Display for Fields {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_list(f, &self.terms)
    }
}

fn write_list<T: fmt::Display>(f: &mut fmt::Formatter<'_>, parts: &[T]) -> fmt::Result {
    for (index, part) in parts.iter().enumerate() {
        let comma = if index > 0 { "," } else { "" };
        write!(f, "{comma}{part}")?;
    }
    Ok(())
}

#[cfg(test)]
mod tests;
