//! JSON patch (RFC 6902), with bounds on what one patch may cost.

use std::io;

use json_patch::jsonptr::Pointer;
use json_patch::{Patch, PatchOperation};
use serde_json::Value;

use super::PatchError;

/// Kubernetes' bound on the operations of one patch.
const MAX_OPERATIONS: usize = 10_000;
/// Kubernetes' bound on a request, which copies may not exceed together and the result not either: an object that could not
/// be sent must not come into being by patching.
const MAX_BYTES: usize = 3 * 1024 * 1024;
/// Parsers stop at a nesting of about 128, and a list or a watch event wraps the object a few levels deeper. Without this
/// bound, copies of an object into itself would nest deeper than a thread's stack can free.
const MAX_DEPTH: usize = 100;
/// Values that all operations together may visit or shift within arrays: some tenths of a second. A hundred times what a
/// patch of full size against an array of a thousand elements takes for a hundred operations.
const MAX_WORK: usize = 1 << 24;

/// Applies a JSON patch.
///
/// # Errors
/// When the patch is malformed, does not fit the object, or asks for too much.
pub fn json(object: &Value, patch: &Value) -> Result<Value, PatchError> {
    let Value::Array(operations) = patch else {
        return Err(PatchError::Invalid("a JSON patch is a list of operations".into()));
    };
    if operations.len() > MAX_OPERATIONS {
        return Err(PatchError::TooLarge);
    }
    let operations: Patch = serde_json::from_value(patch.clone())
        .map_err(|error| PatchError::Invalid(format!("decode the JSON patch: {error}")))?;
    let mut patched = object.clone();
    let mut budget = Budget { copied: 0, work: 0 };
    for (index, operation) in operations.0.iter().enumerate() {
        budget.allow(&patched, operation)?;
        json_patch::patch_unsafe(&mut patched, std::slice::from_ref(operation)).map_err(
            |error| {
                PatchError::Unprocessable(format!(
                    "operation {index} of the JSON patch, at {:?}: {}",
                    operation.path().as_str(),
                    error.kind
                ))
            },
        )?;
    }
    if exceeds(&patched, MAX_BYTES) {
        return Err(PatchError::TooLarge);
    }
    Ok(patched)
}

/// What the operations so far have used.
struct Budget {
    copied: usize,
    work: usize,
}

impl Budget {
    /// Says whether an operation may run. One that cannot succeed may: running it tells why.
    fn allow(&mut self, object: &Value, operation: &PatchOperation) -> Result<(), PatchError> {
        match operation {
            PatchOperation::Add(add) => {
                self.shift(object, &add.path)?;
                self.place(&add.path, &add.value)?;
            }
            PatchOperation::Replace(replace) => {
                self.place(&replace.path, &replace.value)?;
            }
            PatchOperation::Remove(remove) => self.shift(object, &remove.path)?,
            PatchOperation::Move(op) => {
                self.shift(object, &op.from)?;
                self.shift(object, &op.path)?;
                if let Some(source) = object.pointer(op.from.as_str()) {
                    self.place(&op.path, source)?;
                }
            }
            PatchOperation::Copy(op) => {
                self.shift(object, &op.path)?;
                if let Some(source) = object.pointer(op.from.as_str()) {
                    self.copied = self.copied.saturating_add(self.place(&op.path, source)?);
                    if self.copied > MAX_BYTES {
                        return Err(PatchError::TooLarge);
                    }
                }
            }
            PatchOperation::Test(test) => {
                self.measure(&test.value, 0)?;
            }
        }
        Ok(())
    }

    /// Accounts for the elements of an array that move up or down when one at `path` comes or goes.
    fn shift(&mut self, object: &Value, path: &Pointer) -> Result<(), PatchError> {
        let parent = path.split_back().and_then(|(parent, _)| object.pointer(parent.as_str()));
        let moved = parent.and_then(Value::as_array).map_or(0, Vec::len);
        self.spend(moved)
    }

    /// Accounts for `value` at `path` and answers its size as JSON, roughly.
    fn place(&mut self, path: &Pointer, value: &Value) -> Result<usize, PatchError> {
        let depth = path.as_str().bytes().filter(|byte| *byte == b'/').count();
        self.measure(value, depth)
    }

    fn measure(&mut self, value: &Value, depth: usize) -> Result<usize, PatchError> {
        self.spend(1)?;
        if depth > MAX_DEPTH {
            return Err(PatchError::Invalid(format!(
                "the JSON patch nests values deeper than {MAX_DEPTH} levels"
            )));
        }
        let mut size = 2_usize;
        match value {
            Value::String(text) => size += text.len(),
            Value::Array(items) => {
                for item in items {
                    size = size.saturating_add(self.measure(item, depth + 1)?);
                }
            }
            Value::Object(fields) => {
                for (name, field) in fields {
                    let inner = self.measure(field, depth + 1)?;
                    size = size.saturating_add(name.len() + 2).saturating_add(inner);
                }
            }
            Value::Null | Value::Bool(_) | Value::Number(_) => {}
        }
        Ok(size)
    }

    fn spend(&mut self, work: usize) -> Result<(), PatchError> {
        self.work = self.work.saturating_add(work);
        if self.work > MAX_WORK { Err(PatchError::TooLarge) } else { Ok(()) }
    }
}

/// Whether the JSON of a value has more than `bytes` bytes; stops counting there.
fn exceeds(value: &Value, bytes: usize) -> bool {
    serde_json::to_writer(Limit { left: bytes }, value).is_err()
}

/// Takes a number of bytes and forgets them.
struct Limit {
    left: usize,
}

impl io::Write for Limit {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.left = self.left.checked_sub(bytes.len()).ok_or(io::ErrorKind::FileTooLarge)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
