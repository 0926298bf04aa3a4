//! The engine `disk`: one log-structured merge tree (crate `lsm-tree`) for all shards of a node.
//!
//! What is written goes to the tree's memtable. A flush seals it, between two applies, and writes all sealed ones to
//! table files; compaction merges those. The tree syncs each table file, its manifest and their folders before it counts
//! them in. When that fails the sealed memtables stay, readable, and the next flush takes them along.
//!
//! # Sequence numbers
//!
//! A tree keeps several values of a key, told apart by sequence numbers. This engine gives all writes between two views or
//! flushes one number, so a key that is written again and again takes the room of one; a view reads below its own number.
//! The numbers need not survive: nothing written before the last start is ever hidden from a view.
//!
//! # Caveats
//!
//! While a flush or compaction switches the manifest (five syncs of small files), the tree's lock holds up reads and writes:
//! apply on a thread that may wait so long. Bytes of a failed job are in no table: [`jobs`] removes its files, lest a full
//! disk stay full. Some calls are hidden in the crate's documentation (the lock of its versions, table numbers): read its
//! source again before a newer version of it is taken.

mod jobs;
mod views;

use std::cell::Cell;
use std::ops::{Bound, ControlFlow};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use lsm_tree::{AbstractTree, AnyTree, Cache, Config, DescriptorTable, Guard, SeqNo, SequenceNumberCounter};

use self::jobs::{Jobs, Sealed};
use self::views::{Frozen, Views};
use crate::engine::{self, Engine, EngineError, Flush, Maintenance, Resources, View, sync_folder};

/// A removal counts for so many bytes more than it has: every scan passes over it, until it is flushed and merged away.
const REMOVED_BYTES: u64 = 512;
/// The folder of the tree within the engine's.
const FOLDER: &str = "tree";

pub(crate) struct Disk {
    tree: AnyTree,
    views: Arc<Views>,
    jobs: Arc<Jobs>,
    /// The sequence number of all writes since the last view or flush.
    number: Cell<SeqNo>,
    /// Bytes ever written, and what removals count for.
    written: u64,
    /// Of the bytes ever written, those that are flushed.
    flushed: Arc<AtomicU64>,
    pause: Option<fn()>,
}

impl Disk {
    /// Whether a folder holds the data of this engine.
    pub fn is_in(folder: &Path) -> bool {
        folder.join(FOLDER).is_dir()
    }

    /// Opens the tree of a folder, or makes one.
    pub fn open(folder: &Path, resources: Resources) -> Result<Disk, EngineError> {
        let Resources { cache_bytes, files, pause } = resources;
        let doing = || format!("opening the disk engine in {}", folder.display());
        let numbers = SequenceNumberCounter::default();
        let cache = Arc::new(Cache::with_capacity_bytes(cache_bytes));
        let path = folder.join(FOLDER);
        let config = Config::new(&path, numbers.clone(), SequenceNumberCounter::default())
            .use_cache(cache)
            .use_descriptor_table(Some(Arc::new(DescriptorTable::new(files))));
        let tree = config.open().map_err(|error| told(doing(), error))?;
        sync_folder(folder).map_err(|error| EngineError::io(doing(), error))?;
        numbers.fetch_max(tree.get_highest_persisted_seqno().map_or(0, |number| number + 1));
        let views = Arc::new(Views::new(numbers));
        let jobs = Arc::new(Jobs::new(tree.clone(), path, views.clone()));
        let number = Cell::new(views.next());
        Ok(Disk { tree, views, jobs, number, written: 0, flushed: Arc::default(), pause })
    }
}

impl Disk {
    /// What is written from now on is told apart from what was written before.
    fn raise_number(&self) {
        let (before, number) = (self.number.get(), self.views.next());
        assert!(number > before, "sequence number {number} follows {before}");
        self.number.set(number);
    }
}

impl View for Disk {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, EngineError> {
        get(&self.tree, key, SeqNo::MAX, self.pause)
    }

    fn scan(
        &self,
        from: Bound<&[u8]>,
        to: Bound<&[u8]>,
        backward: bool,
        visit: &mut dyn FnMut(Bytes, Bytes) -> ControlFlow<()>,
    ) -> Result<(), EngineError> {
        scan(&self.tree, (from, to), backward, SeqNo::MAX, self.pause, visit)
    }
}

impl Engine for Disk {
    fn put(&mut self, key: Bytes, value: Bytes) {
        self.written += (key.len() + value.len()) as u64;
        self.tree.insert(key, value, self.number.get());
    }

    fn remove(&mut self, key: &[u8]) {
        self.written += key.len() as u64 + REMOVED_BYTES;
        self.tree.remove(key, self.number.get());
    }

    fn view(&self) -> Box<dyn View> {
        let frozen = Frozen::new(self.tree.clone(), self.views.clone());
        self.raise_number();
        Box::new(frozen)
    }

    fn flush(&mut self) -> Box<dyn Flush> {
        self.jobs.seal();
        self.raise_number();
        Box::new(Sealed { jobs: self.jobs.clone(), written: self.written, flushed: self.flushed.clone() })
    }

    fn maintain(&self) -> Option<Maintenance> {
        Jobs::due(&self.jobs)
    }

    fn bytes_unflushed(&self) -> u64 {
        let (written, flushed) = (self.written, self.flushed.load(Ordering::Acquire));
        assert!(flushed <= written, "{flushed} bytes are flushed of {written} that were written");
        written - flushed
    }
}

fn get(tree: &AnyTree, key: &[u8], below: SeqNo, pause: Option<fn()>) -> Result<Option<Bytes>, EngineError> {
    loop {
        match (tree.get(key, below), pause) {
            (Ok(value), _) => return Ok(value.map(Bytes::from)),
            (Err(error), Some(pause)) if is_short_of(&error) => pause(),
            (Err(error), _) => return Err(told("reading a row", error)),
        }
    }
}

fn scan(
    tree: &AnyTree,
    (from, to): (Bound<&[u8]>, Bound<&[u8]>),
    backward: bool,
    below: SeqNo,
    pause: Option<fn()>,
    visit: &mut dyn FnMut(Bytes, Bytes) -> ControlFlow<()>,
) -> Result<(), EngineError> {
    let mut last: Option<Bytes> = None;
    loop {
        let beyond = last.as_deref().map(Bound::Excluded);
        let bounds = if backward { (from, beyond.unwrap_or(to)) } else { (beyond.unwrap_or(from), to) };
        if engine::is_empty(bounds.0, bounds.1) {
            return Ok(());
        }
        let mut rows = tree.range::<&[u8], _>(bounds, below, None);
        let error = loop {
            let Some(row) = (if backward { rows.next_back() } else { rows.next() }) else { return Ok(()) };
            let (key, value): (Bytes, Bytes) = match row.into_inner() {
                Ok((key, value)) => (key.into(), value.into()),
                Err(error) => break error,
            };
            if visit(key.clone(), value).is_break() {
                return Ok(());
            }
            last = Some(key);
        };
        match pause.filter(|_| is_short_of(&error)) {
            // Goes on behind what was visited.
            Some(pause) => pause(),
            None => return Err(told("reading rows", error)),
        }
    }
}

fn is_short_of(error: &lsm_tree::Error) -> bool {
    matches!(error, lsm_tree::Error::Io(error) if engine::is_short(error))
}

/// The tree's errors in our words.
fn told(doing: impl Into<String>, error: lsm_tree::Error) -> EngineError {
    match error {
        lsm_tree::Error::Io(error) => EngineError::io(doing, error),
        error => EngineError::corrupt(doing, error.to_string()),
    }
}
