//! One trigger's worker: one task that reads the subscription and makes the attempts. Few attempts at a time need no task of
//! their own; what goes beyond gets one, so that one busy trigger has all processors.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use broker::store::{Delivery, StoreError, Subscription};
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use governor::clock::Clock;
use governor::{DefaultDirectRateLimiter, Quota, RateLimiter};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until, timeout};
use tracing::{debug, error};

use crate::attempt::{After, attempt, until_due};
use crate::clock;
use crate::course::Course;
use crate::lanes::{Held, Lane, Lanes};

/// Deliveries an ordered worker holds at most, under way or not. Behind a head that waits for its next attempt the events
/// of its key pile up here while other keys go on; once the window is full of them, the trigger waits for the head.
/// A thousand lets one key of a hundred fail for a while unnoticed by the rest.
const ORDERED_WINDOW: usize = 1024;

/// Bytes after which an ordered worker reads no more, for windows of large events. One read may overshoot by
/// as many events as the trigger's parallelism.
const ORDERED_WINDOW_BYTES: usize = 16 << 20;

/// Attempts that the worker's own task makes at a time: a trigger that has no more is spared the hand-overs between tasks, and
/// a busy one, which fills a processor with them, has the others for the rest.
const OWN_ATTEMPTS: usize = 16;

/// The wait after a store that failed to hand out deliveries, so that a broken disk is not asked in a tight loop.
const STORE_PAUSE: Duration = Duration::from_secs(1);

/// The part of a second whose attempts a rate lets through at once after a lull: long enough that a worker that wakes a
/// little late keeps the rate, short enough that a subscriber hardly notices the burst.
const BURST_PARTS: u32 = 10;

/// What a worker is told.
#[derive(Debug)]
pub(crate) enum Command {
    /// Deliver by this from now on; `None` holds everything back and nothing in hand.
    Course(Option<Arc<Course>>),
    /// Drop the subscription, then answer. Attempts under way go on.
    Yield(oneshot::Sender<()>),
    /// Read from this.
    Read(Box<dyn Subscription>),
}

/// The worker. Ends when its commands' sender is dropped.
#[derive(Debug)]
pub(crate) struct Worker {
    name: String,
    commands: mpsc::Receiver<Command>,
    grace: Duration,
    course: Option<Arc<Course>>,
    subscription: Option<Box<dyn Subscription>>,
    lanes: Lanes,
    pace: Pace,
    /// No reading before this.
    resume_at: Option<Instant>,
    /// Whether the last course asked for order.
    ordered: Option<bool>,
    /// No reading while attempts from before a change of order are under way.
    finish_first: bool,
}

/// An attempt that ended, and the lane it headed.
struct Ended {
    after: After,
    lane: Option<Lane>,
}

impl Worker {
    /// A worker for the trigger `name` that obeys `commands` and lets attempts end for `grace` when it is stopped.
    pub(crate) fn new(name: String, commands: mpsc::Receiver<Command>, grace: Duration) -> Self {
        Self {
            name,
            commands,
            grace,
            course: None,
            subscription: None,
            lanes: Lanes::default(),
            pace: Pace::default(),
            resume_at: None,
            ordered: None,
            finish_first: false,
        }
    }

    /// Delivers until told to stop, then lets the attempts under way end and gives back the rest.
    pub(crate) async fn run(mut self) {
        let mut running = Attempts::new();
        loop {
            while let Some((course, held)) = self.next_to_start(running.len()) {
                running.start(make(course, held));
            }
            let room = self.room(running.len());
            let wake = self.wake_at(running.len());
            tokio::select! {
                biased;
                command = self.commands.recv() => match command {
                    Some(command) => self.obey(command),
                    None => break,
                },
                Some(ended) = running.next() => self.ended(ended),
                () = until(wake), if wake.is_some() => self.lanes.wake(Instant::now()),
                fetched = fetch(&mut self.subscription, room), if room > 0 => self.fetched(fetched),
            }
        }
        self.subscription = None;
        self.lanes.release();
        // What a subscriber is working on gets time to end; what does not is given back as untried, never counted
        // as a failure and never a dead letter.
        if timeout(self.grace, async { while running.next().await.is_some() {} }).await.is_err() {
            let (trigger, attempts) = (self.name, running.len());
            running.give_back().await;
            debug!(trigger, attempts, "gave back attempts that did not end in time");
        }
    }

