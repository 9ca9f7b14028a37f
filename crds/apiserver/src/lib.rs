//! A Kubernetes-style API for one process: what `kubectl`, `kn` and client libraries speak, kept in one redb file.
//!
//! It serves the kinds of a [`crds::resource::Catalog`] and knows nothing of what they mean: admission is `crds`' too. Every
//! write is on disk before it is answered. It listens nowhere: it is a router that its owner puts behind a listener or a
//! client.

mod admission;
mod garbage;
pub mod patch;
pub mod select;
pub mod server;
mod status;
pub mod store;
pub mod table;
