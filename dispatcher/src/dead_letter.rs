//! Why an event became a dead letter: the attributes it is sent with, and how that survives until the sink takes it.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use broker::store::{Outcome, Stage};
use broker_event::{Event, Value};

use crate::target::{Failure, bounded};

const DEST: &str = "knativeerrordest";
const CODE: &str = "knativeerrorcode";
const DATA: &str = "knativeerrordata";

/// The code of a call that got no answer, as Knative's default broker sets it.
const UNANSWERED: u16 = 500;
/// The code of a 2xx answer that was not usable, as Knative's filter reports it.
const UNUSABLE: u16 = 502;

/// Bytes of the subscriber's reason that an outcome keeps beside the sink's own, so that neither crowds the other out.
const MAX_PART: usize = 200;

/// The failure that ended the calls to the subscriber.
///
/// While the sink fails too, this travels in the outcome that the store keeps with the delivery, so a restart neither
/// asks the subscriber again nor forgets what it said: the body as it is, the rest in the text of the reason.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Cause {
    /// Attempts made when the subscriber was given up.
    attempts: u32,
    status: u16,
    reason: String,
    body: Vec<u8>,
    /// It was the reply that could not be stored.
    reply: bool,
}

impl Cause {
    /// The last answer of a subscriber after `attempts` attempts.
    pub(crate) fn new(attempts: u32, last: &Outcome) -> Self {
        Self {
            attempts,
            status: last.status,
            reason: last.reason.clone(),
            body: last.body.clone(),
            reply: last.stage == Stage::Reply,
        }
    }

    /// What the store remembers of a delivery whose dead letter sink failed.
    pub(crate) fn recover(attempts: u32, last: &Outcome) -> Self {
        parse(&last.reason).map_or_else(
            || Self {
                attempts,
                status: 0,
                reason: last.reason.clone(),
                body: last.body.clone(),
                reply: false,
            },
            |cause| Self { body: last.body.clone(), ..cause },
        )
    }

    /// Attempts made when the subscriber was given up.
    pub(crate) fn attempts(&self) -> u32 {
        self.attempts
    }

    /// What is recorded when the sink failed: both reasons, the sink's status, and the subscriber's body.
    pub(crate) fn failed_sink(&self, failure: &Failure) -> Failure {
        let reason = bounded(&format!("{}dead letter sink: {}", self.prefix(), failure.reason));
        Failure { reason, body: self.body.clone(), stage: Stage::DeadLetter, ..failure.clone() }
    }

    /// What is recorded when the sink took the event.
    pub(crate) fn taken(&self) -> String {
        bounded(&format!("{}taken by the dead letter sink", self.prefix()))
    }

    /// The event as the sink gets it. `subscriber` and `reply` are the addresses that may have failed.
    pub(crate) fn letter(&self, event: &Event, subscriber: &str, reply: &str) -> Event {
        let mut letter = event.clone();
        letter.set_extension(DEST, Value::from(if self.reply { reply } else { subscriber }));
        let code = match self.status {
            0 => UNANSWERED,
            200..=299 => UNUSABLE,
            status => status,
        };
        letter.set_extension(CODE, Value::Integer(i32::from(code)));
        // Cut before it is encoded: what arrives decodes, whatever the subscriber said and however long.
        let said = if self.body.is_empty() && (self.status == 0 || self.reply) {
            self.reason.as_bytes()
        } else {
            &self.body
        };
        let said = said.get(..said.len().min(Outcome::MAX_BODY)).unwrap_or_default();
        if said.is_empty() {
            letter.remove_extension(DATA); // an event that was a dead letter before must not keep that text
        } else {
            letter.set_extension(DATA, Value::from(STANDARD.encode(said)));
        }
        letter
    }

    fn prefix(&self) -> String {
        let whom = if self.reply { "reply" } else { "subscriber" };
        let mut cut = self.reason.len().min(MAX_PART);
        while !self.reason.is_char_boundary(cut) {
            cut -= 1;
        }
        let reason = self.reason.get(..cut).unwrap_or_default();
        format!("{whom} failed after attempt {} with {}: {reason}; ", self.attempts, self.status)
    }
}

/// Reads what [`Cause::prefix`] wrote.
fn parse(text: &str) -> Option<Cause> {
    let (whom, rest) = text.split_once(" failed after attempt ")?;
    let (attempts, rest) = rest.split_once(" with ")?;
    let (status, rest) = rest.split_once(": ")?;
    let end = rest.rfind("; dead letter sink: ").unwrap_or(rest.len());
    Some(Cause {
        attempts: attempts.parse().ok()?,
        status: status.parse().ok()?,
        reason: rest.get(..end)?.to_owned(),
        body: Vec::new(),
        reply: whom == "reply",
    })
}

