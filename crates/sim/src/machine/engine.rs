//! An engine that keeps only what was flushed: rows in a persistent map, and the map of the last completed flush.

use std::ops::{Bound, ControlFlow};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use imbl::OrdMap;
use storage::{Engine, EngineError, Flush, Maintenance, View};

type Map = OrdMap<Bytes, Bytes>;

/// What is on the disk of an engine: it outlives the process.
#[derive(Clone, Default)]
pub(crate) struct Flushed(Arc<Mutex<Inner>>);

#[derive(Default)]
struct Inner {
    map: Map,
    /// Bytes written and number of flushes when it was taken.
    written: u64,
    number: u64,
    full: bool,
    fails: bool,
}

impl Flushed {
    /// The engine of a process that starts now.
    pub fn open(&self) -> Box<dyn Engine> {
        let mut inner = self.lock();
        (inner.written, inner.number) = (0, 0);
        Box::new(Model { map: inner.map.clone(), disk: self.clone(), written: 0, flushes: 0 })
    }

    /// While it is full, flushes are refused and lose nothing.
    pub fn set_full(&self, full: bool) {
        self.lock().full = full;
    }

    /// The next flush fails.
    pub fn fail_next(&self) {
        self.lock().fails = true;
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Inner> {
        self.0.lock().expect("no holder of the flushed rows panics")
    }
}

struct Model {
    map: Map,
    disk: Flushed,
    written: u64,
    flushes: u64,
}

impl View for Model {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, EngineError> {
        Ok(self.map.get(key).cloned())
    }

    fn scan(
        &self,
        from: Bound<&[u8]>,
        to: Bound<&[u8]>,
        backward: bool,
        visit: &mut dyn FnMut(Bytes, Bytes) -> ControlFlow<()>,
    ) -> Result<(), EngineError> {
        scan(&self.map, from, to, backward, visit);
        Ok(())
    }
}

impl Engine for Model {
    fn put(&mut self, key: Bytes, value: Bytes) {
        self.written += (key.len() + value.len()) as u64;
        self.map.insert(key, value);
    }

    fn remove(&mut self, key: &[u8]) {
        self.written += key.len() as u64;
        self.map.remove(key);
    }

    fn view(&self) -> Box<dyn View> {
        Box::new(Frozen(self.map.clone()))
    }

    fn flush(&mut self) -> Box<dyn Flush> {
        self.flushes += 1;
        Box::new(Line {
            map: self.map.clone(),
            disk: self.disk.clone(),
            written: self.written,
            number: self.flushes,
        })
    }

    fn maintain(&self) -> Option<Maintenance> {
        None
    }

    fn bytes_unflushed(&self) -> u64 {
        self.written - self.disk.lock().written
    }
}

struct Frozen(Map);

impl View for Frozen {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, EngineError> {
        Ok(self.0.get(key).cloned())
    }

    fn scan(
        &self,
        from: Bound<&[u8]>,
        to: Bound<&[u8]>,
        backward: bool,
        visit: &mut dyn FnMut(Bytes, Bytes) -> ControlFlow<()>,
    ) -> Result<(), EngineError> {
        scan(&self.0, from, to, backward, visit);
        Ok(())
    }
}

struct Line {
    map: Map,
    disk: Flushed,
    written: u64,
    number: u64,
}

impl Flush for Line {
    fn run(self: Box<Self>) -> Result<(), EngineError> {
        let doing = || "flushing the simulated engine".to_owned();
        let mut disk = self.disk.lock();
        if std::mem::take(&mut disk.fails) {
            return Err(EngineError::Io { doing: doing(), source: std::io::Error::other("injected") });
        }
        if disk.full {
            return Err(EngineError::Full { doing: doing() });
        }
        if disk.number < self.number {
            (disk.map, disk.written, disk.number) = (self.map.clone(), self.written, self.number);
        }
        Ok(())
    }
}

fn scan(
    map: &Map,
    from: Bound<&[u8]>,
    to: Bound<&[u8]>,
    backward: bool,
    visit: &mut dyn FnMut(Bytes, Bytes) -> ControlFlow<()>,
) {
    if is_empty(from, to) {
        return;
    }
    let mut visit = |(key, value): (&Bytes, &Bytes)| visit(key.clone(), value.clone());
    let mut rows = map.range::<_, [u8]>((from, to));
    let _ = if backward { rows.rev().try_for_each(&mut visit) } else { rows.try_for_each(&mut visit) };
}

/// Whether bounds cross, which the map does not like.
fn is_empty(from: Bound<&[u8]>, to: Bound<&[u8]>) -> bool {
    match (from, to) {
        (Bound::Unbounded, _) | (_, Bound::Unbounded) => false,
        (Bound::Included(from), Bound::Included(to)) => from > to,
        (Bound::Included(from) | Bound::Excluded(from), Bound::Included(to) | Bound::Excluded(to)) => {
            from >= to
        }
    }
}
