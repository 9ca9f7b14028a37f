use std::io;
use std::path::Path;

use crate::fs::faulty::{Call, Crash, Effect, Fault, FaultyFs};
use crate::fs::{Access, Fs};

fn dir() -> &'static Path {
    Path::new("/d")
}

fn file() -> &'static Path {
    Path::new("/d/f")
}

fn with_dir() -> FaultyFs {
    let fs = FaultyFs::new();
    fs.make_dir(dir());
    fs
}

fn read(fs: &FaultyFs) -> Option<Vec<u8>> {
    fs.read_raw(file())
}

#[test]
fn contents_need_a_sync_of_the_file_and_names_one_of_the_directory() {
    let fs = with_dir();
    let f = fs.create(file()).unwrap();
    f.write_at(b"one", 0).unwrap();
    assert_eq!(read(&fs.crash(Crash::Nothing)), None);
    f.sync_data().unwrap();
    assert_eq!(read(&fs.crash(Crash::Nothing)), None);
    fs.sync_dir(dir()).unwrap();
    assert_eq!(read(&fs.crash(Crash::Nothing)).unwrap(), b"one");
    f.write_at(b"two", 0).unwrap();
    f.write_at(b"more", 3).unwrap();
    assert_eq!(read(&fs.crash(Crash::Nothing)).unwrap(), b"one");
    assert_eq!(read(&fs.crash(Crash::Everything)).unwrap(), b"twomore");
    assert_eq!(read(&fs.crash(Crash::LastWrite(1))).unwrap(), b"twom");
    fs.rename(file(), Path::new("/d/g")).unwrap();
    assert_eq!(fs.crash(Crash::Nothing).files(), [file()]);
    assert_eq!(fs.crash(Crash::Everything).files(), [Path::new("/d/g")]);
    let both: Vec<_> = (0..64).map(|seed| fs.crash(Crash::Random(seed)).files()).collect();
    assert!(both.iter().all(|files| files.len() == 1), "a rename is atomic");
    assert!(both.iter().any(|files| files[0] == file()));
    assert!(both.iter().any(|files| files[0] != file()));
}

#[test]
fn pages_are_lost_and_kept_one_by_one_and_may_be_torn() {
    let fs = with_dir();
    let f = fs.create(file()).unwrap();
    f.write_at(&[1; 1536], 0).unwrap();
    f.sync_all().unwrap();
    fs.sync_dir(dir()).unwrap();
    f.write_at(&[2; 1536], 0).unwrap();
    assert_eq!(fs.unsynced_pages(), 3);
    let bytes = read(&fs.crash(Crash::AllButPage(1))).unwrap();
    assert_eq!((bytes[0], bytes[600], bytes[1100]), (2, 1, 2));
    let bytes = read(&fs.crash(Crash::OnlyPage(1))).unwrap();
    assert_eq!((bytes[0], bytes[600], bytes[1100]), (1, 2, 1));
    let seen: Vec<_> = (0..200).map(|seed| read(&fs.crash(Crash::Random(seed))).unwrap()).collect();
    assert!(seen.iter().any(|bytes| bytes[0] != bytes[511]), "a page is torn");
    assert!(seen.iter().any(|bytes| bytes[0] == 1 && bytes[1535] == 2), "a later page came first");
    assert!(seen.iter().flatten().all(|byte| [1, 2].contains(byte)), "nothing is invented");
}

#[test]
fn a_cut_file_may_come_back_and_has_zeros_when_it_grows_again() {
    let fs = with_dir();
    let f = fs.create(file()).unwrap();
    f.write_at(&[7; 1000], 0).unwrap();
    f.sync_all().unwrap();
    fs.sync_dir(dir()).unwrap();
    f.set_len(600).unwrap();
    f.set_len(1000).unwrap();
    let mut bytes = [1; 1000];
    f.read_at(&mut bytes, 0).unwrap();
    assert_eq!((bytes[599], bytes[600], bytes[999]), (7, 0, 0));
    assert_eq!(read(&fs.crash(Crash::Nothing)).unwrap(), vec![7; 1000]);
    assert_eq!(read(&fs.crash(Crash::Everything)).unwrap(), bytes);
    f.sync_data().unwrap();
    assert_eq!(read(&fs.crash(Crash::Nothing)).unwrap(), bytes);
}

#[test]
fn after_a_failed_sync_the_next_one_says_yes_and_does_nothing() {
    let fs = with_dir();
    let f = fs.create(file()).unwrap();
    fs.sync_dir(dir()).unwrap();
    f.write_at(b"lost", 0).unwrap();
    fs.fail(Fault::os(5).only(&[Call::Sync]));
    assert_eq!(f.sync_data().unwrap_err().raw_os_error(), Some(5));
    f.sync_data().unwrap();
    assert_eq!(read(&fs).unwrap(), b"lost", "still in memory");
    assert_eq!(read(&fs.crash(Crash::Everything)).unwrap(), b"");
}

