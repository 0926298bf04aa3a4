//! The engine `memory`: all rows in a persistent map, and on disk one checkpoint file.
//!
//! The map shares its nodes with its clones, so a view or a flush costs nothing to begin; writes made meanwhile copy
//! what they touch. A flush writes the whole map to a new file and then removes the older one. A volatile engine has no
//! folder, and a flush of it has nothing to do.
//!
//! # Caveats
//!
//! A flush writes everything, whatever little is new: it is for states that fit in memory several times over. A damaged
//! checkpoint is an error, not a reason to fall back to an older state that the log may no longer reach.

pub(crate) mod checkpoint;

use std::ops::{Bound, ControlFlow};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use imbl::OrdMap;

use crate::engine::{self, Engine, EngineError, Flush, Maintenance, View};

pub(crate) type Map = OrdMap<Bytes, Bytes>;

pub(crate) struct Memory {
    map: Map,
    files: Arc<Files>,
    /// Number of the next checkpoint.
    next: u64,
    /// Bytes ever written, or removed.
    written: u64,
}

/// What the engine and its flushes share.
struct Files {
    /// `None` = no checkpoint is ever written.
    folder: Option<PathBuf>,
    /// Number of the newest checkpoint; held while one is written.
    newest: Mutex<u64>,
    /// Of the bytes ever written, those that a checkpoint holds.
    flushed: AtomicU64,
}

impl Memory {
    /// Whether a folder holds the data of this engine.
    pub fn is_in(folder: &Path) -> Result<bool, EngineError> {
        Ok(!checkpoint::list(folder)?.is_empty())
    }

    /// Loads the newest checkpoint of a folder; there may be none.
    pub fn open(folder: &Path) -> Result<Memory, EngineError> {
        checkpoint::remove_unfinished(folder)?;
        let newest = checkpoint::list(folder)?.last().copied().unwrap_or(0);
        let map = if newest == 0 { Map::new() } else { checkpoint::read(folder, newest)? };
        Ok(Memory::new(map, Some(folder.into()), newest))
    }

    /// An empty one without files.
    pub fn volatile() -> Memory {
        Memory::new(Map::new(), None, 0)
    }

    fn new(map: Map, folder: Option<PathBuf>, newest: u64) -> Memory {
        let files = Files { folder, newest: Mutex::new(newest), flushed: AtomicU64::new(0) };
        Memory { map, files: Arc::new(files), next: newest + 1, written: 0 }
    }
}

impl View for Memory {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, EngineError> {
        View::get(&self.map, key)
    }

    fn scan(
        &self,
        from: Bound<&[u8]>,
        to: Bound<&[u8]>,
        backward: bool,
        visit: &mut dyn FnMut(Bytes, Bytes) -> ControlFlow<()>,
    ) -> Result<(), EngineError> {
        View::scan(&self.map, from, to, backward, visit)
    }
}

impl Engine for Memory {
    fn put(&mut self, key: Bytes, value: Bytes) {
        self.written += (key.len() + value.len()) as u64;
        self.map.insert(key, value);
    }

    fn remove(&mut self, key: &[u8]) {
        // What it takes away is in the last checkpoint, and stays there until the next.
        let removed = self.map.remove(key).map_or(0, |value| value.len());
        self.written += (key.len() + removed) as u64;
    }

    fn view(&self) -> Box<dyn View> {
        Box::new(Frozen(self.map.clone()))
    }

    fn flush(&mut self) -> Box<dyn Flush> {
        let number = self.next;
        self.next += 1;
        Box::new(Checkpoint {
            map: self.map.clone(),
            files: self.files.clone(),
            number,
            written: self.written,
        })
    }

    fn maintain(&self) -> Option<Maintenance> {
        None
    }

    fn bytes_unflushed(&self) -> u64 {
        let (written, flushed) = (self.written, self.files.flushed.load(Ordering::Acquire));
        assert!(flushed <= written, "{flushed} bytes are flushed of {written} that were written");
        written - flushed
    }
}

struct Frozen(Map);

impl View for Frozen {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, EngineError> {
        View::get(&self.0, key)
    }

    fn scan(
        &self,
        from: Bound<&[u8]>,
        to: Bound<&[u8]>,
        backward: bool,
        visit: &mut dyn FnMut(Bytes, Bytes) -> ControlFlow<()>,
    ) -> Result<(), EngineError> {
        View::scan(&self.0, from, to, backward, visit)
    }
}

impl View for Map {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, EngineError> {
        Ok(OrdMap::get(self, key).cloned())
    }

    fn scan(
        &self,
        from: Bound<&[u8]>,
        to: Bound<&[u8]>,
        backward: bool,
        visit: &mut dyn FnMut(Bytes, Bytes) -> ControlFlow<()>,
    ) -> Result<(), EngineError> {
        if engine::is_empty(from, to) {
            return Ok(());
        }
        let mut visit = |(key, value): (&Bytes, &Bytes)| visit(key.clone(), value.clone());
        let mut rows = self.range::<_, [u8]>((from, to));
        let _ = if backward { rows.rev().try_for_each(&mut visit) } else { rows.try_for_each(&mut visit) };
        Ok(())
    }
}

struct Checkpoint {
    map: Map,
    files: Arc<Files>,
    number: u64,
    written: u64,
}

impl Flush for Checkpoint {
    fn run(self: Box<Self>) -> Result<(), EngineError> {
        let mut newest = self.files.newest.lock().expect("writing a checkpoint does not panic");
        assert_ne!(*newest, self.number, "a checkpoint is written once under its number");
        if *newest < self.number {
            if let Some(folder) = &self.files.folder {
                checkpoint::write(folder, self.number, &self.map)?;
                checkpoint::remove_below(folder, self.number);
            }
            *newest = self.number;
        }
        self.files.flushed.fetch_max(self.written, Ordering::AcqRel);
        Ok(())
    }
}
