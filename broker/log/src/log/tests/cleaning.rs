use std::thread;

use super::*;
use crate::error::CleanError;
use crate::fs::faulty::{Call, Crash, Effect, Fault};
use crate::log::Cleaned;

/// A log of this many records of 100 bytes, six a segment.
fn filled(count: u64) -> (FaultyFs, Rig) {
    let fs = disk();
    let rig = Rig::open(&fs, SMALL);
    (0..count).for_each(|seed| assert_eq!(rig.append(seed, 100), seed));
    (fs, rig)
}

fn bases(rig: &Rig) -> Vec<u64> {
    rig.log.segments().iter().map(|segment| segment.base).collect()
}

#[test]
fn segments_without_a_live_record_are_deleted_but_the_newest_stays() {
    let (fs, rig) = filled(30);
    assert_eq!(bases(&rig), [0, 6, 12, 18, 24]);
    let used = fs.used();
    let cleaned = rig.log.clean(0, &live([])).unwrap();
    assert_eq!((cleaned.deleted, cleaned.rewritten), (4, 0));
    assert_eq!(bases(&rig), [24]);
    assert!(used - fs.used() >= cleaned.freed_bytes, "{cleaned:?}");
    assert_eq!((rig.log.first(), rig.log.head()), (24, 30));
    assert_eq!(rig.append(30, 1000), 30);
    rig.log.clean(0, &live([])).unwrap();
    drop(rig);
    let rig = Rig::open(&fs, SMALL);
    assert_eq!((rig.offsets(), rig.log.head()), (vec![30], 31));
}

#[test]
fn the_newest_bytes_of_history_stay_whole() {
    let (_, rig) = filled(30);
    let size = rig.log.segments()[0].bytes;
    rig.log.clean(2 * size, &live([])).unwrap();
    assert_eq!(bases(&rig), [12, 18, 24]);
    rig.log.clean(2 * size - 1, &live([])).unwrap();
    assert_eq!(bases(&rig), [18, 24]);
}

#[test]
fn thin_segments_become_one_with_what_is_live() {
    let (fs, rig) = filled(60);
    let keep = [1, 8, 9, 20, 40, 41];
    let cleaned = rig.log.clean(0, &live(keep)).unwrap();
    assert!(cleaned.rewritten > 0 && cleaned.freed_bytes > 0, "{cleaned:?}");
    let newest: Vec<u64> = (54..60).collect();
    let expected: Vec<u64> = keep.into_iter().chain(newest).collect();
    assert_eq!(rig.offsets(), expected);
    check_agrees(&rig);
    assert_eq!(rig.log.clean(0, &live(keep)).unwrap(), Cleaned::default(), "nothing is left to do");
    drop(rig);
    let rig = Rig::open(&fs, SMALL);
    assert_eq!(check_agrees(&rig).keys().copied().collect::<Vec<_>>(), expected);
    assert_eq!((rig.recovery.damaged.len(), rig.recovery.superseded), (0, 0));
    assert!(rig.recovery.scanned_bytes <= 1024, "the rewritten ones have an index");
}

#[test]
fn segments_that_are_mostly_live_are_left_as_they_are() {
    let (_, rig) = filled(30);
    let keep: Vec<u64> = (0..30).filter(|offset| offset % 6 != 0).collect();
    assert_eq!(rig.log.clean(0, &live(keep)).unwrap(), Cleaned::default());
    assert_eq!(rig.offsets().len(), 30);
}

#[test]
fn damage_ends_when_its_segment_is_cleaned() {
    let (fs, rig) = filled(30);
    drop(rig);
    fs.corrupt(&segment(6), (128 + 50) * 8);
    let rig = Rig::open(&fs, SMALL);
    assert_eq!(rig.offsets().len(), 29);
    assert_eq!(rig.log.damage().len(), 1);
    rig.log.clean(0, &live([7, 8])).unwrap();
    assert_eq!((rig.log.damage(), rig.log.first()), (Vec::new(), 7));
    drop(rig);
    assert_eq!(Rig::open(&fs, SMALL).recovery.damaged, []);
}

#[test]
fn a_reader_goes_on_while_its_segments_are_replaced() {
    for step in [Call::Create, Call::Rename, Call::SyncDir, Call::Remove] {
        let (fs, rig) = filled(60);
        let keep = [1, 8, 9, 20, 40, 41];
        let answer = read_after(&fs, step, &rig.log, 0);
        rig.log.clean(0, &live(keep)).unwrap();
        assert_eq!(answer.recv_timeout(DEADLINE).unwrap(), Ok(Some(1)), "{step:?}");
    }
}

