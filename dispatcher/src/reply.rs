//! What a 2xx answer means, and how an event a subscriber answered goes back into the broker.

use broker::ingress::{AdmitError, Arrival, TTL, accept};
use broker::store::{Outcome, Stage};
use broker_event::Event;
use broker_event::http as binding;
use http::HeaderMap;
use http::header::CONTENT_TYPE;

use crate::target::{Answer, Failure, bounded};

/// The extensions that are a place in a trace.
const TRACE: [&str; 2] = ["traceparent", "tracestate"];

/// The events in a 2xx answer: none when it is empty, an error when it holds something else.
///
/// Like Knative's brokers, every 2xx status may carry a reply, also 202.
pub(crate) fn read(answer: &Answer) -> Result<Vec<Event>, Failure> {
    if !speaks_of_an_event(&answer.headers) {
        if answer.body.is_empty() {
            return Ok(Vec::new());
        }
        let reason = format!("answered {} with a body that is not a CloudEvent", answer.status);
        return Err(refusal(answer, &reason));
    }
    if answer.body.is_empty() && !answer.headers.contains_key("ce-specversion") {
        return Ok(Vec::new()); // a framework that names the media type of the empty body
    }
    match binding::read(&answer.headers, answer.body.clone()) {
        Ok(received) => Ok(received.events),
        Err(error) => {
            let reason = format!("answered {} with a malformed CloudEvent: {error}", answer.status);
            Err(refusal(answer, &reason))
        }
    }
}

/// Makes `reply` an event of the broker that `stored` came from, as the ingress would: it goes on with the count of `stored`,
/// so that two triggers that answer each other come to an end, and in its trace, unless it brings one.
pub(crate) fn readmit(
    reply: &mut Event,
    stored: &Event,
    arrival: &Arrival,
) -> Result<(), AdmitError> {
    match stored.extension(TTL) {
        Some(left) => reply.set_extension(TTL, left.clone()),
        None => drop(reply.remove_extension(TTL)),
    }
    if reply.extension(TRACE[0]).is_none() {
        for name in TRACE {
            if let Some(value) = stored.extension(name) {
                reply.set_extension(name, value.clone());
            }
        }
    }
    accept(reply, arrival)
}

fn speaks_of_an_event(headers: &HeaderMap) -> bool {
    const STRUCTURED: &[u8] = b"application/cloudevents";
    let content_type = headers.get(CONTENT_TYPE).map_or(&b""[..], |value| value.as_bytes());
    headers.contains_key("ce-specversion")
        || content_type
            .get(..STRUCTURED.len())
            .is_some_and(|start| start.eq_ignore_ascii_case(STRUCTURED))
}

