//! What a [`FaultyFs`](super::FaultyFs) keeps: contents and names, as they are seen and as they are durable.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::fs::Entry;
use crate::fs::faulty::Crash;
use crate::record::in_memory;

/// What a disk writes whole; the least that is lost or kept by itself.
const PAGE: usize = 512;
const PAGE_BYTES: u64 = PAGE as u64;

type Page = Arc<[u8; PAGE]>;

/// Files, names, and what a crash may take.
#[derive(Clone)]
pub(super) struct Disk {
    nodes: BTreeMap<u64, Arc<Node>>,
    next_node: u64,
    seen: Names,
    durable: Names,
    /// Changes of names that no sync of their directory followed, oldest first.
    changes: Vec<Change>,
    capacity: Option<u64>,
    last_write: Option<LastWrite>,
}

#[derive(Clone, Default)]
struct Names {
    files: BTreeMap<PathBuf, u64>,
    dirs: BTreeSet<PathBuf>,
}

#[derive(Clone)]
enum Change {
    MakeDir(PathBuf),
    Make { path: PathBuf, node: u64 },
    Rename { from: PathBuf, to: PathBuf, node: u64 },
    Remove(PathBuf),
}

impl Change {
    fn dir(&self) -> Option<&Path> {
        match self {
            Self::MakeDir(path)
            | Self::Make { path, .. }
            | Self::Rename { to: path, .. }
            | Self::Remove(path) => path.parent(),
        }
    }
}

#[derive(Clone)]
struct LastWrite {
    node: u64,
    before: Arc<Node>,
    position: u64,
    bytes: Arc<[u8]>,
}

/// A file, by whatever name.
#[derive(Clone, Default)]
struct Node {
    seen: Content,
    durable: Content,
    /// The states that pages had since they were synced, oldest first.
    pages: BTreeMap<usize, Vec<Page>>,
    /// The sizes it had since it was synced, oldest first.
    sizes: Vec<u64>,
}

/// Pages that are missing are blank.
#[derive(Clone, Default)]
struct Content {
    size: u64,
    pages: Vec<Page>,
}

impl Default for Disk {
    fn default() -> Self {
        let names = Names { dirs: BTreeSet::from([PathBuf::from("/")]), ..Names::default() };
        Self {
            nodes: BTreeMap::new(),
            next_node: 0,
            seen: names.clone(),
            durable: names,
            changes: Vec::new(),
            capacity: None,
            last_write: None,
        }
    }
}

fn not_found() -> io::Error {
    io::ErrorKind::NotFound.into()
}

/// Calls.
impl Disk {
    pub(super) fn create_dir(&mut self, path: &Path) -> io::Result<()> {
        let mut missing: Vec<_> =
            path.ancestors().take_while(|dir| !self.seen.dirs.contains(*dir)).collect();
        if missing.iter().any(|dir| self.seen.files.contains_key(*dir)) {
            return Err(io::ErrorKind::NotADirectory.into());
        }
        missing.reverse();
        for dir in missing {
            self.change(Change::MakeDir(dir.to_owned()));
        }
        Ok(())
    }

    pub(super) fn create(&mut self, path: &Path) -> io::Result<u64> {
        if let Ok(node) = self.find(path) {
            self.set_len(node, 0)?;
            return Ok(node);
        }
        if path.parent().is_none_or(|dir| !self.seen.dirs.contains(dir)) {
            return Err(not_found());
        }
        let node = self.new_node(Node::default());
        self.change(Change::Make { path: path.to_owned(), node });
        Ok(node)
    }

    pub(super) fn find(&self, path: &Path) -> io::Result<u64> {
        self.seen.files.get(path).copied().ok_or_else(not_found)
    }

    pub(super) fn rename(&mut self, from: &Path, to: &Path) -> io::Result<()> {
        let node = self.find(from)?;
        self.change(Change::Rename { from: from.to_owned(), to: to.to_owned(), node });
        Ok(())
    }

    pub(super) fn remove(&mut self, path: &Path) -> io::Result<()> {
        self.find(path)?;
        self.change(Change::Remove(path.to_owned()));
        Ok(())
    }

    pub(super) fn list(&self, dir: &Path) -> io::Result<Vec<Entry>> {
        if !self.seen.dirs.contains(dir) {
            return Err(not_found());
        }
        let here = self.seen.files.iter().filter(|(path, _)| path.parent() == Some(dir));
        let entry = |(path, node): (&PathBuf, &u64)| {
            let name = path.file_name()?.to_str()?.to_owned();
            Some(Entry { name, size: self.size(*node) })
        };
        Ok(here.filter_map(entry).collect())
    }

