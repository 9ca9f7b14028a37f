//! The API as clients see it: requests against the router, over a store in a temporary directory.

#![expect(clippy::unwrap_used, clippy::panic, reason = "what surprises a test ends it")]

mod admitting;
mod deleting;
mod discovering;
mod harness;
mod limits;
mod patching;
mod reading;
mod scaling;
#[path = "../../../tests/kinds/tick.rs"]
mod tick;
mod watching;
mod writing;