fn refusal(answer: &Answer, reason: &str) -> Failure {
    let kept = answer.body.len().min(Outcome::MAX_BODY);
    Failure {
        stage: Stage::Subscriber,
        status: answer.status.as_u16(),
        reason: bounded(reason),
        body: answer.body.get(..kept).unwrap_or_default().to_vec(),
        retryable: true,
        retry_after: None,
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use broker::ingress::ARRIVAL;
    use broker_event::{EventBuilder, Value};
    use bytes::Bytes;
    use http::{HeaderName, HeaderValue, StatusCode};

    use super::*;

    fn answer(headers: &[(&'static str, &'static str)], body: &'static str) -> Answer {
        let headers = headers
            .iter()
            .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)))
            .collect();
        Answer { status: StatusCode::ACCEPTED, headers, body: Bytes::from_static(body.as_bytes()) }
    }

    fn event(ttl: Option<Value>) -> Event {
        let mut event = EventBuilder::new("1", "/here", "made").build().unwrap();
        if let Some(ttl) = ttl {
            event.set_extension(TTL, ttl);
        }
        event
    }

    const BINARY: [(&str, &str); 4] =
        [("ce-specversion", "1.0"), ("ce-id", "r"), ("ce-source", "/fn"), ("ce-type", "answered")];

    #[test]
    fn an_empty_answer_is_no_reply() {
        assert_eq!(read(&answer(&[], "")).unwrap(), []);
        assert_eq!(read(&answer(&[("content-type", "text/plain")], "")).unwrap(), []);
        assert_eq!(
            read(&answer(&[("content-type", "application/cloudevents+json")], "")).unwrap(),
            []
        );
    }

    #[test]
    fn an_event_is_a_reply_with_any_status_and_without_data() {
        let events = read(&answer(&BINARY, "")).unwrap();
        assert_eq!(events.len(), 1);
        assert_eq!(events[0].ty(), "answered");
    }

    #[test]
    fn a_structured_reply_is_recognised_whatever_its_case() {
        let body = r#"{"specversion":"1.0","id":"r","source":"/fn","type":"answered","data":1}"#;
        let events =
            read(&answer(&[("content-type", "Application/CloudEvents+JSON; charset=utf-8")], body))
                .unwrap();
        assert_eq!(events[0].id(), "r");
    }

    #[test]
    fn a_body_that_is_no_event_is_a_failure_worth_retrying() {
        let failure =
            read(&answer(&[("content-type", "text/html")], "<html>\r\n</html>")).unwrap_err();
        assert!(failure.retryable);
        assert_eq!(failure.status, 202);
        assert_eq!(failure.body, b"<html>\r\n</html>");
        assert_eq!(failure.reason, "answered 202 Accepted with a body that is not a CloudEvent");
    }

    #[test]
    fn a_malformed_event_is_a_failure_that_says_what_is_wrong() {
        let failure = read(&answer(&BINARY[..2], "x")).unwrap_err();
        assert!(
            failure.retryable && failure.reason.contains("malformed CloudEvent: "),
            "{failure:?}"
        );
    }

    fn epoch() -> Arrival {
        Arrival::at(UNIX_EPOCH)
    }

    #[test]
    fn a_reply_inherits_the_count_less_one_and_gets_a_new_arrival_time() {
        let mut reply = event(Some(Value::Integer(9999)));
        reply.set_extension(ARRIVAL, Value::from("1999-01-01T00:00:00Z"));
        let arrival = Arrival::at(UNIX_EPOCH + Duration::from_secs(1));
        readmit(&mut reply, &event(Some(Value::Integer(17))), &arrival).unwrap();
        assert_eq!(reply.extension(TTL), Some(&Value::Integer(16)));
        assert_eq!(reply.extension(ARRIVAL), Some(&Value::from("1970-01-01T00:00:01Z")));
    }

    #[test]
    fn a_count_that_is_used_up_or_nonsense_ends_the_round() {
        for left in [
            Value::Integer(1),
            Value::Integer(0),
            Value::Integer(-5),
            Value::from("1"),
            Value::from("many"),
        ] {
            readmit(&mut event(None), &event(Some(left)), &epoch()).unwrap_err();
        }
        let mut reply = event(None);
        readmit(&mut reply, &event(Some(Value::from("3"))), &epoch()).unwrap();
        assert_eq!(reply.extension(TTL), Some(&Value::Integer(2)));
    }

    #[test]
    fn a_reply_goes_on_in_the_trace_unless_it_brings_its_own() {
        let trace =
            |event: &Event| TRACE.map(|name| event.extension(name).map(ToString::to_string));
        let mut stored = event(None);
        stored.set_extension(TRACE[0], Value::from("there"));
        stored.set_extension(TRACE[1], Value::from("a=1"));
        let mut reply = event(None);
        readmit(&mut reply, &stored, &epoch()).unwrap();
        assert_eq!(trace(&reply), trace(&stored));
        let mut reply = event(None);
        reply.set_extension(TRACE[0], Value::from("here"));
        readmit(&mut reply, &stored, &epoch()).unwrap();
        assert_eq!(trace(&reply), [Some("here".to_owned()), None]);
    }
}