    pub(super) fn sync_dir(&mut self, dir: &Path) -> io::Result<()> {
        if !self.seen.dirs.contains(dir) {
            return Err(not_found());
        }
        let (here, elsewhere) = std::mem::take(&mut self.changes)
            .into_iter()
            .partition(|change| change.dir() == Some(dir));
        self.changes = elsewhere;
        let here: Vec<Change> = here;
        here.iter().for_each(|change| self.durable.apply(change));
        Ok(())
    }

    pub(super) fn size(&self, node: u64) -> u64 {
        self.nodes.get(&node).map_or(0, |node| node.seen.size)
    }

    pub(super) fn read_at(&self, node: u64, buffer: &mut [u8], position: u64) -> io::Result<()> {
        let node = self.nodes.get(&node).ok_or_else(not_found)?;
        if position.saturating_add(buffer.len() as u64) > node.seen.size {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        node.seen.read(buffer, position);
        Ok(())
    }

    pub(super) fn write_at(&mut self, node: u64, bytes: &[u8], position: u64) -> io::Result<()> {
        let end = position.saturating_add(bytes.len() as u64);
        let over = self.over(self.size(node), end);
        let fits = in_memory((bytes.len() as u64).saturating_sub(over));
        let bytes = bytes.get(..fits).unwrap_or_default();
        if let Some(file) = self.nodes.get_mut(&node) {
            let before = Arc::clone(file);
            Arc::make_mut(file).write(bytes, position);
            self.last_write = Some(LastWrite { node, before, position, bytes: bytes.into() });
        }
        if over > 0 { Err(io::ErrorKind::StorageFull.into()) } else { Ok(()) }
    }

    pub(super) fn sync(&mut self, node: u64) {
        if let Some(file) = self.nodes.get_mut(&node) {
            Arc::make_mut(file).sync();
        }
        self.last_write.take_if(|write| write.node == node);
    }

    /// What a failed sync does: nothing is durable, and the next sync will not try again.
    pub(super) fn forget_unsynced(&mut self, node: u64) {
        if let Some(file) = self.nodes.get_mut(&node) {
            let file = Arc::make_mut(file);
            file.pages.clear();
            file.sizes.clear();
        }
        self.last_write.take_if(|write| write.node == node);
    }

    pub(super) fn set_len(&mut self, node: u64, size: u64) -> io::Result<()> {
        if self.over(self.size(node), size) > 0 {
            return Err(io::ErrorKind::StorageFull.into());
        }
        if let Some(file) = self.nodes.get_mut(&node) {
            Arc::make_mut(file).set_len(size);
        }
        Ok(())
    }
}

/// What tests ask beside the calls.
impl Disk {
    pub(super) fn set_capacity(&mut self, bytes: Option<u64>) {
        self.capacity = bytes;
    }

    pub(super) fn used(&self) -> u64 {
        self.seen.files.values().fold(0, |sum, node| sum.saturating_add(self.size(*node)))
    }

    pub(super) fn files(&self) -> Vec<PathBuf> {
        self.seen.files.keys().cloned().collect()
    }

    pub(super) fn read_raw(&self, path: &Path) -> Option<Vec<u8>> {
        let node = self.find(path).ok()?;
        let mut bytes = vec![0; in_memory(self.size(node))];
        self.read_at(node, &mut bytes, 0).ok()?;
        Some(bytes)
    }

    pub(super) fn write_raw(&mut self, path: &Path, bytes: &[u8]) {
        if let Some(dir) = path.parent() {
            self.make_dir(dir);
        }
        let mut node = Node::default();
        node.write(bytes, 0);
        node.sync();
        let node = self.new_node(node);
        for names in [&mut self.seen, &mut self.durable] {
            names.files.insert(path.to_owned(), node);
        }
    }

    pub(super) fn make_dir(&mut self, path: &Path) {
        for names in [&mut self.seen, &mut self.durable] {
            names.dirs.extend(path.ancestors().map(Path::to_owned));
        }
    }

    pub(super) fn corrupt(&mut self, path: &Path, bit: u64) {
        let (byte, mask) = (bit / 8, 1_u8.checked_shl((bit % 8) as u32).unwrap_or(0));
        let Some(file) = self.find(path).ok().and_then(|node| self.nodes.get_mut(&node)) else {
            return;
        };
        let file = Arc::make_mut(file);
        for content in [&mut file.seen, &mut file.durable] {
            if byte < content.size {
                let mut old = [0];
                content.read(&mut old, byte);
                content.write(&old.map(|old| old ^ mask), byte, |_, _| {});
            }
        }
    }

    pub(super) fn unsynced_pages(&self) -> usize {
        self.nodes.values().fold(0, |sum, node| sum.saturating_add(node.pages.len()))
    }

