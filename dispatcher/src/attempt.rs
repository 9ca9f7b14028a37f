//! One attempt at one delivery, from the filter's last word to the settlement.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use broker::ingress::Arrival;
use broker::store::{AppendError, Delivery, Outcome, Stage};
use broker_event::Event;
use http::StatusCode;
use tokio::time::Instant;
use tracing::{debug, warn};

use crate::clock;
use crate::course::Course;
use crate::dead_letter::Cause;
use crate::reply;
use crate::retry::{Class, MAX_WAIT, classify, wait};
use crate::target::{Answer, Failure, bounded};

/// What is left to do after an attempt.
#[derive(Debug)]
pub(crate) enum After {
    /// Nothing: the store knows how it ended.
    Settled,
    /// The delivery keeps its place in its lane and is tried again after the wait.
    Wait(Delivery, Duration),
}

/// Which calls a delivery is due for.
#[derive(Debug, PartialEq, Eq)]
enum Phase {
    Subscriber,
    DeadLetter(Cause),
}

/// Makes one attempt. Dropping the future gives the delivery back untried.
pub(crate) async fn attempt(course: Arc<Course>, mut delivery: Delivery) -> After {
    let course = &*course;
    if !course.trigger.filter.matches(&delivery.event) {
        course.metrics.unwanted.inc();
        delivery.ack(None);
        return After::Settled;
    }
    let _in_flight = course.metrics.begin();
    let cause =
        match phase(delivery.attempts, delivery.last.as_ref(), course.trigger.delivery.retry) {
            Phase::DeadLetter(cause) => cause,
            Phase::Subscriber if age_left(course, &delivery) == Some(Duration::ZERO) => {
                return expire(course, delivery);
            }
            Phase::Subscriber => match to_subscriber(course, &mut delivery).await {
                Verdict::Delivered(outcome) => {
                    delivery.ack(Some(outcome));
                    return After::Settled;
                }
                Verdict::Again(outcome, after) => return again(course, delivery, outcome, after),
                Verdict::Exhausted(cause) => cause,
                Verdict::Park(outcome) => return park(course, delivery, outcome),
            },
        };
    to_dead_letter(course, delivery, cause).await
}

/// Where a delivery stands, told from what the store remembers.
fn phase(attempts: u32, last: Option<&Outcome>, retry: u32) -> Phase {
    // A redriven event starts anew, whatever its last outcome was.
    let Some(last) = last.filter(|_| attempts > 0) else { return Phase::Subscriber };
    match last.stage {
        Stage::DeadLetter => Phase::DeadLetter(Cause::recover(attempts, last)),
        _ if attempts > retry || is_final(last) => Phase::DeadLetter(Cause::new(attempts, last)),
        _ => Phase::Subscriber,
    }
}

fn is_final(last: &Outcome) -> bool {
    StatusCode::from_u16(last.status).is_ok_and(|status| classify(status) == Class::Final)
}

/// How a call to the subscriber ended.
enum Verdict {
    Delivered(Outcome),
    Again(Outcome, Duration),
    Exhausted(Cause),
    Park(Outcome),
}

async fn to_subscriber(course: &Course, delivery: &mut Delivery) -> Verdict {
    let started = Instant::now();
    let result = match course.subscriber.call(&delivery.event, course.limits).await {
        Ok(answer) => take_reply(course, &delivery.event, answer).await,
        Err(failure) => Err(failure),
    };
    let took = started.elapsed();
    course.metrics.latency.observe(took.as_secs_f64());
    let failure = match result {
        Ok(status) => {
            course.metrics.delivered.inc();
            course.succeeded();
            return Verdict::Delivered(outcome_of(Stage::Subscriber, status.as_u16(), took));
        }
        Err(failure) => failure,
    };
    course.metrics.failed.inc();
    let made = delivery.attempts.saturating_add(1);
    debug!(position = delivery.position, attempt = made, reason = failure.reason, "attempt failed");
    if failure.retryable && made <= course.trigger.delivery.retry {
        course.failed(&failure.reason, clock::now());
        let after = wait(&course.trigger.delivery, made, fastrand::f64(), failure.retry_after);
        return Verdict::Again(recorded(failure, took), after);
    }
    let outcome = recorded(failure, took);
    if course.dead_letter.is_none() {
        return Verdict::Park(outcome);
    }
    let cause = Cause::new(made, &outcome);
    // On record before the sink is called: a crash in between does not ask the subscriber again.
    delivery.hold(clock::now(), outcome);
    Verdict::Exhausted(cause)
}