#[test]
fn calls_fail_by_number_and_kind_once_or_always() {
    let fs = with_dir();
    let f = fs.create(file()).unwrap();
    assert_eq!(fs.calls(), 1);
    fs.fail(Fault::of(io::ErrorKind::StorageFull).from(3).with(Effect::Half));
    f.write_at(b"abcd", 0).unwrap();
    assert_eq!(f.write_at(b"efgh", 4).unwrap_err().kind(), io::ErrorKind::StorageFull);
    assert_eq!(read(&fs).unwrap(), b"abcdef");
    f.write_at(b"efgh", 4).unwrap();
    fs.fail(Fault::os(5).only(&[Call::Sync, Call::SyncDir]).always());
    for _ in 0..3 {
        f.sync_data().unwrap_err();
        fs.sync_dir(dir()).unwrap_err();
        f.size().unwrap();
    }
    assert_eq!((fs.struck().len(), fs.calls_of(Call::Sync)), (7, 3));
    assert_eq!(fs.struck()[..3], [Call::Write, Call::Sync, Call::SyncDir]);
    fs.heal();
    f.sync_all().unwrap();
    fs.fail(Fault::os(5).only(&[Call::Rename]).with(Effect::Whole));
    fs.rename(file(), Path::new("/d/g")).unwrap_err();
    assert_eq!(fs.files(), [Path::new("/d/g")]);
}

#[test]
fn a_full_disk_takes_what_fits_and_has_room_again_when_a_file_goes() {
    let fs = with_dir();
    fs.write_raw(Path::new("/d/other"), &[0; 60]);
    fs.set_capacity(Some(100));
    let f = fs.create(file()).unwrap();
    let full = |answer: io::Result<()>| answer.unwrap_err().kind() == io::ErrorKind::StorageFull;
    f.allocate(0, 30).unwrap();
    assert!(full(f.allocate(30, 30)));
    assert!(full(f.write_at(&[1; 60], 0)));
    assert_eq!((f.size().unwrap(), fs.used()), (40, 100));
    f.write_at(&[2; 40], 0).unwrap();
    fs.remove(Path::new("/d/other")).unwrap();
    f.write_at(&[1; 60], 0).unwrap();
    fs.set_capacity(None);
    f.write_at(&[1; 600], 0).unwrap();
}

#[test]
fn a_directory_that_was_not_synced_takes_what_is_in_it_along() {
    let fs = FaultyFs::new();
    fs.create_dir(Path::new("/a/b")).unwrap();
    let path = Path::new("/a/b/f");
    fs.create(path).unwrap().sync_all().unwrap();
    fs.sync_dir(Path::new("/a/b")).unwrap();
    fs.sync_dir(Path::new("/a")).unwrap();
    assert!(fs.crash(Crash::Nothing).files().is_empty());
    fs.sync_dir(Path::new("/")).unwrap();
    assert_eq!(fs.crash(Crash::Nothing).files(), [path]);
}

#[test]
fn a_lock_has_one_holder_and_a_crash_gives_it_back() {
    let fs = with_dir();
    let lock = fs.try_lock(file()).unwrap();
    assert!(lock.is_some());
    assert!(fs.try_lock(file()).unwrap().is_none());
    assert!(fs.crash(Crash::Everything).try_lock(file()).unwrap().is_some());
    drop(lock);
    assert!(fs.try_lock(file()).unwrap().is_some());
}

#[test]
fn images_are_kept_of_every_step_and_are_not_changed_by_later_ones() {
    let fs = with_dir();
    fs.record_crashes();
    let f = fs.create(file()).unwrap();
    f.write_at(b"one", 0).unwrap();
    f.size().unwrap();
    f.write_at(b"two", 0).unwrap();
    fs.corrupt(file(), 0);
    let images = fs.take_images();
    let seen: Vec<_> = images.iter().map(|image| read(&image.crash(Crash::Everything))).collect();
    let expected = [None, Some(b"".to_vec()), Some(b"one".to_vec()), Some(b"two".to_vec())];
    assert_eq!(seen, expected);
    assert_eq!(images.iter().map(super::Image::call).collect::<Vec<_>>(), [0, 1, 2, 4]);
    assert_eq!(read(&fs).unwrap(), b"uwo");
    assert!(fs.take_images().is_empty());
}

#[test]
fn a_file_opened_for_reading_is_not_written_to() {
    let fs = with_dir();
    fs.write_raw(file(), b"old");
    let f = fs.open(file(), Access::Read).unwrap();
    assert_eq!(f.write_at(b"new", 0).unwrap_err().kind(), io::ErrorKind::PermissionDenied);
    assert_eq!(f.set_len(0).unwrap_err().kind(), io::ErrorKind::PermissionDenied);
    assert_eq!(f.read_at(&mut [0; 4], 0).unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
    assert_eq!(read(&fs).unwrap(), b"old");
}
