use std::sync::Arc;

use tokio::sync::oneshot;
use tokio::time::{Duration, Instant};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::scripted::Server;
use crate::leader::{Config, LeadError, Timings, lead};

/// A process that wants to lead.
struct Candidate {
    leading: oneshot::Receiver<Instant>,
    ended: oneshot::Receiver<(Result<(), LeadError>, Instant)>,
    stop: CancellationToken,
}

fn candidate(server: &Arc<Server>, tasks: &TaskTracker, identity: &str) -> Candidate {
    let config = Config {
        namespace: "ns".to_owned(),
        name: "weft".to_owned(),
        identity: identity.to_owned(),
        timings: Timings::default(),
    };
    let stop = CancellationToken::new();
    let (begins, leading) = oneshot::channel();
    let (ends, ended) = oneshot::channel();
    let (client, token) = (server.client(), stop.clone());
    tasks.spawn(async move {
        let work = |stop: CancellationToken| async move {
            begins.send(Instant::now()).unwrap();
            stop.cancelled().await;
        };
        let result = lead(client, config, token, work).await;
        ends.send((result, Instant::now())).unwrap();
    });
    Candidate { leading, ended, stop }
}

#[tokio::test(start_paused = true)]
async fn one_leads_and_the_next_follows_at_once_when_it_is_asked_to_stop() {
    let (server, tasks) = (Server::new(), TaskTracker::new());
    let first = candidate(&server, &tasks, "first");
    first.leading.await.unwrap();
    let mut second = candidate(&server, &tasks, "second");
    let minute = Duration::from_secs(60);
    assert!(tokio::time::timeout(minute, &mut second.leading).await.is_err(), "only one leads");
    first.stop.cancel();
    let (ended, at) = first.ended.await.unwrap();
    assert_eq!(ended, Ok(()));
    let followed = second.leading.await.unwrap();
    assert!(followed - at < Duration::from_secs(5), "{:?}", followed - at);
    second.stop.cancel();
    assert_eq!(second.ended.await.unwrap().0, Ok(()));
}

#[tokio::test(start_paused = true)]
async fn a_leader_that_cannot_renew_stops_before_another_begins() {
    let (server, tasks) = (Server::new(), TaskTracker::new());
    let first = candidate(&server, &tasks, "first");
    let began = first.leading.await.unwrap();
    server.state().hung = true;
    let (ended, at) = first.ended.await.unwrap();
    assert_eq!(ended, Err(LeadError::Lost));
    let timings = Timings::default();
    assert!(at - began <= timings.renew_deadline + timings.retry, "{:?}", at - began);
    server.state().hung = false;
    let second = candidate(&server, &tasks, "second");
    let followed = second.leading.await.unwrap();
    assert!(followed - began >= timings.duration, "{:?}", followed - began);
    let lease = server.state().object("leases", "weft").cloned().unwrap();
    assert_eq!(lease["spec"]["holderIdentity"], "second");
    assert_eq!(lease["spec"]["leaseTransitions"], 1);
}

#[tokio::test(start_paused = true)]
async fn a_leader_whose_lease_was_taken_stops() {
    let (server, tasks) = (Server::new(), TaskTracker::new());
    let first = candidate(&server, &tasks, "first");
    first.leading.await.unwrap();
    let mut lease = server.state().object("leases", "weft").cloned().unwrap();
    lease["spec"]["holderIdentity"] = "another".into();
    server.put("leases", lease);
    assert_eq!(first.ended.await.unwrap().0, Err(LeadError::Lost));
    let lease = server.state().object("leases", "weft").cloned().unwrap();
    assert_eq!(lease["spec"]["holderIdentity"], "another", "it is not given back");
}
