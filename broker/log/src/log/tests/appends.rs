use std::sync::mpsc;
use std::thread;

use super::*;
use crate::fs::faulty::Call;

#[test]
fn commits_come_in_order_of_offset_with_their_tags() {
    let fs = disk();
    let rig = Rig::open(&fs, SMALL);
    let mut next = 0;
    let mut written = Vec::new();
    for seed in 0..50 {
        let sizes = vec![30; seed as usize % 4 + 1];
        let entry = entry(seed, &sizes);
        let told = rig.try_append(entry.clone()).unwrap();
        assert_eq!((told.commit.tag, told.commit.first_offset), (seed, next));
        assert_eq!(told.commit.count as usize, sizes.len());
        next += sizes.len() as u64;
        assert_eq!(rig.log.head(), next);
        written.extend(records_of(&entry, told.commit.first_offset));
    }
    assert_eq!(rig.records(), written);
    assert!(rig.log.segments().len() > 5, "several segments");
    check_agrees(&rig);
    drop(rig);
    let rig = Rig::open(&fs, SMALL);
    assert_eq!(check_agrees(&rig), by_offset(written));
    assert_eq!(rig.recovery.damaged, []);
    assert_eq!((rig.recovery.torn_bytes, rig.recovery.head), (0, next));
}

#[test]
fn only_the_newest_segment_is_scanned_when_a_log_is_opened() {
    let fs = disk();
    let rig = Rig::open(&fs, SMALL);
    (0..40).for_each(|seed| assert_eq!(rig.append(seed, 100), seed));
    drop(rig);
    let rig = Rig::open(&fs, SMALL);
    assert!(rig.recovery.segments > 5);
    assert!(rig.recovery.scanned_bytes <= 1024, "{:?}", rig.recovery);
}

#[test]
fn what_arrives_during_a_sync_is_made_durable_by_the_next() {
    let fs = disk();
    let rig = Rig::open(&fs, ONE);
    rig.append(0, 10);
    let before = fs.calls_of(Call::Sync);
    let told = rig.group((1..=100).map(|seed| entry(seed, &[10])).collect());
    assert!(told.iter().all(|told| told.commit.result.is_ok()));
    assert_eq!(fs.calls_of(Call::Sync) - before, 2, "one for the first, one for a hundred");
}

#[test]
fn many_threads_share_syncs_and_each_keeps_its_order() {
    const THREADS: u64 = 8;
    const EACH: u64 = 200;
    let fs = disk();
    let rig = Rig::open(&fs, ONE);
    thread::scope(|scope| {
        for of in 0..THREADS {
            let log = rig.log.clone();
            scope.spawn(move || {
                for number in 0..EACH {
                    log.append(entry(of * EACH + number, &[20])).unwrap();
                }
            });
        }
    });
    let mut offsets: Vec<Vec<u64>> = vec![Vec::new(); THREADS as usize];
    for _ in 0..THREADS * EACH {
        let commit = rig.told().commit;
        assert!(commit.result.is_ok());
        let of = &mut offsets[(commit.tag / EACH) as usize];
        assert_eq!(of.len() as u64, commit.tag % EACH, "in the order it was appended");
        of.push(commit.first_offset);
    }
    assert!(offsets.iter().all(|offsets| offsets.is_sorted()));
    assert!(fs.calls_of(Call::Sync) < THREADS * EACH, "{}", fs.calls_of(Call::Sync));
    assert_eq!(check_agrees(&rig).len() as u64, THREADS * EACH);
}

#[test]
fn a_full_queue_is_busy_until_the_writer_takes_it() {
    let fs = disk();
    let rig = Rig::open(&fs, Options { max_queued_bytes: 1000, ..ONE });
    rig.log.append(Entry { tag: HOLD, ..entry(0, &[1]) }).unwrap();
    rig.told();
    rig.log.append(entry(1, &[500])).unwrap();
    let (error, tag) = rig.log.append(entry(2, &[500])).unwrap_err();
    assert_eq!((error, tag), (AppendError::Busy, 2));
    rig.log.append(entry(3, &[300])).unwrap();
    rig.release.send(()).unwrap();
    assert_eq!((rig.told().commit.tag, rig.told().commit.tag), (1, 3));
    assert_eq!(rig.append(2, 500), 3);
}

