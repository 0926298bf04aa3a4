//! Batches into a tree and compactions of it, on whatever threads the owner runs them.
//!
//! The tree leaves the files of a job that failed where they are until it is opened again. After a full disk that would be
//! the very space that is missing, so they are removed here: once no job runs, the table files made since the first
//! of them began that no job has counted in. The manifest on disk is asked too, in case it was switched by a job that
//! failed right after.

use std::collections::BTreeSet;
use std::fs;
use std::ops::Bound;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use lsm_tree::compaction::Leveled;
use lsm_tree::{AbstractTree, AnyTree, InternalValue, TableId, ValueType};

use super::{told, views::Views};
use crate::engine::{EngineError, Intake, Maintenance, Row};

/// The tree's own names, see its `file.rs`.
const TABLES: &str = "tables";
const CURRENT: &str = "current";
/// Bytes of a table that a merge of all makes.
const TABLE_BYTES: u64 = 64 << 20;
/// All tables are merged when so much of their rows, one part in so many, are removals ...
const REMOVED_PART: u64 = 3;
/// ... or when copies that are gone had so much of their bytes, one part in so many: space is looked for when a keyspace was dropped ...
const GONE_PART: u64 = 8;
/// ... and they take so many bytes: less is not worth the writing.
const RECLAIM_BYTES_MIN: u64 = 8 << 20;

pub struct Jobs {
    tree: AnyTree,
    folder: PathBuf,
    views: Arc<Views>,
    running: Mutex<Running>,
    /// Held while a batch goes in.
    batch: Mutex<()>,
    /// Tables changed since the last compaction found nothing to do.
    due: AtomicBool,
    /// Removals that the last merge of all tables had to leave: views looked back behind them.
    removed: AtomicU64,
    /// Bytes of copies that were removed since the last merge of all tables.
    gone: AtomicU64,
}

#[derive(Default)]
struct Running {
    jobs: u32,
    compacting: bool,
    /// A job failed since no job was running.
    failed: bool,
    /// Tables made since no job was running have this number or a higher one.
    first: TableId,
    /// Those of them that were counted in.
    counted: BTreeSet<TableId>,
}

impl Jobs {
    pub fn new(tree: AnyTree, folder: PathBuf, views: Arc<Views>) -> Jobs {
        Jobs {
            tree,
            folder,
            views,
            running: Mutex::default(),
            batch: Mutex::default(),
            due: AtomicBool::new(true),
            removed: AtomicU64::new(0),
            gone: AtomicU64::new(0),
        }
    }

    /// A step of compaction, unless there is nothing to do or one is running.
    pub fn due(jobs: &Arc<Jobs>) -> Option<Maintenance> {
        if !jobs.due.load(Ordering::Acquire) || jobs.running().compacting {
            return None;
        }
        let jobs = jobs.clone();
        Some(Box::new(move || jobs.compact()))
    }

    fn write(&self, rows: &mut dyn Iterator<Item = Row>) -> lsm_tree::Result<()> {
        let number = self.views.next();
        let items = rows.map(|(key, value)| match value {
            Some(value) => InternalValue::from_components(key, value, number, ValueType::Value),
            None => InternalValue::new_tombstone(key, number),
        });
        let Some((tables, _)) = self.tree.flush_to_tables(items.map(Ok))? else { return Ok(()) };
        self.tree.register_tables(&tables, None, None, &[], self.views.watermark())
    }

    fn compact(&self) -> Result<(), EngineError> {
        if !self.begin(true) {
            return Ok(());
        }
        self.due.store(false, Ordering::Release);
        let before = self.tree.current_version().id();
        let mut compacted = self.tree.compact(Arc::new(Leveled::default()), self.views.watermark());
        let mut again = compacted.is_err() || self.tree.current_version().id() != before;
        if !again && (self.is_much_removed() || self.is_much_gone()) {
            let gone = self.gone.swap(0, Ordering::AcqRel);
            compacted = self.tree.major_compact(TABLE_BYTES, self.views.watermark());
            again = compacted.is_err();
            self.gone.fetch_add(if again { gone } else { 0 }, Ordering::AcqRel);
            self.removed.store(self.tree.tombstone_count(), Ordering::Relaxed);
        }
        self.due.fetch_or(again, Ordering::AcqRel);
        self.end(true, compacted, "compacting tables")
    }

