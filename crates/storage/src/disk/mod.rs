//! The engine `disk`: one log-structured merge tree (crate `lsm-tree`) for all shards of a node.
//!
//! A batch becomes table files at once, past the tree's memtable, which stays empty: the rows come sorted, each once.
//! Compaction merges the tables. The tree syncs each table file, then its manifest and their folders, which counts all tables
//! of the batch in at once. When that fails none of them counts.
//!
//! # Sequence numbers
//!
//! A tree keeps several values of a key, told apart by sequence numbers. All rows of a batch have one number, drawn when it is
//! taken in; a view reads below its own number. The numbers need not survive: nothing written before the last start is ever
//! hidden from a view.
//!
//! # Caveats
//!
//! While a batch or a compaction switches the manifest (five syncs of small files), the tree's lock holds up reads: read on
//! a thread that may wait so long. Bytes of a failed job are in no table: [`jobs`] removes its files, lest a full
//! disk stay full. Some calls are hidden in the crate's documentation (the lock of its versions, table numbers, rows with
//! their numbers): read its source again before a newer version of it is taken.

mod jobs;
mod views;

use std::ops::{Bound, ControlFlow};
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use lsm_tree::{AbstractTree, AnyTree, Cache, Config, DescriptorTable, Guard, SeqNo, SequenceNumberCounter};

use self::jobs::Jobs;
use self::views::{Frozen, Views};
use crate::engine::{self, Engine, EngineError, Intake, Maintenance, Resources, View, sync_folder};

/// The folder of the tree within the engine's.
const FOLDER: &str = "tree";

pub(crate) struct Disk {
    tree: AnyTree,
    views: Arc<Views>,
    jobs: Arc<Jobs>,
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
        Ok(Disk { tree, views, jobs, pause })
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
    fn view(&self) -> Box<dyn View> {
        Box::new(Frozen::new(self.tree.clone(), self.views.clone()))
    }

    fn intake(&self) -> Box<dyn Intake> {
        Box::new(self.jobs.clone())
    }

    fn let_go_between(&self, from: &[u8], to: &[u8]) -> Result<u64, EngineError> {
        self.jobs.drop_between(from, to)
    }

    fn maintain(&self) -> Option<Maintenance> {
        Jobs::due(&self.jobs)
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
