//! The reconcilers: they observe resources over `kube`, plan with pure functions, and apply; what the data plane should do
//! they publish as snapshots.
//!
//! Everything is level-based. Watches keep one [`World`]; any change of it leads, after a short pause, to a whole new
//! [`Plan`]. The plan is first put in force by the [`DataPlane`] and then told in the status of each object that says
//! something else; what changed is no input, so a missed event, a restart and a second replica all take the same path.
//!
//! - `kinds`, `world`: what is watched, and what is known.
//! - `plan`, `conditions`, `address`, `filter`: from what is known to what should be; pure.
//! - `status`, `notice`, `recorder`, `retry`, `debounce`: what is written, when, and how often; pure.
//! - `observe`, `write`, `bind`, `controller`: the thin shell that talks to the API server.
//! - [`leader`]: one controller of several.
//!
//! What this crate does not do: keep or deliver events, serve an API, or check what users write (admission does). It sets a
//! finalizer on those sources alone that make something elsewhere, as a web hook or variables in a Deployment, which has to be
//! removed before they go.

mod address;
mod bind;
mod conditions;
mod controller;
mod debounce;
mod filter;
mod kinds;
pub mod leader;
mod notice;
mod observe;
mod plan;
mod recorder;
mod retry;
mod status;
mod world;
mod write;

pub use controller::{Applied, Controller, DataPlane, Published};
pub use filter::{filter, filters};
pub use notice::Notice;
pub use plan::{Config, FINALIZER, InForce, Plan};
pub use world::{Refused, World};

#[cfg(test)]
mod tests;
