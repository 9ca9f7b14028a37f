//! Why what arrived is no event.

use thiserror::Error;

use crate::builder::EventError;

/// Why a message could not be read as events. The sentence is meant for the sender.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ReadError {
    /// A media type of `CloudEvents` that this mesh does not read.
    #[error("content type {0:?} is not supported: use application/cloudevents+json, application/cloudevents-batch+json, or binary mode")]
    UnsupportedMediaType(String),
    /// No sign of an event.
    #[error("this is no CloudEvent: it has neither a ce-specversion header nor a content type of application/cloudevents+json")]
    NotAnEvent,
    /// A header's value is no text.
    #[error("the header {0:?} is not UTF-8")]
    HeaderText(String),
    /// The document is no JSON, or not of the right shape.
    #[error("the JSON is not valid: {0}")]
    Json(String),
    /// A member has a type it cannot have.
    #[error("the member {name:?} must be {expected}")]
    Member {
        /// Which.
        name: String,
        /// What it must be.
        expected: &'static str,
    },
    /// `data_base64` is not base64.
    #[error("data_base64 is not base64")]
    Base64,
    /// The attributes break a rule.
    #[error(transparent)]
    Attribute(#[from] EventError),
    /// One event of a batch is wrong.
    #[error("event {index} of the batch: {source}")]
    Batch {
        /// Which, from 0.
        index: usize,
        /// Why.
        source: Box<ReadError>,
    },
}

impl ReadError {
    /// Never: the sender has to change something.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        false
    }
}