    fn obey(&mut self, command: Command) {
        match command {
            Command::Course(course) => {
                match &course {
                    None => self.lanes.release(),
                    Some(course) => self.change_order(course.trigger.order_by_key),
                }
                self.pace.change(course.as_deref());
                self.course = course;
            }
            Command::Yield(done) => {
                self.subscription = None;
                self.lanes.release();
                if done.send(()).is_err() {
                    debug!(trigger = self.name, "nobody waits for the subscription any more");
                }
            }
            Command::Read(subscription) => {
                self.subscription = Some(subscription);
                self.resume_at = None;
            }
        }
    }

    /// Attempts made without lanes could overtake each other: they end before the first lane starts.
    fn change_order(&mut self, ordered: bool) {
        if self.ordered.replace(ordered).is_some_and(|before| before != ordered) {
            self.lanes.release();
            self.finish_first = true;
        }
    }

    fn next_to_start(&mut self, running: usize) -> Option<(Arc<Course>, Held)> {
        let course = self.course.as_ref()?;
        if running >= parallelism(course) || !self.lanes.is_ready() || !self.pace.allows() {
            return None;
        }
        Some((Arc::clone(course), self.lanes.start()?))
    }

    /// How many deliveries to ask the store for.
    fn room(&mut self, running: usize) -> usize {
        let (Some(course), Some(_)) = (&self.course, &self.subscription) else { return 0 };
        if self.finish_first && running > 0 {
            return 0;
        }
        self.finish_first = false;
        if self.resume_at.is_some_and(|at| Instant::now() < at) {
            return 0;
        }
        let held = self.lanes.held() + running;
        let parallelism = parallelism(course);
        if !course.trigger.order_by_key {
            return parallelism.saturating_sub(held);
        }
        if self.lanes.bytes() >= ORDERED_WINDOW_BYTES {
            return 0;
        }
        ORDERED_WINDOW.max(parallelism).saturating_sub(held).min(parallelism)
    }

    /// When to look again although nothing happened.
    fn wake_at(&self, running: usize) -> Option<Instant> {
        let course = self.course.as_ref()?;
        let paced =
            self.pace.until.filter(|_| self.lanes.is_ready() && running < parallelism(course));
        let resume = self.resume_at.filter(|_| self.subscription.is_some());
        [self.lanes.next_due(), paced, resume].into_iter().flatten().min()
    }

    fn ended(&mut self, ended: Ended) {
        let lane = ended.lane;
        match ended.after {
            After::Wait(delivery, after) if self.course.is_some() => {
                self.lanes.wait(Held { delivery, lane }, Instant::now() + after);
                return;
            }
            After::Wait(delivery, _) => drop(delivery), // paused meanwhile: the store keeps it and its due time
            After::Settled => {}
        }
        if let Some(lane) = lane {
            self.lanes.ended(lane, due);
        }
    }

    fn fetched(&mut self, fetched: Result<Vec<Delivery>, StoreError>) {
        let ordered = self.course.as_ref().is_some_and(|course| course.trigger.order_by_key);
        let deliveries = match fetched {
            Ok(deliveries) => deliveries,
            Err(error) => {
                self.fetch_failed(&error);
                return;
            }
        };
        self.resume_at = None;
        for delivery in deliveries {
            let lane = if ordered { self.lanes.lane_of(&delivery.event) } else { None };
            let due = due(&delivery);
            self.lanes.take(delivery, lane, due);
        }
    }

    fn fetch_failed(&mut self, error: &StoreError) {
        match error {
            StoreError::Closed
            | StoreError::UnknownTopic(_)
            | StoreError::UnknownSubscription(_) => {
                debug!(trigger = self.name, %error, "reads no more");
                self.subscription = None;
            }
            StoreError::Held(_) | StoreError::Failed(_) => {
                error!(trigger = self.name, %error, "cannot read deliveries; trying again");
                self.resume_at = Some(Instant::now() + STORE_PAUSE);
            }
        }
    }
}

/// Attempts under way. Dropping them gives their deliveries back untried.
struct Attempts<F> {
    /// Of the worker's own task.
    own: FuturesUnordered<F>,
    /// With a task each.
    others: JoinSet<Ended>,
}

