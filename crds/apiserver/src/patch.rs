//! The ways to change an object without sending the whole of it: JSON patch, merge patch, server-side apply.
//!
//! Pure: time is an argument, nothing is stored. Work and growth are bounded, because a patch of a few kilobytes can ask for
//! gigabytes.

use std::fmt;

use serde_json::Value;

pub mod apply;
mod operations;

pub use operations::json;

/// Why a patch could not be applied.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PatchError {
    /// The patch is not one: status 400.
    #[error("{0}")]
    Invalid(String),
    /// The patch does not fit the object, such as a JSON patch whose `test` fails: status 422.
    #[error("{0}")]
    Unprocessable(String),
    /// A server-side apply would overwrite what others own: status 409, one cause a conflict.
    #[error("{}", Conflicts(.0))]
    Conflict(Vec<FieldConflict>),
    /// More operations, work or growth than one request may ask for: status 413.
    #[error("the patch has too many operations or makes too large an object")]
    TooLarge,
}

impl PatchError {
    /// Whether the same patch may succeed later: a test may hold then, and an owner may let go. The caller decides
    /// whether to ask again; a server does not.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        matches!(self, Self::Unprocessable(_) | Self::Conflict(_))
    }
}

/// A field that an apply would change and another manager owns. A `Status` shows each as a cause of type
/// `FieldManagerConflict`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct FieldConflict {
    /// The owner as Kubernetes prints it: `"kubectl" using v1`, `"ops" with subresource "status"`.
    pub owner: String,
    /// The field, as in `.spec.broker` or `.metadata.ownerReferences[uid="…"]`: `field` of the cause.
    pub field: String,
}

impl FieldConflict {
    /// What the `message` of the cause says.
    #[must_use]
    pub fn message(&self) -> String {
        format!("conflict with {}", self.owner)
    }
}

/// Prints conflicts as kube-apiserver does: one in a line, more as a list by owner.
struct Conflicts<'a>(&'a [FieldConflict]);

impl fmt::Display for Conflicts<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let [only] = self.0 {
            return write!(
                f,
                "Apply failed with 1 conflict: conflict with {}: {}",
                only.owner, only.field
            );
        }
        let mut sorted: Vec<&FieldConflict> = self.0.iter().collect();
        // Of one owner in the order in which they were found.
        sorted.sort_by(|one, other| one.owner.cmp(&other.owner));
        write!(f, "Apply failed with {} conflicts: ", sorted.len())?;
        let mut owner = None;
        for conflict in sorted {
            if owner != Some(&conflict.owner) {
                let break_before = if owner.is_some() { "\n" } else { "" };
                write!(f, "{break_before}conflicts with {}:", conflict.owner)?;
                owner = Some(&conflict.owner);
            }
            write!(f, "\n- {}", conflict.field)?;
        }
        Ok(())
    }
}

/// Applies a merge patch (RFC 7396): objects are merged, `null` removes, anything else replaces.
#[must_use]
pub fn merge(object: &Value, patch: &Value) -> Value {
    let mut merged = object.clone();
    json_patch::merge(&mut merged, patch);
    merged
}

#[cfg(test)]
mod tests;
