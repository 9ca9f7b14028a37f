//! The JSON format of `CloudEvents`, 1.0 and 0.3: one event an object, a batch an array of them.
//!
//! Reading keeps `data` as the slice of the document it stands in. Nothing here recurses,
//! so a document nested a million deep costs what its length costs.

mod read;
mod write;

pub(crate) use read::decode_base64;
pub use read::{read, read_batch};
pub use write::{write, write_batch};

#[cfg(test)]
mod tests;
