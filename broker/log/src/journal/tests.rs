use std::fs;

use tempfile::TempDir;

use super::*;
use crate::fs::RealFs;

mod crash;
mod faults;
mod ledger;

const TRAIL: u64 = 1 << 20;

fn open(dir: &Path) -> (Journal, Restored) {
    Journal::open(dir, Arc::new(RealFs), TRAIL).unwrap()
}

fn append(journal: &mut Journal, records: &[&str]) {
    for record in records {
        journal.append(record.as_bytes()).unwrap();
    }
    journal.sync().unwrap();
}

fn words(restored: &Restored) -> Vec<String> {
    restored.records.iter().map(|record| String::from_utf8(record.clone()).unwrap()).collect()
}

fn trail(dir: &Path) -> Vec<String> {
    let mut seen = Vec::new();
    Journal::trail(dir, &RealFs, &mut |record| {
        seen.push(String::from_utf8(record.to_vec()).unwrap())
    })
    .unwrap();
    seen
}

/// Names of the files with this ending, oldest first.
fn files(dir: &Path, ending: &str) -> Vec<PathBuf> {
    let mut files: Vec<_> = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|path| path.extension().is_some_and(|found| found == ending));
    files.sort();
    files
}

fn problems(dir: &Path) -> Vec<String> {
    let mut problems = Vec::new();
    check(dir, &RealFs, &mut |_, _, what| problems.push(what), &mut |_| {}).unwrap();
    problems
}

#[test]
fn what_was_flushed_is_read_back_in_order() {
    let dir = TempDir::new().unwrap();
    let (mut journal, restored) = open(dir.path());
    assert_eq!(restored, Restored::default());
    journal.append(b"one").unwrap();
    journal.append(b"").unwrap();
    journal.flush().unwrap();
    journal.append(b"never flushed").unwrap();
    drop(journal);
    let (mut journal, restored) = open(dir.path());
    assert_eq!(words(&restored), ["one", ""]);
    append(&mut journal, &["three"]);
    let (_, restored) = open(dir.path());
    assert_eq!(words(&restored), ["one", "", "three"]);
    assert_eq!((restored.damaged, restored.fell_back), (0, false));
    assert!(problems(dir.path()).is_empty());
}

#[test]
fn a_snapshot_stands_for_the_records_before_it() {
    let dir = TempDir::new().unwrap();
    let (mut journal, _) = open(dir.path());
    append(&mut journal, &["a", "b"]);
    assert!(journal.bytes_since_snapshot() > 2);
    let state = vec![7; (2 << 20) + 1];
    journal.snapshot(&state).unwrap();
    assert_eq!(journal.bytes_since_snapshot(), 0);
    append(&mut journal, &["c"]);
    let since = journal.bytes_since_snapshot();
    let (journal, restored) = open(dir.path());
    assert_eq!(restored.snapshot.as_deref(), Some(state.as_slice()));
    assert_eq!(words(&restored), ["c"]);
    assert_eq!(journal.bytes_since_snapshot(), since);
    assert_eq!(trail(dir.path()), ["a", "b", "c"]);
}

#[test]
fn an_empty_state_is_a_state() {
    let dir = TempDir::new().unwrap();
    let (mut journal, _) = open(dir.path());
    for _ in 0..3 {
        journal.snapshot(b"").unwrap();
    }
    append(&mut journal, &["a"]);
    let (_, restored) = open(dir.path());
    assert_eq!(restored.snapshot.as_deref(), Some(&[] as &[u8]));
    assert_eq!(words(&restored), ["a"]);
    assert_eq!(files(dir.path(), "snap").len(), 1);
}

#[test]
fn a_torn_end_is_cut_and_written_over() {
    let dir = TempDir::new().unwrap();
    let (mut journal, _) = open(dir.path());
    append(&mut journal, &["kept"]);
    journal.append(b"torn").unwrap();
    journal.flush().unwrap();
    let path = files(dir.path(), "jnl").remove(0);
    let whole = fs::read(&path).unwrap();
    let torn = HEADER + b"torn".len();
    for cut in 1..=torn {
        fs::write(&path, &whole[..whole.len() - cut]).unwrap();
        assert!(problems(dir.path()).is_empty(), "cut {cut}");
        let (mut journal, restored) = open(dir.path());
        assert_eq!((words(&restored), restored.damaged), (vec!["kept".to_owned()], 0), "cut {cut}");
        append(&mut journal, &["next"]);
        let (_, restored) = open(dir.path());
        assert_eq!((words(&restored).join(" "), restored.damaged), ("kept next".to_owned(), 0));
        fs::write(&path, &whole).unwrap();
    }
}

