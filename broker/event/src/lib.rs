//! What an event is: context attributes and payload bytes, with the JSON and HTTP bindings of `CloudEvents`.
//!
//! No async, no sockets, no files. Payload bytes are never parsed on the way through and never re-encoded:
//! [`http::read`] keeps the body it is given, [`json::read`] keeps the slice of the document that holds `data`,
//! and [`record::decode`] keeps slices of the record.
//!
//! Whatever builds an [`Event`] from outside (the parsers and [`EventBuilder`]) checks it, so the writers cannot fail.

#![warn(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

mod builder;
mod check;
mod error;
mod event;
pub mod http;
pub mod json;
mod media;
pub mod record;
#[cfg(feature = "sdk")]
pub mod sdk;

pub use builder::{EventBuilder, MAX_EXTENSION_NAME, MAX_EXTENSIONS};
pub use error::{EventError, ReadError};
pub use event::{Attributes, Event, SpecVersion, Value, ValueRef};
