//! The proof that the mesh works: the built binary, on free ports, with real subscribers. One file a promise.

mod harness;

mod bytes_in_bytes_out;
mod cluster;
mod commands;
mod configuration;
mod data_directory;
mod differential;
mod durable;
mod github;
mod hostile;
mod isolation;
mod kn;
mod kubectl;
mod manifests;
mod nothing_disappears;
mod ping;
mod readme;
mod reconcilers;
mod resources;
mod sinks;
mod sources;
mod stopping;
mod tidy;
mod triggers;
