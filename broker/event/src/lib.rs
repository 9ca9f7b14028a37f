//! What an event is: context attributes and payload bytes, with the JSON and HTTP bindings of `CloudEvents`.
//!
//! No async, no sockets, no files. Payload bytes are never parsed and never re-encoded.

#![warn(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

mod builder;
mod error;
mod event;
pub mod http;
pub mod json;
pub mod record;

pub use builder::{EventBuilder, EventError};
pub use error::ReadError;
pub use event::{Attributes, Event, SpecVersion, Value, ValueRef};
