//! An in-memory file system that crashes, tears and fills up, for tests.
//!
//! [`FaultyFs`] keeps apart what was written and what is durable. Contents become durable by a sync of their file, names
//! by a sync of their directory; until then a [crash](FaultyFs::crash) may keep or lose each page and each name by
//! itself. Calls can be made to [fail](FaultyFs::fail), the disk can be [full](FaultyFs::set_capacity), and an image of
//! the disk can be kept [at every step](FaultyFs::record_crashes), to crash each of them.
//!
//! It is as unkind as disks and kernels are allowed to be: pages reach the disk in any order, also in a state between
//! two writes, a page may be torn, and after a failed sync the pages count as written although they are not.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::fs::faulty::disk::Disk;
use crate::fs::{Access, Entry, File, Fs, Lock};

mod disk;
#[cfg(test)]
pub(crate) mod kinds;

/// A kind of call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Call {
    /// [`Fs::create_dir`].
    CreateDir,
    /// [`Fs::create`].
    Create,
    /// [`Fs::open`].
    Open,
    /// [`Fs::rename`].
    Rename,
    /// [`Fs::remove`].
    Remove,
    /// [`Fs::list`].
    List,
    /// [`Fs::sync_dir`].
    SyncDir,
    /// [`Fs::try_lock`].
    Lock,
    /// [`File::size`].
    Size,
    /// [`File::read_at`].
    Read,
    /// [`File::write_at`].
    Write,
    /// [`File::sync_data`] and [`File::sync_all`].
    Sync,
    /// [`File::set_len`].
    SetLen,
    /// [`File::allocate`].
    Allocate,
}

impl Call {
    /// What a file system mounted for reading refuses.
    pub const CHANGES: &[Self] = &[
        Self::CreateDir,
        Self::Create,
        Self::Rename,
        Self::Remove,
        Self::Lock,
        Self::Write,
        Self::SetLen,
        Self::Allocate,
    ];

    /// Whether it changes what is on the disk or how durable it is.
    #[must_use]
    pub fn changes(self) -> bool {
        !matches!(self, Self::Open | Self::List | Self::Size | Self::Read)
    }
}

/// What a failing call does all the same.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Effect {
    /// Nothing. A sync makes nothing durable, and what it was for counts as written from then on.
    #[default]
    None,
    /// A write puts its first half there; other calls do nothing.
    Half,
    /// Everything: only the answer is wrong.
    Whole,
}

/// A failure to come: of one call, unless it is [persistent](Fault::always).
#[derive(Clone, Debug)]
pub struct Fault {
    from: u64,
    answer: Answer,
    only: Option<Vec<Call>>,
    always: bool,
    effect: Effect,
}

#[derive(Clone, Copy, Debug)]
enum Answer {
    Kind(io::ErrorKind),
    Os(i32),
}

impl Fault {
    /// The next call fails with this kind of error.
    #[must_use]
    pub fn of(kind: io::ErrorKind) -> Self {
        let answer = Answer::Kind(kind);
        Self { from: 0, answer, only: None, always: false, effect: Effect::None }
    }

    /// The next call fails with this number of the operating system: 5 is a broken device, 24 too many open files.
    #[must_use]
    pub fn os(number: i32) -> Self {
        Self { answer: Answer::Os(number), ..Self::of(io::ErrorKind::Other) }
    }

    /// Not before the call with this number: see [`FaultyFs::calls`].
    #[must_use]
    pub fn from(self, call: u64) -> Self {
        Self { from: call, ..self }
    }

    /// Only calls of these kinds.
    #[must_use]
    pub fn only(self, calls: &[Call]) -> Self {
        Self { only: Some(calls.to_vec()), ..self }
    }

    /// Not only the first such call, but every one.
    #[must_use]
    pub fn always(self) -> Self {
        Self { always: true, ..self }
    }

    /// What the call does although it fails.
    #[must_use]
    pub fn with(self, effect: Effect) -> Self {
        Self { effect, ..self }
    }

    fn strikes(&self, number: u64, call: Call) -> bool {
        number >= self.from && self.only.as_ref().is_none_or(|only| only.contains(&call))
    }

