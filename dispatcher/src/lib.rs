//! From stored event to answered delivery.
//!
//! A [`Dispatcher`] is handed a [`Snapshot`] of brokers and triggers and keeps one worker a trigger: it takes deliveries
//! from the store, posts them to the subscriber, stores the reply, retries, and turns to the dead letter sink or
//! parks the event when nothing else helps.
//!
//! What this crate does not do: keep events (the store does), read resources or Kubernetes (whoever makes the snapshot
//! does), follow redirects, or give up an event on its own account.
//!
//! - [`filter`]: which trigger wants which event; pure.
//! - `retry`: what is worth another attempt and when; pure.
//! - `client`, `tls`: connections.
//! - `target`, `reply`, `dead_letter`: one call, what its answer means, what is sent when all calls failed.
//! - `attempt`, `lanes`, `worker`: one delivery, order by key, one trigger.
//! - `dispatcher`: from snapshot to workers.

pub mod filter;

mod attempt;
mod client;
mod clock;
mod course;
mod dead_letter;
mod dispatcher;
mod lanes;
mod metrics;
mod reply;
mod retry;
mod target;
mod tls;
mod trigger;
mod worker;

pub use client::{AnswerBody, ClientError, ExchangeError, HttpClient, Malformed};
pub use dispatcher::{ApplyError, Dispatcher, DispatcherConfig, Problem};
pub use retry::{JITTER, MAX_BACKOFF};
pub use target::TargetError;
pub use tls::Clients;
pub use trigger::{
    Backoff, Broker, DEFAULT_PARALLELISM, DEFAULT_TIMEOUT, DeliveryPolicy, Format, Snapshot,
    Target, Trigger,
};
