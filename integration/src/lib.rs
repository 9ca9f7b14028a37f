//! The only package that sees everything: it assembles the mesh and gives it a command line.
//!
//! What an event is, how it is kept, routed and delivered is decided elsewhere; here the parts are wired.

pub mod access;
pub mod admin;
pub mod api;
pub mod checkpoints;
pub mod cli;
pub mod client;
pub mod clock;
pub mod commands;
pub mod config;
pub mod emit;
pub mod endpoints;
pub mod file;
pub mod listen;
pub mod output;
pub mod parking;
pub mod resources;
pub mod scheduling;
pub mod stop;
pub mod telemetry;
pub mod view;
pub mod wire;
