//! A data directory as version 1 of the format was written, kept in `tests/fixtures`. It must be readable for ever; a change
//! to what is written shows here.

use std::fs;

use tempfile::TempDir;

use super::*;
use crate::dir::{DataDir, FORMAT};
use crate::fs::faulty::Crash;
use crate::fs::{Fs, RealFs};
use crate::fsck::fsck;
use crate::index::{self, Subject};
use crate::journal::{Journal, Restored};
use crate::record::{GAP, Header, Place};
use crate::recovery::{self, Trust};
use crate::scan::{Found, Scanner};
use crate::segment::{FIRST_RECORD, Head, HeadRead, VERSION};

const DATA: &str = "/data";
const TRAIL: u64 = 1 << 20;
const KEPT: [u64; 4] = [1, 8, 9, 15];

fn home(version: u32) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/fixtures/v{version}"))
}

/// Makes what the fixture holds: a rewritten segment, a sealed one, one that takes more and has a gap; a journal with two
/// snapshots.
fn make() -> FaultyFs {
    let fs = FaultyFs::new();
    let dir = DataDir::open(Path::new(DATA), &fs).unwrap();
    let rig = Rig::open(&fs, SMALL);
    (0..36).for_each(|seed| assert_eq!(rig.append(seed, 100), seed));
    rig.log.clean(1000, &live(KEPT)).unwrap();
    rig.append(36, 0);
    fs.record_crashes();
    rig.try_append(entry(37, &[30, 40])).unwrap();
    drop(rig);
    let images = fs.take_images();
    let torn = images.into_iter().find(|image| image.last_write() == 150).expect("it was written");
    drop(dir);
    let fs = torn.crash(Crash::LastWrite(100));
    let rig = Rig::open(&fs, SMALL);
    let told = rig.try_append(entry(38, &[5, 6, 7])).unwrap();
    assert_eq!(told.commit.first_offset, 40, "behind a gap");
    drop(rig);
    let state = Path::new(DATA).join("state");
    let (mut journal, _) = Journal::open(&state, Arc::new(fs.clone()), TRAIL).unwrap();
    for round in 0..3_u8 {
        for number in 0..3 {
            journal.append(&[b'a' + round, b'0' + number]).unwrap();
        }
        journal.sync().unwrap();
        if round < 2 {
            journal.snapshot(format!("state {round}").as_bytes()).unwrap();
        }
    }
    fs
}

/// What the fixture holds.
fn expected() -> (BTreeMap<u64, Record>, Restored) {
    let records = |seed: u64| records_of(&entry(seed, &[100]), seed);
    let mut all: Vec<Record> = KEPT.into_iter().chain(24..36).flat_map(records).collect();
    all.extend(records_of(&entry(36, &[0]), 36));
    all.extend(records_of(&entry(38, &[5, 6, 7]), 40));
    let restored = Restored {
        snapshot: Some(b"state 1".to_vec()),
        records: vec![b"c0".to_vec(), b"c1".to_vec(), b"c2".to_vec()],
        ..Restored::default()
    };
    (by_offset(all), restored)
}

/// A directory's files on a file system of its own.
fn load(dir: &Path) -> FaultyFs {
    let faulty = FaultyFs::new();
    for sub in ["", "log", "state"] {
        for entry in RealFs.list(&dir.join(sub)).unwrap() {
            let path = Path::new(sub).join(&entry.name);
            faulty.write_raw(&Path::new(DATA).join(&path), &fs::read(dir.join(&path)).unwrap());
        }
    }
    faulty
}

fn save(faulty: &FaultyFs, dir: &Path) {
    for path in faulty.files().iter().filter(|path| !path.ends_with("lock")) {
        let to = dir.join(path.strip_prefix(DATA).unwrap());
        fs::create_dir_all(to.parent().unwrap()).unwrap();
        fs::write(to, faulty.read_raw(path).unwrap()).unwrap();
    }
}

/// Files and their sizes. The lock says nothing.
fn sizes(fs: &FaultyFs) -> Vec<(PathBuf, usize)> {
    let files = fs.files().into_iter().filter(|path| !path.ends_with("lock"));
    files.map(|path| (path.clone(), fs.read_raw(&path).unwrap().len())).collect()
}

#[test]
fn a_directory_of_version_1_holds_what_was_written() {
    let real = TempDir::new().unwrap();
    save(&load(&home(1)), real.path());
    let report = fsck(real.path(), &RealFs, &mut |_, _| {}).unwrap();
    let (records, restored) = expected();
    assert_eq!((report.problems, report.records), (Vec::new(), records.len() as u64));
    let dir = DataDir::open(real.path(), &RealFs).unwrap();
    let (log, recovery) =
        Log::open(&dir.log(), Arc::new(RealFs), SMALL, |_: &mut Vec<Commit<()>>| {}).unwrap();
    let found = by_offset(log.read(0, usize::MAX).unwrap());
    assert_eq!(found, records);
    assert_eq!((recovery.head, recovery.torn.len(), recovery.damaged.len()), (43, 0, 0));
    let newest = log.segments().pop().unwrap().bytes;
    assert_eq!(recovery.scanned_bytes, newest, "the others' indexes are read");
    let (_, found) = Journal::open(&dir.state(), Arc::new(RealFs), TRAIL).unwrap();
    assert_eq!(found, restored);
    let mut trail = Vec::new();
    Journal::trail(&dir.state(), &RealFs, &mut |record| trail.extend_from_slice(record)).unwrap();
    assert_eq!(trail, b"a0a1a2b0b1b2c0c1c2");
}

