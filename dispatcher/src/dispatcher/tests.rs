//! A dispatcher between a store in memory and real HTTP servers on the loopback interface.

mod dead_letters;
mod delivery;
mod encryption;
mod fake_store;
mod isolation;
mod snapshots;
mod subscriber;
mod world;
