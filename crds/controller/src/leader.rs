//! One controller of several: the one that holds a Lease (`coordination.k8s.io/v1`) works, the others wait for it to stop
//! renewing. The timings are Knative's, and a Lease that another implementation of the same protocol holds is respected.
//!
//! Clocks are not compared between machines: a Lease has expired when it was not renewed for its duration as *this* process
//! measures it. What holds for two leaders at once is therefore only that it is short; every write of a status names the
//! version of the object it is about, so even then nothing is overwritten unseen.

use std::future::Future;
use std::pin::pin;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use kube::api::{Api, ObjectMeta, PostParams};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// How often a Lease is renewed, and when it is lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timings {
    /// How long a Lease counts after it was renewed last.
    pub duration: Duration,
    /// How long a leader works on that cannot renew. Shorter than `duration`, so that it has stopped when another begins.
    pub renew_deadline: Duration,
    /// The time between two attempts, of the leader and of those who wait.
    pub retry: Duration,
}

impl Default for Timings {
    /// 15 s, 10 s and 2 s, as Knative's controllers have it.
    fn default() -> Self {
        Self {
            duration: Duration::from_secs(15),
            renew_deadline: Duration::from_secs(10),
            retry: Duration::from_secs(2),
        }
    }
}

/// Which Lease, and for whom.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Namespace of the Lease.
    pub namespace: String,
    /// Name of the Lease.
    pub name: String,
    /// Who this process is: unique among those who compete, and new at each start.
    pub identity: String,
    /// How often and how long.
    pub timings: Timings,
}

/// Why the work ended without being asked to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LeadError {
    /// The Lease could not be renewed in time. The work was stopped, for another process may do it.
    #[error("the lease could not be renewed in time")]
    Lost,
    /// The work returned though nobody asked.
    #[error("the work ended by itself")]
    Ended,
}

impl LeadError {
    /// Whether competing for the Lease again can help.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        matches!(self, Self::Lost)
    }
}

/// What to do about a Lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// It is ours: renew it.
    Renew,
    /// It is nobody's: take it.
    Take,
    /// It is another's.
    Wait,
}

/// A Lease as this process sees it change.
#[derive(Clone, Debug)]
pub struct Watched {
    spec: LeaseSpec,
    since: Instant,
}

impl Watched {
    /// Notes that the Lease is `spec` at `now`. What matters is since when it has not changed.
    #[must_use]
    pub fn see(before: Option<Self>, spec: LeaseSpec, now: Instant) -> Self {
        let same = |before: &Self| {
            before.spec.holder_identity == spec.holder_identity
                && before.spec.renew_time == spec.renew_time
        };
        let since = before.filter(same).map_or(now, |before| before.since);
        Self { spec, since }
    }

    /// What `me` should do about it.
    #[must_use]
    pub fn decide(&self, me: &str, fallback: Duration, now: Instant) -> Decision {
        let holder = self.spec.holder_identity.as_deref().unwrap_or_default();
        if holder == me {
            return Decision::Renew;
        }
        let seconds = self.spec.lease_duration_seconds.and_then(|it| u64::try_from(it).ok());
        let lasts = seconds.map_or(fallback, Duration::from_secs);
        if holder.is_empty() || now.saturating_duration_since(self.since) >= lasts {
            Decision::Take
        } else {
            Decision::Wait
        }
    }
}

/// The Lease's next form once `me` has it.
fn claimed(before: Option<&LeaseSpec>, config: &Config, now: Timestamp) -> LeaseSpec {
    let held = before.filter(|spec| spec.holder_identity.as_deref() == Some(&config.identity));
    let transitions = before.and_then(|spec| spec.lease_transitions).unwrap_or_default();
    LeaseSpec {
        holder_identity: Some(config.identity.clone()),
        lease_duration_seconds: i32::try_from(config.timings.duration.as_secs()).ok(),
        acquire_time: held.and_then(|spec| spec.acquire_time.clone()).or(Some(MicroTime(now))),
        renew_time: Some(MicroTime(now)),
        lease_transitions: Some(match (before, held) {
            (Some(_), None) => transitions.saturating_add(1),
            _ => transitions,
        }),
        ..LeaseSpec::default()
    }
}

/// Does `work` while this process leads, until `stop`. The token that the work is given is cancelled when it has to end; it
/// is waited for, and the Lease given back only then.
///
/// # Errors
/// [`LeadError`] says why the work ended without `stop`.
pub async fn lead<W, F>(
    client: kube::Client,
    config: Config,
    stop: CancellationToken,
    work: W,
) -> Result<(), LeadError>
where
    W: FnOnce(CancellationToken) -> F,
    F: Future<Output = ()>,
{
    let mut elector = Elector::new(client, config);
    if stop.run_until_cancelled(elector.acquire()).await.is_none() {
        return Ok(());
    }
    tracing::info!(identity = elector.config.identity, "leading");
    let working = stop.child_token();
    let mut done = pin!(work(working.clone()));
    let ended = tokio::select! {
        () = &mut done => if stop.is_cancelled() { Ok(()) } else { Err(LeadError::Ended) },
        () = stop.cancelled() => {
            done.await;
            Ok(())
        }
        () = elector.keep() => {
            tracing::error!("the lease could not be renewed; stopping the work");
            working.cancel();
            done.await;
            Err(LeadError::Lost)
        }
    };
    if ended != Err(LeadError::Lost) {
        elector.release().await;
    }
    ended
}

