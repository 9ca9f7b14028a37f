//! From an answer of Prometheus to events. Pure.

use broker_event::{Event, EventBuilder, EventError};
use bytes::Bytes;
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::value::RawValue;
use sha2::{Digest, Sha256};
use thiserror::Error;
use uuid::Builder;

use super::spec::Wishes;
use crate::source::About;

/// The type of the events.
pub(super) const TYPE: &str = "dev.knative.prometheus.promql";

/// What an event is about: a tick, and the part of its range if that was too long for one query.
#[derive(Clone, Copy, Debug)]
pub(super) struct Moment {
    /// The tick.
    pub(super) tick: Timestamp,
    /// Which part, from 0.
    pub(super) part: usize,
}

/// An answer that is none.
#[derive(Debug, Error)]
pub(super) enum NotAnswer {
    /// It is not an answer of Prometheus' API.
    #[error("it does not answer as Prometheus does")]
    Form(#[source] serde_json::Error),
    /// It says that it is none.
    #[error("it answers with status {0:?}")]
    Status(String),
    /// No event can be made of it.
    #[error("an answer cannot be an event")]
    Event(#[from] EventError),
}

/// An answer, as the API writes it.
#[derive(Deserialize)]
struct Written<'a> {
    status: String,
    #[serde(borrow)]
    data: Option<Data<'a>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Data<'a> {
    result_type: String,
    #[serde(borrow)]
    result: &'a RawValue,
}

#[derive(Deserialize)]
struct Series<'a> {
    #[serde(borrow)]
    metric: &'a RawValue,
}

/// The events of an answer: one, or one of each series.
///
/// # Errors
/// When it is no answer.
pub(super) fn events(
    answer: &Bytes,
    about: &About,
    moment: Moment,
    wishes: Wishes,
) -> Result<Vec<Event>, NotAnswer> {
    let written: Written<'_> = serde_json::from_slice(answer).map_err(NotAnswer::Form)?;
    let Some(data) = written.data.filter(|_| written.status == "success") else {
        return Err(NotAnswer::Status(written.status.chars().take(100).collect()));
    };
    let is_list = matches!(data.result_type.as_str(), "vector" | "matrix");
    let series: Vec<&RawValue> = if is_list && (wishes.per_series || wishes.skip_empty) {
        serde_json::from_str(data.result.get()).map_err(NotAnswer::Form)?
    } else {
        Vec::new()
    };
    if is_list && wishes.skip_empty && series.is_empty() {
        return Ok(Vec::new());
    }
    if !is_list || !wishes.per_series {
        return Ok(vec![event(about, moment, None, answer.clone())?]);
    }
    series.into_iter().map(|one| of_series(about, moment, &data.result_type, one)).collect()
}

/// The event of one series: an answer that has only that one.
fn of_series(
    about: &About,
    moment: Moment,
    result_type: &str,
    one: &RawValue,
) -> Result<Event, NotAnswer> {
    let labels: Series<'_> = serde_json::from_str(one.get()).map_err(NotAnswer::Form)?;
    let (before, after) = (
        format!(r#"{{"status":"success","data":{{"resultType":"{result_type}","result":["#),
        "]}}",
    );
    let data = [before.as_str(), one.get(), after].concat();
    Ok(event(about, moment, Some(labels.metric.get()), data.into())?)
}

fn event(
    about: &About,
    moment: Moment,
    labels: Option<&str>,
    data: Bytes,
) -> Result<Event, EventError> {
    let tick = moment.tick.to_string();
    let part = moment.part.to_string();
    let mut parts = vec![&*about.namespace, &*about.name, &tick, &part];
    parts.extend(labels);
    EventBuilder::new(stable_id(&parts), source(about), TYPE)
        .time(tick)
        .data_content_type("application/json")
        .data(data)
        .build()
}

/// The events' `source`.
pub(super) fn source(about: &About) -> String {
    format!("{}/{}", about.namespace, about.name)
}

/// A UUID that depends on `parts` alone, so that what is sent twice (after a crash or a timeout) has the same `id` twice.
pub(super) fn stable_id(parts: &[&str]) -> String {
    let mut hash = Sha256::new();
    for part in parts {
        // Their lengths keep "a", "bc" and "ab", "c" apart.
        hash.update(u64::try_from(part.len()).unwrap_or(u64::MAX).to_be_bytes());
        hash.update(part.as_bytes());
    }
    let mut bytes = [0; 16];
    bytes.iter_mut().zip(hash.finalize()).for_each(|(to, from)| *to = from);
    Builder::from_custom_bytes(bytes).into_uuid().to_string()
}

#[cfg(test)]
mod tests {
    use super::{Moment, NotAnswer, events};
    use crate::prometheus::spec::Wishes;
    use crate::source::fake::about;
    use broker_event::Event;
    use std::collections::HashSet;

    const UP: &str = r#"{"status":"success","data":{"resultType":"vector","result":[{"metric":{"job":"a"},"value":[1,"1"]},{"metric":{"job":"b"}, "value":[1,"0"]}]}}"#;
    const NONE: &str = r#"{"status":"success","data":{"resultType":"matrix","result":[]}}"#;
    const SCALAR: &str = r#"{"status":"success","data":{"resultType":"scalar","result":[1,"2"]}}"#;
    const PER_SERIES: Wishes = Wishes { per_series: true, skip_empty: false };
    const SKIP_EMPTY: Wishes = Wishes { per_series: false, skip_empty: true };

    fn moment(second: i64, part: usize) -> Moment {
        Moment { tick: jiff::Timestamp::from_second(second).unwrap(), part }
    }

    fn read(answer: &'static str, wishes: Wishes) -> Vec<Event> {
        events(&answer.into(), &about(), moment(60, 0), wishes).unwrap()
    }

    #[test]
    fn an_answer_is_an_event_with_the_attributes_of_knatives() {
        let event = read(UP, Wishes::default()).remove(0);
        assert_eq!(event.ty(), "dev.knative.prometheus.promql");
        assert_eq!(event.source(), "default/one");
        assert_eq!(event.data_content_type(), Some("application/json"));
        assert_eq!(event.data().unwrap(), UP);
        assert_eq!(event.time(), Some("1970-01-01T00:01:00Z"));
        assert_eq!(event.subject(), None);
        assert!(uuid::Uuid::parse_str(event.id()).is_ok());
    }

    #[test]
    fn ids_depend_on_the_tick_the_part_and_the_series_alone() {
        let id = |moment, wishes| {
            let events = events(&UP.into(), &about(), moment, wishes).unwrap();
            events.into_iter().map(|event| event.id().to_owned()).collect::<Vec<_>>()
        };
        let plain = Wishes::default();
        assert_eq!(id(moment(60, 0), plain), id(moment(60, 0), plain));
        let all: Vec<String> = [
            id(moment(60, 0), plain),
            id(moment(120, 0), plain),
            id(moment(60, 1), plain),
            id(moment(60, 0), PER_SERIES),
        ]
        .concat();
        assert_eq!(all.iter().collect::<HashSet<_>>().len(), 5);
    }

    #[test]
    fn each_series_is_an_answer_by_itself() {
        let events = read(UP, PER_SERIES);
        let data: Vec<&[u8]> = events.iter().map(|event| &**event.data().unwrap()).collect();
        assert_eq!(
            data[1],
            br#"{"status":"success","data":{"resultType":"vector","result":[{"metric":{"job":"b"}, "value":[1,"0"]}]}}"#
        );
        assert_eq!(data.len(), 2);
        assert_eq!(read(SCALAR, PER_SERIES)[0].data().unwrap(), SCALAR);
        assert!(read(NONE, PER_SERIES).is_empty());
    }

    #[test]
    fn an_empty_answer_is_an_event_unless_that_is_not_wanted() {
        assert_eq!(read(NONE, Wishes::default()).len(), 1);
        assert!(read(NONE, SKIP_EMPTY).is_empty());
        assert_eq!(read(UP, SKIP_EMPTY).len(), 1);
        assert_eq!(read(SCALAR, SKIP_EMPTY).len(), 1);
    }

    #[test]
    fn what_is_no_answer_is_no_event() {
        for answer in [
            "",
            "<html>",
            "[]",
            r#"{"status":"success","data":{"resultType":"vector","result":7}}"#,
        ] {
            let read = events(&answer.into(), &about(), moment(0, 0), PER_SERIES);
            assert!(matches!(read, Err(NotAnswer::Form(_))), "{answer}");
        }
        let error = r#"{"status":"error","errorType":"internal","error":"x"}"#;
        let read = events(&error.into(), &about(), moment(0, 0), PER_SERIES);
        assert!(matches!(read, Err(NotAnswer::Status(status)) if status == "error"));
    }
}