#[test]
fn the_same_is_written_today() {
    let (old, new) = (load(&home(1)), make());
    assert_eq!(sizes(&old), sizes(&new));
    for path in new.files() {
        let (old, new) = (old.read_raw(&path), new.read_raw(&path).unwrap());
        match path.extension().and_then(|ending| ending.to_str()) {
            Some("seg" | "jnl" | "snap") => assert_eq!(decode(&old.unwrap()), decode(&new)),
            // A total for a total; tag and checksums differ.
            Some("idx") => assert_eq!(old.unwrap()[44..], new[44..], "{}", path.display()),
            _ if path.ends_with("lock") => {}
            _ => assert_eq!(old.unwrap(), new, "{}", path.display()),
        }
    }
}

/// What is in a file of records, without its tag.
fn decode(bytes: &[u8]) -> (Head, Vec<(u64, Header, Vec<u8>)>) {
    let HeadRead::Good(head) = Head::decode(bytes) else { panic!("no header") };
    let mut records = Vec::new();
    walk(bytes, head, |position, header, payload| {
        records.push((position, header, payload.to_vec()));
    });
    (Head { tag: 0, ..head }, records)
}

fn walk(bytes: &[u8], head: Head, mut see: impl FnMut(u64, Header, &[u8])) {
    let (fs, path) = (FaultyFs::new(), Path::new("/file"));
    fs.write_raw(path, bytes);
    let file = fs.open(path, crate::fs::Access::Read).unwrap();
    let mut scanner = Scanner::new(file, head.tag, FIRST_RECORD..bytes.len() as u64, 1 << 20);
    while let Some(found) = scanner.next().unwrap() {
        let Found::Record { position, header } = found else { panic!("{found:?}") };
        see(position, header, scanner.payload());
    }
}

#[test]
fn with_the_tags_of_then_the_bytes_are_those_of_then() {
    let old = load(&home(1));
    let (mut kinds, mut gaps) = (Vec::new(), 0);
    for path in old.files() {
        let Some(ending @ ("seg" | "jnl" | "snap")) =
            path.extension().and_then(|ending| ending.to_str())
        else {
            continue;
        };
        let then = old.read_raw(&path).unwrap();
        let HeadRead::Good(head) = Head::decode(&then) else { panic!("{}", path.display()) };
        let mut now = head.encode();
        walk(&then, head, |position, header, payload| {
            gaps += usize::from(header.is(GAP));
            crate::record::encode(&mut now, Place { tag: head.tag, position }, header, payload);
        });
        assert_eq!(now, then, "{}", path.display());
        kinds.push((ending.to_owned(), head.end.is_some()));
        let index = path.with_extension("idx");
        if let Some(then) = old.read_raw(&index) {
            assert_eq!(encode_index(&old, &path, head), then, "{}", index.display());
            kinds.push(("idx".to_owned(), head.end.is_some()));
        }
    }
    for kind in [
        ("seg", true),
        ("seg", false),
        ("idx", true),
        ("idx", false),
        ("jnl", false),
        ("snap", false),
    ] {
        assert!(kinds.contains(&(kind.0.to_owned(), kind.1)), "{kind:?} of {kinds:?}");
    }
    assert_eq!(gaps, 1);
}

/// The index that a scan of the segment gives.
fn encode_index(fs: &FaultyFs, path: &Path, head: Head) -> Vec<u8> {
    let file = fs.open(path, crate::fs::Access::Read).unwrap();
    let size = file.size().unwrap();
    let scanned = recovery::scan(&file, head, size, Trust::Everything { next_base: None }).unwrap();
    let (to, subject) = (Path::new("/data/new"), Subject { tag: head.tag, size });
    index::write(fs, to, subject, &scanned.contents, &scanned.marks).unwrap();
    fs.read_raw(to).unwrap()
}

#[test]
fn the_fixture_is_of_the_version_that_is_written() {
    let format = fs::read_to_string(home(FORMAT).join("format")).expect("a version has a fixture");
    assert_eq!(format, format!("weft {FORMAT}\n"));
    assert_eq!(
        (FORMAT, VERSION),
        (1, 1),
        "a fixture of the new version, and the old one still read"
    );
    let bytes: usize = sizes(&load(&home(FORMAT))).iter().map(|(_, size)| size).sum();
    assert!(bytes < 100 << 10, "{bytes} bytes");
}

#[test]
#[ignore = "makes the fixture of a new version of the format"]
fn make_the_fixture() {
    let dir = home(FORMAT);
    assert!(!dir.try_exists().unwrap(), "a fixture is made once");
    save(&make(), &dir);
}