#[test]
fn every_flipped_bit_costs_the_record_it_hits_and_is_counted() {
    let dir = TempDir::new().unwrap();
    let (mut journal, _) = open(dir.path());
    append(&mut journal, &["first"]);
    append(&mut journal, &["second"]);
    append(&mut journal, &["third"]);
    let path = files(dir.path(), "jnl").remove(0);
    let whole = fs::read(&path).unwrap();
    let record = (FIRST_RECORD as usize + HEADER + 5)..(FIRST_RECORD as usize + 2 * HEADER + 11);
    for bit in record.start * 8..record.end * 8 {
        let mut bad = whole.clone();
        bad[bit / 8] ^= 1 << (bit % 8);
        fs::write(&path, &bad).unwrap();
        assert_eq!(problems(dir.path()).len(), 1, "bit {bit}");
        let (_, restored) = open(dir.path());
        assert_eq!(
            (words(&restored).join(" "), restored.damaged),
            ("first third".to_owned(), 1),
            "bit {bit}"
        );
    }
}

#[test]
fn a_damaged_snapshot_is_replaced_by_the_one_before_and_the_records_since() {
    let dir = TempDir::new().unwrap();
    let (mut journal, _) = open(dir.path());
    append(&mut journal, &["a"]);
    journal.snapshot(b"A").unwrap();
    append(&mut journal, &["b"]);
    journal.snapshot(b"AB").unwrap();
    append(&mut journal, &["c"]);
    drop(journal);
    let newest = files(dir.path(), "snap").pop().unwrap();
    let whole = fs::read(&newest).unwrap();
    for bit in 0..whole.len() * 8 {
        let mut bad = whole.clone();
        bad[bit / 8] ^= 1 << (bit % 8);
        fs::write(&newest, &bad).unwrap();
        let (_, restored) = open(dir.path());
        if bit / 8 < FIRST_RECORD as usize {
            // The header is there twice, and can be told from the records.
            assert_eq!(restored.snapshot.as_deref(), Some(b"AB" as &[u8]), "bit {bit}");
            continue;
        }
        assert!(restored.fell_back, "bit {bit}");
        assert_eq!(restored.snapshot.as_deref(), Some(b"A" as &[u8]), "bit {bit}");
        assert_eq!((words(&restored).join(" "), restored.damaged), ("b c".to_owned(), 0));
        assert_eq!(problems(dir.path()).len(), 1);
    }
    // The next snapshot makes it whole again, and keeps what it fell back on.
    let (mut journal, _) = open(dir.path());
    journal.snapshot(b"ABC").unwrap();
    let kept = files(dir.path(), "snap");
    assert_eq!(kept.len(), 2);
    assert!(!kept.contains(&newest));
    assert!(problems(dir.path()).is_empty());
}

#[test]
fn the_first_snapshot_is_replaced_by_the_records_from_the_beginning() {
    let dir = TempDir::new().unwrap();
    let (mut journal, _) = open(dir.path());
    append(&mut journal, &["a", "b"]);
    journal.snapshot(b"AB").unwrap();
    append(&mut journal, &["c"]);
    fs::write(files(dir.path(), "snap").remove(0), b"").unwrap();
    let (_, restored) = open(dir.path());
    assert_eq!((restored.snapshot.clone(), restored.fell_back), (None, true));
    assert_eq!(words(&restored), ["a", "b", "c"]);
}

