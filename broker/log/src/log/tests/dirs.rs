use std::fs;

use tempfile::TempDir;

use super::*;
use crate::dir::DataDir;
use crate::fs::faulty::{Call, Crash, Fault};
use crate::fs::{Fs, RealFs};
use crate::fsck::fsck;
use crate::segment::{Head, VERSION};

const DATA: &str = "/data";

fn data() -> &'static Path {
    Path::new(DATA)
}

/// A data directory with a record in it.
fn used() -> FaultyFs {
    let fs = FaultyFs::new();
    drop(DataDir::open(data(), &fs).unwrap());
    Rig::open(&fs, SMALL).append(1, 10);
    fs
}

/// The names and bytes of all files.
fn contents(fs: &FaultyFs) -> Vec<(PathBuf, Vec<u8>)> {
    fs.files().into_iter().map(|path| (path.clone(), fs.read_raw(&path).unwrap())).collect()
}

/// A header as a newer program would write it.
fn newer_head(base: u64) -> Vec<u8> {
    let mut copy = Head::new(base).encode()[..60].to_vec();
    copy[8..12].copy_from_slice(&(VERSION + 1).to_le_bytes());
    copy.extend_from_slice(&crc32c::crc32c(&copy).to_le_bytes());
    copy.repeat(2)
}

#[test]
fn a_directory_that_is_in_use_is_locked_until_it_is_dropped() {
    let fs = FaultyFs::new();
    let real = TempDir::new().unwrap();
    for (fs, path) in [(&fs as &dyn Fs, data()), (&RealFs, real.path())] {
        let first = DataDir::open(path, fs).unwrap();
        assert_eq!(
            (first.path(), first.log(), first.state()),
            (path, path.join("log"), path.join("state"))
        );
        for error in
            [DataDir::open(path, fs).unwrap_err(), fsck(path, fs, &mut |_, _| {}).unwrap_err()]
        {
            assert!(
                matches!(&error, OpenError::Locked { path: locked } if locked == path),
                "{error:?}"
            );
            assert_eq!(
                error.to_string(),
                format!("{} is in use by another process", path.display())
            );
            assert!(error.is_retryable());
        }
        drop(first);
        DataDir::open(path, fs).unwrap();
    }
}

#[test]
fn a_new_directory_says_its_format_and_is_the_owners_alone() {
    use std::os::unix::fs::PermissionsExt;
    let real = TempDir::new().unwrap();
    let path = real.path().join("deep/er");
    let dir = DataDir::open(&path, &RealFs).unwrap();
    assert_eq!(fs::read_to_string(path.join("format")).unwrap(), "weft 1\n");
    for dir in [path.clone(), dir.log(), dir.state()] {
        assert_eq!(
            fs::metadata(&dir).unwrap().permissions().mode() & 0o777,
            0o700,
            "{}",
            dir.display()
        );
    }
    for file in ["format", "lock"] {
        assert_eq!(
            fs::metadata(path.join(file)).unwrap().permissions().mode() & 0o777,
            0o600,
            "{file}"
        );
    }
}

#[test]
fn a_directory_of_a_newer_program_is_refused_with_both_versions() {
    let fs = used();
    let path = data().join("format");
    fs.write_raw(&path, b"weft 7\n");
    let before = contents(&fs);
    for error in
        [DataDir::open(data(), &fs).unwrap_err(), fsck(data(), &fs, &mut |_, _| {}).unwrap_err()]
    {
        let OpenError::Newer { path: of, found, supported } = &error else { panic!("{error:?}") };
        assert_eq!((of, *found, *supported), (&path, 7, 1));
        assert_eq!(
            error.to_string(),
            "/data/format has format 7, this program reads up to 1: use a newer program"
        );
        assert!(!error.is_retryable());
    }
    assert_eq!(contents(&fs), before);
}

#[test]
fn foreign_content_is_refused_with_what_was_expected() {
    for foreign in
        ["", "weft", "weft one", "weft 1 2", "loom 1", "weft -1", "weft 4294967296", "\u{fffd}"]
    {
        let fs = used();
        fs.write_raw(&data().join("format"), foreign.as_bytes());
        let before = contents(&fs);
        let error = DataDir::open(data(), &fs).unwrap_err();
        assert!(matches!(&error, OpenError::Foreign { .. }), "{foreign:?}: {error:?}");
        let expected =
            format!("/data/format is not a data directory: expected \"weft 1\", found {foreign:?}");
        assert_eq!(error.to_string(), expected);
        assert!(!error.is_retryable());
        assert_eq!(contents(&fs), before);
    }
}

