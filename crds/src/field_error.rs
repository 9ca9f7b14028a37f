//! What is wrong with a resource, in the words Knative's clients know.

use std::collections::BTreeMap;
use std::fmt::{self, Display};

/// More findings than this about one resource are not collected: a generated manifest can be wrong in every line, and
/// nobody reads past the first screens.
const MAX_ERRORS: usize = 256;

/// One finding: what is wrong, and the fields it is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldError {
    /// What is wrong, without the fields.
    pub message: String,
    /// The fields, as in `spec.filters[0].exact[type]`.
    pub paths: Vec<String>,
    /// More about it: the rule that was broken, or what to write instead.
    pub details: Option<String>,
}

impl FieldError {
    /// A finding in free words.
    #[must_use]
    pub fn new<P: Into<String>>(
        message: impl Into<String>,
        paths: impl IntoIterator<Item = P>,
    ) -> Self {
        Self {
            message: message.into(),
            paths: paths.into_iter().map(Into::into).collect(),
            details: None,
        }
    }

    /// A required field is absent or empty.
    #[must_use]
    pub fn missing(path: impl Into<String>) -> Self {
        Self::new("missing field(s)", [path.into()])
    }

    /// A field has a value that it cannot have.
    #[must_use]
    pub fn invalid(value: impl Display, path: impl Into<String>) -> Self {
        Self::new(format!("invalid value: {value}"), [path.into()])
    }

    /// A key of a map is malformed or unknown.
    #[must_use]
    pub fn invalid_key(key: &str, path: impl Into<String>) -> Self {
        Self::new(format!("invalid key name {key:?}"), [path.into()])
    }

    /// A field that must be absent here.
    #[must_use]
    pub fn disallowed(path: impl Into<String>) -> Self {
        Self::new("must not set the field(s)", [path.into()])
    }

    /// Several of a group of which only one may be set.
    #[must_use]
    pub fn multiple_one_of<P: Into<String>>(paths: impl IntoIterator<Item = P>) -> Self {
        Self::new("expected exactly one, got both", paths)
    }

    /// None of a group of which one must be set.
    #[must_use]
    pub fn missing_one_of<P: Into<String>>(paths: impl IntoIterator<Item = P>) -> Self {
        Self::new("expected exactly one, got neither", paths)
    }

    /// The same finding with an explanation.
    #[must_use]
    pub fn with_details(mut self, details: impl Into<String>) -> Self {
        self.details = Some(details.into());
        self
    }
}

impl Display for FieldError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.message, self.paths.join(", "))?;
        match &self.details {
            Some(details) => write!(f, "\n{details}"),
            None => Ok(()),
        }
    }
}

/// Everything that is wrong with one resource, in the order it was found.
///
/// `Display` renders what Knative's webhook answers: findings with the same message are merged, their fields and then the
/// findings sorted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FieldErrors {
    found: Vec<FieldError>,
}

impl FieldErrors {
    /// Nothing found yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a finding.
    pub fn push(&mut self, error: FieldError) {
        if self.found.len() < MAX_ERRORS {
            self.found.push(error);
        }
    }

    /// Adds the findings about something nested.
    pub fn also(&mut self, nested: Self) {
        for error in nested.found {
            self.push(error);
        }
    }

    /// The same findings seen from the parent, where this lies under `field`: a name, `[0]` or `[key]`.
    #[must_use]
    pub fn via(mut self, field: &str) -> Self {
        for error in &mut self.found {
            for path in &mut error.paths {
                *path = join(field, path);
            }
        }
        self
    }

    /// The same findings seen from the parent list, where this is item `index`.
    #[must_use]
    pub fn via_index(self, index: usize) -> Self {
        self.via(&format!("[{index}]"))
    }

    /// The same findings but those about `path` alone.
    #[must_use]
    pub fn without(mut self, path: &str) -> Self {
        self.found.retain(|error| error.paths != [path]);
        self
    }

    /// Whether nothing is wrong.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.found.is_empty()
    }

    /// The findings in the order they were found.
    pub fn iter(&self) -> impl Iterator<Item = &FieldError> {
        self.found.iter()
    }

    /// `Ok` if nothing is wrong.
    ///
    /// # Errors
    /// The findings, if there are any.
    pub fn into_result(self) -> Result<(), Self> {
        if self.is_empty() { Ok(()) } else { Err(self) }
    }

    /// Always false: the same resource is refused again.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        false
    }
}

impl From<FieldError> for FieldErrors {
    fn from(error: FieldError) -> Self {
        Self { found: vec![error] }
    }
}

impl Display for FieldErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut merged: BTreeMap<(&str, &str), Vec<&str>> = BTreeMap::new();
        for error in &self.found {
            let paths =
                merged.entry((&error.message, error.details.as_deref().unwrap_or(""))).or_default();
            paths.extend(error.paths.iter().map(String::as_str));
        }
        for (index, ((message, details), mut paths)) in merged.into_iter().enumerate() {
            paths.sort_unstable();
            paths.dedup();
            let separator = if index == 0 { "" } else { "\n" };
            write!(f, "{separator}{message}: {}", paths.join(", "))?;
            if !details.is_empty() {
                write!(f, "\n{details}")?;
            }
        }
        Ok(())
    }
}

impl std::error::Error for FieldErrors {}

/// What is wrong with a JSON text; its end too early is said as Go says it, which clients of Knative have seen.
#[must_use]
pub fn json_complaint(error: &serde_json::Error) -> String {
    if error.is_eof() { "unexpected end of JSON input".to_owned() } else { error.to_string() }
}

/// Puts a parent's name before a path. A path that starts with an index or a key follows without a dot, unless the key
/// itself holds a dot: that is how Knative prints it.
fn join(parent: &str, path: &str) -> String {
    let first = path.split('.').next().unwrap_or(path);
    if path.is_empty() {
        parent.to_owned()
    } else if first.starts_with('[') && first.ends_with(']') {
        format!("{parent}{path}")
    } else {
        format!("{parent}.{path}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_with_the_same_message_are_merged_and_sorted() {
        let mut errors = FieldErrors::new();
        errors.push(FieldError::missing("spec.sink.uri"));
        errors.push(FieldError::invalid("x", "spec.mode").with_details("say y"));
        errors.push(FieldError::missing("spec.broker"));
        errors.push(FieldError::missing("spec.broker"));
        assert_eq!(
            errors.to_string(),
            "invalid value: x: spec.mode\nsay y\nmissing field(s): spec.broker, spec.sink.uri"
        );
    }

    #[test]
    fn parents_join_fields_with_dots_and_indices_without() {
        let errors = FieldErrors::from(FieldError::new("bad", ["", "[My]", "[a.b]", "name"]));
        let errors = errors.via("exact").via_index(0).via("filters").via("spec");
        let paths = &errors.iter().next().unwrap().paths;
        assert_eq!(
            paths,
            &[
                "spec.filters[0].exact",
                "spec.filters[0].exact[My]",
                "spec.filters[0].exact.[a.b]",
                "spec.filters[0].exact.name"
            ]
        );
    }

    #[test]
    fn a_flood_of_errors_is_cut() {
        let mut errors = FieldErrors::new();
        for index in 0..10_000 {
            errors.push(FieldError::missing(format!("spec.a{index}")));
        }
        assert_eq!(errors.iter().count(), MAX_ERRORS);
    }
}
