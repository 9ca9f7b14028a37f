//! Takes events in, keeps them, hands them out. Knows no Kubernetes, no filter and no retry policy.

pub mod inspect;
pub mod store;