#[test]
fn an_entry_that_can_never_fit_is_told_from_one_that_has_to_wait() {
    let fs = disk();
    let options = Options { max_queued_bytes: 1000, ..ONE };
    let rig = Rig::open(&fs, options);
    let most = options.max_entry_bytes();
    assert_eq!(rig.append(0, most - 40), 0);
    for sizes in [&[most - 39][..], &[most / 2, most / 2]] {
        let (error, tag) = rig.log.append(entry(7, sizes)).unwrap_err();
        assert_eq!((error.clone(), tag), (AppendError::TooLarge, 7));
        assert!(!error.is_retryable());
    }
    assert_eq!(rig.append(1, 1), 1);
}

#[test]
fn an_entry_larger_than_a_segment_has_one_of_its_own() {
    let fs = disk();
    let rig = Rig::open(&fs, SMALL);
    let mut written = Vec::new();
    for (seed, size) in [(0, 100), (1, 5000), (2, 100), (3, 300 << 10), (4, 100)] {
        written.extend(records_of(&entry(seed, &[size]), rig.append(seed, size)));
    }
    assert_eq!(rig.records(), written);
    let sizes: Vec<u64> = rig.log.segments().iter().map(|segment| segment.bytes).collect();
    assert_eq!(sizes, [268, 5168, 268, (300 << 10) + 168, 268]);
    drop(rig);
    assert_eq!(Rig::open(&fs, SMALL).records(), written);
}

#[test]
fn empty_payloads_and_empty_entries_are_kept() {
    let fs = disk();
    let rig = Rig::open(&fs, SMALL);
    assert_eq!(rig.append(0, 0), 0);
    let told = rig.try_append(entry(1, &[])).unwrap();
    assert_eq!((told.commit.first_offset, told.commit.count), (1, 0));
    assert_eq!(rig.try_append(entry(2, &[0, 0, 5])).unwrap().commit.first_offset, 1);
    assert_eq!(rig.offsets(), [0, 1, 2, 3]);
    drop(rig);
    let rig = Rig::open(&fs, SMALL);
    let sizes: Vec<_> = rig.records().iter().map(|record| record.payload.len()).collect();
    assert_eq!(sizes, [0, 0, 0, 5]);
}

#[test]
fn closing_writes_what_was_taken_and_takes_no_more() {
    let fs = disk();
    let rig = Rig::open(&fs, SMALL);
    (0..100).for_each(|seed| rig.log.append(entry(seed, &[50])).unwrap());
    rig.log.close();
    assert!((0..100).all(|tag| {
        let commit = rig.told().commit;
        commit.tag == tag && commit.result.is_ok()
    }));
    let (error, tag) = rig.log.append(entry(100, &[1])).unwrap_err();
    assert_eq!((error, tag), (AppendError::Closed, 100));
    rig.log.close();
    assert_eq!(rig.records().len(), 100, "reading stays possible");
    assert_eq!(rig.log.failed(), None);
    assert_eq!(Rig::open(&fs, SMALL).records().len(), 100);
}

#[test]
fn dropping_the_last_clone_closes_and_leaves_no_room_unused() {
    let fs = disk();
    let rig = Rig::open(&fs, ONE);
    let clone = rig.log.clone();
    (0..10).for_each(|seed| rig.log.append(entry(seed, &[50])).unwrap());
    drop(rig);
    drop(clone);
    assert_eq!(fs.read_raw(&segment(0)).unwrap().len(), 128 + 10 * 90);
    assert_eq!(Rig::open(&fs, ONE).records().len(), 10);
}

