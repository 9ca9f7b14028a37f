//! Disks that are full or broken, and events that never fit.

use std::path::Path;

use broker_log::fs::faulty::{Call, Crash, Fault, FaultyFs};

use super::*;

fn open(fs: &FaultyFs) -> Arc<EmbeddedStore> {
    let options = EmbeddedOptions { fs: Arc::new(fs.clone()), ..quiet() };
    EmbeddedStore::open(Path::new("/data"), options).unwrap()
}

fn all(store: &EmbeddedStore) -> Box<dyn Subscription> {
    let subscription = store.subscribe(&topic(), "default/t", SubscribeOptions::default()).unwrap();
    let types = Types(vec![(subscription.slot(), "*")]);
    store.route(&topic(), Arc::new(types)).unwrap();
    subscription
}

/// A store with one subscription to everything.
fn ready(fs: &FaultyFs) -> (Arc<EmbeddedStore>, Box<dyn Subscription>) {
    let store = open(fs);
    store.declare(&topic(), TopicOptions { budget: u64::MAX }).unwrap();
    let subscription = all(&store);
    (store, subscription)
}

#[tokio::test]
async fn a_full_disk_is_said_to_senders_and_passes() {
    let fs = FaultyFs::new();
    let (store, mut subscription) = ready(&fs);
    store.append(&topic(), events(0..1, "a")).await.unwrap();
    fs.set_capacity(Some(1));
    let mut accepted = 1;
    let refused = loop {
        match store.append(&topic(), events(accepted..accepted + 20, "a")).await {
            Ok(()) => accepted += 20,
            Err(refused) => break refused,
        }
        assert!(accepted < 100_000, "the disk is never full");
    };
    let AppendError::Full { reason, retry_after } = &refused else { panic!("{refused:?}") };
    assert!(reason.contains("disk is full") && *retry_after > Duration::ZERO, "{reason}");
    assert_eq!(store.unhealthy(), None, "it passes");
    fs.set_capacity(None);
    store.append(&topic(), events(accepted..accepted + 1, "a")).await.unwrap();
    let got = drain(&mut subscription, accepted + 1).await;
    assert_eq!(got, (0..=accepted).collect::<Vec<_>>(), "nothing refused, nothing lost");
}

#[tokio::test]
async fn a_failed_sync_is_final_until_a_restart_and_loses_nothing_accepted() {
    let fs = FaultyFs::new();
    let (store, subscription) = ready(&fs);
    store.append(&topic(), events(0..30, "a")).await.unwrap();
    fs.fail(Fault::os(5).only(&[Call::Sync]).always());
    let refused = store.append(&topic(), events(30..31, "a")).await.unwrap_err();
    assert!(matches!(refused, AppendError::Failed(_)) && !refused.is_retryable(), "{refused:?}");
    let syncs = fs.calls_of(Call::Sync);
    let again = store.append(&topic(), events(31..32, "a")).await.unwrap_err();
    assert!(matches!(again, AppendError::Failed(_)), "{again:?}");
    assert_eq!(fs.calls_of(Call::Sync), syncs, "the sync is not tried again");
    assert!(store.unhealthy().is_some());
    let crashed = fs.crash(Crash::Nothing);
    drop((subscription, store));
    let store = open(&crashed);
    let mut subscription = all(&store);
    assert_eq!(drain(&mut subscription, 30).await, (0..30).collect::<Vec<_>>());
}

#[tokio::test]
async fn what_can_never_fit_is_refused_for_good() {
    let bench = Bench::new(EmbeddedOptions { max_queued_bytes: 64 << 10, ..quiet() });
    let large = EventBuilder::new("1", "/test", "a")
        .data(bytes::Bytes::from(vec![b'x'; 65 << 10]))
        .build()
        .unwrap();
    let refused = bench.store.append(&topic(), vec![large]).await.unwrap_err();
    assert_eq!(refused, AppendError::TooLarge);
    assert!(!refused.is_retryable());
    bench.append(events(0..1, "a")).await;
}