async fn to_dead_letter(course: &Course, delivery: Delivery, cause: Cause) -> After {
    let Some(sink) = &course.dead_letter else {
        let last = delivery.last.clone().unwrap_or_default();
        return park(course, delivery, last);
    };
    let letter =
        cause.letter(&delivery.event, &course.subscriber.url().to_string(), &course.reply_url);
    let started = Instant::now();
    let result = sink.call(&letter, course.limits).await;
    let took = started.elapsed();
    let failure = match result {
        Ok(answer) => {
            course.metrics.dead_letters.inc();
            let reason = cause.taken();
            delivery.ack(Some(Outcome {
                reason,
                ..outcome_of(Stage::DeadLetter, answer.status.as_u16(), took)
            }));
            return After::Settled;
        }
        Err(failure) => cause.failed_sink(&failure),
    };
    course.metrics.failed.inc();
    let made = delivery.attempts.saturating_sub(cause.attempts()).saturating_add(1);
    if failure.retryable && made <= course.trigger.delivery.retry {
        let after = wait(&course.trigger.delivery, made, fastrand::f64(), failure.retry_after);
        return again(course, delivery, recorded(failure, took), after);
    }
    park(course, delivery, recorded(failure, took))
}

/// Stores the events of an answer. The delivery has succeeded only when they are durable.
async fn take_reply(
    course: &Course,
    stored: &Event,
    answer: Answer,
) -> Result<StatusCode, Failure> {
    let status = answer.status;
    let mut events = reply::read(&answer)?;
    if events.is_empty() {
        return Ok(status);
    }
    let count = u64::try_from(events.len()).unwrap_or(u64::MAX);
    let arrival = Arrival::at(clock::now());
    for event in &mut events {
        if let Err(error) = reply::readmit(event, stored, &arrival) {
            course.metrics.replies_exhausted.inc_by(count);
            return Err(unstored(StatusCode::BAD_REQUEST, &error));
        }
    }
    match course.store.append_replies(&course.trigger.broker, events).await {
        Ok(()) => {
            course.metrics.replies.inc_by(count);
            Ok(status)
        }
        Err(error) => {
            course.metrics.replies_refused.inc_by(count);
            Err(refused(&error))
        }
    }
}

/// A reply the broker could not keep. The subscriber is asked again: its answer is not kept anywhere else.
fn refused(error: &AppendError) -> Failure {
    let (status, retry_after) = match error {
        AppendError::Full { retry_after, .. } | AppendError::Unavailable { retry_after, .. } => {
            (StatusCode::SERVICE_UNAVAILABLE, Some(*retry_after))
        }
        AppendError::UnknownTopic(_) => (StatusCode::NOT_FOUND, None),
        AppendError::TooLarge => (StatusCode::PAYLOAD_TOO_LARGE, None),
        AppendError::Failed(_) => (StatusCode::INTERNAL_SERVER_ERROR, None),
    };
    // A failed log is final for this process, but not for the event: the next one starts with a fresh log.
    let retryable = error.is_retryable() || matches!(error, AppendError::Failed(_));
    Failure { retryable, retry_after, ..unstored(status, error) }
}

/// A reply that is in no broker, so that the delivery has failed; with what the broker would have answered.
fn unstored(status: StatusCode, error: &dyn fmt::Display) -> Failure {
    Failure {
        stage: Stage::Reply,
        status: status.as_u16(),
        reason: bounded(&format!("the reply could not be stored: {error}")),
        body: Vec::new(),
        retryable: false,
        retry_after: None,
    }
}

/// How much longer the trigger wants the event. The store expires what waits there; a worker that keeps order holds
/// events for as long as those before them fail.
fn age_left(course: &Course, delivery: &Delivery) -> Option<Duration> {
    let age = clock::now().duration_since(delivery.accepted).unwrap_or_default();
    course.trigger.max_age.map(|most| most.saturating_sub(age))
}

