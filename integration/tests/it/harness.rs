//! What the tests speak through: a mesh, subscribers, requests, patience.

pub(crate) mod eventually;
pub(crate) mod mesh;
pub(crate) mod request;
pub(crate) mod servers;
pub(crate) mod services;
pub(crate) mod subscriber;