#[test]
fn without_any_state_it_is_not_opened_and_nothing_is_changed() {
    let dir = TempDir::new().unwrap();
    let (mut journal, _) = Journal::open(dir.path(), Arc::new(RealFs), 0).unwrap();
    for state in [b"A", b"B", b"C"] {
        append(&mut journal, &["record"]);
        journal.snapshot(state).unwrap();
    }
    drop(journal);
    for path in files(dir.path(), "snap") {
        fs::write(path, b"gone").unwrap();
    }
    let before = files(dir.path(), "jnl");
    let error = Journal::open(dir.path(), Arc::new(RealFs), 0).unwrap_err();
    assert!(matches!(error, OpenError::Damaged { .. }), "{error}");
    assert!(!error.is_retryable());
    assert_eq!(files(dir.path(), "jnl"), before);
}

#[test]
fn a_missing_journal_is_counted() {
    let dir = TempDir::new().unwrap();
    let (mut journal, _) = open(dir.path());
    append(&mut journal, &["a"]);
    journal.snapshot(b"A").unwrap();
    append(&mut journal, &["b", "c"]);
    journal.snapshot(b"ABC").unwrap();
    append(&mut journal, &["d"]);
    fs::remove_file(files(dir.path(), "snap").pop().unwrap()).unwrap();
    fs::remove_file(files(dir.path(), "jnl").remove(1)).unwrap();
    let (_, restored) = open(dir.path());
    assert_eq!((restored.snapshot.as_deref(), restored.damaged), (Some(b"A" as &[u8]), 2));
    assert_eq!(words(&restored), ["d"]);
    assert_eq!(problems(dir.path()), ["2 records before it are missing"]);
}

#[test]
fn the_trail_is_bounded_and_what_may_be_needed_is_not_part_of_it() {
    let dir = TempDir::new().unwrap();
    let (mut journal, _) = Journal::open(dir.path(), Arc::new(RealFs), 0).unwrap();
    let (mut kept, _) = Journal::open(&dir.path().join("kept"), Arc::new(RealFs), TRAIL).unwrap();
    for round in 0..10 {
        for journal in [&mut journal, &mut kept] {
            append(journal, &[&format!("{round}")]);
            journal.snapshot(b"state").unwrap();
        }
    }
    assert_eq!(trail(dir.path()), ["9"], "the newest snapshot may still have to be stood in for");
    assert_eq!(trail(&dir.path().join("kept")).len(), 10);
    assert_eq!(files(dir.path(), "snap").len(), 2);
}

#[test]
fn a_lost_header_costs_no_record() {
    let dir = TempDir::new().unwrap();
    let (mut journal, _) = open(dir.path());
    append(&mut journal, &["a", "b"]);
    let path = files(dir.path(), "jnl").remove(0);
    let mut bytes = fs::read(&path).unwrap();
    bytes[..FIRST_RECORD as usize].fill(0);
    fs::write(&path, bytes).unwrap();
    assert_eq!(problems(dir.path()), ["the header is unreadable"]);
    let (mut journal, restored) = open(dir.path());
    assert_eq!(words(&restored), ["a", "b"]);
    append(&mut journal, &["c"]);
    let (_, restored) = open(dir.path());
    assert_eq!(words(&restored), ["a", "b", "c"]);
}

#[test]
fn unfinished_files_are_removed_and_newer_ones_refused() {
    let dir = TempDir::new().unwrap();
    let (mut journal, _) = open(dir.path());
    append(&mut journal, &["a"]);
    drop(journal);
    fs::write(dir.path().join("00000000000000000009.tmp"), b"half").unwrap();
    open(dir.path());
    assert_eq!(files(dir.path(), "tmp").len(), 0);
    let mut head = Head::new(0).encode()[..60].to_vec();
    head[8..12].copy_from_slice(&99_u32.to_le_bytes());
    head.extend_from_slice(&crc32c::crc32c(&head).to_le_bytes());
    fs::write(files(dir.path(), "jnl").remove(0), head.repeat(2)).unwrap();
    let error = Journal::open(dir.path(), Arc::new(RealFs), 0).unwrap_err();
    assert!(matches!(error, OpenError::Newer { found: 99, .. }), "{error}");
}

#[test]
fn records_have_a_largest_size() {
    let dir = TempDir::new().unwrap();
    let (mut journal, _) = open(dir.path());
    let error = journal.append(&vec![0; Journal::MAX_RECORD + 1]).unwrap_err();
    assert!(matches!(error, JournalError::TooLarge));
    append(&mut journal, &["smaller"]);
}