impl<F: Future<Output = Ended> + Send + 'static> Attempts<F> {
    fn new() -> Self {
        Self { own: FuturesUnordered::new(), others: JoinSet::new() }
    }

    fn start(&mut self, attempt: F) {
        if self.own.len() < OWN_ATTEMPTS {
            self.own.push(attempt);
        } else {
            self.others.spawn(attempt);
        }
    }

    fn len(&self) -> usize {
        self.own.len() + self.others.len()
    }

    /// Ends all of them. Their deliveries are the store's again afterwards, untried.
    async fn give_back(mut self) {
        drop(self.own);
        self.others.shutdown().await;
    }

    /// The next one that ends; none if none is under way. Neither sort is preferred: each would wait for the other.
    async fn next(&mut self) -> Option<Ended> {
        tokio::select! {
            Some(ended) = self.own.next() => Some(ended),
            Some(ended) = self.others.join_next() => match ended {
                Ok(ended) => Some(ended),
                Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
                // The runtime is going.
                Err(_) => None,
            },
            else => None,
        }
    }
}

/// The attempt with the lane it heads; one future type, so that [`FuturesUnordered`] needs no boxes.
async fn make(course: Arc<Course>, held: Held) -> Ended {
    Ended { after: attempt(course, held.delivery).await, lane: held.lane }
}

/// Asks the store only when polled, so that an attempt that ended first costs no call.
async fn fetch(
    subscription: &mut Option<Box<dyn Subscription>>,
    room: usize,
) -> Result<Vec<Delivery>, StoreError> {
    match subscription {
        Some(subscription) => subscription.next(room).await,
        None => Err(StoreError::Closed),
    }
}

async fn until(at: Option<Instant>) {
    if let Some(at) = at {
        sleep_until(at).await;
    }
}

/// When a delivery may start, if not at once.
fn due(delivery: &Delivery) -> Option<Instant> {
    let wait = until_due(delivery.not_before?, clock::now());
    (!wait.is_zero()).then(|| Instant::now() + wait)
}

fn parallelism(course: &Course) -> usize {
    usize::try_from(course.trigger.parallelism.get()).unwrap_or(usize::MAX)
}

/// Attempts a second.
#[derive(Debug, Default)]
struct Pace {
    limiter: Option<DefaultDirectRateLimiter>,
    rate: Option<NonZeroU32>,
    /// When the limiter lets the next attempt through.
    until: Option<Instant>,
}

impl Pace {
    fn change(&mut self, course: Option<&Course>) {
        let rate = course.and_then(|course| course.trigger.rate);
        if rate == self.rate {
            return;
        }
        self.rate = rate;
        self.until = None;
        self.limiter = rate.map(|rate| {
            let burst = NonZeroU32::new(rate.get() / BURST_PARTS).unwrap_or(NonZeroU32::MIN);
            RateLimiter::direct(Quota::per_second(rate).allow_burst(burst))
        });
    }

    /// Whether an attempt may start now; if so, it is counted.
    fn allows(&mut self) -> bool {
        let Some(limiter) = &self.limiter else { return true };
        match limiter.check() {
            Ok(()) => {
                self.until = None;
                true
            }
            Err(not_until) => {
                self.until = Some(Instant::now() + not_until.wait_time_from(limiter.clock().now()));
                false
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[tokio::test]
    async fn attempts_beyond_the_workers_own_go_on_without_it() {
        let made = Arc::new(AtomicUsize::new(0));
        let attempt = || {
            let made = Arc::clone(&made);
            async move {
                made.fetch_add(1, Ordering::SeqCst);
                Ended { after: After::Settled, lane: None }
            }
        };
        let mut attempts = Attempts::new();
        for _ in 0..OWN_ATTEMPTS + 3 {
            attempts.start(attempt());
        }
        while made.load(Ordering::SeqCst) < 3 {
            tokio::task::yield_now().await;
        }
        assert_eq!(made.load(Ordering::SeqCst), 3, "the worker's own wait for it");
        assert_eq!(attempts.len(), OWN_ATTEMPTS + 3);
        while attempts.next().await.is_some() {}
        assert_eq!((made.load(Ordering::SeqCst), attempts.len()), (OWN_ATTEMPTS + 3, 0));
    }
}