    fn error(&self) -> io::Error {
        match self.answer {
            Answer::Kind(kind) => io::Error::new(kind, "injected"),
            Answer::Os(number) => io::Error::from_raw_os_error(number),
        }
    }
}

/// What of the un-synced writes and names is there after a crash.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Crash {
    /// None of them.
    Nothing,
    /// All of them, as when the process is killed and the machine runs on.
    Everything,
    /// Each page and each name by the throw of a die that begins with this number. A page may be in any state it had
    /// since it was synced, or torn between two of them.
    Random(u64),
    /// All of them, but of the last write only the first bytes. All of them if a sync of its file followed it.
    LastWrite(usize),
    /// All of them but one page, by its place among the [un-synced ones](FaultyFs::unsynced_pages).
    AllButPage(usize),
    /// All names and no page but this one.
    OnlyPage(usize),
}

/// A file system in memory. Clones share it.
#[derive(Clone)]
pub struct FaultyFs {
    shared: Arc<Mutex<Shared>>,
}

type Hook = Box<dyn FnOnce() + Send>;

#[derive(Default)]
struct Shared {
    disk: Disk,
    calls: u64,
    by_kind: BTreeMap<Call, u64>,
    faults: Vec<Fault>,
    struck: Vec<Call>,
    images: Option<Vec<Image>>,
    hooks: Vec<(Call, Hook)>,
    locks: BTreeSet<PathBuf>,
}

/// The disk as it was after a call.
#[derive(Clone)]
pub struct Image {
    call: u64,
    disk: Disk,
}

impl Image {
    /// The number of the call that had just been made.
    #[must_use]
    pub fn call(&self) -> u64 {
        self.call
    }

    /// How many pages [`Crash::AllButPage`] and [`Crash::OnlyPage`] can name.
    #[must_use]
    pub fn unsynced_pages(&self) -> usize {
        self.disk.unsynced_pages()
    }

    /// Bytes of the last write, 0 if its file was synced since.
    #[must_use]
    pub fn last_write(&self) -> usize {
        self.disk.last_write()
    }

    /// A new file system with what survived.
    #[must_use]
    pub fn crash(&self, crash: Crash) -> FaultyFs {
        FaultyFs::on(self.disk.crash(crash))
    }
}

impl fmt::Debug for Image {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Image").field("call", &self.call).finish_non_exhaustive()
    }
}

impl fmt::Debug for FaultyFs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FaultyFs").field("calls", &self.calls()).finish_non_exhaustive()
    }
}

impl Default for FaultyFs {
    fn default() -> Self {
        Self::new()
    }
}

impl FaultyFs {
    /// An empty one: there is only the directory `/`.
    #[must_use]
    pub fn new() -> Self {
        Self::on(Disk::default())
    }

    fn on(disk: Disk) -> Self {
        Self { shared: Arc::new(Mutex::new(Shared { disk, ..Shared::default() })) }
    }

    fn shared(&self) -> MutexGuard<'_, Shared> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many calls were made. The first has the number 1.
    #[must_use]
    pub fn calls(&self) -> u64 {
        self.shared().calls
    }

    /// How many calls of a kind were made.
    #[must_use]
    pub fn calls_of(&self, call: Call) -> u64 {
        self.shared().by_kind.get(&call).copied().unwrap_or(0)
    }

    /// Lets calls fail. Of several faults the one that was given first strikes.
    pub fn fail(&self, fault: Fault) {
        self.shared().faults.push(fault);
    }

    /// Takes back every fault that has not struck, and the persistent ones.
    pub fn heal(&self) {
        self.shared().faults.clear();
    }

    /// Which calls failed because they were told to, oldest first.
    #[must_use]
    pub fn struck(&self) -> Vec<Call> {
        self.shared().struck.clone()
    }

    /// Limits the bytes of all files together: what goes beyond fails with [`io::ErrorKind::StorageFull`], a write after
    /// it has filled the rest. `None`: no limit.
    pub fn set_capacity(&self, bytes: Option<u64>) {
        self.shared().disk.set_capacity(bytes);
    }

    /// The bytes of all files together.
    #[must_use]
    pub fn used(&self) -> u64 {
        self.shared().disk.used()
    }

