use super::*;

const FALLBACK: Duration = Duration::from_secs(15);

fn spec(holder: &str, renewed: i64) -> LeaseSpec {
    LeaseSpec {
        holder_identity: Some(holder.to_owned()),
        lease_duration_seconds: Some(15),
        renew_time: Some(MicroTime(Timestamp::from_second(renewed).unwrap())),
        lease_transitions: Some(4),
        ..LeaseSpec::default()
    }
}

fn config(identity: &str) -> Config {
    let (namespace, name) = ("knative-eventing".to_owned(), "weft".to_owned());
    Config { namespace, name, identity: identity.to_owned(), timings: Timings::default() }
}

#[tokio::test(start_paused = true)]
async fn a_lease_is_taken_when_it_is_nobodys_or_was_not_renewed_for_its_duration() {
    let now = Instant::now();
    let at = |seconds| now + Duration::from_secs(seconds);
    let decide = |watched: &Watched, seconds| watched.decide("me", FALLBACK, at(seconds));
    assert_eq!(decide(&Watched::see(None, spec("me", 1), now), 0), Decision::Renew);
    assert_eq!(decide(&Watched::see(None, spec("", 1), now), 0), Decision::Take);
    assert_eq!(decide(&Watched::see(None, LeaseSpec::default(), now), 0), Decision::Take);
    let theirs = Watched::see(None, spec("they", 1), now);
    assert_eq!(decide(&theirs, 14), Decision::Wait);
    assert_eq!(decide(&theirs, 15), Decision::Take);
    let unchanged = Watched::see(Some(theirs.clone()), spec("they", 1), at(10));
    assert_eq!(decide(&unchanged, 15), Decision::Take);
    let renewed = Watched::see(Some(theirs), spec("they", 2), at(10));
    assert_eq!(decide(&renewed, 15), Decision::Wait);
    assert_eq!(decide(&renewed, 25), Decision::Take);
}

#[test]
fn taking_counts_a_transition_and_renewing_keeps_the_time_of_taking() {
    let time = |second| Timestamp::from_second(second).unwrap();
    let first = claimed(None, &config("a"), time(1));
    assert_eq!(first.lease_transitions, Some(0));
    let renewed = claimed(Some(&first), &config("a"), time(2));
    assert_eq!(renewed.acquire_time, first.acquire_time);
    assert_eq!(renewed.renew_time, Some(MicroTime(time(2))));
    assert_eq!(renewed.lease_transitions, Some(0));
    let taken = claimed(Some(&renewed), &config("b"), time(3));
    assert_eq!(taken.lease_transitions, Some(1));
    assert_eq!(taken.acquire_time, Some(MicroTime(time(3))));
    assert_eq!(taken.lease_duration_seconds, Some(15));
}
