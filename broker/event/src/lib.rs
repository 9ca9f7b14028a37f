//! What an event is: context attributes and payload bytes, with the JSON and HTTP bindings of `CloudEvents`.
//!
//! No async, no sockets, no files. Payload bytes are never parsed and never re-encoded.

mod event;

pub use event::{Attributes, Event, SpecVersion, Value, ValueRef};