    /// Keeps an image of the disk as it is now and after each call that changes it, from now on.
    pub fn record_crashes(&self) {
        let mut shared = self.shared();
        let first = shared.image();
        shared.images = Some(vec![first]);
    }

    /// The images kept, oldest first; none are kept any more.
    #[must_use]
    pub fn take_images(&self) -> Vec<Image> {
        self.shared().images.take().unwrap_or_default()
    }

    /// The disk as it is now.
    #[must_use]
    pub fn image(&self) -> Image {
        self.shared().image()
    }

    /// A new file system with what a crash at this moment leaves. Locks and faults are gone, and this one goes on by
    /// itself.
    #[must_use]
    pub fn crash(&self, crash: Crash) -> Self {
        self.image().crash(crash)
    }

    /// Calls `hook` after the next call of a kind, on its thread and before it returns: so tests step in between.
    pub fn after(&self, call: Call, hook: impl FnOnce() + Send + 'static) {
        self.shared().hooks.push((call, Box::new(hook)));
    }

    /// How many pages would be lost if a crash now left [nothing](Crash::Nothing).
    #[must_use]
    pub fn unsynced_pages(&self) -> usize {
        self.shared().disk.unsynced_pages()
    }

    /// The files there are, in order. No call.
    #[must_use]
    pub fn files(&self) -> Vec<PathBuf> {
        self.shared().disk.files()
    }

    /// What a file holds. No call.
    #[must_use]
    pub fn read_raw(&self, path: &Path) -> Option<Vec<u8>> {
        self.shared().disk.read_raw(path)
    }

    /// Puts a file there, durably, with the directories it is in. No call.
    pub fn write_raw(&self, path: &Path, bytes: &[u8]) {
        self.shared().disk.write_raw(path, bytes);
    }

    /// Makes a directory, durably, with those it is in. No call.
    pub fn make_dir(&self, path: &Path) {
        self.shared().disk.make_dir(path);
    }

    /// Turns one bit of a file around, durably. No call, and nothing if the file does not reach that far.
    pub fn corrupt(&self, path: &Path, bit: u64) {
        self.shared().disk.corrupt(path, bit);
    }

    /// Makes a call: `act` is told what of it to do, and the answer is a failure if one is due.
    fn call<R>(
        &self,
        call: Call,
        act: impl FnOnce(&mut Disk, Option<Effect>) -> io::Result<R>,
    ) -> io::Result<R> {
        let mut shared = self.shared();
        shared.calls = shared.calls.saturating_add(1);
        let count = shared.by_kind.entry(call).or_default();
        *count = count.saturating_add(1);
        let fault = shared.take_fault(call);
        let answer = match &fault {
            Some(Fault { effect: Effect::Whole, .. }) => act(&mut shared.disk, None),
            Some(fault) => act(&mut shared.disk, Some(fault.effect)),
            None => act(&mut shared.disk, None),
        };
        if call.changes() && shared.images.is_some() {
            let image = shared.image();
            shared.images.get_or_insert_default().push(image);
        }
        let hook = shared.hooks.iter().position(|(after, _)| *after == call);
        let hook = hook.map(|place| shared.hooks.remove(place));
        drop(shared);
        if let Some((_, hook)) = hook {
            hook();
        }
        match fault {
            Some(fault) => Err(fault.error()),
            None => answer,
        }
    }

    fn handle(&self, node: u64, access: Access) -> Arc<dyn File> {
        Arc::new(FaultyFile { fs: self.clone(), node, access })
    }
}

impl Shared {
    fn image(&self) -> Image {
        Image { call: self.calls, disk: self.disk.clone() }
    }

    fn take_fault(&mut self, call: Call) -> Option<Fault> {
        let number = self.calls;
        let place = self.faults.iter().position(|fault| fault.strikes(number, call))?;
        self.struck.push(call);
        match self.faults.get(place) {
            Some(fault) if fault.always => Some(fault.clone()),
            _ => Some(self.faults.remove(place)),
        }
    }
}

/// What a call answers whose failure is put in its place anyway.
fn not_done<R>() -> io::Result<R> {
    Err(io::ErrorKind::Other.into())
}