#[test]
fn the_last_clone_may_be_dropped_on_the_logs_own_thread() {
    let fs = disk();
    let (send, receive) = mpsc::channel::<Log<u64>>();
    let (done, ended) = mpsc::channel();
    let on_commit = move |_: &mut Vec<Commit<u64>>| {
        drop(receive.recv_timeout(DEADLINE).unwrap());
        done.send(()).unwrap();
    };
    let (log, _) = Log::open(Path::new(DIR), Arc::new(fs.clone()), ONE, on_commit).unwrap();
    log.append(entry(0, &[5])).unwrap();
    send.send(log).unwrap();
    ended.recv_timeout(DEADLINE).unwrap();
}

#[test]
fn a_panic_in_a_commit_fails_the_log_and_nobody_waits_for_it() {
    let fs = disk();
    let (tell, told) = mpsc::channel::<()>();
    let on_commit = move |_: &mut Vec<Commit<u64>>| {
        // Dropped as the thread unwinds.
        let _tell = &tell;
        std::panic::resume_unwind(Box::new("a bug of the user's"));
    };
    let (log, _) = Log::open(Path::new(DIR), Arc::new(fs.clone()), ONE, on_commit).unwrap();
    log.append(entry(0, &[5])).unwrap();
    assert_eq!(told.recv_timeout(DEADLINE), Err(mpsc::RecvTimeoutError::Disconnected));
    let (error, _) = log.append(entry(1, &[5])).unwrap_err();
    assert!(matches!(error, AppendError::Failed(_)), "{error}");
    assert!(log.failed().unwrap().contains("panicked"));
    log.close();
}

#[test]
fn reading_ends_at_the_bytes_asked_for_but_gives_at_least_one_record() {
    let fs = disk();
    let rig = Rig::open(&fs, SMALL);
    (0..30).for_each(|seed| assert_eq!(rig.append(seed, 100), seed));
    let count = |from, bytes| rig.log.read(from, bytes).unwrap().len();
    assert_eq!((count(0, 0), count(0, 1), count(0, 100), count(0, 101)), (1, 1, 1, 2));
    assert_eq!((count(0, 1000), count(25, 1000), count(29, 1000)), (10, 5, 1));
    assert_eq!((count(30, 1000), count(u64::MAX, 1000)), (0, 0));
    assert_eq!(rig.log.read(17, 250).unwrap()[2].offset, 19, "across segments");
}

#[test]
fn records_are_found_by_offset_in_any_order() {
    let fs = disk();
    let rig = Rig::open(&fs, SMALL);
    (0..30).for_each(|seed| assert_eq!(rig.append(seed, 100), seed));
    let wanted = [29, 3, 3, 30, 0, u64::MAX, 17];
    let found: Vec<_> = rig
        .log
        .get(&wanted)
        .unwrap()
        .into_iter()
        .map(|record| record.map(|record| record.offset))
        .collect();
    assert_eq!(found, [Some(29), Some(3), Some(3), None, Some(0), None, Some(17)]);
    assert_eq!(rig.log.get(&[]).unwrap(), []);
}

#[test]
fn large_segments_are_prepared_before_they_are_needed() {
    let fs = disk();
    let options = Options { segment_bytes: 8 << 20, max_queued_bytes: 4 << 20 };
    let rig = Rig::open(&fs, options);
    let (tell, prepared) = mpsc::channel();
    rig.append(0, 3 << 20);
    let images = fs.clone();
    fs.after(Call::Create, move || tell.send(images.files().len()).unwrap());
    rig.append(1, 3 << 20);
    rig.append(2, 1 << 20);
    prepared.recv_timeout(DEADLINE).expect("a spare segment is begun");
    // Whether it is ready by now or not, records go on.
    for seed in 3..6 {
        rig.append(seed, 2 << 20);
    }
    assert_eq!(rig.log.segments().len(), 2);
    assert_eq!(rig.offsets(), [0, 1, 2, 3, 4, 5]);
    drop(rig);
    let tmp = fs.files().into_iter().find(|path| path.to_string_lossy().ends_with(".tmp"));
    assert_eq!(tmp, None);
    assert_eq!(Rig::open(&fs, options).offsets(), [0, 1, 2, 3, 4, 5]);
}
