//! What was written since the last flush, in memory, over an engine of ordered bytes.
//!
//! # The problem
//!
//! One put writes several rows: the key's value, the one before it into the ring of history, what the request was answered,
//! up to where the shard has applied. Most of them are written again within the second: the same sessions, the same
//! `applied`, often the same keys. An engine that gets each of them when it is written finds a place for each in its order,
//! keeps every one, and passes over the older ones until they are merged away.
//!
//! # How it is solved
//!
//! Our log is the journal, so nothing is lost with what only memory has. A row therefore needs to reach the engine at a flush
//! only: sorted, and once, however often it was written.
//!
//! ```text
//!   put, remove ──▶ layer being written   by hash, each row once, or each ring; their keys beside it, in sorted runs
//!                   ── flush, view ──▶ frozen layers, each shared by whoever reads it or writes it to the disk
//!   get, scan ───▶ newest layer first, then the engine
//!
//!   flush.run():   frozen layers ──▶ merged in order, newest row of each key ──▶ Intake ──▶ engine
//!   let_go():      layers that the engine has are freed, on a background thread
//! ```
//!
//! A flush freezes the layer being written and begins an empty one. That is the cut: it is made between two entries, and the
//! engine takes all that is frozen as one batch, or nothing of it. So the rows of a key, its history, its deadlines, the
//! requests that are remembered and `applied` are on the disk as they were after some entry, all shards alike.
//!
//! ```text
//! entry            16 │ 17 ┆ 18 │ 19 │           a flush was begun after 17
//! frozen           ────────┆                     being written to the disk, still read from here
//! being written            ┆─────────            the next flush takes it
//! power loss now   the engine has all up to 12, its last flush; the log brings 13 to 19
//! flush done       the engine has all up to 17; the log may let go of them
//! ```
//!
//! A view is the frozen layers of its time and a view of the engine. What is written later goes to another layer, so a view
//! costs nothing to begin and copies nothing.
//!
//! Older revisions are nearly all new rows, one for each overwrite. Each key has a *ring* of places for them (`keys`), and their
//! row keys differ in the last bytes only. So a layer has one list for each 256 places of a ring, by the last byte:
//!
//! ```text
//!   key, place 0x01fe ┐              hash, order              list
//!   key, place 0x01ff ┴─▶  key, places 0x0100 to 0x01ff  ─▶  fe: value, ff: value
//!   key, place 0x0200 ──▶  key, places 0x0200 to 0x02ff  ─▶  00: value
//! ```
//!
//! A key that is written often then costs the hash and the order one name for 256 older revisions. Whoever reads sees rows: a
//! scan takes the lists apart, and its bounds may lie within one.
//!
//! # Guarantees
//!
//! - A batch is never half in the engine; a flush that fails leaves its layers here, readable, for the next one.
//! - Flushes may be run in any order: one that was begun earlier, and finds its layers flushed by a later one, does nothing.
//! - A view shows no row that was written after it.
//! - What a row costs is its own: a row that is written again takes the room of one, and no scan sorts more than a few.
//!
//! # Caveats
//!
//! - It grows until it is flushed: the owner asks for a flush at a size, and waits at twice that.
//! - Each view splits the layer being written. Layers that nobody else holds become one again at the next view or flush, so
//!   there are no more of them than views and flushes that are open, and one.
//! - A removed row stays as a mark until the engine has it, since the engine may hold an older one.

mod flush;
mod hashed;
mod layer;
mod merge;
mod noted;
mod order;
#[cfg(test)]
mod tests;

use std::cell::Cell;
use std::ops::{Bound, ControlFlow};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use mutant::Mutant;

use self::flush::Sealed;
use self::layer::Layer;
use self::merge::Over;
pub use self::noted::Noted;
use self::noted::Notes;
use crate::engine::{Engine, EngineError, Flush, Maintenance, View};