/// Talks to the API server about one Lease.
struct Elector {
    api: Api<Lease>,
    config: Config,
    watched: Option<Watched>,
}

impl Elector {
    fn new(client: kube::Client, config: Config) -> Self {
        let api = Api::namespaced(client, &config.namespace);
        Self { api, config, watched: None }
    }

    /// Ends when the Lease is ours.
    async fn acquire(&mut self) {
        loop {
            match self.attempt().await {
                Ok(true) => return,
                Ok(false) => {}
                Err(error) => tracing::warn!(%error, "the lease cannot be asked for"),
            }
            // Spread, so that those who wait for the same Lease do not ask at the same time.
            let spread = 1.0 + 0.2 * fastrand::f64();
            tokio::time::sleep(self.config.timings.retry.mul_f64(spread)).await;
        }
    }

    /// Renews the Lease; ends when that did not succeed for too long.
    async fn keep(&mut self) {
        let timings = self.config.timings;
        let mut renewed = Instant::now();
        loop {
            tokio::time::sleep(timings.retry).await;
            let deadline = renewed + timings.renew_deadline;
            match tokio::time::timeout_at(deadline, self.attempt()).await {
                Ok(Ok(true)) => renewed = Instant::now(),
                // Somebody else has it: no deadline makes it ours again.
                Ok(Ok(false)) if self.is_anothers() => return,
                Ok(Ok(false)) => {}
                Ok(Err(error)) => tracing::warn!(%error, "the lease cannot be renewed"),
                Err(_) => return,
            }
            if Instant::now() >= deadline {
                return;
            }
        }
    }

    /// Renews or takes the Lease if that is possible; answers whether it is ours.
    async fn attempt(&mut self) -> kube::Result<bool> {
        let Some(mut lease) = self.api.get_opt(&self.config.name).await? else {
            return self.create().await;
        };
        let spec = lease.spec.clone().unwrap_or_default();
        let now = Instant::now();
        let watched = Watched::see(self.watched.take(), spec, now);
        let decision = watched.decide(&self.config.identity, self.config.timings.duration, now);
        let spec = claimed(Some(&watched.spec), &self.config, Timestamp::now());
        self.watched = Some(watched);
        if decision == Decision::Wait {
            return Ok(false);
        }
        lease.spec = Some(spec);
        // The Lease carries its version, so of two who take it one gets a conflict.
        taken(self.api.replace(&self.config.name, &PostParams::default(), &lease).await)
    }

    async fn create(&self) -> kube::Result<bool> {
        let metadata = ObjectMeta {
            name: Some(self.config.name.clone()),
            namespace: Some(self.config.namespace.clone()),
            ..ObjectMeta::default()
        };
        let spec = Some(claimed(None, &self.config, Timestamp::now()));
        let lease = Lease { metadata, spec };
        taken(self.api.create(&PostParams::default(), &lease).await)
    }

    fn is_anothers(&self) -> bool {
        let holder = self.watched.as_ref().and_then(|it| it.spec.holder_identity.as_deref());
        holder.is_some_and(|holder| !holder.is_empty() && holder != self.config.identity)
    }

    /// Gives the Lease back, so that the next leader need not wait for it to expire. One attempt: expiring is no disaster.
    async fn release(&self) {
        let given_back = async {
            let Some(mut lease) = self.api.get_opt(&self.config.name).await? else { return Ok(()) };
            let Some(spec) = lease.spec.as_mut() else { return Ok(()) };
            if spec.holder_identity.as_deref() != Some(&self.config.identity) {
                return Ok(());
            }
            spec.holder_identity = Some(String::new());
            spec.lease_duration_seconds = Some(1);
            spec.renew_time = Some(MicroTime(Timestamp::now()));
            self.api.replace(&self.config.name, &PostParams::default(), &lease).await.map(drop)
        };
        let limit = self.config.timings.retry;
        match tokio::time::timeout(limit, given_back).await {
            Ok(Ok(())) => tracing::info!("the lease is given back"),
            Ok(Err(error)) => tracing::warn!(%error, "the lease was not given back"),
            Err(_) => tracing::warn!("giving the lease back was not answered"),
        }
    }
}

/// A conflict means that somebody else was faster, which is no failure.
fn taken(written: kube::Result<Lease>) -> kube::Result<bool> {
    match written {
        Ok(_) => Ok(true),
        Err(kube::Error::Api(status)) if status.code == 409 => Ok(false),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests;
