//! The way of frozen layers into the engine.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use super::layer::Layer;
use super::merge::Merged;
use crate::engine::{EngineError, Flush, Intake, Row};

/// A flush of what was frozen when it was begun.
pub struct Sealed {
    /// Oldest first.
    pub layers: Vec<Arc<Layer>>,
    pub intake: Box<dyn Intake>,
    /// Held by the flush that runs.
    pub turn: Arc<Mutex<()>>,
    /// Layers of earlier flushes: they are freed where this one runs.
    pub done: Vec<Arc<Layer>>,
    /// Bytes of copies of which the last row was removed before it was begun.
    pub gone: u64,
    /// Where those are noted until the engine knows.
    pub going: Arc<AtomicU64>,
}

impl Sealed {
    /// What is to go into the engine.
    pub fn rows(&self) -> impl Iterator<Item = Row> + '_ {
        let new = self.layers.iter().rev().map(Arc::as_ref).filter(|layer| !layer.is_flushed());
        Merged::all(new).map(|(key, value)| (key, value.cloned()))
    }
}

impl Flush for Sealed {
    fn run(mut self: Box<Self>) -> Result<(), EngineError> {
        self.done.clear();
        let turn = self.turn.clone();
        let _turn = turn.lock().expect("an engine that panics takes its flushes along");
        // One that was begun later has taken these along, if it ran before.
        if !self.layers.iter().all(|layer| layer.is_flushed()) {
            self.intake.take(&mut self.rows()).inspect_err(|_| {
                self.going.fetch_add(self.gone, Ordering::AcqRel);
            })?;
            self.layers.iter().for_each(|layer| layer.set_flushed());
        }
        if self.gone > 0 {
            self.intake.gone(self.gone);
        }
        Ok(())
    }
}
