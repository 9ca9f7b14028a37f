//! The one place where the API listener's refusals become statuses.

use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use broker::store::StoreError;
use serde::Serialize;

/// Why a request was not served.
#[derive(Debug, thiserror::Error)]
pub(super) enum Refusal {
    #[error("starting: not everything is in force yet")]
    Starting,
    #[error("{0}")]
    Unhealthy(String),
    #[error("requests from web pages are refused here")]
    ForeignOrigin,
    #[error("say which parked letters: trigger, id, offset, or all=true")]
    NothingNamed,
    #[error(
        "{0:?} is no starting point: use now, earliest, a time such as 2026-11-24T08:00:00Z, or an offset"
    )]
    BadStart(String),
    #[error("{0}")]
    BadFilter(String),
    #[error(
        "no kept event has the id {0:?}; what every trigger has settled is kept only for a while"
    )]
    NoSuchEvent(String),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("{0}")]
    Failed(String),
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let status = match &self {
            Self::Starting | Self::Unhealthy(_) => StatusCode::SERVICE_UNAVAILABLE,
            Self::ForeignOrigin => StatusCode::FORBIDDEN,
            Self::NothingNamed | Self::BadStart(_) | Self::BadFilter(_) => StatusCode::BAD_REQUEST,
            Self::NoSuchEvent(_) => StatusCode::NOT_FOUND,
            Self::Store(StoreError::UnknownTopic(_) | StoreError::UnknownSubscription(_)) => {
                StatusCode::NOT_FOUND
            }
            Self::Store(StoreError::Held(_)) => StatusCode::CONFLICT,
            Self::Store(StoreError::Closed) => StatusCode::SERVICE_UNAVAILABLE,
            Self::Store(StoreError::Failed(_)) | Self::Failed(_) => {
                StatusCode::INTERNAL_SERVER_ERROR
            }
        };
        (status, format!("{self}\n")).into_response()
    }
}

/// A JSON answer.
pub(super) fn json(value: &impl Serialize) -> Response {
    match serde_json::to_vec(value) {
        Ok(body) => ([(header::CONTENT_TYPE, "application/json")], body).into_response(),
        Err(error) => Refusal::Failed(error.to_string()).into_response(),
    }
}