#[test]
fn a_long_foreign_file_is_not_quoted_whole() {
    let fs = used();
    fs.write_raw(&data().join("format"), &[b'x'; 1 << 20]);
    assert!(DataDir::open(data(), &fs).unwrap_err().to_string().len() < 200);
}

#[test]
fn a_check_refuses_what_is_no_data_directory() {
    let fs = disk();
    let error = fsck(data(), &fs, &mut |_, _| {}).unwrap_err();
    assert!(matches!(error, OpenError::Foreign { .. }), "{error:?}");
    assert!(
        error.to_string().contains("there is no file \"format\" that says \"weft 1\""),
        "{error}"
    );
    assert_eq!(fs.files(), Vec::<PathBuf>::new(), "and leaves nothing in it");
}

#[test]
fn a_file_in_the_place_of_the_directory_is_told() {
    let real = TempDir::new().unwrap();
    let path = real.path().join("data");
    fs::write(&path, b"mine").unwrap();
    let fs = FaultyFs::new();
    fs.write_raw(data(), b"mine");
    for (fs, path) in [(&fs as &dyn Fs, data()), (&RealFs, &path)] {
        for path in [path.to_owned(), path.join("below")] {
            let error = DataDir::open(&path, fs).unwrap_err();
            assert!(
                matches!(&error, OpenError::Io { action: "create", path: of, .. } if *of == path),
                "{error:?}"
            );
        }
    }
    assert_eq!(fs::read(&path).unwrap(), b"mine");
}

#[test]
fn a_directory_that_cannot_be_written_to_is_told_with_its_path() {
    for number in [13, 30] {
        let fs = used();
        let before = contents(&fs);
        // Refused is what changes something, not making a directory that exists.
        let changes: Vec<Call> =
            Call::CHANGES.iter().copied().filter(|call| *call != Call::CreateDir).collect();
        fs.fail(Fault::os(number).only(&changes).always());
        let error = DataDir::open(data(), &fs).unwrap_err();
        let OpenError::ReadOnly { path, .. } = &error else { panic!("{error:?}") };
        assert_eq!(path, &data().join("lock"));
        assert_eq!(error.to_string(), "/data/lock cannot be written to");
        assert!(!error.is_retryable());
        // A check needs no more than reading.
        let report = fsck(data(), &fs, &mut |_, _| {}).unwrap();
        assert_eq!((report.records, report.problems.len()), (1, 0));
        fs.fail(Fault::os(number).only(&[Call::CreateDir]));
        let error = DataDir::open(data(), &fs).unwrap_err();
        assert!(matches!(&error, OpenError::ReadOnly { path, .. } if path == data()), "{error:?}");
        assert_eq!(contents(&fs), before);
    }
}

#[test]
fn a_log_that_cannot_be_written_to_is_told_and_not_changed() {
    for number in [13, 30] {
        let fs = used();
        fs.write_raw(&Path::new(DIR).join("new.tmp"), b"half");
        let before = contents(&fs);
        fs.fail(Fault::os(number).only(Call::CHANGES).always());
        let error = Rig::try_open(&fs, SMALL).err().expect("it is refused");
        assert!(
            matches!(&error, OpenError::ReadOnly { path, .. } if path.starts_with(DIR)),
            "{error:?}"
        );
        assert_eq!(contents(&fs), before);
    }
}

#[test]
fn a_segment_of_a_newer_program_is_refused_and_nothing_is_changed() {
    let fs = used();
    // What would be tidied up otherwise: a file being made, a segment that a rewritten one stands for, an index of none.
    fs.write_raw(&Path::new(DIR).join("new.tmp"), b"half");
    fs.write_raw(&index(50), b"old");
    fs.write_raw(&segment(5), &Head { tag: 1, base: 5, end: Some(9) }.encode());
    fs.write_raw(&segment(6), &Head::new(6).encode());
    for base in [0, 100] {
        let fs = fs.crash(Crash::Everything);
        fs.write_raw(&segment(base), &newer_head(base));
        let before = contents(&fs);
        for error in [
            Rig::try_open(&fs, SMALL).err().unwrap(),
            fsck(data(), &fs, &mut |_, _| {}).unwrap_err(),
        ] {
            let OpenError::Newer { path, found, supported } = &error else { panic!("{error:?}") };
            assert_eq!((path, *found, *supported), (&segment(base), VERSION + 1, VERSION));
        }
        let after: Vec<_> =
            contents(&fs).into_iter().filter(|(path, _)| !path.ends_with("lock")).collect();
        let before: Vec<_> =
            before.into_iter().filter(|(path, _)| !path.ends_with("lock")).collect();
        assert_eq!(after, before);
    }
}

