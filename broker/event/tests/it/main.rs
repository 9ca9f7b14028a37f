//! The crate seen from outside: generated events, Knative's measured answers, the official SDK.

#![expect(
    clippy::unwrap_used,
    reason = "helpers of tests, which the lint does not tell from other code here"
)]

mod differential;
mod events;
mod ingress;
mod roundtrip;
