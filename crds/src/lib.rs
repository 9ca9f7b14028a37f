//! The resource types of the mesh: what a user may write, what is filled in, what is refused and with which words.
//!
//! The kinds, their defaults and the wording of their refusals are Knative's, so that manifests and habits carry over.
//! What is Weft's own is an annotation under `weft.dev/`. Nothing here talks to anything: every function is pure.
//!
//! Kinds of sources and sinks are declared elsewhere: [`source`] and [`sink`] have what all of them share, and a
//! [`resource::Catalog`] joins them with the kinds of this crate.

pub mod admission;
pub mod annotation;
pub mod broker;
pub mod broker_defaults;
pub mod ce_overrides;
pub mod condition;
pub mod config_map;
pub mod cron;
pub mod custom_resource_definition;
pub mod delivery;
pub mod destination;
pub mod event;
pub mod field_error;
pub mod iso_duration;
pub mod label_selector;
pub mod lease;
pub mod manifest;
pub mod meta;
pub mod name;
pub mod namespace;
pub mod object;
pub mod ping_defaults;
pub mod quantity;
pub mod resource;
pub mod secret;
pub mod secret_ref;
pub mod service_account;
pub mod sink;
pub mod sink_binding;
pub mod source;
pub mod trigger;

pub use field_error::{FieldError, FieldErrors};
pub use object::Object;