/// For calls that are done whole or not at all.
fn whole<R>(
    act: impl FnOnce(&mut Disk) -> io::Result<R>,
) -> impl FnOnce(&mut Disk, Option<Effect>) -> io::Result<R> {
    move |disk, effect| if effect.is_some() { not_done() } else { act(disk) }
}

impl Fs for FaultyFs {
    fn create_dir(&self, path: &Path) -> io::Result<()> {
        self.call(Call::CreateDir, whole(|disk| disk.create_dir(path)))
    }

    fn create(&self, path: &Path) -> io::Result<Arc<dyn File>> {
        let node = self.call(Call::Create, whole(|disk| disk.create(path)))?;
        Ok(self.handle(node, Access::Write))
    }

    fn open(&self, path: &Path, access: Access) -> io::Result<Arc<dyn File>> {
        let node = self.call(Call::Open, whole(|disk| disk.find(path)))?;
        Ok(self.handle(node, access))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.call(Call::Rename, whole(|disk| disk.rename(from, to)))
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.call(Call::Remove, whole(|disk| disk.remove(path)))
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<Entry>> {
        self.call(Call::List, whole(|disk| disk.list(dir)))
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        self.call(Call::SyncDir, whole(|disk| disk.sync_dir(dir)))
    }

    fn try_lock(&self, path: &Path) -> io::Result<Option<Lock>> {
        self.call(Call::Lock, whole(|disk| disk.find(path).or_else(|_| disk.create(path))))?;
        if !self.shared().locks.insert(path.to_owned()) {
            return Ok(None);
        }
        Ok(Some(Lock::new(Held { fs: self.clone(), path: path.to_owned() })))
    }
}

struct Held {
    fs: FaultyFs,
    path: PathBuf,
}

impl Drop for Held {
    fn drop(&mut self) {
        self.fs.shared().locks.remove(&self.path);
    }
}

/// An open file: it stays what it is when its name goes to another.
#[derive(Debug)]
struct FaultyFile {
    fs: FaultyFs,
    node: u64,
    access: Access,
}

impl FaultyFile {
    fn change<R>(
        &self,
        call: Call,
        act: impl FnOnce(&mut Disk, Option<Effect>) -> io::Result<R>,
    ) -> io::Result<R> {
        if self.access == Access::Read && call != Call::Sync {
            return Err(io::ErrorKind::PermissionDenied.into());
        }
        self.fs.call(call, act)
    }

    fn sync(&self) -> io::Result<()> {
        self.change(Call::Sync, |disk, effect| {
            if effect.is_some() {
                disk.forget_unsynced(self.node)
            } else {
                disk.sync(self.node)
            }
            Ok(())
        })
    }
}

impl File for FaultyFile {
    fn size(&self) -> io::Result<u64> {
        self.fs.call(Call::Size, whole(|disk| Ok(disk.size(self.node))))
    }

    fn read_at(&self, buffer: &mut [u8], position: u64) -> io::Result<()> {
        self.fs.call(Call::Read, whole(|disk| disk.read_at(self.node, buffer, position)))
    }

    fn write_at(&self, bytes: &[u8], position: u64) -> io::Result<()> {
        self.change(Call::Write, |disk, effect| match effect {
            Some(Effect::Half) => {
                let half = bytes.get(..bytes.len() / 2).unwrap_or_default();
                disk.write_at(self.node, half, position)
            }
            Some(_) => not_done(),
            None => disk.write_at(self.node, bytes, position),
        })
    }

    fn sync_data(&self) -> io::Result<()> {
        self.sync()
    }

    fn sync_all(&self) -> io::Result<()> {
        self.sync()
    }

    fn set_len(&self, size: u64) -> io::Result<()> {
        self.change(Call::SetLen, whole(|disk| disk.set_len(self.node, size)))
    }

    fn allocate(&self, from: u64, size: u64) -> io::Result<()> {
        let to = from.saturating_add(size);
        self.change(
            Call::Allocate,
            whole(|disk| disk.set_len(self.node, disk.size(self.node).max(to))),
        )
    }
}

#[cfg(test)]
mod tests;