    /// Whether merging all tables pays: the levels are merged as they grow, so what was removed from the lowest one would
    /// stay for good once nothing is written any more.
    fn is_much_removed(&self) -> bool {
        let removed = self.tree.tombstone_count().saturating_sub(self.removed.load(Ordering::Relaxed));
        removed * REMOVED_PART >= self.tree.approximate_len() as u64
            && self.tree.disk_space() >= RECLAIM_BYTES_MIN
    }

    /// Whether it pays because whole copies of shards are gone.
    fn is_much_gone(&self) -> bool {
        let (gone, space) = (self.gone.load(Ordering::Acquire), self.tree.disk_space());
        gone > 0 && gone * GONE_PART >= space && space >= RECLAIM_BYTES_MIN
    }

    /// Lets go of tables that have nothing but rows between two keys, unless a compaction is under way; how many bytes they had.
    pub fn drop_between(&self, from: &[u8], to: &[u8]) -> Result<u64, EngineError> {
        let version = self.tree.current_version();
        let is_between = |table: &lsm_tree::Table| {
            let range = &table.metadata.key_range;
            from <= &range.min()[..] && &range.max()[..] < to
        };
        let is_worth_it = version.iter_tables().any(is_between);
        drop(version);
        if !is_worth_it || !self.begin(true) {
            return Ok(0);
        }
        let before = self.tree.disk_space();
        let dropped = self.tree.drop_range::<&[u8], _>((Bound::Included(from), Bound::Excluded(to)));
        let bytes = before.saturating_sub(self.tree.disk_space());
        self.due.store(true, Ordering::Release);
        self.end(true, dropped, "letting go of tables").map(|()| bytes)
    }

    /// Whether the job may run: one compaction at a time.
    fn begin(&self, compacting: bool) -> bool {
        let mut running = self.running();
        if compacting && running.compacting {
            return false;
        }
        if running.jobs == 0 {
            *running = Running { first: self.tree.next_table_id(), ..Running::default() };
        }
        running.jobs += 1;
        running.compacting |= compacting;
        true
    }

    fn end(&self, compacting: bool, result: lsm_tree::Result<()>, doing: &str) -> Result<(), EngineError> {
        // Drops the states before this one, and with them merged tables, unless a view needs them.
        // What stays on disk for now is removed when the tree is opened again.
        let _ = self.tree.get_version_history_lock().maintenance(&self.folder, self.views.watermark());
        let mut running = self.running();
        assert!(running.jobs > 0, "a job ends, and none runs");
        assert!(running.compacting || !compacting, "a compaction ends, and none runs");
        running.jobs -= 1;
        running.compacting &= !compacting;
        match &result {
            Ok(()) => {
                self.due.fetch_or(!compacting, Ordering::AcqRel);
                let first = running.first;
                running.counted.extend(self.tables().filter(|table| *table >= first));
            }
            Err(_) => running.failed = true,
        }
        if running.jobs == 0 && running.failed {
            self.remove_leftovers(&running);
        }
        result.map_err(|error| told(format!("{doing} in {}", self.folder.display()), error))
    }

    fn tables(&self) -> impl Iterator<Item = TableId> {
        let tables: Vec<TableId> =
            self.tree.current_version().iter_tables().map(|table| table.id()).collect();
        tables.into_iter()
    }

    fn remove_leftovers(&self, running: &Running) {
        if manifest_on_disk(&self.folder) != Some(self.tree.current_version().id()) {
            return;
        }
        let counted: BTreeSet<TableId> = self.tables().chain(running.counted.iter().copied()).collect();
        let made = running.first..self.tree.next_table_id();
        for table in made.filter(|table| !counted.contains(table)) {
            // One that stays is removed when the tree is opened again.
            let _ = fs::remove_file(self.folder.join(TABLES).join(table.to_string()));
        }
    }

    fn running(&self) -> MutexGuard<'_, Running> {
        self.running.lock().expect("nothing panics while it holds the list of jobs")
    }
}

/// The number of the manifest that the tree would open with.
fn manifest_on_disk(folder: &Path) -> Option<u64> {
    let current = fs::read(folder.join(CURRENT)).ok()?;
    Some(u64::from_le_bytes(current.get(..8)?.try_into().ok()?))
}

impl Intake for Arc<Jobs> {
    fn take(&self, rows: &mut dyn Iterator<Item = Row>) -> Result<(), EngineError> {
        let _batch = self.batch.lock().expect("an engine that panics takes its batches along");
        self.begin(false);
        let written = self.write(rows);
        self.end(false, written, "writing rows to disk")
    }

    fn gone(&self, bytes: u64) {
        self.gone.fetch_add(bytes, Ordering::AcqRel);
        self.due.store(true, Ordering::Release);
    }
}