#[cfg(test)]
mod tests {
    use broker_event::EventBuilder;
    use proptest::prelude::{any, proptest};

    use super::*;

    fn outcome(status: u16, reason: &str, body: &[u8]) -> Outcome {
        Outcome { status, reason: reason.to_owned(), body: body.to_vec(), ..Outcome::default() }
    }

    fn event() -> Event {
        EventBuilder::new("1", "/here", "made").build().unwrap()
    }

    fn text<'a>(event: &'a Event, name: &str) -> &'a str {
        match event.extension(name) {
            Some(Value::String(text)) => text,
            other => panic!("{name} is {other:?}"),
        }
    }

    fn failure(status: u16, reason: &str) -> Failure {
        Failure {
            stage: Stage::DeadLetter,
            status,
            reason: reason.to_owned(),
            body: b"the sink's".to_vec(),
            retryable: true,
            retry_after: None,
        }
    }

    #[test]
    fn a_letter_tells_who_failed_with_which_code_and_what_it_said() {
        let letter = Cause::new(3, &outcome(422, "422 Unprocessable Entity", b"no <good>\r\n"))
            .letter(&event(), "http://fn/", "http://broker/");
        assert_eq!(text(&letter, DEST), "http://fn/");
        assert_eq!(letter.extension(CODE), Some(&Value::Integer(422)));
        assert_eq!(STANDARD.decode(text(&letter, DATA)).unwrap(), b"no <good>\r\n");
    }

    #[test]
    fn a_subscriber_that_did_not_answer_counts_as_500_with_the_error_as_data() {
        let letter = Cause::new(1, &outcome(0, "connection refused", b"")).letter(
            &event(),
            "http://fn/",
            "",
        );
        assert_eq!(letter.extension(CODE), Some(&Value::Integer(500)));
        assert_eq!(STANDARD.decode(text(&letter, DATA)).unwrap(), b"connection refused");
    }

    #[test]
    fn a_body_is_cut_before_it_is_encoded() {
        for length in [0, 1, 767, 768, 769, 1023, 1024, 1025, 1 << 20] {
            let body: Vec<u8> = (0..=255).cycle().take(length).collect();
            let letter = Cause::new(1, &outcome(500, "", &body)).letter(&event(), "http://fn/", "");
            if length == 0 {
                assert_eq!(letter.extension(DATA), None);
                continue;
            }
            assert_eq!(STANDARD.decode(text(&letter, DATA)).unwrap(), body[..length.min(1024)]);
        }
    }

    #[test]
    fn an_answer_nobody_can_use_is_a_bad_gateway() {
        let letter = Cause::new(1, &outcome(200, "not a CloudEvent", b"hi")).letter(
            &event(),
            "http://fn/",
            "",
        );
        assert_eq!(letter.extension(CODE), Some(&Value::Integer(502)));
    }

    #[test]
    fn a_reply_that_could_not_be_stored_names_the_broker() {
        let refused = Outcome { stage: Stage::Reply, ..outcome(503, "full", b"") };
        let letter = Cause::new(2, &refused).letter(&event(), "http://fn/", "http://broker/");
        assert_eq!(text(&letter, DEST), "http://broker/");
        assert_eq!(STANDARD.decode(text(&letter, DATA)).unwrap(), b"full", "and says why");
    }

    #[test]
    fn both_reasons_survive_a_failing_sink() {
        let cause = Cause::new(4, &outcome(500, "500 Internal Server Error", b"the subscriber's"));
        let failed = cause.failed_sink(&failure(503, "503 Service Unavailable"));
        assert_eq!(failed.status, 503);
        assert!(
            failed.reason.contains("500 Internal") && failed.reason.contains("503 Service"),
            "{}",
            failed.reason
        );
        let kept = outcome(failed.status, &failed.reason, &failed.body);
        assert_eq!(Cause::recover(6, &kept), cause);
    }

    #[test]
    fn what_another_version_wrote_still_makes_a_letter() {
        let cause = Cause::recover(7, &outcome(503, "unknown words", b""));
        assert_eq!((cause.attempts, cause.status), (7, 0));
    }

    proptest! {
        #[test]
        fn any_cause_comes_back_from_the_store(attempts: u32, status in 0_u16..1000, reason in any::<String>(), reply: bool) {
            let stage = if reply { Stage::Reply } else { Stage::Subscriber };
            let first = Outcome { stage, ..outcome(status, &bounded(&reason), b"x") };
            let cause = Cause::new(attempts, &first);
            let failed = cause.failed_sink(&failure(0, "unreachable"));
            assert!(failed.reason.len() <= Outcome::MAX_REASON);
            let back = Cause::recover(0, &outcome(0, &failed.reason, &failed.body));
            assert_eq!((back.attempts, back.status, back.reply), (attempts, status, reply));
            assert!(first.reason.starts_with(&back.reason));
        }
    }
}