#[test]
fn unfinished_files_are_removed_and_unknown_ones_are_left_alone() {
    let fs = used();
    let log = Path::new(DIR);
    let unknown =
        ["README", "1.seg", "00000000000000000000.seg.old", "x.idx", "00000000000000000000"];
    for name in ["new.tmp", "spare.tmp", "clean.tmp", "other.tmp"] {
        fs.write_raw(&log.join(name), b"half");
    }
    // An index whose segment is gone says nothing.
    fs.write_raw(&log.join("00000000000000000099.idx"), b"old");
    for name in unknown {
        fs.write_raw(&log.join(name), name.as_bytes());
    }
    fs.write_raw(&log.join("sub/dir.tmp"), b"not ours");
    fs.write_raw(&data().join("notes"), b"not ours");
    drop(DataDir::open(data(), &fs).unwrap());
    let rig = Rig::open(&fs, SMALL);
    rig.append(2, 2000);
    rig.log.clean(0, &live([])).unwrap();
    drop(rig);
    for name in unknown {
        assert_eq!(fs.read_raw(&log.join(name)).unwrap(), name.as_bytes());
    }
    assert_eq!(fs.read_raw(&log.join("sub/dir.tmp")).unwrap(), b"not ours");
    assert_eq!(fs.read_raw(&data().join("notes")).unwrap(), b"not ours");
    let ours = fs.files().into_iter().filter(|path| {
        path.parent() == Some(log)
            && path.extension().is_some_and(|end| end == "tmp" || end == "idx")
    });
    assert_eq!(ours.collect::<Vec<_>>(), [log.join("x.idx")]);
}

#[test]
fn an_empty_directory_is_an_empty_log() {
    let fs = FaultyFs::new();
    let rig = Rig::open(&fs, SMALL);
    assert_eq!(rig.recovery, Recovery::default());
    assert_eq!((rig.log.head(), rig.log.first(), rig.log.offset_at(0)), (0, 0, 0));
    assert_eq!(rig.log.read(0, 100).unwrap(), []);
    assert_eq!(rig.log.get(&[0]).unwrap(), [None]);
    assert_eq!(rig.log.clean(0, &live([])).unwrap(), crate::log::Cleaned::default());
    drop(rig);
    let rig = Rig::open(&fs, SMALL);
    assert_eq!((rig.recovery.segments, rig.recovery.head), (1, 0));
    assert_eq!(rig.append(0, 1), 0);
}

#[test]
fn a_log_on_the_real_file_system_is_read_back() {
    let real = TempDir::new().unwrap();
    let data = DataDir::open(real.path(), &RealFs).unwrap();
    let open = || {
        let (tell, told) = mpsc::channel();
        let on_commit = move |commits: &mut Vec<Commit<u64>>| {
            commits.drain(..).for_each(|commit| tell.send(commit).unwrap());
        };
        let (log, recovery) = Log::open(&data.log(), Arc::new(RealFs), SMALL, on_commit).unwrap();
        (log, recovery, told)
    };
    let (log, _, told) = open();
    let mut written = Vec::new();
    for seed in 0..40 {
        log.append(entry(seed, &[100, 3])).unwrap();
        let commit = told.recv_timeout(DEADLINE).unwrap();
        commit.result.unwrap();
        written.extend(records_of(&entry(seed, &[100, 3]), commit.first_offset));
    }
    assert_eq!(log.read(0, usize::MAX).unwrap(), written);
    let keep = [0, 3, 31, 32, 79];
    assert!(log.clean(0, &live(keep)).unwrap().rewritten > 0);
    let kept = log.read(0, usize::MAX).unwrap();
    drop(log);
    let (log, recovery, _told) = open();
    assert_eq!((recovery.head, recovery.damaged.len(), recovery.torn.len()), (80, 0, 0));
    assert_eq!(log.read(0, usize::MAX).unwrap(), kept);
    let found: Vec<_> = log.get(&keep).unwrap().into_iter().flatten().collect();
    let wanted: Vec<_> = keep.iter().map(|offset| written[*offset as usize].clone()).collect();
    assert_eq!(found, wanted);
    drop((log, data));
    let report = fsck(real.path(), &RealFs, &mut |_, _| {}).unwrap();
    assert_eq!((report.records, report.problems), (kept.len() as u64, Vec::new()));
}

#[test]
fn a_new_directory_survives_a_power_failure_with_those_above_it() {
    let (fs, path) = (FaultyFs::new(), Path::new("/srv/weft/data"));
    drop(DataDir::open(path, &fs).unwrap());
    let crashed = fs.crash(Crash::Nothing);
    assert!(crashed.files().contains(&path.join("format")), "{:?}", crashed.files());
}