fn expire(course: &Course, delivery: Delivery) -> After {
    course.metrics.expired.inc();
    let reason = "it passed the trigger's max-age while it waited for its turn".to_owned();
    delivery.ack(Some(Outcome { reason, ..outcome_of(Stage::Expired, 0, Duration::ZERO) }));
    After::Settled
}

fn again(course: &Course, mut delivery: Delivery, outcome: Outcome, after: Duration) -> After {
    course.metrics.retries.inc();
    let at = clock::now() + after;
    if course.trigger.order_by_key {
        delivery.hold(at, outcome);
        // Those behind it need not wait for an attempt that will not be made.
        let after = age_left(course, &delivery).map_or(after, |left| left.min(after));
        return After::Wait(delivery, after);
    }
    delivery.retry(at, outcome);
    After::Settled
}

fn park(course: &Course, delivery: Delivery, outcome: Outcome) -> After {
    course.metrics.parked.inc();
    if course.may_notice(clock::now()) {
        warn!(
            trigger = course.trigger.subscription(),
            position = delivery.position,
            event = delivery.event.id(),
            attempts = delivery.attempts,
            reason = outcome.reason,
            "event parked: it could not be delivered and no dead letter sink took it"
        );
    }
    delivery.park(outcome);
    After::Settled
}

fn recorded(failure: Failure, took: Duration) -> Outcome {
    Outcome {
        reason: failure.reason,
        body: failure.body,
        ..outcome_of(failure.stage, failure.status, took)
    }
}

fn outcome_of(stage: Stage, status: u16, took: Duration) -> Outcome {
    Outcome {
        status,
        at_ms: clock::millis(clock::now()),
        took_ms: u32::try_from(took.as_millis()).unwrap_or(u32::MAX),
        stage,
        reason: String::new(),
        body: Vec::new(),
    }
}

/// How long a delivery that the store says is due at `due` still waits. A due time further off than any wait means that the
/// clock was set back.
pub(crate) fn until_due(due: SystemTime, now: SystemTime) -> Duration {
    due.duration_since(now).unwrap_or_default().min(MAX_WAIT)
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use super::*;

    fn last(stage: Stage, status: u16) -> Outcome {
        Outcome { stage, status, ..Outcome::default() }
    }

    #[test]
    fn attempts_left_go_to_the_subscriber() {
        assert_eq!(phase(0, None, 0), Phase::Subscriber);
        assert_eq!(phase(2, Some(&last(Stage::Subscriber, 500)), 2), Phase::Subscriber);
        assert_eq!(phase(1, Some(&last(Stage::Subscriber, 0)), 2), Phase::Subscriber);
        assert_eq!(phase(1, Some(&last(Stage::Reply, 503)), 2), Phase::Subscriber);
    }

    #[test]
    fn after_the_last_attempt_only_the_sink_is_called() {
        for outcome in [last(Stage::Subscriber, 500), last(Stage::Reply, 503)] {
            assert!(matches!(phase(3, Some(&outcome), 2), Phase::DeadLetter(_)));
        }
    }

    #[test]
    fn a_final_answer_is_not_asked_for_twice() {
        assert!(matches!(phase(1, Some(&last(Stage::Subscriber, 400)), 5), Phase::DeadLetter(_)));
    }

    #[test]
    fn a_delivery_whose_sink_failed_stays_with_the_sink_until_it_is_redriven() {
        let outcome = last(Stage::DeadLetter, 503);
        assert!(matches!(phase(1, Some(&outcome), 5), Phase::DeadLetter(_)));
        assert_eq!(phase(0, Some(&outcome), 5), Phase::Subscriber);
    }

    #[test]
    fn a_due_time_is_waited_for_but_not_longer_than_any_wait() {
        let now = UNIX_EPOCH + Duration::from_secs(1_000_000);
        assert_eq!(until_due(now - Duration::from_secs(9), now), Duration::ZERO);
        assert_eq!(until_due(now + Duration::from_secs(9), now), Duration::from_secs(9));
        assert_eq!(until_due(now + Duration::from_secs(90_000), now), Duration::from_secs(86_400));
    }
}