/// Rows over an engine: what is new in memory, the rest there.
pub struct Fresh {
    engine: Arc<dyn Engine>,
    /// What is being written.
    top: Layer,
    /// What views and flushes have frozen, oldest first. The flushed ones are the oldest.
    frozen: Vec<Arc<Layer>>,
    /// Held by the flush that runs.
    turn: Arc<Mutex<()>>,
    /// Which rows are written meanwhile, for those who want to know.
    notes: Notes,
    /// Bytes of whole copies that were removed and are in no flush yet.
    going: Arc<AtomicU64>,
    rows_read: Cell<u64>,
    rows_written: Cell<u64>,
}

/// What was asked of the rows, for judging what an entry costs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Asked {
    /// Rows looked up, there or not, and rows that a scan found.
    pub read: u64,
    /// Rows written and removed.
    pub written: u64,
}

impl Fresh {
    /// Over an engine; nothing is new.
    pub fn over(engine: Arc<dyn Engine>) -> Fresh {
        let (top, frozen, turn, notes, going) = Default::default();
        Fresh { engine, top, frozen, turn, notes, going, rows_read: Cell::new(0), rows_written: Cell::new(0) }
    }

    /// Stores a value. It keeps the value's buffer: give it none that is part of a larger one.
    pub fn put(&mut self, key: impl AsRef<[u8]>, value: Bytes) {
        self.written(key.as_ref());
        self.top.set(key.as_ref(), Some(value));
    }

    /// Removes a key; a missing one is fine.
    pub fn remove(&mut self, key: impl AsRef<[u8]>) {
        self.written(key.as_ref());
        self.top.set(key.as_ref(), None);
    }

    fn written(&mut self, key: &[u8]) {
        self.rows_written.update(|rows| rows + 1);
        if !self.notes.is_empty() {
            self.notes.add(key);
        }
    }

    /// A reader takes a view now, which it calls so: which rows that begin so are written after it will be told at the next one.
    /// What was written since the view before, unless it was too much or there was none.
    pub fn note(&mut self, prefix: Bytes, reader: usize, now: u64) -> Option<Noted> {
        self.notes.begin(prefix, reader, now)
    }

    /// Nobody takes another view of rows that begin so.
    pub fn note_no_more(&mut self, prefix: &[u8]) {
        self.notes.end(prefix);
    }

    /// What memory knows of a key: `None` = nothing, and the engine decides; `Some(None)` = it is removed.
    pub fn in_memory(&self, key: &[u8]) -> Option<Option<&Bytes>> {
        self.layers().find_map(|layer| layer.get(key))
    }

    /// As [`View::get`]; the buffer is the row's alone. What the engine has is copied: it may be part of a whole block.
    pub fn get_own(&self, key: &[u8]) -> Result<Option<Bytes>, EngineError> {
        self.rows_read.update(|rows| rows + 1);
        match self.in_memory(key) {
            Some(found) => Ok(found.cloned()),
            None => Ok(self.engine.get(key)?.map(|value| Bytes::copy_from_slice(&value))),
        }
    }

    /// The state of now, for as long as the view lives, on any thread.
    pub fn view(&mut self) -> Box<dyn View> {
        self.freeze();
        Box::new(Over { layers: self.frozen.iter().rev().cloned().collect(), below: self.engine.view() })
    }