#[test]
fn a_segment_that_was_put_away_can_be_read_while_it_is_replaced() {
    let (fs, rig) = filled(6 * 80);
    let keep: Vec<u64> = [1, 7].into_iter().chain(12..480).collect();
    let log = rig.log.clone();
    // More are read than are kept open, just before the first one's name goes to the rewritten one.
    fs.after(Call::Sync, move || {
        assert_eq!(log.get(&(100..480).collect::<Vec<_>>()).unwrap().len(), 380)
    });
    let answer = read_after(&fs, Call::Rename, &rig.log, 0);
    assert_eq!(rig.log.clean(0, &live(keep)).unwrap().rewritten, 2);
    assert_eq!(answer.recv_timeout(DEADLINE).unwrap(), Ok(Some(1)));
}

/// Reads on another thread after this call of the cleaner, which goes on when the reader is done or has to wait for it:
/// the first of the offsets from `from` on that is among the live ones.
fn read_after(
    fs: &FaultyFs,
    call: Call,
    log: &Log<u64>,
    from: u64,
) -> Receiver<Result<Option<u64>, String>> {
    let (tell, answer) = mpsc::channel();
    let (done, is_done) = mpsc::channel();
    let log = log.clone();
    fs.after(call, move || {
        thread::spawn(move || {
            let read = log.read(from, 400).map_err(|error| format!("{error:?}"));
            let offset = |records: Vec<Record>| {
                records.iter().map(|record| record.offset).find(|offset| *offset == 1)
            };
            tell.send(read.map(offset)).unwrap();
            done.send(()).ok();
        });
        is_done.recv_timeout(Duration::from_millis(200)).ok();
    });
    answer
}

#[test]
fn cleaning_stops_at_a_full_disk_and_goes_on_when_there_is_room() {
    let (fs, rig) = filled(60);
    let keep = [1, 8, 9, 20, 40, 41];
    fs.set_capacity(Some(1));
    let error = rig.log.clean(0, &live(keep)).unwrap_err();
    assert!(matches!(error, CleanError::Full) && error.is_retryable(), "{error}");
    assert!(rig.log.get(&keep).unwrap().iter().all(Option::is_some));
    assert!(fs.files().iter().all(|path| path.extension().is_some_and(|end| end != "tmp")));
    fs.set_capacity(None);
    rig.log.clean(0, &live(keep)).unwrap();
    assert_eq!(rig.offsets().len(), 12);
    assert_eq!(rig.log.failed(), None);
}

#[test]
fn a_failed_log_is_not_cleaned() {
    let (fs, rig) = filled(30);
    fs.fail(Fault::os(5).only(&[Call::Sync]));
    rig.try_append(entry(99, &[10])).unwrap_err();
    let error = rig.log.clean(0, &live([])).unwrap_err();
    assert!(matches!(error, CleanError::Failed(_)) && !error.is_retryable(), "{error}");
    assert_eq!(rig.offsets().len(), 30);
}

#[test]
fn a_rewritten_segment_whose_name_is_not_durable_supersedes_nothing_yet() {
    let (fs, rig) = filled(60);
    let keep = [1, 8, 9, 20, 40, 41];
    // Killed between the rename and what makes it durable.
    fs.record_crashes();
    fs.fail(Fault::os(5).only(&[Call::SyncDir]));
    rig.log.clean(0, &live(keep)).unwrap_err();
    drop(rig);
    let images = fs.take_images();
    assert!(images.len() > 3);
    fs.record_crashes();
    drop(Rig::open(&fs, SMALL));
    for image in fs.take_images() {
        for seed in 0..40 {
            let rig = Rig::open(&image.crash(Crash::Random(seed)), SMALL);
            let found = rig.log.get(&keep).unwrap();
            assert!(found.iter().all(Option::is_some), "call {}, seed {seed}", image.call());
        }
    }
}

#[test]
fn what_cleaning_could_not_remove_is_removed_by_the_next_start() {
    let (fs, rig) = filled(60);
    let keep = [1, 8, 9, 20, 40, 41];
    fs.fail(Fault::os(5).only(&[Call::Remove]).with(Effect::None));
    let error = rig.log.clean(0, &live(keep)).unwrap_err();
    assert!(!error.is_retryable());
    check_agrees(&rig);
    assert!(rig.log.get(&keep).unwrap().iter().all(Option::is_some));
    rig.log.clean(0, &live(keep)).unwrap();
    drop(rig);
    let rig = Rig::open(&fs, SMALL);
    // A dead segment that stayed is found again, and cleaned again.
    rig.log.clean(0, &live(keep)).unwrap();
    let newest: Vec<u64> = (54..60).collect();
    assert_eq!(rig.offsets(), keep.into_iter().chain(newest).collect::<Vec<_>>());
    let segments = rig.log.segments().len();
    assert_eq!(fs.files().len(), 2 * segments - 1, "and an index for all but the newest");
}