    pub(super) fn last_write(&self) -> usize {
        self.last_write.as_ref().map_or(0, |write| write.bytes.len())
    }

    /// The disk after a crash.
    pub(super) fn crash(&self, crash: Crash) -> Self {
        if let Crash::LastWrite(kept) = crash {
            let mut disk = self.clone();
            if let Some(LastWrite { node, before, position, bytes }) = disk.last_write.take() {
                let mut file = Node::clone(&before);
                file.write(bytes.get(..kept).unwrap_or(&bytes), position);
                disk.nodes.insert(node, Arc::new(file));
            }
            return disk.crash(Crash::Everything);
        }
        let mut survival = Survival { crash, page: 0, die: Die(0) };
        if let Crash::Random(seed) = crash {
            survival.die = Die(seed);
        }
        let mut names = self.durable.clone();
        for change in &self.changes {
            if survival.keeps_name() {
                names.apply(change);
            }
        }
        names.drop_orphans();
        let survivor = |(id, node): (&u64, &Arc<Node>)| {
            // Also files without a name are asked, so that pages are counted alike.
            let content = node.survivor(&mut survival);
            (*id, Arc::new(Node { seen: content.clone(), durable: content, ..Node::default() }))
        };
        let mut nodes: BTreeMap<_, _> = self.nodes.iter().map(survivor).collect();
        let named: BTreeSet<u64> = names.files.values().copied().collect();
        nodes.retain(|node, _| named.contains(node));
        Self {
            nodes,
            next_node: self.next_node,
            seen: names.clone(),
            durable: names,
            changes: Vec::new(),
            capacity: self.capacity,
            last_write: None,
        }
    }

    fn new_node(&mut self, node: Node) -> u64 {
        let id = self.next_node;
        self.next_node = id.saturating_add(1);
        self.nodes.insert(id, Arc::new(node));
        id
    }

    fn change(&mut self, change: Change) {
        self.seen.apply(&change);
        self.changes.push(change);
    }

    /// How many bytes too many there are if a file of `size` reaches up to `end`.
    fn over(&self, size: u64, end: u64) -> u64 {
        let more = end.saturating_sub(size);
        let room = self.capacity.map_or(u64::MAX, |capacity| capacity.saturating_sub(self.used()));
        more.saturating_sub(room)
    }
}

impl Names {
    fn apply(&mut self, change: &Change) {
        match change {
            Change::MakeDir(path) => {
                self.dirs.insert(path.clone());
            }
            Change::Make { path, node } => {
                self.files.insert(path.clone(), *node);
            }
            Change::Rename { from, to, node } => {
                self.files.remove(from);
                self.files.insert(to.clone(), *node);
            }
            Change::Remove(path) => {
                self.files.remove(path);
            }
        }
    }

    /// What is in a directory that is not there is not there either.
    fn drop_orphans(&mut self) {
        let all = std::mem::take(&mut self.dirs);
        // In order of name, so that parents come first.
        for dir in all {
            if dir.parent().is_none_or(|parent| self.dirs.contains(parent)) {
                self.dirs.insert(dir);
            }
        }
        let dirs = &self.dirs;
        self.files.retain(|path, _| path.parent().is_some_and(|dir| dirs.contains(dir)));
    }
}

impl Node {
    fn write(&mut self, bytes: &[u8], position: u64) {
        let pages = &mut self.pages;
        self.seen.write(bytes, position, |place, page| {
            pages.entry(place).or_default().push(Arc::clone(page));
        });
        let end = position.saturating_add(bytes.len() as u64);
        if end > self.seen.size && !bytes.is_empty() {
            self.seen.size = end;
            self.sizes.push(end);
        }
    }

    fn set_len(&mut self, size: u64) {
        if size == self.seen.size {
            return;
        }
        for place in self.seen.cut(size) {
            let page = self.seen.page(place);
            self.pages.entry(place).or_default().push(page);
        }
        self.seen.size = size;
        self.sizes.push(size);
    }

    fn sync(&mut self) {
        for place in std::mem::take(&mut self.pages).into_keys() {
            self.durable.put(place, self.seen.page(place));
        }
        if let Some(size) = self.sizes.pop() {
            self.durable.size = size;
            self.sizes.clear();
        }
    }

    fn survivor(&self, survival: &mut Survival) -> Content {
        let mut content = self.durable.clone();
        for (place, states) in &self.pages {
            if let Some(page) = survival.page(&self.durable.page(*place), states) {
                content.put(*place, page);
            }
        }
        content.size = survival.size(self.durable.size, &self.sizes);
        content.cut(content.size);
        content
    }
}

impl Content {
    fn page(&self, place: usize) -> Page {
        self.pages.get(place).map_or_else(|| Arc::new([0; PAGE]), Arc::clone)
    }

