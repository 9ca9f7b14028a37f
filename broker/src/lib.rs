//! Takes events in, keeps them, hands them out. Knows no Kubernetes, no filter and no retry policy.

pub mod ingress;
pub mod inspect;
mod metrics;
mod respond;
pub mod server;
pub mod store;
