//! The engine `memory`: all rows in a persistent map, and on disk one checkpoint file.
//!
//! The map shares its nodes with its clones, so a view costs nothing to begin. A batch is written to a clone, which copies
//! what it touches; the clone goes whole to a new file, the older file is removed, and then the clone is the map. A volatile
//! engine has no folder, and writes nothing.
//!
//! # Caveats
//!
//! A batch writes everything, whatever little is new: it is for states that fit in memory several times over. A damaged
//! checkpoint is an error, not a reason to fall back to an older state that the log may no longer reach.

pub(crate) mod checkpoint;

use std::ops::{Bound, ControlFlow};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};

use bytes::Bytes;
use imbl::OrdMap;

use crate::engine::{self, Engine, EngineError, Intake, Maintenance, Row, View};

pub(crate) type Map = OrdMap<Bytes, Bytes>;

pub(crate) struct Memory {
    rows: Arc<Rows>,
}

/// What the engine and its intakes share.
struct Rows {
    map: Mutex<Map>,
    /// `None` = no checkpoint is ever written.
    folder: Option<PathBuf>,
    /// Number of the newest checkpoint; held while one is written.
    newest: Mutex<u64>,
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
        Memory { rows: Arc::new(Rows { map: Mutex::new(map), folder, newest: Mutex::new(newest) }) }
    }
}

impl Rows {
    fn map(&self) -> MutexGuard<'_, Map> {
        self.map.lock().expect("nothing panics while it holds the map")
    }
}

impl View for Memory {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, EngineError> {
        View::get(&*self.rows.map(), key)
    }

    fn scan(
        &self,
        from: Bound<&[u8]>,
        to: Bound<&[u8]>,
        backward: bool,
        visit: &mut dyn FnMut(Bytes, Bytes) -> ControlFlow<()>,
    ) -> Result<(), EngineError> {
        let map = self.rows.map().clone();
        View::scan(&map, from, to, backward, visit)
    }
}

impl Engine for Memory {
    fn view(&self) -> Box<dyn View> {
        Box::new(Frozen(self.rows.map().clone()))
    }

    fn intake(&self) -> Box<dyn Intake> {
        Box::new(self.rows.clone())
    }

    fn maintain(&self) -> Option<Maintenance> {
        None
    }
}

impl Intake for Arc<Rows> {
    fn take(&self, rows: &mut dyn Iterator<Item = Row>) -> Result<(), EngineError> {
        let mut newest = self.newest.lock().expect("writing a checkpoint does not panic");
        let mut map = self.map().clone();
        for (key, value) in rows {
            match value {
                Some(value) => map.insert(key, value),
                None => map.remove(&key),
            };
        }
        if let Some(folder) = &self.folder {
            checkpoint::write(folder, *newest + 1, &map)?;
            checkpoint::remove_below(folder, *newest + 1);
        }
        *newest += 1;
        let before = std::mem::replace(&mut *self.map(), map);
        // Freed when nobody waits for it.
        drop(before);
        Ok(())
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