    fn put(&mut self, place: usize, page: Page) {
        if place >= self.pages.len() {
            self.pages.resize(place.saturating_add(1), Arc::new([0; PAGE]));
        }
        if let Some(slot) = self.pages.get_mut(place) {
            *slot = page;
        }
    }

    fn read(&self, buffer: &mut [u8], position: u64) {
        let mut at = position;
        let mut rest = buffer;
        while !rest.is_empty() {
            let (place, within) = (in_memory(at / PAGE_BYTES), in_memory(at % PAGE_BYTES));
            let (now, later) = rest.split_at_mut(rest.len().min(PAGE.saturating_sub(within)));
            let page = self.page(place);
            let to = within.saturating_add(now.len());
            now.copy_from_slice(page.get(within..to).unwrap_or_default());
            at = at.saturating_add(now.len() as u64);
            rest = later;
        }
    }

    /// Leaves the size to the caller, whom it tells each page's new state.
    fn write(&mut self, bytes: &[u8], position: u64, mut changed: impl FnMut(usize, &Page)) {
        let mut at = position;
        let mut rest = bytes;
        while !rest.is_empty() {
            let (place, within) = (in_memory(at / PAGE_BYTES), in_memory(at % PAGE_BYTES));
            let (now, later) = rest.split_at(rest.len().min(PAGE.saturating_sub(within)));
            let mut page = *self.page(place);
            let to = within.saturating_add(now.len());
            page.get_mut(within..to).unwrap_or_default().copy_from_slice(now);
            let page = Arc::new(page);
            changed(place, &page);
            self.put(place, page);
            at = at.saturating_add(now.len() as u64);
            rest = later;
        }
    }

    /// Blanks what is behind `size`; which pages that changes.
    fn cut(&mut self, size: u64) -> std::ops::Range<usize> {
        let (first, within) = (in_memory(size / PAGE_BYTES), in_memory(size % PAGE_BYTES));
        let whole = first.saturating_add(usize::from(within > 0));
        let end = self.pages.len();
        if first >= end {
            return end..end;
        }
        if within > 0 {
            let mut page = *self.page(first);
            page.get_mut(within..).unwrap_or_default().fill(0);
            self.put(first, Arc::new(page));
        }
        self.pages.truncate(whole);
        first..end
    }
}

/// What a crash leaves, asked in one order.
struct Survival {
    crash: Crash,
    page: usize,
    die: Die,
}

impl Survival {
    fn keeps_name(&mut self) -> bool {
        match self.crash {
            Crash::Nothing => false,
            Crash::Random(_) => self.die.below(2) == 0,
            _ => true,
        }
    }

    /// The state of a page that had these; `None`: the durable one.
    fn page(&mut self, durable: &Page, states: &[Page]) -> Option<Page> {
        let place = self.page;
        self.page = place.saturating_add(1);
        let last = states.last();
        match self.crash {
            Crash::Nothing => None,
            Crash::Everything | Crash::LastWrite(_) => last.cloned(),
            Crash::AllButPage(lost) => last.filter(|_| place != lost).cloned(),
            Crash::OnlyPage(kept) => last.filter(|_| place == kept).cloned(),
            Crash::Random(_) => {
                let state = |number: usize| {
                    number.checked_sub(1).and_then(|number| states.get(number)).unwrap_or(durable)
                };
                let first = self.die.below(states.len().saturating_add(1));
                if self.die.below(4) > 0 || first >= states.len() {
                    return Some(Arc::clone(state(first)));
                }
                // Torn: it begins as one state, and goes on as the one before.
                let mut torn = **state(first);
                let to = self.die.below(PAGE);
                let after = state(first.saturating_add(1));
                for (byte, newer) in torn.iter_mut().zip(after.iter()).take(to) {
                    *byte = *newer;
                }
                Some(Arc::new(torn))
            }
        }
    }

    fn size(&mut self, durable: u64, sizes: &[u64]) -> u64 {
        match self.crash {
            Crash::Nothing => durable,
            Crash::Random(_) => {
                let number = self.die.below(sizes.len().saturating_add(1));
                let size = number.checked_sub(1).and_then(|number| sizes.get(number));
                size.copied().unwrap_or(durable)
            }
            _ => sizes.last().copied().unwrap_or(durable),
        }
    }
}

/// `SplitMix64`: small, and the same everywhere.
struct Die(u64);

impl Die {
    fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^= z >> 31;
        in_memory(z.checked_rem(limit as u64).unwrap_or(0))
    }
}