    /// The state of now for tests and judges: what they read is not counted as asked.
    pub fn peek(&self) -> impl View + '_ {
        Over { layers: self.layers().collect(), below: self.engine.view() }
    }

    /// See [`Engine::let_go_between`].
    pub fn let_go_between(&self, from: &[u8], to: &[u8]) -> Result<u64, EngineError> {
        self.engine.let_go_between(from, to)
    }

    /// All rows of a copy are removed that had so many bytes.
    pub fn note_gone(&mut self, bytes: u64) {
        self.going.fetch_add(bytes, Ordering::AcqRel);
    }

    /// Whether copies were removed since the last flush, of which the engine may free the space after the next one.
    pub fn has_gone(&self) -> bool {
        self.going.load(Ordering::Acquire) > 0
    }

    /// Draws a line: once the returned flush has run, everything written before survives a power loss (unless the engine is
    /// [volatile](crate::open_volatile)).
    pub fn flush(&mut self) -> Box<dyn Flush> {
        let done = self.take_flushed();
        if !mutant::is(Mutant::EntrySplitOverTwoTables) {
            self.freeze();
        }
        let layers = self.frozen.clone();
        if mutant::is(Mutant::MemoryDroppedBeforeSync) {
            self.frozen.clear();
        }
        let (intake, turn, going) = (self.engine.intake(), self.turn.clone(), self.going.clone());
        let gone = going.swap(0, Ordering::AcqRel);
        let sealed = Sealed { layers, intake, turn, done, gone, going };
        if mutant::is(Mutant::FlushNotOneCut) {
            // Every other row is on the disk before the rest is.
            let _ = sealed.intake.take(&mut sealed.rows().step_by(2));
        }
        Box::new(sealed)
    }

    /// For a mutant: the next flush ends here.
    pub(crate) fn cut_here(&mut self) {
        self.freeze();
    }

    /// Lets go of what the engine has. The step frees it: many rows take long.
    pub fn let_go(&mut self) -> Option<Maintenance> {
        let flushed = self.take_flushed();
        if flushed.is_empty() {
            return None;
        }
        Some(Box::new(move || {
            drop(flushed);
            Ok(())
        }))
    }

    /// See [`Engine::maintain`].
    pub fn maintain(&self) -> Option<Maintenance> {
        self.engine.maintain()
    }

    /// Bytes of what is not flushed, or what is as much worth a flush.
    pub fn bytes_unflushed(&self) -> u64 {
        self.layers().filter(|layer| !layer.is_flushed()).map(Layer::bytes).sum()
    }

    /// What was asked since this was last called.
    pub fn take_asked(&self) -> Asked {
        Asked { read: self.rows_read.take(), written: self.rows_written.take() }
    }

    /// Newest first.
    fn layers(&self) -> impl Iterator<Item = &Layer> {
        std::iter::once(&self.top).chain(self.frozen.iter().rev().map(Arc::as_ref))
    }

    /// Begins a new layer. Frozen ones that no view and no flush holds any more become one with what is frozen now.
    fn freeze(&mut self) {
        if self.top.is_empty() {
            return;
        }
        let mut top = std::mem::take(&mut self.top);
        while let Some(below) = self.frozen.pop() {
            match Arc::try_unwrap(below) {
                Ok(below) if !below.is_flushed() => top = top.over(below),
                Ok(flushed) => {
                    self.frozen.push(Arc::new(flushed));
                    break;
                }
                Err(held) => {
                    self.frozen.push(held);
                    break;
                }
            }
        }
        top.close();
        self.frozen.push(Arc::new(top));
    }

    /// Layers that the engine has, to be let go of where that may take long.
    fn take_flushed(&mut self) -> Vec<Arc<Layer>> {
        let flushed = self.frozen.iter().take_while(|layer| layer.is_flushed()).count();
        self.frozen.drain(..flushed).collect()
    }
}

impl View for Fresh {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, EngineError> {
        self.rows_read.update(|rows| rows + 1);
        match self.in_memory(key) {
            Some(found) => Ok(found.cloned()),
            None => self.engine.get(key),
        }
    }

    fn scan(
        &self,
        from: Bound<&[u8]>,
        to: Bound<&[u8]>,
        backward: bool,
        visit: &mut dyn FnMut(Bytes, Bytes) -> ControlFlow<()>,
    ) -> Result<(), EngineError> {
        merge::scan(self.layers(), &*self.engine, (from, to), backward, &mut |key, value| {
            self.rows_read.update(|rows| rows + 1);
            visit(key, value)
        })
    }
}
